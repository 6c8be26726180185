//! The thread that moves all data.
//!
//! What a guest can make this hold is bounded: [`MAX_CONNECTIONS`] connections with a buffer each, [`MAX_REPLIES`]
//! answers to packets that belong to no connection (while that is full, the guest's packets wait in its own ring), and
//! one piece of data on its way to the guest.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read},
    ops::Bound,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    connection::{Connection, Draining, Key, Phase},
    hub::{Command, Hub},
    spec::{EVENT_TRANSPORT_RESET, GUEST_CID, HOST_CID, Header, TYPE_STREAM, op},
};
use crate::{Chain, RingError, VirtQueue, Wake};

/// Connections at a time, those that end included: more than a machine's worth of shells, and with their buffers 64 MiB.
const MAX_CONNECTIONS: usize = 512;
/// Answers that wait for a buffer of the guest.
const MAX_REPLIES: usize = 128;
/// Longest data in a packet, as in Linux (`VIRTIO_VSOCK_MAX_PKT_BUF_SIZE`). A guest's packet with more loses its
/// connection.
const MAX_DATA: usize = 64 << 10;
/// Packets that are taken in a row, before the host's side has its turn.
const BATCH: usize = 64;
/// The host's ports for calls begin here; those below are for listeners.
const FIRST_PORT: u32 = 1 << 30;

pub(super) struct Queues {
    pub(super) receive: Arc<VirtQueue>,
    pub(super) transmit: Arc<VirtQueue>,
    pub(super) event: Arc<VirtQueue>,
}

/// Data that was read from a host's socket and waits for the guest's buffers.
struct Carry {
    key: Key,
    id: u64,
    data: Vec<u8>,
    sent: usize,
}

/// What became of a packet for the guest.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    /// The guest has it, with so much of its data.
    Yes(usize),
    /// The guest offers no buffer now; it kicks when it does.
    NoBuffer,
    /// The queue stopped, or began a new life.
    Stopped,
}

/// What the guest knows of a transport reset.
#[derive(Clone, Copy, Debug)]
enum Reset {
    /// All there is to know.
    Known,
    /// It is to hear of one.
    Owed,
    /// It was told, when so many buffers for events had been offered, and has until then to deal with it.
    Told { available: u16, until: Instant },
}

/// How often it is looked whether the guest has dealt with a reset, and for how long.
const RESET_POLL: Duration = Duration::from_millis(5);
const RESET_PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Worker {
    queues: Queues,
    hub: Arc<Hub>,
    wake: Arc<Wake>,
    bell: UnixStream,
    connections: BTreeMap<Key, Connection>,
    draining: Vec<Draining>,
    replies: VecDeque<Header>,
    carry: Option<Carry>,
    /// Whether the guest knows that all connections are gone.
    reset: Reset,
    generation: u64,
    /// Lives of the queues that are in use, see [`crate::Ring::epoch`].
    receive_epoch: u64,
    transmit_epoch: u64,
    next_port: u32,
    /// Whose data is sent next.
    turn: Option<Key>,
    chain: Chain,
    buffer: Vec<u8>,
}

impl Worker {
    pub(super) fn new(queues: Queues, hub: Arc<Hub>, wake: Arc<Wake>, bell: UnixStream) -> Self {
        Self {
            queues,
            hub,
            wake,
            bell,
            connections: BTreeMap::new(),
            draining: Vec::new(),
            replies: VecDeque::new(),
            carry: None,
            reset: Reset::Known,
            generation: 0,
            receive_epoch: 0,
            transmit_epoch: 0,
            next_port: FIRST_PORT,
            turn: None,
            chain: Chain::default(),
            buffer: vec![0; MAX_DATA],
        }
    }

    pub(super) fn run(mut self) {
        let mut busy = true;
        while !self.wake.is_shut_down() {
            let ready = self.sleep(busy);
            self.wake.take();
            self.obey();
            busy = self.hear();
            self.serve_host(&ready);
            let held = self.is_held();
            busy |= self.speak();
            busy |= held && !self.is_held();
            self.bury();
        }
    }

