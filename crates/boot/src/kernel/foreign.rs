//! Files that people take for a kernel. Anything without a header would pass as a flat binary and hang silently, so
//! the usual mistakes are named.

use super::pe;
use crate::{Error, Result};

const WANTED: &str = "give an arm64 kernel: Image, gzip, EFI zboot or ELF";

/// Magic bytes at an offset, what they mean, what to do.
const KNOWN: &[(usize, &[u8], &str, &str)] = &[
    (0x202, b"HdrS", "a Linux kernel for x86", "give an arm64 kernel"),
    (56, b"RSC\x05", "a Linux kernel for RISC-V", "give an arm64 kernel"),
    (48, b"RISCV\0\0\0", "a Linux kernel for RISC-V", "give an arm64 kernel"),
    (36, b"\x18\x28\x6f\x01", "a Linux zImage for 32-bit ARM", "give an arm64 kernel"),
    (0, b"BZh", "compressed with bzip2", "unpack it first"),
    (0, b"\x04\x22\x4d\x18", "compressed with lz4", "unpack it first: lz4 -d"),
    (0, b"\x02\x21\x4c\x18", "compressed with lz4", "unpack it first: lz4 -d"),
    (0, b"\x89LZO", "compressed with lzop", "unpack it first: lzop -d"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it first"),
    (0, b"!<arch>\n", "a package or static library", "unpack it first"),
    (0, b"070701", "a cpio archive", "a RAM disk goes to --initrd"),
    (257, b"ustar", "a tar archive", "unpack it first"),
    (0, b"QFI\xfb", "a qcow2 disk image", "a disk goes to --disk"),
    (0x8001, b"CD001", "an ISO 9660 image", "a CD image goes to --iso"),
    (512, b"EFI PART", "a partitioned disk image", "a disk goes to --disk"),
    (0, b"\xd0\x0d\xfe\xed", "a device tree or a U-Boot FIT image", WANTED),
    (0, b"\x27\x05\x19\x56", "a U-Boot legacy image", "take the kernel out of it: dumpimage"),
    (0, b"ANDROID!", "an Android boot image", "take the kernel out of it: unpack_bootimg"),
    (0, b"\xcf\xfa\xed\xfe", "a Mach-O file", WANTED),
];

/// Refuses what is known to be something else.
pub(super) fn refuse(bytes: &[u8], what: &str) -> Result<()> {
    for (at, magic, found, advice) in KNOWN {
        if bytes.get(*at..).is_some_and(|b| b.starts_with(magic)) {
            return Err(Error::unsuitable(what, *found, advice));
        }
    }
    if let Some(machine) = pe::machine(bytes) {
        let found = format!("an EFI program for {machine}, not a kernel");
        return Err(Error::unsuitable(what, found, WANTED));
    }
    let head = &bytes[..bytes.len().min(512)];
    if head.iter().all(|&b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
        return Err(Error::unsuitable(what, "a text file", WANTED));
    }
    // One instruction takes four bytes; without a single one there is nothing to start.
    if bytes.len() < 4 || head.iter().take(64).all(|&b| b == 0) {
        return Err(Error::unsuitable(what, "not code", WANTED));
    }
    Ok(())
}
