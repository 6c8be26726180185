//! The keys of the screen's viewers, as EFI has them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tearless_display::{
    Input,
    input::{Device, Event, evdev::EV_KEY},
    vnc::character,
};

use crate::console::{Key, MAX_KEYS};

/// Codes of keys that others change (`linux/input-event-codes.h`).
const LEFT_CTRL: u16 = 29;
const RIGHT_CTRL: u16 = 97;
const LEFT_SHIFT: u16 = 42;
const RIGHT_SHIFT: u16 = 54;

/// Keys without a character (12.3.3): their codes, and EFI's.
const SCAN: [(u16, u16); 23] = [
    (1, 0x17),
    (103, 1),
    (108, 2),
    (106, 3),
    (105, 4),
    (102, 5),
    (107, 6),
    (110, 7),
    (111, 8),
    (104, 9),
    (109, 10),
    (59, 11),
    (60, 12),
    (61, 13),
    (62, 14),
    (63, 15),
    (64, 16),
    (65, 17),
    (66, 18),
    (67, 19),
    (68, 20),
    (87, 21),
    (88, 22),
];

#[derive(Default)]
struct State {
    shift: bool,
    ctrl: bool,
    keys: VecDeque<Key>,
}

/// A US keyboard.
#[derive(Default)]
pub(crate) struct Keyboard(Mutex<State>);

impl Device for Keyboard {
    fn report(&self, events: &[Event]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events.iter().filter(|event| event.kind == EV_KEY) {
            let down = event.value != 0;
            match event.code {
                LEFT_SHIFT | RIGHT_SHIFT => state.shift = down,
                LEFT_CTRL | RIGHT_CTRL => state.ctrl = down,
                code if down && state.keys.len() < MAX_KEYS => {
                    let key = key(code, state.shift, state.ctrl);
                    state.keys.extend(key);
                }
                _ => {}
            }
        }
    }
}

fn key(code: u16, shift: bool, ctrl: bool) -> Option<Key> {
    if let Some((_, scan)) = SCAN.iter().find(|(own, _)| *own == code) {
        return Some(Key { scan: *scan, unicode: 0 });
    }
    let unicode = match code {
        14 => 8,
        15 => 9,
        28 | 96 => 0x0d,
        57 => 0x20,
        _ => u16::try_from(u32::from(character(code, shift)?)).ok()?,
    };
    let is_letter = u8::try_from(unicode).is_ok_and(|byte| byte.is_ascii_alphabetic());
    Some(Key { scan: 0, unicode: if ctrl && is_letter { unicode & 0x1f } else { unicode } })
}

impl Keyboard {
    /// One that hears what is typed at `input`, beside the guest's own.
    pub fn plug(input: &Input) -> Arc<Self> {
        let keyboard = Arc::new(Self::default());
        input.plug_firmware(Some(keyboard.clone()));
        keyboard
    }

    /// The next key.
    pub fn next(&self) -> Option<Key> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_characters_or_scan_codes() {
        let input = Input::new();
        let keyboard = Keyboard::plug(&input);
        let mut seat = input.seat();
        let mut press = |codes: &[u16]| {
            codes.iter().for_each(|code| seat.key(*code, true));
            codes.iter().rev().for_each(|code| seat.key(*code, false));
        };
        for codes in [&[30][..], &[42, 30], &[29, 30], &[108], &[28], &[88], &[57], &[125], &[54, 3]] {
            press(codes);
        }
        let keys: Vec<_> = std::iter::from_fn(|| keyboard.next()).map(|k| (k.scan, k.unicode)).collect();
        let chars = |c: char| (0, c as u16);
        assert_eq!(keys, [chars('a'), chars('A'), (0, 1), (2, 0), (0, 13), (22, 0), chars(' '), chars('@')]);
        // Nobody who does not read makes us keep more and more.
        (0..1000).for_each(|_| press(&[30]));
        assert_eq!(std::iter::from_fn(|| keyboard.next()).count(), MAX_KEYS);
    }
}
