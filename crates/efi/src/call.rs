//! A guest's call: its arguments, and how it goes on.

use std::time::{Duration, Instant};

use crate::{
    abi::{INVALID_PARAMETER, OUT_OF_RESOURCES, Status},
    efi::{Efi, Phase},
    guest::Guest,
    stub::{action, frame},
};

/// Calls of the guest by us that are in progress: images that run, and their events' functions.
const MAX_DEPTH: usize = 128;
/// The longest that a vCPU stands still for a call: it has to come by for pauses and ends of the machine.
const SLICE: Duration = Duration::from_millis(5);

/// What a service is: it answers a call.
pub(crate) type Service = fn(&mut Efi, &Args) -> Result<Flow, Status>;

/// The arguments of a call.
pub(crate) struct Args {
    /// The frame that has them.
    pub frame: u64,
    pub number: u16,
    x: [u64; 8],
    sp: u64,
}

impl Args {
    pub fn read(guest: &Guest, at: u64) -> Result<Self, Status> {
        let mut x = [0; 8];
        for (slot, offset) in x.iter_mut().zip((at.wrapping_add(frame::ARGS)..).step_by(8)) {
            *slot = guest.u64(offset)?;
        }
        let number = guest.u64(at.wrapping_add(frame::NUMBER))? as u16;
        Ok(Self { frame: at, number, x, sp: guest.u64(at.wrapping_add(frame::SP))? })
    }

    /// Argument `N`, of the eight in registers.
    pub fn get<const N: usize>(&self) -> u64 {
        const { assert!(N < 8) };
        self.x[N]
    }

    /// Argument `n` of a function that has any number of them.
    pub fn nth(&self, guest: &Guest, n: u64) -> Result<u64, Status> {
        match self.x.get(n as usize) {
            Some(x) => Ok(*x),
            None => guest.u64(self.sp.checked_add(8 * (n - 8)).ok_or(INVALID_PARAMETER)?),
        }
    }
}

/// How a call goes on.
#[derive(Debug)]
pub(crate) enum Flow {
    /// It returns this.
    Done(u64),
    /// First the guest calls a function of its own.
    Call { function: u64, args: [u64; 2], fresh: bool, then: Then },
    /// It comes by again a little later, or at this time if that is sooner.
    Wait(Option<Instant>, Then),
    /// Another call goes on, from which all since have come; its frame says how.
    Unwind { frame: u64 },
    /// The machine ends, by this function of PSCI.
    Power(u32),
}

/// Success.
pub(crate) const DONE: Flow = Flow::Done(crate::abi::SUCCESS);

/// What goes on when a frame's action has been done.
#[derive(Debug)]
pub(crate) enum Then {
    /// An image has returned.
    Started(u64),
    /// The boot manager's image has returned.
    Booted(u64),
    /// The function of an event has returned; the call's own result waits.
    Notified { value: u64, tpl: u64 },
    /// The function of the event that is being looked at has returned.
    Checked { event: u64, tpl: u64 },
    /// A wait for any of these goes on with the one of this index.
    WaitFor { events: Vec<u64>, next: usize, tpl: u64 },
    /// The call returns this at that time.
    Until { until: Instant, flow: u64 },
}

/// A frame whose action is being done.
pub(crate) struct Pending {
    pub frame: u64,
    pub then: Then,
}

impl Efi {
    /// The guest calls a boot service.
    pub fn called(&mut self, at: u64) {
        self.events.tick(Instant::now());
        let args = match Args::read(&self.guest, at) {
            Ok(args) => args,
            Err(_) => return self.lost(at),
        };
        if self.watchdog_bites() {
            let flow = self.bite();
            return self.go_on(at, flow);
        }
        let flow = match crate::service::find(args.number) {
            Some(service) => service(self, &args),
            None => Err(INVALID_PARAMETER),
        };
        tracing::trace!(number = %crate::service::name(args.number), x = ?args.x, ?flow, "EFI");
        self.go_on(at, flow.unwrap_or_else(|status| Flow::Done(status.0)));
    }

