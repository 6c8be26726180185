//! The console: text to and from a terminal on the serial port, and to the screen and from its keyboard if there is one.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tearless_bus::MmioDevice;

use crate::{glass::Glass, keyboard::Keyboard};

/// Registers of the PL011 (DDI 0183): data, and flags of which one says that nothing was received.
const DR: u64 = 0;
const FR: u64 = 0x18;
const FR_RXFE: u8 = 1 << 4;

/// How long the rest of an escape sequence may take; later, the escape was a key of its own.
const ESCAPE: Duration = Duration::from_millis(40);
/// Keys that wait for the guest.
pub(crate) const MAX_KEYS: usize = 64;
/// Looks at the keyboard in vain after which a guest is taken to do nothing else.
const PATIENCE: u32 = 64;

/// The size of the terminal, in characters.
pub(crate) const COLUMNS: u32 = 80;
pub(crate) const ROWS: u32 = 25;

/// A key (12.3.3): scan code for those without a character, else the character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub scan: u16,
    pub unicode: u16,
}

/// The console.
pub(crate) struct Console {
    serial: Arc<dyn MmioDevice>,
    keys: VecDeque<Key>,
    /// An unfinished escape sequence or character, and when it began.
    partial: Vec<u8>,
    since: Option<Instant>,
    in_vain: u32,
    pub column: u32,
    pub row: u32,
    pub attribute: u32,
    pub visible: bool,
    /// The screen.
    pub glass: Option<Glass>,
    /// The screen's keyboard.
    pub keyboard: Option<Arc<Keyboard>>,
}

impl Console {
    pub fn new(serial: Arc<dyn MmioDevice>) -> Self {
        Self {
            serial,
            keys: VecDeque::new(),
            partial: Vec::new(),
            since: None,
            in_vain: 0,
            column: 0,
            row: 0,
            attribute: 7,
            visible: true,
            glass: None,
            keyboard: None,
        }
    }

    /// Sends bytes as they are.
    pub fn send(&self, bytes: &[u8]) {
        for byte in bytes {
            // The port takes any byte.
            let _ = self.serial.write(DR, &[*byte, 0, 0, 0]);
        }
    }

    /// Clears what is seen.
    pub fn clear(&mut self) {
        self.send(b"\x1b[2J\x1b[H");
        (self.column, self.row) = (0, 0);
        if let Some(glass) = &self.glass {
            glass.clear(self.attribute);
        }
    }

    fn next_row(&mut self) {
        if self.row + 1 < ROWS {
            self.row += 1;
        } else if let Some(glass) = &self.glass {
            glass.scroll(self.attribute);
        }
    }

    /// Shows text, and follows the cursor as the terminal moves it.
    pub fn show(&mut self, text: &str) {
        let mut out = String::new();
        for c in text.chars() {
            match c {
                '\r' => self.column = 0,
                '\n' => self.next_row(),
                '\u{8}' => self.column = self.column.saturating_sub(1),
                _ => {
                    if let Some(glass) = &self.glass {
                        glass.draw((self.column, self.row), c, self.attribute);
                    }
                    self.column += 1;
                }
            }
            out.push(c);
            if self.column == COLUMNS {
                // The terminal may be wider than it is to the guest.
                out.push_str("\r\n");
                self.column = 0;
                self.next_row();
            }
        }
        self.send(out.as_bytes());
    }

    /// Whether a key waits. A guest that does nothing but ask is slowed down a little: the host has other things to do.
    pub fn has_key(&mut self) -> bool {
        self.poll();
        if self.keys.is_empty() {
            self.in_vain = self.in_vain.saturating_add(1);
            if self.in_vain > PATIENCE {
                std::thread::sleep(Duration::from_millis(1));
                self.poll();
            }
        } else {
            self.in_vain = 0;
        }
        !self.keys.is_empty()
    }

    pub fn key(&mut self) -> Option<Key> {
        if self.has_key() { self.keys.pop_front() } else { None }
    }

    pub fn clear_keys(&mut self) {
        self.poll();
        self.keys.clear();
        self.partial.clear();
    }

    fn receive(&self) -> Option<u8> {
        let mut word = [0; 4];
        self.serial.read(FR, &mut word).ok()?;
        if word[0] & FR_RXFE != 0 {
            return None;
        }
        self.serial.read(DR, &mut word).ok()?;
        Some(word[0])
    }

    fn poll(&mut self) {
        if let Some(keyboard) = &self.keyboard {
            let room = MAX_KEYS.saturating_sub(self.keys.len());
            self.keys.extend(std::iter::from_fn(|| keyboard.next()).take(room));
        }
        while self.keys.len() < MAX_KEYS {
            let Some(byte) = self.receive() else { break };
            self.partial.push(byte);
            self.since = Some(Instant::now());
            self.decode(false);
        }
        if self.since.is_some_and(|since| since.elapsed() > ESCAPE) {
            self.decode(true);
        }
    }

