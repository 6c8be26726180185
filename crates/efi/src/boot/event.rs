//! Events, timers and task priorities (UEFI 7.1), and Stall.

use std::time::{Duration, Instant};

use crate::{
    abi::{INVALID_PARAMETER, NOT_READY, SUCCESS, Status, UNSUPPORTED},
    call::{Args, DONE, Flow, Then},
    efi::Efi,
    events::{NOTIFY_SIGNAL, NOTIFY_WAIT, Source},
};

/// At which applications run.
pub(crate) const TPL_APPLICATION: u64 = 4;
const TPL_HIGH: u64 = 31;
/// As many events as one may wait for.
const MAX_WAIT: u64 = 256;

pub(super) fn raise_tpl(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let old = efi.tpl;
    efi.tpl = args.get::<0>().clamp(old, TPL_HIGH);
    Ok(Flow::Done(old))
}

pub(super) fn restore_tpl(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.tpl = args.get::<0>().clamp(TPL_APPLICATION, TPL_HIGH);
    Ok(DONE)
}

pub(super) fn create_event(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    make(efi, args, args.get::<4>(), None)
}

pub(super) fn create_event_ex(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let group = match args.get::<4>() {
        0 => None,
        at => Some(efi.guest.guid(at)?),
    };
    make(efi, args, args.get::<5>(), group)
}

fn make(efi: &mut Efi, args: &Args, slot: u64, group: Option<crate::abi::Guid>) -> Result<Flow, Status> {
    efi.guest.check(slot, 8)?;
    let function = [args.get::<2>(), args.get::<3>()];
    let event =
        efi.events.create((args.get::<0>() as u32, Source::Guest), args.get::<1>(), function, group)?;
    efi.guest.put_u64(slot, event)?;
    Ok(DONE)
}

pub(super) fn set_timer(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    // In units of 100 ns.
    let time = Duration::from_nanos(args.get::<2>().saturating_mul(100));
    let due = || Instant::now().checked_add(time).ok_or(INVALID_PARAMETER);
    let timer = match args.get::<1>() as u32 {
        0 => None,
        1 => Some((due()?, Some(time.max(Duration::from_millis(1))))),
        2 => Some((due()?, None)),
        _ => return Err(INVALID_PARAMETER),
    };
    efi.events.set_timer(args.get::<0>(), timer)?;
    efi.events.tick(Instant::now());
    Ok(DONE)
}

pub(super) fn signal_event(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.events.signal(args.get::<0>())?;
    Ok(DONE)
}

pub(super) fn close_event(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    efi.events.close(args.get::<0>())?;
    Ok(DONE)
}

pub(super) fn check_event(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let id = args.get::<0>();
    let tpl = efi.tpl;
    let event = efi.events.get(id)?;
    if event.kind & NOTIFY_SIGNAL != 0 {
        return Err(INVALID_PARAMETER);
    }
    if !event.signalled && event.kind & NOTIFY_WAIT != 0 && event.tpl > tpl && event.source == Source::Guest {
        let (function, args) = (event.function, [id, event.context]);
        efi.tpl = event.tpl;
        return Ok(Flow::Call { function, args, fresh: false, then: Then::Checked { event: id, tpl } });
    }
    efi.check_now(id)
}

pub(super) fn wait_for_event(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let (count, list, index) = (args.get::<0>(), args.get::<1>(), args.get::<2>());
    if count == 0 || count > MAX_WAIT {
        return Err(INVALID_PARAMETER);
    }
    if efi.tpl != TPL_APPLICATION {
        return Err(UNSUPPORTED);
    }
    let mut events = Vec::new();
    for at in (list..).step_by(8).take(count as usize) {
        let event = efi.guest.u64(at)?;
        if efi.events.get(event)?.kind & NOTIFY_SIGNAL != 0 {
            return Err(INVALID_PARAMETER);
        }
        events.push(event);
    }
    // Where the answer goes travels with them.
    events.push(index);
    efi.wait_for(events, 0)
}

pub(super) fn stall(efi: &mut Efi, args: &Args) -> Result<Flow, Status> {
    let until =
        Instant::now().checked_add(Duration::from_micros(args.get::<0>())).ok_or(INVALID_PARAMETER)?;
    Ok(efi.wait_until(until, SUCCESS))
}

impl Efi {
    /// Whether an event is signalled; it no longer is then.
    fn take(&mut self, id: u64) -> Result<bool, Status> {
        let event = self.events.get(id)?;
        if event.source == Source::Key {
            return Ok(self.console.has_key());
        }
        Ok(std::mem::take(&mut event.signalled))
    }

    pub fn check_now(&mut self, id: u64) -> Result<Flow, Status> {
        if self.take(id)? { Ok(DONE) } else { Err(NOT_READY) }
    }

    /// Waits for any of `events`, whose last is where the index goes; has the function of number `next` run if it has one.
    pub fn wait_for(&mut self, mut events: Vec<u64>, next: usize) -> Result<Flow, Status> {
        let tpl = self.tpl;
        let count = events.len().saturating_sub(1);
        for index in 0..count {
            let Some(&id) = events.get(index) else { break };
            if self.take(id)? {
                if let Some(slot) = events.pop() {
                    self.guest.put_u64(slot, index as u64)?;
                }
                return Ok(DONE);
            }
        }
        for index in next..count {
            let Some(&id) = events.get(index) else { break };
            let event = self.events.get(id)?;
            if event.kind & NOTIFY_WAIT != 0 && event.tpl > tpl && event.source == Source::Guest {
                let (function, args) = (event.function, [id, event.context]);
                self.tpl = event.tpl;
                let then = Then::WaitFor { events, next: index + 1, tpl };
                return Ok(Flow::Call { function, args, fresh: false, then });
            }
        }
        // Functions of other events that are due run meanwhile.
        if let Some((function, args, level)) = self.events.next_notification(tpl) {
            self.tpl = level;
            let then = Then::WaitFor { events, next: 0, tpl };
            return Ok(Flow::Call { function, args, fresh: false, then });
        }
        let until = self.events.next_timer();
        Ok(Flow::Wait(until, Then::WaitFor { events, next: 0, tpl }))
    }
}
