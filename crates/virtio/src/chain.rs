//! One request: the buffers of a descriptor chain, checked when it leaves the ring.

use tearless_memory::{Gpa, GuestMemory, vm::GuestMemoryMmap};
use virtio_queue::DescriptorChain;

use crate::RingError;

/// Most descriptors that a request may have. No queue here is longer, and a chain must not be longer than its queue
/// (section 2.7.5.3.1); without a limit one request could name 65535 buffers and hold a worker for as long.
pub const MAX_DESCRIPTORS: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Segment {
    start: Gpa,
    len: u32,
}

/// The buffers of one request: first those that the device reads, then those that it writes (section 2.7.4.2).
///
/// A worker keeps one and refills it with [`Ring::pop`](crate::Ring::pop), so no request allocates.
#[derive(Debug, Default)]
pub struct Chain {
    head: u16,
    readable: Vec<Segment>,
    writable: Vec<Segment>,
}

impl Chain {
    /// Takes over `descriptors`.
    ///
    /// # Errors
    /// [`RingError::Chain`] when the chain loops, leaves the table or guest memory, is too long or mixes directions.
    pub(crate) fn fill(
        &mut self,
        descriptors: DescriptorChain<&GuestMemoryMmap<()>>,
    ) -> Result<(), RingError> {
        self.head = descriptors.head_index();
        self.readable.clear();
        self.writable.clear();
        // The iterator stops without a word at what it cannot follow: then the last descriptor still had a successor.
        let mut expect_more = true;
        for descriptor in descriptors {
            if self.readable.len() + self.writable.len() == MAX_DESCRIPTORS {
                return Err(RingError::Chain("more than 1024 descriptors"));
            }
            expect_more = descriptor.has_next();
            let segment = Segment { start: Gpa(descriptor.addr().0), len: descriptor.len() };
            if descriptor.is_write_only() {
                self.writable.push(segment);
            } else if self.writable.is_empty() {
                self.readable.push(segment);
            } else {
                return Err(RingError::Chain("a readable buffer follows a writable one"));
            }
        }
        if expect_more {
            return Err(RingError::Chain("it loops, is empty or leaves its table"));
        }
        Ok(())
    }

    /// The index that goes into the used ring.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Bytes that the device may read; at most 4 GiB.
    pub fn readable_len(&self) -> u64 {
        self.readable.iter().map(|s| u64::from(s.len)).sum()
    }

    /// Bytes that the device may write; at most 4 GiB.
    pub fn writable_len(&self) -> u64 {
        self.writable.iter().map(|s| u64::from(s.len)).sum()
    }

    /// Copies the readable bytes from `offset` on into `into`. Returns how many there were, up to its length.
    ///
    /// # Errors
    /// [`RingError::Memory`] when a buffer is not RAM.
    pub fn read(&self, memory: &GuestMemory, offset: u64, into: &mut [u8]) -> Result<usize, RingError> {
        let mut rest = into;
        let wanted = rest.len();
        for (start, len) in pieces(&self.readable, offset, wanted) {
            let (now, later) = rest.split_at_mut(len.min(rest.len()));
            memory.read(start.ok_or(RingError::Chain("a buffer wraps around"))?, now)?;
            rest = later;
        }
        Ok(wanted - rest.len())
    }

    /// Copies `from` into the writable bytes from `offset` on. Returns how many fitted.
    ///
    /// # Errors
    /// [`RingError::Memory`] when a buffer is not RAM.
    pub fn write(&self, memory: &GuestMemory, offset: u64, from: &[u8]) -> Result<usize, RingError> {
        let mut rest = from;
        for (start, len) in pieces(&self.writable, offset, from.len()) {
            let (now, later) = rest.split_at(len.min(rest.len()));
            memory.write(start.ok_or(RingError::Chain("a buffer wraps around"))?, now)?;
            rest = later;
        }
        Ok(from.len() - rest.len())
    }

    /// Where the bytes lie that the device may read, from `offset` on.
    ///
    /// # Errors
    /// As [`Chain::read`], at the end of the iteration's good part.
    pub fn readable_pieces<'a>(
        &'a self,
        memory: &'a GuestMemory,
        offset: u64,
    ) -> impl Iterator<Item = Result<(Gpa, u64), RingError>> + 'a {
        checked(memory, &self.readable, offset, usize::MAX)
    }

    /// Where the `len` bytes lie that the device may write, from `offset` on.
    ///
    /// # Errors
    /// As [`Chain::write`], at the end of the iteration's good part.
    pub fn writable_pieces<'a>(
        &'a self,
        memory: &'a GuestMemory,
        offset: u64,
        len: u64,
    ) -> impl Iterator<Item = Result<(Gpa, u64), RingError>> + 'a {
        checked(memory, &self.writable, offset, usize::try_from(len).unwrap_or(usize::MAX))
    }
}

fn checked<'a>(
    memory: &'a GuestMemory,
    segments: &'a [Segment],
    offset: u64,
    len: usize,
) -> impl Iterator<Item = Result<(Gpa, u64), RingError>> + 'a {
    pieces(segments, offset, len).map(|(start, len)| {
        let start = start.ok_or(RingError::Chain("a buffer wraps around"))?;
        memory.host_range(start, len as u64)?;
        Ok((start, len as u64))
    })
}

/// The guest ranges that hold `len` bytes from byte `offset` of `segments` on; an address that wraps is `None`.
fn pieces(segments: &[Segment], offset: u64, len: usize) -> impl Iterator<Item = (Option<Gpa>, usize)> + '_ {
    let mut skip = offset;
    let mut left = len as u64;
    segments.iter().filter_map(move |segment| {
        let size = u64::from(segment.len);
        let skipped = skip.min(size);
        skip -= skipped;
        let take = (size - skipped).min(left);
        left -= take;
        (take > 0).then(|| (segment.start.checked_add(skipped), take as usize))
    })
}
