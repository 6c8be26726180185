//! Files and folders as a stream: a tar archive whose paths are relative to what is copied.
//!
//! A file is an archive with the one entry `.`; a folder is its own entry `.` and what it holds. Modes, times, symbolic
//! links and holes are kept; owners are not, nor are devices, sockets and pipes.
//!
//! Whoever unpacks trusts nobody: entries that would lead out of the target are refused, and so is everything that is no
//! file, folder or link. What breaks off leaves nothing that is not whole: see [`Unpack::unpack`].

mod stage;

use std::{
    cell::Cell,
    fs::{self, File, FileTimes, Metadata, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Component, Path, PathBuf},
    rc::Rc,
    time::{Duration, SystemTime},
};

pub use stage::Stage;
use tar::{Archive, Builder, Entry, EntryType, Header};

/// Files of no size, such as those of procfs, may have content all the same; so much of it is taken.
const UNSIZED: u64 = 16 << 20;
/// No file system of today takes larger files. A sparse file may claim any size, and its zeros are not sent.
const LARGEST: u64 = 16 << 40;
/// What is said of a file before its content: its name, and where its holes are. All of that is kept in memory.
const LONGEST_HEADERS: u64 = 16 << 20;
/// What is to be done with each folder is kept until the end.
const MOST_FOLDERS: usize = 1 << 20;

/// What was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many.
    pub count: u64,
    /// Why the first one was.
    pub why: Option<String>,
}

impl Skipped {
    fn note(&mut self, path: &Path, why: impl std::fmt::Display) {
        self.count += 1;
        self.why.get_or_insert_with(|| format!("{}: {why}", path.display()));
    }
}

/// How many bytes of content are in `path`. What cannot be read counts for nothing.
pub fn size(path: &Path) -> u64 {
    let Ok(metadata) = fs::metadata(path) else { return 0 };
    if metadata.is_dir() { folder_size(path) } else { content_size(&metadata) }
}

fn content_size(metadata: &Metadata) -> u64 {
    metadata.len().min(metadata.blocks().saturating_mul(512))
}

fn folder_size(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, metadata)| match metadata.is_dir() {
            true => folder_size(&path),
            false if metadata.is_file() => content_size(&metadata),
            false => 0,
        })
        .sum()
}

/// Writes the file or folder `path` to `to`. A symbolic link at `path` itself is followed.
///
/// # Errors
/// When `path` cannot be read or `to` fails. What inside of a folder cannot be read is skipped.
pub fn pack(path: &Path, to: impl Write) -> io::Result<Skipped> {
    let path = fs::canonicalize(path)?;
    let metadata = fs::metadata(&path)?;
    let mut packer = Packer { archive: Builder::new(to), skipped: Skipped::default() };
    packer.archive.follow_symlinks(false);
    if metadata.is_dir() {
        packer.folder(&path, Path::new("."), &metadata)?;
    } else if metadata.is_file() {
        let file = File::open(&path)?;
        packer.file(&path, file, Path::new("."), &metadata)?;
    } else {
        let why = format!("{} is neither a file nor a folder", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    packer.archive.into_inner()?.flush()?;
    Ok(packer.skipped)
}

struct Packer<W: Write> {
    archive: Builder<W>,
    skipped: Skipped,
}

impl<W: Write> Packer<W> {
    fn folder(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> io::Result<()> {
        let mut header = header(metadata, EntryType::Directory);
        self.archive.append_data(&mut header, name, io::empty())?;
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => {
                self.skipped.note(path, error);
                return Ok(());
            }
        };
        // Unlike the order of the disk, that of the names is the same each time.
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for child in names {
            self.child(&path.join(&child), &name.join(&child))?;
        }
        Ok(())
    }

    fn child(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => {
                self.skipped.note(path, error);
                return Ok(());
            }
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            self.folder(path, name, &metadata)
        } else if kind.is_symlink() {
            match fs::read_link(path) {
                Ok(target) => {
                    let mut header = header(&metadata, EntryType::Symlink);
                    self.archive.append_link(&mut header, name, target)
                }
                Err(error) => {
                    self.skipped.note(path, error);
                    Ok(())
                }
            }
        } else if kind.is_file() {
            match File::open(path) {
                Ok(file) => self.file(path, file, name, &metadata),
                Err(error) => {
                    self.skipped.note(path, error);
                    Ok(())
                }
            }
        } else {
            self.skipped.note(path, "it is a device, socket or pipe");
            Ok(())
        }
    }

    fn file(&mut self, path: &Path, mut file: File, name: &Path, metadata: &Metadata) -> io::Result<()> {
        let size = metadata.len();
        if size > 0 && metadata.blocks().saturating_mul(512) < size {
            // With holes.
            return self.archive.append_file(name, &mut file);
        }
        let mut header = header(metadata, EntryType::Regular);
        if size == 0 {
            let mut content = Vec::new();
            if let Err(error) = file.take(UNSIZED).read_to_end(&mut content) {
                self.skipped.note(path, error);
                return Ok(());
            }
            header.set_size(content.len() as u64);
            return self.archive.append_data(&mut header, name, content.as_slice());
        }
        header.set_size(size);
        // A file that shrinks meanwhile is filled up, for its size was said already.
        let exact = file.chain(io::repeat(0)).take(size);
        self.archive.append_data(&mut header, name, exact)
    }
}

fn header(metadata: &Metadata, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(metadata.mode() & 0o7777);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header
}

/// A stream of which so much may be read yet.
struct Metered<R> {
    from: R,
    budget: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let budget = self.budget.get();
        if budget == 0 && !into.is_empty() {
            let why = "what is said of a file is longer than 16 MiB";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let most = usize::try_from(budget).unwrap_or(usize::MAX).min(into.len());
        let (into, _) = into.split_at_mut(most);
        let len = self.from.read(into)?;
        self.budget.set(budget.saturating_sub(len as u64));
        Ok(len)
    }
}

/// How to unpack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unpack {
    /// Keep the set-user-ID, set-group-ID and sticky bits.
    pub special_bits: bool,
}

