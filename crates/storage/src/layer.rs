//! Disks on top of disks: what changes goes into a new file, what it builds on stays as it is.

use std::{
    fs::{self, File, OpenOptions as FileOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use imago::{FormatCreateBuilder, StorageOpenOptions, file::File as ImageFile, qcow2::Qcow2};

use crate::{Disk, DiskError, Format, OpenOptions, Sync, is_remote, open, open::open_file};

type Image = Qcow2<ImageFile>;

/// Makes a writable disk with the content of `base`, which must not change any more: a file that shares its blocks where
/// the file system can do that (then the layer has the base's format), else a qcow2 overlay. The file is `stem` with an
/// extension; it is durable when this returns. `reference` is what the base is called in an overlay: a path relative to
/// the overlay's folder, or an absolute one.
///
/// # Errors
/// [`DiskError`] when the base cannot be read or the layer cannot be written; then there is no new file.
pub fn derive(
    base: &Path,
    format: Format,
    stem: &Path,
    reference: &Path,
) -> Result<(PathBuf, Format), DiskError> {
    let extension = if format == Format::Raw { "img" } else { format.name() };
    // A qcow2 file that is copied into another folder would look for its own base there.
    let movable = format == Format::Raw || base.parent() == stem.parent();
    let copy = stem.with_extension(extension);
    if movable && format != Format::Vmdk && share_blocks(base, &copy)? {
        return Ok((copy, format));
    }
    let path = stem.with_extension(Format::Qcow2.name());
    overlay(base, format, &path, reference)?;
    Ok((path, Format::Qcow2))
}

/// Makes `copy` a writable file with the content of `base` and without taking room. Returns whether the file system can do
/// that; else there is no `copy`. It is durable when this returns.
///
/// # Errors
/// [`DiskError`] when the copy cannot be made durable; then there is none.
pub fn share_blocks(base: &Path, copy: &Path) -> Result<bool, DiskError> {
    if reflink_copy::reflink(base, copy).is_err() {
        return Ok(false);
    }
    let settle = || {
        let mut permissions = fs::metadata(copy)?.permissions();
        // The base may be frozen; the copy is to be written.
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
        fs::set_permissions(copy, permissions)?;
        File::open(copy)?.sync_all()
    };
    settle().map(|()| true).map_err(|error| abandon(copy, error))
}

/// Writes the qcow2 file `path` over `base`.
fn overlay(base: &Path, format: Format, path: &Path, reference: &Path) -> Result<(), DiskError> {
    let read_only = OpenOptions { read_only: true, format: Some(format), ..OpenOptions::default() };
    let size = open(base, read_only)?.size();
    overlay_of(size, format, path, reference)
}

/// Most bytes of a disk to write a layer over: its table of tables is 16 MiB then. A VM's process, which may have been taken over, says
/// how large its disks are.
const MOST: u64 = 1 << 50;

/// Writes the qcow2 file `path` over a disk of `size` bytes, at most a pebibyte, which is not looked at: somebody may be writing to it. The file
/// is durable when this returns. `reference` is what the disk is called, as in [`derive`].
///
/// # Errors
/// [`DiskError`] when the host refuses; then there is no file.
pub fn overlay_of(size: u64, format: Format, path: &Path, reference: &Path) -> Result<(), DiskError> {
    let create = || -> io::Result<()> {
        if size > MOST {
            return Err(io::Error::other("no disk is that large"));
        }
        let reference =
            reference.to_str().ok_or_else(|| io::Error::other("the base's name is not UTF-8"))?.to_owned();
        let file = FileOptions::new().read(true).write(true).create_new(true).open(path)?;
        let image = ImageFile::from_open_file(file, StorageOpenOptions::new().filename(path).write(true))?;
        Image::create_builder(image).size(size).backing(reference, format.name().to_owned()).create()?;
        File::open(path)?.sync_all()
    };
    create().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => DiskError::Create { path: path.to_owned(), error },
        _ => abandon(path, error),
    })
}

fn abandon(path: &Path, error: io::Error) -> DiskError {
    // It is of no use; what matters is the first error.
    let _ = fs::remove_file(path);
    DiskError::Create { path: path.to_owned(), error }
}

/// What the image in `path` builds on, as its header says; `None` for a disk of its own.
///
/// # Errors
/// [`DiskError`] when the file cannot be read or makes no sense.
pub fn base_of(path: &Path, format: Format) -> Result<Option<PathBuf>, DiskError> {
    if format != Format::Qcow2 {
        return Ok(None);
    }
    let fail = |error: io::Error| DiskError::Image {
        path: path.to_owned(),
        format: format.name(),
        why: error.to_string(),
        advice: "`qemu-img check` tells more; restore the file from a copy",
    };
    let file = File::open(path).map_err(fail)?;
    let image = ImageFile::from_open_file(file, StorageOpenOptions::new().filename(path)).map_err(fail)?;
    let image = Image::open_image(image, false).map_err(fail)?;
    Ok(image.implicit_backing_file().map(PathBuf::from))
}

