//! Disks in pieces of 512 MiB, each packed on its own: several are on their way at once, and what is there already is not
//! brought again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::SeekFrom;
use sha2::{Digest as _, Sha256};

use super::lz4::{BLOCK, Lz4Error, Packer, Unpacker};
use super::manifest::{Descriptor, DiskLayers, Piece};
use super::parallel::{Stop, in_parallel};
use super::registry::Registry;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// How Tart cuts disks. Tests have no time for that much.
pub(crate) const PIECE: u64 = if cfg!(test) { 8 << 20 } else { 512 << 20 };
/// The largest piece that is believed.
const MAX_PIECE: u64 = 8 << 30;
/// What a hole is made of at least.
const PAGE: usize = 4 << 10;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// What a disk holds.
pub trait Content: Sync {
    /// Bytes that it has.
    fn size(&self) -> u64;

    /// Fills `data` from `offset` on; the range lies in the disk.
    ///
    /// # Errors
    /// What the host says.
    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()>;

    /// The next bytes from `offset` on that may be other than zero, as far as that is known without reading them; `None` when
    /// there are none.
    fn data_from(&self, offset: u64) -> Option<Range<u64>>;

    /// Whether a range is known to be nothing but zeros.
    fn is_hole(&self, offset: u64, len: u64) -> bool {
        self.data_from(offset).is_none_or(|data| data.start >= offset + len)
    }
}

impl Content for File {
    fn size(&self) -> u64 {
        self.metadata().map_or(0, |data| data.len())
    }

    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(data, offset)
    }

    fn data_from(&self, offset: u64) -> Option<Range<u64>> {
        match rustix::fs::seek(self, SeekFrom::Data(offset)) {
            Ok(start) => {
                let end = rustix::fs::seek(self, SeekFrom::Hole(start));
                Some(start..end.unwrap_or_else(|_| self.size()))
            }
            // There is only a hole from there on.
            Err(rustix::io::Errno::NXIO) => None,
            // It knows no holes.
            Err(_) => Some(offset..self.size()),
        }
    }
}

/// How many at once, and who watches.
pub(crate) struct Work<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) jobs: usize,
    pub(crate) progress: &'a (dyn Progress + Sync),
}

/// Packs and stores a disk. Progress is told of its own bytes.
pub(crate) fn push_disk(
    work: &Work<'_>,
    content: &dyn Content,
    media_type: &str,
    title: Option<&str>,
) -> Result<Vec<Descriptor>> {
    let size = content.size();
    let offsets = (0..size.div_ceil(PIECE)).map(|n| n * PIECE);
    let pieces: Vec<_> = offsets.map(|at| (at, PIECE.min(size - at))).collect();
    let holes = Mutex::new(HashMap::<u64, Descriptor>::new());
    in_parallel(work.jobs, &pieces, |&(offset, size), stop| {
        let layer = if content.is_hole(offset, size) {
            // Holes of a size are one blob. Whoever comes meanwhile waits, instead of doing the same.
            let mut holes = holes.lock().unwrap_or_else(PoisonError::into_inner);
            match holes.get(&size) {
                Some(layer) => {
                    work.progress.advance(size);
                    layer.clone()
                }
                None => {
                    let layer = push_piece(work, content, media_type, (offset, size), stop)?;
                    holes.insert(size, layer.clone());
                    layer
                }
            }
        } else {
            push_piece(work, content, media_type, (offset, size), stop)?
        };
        Ok(layer.titled(title))
    })
}

/// Packs twice: first for the digest, by which the registry says whether it has the piece; then on its way there. So
/// neither memory nor a disk has to hold it.
fn push_piece(
    work: &Work<'_>,
    content: &dyn Content,
    media_type: &str,
    (offset, size): (u64, u64),
    stop: &Stop,
) -> Result<Descriptor> {
    let section = || Section::new(content, (offset, size), stop);
    let mut plain = Sha256::new();
    let mut packer = Packer::new(Hashed { source: section(), hasher: &mut plain });
    let mut packed = Sha256::new();
    let mut packed_size = 0;
    let mut buffer = vec![0; 2 * BLOCK];
    loop {
        match packer.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                packed.update(&buffer[..n]);
                packed_size += n as u64;
            }
            Err(e) => return Err(reading(&e)),
        }
    }
    drop(packer);
    let (plain, packed) = (Digest::finish(plain), Digest::finish(packed));
    let shown = Mutex::new(0);
    let show = |at: u64| {
        // Of the piece's own bytes, as many as correspond.
        let part = u128::from(size) * u128::from(at) / u128::from(packed_size.max(1));
        let part = u64::try_from(part).unwrap_or(size).min(size);
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        work.progress.advance(part.saturating_sub(*shown));
        *shown = part.max(*shown);
    };
    work.registry.upload(&packed, packed_size, || Packer::new(section()), &show)?;
    Ok(Descriptor::new(media_type, packed_size, &packed).unpacked(size, &plain))
}

fn reading(error: &io::Error) -> Error {
    Error::local("read", Path::new("the VM's disk"), error).with_help("check the disk that the VM is on")
}

/// A part of a disk. Its holes are not read: a host would fill its memory with their zeros.
struct Section<'a> {
    content: &'a dyn Content,
    at: u64,
    end: u64,
    /// Where data lies next, at `at` or after it; unknown when it ends there or before.
    data: Range<u64>,
    stop: &'a Stop,
}

