//! What the guest has open.

use std::{
    collections::{HashMap, HashSet, VecDeque},
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
    /// How the guest opened it, to do it again; `None` for a directory.
    pub(super) flags: Option<u32>,
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

/// What a saved VM has of the handles.
pub(super) struct Saved {
    pub(super) open: Vec<(Handle, Arc<File>)>,
    pub(super) gone: Vec<Handle>,
    pub(super) next: u64,
}

/// A file that was opened again, and how.
pub(super) type Reopened = (Arc<Node>, OwnedFd, Option<u32>);

#[derive(Default)]
struct Table {
    open: HashMap<Handle, Arc<File>>,
    /// Open in a VM that was saved, and not to be opened again.
    gone: HashSet<Handle>,
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

    pub(super) fn add(&self, node: &Arc<Node>, fd: OwnedFd, flags: Option<u32>) -> Result<Handle> {
        let mut table = lock(&self.table);
        if table.open.len() >= self.max {
            return Err(Errno::NFILE);
        }
        table.next += 1;
        let handle = Handle(table.next);
        table.insert(handle, node, fd, flags);
        Ok(handle)
    }

    pub(super) fn get(&self, handle: Handle) -> Result<Arc<File>> {
        let table = lock(&self.table);
        table.open.get(&handle).cloned().ok_or_else(|| table.missing(handle))
    }

    /// A regular file.
    pub(super) fn file(&self, handle: Handle) -> Result<Arc<File>> {
        self.get(handle)
            .and_then(|file| if file.node.kind() == REGULAR { Ok(file) } else { Err(Errno::BADF) })
    }

    pub(super) fn remove(&self, handle: Handle) -> Result<Arc<File>> {
        let mut table = lock(&self.table);
        let missing = table.missing(handle);
        table.gone.remove(&handle);
        table.open.remove(&handle).ok_or(missing)
    }

    /// For a saved VM: what is open, what is gone, and the next number.
    pub(super) fn save(&self) -> Saved {
        let table = lock(&self.table);
        let open = table.open.iter().map(|(handle, file)| (*handle, file.clone())).collect();
        Saved { open, gone: table.gone.iter().copied().collect(), next: table.next }
    }

    /// Takes over what was saved: each handle with its node and file, or without if that is gone. `false` when these are more
    /// than there may be.
    pub(super) fn restore(&self, next: u64, handles: Vec<(Handle, Option<Reopened>)>) -> bool {
        if handles.len() > self.max {
            return false;
        }
        let mut table = lock(&self.table);
        table.next = next;
        for (handle, reopened) in handles {
            match reopened {
                Some((node, fd, flags)) => table.insert(handle, &node, fd, flags),
                None => _ = table.gone.insert(handle),
            }
        }
        true
    }

    /// Takes all out.
    pub(super) fn clear(&self) -> HashMap<Handle, Arc<File>> {
        let mut table = lock(&self.table);
        table.gone.clear();
        std::mem::take(&mut table.open)
    }
}

impl Table {
    fn insert(&mut self, handle: Handle, node: &Arc<Node>, fd: OwnedFd, flags: Option<u32>) {
        node.open.fetch_add(1, Ordering::Relaxed);
        let file = File { fd, node: node.clone(), flags, cursor: Mutex::default() };
        self.open.insert(handle, Arc::new(file));
    }

    fn missing(&self, handle: Handle) -> Errno {
        if self.gone.contains(&handle) { Errno::STALE } else { Errno::BADF }
    }
}
