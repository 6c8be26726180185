//! One connection: credit, the two halves of its stream, and what the guest is still to be told.
//!
//! ```text
//!   Dialing --RESPONSE--> Open <--(REQUEST to a listener)--
//!      | RST                |  the host is gone: SHUTDOWN, and wait for the guest's RST
//!      v                    v
//!     gone <------------ Closing        gone also after RST, or SHUTDOWN of both halves, from the guest
//! ```
//! What a guest has sent before it was gone still reaches the host: see [`Draining`].

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::mpsc::SyncSender,
    time::{Duration, Instant},
};

use super::spec::{Header, op, shutdown};

/// What a guest may send beyond what the host has taken, per connection. Eight times what Linux sends at once, so that
/// it does not run dry.
pub(super) const BUFFER: u32 = 128 << 10;
/// How much room must have come free for the guest to be told without asking.
const UPDATE_AFTER: u32 = BUFFER / 4;
/// How long a guest may take to answer the end of a connection, as in Linux.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(8);

/// A connection's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) host_port: u32,
    pub(super) guest_port: u32,
}

pub(super) type DialReply = SyncSender<io::Result<()>>;

pub(super) enum Phase {
    Dialing(DialReply),
    Open,
    Closing(Instant),
}

/// Messages that the guest is to get, each at most once.
#[derive(Default)]
struct Owed {
    request: bool,
    response: bool,
    shutdown: u32,
    credit: bool,
}

pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) phase: Phase,
    /// The host's end; a dialed connection has none until the dialer attached one.
    pub(super) stream: Option<UnixStream>,
    to_host: VecDeque<u8>,
    /// Halves that the guest has shut down.
    guest_shutdown: u32,
    /// The guest's end of stream was passed on.
    told_host: bool,
    /// The host will send no more, or the guest wants no more.
    pub(super) host_done: bool,
    owed: Owed,
    /// Bytes passed on to the host, and as the guest was last told (modulo 2^32, as all counters).
    forwarded: u32,
    told_forwarded: u32,
    /// The guest's buffer, what it took of it, and what it was sent.
    peer_alloc: u32,
    peer_forwarded: u32,
    sent: u32,
}

impl Connection {
    fn new(id: u64, phase: Phase) -> Self {
        Self {
            id,
            phase,
            stream: None,
            to_host: VecDeque::new(),
            guest_shutdown: 0,
            told_host: false,
            host_done: false,
            owed: Owed::default(),
            forwarded: 0,
            told_forwarded: 0,
            peer_alloc: 0,
            peer_forwarded: 0,
            sent: 0,
        }
    }

    /// The host calls.
    pub(super) fn dial(id: u64, reply: DialReply) -> Self {
        let mut new = Self::new(id, Phase::Dialing(reply));
        new.owed.request = true;
        new
    }

    /// The guest called, and `stream` answers.
    pub(super) fn accept(id: u64, stream: UnixStream, header: &Header) -> Self {
        let mut new = Self::new(id, Phase::Open);
        new.stream = Some(stream);
        new.owed.response = true;
        new.learn(header);
        new
    }

    /// Every packet says how much its sender can take.
    pub(super) fn learn(&mut self, header: &Header) {
        self.peer_alloc = header.buf_alloc;
        self.peer_forwarded = header.fwd_cnt;
    }

    /// How many bytes the guest can take now. A guest that lies about it only hurts itself.
    pub(super) fn credit(&self) -> u32 {
        self.peer_alloc.saturating_sub(self.sent.wrapping_sub(self.peer_forwarded))
    }

    /// Whether data may be read from the host and sent.
    pub(super) fn wants_to_read(&self) -> bool {
        matches!(self.phase, Phase::Open) && !self.owed.response && !self.host_done && self.credit() > 0
    }

    pub(super) fn wants_to_write(&self) -> bool {
        !self.to_host.is_empty()
    }

    /// Takes data of the guest. `false` when it sent more than it may.
    pub(super) fn receive(&mut self, data: &[u8]) -> bool {
        if matches!(self.phase, Phase::Closing(_)) || self.guest_shutdown & shutdown::SEND != 0 {
            // Nobody wants it any more.
            self.passed_on(data.len());
            return true;
        }
        if self.to_host.len() + data.len() > BUFFER as usize {
            return false;
        }
        self.to_host.extend(data);
        self.flush();
        true
    }

    fn passed_on(&mut self, len: usize) {
        // At most the buffer, which is far below 2^32.
        self.forwarded = self.forwarded.wrapping_add(len as u32);
        self.owed.credit |= self.forwarded.wrapping_sub(self.told_forwarded) >= UPDATE_AFTER;
    }

