//! What viewers type and point at, on its way to the guest's devices.
//!
//! Events are those of Linux' evdev interface, which virtio-input speaks as well. Each viewer has a [`Seat`]: when it leaves, what it
//! held down is let go, so no key stays stuck.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use crate::{Size, lock};

/// Event types and codes of evdev that a pointer needs (`linux/input-event-codes.h`).
pub mod evdev {
    /// The end of a report.
    pub const EV_SYN: u16 = 0;
    /// A key or button.
    pub const EV_KEY: u16 = 1;
    /// A movement.
    pub const EV_REL: u16 = 2;
    /// A position.
    pub const EV_ABS: u16 = 3;
    /// A light, which the guest switches.
    pub const EV_LED: u16 = 0x11;
    /// The light of num lock.
    pub const LED_NUML: u16 = 0;
    /// The light of caps lock.
    pub const LED_CAPSL: u16 = 1;
    /// The light of scroll lock, the last one that a keyboard here has.
    pub const LED_SCROLLL: u16 = 2;
    /// The wheel that tilts.
    pub const REL_HWHEEL: u16 = 6;
    /// The wheel.
    pub const REL_WHEEL: u16 = 8;
    /// From left to right.
    pub const ABS_X: u16 = 0;
    /// From top to bottom.
    pub const ABS_Y: u16 = 1;
    /// The first button of a mouse.
    pub const BTN_LEFT: u16 = 0x110;
    /// The second.
    pub const BTN_RIGHT: u16 = 0x111;
    /// The third.
    pub const BTN_MIDDLE: u16 = 0x112;
    /// Under the thumb.
    pub const BTN_SIDE: u16 = 0x113;
    /// Under the thumb.
    pub const BTN_EXTRA: u16 = 0x114;
    /// The last key that a keyboard here has; buttons begin further on.
    pub const KEY_LAST: u16 = 248;
}

use evdev::{
    ABS_X, ABS_Y, EV_ABS, EV_KEY, EV_LED, EV_REL, EV_SYN, KEY_LAST, LED_SCROLLL, REL_HWHEEL, REL_WHEEL,
};

/// The largest position of the pointer, on both axes.
pub const ABS_MAX: u32 = 0x7fff;

/// The buttons, in the order of the bits that [`Seat::point`] takes.
pub const BUTTONS: [u16; 5] =
    [evdev::BTN_LEFT, evdev::BTN_MIDDLE, evdev::BTN_RIGHT, evdev::BTN_SIDE, evdev::BTN_EXTRA];

/// An event of evdev.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its type.
    pub kind: u16,
    /// What of that type.
    pub code: u16,
    /// How much of it.
    pub value: i32,
}

impl Event {
    /// An event.
    pub const fn new(kind: u16, code: u16, value: i32) -> Self {
        Self { kind, code, value }
    }

    /// The end of a report.
    pub const SYN: Self = Self::new(EV_SYN, 0, 0);
}

/// The keyboard's lights: which of them are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lights(u8);

impl Lights {
    /// Bit N is the light N.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & ((2 << LED_SCROLLL) - 1))
    }

    /// As [`Self::from_bits`] takes it.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// These after `event`, which is a guest's: what switches no light that there is changes nothing.
    #[must_use]
    pub fn after(self, event: Event) -> Self {
        if event.kind != EV_LED || event.code > LED_SCROLLL {
            return self;
        }
        let bit = 1 << event.code;
        Self(if event.value == 0 { self.0 & !bit } else { self.0 | bit })
    }

    /// Whether the light of this number is on.
    pub fn is_on(self, light: u16) -> bool {
        light <= LED_SCROLLL && self.0 >> light & 1 != 0
    }
}

/// A device of the guest.
pub trait Device: Send + Sync {
    /// Takes events that happened at once, the end of the report included. Never waits.
    fn report(&self, events: &[Event]);
}

#[derive(Default)]
struct Devices {
    keyboard: Option<Arc<dyn Device>>,
    pointer: Option<Arc<dyn Device>>,
    firmware: Option<Arc<dyn Device>>,
}

/// The keyboard's lights, and who is told of them.
#[derive(Default)]
struct Shining {
    lights: Option<Lights>,
    listener: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// The way from viewers to the guest's keyboard and pointer, and back from the keyboard's lights. Events without a device get lost.
#[derive(Default)]
pub struct Input {
    devices: Mutex<Devices>,
    shining: Mutex<Shining>,
}

impl Input {
    /// Nothing plugged in.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How the lights of the guest's keyboard are; `None` while no driver has one.
    pub fn lights(&self) -> Option<Lights> {
        lock(&self.shining).lights
    }

    /// The guest has switched them, or has its keyboard no more.
    pub fn set_lights(&self, lights: Option<Lights>) {
        let mut shining = lock(&self.shining);
        if std::mem::replace(&mut shining.lights, lights) == lights {
            return;
        }
        let listener = shining.listener.clone();
        drop(shining);
        listener.iter().for_each(|listener| listener());
    }

    /// From now on `listener` hears of lights that are switched.
    pub fn on_lights(&self, listener: Arc<dyn Fn() + Send + Sync>) {
        lock(&self.shining).listener = Some(listener);
    }

    /// Plugs in a keyboard, in place of the last one.
    pub fn plug_keyboard(&self, device: Arc<dyn Device>) {
        lock(&self.devices).keyboard = Some(device);
    }

    /// Plugs in a pointer, in place of the last one.
    pub fn plug_pointer(&self, device: Arc<dyn Device>) {
        lock(&self.devices).pointer = Some(device);
    }

