//! A blocking writer over a device's input.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tearless_bus::CharInput;

/// Types into a serial-like device, waiting whenever it is full.
pub struct Typist {
    input: Arc<dyn CharInput>,
    space: Arc<(Mutex<Space>, Condvar)>,
    /// Held by whoever types.
    turn: Mutex<()>,
}

#[derive(Default)]
struct Space {
    there: bool,
    /// The device is gone: nobody waits for it.
    given_up: bool,
}

impl Typist {
    /// A writer over `input`, whose space callback it takes.
    pub fn new(input: Arc<dyn CharInput>) -> Self {
        let space = Arc::<(Mutex<Space>, Condvar)>::default();
        let bell = Arc::clone(&space);
        input.on_space(Box::new(move || {
            bell.0.lock().unwrap_or_else(PoisonError::into_inner).there = true;
            bell.1.notify_all();
        }));
        Self { input, space, turn: Mutex::new(()) }
    }

    /// Gives all of `bytes` to the device. Blocks as long as the guest does not read.
    pub fn type_all(&self, mut bytes: &[u8]) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        while !bytes.is_empty() {
            self.space.0.lock().unwrap_or_else(PoisonError::into_inner).there = false;
            let taken = self.input.push(bytes).min(bytes.len());
            bytes = &bytes[taken..];
            if !bytes.is_empty() && !self.wait() {
                return;
            }
        }
    }

    /// Has whoever waits for the device stop, now and later: the device is gone.
    pub fn give_up(&self) {
        self.space.0.lock().unwrap_or_else(PoisonError::into_inner).given_up = true;
        self.space.1.notify_all();
    }

    /// Waits for space. `false` when there will be none.
    fn wait(&self) -> bool {
        let (flag, changed) = &*self.space;
        let mut space = flag.lock().unwrap_or_else(PoisonError::into_inner);
        while !space.there && !space.given_up {
            space = changed.wait(space).unwrap_or_else(PoisonError::into_inner);
        }
        !space.given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes three bytes at a time and announces space from another thread.
    #[derive(Default)]
    struct Slow {
        taken: Mutex<Vec<u8>>,
        callback: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
    }

    impl CharInput for Slow {
        fn push(&self, bytes: &[u8]) -> usize {
            let n = bytes.len().min(3);
            self.taken.lock().unwrap().extend(&bytes[..n]);
            if let Some(callback) = self.callback.lock().unwrap().clone() {
                std::thread::spawn(move || callback());
            }
            n
        }
        fn on_space(&self, callback: Box<dyn Fn() + Send + Sync>) {
            *self.callback.lock().unwrap() = Some(callback.into());
        }
    }

    #[test]
    fn everything_arrives_in_order() {
        let slow = Arc::new(Slow::default());
        Typist::new(Arc::clone(&slow) as _).type_all(b"0123456789");
        assert_eq!(*slow.taken.lock().unwrap(), b"0123456789");
    }
}
