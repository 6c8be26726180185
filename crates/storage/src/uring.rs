//! A queue on io_uring: requests go to the kernel in batches, and data moves between the file and guest memory without a
//! copy by us.
//!
//! ```text
//!   submit ---> slots, submission queue        (memory only)
//!   wait   ---> io_uring_enter ---> kernel ---> completion queue ---> done
//! ```
//! What the kernel leaves unfinished (a short read at the end of the file, an alignment that `O_DIRECT` does not take, a
//! range that the file system cannot zero) is finished here by copying, which is rare.
//!
//! This is one of the few places with `unsafe`: the kernel is given raw addresses. They are sound because guest memory is
//! only ever touched through raw pointers, by whomever; because the queue holds the memory and every list of addresses
//! until the kernel is done with it; and because dropping the queue waits for that.

#![allow(unsafe_code)]

use std::{
    fs::File,
    io, mem,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::event::{EventfdFlags, eventfd};
use tearless_memory::GuestMemory;

use crate::{Completion, Disk, Operation, Queue, Request, open, queue::perform};

/// The user data of the read that waits for the bell.
const BELL: u64 = u64::MAX;
/// `O_DIRECT` wants addresses, offsets and lengths in multiples of the medium's blocks. Where those are larger, the kernel
/// says EINVAL and the request is copied.
const ALIGNMENT: u64 = 512;
/// `FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE`.
const PUNCH: i32 = libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE;
/// `FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE`.
const ZERO: i32 = libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_ZERO_RANGE;

/// A request that the kernel has, with the addresses that it was told.
struct Slot {
    request: Request,
    iovecs: Vec<libc::iovec>,
}

/// A queue of one thread, the one that makes it.
pub(crate) struct Uring {
    ring: IoUring,
    disk: Arc<dyn Disk>,
    memory: GuestMemory,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    /// What was over before it reached the kernel.
    early: Vec<Completion>,
    /// Lists of addresses for reuse.
    spare: Vec<Vec<libc::iovec>>,
    bell: Arc<OwnedFd>,
    /// Where the kernel puts the bell's count.
    bell_count: Box<[u8; 8]>,
    bell_armed: bool,
    buffer: Vec<u8>,
}

impl Uring {
    /// A queue for `depth` requests at once.
    ///
    /// # Errors
    /// When the disk is not raw, or the kernel refuses.
    pub(crate) fn new(disk: Arc<dyn Disk>, memory: GuestMemory, depth: u16) -> io::Result<Self> {
        if disk.raw().is_none() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let entries = u32::from(depth) + 1;
        // The newer flags spare interruptions of this thread; kernels before 6.1 do without.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(entries)
            .or_else(|_| IoUring::new(entries))?;
        Ok(Self {
            ring,
            disk,
            memory,
            slots: (0..depth).map(|_| None).collect(),
            free: (0..usize::from(depth)).rev().collect(),
            early: Vec::new(),
            spare: Vec::new(),
            bell: Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?),
            bell_count: Box::new([0; 8]),
            bell_armed: false,
            buffer: Vec::new(),
        })
    }

    /// The file to use for a request on these addresses.
    fn file(&self, offset: u64, iovecs: &[libc::iovec]) -> Option<&File> {
        let raw = self.disk.raw()?;
        let fits = |value: u64| value.is_multiple_of(ALIGNMENT);
        let aligned =
            fits(offset) && iovecs.iter().all(|v| fits(v.iov_base as u64) && fits(v.iov_len as u64));
        Some(raw.direct().filter(|_| aligned).unwrap_or(raw.file()))
    }

    /// The addresses of a request's segments.
    fn addresses(&mut self, request: &Request) -> io::Result<Vec<libc::iovec>> {
        let mut iovecs = self.spare.pop().unwrap_or_default();
        iovecs.clear();
        for segment in request.segments.iter().filter(|s| s.len > 0) {
            let range = self.memory.host_range(segment.start, segment.len).map_err(io::Error::other)?;
            iovecs.push(libc::iovec { iov_base: range.host.as_ptr().cast(), iov_len: range.len });
        }
        Ok(iovecs)
    }

    /// What the kernel is asked, or `None` if there is nothing to ask.
    fn entry(&self, request: &Request, iovecs: &[libc::iovec]) -> Option<squeue::Entry> {
        let fd = types::Fd(self.file(request.offset, iovecs)?.as_raw_fd());
        let (addresses, count) = (iovecs.as_ptr(), u32::try_from(iovecs.len()).ok()?);
        Some(match request.operation {
            Operation::Read => opcode::Readv::new(fd, addresses, count).offset(request.offset).build(),
            Operation::Write => opcode::Writev::new(fd, addresses, count).offset(request.offset).build(),
            Operation::Flush if self.disk.raw()?.sync() == open::Sync::None || self.disk.read_only() => {
                return None;
            }
            Operation::Flush => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
            Operation::Discard { len: 0 } | Operation::WriteZeroes { len: 0, .. } => return None,
            Operation::Discard { len } => {
                opcode::Fallocate::new(fd, len).offset(request.offset).mode(PUNCH).build()
            }
            Operation::WriteZeroes { len, may_unmap } => {
                let mode = if may_unmap { PUNCH } else { ZERO };
                opcode::Fallocate::new(fd, len).offset(request.offset).mode(mode).build()
            }
        })
    }

    /// Hands an entry to the ring, making room if need be.
    ///
    /// # Safety
    /// What the entry points to must stay until the kernel has completed it.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the caller's promise.
        if unsafe { self.ring.submission().push(entry) }.is_err() {
            self.ring.submit()?;
            // SAFETY: as above; the kernel took all entries, so there is room now.
            unsafe { self.ring.submission().push(entry) }.map_err(|_| io::ErrorKind::WouldBlock)?;
        }
        Ok(())
    }

    fn arm_bell(&mut self) -> io::Result<()> {
        if !self.bell_armed {
            let fd = types::Fd(self.bell.as_raw_fd());
            let entry = opcode::Read::new(fd, self.bell_count.as_mut_ptr(), 8).build().user_data(BELL);
            // SAFETY: the count is on the heap and lives until `drop` has seen this read complete.
            unsafe { self.push(&entry)? };
            self.bell_armed = true;
        }
        Ok(())
    }

    /// Moves what the kernel completed to `done`.
    fn reap(&mut self, done: &mut Vec<Completion>) {
        loop {
            // Bound first: the completion queue must not stay borrowed.
            let entry = self.ring.completion().next();
            let Some(entry) = entry else { return };
            if entry.user_data() == BELL {
                self.bell_armed = false;
            } else if let Some(completion) = self.complete(&entry) {
                done.push(completion);
            }
        }
    }

    fn complete(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let index = usize::try_from(entry.user_data()).ok()?;
        let Slot { request, iovecs } = self.slots.get_mut(index)?.take()?;
        self.free.push(index);
        self.spare.push(iovecs);
        let result = self.outcome(&request, entry.result());
        Some(Completion { request, result })
    }

    fn outcome(&mut self, request: &Request, result: i32) -> io::Result<()> {
        let data = matches!(request.operation, Operation::Read | Operation::Write);
        let skip = match u64::try_from(result) {
            Ok(count) if !data || count == request.len() => return Ok(()),
            Ok(count) => count,
            Err(_) => match -result {
                libc::EINTR | libc::EAGAIN | libc::EINVAL | libc::EOPNOTSUPP => 0,
                error => return Err(io::Error::from_raw_os_error(error)),
            },
        };
        perform(&*self.disk, &self.memory, request, skip, &mut self.buffer)
    }

    /// Submits and waits for something, if `block`; `false` if the ring itself fails.
    fn enter(&mut self, block: bool) -> bool {
        loop {
            match self.ring.submit_and_wait(usize::from(block)) {
                Ok(_) => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The completion queue is full: there is something to reap.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return true,
                Err(error) => {
                    tracing::error!(disk = self.disk.name(), %error, "io_uring failed");
                    return false;
                }
            }
        }
    }
}

