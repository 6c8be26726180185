//! What came through a stream: messages, each after its length in four bytes, big-endian.

use std::io::{self, Read};

/// The length before each message.
const PREFIX: usize = 4;
/// What is read at a time.
const READ: usize = 256 << 10;

#[derive(Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    /// How many of them have been dealt with.
    taken: usize,
}

impl Inbox {
    /// The next message, if it is here as a whole.
    ///
    /// # Errors
    /// When it is longer than `most` bytes.
    pub(crate) fn message(&self, most: usize) -> io::Result<Option<&[u8]>> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((prefix, after)) = rest.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let len = u32::from_be_bytes(*prefix) as usize;
        if len > most {
            let why = format!("it sent a message of {len} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(after.get(..len))
    }

    /// Goes on to the message behind the next one, which is here as a whole.
    pub(crate) fn consume(&mut self) {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        if let Some(prefix) = rest.first_chunk::<PREFIX>() {
            let behind = self.taken + PREFIX + u32::from_be_bytes(*prefix) as usize;
            self.taken = behind.min(self.bytes.len());
        }
    }

    /// Reads what `stream` has; false if there is nothing for now.
    ///
    /// # Errors
    /// Those of the stream, and its end.
    pub(crate) fn fill(&mut self, stream: &mut impl Read) -> io::Result<bool> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        let have = self.bytes.len();
        self.bytes.resize(have + READ, 0);
        let result = stream.read(self.bytes.get_mut(have..).unwrap_or_default());
        self.bytes.truncate(have + result.as_ref().copied().unwrap_or(0));
        match result {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_pieces_and_in_heaps() {
        let mut inbox = Inbox::default();
        assert!(inbox.fill(&mut &b"\0\0\0\x03ab"[..]).unwrap());
        assert_eq!(inbox.message(3).unwrap(), None);
        assert!(inbox.fill(&mut &b"c\0\0\0\0\0\0\0\x01d\0"[..]).unwrap());
        for expected in [&b"abc"[..], b"", b"d"] {
            assert_eq!(inbox.message(3).unwrap(), Some(expected));
            inbox.consume();
        }
        assert_eq!(inbox.message(3).unwrap(), None);
        assert!(inbox.fill(&mut &b"\0\x01\0"[..]).unwrap());
        assert!(inbox.message(3).is_err(), "65,536 bytes");
        assert!(inbox.fill(&mut &b""[..]).is_err(), "the end");
    }
}
