//! A program at a UNIX socket: passt, or gvproxy with its socket for QEMU.
//!
//! The stream carries frames, each after its length in four bytes, big-endian, as QEMU's `-netdev stream` has it. The
//! program knows of no offloads, so the guest finishes what it sends.

use std::{
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
};

use mio::{Events, Interest, Poll, Token, net::UnixStream};

use crate::{Card, Frame, MAX_FRAME, NetError, Offload, Offloads, Threaded, plug::Plug};

const WAKE: Token = Token(0);
const STREAM: Token = Token(1);
/// The length before each frame.
const PREFIX: usize = 4;
/// What is read at a time, and waits to be written at most.
const BUFFER: usize = 256 << 10;
/// Frames of each direction before the other has its turn.
const TURN: usize = 64;

/// Connects one VM to the program that listens at `path`.
///
/// # Errors
/// When nothing listens there or the host lacks a resource.
pub fn connect(path: &Path) -> Result<Arc<Threaded>, NetError> {
    let stream = UnixStream::connect(path).map_err(|e| refused(path, &e))?;
    Threaded::start((Offloads::default(), None), WAKE, |poll, plug| {
        let mut pump = Pump::new(stream, poll, plug)?;
        Ok(move || pump.run())
    })
}

fn refused(path: &Path, error: &io::Error) -> NetError {
    let advice = match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::PROTOTYPE) => {
            "a program that takes a stream; gvproxy does with -listen-qemu instead of -listen-vfkit"
        }
        _ => "start the program first, for example: passt --socket PATH",
    };
    NetError::new(format!("cannot connect the network card to {}", path.display()), error, advice)
}

/// The thread: moves frames between the card and the stream.
struct Pump {
    stream: UnixStream,
    poll: Poll,
    plug: Arc<Plug>,
    card: Option<Arc<dyn Card>>,
    readable: bool,
    writable: bool,
    /// The guest has no room for the frame that is next.
    full: bool,
    /// What came from the stream; `taken` bytes of it have been dealt with.
    input: Vec<u8>,
    taken: usize,
    /// What the stream did not take yet.
    output: Vec<u8>,
    frame: Vec<u8>,
}

impl Pump {
    fn new(mut stream: UnixStream, poll: Poll, plug: Arc<Plug>) -> io::Result<Self> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, STREAM, interest)?;
        Ok(Self {
            stream,
            poll,
            plug,
            card: None,
            readable: true,
            writable: true,
            full: false,
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            frame: Vec::new(),
        })
    }

    fn run(&mut self) {
        let mut events = Events::with_capacity(4);
        while !self.plug.has_ended() {
            match self.turn() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "the guest's network is gone: the program at its other end has ended");
                    return;
                }
            }
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    tracing::error!(%error, "the network ends: the host cannot wait for its sockets");
                    return;
                }
                _ => {}
            }
            for event in events.iter().filter(|event| event.token() == STREAM) {
                self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                self.writable |= event.is_writable() || event.is_error();
            }
        }
    }

    /// Moves some frames each way. Returns whether there may be more to do right away.
    fn turn(&mut self) -> io::Result<bool> {
        if let Some(card) = self.plug.changed() {
            self.card = card;
            self.full = false;
        }
        if self.plug.was_kicked() {
            self.full = false;
        }
        let more = self.send()? | self.receive()?;
        if let Some(card) = &self.card {
            card.flush();
        }
        Ok(more)
    }

    /// From the guest to the stream.
    fn send(&mut self) -> io::Result<bool> {
        let Some(card) = self.card.clone() else { return Ok(false) };
        for _ in 0..TURN {
            self.write()?;
            if self.output.len() >= BUFFER {
                return Ok(false);
            }
            if card.take(&mut self.frame).is_none() {
                return Ok(false);
            }
            self.output.extend((self.frame.len() as u32).to_be_bytes());
            self.output.extend(&self.frame);
        }
        Ok(true)
    }

    fn write(&mut self) -> io::Result<()> {
        while self.writable && !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.output.drain(..count)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// From the stream to the guest.
    fn receive(&mut self) -> io::Result<bool> {
        for _ in 0..TURN {
            if self.full {
                return Ok(false);
            }
            if self.deliver()? {
                continue;
            }
            if self.full || !self.readable {
                return Ok(false);
            }
            self.read()?;
        }
        Ok(true)
    }

    /// Gives the guest the next whole frame. Returns whether there was one, and room for it.
    fn deliver(&mut self) -> io::Result<bool> {
        let rest = self.input.get(self.taken..).unwrap_or_default();
        let Some((prefix, after)) = rest.split_first_chunk::<PREFIX>() else { return Ok(false) };
        let len = u32::from_be_bytes(*prefix) as usize;
        if len > MAX_FRAME {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it sent a frame of {len} bytes"),
            ));
        }
        let Some(frame) = after.get(..len) else { return Ok(false) };
        // Without a guest there is nobody to wait for.
        let given = self.card.as_ref().is_none_or(|c| c.give(&Frame::whole(frame, Offload::default())));
        self.full = !given;
        if given {
            self.taken += PREFIX + len;
        }
        Ok(given)
    }

    fn read(&mut self) -> io::Result<()> {
        self.input.drain(..self.taken);
        self.taken = 0;
        let have = self.input.len();
        self.input.resize(have + BUFFER, 0);
        let result = self.stream.read(self.input.get_mut(have..).unwrap_or_default());
        self.input.truncate(have + result.as_ref().copied().unwrap_or(0));
        match result {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;
    use crate::{Endpoint as _, nat::tests::FakeCard};

    #[test]
    fn frames_pass_with_their_lengths_and_wait_for_room() {
        let folder = std::env::temp_dir().join(format!("tearless-net-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("stream");
        let listener = UnixListener::bind(&path).unwrap();
        let socket = connect(&path).unwrap();
        let (mut program, _) = listener.accept().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let card = FakeCard::new(2);
        socket.attach(card.clone());

        card.send(vec![7; 100]);
        card.send(vec![8; 3]);
        socket.kick();
        let mut bytes = vec![0; 111];
        program.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [&[0, 0, 0, 100][..], &[7; 100], &[0, 0, 0, 3], &[8; 3]].concat());

        // Five frames for a card with room for two, the last cut in the middle.
        for i in 0..5u8 {
            program.write_all(&[0, 0, 0x10, 0]).unwrap();
            program.write_all(&[i; 4096]).unwrap();
        }
        for i in 0..5u8 {
            let frame = loop {
                if let Some(frame) = card.receive() {
                    break frame;
                }
                thread::yield_now();
            };
            assert_eq!(frame, [i; 4096]);
            socket.kick();
        }
    }

    #[test]
    fn nobody_there_is_an_error_with_advice() {
        let error = connect(Path::new("/nonexistent/socket")).err().unwrap().to_string();
        assert!(error.contains("/nonexistent/socket") && error.contains("passt"), "{error}");
    }
}
