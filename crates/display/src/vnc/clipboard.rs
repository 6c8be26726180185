//! The clipboard in UTF-8, for viewers that know the extension (the RFB community's specification, section 7.7.27).

use std::io::{self, Read, Write};

use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};

use crate::clipboard::MAX_TEXT;

/// Most bytes of a message: a text that does not compress, and what is around it.
pub(super) const MAX_EXTENDED: usize = MAX_TEXT + (64 << 10);

/// The one format that is shared.
const TEXT: u32 = 1;
/// Formats are the lowest bits.
const FORMATS: u32 = 0xffff;
/// What a message is about.
const CAPS: u32 = 1 << 24;
const REQUEST: u32 = 1 << 25;
const PEEK: u32 = 1 << 26;
const NOTIFY: u32 = 1 << 27;
const PROVIDE: u32 = 1 << 28;

/// What a viewer says about its clipboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extended {
    /// What it can do.
    Caps,
    /// It wants the text.
    Request,
    /// It asks whether there is one.
    Peek,
    /// There is a text, or none any more.
    Notify {
        /// There is.
        text: bool,
    },
    /// The text.
    Provide(String),
    /// Nothing that matters here.
    Other,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Extended {
    /// Reads one; `bytes` are all of it.
    pub(super) fn parse(bytes: &[u8]) -> io::Result<Self> {
        let (flags, rest) =
            bytes.split_first_chunk().ok_or_else(|| bad("the clipboard's message has no flags"))?;
        let flags = u32::from_be_bytes(*flags);
        let text = flags & TEXT != 0;
        // An answer is of one kind; what a viewer can do may name all of them.
        Ok(match flags & !FORMATS {
            kind if kind & CAPS != 0 => Self::Caps,
            REQUEST if text => Self::Request,
            PEEK => Self::Peek,
            NOTIFY => Self::Notify { text },
            PROVIDE if text => Self::Provide(unpack(rest)?),
            _ => Self::Other,
        })
    }
}

/// The text of a message that provides one. It comes first, whatever else there is.
fn unpack(bytes: &[u8]) -> io::Result<String> {
    let mut plain = ZlibDecoder::new(bytes);
    let mut len = [0; 4];
    plain.read_exact(&mut len)?;
    let len = u32::from_be_bytes(len) as usize;
    // With a carriage return for each line, and the zero at the end.
    if len > 2 * MAX_TEXT + 1 {
        return Err(bad("the clipboard's text is too long"));
    }
    let mut text = Vec::new();
    if plain.take(len as u64).read_to_end(&mut text)? < len {
        return Err(bad("the clipboard's text ends early"));
    }
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    text.truncate(end);
    let text = String::from_utf8(text).map_err(|_| bad("the clipboard's text is not in UTF-8"))?;
    Ok(text.replace("\r\n", "\n"))
}

/// A message of the server: its length is negative.
fn message(flags: u32, data: &[u8]) -> Vec<u8> {
    let len = -((data.len() + 4) as i32);
    [&[3, 0, 0, 0][..], &len.to_be_bytes(), &flags.to_be_bytes(), data].concat()
}

/// What is done here: text, up to a limit for one that comes unasked.
pub(super) fn caps() -> Vec<u8> {
    message(CAPS | REQUEST | PEEK | NOTIFY | PROVIDE | TEXT, &(MAX_TEXT as u32).to_be_bytes())
}

/// There is a text, or none.
pub(super) fn notify(text: bool) -> Vec<u8> {
    message(NOTIFY | if text { TEXT } else { 0 }, &[])
}

/// The viewer's text is wanted.
pub(super) fn request() -> Vec<u8> {
    message(REQUEST | TEXT, &[])
}

/// The text.
///
/// # Errors
/// None that writing to memory does not have.
pub(super) fn provide(text: &str) -> io::Result<Vec<u8>> {
    let text = text.replace("\r\n", "\n").replace('\n', "\r\n");
    let mut plain = ZlibEncoder::new(Vec::new(), Compression::fast());
    plain.write_all(&(text.len() as u32 + 1).to_be_bytes())?;
    plain.write_all(text.as_bytes())?;
    plain.write_all(&[0])?;
    Ok(message(PROVIDE | TEXT, &plain.finish()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What follows the length of a message.
    fn data(message: &[u8]) -> &[u8] {
        let len = i32::from_be_bytes(message[4..8].try_into().unwrap());
        assert_eq!(message.len(), 8 + usize::try_from(-len).unwrap());
        &message[8..]
    }

    #[test]
    fn a_text_survives_the_way() {
        for text in ["", "größe €\n\nzwei\n", &"x\n".repeat(MAX_TEXT / 2)] {
            let message = provide(text).unwrap();
            assert_eq!(Extended::parse(data(&message)).unwrap(), Extended::Provide(text.to_owned()));
        }
    }

    #[test]
    fn other_messages_are_told_apart() {
        let parse = |flags: u32| Extended::parse(&flags.to_be_bytes()).unwrap();
        assert_eq!(Extended::parse(data(&caps())).unwrap(), Extended::Caps);
        assert_eq!(Extended::parse(data(&request())).unwrap(), Extended::Request);
        assert_eq!(Extended::parse(data(&notify(true))).unwrap(), Extended::Notify { text: true });
        assert_eq!(parse(NOTIFY | 2), Extended::Notify { text: false });
        assert_eq!(
            (parse(PEEK), parse(REQUEST | 4), parse(0)),
            (Extended::Peek, Extended::Other, Extended::Other)
        );
    }

    #[test]
    fn nonsense_is_refused() {
        let provided = |plain: &[u8]| {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(plain).unwrap();
            [&(PROVIDE | TEXT).to_be_bytes()[..], &encoder.finish().unwrap()].concat()
        };
        // A bomb: a length that says so, and one that does not.
        let long = [&u32::MAX.to_be_bytes()[..], &vec![b'a'; 4 << 20]].concat();
        let wrong = [&3u32.to_be_bytes()[..], &[0xff, 0xfe, 0]].concat();
        for bytes in [
            vec![],
            vec![1, 2],
            provided(&[]),
            provided(&long),
            provided(&wrong),
            provided(&[0, 0, 0, 9, b'x']),
        ] {
            assert!(Extended::parse(&bytes).is_err());
        }
        assert!(Extended::parse(&[&(PROVIDE | TEXT).to_be_bytes()[..], b"no zlib"].concat()).is_err());
    }
}
