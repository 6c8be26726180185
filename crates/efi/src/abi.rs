//! Numbers of the UEFI specification (2.10): status codes, GUIDs, memory types, attributes.

use std::fmt;

/// `EFI_STATUS` of a call that failed (appendix D).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(pub u64);

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EFI status {:#x}", self.0)
    }
}

const fn error(code: u64) -> Status {
    Status(1 << 63 | code)
}

pub(crate) const SUCCESS: u64 = 0;
pub(crate) const LOAD_ERROR: Status = error(1);
pub(crate) const INVALID_PARAMETER: Status = error(2);
pub(crate) const UNSUPPORTED: Status = error(3);
pub(crate) const BAD_BUFFER_SIZE: Status = error(4);
pub(crate) const BUFFER_TOO_SMALL: Status = error(5);
pub(crate) const NOT_READY: Status = error(6);
pub(crate) const DEVICE_ERROR: Status = error(7);
pub(crate) const WRITE_PROTECTED: Status = error(8);
pub(crate) const OUT_OF_RESOURCES: Status = error(9);
pub(crate) const VOLUME_CORRUPTED: Status = error(10);
pub(crate) const VOLUME_FULL: Status = error(11);
pub(crate) const NOT_FOUND: Status = error(14);
pub(crate) const ACCESS_DENIED: Status = error(15);
pub(crate) const ALREADY_STARTED: Status = error(20);

/// A GUID as it lies in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Guid(pub [u8; 16]);

impl Guid {
    /// From the fields of its usual text form.
    pub const fn new(a: u32, b: u16, c: u16, d: [u8; 8]) -> Self {
        let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
        Self([a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]])
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f0, g, h, rest @ ..] = self.0;
        let (first, second) = (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([e, f0]));
        write!(f, "{first:08x}-{second:04x}-{:04x}-", u16::from_le_bytes([g, h]))?;
        for (i, byte) in rest.iter().enumerate() {
            write!(f, "{}{byte:02x}", if i == 2 { "-" } else { "" })?;
        }
        Ok(())
    }
}

/// GUIDs of protocols, tables and events.
pub(crate) mod guid {
    use super::Guid;

    const fn guid(a: u32, b: u16, c: u16, d: u64) -> Guid {
        Guid::new(a, b, c, d.to_be_bytes())
    }

