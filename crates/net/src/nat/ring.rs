//! Bytes that wait, within a limit that all buffers share.

use std::{
    cell::Cell,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    rc::Rc,
};

/// Memory that the rings may take together.
#[derive(Debug)]
pub(super) struct Budget {
    left: Cell<usize>,
    total: usize,
}

impl Budget {
    pub(super) fn new(total: usize) -> Rc<Self> {
        Rc::new(Self { left: Cell::new(total), total })
    }

    fn take(&self, bytes: usize) -> bool {
        let left = self.left.get().checked_sub(bytes);
        left.is_some_and(|left| {
            self.left.set(left);
            true
        })
    }

    fn give_back(&self, bytes: usize) {
        self.left.set(self.left.get() + bytes);
    }

    fn is_scarce(&self) -> bool {
        self.left.get() < self.total / 2
    }
}

/// What an empty ring starts with.
const SMALLEST: usize = 16 << 10;

/// A queue of bytes that grows as it fills, up to a limit.
#[derive(Debug)]
pub(super) struct Ring {
    data: Vec<u8>,
    head: usize,
    len: usize,
    limit: usize,
    budget: Rc<Budget>,
}

impl Ring {
    /// An empty ring for up to `limit` bytes, a power of two.
    pub(super) fn new(limit: usize, budget: Rc<Budget>) -> Self {
        Self { data: Vec::new(), head: 0, len: 0, limit, budget }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How much more it may hold at most.
    pub(super) fn room(&self) -> usize {
        self.limit - self.len
    }

    /// `len` bytes from byte `start` on, in the pieces in which they lie; fewer when there are fewer.
    pub(super) fn slices(&self, start: usize, len: usize) -> [&[u8]; 2] {
        let len = len.min(self.len.saturating_sub(start));
        if len == 0 {
            return [&[], &[]];
        }
        let (before, after) = self.data.split_at(self.head);
        if start < after.len() {
            let first = after.get(start..).unwrap_or_default();
            let first = first.get(..len.min(first.len())).unwrap_or_default();
            [first, before.get(..len - first.len()).unwrap_or_default()]
        } else {
            let start = start - after.len();
            [before.get(start..start + len).unwrap_or_default(), &[]]
        }
    }

    /// Forgets the first `len` bytes.
    pub(super) fn consume(&mut self, len: usize) {
        let len = len.min(self.len);
        self.len -= len;
        if self.len == 0 {
            self.head = 0;
            if self.budget.is_scarce() {
                self.release();
            }
        } else {
            self.head = (self.head + len) % self.data.len();
        }
    }

    /// Appends what fits of `bytes`; returns how much that was.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        while self.data.len() - self.len < bytes.len() && self.grow() {}
        let [first, second] = self.spare();
        let (now, later) = bytes.split_at(bytes.len().min(first.len()));
        first.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
        let rest = later.len().min(second.len());
        second.iter_mut().zip(later).for_each(|(to, from)| *to = *from);
        let done = now.len() + rest;
        self.len += done;
        done
    }

    /// Reads once from `source`. `Ok(0)` is its end; without room it is [`io::ErrorKind::OutOfMemory`].
    pub(super) fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        if self.data.len() - self.len < SMALLEST.min(self.room()) {
            self.grow();
        }
        let [first, second] = self.spare();
        if first.is_empty() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let spare = first.len() + second.len();
        let done = source.read_vectored(&mut [IoSliceMut::new(first), IoSliceMut::new(second)])?;
        self.len += done;
        // A reader that is faster than the guest: larger pieces next time.
        if done == spare {
            self.grow();
        }
        Ok(done)
    }

    /// Writes once to `sink` and forgets what was written.
    pub(super) fn drain(&mut self, sink: &mut impl Write) -> io::Result<usize> {
        let [first, second] = self.slices(0, self.len);
        let done = sink.write_vectored(&[IoSlice::new(first), IoSlice::new(second)])?;
        self.consume(done);
        Ok(done)
    }

    fn spare(&mut self) -> [&mut [u8]; 2] {
        if self.data.is_empty() {
            return [&mut [], &mut []];
        }
        let (capacity, end) = (self.data.len(), self.head + self.len);
        if end < capacity {
            let (before, after) = self.data.split_at_mut(end);
            let free = before.get_mut(..self.head).unwrap_or_default();
            [after, free]
        } else {
            let free = self.data.get_mut(end - capacity..self.head).unwrap_or_default();
            [free, &mut []]
        }
    }

    /// Doubles the room. Returns whether that was possible.
    fn grow(&mut self) -> bool {
        let wanted = (self.data.len() * 2).clamp(SMALLEST, self.limit);
        if wanted <= self.data.len() || !self.budget.take(wanted - self.data.len()) {
            return false;
        }
        self.data.rotate_left(self.head);
        self.head = 0;
        self.data.resize(wanted, 0);
        true
    }

    fn release(&mut self) {
        self.budget.give_back(self.data.len());
        self.data = Vec::new();
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let budget = Budget::new(1 << 20);
        let mut ring = Ring::new(64 << 10, budget.clone());
        let (mut next, mut expected) = (0u32, 0u32);
        for round in 0..2000usize {
            let wanted = (round * 7919) % 9000;
            let bytes: Vec<u8> = (0..wanted as u32).map(|i| (next + i) as u8).collect();
            next += ring.push(&bytes) as u32;
            assert!(ring.len() <= 64 << 10);
            let take = (round * 104_729) % 8000;
            let [first, second] = ring.slices(0, take);
            for byte in first.iter().chain(second) {
                assert_eq!(*byte, expected as u8);
                expected += 1;
            }
            let middle = ring.slices(take / 2, 10).concat();
            assert!(middle.first().is_none_or(
                |b| *b == (expected as usize - ring.slices(0, take).concat().len() + take / 2) as u8
            ));
            ring.consume(take);
        }
        assert!(expected > 1 << 20);
        drop(ring);
        assert_eq!(budget.left.get(), 1 << 20);
    }

    #[test]
    fn the_budget_holds() {
        let budget = Budget::new(48 << 10);
        let mut a = Ring::new(32 << 10, budget.clone());
        let mut b = Ring::new(32 << 10, budget);
        assert_eq!(a.push(&[1; 40 << 10]), 32 << 10);
        assert_eq!(b.push(&[1; 40 << 10]), 16 << 10);
        a.consume(32 << 10);
        assert_eq!(b.push(&[1; 40 << 10]), 16 << 10, "an empty ring lends its memory");
    }

    #[test]
    fn reads_and_writes_stop_at_the_limit() {
        let mut ring = Ring::new(32 << 10, Budget::new(1 << 20));
        let source = vec![7u8; 100 << 10];
        let mut left = source.as_slice();
        while ring.fill(&mut left).is_ok() {}
        assert_eq!((ring.len(), ring.room()), (32 << 10, 0));
        let mut out = Vec::new();
        while !ring.is_empty() {
            ring.drain(&mut out).unwrap();
        }
        assert_eq!(out, vec![7u8; 32 << 10]);
    }
}
