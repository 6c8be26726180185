//! What a viewer says and is told, in binary messages: a byte for the kind, then fields, big-endian.

use std::io;

use crate::{Cursor, MAX_SIDE, Rect, Size, Tile, picture};

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
    /// Its state is kept, and it goes on.
    Snapshot,
    /// It does not run, and shall.
    Start,
}

/// A message of a viewer.
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
    /// The pointer, on a screen of the size that it was told.
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
    Resize {
        /// Its pixels.
        size: Size,
        /// How many of them, in each direction, are where an ordinary screen has one; 0 leaves that as it is.
        scale: u8,
    },
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
            (4, &[a, b, c, d, ref scale @ ..]) if scale.len() < 2 => Self::Resize {
                size: Size::new(word([a, b]).into(), word([c, d]).into()),
                scale: scale.first().copied().unwrap_or(0),
            },
            (5, text) => Self::Text(String::from_utf8(text.to_vec()).ok()?),
            (6, []) => Self::Console,
            (7, typed) => Self::Typed(typed.to_vec()),
            (8, &[action]) => Self::Act(match action {
                0 => Action::Pause,
                1 => Action::Resume,
                2 => Action::Stop,
                3 => Action::Kill,
                4 => Action::Suspend,
                5 => Action::Snapshot,
                6 => Action::Start,
                _ => return None,
            }),
            _ => return None,
        })
    }

    /// As [`Self::parse`] takes it.
    pub fn bytes(&self) -> Vec<u8> {
        let word = |value: u16| value.to_be_bytes();
        match self {
            Self::Ready => vec![0],
            Self::Key { down, code } => [&[1, u8::from(*down)], &word(*code)[..]].concat(),
            Self::Pointer { x, y, buttons } => [&[2], &word(*x)[..], &word(*y), &[*buttons]].concat(),
            Self::Wheel { right, away } => vec![3, right.cast_unsigned(), away.cast_unsigned()],
            Self::Resize { size, scale } => {
                std::iter::once(4).chain(words([size.width, size.height])).chain([*scale]).collect()
            }
            Self::Text(text) => [&[5], text.as_bytes()].concat(),
            Self::Console => vec![6],
            Self::Typed(typed) => [&[7], typed.as_slice()].concat(),
            Self::Act(action) => vec![8, *action as u8],
        }
    }
}

/// What a viewer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// The screen has another size, and is black.
    Size(Size),
    /// A part of the picture.
    Tile(Tile),
    /// That was all that is new. There is more when it says [`Message::Ready`].
    All,
    /// The pointer: hot spot, size and red, green, blue and alpha of each pixel.
    Cursor {
        /// The hot spot within the picture.
        hot: (u16, u16),
        /// The picture's size; nothing when there is no pointer to be seen.
        size: (u16, u16),
        /// Four bytes a pixel, colours not multiplied by alpha.
        rgba: Vec<u8>,
    },
    /// A text was copied.
    Text(String),
    /// What the console shows.
    Console(String),
    /// How the VM is.
    Phase {
        /// In a word.
        phase: String,
        /// What came of what the user wanted, for people; may be empty.
        said: Option<String>,
    },
}

impl Hearing {
    /// Reads one of those with pixels as they are; `None` for what is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        Some(match kind {
            0 => {
                let ([width, height], []) = take_words(rest)? else { return None };
                let size = Size::new(width.into(), height.into());
                (size.width.max(size.height) <= MAX_SIDE).then_some(Self::Size(size))?
            }
            2 => {
                let ([hot_x, hot_y, width, height], rgba) = take_words(rest)?;
                let whole = usize::from(width) * usize::from(height) * 4 == rgba.len();
                whole.then(|| Self::Cursor {
                    hot: (hot_x, hot_y),
                    size: (width, height),
                    rgba: rgba.to_vec(),
                })?
            }
            3 => Self::Text(text(rest)?),
            4 => Self::Console(text(rest.get(4..)?)?),
            5 => {
                let all = text(rest)?;
                let (phase, said) = all.split_once('\n').map_or((all.as_str(), None), |(a, b)| (a, Some(b)));
                Self::Phase { phase: phase.to_owned(), said: said.map(str::to_owned) }
            }
            6 => Self::Tile(parse_tile(rest)?),
            7 if rest.is_empty() => Self::All,
            _ => return None,
        })
    }
}

fn take_words<const N: usize>(bytes: &[u8]) -> Option<([u16; N], &[u8])> {
    let (words, rest) = bytes.split_at_checked(N * 2)?;
    let (words, _) = words.as_chunks::<2>();
    Some((<[[u8; 2]; N]>::try_from(words).ok()?.map(u16::from_be_bytes), rest))
}

fn parse_tile(rest: &[u8]) -> Option<Tile> {
    let (place, pixels) = take_words(rest)?;
    let [x, y, width, height] = place.map(u32::from);
    let rect = Rect::new(x, y, width, height);
    let whole = usize::try_from(rect.size().area()).ok()?.checked_mul(4)? == pixels.len();
    let pixels = || pixels.as_chunks::<4>().0.iter().map(|pixel| u32::from_le_bytes(*pixel)).collect();
    // One of no width has no rows to be drawn.
    (whole && !rect.is_empty()).then(|| Tile { rect, pixels: pixels() })
}