    /// Waits for something to do. Returns the connections whose host side is ready, with what for.
    fn sleep(&mut self, busy: bool) -> Vec<(Key, PollFlags)> {
        let mut keys = Vec::new();
        let mut fds = vec![PollFd::new(&self.bell, PollFlags::IN)];
        for (key, connection) in &self.connections {
            if let Some((fd, interest)) = interest(connection, self.carry.is_none()) {
                keys.push(*key);
                fds.push(PollFd::from_borrowed_fd(fd, interest));
            }
        }
        let writers = self.draining.iter().filter_map(|end| end.stream.as_ref());
        fds.extend(writers.map(|stream| PollFd::new(stream, PollFlags::OUT)));
        let timeout = if busy { Some(Timespec::default()) } else { self.deadline() };
        if let Err(error) = poll(&mut fds, timeout.as_ref())
            && error != rustix::io::Errno::INTR
        {
            // The kernel is short of memory: it may have some in a moment.
            tracing::debug!(%error, "cannot wait for sockets");
            std::thread::yield_now();
        }
        let events: Vec<_> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        if events.first().is_some_and(|bell| !bell.is_empty()) {
            self.silence_bell();
        }
        let ready = keys.into_iter().zip(events.into_iter().skip(1));
        ready.filter(|(_, events)| !events.is_empty()).collect()
    }

    fn silence_bell(&mut self) {
        let mut rings = [0; 64];
        while matches!(self.bell.read(&mut rings), Ok(len) if len == rings.len()) {}
    }

    /// How long until a guest has had time enough to say goodbye.
    fn deadline(&self) -> Option<Timespec> {
        if let Reset::Told { .. } = self.reset {
            return Timespec::try_from(RESET_POLL).ok();
        }
        let ends = self.connections.values().filter_map(|connection| match connection.phase {
            Phase::Closing(end) => Some(end),
            _ => None,
        });
        let left = ends.min()?.saturating_duration_since(Instant::now());
        // A little later rather than a little earlier, which would be a turn for nothing.
        Timespec::try_from(left + Duration::from_millis(1)).ok()
    }

    /// Carries out what the hub was asked, and notices new lives of the driver.
    fn obey(&mut self) {
        let (generation, commands) = self.hub.take_commands();
        if generation != self.generation {
            self.generation = generation;
            self.forget_connections();
            self.reset = Reset::Known;
        }
        for command in commands {
            match command {
                Command::Dial { id, port, reply } => self.dial(id, port, reply),
                Command::Attach { id, stream } => self.attach(id, stream),
                Command::HangUp { id } => self.hang_up(id),
                Command::TransportReset => {
                    self.forget_connections();
                    self.reset = Reset::Owed;
                }
            }
        }
    }

    /// Drops all connections; their hosts get what is left and end-of-file, their dialers hear that the guest is gone.
    fn forget_connections(&mut self) {
        let connections = std::mem::take(&mut self.connections);
        self.draining.extend(connections.into_values().map(Connection::into_draining));
        self.draining.retain(|end| end.stream.is_some());
        self.replies.clear();
        self.carry = None;
    }

    /// Whether the guest's packets wait until it has taken answers; offering buffers for them kicks.
    fn is_held(&self) -> bool {
        self.replies.len() >= MAX_REPLIES
    }

    fn is_full(&self) -> bool {
        self.connections.len() + self.draining.len() >= MAX_CONNECTIONS
    }

