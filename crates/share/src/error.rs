use std::{io, path::PathBuf};

/// An error number as the guest, a Linux, has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// Not permitted.
    pub const PERM: Self = Self(1);
    /// No such file.
    pub const NOENT: Self = Self(2);
    /// Input or output failed.
    pub const IO: Self = Self(5);
    /// Not an open file.
    pub const BADF: Self = Self(9);
    /// Permission denied.
    pub const ACCES: Self = Self(13);
    /// It exists.
    pub const EXIST: Self = Self(17);
    /// Not a directory.
    pub const NOTDIR: Self = Self(20);
    /// Invalid argument.
    pub const INVAL: Self = Self(22);
    /// Too many files are known.
    pub const NFILE: Self = Self(23);
    /// Too many files are open.
    pub const MFILE: Self = Self(24);
    /// Not for this kind of file.
    pub const NOTTY: Self = Self(25);
    /// The share is read-only.
    pub const ROFS: Self = Self(30);
    /// The buffer is too small.
    pub const RANGE: Self = Self(34);
    /// The name is too long.
    pub const NAMETOOLONG: Self = Self(36);
    /// The server does not have this function; Linux does not ask again.
    pub const NOSYS: Self = Self(38);
    /// A symbolic link where there must be none.
    pub const LOOP: Self = Self(40);
    /// There is no such attribute.
    pub const NODATA: Self = Self(61);
    /// The file system does not do this.
    pub const OPNOTSUPP: Self = Self(95);
    /// The file is not what it was.
    pub const STALE: Self = Self(116);
}

/// Where the numbers are the same.
#[cfg(target_os = "linux")]
impl From<rustix::io::Errno> for Errno {
    fn from(error: rustix::io::Errno) -> Self {
        Self(error.raw_os_error())
    }
}

/// Why a folder cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// There is nothing at the path.
    #[error("cannot share {}\n  because: there is no such folder\n  try: mkdir -p {}", .0.display(), .0.display())]
    Missing(PathBuf),
    /// What is there is no folder.
    #[error(
        "cannot share {}\n  because: it is not a folder\n  try: the folder that contains it, {}", .0.display(),
        .0.parent().unwrap_or(.0).display()
    )]
    NotAFolder(PathBuf),
    /// The host refuses.
    #[error("cannot share {}\n  because: {why}\n  try: a folder that you may read", path.display())]
    Host {
        /// The folder.
        path: PathBuf,
        /// What it says.
        why: io::Error,
    },
    /// This host cannot share folders.
    #[error(
        "cannot share {}\n  because: Tearless' own shared folders need a Linux host so far\n  try: a disk image with \
         --disk, or `tearless run -- CMD` and a pipe",
        .0.display()
    )]
    Unsupported(PathBuf),
}
