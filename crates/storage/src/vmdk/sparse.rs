//! Sparse files of VMDK images: whole images, as desktop products make them, stream-optimised ones, as appliances come, and
//! parts of images.
//!
//! ```text
//!   header ---> grain directory ---> grain tables ---> grains (64 KiB, as they are or deflated)
//! ```
//! Everything in them is checked before it is used: an image comes from anywhere.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use flate2::read::ZlibDecoder;

use super::{SECTOR, check_alone, is_descriptor, wrong};

/// How such a file begins.
pub(super) const MAGIC: &[u8; 4] = b"KDMV";
/// In sectors; every product makes 128.
const MAX_GRAIN: u64 = 4096;
/// Entries of a grain table; every product makes 512.
const MAX_TABLE: u64 = 4096;
/// Entries of the directory: 128 TiB in usual grains, and 16 MiB of memory.
const MAX_DIRECTORY: u64 = 1 << 22;
/// Bytes of the descriptor that are looked at.
const MAX_DESCRIPTOR: u64 = 64 << 10;
/// The directory's place is told by another header, near the end of the file.
const AT_END: u64 = u64::MAX;

/// Flags of the header.
const ZERO_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;

/// What the header says.
#[derive(Clone, Copy, Debug)]
struct Header {
    flags: u32,
    /// In sectors.
    capacity: u64,
    grain: u64,
    table: u64,
    directory_at: u64,
    descriptor: (u64, u64),
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}

impl Header {
    fn read(file: &File, at: u64) -> io::Result<Self> {
        let mut bytes = [0; SECTOR as usize];
        file.read_exact_at(&mut bytes, at).map_err(|_| wrong("it is too short"))?;
        if !bytes.starts_with(MAGIC) || !(1..=3).contains(&le32(&bytes, 4)) {
            return Err(wrong("its header is damaged, or newer than version 3"));
        }
        if bytes.get(73..77) != Some(b"\n \r\n") {
            return Err(wrong("it was transferred as if it were text, which damaged it"));
        }
        let header = Self {
            flags: le32(&bytes, 8),
            capacity: le64(&bytes, 12),
            grain: le64(&bytes, 20),
            table: le32(&bytes, 44).into(),
            directory_at: le64(&bytes, 56),
            descriptor: (le64(&bytes, 28), le64(&bytes, 36)),
        };
        let algorithm = u16::from_le_bytes([bytes[77], bytes[78]]);
        if header.flags & COMPRESSED != 0 && algorithm != 1 {
            return Err(wrong("it is compressed in an unknown way"));
        }
        if !header.grain.is_power_of_two()
            || header.grain > MAX_GRAIN
            || !(1..=MAX_TABLE).contains(&header.table)
        {
            return Err(wrong("the sizes in its header make no sense"));
        }
        if header.capacity > i64::MAX as u64 / SECTOR || header.directory_len() > MAX_DIRECTORY {
            return Err(wrong("its disk is too large"));
        }
        Ok(header)
    }

    /// Entries of the grain directory.
    fn directory_len(&self) -> u64 {
        self.capacity.div_ceil(self.grain * self.table)
    }
}

/// Reads `count` numbers at sector `sector`.
fn numbers(file: &File, sector: u64, count: u64) -> io::Result<Vec<u32>> {
    let at = sector.checked_mul(SECTOR).ok_or_else(|| wrong("a table lies outside of the file"))?;
    let len = count * 4;
    // Before memory is taken for it.
    if at.checked_add(len).is_none_or(|end| file.metadata().is_ok_and(|m| end > m.len())) {
        return Err(wrong("a table lies outside of the file"));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes.chunks_exact(4).map(|number| le32(number, 0)).collect())
}

/// What was read last, by number.
type Last<T> = Mutex<Option<(u64, Vec<T>)>>;

fn lock<T>(last: &Last<T>) -> MutexGuard<'_, Option<(u64, Vec<T>)>> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sparse file.
pub(super) struct Sparse {
    file: File,
    header: Header,
    directory: Vec<u32>,
    /// The last grain table.
    table: Last<u32>,
    /// The last grain that was deflated.
    inflated: Last<u8>,
}

impl Sparse {
    /// The image that `file` is by itself.
    pub(super) fn whole(file: File) -> io::Result<Self> {
        // A part has none, or room for one.
        let descriptor = descriptor(&file, Header::read(&file, 0)?.descriptor)?;
        let text = descriptor
            .filter(|text| is_descriptor(text))
            .ok_or_else(|| wrong("it is a part of an image; open the descriptor that names the parts"))?;
        check_alone(&text)?;
        Self::part(file)
    }

