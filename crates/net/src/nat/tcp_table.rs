//! All TCP connections: who may open one, whose turn it is, what has become of them.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use mio::{
    Interest, Registry,
    net::{TcpListener, TcpStream},
};

use super::{
    icmp,
    port::{self, Port},
    ring::Budget,
    table::Table,
    tcp::{Conn, Fate, FlowKey},
    token,
};
use crate::wire::{Ip, Tcp, flag};

/// Connections at a time. Each is a socket of the host.
const CONNECTIONS: usize = 4096;
/// Connections whose handshake is under way. A guest that opens more loses the oldest: a flood of SYNs costs the host
/// this many sockets, whatever its length.
const OPENING: usize = 256;
/// All buffers together.
const BUFFERS: usize = 128 << 20;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(250);

/// A host port whose connections lead to the guest.
struct Listener {
    socket: TcpListener,
    guest: (IpAddr, u16),
    readable: bool,
}

pub(super) struct TcpTable {
    conns: Table<Conn>,
    by_key: HashMap<FlowKey, usize>,
    listeners: Vec<Listener>,
    /// Whom to look at, in turn.
    active: VecDeque<usize>,
    budget: Rc<Budget>,
    next_tick: Option<Instant>,
    /// Makes initial sequence numbers that others cannot guess (RFC 6528).
    secret: RandomState,
    start: Instant,
    gateway: IpAddr,
    next_port: u16,
    limit: usize,
}

impl TcpTable {
    pub(super) fn new(
        listeners: Vec<(TcpListener, (IpAddr, u16))>,
        gateway: IpAddr,
        files: usize,
        now: Instant,
    ) -> Self {
        let listener = |(socket, guest)| Listener { socket, guest, readable: true };
        Self {
            conns: Table::default(),
            by_key: HashMap::new(),
            listeners: listeners.into_iter().map(listener).collect(),
            active: VecDeque::new(),
            budget: Budget::new(BUFFERS),
            next_tick: None,
            secret: RandomState::new(),
            start: now,
            gateway,
            next_port: 49152,
            limit: CONNECTIONS.min(files),
        }
    }

