//! Requests about open directories.

use super::{Request, Result, Server, VALID, flag, opcode};
use crate::{
    DirEntry, DirSink, Entry, FileSystem, Opened, Reply,
    wire::{DIRENT, ENTRY_OUT},
};

impl<F: FileSystem> Server<F> {
    pub(super) fn directory(&self, mut request: Request<'_>, reply: &mut Reply) -> Result<()> {
        if request.code == opcode::OPENDIR {
            let handle = self.files.opendir(request.node)?;
            reply.opened(&Opened { handle, keep_cache: false });
            return Ok(());
        }
        let handle = request.handle()?;
        if request.code == opcode::RELEASEDIR {
            return self.files.release(handle);
        }
        self.files.fsync(handle, request.body.u32()? & flag::FSYNC_FDATASYNC != 0)
    }

    pub(super) fn entries(&self, mut request: Request<'_>, reply: &mut Reply) -> Result<()> {
        let (handle, offset) = (request.handle()?, request.body.u64()?);
        let room = (request.body.u32()? as usize).min(request.room);
        let plus = request.code == opcode::READDIRPLUS;
        let end = reply.len() + room;
        self.files.readdir(handle, offset, plus, &mut Listing { reply, end, plus })
    }
}

/// The reply to READDIR or READDIRPLUS.
struct Listing<'a> {
    reply: &'a mut Reply,
    end: usize,
    plus: bool,
}

impl Listing<'_> {
    fn size(&self, name: usize) -> usize {
        (if self.plus { ENTRY_OUT + DIRENT } else { DIRENT }) + name.next_multiple_of(8)
    }
}

impl DirSink for Listing<'_> {
    fn fits(&self, name: usize) -> bool {
        self.reply.len() + self.size(name) <= self.end
    }

    fn add(&mut self, entry: &DirEntry<'_>, found: Option<&Entry>) {
        match found {
            _ if !self.plus => (),
            Some(found) => _ = self.reply.entry(found, VALID),
            // Node 0: the name alone.
            None => _ = self.reply.zeros(ENTRY_OUT),
        }
        let (len, kind) = (entry.name.len(), u32::from(entry.kind.0));
        self.reply.u64(entry.inode).u64(entry.next).u32(len as u32).u32(kind);
        self.reply.put(entry.name).zeros(len.next_multiple_of(8) - len);
    }
}
