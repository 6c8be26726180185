//! Requests about open files.

use super::{MAX_DATA, Request, Result, Server, VALID, flag, opcode};
use crate::{Errno, FileSystem, Handle, Reply, WriteMode};

/// Most bytes that one request copies within the host: it must be answered soon.
const MAX_COPY: u64 = 64 << 20;

impl<F: FileSystem> Server<F> {
    pub(super) fn open(&self, mut request: Request<'_>, reply: &mut Reply) -> Result<()> {
        let flags = request.body.u32()?;
        if request.code == opcode::OPEN {
            let kill = request.body.u32()? & flag::OPEN_KILL_SUIDGID != 0;
            reply.opened(&self.files.open(request.node, flags, kill)?);
            return Ok(());
        }
        let mode = request.body.u32()?;
        request.body.skip(4)?;
        let kill = request.body.u32()? & flag::OPEN_KILL_SUIDGID != 0;
        let (entry, opened) = if request.code == opcode::CREATE {
            let name = request.name()?;
            self.files.create(request.by, (request.node, name), flags, mode, kill)?
        } else {
            self.files.tmpfile(request.by, request.node, flags, mode)?
        };
        reply.entry(&entry, VALID).opened(&opened);
        Ok(())
    }

    pub(super) fn read(&self, mut request: Request<'_>, reply: &mut Reply) -> Result<()> {
        let (handle, offset) = (request.handle()?, request.body.u64()?);
        let size = (request.body.u32()? as usize).min(request.room).min(MAX_DATA);
        let read = self.files.read(handle, offset, reply.space(size))?;
        reply.advance(read.min(size));
        Ok(())
    }

    pub(super) fn write(&self, mut request: Request<'_>, reply: &mut Reply) -> Result<()> {
        let (handle, offset) = (request.handle()?, request.body.u64()?);
        let (size, write_flags) = (request.body.u32()? as usize, request.body.u32()?);
        request.body.skip(8)?;
        let flags = request.body.u32()?;
        request.body.skip(4)?;
        let data = request.body.bytes(size)?;
        let mode = WriteMode {
            // A page that comes from the guest's cache has its place.
            append: flags & flag::O_APPEND != 0 && write_flags & flag::WRITE_CACHE == 0,
            kill_privileges: write_flags & flag::WRITE_KILL_SUIDGID != 0,
        };
        let written = self.files.write(handle, offset, data, mode)?;
        reply.u32(written as u32).u32(0);
        Ok(())
    }

    pub(super) fn file(&self, mut request: Request<'_>) -> Result<()> {
        let handle = request.handle()?;
        let body = &mut request.body;
        match request.code {
            opcode::FLUSH => self.files.flush(handle),
            opcode::RELEASE => self.files.release(handle),
            opcode::FSYNC => self.files.fsync(handle, body.u32()? & flag::FSYNC_FDATASYNC != 0),
            _ => {
                let (offset, len) = (body.u64()?, body.u64()?);
                self.files.fallocate(handle, body.u32()?, offset, len)
            }
        }
    }

    pub(super) fn position(&self, mut request: Request<'_>, reply: &mut Reply) -> Result<()> {
        let (handle, offset) = (request.handle()?, request.body.u64()?);
        let body = &mut request.body;
        if request.code == opcode::LSEEK {
            reply.u64(self.files.seek(handle, offset, body.u32()?)?);
            return Ok(());
        }
        body.skip(8)?;
        let (to, to_offset, len) = (Handle(body.u64()?), body.u64()?, body.u64()?);
        if body.u64()? != 0 {
            return Err(Errno::INVAL);
        }
        let copied = self.files.copy((handle, offset), (to, to_offset), len.min(MAX_COPY))?;
        reply.u32(copied as u32).u32(0);
        Ok(())
    }
}
