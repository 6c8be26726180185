//! Files of the host as they are, within one folder.
//!
//! **Names cannot lead out.** Each call names at most one component (see [`Name`]) in a folder that is held open, and
//! never follows a symbolic link: those are the guest's to resolve, among its own files. Files are opened again through
//! `/proc/self/fd`, by descriptor.
//!
//! **What is opened** for reading or writing is a regular file or a folder: a FIFO, socket or device of the host that
//! lies in the folder can be seen but not used. None is made: those of the guest are regular files of the host (see `owner`).

mod directory;
mod file;
mod handles;
mod names;
mod nodes;
mod owner;
mod share;
mod state;
mod xattr;

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
};

use rustix::fs::{OFlags, Timespec, Timestamps};
use tearless_state::{Encoded, StateError};

use crate::{
    Attr, Caller, DirSink, Entry, Errno, FileSystem, Handle, Leftovers, Limits, Name, NodeId, Opened,
    RenameMode, SetAttr, Space, Time, WriteMode, XattrMode,
};
use handles::Handles;
use nodes::{Held, Node, Nodes};
use owner::{DIRECTORY, LINK, REGULAR};
pub use share::Share;
use share::stat;

type Result<T> = std::result::Result<T, Errno>;

/// The files of a [`Share`], for one guest.
pub struct Passthrough {
    share: Arc<Share>,
    nodes: Nodes,
    handles: Handles,
}

impl Passthrough {
    /// Serves `share`.
    ///
    /// # Errors
    /// When the folder cannot be looked at.
    pub fn new(share: Arc<Share>, limits: Limits) -> std::io::Result<Self> {
        let nodes = Nodes::new(&share, limits.nodes, limits.descriptors)
            .map_err(|Errno(number)| std::io::Error::from_raw_os_error(number))?;
        Ok(Self { share, nodes, handles: Handles::new(limits.handles) })
    }

    /// Nodes and descriptors in use.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, usize) {
        self.nodes.counts()
    }

    fn hold(&self, node: &Arc<Node>) -> Result<Held<'_>> {
        self.nodes.hold(&self.share, node)
    }

    /// A folder, to name something in it.
    fn folder(&self, id: NodeId) -> Result<(Arc<Node>, Held<'_>)> {
        let node = self.nodes.get(id)?;
        if node.kind() != DIRECTORY {
            return Err(Errno::NOTDIR);
        }
        let fd = self.hold(&node)?;
        Ok((node, fd))
    }

    /// The entry of the file `fd`, found as `name` in `parent`.
    fn entry(&self, parent: &Node, name: &[u8], fd: OwnedFd) -> Result<Entry> {
        let stat = stat(fd.as_fd())?;
        let mut attr = self.share.attr(fd.as_fd(), &stat);
        let node = self.nodes.found(parent.id, name, fd, &stat)?;
        attr.submount = node.kind() == DIRECTORY && node.key.device != parent.key.device;
        // A number is never given to a second file.
        Ok(Entry { node: node.id, generation: 0, attr })
    }

    fn attr_of(&self, node: &Arc<Node>) -> Result<Attr> {
        let fd = self.hold(node)?;
        Ok(self.share.attr(fd.as_fd(), &stat(fd.as_fd())?))
    }

    /// Opens a regular file. The guest's kernel has checked that it may be; the host's owner may do as much, even where
    /// the permissions would have to be changed for that.
    fn open_regular(&self, node: &Arc<Node>, flags: OFlags) -> Result<OwnedFd> {
        if node.kind() != REGULAR {
            return Err(if node.kind() == LINK { Errno::LOOP } else { Errno::ACCES });
        }
        let fd = self.hold(node)?;
        match self.share.open_again(fd.as_fd(), flags) {
            // Nor for a moment, if it is not to be changed.
            Err(rustix::io::Errno::ACCESS) if !self.share.options.read_only => {
                let mode = u32::from(stat(fd.as_fd())?.stx_mode) & 0o7777;
                if mode & 0o600 == 0o600 || self.share.chmod(fd.as_fd(), mode | 0o600).is_err() {
                    return Err(Errno::ACCES);
                }
                let outcome = self.share.open_again(fd.as_fd(), flags);
                self.share.chmod(fd.as_fd(), mode)?;
                Ok(outcome?)
            }
            outcome => Ok(outcome?),
        }
    }

    /// Takes set-user-ID and set-group-ID away, as a change by an ordinary user does.
    fn drop_privileges(&self, node: &Arc<Node>) -> Result<()> {
        let fd = self.hold(node)?;
        let stat = stat(fd.as_fd())?;
        let owner = self.share.owner_of(fd.as_fd(), &stat);
        let plain = owner.without_privileges();
        if plain != owner { self.share.set_owner(fd.as_fd(), &stat, plain) } else { Ok(()) }
    }

    fn change_owner(&self, node: &Arc<Node>, change: &SetAttr) -> Result<()> {
        let fd = self.hold(node)?;
        let stat = stat(fd.as_fd())?;
        let mut owner = self.share.owner_of(fd.as_fd(), &stat);
        if change.uid.is_some() || change.gid.is_some() {
            owner.uid = change.uid.unwrap_or(owner.uid);
            owner.gid = change.gid.unwrap_or(owner.gid);
            if node.kind() != DIRECTORY {
                owner = owner.without_privileges();
            }
        }
        if let Some(mode) = change.mode {
            owner.mode = mode & 0o7777;
        }
        self.share.set_owner(fd.as_fd(), &stat, owner)
    }

    fn change_size(&self, node: &Arc<Node>, change: &SetAttr, size: u64) -> Result<()> {
        match change.handle {
            Some(handle) => self.handles.file(handle)?.truncate(size)?,
            None => rustix::fs::ftruncate(self.open_regular(node, OFlags::WRONLY)?, size)?,
        }
        if change.kill_privileges { self.drop_privileges(node) } else { Ok(()) }
    }

    fn change_times(&self, node: &Arc<Node>, change: &SetAttr) -> Result<()> {
        let spec = |time: Option<Option<Time>>| match time {
            None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
            Some(None) => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
            Some(Some(time)) => Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() },
        };
        let times = Timestamps { last_access: spec(change.atime), last_modification: spec(change.mtime) };
        let fd = self.hold(node)?;
        self.share.set_times(fd.as_fd(), node.kind() == LINK, &times)
    }
}

