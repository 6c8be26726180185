//! What was written since the last flush.
//!
//! A server may lose that when it ends, and has said of each write that it is done. So it is kept here, and a server that
//! comes back is told again before anything else: a guest's flush then means what it means on a disk that was never away.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What is kept at most; beyond it whoever writes flushes first. Large enough that a guest flushes before that, mostly.
const MAX_BYTES: usize = 64 << 20;
/// As above, for changes without data.
const MAX_CHANGES: usize = 16 << 10;

/// A change of the disk, as it goes to a server.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: u64, data: Arc<[u8]> },
    Zeroes { offset: u64, len: u32, may_unmap: bool },
}

struct Entry {
    change: Change,
    /// The server has said that it is done.
    done: bool,
}

#[derive(Default)]
struct State {
    next: u64,
    bytes: usize,
    /// By the order in which they began.
    entries: BTreeMap<u64, Entry>,
}

impl State {
    fn remove(&mut self, id: u64) {
        if let Some(Entry { change: Change::Write { data, .. }, .. }) = self.entries.remove(&id) {
            self.bytes -= data.len();
        }
    }
}

#[derive(Default)]
pub(super) struct Journal(Mutex<State>);

impl Journal {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is time to flush.
    pub(super) fn is_full(&self) -> bool {
        let state = self.lock();
        state.bytes >= MAX_BYTES || state.entries.len() >= MAX_CHANGES
    }

    /// Keeps a change that is about to be sent.
    pub(super) fn begin(&self, change: Change) -> u64 {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        if let Change::Write { data, .. } = &change {
            state.bytes += data.len();
        }
        state.entries.insert(id, Entry { change, done: false });
        id
    }

    /// The server has answered; a change that failed is for whoever asked for it.
    pub(super) fn end(&self, id: u64, succeeded: bool) {
        let mut state = self.lock();
        if !succeeded {
            state.remove(id);
        } else if let Some(entry) = state.entries.get_mut(&id) {
            entry.done = true;
        }
    }

    /// What a flush that begins now makes durable.
    pub(super) fn done(&self) -> Vec<u64> {
        self.lock().entries.iter().filter(|(_, entry)| entry.done).map(|(id, _)| *id).collect()
    }

    /// A flush has made these durable.
    pub(super) fn settle(&self, ids: &[u64]) {
        let mut state = self.lock();
        ids.iter().for_each(|id| state.remove(*id));
    }

    /// All that a server which comes back is to be told, in order. Changes on their way are among them: the answer may have
    /// come and not yet been noted.
    pub(super) fn changes(&self) -> Vec<Change> {
        self.lock().entries.values().map(|entry| entry.change.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, len: usize) -> Change {
        Change::Write { offset, data: vec![0; len].into() }
    }

    #[test]
    fn a_flush_settles_what_was_done_when_it_began() {
        let journal = Journal::default();
        let [a, b, c] = [0, 1, 2].map(|n| journal.begin(write(n, 8)));
        journal.end(a, true);
        let covered = journal.done();
        journal.end(b, true);
        journal.settle(&covered);
        let left: Vec<_> = journal.changes();
        assert!(matches!(left[..], [Change::Write { offset: 1, .. }, Change::Write { offset: 2, .. }]));
        journal.end(c, false);
        assert_eq!(journal.done(), [b]);
        assert_eq!(journal.lock().bytes, 8);
    }

    #[test]
    fn it_is_bounded() {
        let journal = Journal::default();
        for _ in 0..64 {
            assert!(!journal.is_full());
            journal.begin(write(0, 1 << 20));
        }
        assert!(journal.is_full());
        let journal = Journal::default();
        for _ in 0..MAX_CHANGES {
            journal.begin(Change::Zeroes { offset: 0, len: 512, may_unmap: false });
        }
        assert!(journal.is_full());
    }
}