    pub const GLOBAL_VARIABLE: Guid = guid(0x8be4_df61, 0x93ca, 0x11d2, 0xaa0d_00e0_9803_2b8c);
    pub const LOADED_IMAGE: Guid = guid(0x5b1b_31a1, 0x9562, 0x11d2, 0x8e3f_00a0_c969_723b);
    pub const LOADED_IMAGE_DEVICE_PATH: Guid = guid(0xbc62_157e, 0x3e33, 0x4fec, 0x9920_2d3b_36d7_50df);
    pub const DEVICE_PATH: Guid = guid(0x0957_6e91, 0x6d3f, 0x11d2, 0x8e39_00a0_c969_723b);
    pub const DEVICE_PATH_TO_TEXT: Guid = guid(0x8b84_3e20, 0x8132, 0x4852, 0x90cc_551a_4e4a_7f1c);
    pub const BLOCK_IO: Guid = guid(0x964e_5b21, 0x6459, 0x11d2, 0x8e39_00a0_c969_723b);
    pub const DISK_IO: Guid = guid(0xce34_5171, 0xba0b, 0x11d2, 0x8e4f_00a0_c969_723b);
    pub const EFI_SYSTEM_PARTITION: Guid = guid(0xc12a_7328, 0xf81f, 0x11d2, 0xba4b_00a0_c93e_c93b);
    pub const SIMPLE_FILE_SYSTEM: Guid = guid(0x964e_5b22, 0x6459, 0x11d2, 0x8e39_00a0_c969_723b);
    pub const FILE_INFO: Guid = guid(0x0957_6e92, 0x6d3f, 0x11d2, 0x8e39_00a0_c969_723b);
    pub const FILE_SYSTEM_INFO: Guid = guid(0x0957_6e93, 0x6d3f, 0x11d2, 0x8e39_00a0_c969_723b);
    pub const FILE_SYSTEM_LABEL: Guid = guid(0xdb47_d7d3, 0xfe81, 0x11d3, 0x9a35_0090_273f_c14d);
    pub const TEXT_OUTPUT: Guid = guid(0x387477c2, 0x69c7, 0x11d2, 0x8e39_00a0_c969_723b);
    pub const TEXT_INPUT: Guid = guid(0x387477c1, 0x69c7, 0x11d2, 0x8e39_00a0_c969_723b);
    pub const TEXT_INPUT_EX: Guid = guid(0xdd9e_7534, 0x7762, 0x4698, 0x8c14_f585_17a6_25aa);
    pub const GRAPHICS_OUTPUT: Guid = guid(0x9042_a9de, 0x23dc, 0x4a38, 0x96fb_7ade_d080_516a);
    pub const RNG: Guid = guid(0x3152_bca5, 0xeade, 0x433d, 0x862e_c01c_dc29_1f44);
    pub const RNG_RAW: Guid = guid(0xe43176d7, 0xb6e8, 0x4827, 0xb784_7ffd_c4b6_8561);
    pub const DEVICE_TREE: Guid = guid(0xb1b6_21d5, 0xf19c, 0x41a5, 0x830b_d915_2c69_aae0);
    pub const LOAD_FILE2: Guid = guid(0x4006_c0c1, 0xfcb3, 0x403e, 0x996d_4a6c_8724_e06d);
    /// Where Linux looks for its RAM disk (`LINUX_EFI_INITRD_MEDIA_GUID`).
    pub const LINUX_INITRD: Guid = guid(0x5568_e427, 0x68fc, 0x4f3d, 0xac74_ca55_5231_cc68);
    /// Ours: where the host's kernel comes from.
    pub const HOST_KERNEL: Guid = guid(0x3e41_6a9a, 0x1d2c, 0x4f0b, 0x9d25_6b1f_52c0_77e4);
    /// Ours: of variables.
    pub const TEARLESS: Guid = guid(0x8c2d_51f3, 0x7b36, 0x4e0e, 0xa1c9_0d5e_3f84_b2a6);
    pub const SMBIOS3: Guid = guid(0xf2fd_1544, 0x9794, 0x4a2c, 0x992e_e5bb_cf20_e394);
    pub const RT_PROPERTIES: Guid = guid(0xeb66_918a, 0x7eef, 0x402a, 0x842e_931d_21c3_8ae9);
    pub const EVENT_EXIT_BOOT_SERVICES: Guid = guid(0x27ab_f055, 0xb1b8, 0x4c26, 0x8048_748f_37ba_a2df);
    pub const EVENT_BEFORE_EXIT_BOOT: Guid = guid(0x8be0_e274, 0x3970, 0x4b44, 0x80c5_1ab9_502f_3bfc);
    pub const EVENT_READY_TO_BOOT: Guid = guid(0x7ce8_8fb3, 0x4bd7, 0x4679, 0x87a8_a8d8_dee5_0d2b);
}

/// `EFI_MEMORY_TYPE` (7.2.1).
pub(crate) mod memory_type {
    pub const RESERVED: u32 = 0;
    pub const LOADER_CODE: u32 = 1;
    pub const LOADER_DATA: u32 = 2;
    pub const BOOT_CODE: u32 = 3;
    pub const BOOT_DATA: u32 = 4;
    pub const RUNTIME_CODE: u32 = 5;
    pub const RUNTIME_DATA: u32 = 6;
    pub const CONVENTIONAL: u32 = 7;
    pub const ACPI_RECLAIM: u32 = 9;
    pub const MMIO: u32 = 11;
    pub const PERSISTENT: u32 = 14;
    /// From here on a loader may define types of its own.
    pub const OEM: u32 = 0x7000_0000;
}

/// Attributes of memory (7.2.3).
pub(crate) mod memory_attribute {
    pub const UC: u64 = 1;
    pub const WC: u64 = 2;
    pub const WT: u64 = 4;
    pub const WB: u64 = 8;
    pub const RUNTIME: u64 = 1 << 63;
}
