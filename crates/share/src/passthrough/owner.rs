//! Owners and permissions: what the guest sees against what the host has.
//!
//! All files belong to one user of the host. A guest has many, and sets bits that a host must not honour (a set-user-ID
//! program of the guest's root would be one of the host's). What does not fit the host's file stands in an extended
//! attribute of it, which the guest never sees; most files have none. It holds the host's permissions as they were, too:
//! when somebody on the host changes them, those count again.

use std::os::fd::BorrowedFd;

use rustix::fs::{self, XattrFlags};

use super::share::{Share, path_of, stat};
use crate::{Attr, Caller, Errno, Time};

/// Permissions, owner and group that the guest gave a file: "MODE HOST-MODE UID GID", modes octal.
pub(super) const STAT_XATTR: &str = "user.tearless.stat";

/// Of files that belong to others than the share's owner: nobody, nogroup.
const OTHERS: u32 = 65534;

pub(super) const TYPE: u32 = 0o170_000;
pub(super) const REGULAR: u32 = 0o100_000;
pub(super) const DIRECTORY: u32 = 0o040_000;
pub(super) const LINK: u32 = 0o120_000;
pub(super) const FIFO: u32 = 0o010_000;
pub(super) const SOCKET: u32 = 0o140_000;
/// Permissions, and the sticky bit, which gives no rights.
const HARMLESS: u32 = 0o1777;
const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;

/// The guest's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// Without the type.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Owner {
    /// Takes away what a change of content or owner does (Linux `setattr_should_drop_suidgid`).
    pub(super) fn without_privileges(mut self) -> Self {
        self.mode &= !SET_UID;
        if self.mode & 0o010 != 0 {
            self.mode &= !SET_GID;
        }
        self
    }

    /// The permissions that the host's file gets: what the guest's kernel checks is checked there, but we must be able
    /// to look into each file and to work in each folder.
    fn host_mode(&self, kind: u32) -> u32 {
        let ours = match kind {
            DIRECTORY => 0o700,
            REGULAR => 0o400,
            _ => 0,
        };
        self.mode & HARMLESS | ours
    }
}

/// Whether files of that type can have our attribute.
fn has_attribute(kind: u32) -> bool {
    matches!(kind, REGULAR | DIRECTORY)
}

impl Share {
    /// The owner of a file that only the host knows.
    fn plain_owner(&self, stat: &fs::Statx) -> Owner {
        let guest = self.options.guest_owner;
        let mode = u32::from(stat.stx_mode);
        // The host's set-user-ID means another user than the guest's.
        let keep = if mode & TYPE == DIRECTORY { 0o7777 } else { HARMLESS };
        Owner {
            mode: mode & keep,
            uid: if stat.stx_uid == self.owner.0 { guest } else { OTHERS },
            gid: if stat.stx_gid == self.owner.1 { guest } else { OTHERS },
        }
    }

    /// What the guest sees as owner and permissions.
    pub(super) fn owner_of(&self, fd: BorrowedFd<'_>, stat: &fs::Statx) -> Owner {
        let plain = self.plain_owner(stat);
        if !self.has_xattrs || !has_attribute(u32::from(stat.stx_mode) & TYPE) {
            return plain;
        }
        let mut buffer = [0u8; 64];
        let len = fs::getxattr(path_of(fd), STAT_XATTR, &mut buffer[..]).unwrap_or(0);
        let Some((kept, host_mode)) = buffer.get(..len).and_then(parse) else { return plain };
        let mode = if u32::from(stat.stx_mode) & HARMLESS == host_mode { kept.mode } else { plain.mode };
        Owner { mode, ..kept }
    }

