//! The protocol: one request in, at most one reply out.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tearless_state::{Encoded, StateError};

use crate::{
    Caller, Errno, FileSystem, Handle, Leftovers, Name, NodeId, Reply, Time,
    wire::{Fields, IN_HEADER, MAJOR, MINOR, OLDEST_MINOR, OUT_HEADER, fattr, flag, init, is_forget, opcode},
};

mod directory;
mod file;
mod node;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

/// Most bytes that are read or written at once.
const MAX_DATA: usize = 1 << 20;
/// Longer requests cannot make sense.
pub const MAX_REQUEST: usize = MAX_DATA + (4 << 10);
/// No reply is longer.
pub const MAX_REPLY: usize = MAX_DATA + OUT_HEADER;
/// Pages of 4 KiB; the guest's may be larger.
const MAX_PAGES: u16 = (MAX_DATA >> 12) as u16;
/// Requests that the guest has on their way without anybody waiting, such as those that read ahead.
const MAX_BACKGROUND: u16 = 64;
/// As Linux has it.
const MAX_READAHEAD: u32 = 1 << 20;

/// How long the guest may go by what it was told of names and attributes: a change on the host is seen after that.
/// Within that time a guest that walks a tree asks once per file.
const VALID: Time = Time { seconds: 0, nanos: 250_000_000 };

type Result<T> = std::result::Result<T, Errno>;

/// The version of the state's format.
const STATE_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedServer {
    initialised: bool,
    files: Encoded,
}

/// Serves a file system to one guest.
pub struct Server<F> {
    files: F,
    initialised: AtomicBool,
}

/// `struct fuse_in_header`, and what follows.
struct Request<'a> {
    code: u32,
    unique: u64,
    node: NodeId,
    by: Caller,
    body: Fields<'a>,
    /// Bytes that the reply may have after its header.
    room: usize,
}

impl<'a> Request<'a> {
    /// `None` when that is no request.
    fn parse(bytes: &'a [u8], room: usize) -> Option<Self> {
        let mut fields = Fields(bytes);
        let len = fields.u32().ok()? as usize;
        let code = fields.u32().ok()?;
        let (unique, node) = (fields.u64().ok()?, NodeId(fields.u64().ok()?));
        let by = Caller { uid: fields.u32().ok()?, gid: fields.u32().ok()? };
        fields.skip(4).ok()?;
        // Extensions, in units of 8 bytes, follow the arguments. None is negotiated.
        let extensions = usize::from(fields.u16().ok()?) * 8;
        let body = bytes.get(IN_HEADER..len.checked_sub(extensions)?)?;
        let room = room.min(MAX_REPLY).saturating_sub(OUT_HEADER);
        Some(Self { code, unique, node, by, body: Fields(body), room })
    }

    fn name(&mut self) -> Result<Name<'a>> {
        Name::new(self.body.string()?)
    }

    fn handle(&mut self) -> Result<Handle> {
        self.body.u64().map(Handle)
    }
}

impl<F: FileSystem> Server<F> {
    /// Serves `files`.
    pub fn new(files: F) -> Self {
        Self { files, initialised: AtomicBool::new(false) }
    }

    /// The file system.
    pub fn files(&self) -> &F {
        &self.files
    }

    /// The guest is gone. Dropping what this returns closes its files.
    #[must_use = "closing the files may take a while"]
    pub fn reset(&self) -> Leftovers {
        self.initialised.store(false, Ordering::Release);
        self.files.reset()
    }

    /// What a saved VM has of it. Called while no request is in progress.
    ///
    /// # Errors
    /// When the file system cannot tell.
    pub fn save(&self) -> std::result::Result<Encoded, StateError> {
        let initialised = self.initialised.load(Ordering::Acquire);
        Encoded::new(STATE_VERSION, &SavedServer { initialised, files: self.files.save()? })
    }

    /// Takes a state over, of a file system that is as new.
    ///
    /// # Errors
    /// When it is none of a server.
    pub fn restore(&self, state: &Encoded) -> std::result::Result<(), StateError> {
        let saved: SavedServer = state.decode(STATE_VERSION)?;
        self.files.restore(&saved.files)?;
        self.initialised.store(saved.initialised, Ordering::Release);
        Ok(())
    }

