//! A program at a UNIX socket.
//!
//! A stream (passt, gvproxy's socket for QEMU) carries frames, each after its length in four bytes, big-endian, as QEMU's
//! `-netdev stream` has it. A datagram socket (gvproxy's and vmnet-helper's for vfkit) has a datagram per frame. The program
//! knows of no offloads, so the guest finishes what it sends.

use std::{
    io::{self, Write},
    os::unix::net,
    path::Path,
};

use mio::{
    Interest, Registry, Token,
    net::{UnixDatagram, UnixStream},
};
use rustix::io::Errno;

use crate::{MAX_FRAME, NetError, Offload, Offloads, Uplink, inbox::Inbox, line::Line};

/// What waits to be written at most.
const BUFFER: usize = 256 << 10;
/// How a program that serves vfkit is told that this is a card; the newer ones do without, none minds.
const VFKIT: &[u8] = b"VFKT";
/// What the host keeps of datagrams that wait, in bytes of each direction.
const DATAGRAMS: usize = 1 << 20;

/// Connects one VM to the program that listens at `path`, by whichever kind of socket that has.
///
/// # Errors
/// When nothing listens there or the host lacks a resource.
pub fn open(path: &Path) -> Result<Uplink, NetError> {
    let line: Box<dyn Line> = match net::UnixStream::connect(path) {
        Ok(stream) => Box::new(Stream::new(stream).map_err(|e| refused(path, &e))?),
        Err(e) if e.raw_os_error() == Some(Errno::PROTOTYPE.raw_os_error()) => {
            Box::new(Datagrams::connect(path).map_err(|e| refused(path, &e))?)
        }
        Err(e) => return Err(refused(path, &e)),
    };
    Ok(Uplink { line, offloads: Offloads::default(), mtu: None })
}

fn refused(path: &Path, error: &io::Error) -> NetError {
    let advice = "start the program first, for example: passt --socket PATH";
    NetError::new(format!("cannot connect the network card to {}", path.display()), error, advice)
}

struct Stream {
    stream: UnixStream,
    readable: bool,
    writable: bool,
    input: Inbox,
    /// What the stream did not take yet.
    output: Vec<u8>,
}

impl Stream {
    fn new(stream: net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream);
        Ok(Self { stream, readable: true, writable: true, input: Inbox::default(), output: Vec::new() })
    }
}

impl Line for Stream {
    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    fn ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    fn meet(&mut self, _: Offloads) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, frame: &[u8], _: Offload) -> io::Result<bool> {
        if self.output.len() >= BUFFER {
            self.flush()?;
        }
        if self.output.len() >= BUFFER {
            return Ok(false);
        }
        self.output.extend((frame.len() as u32).to_be_bytes());
        self.output.extend(frame);
        Ok(true)
    }

    fn next(&mut self) -> io::Result<Option<(Offload, &[u8])>> {
        while self.readable && self.input.message(MAX_FRAME)?.is_none() {
            self.readable = self.input.fill(&mut self.stream)?;
        }
        Ok(self.input.message(MAX_FRAME)?.map(|frame| (Offload::default(), frame)))
    }

    fn consume(&mut self) {
        self.input.consume();
    }

    fn flush(&mut self) -> io::Result<()> {
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
}

struct Datagrams {
    socket: UnixDatagram,
    _name: own::Name,
    readable: bool,
    writable: bool,
    /// The datagram that is next, and how long it is.
    input: Vec<u8>,
    len: Option<usize>,
}

impl Datagrams {
    fn connect(path: &Path) -> io::Result<Self> {
        // The program answers to the address that it was spoken to from.
        let (socket, name) = own::bind()?;
        socket.connect(path)?;
        for set in [
            rustix::net::sockopt::set_socket_send_buffer_size,
            rustix::net::sockopt::set_socket_recv_buffer_size,
        ] {
            // Smaller buffers are slower, no more.
            _ = set(&socket, DATAGRAMS);
        }
        socket.send(VFKIT)?;
        socket.set_nonblocking(true)?;
        let socket = UnixDatagram::from_std(socket);
        let input = vec![0; MAX_FRAME];
        Ok(Self { socket, _name: name, readable: true, writable: true, input, len: None })
    }
}

