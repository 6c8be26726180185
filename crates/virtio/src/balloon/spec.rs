//! Numbers of the balloon.

/// Device type (section 5.5.1).
pub(super) const DEVICE_ID: u16 = 5;
/// A device in no PCI class.
pub(super) const CLASS: u32 = 0xff_00_00;

/// The unit of the balloon's size and of page numbers, whatever the guest's pages are (section 5.5.6).
pub(super) const PAGE: u64 = 4096;

/// Feature bits (section 5.5.3).
pub(super) mod feature {
    pub const STATS_VQ: u64 = 1 << 1;
    pub const DEFLATE_ON_OOM: u64 = 1 << 2;
    pub const PAGE_POISON: u64 = 1 << 4;
    pub const PAGE_REPORTING: u64 = 1 << 5;
}

/// Offsets in the configuration (section 5.5.4).
pub(super) mod config {
    pub const ACTUAL: usize = 4;
    pub const POISON: usize = 12;
}

/// Statistics (section 5.5.6.3): each is a tag of two bytes and a value of eight, without padding.
pub(super) mod stat {
    pub const SIZE: usize = 10;
    pub const FREE: u16 = 4;
    pub const TOTAL: u16 = 5;
    pub const AVAILABLE: u16 = 6;
    pub const CACHES: u16 = 7;
}
