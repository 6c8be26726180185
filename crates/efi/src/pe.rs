//! PE/COFF executables for AArch64: where their parts go, and what is added to their addresses.
//!
//! The file comes from whoever made the disk, so it may say anything.

/// Why a file cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    /// No PE32+ file.
    #[error("it is no EFI program")]
    Format,
    /// For another processor.
    #[error("it is for another processor (machine {0:#x})")]
    Machine(u16),
    /// Not for EFI.
    #[error("it is not for EFI (subsystem {0})")]
    Subsystem(u16),
    /// Parts lie outside the file or the memory that it asks for.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// The largest program: a kernel with its RAM disk in one file has a few hundred MiB.
const MAX_IMAGE: u64 = 1 << 30;
const MAX_SECTIONS: u16 = 96;

const MACHINE_ARM64: u16 = 0xaa64;
const MAGIC_PE32_PLUS: u16 = 0x20b;
const RELOCS_STRIPPED: u16 = 1;
const BASE_RELOCATIONS: u64 = 5;
const ABSOLUTE: u16 = 0;
const DIR64: u16 = 10;

/// Subsystems: application, boot service driver, runtime driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsystem {
    /// It may return; its memory goes then.
    Application,
    /// Stays until the OS runs.
    BootDriver,
    /// Stays for good.
    RuntimeDriver,
}

/// A checked file.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    file: &'a [u8],
    /// Bytes of memory.
    pub size: u64,
    /// The memory's alignment.
    pub align: u64,
    /// The first instruction, from the start.
    pub entry: u64,
    /// What it is.
    pub subsystem: Subsystem,
    preferred: u64,
    headers: u64,
    stripped: bool,
    sections: Vec<Section>,
    relocations: (u64, u64),
}

#[derive(Clone, Debug)]
struct Section {
    at: u64,
    from: u64,
    len: u64,
}

fn at<const N: usize>(bytes: &[u8], offset: u64) -> Option<[u8; N]> {
    Some(*bytes.get(usize::try_from(offset).ok()?..)?.first_chunk()?)
}

fn le16(bytes: &[u8], offset: u64) -> Result<u16, PeError> {
    at(bytes, offset).map(u16::from_le_bytes).ok_or(PeError::Format)
}

fn le32(bytes: &[u8], offset: u64) -> Result<u64, PeError> {
    at(bytes, offset).map(|b| u32::from_le_bytes(b).into()).ok_or(PeError::Format)
}

/// Checks `file`.
///
/// # Errors
/// When it cannot be loaded.
pub fn parse(file: &[u8]) -> Result<Image<'_>, PeError> {
    if !file.starts_with(b"MZ") {
        return Err(PeError::Format);
    }
    let pe = le32(file, 0x3c)?;
    if at(file, pe) != Some(*b"PE\0\0") {
        return Err(PeError::Format);
    }
    let machine = le16(file, pe + 4)?;
    let (count, optional_len, flags) = (le16(file, pe + 6)?, le16(file, pe + 20)?, le16(file, pe + 22)?);
    let optional = pe + 24;
    if machine != MACHINE_ARM64 {
        return Err(PeError::Machine(machine));
    }
    if le16(file, optional)? != MAGIC_PE32_PLUS || count > MAX_SECTIONS {
        return Err(PeError::Format);
    }
    let subsystem = match le16(file, optional + 68)? {
        10 => Subsystem::Application,
        11 => Subsystem::BootDriver,
        12 => Subsystem::RuntimeDriver,
        other => return Err(PeError::Subsystem(other)),
    };
    let (size, headers) = (le32(file, optional + 56)?, le32(file, optional + 60)?);
    let (align, entry) = (le32(file, optional + 32)?, le32(file, optional + 16)?);
    if size == 0 || size > MAX_IMAGE || headers > size || headers > file.len() as u64 {
        return Err(PeError::Damaged("its size is out of bounds"));
    }
    if entry == 0 || entry >= size || !entry.is_multiple_of(4) {
        return Err(PeError::Damaged("its entry point lies outside"));
    }
    if !align.is_power_of_two() || align > 2 << 20 {
        return Err(PeError::Damaged("its alignment is odd"));
    }
    let directories = le32(file, optional + 108)?;
    let relocations = if directories > BASE_RELOCATIONS {
        let entry = optional + 112 + 8 * BASE_RELOCATIONS;
        (le32(file, entry)?, le32(file, entry + 4)?)
    } else {
        (0, 0)
    };
    if relocations.0 + relocations.1 > size {
        return Err(PeError::Damaged("its relocations lie outside"));
    }
    let table = optional + u64::from(optional_len);
    let sections =
        (0..u64::from(count)).map(|i| section(file, table + 40 * i, size)).collect::<Result<_, _>>()?;
    let preferred = at(file, optional + 24).map(u64::from_le_bytes).ok_or(PeError::Format)?;
    let stripped = flags & RELOCS_STRIPPED != 0;
    Ok(Image { file, size, align, entry, subsystem, preferred, headers, stripped, sections, relocations })
}

fn section(file: &[u8], header: u64, size: u64) -> Result<Section, PeError> {
    let (virtual_len, at) = (le32(file, header + 8)?, le32(file, header + 12)?);
    let (raw_len, from) = (le32(file, header + 16)?, le32(file, header + 20)?);
    // Padding of the file is not loaded; a section without a length of its own is as long as the file has it.
    let len = if virtual_len == 0 { raw_len } else { raw_len.min(virtual_len) };
    if at + virtual_len.max(len) > size {
        return Err(PeError::Damaged("a section lies outside its memory"));
    }
    if len > 0 && from + len > file.len() as u64 {
        return Err(PeError::Damaged("the file ends inside a section"));
    }
    Ok(Section { at, from, len })
}