impl Line for Datagrams {
    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE | Interest::WRITABLE)
    }

    fn ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    fn meet(&mut self, _: Offloads) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, frame: &[u8], _: Offload) -> io::Result<bool> {
        while self.writable {
            match self.socket.send(frame) {
                Ok(_) => return Ok(true),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // macOS says so of a full queue, which no event tells the end of; and of frames that are too long.
                Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::NOBUFS | Errno::MSGSIZE)) => {
                    return Ok(true);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(false)
    }

    fn next(&mut self) -> io::Result<Option<(Offload, &[u8])>> {
        while self.len.is_none() && self.readable {
            match self.socket.recv(&mut self.input) {
                Ok(len) => self.len = Some(len),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let frame = self.len.and_then(|len| self.input.get(..len));
        Ok(frame.map(|frame| (Offload::default(), frame)))
    }

    fn consume(&mut self) {
        self.len = None;
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An address for our end of a datagram socket.
#[cfg(target_os = "linux")]
mod own {
    use std::{
        io,
        os::{
            linux::net::SocketAddrExt as _,
            unix::net::{SocketAddr, UnixDatagram},
        },
        sync::atomic::{AtomicUsize, Ordering},
    };

    /// The name is no file, and goes with the socket.
    pub(super) struct Name;

    pub(super) fn bind() -> io::Result<(UnixDatagram, Name)> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tearless-net-{}-{count}", std::process::id());
        let address = SocketAddr::from_abstract_name(name)?;
        Ok((UnixDatagram::bind_addr(&address)?, Name))
    }
}

/// An address for our end of a datagram socket.
#[cfg(not(target_os = "linux"))]
mod own {
    use std::{
        io,
        os::unix::net::UnixDatagram,
        path::PathBuf,
        sync::atomic::{AtomicUsize, Ordering},
    };

    /// A file, which goes with the socket.
    pub(super) struct Name(PathBuf);

    impl Drop for Name {
        fn drop(&mut self) {
            // It may be gone with its folder.
            _ = std::fs::remove_file(&self.0);
        }
    }

    pub(super) fn bind() -> io::Result<(UnixDatagram, Name)> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = Name(std::env::temp_dir().join(format!("tearless-net-{}-{count}", std::process::id())));
        Ok((UnixDatagram::bind(&name.0)?, name))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::unix::net::{UnixDatagram, UnixListener},
        thread,
    };

    use super::*;
    use crate::{Endpoint as _, nat::tests::FakeCard};

    #[test]
    fn frames_pass_with_their_lengths_and_wait_for_room() {
        let folder = std::env::temp_dir().join(format!("tearless-net-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("stream");
        let listener = UnixListener::bind(&path).unwrap();
        let socket = open(&path).unwrap().start().unwrap();
        let (mut program, _) = listener.accept().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let card = FakeCard::new(2);
        socket.attach(card.clone());

        card.send(vec![7; 100]);
        card.send(vec![8; 14]);
        socket.kick();
        let mut bytes = vec![0; 122];
        program.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [&[0, 0, 0, 100][..], &[7; 100], &[0, 0, 0, 14], &[8; 14]].concat());

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
    fn a_socket_of_datagrams_has_one_per_frame() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("datagrams");
        let program = UnixDatagram::bind(&path).unwrap();
        let socket = open(&path).unwrap().start().unwrap();
        let mut bytes = [0; 2000];
        let (len, guest) = program.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], VFKIT);
        let card = FakeCard::new(1);
        socket.attach(card.clone());
        card.send(vec![7; 1514]);
        card.send(vec![8; 60]);
        socket.kick();
        assert_eq!(program.recv(&mut bytes).unwrap(), 1514);
        assert_eq!((program.recv(&mut bytes).unwrap(), &bytes[..60]), (60, &[8; 60][..]));
        for i in 0..3u8 {
            program.send_to_addr(&[i; 99], &guest).unwrap();
        }
        for i in 0..3u8 {
            let frame = loop {
                if let Some(frame) = card.receive() {
                    break frame;
                }
                thread::yield_now();
            };
            assert_eq!(frame, [i; 99]);
            socket.kick();
        }
    }

    #[test]
    fn nobody_there_is_an_error_with_advice() {
        let error = open(Path::new("/nonexistent/socket")).err().unwrap().to_string();
        assert!(error.contains("/nonexistent/socket") && error.contains("passt"), "{error}");
    }
}