    /// The guest has done what a frame's action says.
    pub fn again(&mut self, at: u64) {
        self.events.tick(Instant::now());
        // What is above has been left behind by somebody who knows how to.
        let Some(index) = self.pending.iter().rposition(|p| p.frame == at) else { return self.lost(at) };
        self.pending.truncate(index + 1);
        let Some(Pending { then, .. }) = self.pending.pop() else { return };
        let Ok(result) = self.guest.u64(at.wrapping_add(frame::CALL_ARGS)) else { return self.lost(at) };
        let flow = match then {
            Then::Started(image) => self.image_returned(image, result),
            Then::Booted(image) => {
                self.image_ended(image);
                self.boot_next(Some(result))
            }
            Then::Notified { value, tpl } => {
                self.tpl = tpl;
                Ok(Flow::Done(value))
            }
            Then::Checked { event, tpl } => {
                self.tpl = tpl;
                self.check_now(event)
            }
            Then::WaitFor { events, next, tpl } => {
                self.tpl = tpl;
                self.wait_for(events, next)
            }
            Then::Until { until, flow } => Ok(self.wait_until(until, flow)),
        };
        self.go_on(at, flow.unwrap_or_else(|status| Flow::Done(status.0)));
    }

    pub fn wait_until(&self, until: Instant, flow: u64) -> Flow {
        if Instant::now() >= until {
            Flow::Done(flow)
        } else {
            Flow::Wait(Some(until), Then::Until { until, flow })
        }
    }

    /// Leaves in the frame what the guest does next.
    fn go_on(&mut self, at: u64, flow: Flow) {
        let flow = match flow {
            // Before the guest goes on, the functions of its events run that are due.
            Flow::Done(value) => match self.events.next_notification(self.tpl) {
                Some((function, args, tpl)) if self.pending.len() < MAX_DEPTH => {
                    let then = Then::Notified { value, tpl: self.tpl };
                    self.tpl = tpl;
                    Flow::Call { function, args, fresh: false, then }
                }
                _ => Flow::Done(value),
            },
            Flow::Call { .. } if self.pending.len() >= MAX_DEPTH => Flow::Done(OUT_OF_RESOURCES.0),
            other => other,
        };
        let mut words = vec![(frame::ACTION, action::RETURN)];
        match flow {
            Flow::Done(value) => {
                words.push((frame::ARGS, value));
                let busy = self.pending.iter().any(|p| matches!(p.then, Then::Notified { .. }));
                if self.phase == Phase::Leaving && !busy {
                    self.phase = Phase::Runtime;
                }
            }
            Flow::Call { function, args, fresh, then } => {
                words = vec![
                    (frame::ACTION, if fresh { action::CALL_FRESH } else { action::CALL }),
                    (frame::TARGET, function),
                    (frame::CALL_ARGS, args[0]),
                    (frame::CALL_ARGS + 8, args[1]),
                ];
                self.pending.push(Pending { frame: at, then });
            }
            Flow::Wait(until, then) => {
                let left = until.map_or(SLICE, |until| until.saturating_duration_since(Instant::now()));
                std::thread::sleep(left.min(SLICE));
                words = vec![(frame::ACTION, action::AGAIN)];
                self.pending.push(Pending { frame: at, then });
            }
            Flow::Unwind { frame: target } => {
                words = vec![(frame::ACTION, action::UNWIND), (frame::TARGET, target)];
            }
            Flow::Power(function) => {
                words = vec![(frame::ACTION, action::HVC), (frame::TARGET, function.into())];
            }
        }
        for (offset, word) in words {
            if self.guest.put_u64(at.wrapping_add(offset), word).is_err() {
                return self.lost(at);
            }
        }
    }

    /// A frame is none: the guest has lost its stack, or an OS that has taken over calls a boot service with a stack that
    /// only its page tables know. The call returns without an answer.
    pub fn lost(&self, at: u64) {
        tracing::debug!(frame = at, "a guest's EFI call has no frame");
    }
}