    fn dial(&mut self, id: u64, guest_port: u32, reply: super::connection::DialReply) {
        if self.is_full() {
            let full = io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("the VM has {MAX_CONNECTIONS} connections already"),
            );
            // A dialer that gave up does not want to know.
            drop(reply.try_send(Err(full)));
            return;
        }
        let key = loop {
            let key = Key { host_port: self.next_port, guest_port };
            self.next_port =
                self.next_port.checked_add(1).filter(|port| *port != u32::MAX).unwrap_or(FIRST_PORT);
            if !self.connections.contains_key(&key) {
                break key;
            }
        };
        self.connections.insert(key, Connection::dial(id, reply));
    }

    fn attach(&mut self, id: u64, stream: UnixStream) {
        if let Some(connection) = self.connections.values_mut().find(|c| c.id == id) {
            connection.stream = Some(stream);
            connection.flush();
        } else if let Some(end) = self.draining.iter_mut().find(|end| end.id == id) {
            end.stream = Some(stream);
        }
        // Else the connection is gone with the driver: closing the stream says so.
    }

    /// A dialer gave up, or did not attach a stream.
    fn hang_up(&mut self, id: u64) {
        self.draining.retain(|end| end.id != id);
        let Some((&key, connection)) = self.connections.iter_mut().find(|(_, c)| c.id == id) else { return };
        if matches!(connection.phase, Phase::Dialing(_)) {
            self.connections.remove(&key);
            self.replies.push_back(packet(key, op::RST));
        } else {
            connection.close();
        }
    }

    /// Takes packets of the guest. Returns whether there may be more.
    fn hear(&mut self) -> bool {
        for _ in 0..BATCH {
            if self.is_held() {
                return false;
            }
            let Some(packet) = self.next_packet() else { return false };
            match packet {
                Packet::Stale => return true,
                Packet::Short => tracing::debug!("the guest sent a socket packet without a header"),
                Packet::Whole(header, len) => self.handle(&header, len),
            }
        }
        true
    }

    fn next_packet(&mut self) -> Option<Packet> {
        let (chain, buffer, epoch) = (&mut self.chain, &mut self.buffer, &mut self.transmit_epoch);
        let packet = self.queues.transmit.with(|ring| {
            if ring.epoch() != *epoch {
                // The hub knew of the reset before the queue started again: look there first.
                *epoch = ring.epoch();
                return Ok(Some(Packet::Stale));
            }
            if !ring.pop_or_arm(chain)? {
                return Ok(None);
            }
            let mut bytes = [0; Header::SIZE];
            let whole = chain.read(ring.memory(), 0, &mut bytes)? == bytes.len();
            let header = Header::from_bytes(&bytes);
            // The buffer bounds it; a length that does not fit is dealt with below.
            let most = buffer.len().min(header.len as usize);
            let (wanted, _) = buffer.split_at_mut(most);
            let len = chain.read(ring.memory(), Header::SIZE as u64, wanted)?;
            ring.push(chain.head(), 0)?;
            ring.notify()?;
            Ok(Some(if whole { Packet::Whole(header, len) } else { Packet::Short }))
        });
        packet.flatten()
    }

    /// Answers a packet whose `len` bytes of data are in the buffer.
    fn handle(&mut self, header: &Header, len: usize) {
        if (header.src_cid, header.dst_cid) != (GUEST_CID, HOST_CID) {
            tracing::debug!(?header, "the guest sent a socket packet to or from nobody");
            return;
        }
        let key = Key { host_port: header.dst_port, guest_port: header.src_port };
        if header.kind != TYPE_STREAM {
            return self.refuse(key, header);
        }
        let Some(connection) = self.connections.get_mut(&key) else {
            match header.op {
                op::REQUEST => self.accept(key, header),
                op::RST => {}
                _ => self.refuse(key, header),
            }
            return;
        };
        connection.learn(header);
        match (header.op, &connection.phase) {
            (op::RST, _) => self.lose(key),
            (op::RESPONSE, Phase::Dialing(_)) => {
                if let Phase::Dialing(reply) = std::mem::replace(&mut connection.phase, Phase::Open) {
                    // A dialer that gave up has hung up too.
                    drop(reply.try_send(Ok(())));
                }
            }
            (op::SHUTDOWN, Phase::Open | Phase::Closing(_)) => {
                if connection.guest_ends(header.flags) {
                    self.refuse(key, header);
                    self.lose(key);
                }
            }
            (op::RW, Phase::Open | Phase::Closing(_)) => {
                let complete = len == header.len as usize;
                let data = self.buffer.get(..len).unwrap_or_default();
                if !complete || !connection.receive(data) {
                    tracing::debug!(?header, "the guest sent more than it may");
                    self.refuse(key, header);
                    self.lose(key);
                }
            }
            (op::CREDIT_REQUEST, Phase::Open) => connection.owe_credit(),
            (op::CREDIT_UPDATE, _) | (_, Phase::Closing(_)) => {}
            _ => {
                tracing::debug!(?header, "the guest sent a socket packet out of turn");
                self.refuse(key, header);
                self.lose(key);
            }
        }
    }

    /// Tells the guest that there is no such connection (any more).
    fn refuse(&mut self, key: Key, header: &Header) {
        if header.op != op::RST {
            self.replies.push_back(packet(key, op::RST));
        }
    }

    fn accept(&mut self, key: Key, header: &Header) {
        let handler = self.hub.listener(key.host_port).filter(|_| !self.is_full());
        let pair = handler.and_then(|handler| {
            let (ours, theirs) = UnixStream::pair().ok()?;
            ours.set_nonblocking(true).ok()?;
            Some((handler, ours, theirs))
        });
        let Some((handler, ours, theirs)) = pair else { return self.refuse(key, header) };
        self.connections.insert(key, Connection::accept(self.hub.new_id(), ours, header));
        handler(theirs);
    }

    /// The guest ended the connection, or is made to believe so.
    fn lose(&mut self, key: Key) {
        let Some(mut connection) = self.connections.remove(&key) else { return };
        if let Phase::Dialing(reply) = &connection.phase {
            let refused = io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("nothing in the guest listens at port {}", key.guest_port),
            );
            // As above.
            drop(reply.try_send(Err(refused)));
            return;
        }
        if matches!(connection.phase, Phase::Open) {
            connection.flush();
            self.draining.push(connection.into_draining());
        }
    }

    /// Moves data between the host's sockets and the connections.
    fn serve_host(&mut self, ready: &[(Key, PollFlags)]) {
        for (key, events) in ready {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            if events.contains(PollFlags::OUT) {
                connection.flush();
            }
            if events.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) && connection.host_done {
                connection.close();
            }
        }
        self.draining.retain_mut(Draining::flush);
        let readable = |(key, events): &(Key, PollFlags)| {
            events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR).then_some(*key)
        };
        self.read_one(ready.iter().filter_map(readable).collect());
    }

    /// Reads from the host that is next among the `readable`: each has its turn.
    fn read_one(&mut self, readable: Vec<Key>) {
        if self.carry.is_some() {
            return;
        }
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let split = readable.partition_point(|key| match after {
            Bound::Excluded(turn) => *key <= turn,
            _ => false,
        });
        let (before, later) = readable.split_at(split);
        for key in later.iter().chain(before) {
            let Some(connection) = self.connections.get_mut(key).filter(|c| c.wants_to_read()) else {
                continue;
            };
            if let Some(data) = connection.read(&mut self.buffer) {
                let (key, id, data) = (*key, connection.id, data.to_vec());
                self.carry = Some(Carry { key, id, data, sent: 0 });
                self.turn = Some(key);
                return;
            }
        }
    }

    /// Sends what the guest is owed, as far as it offers buffers. Returns whether it sent data, so that there is room
    /// for more.
    fn speak(&mut self) -> bool {
        if !self.settle_reset() {
            return false;
        }
        while let Some(header) = self.replies.front().copied() {
            match self.send(header, &[]) {
                Sent::Yes(_) => drop(self.replies.pop_front()),
                Sent::NoBuffer => return false,
                Sent::Stopped => return self.start_over(),
            }
        }
        let sent_data = match self.send_carry() {
            Ok(sent) => sent,
            Err(retry) => return retry,
        };
        let keys: Vec<_> = self.connections.keys().copied().collect();
        for key in keys {
            while let Some((mut header, op)) = self.next_message(key) {
                header.op = op;
                match self.send(header, &[]) {
                    Sent::Yes(_) => self.connections.get_mut(&key).into_iter().for_each(|c| c.told(op)),
                    Sent::NoBuffer => return false,
                    Sent::Stopped => return self.start_over(),
                }
            }
        }
        sent_data
    }

    fn next_message(&self, key: Key) -> Option<(Header, u16)> {
        let connection = self.connections.get(&key)?;
        let (op, flags) = connection.next_message()?;
        let mut header = packet(key, op);
        header.flags = flags;
        connection.advertise(&mut header);
        Some((header, op))
    }

    /// Sends data that was read. `Err` says that the guest takes no more now, and whether to look again at once.
    fn send_carry(&mut self) -> Result<bool, bool> {
        let Some(mut carry) = self.carry.take() else { return Ok(false) };
        // Its connection may have ended, and another one have the same ports.
        while let Some(connection) = self.connections.get_mut(&carry.key).filter(|c| c.id == carry.id) {
            let left = carry.data.get(carry.sent..).unwrap_or_default();
            if left.is_empty() {
                break;
            }
            let mut header = packet(carry.key, op::RW);
            connection.advertise(&mut header);
            match self.send(header, left) {
                Sent::Yes(len) => {
                    carry.sent += len;
                    self.connections.get_mut(&carry.key).into_iter().for_each(|c| c.told(op::RW));
                }
                Sent::NoBuffer => {
                    self.carry = Some(carry);
                    return Err(false);
                }
                Sent::Stopped => {
                    self.carry = Some(carry);
                    return Err(self.start_over());
                }
            }
        }
        Ok(true)
    }

    /// Whether a queue began a new life, of which the hub knows more.
    fn start_over(&mut self) -> bool {
        let epoch = self.queues.receive.with(|ring| Ok(ring.epoch()));
        let new = epoch.filter(|epoch| *epoch != self.receive_epoch);
        self.receive_epoch = new.unwrap_or(self.receive_epoch);
        new.is_some()
    }

    /// Puts a packet into the guest's next buffer, with as much of `data` as fits.
    fn send(&mut self, mut header: Header, data: &[u8]) -> Sent {
        let (chain, epoch) = (&mut self.chain, self.receive_epoch);
        let sent = self.queues.receive.with(|ring| {
            if ring.epoch() != epoch {
                return Ok(Sent::Stopped);
            }
            if !ring.pop_or_arm(chain)? {
                return Ok(Sent::NoBuffer);
            }
            let room = usize::try_from(chain.writable_len()).unwrap_or(usize::MAX);
            let room = room.checked_sub(Header::SIZE).filter(|room| *room > 0);
            let room = room.ok_or(RingError::Chain("a receive buffer is too small for a packet"))?;
            let (now, _) = data.split_at(data.len().min(room));
            header.len = now.len() as u32;
            chain.write(ring.memory(), 0, &header.bytes())?;
            chain.write(ring.memory(), Header::SIZE as u64, now)?;
            ring.push(chain.head(), (Header::SIZE + now.len()) as u32)?;
            ring.notify()?;
            Ok(Sent::Yes(now.len()))
        });
        sent.unwrap_or(Sent::Stopped)
    }

    /// Sees to it that the guest knows of a reset. Returns whether it does: a connection that it saw before would be one of
    /// those that it then takes for gone.
    fn settle_reset(&mut self) -> bool {
        if matches!(self.reset, Reset::Owed) {
            self.send_event();
        }
        if let Reset::Told { available, until } = self.reset {
            // A driver that has dealt with the event offers its buffer again.
            let now = self.queues.event.with(|ring| ring.available());
            if now != Some(available) || Instant::now() >= until {
                self.reset = Reset::Known;
            }
        }
        matches!(self.reset, Reset::Known)
    }

    /// Tells the guest that its connections are gone, if it has a buffer for that.
    fn send_event(&mut self) {
        let chain = &mut self.chain;
        let sent = self.queues.event.with(|ring| {
            if !ring.pop_or_arm(chain)? {
                return Ok(None);
            }
            let written = chain.write(ring.memory(), 0, &EVENT_TRANSPORT_RESET.to_le_bytes())?;
            let available = ring.available()?;
            ring.push(chain.head(), written as u32)?;
            ring.notify()?;
            Ok(Some(available))
        });
        if let Some(Some(available)) = sent {
            self.reset = Reset::Told { available, until: Instant::now() + RESET_PATIENCE };
        }
    }

    /// Ends the connections whose guest has had time enough to say goodbye.
    fn bury(&mut self) {
        let now = Instant::now();
        let overdue = |c: &Connection| matches!(c.phase, Phase::Closing(end) if end <= now);
        let keys: Vec<_> = self.connections.iter().filter(|(_, c)| overdue(c)).map(|(key, _)| *key).collect();
        for key in keys {
            self.connections.remove(&key);
            if self.replies.len() < MAX_REPLIES {
                self.replies.push_back(packet(key, op::RST));
            }
        }
    }
}

enum Packet {
    /// The queue began a new life.
    Stale,
    Short,
    Whole(Header, usize),
}

/// What a connection's host side is watched for; `None` when it is not to be.
fn interest(connection: &Connection, may_read: bool) -> Option<(BorrowedFd<'_>, PollFlags)> {
    let mut flags = PollFlags::empty();
    if may_read && connection.wants_to_read() {
        flags |= PollFlags::IN;
    }
    if connection.wants_to_write() {
        flags |= PollFlags::OUT;
    }
    // A host that has sent all and waits for answers: only its end is of interest, which poll always tells.
    let watch = connection.host_done && matches!(connection.phase, Phase::Open);
    let stream = connection.stream.as_ref().filter(|_| watch || !flags.is_empty())?;
    Some((stream.as_fd(), flags))
}

/// A packet to the guest without credit or data.
fn packet(key: Key, op: u16) -> Header {
    Header {
        src_cid: HOST_CID,
        dst_cid: GUEST_CID,
        src_port: key.host_port,
        dst_port: key.guest_port,
        kind: TYPE_STREAM,
        op,
        ..Header::default()
    }
}
