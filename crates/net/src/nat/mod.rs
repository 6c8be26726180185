//! NAT in the process: the host's sockets speak for the guest, no packet is passed on.
//!
//! ```text
//!   Card ◄─► Port ◄─► Stack ─┬─ tcp     a connection of the guest ends here; a socket of the host begins
//!                            ├─ udp     a flow is a connected socket
//!                            ├─ icmp    echo through ping sockets; what cannot be reached
//!                            ├─ dns     questions go to the host's name servers
//!                            ├─ dhcp, arp, ndp     who is who
//!                            └─ mesh    other guests, on a named network
//! ```
//! One thread per VM waits for the guest and for all sockets. Nothing is sent that the guest has no room for: TCP stays in
//! the host's buffers, UDP in its sockets, the rest waits in a short list. Needs no privilege.

mod arp;
mod dhcp;
mod dhcpv6;
mod dns;
mod icmp;
mod mesh;
mod ndp;
mod port;
mod reassembly;
mod ring;
mod stack;
mod table;
mod tcp;
mod tcp_table;
mod udp;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    path::PathBuf,
    sync::Arc,
};

use mio::Token;

use crate::{Mac, NetError, Offloads, Policy, Threaded};
pub use mesh::{Membership, Place};
use stack::Stack;

/// The network's MTU. Large frames carry the data; this is what they stand for.
const MTU: u16 = 1500;

/// Protocols whose ports are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port of the host that leads to a port of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The protocol.
    pub transport: Transport,
    /// Where the host listens.
    pub host: SocketAddr,
    /// The guest's port.
    pub guest: u16,
}

/// What there is to say about a NAT.
#[derive(Clone, Debug)]
pub struct NatOptions {
    /// Where the guest may go.
    pub policy: Policy,
    /// Host ports that lead to the guest.
    pub forwards: Vec<Forward>,
    /// The host's list of name servers.
    pub resolv_conf: PathBuf,
}

impl Default for NatOptions {
    fn default() -> Self {
        Self { policy: Policy::default(), forwards: Vec::new(), resolv_conf: "/etc/resolv.conf".into() }
    }
}

/// Who is who in the guest's network.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The guest's address.
    pub guest: Ipv4Addr,
    /// The gateway: the host as the guest sees it.
    pub gateway: Ipv4Addr,
    /// The name server.
    pub dns: Ipv4Addr,
    /// Bits of the network's prefix.
    pub prefix: u8,
    /// The gateway and name server in the IPv6 network, whose prefix has 64 bits.
    pub gateway6: Ipv6Addr,
    /// The gateway as a router names itself.
    pub link_local: Ipv6Addr,
    /// The gateway's Ethernet address.
    pub mac: Mac,
}

/// The network that every guest behind a NAT sees: the addresses that QEMU's users know, and for IPv6 a local prefix.
pub const ADDRESSES: Addresses = Addresses {
    guest: Ipv4Addr::new(10, 0, 2, 15),
    gateway: Ipv4Addr::new(10, 0, 2, 2),
    dns: Ipv4Addr::new(10, 0, 2, 3),
    prefix: 24,
    gateway6: Ipv6Addr::new(0xfd74, 0x6561, 0x726c, 0, 0, 0, 0, 2),
    link_local: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2),
    mac: [0x52, 0x55, 0x0a, 0, 2, 2],
};

impl Addresses {
    /// The mask of the network's prefix.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0))
    }

    fn prefix6(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.gateway6.to_bits() >> 64 << 64)
    }

    fn is_gateway6(&self, address: Ipv6Addr) -> bool {
        address == self.gateway6 || address == self.link_local
    }

    /// The address that a guest is given which wants one given.
    fn guest6(&self) -> Ipv6Addr {
        let [.., host] = self.guest.octets();
        Ipv6Addr::from_bits(self.prefix6().to_bits() | u128::from(host))
    }

    /// Whether the guest may give itself `address`.
    fn is_guest6(&self, address: Ipv6Addr) -> bool {
        let local =
            address.is_unicast_link_local() || address.to_bits() >> 64 == self.gateway6.to_bits() >> 64;
        local && !self.is_gateway6(address)
    }
}

/// Kinds of what the poll watches; the rest of a token is an index.
mod token {
    pub(super) const WAKE: usize = 0;
    pub(super) const TCP: usize = 1;
    pub(super) const TCP_LISTENER: usize = 2;
    pub(super) const UDP: usize = 3;
    pub(super) const UDP_LISTENER: usize = 4;
    pub(super) const ECHO: usize = 5;
    pub(super) const DNS: usize = 6;
    pub(super) const MESH: usize = 7;
    pub(super) const PEER: usize = 8;
    pub(super) const BITS: u32 = 4;
}

fn token(kind: usize, index: usize) -> Token {
    Token(index << token::BITS | kind)
}

/// Opens the forwarded ports and starts the NAT of one VM, on a named network if it is a member of one.
///
/// # Errors
/// When a port cannot be had, or the host lacks a resource.
pub fn start(options: NatOptions, membership: Option<Membership>) -> Result<Arc<Threaded>, NetError> {
    let listeners = Listeners::open(&options.forwards)?;
    Threaded::start((Offloads::ALL, Some(MTU)), token(token::WAKE, 0), |poll, plug| {
        let mut stack = Stack::new(options, (listeners, membership), poll, plug)?;
        Ok(move || stack.run())
    })
}

/// The forwarded ports, open.
struct Listeners {
    tcp: Vec<(TcpListener, u16)>,
    udp: Vec<(UdpSocket, u16)>,
}

impl Listeners {
    fn open(forwards: &[Forward]) -> Result<Self, NetError> {
        let mut listeners = Self { tcp: Vec::new(), udp: Vec::new() };
        for forward in forwards {
            let opened = match forward.transport {
                Transport::Tcp => TcpListener::bind(forward.host).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    listeners.tcp.push((listener, forward.guest));
                    Ok(())
                }),
                Transport::Udp => UdpSocket::bind(forward.host).and_then(|socket| {
                    socket.set_nonblocking(true)?;
                    listeners.udp.push((socket, forward.guest));
                    Ok(())
                }),
            };
            opened.map_err(|e| refused(forward, &e))?;
        }
        Ok(listeners)
    }
}

fn refused(forward: &Forward, error: &io::Error) -> NetError {
    let kind = match forward.transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    };
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "another port of the host, or end the program that has this one",
        io::ErrorKind::PermissionDenied => "a port of the host from 1024 on: smaller ones are for root",
        io::ErrorKind::AddrNotAvailable => "an address that this host has, such as 127.0.0.1 or 0.0.0.0",
        _ => "another address or port of the host",
    };
    let what = format!("cannot forward {kind} port {} to the guest's port {}", forward.host, forward.guest);
    NetError::new(what, error, advice)
}
