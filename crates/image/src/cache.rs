//! The cache: files named by their SHA-256 digest, and small named files, shared by all processes of a user.
//!
//! Nothing appears under its final name before it is complete and on disk, so a crash leaves at worst a `.partial`
//! file, which the next download resumes. Writers of one file take a lock on its partial file; readers need none.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::digest::Digest;
use crate::error::{Error, Kind, Result};

/// Overrides the cache folder.
pub const CACHE_VARIABLE: &str = "TEARLESS_CACHE";

/// A cache folder. Creating the value touches no disk; folders appear with the first write.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// An exclusive hold on a partial file; freed when dropped.
#[derive(Debug)]
pub(crate) struct Partial {
    /// The partial file, open for reading and writing, locked.
    pub(crate) file: File,
    /// Its path.
    pub(crate) path: PathBuf,
    target: PathBuf,
}

impl Cache {
    /// The user's cache: [`CACHE_VARIABLE`], else the platform's usual place.
    ///
    /// # Errors
    /// None of the variables that say where home is are set.
    pub fn open() -> Result<Self> {
        let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        set(CACHE_VARIABLE).or_else(|| platform::cache_folder(&set)).map(Self::at).ok_or_else(|| {
            Error::new(
                Kind::Local,
                "cannot find a place for the cache",
                "neither HOME nor XDG_CACHE_HOME is set",
                format!("set {CACHE_VARIABLE} to a folder"),
            )
        })
    }

    /// A cache in a given folder.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a file of the cache; `name` is relative and made by this crate.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the file with this digest is, or will be.
    pub(crate) fn object(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.root.join("objects").join(&hex[..2]).join(hex)
    }

    /// Writes a small file so that a reader sees the old or the new content, never a mixture.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path(name);
        let parent = make_parent(&path)?;
        let fail = |e: &io::Error| Error::local("write", &path, e);
        let mut temporary = tempfile::NamedTempFile::new_in(parent).map_err(|e| fail(&e))?;
        temporary.write_all(bytes).map_err(|e| fail(&e))?;
        temporary.as_file().sync_all().map_err(|e| fail(&e))?;
        temporary.persist(&path).map_err(|e| fail(&e.error))?;
        Ok(path)
    }

    /// Reads a small file; `None` when it is not there.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::local("read", &path, &e)),
        }
    }

    /// How long ago a file was written; `None` when it is not there. A clock that went backwards gives zero.
    pub(crate) fn age(&self, name: &str) -> Option<Duration> {
        let written = fs::metadata(self.path(name)).ok()?.modified().ok()?;
        Some(SystemTime::now().duration_since(written).unwrap_or_default())
    }

    /// Waits for and takes an exclusive lock named `name` in the cache.
    pub(crate) fn lock(&self, name: &str) -> Result<File> {
        let path = self.path(name);
        make_parent(&path)?;
        let fail = |e: &io::Error| Error::local("lock", &path, e);
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|e| fail(&e))?;
        file.lock().map_err(|e| fail(&e))?;
        Ok(file)
    }

    /// Takes the partial file of `target`; `None` when another process completed the target meanwhile.
    pub(crate) fn partial(&self, target: &Path) -> Result<Option<Partial>> {
        make_parent(target)?;
        let mut path = target.as_os_str().to_owned();
        path.push(".partial");
        let path = PathBuf::from(path);
        let fail = |e: &io::Error| Error::local("write", &path, e);
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)
                .map_err(|e| fail(&e))?;
            file.lock().map_err(|e| fail(&e))?;
            if target.exists() {
                return Ok(None);
            }
            // The holder before us may have removed or renamed the file we opened; then start over with a new one.
            let still_there = same_file(&file, &path).map_err(|e| fail(&e))?;
            if still_there {
                return Ok(Some(Partial { file, path, target: target.to_owned() }));
            }
        }
    }
}

impl Partial {
    /// Publishes the complete file under its final name.
    pub(crate) fn publish(self) -> Result<PathBuf> {
        let fail = |e: &io::Error| Error::local("write", &self.target, e);
        self.file.sync_all().map_err(|e| fail(&e))?;
        fs::rename(&self.path, &self.target).map_err(|e| fail(&e))?;
        Ok(self.target)
    }

    /// Empties the file, to start over.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|e| Error::local("write", &self.path, &e))
    }
}

/// Creates the folder that holds `path`.
pub(crate) fn make_parent(path: &Path) -> Result<&Path> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|e| Error::local("create the folder", parent, &e))?;
    Ok(parent)
}

/// Whether `path` still names the open file. Lengths and times cannot tell; the inode can.
fn same_file(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(theirs) => Ok(ours.dev() == theirs.dev() && ours.ino() == theirs.ino()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(target_os = "macos")]
mod platform {
    use std::path::PathBuf;

    pub(super) fn cache_folder(set: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
        set("HOME").map(|home| home.join("Library/Caches/tearless"))
    }
}

#[cfg(not(target_os = "macos"))]
mod platform {
    use std::path::PathBuf;

    pub(super) fn cache_folder(set: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
        let base = set("XDG_CACHE_HOME").filter(|p| p.is_absolute());
        base.or_else(|| set("HOME").map(|home| home.join(".cache"))).map(|base| base.join("tearless"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("deep/cache"));
        assert_eq!(cache.read("a/b").unwrap(), None);
        assert_eq!(cache.age("a/b"), None);
        cache.write("a/b", b"one").unwrap();
        cache.write("a/b", b"two").unwrap();
        assert_eq!(cache.read("a/b").unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(fs::read_dir(cache.path("a")).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn an_unwritable_cache_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let error = Cache::at(dir.path().join("file/cache")).write("x", b"").unwrap_err();
        assert_eq!(error.kind(), Kind::Local);
        assert!(error.to_string().contains("file/cache"), "{error}");
    }

    #[test]
    fn the_second_writer_finds_the_published_file() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let target = cache.object(&Digest::of(b"x"));
        let mut first = cache.partial(&target).unwrap().unwrap();
        let waiter = {
            let (cache, target) = (cache.clone(), target.clone());
            std::thread::spawn(move || cache.partial(&target).unwrap().is_none())
        };
        first.file.write_all(b"x").unwrap();
        first.publish().unwrap();
        assert!(waiter.join().unwrap(), "the other writer must not write again");
        assert_eq!(fs::read(target).unwrap(), b"x");
    }
}
