//! Log files that do not grow without bound.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tearless_bus::CharSink;

/// A log file. When it has reached its limit it becomes `NAME.1`, the one before that goes, and a new one begins.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    limit: u64,
    file: File,
    len: u64,
}

impl LogFile {
    /// Goes on with the log at `path`, which holds up to `limit` bytes. Its folder is made if need be.
    ///
    /// # Errors
    /// Those of the host.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = append_to(path)?;
        let len = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), limit, file, len })
    }

    /// A device's sink that writes to the log. A disk that is full or gone is reported once; the guest runs on.
    pub fn into_sink(mut self) -> Box<dyn CharSink> {
        let mut complained = false;
        Box::new(move |bytes: &[u8]| {
            if let Err(error) = self.write_all(bytes)
                && !std::mem::replace(&mut complained, true)
            {
                tracing::warn!(path = %self.path.display(), %error, "cannot log the guest's output");
            }
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        fs::rename(&self.path, old)?;
        self.file = append_to(&self.path)?;
        self.len = 0;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.len >= self.limit {
            self.rotate()?;
        }
        let room = usize::try_from(self.limit - self.len).unwrap_or(usize::MAX).max(1);
        let written = self.file.write(&bytes[..bytes.len().min(room)])?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_takes_at_most_twice_its_limit_and_goes_on_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/console.log");
        let old = folder.path().join("logs/console.log.1");
        let mut log = LogFile::open(&path, 10).unwrap();
        log.write_all(b"0123456").unwrap();
        drop(log);
        let mut log = LogFile::open(&path, 10).unwrap();
        log.write_all(b"789abcdefghijklmnopq").unwrap();
        assert_eq!(fs::read(&old).unwrap(), b"abcdefghij");
        assert_eq!(fs::read(&path).unwrap(), b"klmnopq");
        drop(log);
        LogFile::open(&path, 3).unwrap().into_sink().put(b"xyzw");
        assert_eq!((fs::read(&old).unwrap(), fs::read(&path).unwrap()), (b"xyz".to_vec(), b"w".to_vec()));
    }
}
