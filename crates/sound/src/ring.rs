//! Sound between us and the host's sound server, which fetches and brings it on threads of its own.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use crate::Format;

struct State {
    sound: VecDeque<u8>,
    /// Who plays has played all; or the server has gone.
    closed: bool,
    /// The server waits for sound.
    waker: Option<Waker>,
}

/// A bounded pipe of whole frames: what comes in when it is full takes the place of the oldest.
pub(crate) struct Ring {
    state: Mutex<State>,
    most: usize,
}

impl Ring {
    /// A ring for `most` bytes of `format`.
    pub(crate) fn new(format: Format, most: usize) -> Self {
        let frame = format.frame().max(1);
        let most = most.next_multiple_of(frame);
        let state = State { sound: VecDeque::with_capacity(most), closed: false, waker: None };
        Self { state: Mutex::new(state), most }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends whole frames.
    pub(crate) fn push(&self, sound: &[u8]) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let newest = sound.get(sound.len().saturating_sub(self.most)..).unwrap_or_default();
        let excess = (state.sound.len() + newest.len()).saturating_sub(self.most);
        state.sound.drain(..excess);
        state.sound.extend(newest);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes what there is, as far as it fits. Returns how many bytes that are.
    pub(crate) fn pop(&self, into: &mut [u8]) -> usize {
        let mut state = self.lock();
        let len = state.sound.len().min(into.len());
        into.iter_mut().zip(state.sound.drain(..len)).for_each(|(to, byte)| *to = byte);
        len
    }

    /// As [`Self::pop`]; wakes `waker` once there is something if there is nothing. 0 at the end.
    #[cfg(target_os = "linux")]
    pub(crate) fn poll(&self, into: &mut [u8], waker: &Waker) -> std::task::Poll<usize> {
        use std::task::Poll;
        let len = self.pop(into);
        let mut state = self.lock();
        if len > 0 || state.closed && state.sound.is_empty() {
            return Poll::Ready(len);
        }
        state.waker = Some(waker.clone());
        if state.sound.is_empty() {
            Poll::Pending
        } else {
            // It has just come.
            drop(state);
            Poll::Ready(self.pop(into))
        }
    }

    /// Nothing is to come any more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether there is nothing, closed or not.
    #[cfg(target_os = "macos")]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().sound.is_empty()
    }

    /// How many bytes there are; `None` once it is closed.
    pub(crate) fn len(&self) -> Option<usize> {
        let state = self.lock();
        (!state.closed).then_some(state.sound.len())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::task::Poll;

    use super::*;
    use crate::Sample;

    #[test]
    fn the_oldest_gives_way() {
        let ring = Ring::new(Format { sample: Sample::S16, channels: 1, rate: 8000 }, 7);
        ring.push(&[1, 2, 3, 4, 5, 6]);
        ring.push(&[7, 8, 9, 10]);
        assert_eq!(ring.len(), Some(8));
        let mut into = [0; 3];
        assert_eq!((ring.pop(&mut into), into), (3, [3, 4, 5]));
        ring.push(&[0; 100]);
        assert_eq!(ring.len(), Some(8));
        while ring.pop(&mut into) > 0 {}
        assert_eq!(ring.poll(&mut into, Waker::noop()), Poll::Pending);
        ring.push(&[1, 2]);
        ring.close();
        assert_eq!(ring.len(), None);
        assert_eq!(ring.poll(&mut into, Waker::noop()), Poll::Ready(2));
        assert_eq!(ring.poll(&mut into, Waker::noop()), Poll::Ready(0), "the end");
    }
}
