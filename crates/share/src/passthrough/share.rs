//! The folder that is shared, and whose rights count there.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags, StatxFlags},
    process, thread,
};

use super::owner::STAT_XATTR;
use crate::{Errno, ShareError, ShareOptions};

/// A folder of the host that guests may use. It stays what it is if somebody renames it.
#[derive(Debug)]
pub struct Share {
    root: OwnedFd,
    /// Through its entries a file is opened again with other rights: `/proc/self/fd`.
    proc: OwnedFd,
    pub(super) options: ShareOptions,
    /// The user and group that files belong to.
    pub(super) owner: (u32, u32),
    /// We are the host's root but the folder is not his: its owner's rights count.
    drop_rights: bool,
    /// The file system keeps extended attributes.
    pub(super) has_xattrs: bool,
}

impl Share {
    /// Opens the folder `path`.
    ///
    /// # Errors
    /// When it is missing, no folder or not accessible.
    pub fn open(path: &Path, options: ShareOptions) -> Result<Arc<Self>, ShareError> {
        let host = |e: rustix::io::Errno| match e {
            rustix::io::Errno::NOENT => ShareError::Missing(path.to_owned()),
            rustix::io::Errno::NOTDIR => ShareError::NotAFolder(path.to_owned()),
            e => ShareError::Host { path: path.to_owned(), why: e.into() },
        };
        // Read access is asked for here, so that a folder that nobody can list is refused before the guest starts.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(path, flags, Mode::empty()).map_err(host)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = fs::open("/proc/self/fd", flags, Mode::empty()).map_err(|e| ShareError::Host {
            path: path.to_owned(),
            why: io::Error::other(format!("/proc is needed: {e}")),
        })?;
        let stat = fs::fstat(&root).map_err(host)?;
        let user = process::geteuid().as_raw();
        let drop_rights = user == 0 && stat.st_uid != 0;
        let owner = if user == 0 { (stat.st_uid, stat.st_gid) } else { (user, process::getegid().as_raw()) };
        let probe = fs::fgetxattr(&root, STAT_XATTR, &mut [0u8; 64][..]);
        let has_xattrs = !matches!(probe, Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS));
        Ok(Arc::new(Self { root, proc, options, owner, drop_rights, has_xattrs }))
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Takes the rights that count, for this thread.
    pub(super) fn enter(&self) -> io::Result<()> {
        if self.drop_rights {
            let (uid, gid) = (thread::Uid::from_raw(self.owner.0), thread::Gid::from_raw(self.owner.1));
            thread::set_thread_groups(&[gid])?;
            thread::set_thread_res_gid(None, gid, None)?;
            thread::set_thread_res_uid(None, uid, None)?;
        }
        Ok(())
    }

    /// Refuses if the share is read-only.
    pub(super) fn writable(&self) -> Result<(), Errno> {
        if self.options.read_only { Err(Errno::ROFS) } else { Ok(()) }
    }

    /// Opens what `fd`, which may be an `O_PATH` descriptor, stands for. It must not be a symbolic link, a device, a
    /// FIFO or a socket: the callers look at the type first.
    pub(super) fn open_again(&self, fd: BorrowedFd<'_>, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        let digits = Digits::of(fd);
        let open = |flags| fs::openat(&self.proc, digits.text(), flags, Mode::empty());
        if self.options.read_only && !flags.contains(OFlags::PATH) {
            // Reading is to leave no trace, where the file is ours so that we may ask for that.
            match open(flags | OFlags::NOATIME) {
                Err(rustix::io::Errno::PERM) => {}
                outcome => return outcome,
            }
        }
        open(flags)
    }

    pub(super) fn chmod(&self, fd: BorrowedFd<'_>, mode: u32) -> rustix::io::Result<()> {
        fs::chmodat(&self.proc, Digits::of(fd).text(), Mode::from_raw_mode(mode), AtFlags::empty())
    }

    pub(super) fn set_times(
        &self,
        fd: BorrowedFd<'_>,
        link: bool,
        times: &fs::Timestamps,
    ) -> Result<(), Errno> {
        if link {
            fs::utimensat(fd, c"", times, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW)?;
        } else {
            fs::utimensat(&self.proc, Digits::of(fd).text(), times, AtFlags::empty())?;
        }
        Ok(())
    }

    pub(super) fn link(&self, fd: BorrowedFd<'_>, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        Ok(fs::linkat(&self.proc, Digits::of(fd).text(), parent, name, AtFlags::SYMLINK_FOLLOW)?)
    }

    pub(super) fn access(&self, fd: BorrowedFd<'_>, access: fs::Access) -> Result<(), Errno> {
        Ok(fs::accessat(&self.proc, Digits::of(fd).text(), access, AtFlags::EACCESS)?)
    }
}

/// A path to a descriptor, for calls that take no descriptor that is `O_PATH`.
pub(super) fn path_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// A descriptor's number.
struct Digits([u8; 10], usize);

impl Digits {
    fn of(fd: BorrowedFd<'_>) -> Self {
        let (mut digits, mut start) = ([0; 10], 10);
        let mut rest = fd.as_raw_fd().unsigned_abs();
        for (at, digit) in digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (rest % 10) as u8;
            (rest, start) = (rest / 10, at);
            if rest == 0 {
                break;
            }
        }
        Self(digits, start)
    }

    fn text(&self) -> &[u8] {
        self.0.get(self.1..).unwrap_or_default()
    }
}

/// What we ask of a file.
pub(super) fn stat(fd: BorrowedFd<'_>) -> Result<fs::Statx, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    Ok(fs::statx(fd, c"", flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?)
}

/// As [`stat`], by name.
pub(super) fn stat_at(parent: BorrowedFd<'_>, name: &[u8]) -> Result<fs::Statx, Errno> {
    let name = std::ffi::OsStr::from_bytes(name);
    Ok(fs::statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?)
}
