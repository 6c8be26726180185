//! Registers of the PCI transport.

/// Vendor of every virtio device (section 4.1.2).
pub(super) const VENDOR: u16 = 0x1af4;
/// The device ID is this plus the device type (section 4.1.2.1).
pub(super) const DEVICE_BASE: u16 = 0x1040;
/// Says "not transitional" (section 4.1.2.1).
pub(super) const REVISION: u8 = 1;
/// What QEMU's modern devices have; guests do not look.
pub(super) const SUBSYSTEM: u16 = 0x1100;

/// Vendor-specific capability.
pub(super) const CAPABILITY_VENDOR: u8 = 0x09;

/// `cfg_type` of a virtio capability (section 4.1.4).
pub(super) mod cap {
    pub const COMMON: u8 = 1;
    pub const NOTIFY: u8 = 2;
    pub const ISR: u8 = 3;
    pub const DEVICE: u8 = 4;
    pub const PCI: u8 = 5;
    /// Where `bar`, `offset`, `length` and `pci_cfg_data` are within the capability.
    pub const BAR: u16 = 4;
    pub const OFFSET: u16 = 8;
    pub const LENGTH: u16 = 12;
    pub const DATA: u16 = 16;
}

/// The BAR and what lies where in it. A page each, so that a guest can map them apart.
pub(super) mod layout {
    pub const BAR: usize = 0;
    pub const BAR_SIZE: u64 = 0x8000;
    pub const PAGE: u64 = 0x1000;
    pub const COMMON: u64 = 0;
    pub const ISR: u64 = 0x1000;
    pub const DEVICE: u64 = 0x2000;
    pub const NOTIFY: u64 = 0x3000;
    pub const MSIX_TABLE: u64 = 0x4000;
    pub const MSIX_PENDING: u64 = 0x5000;
    /// Bytes between two queues' notify registers.
    pub const NOTIFY_MULTIPLIER: u32 = 4;
    /// Most queues: so many entries fit in the page of the MSI-X table, less one for the configuration.
    pub const MAX_QUEUES: usize = 255;
}

/// `struct virtio_pci_common_cfg` (section 4.1.4.3).
pub(super) mod common {
    pub const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub const DEVICE_FEATURE: u64 = 0x04;
    pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub const DRIVER_FEATURE: u64 = 0x0c;
    pub const CONFIG_VECTOR: u64 = 0x10;
    pub const NUM_QUEUES: u64 = 0x12;
    pub const DEVICE_STATUS: u64 = 0x14;
    pub const CONFIG_GENERATION: u64 = 0x15;
    pub const QUEUE_SELECT: u64 = 0x16;
    pub const QUEUE_SIZE: u64 = 0x18;
    pub const QUEUE_VECTOR: u64 = 0x1a;
    pub const QUEUE_ENABLE: u64 = 0x1c;
    pub const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub const QUEUE_DESC: u64 = 0x20;
    pub const QUEUE_DRIVER: u64 = 0x28;
    pub const QUEUE_DEVICE: u64 = 0x30;
    pub const QUEUE_RESET: u64 = 0x3a;
    /// Length of the structure.
    pub const SIZE: usize = 0x3c;
}

/// Device status bits (section 2.1).
pub(super) mod status {
    pub const DRIVER_OK: u8 = 4;
    pub const FEATURES_OK: u8 = 8;
    pub const NEEDS_RESET: u8 = 64;
}

/// ISR status bits (section 4.1.4.5).
pub(super) mod isr {
    pub const QUEUE: u8 = 1;
    pub const CONFIG: u8 = 2;
}

/// A vector register that selects none (section 4.1.5.1.2).
pub(super) const NO_VECTOR: u16 = 0xffff;
