//! The server and the passthrough as a guest's kernel sees them, on a folder that the test looks at from the host's side.

mod bounds;
mod files;
mod folders;
mod owners;
mod saved;

use std::{fs, path::PathBuf};

use super::*;
use crate::{Limits, Passthrough, Share, ShareOptions};

/// A reply taken apart.
#[derive(Debug)]
struct Answer {
    error: i32,
    body: Vec<u8>,
}

impl Answer {
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(*self.body[at..].first_chunk().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(*self.body[at..].first_chunk().unwrap())
    }

    fn ok(self) -> Self {
        assert_eq!(self.error, 0);
        self
    }

    fn failed(self, errno: Errno) {
        assert_eq!(self.error, -errno.0);
        assert!(self.body.is_empty());
    }
}

/// Where in `fuse_attr` what is.
const SIZE: usize = 8;
const MODE: usize = 60;
const UID: usize = 68;
const GID: usize = 72;
const FLAGS: usize = 84;

/// A guest's kernel.
struct Guest {
    server: Server<Passthrough>,
    folder: tempfile::TempDir,
    reply: Reply,
    unique: u64,
    uid: u32,
    room: usize,
}

impl Guest {
    fn new() -> Self {
        Self::with(ShareOptions { read_only: false, guest_owner: 0 }, Limits::default())
    }

    fn with(options: ShareOptions, limits: Limits) -> Self {
        Self::on(tempfile::tempdir().unwrap(), options, limits)
    }

    fn on(folder: tempfile::TempDir, options: ShareOptions, limits: Limits) -> Self {
        let files = Passthrough::new(Share::open(folder.path(), options).unwrap(), limits).unwrap();
        let server = Server::new(files);
        let mut guest = Self { server, folder, reply: Reply::default(), unique: 0, uid: 0, room: 1 << 21 };
        guest.init().ok();
        guest
    }

    fn init(&mut self) -> Answer {
        let words = [7u32, 41, 1 << 17, u32::MAX, 0].map(u32::to_le_bytes);
        self.ask(opcode::INIT, 0, &[&words.concat(), &[0; 44]])
    }

