//! Where something is made until it is whole: under another name in the same folder, from which it is then renamed. Who looks
//! for it sees nothing or what was there before, and then all of it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

/// What such names begin with. A number follows.
const NAME: &str = ".tearless-cp-";
/// So many copies into one folder at a time.
const MOST: u32 = 1000;

/// A file or folder that is being made. Dropping it removes it, unless it was placed.
///
/// It is locked as long as it is being made. One that nobody has locked was left by a process that was killed, and the next
/// copy into the folder removes it.
pub struct Stage {
    path: PathBuf,
    file: File,
    placed: bool,
}

impl Stage {
    /// A new file in the folder `parent`, for its user alone so far.
    ///
    /// # Errors
    /// When the host's file system refuses.
    pub fn file(parent: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        Self::make(parent, |path| options.open(path))
    }

    /// As [`Stage::file`], a new folder.
    ///
    /// # Errors
    /// When the host's file system refuses.
    pub fn folder(parent: &Path) -> io::Result<Self> {
        Self::make(parent, |path| {
            fs::DirBuilder::new().mode(0o700).create(path)?;
            File::open(path)
        })
    }

    fn make(parent: &Path, create: impl Fn(&Path) -> io::Result<File>) -> io::Result<Self> {
        for number in 0..MOST {
            let path = parent.join(format!("{NAME}{number}"));
            remove_if_left(&path);
            match create(&path) {
                // Between its making and its locking, another copy may have taken it for one that was left.
                Ok(file) if lock(&file, true) && is_at(&file, &path) => {
                    return Ok(Self { path, file, placed: false });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        let why = format!("{MOST} other copies into {} are under way", parent.display());
        Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
    }

    /// What it is called until it is placed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, to write to.
    pub fn handle(&mut self) -> &mut File {
        &mut self.file
    }

    /// Makes it `target`, in place of a file of that name.
    ///
    /// # Errors
    /// When the host's file system refuses; then it is gone.
    pub fn place(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.placed {
            remove(&self.path);
        }
    }
}

/// Locks `file`. Where a file system has no locks the answer is `without`.
fn lock(file: &File, without: bool) -> bool {
    match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => without,
    }
}

/// Whether `path` is the name of `file`.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |m: fs::Metadata| (m.dev(), m.ino());
    let (Ok(file), Ok(named)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    id(file) == id(named)
}

fn remove_if_left(path: &Path) {
    // Neither waits for the other end of a pipe, nor goes where a link leads.
    let Ok(flags) = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()) else { return };
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else { return };
    if lock(&file, false) && is_at(&file, path) {
        remove(path);
    }
}

/// As far as that is possible; whoever copies hears of what went wrong before.
fn remove(path: &Path) {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|m| m.is_dir());
    drop(if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        entries.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn what_is_not_placed_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (file, tree) = (Stage::file(folder.path()).unwrap(), Stage::folder(folder.path()).unwrap());
        assert_ne!(file.path(), tree.path());
        fs::write(tree.path().join("inside"), "").unwrap();
        drop((file, tree));
        assert!(names(folder.path()).is_empty());

        let file = Stage::file(folder.path()).unwrap();
        fs::write(file.path(), "new").unwrap();
        fs::write(folder.path().join("target"), "old").unwrap();
        file.place(&folder.path().join("target")).unwrap();
        assert_eq!(fs::read(folder.path().join("target")).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["target"]);
    }

    #[test]
    fn what_a_killed_process_left_is_taken_away_and_what_is_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |number: u32| folder.path().join(format!("{NAME}{number}"));
        let used = Stage::file(folder.path()).unwrap();
        fs::create_dir_all(at(1).join("deep")).unwrap();
        fs::write(at(2), "left").unwrap();
        std::os::unix::fs::symlink("/", at(3)).unwrap();
        let taken: Vec<_> = (0..3).map(|_| Stage::file(folder.path()).unwrap()).collect();
        let paths: Vec<_> = taken.iter().map(|stage| stage.path().to_owned()).collect();
        assert_eq!(paths, [at(1), at(2), at(4)], "one is used, and one a link");
        assert!(taken.iter().all(|stage| stage.file.metadata().unwrap().len() == 0));
        assert_eq!(used.path(), at(0));
    }
}
