//! A page's WebSocket.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex},
};

use tungstenite::{
    WebSocket,
    protocol::{Message as Frame, Role, WebSocketConfig},
};

use crate::{
    Tile, lock,
    remote::{
        Site, png_tile,
        session::{self, MAX_MESSAGE, PATIENCE, Pipe},
    },
};

/// The half of a connection that is read. What the protocol would answer by itself (to pings, which browsers do not send) is
/// dropped, because the other half may be in the middle of a message.
struct Reading(TcpStream);

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Reading {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The half that is written.
struct Writing {
    socket: Mutex<WebSocket<TcpStream>>,
    stream: TcpStream,
}

impl Pipe for Writing {
    fn send(&self, message: Vec<u8>) -> io::Result<()> {
        lock(&self.socket).send(Frame::Binary(message.into())).map_err(io::Error::other)
    }

    fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn tile(&self, tile: &Tile) -> io::Result<Vec<u8>> {
        png_tile(tile)
    }
}

/// Serves the page behind `stream` until it is closed.
///
/// # Errors
/// Why it was, or had to be.
pub(super) fn run(stream: TcpStream, site: &Site) -> io::Result<()> {
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let mut reading = WebSocket::from_raw_socket(Reading(stream.try_clone()?), Role::Server, Some(config));
    let socket = Mutex::new(WebSocket::from_raw_socket(stream.try_clone()?, Role::Server, None));
    let read = move || {
        loop {
            match reading.read().map_err(io::Error::other)? {
                Frame::Binary(bytes) => return Ok(Some(bytes.into())),
                Frame::Close(_) => return Ok(None),
                _ => {}
            }
        }
    };
    session::run(site, Arc::new(Writing { socket, stream }), read)
}
