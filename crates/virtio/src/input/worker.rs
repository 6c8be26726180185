//! The thread that gives a driver its events.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
};

use tearless_display::{
    Input,
    input::{
        Device, Event, Lights,
        evdev::{EV_KEY, EV_SYN},
    },
};

use serde::{Deserialize, Serialize};
use tearless_state::StateError;

use super::spec::EVENT_LEN;
use crate::{Chain, Ring, RingError, VirtQueue, Wake, lock};

/// Most events that wait for a driver that does not take them. Keys that are let go come on top: there are not more of them than
/// were pressed.
const MAX_WAITING: usize = 1024;

/// Keys and buttons that there are.
const MAX_DOWN: usize = 0x300;

#[derive(Default)]
struct State {
    /// The driver is up; until then nobody misses an event.
    open: bool,
    waiting: VecDeque<Event>,
    /// What has been pressed, as the driver will know it.
    down: BTreeSet<u16>,
}

impl State {
    /// The part of a report that is passed on: all of it while there is room, after that only what is let go.
    fn admit(&mut self, events: &[Event]) {
        let room = self.waiting.len() + events.len() <= MAX_WAITING;
        let mut admitted = 0;
        for event in events {
            let pass = match (event.kind, event.value) {
                (EV_KEY, 0) => self.down.remove(&event.code),
                (EV_KEY, _) => room && self.down.insert(event.code),
                (EV_SYN, _) => admitted > 0,
                _ => room,
            };
            if pass {
                admitted += 1;
                self.waiting.push_back(*event);
            }
        }
    }
}

/// What is on its way in a saved VM.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedEvents {
    /// Types, codes and values.
    waiting: Vec<(u16, u16, i32)>,
    down: Vec<u16>,
    /// Those that are on, as bits; older states do not say.
    #[serde(default)]
    lights: u8,
}

/// Events on their way to the driver.
pub(super) struct Events {
    state: Mutex<State>,
    wake: Arc<Wake>,
    /// Where a keyboard's lights are seen.
    lights: Option<Arc<Input>>,
}

impl Events {
    pub(super) fn new(wake: Arc<Wake>, lights: Option<Arc<Input>>) -> Self {
        Self { state: Mutex::default(), wake, lights }
    }

    /// The driver switches a light.
    fn switch(&self, event: Event) {
        if let Some(input) = &self.lights {
            input.set_lights(Some(input.lights().unwrap_or_default().after(event)));
        }
    }

    /// The lights are like that now; `None` when no driver has them.
    pub(super) fn shine(&self, lights: Option<Lights>) {
        self.lights.iter().for_each(|input| input.set_lights(lights));
    }

    pub(super) fn wake(&self) -> &Wake {
        &self.wake
    }

    pub(super) fn open(&self) {
        lock(&self.state).open = true;
    }

    pub(super) fn close(&self) {
        *lock(&self.state) = State::default();
    }

    pub(super) fn save(&self) -> SavedEvents {
        let state = lock(&self.state);
        SavedEvents {
            waiting: state.waiting.iter().map(|e| (e.kind, e.code, e.value)).collect(),
            down: state.down.iter().copied().collect(),
            lights: self.lights.as_ref().and_then(|input| input.lights()).unwrap_or_default().bits(),
        }
    }

    /// Takes over what was on its way. What was held down is let go: nobody holds it any more.
    pub(super) fn restore(
        &self,
        SavedEvents { waiting, down, lights }: SavedEvents,
    ) -> Result<(), StateError> {
        // A report that lets keys go may come on top for each of them.
        if waiting.len() > MAX_WAITING + 2 * MAX_DOWN || down.len() > MAX_DOWN {
            return Err(StateError::malformed("more was typed than a device keeps"));
        }
        let mut state = lock(&self.state);
        if !state.open {
            return Ok(());
        }
        self.shine(Some(Lights::from_bits(lights)));
        state.waiting =
            waiting.into_iter().map(|(kind, code, value)| Event::new(kind, code, value)).collect();
        state.down = down.iter().copied().collect();
        let mut let_go: Vec<_> = down.into_iter().map(|code| Event::new(EV_KEY, code, 0)).collect();
        let_go.push(Event::new(EV_SYN, 0, 0));
        state.admit(&let_go);
        Ok(())
    }

    fn first(&self) -> Option<Event> {
        lock(&self.state).waiting.front().copied()
    }

    fn drop_first(&self) {
        lock(&self.state).waiting.pop_front();
    }
}

impl Device for Events {
    fn report(&self, events: &[Event]) {
        let mut state = lock(&self.state);
        if state.open {
            state.admit(events);
            drop(state);
            self.wake.signal();
        }
    }
}

pub(super) fn run([events, status]: &[Arc<VirtQueue>; 2], from: &Events) {
    let mut chain = Chain::default();
    while from.wake.wait() {
        events.with(|ring| give(ring, &mut chain, from));
        let more = |queue: &VirtQueue| !queue.is_stopping() && !from.wake.is_shut_down();
        while status.with(|ring| acknowledge(ring, &mut chain, from)) == Some(true) && more(status) {}
    }
}

/// Gives the driver all that it has room for.
fn give(ring: &mut Ring, chain: &mut Chain, from: &Events) -> Result<(), RingError> {
    let mut given = false;
    while let Some(event) = from.first() {
        if !ring.pop_or_arm(chain)? {
            break;
        }
        from.drop_first();
        let mut bytes = [0; EVENT_LEN];
        let fields = [event.kind.to_le_bytes(), event.code.to_le_bytes()].concat();
        let all = fields.into_iter().chain(event.value.to_le_bytes());
        bytes.iter_mut().zip(all).for_each(|(to, byte)| *to = byte);
        let written = chain.write(ring.memory(), 0, &bytes)?;
        ring.push(chain.head(), written as u32)?;
        given = true;
    }
    if given { ring.notify() } else { Ok(()) }
}

/// The driver switches lights; what is no event is taken and forgotten. Returns whether there may be more.
fn acknowledge(ring: &mut Ring, chain: &mut Chain, from: &Events) -> Result<bool, RingError> {
    if !ring.pop_or_arm(chain)? {
        return Ok(false);
    }
    let mut bytes = [0; EVENT_LEN];
    if chain.read(ring.memory(), 0, &mut bytes)? == EVENT_LEN {
        let [k0, k1, c0, c1, value @ ..] = bytes;
        let [kind, code] = [[k0, k1], [c0, c1]].map(u16::from_le_bytes);
        from.switch(Event::new(kind, code, i32::from_le_bytes(value)));
    }
    ring.push(chain.head(), 0)?;
    ring.notify()?;
    Ok(true)
}
