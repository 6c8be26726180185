//! What viewers say (RFC 6143, section 7.5).

use std::io::{self, Read};

use super::{
    clipboard::{Extended, MAX_EXTENDED},
    pixels::PixelFormat,
};
use crate::{Rect, Size, clipboard::MAX_TEXT};

/// Most encodings that are looked at; there are not as many.
const MAX_ENCODINGS: u16 = 1024;

/// A message of a viewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// How it wants pixels.
    Format(PixelFormat),
    /// What it understands, the best first.
    Encodings(Vec<i32>),
    /// It wants a part of the screen; what has changed in it, or all.
    Update {
        /// What has changed will do.
        incremental: bool,
        /// The part.
        rect: Rect,
    },
    /// A key by its symbol.
    Symbol {
        /// It was pressed.
        down: bool,
        /// X11's number of it.
        symbol: u32,
    },
    /// A key by its code, as the first PC's keyboard had it.
    Code {
        /// It was pressed.
        down: bool,
        /// Its code.
        code: u32,
    },
    /// The pointer.
    Pointer {
        /// The buttons that are down, wheels included.
        buttons: u8,
        /// Where it is.
        x: u32,
        /// Where it is.
        y: u32,
    },
    /// The screen is to be of another size.
    Resize(Size),
    /// Its user has copied a text.
    Text(String),
    /// It says something else about its clipboard.
    Clipboard(Extended),
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn bytes<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn short(from: &mut impl Read) -> io::Result<u16> {
    bytes(from).map(u16::from_be_bytes)
}

fn word(from: &mut impl Read) -> io::Result<u32> {
    bytes(from).map(u32::from_be_bytes)
}

/// Reads over `len` bytes.
fn skip(from: &mut impl Read, len: u64) -> io::Result<()> {
    if io::copy(&mut from.take(len), &mut io::sink())? == len {
        Ok(())
    } else {
        Err(bad("the message ends early"))
    }
}

/// Reads a message of the clipboard's extension that has `len` bytes.
fn extended(from: &mut impl Read, len: u32) -> io::Result<Extended> {
    if len as usize > MAX_EXTENDED {
        return Err(bad("the clipboard's message is too long"));
    }
    let mut bytes = Vec::new();
    if from.take(len.into()).read_to_end(&mut bytes)? < len as usize {
        return Err(bad("the message ends early"));
    }
    Extended::parse(&bytes)
}

impl Message {
    /// Reads one.
    ///
    /// # Errors
    /// When the viewer is gone, or says what makes no sense: what follows cannot be understood then.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let [kind] = bytes(from)?;
        match kind {
            0 => {
                skip(from, 3)?;
                let format = PixelFormat::parse(bytes(from)?);
                Ok(Self::Format(format.ok_or_else(|| bad("the pixel format is none that can be sent"))?))
            }
            2 => {
                let [_] = bytes(from)?;
                let count = short(from)?;
                let all = (0..count).map(|_| bytes(from).map(i32::from_be_bytes));
                let all = all.collect::<io::Result<Vec<_>>>()?;
                if count > MAX_ENCODINGS {
                    return Err(bad("it knows too many encodings"));
                }
                Ok(Self::Encodings(all))
            }
            3 => {
                let [incremental] = bytes(from)?;
                let [x, y, width, height] = [(); 4].map(|()| short(from).map(u32::from));
                let rect = Rect::new(x?, y?, width?, height?);
                Ok(Self::Update { incremental: incremental != 0, rect })
            }
            4 => {
                let [down, _, _] = bytes(from)?;
                Ok(Self::Symbol { down: down != 0, symbol: word(from)? })
            }
            5 => {
                let [buttons] = bytes(from)?;
                Ok(Self::Pointer { buttons, x: short(from)?.into(), y: short(from)?.into() })
            }
            6 => {
                skip(from, 3)?;
                let len = word(from)?;
                if len.cast_signed() < 0 {
                    return extended(from, len.wrapping_neg()).map(Self::Clipboard);
                }
                if len as usize > MAX_TEXT {
                    return Err(bad("the clipboard's text is too long"));
                }
                let mut text = Vec::new();
                if from.take(len.into()).read_to_end(&mut text)? < len as usize {
                    return Err(bad("the message ends early"));
                }
                Ok(Self::Text(text.into_iter().map(char::from).collect()))
            }
            251 => {
                let [_] = bytes(from)?;
                let size = Size::new(short(from)?.into(), short(from)?.into());
                let [screens, _] = bytes(from)?;
                skip(from, 16 * u64::from(screens))?;
                Ok(Self::Resize(size))
            }
            255 => match bytes(from)? {
                [0u8] => {
                    let down = short(from)? != 0;
                    let (_symbol, code) = (word(from)?, word(from)?);
                    Ok(Self::Code { down, code })
                }
                _ => Err(bad("it uses an extension that was not offered")),
            },
            _ => Err(bad("it says what is no message")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Message> {
        let mut rest = bytes;
        let message = Message::read(&mut rest)?;
        assert!(rest.is_empty());
        Ok(message)
    }

    #[test]
    fn messages_are_understood() {
        assert_eq!(read(&[2, 0, 0, 1, 0xff, 0xff, 0xff, 0x11]).unwrap(), Message::Encodings(vec![-239]));
        let rect = Rect::new(1, 2, 259, 4);
        assert_eq!(
            read(&[3, 1, 0, 1, 0, 2, 1, 3, 0, 4]).unwrap(),
            Message::Update { incremental: true, rect }
        );
        assert_eq!(
            read(&[4, 1, 0, 0, 0, 0, 0xff, 0x0d]).unwrap(),
            Message::Symbol { down: true, symbol: 0xff0d }
        );
        assert_eq!(read(&[5, 3, 0, 9, 1, 0]).unwrap(), Message::Pointer { buttons: 3, x: 9, y: 256 });
        assert_eq!(read(&[6, 0, 0, 0, 0, 0, 0, 2, b'h', b'i']).unwrap(), Message::Text("hi".into()));
        let wants_text = [6, 0, 0, 0, 0xff, 0xff, 0xff, 0xfc, 2, 0, 0, 1];
        assert_eq!(read(&wants_text).unwrap(), Message::Clipboard(Extended::Request));
        let resize = [&[251, 0, 3, 32, 2, 88, 1, 0][..], &[0; 16]].concat();
        assert_eq!(read(&resize).unwrap(), Message::Resize(Size::new(800, 600)));
        assert_eq!(
            read(&[255, 0, 0, 1, 0, 0, 0, 97, 0, 0, 0, 30]).unwrap(),
            Message::Code { down: true, code: 30 }
        );
    }

    #[test]
    fn nonsense_ends_the_conversation() {
        for wrong in [
            &[1u8][..],
            &[],
            &[255, 7],
            &[6, 0, 0, 0, 0xff, 0, 0, 0],
            &[6, 0, 0, 0, 0, 0, 0, 9, 1],
            &[6, 0, 0, 0, 0x80, 0, 0, 0],
            &[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xfc, 1],
            &[2, 0, 0xff, 0xff],
            &[0; 20],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
