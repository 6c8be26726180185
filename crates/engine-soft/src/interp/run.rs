//! The run loop: ops until one returns null, then a look at why.

use std::sync::atomic::Ordering;

use tearless_arm64::pstate;
use tearless_engine::TimerLines;

use super::op::Op;
use crate::cpu::{Cpu, Exception, Stop, shared::attention};

/// Why the vCPU leaves guest code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// An instruction needs the machine; never [`Stop::Continue`] or [`Stop::Exception`].
    Stop(Stop),
    /// The outputs of the timers changed.
    Timer(TimerLines),
    /// Somebody kicked.
    Kicked,
    /// Interpreter and translator disagree, in lockstep.
    Difference(String),
}

/// Runs `op` and those that follow until one returns null.
#[inline(never)]
fn run_ops(cpu: &mut Cpu, mut op: *const Op) {
    while !op.is_null() {
        // SAFETY: `op` is an element of the current page's array, as `find_op` and handlers return them; the sentinel
        // is a valid op of its own handler.
        op = unsafe { ((*op).run)(cpu, op) };
    }
}

impl Cpu {
    /// Runs guest code until the machine is needed.
    pub fn run(&mut self) -> Leave {
        loop {
            if let Some(leave) = self.look_around() {
                return leave;
            }
            let single = self.replay.is_active() || self.goes_singly();
            if self.lockstep.is_some() && !single {
                self.run_lockstep();
                if let Some(difference) = self.lockstep.as_mut().and_then(|l| l.take_difference()) {
                    return Leave::Difference(difference);
                }
            } else if self.jit.is_some() && !single {
                self.run_jit();
            } else {
                let op = self.find_op(self.pc);
                match op.is_null() {
                    true => {}
                    false if single => {
                        self.run_one(op);
                    }
                    false => run_ops(self, op),
                }
            }
            match std::mem::replace(&mut self.stop, Stop::Continue) {
                Stop::Continue => {}
                Stop::Exception(exception) => {
                    self.replay.clear();
                    self.take(exception);
                }
                // An interrupt wakes whether or not it is masked.
                Stop::Wfi if self.irq => {}
                Stop::Wfi => {
                    return self.update_timers().map_or(Leave::Stop(Stop::Wfi), Leave::Timer);
                }
                stop => return Leave::Stop(stop),
            }
        }
    }

    /// Runs the instruction of `op` alone; returns the op that follows, or null when that is not known.
    pub fn run_one(&mut self, op: *const Op) -> *const Op {
        self.replay.rewind();
        let stepping = self.is_stepping();
        let next = self.run_op_alone(op);
        if !next.is_null() {
            self.pc = self.pc_of(next);
        }
        match self.stop {
            // Not over: it will be run again with one more answer, or never.
            Stop::MmioRead { .. } | Stop::MmioWrite { .. } | Stop::Exception(_) => {}
            _ => {
                self.replay.clear();
                if stepping {
                    self.pstate &= !pstate::SS;
                }
            }
        }
        next
    }

    /// Looks at what may have happened since the last instruction.
    fn look_around(&mut self) -> Option<Leave> {
        if self.mailbox.has_requests() {
            self.drain_requests();
        }
        if self.replay.is_active() {
            // In the middle of an instruction; everything else waits for its end.
            return None;
        }
        let mut bits = self.mailbox.attention.load(Ordering::Relaxed);
        if bits != 0 {
            bits = self.mailbox.attention.swap(0, Ordering::SeqCst);
        }
        if bits & attention::INBOX != 0 {
            self.drain_requests();
        }
        if bits & attention::TIMER != 0 {
            self.timers_changed = true;
        }
        if bits & attention::KICK != 0 {
            return Some(Leave::Kicked);
        }
        if self.timers_changed {
            self.timers_changed = false;
            if let Some(lines) = self.update_timers() {
                return Some(Leave::Timer(lines));
            }
        }
        if self.irq && self.pstate & pstate::I == 0 {
            self.take_irq();
        } else if self.pstate & pstate::IL != 0 {
            self.take(Exception::IllegalState);
        } else if self.is_stepping() && self.pstate & pstate::SS == 0 {
            self.take(Exception::Step(1 << 24));
        } else if self.is_at_breakpoint() {
            self.take(Exception::Breakpoint);
        }
        if self.goes_singly() {
            self.mailbox.raise(attention::SELF);
        }
        None
    }

    /// Compares the timers' outputs with what was reported, and arms the next deadline.
    fn update_timers(&mut self) -> Option<TimerLines> {
        let now = self.timers.now();
        self.timers.arm(now, &self.shared.timers, self.index, &self.mailbox);
        let lines = self.timers.lines(now);
        let changed = lines != self.timers.reported;
        self.timers.reported = lines;
        changed.then_some(lines)
    }
}
