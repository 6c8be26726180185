//! Numbers and byte layouts of the protocol (`include/uapi/linux/fuse.h` of Linux). All little-endian: the guest is.

use crate::{Attr, Entry, Errno, Opened, Time};

/// The protocol version that the server speaks; an older guest gets by with less, a newer one steps down.
pub(crate) const MAJOR: u32 = 7;
pub(crate) const MINOR: u32 = 38;
/// Before this the replies were shorter; every Linux with virtiofs is newer (5.4 has 7.31).
pub(crate) const OLDEST_MINOR: u32 = 31;

/// `struct fuse_in_header`.
pub(crate) const IN_HEADER: usize = 40;
/// `struct fuse_out_header`.
pub(crate) const OUT_HEADER: usize = 16;
/// `struct fuse_dirent` without the name.
pub(crate) const DIRENT: usize = 24;
/// `struct fuse_entry_out`.
pub(crate) const ENTRY_OUT: usize = 128;

/// The operations.
#[allow(missing_docs, reason = "their names are the documentation")]
pub mod opcode {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const GETLK: u32 = 31;
    pub const SETLK: u32 = 32;
    pub const SETLKW: u32 = 33;
    pub const ACCESS: u32 = 34;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const BMAP: u32 = 37;
    pub const DESTROY: u32 = 38;
    pub const IOCTL: u32 = 39;
    pub const POLL: u32 = 40;
    pub const NOTIFY_REPLY: u32 = 41;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const LSEEK: u32 = 46;
    pub const COPY_FILE_RANGE: u32 = 47;
    pub const SETUPMAPPING: u32 = 48;
    pub const REMOVEMAPPING: u32 = 49;
    pub const SYNCFS: u32 = 50;
    pub const TMPFILE: u32 = 51;
    pub const STATX: u32 = 52;
}

/// What INIT negotiates.
pub(crate) mod init {
    pub const ASYNC_READ: u64 = 1 << 0;
    pub const ATOMIC_O_TRUNC: u64 = 1 << 3;
    pub const BIG_WRITES: u64 = 1 << 5;
    pub const AUTO_INVAL_DATA: u64 = 1 << 12;
    pub const DO_READDIRPLUS: u64 = 1 << 13;
    pub const READDIRPLUS_AUTO: u64 = 1 << 14;
    pub const ASYNC_DIO: u64 = 1 << 15;
    pub const PARALLEL_DIROPS: u64 = 1 << 18;
    pub const MAX_PAGES: u64 = 1 << 22;
    pub const CACHE_SYMLINKS: u64 = 1 << 23;
    pub const SUBMOUNTS: u64 = 1 << 27;
    pub const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    pub const INIT_EXT: u64 = 1 << 30;

    /// Left out on purpose: locks (POSIX_LOCKS, FLOCK_LOCKS: the guest's kernel keeps them), WRITEBACK_CACHE (what the
    /// host writes would get lost), POSIX_ACL and DONT_MASK (no ACLs), EXPORT_SUPPORT (nodes do not outlive their names).
    pub const WANTED: u64 = ASYNC_READ
        | ATOMIC_O_TRUNC
        | BIG_WRITES
        | AUTO_INVAL_DATA
        | DO_READDIRPLUS
        | READDIRPLUS_AUTO
        | ASYNC_DIO
        | PARALLEL_DIROPS
        | MAX_PAGES
        | CACHE_SYMLINKS
        | SUBMOUNTS
        | HANDLE_KILLPRIV_V2
        | INIT_EXT;
}

/// Bits of SETATTR's `valid`.
pub(crate) mod fattr {
    pub const MODE: u32 = 1 << 0;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const FH: u32 = 1 << 6;
    pub const ATIME_NOW: u32 = 1 << 7;
    pub const MTIME_NOW: u32 = 1 << 8;
    pub const KILL_SUIDGID: u32 = 1 << 11;
}

/// Bits of single requests and replies.
pub(crate) mod flag {
    pub const GETATTR_FH: u32 = 1 << 0;
    pub const OPEN_KILL_SUIDGID: u32 = 1 << 0;
    pub const FOPEN_KEEP_CACHE: u32 = 1 << 1;
    pub const WRITE_CACHE: u32 = 1 << 0;
    pub const WRITE_KILL_SUIDGID: u32 = 1 << 2;
    pub const FSYNC_FDATASYNC: u32 = 1 << 0;
    pub const ATTR_SUBMOUNT: u32 = 1 << 0;
    /// `O_APPEND` of arm64 Linux, as of all Linux but a few.
    pub const O_APPEND: u32 = 0o2000;
}

