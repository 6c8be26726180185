//! UDP: each pair of ends is a flow with a connected socket of its own, so that only the end the guest spoke to can answer
//! and the host's errors find their flow. Flows end by silence.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use mio::{Interest, Registry, net::UdpSocket};

use super::{icmp, port::Port, table::Table, tcp::FlowKey, token};
use crate::wire::{Ip, be16};

/// Flows at a time; beyond, the one that was silent for longest ends. Each is a socket of the host.
const FLOWS: usize = 512;
const IDLE: Duration = Duration::from_secs(60);
/// Larger than any datagram.
const DATAGRAM: usize = 65536;
/// Datagrams of one flow before the others have their turn.
const TURN: usize = 32;

enum Way {
    Socket(UdpSocket),
    /// A flow that began outside: the forwarding socket of this number, and the other end.
    Forward(usize, SocketAddr),
}

struct Flow {
    key: FlowKey,
    way: Way,
    last: Instant,
    readable: bool,
    queued: bool,
}

/// A host port whose datagrams go to the guest.
struct Listener {
    socket: UdpSocket,
    guest: (IpAddr, u16),
    readable: bool,
}

/// All flows.
pub(super) struct Udp {
    flows: Table<Flow>,
    by_key: HashMap<FlowKey, usize>,
    by_peer: HashMap<(usize, SocketAddr), usize>,
    listeners: Vec<Listener>,
    ready: Vec<usize>,
    buffer: Vec<u8>,
    gateway: IpAddr,
    next_port: u16,
}

/// A socket for speaking to `remote`.
pub(super) fn connected_socket(remote: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr =
        if remote.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(remote)?;
    Ok(socket)
}

impl Udp {
    pub(super) fn new(forwards: Vec<(UdpSocket, (IpAddr, u16))>, gateway: IpAddr) -> Self {
        let listener = |(socket, guest)| Listener { socket, guest, readable: true };
        Self {
            flows: Table::default(),
            by_key: HashMap::new(),
            by_peer: HashMap::new(),
            listeners: forwards.into_iter().map(listener).collect(),
            ready: Vec::new(),
            buffer: vec![0; DATAGRAM],
            gateway,
            next_port: 49152,
        }
    }

