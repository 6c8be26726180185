//! How many streams of a VM the host may have at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A guest has one of each kind. Others are those whose end is still being heard.
const MOST: usize = 8;

/// The places that there are.
#[derive(Clone, Default)]
pub(super) struct Slots(Arc<AtomicUsize>);

/// One of them, taken.
pub(super) struct Slot(Arc<AtomicUsize>);

impl Slots {
    /// Takes a place. None is left when a guest begins and ends streams faster than the host follows: then it is silent.
    pub(super) fn take(&self) -> Option<Slot> {
        let slot = Slot(Arc::clone(&self.0));
        (self.0.fetch_add(1, Ordering::AcqRel) < MOST).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let slots = Slots::default();
        let mut taken: Vec<_> = (0..MOST).map(|_| slots.take().unwrap()).collect();
        assert!(slots.take().is_none() && slots.take().is_none());
        taken.pop();
        assert!(slots.take().is_some());
    }
}
