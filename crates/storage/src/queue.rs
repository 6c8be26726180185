//! Many requests in progress at once.
//!
//! A [`Queue`] belongs to one thread, which puts requests in, waits, and gets them back with their outcome, in any order.
//! Data moves straight between guest memory and the file where the host can do that ([`uring`](crate::uring)); else
//! threads copy it through a buffer ([`pool`](crate::pool)).

use std::{io, sync::Arc};

use tearless_memory::{Gpa, GuestMemory};

use crate::{Disk, pool::Pool};

/// What a request does. Lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fills the segments.
    Read,
    /// Writes the segments.
    Write,
    /// As [`Disk::flush`].
    Flush,
    /// As [`Disk::discard`].
    Discard {
        /// How much.
        len: u64,
    },
    /// As [`Disk::write_zeroes`].
    WriteZeroes {
        /// How much.
        len: u64,
        /// Its space may be given back.
        may_unmap: bool,
    },
}

/// A piece of guest memory. The guest may change or read it at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts.
    pub start: Gpa,
    /// Its length in bytes.
    pub len: u64,
}

/// A request. Its range lies within the disk and is whole sectors, which the caller has checked.
#[derive(Clone, Debug)]
pub struct Request {
    /// What the caller knows it by.
    pub token: usize,
    /// What to do.
    pub operation: Operation,
    /// Where on the disk, in bytes.
    pub offset: u64,
    /// The memory that data comes from or goes to, in order.
    pub segments: Vec<Segment>,
}

impl Request {
    /// Bytes that the segments hold.
    pub fn len(&self) -> u64 {
        self.segments.iter().map(|s| s.len).sum()
    }

    /// Whether they hold nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A request that is over.
#[derive(Debug)]
pub struct Completion {
    /// The request, as it was put in.
    pub request: Request,
    /// How it went.
    pub result: io::Result<()>,
}

/// Requests of one thread to one disk.
pub trait Queue {
    /// Puts a request in. It may wait for the next [`Queue::wait`] to reach the host.
    fn submit(&mut self, request: Request);

    /// Hands over what was put in, and waits until a request is over or [`Queue::bell`] rings. Adds what is over to
    /// `done`. With no request in progress it does not wait.
    fn wait(&mut self, done: &mut Vec<Completion>);

    /// How many requests were put in and have not come back.
    fn in_progress(&self) -> usize;

