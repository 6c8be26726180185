//! Numbers of the entropy device.

/// Device type (section 5.4.1).
pub(super) const DEVICE_ID: u16 = 4;
/// A device in no PCI class.
pub(super) const CLASS: u32 = 0xff_00_00;