    /// The guest asked how much it may send.
    pub(super) fn owe_credit(&mut self) {
        self.owed.credit = true;
    }

    /// Hands the host what it takes now.
    pub(super) fn flush(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        match drain(stream, &mut self.to_host) {
            Ok(written) => self.passed_on(written),
            Err(_) => return self.close(),
        }
        let done = self.guest_shutdown & shutdown::SEND != 0 && self.to_host.is_empty();
        if done && !self.told_host {
            self.told_host = true;
            if let Some(stream) = &self.stream {
                // It fails only when the host is gone, which the next poll tells.
                drop(stream.shutdown(Shutdown::Write));
            }
        }
    }

    /// The guest ended one half or both. Returns whether that was all of the connection.
    pub(super) fn guest_ends(&mut self, flags: u32) -> bool {
        self.guest_shutdown |= flags & shutdown::BOTH;
        if self.guest_shutdown == shutdown::BOTH {
            return true;
        }
        self.flush();
        if let Some(stream) = self.stream.as_ref().filter(|_| flags & shutdown::RECEIVE != 0) {
            // As above.
            drop(stream.shutdown(Shutdown::Read));
            self.host_done = true;
        }
        false
    }

    /// Reads from the host into `buffer`, as much as the guest can take. `None` when there is nothing to send.
    pub(super) fn read<'a>(&mut self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let room = buffer.len().min(self.credit() as usize);
        let (buffer, _) = buffer.split_at_mut(room);
        let stream = self.stream.as_mut()?;
        match stream.read(buffer) {
            Ok(0) => {
                self.host_done = true;
                self.owed.shutdown |= shutdown::SEND;
                None
            }
            Ok(len) => {
                self.sent = self.sent.wrapping_add(len as u32);
                buffer.get(..len)
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
            Err(_) => {
                self.close();
                None
            }
        }
    }

    /// The host is gone: the guest is told, and has a while to say goodbye.
    pub(super) fn close(&mut self) {
        if !matches!(self.phase, Phase::Closing(_)) {
            self.phase = Phase::Closing(Instant::now() + CLOSE_TIMEOUT);
            self.stream = None;
            self.host_done = true;
            let left = std::mem::take(&mut self.to_host).len();
            self.passed_on(left);
            self.owed.shutdown = shutdown::BOTH;
        }
    }

    /// What is left when the guest is gone.
    pub(super) fn into_draining(self) -> Draining {
        Draining { id: self.id, stream: self.stream, data: self.to_host }
    }

    /// The next message for the guest that carries no data: its operation and flags.
    pub(super) fn next_message(&self) -> Option<(u16, u32)> {
        let owed = &self.owed;
        if owed.request {
            Some((op::REQUEST, 0))
        } else if owed.response {
            Some((op::RESPONSE, 0))
        } else if owed.shutdown != 0 {
            Some((op::SHUTDOWN, owed.shutdown))
        } else if owed.credit && matches!(self.phase, Phase::Open) {
            Some((op::CREDIT_UPDATE, 0))
        } else {
            None
        }
    }

    /// The guest got a message of operation `op`; every message tells its reader how much was forwarded.
    pub(super) fn told(&mut self, op: u16) {
        match op {
            op::REQUEST => self.owed.request = false,
            op::RESPONSE => self.owed.response = false,
            op::SHUTDOWN => self.owed.shutdown = 0,
            _ => {}
        }
        self.owed.credit = false;
        self.told_forwarded = self.forwarded;
    }

    /// The credit fields of a packet to the guest.
    pub(super) fn advertise(&self, header: &mut Header) {
        header.buf_alloc = BUFFER;
        header.fwd_cnt = self.forwarded;
    }
}

/// The end of a connection whose guest is gone: the host gets what is left, then end-of-file.
pub(super) struct Draining {
    pub(super) id: u64,
    pub(super) stream: Option<UnixStream>,
    data: VecDeque<u8>,
}

impl Draining {
    /// Hands the host what it takes. Returns whether more is to come.
    pub(super) fn flush(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return true };
        drain(stream, &mut self.data).is_ok() && !self.data.is_empty()
    }
}

/// Writes as much of `data` as `stream` takes without waiting. Returns how much that was.
fn drain(stream: &mut UnixStream, data: &mut VecDeque<u8>) -> io::Result<usize> {
    let mut total = 0;
    while !data.is_empty() {
        let (piece, _) = data.as_slices();
        match stream.write(piece) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => {
                data.drain(..len);
                total += len;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(total)
}
