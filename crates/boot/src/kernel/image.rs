//! The arm64 `Image` header: Linux `Documentation/arch/arm64/booting.rst`, "Call the kernel image".

use super::{DEFAULT_TEXT_OFFSET, Shape, le32, le64, pe};
use crate::{Error, Result};

const TEXT_OFFSET: usize = 8;
const IMAGE_SIZE: usize = 16;
const FLAGS: usize = 24;
const MAGIC_AT: usize = 56;
const MAGIC: &[u8] = b"ARM\x64";
/// A distance above a 2 MiB boundary makes sense up to here; more is not a header that anything writes.
const MAX_TEXT_OFFSET: u64 = 1 << 30;

/// A translation granule (bits 1 and 2 of the header's flags).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// 4 KiB.
    K4,
    /// 16 KiB.
    K16,
    /// 64 KiB.
    K64,
}

impl PageSize {
    /// The size in KiB.
    pub fn kib(self) -> u32 {
        match self {
            Self::K4 => 4,
            Self::K16 => 16,
            Self::K64 => 64,
        }
    }
}

/// The placement that the header asks for, or `None` when `bytes` do not begin with one.
pub(super) fn parse(bytes: &[u8], what: &str) -> Result<Option<Shape>> {
    if bytes.get(MAGIC_AT..MAGIC_AT + 4) != Some(MAGIC) {
        return Ok(None);
    }
    let (Some(text_offset), Some(image_size), Some(flags)) =
        (le64(bytes, TEXT_OFFSET), le64(bytes, IMAGE_SIZE), le32(bytes, FLAGS))
    else {
        return Err(Error::damaged(what, "the file ends inside its header"));
    };
    if bytes.len() == MAGIC_AT + 4 {
        return Err(Error::damaged(what, "the file ends inside its header"));
    }
    if flags & 1 != 0 {
        return Err(Error::unsuitable(what, "a big-endian kernel", "give a little-endian arm64 kernel"));
    }
    // Kernels before 3.17 state neither size nor a meaningful offset (booting.rst).
    let text_offset = if image_size == 0 { DEFAULT_TEXT_OFFSET } else { text_offset };
    if text_offset > MAX_TEXT_OFFSET || image_size > super::MAX_FILE << 8 {
        return Err(Error::damaged(
            what,
            format!("its header asks for {image_size:#x} bytes at offset {text_offset:#x}"),
        ));
    }
    pe::check_sections(bytes, what)?;
    let page_size = match flags >> 1 & 3 {
        1 => Some(PageSize::K4),
        2 => Some(PageSize::K16),
        3 => Some(PageSize::K64),
        _ => None,
    };
    Ok(Some(Shape::Image { text_offset, size: image_size, page_size }))
}