/// Opens the disk in `path` so that all changes are thrown away when it is closed, or when this process ends in whatever
/// way: they go to a file in `folder` that has no name. The disk in `path` is only read.
///
/// # Errors
/// As [`open`], or when nothing can be written in `folder`.
pub fn open_ephemeral(path: &Path, options: OpenOptions, folder: &Path) -> Result<Arc<dyn Disk>, DiskError> {
    if is_remote(path) {
        return Err(DiskError::Server {
            path: path.to_owned(),
            why: "changes to what a server holds cannot be kept elsewhere and thrown away".into(),
            advice: "attach it read-only (URL:ro), or have the server do it: `qemu-nbd --snapshot`",
        });
    }
    let format = options.format.or_else(|| Format::of_name(path)).unwrap_or(Format::Raw);
    if format == Format::Vmdk {
        return Err(DiskError::Image {
            path: path.to_owned(),
            format: format.name(),
            why: "what is thrown away needs a layer above it, and no layer can be above a VMDK image".into(),
            advice: "attach it read-only (FILE:ro), or `qemu-img convert -O qcow2` it",
        });
    }
    if options.format.is_none() && format == Format::Raw {
        // The rule for disks that only look raw holds here too.
        open(path, OpenOptions { read_only: true, ..options })?;
    }
    let fail = |error| DiskError::Open { path: path.to_owned(), error };
    let whole = fs::canonicalize(path).map_err(fail)?;
    let folder =
        fs::canonicalize(folder).map_err(|error| DiskError::Create { path: folder.to_owned(), error })?;
    // Whoever writes to it holds this lock; who only reads, as we do, may be many.
    drop(open_file(&whole, true)?);
    let stem = folder.join(format!(".ephemeral-{}-{:x}", std::process::id(), unique()));
    let (layer, format) = derive(&whole, format, &stem, &whole)?;
    let disk = open(&layer, OpenOptions { format: Some(format), sync: Sync::None, ..options });
    fs::remove_file(&layer).map_err(|error| DiskError::Create { path: layer, error })?;
    disk
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(disk: &dyn Disk) -> Vec<u8> {
        let mut data = vec![0; disk.size() as usize];
        disk.read_at(&mut data, 0).unwrap();
        data
    }

    fn with(format: Format) -> OpenOptions {
        OpenOptions { format: Some(format), ..OpenOptions::default() }
    }

    #[test]
    fn a_size_that_no_disk_has_makes_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge.qcow2");
        overlay_of(MOST + 1, Format::Raw, &path, Path::new("base.img")).unwrap_err();
        assert!(!path.exists());
    }

    #[test]
    fn layers_build_on_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("base.img"), vec![7; 300_000]).unwrap();
        overlay(&at("base.img"), Format::Raw, &at("a.qcow2"), Path::new("base.img")).unwrap();
        assert_eq!(base_of(&at("a.qcow2"), Format::Qcow2).unwrap(), Some("base.img".into()));
        let disk = open(&at("a.qcow2"), with(Format::Qcow2)).unwrap();
        assert_eq!(disk.size(), 300_032, "whole sectors");
        disk.write_at(&[1; 512], 100_000).unwrap();
        drop(disk);
        overlay(&at("a.qcow2"), Format::Qcow2, &at("b.qcow2"), Path::new("a.qcow2")).unwrap();
        let disk = open(&at("b.qcow2"), with(Format::Qcow2)).unwrap();
        disk.write_at(&[2; 512], 100_512).unwrap();
        let mut expected = vec![7; 300_000];
        expected.resize(300_032, 0);
        expected[100_000..100_512].fill(1);
        assert!(
            bytes(&*open(&at("a.qcow2"), OpenOptions { read_only: true, ..with(Format::Qcow2) }).unwrap())
                == expected
        );
        expected[100_512..101_024].fill(2);
        assert!(bytes(&*disk) == expected);
        let refused = overlay(&at("base.img"), Format::Raw, &at("a.qcow2"), Path::new("base.img"));
        assert!(matches!(refused, Err(DiskError::Create { .. })));
        assert!(at("a.qcow2").exists(), "an existing file is left alone");
    }

    #[test]
    fn what_is_ephemeral_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base.img");
        fs::write(&path, vec![7; 4096]).unwrap();
        let first = open_ephemeral(&path, OpenOptions::default(), folder.path()).unwrap();
        let second = open_ephemeral(&path, OpenOptions::default(), folder.path()).unwrap();
        first.write_at(&[1; 4096], 0).unwrap();
        first.flush().unwrap();
        assert_eq!((bytes(&*first), bytes(&*second)), (vec![1; 4096], vec![7; 4096]));
        drop((first, second));
        assert_eq!(fs::read(&path).unwrap(), vec![7; 4096]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let vmdk = folder.path().join("x.vmdk");
        let refused = open_ephemeral(&vmdk, OpenOptions::default(), folder.path()).map(drop).unwrap_err();
        assert!(refused.to_string().contains("no layer can be above a VMDK"), "{refused}");
        let _writer = open(&path, OpenOptions::default()).unwrap();
        assert!(matches!(
            open_ephemeral(&path, OpenOptions::default(), folder.path()),
            Err(DiskError::InUse(_))
        ));
    }
}
