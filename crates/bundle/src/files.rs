//! File operations with errors that say what was tried.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use rustix::process::Pid;

use crate::{Error, Result};

/// Turns an [`io::Error`] into [`Error::Io`].
pub(crate) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { doing, path: path.to_owned(), source }
}

/// Replaces `path` with `data`: after a crash it holds either what it held before or all of `data`.
pub(crate) fn write_atomically(path: &Path, data: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(data)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|e| {
        // It may never have come into being; what matters is the first error.
        let _ = fs::remove_file(&temporary);
        failed("write", path)(e)
    })
}

/// Removes what [`write_atomically`] had not yet put in its place in `folder` when its process was killed. As far as that is
/// possible: it costs a little room and means nothing.
pub(crate) fn remove_unfinished(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(writer_of).is_some_and(has_ended) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// The process that writes a file of that name: `.NAME.PROCESS`.
fn writer_of(name: &str) -> Option<Pid> {
    let (_, process) = name.strip_prefix('.')?.rsplit_once('.')?;
    Pid::from_raw(process.parse().ok()?)
}

fn has_ended(process: Pid) -> bool {
    rustix::process::test_kill_process(process) == Err(rustix::io::Errno::SRCH)
}

/// Makes the entries of `folder` survive a power failure.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(failed("write", folder))
}

/// Opens a lock file, making it if need be.
pub(crate) fn open_lock_file(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).map_err(failed("open", path))
}
