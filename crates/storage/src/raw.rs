//! Raw disks: byte `n` of the disk is byte `n` of the file.
//!
//! As with QEMU, a file whose length is no multiple of 512 is presented rounded up: the bytes past its end read as
//! zeros, and the first write to them makes the file longer.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    Disk,
    format::{HEAD, recognise},
    sparse::{Outcome, punch, zero},
};

const SECTOR: u64 = 512;
/// Zeros are written so many bytes at a time where the host cannot make them by itself.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What a flush does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Waits until the data is on the medium itself (macOS: `F_FULLFSYNC`).
    #[default]
    Full,
    /// Hands the data to the device, which may hold it in a volatile cache (macOS: `fsync`). Elsewhere as `Full`.
    Fsync,
    /// Does nothing: a crash of the host loses data. For disks that are thrown away.
    None,
}

/// How to open a raw disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawOptions {
    /// Refuse changes. Several readers may share the file.
    pub read_only: bool,
    /// What a flush does.
    pub sync: Sync,
    /// The file is known to be raw, for example because it is a bundle's own: do not look how it begins. A guest may
    /// have put another image, or what looks like one, on its disk.
    pub known_raw: bool,
}

/// Why a disk cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The host says no.
    #[error("cannot open disk {path}\n  because: {error}\n  try: check the path and its permissions")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the host says.
        error: io::Error,
    },
    /// The file is in use.
    #[error(
        "cannot open disk {0}\n  because: another virtual machine uses it\n  try: stop that one first, or open the disk read-only in both"
    )]
    InUse(PathBuf),
    /// The file is an image of a format that must be converted.
    #[error(
        "cannot open disk {path}\n  because: it is a {format} image, which this version does not support yet\n  try: \
         `qemu-img convert -f {qemu} -O raw {path} NEW.img`"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The name of the format.
        format: &'static str,
        /// What `qemu-img` calls it.
        qemu: &'static str,
    },
    /// A directory, pipe or socket.
    #[error("cannot open disk {0}\n  because: it is neither a file nor a block device")]
    Kind(PathBuf),
    /// Nothing in it.
    #[error(
        "cannot open disk {0}\n  because: it is empty\n  try: make it larger first, for example with `truncate -s 8G`"
    )]
    Empty(PathBuf),
}

/// A raw disk, locked while it is open.
#[derive(Debug)]
pub struct RawDisk {
    file: File,
    name: String,
    size: u64,
    options: RawOptions,
}

impl RawDisk {
    /// Opens the disk in `path`.
    ///
    /// The file is locked until the disk is dropped: shared if read-only, else exclusively. Images of other formats
    /// are recognised by how they begin and refused, here and never later: what a guest writes into its disk does not
    /// matter once it is open.
    ///
    /// # Errors
    /// [`DiskError`] when the file cannot be opened, is in use or is not raw.
    pub fn open(path: &Path, options: RawOptions) -> Result<Self, DiskError> {
        let fail = |error| DiskError::Open { path: path.to_owned(), error };
        // Asked before it is opened: opening a pipe would wait for its other end.
        let kind = std::fs::metadata(path).map_err(fail)?.file_type();
        if !kind.is_file() && !is_block_device(kind) {
            return Err(DiskError::Kind(path.to_owned()));
        }
        let file = OpenOptions::new().read(true).write(!options.read_only).open(path).map_err(fail)?;
        lock_file(&file, path, options.read_only)?;
        let length = (&file).seek(SeekFrom::End(0)).map_err(fail)?;
        if length == 0 {
            return Err(DiskError::Empty(path.to_owned()));
        }
        if !options.known_raw {
            refuse_other_formats(&file, path)?;
        }
        let size = length
            .checked_next_multiple_of(SECTOR)
            .ok_or_else(|| fail(io::ErrorKind::FileTooLarge.into()))?;
        Ok(Self { file, name: path.display().to_string(), size, options })
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.options.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }
}

fn refuse_other_formats(file: &File, path: &Path) -> Result<(), DiskError> {
    let mut head = [0; HEAD];
    read_or_zero(file, &mut head, 0).map_err(|error| DiskError::Open { path: path.to_owned(), error })?;
    match recognise(&head) {
        Some((format, qemu)) => Err(DiskError::Format { path: path.to_owned(), format, qemu }),
        None => Ok(()),
    }
}

fn is_block_device(kind: std::fs::FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_block_device(&kind)
}

fn lock_file(file: &File, path: &Path, shared: bool) -> Result<(), DiskError> {
    let operation =
        if shared { FlockOperation::NonBlockingLockShared } else { FlockOperation::NonBlockingLockExclusive };
    match flock(file, operation) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DiskError::InUse(path.to_owned())),
        Err(error) => Err(DiskError::Open { path: path.to_owned(), error: error.into() }),
    }
}

