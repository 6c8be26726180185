//! Copies of disks that take no more room than they must.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use rustix::io::Errno;

use crate::{Disk, DiskError, Format, open};

/// How much is copied at a time.
const BLOCK: usize = 1 << 20;

/// Makes the new file `to` with the content of `from`, which must not change meanwhile: one that shares its blocks where
/// the file system can do that, else a copy with the same holes. It can be written, and is durable when this returns.
///
/// # Errors
/// [`DiskError::Create`] when one cannot be read or the other not written; then there is no new file.
pub fn copy(from: &Path, to: &Path) -> Result<(), DiskError> {
    let fail = |error| DiskError::Create { path: to.to_owned(), error };
    let copied = match reflink_copy::reflink(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(fail(error)),
        Err(_) => copy_data(from, to),
    };
    copied.and_then(|()| settle(to)).map_err(|error| {
        if error.kind() != io::ErrorKind::AlreadyExists {
            // It is of no use; what matters is the first error.
            let _ = fs::remove_file(to);
        }
        fail(error)
    })
}

/// Makes the new raw file `to` with the content of the image `from`, whatever it is and whatever backs it. What is zero takes no
/// room.
///
/// # Errors
/// [`DiskError`] when the one cannot be read or the other not written; then there is no new file.
pub fn flatten(from: &Path, format: Option<Format>, to: &Path) -> Result<(), DiskError> {
    let disk = open(from, crate::OpenOptions { read_only: true, format, ..crate::OpenOptions::default() })?;
    if disk.raw().is_some() {
        return copy(from, to);
    }
    let fail = |error| DiskError::Create { path: to.to_owned(), error };
    let file = OpenOptions::new().write(true).create_new(true).open(to).map_err(fail)?;
    fill(&*disk, &file).map_err(|error| {
        // It is of no use; what matters is the first error.
        let _ = fs::remove_file(to);
        fail(error)
    })
}

fn fill(disk: &dyn Disk, file: &File) -> io::Result<()> {
    file.set_len(disk.size())?;
    let mut buffer = vec![0; BLOCK];
    let mut from = 0;
    while let Some(data) = disk.data_from(from) {
        let mut at = data.start;
        while at < data.end {
            let len = usize::try_from(data.end - at).unwrap_or(BLOCK).min(BLOCK);
            let block = &mut buffer[..len];
            disk.read_at(block, at)?;
            if block.iter().any(|byte| *byte != 0) {
                file.write_all_at(block, at)?;
            }
            at += len as u64;
        }
        from = data.end;
    }
    file.sync_all()
}

fn settle(path: &Path) -> io::Result<()> {
    let mut permissions = fs::metadata(path)?.permissions();
    // The original may be frozen; the copy is to be written.
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(path, permissions)?;
    File::open(path)?.sync_all()
}

/// Copies what is no hole, and no block of zeros: a file system may not tell its holes.
fn copy_data(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).open(to)?;
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut buffer = vec![0; BLOCK];
    let mut at = 0;
    while let Some((start, end)) = next_data(&source, at, size)? {
        source.seek(SeekFrom::Start(start))?;
        at = start;
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(BLOCK).min(BLOCK);
            let block = &mut buffer[..len];
            source.read_exact(block)?;
            if block.iter().any(|byte| *byte != 0) {
                target.seek(SeekFrom::Start(at))?;
                target.write_all(block)?;
            }
            at += len as u64;
        }
    }
    Ok(())
}

/// Where data lies next, from `at` on and before `size`.
pub(crate) fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(start) if start >= size => Ok(None),
        Ok(start) => {
            let end = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(start))?;
            Ok(Some((start, end.min(size))))
        }
        // Only a hole is left.
        Err(Errno::NXIO) => Ok(None),
        // It knows no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some((at, size))),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_copy_has_the_same_bytes_and_holes() {
        let dir = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| dir.path().join(name));
        let file = File::create(&from).unwrap();
        file.set_len((100 << 20) + 3).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(&[7; 5000], 50 << 20).unwrap();
        file.write_all_at(b"end", 100 << 20).unwrap();
        fs::set_permissions(&from, std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
        for copy in [copy, |from: &Path, to: &Path| copy_data(from, to).map_err(|_| unreachable!())] {
            copy(&from, &to).unwrap();
            assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
            assert!(fs::metadata(&to).unwrap().blocks() * 512 < 8 << 20, "the holes are gone");
            assert!(!fs::metadata(&to).unwrap().permissions().readonly());
            fs::remove_file(&to).unwrap();
        }
    }

    #[test]
    fn what_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| dir.path().join(name));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        assert!(copy(&from, &to).is_err());
        assert_eq!(fs::read(&to).unwrap(), b"old");
        assert!(copy(&dir.path().join("none"), &dir.path().join("other")).is_err());
        assert!(!dir.path().join("other").exists());
    }
}
