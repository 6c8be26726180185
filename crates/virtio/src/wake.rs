//! How a worker sleeps.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::lock;

#[derive(Default)]
struct State {
    signalled: bool,
    shut_down: bool,
    /// Threads in [`Wake::wait`].
    waiting: usize,
    /// Threads in [`Wake::wait_idle`], so that nobody pays for telling none.
    watchers: usize,
}

/// Called for the first of several signals.
type Bell = Box<dyn Fn() + Send + Sync>;

/// A flag that a worker waits for, or several. Signals that arrive while all work are merged into one; each signal wakes
/// one worker.
#[derive(Default)]
pub struct Wake {
    state: Mutex<State>,
    changed: Condvar,
    /// For a worker that sleeps elsewhere.
    bell: Option<Bell>,
    /// The bell rings for the signals between as well.
    always: bool,
}

impl Wake {
    /// For a worker that does not sleep in [`Wake::wait`] but in `poll` over its files: `bell` wakes it. The worker
    /// consumes signals with [`Wake::take`].
    pub fn with_bell(bell: impl Fn() + Send + Sync + 'static) -> Self {
        Self { bell: Some(Box::new(bell)), ..Self::default() }
    }

    /// As [`Wake::with_bell`] for a worker that merges signals itself: each of them rings, and none is consumed.
    pub fn ringing(bell: impl Fn() + Send + Sync + 'static) -> Self {
        Self { always: true, ..Self::with_bell(bell) }
    }

    /// Makes the worker look for work.
    pub fn signal(&self) {
        let mut state = lock(&self.state);
        let merged = std::mem::replace(&mut state.signalled, true);
        if let Some(bell) = self.bell.as_ref().filter(|_| self.always || !merged) {
            bell();
        }
        match (state.waiting, state.watchers) {
            (0, _) => (),
            (_, 0) => self.changed.notify_one(),
            _ => self.changed.notify_all(),
        }
    }

    /// Makes the workers end as soon as they would wait.
    pub fn shut_down(&self) {
        lock(&self.state).shut_down = true;
        self.changed.notify_all();
        self.bell.iter().for_each(|bell| bell());
    }

    /// Consumes a signal, if there is one, without waiting.
    pub fn take(&self) {
        lock(&self.state).signalled = false;
    }

    /// Waits for a signal and consumes it. `false` means that the worker must end.
    pub fn wait(&self) -> bool {
        self.wait_until(None)
    }

    /// As [`Wake::wait`], but not for longer than to `deadline`.
    pub fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let mut state = lock(&self.state);
        state.waiting += 1;
        if state.watchers > 0 {
            self.changed.notify_all();
        }
        while !state.signalled && !state.shut_down {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => break,
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        state.waiting -= 1;
        state.signalled = false;
        !state.shut_down
    }

    /// Whether [`Wake::shut_down`] was called.
    pub fn is_shut_down(&self) -> bool {
        lock(&self.state).shut_down
    }

    /// Waits until the worker has nothing to do, at most until `deadline`. Returns whether that came true.
    pub fn wait_idle(&self, deadline: Instant) -> bool {
        let mut state = lock(&self.state);
        state.watchers += 1;
        loop {
            let idle = state.waiting > 0 && !state.signalled;
            let left = deadline.saturating_duration_since(Instant::now());
            if idle || left == Duration::ZERO {
                state.watchers -= 1;
                return idle;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