impl FileSystem for Passthrough {
    fn enter(&self) -> std::io::Result<()> {
        self.share.enter()
    }

    fn reset(&self) -> Leftovers {
        Box::new((self.handles.clear(), self.nodes.clear()))
    }

    fn save(&self) -> std::result::Result<Encoded, StateError> {
        self.save_files()
    }

    fn restore(&self, state: &Encoded) -> std::result::Result<(), StateError> {
        self.restore_files(state)
    }

    fn lookup(&self, parent: NodeId, name: Name<'_>) -> Result<Entry> {
        self.find(parent, name)
    }

    fn forget(&self, node: NodeId, count: u64) {
        self.nodes.forget(node, count);
    }

    fn getattr(&self, node: NodeId, handle: Option<Handle>) -> Result<Attr> {
        match handle.map(|handle| self.handles.get(handle)) {
            // An open file is there even if its name is not.
            Some(Ok(file)) => Ok(self.share.attr(file.fd(), &stat(file.fd())?)),
            _ => self.attr_of(&self.nodes.get(node)?),
        }
    }

    fn setattr(&self, node: NodeId, change: &SetAttr) -> Result<Attr> {
        self.share.writable()?;
        let node = self.nodes.get(node)?;
        if let Some(size) = change.size {
            self.change_size(&node, change, size)?;
        }
        if change.mode.is_some() || change.uid.is_some() || change.gid.is_some() {
            self.change_owner(&node, change)?;
        }
        if change.atime.is_some() || change.mtime.is_some() {
            self.change_times(&node, change)?;
        }
        self.attr_of(&node)
    }

    fn access(&self, node: NodeId, mask: u32) -> Result<()> {
        let access = rustix::fs::Access::from_bits_truncate(mask & 7);
        if access.contains(rustix::fs::Access::WRITE_OK) {
            self.share.writable()?;
        }
        let node = self.nodes.get(node)?;
        let fd = self.hold(&node)?;
        if node.kind() == LINK { Ok(()) } else { self.share.access(fd.as_fd(), access) }
    }

    fn readlink(&self, node: NodeId) -> Result<Vec<u8>> {
        let node = self.nodes.get(node)?;
        let fd = self.hold(&node)?;
        Ok(rustix::fs::readlinkat(fd.as_fd(), c"", Vec::new())?.into_bytes())
    }

    fn symlink(&self, by: Caller, parent: NodeId, name: Name<'_>, target: &[u8]) -> Result<Entry> {
        self.make_link(by, parent, name, target)
    }

    fn mknod(&self, by: Caller, parent: NodeId, name: Name<'_>, mode: u32, device: u32) -> Result<Entry> {
        self.make_node(by, parent, name, mode, device)
    }

    fn mkdir(&self, by: Caller, parent: NodeId, name: Name<'_>, mode: u32) -> Result<Entry> {
        self.make_folder(by, parent, name, mode)
    }

