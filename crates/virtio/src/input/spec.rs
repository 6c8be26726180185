//! Numbers of the input devices.

/// Device type (section 5.8.1).
pub(super) const DEVICE_ID: u16 = 18;
/// PCI: a keyboard.
pub(super) const CLASS_KEYBOARD: u32 = 0x09_00_00;
/// PCI: a pointer.
pub(super) const CLASS_POINTER: u32 = 0x09_02_00;

/// What the driver can select (section 5.8.4).
pub(super) mod select {
    /// The name.
    pub const ID_NAME: u8 = 1;
    /// Bus, vendor, product and version.
    pub const ID_DEVIDS: u8 = 3;
    /// A bitmap of the events of the type `subsel`.
    pub const EV_BITS: u8 = 0x11;
    /// The range of the axis `subsel`.
    pub const ABS_INFO: u8 = 0x12;
}

/// `BUS_VIRTUAL` of `linux/input.h`.
pub(super) const BUS_VIRTUAL: u16 = 6;
/// An event on a queue: type, code, value.
pub(super) const EVENT_LEN: usize = 8;
/// The configuration's header: select, subsel, size, padding.
pub(super) const HEADER_LEN: usize = 8;
/// The data behind the header at most.
pub(super) const DATA_LEN: usize = 128;

/// Event types that only devices need to know.
pub(super) mod event {
    /// The guest repeats keys that stay down.
    pub const REP: u8 = 0x14;
}