/// Whether a request only says that nodes are forgotten: it has no reply, and should not wait behind others.
pub fn is_forget(code: u32) -> bool {
    matches!(code, opcode::FORGET | opcode::BATCH_FORGET)
}

/// The bytes of a request, taken from the front.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Errno> {
        let (now, rest) = self.0.split_at_checked(len).ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(now)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        let (now, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(*now)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Errno> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Errno> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Errno> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn skip(&mut self, len: usize) -> Result<(), Errno> {
        self.bytes(len).map(|_| ())
    }

    /// A string up to its NUL, which must be there.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.0.iter().position(|&b| b == 0).ok_or(Errno::INVAL)?;
        let text = self.bytes(end)?;
        self.skip(1)?;
        Ok(text)
    }
}

/// A reply: its header, then what the operation answers. Its buffer is kept for the next one.
#[derive(Debug, Default)]
pub struct Reply {
    bytes: Vec<u8>,
    len: usize,
}

impl Reply {
    /// The whole reply; empty when there is none.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Leaves room for the header.
    pub(crate) fn begin(&mut self) {
        self.len = 0;
        self.put(&[0; OUT_HEADER]);
    }

    /// Writes the header: with an error there is nothing but it.
    pub(crate) fn finish(&mut self, unique: u64, outcome: Result<(), Errno>) {
        let error = outcome.err().map_or(0, |Errno(number)| -number);
        if error != 0 {
            self.len = OUT_HEADER;
        }
        let len = u32::try_from(self.len).unwrap_or(u32::MAX);
        let fields = len.to_le_bytes().into_iter().chain(error.to_le_bytes()).chain(unique.to_le_bytes());
        self.bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The next `len` bytes, for the caller to fill; [`Reply::advance`] makes them part of the reply.
    pub(crate) fn space(&mut self, len: usize) -> &mut [u8] {
        let end = self.len + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes.get_mut(self.len..end).unwrap_or_default()
    }

    pub(crate) fn advance(&mut self, len: usize) {
        self.len = (self.len + len).min(self.bytes.len());
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.space(bytes.len()).copy_from_slice(bytes);
        self.advance(bytes.len());
        self
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    pub(crate) fn zeros(&mut self, count: usize) -> &mut Self {
        self.space(count).fill(0);
        self.advance(count);
        self
    }

    /// `struct fuse_attr`.
    pub(crate) fn attr(&mut self, attr: &Attr) -> &mut Self {
        self.u64(attr.inode).u64(attr.size).u64(attr.blocks);
        for time in [attr.atime, attr.mtime, attr.ctime] {
            self.u64(time.seconds.cast_unsigned());
        }
        self.u32(attr.atime.nanos).u32(attr.mtime.nanos).u32(attr.ctime.nanos);
        self.u32(attr.mode).u32(attr.links).u32(attr.uid).u32(attr.gid).u32(attr.rdev).u32(attr.block_size);
        self.u32(if attr.submount { flag::ATTR_SUBMOUNT } else { 0 })
    }

    /// `struct fuse_attr_out`.
    pub(crate) fn attr_reply(&mut self, attr: &Attr, valid: Time) -> &mut Self {
        self.u64(valid.seconds.cast_unsigned()).u32(valid.nanos).u32(0).attr(attr)
    }

    /// `struct fuse_entry_out`.
    pub(crate) fn entry(&mut self, entry: &Entry, valid: Time) -> &mut Self {
        let seconds = valid.seconds.cast_unsigned();
        self.u64(entry.node.0).u64(entry.generation).u64(seconds).u64(seconds);
        self.u32(valid.nanos).u32(valid.nanos).attr(&entry.attr)
    }

    /// `struct fuse_open_out`.
    pub(crate) fn opened(&mut self, opened: &Opened) -> &mut Self {
        let flags = if opened.keep_cache { flag::FOPEN_KEEP_CACHE } else { 0 };
        self.u64(opened.handle.0).u32(flags).u32(0)
    }
}
