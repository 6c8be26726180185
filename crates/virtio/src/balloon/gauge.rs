//! The host's side of a balloon: it sets the size that is wanted and reads what the guest says. It outlives the machine.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::spec::{PAGE, stat};
use crate::{Interrupt, Wake, lock};

/// What a guest says of its memory, in bytes. It may say anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestUse {
    /// All that its kernel manages.
    pub total: u64,
    /// What nobody uses.
    pub free: u64,
    /// What programs could have without swapping: what is free, and caches that can go.
    pub available: u64,
    /// Caches of files.
    pub caches: u64,
}

impl GuestUse {
    /// From what the driver wrote: unknown statistics are skipped, missing ones are zero.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        for entry in bytes.chunks_exact(stat::SIZE) {
            let &[a, b, ref value @ ..] = entry else { continue };
            let Ok(value) = value.try_into().map(u64::from_le_bytes) else { continue };
            match u16::from_le_bytes([a, b]) {
                stat::TOTAL => found.total = value,
                stat::FREE => found.free = value,
                stat::AVAILABLE => found.available = value,
                stat::CACHES => found.caches = value,
                _ => {}
            }
        }
        found
    }
}

/// How a balloon is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// How large it is to be, in bytes.
    pub target: u64,
    /// How large the driver says that it is, in bytes.
    pub actual: u64,
    /// What the guest said last of its memory; `None` without a driver that does.
    pub guest: Option<GuestUse>,
}

/// What the driver has written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Held {
    /// The balloon's size, in pages.
    pub(super) actual: u32,
    /// What its free pages hold.
    pub(super) poison: u32,
}

/// The way to a driver that is up.
struct Link {
    interrupt: Arc<dyn Interrupt>,
    /// Wakes the worker that asks the driver of its memory, if the driver tells.
    wake: Option<Arc<Wake>>,
}

#[derive(Default)]
struct State {
    target: u32,
    actual: u32,
    poison: u32,
    guest: Option<GuestUse>,
    /// How often the driver has told of its memory.
    told: u64,
    /// It has yet to answer somebody.
    asked: bool,
    link: Option<Link>,
}

/// The host's end of the balloon of one VM.
#[derive(Default)]
pub struct Gauge {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gauge {
    /// For a balloon of `target` bytes, in whole pages of 4 KiB.
    pub fn new(target: u64) -> Arc<Self> {
        let gauge = Self::default();
        lock(&gauge.state).target = pages(target);
        Arc::new(gauge)
    }

    /// Has the guest make its balloon `target` bytes large, in whole pages of 4 KiB. A guest without a driver does when it
    /// has one; one that runs out of memory takes some back.
    pub fn set_target(&self, target: u64) {
        let mut state = lock(&self.state);
        state.target = pages(target);
        let interrupt = state.link.as_ref().map(|link| Arc::clone(&link.interrupt));
        drop(state);
        if let Some(interrupt) = interrupt {
            interrupt.config();
        }
    }

    /// How it is. A driver that tells how the guest uses its memory is asked, and may take `patience` for an answer; then
    /// what it said last has to do.
    pub fn read(&self, patience: Duration) -> Reading {
        let deadline = Instant::now() + patience;
        let mut state = lock(&self.state);
        let before = state.told;
        let asks = state.link.as_ref().and_then(|link| link.wake.clone()).filter(|_| !patience.is_zero());
        if let Some(wake) = asks {
            state.asked = true;
            wake.signal();
        }
        while state.asked && state.told == before {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Reading { target: bytes(state.target), actual: bytes(state.actual), guest: state.guest }
    }

    /// `struct virtio_balloon_config`.
    pub(super) fn config(&self) -> [u32; 4] {
        let state = lock(&self.state);
        [state.target, state.actual, 0, state.poison]
    }

    pub(super) fn set_actual(&self, pages: u32) {
        lock(&self.state).actual = pages;
    }

    pub(super) fn set_poison(&self, poison: u32) {
        lock(&self.state).poison = poison;
    }

    /// What the driver holds, for a saved VM.
    pub(super) fn held(&self) -> Held {
        let state = lock(&self.state);
        Held { actual: state.actual, poison: state.poison }
    }

    /// Whether the guest relies on its free pages holding a pattern.
    pub(super) fn is_poisoned(&self) -> bool {
        lock(&self.state).poison != 0
    }

    /// A driver is up; `wake` wakes who asks it of its memory, if it tells.
    pub(super) fn connect(&self, interrupt: Arc<dyn Interrupt>, wake: Option<Arc<Wake>>) {
        lock(&self.state).link = Some(Link { interrupt, wake });
    }

    /// The driver has gone, and with it what it held and said.
    pub(super) fn disconnect(&self) {
        let mut state = lock(&self.state);
        *state = State { target: state.target, told: state.told, ..State::default() };
        self.changed.notify_all();
    }

    /// Whether somebody waits for the driver to tell.
    pub(super) fn is_asked(&self) -> bool {
        lock(&self.state).asked
    }

    /// The driver told.
    pub(super) fn tell(&self, guest: GuestUse) {
        let mut state = lock(&self.state);
        state.guest = Some(guest);
        state.told = state.told.wrapping_add(1);
        state.asked = false;
        self.changed.notify_all();
    }
}

fn pages(bytes: u64) -> u32 {
    u32::try_from(bytes / PAGE).unwrap_or(u32::MAX)
}

fn bytes(pages: u32) -> u64 {
    u64::from(pages) * PAGE
}
