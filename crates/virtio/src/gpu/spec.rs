//! Numbers of the display device.

/// Device type (section 5.7.1).
pub(super) const DEVICE_ID: u16 = 16;
/// PCI: VGA. It has none of that, but only of such a device does Linux take that firmware's frame buffer is its picture, too, and has
/// it replace that one.
pub(super) const CLASS: u32 = 0x03_00_00;

/// Feature bits (section 5.7.3).
pub(super) mod feature {
    /// The driver can ask for the screen's description.
    pub const EDID: u64 = 1 << 1;
}

/// `events_read` (section 5.7.4.2): the screen is to have another size.
pub(super) const EVENT_DISPLAY: u32 = 1;
/// Where the driver clears events.
pub(super) const EVENTS_CLEAR: u64 = 4;

/// The header of requests and responses (section 5.7.6.7).
pub(super) const HEADER_LEN: usize = 24;
/// The response must come when all before it is done: here it always does.
pub(super) const FLAG_FENCE: u32 = 1;

/// Request types.
pub(super) mod request {
    pub const GET_DISPLAY_INFO: u32 = 0x0100;
    pub const RESOURCE_CREATE_2D: u32 = 0x0101;
    pub const RESOURCE_UNREF: u32 = 0x0102;
    pub const SET_SCANOUT: u32 = 0x0103;
    pub const RESOURCE_FLUSH: u32 = 0x0104;
    pub const TRANSFER_TO_HOST_2D: u32 = 0x0105;
    pub const RESOURCE_ATTACH_BACKING: u32 = 0x0106;
    pub const RESOURCE_DETACH_BACKING: u32 = 0x0107;
    pub const GET_EDID: u32 = 0x010a;
    pub const UPDATE_CURSOR: u32 = 0x0300;
    pub const MOVE_CURSOR: u32 = 0x0301;
}

/// Response types.
pub(super) mod response {
    pub const OK_NODATA: u32 = 0x1100;
    pub const OK_DISPLAY_INFO: u32 = 0x1101;
    pub const OK_EDID: u32 = 0x1104;
    pub const ERR_UNSPEC: u32 = 0x1200;
    pub const ERR_OUT_OF_MEMORY: u32 = 0x1201;
    pub const ERR_INVALID_SCANOUT_ID: u32 = 0x1202;
    pub const ERR_INVALID_RESOURCE_ID: u32 = 0x1203;
    pub const ERR_INVALID_PARAMETER: u32 = 0x1205;
}

/// Scanouts that a display info describes; there is one here.
pub(super) const MAX_SCANOUTS: usize = 16;
/// The data of an EDID response.
pub(super) const EDID_LEN: usize = 1024;
/// A range of guest memory in an attach request: address, length, padding.
pub(super) const ENTRY_LEN: usize = 16;
/// The side of a pointer's picture, in pixels.
pub(super) const CURSOR_SIDE: u32 = 64;
