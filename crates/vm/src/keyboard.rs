//! Typing into whichever machine runs now.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tearless_bus::CharInput;

use crate::Typist;

#[derive(Default)]
struct Inner {
    typist: Mutex<Option<Arc<Typist>>>,
    changed: Condvar,
}

/// A keyboard that is plugged into one machine after the other as the guest resets. Clones share; any number of people
/// may type, and what one types at a time stays together.
#[derive(Clone, Default)]
pub struct Keyboard(Arc<Inner>);

impl Keyboard {
    /// Plugs it into `input`. What was being typed into the machine before is lost.
    pub fn plug(&self, input: Arc<dyn CharInput>) {
        let new = Arc::new(Typist::new(input));
        let old = self.0.typist.lock().unwrap_or_else(PoisonError::into_inner).replace(new);
        if let Some(old) = old {
            old.give_up();
        }
        self.0.changed.notify_all();
    }

    /// Types all of `bytes`. Waits for a machine, and as long as its guest does not read.
    pub fn type_all(&self, bytes: &[u8]) {
        let mut typist = self.0.typist.lock().unwrap_or_else(PoisonError::into_inner);
        let current = loop {
            if let Some(typist) = &*typist {
                break Arc::clone(typist);
            }
            typist = self.0.changed.wait(typist).unwrap_or_else(PoisonError::into_inner);
        };
        drop(typist);
        current.type_all(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Takes what there is room for.
    struct Machine(Mutex<(Vec<u8>, usize)>);

    impl CharInput for Machine {
        fn push(&self, bytes: &[u8]) -> usize {
            let mut state = self.0.lock().unwrap();
            let n = bytes.len().min(state.1 - state.0.len());
            state.0.extend(&bytes[..n]);
            n
        }
        fn on_space(&self, _: Box<dyn Fn() + Send + Sync>) {}
    }

    #[test]
    fn typing_waits_for_a_machine_and_survives_its_reset() {
        let keyboard = Keyboard::default();
        let typing = thread::spawn({
            let keyboard = keyboard.clone();
            move || {
                keyboard.type_all(b"abcdef");
                keyboard.type_all(b"x");
            }
        });
        let full = Arc::new(Machine(Mutex::new((Vec::new(), 3))));
        keyboard.plug(full.clone());
        while full.0.lock().unwrap().0.len() < 3 {
            thread::yield_now();
        }
        let next = Arc::new(Machine(Mutex::new((Vec::new(), 100))));
        keyboard.plug(next.clone());
        typing.join().unwrap();
        assert_eq!(full.0.lock().unwrap().0, b"abc");
        assert_eq!(next.0.lock().unwrap().0, b"x");
    }
}
