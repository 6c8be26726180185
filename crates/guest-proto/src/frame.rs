//! Frames: a kind, a length, and bytes.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// The most bytes in a frame: what one socket packet holds.
pub const MAX: usize = 64 << 10;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message.
    Message,
    /// Input of a program; an empty frame is its end.
    Stdin,
    /// Output of a program.
    Stdout,
    /// Error output of a program.
    Stderr,
    /// Content of files; an empty frame is its end.
    Data,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Message, Self::Stdin, Self::Stdout, Self::Stderr, Self::Data];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// Writes one frame with one call, so that frames of several threads do not mix as long as they lock.
///
/// # Errors
/// When the connection is gone, or the bytes are more than [`MAX`].
pub fn write(to: &mut impl Write, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    if bytes.len() > MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a frame is longer than 64 KiB"));
    }
    let mut frame = Vec::with_capacity(5 + bytes.len());
    frame.push(kind as u8);
    frame.extend((bytes.len() as u32).to_le_bytes());
    frame.extend(bytes);
    to.write_all(&frame)
}

/// Reads a frame into `into`. `None` at the end of the connection.
///
/// # Errors
/// When the connection breaks inside a frame, or it makes no sense.
pub fn read(from: &mut impl Read, into: &mut Vec<u8>) -> io::Result<Option<Kind>> {
    let invalid = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let mut kind = [0];
    loop {
        match from.read(&mut kind) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    let [kind] = kind;
    let Some(kind) = Kind::from_byte(kind) else { return invalid("a frame is of no known kind") };
    if len > MAX {
        return invalid("a frame is longer than 64 KiB");
    }
    into.resize(len, 0);
    from.read_exact(into)?;
    Ok(Some(kind))
}

/// Writes a message.
///
/// # Errors
/// As [`write`].
pub fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    write(to, Kind::Message, &bytes)
}

/// Decodes the bytes of a message.
///
/// # Errors
/// When they are none.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    postcard::from_bytes(bytes)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("a message cannot be read: {e}")))
}

/// Reads a message; nothing else may come.
///
/// # Errors
/// As [`read`], and when something else comes.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut bytes = Vec::new();
    match read(from, &mut bytes)? {
        Some(Kind::Message) => decode(&bytes),
        Some(kind) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("{kind:?} came instead of a message")))
        }
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Writes a stream of [`Kind::Data`].
pub struct DataWriter<W: Write> {
    to: W,
    buffer: Vec<u8>,
}

impl<W: Write> DataWriter<W> {
    /// A stream that goes to `to`.
    pub fn new(to: W) -> Self {
        Self { to, buffer: Vec::with_capacity(MAX) }
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        write(&mut self.to, Kind::Data, &[])?;
        Ok(self.to)
    }
}

impl<W: Write> Write for DataWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == MAX {
            self.flush()?;
        }
        let len = bytes.len().min(MAX - self.buffer.len());
        self.buffer.extend(bytes.iter().take(len));
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            write(&mut self.to, Kind::Data, &self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// Reads a stream of [`Kind::Data`] to its end. A message in between ends it too, and is kept.
pub struct DataReader<R: Read> {
    from: R,
    buffer: Vec<u8>,
    taken: usize,
    done: bool,
    message: Option<Vec<u8>>,
}

impl<R: Read> DataReader<R> {
    /// The stream that comes from `from`.
    pub fn new(from: R) -> Self {
        Self { from, buffer: Vec::new(), taken: 0, done: false, message: None }
    }

    /// The message that has come instead of the stream's end.
    pub fn into_message(self) -> Option<Vec<u8>> {
        self.message
    }

    /// Skips the rest of the stream. Returns the message that came instead of its end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn finish(mut self) -> io::Result<(R, Option<Vec<u8>>)> {
        let mut rest = vec![0; MAX];
        while self.read(&mut rest)? > 0 {}
        Ok((self.from, self.message))
    }
}

impl<R: Read> Read for DataReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.done && self.taken == self.buffer.len() && !into.is_empty() {
            self.taken = 0;
            match read(&mut self.from, &mut self.buffer)? {
                Some(Kind::Data) => self.done = self.buffer.is_empty(),
                Some(Kind::Message) => {
                    self.message = Some(std::mem::take(&mut self.buffer));
                    self.done = true;
                }
                Some(kind) => {
                    let why = format!("{kind:?} came instead of data");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let len = rest.len().min(into.len());
        into.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.taken += len;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Control, Reply};

    #[test]
    fn what_is_written_is_read() {
        let mut wire = Vec::new();
        write(&mut wire, Kind::Stdout, b"abc").unwrap();
        send(&mut wire, &Control::Signal(15)).unwrap();
        let mut from = wire.as_slice();
        let mut bytes = Vec::new();
        assert_eq!(read(&mut from, &mut bytes).unwrap(), Some(Kind::Stdout));
        assert_eq!(bytes, b"abc");
        assert_eq!(receive::<Control>(&mut from).unwrap(), Control::Signal(15));
        assert_eq!(read(&mut from, &mut bytes).unwrap(), None);
    }

    #[test]
    fn nonsense_is_refused() {
        let mut bytes = Vec::new();
        for wrong in [&[9, 0, 0, 0, 0][..], &[0, 1, 0, 1, 0], &[0, 2, 0, 0, 0, 1], &[0, 1]] {
            assert!(read(&mut &*wrong, &mut bytes).is_err(), "{wrong:?}");
        }
        assert!(write(&mut Vec::new(), Kind::Data, &[0; MAX + 1]).is_err());
        assert!(decode::<Reply>(&[0xff; 9]).is_err());
    }

    #[test]
    fn a_stream_of_data_ends_or_is_cut_short_by_a_message() {
        let content: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        let mut stream = DataWriter::new(Vec::new());
        stream.write_all(&content).unwrap();
        let wire = stream.finish().unwrap();
        let mut reader = DataReader::new(wire.as_slice());
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        assert!(got == content);

        let mut wire = Vec::new();
        write(&mut wire, Kind::Data, b"some").unwrap();
        send(&mut wire, &Reply::Done).unwrap();
        let (_, message) = DataReader::new(wire.as_slice()).finish().unwrap();
        assert_eq!(decode::<Reply>(&message.unwrap()).unwrap(), Reply::Done);
    }
}
