//! A viewer in another process of this host, behind a UNIX socket: messages of [`crate::remote`], each with its length before it,
//! and pixels as they are.
//!
//! The viewer speaks first: it says that it is there, or why it cannot be.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
};

use crate::{
    MAX_SIDE, Tile,
    geometry::BAND,
    lock,
    remote::{
        Hearing, Message, Site, raw_tile,
        session::{self, MAX_MESSAGE, PATIENCE, Pipe},
    },
};

/// Most bytes that a viewer is told at once: a part of the picture, or of the pointer's, and where it is.
const MAX_TOLD: usize = MAX_SIDE as usize * BAND as usize * 4 + 4096;
/// Most bytes of the reason why a viewer cannot be there.
const MAX_REASON: usize = 4096;

/// Reads a message; `None` at the end.
fn read(mut from: impl Read, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut len = [0; 4];
    match from.read_exact(&mut len) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let len = u32::from_be_bytes(len) as usize;
    if len > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let mut message = Vec::new();
    // What is not there yet takes no memory.
    if from.take(len as u64).read_to_end(&mut message)? < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(message))
}

fn write(mut to: impl Write, message: &[u8]) -> io::Result<()> {
    let len = u32::try_from(message.len()).map_err(io::Error::other)?;
    to.write_all(&len.to_be_bytes())?;
    to.write_all(message)
}

struct Writing {
    one_at_a_time: Mutex<()>,
    stream: UnixStream,
}

impl Pipe for Writing {
    fn send(&self, message: Vec<u8>) -> io::Result<()> {
        let _turn = lock(&self.one_at_a_time);
        write(&self.stream, &message)
    }

    fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn tile(&self, tile: &Tile) -> io::Result<Vec<u8>> {
        Ok(raw_tile(tile))
    }
}

/// Waits until the viewer behind `stream` says that it is there.
///
/// # Errors
/// What it says why it cannot be; when it is gone.
pub fn await_viewer(stream: &UnixStream) -> io::Result<()> {
    match read(stream, MAX_REASON)? {
        Some(reason) if reason.is_empty() => Ok(()),
        Some(reason) => Err(io::Error::other(String::from_utf8_lossy(&reason).into_owned())),
        None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without a word")),
    }
}

/// Serves the viewer behind `stream`, which has said that it is there, until it leaves.
///
/// # Errors
/// Why it left, or had to.
pub fn serve(stream: UnixStream, site: &Site) -> io::Result<()> {
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let reading = stream.try_clone()?;
    session::run(site, Arc::new(Writing { one_at_a_time: Mutex::new(()), stream }), || {
        read(&reading, MAX_MESSAGE)
    })
}

/// The viewer's side of a connection. Clones share it.
#[derive(Clone)]
pub struct Link(Arc<UnixStream>);

impl Link {
    /// The connection `stream` to a VM.
    pub fn new(stream: UnixStream) -> Self {
        Self(Arc::new(stream))
    }

    /// Says that the viewer is there, or why it cannot be.
    ///
    /// # Errors
    /// When the VM is gone.
    pub fn greet(&self, reason: Option<&str>) -> io::Result<()> {
        write(&*self.0, reason.unwrap_or_default().as_bytes())
    }

    /// Says something. One thread does.
    ///
    /// # Errors
    /// When the VM is gone.
    pub fn say(&self, message: &Message) -> io::Result<()> {
        write(&*self.0, &message.bytes())
    }

    /// Waits for what is told next. One thread does. `None` when the VM is gone.
    ///
    /// # Errors
    /// When it says what is none.
    pub fn hear(&self) -> io::Result<Option<Hearing>> {
        let Some(message) = read(&*self.0, MAX_TOLD)? else { return Ok(None) };
        let nonsense = || io::Error::new(io::ErrorKind::InvalidData, "the VM says what is no message");
        Hearing::parse(&message).map(Some).ok_or_else(nonsense)
    }
}