    pub(super) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            registry.register(&mut listener.socket, token(token::TCP_LISTENER, index), Interest::READABLE)?;
        }
        Ok(())
    }

    /// Ends all connections: the guest began anew and knows none.
    pub(super) fn clear(&mut self) {
        self.conns.iter().for_each(|(_, conn)| conn.abort());
        self.conns.clear();
        self.by_key.clear();
        self.active.clear();
    }

    fn isn(&self, key: &FlowKey, now: Instant) -> u32 {
        let clock = (now.duration_since(self.start).as_micros() / 4) as u32;
        (self.secret.hash_one(key) as u32).wrapping_add(clock)
    }

    fn activate(&mut self, index: usize) {
        if let Some(conn) = self.conns.get_mut(index)
            && !std::mem::replace(&mut conn.queued, true)
        {
            self.active.push_back(index);
        }
    }

    /// A segment of the guest. `target` says where its destination really is; `None` when it may not go there.
    pub(super) fn segment(
        &mut self,
        ip: &Ip<'_>,
        target: impl FnOnce((IpAddr, u16)) -> Option<SocketAddr>,
        (registry, port, now): (&Registry, &mut Port, Instant),
    ) {
        let Some(tcp) = Tcp::parse(ip.payload) else { return };
        let key = FlowKey { guest: (ip.src, tcp.src), remote: (ip.dst, tcp.dst) };
        let opens = tcp.flags & (flag::SYN | flag::ACK | flag::RST) == flag::SYN;
        if let Some(&index) = self.by_key.get(&key) {
            let reused = opens && self.conns.get_mut(index).is_some_and(|conn| conn.is_ending());
            if !reused {
                let fate = self.conns.get_mut(index).map_or(Fate::Gone, |conn| conn.segment(&tcp, now));
                return self.settle(index, fate, port);
            }
            self.remove(index);
        }
        if !opens {
            if let Some(reset) = port::reset_for(ip.src, ip.dst, &tcp) {
                port.send_tcp(&reset);
            }
            return;
        }
        match target(key.remote) {
            Some(target) => self.connect(key, target, (ip, &tcp), (registry, port, now)),
            None => icmp::unreachable(port, ip, icmp::Unreachable::Prohibited),
        }
    }

    fn connect(
        &mut self,
        key: FlowKey,
        target: SocketAddr,
        (ip, tcp): (&Ip<'_>, &Tcp<'_>),
        (registry, port, now): (&Registry, &mut Port, Instant),
    ) {
        self.make_room();
        let index = self.conns.next_index();
        let connected = TcpStream::connect(target).and_then(|mut socket| {
            registry.register(
                &mut socket,
                token(token::TCP, index),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            Ok(socket)
        });
        match connected {
            Ok(socket) => {
                let isn = self.isn(&key, now);
                let conn = Conn::from_guest(key, socket, tcp, isn, (&self.budget, now));
                self.insert(conn);
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                if let Some(reset) = port::reset_for(ip.src, ip.dst, tcp) {
                    port.send_tcp(&reset);
                }
            }
            Err(_) => icmp::unreachable(port, ip, icmp::Unreachable::Host),
        }
    }

    /// Ends a connection where a new one would be one too many.
    fn make_room(&mut self) {
        if let Some(index) = self.victim() {
            if let Some(conn) = self.conns.get_mut(index) {
                conn.abort();
            }
            self.remove(index);
        }
    }

    /// The oldest connection that is not open yet, else the oldest, if there are too many.
    fn victim(&self) -> Option<usize> {
        let opening = self.conns.iter().filter(|(_, conn)| conn.is_opening());
        let victim = if self.conns.len() >= self.limit {
            self.conns.iter().min_by_key(|(_, conn)| (!conn.is_opening(), conn.started))
        } else if self.conns.len() >= OPENING && opening.clone().count() >= OPENING {
            opening.min_by_key(|(_, conn)| conn.started)
        } else {
            None
        };
        victim.map(|(index, _)| index)
    }

    fn insert(&mut self, conn: Conn) -> usize {
        let key = conn.key;
        let index = self.conns.insert(conn);
        self.by_key.insert(key, index);
        index
    }

    fn remove(&mut self, index: usize) {
        if let Some(conn) = self.conns.remove(index) {
            self.by_key.remove(&conn.key);
        }
    }

    /// Does what `fate` says.
    fn settle(&mut self, index: usize, fate: Fate, port: &mut Port) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        match fate {
            Fate::Lives => return self.activate(index),
            Fate::Done => {}
            Fate::Gone => conn.abort(),
            Fate::Reset => {
                conn.abort();
                tracing::trace!(peer = ?conn.peer(), "a connection of the guest's was reset");
                // Where the guest has no room for it, it learns when it next sends something.
                port.send_tcp(&conn.reset_segment());
            }
            Fate::Unreachable => {
                let key = conn.key;
                icmp::connection_failed(port, &key, conn.guest_isn());
            }
        }
        self.remove(index);
    }

    /// The poll says that a socket can be read or written.
    pub(super) fn ready(&mut self, index: usize, readable: bool, writable: bool) {
        if let Some(conn) = self.conns.get_mut(index) {
            conn.readable |= readable;
            conn.writable |= writable;
            self.activate(index);
        }
    }

    /// The poll says that somebody connects to a forwarded port.
    pub(super) fn listener_ready(&mut self, index: usize) {
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.readable = true;
        }
    }

    /// Gives each connection that has something to do its turn, as long as the guest takes it. Returns whether more is
    /// to do right away.
    pub(super) fn work(&mut self, registry: &Registry, port: &mut Port, now: Instant) -> bool {
        for index in 0..self.listeners.len() {
            self.accept(index, registry, now);
        }
        for _ in 0..self.active.len() {
            if !port.is_open() {
                break;
            }
            let Some(index) = self.active.pop_front() else { break };
            let Some(conn) = self.conns.get_mut(index) else { continue };
            conn.queued = false;
            let fate = conn.work(port, now);
            if conn.deadline().is_some() || conn.is_starved() {
                self.next_tick.get_or_insert(now + TICK);
            }
            if fate != Fate::Lives {
                self.settle(index, fate, port);
            } else if !port.is_open() {
                self.activate(index);
            }
        }
        port.is_open() && !self.active.is_empty()
    }

    fn accept(&mut self, index: usize, registry: &Registry, now: Instant) {
        while let Some(listener) = self.listeners.get_mut(index).filter(|l| l.readable) {
            match listener.socket.accept() {
                Ok((socket, _)) => {
                    let guest = listener.guest;
                    self.forward(socket, guest, registry, now);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => listener.readable = false,
                // The peer has gone again; others may wait behind it, of whom no event tells any more.
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                // Too many files are open: with the next turn.
                Err(_) => return,
            }
        }
    }

    /// Connects a connection that came in to the guest. One that cannot be is closed.
    fn forward(&mut self, mut socket: TcpStream, guest: (IpAddr, u16), registry: &Registry, now: Instant) {
        self.make_room();
        let Some(key) = self.free_key(guest) else { return };
        let index = self.conns.next_index();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = registry.register(&mut socket, token(token::TCP, index), interest);
        if registered.is_err() || socket.set_nodelay(true).is_err() {
            return;
        }
        let isn = self.isn(&key, now);
        let index = self.insert(Conn::to_guest(key, socket, isn, &self.budget, now));
        self.activate(index);
    }

    /// Both ends of a connection from a port of the gateway that is in no use.
    fn free_key(&mut self, guest: (IpAddr, u16)) -> Option<FlowKey> {
        for _ in 0..=self.limit {
            let remote = (self.gateway, self.next_port);
            self.next_port = self.next_port.checked_add(1).unwrap_or(49152);
            let key = FlowKey { guest, remote };
            if !self.by_key.contains_key(&key) {
                return Some(key);
            }
        }
        None
    }

    /// When [`Self::tick`] is due.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        self.next_tick
    }

    /// Looks for guests that have been silent.
    pub(super) fn tick(&mut self, port: &mut Port, now: Instant) {
        if self.next_tick.is_none_or(|due| now < due) {
            return;
        }
        let due = |conn: &Conn| conn.deadline().is_some_and(|deadline| now >= deadline) || conn.is_starved();
        let late: Vec<_> = self.conns.iter().filter(|(_, conn)| due(conn)).map(|(i, _)| i).collect();
        for index in late {
            let fate = self.conns.get_mut(index).map_or(Fate::Gone, |conn| conn.tick(now));
            self.settle(index, fate, port);
        }
        let pending = self.conns.iter().any(|(_, conn)| conn.deadline().is_some() || conn.is_starved());
        self.next_tick = pending.then(|| now + TICK);
    }
}
