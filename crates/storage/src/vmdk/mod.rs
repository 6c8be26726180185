//! VMDK images: one file ([`sparse`]), or a descriptor that names further files, as desktop products make them for disks in
//! parts of 2 GiB.
//!
//! ```text
//!   RW 4194304 SPARSE "disk-s001.vmdk"       a sparse file
//!   RW 4194304 FLAT "disk-f001.vmdk" 0       a file of plain bytes, from a sector on
//!   RW 2048 ZERO                             nothing
//! ```
//! They are read only. Only files beside the descriptor are opened: an image comes from anywhere.

mod sparse;

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Component, Path, PathBuf},
};

use sparse::Sparse;

use crate::{Disk, DiskError, Format, open::open_file};

const SECTOR: u64 = 512;
/// Each costs an open file; so many parts of 2 GiB are 2 TiB.
const MAX_EXTENTS: usize = 1024;
/// A descriptor is a line for each extent, and a few more.
const MAX_DESCRIPTOR: u64 = 1 << 20;

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Where the bytes of a piece of the disk are.
enum Place {
    Sparse(Sparse),
    Flat { file: File, from: u64 },
    Zero,
}

struct Extent {
    /// Where it ends on the disk.
    end: u64,
    place: Place,
}

/// A VMDK image, locked while it is open.
pub(crate) struct VmdkDisk {
    name: String,
    /// In ascending order; the first begins at 0, each other where the one before ends.
    extents: Vec<Extent>,
}

impl VmdkDisk {
    pub(crate) fn open(path: &Path) -> Result<Self, DiskError> {
        let file = open_file(path, true)?;
        let extents = extents(file, path).map_err(|error| failed(path, &error))?;
        Ok(Self { name: path.display().to_string(), extents })
    }
}

fn failed(path: &Path, error: &io::Error) -> DiskError {
    DiskError::Image {
        path: path.to_owned(),
        format: Format::Vmdk.name(),
        why: error.to_string(),
        advice: "`qemu-img convert -f vmdk -O qcow2` it, or get a sound copy",
    }
}

/// The files that the image in `path` consists of besides that.
pub(crate) fn parts(path: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let file = File::open(path)?;
        if is_sparse(&file)? {
            return Ok(Vec::new());
        }
        let lines = descriptor(file)?;
        let names = lines.into_iter().filter_map(|line| line.file).map(|(name, _)| beside(path, &name));
        names.map(|path| fs::canonicalize(path?)).collect()
    };
    list().map_err(|error| failed(path, &error))
}

