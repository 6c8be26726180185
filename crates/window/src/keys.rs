//! The host's keys as evdev's codes, and the few that the window keeps for itself.

use std::collections::BTreeSet;

use winit::keyboard::{
    KeyCode::{self, *},
    NativeKeyCode, PhysicalKey,
};

/// Keys by their place, whatever is printed on them: evdev's codes run on from the first.
const ROWS: &[(u16, &[KeyCode])] = &[
    (
        1,
        &[
            Escape, Digit1, Digit2, Digit3, Digit4, Digit5, Digit6, Digit7, Digit8, Digit9, Digit0, Minus,
            Equal,
        ],
    ),
    (
        14,
        &[
            Backspace,
            Tab,
            KeyQ,
            KeyW,
            KeyE,
            KeyR,
            KeyT,
            KeyY,
            KeyU,
            KeyI,
            KeyO,
            KeyP,
            BracketLeft,
            BracketRight,
        ],
    ),
    (
        28,
        &[
            Enter,
            ControlLeft,
            KeyA,
            KeyS,
            KeyD,
            KeyF,
            KeyG,
            KeyH,
            KeyJ,
            KeyK,
            KeyL,
            Semicolon,
            Quote,
            Backquote,
        ],
    ),
    (42, &[ShiftLeft, Backslash, KeyZ, KeyX, KeyC, KeyV, KeyB, KeyN, KeyM, Comma, Period, Slash, ShiftRight]),
    (
        55,
        &[
            NumpadMultiply,
            AltLeft,
            Space,
            CapsLock,
            F1,
            F2,
            F3,
            F4,
            F5,
            F6,
            F7,
            F8,
            F9,
            F10,
            NumLock,
            ScrollLock,
        ],
    ),
    (
        71,
        &[Numpad7, Numpad8, Numpad9, NumpadSubtract, Numpad4, Numpad5, Numpad6, NumpadAdd, Numpad1, Numpad2],
    ),
    (81, &[Numpad3, Numpad0, NumpadDecimal]),
    (85, &[Lang5, IntlBackslash, F11, F12, IntlRo, Lang3, Lang4, Convert, KanaMode, NonConvert]),
    (96, &[NumpadEnter, ControlRight, NumpadDivide, PrintScreen, AltRight]),
    (102, &[Home, ArrowUp, PageUp, ArrowLeft, ArrowRight, End, ArrowDown, PageDown, Insert, Delete]),
    (113, &[AudioVolumeMute, AudioVolumeDown, AudioVolumeUp, Power, NumpadEqual]),
    (119, &[Pause]),
    (121, &[NumpadComma, Lang1, Lang2, IntlYen, SuperLeft, SuperRight, ContextMenu]),
    (129, &[Again, Props, Undo]),
    (133, &[Copy, Open, Paste, Find, Cut, Help]),
    (142, &[Sleep, WakeUp]),
    (155, &[LaunchMail, BrowserFavorites]),
    (158, &[BrowserBack, BrowserForward]),
    (161, &[Eject]),
    (163, &[MediaTrackNext, MediaPlayPause, MediaTrackPrevious, MediaStop]),
    (172, &[BrowserHome, BrowserRefresh]),
    (179, &[NumpadParenLeft, NumpadParenRight]),
    (183, &[F13, F14, F15, F16, F17, F18, F19, F20, F21, F22, F23, F24]),
    (217, &[BrowserSearch]),
    (226, &[MediaSelect]),
];

/// evdev's code of a key, if it has one.
pub fn code(key: PhysicalKey) -> Option<u16> {
    match key {
        PhysicalKey::Code(key) => ROWS.iter().find_map(|(first, row)| {
            let place = row.iter().position(|known| *known == key)?;
            Some(first + u16::try_from(place).ok()?)
        }),
        // Linux' own numbers.
        PhysicalKey::Unidentified(NativeKeyCode::Xkb(code)) => u16::try_from(code).ok(),
        PhysicalKey::Unidentified(_) => None,
    }
}

/// What the window does itself, when control and alt are down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// G: the guest gets all keys, also those that the desktop has a use for; or not any more.
    Grab,
    /// F: full screen and back.
    FullScreen,
    /// Q: asks whether to close.
    Close,
}

/// What is to be done about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The guest gets it.
    Guest,
    /// It is the window's.
    Own(Command),
    /// Nothing.
    Nothing,
}

const CONTROL: [u16; 2] = [29, 97];
const ALT: [u16; 2] = [56, 100];

/// The keys that the guest thinks are down.
#[derive(Default)]
pub struct Keys {
    down: BTreeSet<u16>,
}

impl Keys {
    /// A key was pressed or let go.
    pub fn take(&mut self, code: u16, down: bool) -> Fate {
        if !down {
            return if self.down.remove(&code) { Fate::Guest } else { Fate::Nothing };
        }
        let has = |keys: [u16; 2]| keys.iter().any(|key| self.down.contains(key));
        let command = match code {
            34 => Some(Command::Grab),
            33 => Some(Command::FullScreen),
            16 => Some(Command::Close),
            _ => None,
        };
        match command.filter(|_| has(CONTROL) && has(ALT)) {
            Some(command) => Fate::Own(command),
            // A key that stays down is repeated by the guest.
            None if self.down.insert(code) => Fate::Guest,
            None => Fate::Nothing,
        }
    }

    /// Lets go of all that is down.
    pub fn let_go(&mut self) -> impl Iterator<Item = u16> + use<> {
        std::mem::take(&mut self.down).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_by_their_place() {
        for (key, evdev) in [
            (KeyA, 30),
            (Digit0, 11),
            (Enter, 28),
            (ShiftRight, 54),
            (ScrollLock, 70),
            (NumpadDecimal, 83),
            (IntlBackslash, 86),
            (IntlRo, 89),
            (NonConvert, 94),
            (AltRight, 100),
            (Delete, 111),
            (IntlYen, 124),
            (ContextMenu, 127),
            (MediaStop, 166),
            (F24, 194),
        ] {
            assert_eq!(code(PhysicalKey::Code(key)), Some(evdev), "{key:?}");
        }
        assert_eq!(code(PhysicalKey::Unidentified(NativeKeyCode::Xkb(248))), Some(248));
        assert_eq!(code(PhysicalKey::Unidentified(NativeKeyCode::Unidentified)), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn no_key_is_at_two_places() {
        use winit::platform::scancode::PhysicalKeyExtScancode;

        let all: Vec<_> = ROWS.iter().flat_map(|(first, row)| (*first..).zip(*row)).collect();
        let codes: BTreeSet<_> = all.iter().map(|(code, _)| code).collect();
        assert_eq!(codes.len(), all.len());
        for (code, key) in all {
            // What the library knows it knows as we do.
            let known = PhysicalKey::Code(*key).to_scancode();
            assert!(known.is_none_or(|known| known == u32::from(code)), "{key:?}: {known:?}");
        }
    }

    #[test]
    fn the_windows_own_keys_are_not_the_guests() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(34, true), Fate::Guest);
        assert_eq!(keys.take(34, true), Fate::Nothing);
        assert_eq!(keys.take(34, false), Fate::Guest);
        assert_eq!((keys.take(29, true), keys.take(56, true)), (Fate::Guest, Fate::Guest));
        assert_eq!(keys.take(34, true), Fate::Own(Command::Grab));
        assert_eq!(keys.take(34, false), Fate::Nothing);
        assert_eq!(keys.let_go().collect::<Vec<_>>(), [29, 56]);
        assert_eq!(keys.take(29, false), Fate::Nothing);
    }
}