/// Fills `data`; what lies past the end of the file is zero.
fn read_or_zero(file: &File, data: &mut [u8], offset: u64) -> io::Result<()> {
    let mut rest = data;
    let mut at = offset;
    while !rest.is_empty() {
        match file.read_at(rest, at) {
            Ok(0) => {
                rest.fill(0);
                return Ok(());
            }
            Ok(len) => {
                rest = rest.get_mut(len..).unwrap_or_default();
                at += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Disk for RawDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        self.options.read_only
    }

    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        read_or_zero(&self.file, data, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        self.file.write_all_at(data, offset)
    }

    fn flush(&self) -> io::Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        match self.options.sync {
            Sync::Full => self.file.sync_data(),
            Sync::Fsync => Ok(rustix::fs::fsync(&self.file)?),
            Sync::None => Ok(()),
        }
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check_writable()?;
        if len > 0 {
            // Where the host cannot, the space stays taken, which is all that a discard promises.
            punch(&self.file, offset, len)?;
        }
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64, may_unmap: bool) -> io::Result<()> {
        self.check_writable()?;
        if len == 0 {
            return Ok(());
        }
        let done = (may_unmap && punch(&self.file, offset, len)? == Outcome::Done)
            || zero(&self.file, offset, len)? == Outcome::Done;
        let mut written = if done { len } else { 0 };
        while written < len {
            let take = (len - written).min(ZEROS.len() as u64);
            let (zeros, _) = ZEROS.split_at(take as usize);
            self.file.write_all_at(zeros, offset + written)?;
            written += take;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn open(file: &tempfile::NamedTempFile) -> Result<RawDisk, DiskError> {
        RawDisk::open(file.path(), RawOptions::default())
    }

    #[test]
    fn reads_back_what_was_written() {
        for sync in [Sync::Full, Sync::Fsync, Sync::None] {
            let file = file(&[7; 4096]);
            let disk = RawDisk::open(file.path(), RawOptions { sync, ..RawOptions::default() }).unwrap();
            disk.write_at(&[1, 2, 3], 1022).unwrap();
            disk.flush().unwrap();
            let mut data = [0; 5];
            disk.read_at(&mut data, 1021).unwrap();
            assert_eq!(data, [7, 1, 2, 3, 7]);
            assert_eq!(disk.size(), 4096);
        }
    }

    #[test]
    fn a_partial_last_sector_reads_as_zeros_and_grows_when_written() {
        let file = file(&[7; 700]);
        let disk = open(&file).unwrap();
        assert_eq!(disk.size(), 1024);
        let mut data = [1; 512];
        disk.read_at(&mut data, 512).unwrap();
        assert_eq!((data[187], data[188], data[511]), (7, 0, 0));
        disk.write_at(&[9; 512], 512).unwrap();
        assert_eq!(file.as_file().metadata().unwrap().len(), 1024);
    }

    #[test]
    fn zeroes_and_discards_keep_the_rest() {
        for may_unmap in [false, true] {
            let file = file(&[7; 256 << 10]);
            let disk = open(&file).unwrap();
            disk.write_zeroes(512, 130 << 10, may_unmap).unwrap();
            disk.discard(200 << 10, 8 << 10).unwrap();
            disk.discard(0, 0).unwrap();
            let mut data = vec![1; 256 << 10];
            disk.read_at(&mut data, 0).unwrap();
            assert!(data[..512].iter().chain(&data[512 + (130 << 10)..200 << 10]).all(|b| *b == 7));
            assert!(data[512..512 + (130 << 10)].iter().all(|b| *b == 0));
            assert!(data[208 << 10..].iter().all(|b| *b == 7));
            assert_eq!(file.as_file().metadata().unwrap().len(), 256 << 10);
        }
    }

    #[test]
    fn a_disk_in_use_is_refused_by_name_and_readers_share() {
        let file = file(&[0; 512]);
        let read_only = RawOptions { read_only: true, ..RawOptions::default() };
        let writer = open(&file).unwrap();
        let error = open(&file).unwrap_err();
        assert!(matches!(error, DiskError::InUse(_)));
        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
        assert!(RawDisk::open(file.path(), read_only).is_err());
        drop(writer);
        let reader = RawDisk::open(file.path(), read_only).unwrap();
        let _second = RawDisk::open(file.path(), read_only).unwrap();
        assert!(matches!(open(&file), Err(DiskError::InUse(_))));
        assert!(reader.write_at(&[0], 0).is_err());
        assert!(reader.discard(0, 512).is_err());
        assert!(reader.write_zeroes(0, 512, true).is_err());
        reader.flush().unwrap();
    }

    #[test]
    fn refuses_what_is_no_raw_disk() {
        let mut image = b"QFI\xfb\0\0\0\x03".to_vec();
        image.resize(512, 0);
        let error = open(&file(&image)).unwrap_err().to_string();
        assert!(
            error.contains("a qcow2 image, which this version does not support") && error.contains("-O raw"),
            "{error}"
        );
        assert!(matches!(open(&file(&[])), Err(DiskError::Empty(_))));
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            RawDisk::open(folder.path(), RawOptions { read_only: true, ..RawOptions::default() }),
            Err(DiskError::Kind(_))
        ));
        let missing = RawDisk::open(&folder.path().join("none"), RawOptions::default()).unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
    }

    #[test]
    fn a_guest_cannot_turn_its_disk_into_an_image() {
        let file = file(&[0; 512]);
        let disk = open(&file).unwrap();
        disk.write_at(b"QFI\xfb", 0).unwrap();
        let mut data = [0; 4];
        disk.read_at(&mut data, 0).unwrap();
        assert_eq!(&data, b"QFI\xfb");
        drop(disk);
        assert!(matches!(open(&file), Err(DiskError::Format { .. })));
        let known = RawOptions { known_raw: true, ..RawOptions::default() };
        assert_eq!(RawDisk::open(file.path(), known).unwrap().size(), 512);
    }
}
