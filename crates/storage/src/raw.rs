//! Raw disks: byte `n` of the disk is byte `n` of the file.
//!
//! As with QEMU, a file whose length is no multiple of 512 is presented rounded up: the bytes past its end read as
//! zeros, and the first write to them makes the file longer.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    Cache, Disk, DiskError, OpenOptions, Sync,
    copy::next_data,
    format::{HEAD, recognise},
    open::open_file,
    sparse::{Outcome, punch, zero},
};

const SECTOR: u64 = 512;
/// Zeros are written so many bytes at a time where the host cannot make them by itself.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A raw disk, locked while it is open.
#[derive(Debug)]
pub struct RawDisk {
    file: File,
    /// The same file once more, past the host's cache. The host keeps both views coherent.
    direct: Option<File>,
    name: String,
    size: AtomicU64,
    options: OpenOptions,
}

impl RawDisk {
    /// Opens the raw disk in `path`; see [`crate::open`].
    ///
    /// Unless the format is said to be raw, images of other formats are recognised by how they begin and refused, here and
    /// never later: what a guest writes into its disk does not matter once it is open.
    ///
    /// # Errors
    /// [`DiskError`] when the file cannot be opened, is in use or is not raw.
    pub fn open(path: &Path, options: OpenOptions) -> Result<Self, DiskError> {
        let fail = |error| DiskError::Open { path: path.to_owned(), error };
        let file = open_file(path, options.read_only)?;
        let length = (&file).seek(SeekFrom::End(0)).map_err(fail)?;
        if length == 0 {
            return Err(DiskError::Empty(path.to_owned()));
        }
        if options.format.is_none() {
            refuse_other_formats(&file, path)?;
        }
        let size = length
            .checked_next_multiple_of(SECTOR)
            .ok_or_else(|| fail(io::ErrorKind::FileTooLarge.into()))?;
        let direct = match options.cache {
            Cache::Host => None,
            Cache::None => open_direct(path, options.read_only),
        };
        Ok(Self { file, direct, name: path.display().to_string(), size: AtomicU64::new(size), options })
    }

    /// The file, by way of the host's cache.
    #[allow(dead_code, reason = "only io_uring wants it")]
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The file, past the host's cache; only io_uring uses it. `None` when that is not wanted or not possible.
    #[allow(dead_code, reason = "only io_uring wants it")]
    pub(crate) fn direct(&self) -> Option<&File> {
        self.direct.as_ref()
    }

    /// What a flush does.
    #[allow(dead_code, reason = "only io_uring wants it")]
    pub(crate) fn sync(&self) -> Sync {
        self.options.sync
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.options.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }
}

/// Not every file system can; then the host's cache is used, which is slower for some loads but never wrong.
#[cfg(target_os = "linux")]
fn open_direct(path: &Path, read_only: bool) -> Option<File> {
    use std::fs::OpenOptions as FileOptions;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()?;
    match FileOptions::new().read(true).write(!read_only).custom_flags(flags).open(path) {
        Ok(file) => Some(file),
        Err(error) => {
            tracing::warn!(disk = %path.display(), %error, "cannot go past the host's cache; using it");
            None
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn open_direct(path: &Path, _: bool) -> Option<File> {
    tracing::warn!(disk = %path.display(), "this host has no way past its cache that Tearless knows; using it");
    None
}

fn refuse_other_formats(file: &File, path: &Path) -> Result<(), DiskError> {
    let mut head = [0; HEAD];
    let path = path.to_owned();
    match read_or_zero(file, &mut head, 0) {
        Err(error) => Err(DiskError::Open { path, error }),
        Ok(()) => match recognise(&head) {
            Some(found) if found.known => {
                Err(DiskError::LooksLike { path, name: found.name, format: found.qemu })
            }
            Some(found) => Err(DiskError::Format { path, format: found.name, qemu: found.qemu }),
            None => Ok(()),
        },
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
        self.size.load(Ordering::Acquire)
    }

    fn data_from(&self, offset: u64) -> Option<Range<u64>> {
        let size = self.size();
        match next_data(self.file(), offset, size) {
            Ok(data) => data.map(|(start, end)| start..end),
            Err(_) => Some(offset..size),
        }
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
        self.options.sync.apply(&self.file)
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

    fn grow(&self, size: u64) -> io::Result<()> {
        self.check_writable()?;
        let size = size.checked_next_multiple_of(SECTOR).ok_or(io::ErrorKind::FileTooLarge)?;
        if size < self.size() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if !self.file.metadata()?.is_file() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if self.file.metadata()?.len() < size {
            self.file.set_len(size)?;
            self.file.sync_all()?;
        }
        self.size.fetch_max(size, Ordering::AcqRel);
        Ok(())
    }

    fn raw(&self) -> Option<&RawDisk> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::Format;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn open(file: &tempfile::NamedTempFile) -> Result<RawDisk, DiskError> {
        RawDisk::open(file.path(), OpenOptions::default())
    }

    #[test]
    fn reads_back_what_was_written() {
        for sync in [Sync::Full, Sync::Fsync, Sync::None] {
            let file = file(&[7; 4096]);
            let disk = RawDisk::open(file.path(), OpenOptions { sync, ..OpenOptions::default() }).unwrap();
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
        let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
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
        assert!(error.contains("a qcow2 image") && error.contains(":format=qcow2"), "{error}");
        let mut sparse = b"KDMV".to_vec();
        sparse.resize(512, 0);
        assert!(open(&file(&sparse)).unwrap_err().to_string().contains(":format=vmdk"));
        let mut other = b"vhdxfile".to_vec();
        other.resize(512, 0);
        assert!(open(&file(&other)).unwrap_err().to_string().contains("qemu-img convert -f vhdx"));
        assert!(matches!(open(&file(&[])), Err(DiskError::Empty(_))));
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            RawDisk::open(folder.path(), OpenOptions { read_only: true, ..OpenOptions::default() }),
            Err(DiskError::Kind(_))
        ));
        let missing = RawDisk::open(&folder.path().join("none"), OpenOptions::default()).unwrap_err();
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
        assert!(matches!(open(&file), Err(DiskError::LooksLike { .. })));
        let known = OpenOptions { format: Some(Format::Raw), ..OpenOptions::default() };
        assert_eq!(RawDisk::open(file.path(), known).unwrap().size(), 512);
    }

    #[test]
    fn grows_and_never_shrinks() {
        let file = file(&[7; 1024]);
        let disk = open(&file).unwrap();
        disk.grow(4000).unwrap();
        assert_eq!((disk.size(), file.as_file().metadata().unwrap().len()), (4096, 4096));
        let mut data = [1; 512];
        disk.read_at(&mut data, 3584).unwrap();
        assert_eq!(data, [0; 512]);
        assert_eq!(disk.grow(2048).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(disk.size(), 4096);
        drop(disk);
        let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
        assert!(RawDisk::open(file.path(), read_only).unwrap().grow(8192).is_err());
    }
}
