//! Where vCPUs stand still while the machine is paused.
//!
//! ```text
//!   open ── close: returns once no vCPU moves ──► closed
//!    ▲                                              │
//!    └────── open: the time in between is lost ─────┘        end: open for good
//! ```
//! The guest's counter does not count while the gate is closed: a guest that finds its counter minutes ahead would report
//! stalls and hung tasks. Its wall clock, which it derives from the counter, is late by the pause; the RTC is right.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

#[derive(Default)]
struct State {
    closed_since: Option<Instant>,
    /// How long the gate was closed, all in all.
    lost: Duration,
    /// vCPUs that are on and not waiting here.
    moving: u32,
    ended: bool,
}

/// The gate.
#[derive(Default)]
pub(crate) struct Gate {
    /// A copy of whether it is closed, for vCPUs that pass by.
    closed: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A vCPU comes on; it waits while the gate is closed. Returns the time lost so far.
    pub fn enter(&self) -> Duration {
        let mut state = self.lock();
        while state.closed_since.is_some() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.moving += 1;
        state.lost
    }

    /// A vCPU that entered goes off.
    pub fn leave(&self) {
        self.lock().moving -= 1;
        self.changed.notify_all();
    }

    /// A vCPU that entered passes by. Returns the time lost so far if it had to wait.
    pub fn pass(&self) -> Option<Duration> {
        if !self.closed.load(Ordering::Acquire) {
            return None;
        }
        self.leave();
        Some(self.enter())
    }

    /// Closes the gate; `prod` makes every vCPU come by. Returns once none moves; `false` when the machine has ended.
    pub fn close(&self, prod: impl FnOnce()) -> bool {
        {
            let mut state = self.lock();
            if state.ended {
                return false;
            }
            state.closed_since.get_or_insert_with(Instant::now);
            self.closed.store(true, Ordering::Release);
        }
        prod();
        let mut state = self.lock();
        while state.moving > 0 && !state.ended {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.ended
    }

    /// Lets the vCPUs go on.
    pub fn open(&self) {
        let mut state = self.lock();
        self.closed.store(false, Ordering::Release);
        if let Some(since) = state.closed_since.take() {
            state.lost += since.elapsed();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The machine has ended: opens the gate for good.
    pub fn end(&self) {
        self.lock().ended = true;
        self.open();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn closing_waits_for_who_moves_and_the_time_counts_as_lost() {
        let gate = Arc::new(Gate::default());
        assert_eq!(gate.enter(), Duration::ZERO);
        assert_eq!(gate.pass(), None);
        let (prodded, wait) = std::sync::mpsc::channel();
        let vcpu = thread::spawn({
            let gate = Arc::clone(&gate);
            move || {
                wait.recv().unwrap();
                gate.pass()
            }
        });
        assert!(gate.close(|| prodded.send(()).unwrap()));
        let closed = Instant::now();
        assert!(gate.close(|| ()), "closing twice is closing once");
        assert!(!vcpu.is_finished());
        gate.open();
        let lost = vcpu.join().unwrap().unwrap();
        assert!(lost >= closed.elapsed() / 1000 && lost > Duration::ZERO);
        gate.leave();
        assert_eq!(gate.enter(), lost, "an open gate loses no time");
    }

    #[test]
    fn the_end_releases_everybody() {
        let gate = Arc::new(Gate::default());
        assert!(gate.close(|| ()));
        let vcpu = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.enter()
        });
        gate.end();
        vcpu.join().unwrap();
        assert!(!gate.close(|| ()));
        assert_eq!(gate.pass(), None);
    }
}