    /// Has firmware hear of keys beside the guest's keyboard, or nobody any more.
    pub fn plug_firmware(&self, device: Option<Arc<dyn Device>>) {
        lock(&self.devices).firmware = device;
    }

    /// A viewer's place.
    pub fn seat(self: &Arc<Self>) -> Seat {
        Seat { input: self.clone(), keys: BTreeSet::new(), buttons: 0 }
    }

    fn keyboard(&self, events: &[Event]) {
        let devices = {
            let devices = lock(&self.devices);
            [devices.keyboard.clone(), devices.firmware.clone()]
        };
        devices.iter().flatten().for_each(|device| device.report(events));
    }

    fn pointer(&self, events: &[Event]) {
        let device = lock(&self.devices).pointer.clone();
        device.iter().for_each(|device| device.report(events));
    }
}

/// A viewer's place at the keyboard and the pointer.
pub struct Seat {
    input: Arc<Input>,
    keys: BTreeSet<u16>,
    buttons: u8,
}

impl Seat {
    /// Presses a key or lets it go. Keys that are no keyboard's, repetitions and keys that are not down are ignored.
    pub fn key(&mut self, code: u16, down: bool) {
        let known = (1..=KEY_LAST).contains(&code);
        let changed = known && if down { self.keys.insert(code) } else { self.keys.remove(&code) };
        if changed {
            self.input.keyboard(&[Event::new(EV_KEY, code, down.into()), Event::SYN]);
        }
    }

    /// Puts the pointer onto a pixel of a screen of `size`; the bits of `buttons` are those of [`BUTTONS`] that are
    /// down.
    pub fn point(&mut self, (x, y): (u32, u32), size: Size, buttons: u8) {
        let mut events = vec![
            Event::new(EV_ABS, ABS_X, position(x, size.width)),
            Event::new(EV_ABS, ABS_Y, position(y, size.height)),
        ];
        let before = std::mem::replace(&mut self.buttons, buttons);
        events.extend((0..).zip(BUTTONS).filter_map(|(bit, code)| {
            let (was, is) = (before >> bit & 1, buttons >> bit & 1);
            (was != is).then(|| Event::new(EV_KEY, code, is.into()))
        }));
        events.push(Event::SYN);
        self.input.pointer(&events);
    }

    /// Turns the wheels: to the right and away from the user.
    pub fn turn(&self, right: i32, away: i32) {
        let turns = [(REL_HWHEEL, right), (REL_WHEEL, away)];
        let mut events: Vec<_> = turns
            .into_iter()
            .filter(|(_, by)| *by != 0)
            .map(|(code, by)| Event::new(EV_REL, code, by))
            .collect();
        if !events.is_empty() {
            events.push(Event::SYN);
            self.input.pointer(&events);
        }
    }

    /// Lets go of all that is held down.
    pub fn let_go(&mut self) {
        for code in std::mem::take(&mut self.keys) {
            self.input.keyboard(&[Event::new(EV_KEY, code, 0), Event::SYN]);
        }
        let buttons = std::mem::take(&mut self.buttons);
        let mut events: Vec<_> = (0..)
            .zip(BUTTONS)
            .filter(|(bit, _)| buttons >> bit & 1 != 0)
            .map(|(_, code)| Event::new(EV_KEY, code, 0))
            .collect();
        if !events.is_empty() {
            events.push(Event::SYN);
            self.input.pointer(&events);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Where pixel `at` of `len` is on an axis of the pointer.
fn position(at: u32, len: u32) -> i32 {
    let last = u64::from(len.saturating_sub(1).max(1));
    let at = u64::from(at).min(last);
    i32::try_from((at * u64::from(ABS_MAX) + last / 2) / last).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Record(Mutex<Vec<Event>>);

    impl Device for Record {
        fn report(&self, events: &[Event]) {
            lock(&self.0).extend(events);
        }
    }

    impl Record {
        fn take(&self) -> Vec<(u16, u16, i32)> {
            lock(&self.0).drain(..).map(|e| (e.kind, e.code, e.value)).collect()
        }
    }

    #[test]
    fn keys_are_reported_once_and_let_go_at_the_end() {
        let (input, keyboard) = (Input::new(), Arc::new(Record::default()));
        input.seat().key(30, true);
        input.plug_keyboard(keyboard.clone());
        let mut seat = input.seat();
        for (code, down) in [(30, true), (30, true), (31, false), (0, true), (500, true)] {
            seat.key(code, down);
        }
        assert_eq!(keyboard.take(), [(1, 30, 1), (0, 0, 0)]);
        drop(seat);
        assert_eq!(keyboard.take(), [(1, 30, 0), (0, 0, 0)]);
    }

    #[test]
    fn the_pointer_reaches_every_corner() {
        let (input, pointer) = (Input::new(), Arc::new(Record::default()));
        input.plug_pointer(pointer.clone());
        let mut seat = input.seat();
        let size = Size::new(1280, 800);
        seat.point((0, 799), size, 0b101);
        assert_eq!(pointer.take(), [(3, 0, 0), (3, 1, 0x7fff), (1, 0x110, 1), (1, 0x111, 1), (0, 0, 0)]);
        seat.point((u32::MAX, 0), size, 0b100);
        assert_eq!(pointer.take(), [(3, 0, 0x7fff), (3, 1, 0), (1, 0x110, 0), (0, 0, 0)]);
        seat.turn(0, -2);
        seat.turn(0, 0);
        assert_eq!(pointer.take(), [(2, 8, -2), (0, 0, 0)]);
        drop(seat);
        assert_eq!(pointer.take(), [(1, 0x111, 0), (0, 0, 0)]);
        // A screen of nothing must not divide by it.
        input.seat().point((5, 5), Size::default(), 0);
    }
}