    /// Answers `request`, in at most `room` bytes. A reply without bytes means that there is none.
    pub fn handle(&self, request: &[u8], room: usize, reply: &mut Reply) {
        reply.clear();
        let Some(request) = Request::parse(request, room) else { return };
        if is_forget(request.code) {
            if self.initialised.load(Ordering::Acquire) {
                // A list that is cut short forgets what it names.
                _ = self.forget(request);
            }
            return;
        }
        if room < OUT_HEADER {
            return;
        }
        let unique = request.unique;
        reply.begin();
        match self.dispatch(request, reply) {
            Ok(true) => reply.finish(unique, Ok(())),
            Ok(false) => reply.clear(),
            Err(error) => reply.finish(unique, Err(error)),
        }
        if reply.len() > room {
            reply.finish(unique, Err(Errno::RANGE));
        }
    }

    /// Returns whether there is a reply.
    fn dispatch(&self, request: Request<'_>, reply: &mut Reply) -> Result<bool> {
        let code = request.code;
        if code == opcode::INIT {
            return self.init(request, reply).map(|()| true);
        }
        if !self.initialised.load(Ordering::Acquire) {
            return Err(Errno::IO);
        }
        match code {
            opcode::LOOKUP | opcode::LINK | opcode::SYMLINK | opcode::MKNOD | opcode::MKDIR => {
                self.make(request, reply)
            }
            opcode::UNLINK | opcode::RMDIR | opcode::RENAME | opcode::RENAME2 => self.unmake(request),
            opcode::GETATTR | opcode::SETATTR | opcode::READLINK | opcode::ACCESS => {
                self.node(request, reply)
            }
            opcode::SETXATTR | opcode::GETXATTR | opcode::LISTXATTR | opcode::REMOVEXATTR => {
                self.attributes(request, reply)
            }
            opcode::OPEN | opcode::CREATE | opcode::TMPFILE => self.open(request, reply),
            opcode::READ => self.read(request, reply),
            opcode::WRITE => self.write(request, reply),
            opcode::FLUSH | opcode::RELEASE | opcode::FSYNC | opcode::FALLOCATE => self.file(request),
            opcode::LSEEK | opcode::COPY_FILE_RANGE => self.position(request, reply),
            opcode::OPENDIR | opcode::RELEASEDIR | opcode::FSYNCDIR => self.directory(request, reply),
            opcode::READDIR | opcode::READDIRPLUS => self.entries(request, reply),
            opcode::STATFS => self.space(reply),
            opcode::SYNCFS => self.files.sync(),
            opcode::DESTROY => {
                drop(self.reset());
                Ok(())
            }
            // Every request is answered soon, so there is nothing to interrupt; this has no reply of its own.
            opcode::INTERRUPT | opcode::NOTIFY_REPLY => return Ok(false),
            // Attributes of file systems and commands to devices: the host's are not the guest's business.
            opcode::IOCTL => Err(Errno::NOTTY),
            // Locks, polling, block numbers, windows into files.
            _ => Err(Errno::NOSYS),
        }
        .map(|()| true)
    }

    /// Agrees on a version and functions. The guest is new, or has mounted anew: it knows no node but the root.
    fn init(&self, mut request: Request<'_>, reply: &mut Reply) -> Result<()> {
        /// Protocol error.
        const PROTO: Errno = Errno(71);
        let body = &mut request.body;
        let (major, minor) = (body.u32()?, body.u32()?);
        let (readahead, low) = (body.u32()?, body.u32()?);
        if major > MAJOR {
            // It comes back with ours.
            reply.u32(MAJOR).u32(MINOR).zeros(56);
            return Ok(());
        }
        if major < MAJOR || minor < OLDEST_MINOR {
            return Err(PROTO);
        }
        let high = if u64::from(low) & init::INIT_EXT != 0 { body.u32().unwrap_or(0) } else { 0 };
        let flags = (u64::from(high) << 32 | u64::from(low)) & init::WANTED;
        drop(self.files.reset());
        self.initialised.store(true, Ordering::Release);
        let [low, high] = [flags as u32, (flags >> 32) as u32];
        reply.u32(MAJOR).u32(MINOR).u32(readahead.min(MAX_READAHEAD)).u32(low);
        reply.u16(MAX_BACKGROUND).u16(MAX_BACKGROUND / 4 * 3).u32(MAX_DATA as u32);
        reply.u32(1).u16(MAX_PAGES).u16(0).u32(high).zeros(28);
        Ok(())
    }

    fn space(&self, reply: &mut Reply) -> Result<()> {
        let space = self.files.statfs()?;
        reply.u64(space.blocks).u64(space.free).u64(space.available).u64(space.files).u64(space.files_free);
        reply.u32(space.block_size).u32(space.longest_name).u32(space.block_size).zeros(28);
        Ok(())
    }
}
