//! From a file's name to a disk.

use std::{
    fs::{File, FileType, OpenOptions as FileOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use crate::{Disk, DiskError, Format, ImageDisk, NbdDisk, RawDisk, image, is_remote, vmdk};

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

impl Sync {
    /// Makes durable what was written to `file`.
    pub(crate) fn apply(self, file: &File) -> io::Result<()> {
        match self {
            Self::Full => file.sync_data(),
            Self::Fsync => Ok(rustix::fs::fsync(file)?),
            Self::None => Ok(()),
        }
    }
}

/// Whether the host's page cache stands between the guest and the medium. The guest's own cache is another matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// What was read or written lately comes from the host's memory; several VMs on one base share it.
    #[default]
    Host,
    /// Data goes straight to and from the medium (`O_DIRECT`) where the host can; raw disks on Linux only.
    None,
}

/// How to open a disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Refuse changes. Several readers may share the file.
    pub read_only: bool,
    /// What a flush does.
    pub sync: Sync,
    /// Whether the host caches.
    pub cache: Cache,
    /// What the file is. `None` goes by its name, and takes what is not named `.qcow2` or `.vmdk` as raw, unless it begins
    /// like another format: then it is refused, because either guess could be wrong. A bundle's own files are known, and
    /// a guest may have written anything into them.
    pub format: Option<Format>,
}

/// The files that [`open`] opens besides `path` itself, read-only: what backs an image.
///
/// # Errors
/// As [`open`].
pub fn backing_files(path: &Path, options: OpenOptions) -> Result<Vec<PathBuf>, DiskError> {
    if is_remote(path) {
        return Ok(Vec::new());
    }
    match options.format.or_else(|| Format::of_name(path)) {
        None | Some(Format::Raw) => Ok(Vec::new()),
        Some(Format::Vmdk) => vmdk::parts(path),
        Some(Format::Qcow2) => image::backing_files(path),
    }
}

/// Opens the disk in `path`, which may also be the address of a server (`nbd://HOST:PORT/EXPORT`,
/// `nbd+unix:///EXPORT?socket=PATH`): then nothing is locked, and what it holds is raw.
///
/// The file is locked until the disk is dropped: shared if read-only, else exclusively; so are, shared, the files that
/// back it.
///
/// # Errors
/// [`DiskError`] when the file cannot be opened, is in use or is not what it should be.
pub fn open(path: &Path, options: OpenOptions) -> Result<Arc<dyn Disk>, DiskError> {
    if is_remote(path) {
        return Ok(Arc::new(NbdDisk::open(path, options)?));
    }
    match options.format.or_else(|| Format::of_name(path)) {
        None | Some(Format::Raw) => Ok(Arc::new(RawDisk::open(path, options)?)),
        Some(Format::Vmdk) if options.read_only => Ok(Arc::new(vmdk::VmdkDisk::open(path)?)),
        Some(Format::Vmdk) => Err(DiskError::Image {
            path: path.to_owned(),
            format: Format::Vmdk.name(),
            why: "Tearless reads VMDK images, but does not write them".into(),
            advice: "attach it read-only (FILE:ro), or `qemu-img convert -O qcow2` it",
        }),
        Some(Format::Qcow2) => Ok(Arc::new(ImageDisk::open(path, options)?)),
    }
}

/// Opens a new layer above a disk that this process has open: a qcow2 image, handed over as open files with their names, which
/// are absolute, the image itself first and then what it builds on.
///
/// # Errors
/// As [`open`]; also when a file of the chain is missing.
pub fn open_layer(
    top: (PathBuf, File),
    below: Vec<(PathBuf, File)>,
    options: OpenOptions,
) -> Result<Arc<dyn Disk>, DiskError> {
    Ok(Arc::new(ImageDisk::open_handed(top, below, options)?))
}

/// A process that has ended may hold its disks for a moment: the host closes the files of an `io_uring` in its own time.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// Opens and locks a file that must be a regular file or a block device.
pub(crate) fn open_file(path: &Path, read_only: bool) -> Result<File, DiskError> {
    let fail = |error| DiskError::Open { path: path.to_owned(), error };
    // Asked before it is opened: opening a pipe would wait for its other end.
    let kind = std::fs::metadata(path).map_err(fail)?.file_type();
    if !kind.is_file() && !is_block_device(kind) {
        return Err(DiskError::Kind(path.to_owned()));
    }
    let file = FileOptions::new().read(true).write(!read_only).open(path).map_err(fail)?;
    lock_file(&file, path, read_only)?;
    Ok(file)
}

/// Locks a file that is open, called `path`.
pub(crate) fn lock_file(file: &File, path: &Path, read_only: bool) -> Result<(), DiskError> {
    let operation = if read_only {
        FlockOperation::NonBlockingLockShared
    } else {
        FlockOperation::NonBlockingLockExclusive
    };
    for _ in 0..TRIES {
        match flock(file, operation) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => thread::sleep(PAUSE),
            Err(error) => return Err(DiskError::Open { path: path.to_owned(), error: error.into() }),
        }
    }
    Err(DiskError::InUse(path.to_owned()))
}

fn is_block_device(kind: FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_block_device(&kind)
}
