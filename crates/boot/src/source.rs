//! What a machine is built from, each time it starts.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{Error, Result, kernel, kernel::KernelImage};

/// The largest file taken: kernels and RAM disks are below 100 MiB, one with a root file system built in may reach a few
/// hundred. Beyond lies a mistake (a disk image).
pub(crate) const MAX_FILE: u64 = 512 << 20;

/// Bytes for the guest's memory. A reset needs them again: files stay open and are read anew, so that this process
/// keeps no copy of what the host's page cache has.
#[derive(Clone, Debug)]
pub struct Source {
    /// What it is, for errors.
    what: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    File(Arc<Mutex<File>>),
    Bytes(Arc<[u8]>),
}

impl Source {
    /// The kernel at `path`, which must be one.
    ///
    /// # Errors
    /// Those of [`Source::kernel_image`].
    pub fn kernel(path: &Path) -> Result<Self> {
        let source = Self::file(path, format!("kernel {}", path.display()))?;
        source.kernel_image()?;
        Ok(source)
    }

    /// The RAM disk at `path`; the guest's kernel judges its content.
    ///
    /// # Errors
    /// [`Error::Read`] when it cannot be read, [`Error::Unsuitable`] when it is empty or huge.
    pub fn initrd(path: &Path) -> Result<Self> {
        let source = Self::file(path, format!("RAM disk {}", path.display()))?;
        if source.read()?.is_empty() {
            return Err(Error::unsuitable(
                &source.what,
                "an empty file",
                "give a cpio archive, packed or not",
            ));
        }
        Ok(source)
    }

    /// A RAM disk without anything.
    pub fn nothing() -> Self {
        Self { what: "RAM disk".into(), parts: Vec::new() }
    }

    fn file(path: &Path, what: String) -> Result<Self> {
        let failed = |source| Error::Read { what: what.clone(), source };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(Error::unsuitable(&what, "a folder", "give a file"));
        }
        Ok(Self { what, parts: vec![Part::File(Arc::new(Mutex::new(file)))] })
    }

    /// Adds an archive to a RAM disk: Linux unpacks one after the other.
    pub fn append(&mut self, archive: Vec<u8>) {
        self.parts.push(Part::Bytes(archive.into()));
    }

    /// All of it. Each part begins at a multiple of four bytes, as archives must.
    ///
    /// # Errors
    /// [`Error::Read`] when it cannot be read, [`Error::Unsuitable`] when it is huge.
    pub fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for part in &self.parts {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            match part {
                Part::Bytes(more) => bytes.extend_from_slice(more),
                Part::File(file) => {
                    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                    let read =
                        file.rewind().and_then(|()| (&*file).take(MAX_FILE + 1).read_to_end(&mut bytes));
                    read.map_err(|source| Error::Read { what: self.what.clone(), source })?;
                }
            }
            if bytes.len() as u64 > MAX_FILE {
                return Err(Error::unsuitable(
                    &self.what,
                    format!("larger than {} MiB", MAX_FILE >> 20),
                    "a disk image goes to --disk",
                ));
            }
        }
        Ok(bytes)
    }

    /// It as an EFI program, as firmware loads it: kernels are such programs, unless somebody packed them.
    ///
    /// # Errors
    /// As [`Source::kernel_image`]; [`Error::Unsuitable`] for a kernel that is no EFI program.
    pub fn efi_program(&self) -> Result<Vec<u8>> {
        const MAGIC: &[u8] = b"MZ";
        let packed = self.read()?;
        if packed.starts_with(MAGIC) {
            return Ok(packed);
        }
        let bytes = kernel::load(packed, &self.what)?.into_bytes();
        if bytes.starts_with(MAGIC) {
            return Ok(bytes);
        }
        Err(Error::unsuitable(
            &self.what,
            "no EFI program",
            "boot it without --firmware, or give a kernel with an EFI stub",
        ))
    }

    /// It as a kernel.
    ///
    /// # Errors
    /// As [`Source::read`]; [`Error::Unsuitable`] when it cannot run here, [`Error::Damaged`] when it is cut off or corrupt.
    pub fn kernel_image(&self) -> Result<KernelImage> {
        kernel::load(self.read()?, &self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_begin_at_multiples_of_four_behind_a_file_that_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("initrd");
        std::fs::write(&path, b"first").unwrap();
        let mut source = Source::initrd(&path).unwrap();
        source.append(b"second".to_vec());
        source.append(b"x".to_vec());
        for _ in 0..2 {
            assert_eq!(source.read().unwrap(), b"first\0\0\0second\0\0x");
        }
        assert!(Source::nothing().read().unwrap().is_empty());
    }

    #[test]
    fn what_is_no_kernel_or_ram_disk_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        assert!(Source::initrd(&empty).unwrap_err().to_string().contains("empty"));
        assert!(Source::kernel(&empty).unwrap_err().to_string().contains("empty"));
        assert!(Source::kernel(dir.path()).unwrap_err().to_string().contains("a folder"));
        let missing = Source::kernel(&dir.path().join("missing")).unwrap_err().to_string();
        assert!(missing.contains("missing") && missing.contains("check the path"), "{missing}");
    }
}
