//! What the guest has open.

use std::{
    collections::{HashMap, VecDeque},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, atomic::Ordering},
};

use rustix::{
    fs::{self, FallocateFlags, SeekFrom},
    io::{self, ReadWriteFlags},
};

use super::{
    Result,
    nodes::{Node, lock},
    owner::REGULAR,
};
use crate::{Errno, Handle, Kind};

/// An entry of a directory that was read from the host and not yet asked for by the guest.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) inode: u64,
    pub(super) next: u64,
    pub(super) kind: Kind,
    pub(super) name: Box<[u8]>,
}

/// Where in a directory the guest is.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The place before the first of `pending`.
    pub(super) at: u64,
    pub(super) pending: VecDeque<Pending>,
}

/// An open file or directory.
#[derive(Debug)]
pub(super) struct File {
    fd: OwnedFd,
    node: Arc<Node>,
    pub(super) cursor: Mutex<Cursor>,
}

impl File {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match io::pread(&self.fd, rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(io::Errno::INTR) => (),
                Err(e) if done == 0 => return Err(e.into()),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    pub(super) fn write(&self, offset: u64, from: &[u8], append: bool) -> Result<usize> {
        let flags = if append { ReadWriteFlags::APPEND } else { ReadWriteFlags::empty() };
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(done as u64);
            match io::pwritev2(&self.fd, &[std::io::IoSlice::new(rest)], at, flags) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(io::Errno::INTR) => (),
                Err(e) if done == 0 => return Err(e.into()),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    pub(super) fn truncate(&self, size: u64) -> Result<()> {
        Ok(fs::ftruncate(&self.fd, size)?)
    }

    pub(super) fn sync(&self, data_only: bool) -> Result<()> {
        let outcome = if data_only { fs::fdatasync(&self.fd) } else { fs::fsync(&self.fd) };
        Ok(outcome?)
    }

    pub(super) fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        let mode = FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
        Ok(fs::fallocate(&self.fd, mode, offset, len)?)
    }

    pub(super) fn seek(&self, offset: u64, whence: u32) -> Result<u64> {
        let to = match whence {
            3 => SeekFrom::Data(offset),
            4 => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        Ok(fs::seek(&self.fd, to)?)
    }
}

#[derive(Default)]
struct Table {
    open: HashMap<Handle, Arc<File>>,
    next: u64,
}

pub(super) struct Handles {
    table: Mutex<Table>,
    max: usize,
}

impl Handles {
    pub(super) fn new(max: usize) -> Self {
        Self { table: Mutex::default(), max }
    }

    pub(super) fn add(&self, node: &Arc<Node>, fd: OwnedFd) -> Result<Handle> {
        let mut table = lock(&self.table);
        if table.open.len() >= self.max {
            return Err(Errno::NFILE);
        }
        table.next += 1;
        let handle = Handle(table.next);
        node.open.fetch_add(1, Ordering::Relaxed);
        let file = File { fd, node: node.clone(), cursor: Mutex::default() };
        table.open.insert(handle, Arc::new(file));
        Ok(handle)
    }

    pub(super) fn get(&self, handle: Handle) -> Result<Arc<File>> {
        lock(&self.table).open.get(&handle).cloned().ok_or(Errno::BADF)
    }

    /// A regular file.
    pub(super) fn file(&self, handle: Handle) -> Result<Arc<File>> {
        self.get(handle)
            .and_then(|file| if file.node.kind() == REGULAR { Ok(file) } else { Err(Errno::BADF) })
    }

    pub(super) fn remove(&self, handle: Handle) -> Result<Arc<File>> {
        lock(&self.table).open.remove(&handle).ok_or(Errno::BADF)
    }

    /// Takes all out.
    pub(super) fn clear(&self) -> HashMap<Handle, Arc<File>> {
        std::mem::take(&mut lock(&self.table).open)
    }
}
