//! One TCP connection: the guest's end in segments, the world's end in a socket of the host.
//!
//! ```text
//!   guest connects:   Connecting ──host connected──► Answering ──guest's ACK──► Open
//!   host forwards:    Calling ──guest's SYN+ACK──────────────────────────────► Open
//! ```
//! The link to the guest loses nothing: what finds no room in the guest's ring is not sent but waits. So there is no
//! congestion control, and data is sent again only where the guest itself dropped it (after three repeated
//! acknowledgements, or silence). Backpressure goes through: towards the guest bytes are read from the socket as the
//! guest's window takes them; towards the world the window shrinks as the socket takes none.
//! An end of stream passes in each direction by itself, a reset ends both.

use std::{
    io,
    net::{IpAddr, Shutdown, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use mio::net::TcpStream;

use super::{
    port::{Port, Segment},
    ring::{Budget, Ring},
};
use crate::wire::{Tcp, flag};

/// What may wait per direction. Several of the largest segments, so that neither side waits for the other's turn.
const RING: usize = 512 << 10;
/// The shift of our window: 65535 << 4 exceeds a ring.
const SHIFT: u8 = 4;
/// What to assume of a guest that does not say (RFC 9293, 3.7.1).
const DEFAULT_MSS: u16 = 536;
/// Nobody's segments are smaller; less would only make work.
const SMALLEST_MSS: u16 = 64;
/// How long a guest may be silent before something is sent again; a software CPU is slow to answer.
const PATIENCE: Duration = Duration::from_secs(1);
const MOST_PATIENCE: Duration = Duration::from_secs(60);
/// About seven minutes.
const TRIES: u32 = 12;
/// A guest that does not end a handshake is dropped after 31 seconds.
const HANDSHAKE_TRIES: u32 = 5;
/// A forwarded connection waits this many seconds for a guest that may be starting.
const CALL_TRIES: u32 = 60;
/// Repeated acknowledgements that mean a lost segment (RFC 5681).
const REPEATED: u32 = 3;

/// Both ends of a connection, as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FlowKey {
    pub(super) guest: (IpAddr, u16),
    pub(super) remote: (IpAddr, u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Answering,
    Calling,
    Open,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    /// Both directions have ended.
    Done,
    /// The guest is told with a reset.
    Reset,
    /// The host could not reach the other end; the guest is told.
    Unreachable,
    /// The guest is not told: it did it.
    Gone,
}

/// What the thread keeps of a connection.
pub(super) struct Conn {
    pub(super) key: FlowKey,
    pub(super) socket: TcpStream,
    phase: Phase,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// In the thread's list of connections to look at.
    pub(super) queued: bool,
    pub(super) started: Instant,

    to_guest: Ring,
    /// The first byte that the guest has not acknowledged, the next to send, the end of all that was sent.
    una: u32,
    nxt: u32,
    max: u32,
    window: u32,
    shift: u8,
    mss: u16,
    host_eof: bool,
    fin_acked: bool,
    repeated: u32,
    recovering: bool,
    probe: bool,

    to_host: Ring,
    rcv_nxt: u32,
    /// Where the window ends that the guest was told.
    edge: u32,
    scaled: bool,
    guest_fin: bool,
    host_shut: bool,
    ack_due: bool,

    deadline: Option<Instant>,
    tries: u32,
}

/// Whether `a` is before `b` in sequence space.
fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

impl Conn {
    fn new(
        key: FlowKey,
        socket: TcpStream,
        phase: Phase,
        isn: u32,
        budget: &Rc<Budget>,
        now: Instant,
    ) -> Self {
        Self {
            key,
            socket,
            phase,
            readable: false,
            writable: false,
            queued: false,
            started: now,
            to_guest: Ring::new(RING, budget.clone()),
            una: isn,
            nxt: isn,
            max: isn,
            window: 0,
            shift: 0,
            mss: DEFAULT_MSS,
            host_eof: false,
            fin_acked: false,
            repeated: 0,
            recovering: false,
            probe: false,
            to_host: Ring::new(RING, budget.clone()),
            rcv_nxt: 0,
            edge: 0,
            scaled: false,
            guest_fin: false,
            host_shut: false,
            ack_due: false,
            deadline: None,
            tries: 0,
        }
    }

    /// The guest's SYN `tcp` wants this connection; `socket` is connecting.
    pub(super) fn from_guest(
        key: FlowKey,
        socket: TcpStream,
        tcp: &Tcp<'_>,
        isn: u32,
        (budget, now): (&Rc<Budget>, Instant),
    ) -> Self {
        let mut conn = Self::new(key, socket, Phase::Connecting, isn, budget, now);
        conn.learn(tcp);
        conn
    }

    /// A connection that `socket`, which is connected, makes to a port of the guest.
    pub(super) fn to_guest(
        key: FlowKey,
        socket: TcpStream,
        isn: u32,
        budget: &Rc<Budget>,
        now: Instant,
    ) -> Self {
        let mut conn = Self::new(key, socket, Phase::Calling, isn, budget, now);
        conn.scaled = true;
        conn
    }

    /// Whether the handshake is still under way.
    pub(super) fn is_opening(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Whether the guest has ended its direction, so that it may use the same ports again.
    pub(super) fn is_ending(&self) -> bool {
        self.guest_fin
    }

    /// Takes what a SYN says about the guest.
    fn learn(&mut self, tcp: &Tcp<'_>) {
        let (mss, shift) = tcp.syn_options();
        self.mss = mss.unwrap_or(DEFAULT_MSS).max(SMALLEST_MSS);
        self.shift = shift.unwrap_or(0);
        self.scaled = shift.is_some();
        self.window = tcp.window.into();
        self.rcv_nxt = tcp.seq.wrapping_add(1);
        self.edge = self.rcv_nxt;
    }

    /// A segment of the guest.
    pub(super) fn segment(&mut self, tcp: &Tcp<'_>, now: Instant) -> Fate {
        match self.phase {
            Phase::Connecting if tcp.has(flag::RST) => Fate::Gone,
            // A repeated SYN: the answer comes when the host is connected.
            Phase::Connecting => Fate::Lives,
            Phase::Calling => self.called(tcp, now),
            Phase::Answering | Phase::Open => self.synchronized(tcp, now),
        }
    }

    fn called(&mut self, tcp: &Tcp<'_>, now: Instant) -> Fate {
        let answers = tcp.has(flag::ACK) && tcp.ack == self.una.wrapping_add(1);
        if !answers {
            return Fate::Lives;
        }
        if tcp.has(flag::RST) {
            return Fate::Gone;
        }
        if tcp.has(flag::SYN) {
            self.learn(tcp);
            self.open(tcp, now);
            self.ack_due = true;
        }
        Fate::Lives
    }

    fn open(&mut self, tcp: &Tcp<'_>, now: Instant) {
        self.phase = Phase::Open;
        self.una = tcp.ack;
        self.nxt = tcp.ack;
        self.max = tcp.ack;
        (self.deadline, self.tries) = (None, 0);
        self.started = now;
        // Edge-triggered: what came in before was told before.
        (self.readable, self.writable) = (true, true);
    }

    fn synchronized(&mut self, tcp: &Tcp<'_>, now: Instant) -> Fate {
        let in_window = !before(tcp.seq, self.rcv_nxt) && !before(self.edge.wrapping_add(1), tcp.seq);
        if tcp.has(flag::RST) {
            return if in_window { Fate::Gone } else { Fate::Lives };
        }
        if tcp.has(flag::SYN) {
            // Repeated, or of a guest that forgot: the answer tells it where we are (RFC 5961, 4).
            self.ack_due = true;
            if self.phase == Phase::Answering {
                self.nxt = self.una;
            }
            return Fate::Lives;
        }
        if !tcp.has(flag::ACK) {
            return Fate::Lives;
        }
        if self.phase == Phase::Answering {
            if tcp.ack != self.una.wrapping_add(1) {
                return Fate::Reset;
            }
            self.open(tcp, now);
        }
        self.acknowledged(tcp, now);
        self.receive(tcp)
    }

    /// Takes the acknowledgement and the window.
    fn acknowledged(&mut self, tcp: &Tcp<'_>, now: Instant) {
        if before(tcp.ack, self.una) || before(self.max, tcp.ack) {
            // Old, or of what was never sent.
            self.ack_due |= before(self.max, tcp.ack);
            return;
        }
        let window = u32::from(tcp.window) << self.shift;
        let progress = tcp.ack.wrapping_sub(self.una) as usize;
        if progress > 0 {
            self.fin_acked |= progress > self.to_guest.len();
            self.to_guest.consume(progress);
            self.una = tcp.ack;
            if before(self.nxt, self.una) || self.recovering {
                self.nxt = self.una;
            }
            self.recovering = self.recovering && self.una != self.max;
            (self.tries, self.repeated) = (0, 0);
            self.deadline = (self.una != self.max).then(|| now + PATIENCE);
        } else if tcp.payload.is_empty()
            && !tcp.has(flag::FIN)
            && window == self.window
            && self.una != self.max
        {
            self.repeated += 1;
            if self.repeated == REPEATED {
                self.nxt = self.una;
            }
        }
        if window > self.window && self.una == self.max {
            // The window opened: what was a probe's timer is none any more.
            (self.deadline, self.tries) = (None, 0);
        }
        self.window = window;
    }

    /// Takes payload and end.
    fn receive(&mut self, tcp: &Tcp<'_>) -> Fate {
        let fin = tcp.has(flag::FIN);
        if tcp.payload.is_empty() && !fin {
            // A keep-alive probe has an old sequence number.
            self.ack_due |= before(tcp.seq, self.rcv_nxt);
            return Fate::Lives;
        }
        self.ack_due = true;
        if self.guest_fin || before(self.rcv_nxt, tcp.seq) {
            return Fate::Lives;
        }
        let known = self.rcv_nxt.wrapping_sub(tcp.seq) as usize;
        let Some(payload) = tcp.payload.get(known..) else { return Fate::Lives };
        let taken = match self.take(payload) {
            Ok(taken) => taken,
            Err(_) => return Fate::Reset,
        };
        self.rcv_nxt = self.rcv_nxt.wrapping_add(taken as u32);
        if fin && taken == payload.len() {
            self.rcv_nxt = self.rcv_nxt.wrapping_add(1);
            self.guest_fin = true;
        }
        Fate::Lives
    }

    /// Writes to the host what it takes, and keeps the rest as far as it may. Returns how much was taken.
    fn take(&mut self, payload: &[u8]) -> io::Result<usize> {
        let mut done = 0;
        while self.to_host.is_empty() && self.writable && done < payload.len() {
            let rest = payload.get(done..).unwrap_or_default();
            match io::Write::write(&mut self.socket, rest) {
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done + self.to_host.push(payload.get(done..).unwrap_or_default()))
    }

    /// Moves what can be moved between socket and guest.
    pub(super) fn work(&mut self, port: &mut Port, now: Instant) -> Fate {
        if self.phase == Phase::Connecting {
            match self.connected() {
                Ok(true) => self.phase = Phase::Answering,
                Ok(false) => return Fate::Lives,
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => return Fate::Reset,
                Err(_) => return Fate::Unreachable,
            }
        }
        if self.phase == Phase::Open && (self.write().is_err() || self.read().is_err()) {
            return Fate::Reset;
        }
        while self.output(port, now) {}
        let ended = self.guest_fin && self.host_shut && self.fin_acked && !self.ack_due;
        if ended { Fate::Done } else { Fate::Lives }
    }

    fn connected(&mut self) -> io::Result<bool> {
        if !self.writable {
            return Ok(false);
        }
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => {
                // The guest's own stack has decided when to send.
                self.socket.set_nodelay(true)?;
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::NotConnected => {
                self.writable = false;
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while self.writable && !self.to_host.is_empty() {
            match self.to_host.drain(&mut self.socket) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.guest_fin && !self.host_shut && self.to_host.is_empty() {
            self.host_shut = true;
            match self.socket.shutdown(Shutdown::Write) {
                // The other end has gone already.
                Err(e) if e.kind() != io::ErrorKind::NotConnected => return Err(e),
                _ => {}
            }
        }
        // The guest that waits at a closed window learns that it opened.
        let opened = self.right_edge().wrapping_sub(self.edge) as usize;
        self.ack_due |= opened >= RING / 4 && !self.guest_fin;
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        while self.readable && !self.host_eof {
            match self.to_guest.fill(&mut self.socket) {
                Ok(0) => self.host_eof = true,
                Ok(_) => {}
                // The guest is behind; or all buffers are full, and then what it acknowledges makes room.
                Err(e) if e.kind() == io::ErrorKind::OutOfMemory => break,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn right_edge(&self) -> u32 {
        let most = if self.scaled { 65535 << SHIFT } else { 65535 };
        self.rcv_nxt.wrapping_add(self.to_host.room().min(most) as u32)
    }

    /// Sends the next segment. Returns whether there may be another.
    fn output(&mut self, port: &mut Port, now: Instant) -> bool {
        match self.phase {
            Phase::Connecting => false,
            Phase::Answering | Phase::Calling => {
                self.shake(port, now);
                false
            }
            Phase::Open => self.send(port, now),
        }
    }

    fn shake(&mut self, port: &mut Port, now: Instant) {
        if self.nxt != self.una {
            return;
        }
        let room = self.mss_of(port);
        let mut options = vec![2, 4];
        options.extend(room.to_be_bytes());
        if self.scaled {
            options.extend([1, 3, 3, SHIFT]);
        }
        let flags = if self.phase == Phase::Calling { flag::SYN } else { flag::SYN | flag::ACK };
        let window = 65535;
        let segment = Segment {
            options: &options,
            flags,
            window,
            ..self.blank(if self.phase == Phase::Calling { 0 } else { self.rcv_nxt })
        };
        if port.send_tcp(&segment) {
            self.nxt = self.una.wrapping_add(1);
            self.max = self.nxt;
            self.edge = self.rcv_nxt.wrapping_add(window.into());
            self.ack_due = false;
            self.deadline = Some(now + self.patience());
        }
    }

    /// The largest payload that fits into the network's packets.
    fn mss_of(&self, port: &Port) -> u16 {
        let headers = if self.key.guest.0.is_ipv4() { 40 } else { 60 };
        (port.mtu - headers) as u16
    }

    /// A segment without payload at [`Self::una`].
    fn blank(&self, ack: u32) -> Segment<'static> {
        Segment {
            src: self.key.remote,
            dst: self.key.guest,
            seq: self.una,
            ack,
            flags: flag::ACK,
            window: 0,
            options: &[],
            payload: [&[], &[]],
            mss: usize::from(self.mss),
        }
    }

    fn send(&mut self, port: &mut Port, now: Instant) -> bool {
        let mss = usize::from(self.mss.min(self.mss_of(port)));
        let flight = self.nxt.wrapping_sub(self.una) as usize;
        let unsent = self.to_guest.len().saturating_sub(flight);
        let len = self.next_len(unsent, flight, port.segment_limit(self.key.guest.0.is_ipv4(), mss), mss);
        // The end has a sequence number of its own, after the last byte.
        let fin = self.host_eof && !self.fin_acked && len == unsent && flight <= self.to_guest.len();
        if len == 0 && !fin && !self.ack_due {
            if unsent > 0 && self.una == self.max && self.deadline.is_none() {
                self.deadline = Some(now + self.patience());
            }
            return false;
        }
        let edge = self.right_edge();
        let edge = if before(edge, self.edge) { self.edge } else { edge };
        let shift = if self.scaled { SHIFT } else { 0 };
        let window = (edge.wrapping_sub(self.rcv_nxt) >> shift).min(65535);
        let push = if len > 0 && len == unsent { flag::PSH } else { 0 };
        let segment = Segment {
            seq: self.nxt,
            flags: flag::ACK | push | if fin { flag::FIN } else { 0 },
            window: window as u16,
            payload: self.to_guest.slices(flight, len),
            mss,
            ..self.blank(self.rcv_nxt)
        };
        if !port.send_tcp(&segment) {
            return false;
        }
        self.edge = self.rcv_nxt.wrapping_add(window << shift);
        self.ack_due = false;
        self.nxt = self.nxt.wrapping_add(len as u32 + u32::from(fin));
        if before(self.max, self.nxt) {
            self.max = self.nxt;
        }
        if self.probe {
            // One piece is enough to hear from the guest.
            self.probe = false;
            self.nxt = self.max;
        }
        if self.una != self.max && self.deadline.is_none() {
            self.deadline = Some(now + self.patience());
        }
        len > 0 || fin
    }

    /// How much of `unsent` bytes goes next.
    fn next_len(&self, unsent: usize, flight: usize, limit: usize, mss: usize) -> usize {
        if self.probe {
            return unsent.min(mss).min((self.window as usize).max(1));
        }
        let len = unsent.min((self.window as usize).saturating_sub(flight)).min(limit);
        if len == unsent {
            len
        } else if len > mss {
            len / mss * mss
        } else if len < mss && flight > 0 {
            // A sliver now would keep the guest from opening its window by more (RFC 9293, 3.8.6.2.1).
            0
        } else {
            len
        }
    }

    fn patience(&self) -> Duration {
        if self.phase == Phase::Calling {
            return PATIENCE;
        }
        PATIENCE.saturating_mul(1 << self.tries.min(6)).min(MOST_PATIENCE)
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The guest was silent for too long: sends again, or gives up.
    pub(super) fn tick(&mut self, now: Instant) -> Fate {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return Fate::Lives;
        }
        self.tries += 1;
        let most = match self.phase {
            Phase::Calling => CALL_TRIES,
            Phase::Open => TRIES,
            Phase::Connecting | Phase::Answering => HANDSHAKE_TRIES,
        };
        if self.tries > most {
            return Fate::Reset;
        }
        self.nxt = self.una;
        self.deadline = Some(now + self.patience());
        if self.phase == Phase::Open {
            (self.probe, self.recovering) = (true, true);
        }
        Fate::Lives
    }

    /// Ends the host's side as the guest's was ended: with a reset.
    pub(super) fn abort(&self) {
        // Without this the peer would take what it has for the whole.
        _ = rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    /// The reset that tells the guest.
    pub(super) fn reset_segment(&self) -> Segment<'static> {
        let seq = if self.phase == Phase::Connecting { 0 } else { self.nxt };
        Segment { seq, flags: flag::RST | flag::ACK, ..self.blank(self.rcv_nxt) }
    }

    /// Whether it wants to read and all buffers were in use.
    pub(super) fn is_starved(&self) -> bool {
        self.phase == Phase::Open && self.readable && !self.host_eof && self.to_guest.is_empty()
    }

    /// The sequence number of the guest's SYN.
    pub(super) fn guest_isn(&self) -> u32 {
        self.rcv_nxt.wrapping_sub(1)
    }

    /// Where the host's socket leads, for messages.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.socket.peer_addr().ok()
    }
}
