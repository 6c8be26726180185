//! Images in the format qcow2, with their backing chains.
//!
//! The format itself is read and written by `imago`; this room adds what a virtualiser needs around it: files are
//! locked, what backs an image is opened read-only, cycles end, and errors say what to do.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use imago::{
    FormatAccess, FormatDriverBuilder, Mapping, Storage as _, StorageOpenOptions,
    file::File as ImageFile,
    format::{PreallocateMode, gate::ImplicitOpenGate},
    qcow2::Qcow2,
};

use crate::{
    Disk, DiskError, Format, OpenOptions,
    copy::next_data,
    open::{lock_file, open_file},
};

const SECTOR: u64 = 512;
/// Longer chains than this are refused: each layer costs an open file and a look-up per read.
const MAX_CHAIN: usize = 100;

type Access = FormatAccess<ImageFile>;

/// A qcow2 image, locked while it is open.
pub struct ImageDisk {
    /// Discarding and growing change the mapping that reads and writes go by, so they are alone.
    access: RwLock<Access>,
    /// The same open file, to sync it while others read and write; `imago` would have them wait.
    file: fs::File,
    name: String,
    size: AtomicU64,
    options: OpenOptions,
    tables: Tables,
}

/// Which parts of a disk have been written to.
///
/// When a part of a qcow2 image is written to first, its table is entered in the file at once, but that the table's place is
/// taken only with the next flush. An end by force in between would have the place given away again. So there is a flush
/// after the first write to each part: seldom, for a part has half a gibibyte.
struct Tables {
    /// Bytes that one table describes.
    span: u64,
    known: Mutex<BTreeSet<u64>>,
}

impl Tables {
    /// Those of the qcow2 image in `file`: a table is a cluster of entries of 8 bytes, each for a cluster.
    fn of(file: &fs::File) -> Self {
        let mut bits = [0; 4];
        let known = file.read_exact_at(&mut bits, CLUSTER_BITS_AT).is_ok();
        let bits = if known { u32::from_be_bytes(bits).clamp(9, 21) } else { 9 };
        Self { span: 1 << (2 * bits - 3), known: Mutex::default() }
    }

