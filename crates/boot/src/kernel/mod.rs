//! What a user may call "a kernel", and what it takes to start it.
//!
//! [`load`] accepts what QEMU's `virt` machine boots with `-kernel`: the arm64 `Image` (raw, compressed, or inside an
//! EFI zboot file), an AArch64 ELF executable, and a flat binary without any header. It recognises the usual
//! mistakes (an x86 kernel, a disk image, a package) and says so. [`crate::place`] then decides on addresses.

mod elf;
mod foreign;
mod image;
mod pe;

use tearless_memory::{Gpa, GuestMemory};

use crate::{
    Error, Result,
    place::Placement,
    source::MAX_FILE,
    unpack::{Format, unpack},
};

pub use elf::Segment;
pub use image::PageSize;

/// Offset from the start of RAM of a kernel that states none, as QEMU's `KERNEL64_LOAD_ADDR`.
const DEFAULT_TEXT_OFFSET: u64 = 0x8_0000;

/// How a kernel wants to be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An arm64 `Image`: it goes `text_offset` bytes above a 2 MiB boundary and owns `size` bytes from there.
    Image {
        /// Bytes above a 2 MiB boundary.
        text_offset: u64,
        /// Bytes of memory that it uses, BSS included.
        size: u64,
        /// The translation granule that it was built for, when it says.
        page_size: Option<PageSize>,
    },
    /// No header: it goes to the start of RAM plus 0x80000 and starts at its first byte.
    Flat,
    /// An ELF executable: each segment goes to its physical address.
    Elf {
        /// The loadable segments, by ascending address, without overlaps.
        segments: Vec<Segment>,
        /// Physical address of the first instruction.
        entry: Gpa,
    },
}

/// A kernel, unpacked and checked, ready to be placed.
#[derive(Clone, Debug)]
pub struct KernelImage {
    bytes: Vec<u8>,
    shape: Shape,
}

impl KernelImage {
    /// The bytes of an uncompressed Image, which other boot loaders take; `None` for other kinds of kernels.
    pub fn image(&self) -> Option<&[u8]> {
        matches!(self.shape, Shape::Image { .. }).then_some(self.bytes.as_slice())
    }

    /// How it wants to be placed.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The translation granule that it was built for, when it says. A CPU without it hangs at the first instruction
    /// after the MMU goes on, so the machine refuses beforehand.
    pub fn page_size(&self) -> Option<PageSize> {
        match self.shape {
            Shape::Image { page_size, .. } => page_size,
            _ => None,
        }
    }

    /// What is loaded, unpacked.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes of memory that it needs from its load address on.
    pub(crate) fn span(&self) -> u64 {
        match &self.shape {
            Shape::Image { size, .. } => (*size).max(self.bytes.len() as u64),
            Shape::Flat => self.bytes.len() as u64,
            Shape::Elf { segments, .. } => match (segments.first(), segments.last()) {
                (Some(first), Some(last)) => last.range.end.0 - first.range.start.0,
                _ => 0,
            },
        }
    }

    /// Copies the kernel to where `placement` (of this very kernel) has it. The memory is taken to be zeroed.
    ///
    /// # Errors
    /// When the placement is not within RAM, thus not one for this memory.
    pub fn write(&self, memory: &GuestMemory, placement: &Placement) -> Result<(), tearless_memory::Error> {
        let Shape::Elf { segments, .. } = &self.shape else {
            return memory.write(placement.kernel.start, &self.bytes);
        };
        for segment in segments {
            memory.write(segment.range.start, &self.bytes[segment.file.clone()])?;
        }
        Ok(())
    }
}

/// Recognises the kernel in `bytes`; `what` names it in errors ("kernel vmlinuz").
///
/// # Errors
/// [`Error::Unsuitable`] when it cannot run here, [`Error::Damaged`] when it is cut off or corrupt.
pub fn load(bytes: Vec<u8>, what: &str) -> Result<KernelImage> {
    if bytes.is_empty() {
        return Err(Error::unsuitable(what, "an empty file", "give an arm64 kernel"));
    }
    let bytes = match packed(&bytes, what)? {
        Some((format, payload)) => unpack(format, payload, MAX_FILE, what)?,
        None => bytes,
    };
    let shape = if let Some(header) = image::parse(&bytes, what)? {
        header
    } else if bytes.starts_with(elf::MAGIC) {
        elf::parse(&bytes, what)?
    } else {
        foreign::refuse(&bytes, what)?;
        Shape::Flat
    };
    Ok(KernelImage { bytes, shape })
}

/// The compressed kernel inside `bytes`, if there is one.
fn packed<'a>(bytes: &'a [u8], what: &str) -> Result<Option<(Format, &'a [u8])>> {
    if let Some(zboot) = pe::zboot(bytes, what)? {
        return Ok(Some(zboot));
    }
    Ok(Format::of(bytes).map(|format| (format, bytes)))
}

/// The little-endian `u32` at `offset`, if `bytes` reach that far.
fn le32(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The little-endian `u64` at `offset`, if `bytes` reach that far.
fn le64(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The little-endian `u16` at `offset`, if `bytes` reach that far.
fn le16(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Where an `Image` or a flat binary goes in RAM that starts at `ram`: the load address, or `None` past the end of
/// the address space.
pub(crate) fn load_address(ram: Gpa, shape: &Shape) -> Option<Gpa> {
    /// QEMU keeps the first page of RAM for its boot stub; a kernel with a smaller offset moves up by this much.
    const STEP: u64 = 2 << 20;
    const STUB: u64 = 0x1000;
    let aligned = Gpa(ram.0.checked_next_multiple_of(STEP)?);
    match shape {
        Shape::Image { text_offset, .. } if *text_offset < STUB => aligned.checked_add(text_offset + STEP),
        Shape::Image { text_offset, .. } => aligned.checked_add(*text_offset),
        Shape::Flat => aligned.checked_add(DEFAULT_TEXT_OFFSET),
        Shape::Elf { segments, .. } => segments.first().map(|s| s.range.start),
    }
}

#[cfg(test)]
mod tests;
