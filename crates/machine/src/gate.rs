//! Where vCPUs stand still while the machine is paused.
//!
//! ```text
//!   open ── close: returns once no vCPU moves ──► closed ── collect: each vCPU at the gate tells its state
//!    ▲                                              │
//!    └────── open: the time in between is lost ─────┘        end: open for good
//! ```
//! The guest's counter does not count while nothing moves: a guest that finds its counter minutes ahead would report
//! stalls and hung tasks. Its wall clock, which it derives from the counter, is late by the pause; the RTC is right.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tearless_engine::VcpuState;

/// A vCPU that stands still.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub state: VcpuState,
    /// For how long its counter had counted when the machine stood still.
    pub counted: Duration,
}

/// What a vCPU tells of itself, given how long the machine has stood still, all in all.
pub(crate) type Tell<'a> = &'a dyn Fn(Duration) -> Result<Stopped, String>;

#[derive(Default)]
struct State {
    closed: bool,
    /// Since when nothing moves, while it is closed: vCPUs that are on their way count on.
    still_since: Option<Instant>,
    /// How long nothing moved, all in all.
    lost: Duration,
    /// vCPUs that are on and not waiting here.
    moving: u32,
    /// What the vCPUs are asked for, each once.
    asked: Option<Vec<Option<Result<Stopped, String>>>>,
    ended: bool,
}

impl State {
    fn settle(&mut self) {
        if self.closed && self.moving == 0 {
            self.still_since.get_or_insert_with(Instant::now);
        }
    }

    fn lost_by_now(&self) -> Duration {
        self.lost + self.still_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether vCPU `index` is asked for its state.
    fn wants(&self, index: u32) -> bool {
        let slot = self.asked.as_ref().and_then(|asked| asked.get(index as usize));
        slot.is_some_and(Option::is_none)
    }
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

    /// vCPU `index` comes on; it waits while the gate is closed, and tells its state if it is asked. Returns the time lost so
    /// far.
    pub fn enter(&self, index: u32, tell: Tell<'_>) -> Duration {
        let mut state = self.lock();
        while state.closed {
            if state.wants(index) {
                let told = tell(state.lost_by_now());
                if let Some(slot) = state.asked.as_mut().and_then(|asked| asked.get_mut(index as usize)) {
                    *slot = Some(told);
                }
                self.changed.notify_all();
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.moving += 1;
        state.lost
    }

    /// A vCPU that entered goes off.
    pub fn leave(&self) {
        let mut state = self.lock();
        state.moving -= 1;
        state.settle();
        drop(state);
        self.changed.notify_all();
    }

    /// vCPU `index`, which entered, passes by. Returns the time lost so far if it had to wait.
    pub fn pass(&self, index: u32, tell: Tell<'_>) -> Option<Duration> {
        if !self.closed.load(Ordering::Acquire) {
            return None;
        }
        self.leave();
        Some(self.enter(index, tell))
    }

    /// Closes the gate; `prod` makes every vCPU come by. Returns once none moves; `false` when the machine has ended.
    pub fn close(&self, prod: impl FnOnce()) -> bool {
        {
            let mut state = self.lock();
            if state.ended {
                return false;
            }
            state.closed = true;
            state.settle();
            self.closed.store(true, Ordering::Release);
        }
        prod();
        let mut state = self.lock();
        while state.moving > 0 && !state.ended {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.ended
    }

    /// Asks the vCPUs for their states while the gate is closed: those for which `on` says that they are on. `None` when the
    /// gate is open or the machine has ended.
    pub fn collect(&self, on: &[bool]) -> Option<Vec<Option<Result<Stopped, String>>>> {
        let mut state = self.lock();
        state.asked = Some(on.iter().map(|_| None).collect());
        self.changed.notify_all();
        while state.closed && !state.ended {
            let told = |asked: &Vec<Option<_>>| asked.iter().zip(on).all(|(told, on)| !on || told.is_some());
            if state.asked.as_ref().is_some_and(told) {
                return state.asked.take();
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.asked = None;
        None
    }

    /// Lets the vCPUs go on.
    pub fn open(&self) {
        let mut state = self.lock();
        self.closed.store(false, Ordering::Release);
        state.closed = false;
        if let Some(since) = state.still_since.take() {
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

    fn told(lost: Duration) -> Result<Stopped, String> {
        Ok(Stopped { state: VcpuState::entry(7, 0), counted: lost })
    }

    #[test]
    fn closing_waits_for_who_moves_and_the_time_counts_as_lost() {
        let gate = Arc::new(Gate::default());
        assert_eq!(gate.enter(0, &told), Duration::ZERO);
        assert_eq!(gate.pass(0, &told), None);
        let (prodded, wait) = std::sync::mpsc::channel();
        let vcpu = thread::spawn({
            let gate = Arc::clone(&gate);
            move || {
                wait.recv().unwrap();
                gate.pass(0, &told)
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
        assert_eq!(gate.enter(0, &told), lost, "an open gate loses no time");
    }

    #[test]
    fn the_end_releases_everybody() {
        let gate = Arc::new(Gate::default());
        assert!(gate.close(|| ()));
        let vcpu = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.enter(0, &told)
        });
        gate.end();
        vcpu.join().unwrap();
        assert!(!gate.close(|| ()));
        assert_eq!(gate.pass(0, &told), None);
    }

    #[test]
    fn who_stands_at_the_gate_tells_its_state_once_it_is_asked() {
        let gate = Arc::new(Gate::default());
        assert!(gate.collect(&[true]).is_none(), "nobody stands still");
        assert!(gate.close(|| ()));
        let vcpu = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.enter(0, &told)
        });
        // The second vCPU is off, and nobody waits for it.
        let mut states = gate.collect(&[true, false]).unwrap();
        assert!(states.pop().unwrap().is_none());
        let stopped = states.pop().unwrap().unwrap().unwrap();
        assert_eq!(stopped.state.pc, 7);
        gate.open();
        assert!(vcpu.join().unwrap() >= stopped.counted);
    }
}