    /// `len` bytes from `offset` on have been written: flushes if some of them lie in a part that is not known yet, and knows it
    /// then. A flush that fails is tried again after the next write; two writers may flush twice.
    fn settle(&self, offset: u64, len: u64, flush: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let parts = offset / self.span..=offset.saturating_add(len.saturating_sub(1)) / self.span;
        if parts.clone().all(|part| self.lock().contains(&part)) {
            return Ok(());
        }
        flush()?;
        self.lock().extend(parts);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a qcow2 image says how large its clusters are, as a power of two.
const CLUSTER_BITS_AT: u64 = 20;

impl ImageDisk {
    /// Opens the image in `path`; see [`crate::open`].
    ///
    /// # Errors
    /// [`DiskError`] when the file, or one that it builds on, cannot be opened, is in use or makes no sense.
    pub fn open(path: &Path, options: OpenOptions) -> Result<Self, DiskError> {
        let file = open_file(path, options.read_only)?;
        Self::of(file, path, options, Files::default())
    }

    /// Opens a qcow2 image that is handed over as open files, from the top down, with their names: this process may not be
    /// allowed to open them. What is below the top one is not locked: this process has had it open for writing so far.
    ///
    /// # Errors
    /// As [`ImageDisk::open`]; also when a file of the chain is missing.
    pub(crate) fn open_handed(
        (path, top): (PathBuf, fs::File),
        below: Vec<(PathBuf, fs::File)>,
        options: OpenOptions,
    ) -> Result<Self, DiskError> {
        lock_file(&top, &path, options.read_only)?;
        let files = Files { handed: Some(Arc::new(below)), ..Files::default() };
        Self::of(top, &path, options, files)
    }

    fn of(file: fs::File, path: &Path, options: OpenOptions, files: Files) -> Result<Self, DiskError> {
        let tables = Tables::of(&file);
        let same = file.try_clone().map_err(|error| DiskError::Open { path: path.to_owned(), error })?;
        let access = open_access(same, path, options.read_only, files)?;
        let size = access.size() / SECTOR * SECTOR;
        if size == 0 {
            return Err(DiskError::Empty(path.to_owned()));
        }
        let name = path.display().to_string();
        Ok(Self { access: RwLock::new(access), file, name, size: AtomicU64::new(size), options, tables })
    }

    fn shared(&self) -> RwLockReadGuard<'_, Access> {
        self.access.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn alone(&self) -> io::Result<RwLockWriteGuard<'_, Access>> {
        self.check_writable()?;
        Ok(self.access.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// After a change of `len` bytes from `offset` on.
    fn settle(&self, access: &Access, offset: u64, len: u64) -> io::Result<()> {
        self.tables.settle(offset, len, || access.flush())
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.options.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }
}

fn open_access(file: fs::File, path: &Path, read_only: bool, files: Files) -> Result<Access, DiskError> {
    let fail = |error: io::Error| DiskError::Image {
        path: path.to_owned(),
        format: Format::Qcow2.name(),
        why: error.to_string(),
        advice: "`qemu-img check` tells more; restore the file, or what it builds on, from a copy",
    };
    check_qcow2(&file).map_err(fail)?;
    if !read_only {
        check_counts(&file).map_err(fail)?;
    }
    let whole = fs::canonicalize(path).map_err(fail)?;
    let storage_options = StorageOpenOptions::new().filename(&whole).write(!read_only);
    let image = ImageFile::from_open_file(file, storage_options).map_err(fail)?;
    let gate = Chain { above: vec![whole], files };
    Qcow2::<ImageFile>::builder(image).write(!read_only).open(gate).map(Access::new).map_err(fail)
}

/// The files that the image in `path` builds on.
pub(crate) fn backing_files(path: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let files = Files::default();
    drop(open_access(open_file(path, true)?, path, true, files.clone())?);
    Ok(std::mem::take(&mut files.opened.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// The files below an image.
#[derive(Clone, Default)]
struct Files {
    /// What was opened.
    opened: Arc<Mutex<Vec<PathBuf>>>,
    /// Where they come from, if not from the file system.
    handed: Option<Arc<Vec<(PathBuf, fs::File)>>>,
}

impl Files {
    fn open(&self, path: &Path) -> Result<fs::File, DiskError> {
        let Some(handed) = &self.handed else { return open_file(path, true) };
        let fail = |error| DiskError::Open { path: path.to_owned(), error };
        let found = handed.iter().find(|(name, _)| name == path);
        let (_, file) = found.ok_or_else(|| fail(io::Error::other("it was not handed over")))?;
        file.try_clone().map_err(fail)
    }
}

/// Says in plain words what is most often wrong with a qcow2 file.
fn check_qcow2(mut file: &fs::File) -> io::Result<()> {
    let mut header = Vec::new();
    Read::by_ref(&mut file).take(104).read_to_end(&mut header)?;
    let word = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|b| b.try_into().ok());
        bytes.map(u32::from_be_bytes).ok_or_else(|| io::Error::other("it is too short to be a qcow2 image"))
    };
    if !header.starts_with(b"QFI\xfb") {
        return Err(io::Error::other("it does not begin like a qcow2 image"));
    }
    match word(4)? {
        2 | 3 => {}
        version => {
            return Err(io::Error::other(format!(
                "it has version {version} of the format; 2 and 3 are known"
            )));
        }
    }
    if word(32)? != 0 {
        return Err(io::Error::other("it is encrypted, which Tearless does not read"));
    }
    Ok(())
}

/// Checks that the image says of its header that its place is taken; else the next thing written would take it. `imago` relies
/// on that.
fn check_counts(file: &fs::File) -> io::Result<()> {
    let mut header = [0; 104];
    file.read_exact_at(&mut header, 0)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    let (version, table) = (number(&header[4..8]), number(&header[48..56]));
    // A power of two, in bits.
    let order = if version == 2 { 4 } else { number(&header[96..100]) };
    let mut entry = [0; 8];
    let mut count = [0; 8];
    let damaged = |_| io::Error::other("its reference counts lie outside of the file");
    file.read_exact_at(&mut entry, table).map_err(damaged)?;
    let block = number(&entry) & !0x1ff;
    file.read_exact_at(&mut count, block).map_err(damaged)?;
    // The first count is at the low end of its byte, or takes several.
    let first = match order {
        0..=2 => u64::from(count[0]) & ((1 << (1 << order)) - 1),
        3..=6 => number(&count[..1 << (order - 3)]),
        _ => return Err(io::Error::other("its reference counts are of an unknown size")),
    };
    if block == 0 || first == 0 {
        return Err(io::Error::other("by its reference counts, the place of its header is free"));
    }
    Ok(())
}

/// Opens what an image refers to.
#[derive(Clone)]
struct Chain {
    /// The files from the image down to here.
    above: Vec<PathBuf>,
    files: Files,
}

impl ImplicitOpenGate<ImageFile> for Chain {
    fn open_format<F: FormatDriverBuilder<ImageFile>>(&mut self, builder: F) -> io::Result<Access> {
        Ok(Access::new(builder.write(false).open(self.clone())?))
    }

    fn open_storage(&mut self, options: StorageOpenOptions) -> io::Result<ImageFile> {
        let path = options.get_filename().ok_or_else(|| io::Error::other("it refers to no file"))?;
        let wrong = |why: String| io::Error::other(format!("it builds on {}, {why}", path.display()));
        if options.get_writable() {
            return Err(wrong("an external data file, which Tearless does not use".into()));
        }
        let whole = fs::canonicalize(path).map_err(|e| wrong(format!("which cannot be opened: {e}")))?;
        if self.above.contains(&whole) {
            return Err(wrong("which builds on it in turn: a cycle".into()));
        }
        if self.above.len() >= MAX_CHAIN {
            return Err(wrong(format!("and more than {MAX_CHAIN} files stand below each other")));
        }
        let file = self.files.open(&whole).map_err(|error| match error {
            DiskError::InUse(_) => wrong("which another virtual machine writes to".into()),
            DiskError::Kind(_) => wrong("which is neither a file nor a block device".into()),
            DiskError::Open { error, .. } => wrong(format!("which cannot be opened: {error}")),
            other => wrong(other.to_string()),
        })?;
        let image = ImageFile::from_open_file(file, StorageOpenOptions::new().filename(&whole))?;
        self.files.opened.lock().unwrap_or_else(PoisonError::into_inner).push(whole.clone());
        self.above.push(whole);
        Ok(image)
    }
}

impl Disk for ImageDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn read_only(&self) -> bool {
        self.options.read_only
    }

    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        self.shared().read(data, offset)
    }

    fn data_from(&self, offset: u64) -> Option<Range<u64>> {
        let access = self.shared();
        let size = self.size();
        let mut at = offset;
        while at < size {
            // What cannot be told is read, and then the error is said.
            let Ok((mapping, len @ 1..)) = access.get_mapping(at, size - at) else { return Some(at..size) };
            let end = at.saturating_add(len).min(size);
            match mapping {
                Mapping::Zero { .. } => at = end,
                // The file, of this image or of one below, may have a hole there.
                Mapping::Raw { storage, offset: place, .. } => {
                    let file = storage.get_filename().and_then(|name| fs::File::open(name).ok());
                    let inside = file.map(|file| next_data(&file, place, place.saturating_add(end - at)));
                    match inside {
                        Some(Ok(None)) => at = end,
                        Some(Ok(Some((start, stop)))) => {
                            return Some(at + (start - place)..at + (stop - place));
                        }
                        Some(Err(_)) | None => return Some(at..end),
                    }
                }
                _ => return Some(at..end),
            }
        }
        None
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let access = self.shared();
        access.write(data, offset)?;
        self.settle(&access, offset, data.len() as u64)
    }

    fn flush(&self) -> io::Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        let access = self.shared();
        // The format's own tables go to the file in any case, so that the file survives the end of this process.
        access.flush()?;
        drop(access);
        self.options.sync.apply(&self.file)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut access = self.alone()?;
        // To zeros, not to anything: what a layer below holds must not come back.
        match access.discard_to_zero(offset, len) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            other => other.and_then(|()| self.settle(&access, offset, len)),
        }
    }

