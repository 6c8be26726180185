//! Requests about names and attributes.

use super::{Request, Result, Server, VALID, fattr, flag, opcode};
use crate::{Errno, FileSystem, Handle, Name, NodeId, RenameMode, Reply, SetAttr, Time, XattrMode};

/// Longest value of an extended attribute, and longest list of them (`XATTR_SIZE_MAX`).
const MAX_XATTR: usize = 64 << 10;
/// `PATH_MAX`, without the NUL.
const MAX_TARGET: usize = 4095;

impl<F: FileSystem> Server<F> {
    pub(super) fn forget(&self, mut request: Request<'_>) -> Result<()> {
        let body = &mut request.body;
        if request.code == opcode::FORGET {
            self.files.forget(request.node, body.u64()?);
            return Ok(());
        }
        let count = body.u32()?;
        body.skip(4)?;
        for _ in 0..count {
            let (node, lookups) = (body.u64()?, body.u64()?);
            self.files.forget(NodeId(node), lookups);
        }
        Ok(())
    }

    /// What ends in an entry.
    pub(super) fn make(&self, mut request: Request<'_>, reply: &mut Reply) -> Result<()> {
        let (parent, by) = (request.node, request.by);
        let entry = match request.code {
            opcode::LOOKUP => self.files.lookup(parent, request.name()?)?,
            opcode::MKDIR => {
                let mode = request.body.u32()?;
                request.body.skip(4)?;
                self.files.mkdir(by, parent, request.name()?, mode)?
            }
            opcode::MKNOD => {
                let (mode, device) = (request.body.u32()?, request.body.u32()?);
                request.body.skip(8)?;
                self.files.mknod(by, parent, request.name()?, mode, device)?
            }
            opcode::SYMLINK => {
                let name = request.name()?;
                let target = request.body.string()?;
                if target.len() > MAX_TARGET {
                    return Err(Errno::NAMETOOLONG);
                }
                self.files.symlink(by, parent, name, target)?
            }
            _ => {
                let node = NodeId(request.body.u64()?);
                self.files.link(node, parent, request.name()?)?
            }
        };
        reply.entry(&entry, VALID);
        Ok(())
    }

    pub(super) fn unmake(&self, mut request: Request<'_>) -> Result<()> {
        let parent = request.node;
        match request.code {
            opcode::UNLINK => return self.files.unlink(parent, request.name()?),
            opcode::RMDIR => return self.files.rmdir(parent, request.name()?),
            _ => (),
        }
        let to = NodeId(request.body.u64()?);
        let flags = if request.code == opcode::RENAME2 {
            let flags = request.body.u32()?;
            request.body.skip(4)?;
            flags
        } else {
            0
        };
        // RENAME_NOREPLACE, RENAME_EXCHANGE; RENAME_WHITEOUT would make a device.
        let mode = match flags {
            0 => RenameMode::Replace,
            1 => RenameMode::Keep,
            2 => RenameMode::Exchange,
            _ => return Err(Errno::INVAL),
        };
        let (old, new): (Name<'_>, Name<'_>) = (request.name()?, request.name()?);
        self.files.rename((parent, old), (to, new), mode)
    }

    pub(super) fn node(&self, mut request: Request<'_>, reply: &mut Reply) -> Result<()> {
        let node = request.node;
        match request.code {
            opcode::GETATTR => {
                let flags = request.body.u32()?;
                request.body.skip(4)?;
                let handle = request.body.u64()?;
                let handle = (flags & flag::GETATTR_FH != 0).then_some(Handle(handle));
                reply.attr_reply(&self.files.getattr(node, handle)?, VALID);
            }
            opcode::SETATTR => {
                let change = set_attr(&mut request)?;
                reply.attr_reply(&self.files.setattr(node, &change)?, VALID);
            }
            opcode::READLINK => {
                let target = self.files.readlink(node)?;
                if target.len() > request.room {
                    return Err(Errno::NAMETOOLONG);
                }
                reply.put(&target);
            }
            _ => self.files.access(node, request.body.u32()?)?,
        }
        Ok(())
    }

    pub(super) fn attributes(&self, mut request: Request<'_>, reply: &mut Reply) -> Result<()> {
        let node = request.node;
        let body = &mut request.body;
        match request.code {
            opcode::SETXATTR => {
                let (size, flags) = (body.u32()? as usize, body.u32()?);
                let mode = match flags {
                    0 => XattrMode::Any,
                    1 => XattrMode::Create,
                    2 => XattrMode::Replace,
                    _ => return Err(Errno::INVAL),
                };
                let name = body.string()?;
                if size > MAX_XATTR {
                    return Err(Errno::RANGE);
                }
                self.files.setxattr(node, name, body.bytes(size)?, mode)
            }
            opcode::REMOVEXATTR => self.files.removexattr(node, body.string()?),
            code => {
                let size = body.u32()? as usize;
                body.skip(4)?;
                let value = if code == opcode::GETXATTR {
                    self.files.getxattr(node, body.string()?)?
                } else {
                    self.files.listxattr(node)?
                };
                // A size of zero asks how long it is.
                if size == 0 {
                    reply.u32(value.len() as u32).u32(0);
                } else if value.len() > size.min(request.room) {
                    return Err(Errno::RANGE);
                } else {
                    reply.put(&value);
                }
                Ok(())
            }
        }
    }
}

/// `struct fuse_setattr_in`.
fn set_attr(request: &mut Request<'_>) -> Result<SetAttr> {
    let body = &mut request.body;
    let valid = body.u32()?;
    body.skip(4)?;
    let (handle, size) = (body.u64()?, body.u64()?);
    body.skip(8)?;
    let seconds = [body.u64()?, body.u64()?];
    body.skip(8)?;
    let nanos = [body.u32()?, body.u32()?];
    body.skip(4)?;
    let mode = body.u32()?;
    body.skip(4)?;
    let (uid, gid) = (body.u32()?, body.u32()?);
    let has = |bit| valid & bit != 0;
    let time = |set, now, seconds: u64, nanos: u32| {
        let explicit = Time { seconds: seconds.cast_signed(), nanos: nanos.min(999_999_999) };
        has(set).then(|| (!has(now)).then_some(explicit))
    };
    Ok(SetAttr {
        handle: has(fattr::FH).then_some(Handle(handle)),
        mode: has(fattr::MODE).then_some(mode),
        uid: has(fattr::UID).then_some(uid),
        gid: has(fattr::GID).then_some(gid),
        size: has(fattr::SIZE).then_some(size),
        atime: time(fattr::ATIME, fattr::ATIME_NOW, seconds[0], nanos[0]),
        mtime: time(fattr::MTIME, fattr::MTIME_NOW, seconds[1], nanos[1]),
        kill_privileges: has(fattr::KILL_SUIDGID),
    })
}
