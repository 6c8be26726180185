//! A connection to a server, with many requests in progress.
//!
//! ```text
//!   any thread:  request() ---- entry in `waiting`, message ----> server
//!   reader:      server ---- replies ----> entry complete ----> request() returns
//! ```
//! When the server hangs up, says what it must not or does not answer in time, the connection is dead: all requests in
//! progress fail as [`lost`], and so do those to come.

use std::{
    collections::HashMap,
    io::{self, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    io::FdFlags,
    net::{self, AddressFamily, Shutdown, SocketAddrUnix, SocketType, sockopt, sockopt::Timeout},
};

use super::{
    address::{Address, Place},
    handshake::{Export, Refusal, negotiate, read_u16, read_u32, read_u64},
    wire::{CHUNK_MAGIC, REQUEST_MAGIC, SIMPLE_MAGIC, chunk, command, error},
};

/// How long a connection and its handshake may take.
const HELLO: Duration = Duration::from_secs(5);
/// How long an answer may take. A server that needs longer is taken for dead: a guest that is to end waits that long.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest chunk of a structured reply that is not data.
const MAX_REMARK: u32 = 16 << 10;

/// The error of a request that the server did not answer and may answer later, on another connection.
pub(super) fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the connection to the server is lost")
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server breaks the protocol: {what}"))
}

/// A socket of either kind.
struct Stream(OwnedFd);

impl Stream {
    fn connect(place: &Place, deadline: Instant) -> io::Result<Self> {
        match place {
            Place::Tcp { host, port } => Self::connect_tcp(host, *port, deadline),
            Place::Unix(path) => {
                let stream = Self(net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?);
                rustix::io::fcntl_setfd(&stream.0, FdFlags::CLOEXEC)?;
                // A server that accepts nobody must not hold up whoever waits.
                stream.set_patience(Timeout::Send, Some(HELLO))?;
                net::connect(&stream.0, &SocketAddrUnix::new(path)?)?;
                Ok(stream)
            }
        }
    }

    fn connect_tcp(host: &str, port: u16, deadline: Instant) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in (host, port).to_socket_addrs()? {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match TcpStream::connect_timeout(&address, left) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    // A server whose machine is gone says nothing, not even that.
                    sockopt::set_socket_keepalive(&stream, true)?;
                    return Ok(Self(stream.into()));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn set_patience(&self, kind: Timeout, time: Option<Duration>) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(&self.0, kind, time)?)
    }

    fn hang_up(&self) {
        // It fails when the server was faster.
        let _ = net::shutdown(&self.0, Shutdown::Both);
    }
}

impl Read for &Stream {
    fn read(&mut self, data: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.0, data)?)
    }
}

impl Write for &Stream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.0, data)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The stream while terms are made: all of that must be over at one time.
struct Hello<'a>(&'a Stream, Instant);

impl Read for Hello<'_> {
    fn read(&mut self, data: &mut [u8]) -> io::Result<usize> {
        let left = self.1.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.0.set_patience(Timeout::Recv, Some(left))?;
        self.0.read(data)
    }
}

impl Write for Hello<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a request gets back: the data of a read.
type Answer = io::Result<Vec<u8>>;

/// A request without its answer.
struct Waiting {
    answer: SyncSender<Answer>,
    offset: u64,
    /// As long as what is read; empty for all others.
    data: Vec<u8>,
    /// How much of it has come.
    covered: usize,
    error: Option<io::Error>,
}

impl Waiting {
    /// The part of `data` that a chunk of `len` bytes for `offset` fills.
    fn part(&mut self, offset: u64, len: u64) -> io::Result<&mut [u8]> {
        let start = offset.checked_sub(self.offset).and_then(|start| usize::try_from(start).ok());
        let len = usize::try_from(len).ok().filter(|len| *len > 0);
        let range = start.zip(len).and_then(|(start, len)| Some(start..start.checked_add(len)?));
        let part = range.and_then(|range| self.data.get_mut(range));
        let part = part.ok_or_else(|| broken("data that was not asked for"))?;
        self.covered = self.covered.saturating_add(part.len());
        Ok(part)
    }

    fn finish(self) -> io::Result<()> {
        let answer = match self.error {
            Some(error) => Err(error),
            None if self.covered == self.data.len() => Ok(self.data),
            None => return Err(broken("a part of the data is missing, or came twice")),
        };
        // Whoever asked may have lost patience.
        let _ = self.answer.send(answer);
        Ok(())
    }
}