impl Queue for Uring {
    fn submit(&mut self, request: Request) {
        let iovecs = match self.addresses(&request) {
            Ok(iovecs) => iovecs,
            Err(error) => return self.early.push(Completion { request, result: Err(error) }),
        };
        let slot = self.free.pop();
        let (Some(entry), Some(index)) = (self.entry(&request, &iovecs), slot) else {
            // Nothing to ask the kernel, or more requests than were agreed on.
            self.free.extend(slot);
            let result = perform(&*self.disk, &self.memory, &request, 0, &mut self.buffer);
            return self.early.push(Completion { request, result });
        };
        let entry = entry.user_data(index as u64);
        // SAFETY: the addresses are those of guest memory, which `self.memory` keeps mapped, and the list of them is on
        // the heap; both stay until the completion is reaped, for which `drop` waits. The file belongs to the disk,
        // which stays as long.
        match unsafe { self.push(&entry) } {
            Ok(()) => {
                if let Some(place) = self.slots.get_mut(index) {
                    *place = Some(Slot { request, iovecs });
                }
            }
            Err(error) => {
                self.free.push(index);
                self.early.push(Completion { request, result: Err(error) });
            }
        }
    }

    fn wait(&mut self, done: &mut Vec<Completion>) {
        // What is over already is not made to wait for the rest; that is only handed over.
        let block = self.early.is_empty() && self.free.len() < self.slots.len();
        done.append(&mut self.early);
        let armed = !block || self.arm_bell().is_ok();
        if !self.enter(block && armed) {
            thread_rest();
        }
        self.reap(done);
    }