    fn write_zeroes(&self, offset: u64, len: u64, may_unmap: bool) -> io::Result<()> {
        let mut access = self.alone()?;
        if may_unmap {
            match access.discard_to_zero(offset, len) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                other => return other.and_then(|()| self.settle(&access, offset, len)),
            }
        }
        access.write_zeroes(offset, len)?;
        self.settle(&access, offset, len)
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        let access = self.alone()?;
        let size = size.checked_next_multiple_of(SECTOR).ok_or(io::ErrorKind::FileTooLarge)?;
        if size < self.size() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        access.resize_grow(size, PreallocateMode::Zero)?;
        access.flush()?;
        self.file.sync_all()?;
        self.size.fetch_max(size, Ordering::AcqRel);
        Ok(())
    }
}

impl Drop for ImageDisk {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::error!(disk = self.name, %error, "what was written last to a disk image may be lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn qemu_img(folder: &Path, args: &[&str]) -> bool {
        match Command::new("qemu-img").args(args).current_dir(folder).output() {
            Ok(output) => {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                true
            }
            Err(error) => {
                eprintln!("skipped: no qemu-img here: {error}");
                false
            }
        }
    }

    fn check(folder: &Path, image: &str) {
        qemu_img(folder, &["check", "-q", image]);
    }

    fn open(path: PathBuf, read_only: bool) -> Result<ImageDisk, DiskError> {
        ImageDisk::open(&path, OpenOptions { read_only, ..OpenOptions::default() })
    }