fn is_sparse(file: &File) -> io::Result<bool> {
    let mut head = [0; sparse::MAGIC.len()];
    match file.read_exact_at(&mut head, 0) {
        Ok(()) => Ok(head == *sparse::MAGIC),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn extents(file: File, path: &Path) -> io::Result<Vec<Extent>> {
    let extents = if is_sparse(&file)? {
        let sparse = Sparse::whole(file)?;
        vec![Extent { end: sparse.size(), place: Place::Sparse(sparse) }]
    } else {
        let mut end: u64 = 0;
        let mut open = |line: Line| {
            end = end
                .checked_add(line.sectors.saturating_mul(SECTOR))
                .filter(|end| i64::try_from(*end).is_ok())
                .ok_or_else(|| wrong("its disk is too large"))?;
            Ok(Extent { end, place: line.open(path)? })
        };
        descriptor(file)?.into_iter().map(&mut open).collect::<io::Result<_>>()?
    };
    match extents.last() {
        None => Err(wrong("it names no extents")),
        Some(last) if last.end == 0 => Err(wrong("its disk is empty")),
        Some(_) => Ok(extents),
    }
}

/// What a descriptor says of an extent.
struct Line {
    sectors: u64,
    sparse: bool,
    /// The file, and where in it the extent begins, by sector; none for one that is all zeros.
    file: Option<(String, u64)>,
}

fn descriptor(mut file: File) -> io::Result<Vec<Line>> {
    let mut text = Vec::new();
    Read::by_ref(&mut file).take(MAX_DESCRIPTOR).read_to_end(&mut text)?;
    let text =
        String::from_utf8(text).map_err(|_| wrong("it is neither a VMDK image nor a descriptor of one"))?;
    if !is_descriptor(&text) {
        return Err(wrong("it is neither a VMDK image nor a descriptor of one"));
    }
    check_alone(&text)?;
    let lines: Vec<_> =
        text.lines().filter_map(Line::parse).take(MAX_EXTENTS + 1).collect::<io::Result<_>>()?;
    if lines.len() > MAX_EXTENTS {
        return Err(wrong(&format!("it has more than {MAX_EXTENTS} extents")));
    }
    Ok(lines)
}

fn is_descriptor(text: &str) -> bool {
    text.to_ascii_lowercase().starts_with("# disk descriptorfile")
}

/// The changes to another image are of no use alone.
fn check_alone(descriptor: &str) -> io::Result<()> {
    let lower = descriptor.to_ascii_lowercase();
    let mut parents = lower.lines().filter_map(|line| line.trim().strip_prefix("parentcid="));
    if parents.any(|parent| parent.trim() != "ffffffff") {
        return Err(wrong("it holds only the changes to another image"));
    }
    Ok(())
}

impl Line {
    /// `None` for a line that is about something else.
    fn parse(line: &str) -> Option<io::Result<Self>> {
        let mut words = line.trim().splitn(4, ' ');
        if !matches!(words.next()?, "RW" | "RDONLY" | "NOACCESS") {
            return None;
        }
        let sectors = words.next().and_then(|word| word.parse().ok());
        Some(match (sectors, words.next(), words.next()) {
            (Some(sectors), Some("ZERO"), _) => Ok(Self { sectors, sparse: false, file: None }),
            (Some(sectors), Some(kind @ ("SPARSE" | "FLAT")), Some(rest)) => match file_and_start(rest) {
                Some(file) => Ok(Self { sectors, sparse: kind == "SPARSE", file: Some(file) }),
                None => Err(wrong(&format!("the extent {line:?} makes no sense"))),
            },
            (Some(_), Some(kind), _) if !matches!(kind, "SPARSE" | "FLAT") => {
                Err(wrong(&format!("its extents are of the kind {kind:?}, which Tearless does not read")))
            }
            _ => Err(wrong(&format!("the extent {line:?} makes no sense"))),
        })
    }

    fn open(self, descriptor: &Path) -> io::Result<Place> {
        let Some((name, start)) = self.file else { return Ok(Place::Zero) };
        let in_part = |error: &dyn std::fmt::Display| wrong(&format!("of its part {name:?}: {error}"));
        let file = open_file(&beside(descriptor, &name)?, true).map_err(|error| match error {
            DiskError::Open { error, .. } => in_part(&error),
            other => in_part(&other),
        })?;
        let len = self.sectors.saturating_mul(SECTOR);
        let (place, has) = if self.sparse {
            let sparse = Sparse::part(file).map_err(|error| in_part(&error))?;
            let has = sparse.size();
            (Place::Sparse(sparse), has)
        } else {
            let from = start.saturating_mul(SECTOR);
            let has = file.metadata()?.len().saturating_sub(from);
            (Place::Flat { file, from }, has)
        };
        if has < len {
            return Err(in_part(&"it is shorter than the descriptor says"));
        }
        Ok(place)
    }
}

/// `"NAME" START`, or `"NAME"`.
fn file_and_start(text: &str) -> Option<(String, u64)> {
    let (name, rest) = text.trim().strip_prefix('"')?.split_once('"')?;
    let start = match rest.split_whitespace().next() {
        Some(start) => start.parse().ok()?,
        None => 0,
    };
    Some((name.to_owned(), start))
}

/// The file `name` in the folder of the descriptor.
fn beside(descriptor: &Path, name: &str) -> io::Result<PathBuf> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(file)), None) => {
            let path = descriptor.with_file_name(file);
            match path.symlink_metadata() {
                Ok(metadata) if metadata.is_symlink() => {
                    Err(wrong(&format!("its part {name:?} is a link, which may lead anywhere")))
                }
                _ => Ok(path),
            }
        }
        _ => Err(wrong(&format!("its part {name:?} lies outside of its folder"))),
    }
}

impl Disk for VmdkDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.extents.last().map_or(0, |extent| extent.end)
    }

    fn read_only(&self) -> bool {
        true
    }

    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        let (mut at, mut rest) = (offset, data);
        let mut index = self.extents.partition_point(|extent| extent.end <= at);
        while !rest.is_empty() {
            let extent = self.extents.get(index).ok_or(io::ErrorKind::UnexpectedEof)?;
            let begin = index.checked_sub(1).and_then(|before| self.extents.get(before)).map_or(0, |e| e.end);
            let take = (extent.end - at).min(rest.len() as u64);
            let (part, later) = rest.split_at_mut(take as usize);
            match &extent.place {
                Place::Sparse(sparse) => sparse.read_at(part, at - begin)?,
                Place::Flat { file, from } => file.read_exact_at(part, from + (at - begin))?,
                Place::Zero => part.fill(0),
            }
            (at, rest) = (at + take, later);
            index += 1;
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
mod tests;
