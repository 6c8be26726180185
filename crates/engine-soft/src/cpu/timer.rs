//! The generic timers (Arm ARM D12) and the thread that keeps their deadlines for running vCPUs.
//!
//! The system counter counts nanoseconds since the VM was made: 1 GHz, the frequency of Armv8.6 counters. A timer's
//! output is a level that depends on the time; the run loop compares it with what it last reported and exits when it
//! differs. A vCPU that runs guest code does not look at the clock, which takes as long as a dozen instructions: one
//! thread per VM sleeps until the earliest deadline and raises the vCPU's attention flag.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tearless_engine::TimerLines;

use super::shared::{Mailbox, attention};

/// `CNTFRQ_EL0`, in Hz.
pub(crate) const FREQUENCY: u64 = 1_000_000_000;

/// Bits of `CNTx_CTL_EL0`.
const ENABLE: u64 = 1;
const IMASK: u64 = 2;
const ISTATUS: u64 = 4;

/// One timer: compare value and control.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timer {
    control: u64,
    /// `CNTx_CVAL_EL0`.
    pub compare: u64,
}

impl Timer {
    fn fires(&self, now: u64) -> bool {
        self.control & ENABLE != 0 && now >= self.compare
    }

    /// Reads `CNTx_CTL_EL0`.
    pub fn control(&self, now: u64) -> u64 {
        self.control | if self.fires(now) { ISTATUS } else { 0 }
    }

    /// Writes `CNTx_CTL_EL0`.
    pub fn set_control(&mut self, value: u64) {
        self.control = value & (ENABLE | IMASK);
    }

    /// Reads `CNTx_TVAL_EL0`: 32 bits, signed.
    pub fn value(&self, now: u64) -> u64 {
        self.compare.wrapping_sub(now) & 0xffff_ffff
    }

    /// Writes `CNTx_TVAL_EL0`.
    pub fn set_value(&mut self, value: u64, now: u64) {
        self.compare = now.wrapping_add(i64::from(value as i32) as u64);
    }

    /// The output.
    fn line(&self, now: u64) -> bool {
        self.control & IMASK == 0 && self.fires(now)
    }

    /// When the output will go high by itself.
    fn deadline(&self, now: u64) -> Option<u64> {
        (self.control & (ENABLE | IMASK) == ENABLE && now < self.compare).then_some(self.compare)
    }
}

/// The timers of a vCPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timers {
    base: Instant,
    /// EL1 virtual timer. The virtual offset is zero: both counters are equal.
    pub virt: Timer,
    /// EL1 physical timer.
    pub phys: Timer,
    /// What the machine was told.
    pub reported: TimerLines,
    /// What the timer thread was told: when an output goes high by itself, in counter units.
    armed: Option<u64>,
}

impl Timers {
    /// Disabled timers on a counter that is zero at `base`.
    pub fn new(base: Instant) -> Self {
        Self {
            base,
            virt: Timer::default(),
            phys: Timer::default(),
            reported: TimerLines::default(),
            armed: None,
        }
    }

    /// The counter.
    pub fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// When the counter was zero, were it not for pauses.
    pub fn base(&self) -> Instant {
        self.base
    }

    /// The counter did not count for `pause`.
    pub fn skip(&mut self, pause: Duration) {
        self.base = self.base.checked_add(pause).unwrap_or(self.base);
        // What the timer thread was told is too early now.
        self.armed = None;
    }

    /// For how long the counter has counted.
    pub fn counted(&self) -> Duration {
        self.base.elapsed()
    }

    /// Has it counted for `counted` at the time `at`. One that the host's clock cannot hold begins anew.
    pub fn set_counted(&mut self, counted: Duration, at: Instant) {
        self.base = at.checked_sub(counted).unwrap_or(at);
        self.armed = None;
    }

    /// The outputs at counter value `now`.
    pub fn lines(&self, now: u64) -> TimerLines {
        TimerLines { virt: self.virt.line(now), phys: self.phys.line(now), hyp: false }
    }

    /// When an output will go high by itself, in counter units.
    fn next(&self, now: u64) -> Option<u64> {
        [self.virt.deadline(now), self.phys.deadline(now)].into_iter().flatten().min()
    }

    /// When an output will go high by itself, as of when the outputs were last looked at: one that was due since then has
    /// been told to nobody. Far deadlines that the host's clock cannot hold never come.
    pub fn deadline(&self) -> Option<Instant> {
        self.instant(self.armed?)
    }

    fn instant(&self, counter: u64) -> Option<Instant> {
        self.base.checked_add(Duration::from_nanos(counter))
    }