fn words<const N: usize>(words: [u32; N]) -> impl Iterator<Item = u8> {
    // A screen's sides are of 16 bits.
    words.into_iter().flat_map(|word| (word as u16).to_be_bytes())
}

/// The screen has another size.
pub(super) fn size(size: Size) -> Vec<u8> {
    std::iter::once(0).chain(words([size.width, size.height])).collect()
}

fn place(rect: Rect) -> impl Iterator<Item = u8> {
    words([rect.x, rect.y, rect.width, rect.height])
}

/// A part of the picture: place, size, and a PNG file.
pub(crate) fn png_tile(tile: &Tile) -> io::Result<Vec<u8>> {
    let file = picture::quick_png(tile.rect.size(), &tile.pixels).map_err(io::Error::other)?;
    Ok(std::iter::once(1).chain(place(tile.rect)).chain(file).collect())
}

/// A part of the picture for those who have it at hand: place, size and pixels, the least byte first.
pub(crate) fn raw_tile(tile: &Tile) -> Vec<u8> {
    let mut bytes: Vec<u8> = std::iter::once(6).chain(place(tile.rect)).collect();
    let start = bytes.len();
    bytes.resize(start + tile.pixels.len() * 4, 0);
    let to = bytes.get_mut(start..).unwrap_or_default().as_chunks_mut::<4>().0;
    to.iter_mut().zip(&tile.pixels).for_each(|(to, pixel)| *to = pixel.to_le_bytes());
    bytes
}

/// That was all.
pub(super) fn all() -> Vec<u8> {
    vec![7]
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

/// How the VM is, and what came of what the user wanted.
pub(super) fn phase(phase: &str, said: Option<&str>) -> Vec<u8> {
    let said = said.map(|said| format!("\n{said}")).unwrap_or_default();
    [&[5], phase.as_bytes(), said.as_bytes()].concat()
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
        assert_eq!(Message::parse(&[8, 5]), Some(Message::Act(Action::Snapshot)));
        assert_eq!(Message::parse(&[8, 6]), Some(Message::Act(Action::Start)));
        let resize = |scale| Some(Message::Resize { size: Size::new(259, 2), scale });
        assert_eq!(
            (Message::parse(&[4, 1, 3, 0, 2]), Message::parse(&[4, 1, 3, 0, 2, 2])),
            (resize(0), resize(2))
        );
        for wrong in [&[][..], &[0, 0], &[1, 1], &[5, 0xff], &[8, 9], &[99], &[4, 0, 1, 0, 1, 1, 1]] {
            assert_eq!(Message::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for message in [
            Message::Ready,
            Message::Key { down: true, code: 300 },
            Message::Pointer { x: 1, y: 700, buttons: 5 },
            Message::Wheel { right: -3, away: 4 },
            Message::Resize { size: Size::new(800, 600), scale: 2 },
            Message::Text("ä".into()),
            Message::Console,
            Message::Typed(b"ls".to_vec()),
            Message::Act(Action::Suspend),
        ] {
            assert_eq!(Message::parse(&message.bytes()), Some(message));
        }
        let tile = Tile { rect: Rect::new(1, 2, 2, 1), pixels: vec![0x0001_0203, 7] };
        assert_eq!(Hearing::parse(&raw_tile(&tile)), Some(Hearing::Tile(tile)));
        assert_eq!(Hearing::parse(&all()), Some(Hearing::All));
        assert_eq!(Hearing::parse(&size(Size::new(5, 300))), Some(Hearing::Size(Size::new(5, 300))));
        let said = Hearing::Phase { phase: "running".into(), said: Some("a\nb".into()) };
        assert_eq!(Hearing::parse(&phase("running", Some("a\nb"))), Some(said));
        assert_eq!(Hearing::parse(&console((1, 2), "$ ")), Some(Hearing::Console("$ ".into())));
        let short = |mut bytes: Vec<u8>| {
            bytes.pop();
            bytes
        };
        let picture = raw_tile(&Tile { rect: Rect::new(0, 0, 2, 2), pixels: vec![0; 4] });
        let empty = raw_tile(&Tile { rect: Rect::new(0, 0, 0, 2), pixels: vec![] });
        let longer = raw_tile(&Tile { rect: Rect::new(0, 0, 1, 2), pixels: vec![0; 3] });
        let pointer = cursor(&Cursor { size: Size::new(1, 1), pixels: [0].into(), ..Cursor::default() });
        let huge = vec![0, 0xff, 0xff, 0, 1];
        for wrong in [
            short(picture),
            empty,
            longer,
            short(pointer),
            huge,
            vec![],
            vec![1],
            vec![5, 0xff],
            vec![4, 0],
            vec![7, 7],
        ] {
            assert_eq!(Hearing::parse(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_pointers_colours_are_plain() {
        let pixels = [0x8040_2000u32, 0].into();
        let bytes = cursor(&Cursor { hot_x: 1, size: Size::new(2, 1), pixels, ..Cursor::default() });
        assert_eq!(bytes, [2, 0, 1, 0, 0, 0, 2, 0, 1, 127, 63, 0, 0x80, 0, 0, 0, 0]);
    }
}