    fn unlink(&self, parent: NodeId, name: Name<'_>) -> Result<()> {
        self.remove(parent, name, rustix::fs::AtFlags::empty())
    }

    fn rmdir(&self, parent: NodeId, name: Name<'_>) -> Result<()> {
        self.remove(parent, name, rustix::fs::AtFlags::REMOVEDIR)
    }

    fn rename(&self, from: (NodeId, Name<'_>), to: (NodeId, Name<'_>), mode: RenameMode) -> Result<()> {
        self.move_name(from, to, mode)
    }

    fn link(&self, node: NodeId, parent: NodeId, name: Name<'_>) -> Result<Entry> {
        self.add_name(node, parent, name)
    }

    fn open(&self, node: NodeId, flags: u32, kill_privileges: bool) -> Result<Opened> {
        self.open_file(&self.nodes.get(node)?, flags, kill_privileges)
    }

    fn create(
        &self,
        by: Caller,
        at: (NodeId, Name<'_>),
        flags: u32,
        mode: u32,
        kill_privileges: bool,
    ) -> Result<(Entry, Opened)> {
        self.create_file(by, at, flags, mode, kill_privileges)
    }

    fn tmpfile(&self, by: Caller, parent: NodeId, flags: u32, mode: u32) -> Result<(Entry, Opened)> {
        self.create_nameless(by, parent, flags, mode)
    }

    fn read(&self, handle: Handle, offset: u64, into: &mut [u8]) -> Result<usize> {
        self.handles.file(handle)?.read(offset, into)
    }

    fn write(&self, handle: Handle, offset: u64, from: &[u8], mode: WriteMode) -> Result<usize> {
        let file = self.handles.file(handle)?;
        if mode.kill_privileges {
            self.drop_privileges(file.node())?;
        }
        file.write(offset, from, mode.append)
    }

    /// There is nothing to flush: what was written is the host's. (No answer but this spares the guest a request at each
    /// `close`, for Linux does not ask again.)
    fn flush(&self, _: Handle) -> Result<()> {
        Err(Errno::NOSYS)
    }

    fn fsync(&self, handle: Handle, data_only: bool) -> Result<()> {
        self.handles.get(handle)?.sync(data_only)
    }

    fn release(&self, handle: Handle) -> Result<()> {
        let file = self.handles.remove(handle)?;
        file.node().open.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    fn fallocate(&self, handle: Handle, mode: u32, offset: u64, len: u64) -> Result<()> {
        self.share.writable()?;
        self.handles.file(handle)?.allocate(mode, offset, len)
    }

    fn seek(&self, handle: Handle, offset: u64, whence: u32) -> Result<u64> {
        self.handles.file(handle)?.seek(offset, whence)
    }

    fn copy(&self, from: (Handle, u64), to: (Handle, u64), len: u64) -> Result<u64> {
        let (source, target) = (self.handles.file(from.0)?, self.handles.file(to.0)?);
        let len = usize::try_from(len).map_err(|_| Errno::INVAL)?;
        let (mut read, mut written) = (from.1, to.1);
        let copied =
            rustix::fs::copy_file_range(source.fd(), Some(&mut read), target.fd(), Some(&mut written), len)?;
        Ok(copied as u64)
    }

    fn opendir(&self, node: NodeId) -> Result<Handle> {
        let (node, fd) = self.folder(node)?;
        let fd = self.share.open_again(fd.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        self.handles.add(&node, fd, None)
    }

    fn readdir(&self, handle: Handle, offset: u64, plus: bool, sink: &mut dyn DirSink) -> Result<()> {
        self.list(handle, offset, plus, sink)
    }

    fn getxattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        self.attribute(node, name)
    }

    fn listxattr(&self, node: NodeId) -> Result<Vec<u8>> {
        self.attributes(node)
    }

    fn setxattr(&self, node: NodeId, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.set_attribute(node, name, value, mode)
    }

    fn removexattr(&self, node: NodeId, name: &[u8]) -> Result<()> {
        self.remove_attribute(node, name)
    }

    fn statfs(&self) -> Result<Space> {
        let stat = rustix::fs::fstatvfs(self.share.root())?;
        Ok(Space {
            blocks: stat.f_blocks,
            free: stat.f_bfree,
            available: stat.f_bavail,
            files: stat.f_files,
            files_free: stat.f_ffree,
            block_size: u32::try_from(stat.f_frsize).unwrap_or(4096),
            longest_name: u32::try_from(stat.f_namemax).unwrap_or(255),
        })
    }

    fn sync(&self) -> Result<()> {
        Ok(rustix::fs::syncfs(self.share.root())?)
    }
}
