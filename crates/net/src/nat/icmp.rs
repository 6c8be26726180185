//! Echo requests, through the host's ping sockets, and what the guest is told of what cannot be reached.
//!
//! A ping socket (`SOCK_DGRAM` with an ICMP protocol) needs no privilege, but on Linux `net.ipv4.ping_group_range` says
//! whose groups may have one. Where it forbids them the guest gets "administratively prohibited", and the log says once
//! what to set.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use mio::{Interest, Registry, unix::SourceFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto};

use super::{port::Port, table::Table, tcp::FlowKey, token};
use crate::wire::{self, Ip, protocol};

/// Programs that ping at a time, each to one address.
const FLOWS: usize = 64;
const IDLE: Duration = Duration::from_secs(30);
const TURN: usize = 32;

/// Why a packet of the guest goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreachable {
    Host,
    Port,
    Prohibited,
}

impl Unreachable {
    /// Type and code in ICMP and ICMPv6.
    fn codes(self, is_v4: bool) -> (u8, u8) {
        match (is_v4, self) {
            (true, Self::Host) => (3, 1),
            (true, Self::Port) => (3, 3),
            (true, Self::Prohibited) => (3, 13),
            (false, Self::Host) => (1, 3),
            (false, Self::Port) => (1, 4),
            (false, Self::Prohibited) => (1, 1),
        }
    }
}

/// Sends the guest an ICMP message from `src`.
pub(super) fn send(port: &mut Port, (src, dst): (IpAddr, IpAddr), mut message: Vec<u8>) {
    wire::put16(&mut message, 2, 0);
    let (protocol, start) = if src.is_ipv4() {
        (protocol::ICMP, 0)
    } else {
        (protocol::ICMPV6, wire::pseudo(src, dst, protocol::ICMPV6, message.len()))
    };
    let check = !wire::fold(wire::sum(&message, start));
    wire::put16(&mut message, 2, check);
    port.send_ip((src, dst), protocol, &message);
}

/// Tells the guest that its packet `ip` goes nowhere. The message comes from the packet's destination: it is the one
/// address of the way that the guest knows.
pub(super) fn unreachable(port: &mut Port, ip: &Ip<'_>, why: Unreachable) {
    tell(port, (ip.dst, ip.src), ip.packet, why);
}

fn tell(port: &mut Port, addresses: (IpAddr, IpAddr), packet: &[u8], why: Unreachable) {
    /// Of the packet, so much goes back: enough for its headers, and no more than 576 bytes in all (RFC 1812, 4.3.2.3).
    const QUOTE: usize = 500;
    let (kind, code) = why.codes(addresses.0.is_ipv4());
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend(packet.iter().take(QUOTE));
    send(port, addresses, message);
}

/// The other end of a UDP flow has no such port: the guest is told about a datagram that it may have sent.
pub(super) fn refused(port: &mut Port, key: &FlowKey) {
    let (src, dst) = (key.guest, key.remote);
    let mut packet = Vec::new();
    wire::ip_header(&mut packet, port.link, (src.0, dst.0), protocol::UDP, 8);
    packet.extend(src.1.to_be_bytes());
    packet.extend(dst.1.to_be_bytes());
    packet.extend([0, 8, 0, 0]);
    let quoted = packet.get(wire::ETHERNET..).unwrap_or_default();
    tell(port, (dst.0, src.0), quoted, Unreachable::Port);
}

/// The host could not connect for the guest, whose SYN had the sequence number `isn`.
pub(super) fn connection_failed(port: &mut Port, key: &FlowKey, isn: u32) {
    let (src, dst) = (key.guest, key.remote);
    let mut packet = Vec::new();
    wire::ip_header(&mut packet, port.link, (src.0, dst.0), protocol::TCP, 20);
    packet.extend(src.1.to_be_bytes());
    packet.extend(dst.1.to_be_bytes());
    packet.extend(isn.to_be_bytes());
    packet.extend([0, 0, 0, 0, 5 << 4, wire::flag::SYN, 0, 0, 0, 0, 0, 0]);
    let quoted = packet.get(wire::ETHERNET..).unwrap_or_default();
    tell(port, (dst.0, src.0), quoted, Unreachable::Host);
}

struct Flow {
    socket: OwnedFd,
    guest: IpAddr,
    remote: IpAddr,
    id: u16,
    last: Instant,
    readable: bool,
}

/// Echo requests under way.
#[derive(Default)]
pub(super) struct Echo {
    flows: Table<Flow>,
    complained: bool,
}

/// Whether `ip` is an echo request; the type of its answer.
fn reply_type(ip: &Ip<'_>) -> Option<u8> {
    match (ip.protocol, ip.payload) {
        (protocol::ICMP, [8, 0, _, _, _, _, _, _, ..]) => Some(0),
        (protocol::ICMPV6, [128, 0, _, _, _, _, _, _, ..]) => Some(129),
        _ => None,
    }
}

