//! Objects that are touched on one dispatch queue only.

use std::{mem::ManuallyDrop, sync::mpsc};

use dispatch2::{DispatchQueue, DispatchRetained};
use objc2::rc::autoreleasepool;

/// A value that lives on a serial queue of its own: it is made there, used there, and dropped there.
pub(crate) struct Confined<T: 'static> {
    queue: DispatchRetained<DispatchQueue>,
    value: ManuallyDrop<Resident<T>>,
}

struct Resident<T>(T);

// SAFETY: a `Resident` is made, used and dropped by code that runs on the queue of its `Confined`, whatever thread holds that.
// The queue is serial, so that is one thread at a time, with what one did visible to the next.
unsafe impl<T> Send for Resident<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Resident<T> {}

impl<T> Confined<T> {
    /// What `make` makes, on a new queue called `label`.
    pub(crate) fn new<E: Send>(
        label: &str,
        make: impl FnOnce(&DispatchQueue) -> Result<T, E> + Send,
    ) -> Result<Self, E> {
        let queue = DispatchQueue::new(label, None);
        let mut made = None;
        queue.exec_sync(|| made = Some(autoreleasepool(|_| make(&queue)).map(Resident)));
        match made {
            Some(made) => Ok(Self { queue, value: ManuallyDrop::new(made?) }),
            None => unreachable!("exec_sync returns when the work is done"),
        }
    }

    /// What `with` makes of the value. Not to be called on the queue itself, so from no callback of the framework.
    pub(crate) fn with<R: Send>(&self, with: impl FnOnce(&T) -> R + Send) -> R {
        let mut result = None;
        let value = &*self.value;
        self.queue.exec_sync(|| result = Some(autoreleasepool(|_| with(&value.0))));
        match result {
            Some(result) => result,
            None => unreachable!("exec_sync returns when the work is done"),
        }
    }

    /// Begins something on the queue and waits for what it sends when it has ended, which may be long after.
    pub(crate) fn wait<R: Send>(&self, begin: impl FnOnce(&T, mpsc::Sender<R>) + Send) -> Option<R> {
        let (sender, receiver) = mpsc::channel();
        self.with(|value| begin(value, sender));
        receiver.recv().ok()
    }
}

impl<T> Drop for Confined<T> {
    fn drop(&mut self) {
        // SAFETY: `value` is not used again.
        let value = unsafe { ManuallyDrop::take(&mut self.value) };
        // Not synchronously: whoever drops this may be on the queue.
        self.queue.exec_async(move || {
            let value = value;
            autoreleasepool(|_| drop(value));
        });
    }
}
