//! ELF executables: what bare-metal toolchains produce. Segments load by physical address, as QEMU does.

use std::ops::Range;

use tearless_memory::Gpa;

use super::{Shape, le16, le32, le64};
use crate::{Error, Result};

pub(super) const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE_AARCH64: u16 = 183;
const EXECUTABLE: u16 = 2;
const POSITION_INDEPENDENT: u16 = 3;
const PT_LOAD: u32 = 1;
const PROGRAM_HEADER: usize = 56;
/// No linker writes more loadable segments; the bound keeps a hostile table cheap.
const MAX_HEADERS: u16 = 256;

/// One loadable piece of an ELF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Guest physical memory that it takes, zero-filled part included.
    pub range: Range<Gpa>,
    /// Its bytes in the file.
    pub file: Range<usize>,
}

pub(super) fn parse(bytes: &[u8], what: &str) -> Result<Shape> {
    check_machine(bytes, what)?;
    let cut = || Error::damaged(what, "the file ends before its segments do");
    let (entry, table) = (le64(bytes, 24).ok_or_else(cut)?, le64(bytes, 32).ok_or_else(cut)?);
    let (size, count) = (le16(bytes, 54).ok_or_else(cut)?, le16(bytes, 56).ok_or_else(cut)?);
    if usize::from(size) < PROGRAM_HEADER || count > MAX_HEADERS {
        return Err(Error::damaged(what, format!("it has {count} program headers of {size} bytes")));
    }
    let mut segments = Vec::new();
    let mut physical_entry = None;
    for i in 0..usize::from(count) {
        let at = usize::try_from(table).ok().and_then(|t| t.checked_add(i * usize::from(size)));
        let header = at.and_then(|at| bytes.get(at..at.checked_add(PROGRAM_HEADER)?)).ok_or_else(cut)?;
        let Some((segment, virtual_start)) = segment(bytes, header, what)? else { continue };
        let length = segment.range.end - segment.range.start;
        if let Some(offset) = entry.checked_sub(virtual_start).filter(|&o| o < length) {
            physical_entry = Some(segment.range.start + offset);
        }
        segments.push(segment);
    }
    segments.sort_by_key(|s| s.range.start);
    if segments.windows(2).any(|w| w[0].range.end > w[1].range.start) {
        return Err(Error::damaged(what, "its segments overlap"));
    }
    let Some(entry) = physical_entry.filter(|e| e.0.is_multiple_of(4)) else {
        return Err(Error::damaged(what, "its entry point is no instruction of a loadable segment"));
    };
    Ok(Shape::Elf { segments, entry })
}

fn check_machine(bytes: &[u8], what: &str) -> Result<()> {
    const ADVICE: &str = "give an arm64 kernel";
    let (Some(&class), Some(&data), Some(kind), Some(machine)) =
        (bytes.get(4), bytes.get(5), le16(bytes, 16), le16(bytes, 18))
    else {
        return Err(Error::damaged(what, "the file ends inside its ELF header"));
    };
    let other = match machine {
        MACHINE_AARCH64 => None,
        3 => Some("32-bit x86"),
        40 => Some("32-bit ARM"),
        62 => Some("x86-64"),
        243 => Some("RISC-V"),
        258 => Some("LoongArch"),
        _ => Some("another processor"),
    };
    if let Some(name) = other {
        return Err(Error::unsuitable(what, format!("an ELF file for {name}"), ADVICE));
    }
    if class != CLASS_64 || data != LITTLE_ENDIAN {
        return Err(Error::unsuitable(what, "an ELF file that is not 64-bit little-endian", ADVICE));
    }
    if kind != EXECUTABLE && kind != POSITION_INDEPENDENT {
        return Err(Error::unsuitable(what, "an ELF object file, not an executable", "link it first"));
    }
    Ok(())
}

/// The segment of one program header and its virtual address, or `None` when it loads nothing.
fn segment(bytes: &[u8], header: &[u8], what: &str) -> Result<Option<(Segment, u64)>> {
    let cut = || Error::damaged(what, "the file ends before its segments do");
    let field = |at| le64(header, at).ok_or_else(cut);
    let (offset, vaddr, paddr) = (field(8)?, field(16)?, field(24)?);
    let (in_file, in_memory) = (field(32)?, field(40)?);
    if le32(header, 0) != Some(PT_LOAD) || in_memory == 0 {
        return Ok(None);
    }
    if in_file > in_memory {
        return Err(Error::damaged(what, "a segment is larger in the file than in memory"));
    }
    let start = usize::try_from(offset).map_err(|_| cut())?;
    let end = usize::try_from(in_file).ok().and_then(|n| start.checked_add(n)).ok_or_else(cut)?;
    if end > bytes.len() {
        return Err(cut());
    }
    let Some(top) = paddr.checked_add(in_memory) else {
        return Err(Error::unsuitable(
            what,
            "an ELF file whose segments have no physical addresses",
            "for Linux give arch/arm64/boot/Image instead of vmlinux",
        ));
    };
    Ok(Some((Segment { range: Gpa(paddr)..Gpa(top), file: start..end }, vaddr)))
}
