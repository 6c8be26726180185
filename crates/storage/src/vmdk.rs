//! VMDK images of one file: sparse, as desktop products make them, and stream-optimised, as appliances come.
//!
//! ```text
//!   header ---> grain directory ---> grain tables ---> grains (64 KiB, as they are or deflated)
//! ```
//! They are read only. Everything in them is checked before it is used: an image comes from anywhere.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use flate2::read::ZlibDecoder;

use crate::{Disk, DiskError, Format, open::open_file};

const SECTOR: u64 = 512;
/// How such a file begins.
pub(crate) const MAGIC: &[u8; 4] = b"KDMV";
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

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
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

/// A VMDK image of one file, locked while it is open.
pub(crate) struct SparseVmdk {
    file: File,
    name: String,
    header: Header,
    directory: Vec<u32>,
    /// The last grain table.
    table: Last<u32>,
    /// The last grain that was deflated.
    inflated: Last<u8>,
}

/// Whether the file is of this kind and not a descriptor with further files.
pub(crate) fn is_sparse(path: &Path) -> bool {
    let mut head = [0; 4];
    File::open(path).is_ok_and(|mut file| file.read_exact(&mut head).is_ok()) && head == *MAGIC
}

impl SparseVmdk {
    pub(crate) fn open(path: &Path) -> Result<Self, DiskError> {
        let file = open_file(path, true)?;
        let fail = |error: io::Error| DiskError::Image {
            path: path.to_owned(),
            format: Format::Vmdk.name(),
            why: error.to_string(),
            advice: "`qemu-img convert -f vmdk -O qcow2` it, or get a sound copy",
        };
        let (header, directory) = structure(&file).map_err(fail)?;
        if header.capacity == 0 {
            return Err(fail(wrong("its disk is empty")));
        }
        let name = path.display().to_string();
        Ok(Self { file, name, header, directory, table: Mutex::default(), inflated: Mutex::default() })
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
    check_descriptor(file, header.descriptor)?;
    if header.directory_at == AT_END {
        // Behind it is one sector, the mark of the end.
        let end = file.metadata()?.len().checked_sub(2 * SECTOR).ok_or_else(|| wrong("it is too short"))?;
        header = Header::read(file, end)?;
    }
    let directory = numbers(file, header.directory_at, header.directory_len())?;
    Ok((header, directory))
}

/// An image that is a part of another, or the changes to another, is of no use alone.
fn check_descriptor(file: &File, (at, len): (u64, u64)) -> io::Result<()> {
    if at == 0 {
        return Err(wrong("it is a part of an image; the other parts and a descriptor belong to it"));
    }
    let at = at.checked_mul(SECTOR).ok_or_else(|| wrong("its descriptor lies outside of the file"))?;
    let mut text = vec![0; len.saturating_mul(SECTOR).min(MAX_DESCRIPTOR) as usize];
    file.read_exact_at(&mut text, at).map_err(|_| wrong("its descriptor lies outside of the file"))?;
    let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
    let parent = text.lines().find_map(|line| line.trim().strip_prefix("parentcid="));
    if parent.is_some_and(|parent| parent.trim() != "ffffffff") {
        return Err(wrong("it holds only the changes to another image"));
    }
    Ok(())
}

impl Disk for SparseVmdk {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.header.capacity * SECTOR
    }

    fn read_only(&self) -> bool {
        true
    }

    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
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

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn write_zeroes(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;
    use crate::{OpenOptions, open};

    const SIZE: usize = (80 << 20) + 1024;

    /// Data of all kinds, far enough apart for several grain tables; not whole grains.
    fn content() -> Vec<u8> {
        let mut content = vec![0; SIZE];
        let noise = |i: usize| ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 37) as u8;
        for start in [0, 65_536 + 512, 33 << 20, 70 << 20, SIZE - 5000] {
            content.iter_mut().enumerate().skip(start).take(100_000).for_each(|(i, byte)| *byte = noise(i));
        }
        content[40 << 20..(40 << 20) + 300_000].fill(0x55);
        content
    }

    /// An image that `qemu-img` made; `None` without it.
    fn image(folder: &Path, kind: &str, content: &[u8]) -> Option<std::path::PathBuf> {
        let (raw, path) = (folder.join("raw"), folder.join(format!("{kind}.vmdk")));
        fs::write(&raw, content).unwrap();
        let option = format!("subformat={kind}");
        let mut command = Command::new("qemu-img");
        command.args(["convert", "-f", "raw", "-O", "vmdk", "-o", &option]).args([&raw, &path]);
        match command.output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                eprintln!("skipped: no qemu-img here: {error}");
                return None;
            }
        }
        Some(path)
    }

    fn read_only() -> OpenOptions {
        OpenOptions { read_only: true, ..OpenOptions::default() }
    }

    fn error(path: &Path) -> String {
        open(path, read_only()).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn reads_what_qemu_img_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let content = content();
        for kind in ["monolithicSparse", "streamOptimized"] {
            let Some(path) = image(folder.path(), kind, &content) else { return };
            let disk = open(&path, read_only()).unwrap();
            assert_eq!((disk.size(), disk.read_only()), (SIZE as u64, true));
            let mut all = vec![1; SIZE];
            disk.read_at(&mut all, 0).unwrap();
            assert!(all == content, "{kind}");
            for at in [511, 65_535, (33 << 20) - 3, (70 << 20) + 99_999] {
                let mut few = [1; 1030];
                disk.read_at(&mut few, at as u64).unwrap();
                assert!(few == content[at..at + 1030], "{kind} at {at}");
            }
            assert!(disk.write_at(&[1], 0).is_err());
            let writable = open(&path, OpenOptions::default()).map(|_| ()).unwrap_err();
            assert!(writable.to_string().contains("read-only"), "{writable}");
        }
    }

    #[test]
    fn damage_is_found_and_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        for kind in ["monolithicSparse", "streamOptimized"] {
            let Some(path) = image(folder.path(), kind, &content()[..3 << 20]) else { return };
            let mut whole = fs::read(&path).unwrap();
            let bad = folder.path().join("bad.vmdk");
            for cut in [4, 511, 600, 3000] {
                fs::write(&bad, &whole[..cut]).unwrap();
                assert!(error(&bad).contains("try: "), "{kind} cut at {cut}");
            }
            for at in 4..80 {
                whole[at] ^= 0xff;
                fs::write(&bad, &whole).unwrap();
                if let Ok(disk) = open(&bad, read_only()) {
                    let len = disk.size().min(4 << 20) as usize;
                    let _ = disk.read_at(&mut vec![0; len], 0);
                }
                whole[at] ^= 0xff;
            }
            let parent = whole.windows(18).position(|w| w == b"parentCID=ffffffff").unwrap();
            whole[parent + 10] = b'0';
            fs::write(&bad, &whole).unwrap();
            assert!(error(&bad).contains("changes to another image"));
        }
    }
}