    /// What ends a [`Queue::wait`] from any thread; the next one, if there is none now.
    fn bell(&self) -> Arc<dyn Fn() + Send + Sync>;
}

/// A queue for up to `depth` requests at once to `disk`, whose data is in `memory`.
pub fn queue(disk: &Arc<dyn Disk>, memory: &GuestMemory, depth: u16) -> Box<dyn Queue> {
    #[cfg(target_os = "linux")]
    if disk.raw().is_some() {
        match crate::uring::Uring::new(disk.clone(), memory.clone(), depth) {
            Ok(queue) => return Box::new(queue),
            // Old kernels and containers refuse; threads do the same, only slower.
            Err(error) => tracing::info!(%error, "no io_uring on this host; threads serve the disks"),
        }
    }
    let _ = depth;
    Box::new(Pool::new(disk.clone(), memory.clone()))
}

/// What one copy moves at most.
const BUFFER: usize = 1 << 20;

/// Does `request`, whose first `skip` bytes are done, by copying through `buffer`.
pub(crate) fn perform(
    disk: &dyn Disk,
    memory: &GuestMemory,
    request: &Request,
    skip: u64,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let offset = request.offset;
    match request.operation {
        Operation::Flush => disk.flush(),
        Operation::Discard { len } => disk.discard(offset, len),
        Operation::WriteZeroes { len, may_unmap } => disk.write_zeroes(offset, len, may_unmap),
        Operation::Read | Operation::Write => {
            buffer.resize(BUFFER, 0);
            let total = request.len();
            let mut done = skip;
            while done < total {
                let take = (total - done).min(BUFFER as u64);
                let (part, _) = buffer.split_at_mut(take as usize);
                if request.operation == Operation::Read {
                    disk.read_at(part, offset + done)?;
                    copy(request, done, part, |at, piece| memory.write(at, piece))?;
                } else {
                    copy(request, done, part, |at, piece| memory.read(at, piece))?;
                    disk.write_at(part, offset + done)?;
                }
                done += take;
            }
            Ok(())
        }
    }
}

/// Moves `part`, which is the data from byte `skip` on, piece by piece.
fn copy(
    request: &Request,
    mut skip: u64,
    mut part: &mut [u8],
    mut step: impl FnMut(Gpa, &mut [u8]) -> Result<(), tearless_memory::Error>,
) -> io::Result<()> {
    for segment in &request.segments {
        let skipped = skip.min(segment.len);
        skip -= skipped;
        let take = (segment.len - skipped).min(part.len() as u64);
        let (now, later) = part.split_at_mut(take as usize);
        if !now.is_empty() {
            step(segment.start + skipped, now).map_err(io::Error::other)?;
        }
        part = later;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use super::*;
    use crate::{OpenOptions, RawDisk};

    pub(crate) const RAM: Gpa = Gpa(0x4000_0000);

    pub(crate) fn memory() -> GuestMemory {
        GuestMemory::new(&[RAM..RAM + (8 << 20)]).unwrap()
    }

    pub(crate) fn disk(content: &[u8], options: OpenOptions) -> (Arc<dyn Disk>, tempfile::NamedTempFile) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        (Arc::new(RawDisk::open(file.path(), options).unwrap()), file)
    }

    fn request(token: usize, operation: Operation, offset: u64, segments: &[(u64, u64)]) -> Request {
        let segments = segments.iter().map(|&(start, len)| Segment { start: RAM + start, len }).collect();
        Request { token, operation, offset, segments }
    }

    fn finish(queue: &mut dyn Queue) -> Vec<Completion> {
        let mut done = Vec::new();
        while queue.in_progress() > 0 {
            queue.wait(&mut done);
        }
        done.sort_by_key(|c| c.request.token);
        done
    }

    /// What every queue must do.
    pub(crate) fn conformance(make: impl Fn(&Arc<dyn Disk>, &GuestMemory) -> Box<dyn Queue>) {
        for cache in [crate::Cache::Host, crate::Cache::None] {
            let content: Vec<u8> = (0..4 << 20).map(|i: u32| (i / 512) as u8).collect();
            let (disk, file) = disk(&content, OpenOptions { cache, ..OpenOptions::default() });
            let memory = memory();
            let mut queue = make(&disk, &memory);
            scattered(&mut *queue, &memory, file.path());
            many(&mut *queue, &memory);
            ranges(&mut *queue, &memory);
            short(&mut *queue, &memory, &disk);
            bells(&mut *queue);
        }
    }

    fn scattered(queue: &mut dyn Queue, memory: &GuestMemory, path: &std::path::Path) {
        // Odd cuts on one side, whole pages on the other.
        let pieces = [(3, 509), (1 << 20, 3), (2 << 20, 1 << 20), (0x1003, 512)];
        let total: u64 = pieces.iter().map(|p| p.1).sum();
        queue.submit(request(1, Operation::Read, 512, &pieces));
        let done = finish(queue);
        assert!(done[0].result.is_ok(), "{done:?}");
        let mut data = [0; 4];
        memory.read(RAM + 508, &mut data).unwrap();
        assert_eq!(data, [1, 1, 1, 1]);
        memory.read(RAM + (1 << 20), &mut data[..3]).unwrap();
        assert_eq!(data[..3], [1, 1, 1]);
        assert_eq!(total % 512, 0);
        memory.write(RAM + (4 << 20), &[0xab; 8192]).unwrap();
        queue.submit(request(2, Operation::Write, 8192, &[(4 << 20, 4096), ((4 << 20) + 4096, 4096)]));
        queue.submit(request(3, Operation::Flush, 0, &[]));
        assert!(finish(queue).iter().all(|c| c.result.is_ok()));
        let back = std::fs::read(path).unwrap();
        assert!(back[8192..16384].iter().all(|b| *b == 0xab));
        assert_eq!((back[8191], back[16384]), (15, 32));
    }

    fn many(queue: &mut dyn Queue, memory: &GuestMemory) {
        for token in 0..64 {
            let at = token as u64 * 4096;
            queue.submit(request(token, Operation::Read, (1 << 20) + at, &[(at, 4096)]));
        }
        let done = finish(queue);
        assert_eq!(done.len(), 64);
        for (token, completion) in done.iter().enumerate() {
            assert!(completion.result.is_ok() && completion.request.token == token);
            let mut data = [0; 1];
            memory.read(RAM + (token as u64 * 4096 + 600), &mut data).unwrap();
            assert_eq!(data[0], ((2048 + token * 8) + 1) as u8);
        }
    }

    fn ranges(queue: &mut dyn Queue, memory: &GuestMemory) {
        queue.submit(request(1, Operation::WriteZeroes { len: 12288, may_unmap: true }, 4096 * 600, &[]));
        queue.submit(request(2, Operation::Discard { len: 8192 }, 4096 * 700, &[]));
        queue.submit(request(3, Operation::WriteZeroes { len: 512, may_unmap: false }, 4096 * 800, &[]));
        assert!(finish(queue).iter().all(|c| c.result.is_ok()));
        memory.write(RAM, &[9; 1024]).unwrap();
        queue.submit(request(1, Operation::Read, 4096 * 600, &[(0, 512)]));
        queue.submit(request(2, Operation::Read, 4096 * 800, &[(512, 512)]));
        finish(queue);
        let mut data = [1; 1024];
        memory.read(RAM, &mut data).unwrap();
        assert_eq!(data, [0; 1024]);
    }

    fn short(queue: &mut dyn Queue, memory: &GuestMemory, disk: &Arc<dyn Disk>) {
        // The file ends before the disk does.
        let size = disk.size();
        let file = disk.raw().unwrap().file();
        file.set_len(size - 100).unwrap();
        memory.write(RAM, &[9; 1024]).unwrap();
        queue.submit(request(5, Operation::Read, size - 1024, &[(0, 1024)]));
        assert!(finish(queue)[0].result.is_ok());
        let mut data = [1; 1024];
        memory.read(RAM, &mut data).unwrap();
        assert_eq!((data[923], data[924], data[1023]), (255, 0, 0));
        file.set_len(size).unwrap();
    }

    fn bells(queue: &mut dyn Queue) {
        let bell = queue.bell();
        bell();
        bell();
        let mut done = Vec::new();
        queue.wait(&mut done);
        assert!(done.is_empty());
    }
}