/// A tree that has arrived. What is new appears at its place with [`Unpacked::place`] only; dropping this removes it.
#[must_use = "nothing is at its place yet"]
pub struct Unpacked {
    target: PathBuf,
    /// What `target` is made of, unless it is a folder that is added to.
    stage: Option<Stage>,
    /// Paths in the target, modes and times, for the end: modes may forbid writing.
    folders: Vec<(PathBuf, u32, u64)>,
}

impl Unpacked {
    /// Puts it at its place.
    ///
    /// # Errors
    /// When the host's file system refuses.
    pub fn place(self) -> io::Result<()> {
        if let Some(stage) = self.stage {
            stage.place(&self.target)?;
        }
        for (name, mode, mtime) in self.folders.into_iter().rev() {
            let folder = File::open(join(&self.target, &name))?;
            folder.set_permissions(Permissions::from_mode(mode))?;
            set_mtime(&folder, mtime)?;
        }
        Ok(())
    }

    /// The folder that the names of the tree begin at, once there is one.
    fn root(&self) -> Option<&Path> {
        match &self.stage {
            Some(stage) => Some(stage.path()),
            None => (!self.folders.is_empty()).then_some(&self.target),
        }
    }

    fn folder(&mut self, name: PathBuf, mode: u32, mtime: u64) -> io::Result<PathBuf> {
        if self.folders.len() == MOST_FOLDERS {
            return Err(invalid(format!("there are more than {MOST_FOLDERS} folders")));
        }
        let path = match self.root() {
            Some(root) => join(root, &name),
            // The target itself may be a link to a folder; inside, a link could be one that the tree brought.
            None if self.target.is_dir() => self.target.clone(),
            None => {
                let stage = Stage::folder(parent(&self.target))?;
                self.stage.insert(stage).path().to_owned()
            }
        };
        if !name.as_os_str().is_empty() {
            make_folder(&path)?;
        }
        self.folders.push((name, mode, mtime));
        Ok(path)
    }
}

impl Unpack {
    /// Reads a tree from `from`, for `target`: a folder that exists is added to, file by file, each of which replaces one that
    /// was there when it is whole. What is new is put at its place by the result, all at once. Calls `made` for everything that
    /// it makes, with the name that it has then.
    ///
    /// # Errors
    /// When the stream is broken or malicious, or the host's file system fails.
    pub fn unpack(self, from: impl Read, target: &Path, mut made: impl FnMut(&Path)) -> io::Result<Unpacked> {
        let budget = Rc::new(Cell::new(u64::MAX));
        let mut archive = Archive::new(Metered { from, budget: budget.clone() });
        let mut unpacked = Unpacked { target: target.to_owned(), stage: None, folders: Vec::new() };
        let mut entries = archive.entries()?;
        loop {
            budget.set(LONGEST_HEADERS);
            let Some(entry) = entries.next() else { break };
            let mut entry = entry?;
            if unpacked.stage.is_some() && unpacked.folders.is_empty() {
                return Err(invalid("something follows a file that was to come alone".into()));
            }
            let name = relative(&entry.path()?)?;
            let is_root = name.as_os_str().is_empty();
            // Its kind is that of the first entry.
            let path = match (is_root, unpacked.root()) {
                (true, _) => target.to_owned(),
                (false, Some(root)) => {
                    check_parents(root, &name)?;
                    root.join(&name)
                }
                (false, None) => return Err(invalid("it does not begin with what is copied".into())),
            };
            match entry.header().entry_type() {
                EntryType::Directory => {
                    let (mode, mtime) = (self.mode(&entry)?, entry.header().mtime()?);
                    made(&unpacked.folder(name, mode, mtime)?);
                }
                EntryType::Symlink if !is_root => {
                    make_link(&entry, &path)?;
                    made(&path);
                }
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                    budget.set(u64::MAX);
                    if is_root {
                        check_replaceable(&unpacked)?;
                    }
                    let stage = self.make_file(&mut entry, &path, &mut made)?;
                    match is_root {
                        true => unpacked.stage = Some(stage),
                        false => stage.place(&path)?,
                    }
                }
                other => {
                    return Err(invalid(format!(
                        "{} is of a kind that is not copied: {other:?}",
                        name.display()
                    )));
                }
            }
        }
        if unpacked.root().is_none() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "there is nothing in it"));
        }
        Ok(unpacked)
    }

    fn mode(self, entry: &Entry<'_, impl Read>) -> io::Result<u32> {
        let bits = if self.special_bits { 0o7777 } else { 0o777 };
        Ok(entry.header().mode()? & bits)
    }

    /// Makes the file that is to be at `path`. Never writes to what is there: it may be a link, or a program that runs.
    fn make_file(
        self,
        entry: &mut Entry<'_, impl Read>,
        path: &Path,
        made: &mut impl FnMut(&Path),
    ) -> io::Result<Stage> {
        if fs::symlink_metadata(path).is_ok_and(|old| old.is_dir()) {
            let why = format!("{} is a folder", path.display());
            return Err(io::Error::new(io::ErrorKind::IsADirectory, why));
        }
        if entry.size() > LARGEST {
            let why = format!("{} is larger than 16 TiB", path.display());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        let mut stage = Stage::file(parent(path))?;
        let (mode, size) = (self.mode(entry)?, entry.size());
        if copy_with_holes(entry, stage.handle())? != size {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it broke off inside of a file"));
        }
        // The owner first: another owner takes the set-user-ID bit away.
        made(stage.path());
        stage.handle().set_permissions(Permissions::from_mode(mode))?;
        set_mtime(stage.handle(), entry.header().mtime()?)?;
        Ok(stage)
    }
}

