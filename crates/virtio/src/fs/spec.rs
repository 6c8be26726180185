//! Numbers of the file system device.

/// Device type (section 5.11.1).
pub const DEVICE_ID: u16 = 26;
/// Mass storage, other.
pub(super) const CLASS: u32 = 0x01_80_00;
/// Bytes of the tag, which a mount names the device by (section 5.11.4).
pub const TAG_LEN: usize = 36;
