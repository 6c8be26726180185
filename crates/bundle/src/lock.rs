//! `flock` locks. The host drops them when the process ends, however it ends.

use std::{
    fs::{self, File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    thread,
    time::Duration,
};

use crate::{
    Error, Result,
    files::{failed, open_lock_file},
};

/// Name of the lock file in a bundle.
pub(crate) const LOCK_FILE: &str = "lock";

/// Somebody who only looks whether the VM runs holds the lock for microseconds; a VM that starts then tries again.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// The exclusive hold on a VM. It ends when this value goes.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the bundle in `folder`, which errors call `name`.
    pub(crate) fn take(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(LOCK_FILE);
        if !folder.is_dir() {
            return Err(Error::NotFound { what: name.into() });
        }
        let mut file = open_lock_file(&path)?;
        let mut tries = 1;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries < TRIES => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Running { name: name.into(), pid: read_pid(&mut file) });
                }
                Err(TryLockError::Error(e)) => return Err(failed("lock", &path)(e)),
            }
            tries += 1;
        }
        // The bundle may have been deleted or renamed between opening and locking.
        let mine = file.metadata().map_err(failed("lock", &path))?;
        if !fs::metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (mine.dev(), mine.ino())) {
            return Err(Error::NotFound { what: name.into() });
        }
        let record = |file: &mut File| {
            file.set_len(0)?;
            file.write_all(format!("{}\n", std::process::id()).as_bytes())
        };
        record(&mut file).map_err(failed("write", &path))?;
        Ok(Self { _file: file })
    }

    /// Whether somebody holds the lock of the bundle in `folder`, and who.
    pub(crate) fn holder(folder: &Path) -> Option<Option<u32>> {
        let mut file = File::open(folder.join(LOCK_FILE)).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(read_pid(&mut file)),
            _ => None,
        }
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Held while names come, go or change in one store.
pub(crate) struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Waits for the lock of the store in `folder`; nobody holds it for longer than a few file operations.
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(".lock");
        let file = open_lock_file(&path)?;
        file.lock().map_err(failed("lock", &path))?;
        Ok(Self { _file: file })
    }
}