    /// On the host.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ask(&mut self, code: u32, node: u64, parts: &[&[u8]]) -> Answer {
        self.unique += 1;
        let body = parts.concat();
        let mut request = (40 + body.len() as u32).to_le_bytes().to_vec();
        request.extend(code.to_le_bytes());
        request.extend(self.unique.to_le_bytes());
        request.extend(node.to_le_bytes());
        request.extend([self.uid, self.uid, 1, 0].map(u32::to_le_bytes).concat());
        request.extend(body);
        self.server.handle(&request, self.room, &mut self.reply);
        let reply = self.reply.bytes();
        if reply.is_empty() {
            return Answer { error: 0, body: Vec::new() };
        }
        let word = |at: usize| u32::from_le_bytes(*reply[at..].first_chunk().unwrap());
        assert_eq!(word(0) as usize, reply.len());
        assert_eq!(u64::from_le_bytes(*reply[8..].first_chunk().unwrap()), self.unique);
        Answer { error: word(4).cast_signed(), body: reply[16..].to_vec() }
    }

    fn name(&mut self, code: u32, parent: u64, before: &[u32], name: &str) -> Answer {
        let words: Vec<u8> = before.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.ask(code, parent, &[&words, name.as_bytes(), b"\0"])
    }

    fn lookup(&mut self, parent: u64, name: &str) -> Answer {
        self.name(opcode::LOOKUP, parent, &[], name)
    }

    /// The node of a path, step by step.
    fn node(&mut self, path: &str) -> u64 {
        path.split('/').fold(1, |parent, name| self.lookup(parent, name).ok().u64(0))
    }

    /// Node and handle.
    fn create(&mut self, parent: u64, name: &str, mode: u32) -> (u64, u64) {
        let answer = self.name(opcode::CREATE, parent, &[2 | 0o100, 0o100_000 | mode, 0, 0], name).ok();
        (answer.u64(0), answer.u64(128))
    }

    fn open(&mut self, node: u64, flags: u32) -> Answer {
        self.ask(opcode::OPEN, node, &[&flags.to_le_bytes(), &[0; 4]])
    }

    fn write(&mut self, handle: u64, offset: u64, flags: u32, data: &[u8]) -> Answer {
        let (handle, offset) = (handle.to_le_bytes(), offset.to_le_bytes());
        let rest = [data.len() as u32, 0, 0, 0, flags, 0].map(u32::to_le_bytes).concat();
        self.ask(opcode::WRITE, 1, &[&handle, &offset, &rest, data])
    }

    fn read(&mut self, handle: u64, offset: u64, size: u32) -> Answer {
        let rest = [size, 0, 0, 0, 0, 0].map(u32::to_le_bytes).concat();
        self.ask(opcode::READ, 1, &[&handle.to_le_bytes(), &offset.to_le_bytes(), &rest])
    }

    /// `struct fuse_attr`.
    fn attr(&mut self, node: u64) -> Answer {
        let answer = self.ask(opcode::GETATTR, node, &[&[0; 16]]);
        Answer { body: answer.body.get(16..).unwrap_or_default().to_vec(), ..answer }
    }

    fn chmod(&mut self, node: u64, mode: u32) -> Answer {
        self.set(node, fattr::MODE, (mode, 0, 0), 0)
    }

    fn set(&mut self, node: u64, valid: u32, (mode, uid, gid): (u32, u32, u32), size: u64) -> Answer {
        let head = [valid, 0, 0, 0].map(u32::to_le_bytes).concat();
        let tail = [0, 0, 0, mode, 0, uid, gid, 0].map(u32::to_le_bytes).concat();
        self.ask(opcode::SETATTR, node, &[&head, &size.to_le_bytes(), &[0; 32], &tail])
    }

    fn rename(&mut self, (from, old): (u64, &str), (to, new): (u64, &str), flags: u32) -> Answer {
        let flags = u64::from(flags).to_le_bytes();
        let names = [old.as_bytes(), b"\0", new.as_bytes(), b"\0"].concat();
        self.ask(opcode::RENAME2, from, &[&to.to_le_bytes(), &flags, &names])
    }

    fn release(&mut self, handle: u64) {
        self.ask(opcode::RELEASE, 1, &[&handle.to_le_bytes(), &[0; 16]]).ok();
    }

    fn forget(&mut self, node: u64, count: u64) {
        self.ask(opcode::FORGET, node, &[&count.to_le_bytes()]);
    }

    fn host_file(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }
}

#[test]
fn nothing_works_before_both_sides_agree() {
    let mut guest = Guest::new();
    drop(guest.server.reset());
    guest.attr(1).failed(Errno::IO);
    let answer = guest.init().ok();
    assert_eq!((answer.u32(0), answer.u32(4), answer.body.len()), (7, 38, 64));
    let flags = u64::from(answer.u32(12)) | u64::from(answer.u32(32)) << 32;
    assert_eq!(flags, init::WANTED);
    assert_eq!((answer.u32(20), u16::from_le_bytes([answer.body[28], answer.body[29]])), (1 << 20, 256));
    guest.attr(1).ok();
}

#[test]
fn versions_that_are_too_old_or_too_new_are_told() {
    let mut guest = Guest::new();
    let mut init = |major: u32, minor: u32| {
        let words = [major, minor, 0, 0].map(u32::to_le_bytes).concat();
        guest.ask(opcode::INIT, 0, &[&words])
    };
    init(7, 20).failed(Errno(71));
    init(6, 50).failed(Errno(71));
    assert_eq!(init(8, 0).ok().u32(0), 7);
    // Without INIT_EXT there is no second word of flags.
    init(7, 31).ok();
}
