//! The PE/COFF clothing of EFI kernels: the sections of an `Image` with an EFI stub, and Linux's compressed "zboot"
//! files (`drivers/firmware/efi/libstub/zboot-header.S`).

use super::{le16, le32};
use crate::{Error, Result, unpack::Format};

const MZ: &[u8] = b"MZ";
const PE_OFFSET_AT: usize = 0x3c;
const MACHINE_ARM64: u16 = 0xaa64;

/// The compressed payload of a zboot file, or `None` when `bytes` are not one.
pub(super) fn zboot<'a>(bytes: &'a [u8], what: &str) -> Result<Option<(Format, &'a [u8])>> {
    if !bytes.starts_with(MZ) || bytes.get(4..8) != Some(b"zimg") {
        return Ok(None);
    }
    let (Some(offset), Some(size), Some(method)) = (le32(bytes, 8), le32(bytes, 12), bytes.get(24..56))
    else {
        return Err(Error::damaged(what, "the file ends inside its header"));
    };
    check_machine(bytes, what)?;
    let payload = (offset as usize)
        .checked_add(size as usize)
        .and_then(|end| bytes.get(offset as usize..end))
        .ok_or_else(|| Error::damaged(what, "the file ends before its compressed part does"))?;
    let name: String =
        method.iter().take_while(|&&b| b != 0).map(|&b| char::from(b).escape_default().to_string()).collect();
    // The build's names carry levels and filters: "zstd22", "xzkern".
    let format = match name.as_str() {
        "gzip" => Format::Gzip,
        "lzma" => Format::Lzma,
        n if n.starts_with("zstd") => Format::Zstd,
        n if n.starts_with("xz") => Format::Xz,
        _ => {
            return Err(Error::unsuitable(
                what,
                format!("an EFI zboot kernel compressed with `{name}`"),
                "Tearless unpacks gzip, zstd, xz and lzma: give the plain Image of the same kernel",
            ));
        }
    };
    Ok(Some((format, payload)))
}

/// Refuses a PE file for another processor. Files without a readable PE header pass.
fn check_machine(bytes: &[u8], what: &str) -> Result<()> {
    let Some(machine) = pe_header(bytes).and_then(|at| le16(bytes, at + 4)) else { return Ok(()) };
    if machine == MACHINE_ARM64 {
        return Ok(());
    }
    Err(Error::unsuitable(what, format!("an EFI file for {}", machine_name(machine)), "give an arm64 kernel"))
}

/// The offset of the PE signature.
fn pe_header(bytes: &[u8]) -> Option<usize> {
    let at = le32(bytes, PE_OFFSET_AT)? as usize;
    (bytes.starts_with(MZ) && bytes.get(at..at.checked_add(4)?)? == b"PE\0\0").then_some(at)
}

/// The processor of any PE file, for messages.
pub(super) fn machine(bytes: &[u8]) -> Option<&'static str> {
    Some(machine_name(le16(bytes, pe_header(bytes)? + 4)?))
}

fn machine_name(machine: u16) -> &'static str {
    match machine {
        MACHINE_ARM64 => "arm64",
        0x8664 => "x86-64",
        0x14c => "32-bit x86",
        0x1c0 | 0x1c2 | 0x1c4 => "32-bit ARM",
        0x5032 => "32-bit RISC-V",
        0x5064 => "64-bit RISC-V",
        0x6232 | 0x6264 => "LoongArch",
        _ => "an unknown processor",
    }
}

/// Checks that the file reaches to the end of every PE section: the only way to notice that a raw `Image` was cut
/// off, because its own header counts memory, not file bytes.
pub(super) fn check_sections(bytes: &[u8], what: &str) -> Result<()> {
    let Some(pe) = pe_header(bytes) else { return Ok(()) };
    let (Some(count), Some(optional)) = (le16(bytes, pe + 6), le16(bytes, pe + 20)) else {
        return Err(Error::damaged(what, "the file ends inside its PE header"));
    };
    let table = pe + 24 + usize::from(optional);
    for section in (0..usize::from(count)).map(|i| table + 40 * i) {
        let (Some(size), Some(start)) = (le32(bytes, section + 16), le32(bytes, section + 20)) else {
            return Err(Error::damaged(what, "the file ends inside its PE header"));
        };
        let end = u64::from(size) + u64::from(start);
        if end > bytes.len() as u64 {
            return Err(Error::damaged(
                what,
                format!("it has {} bytes where its header speaks of {end}", bytes.len()),
            ));
        }
    }
    Ok(())
}