    /// A part of an image.
    pub(super) fn part(file: File) -> io::Result<Self> {
        let (header, directory) = structure(&file)?;
        Ok(Self { file, header, directory, table: Mutex::default(), inflated: Mutex::default() })
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.header.capacity * SECTOR
    }

    /// Fills `data` from `offset` on, within the size.
    pub(super) fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        let grain = self.header.grain * SECTOR;
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let skip = at % grain;
            let take = (grain - skip).min(rest.len() as u64);
            let (part, later) = rest.split_at_mut(take as usize);
            self.read_grain(at / grain, skip, part)?;
            (at, rest) = (at + take, later);
        }
        Ok(())
    }

    /// Where grain `number` is, by sector; 0 for one that is all zeros.
    fn find(&self, number: u64) -> io::Result<u64> {
        let (index, within) = (number / self.header.table, (number % self.header.table) as usize);
        let at = self.directory.get(index as usize).copied().unwrap_or(0);
        if at == 0 {
            return Ok(0);
        }
        let mut last = lock(&self.table);
        if last.as_ref().is_none_or(|(of, _)| *of != index) {
            *last = Some((index, numbers(&self.file, at.into(), self.header.table)?));
        }
        let entry = last.as_ref().and_then(|(_, table)| table.get(within)).copied().unwrap_or(0);
        Ok(if entry == 1 && self.header.flags & ZERO_GRAINS != 0 { 0 } else { entry.into() })
    }

    /// Fills `part` from byte `skip` of grain `number` on.
    fn read_grain(&self, number: u64, skip: u64, part: &mut [u8]) -> io::Result<()> {
        let sector = self.find(number)?;
        if sector == 0 {
            part.fill(0);
            return Ok(());
        }
        if self.header.flags & COMPRESSED == 0 {
            return self.file.read_exact_at(part, sector * SECTOR + skip);
        }
        let mut last = lock(&self.inflated);
        if last.as_ref().is_none_or(|(of, _)| *of != number) {
            *last = Some((number, self.inflate(number, sector)?));
        }
        let whole = last.as_ref().map(|(_, grain)| grain.as_slice()).unwrap_or_default();
        let from = whole.get(skip as usize..).and_then(|rest| rest.get(..part.len()));
        part.copy_from_slice(from.ok_or_else(|| wrong("a grain is too short"))?);
        Ok(())
    }

    /// The grain at `sector`: its place on the disk, its length, and a stream of zlib.
    fn inflate(&self, number: u64, sector: u64) -> io::Result<Vec<u8>> {
        let mut marker = [0; 12];
        self.file.read_exact_at(&mut marker, sector * SECTOR)?;
        let (place, len) = (le64(&marker, 0), u64::from(le32(&marker, 8)));
        let size = self.header.grain * SECTOR;
        // What does not shrink grows by a few bytes per block.
        if place != number * self.header.grain || len > 2 * size {
            return Err(wrong("a grain is not where the table says"));
        }
        let mut packed = vec![0; len as usize];
        self.file.read_exact_at(&mut packed, sector * SECTOR + marker.len() as u64)?;
        let mut grain = Vec::new();
        ZlibDecoder::new(packed.as_slice()).take(size).read_to_end(&mut grain)?;
        Ok(grain)
    }
}

/// The header that counts, and the grain directory.
fn structure(file: &File) -> io::Result<(Header, Vec<u32>)> {
    let mut header = Header::read(file, 0)?;
    if header.directory_at == AT_END {
        // Behind it is one sector, the mark of the end.
        let end = file.metadata()?.len().checked_sub(2 * SECTOR).ok_or_else(|| wrong("it is too short"))?;
        header = Header::read(file, end)?;
    }
    let directory = numbers(file, header.directory_at, header.directory_len())?;
    Ok((header, directory))
}

/// The text that describes an image of one file; none in a part.
fn descriptor(file: &File, (at, len): (u64, u64)) -> io::Result<Option<String>> {
    if at == 0 {
        return Ok(None);
    }
    let at = at.checked_mul(SECTOR).ok_or_else(|| wrong("its descriptor lies outside of the file"))?;
    let mut text = vec![0; len.saturating_mul(SECTOR).min(MAX_DESCRIPTOR) as usize];
    file.read_exact_at(&mut text, at).map_err(|_| wrong("its descriptor lies outside of the file"))?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}