    /// Makes a file look to the guest as `wanted`.
    pub(super) fn set_owner(&self, fd: BorrowedFd<'_>, stat: &fs::Statx, wanted: Owner) -> Result<(), Errno> {
        let kind = u32::from(stat.stx_mode) & TYPE;
        if kind == LINK {
            // A link's permissions mean nothing, and its owner next to nothing.
            return Ok(());
        }
        let host_mode = wanted.host_mode(kind);
        // The host's own bits go, unless on a folder, where they say whose group new files get.
        let keep = if kind == DIRECTORY { u32::from(stat.stx_mode) & !HARMLESS & 0o7777 } else { 0 };
        let path = path_of(fd);
        let ours = self.has_xattrs && has_attribute(kind);
        if ours {
            // To write the attribute one must be allowed to write the file.
            if host_mode & 0o200 == 0 {
                self.chmod(fd, host_mode | 0o200 | keep)?;
            }
            let plain = Owner { mode: host_mode | keep, ..self.plain_owner(stat) };
            if wanted == plain {
                match fs::removexattr(&path, STAT_XATTR) {
                    Ok(()) | Err(rustix::io::Errno::NODATA) => (),
                    Err(e) => return Err(e.into()),
                }
            } else {
                let Owner { mode, uid, gid } = wanted;
                let text = format!("{mode:o} {host_mode:o} {uid} {gid}");
                fs::setxattr(&path, STAT_XATTR, text.as_bytes(), XattrFlags::empty())?;
            }
        }
        let done = u32::from(stat.stx_mode) & 0o7777 == host_mode | keep;
        if !done || ours && host_mode & 0o200 == 0 {
            self.chmod(fd, host_mode | keep)?;
        }
        let plain = self.plain_owner(stat);
        if !ours && has_attribute(kind) && (wanted.uid, wanted.gid) != (plain.uid, plain.gid) {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    /// Gives a file that `by` just created its owner and `mode`; `group` is that of a folder that hands its group on.
    pub(super) fn adopt(
        &self,
        fd: BorrowedFd<'_>,
        by: Caller,
        mode: u32,
        group: Option<u32>,
    ) -> Result<(), Errno> {
        let stat = stat(fd)?;
        let wanted = Owner { mode: mode & 0o7777, uid: by.uid, gid: group.unwrap_or(by.gid) };
        let same = u32::from(stat.stx_mode) & 0o7777 == wanted.mode;
        if same
            && wanted.host_mode(u32::from(stat.stx_mode) & TYPE) == wanted.mode
            && wanted == self.plain_owner(&stat)
        {
            return Ok(());
        }
        match self.set_owner(fd, &stat, wanted) {
            // A file system without attributes: the file is the share's owner's, as all others.
            Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
            outcome => outcome,
        }
    }

    /// The mode to create a file with, and the group that it gets from its folder, whose owner is given.
    pub(super) fn creation(&self, folder: Owner, kind: u32, mode: u32) -> (u32, Option<u32>) {
        if folder.mode & SET_GID == 0 {
            (mode & 0o7777, None)
        } else if kind == DIRECTORY {
            (mode & 0o7777 | SET_GID, Some(folder.gid))
        } else {
            (mode & 0o7777, Some(folder.gid))
        }
    }

    /// What the guest sees of a file.
    pub(super) fn attr(&self, fd: BorrowedFd<'_>, stat: &fs::Statx) -> Attr {
        let owner = self.owner_of(fd, stat);
        let time = |t: fs::StatxTimestamp| Time { seconds: t.tv_sec, nanos: t.tv_nsec };
        Attr {
            inode: stat.stx_ino,
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            atime: time(stat.stx_atime),
            mtime: time(stat.stx_mtime),
            ctime: time(stat.stx_ctime),
            mode: u32::from(stat.stx_mode) & TYPE | owner.mode,
            links: stat.stx_nlink,
            uid: owner.uid,
            gid: owner.gid,
            rdev: stat.stx_rdev_minor & 0xff | stat.stx_rdev_major << 8 | (stat.stx_rdev_minor & !0xff) << 12,
            block_size: stat.stx_blksize,
            submount: false,
        }
    }
}

fn parse(text: &[u8]) -> Option<(Owner, u32)> {
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let mut octal = || u32::from_str_radix(words.next()?, 8).ok().filter(|mode| *mode <= 0o7777);
    let (mode, host_mode) = (octal()?, octal()?);
    let mut decimal = || words.next()?.parse().ok();
    let (uid, gid) = (decimal()?, decimal()?);
    words.next().is_none().then_some((Owner { mode, uid, gid }, host_mode))
}
