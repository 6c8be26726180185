//! Opening and creating regular files.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::fs::{self, Mode, OFlags};

use super::{
    Passthrough, Result,
    nodes::{Node, lock, open_path},
    owner::REGULAR,
    share::stat,
};
use crate::{Caller, Entry, Errno, Name, NodeId, Opened};

/// Linux's numbers for arm64, of those that are of interest here. `O_DIRECT` is the guest's business: it says how its
/// cache is used; our buffers would not fit its rules for the host's. `O_APPEND` comes with each write.
pub(super) mod guest {
    pub(super) const WRONLY: u32 = 1;
    pub(super) const RDWR: u32 = 2;
    pub(super) const EXCL: u32 = 0o200;
    pub(super) const TRUNC: u32 = 0o1000;
    pub(super) const DSYNC: u32 = 0o10_000;
    pub(super) const SYNC: u32 = 0o4_010_000;
    /// What counts when it is opened a second time: neither created nor cut.
    pub(in super::super) const KEPT: u32 = 3 | SYNC;
}

impl Passthrough {
    /// The host's flags for the guest's.
    pub(super) fn flags(&self, flags: u32) -> Result<OFlags> {
        let mut host = match flags & 3 {
            0 => OFlags::RDONLY,
            guest::WRONLY => OFlags::WRONLY,
            guest::RDWR => OFlags::RDWR,
            _ => return Err(Errno::INVAL),
        };
        if flags & guest::TRUNC != 0 {
            host |= OFlags::TRUNC;
        }
        if flags & guest::SYNC == guest::SYNC {
            host |= OFlags::SYNC;
        } else if flags & guest::DSYNC != 0 {
            host |= OFlags::DSYNC;
        }
        if host.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC) {
            self.share.writable()?;
        }
        Ok(host)
    }

    pub(super) fn open_file(&self, node: &Arc<Node>, flags: u32, kill_privileges: bool) -> Result<Opened> {
        let fd = self.open_regular(node, self.flags(flags)?)?;
        if kill_privileges {
            self.drop_privileges(node)?;
        }
        self.opened(node, fd, flags)
    }

    /// Hands out a handle, and tells whether the file is as it was when the guest last opened it.
    fn opened(&self, node: &Arc<Node>, fd: OwnedFd, flags: u32) -> Result<Opened> {
        let now = stat(fd.as_fd())?;
        let time = |t: fs::StatxTimestamp| (t.tv_sec, t.tv_nsec);
        let stamp = (time(now.stx_mtime), time(now.stx_ctime), now.stx_size);
        let keep_cache = lock(&node.stamp).replace(stamp) == Some(stamp);
        Ok(Opened { handle: self.handles.add(node, fd, Some(flags & guest::KEPT))?, keep_cache })
    }

    pub(super) fn create_file(
        &self,
        by: Caller,
        (parent, name): (NodeId, Name<'_>),
        flags: u32,
        mode: u32,
        kill_privileges: bool,
    ) -> Result<(Entry, Opened)> {
        self.share.writable()?;
        let host = self.flags(flags)?;
        let (parent, folder) = self.folder(parent)?;
        let birth = self.birth(folder.as_fd(), REGULAR, mode)?;
        let create = host | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match fs::openat(
            folder.as_fd(),
            name.bytes(),
            create,
            Mode::from_raw_mode(birth.mode & 0o777 | 0o400),
        ) {
            Err(rustix::io::Errno::EXIST) if flags & guest::EXCL == 0 => {
                // Somebody on the host was faster.
                let entry = self.find_in(&parent, folder.as_fd(), name.bytes())?;
                let opened =
                    self.nodes.get(entry.node).and_then(|n| self.open_file(&n, flags, kill_privileges));
                return self.both(entry, opened);
            }
            outcome => outcome?,
        };
        let path = self.share.open_again(fd.as_fd(), OFlags::PATH)?;
        self.share.adopt(path.as_fd(), by, &birth)?;
        let entry = self.entry(&parent, name.bytes(), path)?;
        let opened = self.nodes.get(entry.node).and_then(|node| self.opened(&node, fd, flags));
        self.both(entry, opened)
    }

    pub(super) fn create_nameless(
        &self,
        by: Caller,
        parent: NodeId,
        flags: u32,
        mode: u32,
    ) -> Result<(Entry, Opened)> {
        self.share.writable()?;
        let host = self.flags(flags)?;
        if !host.intersects(OFlags::WRONLY | OFlags::RDWR) {
            return Err(Errno::INVAL);
        }
        let (parent, folder) = self.folder(parent)?;
        let birth = self.birth(folder.as_fd(), REGULAR, mode)?;
        let create = host.difference(OFlags::TRUNC) | OFlags::TMPFILE | OFlags::CLOEXEC;
        // A link to the folder by descriptor, for an `O_PATH` one is refused.
        let open = open_path(folder.as_fd(), b".")?;
        let fd = fs::openat(open, c".", create, Mode::from_raw_mode(birth.mode & 0o777 | 0o400))?;
        let path = self.share.open_again(fd.as_fd(), OFlags::PATH)?;
        self.share.adopt(path.as_fd(), by, &birth)?;
        // It has no place to be found again at; it stays open for as long as it is of use.
        let entry = self.entry(&parent, b"", path)?;
        let opened = self.nodes.get(entry.node).and_then(|node| self.opened(&node, fd, flags));
        self.both(entry, opened)
    }

    /// An entry that the guest does not hear of is forgotten.
    fn both(&self, entry: Entry, opened: Result<Opened>) -> Result<(Entry, Opened)> {
        if opened.is_err() {
            self.nodes.forget(entry.node, 1);
        }
        opened.map(|opened| (entry, opened))
    }
}