    /// Makes keys of what has come; unless `late`, what may go on is left.
    fn decode(&mut self, late: bool) {
        while !self.partial.is_empty() {
            match decode(&self.partial) {
                Decoded::Key(key, len) => {
                    self.partial.drain(..len);
                    self.keys.extend(key);
                }
                Decoded::More if late => {
                    let first = self.partial.remove(0);
                    if first == ESC {
                        self.keys.push_back(Key { scan: SCAN_ESC, unicode: 0 });
                    }
                }
                Decoded::More => return,
            }
        }
        self.since = None;
    }
}

const ESC: u8 = 0x1b;
const SCAN_ESC: u16 = 0x17;

enum Decoded {
    /// A key, or something that is none, of so many bytes.
    Key(Option<Key>, usize),
    /// More may come.
    More,
}

/// What a terminal sends for keys: UTF-8, and the sequences of a VT100 and xterm.
fn decode(bytes: &[u8]) -> Decoded {
    let scan = |scan, len| Decoded::Key(Some(Key { scan, unicode: 0 }), len);
    match bytes {
        [ESC] | [ESC, b'[' | b'O'] => Decoded::More,
        [ESC, b'[' | b'O', rest @ ..] => {
            let Some(end) = rest.iter().position(|b| !(b.is_ascii_digit() || *b == b';')) else {
                return if rest.len() < 8 { Decoded::More } else { Decoded::Key(None, bytes.len()) };
            };
            let (number, last) = rest.split_at(end);
            let number = number.split(|b| *b == b';').next().unwrap_or_default();
            let number = std::str::from_utf8(number).ok().and_then(|n| n.parse::<u16>().ok());
            let code = match (last.first(), number) {
                (Some(b'A'), _) => Some(1),
                (Some(b'B'), _) => Some(2),
                (Some(b'C'), _) => Some(3),
                (Some(b'D'), _) => Some(4),
                (Some(b'H'), _) | (Some(b'~'), Some(1 | 7)) => Some(5),
                (Some(b'F'), _) | (Some(b'~'), Some(4 | 8)) => Some(6),
                (Some(b'~'), Some(2)) => Some(7),
                (Some(b'~'), Some(3)) => Some(8),
                (Some(b'~'), Some(5)) => Some(9),
                (Some(b'~'), Some(6)) => Some(10),
                (Some(&f @ b'P'..=b'S'), _) => Some(11 + u16::from(f - b'P')),
                (Some(b'~'), Some(f @ 11..=15)) => Some(f),
                (Some(b'~'), Some(f @ 17..=21)) => Some(f - 1),
                (Some(b'~'), Some(f @ 23..=24)) => Some(f - 2),
                _ => None,
            };
            let len = end + 3;
            code.map_or(Decoded::Key(None, len), |code| scan(code, len))
        }
        [ESC, ..] => scan(SCAN_ESC, 1),
        [b'\n' | b'\r', ..] => Decoded::Key(Some(Key { scan: 0, unicode: 0x0d }), 1),
        [0x7f, ..] => Decoded::Key(Some(Key { scan: 0, unicode: 8 }), 1),
        _ => {
            let chunk = bytes.get(..bytes.len().min(4)).unwrap_or_default();
            match std::str::from_utf8(chunk) {
                Ok(text) => first_char(text),
                Err(e) if e.valid_up_to() > 0 => first_char(
                    std::str::from_utf8(chunk.get(..e.valid_up_to()).unwrap_or_default()).unwrap_or(""),
                ),
                Err(e) if e.error_len().is_none() => Decoded::More,
                Err(_) => Decoded::Key(None, 1),
            }
        }
    }
}

fn first_char(text: &str) -> Decoded {
    let Some(c) = text.chars().next() else { return Decoded::Key(None, 1) };
    let key = u16::try_from(u32::from(c)).ok().map(|unicode| Key { scan: 0, unicode });
    Decoded::Key(key, c.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(mut bytes: &[u8]) -> Vec<(u16, u16)> {
        let mut keys = Vec::new();
        while let Decoded::Key(key, len) = decode(bytes) {
            keys.extend(key.map(|k| (k.scan, k.unicode)));
            bytes = &bytes[len..];
            if bytes.is_empty() {
                break;
            }
        }
        keys
    }

    #[test]
    fn a_terminals_bytes_become_keys() {
        assert_eq!(keys(b"a\r\x7f\n"), [(0, 0x61), (0, 13), (0, 8), (0, 13)]);
        assert_eq!(keys(b"\x1b[A\x1bOB\x1b[3~\x1b[1;5C"), [(1, 0), (2, 0), (8, 0), (3, 0)]);
        assert_eq!(keys(b"\x1bOP\x1b[15~\x1b[24~"), [(11, 0), (15, 0), (22, 0)]);
        assert_eq!(keys("é€".as_bytes()), [(0, 0xe9), (0, 0x20ac)]);
        assert_eq!(keys(b"\x1bx"), [(SCAN_ESC, 0), (0, 0x78)]);
        assert_eq!(keys(b"\xff\xfea"), [(0, 0x61)]);
        for partial in [&b"\x1b"[..], b"\x1b[", b"\x1b[1", b"\xe2\x82"] {
            assert!(matches!(decode(partial), Decoded::More), "{partial:?}");
        }
    }
}