    fn in_progress(&self) -> usize {
        self.slots.len() - self.free.len() + self.early.len()
    }

    fn bell(&self) -> Arc<dyn Fn() + Send + Sync> {
        let bell = self.bell.clone();
        Arc::new(move || ring(&bell))
    }
}

/// A ring that fails is a host in distress; its worker must not add a busy loop.
fn thread_rest() {
    std::thread::sleep(std::time::Duration::from_millis(10));
}

fn ring(bell: &OwnedFd) {
    // It can only fail when the count is full, and then the bell rings anyway.
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

impl Drop for Uring {
    /// Waits until the kernel needs nothing of ours any more.
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.bell_armed || self.free.len() < self.slots.len() {
            ring(&self.bell);
            if !self.enter(true) {
                // The kernel may still write to them: leaking is the only sound way out.
                mem::forget(mem::take(&mut self.slots));
                mem::forget(mem::take(&mut self.bell_count));
                mem::forget(self.memory.clone());
                mem::forget(self.disk.clone());
                return;
            }
            self.reap(&mut done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OpenOptions, queue::tests as common};

    #[test]
    fn conforms() {
        if let Err(error) = IoUring::new(2) {
            eprintln!("skipped: no io_uring here: {error}");
            return;
        }
        common::conformance(|disk, memory| Box::new(Uring::new(disk.clone(), memory.clone(), 32).unwrap()));
    }

    #[test]
    fn dropping_waits_for_the_kernel() {
        if IoUring::new(2).is_err() {
            eprintln!("skipped: no io_uring here");
            return;
        }
        let (disk, file) = common::disk(&[7; 1 << 20], OpenOptions::default());
        let mut queue = Uring::new(disk.clone(), common::memory(), 4).unwrap();
        let segments = vec![crate::Segment { start: common::RAM, len: 1 << 20 }];
        queue.submit(Request { token: 0, operation: Operation::Write, offset: 0, segments });
        queue.ring.submit().unwrap();
        drop(queue);
        drop(disk);
        assert_eq!(std::fs::read(file.path()).unwrap(), vec![0; 1 << 20]);
    }
}