/// Answers an echo request to the gateway itself.
pub(super) fn answer(port: &mut Port, ip: &Ip<'_>) {
    if let Some(kind) = reply_type(ip) {
        let mut message = ip.payload.to_vec();
        if let Some(first) = message.first_mut() {
            *first = kind;
        }
        send(port, (ip.dst, ip.src), message);
    }
}

impl Echo {
    pub(super) fn clear(&mut self) {
        self.flows.clear();
    }

    /// Passes an echo request on to `target`.
    pub(super) fn request(
        &mut self,
        ip: &Ip<'_>,
        target: IpAddr,
        (registry, port, now): (&Registry, &mut Port, Instant),
    ) {
        let Some(id) = reply_type(ip).and_then(|_| wire::be16(ip.payload, 4)) else { return };
        let known = self.flows.iter().find(|(_, f)| (f.guest, f.remote, f.id) == (ip.src, ip.dst, id));
        let index = match known {
            Some((index, _)) => index,
            None => match self.open(target, registry) {
                Ok(socket) => {
                    let flow = Flow { socket, guest: ip.src, remote: ip.dst, id, last: now, readable: false };
                    self.flows.insert(flow)
                }
                Err(e) => {
                    let forbidden = matches!(e.kind(), io::ErrorKind::PermissionDenied);
                    let why = if forbidden { Unreachable::Prohibited } else { Unreachable::Host };
                    if forbidden {
                        self.complain(&e);
                    }
                    return unreachable(port, ip, why);
                }
            },
        };
        let Some(flow) = self.flows.get_mut(index) else { return };
        flow.last = now;
        let sent = rustix::net::send(&flow.socket, ip.payload, SendFlags::empty());
        // Otherwise it is as lost as any other echo request may be.
        if let Err(Errno::HOSTUNREACH | Errno::NETUNREACH) = sent {
            unreachable(port, ip, Unreachable::Host);
        }
    }

    fn open(&mut self, target: IpAddr, registry: &Registry) -> io::Result<OwnedFd> {
        let (family, protocol) = match target {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let socket = rustix::net::socket(family, SocketType::DGRAM, Some(protocol))?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        rustix::net::connect(&socket, &SocketAddr::new(target, 0))?;
        if self.flows.len() >= FLOWS
            && let Some(oldest) = self.flows.iter().min_by_key(|(_, flow)| flow.last).map(|(i, _)| i)
        {
            self.flows.remove(oldest);
        }
        let index = self.flows.next_index();
        let fd = socket.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&fd), token(token::ECHO, index), Interest::READABLE)?;
        Ok(socket)
    }

    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(
                %error,
                "the guest cannot ping: this host allows its users no ICMP sockets; on Linux \
                 `sysctl net.ipv4.ping_group_range=\"0 2147483647\"` allows them"
            );
        }
    }

    pub(super) fn ready(&mut self, index: usize) {
        if let Some(flow) = self.flows.get_mut(index) {
            flow.readable = true;
        }
    }

    /// Passes answers on to the guest.
    pub(super) fn work(&mut self, port: &mut Port) {
        for (_, flow) in self.flows.iter_mut() {
            for _ in 0..TURN {
                if !flow.readable || !port.is_open() {
                    break;
                }
                receive(flow, port);
            }
        }
    }

    /// Ends what has been silent. Returns whether any is left.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        let silent = |flow: &Flow| now.duration_since(flow.last) >= IDLE;
        let old: Vec<_> = self.flows.iter().filter(|(_, flow)| silent(flow)).map(|(i, _)| i).collect();
        for index in old {
            self.flows.remove(index);
        }
        self.flows.len() > 0
    }
}

fn receive(flow: &mut Flow, port: &mut Port) {
    let mut buffer = vec![0; 65536];
    let len = match rustix::net::recv(&flow.socket, buffer.as_mut_slice(), RecvFlags::empty()) {
        Ok((_, len)) => len,
        Err(Errno::AGAIN) => {
            flow.readable = false;
            return;
        }
        Err(_) => return,
    };
    buffer.truncate(len);
    // macOS puts the IP header before the message.
    if buffer.first().is_some_and(|first| first >> 4 == 4) {
        let header = buffer.first().map_or(0, |first| usize::from(first & 15) * 4);
        buffer.drain(..header.min(buffer.len()));
    }
    if buffer.len() >= 8 && matches!(buffer.first(), Some(0 | 129)) {
        // The host's kernel put a number of its own there.
        wire::put16(&mut buffer, 4, flow.id);
        send(port, (flow.remote, flow.guest), buffer);
    }
}