/// The requests in progress; `None` when the connection is dead.
struct Requests(Mutex<Option<HashMap<u64, Waiting>>>);

impl Requests {
    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u64, Waiting>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, cookie: u64, waiting: Waiting) -> io::Result<()> {
        self.lock().as_mut().ok_or_else(lost)?.insert(cookie, waiting);
        Ok(())
    }

    fn take(&self, cookie: u64) -> io::Result<Waiting> {
        let waiting = self.lock().as_mut().ok_or_else(lost)?.remove(&cookie);
        waiting.ok_or_else(|| broken("an answer to nothing"))
    }

    /// Takes one message of the server.
    ///
    /// # Errors
    /// When the connection is not to be used any more.
    fn hear(&self, stream: &mut impl Read, structured: bool) -> io::Result<()> {
        match read_u32(stream)? {
            SIMPLE_MAGIC => {
                let (code, cookie) = (read_u32(stream)?, read_u64(stream)?);
                let mut waiting = self.take(cookie)?;
                if code != 0 {
                    waiting.error = Some(meaning(code, "")?);
                } else if !waiting.data.is_empty() {
                    if structured {
                        return Err(broken("a simple reply to a read"));
                    }
                    stream.read_exact(&mut waiting.data)?;
                    waiting.covered = waiting.data.len();
                }
                waiting.finish()
            }
            CHUNK_MAGIC if structured => self.hear_chunk(stream),
            _ => Err(broken("what should be a reply is none")),
        }
    }

    fn hear_chunk(&self, stream: &mut impl Read) -> io::Result<()> {
        let (flags, kind) = (read_u16(stream)?, read_u16(stream)?);
        let (cookie, len) = (read_u64(stream)?, read_u32(stream)?);
        let mut waiting = self.take(cookie)?;
        match (kind, len) {
            (chunk::NONE, 0) => {}
            (chunk::DATA, 9..) => {
                let offset = read_u64(stream)?;
                let part = waiting.part(offset, u64::from(len) - 8)?;
                stream.read_exact(part)?;
            }
            (chunk::HOLE, 12) => {
                let (offset, len) = (read_u64(stream)?, read_u32(stream)?);
                waiting.part(offset, len.into())?.fill(0);
            }
            (error, 6..=MAX_REMARK) if error & chunk::ERROR != 0 => {
                let mut remark = vec![0; len as usize];
                stream.read_exact(&mut remark)?;
                let mut rest = remark.as_slice();
                let (code, len) = (read_u32(&mut rest)?, read_u16(&mut rest)?);
                let text = rest.get(..usize::from(len)).ok_or_else(|| broken("a cut message"))?;
                waiting.error.get_or_insert(meaning(code, &printable(text))?);
            }
            _ => return Err(broken("a chunk of an unknown kind or length")),
        }
        if flags & chunk::DONE != 0 { waiting.finish() } else { self.enter(cookie, waiting) }
    }
}

