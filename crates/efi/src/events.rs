//! Events and timers (UEFI 7.1), without the guest's side: that is in [`crate::boot::event`].

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::abi::{Guid, INVALID_PARAMETER, OUT_OF_RESOURCES, Status, guid};

pub(crate) const TIMER: u32 = 0x8000_0000;
pub(crate) const NOTIFY_WAIT: u32 = 0x100;
pub(crate) const NOTIFY_SIGNAL: u32 = 0x200;
const EXIT_BOOT_SERVICES: u32 = 0x201;
const VIRTUAL_ADDRESS_CHANGE: u32 = 0x6000_0202;
/// A loader has a few; more are an attack on our memory.
const MAX_EVENTS: usize = 4096;
/// Identifiers of events start here: nothing else that the guest is given looks like one.
const FIRST_ID: u64 = 0xe7e2_0000_0000;

/// What an event stands for, beside what the guest does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Guest,
    /// Signalled while a key waits.
    Key,
}

pub(crate) struct Event {
    pub kind: u32,
    pub tpl: u64,
    pub function: u64,
    pub context: u64,
    pub signalled: bool,
    pub source: Source,
    queued: bool,
    group: Option<Guid>,
    timer: Option<(Instant, Option<Duration>)>,
}

#[derive(Default)]
pub(crate) struct Events {
    events: BTreeMap<u64, Event>,
    made: u64,
}

impl Events {
    pub fn create(
        &mut self,
        (kind, source): (u32, Source),
        tpl: u64,
        [function, context]: [u64; 2],
        group: Option<Guid>,
    ) -> Result<u64, Status> {
        let notifies = kind & (NOTIFY_WAIT | NOTIFY_SIGNAL);
        let known =
            matches!(kind & !(TIMER | NOTIFY_WAIT | NOTIFY_SIGNAL), 0 | 1 | 0x6000_0002 | 0x4000_0000);
        let both = notifies == NOTIFY_WAIT | NOTIFY_SIGNAL;
        // Between the lowest level, at which applications run, and the highest.
        let bad_notify = notifies != 0 && (function == 0 || !(4 < tpl && tpl < 31));
        if !known || both || bad_notify {
            return Err(INVALID_PARAMETER);
        }
        if self.events.len() >= MAX_EVENTS {
            return Err(OUT_OF_RESOURCES);
        }
        let group = match kind {
            EXIT_BOOT_SERVICES => Some(guid::EVENT_EXIT_BOOT_SERVICES),
            VIRTUAL_ADDRESS_CHANGE => None,
            _ => group,
        };
        let id = FIRST_ID + 8 * self.made;
        self.made += 1;
        let (signalled, queued, timer) = (false, false, None);
        let event = Event { kind, tpl, function, context, signalled, source, queued, group, timer };
        self.events.insert(id, event);
        Ok(id)
    }

    pub fn get(&mut self, id: u64) -> Result<&mut Event, Status> {
        self.events.get_mut(&id).ok_or(INVALID_PARAMETER)
    }

    pub fn close(&mut self, id: u64) -> Result<(), Status> {
        self.events.remove(&id).map(drop).ok_or(INVALID_PARAMETER)
    }

    /// Signals an event, and all of its group.
    pub fn signal(&mut self, id: u64) -> Result<(), Status> {
        let event = self.get(id)?;
        match event.group {
            Some(group) => self.signal_group(group),
            None => event.signal(),
        }
        Ok(())
    }

    pub fn signal_group(&mut self, group: Guid) {
        self.events.values_mut().filter(|e| e.group == Some(group)).for_each(Event::signal);
    }

    pub fn set_timer(&mut self, id: u64, timer: Option<(Instant, Option<Duration>)>) -> Result<(), Status> {
        let event = self.get(id)?;
        if event.kind & TIMER == 0 {
            return Err(INVALID_PARAMETER);
        }
        event.timer = timer;
        Ok(())
    }

    /// Signals the timers that are due.
    pub fn tick(&mut self, now: Instant) {
        let mut due = Vec::new();
        for (id, event) in &mut self.events {
            if let Some((at, period)) = event.timer.filter(|(at, _)| *at <= now) {
                // Ticks that nobody saw are not made up for.
                event.timer = period.and_then(|p| Some((at.checked_add(p)?.max(now), Some(p))));
                due.push(*id);
            }
        }
        for id in due {
            // It is there: it was found a moment ago.
            let _ = self.signal(id);
        }
    }

    /// When the next timer is due.
    pub fn next_timer(&self) -> Option<Instant> {
        self.events.values().filter_map(|e| e.timer.map(|(at, _)| at)).min()
    }

    /// The function that is to run next at a level above `tpl`, with its arguments and level: the highest level first.
    pub fn next_notification(&mut self, tpl: u64) -> Option<(u64, [u64; 2], u64)> {
        let due = self.events.iter_mut().filter(|(_, e)| e.queued && e.tpl > tpl);
        let (id, event) = due.max_by_key(|(id, e)| (e.tpl, std::cmp::Reverse(**id)))?;
        event.queued = false;
        event.signalled = false;
        Some((event.function, [*id, event.context], event.tpl))
    }
}

impl Event {
    fn signal(&mut self) {
        self.signalled = true;
        self.queued |= self.kind & NOTIFY_SIGNAL != 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notified(events: &mut Events, tpl: u64, context: u64, group: Option<Guid>) -> u64 {
        events.create((NOTIFY_SIGNAL, Source::Guest), tpl, [0x1000, context], group).unwrap()
    }

    #[test]
    fn functions_run_by_level_and_only_above_the_current() {
        let mut events = Events::default();
        let group = Some(guid::EVENT_READY_TO_BOOT);
        notified(&mut events, 8, 1, group);
        let first = notified(&mut events, 16, 2, group);
        notified(&mut events, 16, 3, group);
        events.signal(first).unwrap();
        let mut order = |tpl| events.next_notification(tpl).map(|(_, [_, context], _)| context);
        assert_eq!(
            [order(8), order(8), order(8), order(4), order(4)],
            [Some(2), Some(3), None, Some(1), None]
        );
    }

    #[test]
    fn timers_fire_once_or_again() {
        let mut events = Events::default();
        let [once, often] = [0; 2].map(|_| events.create((TIMER, Source::Guest), 0, [0, 0], None).unwrap());
        let start = Instant::now();
        let second = Duration::from_secs(1);
        events.set_timer(once, Some((start + second, None))).unwrap();
        events.set_timer(often, Some((start + second, Some(second)))).unwrap();
        for (at, expected) in [(0, [false, false]), (1, [true, true]), (5, [false, true])] {
            events.tick(start + at * second);
            let signalled = [once, often].map(|id| std::mem::take(&mut events.get(id).unwrap().signalled));
            assert_eq!(signalled, expected, "after {at} s");
        }
        events.close(often).unwrap();
        assert_eq!(events.next_timer(), None);
        assert!(events.signal(often).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut events = Events::default();
        for (kind, tpl, function) in
            [(NOTIFY_SIGNAL, 8, 0), (NOTIFY_SIGNAL, 4, 1), (NOTIFY_WAIT | NOTIFY_SIGNAL, 8, 1), (7, 0, 0)]
        {
            assert!(events.create((kind, Source::Guest), tpl, [function, 0], None).is_err(), "{kind:#x}");
        }
        while events.create((0, Source::Guest), 0, [0, 0], None).is_ok() {}
        assert_eq!(events.events.len(), MAX_EVENTS);
    }
}
