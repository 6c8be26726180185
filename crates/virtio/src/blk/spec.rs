//! Numbers of the block device.

/// Device type (section 5.2.1).
pub(super) const DEVICE_ID: u16 = 2;
/// Mass storage, SCSI: what virtio disks call themselves.
pub(super) const CLASS: u32 = 0x01_00_00;

/// The unit of capacity and of request addresses, whatever the block size (section 5.2.4).
pub(super) const SECTOR: u64 = 512;

/// Feature bits (section 5.2.3).
pub(super) mod feature {
    pub const SEG_MAX: u64 = 1 << 2;
    pub const RO: u64 = 1 << 5;
    pub const BLK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const TOPOLOGY: u64 = 1 << 10;
    pub const MQ: u64 = 1 << 12;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// Request types (section 5.2.6).
pub(super) mod request {
    pub const IN: u32 = 0;
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
    /// Type, reserved, sector.
    pub const HEADER: usize = 16;
    /// Length of the string that GET_ID returns.
    pub const ID_LEN: usize = 20;
    /// `struct virtio_blk_discard_write_zeroes`: sector, count, flags.
    pub const RANGE: usize = 16;
    /// The range may be unmapped.
    pub const FLAG_UNMAP: u32 = 1;
}

/// Status bytes (section 5.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// Most ranges in one discard or write-zeroes request: 4 KiB of them.
pub(super) const MAX_RANGES: u32 = 256;
/// Most sectors per range: 2 GiB less a page. A host that must write the zeros itself takes seconds for that, not hours.
pub(super) const MAX_RANGE_SECTORS: u32 = (1 << 22) - 8;