/// What a server's text may show on a terminal.
fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An error of the protocol as one of ours.
///
/// # Errors
/// When it is about the connection and not the request.
fn meaning(code: u32, text: &str) -> io::Result<io::Error> {
    let kind = match code {
        0 => return Err(broken("an error that is none")),
        error::SHUTDOWN => return Err(lost()),
        error::NO_SPACE => return Ok(io::ErrorKind::StorageFull.into()),
        error::NOT_PERMITTED => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    Ok(io::Error::new(kind, format!("the server says: error {code} {text}")))
}

/// What is asked of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) command: u16,
    pub(super) flags: u16,
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// A connection; dropping it takes leave and closes it.
pub(super) struct Connection {
    pub(super) export: Export,
    stream: Arc<Stream>,
    /// Held while a message is sent: it must not be cut by another.
    sending: Mutex<()>,
    requests: Arc<Requests>,
    cookie: AtomicU64,
    reader: Option<JoinHandle<()>>,
}

impl Connection {
    pub(super) fn open(address: &Address) -> Result<Self, Refusal> {
        let deadline = Instant::now() + HELLO;
        let stream = Stream::connect(&address.place, deadline)?;
        stream.set_patience(Timeout::Send, Some(HELLO))?;
        let export = negotiate(&mut Hello(&stream, deadline), &address.export)?;
        stream.set_patience(Timeout::Recv, None)?;
        stream.set_patience(Timeout::Send, Some(PATIENCE))?;
        let stream = Arc::new(stream);
        let requests = Arc::new(Requests(Mutex::new(Some(HashMap::new()))));
        let reader = {
            let (stream, requests) = (stream.clone(), requests.clone());
            thread::Builder::new()
                .name("nbd".into())
                .spawn(move || read(&stream, &requests, export.structured))?
        };
        let sending = Mutex::default();
        Ok(Self { export, stream, sending, requests, cookie: AtomicU64::new(1), reader: Some(reader) })
    }

    pub(super) fn alive(&self) -> bool {
        self.requests.lock().is_some()
    }

    /// Asks, with `payload`, and waits for the answer: as much data as a read wants, none for others.
    ///
    /// # Errors
    /// What the server says, or [`lost`].
    pub(super) fn ask(&self, ask: Ask, payload: &[u8]) -> Answer {
        let (sender, answer) = sync_channel(1);
        let wanted = if ask.command == command::READ { ask.len as usize } else { 0 };
        let data = vec![0; wanted];
        let waiting = Waiting { answer: sender, offset: ask.offset, data, covered: 0, error: None };
        let cookie = self.cookie.fetch_add(1, Ordering::Relaxed);
        self.requests.enter(cookie, waiting)?;
        if let Err(error) = self.send(ask, cookie, payload) {
            self.give_up(&error.to_string());
        }
        answer.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            if error == RecvTimeoutError::Timeout {
                self.give_up("no answer for a minute");
            }
            Err(lost())
        })
    }

    fn send(&self, ask: Ask, cookie: u64, payload: &[u8]) -> io::Result<()> {
        let header = header(ask, cookie);
        let _sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stream = &*self.stream;
        if payload.is_empty() {
            return stream.write_all(&header);
        }
        // One message: two would be two packets.
        let mut message = Vec::with_capacity(header.len() + payload.len());
        message.extend(header);
        message.extend(payload);
        stream.write_all(&message)
    }

    fn give_up(&self, why: &str) {
        tracing::debug!(why, "the connection to a disk's server ends");
        self.requests.lock().take();
        self.stream.hang_up();
    }
}

fn header(ask: Ask, cookie: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(28);
    header.extend(REQUEST_MAGIC.to_be_bytes());
    header.extend(ask.flags.to_be_bytes());
    header.extend(ask.command.to_be_bytes());
    header.extend(cookie.to_be_bytes());
    header.extend(ask.offset.to_be_bytes());
    header.extend(ask.len.to_be_bytes());
    header
}

fn read(stream: &Stream, requests: &Requests, structured: bool) {
    let mut buffered = BufReader::with_capacity(16 << 10, stream);
    let error = loop {
        if let Err(error) = requests.hear(&mut buffered, structured) {
            break error;
        }
    };
    if requests.lock().take().is_some() {
        tracing::debug!(%error, "the connection to a disk's server ends");
    }
    stream.hang_up();
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.alive() {
            // Politeness: it is closed in any case.
            let _ = self.send(Ask { command: command::DISCONNECT, flags: 0, offset: 0, len: 0 }, 0, &[]);
        }
        self.give_up("it is not needed any more");
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            tracing::error!("the reader of a disk's server ended with a panic");
        }
    }
}

/// Has a client listen to a server that says `said`: to all that it says first, then to answers to some requests.
pub(super) fn listen(said: &[u8]) {
    struct Said<'a>(&'a [u8]);
    impl Read for Said<'_> {
        fn read(&mut self, data: &mut [u8]) -> io::Result<usize> {
            self.0.read(data)
        }
    }
    impl Write for Said<'_> {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            Ok(data.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut stream = Said(said);
    let Ok(export) = negotiate(&mut stream, "x") else { return };
    let requests = Requests(Mutex::new(Some(HashMap::new())));
    let mut answers = Vec::new();
    for cookie in 1..=8 {
        let (answer, receiver) = sync_channel(1);
        let data = vec![0; if cookie % 2 == 0 { 0 } else { 4096 }];
        let waiting = Waiting { answer, offset: cookie * 4096, data, covered: 0, error: None };
        if requests.enter(cookie, waiting).is_ok() {
            answers.push(receiver);
        }
    }
    while requests.hear(&mut stream, export.structured).is_ok() {}
}