    /// Tells the timer thread the current deadline of vCPU `index`, if it changed.
    pub fn arm(&mut self, now: u64, thread: &TimerThread, index: u32, mailbox: &Arc<Mailbox>) {
        let next = self.next(now);
        if next == self.armed {
            return;
        }
        self.armed = next;
        if let Some(deadline) = next.and_then(|n| self.instant(n)) {
            thread.arm(index, deadline, mailbox);
        }
    }
}

/// A deadline of a vCPU. A later one replaces it; one that is obsolete merely raises attention once in vain.
struct Deadline {
    index: u32,
    at: Instant,
    mailbox: Arc<Mailbox>,
}

#[derive(Default)]
struct State {
    deadlines: Vec<Deadline>,
    started: bool,
    stopped: bool,
    /// What the thread sleeps for; `None` when it sleeps for good or is about to look.
    sleeps_until: Option<Instant>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        while !state.stopped {
            let now = Instant::now();
            state.deadlines.retain(|d| {
                if d.at <= now {
                    d.mailbox.raise(attention::TIMER);
                }
                d.at > now
            });
            let next = state.deadlines.iter().map(|d| d.at).min();
            state.sleeps_until = next;
            state = match next {
                Some(at) => {
                    let woken = self.changed.wait_timeout(state, at.saturating_duration_since(now));
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// The thread; started with the first deadline, stopped when this is dropped.
#[derive(Default)]
pub(crate) struct TimerThread(Arc<Inner>);

impl TimerThread {
    fn arm(&self, index: u32, at: Instant, mailbox: &Arc<Mailbox>) {
        let mut state = self.0.lock();
        match state.deadlines.iter_mut().find(|d| d.index == index) {
            Some(deadline) => deadline.at = at,
            None => state.deadlines.push(Deadline { index, at, mailbox: mailbox.clone() }),
        }
        if !state.started {
            let inner = self.0.clone();
            let thread = std::thread::Builder::new().name("vtimer".into());
            match thread.spawn(move || inner.work()) {
                Ok(_) => state.started = true,
                // The deadline is kept; the next one tries again. Meanwhile the vCPU sees it at its next exit.
                Err(e) => tracing::error!("cannot start the timer thread: {e}"),
            }
        } else if state.sleeps_until.is_none_or(|s| at < s) {
            drop(state);
            self.0.changed.notify_one();
        }
    }
}

impl Drop for TimerThread {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn a_timer_is_a_level_that_follows_the_count() {
        let mut t = Timer::default();
        t.set_value(100, 1000);
        assert_eq!((t.compare, t.value(1040)), (1100, 60));
        assert!(!t.line(2000), "disabled");
        t.set_control(u64::MAX);
        assert_eq!(t.control(1100), ENABLE | IMASK | ISTATUS);
        assert!(!t.line(1100), "masked");
        t.set_control(ENABLE);
        assert_eq!((t.line(1099), t.line(1100)), (false, true));
        assert_eq!((t.deadline(1099), t.deadline(1100)), (Some(1100), None));
        assert_eq!(t.value(1101), 0xffff_ffff, "TVAL counts on below zero");
        t.set_value(0xffff_ffff, 1100);
        assert_eq!(t.compare, 1099, "TVAL is signed");
    }

    #[test]
    fn deadlines_that_the_clock_cannot_hold_never_come() {
        let mut timers = Timers::new(Instant::now());
        timers.virt.set_control(ENABLE);
        timers.virt.compare = u64::MAX;
        timers.phys.set_control(ENABLE);
        timers.phys.compare = 5_000_000_000;
        timers.armed = timers.next(0);
        assert_eq!(timers.deadline(), Some(timers.base + Duration::from_secs(5)), "the nearer one counts");
        assert_eq!(timers.lines(5_000_000_000), TimerLines { virt: false, phys: true, hyp: false });
    }

    #[test]
    fn the_counter_goes_on_after_a_pause_from_where_it_was() {
        let begin = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        let mut timers = Timers::new(begin);
        timers.virt.set_control(ENABLE);
        timers.virt.compare = 5_000_000_000;
        assert!(timers.now() >= 100_000_000_000);
        timers.skip(Duration::from_secs(90));
        assert!((10_000_000_000..90_000_000_000).contains(&timers.now()));
        timers.armed = timers.next(0);
        assert_eq!(timers.deadline(), Some(begin + Duration::from_secs(95)));
    }

    #[test]
    fn the_thread_raises_attention_at_the_deadline() {
        let (thread, mailbox) = (TimerThread::default(), Arc::new(Mailbox::default()));
        thread.arm(0, Instant::now() + Duration::from_secs(3600), &mailbox);
        assert_eq!(mailbox.attention.load(Ordering::SeqCst), 0);
        thread.arm(0, Instant::now(), &mailbox);
        while mailbox.attention.load(Ordering::SeqCst) != attention::TIMER {
            std::thread::yield_now();
        }
    }
}
