//! What other threads tell an endpoint's thread: that there is another card, that the guest rang, that it is over.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use mio::{Poll, Token, Waker};

use crate::{Card, lock};

/// Shared by an endpoint and its thread.
pub(crate) struct Plug {
    pub(crate) waker: Arc<Waker>,
    kicked: AtomicBool,
    ended: AtomicBool,
    /// The card, and whether it is another one than the thread has.
    card: Mutex<(Option<Arc<dyn Card>>, bool)>,
}

impl Plug {
    /// Wakes `poll` with `token`.
    pub(crate) fn new(poll: &Poll, token: Token) -> io::Result<Arc<Self>> {
        let waker = Arc::new(Waker::new(poll.registry(), token)?);
        let (kicked, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Arc::new(Self { waker, kicked, ended, card: Mutex::new((None, false)) }))
    }

    fn wake(&self) {
        // It cannot fail but by a full counter, and then the thread wakes anyway.
        drop(self.waker.wake());
    }

    pub(crate) fn insert(&self, card: Option<Arc<dyn Card>>) {
        *lock(&self.card) = (card, true);
        self.wake();
    }

    pub(crate) fn kick(&self) {
        if !self.kicked.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The card, if it is another one than last time.
    pub(crate) fn changed(&self) -> Option<Option<Arc<dyn Card>>> {
        let mut slot = lock(&self.card);
        std::mem::take(&mut slot.1).then(|| slot.0.clone())
    }

    /// Whether the guest rang since last time.
    pub(crate) fn was_kicked(&self) -> bool {
        self.kicked.swap(false, Ordering::AcqRel)
    }
}
