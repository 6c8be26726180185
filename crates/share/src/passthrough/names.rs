//! Finding, making, moving and removing names.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, AtFlags, FileType, Mode, RenameFlags};

use super::{
    Passthrough, Result,
    nodes::{Key, Node, open_path},
    owner::{Birth, DIRECTORY, REGULAR, Special, TYPE},
    share::{stat, stat_at},
};
use crate::{Caller, Entry, Errno, Name, NodeId, RenameMode};

impl Passthrough {
    pub(super) fn find(&self, parent: NodeId, name: Name<'_>) -> Result<Entry> {
        let (parent, folder) = self.folder(parent)?;
        self.find_in(&parent, folder.as_fd(), name.bytes())
    }

    pub(super) fn find_in(&self, parent: &Node, folder: BorrowedFd<'_>, name: &[u8]) -> Result<Entry> {
        self.entry(parent, name, open_path(folder, name)?)
    }

    /// What a new file of type `kind` in `folder` gets.
    pub(super) fn birth(&self, folder: BorrowedFd<'_>, kind: u32, mode: u32) -> Result<Birth> {
        let owner = self.share.owner_of(folder, &stat(folder)?);
        Ok(self.share.birth(owner, kind, mode))
    }

    pub(super) fn make_folder(&self, by: Caller, parent: NodeId, name: Name<'_>, mode: u32) -> Result<Entry> {
        self.share.writable()?;
        let (parent, folder) = self.folder(parent)?;
        let birth = self.birth(folder.as_fd(), DIRECTORY, mode)?;
        fs::mkdirat(folder.as_fd(), name.bytes(), Mode::from_raw_mode(birth.mode & 0o777 | 0o700))?;
        self.made(by, (&parent, folder.as_fd()), name, &birth)
    }

    /// A regular file, or what the guest is to see as a FIFO, socket or device.
    pub(super) fn make_node(
        &self,
        by: Caller,
        parent: NodeId,
        name: Name<'_>,
        mode: u32,
        device: u32,
    ) -> Result<Entry> {
        self.share.writable()?;
        let special = Special::new(mode, device);
        if special.is_none() && !matches!(mode & TYPE, REGULAR | 0) {
            return Err(Errno::INVAL);
        }
        if special.is_some() && !self.share.has_xattrs {
            return Err(Errno::PERM);
        }
        let (parent, folder) = self.folder(parent)?;
        let birth = Birth { special, ..self.birth(folder.as_fd(), REGULAR, mode)? };
        let host_mode = Mode::from_raw_mode(birth.mode & 0o777 | 0o600);
        fs::mknodat(folder.as_fd(), name.bytes(), FileType::RegularFile, host_mode, 0)?;
        self.made(by, (&parent, folder.as_fd()), name, &birth)
    }

    pub(super) fn make_link(
        &self,
        by: Caller,
        parent: NodeId,
        name: Name<'_>,
        target: &[u8],
    ) -> Result<Entry> {
        self.share.writable()?;
        let (parent, folder) = self.folder(parent)?;
        fs::symlinkat(target, folder.as_fd(), name.bytes())?;
        self.made(by, (&parent, folder.as_fd()), name, &Birth { mode: 0o777, group: None, special: None })
    }

    /// The entry of what was just made.
    fn made(
        &self,
        by: Caller,
        (parent, folder): (&Node, BorrowedFd<'_>),
        name: Name<'_>,
        birth: &Birth,
    ) -> Result<Entry> {
        let fd = open_path(folder, name.bytes())?;
        self.share.adopt(fd.as_fd(), by, birth)?;
        self.entry(parent, name.bytes(), fd)
    }

    pub(super) fn remove(&self, parent: NodeId, name: Name<'_>, flags: AtFlags) -> Result<()> {
        self.share.writable()?;
        let (_, folder) = self.folder(parent)?;
        Ok(fs::unlinkat(folder.as_fd(), name.bytes(), flags)?)
    }

    pub(super) fn move_name(
        &self,
        from: (NodeId, Name<'_>),
        to: (NodeId, Name<'_>),
        mode: RenameMode,
    ) -> Result<()> {
        self.share.writable()?;
        let (from, to) = ((self.folder(from.0)?, from.1), (self.folder(to.0)?, to.1));
        let ((source, source_fd), (target, target_fd)) = (&from.0, &to.0);
        let (old, new) = (from.1.bytes(), to.1.bytes());
        match mode {
            RenameMode::Replace => fs::renameat(source_fd, old, target_fd, new)?,
            RenameMode::Keep => fs::renameat_with(source_fd, old, target_fd, new, RenameFlags::NOREPLACE)?,
            RenameMode::Exchange => fs::renameat_with(source_fd, old, target_fd, new, RenameFlags::EXCHANGE)?,
        }
        // Files whose descriptor was closed are found again by their place.
        if let Ok(stat) = stat_at(target_fd.as_fd(), new) {
            self.nodes.moved(&Key::of(&stat), target.id, new);
        }
        if mode == RenameMode::Exchange
            && let Ok(stat) = stat_at(source_fd.as_fd(), old)
        {
            self.nodes.moved(&Key::of(&stat), source.id, old);
        }
        Ok(())
    }

    pub(super) fn add_name(&self, node: NodeId, parent: NodeId, name: Name<'_>) -> Result<Entry> {
        self.share.writable()?;
        let node = self.nodes.get(node)?;
        let fd = self.hold(&node)?;
        let (parent, folder) = self.folder(parent)?;
        self.share.link(fd.as_fd(), folder.as_fd(), name.bytes())?;
        self.find_in(&parent, folder.as_fd(), name.bytes())
    }
}