    fn bytes(disk: &ImageDisk, offset: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0xee; len];
        disk.read_at(&mut data, offset).unwrap();
        data
    }

    fn content() -> Vec<u8> {
        (0..2 << 20).map(|i: u32| if i % 8192 < 4096 { (i >> 12) as u8 } else { 0 }).collect()
    }

    #[test]
    fn reads_what_qemu_img_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        fs::write(at.join("raw"), content()).unwrap();
        for options in ["compat=0.10", "compat=1.1", "compat=1.1,cluster_size=4k"] {
            let args = ["convert", "-f", "raw", "-O", "qcow2", "-o", options, "raw", "a.qcow2"];
            if !qemu_img(at, &args) {
                return;
            }
            assert_eq!(bytes(&open(at.join("a.qcow2"), true).unwrap(), 0, 2 << 20), content(), "{options}");
            let args = ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, "raw", "c.qcow2"];
            qemu_img(at, &args);
            let disk = open(at.join("c.qcow2"), false).unwrap();
            assert_eq!(bytes(&disk, 0, 2 << 20), content(), "{options}, compressed");
            disk.write_at(&[0xaa; 700], 8000).unwrap();
            drop(disk);
            check(at, "c.qcow2");
            let disk = open(at.join("c.qcow2"), true).unwrap();
            assert_eq!(
                (bytes(&disk, 8000, 700), bytes(&disk, 8700, 1)),
                (vec![0xaa; 700], content()[8700..8701].to_vec())
            );
        }
    }

    #[test]
    fn an_end_by_force_leaves_no_table_in_a_place_that_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        if !qemu_img(at, &["create", "-q", "-f", "qcow2", "a.qcow2", "4G"]) {
            return;
        }
        let disk = open(at.join("a.qcow2"), false).unwrap();
        for (i, part) in [0, 3, 1, 5].into_iter().enumerate() {
            disk.write_at(&[1; 4096], part << 29).unwrap();
            // What is there if nothing more gets written.
            let left = format!("{i}.qcow2");
            fs::copy(at.join("a.qcow2"), at.join(&left)).unwrap();
            check(at, &left);
        }
        disk.discard(6 << 29, 1 << 16).unwrap();
        disk.write_zeroes(7 << 29, 1 << 16, false).unwrap();
        fs::copy(at.join("a.qcow2"), at.join("left.qcow2")).unwrap();
        check(at, "left.qcow2");
    }

    /// What may be other than zero, in ranges of `unit` bytes.
    fn told(disk: &dyn Disk, unit: u64) -> BTreeSet<u64> {
        let (mut units, mut from) = (BTreeSet::new(), 0);
        while let Some(data) = disk.data_from(from) {
            assert!(data.start >= from && data.end > data.start && data.end <= disk.size(), "{data:?}");
            units.extend(data.start / unit..data.end.div_ceil(unit));
            from = data.end;
        }
        units
    }

    #[test]
    fn what_was_never_written_is_told_through_a_chain() {
        const UNIT: u64 = 64 << 10;
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let raw = fs::File::create(at.join("raw")).unwrap();
        raw.set_len(1 << 30).unwrap();
        raw.write_all_at(&[1; 100], 5 * UNIT).unwrap();
        raw.write_all_at(&[1; 100], 9000 * UNIT).unwrap();
        raw.sync_all().unwrap();
        if !qemu_img(at, &["create", "-q", "-f", "qcow2", "-b", "raw", "-F", "raw", "mid.qcow2"]) {
            return;
        }
        let mid = open(at.join("mid.qcow2"), false).unwrap();
        mid.write_at(&[2; 100], 77 * UNIT).unwrap();
        mid.discard(9000 * UNIT, UNIT).unwrap();
        drop(mid);
        qemu_img(at, &["create", "-q", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", "top.qcow2"]);
        let top = open(at.join("top.qcow2"), false).unwrap();
        top.write_at(&[3; 100], 16383 * UNIT).unwrap();
        let told = told(&top, UNIT);
        // A file system may take more for data than was written, but not a hundred times as much.
        assert!([5, 77, 16383].iter().all(|unit| told.contains(unit)), "{told:?}");
        assert!(told.len() < 300 && !told.contains(&9000), "{told:?}");
        let zero = |unit: u64| bytes(&top, unit * UNIT, 64 << 10).iter().all(|byte| *byte == 0);
        assert!((0..16384).filter(|unit| !told.contains(unit)).all(zero));
    }

    #[test]
    fn a_chain_is_written_at_its_top_only() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        fs::write(at.join("raw"), content()).unwrap();
        if !qemu_img(at, &["create", "-q", "-f", "qcow2", "-b", "raw", "-F", "raw", "mid.qcow2"]) {
            return;
        }
        qemu_img(at, &["create", "-q", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", "top.qcow2"]);
        let below = |name: &str| fs::read(at.join(name)).unwrap();
        let before = (below("raw"), below("mid.qcow2"));
        let disk = open(at.join("top.qcow2"), false).unwrap();
        assert!(matches!(open(at.join("top.qcow2"), true), Err(DiskError::InUse(_))));
        assert!(open(at.join("mid.qcow2"), false).is_err(), "a base is not written while it is one");
        disk.write_at(&[0xaa; 1000], 4000).unwrap();
        disk.discard(65536, 65536).unwrap();
        disk.write_zeroes(262_144, 1000, true).unwrap();
        disk.grow(3 << 20).unwrap();
        disk.flush().unwrap();
        drop(disk);
        check(at, "top.qcow2");
        assert_eq!((below("raw"), below("mid.qcow2")), before);
        let mut expected = content();
        expected.resize(3 << 20, 0);
        expected[4000..5000].fill(0xaa);
        expected[65536..131_072].fill(0);
        expected[262_144..263_144].fill(0);
        let disk = open(at.join("top.qcow2"), true).unwrap();
        assert_eq!(disk.size(), 3 << 20);
        assert!(bytes(&disk, 0, 3 << 20) == expected);
        assert!(disk.write_at(&[0; 512], 0).is_err());
    }

    #[test]
    fn says_what_is_wrong_with_an_image() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let error = |name: &str| open(at.join(name), true).map(|_| ()).unwrap_err().to_string();
        fs::write(at.join("no"), [0; 4096]).unwrap();
        assert!(error("no").contains("does not begin like"), "{}", error("no"));
        fs::write(at.join("cut"), b"QFI\xfb\0\0\0\x03").unwrap();
        assert!(error("cut").contains("too short"), "{}", error("cut"));
        fs::write(at.join("raw"), content()).unwrap();
        if !qemu_img(at, &["create", "-q", "-f", "qcow2", "a.qcow2", "1M"]) {
            return;
        }
        let mut image = fs::read(at.join("a.qcow2")).unwrap();
        for (byte, value, hint) in [(7, 9, "version 9"), (35, 2, "encrypted")] {
            let mut bad = image.clone();
            bad[byte] = value;
            fs::write(at.join("bad"), bad).unwrap();
            assert!(error("bad").contains(hint), "{}", error("bad"));
        }
        // Tables that lie far outside, sizes that no memory holds: errors, not crashes.
        for at_byte in 20..72 {
            image[at_byte] ^= 0xff;
            fs::write(at.join("bad"), &image).unwrap();
            if let Ok(disk) = open(at.join("bad"), true) {
                let _ = disk.read_at(&mut [0; 512], 0);
            }
            image[at_byte] ^= 0xff;
        }
        // Reference counts that say that nothing is in use: good enough to read.
        let table = u64::from_be_bytes(image[48..56].try_into().unwrap()) as usize;
        let block = u64::from_be_bytes(image[table..table + 8].try_into().unwrap()) as usize;
        for count in [table + 5, block + 1] {
            let mut bad = image.clone();
            bad[count] = 0;
            fs::write(at.join("bad"), bad).unwrap();
            let refused = open(at.join("bad"), false).map(|_| ()).unwrap_err().to_string();
            assert!(refused.contains("header is free"), "{refused}");
            open(at.join("bad"), true).unwrap();
        }
        qemu_img(at, &["create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "b.qcow2"]);
        qemu_img(at, &["rebase", "-u", "-f", "qcow2", "-b", "b.qcow2", "-F", "qcow2", "a.qcow2"]);
        assert!(error("a.qcow2").contains("cycle"), "{}", error("a.qcow2"));
        fs::remove_file(at.join("a.qcow2")).unwrap();
        let missing = error("b.qcow2");
        assert!(missing.contains("a.qcow2") && missing.contains("cannot be opened"), "{missing}");
    }
}