/// `folder` itself if `name` is empty.
fn join(folder: &Path, name: &Path) -> PathBuf {
    if name.as_os_str().is_empty() { folder.to_owned() } else { folder.join(name) }
}

/// The folder that `path` is in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// A single file takes no other place than that of a file.
fn check_replaceable(unpacked: &Unpacked) -> io::Result<()> {
    if unpacked.root().is_some() {
        return Err(invalid("a folder turns into a file".into()));
    }
    match fs::metadata(&unpacked.target) {
        Ok(old) if !old.is_file() && !old.is_dir() => {
            let why = "it is a device, socket or pipe; `-` as the target gives a stream that may go there";
            Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
        }
        _ => Ok(()),
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e)
            if e.kind() == io::ErrorKind::AlreadyExists
                && fs::symlink_metadata(path).is_ok_and(|old| old.is_dir()) =>
        {
            Ok(())
        }
        result => result,
    }
}

fn make_link(entry: &Entry<'_, impl Read>, path: &Path) -> io::Result<()> {
    let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
    if fs::symlink_metadata(path).is_ok_and(|old| !old.is_dir()) {
        fs::remove_file(path)?;
    }
    std::os::unix::fs::symlink(target, path)
}

/// Copies `from` to the new file `to`. Runs of zeros become holes.
///
/// # Errors
/// Those of reading and writing.
pub fn copy_with_holes(from: &mut impl Read, to: &mut File) -> io::Result<u64> {
    use std::io::{Seek, SeekFrom};
    const BLOCK: usize = 64 << 10;
    let mut block = vec![0; BLOCK];
    let mut total = 0;
    loop {
        let mut len = 0;
        while len < BLOCK {
            let (_, rest) = block.split_at_mut(len);
            match from.read(rest)? {
                0 => break,
                more => len += more,
            }
        }
        let (data, _) = block.split_at(len);
        if data.is_empty() {
            to.set_len(total)?;
            return Ok(total);
        }
        total += len as u64;
        if data.iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Start(total))?;
        } else {
            to.write_all(data)?;
        }
    }
}

fn set_mtime(file: &File, seconds: u64) -> io::Result<()> {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    // A time that this host cannot have is not worth failing for.
    time.map_or(Ok(()), |time| file.set_times(FileTimes::new().set_modified(time)))
}

/// The path of an entry without `.`; anything else that is no plain name is refused.
fn relative(path: &Path) -> io::Result<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => plain.push(name),
            _ => return Err(escape(path)),
        }
    }
    Ok(plain)
}

/// Every folder on the way from `target` to `name` must be one, and no link: the tree could bring a link first and then
/// something behind it.
fn check_parents(target: &Path, name: &Path) -> io::Result<()> {
    let mut at = target.to_owned();
    for component in name.parent().into_iter().flat_map(Path::components) {
        at.push(component);
        if !fs::symlink_metadata(&at)?.is_dir() {
            return Err(escape(name));
        }
    }
    Ok(())
}

fn escape(path: &Path) -> io::Error {
    invalid(format!("{} leads out of the copied folder", path.display()))
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
#[path = "tree/tests.rs"]
mod tests;