impl<'a> Section<'a> {
    fn new(content: &'a dyn Content, (offset, size): (u64, u64), stop: &'a Stop) -> Self {
        Self { content, at: offset, end: offset + size, data: 0..0, stop }
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.check()?;
        if self.data.end <= self.at {
            self.data = self.content.data_from(self.at).unwrap_or(u64::MAX..u64::MAX);
        }
        let is_hole = self.at < self.data.start;
        let until = self.end.min(if is_hole { self.data.start } else { self.data.end });
        let left = usize::try_from(until.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        let buffer = &mut buffer[..len];
        if is_hole {
            buffer.fill(0);
        } else {
            self.content.read_at(buffer, self.at)?;
        }
        self.at += len as u64;
        Ok(len)
    }
}

struct Hashed<'a, R> {
    source: R,
    hasher: &'a mut Sha256,
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// Brings a disk into the file `path`. What is there of it already, because an earlier attempt was interrupted, is
/// verified and kept. Progress is told of packed bytes.
pub(crate) fn pull_disk(work: &Work<'_>, disk: &DiskLayers, path: &Path) -> Result<()> {
    let fail = |e: &io::Error| writing(path, e);
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).open(path).map_err(|e| fail(&e))?;
    file.set_len(disk.size).map_err(|e| fail(&e))?;
    let zeros = Mutex::new(HashMap::new());
    in_parallel(work.jobs, &disk.pieces, |piece, stop| {
        if piece.size > MAX_PIECE {
            return Err(work.registry.unusable("its disk is cut into pieces of more than 8 GiB"));
        }
        let is_hole = file.is_hole(piece.offset, piece.size);
        let found = if is_hole {
            digest_of_zeros(piece.size, &zeros)
        } else {
            digest_of_range(&file, piece, stop).map_err(|e| fail(&e))?
        };
        if found == piece.digest {
            work.progress.advance(piece.layer.size);
            return Ok(());
        }
        Target { file: &file, path, dirty: !is_hole }.fill(work, piece, stop)
    })?;
    file.sync_all().map_err(|e| fail(&e))
}

fn writing(path: &Path, error: &io::Error) -> Error {
    let help = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "free some space, and pull again: it resumes; or set TEARLESS_HOME to a folder on a larger disk"
        }
        _ => "check the folder and the disk it is on, and pull again: it resumes",
    };
    Error::local("write", path, error).with_help(help)
}

/// The digest of `size` zeros; whoever wants the same meanwhile waits for it.
fn digest_of_zeros(size: u64, known: &Mutex<HashMap<u64, Digest>>) -> Digest {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    *known.entry(size).or_insert_with(|| {
        let mut hasher = Sha256::new();
        let mut left = size;
        while left > 0 {
            let len = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
            hasher.update(&ZEROS[..len]);
            left -= len as u64;
        }
        Digest::finish(hasher)
    })
}

fn digest_of_range(file: &File, piece: &Piece, stop: &Stop) -> io::Result<Digest> {
    let mut section = Section::new(file, (piece.offset, piece.size), stop);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 4 * BLOCK];
    loop {
        match section.read(&mut buffer)? {
            0 => return Ok(Digest::finish(hasher)),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Where a piece goes.
struct Target<'a> {
    file: &'a File,
    path: &'a Path,
    /// Whether something is there that is to be overwritten.
    dirty: bool,
}

impl Target<'_> {
    fn fill(&self, work: &Work<'_>, piece: &Piece, stop: &Stop) -> Result<()> {
        let registry = work.registry;
        let damaged = |why: &str| registry.wrong(format_args!("a piece of its disk is damaged: {why}"));
        let blob = Shown { source: registry.blob(&piece.layer)?, progress: work.progress };
        let mut unpacker = Unpacker::new(blob);
        let mut hasher = Sha256::new();
        let mut at = 0;
        let failed = |error| match error {
            Lz4Error::Read(e) => registry.reading(e),
            Lz4Error::Malformed(why) => damaged(why),
        };
        while let Some(block) = unpacker.block().map_err(failed)? {
            stop.check().map_err(|e| registry.reading(e))?;
            if block.len() as u64 > piece.size - at {
                return Err(damaged("it is longer than it says"));
            }
            hasher.update(block);
            self.write(block, piece.offset + at).map_err(|e| writing(self.path, &e))?;
            at += block.len() as u64;
        }
        unpacker.into_source().source.finish()?;
        if at != piece.size || Digest::finish(hasher) != piece.digest {
            return Err(damaged("what comes out of it is not what its digest says"));
        }
        Ok(())
    }

    /// Writes what is not there yet. Pages of zeros stay holes.
    fn write(&self, block: &[u8], offset: u64) -> io::Result<()> {
        let mut there = [0; PAGE];
        let mut run = 0..0;
        for (start, page) in (0..).step_by(PAGE).zip(block.chunks(PAGE)) {
            let there = &mut there[..page.len()];
            if self.dirty {
                self.file.read_exact_at(there, offset + start as u64)?;
            }
            if page == there {
                continue;
            }
            if run.end != start {
                self.file.write_all_at(&block[run.clone()], offset + run.start as u64)?;
                run.start = start;
            }
            run.end = start + page.len();
        }
        self.file.write_all_at(&block[run.clone()], offset + run.start as u64)
    }
}

/// Tells how much was read.
struct Shown<'a, R> {
    source: R,
    progress: &'a (dyn Progress + Sync),
}

impl<R: Read> Read for Shown<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.progress.advance(n as u64);
        Ok(n)
    }
}