    /// Has the poll watch the forwarding sockets.
    pub(super) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            registry.register(&mut listener.socket, token(token::UDP_LISTENER, index), Interest::READABLE)?;
        }
        Ok(())
    }

    /// Forgets all flows: the guest began anew.
    pub(super) fn clear(&mut self) {
        self.flows.clear();
        self.by_key.clear();
        self.by_peer.clear();
        self.ready.clear();
    }

    /// Whether there is such a flow.
    pub(super) fn is_known(&self, key: &FlowKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// A datagram of the guest; `target` is where it goes, after the gateway's address was translated.
    pub(super) fn send(
        &mut self,
        key: FlowKey,
        target: SocketAddr,
        ip: &Ip<'_>,
        (registry, port, now): (&Registry, &mut Port, Instant),
    ) {
        let payload = payload(ip).unwrap_or_default();
        let index = match self.by_key.get(&key) {
            Some(index) => *index,
            None => match connected_socket(target) {
                Ok(socket) => {
                    let flow =
                        Flow { key, way: Way::Socket(socket), last: now, readable: false, queued: false };
                    let Some(index) = self.insert(flow, registry) else { return };
                    index
                }
                Err(_) => return icmp::unreachable(port, ip, icmp::Unreachable::Host),
            },
        };
        let Some(flow) = self.flows.get_mut(index) else { return };
        flow.last = now;
        let sent = match &flow.way {
            Way::Socket(socket) => socket.send(payload),
            Way::Forward(listener, peer) => match self.listeners.get(*listener) {
                Some(listener) => listener.socket.send_to(payload, *peer),
                None => return,
            },
        };
        match sent {
            // What the other end said to an earlier datagram: the next one is told.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                icmp::unreachable(port, ip, icmp::Unreachable::Port);
            }
            Err(e)
                if matches!(e.kind(), io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) =>
            {
                icmp::unreachable(port, ip, icmp::Unreachable::Host);
            }
            // UDP may be lost, and is where the host's buffer is full.
            _ => {}
        }
    }

    fn insert(&mut self, mut flow: Flow, registry: &Registry) -> Option<usize> {
        if self.flows.len() >= FLOWS
            && let Some(oldest) = self.flows.iter().min_by_key(|(_, flow)| flow.last).map(|(i, _)| i)
        {
            self.remove(oldest);
        }
        let index = self.flows.next_index();
        match &mut flow.way {
            Way::Socket(socket) => {
                registry.register(socket, token(token::UDP, index), Interest::READABLE).ok()?;
            }
            Way::Forward(listener, peer) => {
                self.by_peer.insert((*listener, *peer), index);
            }
        }
        self.by_key.insert(flow.key, index);
        Some(self.flows.insert(flow))
    }

    fn remove(&mut self, index: usize) {
        if let Some(flow) = self.flows.remove(index) {
            self.by_key.remove(&flow.key);
            if let Way::Forward(listener, peer) = flow.way {
                self.by_peer.remove(&(listener, peer));
            }
        }
    }

    /// The poll says that a flow's socket has something.
    pub(super) fn flow_ready(&mut self, index: usize) {
        if let Some(flow) = self.flows.get_mut(index) {
            flow.readable = true;
            if !flow.queued {
                flow.queued = true;
                self.ready.push(index);
            }
        }
    }

    /// The poll says that a forwarding socket has something.
    pub(super) fn listener_ready(&mut self, index: usize) {
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.readable = true;
        }
    }

    /// Passes on what came in, as long as the guest takes it. Returns whether more is waiting.
    pub(super) fn work(&mut self, registry: &Registry, port: &mut Port, now: Instant) -> bool {
        for index in 0..self.listeners.len() {
            self.listen(index, registry, port, now);
        }
        for index in std::mem::take(&mut self.ready) {
            self.receive(index, port, now);
        }
        !self.ready.is_empty() || self.listeners.iter().any(|listener| listener.readable)
    }

    fn receive(&mut self, index: usize, port: &mut Port, now: Instant) {
        let Some(flow) = self.flows.get_mut(index) else { return };
        flow.queued = false;
        let Way::Socket(socket) = &flow.way else { return };
        for _ in 0..TURN {
            if !port.is_open() {
                break;
            }
            match socket.recv(&mut self.buffer) {
                Ok(len) => {
                    flow.last = now;
                    let payload = self.buffer.get(..len).unwrap_or_default();
                    port.send_udp(flow.key.remote, flow.key.guest, payload);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    flow.readable = false;
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                    icmp::refused(port, &flow.key);
                }
                Err(_) => {}
            }
        }
        if flow.readable && !flow.queued {
            flow.queued = true;
            self.ready.push(index);
        }
    }

    fn listen(&mut self, index: usize, registry: &Registry, port: &mut Port, now: Instant) {
        for _ in 0..TURN {
            let Some(listener) = self.listeners.get_mut(index).filter(|l| l.readable) else { return };
            if !port.is_open() {
                return;
            }
            match listener.socket.recv_from(&mut self.buffer) {
                Ok((len, peer)) => {
                    let guest = listener.guest;
                    let Some(key) = self.forward_flow((index, peer), guest, registry, now) else { continue };
                    let payload = self.buffer.get(..len).unwrap_or_default();
                    port.send_udp(key.remote, key.guest, payload);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => listener.readable = false,
                // What the peer said to an answer of the guest's; it does not matter to others.
                Err(_) => {}
            }
        }
    }

    /// The flow of a datagram that `peer` sent to a forwarded port.
    fn forward_flow(
        &mut self,
        from: (usize, SocketAddr),
        guest: (IpAddr, u16),
        registry: &Registry,
        now: Instant,
    ) -> Option<FlowKey> {
        if let Some(flow) = self.by_peer.get(&from).and_then(|index| self.flows.get_mut(*index)) {
            flow.last = now;
            return Some(flow.key);
        }
        for _ in 0..=FLOWS {
            let remote = (self.gateway, self.next_port);
            self.next_port = self.next_port.checked_add(1).unwrap_or(49152);
            let key = FlowKey { guest, remote };
            if !self.by_key.contains_key(&key) {
                let way = Way::Forward(from.0, from.1);
                self.insert(Flow { key, way, last: now, readable: false, queued: false }, registry)?;
                return Some(key);
            }
        }
        None
    }

    /// Ends flows that have been silent. Returns whether any is left.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        let silent = |flow: &Flow| now.duration_since(flow.last) >= IDLE;
        let old: Vec<_> = self.flows.iter().filter(|(_, flow)| silent(flow)).map(|(i, _)| i).collect();
        old.into_iter().for_each(|index| self.remove(index));
        self.flows.len() > 0
    }
}

/// Source and destination port.
pub(super) fn ports(ip: &Ip<'_>) -> Option<(u16, u16)> {
    Some((be16(ip.payload, 0)?, be16(ip.payload, 2)?))
}

/// What a datagram carries.
pub(super) fn payload<'a>(ip: &Ip<'a>) -> Option<&'a [u8]> {
    let len = usize::from(be16(ip.payload, 4)?);
    ip.payload.get(8..len)
}
