//! Owners and permissions: what the guest sees against what the host has.
//!
//! All files belong to one user of the host. A guest has many, and sets bits that a host must not honour (a set-user-ID
//! program of the guest's root would be one of the host's). What does not fit the host's file stands in an extended
//! attribute of it, which the guest never sees; most files have none. It holds the host's permissions as they were, too:
//! when somebody on the host changes them, those count again.
//!
//! The guest's devices, FIFOs and sockets are empty regular files of the host, with their type in the attribute: it is the
//! guest's kernel that gives them a meaning, and the host's must not.

use std::os::fd::BorrowedFd;

use rustix::fs::{self, XattrFlags};

use super::share::{Share, path_of, stat};
use crate::{Attr, Caller, Errno, Time};

/// What the guest made of a file: "MODE HOST-MODE UID GID DEVICE", modes octal. MODE has a type if it is not the host's.
pub(super) const STAT_XATTR: &str = "user.tearless.stat";

/// Of files that belong to others than the share's owner: nobody, nogroup.
const OTHERS: u32 = 65534;

pub(super) const TYPE: u32 = 0o170_000;
pub(super) const REGULAR: u32 = 0o100_000;
pub(super) const DIRECTORY: u32 = 0o040_000;
pub(super) const LINK: u32 = 0o120_000;
pub(super) const FIFO: u32 = 0o010_000;
pub(super) const SOCKET: u32 = 0o140_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const BLOCK_DEVICE: u32 = 0o060_000;
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
    /// What it is, if not what the host has.
    pub(super) special: Option<Special>,
}

/// A file that only the guest's kernel gives a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Special {
    /// The type bits of the mode.
    kind: u32,
    /// The device's number, in the encoding of the protocol.
    device: u32,
}

impl Special {
    /// Of a mode, if its type is of this sort.
    pub(super) fn new(mode: u32, device: u32) -> Option<Self> {
        match mode & TYPE {
            kind @ (CHARACTER_DEVICE | BLOCK_DEVICE) => Some(Self { kind, device }),
            kind @ (FIFO | SOCKET) => Some(Self { kind, device: 0 }),
            _ => None,
        }
    }
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

/// What a new file gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Birth {
    /// Its permissions.
    pub(super) mode: u32,
    /// The group of a folder that hands it on.
    pub(super) group: Option<u32>,
    pub(super) special: Option<Special>,
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
            special: None,
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
        let Some((mut kept, host_mode)) = buffer.get(..len).and_then(parse) else { return plain };
        if u32::from(stat.stx_mode) & TYPE != REGULAR {
            kept.special = None;
        }
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
                let Owner { mode, uid, gid, special } = wanted;
                let Special { kind, device } = special.unwrap_or(Special { kind: 0, device: 0 });
                let text = format!("{:o} {host_mode:o} {uid} {gid} {device}", mode | kind);
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

    /// Gives a file that `by` just created what it was born with.
    pub(super) fn adopt(&self, fd: BorrowedFd<'_>, by: Caller, birth: &Birth) -> Result<(), Errno> {
        let stat = stat(fd)?;
        let Birth { mode, group, special } = *birth;
        let wanted = Owner { mode: mode & 0o7777, uid: by.uid, gid: group.unwrap_or(by.gid), special };
        let same = u32::from(stat.stx_mode) & 0o7777 == wanted.mode;
        if same
            && wanted.host_mode(u32::from(stat.stx_mode) & TYPE) == wanted.mode
            && wanted == self.plain_owner(&stat)
        {
            return Ok(());
        }
        match self.set_owner(fd, &stat, wanted) {
            // A file system without attributes: the file is the share's owner's, as all others.
            Err(Errno::PERM | Errno::OPNOTSUPP) if special.is_none() => Ok(()),
            outcome => outcome,
        }
    }

    /// What a file of type `kind` gets that is made in a folder with that owner.
    pub(super) fn birth(&self, folder: Owner, kind: u32, mode: u32) -> Birth {
        let hands_on = folder.mode & SET_GID != 0;
        let inherited = if hands_on && kind == DIRECTORY { SET_GID } else { 0 };
        Birth { mode: mode & 0o7777 | inherited, group: hands_on.then_some(folder.gid), special: None }
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
            mode: owner.special.map_or(u32::from(stat.stx_mode) & TYPE, |special| special.kind) | owner.mode,
            links: stat.stx_nlink,
            uid: owner.uid,
            gid: owner.gid,
            rdev: owner.special.map_or_else(|| device_number(stat), |special| special.device),
            block_size: stat.stx_blksize,
            submount: false,
        }
    }
}

/// In the encoding of the protocol (Linux `new_encode_dev`).
fn device_number(stat: &fs::Statx) -> u32 {
    stat.stx_rdev_minor & 0xff | stat.stx_rdev_major << 8 | (stat.stx_rdev_minor & !0xff) << 12
}

/// The value of our attribute: the guest's view, and the host's permissions that it belongs to.
fn parse(text: &[u8]) -> Option<(Owner, u32)> {
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let mut octal = || u32::from_str_radix(words.next()?, 8).ok();
    let (mode, host_mode) = (octal()?, octal()?);
    let mut decimal = || words.next()?.parse().ok();
    let (uid, gid, device) = (decimal()?, decimal()?, decimal()?);
    let special = Special::new(mode, device);
    let known = mode & TYPE == 0 || special.is_some();
    let owner = Owner { mode: mode & 0o7777, uid, gid, special };
    (known && mode < 0o200_000 && words.next().is_none()).then_some((owner, host_mode))
}