impl Image<'_> {
    /// The memory's content when it starts at `base`.
    ///
    /// # Errors
    /// When its relocations are damaged, or it cannot be moved.
    pub fn load(&self, base: u64) -> Result<Vec<u8>, PeError> {
        let damaged = PeError::Damaged("a part lies outside");
        let mut memory = vec![0; usize::try_from(self.size).map_err(|_| damaged)?];
        let headers = self.headers as usize;
        let (to, from) = (memory.get_mut(..headers), self.file.get(..headers));
        to.zip(from).map(|(to, from)| to.copy_from_slice(from)).ok_or(damaged)?;
        for section in &self.sections {
            let range = |start: u64| start as usize..(start + section.len) as usize;
            let to = memory.get_mut(range(section.at));
            let from = if section.len == 0 { Some(&[][..]) } else { self.file.get(range(section.from)) };
            to.zip(from).map(|(to, from)| to.copy_from_slice(from)).ok_or(damaged)?;
        }
        let delta = base.wrapping_sub(self.preferred);
        if delta != 0 {
            if self.stripped {
                return Err(PeError::Damaged("it can run at one address only, which is not free"));
            }
            self.relocate(&mut memory, delta)?;
        }
        Ok(memory)
    }

    fn relocate(&self, memory: &mut [u8], delta: u64) -> Result<(), PeError> {
        let damaged = PeError::Damaged("its relocations are damaged");
        let (mut block, len) = self.relocations;
        let end = block + len;
        while block + 8 <= end {
            let (page, size) = (le32(memory, block)?, le32(memory, block + 4)?);
            if size == 0 {
                // Linkers pad the table with zeros.
                break;
            }
            if size < 8 || block + size > end {
                return Err(damaged);
            }
            for entry in (block + 8..block + size - (size & 1)).step_by(2) {
                let word = le16(memory, entry)?;
                let place = page + u64::from(word & 0xfff);
                match word >> 12 {
                    ABSOLUTE => {}
                    DIR64 => {
                        let start = usize::try_from(place).map_err(|_| damaged)?;
                        let slot = memory.get_mut(start..).and_then(|m| m.first_chunk_mut::<8>());
                        let slot = slot.ok_or(damaged)?;
                        *slot = u64::from_le_bytes(*slot).wrapping_add(delta).to_le_bytes();
                    }
                    _ => {
                        return Err(PeError::Damaged(
                            "it has relocations of a kind that AArch64 does not use",
                        ));
                    }
                }
            }
            block += size;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of one section at 0x1000, whose word at 0x1008 is the address of 0x1010.
    pub(crate) fn program() -> Vec<u8> {
        let mut file = vec![0; 0x600];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(0x3c, &0x40u32.to_le_bytes());
        put(0x40, b"PE\0\0");
        put(0x44, &MACHINE_ARM64.to_le_bytes());
        put(0x46, &2u16.to_le_bytes());
        put(0x54, &(112u16 + 48).to_le_bytes());
        let optional = 0x58;
        put(optional, &MAGIC_PE32_PLUS.to_le_bytes());
        for (at, value) in [(16, 0x1000u32), (24, 0x10_0000), (32, 0x1000), (56, 0x3000), (60, 0x200)] {
            put(optional + at, &value.to_le_bytes());
        }
        put(optional + 68, &10u16.to_le_bytes());
        put(optional + 108, &6u32.to_le_bytes());
        put(optional + 112 + 40, &0x2000u32.to_le_bytes());
        put(optional + 112 + 44, &12u32.to_le_bytes());
        let sections = optional + 112 + 48;
        for (i, (at, len, from)) in
            [(0x1000u32, 0x200u32, 0x200u32), (0x2000, 0x200, 0x400)].into_iter().enumerate()
        {
            for (offset, value) in [(8, len), (12, at), (16, len), (20, from)] {
                put(sections + 40 * i + offset, &value.to_le_bytes());
            }
        }
        put(0x208, &0x10_1010u64.to_le_bytes());
        put(0x400, &0x1000u32.to_le_bytes());
        put(0x404, &12u32.to_le_bytes());
        put(0x408, &(DIR64 << 12 | 8).to_le_bytes());
        file
    }

    #[test]
    fn sections_are_loaded_and_addresses_moved() {
        let file = program();
        let image = parse(&file).unwrap();
        assert_eq!((image.size, image.entry), (0x3000, 0x1000));
        let memory = image.load(0x4000_0000).unwrap();
        assert_eq!(memory[0x1008..0x1010], 0x4000_1010u64.to_le_bytes());
        assert_eq!(image.load(0x10_0000).unwrap()[0x1008..0x1010], 0x10_1010u64.to_le_bytes());
    }

    #[test]
    fn damage_is_refused_wherever_it_is() {
        let good = program();
        for len in 0..good.len() {
            if let Ok(image) = parse(&good[..len]) {
                // Only the padding behind the last section's data may be missing.
                panic!("cut to {len}: {image:?}");
            }
        }
        for at in 0..0x180 {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut file = good.clone();
                file[at] = value;
                let _ = parse(&file).and_then(|image| image.load(0x4000_0000));
            }
        }
        let mut other = good;
        other[0x45] = 0x86;
        other[0x44] = 0x64;
        assert_eq!(parse(&other).unwrap_err(), PeError::Machine(0x8664));
    }
}
