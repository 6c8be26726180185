//! What a page says and is told, in binary messages: a byte for the kind, then fields, big-endian.

use crate::{Cursor, Size, Tile, picture};

/// What a button does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The vCPUs stand still.
    Pause,
    /// They go on.
    Resume,
    /// The guest is asked to shut down.
    Stop,
    /// The plug is pulled.
    Kill,
    /// The VM is saved, and its process ends.
    Suspend,
}

/// A message of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// It has shown what it was sent, and wants what has changed.
    Ready,
    /// A key, by evdev's code.
    Key {
        /// It was pressed.
        down: bool,
        /// Which.
        code: u16,
    },
    /// The pointer, on a screen of the size that the page was told.
    Pointer {
        /// Where it is.
        x: u16,
        /// Where it is.
        y: u16,
        /// The buttons that are down, as [`crate::input::BUTTONS`].
        buttons: u8,
    },
    /// The wheels.
    Wheel {
        /// To the right.
        right: i8,
        /// Away from the user.
        away: i8,
    },
    /// The screen is to be of another size.
    Resize(Size),
    /// Its user has copied a text.
    Text(String),
    /// It wants to see the console.
    Console,
    /// What is typed on the console.
    Typed(Vec<u8>),
    /// A button was pressed.
    Act(Action),
}

impl Message {
    /// Reads one; `None` for what is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        let word = |[high, low]: [u8; 2]| u16::from_be_bytes([high, low]);
        Some(match (kind, rest) {
            (0, []) => Self::Ready,
            (1, &[down, a, b]) => Self::Key { down: down != 0, code: word([a, b]) },
            (2, &[a, b, c, d, buttons]) => Self::Pointer { x: word([a, b]), y: word([c, d]), buttons },
            (3, &[right, away]) => Self::Wheel { right: right.cast_signed(), away: away.cast_signed() },
            (4, &[a, b, c, d]) => Self::Resize(Size::new(word([a, b]).into(), word([c, d]).into())),
            (5, text) => Self::Text(String::from_utf8(text.to_vec()).ok()?),
            (6, []) => Self::Console,
            (7, typed) => Self::Typed(typed.to_vec()),
            (8, &[action]) => Self::Act(match action {
                0 => Action::Pause,
                1 => Action::Resume,
                2 => Action::Stop,
                3 => Action::Kill,
                4 => Action::Suspend,
                _ => return None,
            }),
            _ => return None,
        })
    }
}

fn words<const N: usize>(words: [u32; N]) -> impl Iterator<Item = u8> {
    // A screen's sides are of 16 bits.
    words.into_iter().flat_map(|word| (word as u16).to_be_bytes())
}

/// The screen has another size.
pub(super) fn size(size: Size) -> Vec<u8> {
    std::iter::once(0).chain(words([size.width, size.height])).collect()
}

/// Parts of the picture: place, size, length, and a PNG file, of each.
pub(super) fn tiles(tiles: &[Tile]) -> Vec<u8> {
    let mut bytes = vec![1];
    for tile in tiles {
        let Ok(file) = picture::quick_png(tile.rect.size(), &tile.pixels) else { continue };
        bytes.extend(words([tile.rect.x, tile.rect.y, tile.rect.width, tile.rect.height]));
        bytes.extend((file.len() as u32).to_be_bytes());
        bytes.extend(file);
    }
    bytes
}

/// The pointer: hot spot, size, and red, green, blue and alpha of each pixel.
pub(super) fn cursor(cursor: &Cursor) -> Vec<u8> {
    let mut bytes = vec![2];
    bytes.extend(words([cursor.hot_x, cursor.hot_y, cursor.size.width, cursor.size.height]));
    for pixel in cursor.pixels.iter() {
        let [alpha, colours @ ..] = pixel.to_be_bytes();
        // They were multiplied by alpha.
        let plain = |colour: u8| (u32::from(colour) * 255 / u32::from(alpha).max(1)).min(255) as u8;
        bytes.extend(colours.map(plain));
        bytes.push(alpha);
    }
    bytes
}

/// A text was copied.
pub(super) fn text(text: &str) -> Vec<u8> {
    [&[3], text.as_bytes()].concat()
}

/// What the console shows: where the cursor is, and the lines.
pub(super) fn console((row, col): (u16, u16), lines: &str) -> Vec<u8> {
    std::iter::once(4).chain(words([row.into(), col.into()])).chain(lines.bytes()).collect()
}

/// How the VM is, and what is to be said to the user.
pub(super) fn phase(phase: &str, said: &str) -> Vec<u8> {
    [&[5], phase.as_bytes(), b"\n", said.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_understood_or_refused() {
        assert_eq!(Message::parse(&[1, 1, 0, 30]), Some(Message::Key { down: true, code: 30 }));
        assert_eq!(Message::parse(&[2, 1, 0, 0, 9, 3]), Some(Message::Pointer { x: 256, y: 9, buttons: 3 }));
        assert_eq!(Message::parse(&[3, 0xff, 1]), Some(Message::Wheel { right: -1, away: 1 }));
        assert_eq!(Message::parse(&[5, 0xc3, 0xa4]), Some(Message::Text("ä".into())));
        assert_eq!(Message::parse(&[8, 4]), Some(Message::Act(Action::Suspend)));
        for wrong in [&[][..], &[0, 0], &[1, 1], &[5, 0xff], &[8, 9], &[99]] {
            assert_eq!(Message::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_pointers_colours_are_plain() {
        let pixels = [0x8040_2000u32, 0].into();
        let bytes = cursor(&Cursor { hot_x: 1, size: Size::new(2, 1), pixels, ..Cursor::default() });
        assert_eq!(bytes, [2, 0, 1, 0, 0, 0, 2, 0, 1, 127, 63, 0, 0x80, 0, 0, 0, 0]);
    }
}
