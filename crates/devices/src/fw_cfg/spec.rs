//! Registers and items of QEMU's firmware configuration device, as its `docs/specs/fw_cfg.rst` has them.

/// The item's next bytes; 1, 2, 4 or 8 of them.
pub const DATA: u64 = 0x00;
/// Which item, big-endian.
pub const SELECTOR: u64 = 0x08;
/// Where the guest describes a transfer, big-endian; writing the lower half starts it.
pub const DMA: u64 = 0x10;
/// What the DMA register reads as: "QEMU CFG".
pub const DMA_SIGNATURE: u64 = 0x5145_4d55_2043_4647;
/// Bytes of registers.
pub const SIZE: u64 = 0x18;

/// Bytes of a transfer's description: control, length, address, all big-endian.
pub const TRANSFER: usize = 16;
/// Control: the transfer failed.
pub const ERROR: u32 = 1;
/// Control: copies the item's next bytes to the guest's memory.
pub const READ: u32 = 2;
/// Control: passes over the item's next bytes.
pub const SKIP: u32 = 4;
/// Control: selects the item that the upper half names first.
pub const SELECT: u32 = 8;
/// Control: copies from the guest's memory to the item, which no item allows.
pub const WRITE: u32 = 16;

/// Bits of an item's number that say which; above is how it is accessed.
pub const ITEM: u16 = 0x3fff;
/// Says that this device is here: "QEMU".
pub const SIGNATURE: u16 = 0x00;
/// What the device can do: this interface, and DMA.
pub const ID: u16 = 0x01;
/// How many vCPUs there are.
pub const CPUS: u16 = 0x05;
/// Bytes of the kernel.
pub const KERNEL_SIZE: u16 = 0x08;
/// Bytes of the RAM disk.
pub const INITRD_SIZE: u16 = 0x0b;
/// Whether firmware shows its menu for a while.
pub const BOOT_MENU: u16 = 0x0e;
/// How many vCPUs there may be.
pub const MAX_CPUS: u16 = 0x0f;
/// The kernel.
pub const KERNEL: u16 = 0x11;
/// The RAM disk.
pub const INITRD: u16 = 0x12;
/// Bytes of the command line, its zero included.
pub const CMDLINE_SIZE: u16 = 0x14;
/// The command line, with a zero.
pub const CMDLINE: u16 = 0x15;
/// The files.
pub const DIRECTORY: u16 = 0x19;
/// The first file.
pub const FIRST_FILE: u16 = 0x20;
/// Bytes of a file's name, its zero included.
pub const NAME: usize = 56;
