//! The NAT's thread: takes the guest's frames, waits for sockets, gives the guest theirs.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Poll};

use super::{
    ADDRESSES, Addresses, Listeners, MTU, NatOptions, arp, dhcp, dhcpv6,
    dns::{self, Dns, Resolvers},
    icmp::{self, Echo},
    mesh::{Membership, Mesh},
    ndp,
    port::Port,
    reassembly::Reassembly,
    tcp::FlowKey,
    tcp_table::TcpTable,
    token,
    udp::{self, Udp},
};
use crate::{
    MAX_FRAME, Offload, Policy,
    guard::arp_sender,
    plug::Plug,
    wire::{self, Ip, Link, be16, protocol},
};

/// Frames of the guest before the sockets have their turn.
const BATCH: usize = 64;
/// Files that the rest of the process needs.
const OTHER_FILES: usize = 512;
/// How often flows that may have ended by silence are looked at.
const SLOW_TICK: Duration = Duration::from_secs(1);

pub(super) struct Stack {
    poll: Poll,
    plug: Arc<Plug>,
    port: Port,
    tcp: TcpTable,
    udp: Udp,
    echo: Echo,
    dns: Dns,
    reassembly: Reassembly,
    mesh: Option<Mesh>,
    policy: Policy,
    addresses: Addresses,
    now: Instant,
    slow_tick: Option<Instant>,
    /// Next time that the guest is told who its IPv6 router is; never where the host has no IPv6.
    advertise: Option<Instant>,
    has_ipv6: bool,
}

impl Stack {
    pub(super) fn new(
        options: NatOptions,
        (listeners, membership): (Listeners, Option<Membership>),
        poll: Poll,
        plug: Arc<Plug>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let mut addresses = ADDRESSES;
        let mut mesh = None;
        if let Some(membership) = membership {
            let (joined, guest) = Mesh::new(membership, &addresses, poll.registry())?;
            addresses.guest = guest;
            mesh = Some(joined);
        }
        let guest = |port: u16| (IpAddr::from(addresses.guest), port);
        let tcp = listeners.tcp.into_iter();
        let tcp = tcp.map(|(l, port)| (mio::net::TcpListener::from_std(l), guest(port))).collect();
        let udp = listeners.udp.into_iter();
        let udp = udp.map(|(s, port)| (mio::net::UdpSocket::from_std(s), guest(port))).collect();
        let gateway = addresses.gateway.into();
        let files = allow_files().saturating_sub(OTHER_FILES).max(OTHER_FILES);
        let mut tcp = TcpTable::new(tcp, gateway, files, now);
        let mut udp = Udp::new(udp, gateway);
        tcp.register(poll.registry())?;
        udp.register(poll.registry())?;
        Ok(Self {
            dns: Dns::new(Resolvers::new(options.resolv_conf), plug.waker.clone()),
            poll,
            plug,
            port: Port::new(Link { guest: [0; 6], gateway: addresses.mac }, MTU.into()),
            tcp,
            udp,
            echo: Echo::default(),
            reassembly: Reassembly::default(),
            mesh,
            policy: options.policy,
            addresses,
            now,
            slow_tick: None,
            advertise: None,
            has_ipv6: host_has_ipv6(),
        })
    }

    /// Runs until the NAT is dropped.
    pub(super) fn run(&mut self) {
        let mut events = Events::with_capacity(256);
        let mut frame = Vec::with_capacity(MAX_FRAME);
        let mut busy = false;
        while !self.plug.has_ended() {
            let timeout = if busy { Some(Duration::ZERO) } else { self.timeout() };
            match self.poll.poll(&mut events, timeout) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => {
                    tracing::error!(error = %e, "the network ends: the host cannot wait for its sockets");
                    return;
                }
                _ => {}
            }
            self.now = Instant::now();
            self.dispatch(&events);
            self.meet_guest();
            busy = self.turn(&mut frame);
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let due = [self.tcp.next_tick(), self.slow_tick, self.advertise].into_iter().flatten().min();
        // Rounded up by the poll's milliseconds, so that what was waited for is due.
        due.map(|due| due.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    fn dispatch(&mut self, events: &Events) {
        for event in events {
            let (kind, index) = (event.token().0 & ((1 << token::BITS) - 1), event.token().0 >> token::BITS);
            match kind {
                token::TCP => self.tcp.ready(
                    index,
                    event.is_readable() || event.is_read_closed() || event.is_error(),
                    event.is_writable() || event.is_error(),
                ),
                token::TCP_LISTENER => self.tcp.listener_ready(index),
                token::UDP => self.udp.flow_ready(index),
                token::UDP_LISTENER => self.udp.listener_ready(index),
                token::ECHO => self.echo.ready(index),
                token::DNS => self.dns.ready(index),
                token::MESH => self.mesh.iter_mut().for_each(Mesh::listener_ready),
                token::PEER => self.mesh.iter_mut().for_each(|mesh| {
                    let broken = event.is_error();
                    let readable = event.is_readable() || event.is_read_closed() || broken;
                    mesh.peer_ready(index, readable, event.is_writable() || broken);
                }),
                _ => {}
            }
        }
    }

    /// Takes note of a new card, and of room in the guest.
    fn meet_guest(&mut self) {
        if let Some(card) = self.plug.changed() {
            self.tcp.clear();
            self.udp.clear();
            self.echo.clear();
            self.dns.clear();
            self.reassembly = Reassembly::default();
            self.advertise = (card.is_some() && self.has_ipv6).then_some(self.now);
            self.port.plug(card);
        }
        if self.plug.was_kicked() {
            self.port.retry();
        }
    }

    /// Moves frames and bytes once around. Returns whether there is more to do right away.
    fn turn(&mut self, frame: &mut Vec<u8>) -> bool {
        let mut more = true;
        for _ in 0..BATCH {
            let Some(offload) = self.port.take(frame) else {
                more = false;
                break;
            };
            self.input(frame, offload);
        }
        more |= self.tcp.work(self.poll.registry(), &mut self.port, self.now);
        more |= self.udp.work(self.poll.registry(), &mut self.port, self.now) && self.port.is_open();
        if let Some(mesh) = &mut self.mesh {
            more |= mesh.work(self.poll.registry(), &mut self.port, &self.addresses);
        }
        self.echo.work(&mut self.port);
        self.dns.work(&mut self.port);
        self.tick();
        self.port.flush();
        more
    }

    fn tick(&mut self) {
        self.tcp.tick(&mut self.port, self.now);
        if self.slow_tick.is_some_and(|due| self.now >= due) {
            let left = [
                self.udp.tick(self.now),
                self.echo.tick(self.now),
                self.dns.tick((self.poll.registry(), &mut self.port, self.now)),
            ];
            self.slow_tick = left.contains(&true).then(|| self.now + SLOW_TICK);
        }
        if self.advertise.is_some_and(|due| self.now >= due) {
            ndp::advertise_router(&mut self.port, &self.addresses);
            let pause = Duration::from_secs(u64::from(ndp::ROUTER_LIFETIME) / 3);
            self.advertise = Some(self.now + pause);
        }
    }

    /// A frame of the guest's.
    fn input(&mut self, frame: &[u8], offload: Offload) {
        let Some(ethertype) = be16(frame, 12) else { return };
        if let Some(mesh) = &mut self.mesh
            && !frame.starts_with(&self.addresses.mac)
        {
            mesh.send(frame, offload, &self.addresses);
        }
        let is_for_us = frame.starts_with(&self.addresses.mac) || frame.first().is_some_and(|b| b & 1 != 0);
        let Some(bytes) = frame.get(wire::ETHERNET..).filter(|_| is_for_us) else { return };
        if ethertype == wire::ARP {
            if let Some(address) = arp_sender(frame).filter(|address| *address == self.addresses.guest) {
                self.plug.meet(address);
            }
            return arp::serve(&mut self.port, &self.addresses, bytes);
        }
        let Some(ip) = Ip::parse(ethertype, bytes) else { return };
        if !self.is_from_guest(&ip) {
            return;
        }
        let Some(fragment) = ip.fragment else {
            return self.packet(&ip, offload.checksum.is_some());
        };
        if let Some(payload) = self.reassembly.add(&ip, fragment, self.now) {
            self.packet(&Ip { payload: &payload, fragment: None, ..ip }, false);
        }
    }

    /// Whether the packet has an address that is the guest's: it was given one, and cannot take others.
    fn is_from_guest(&self, ip: &Ip<'_>) -> bool {
        match ip.src {
            IpAddr::V4(src) => {
                let asks_for_one = src.is_unspecified()
                    && ip.protocol == protocol::UDP
                    && be16(ip.payload, 2) == Some(dhcp::SERVER_PORT);
                src == self.addresses.guest || asks_for_one
            }
            IpAddr::V6(src) => {
                self.addresses.is_guest6(src) || src.is_unspecified() && ip.protocol == protocol::ICMPV6
            }
        }
    }

    fn packet(&mut self, ip: &Ip<'_>, is_trusted: bool) {
        match ip.protocol {
            protocol::TCP if is_trusted || ip.checksum_holds() => self.tcp_packet(ip),
            protocol::UDP => {
                // IPv4 may go without a checksum.
                let none = ip.src.is_ipv4() && be16(ip.payload, 6) == Some(0);
                if is_trusted || none || ip.checksum_holds() {
                    self.udp_packet(ip);
                }
            }
            protocol::ICMP if ip.src.is_ipv4() => self.icmp_packet(ip),
            protocol::ICMPV6 if is_trusted || ip.checksum_holds() => self.icmp6_packet(ip),
            _ => {}
        }
    }

    fn tcp_packet(&mut self, ip: &Ip<'_>) {
        let (policy, addresses) = (&self.policy, &self.addresses);
        let servers = if is_name_server(addresses, ip.dst) { self.dns.resolvers.get(self.now) } else { &[] };
        let target = |(address, port): (IpAddr, u16)| {
            if is_name_server(addresses, address) && port == dns::PORT && policy.permits_dns() {
                return dns::tcp_target(servers);
            }
            translate(policy, addresses, address).map(|address| SocketAddr::new(address, port))
        };
        self.tcp.segment(ip, target, (self.poll.registry(), &mut self.port, self.now));
    }

    fn udp_packet(&mut self, ip: &Ip<'_>) {
        let (Some((src, dst)), Some(payload)) = (udp::ports(ip), udp::payload(ip)) else { return };
        self.slow_tick.get_or_insert(self.now + SLOW_TICK);
        if dst == dhcp::SERVER_PORT && ip.src.is_ipv4() {
            if dhcp::serve(&mut self.port, &self.addresses, self.mesh.is_some(), payload) {
                self.plug.meet(self.addresses.guest);
            }
            return;
        }
        if let (dhcpv6::SERVER_PORT, IpAddr::V6(from)) = (dst, ip.src) {
            return dhcpv6::serve(&mut self.port, &self.addresses, from, payload);
        }
        let context = (self.poll.registry(), &mut self.port, self.now);
        if is_name_server(&self.addresses, ip.dst) && dst == dns::PORT {
            let permitted = self.policy.permits_dns();
            let zone = dns::Zone { addresses: &self.addresses, mesh: self.mesh.as_ref(), permitted };
            return self.dns.ask(((ip.src, src), ip.dst), payload, &zone, context);
        }
        let key = FlowKey { guest: (ip.src, src), remote: (ip.dst, dst) };
        if self.udp.is_known(&key) {
            // An answer to what came in by a forwarded port, among others.
            return self.udp.send(key, SocketAddr::new(ip.dst, dst), ip, context);
        }
        match translate(&self.policy, &self.addresses, ip.dst) {
            Some(address) => self.udp.send(key, SocketAddr::new(address, dst), ip, context),
            None if ip.dst.is_multicast() || ip.dst == IpAddr::from(Ipv4Addr::BROADCAST) => {}
            None => icmp::unreachable(&mut self.port, ip, icmp::Unreachable::Prohibited),
        }
    }

    fn icmp6_packet(&mut self, ip: &Ip<'_>) {
        let is_local = ndp::serve(&mut self.port, &self.addresses, self.has_ipv6, ip);
        if !is_local {
            self.icmp_packet(ip);
        }
    }

    fn icmp_packet(&mut self, ip: &Ip<'_>) {
        let is_ours = is_gateway(&self.addresses, ip.dst) || is_name_server(&self.addresses, ip.dst);
        if is_ours {
            return icmp::answer(&mut self.port, ip);
        }
        if ip.dst.is_multicast() {
            return;
        }
        self.slow_tick.get_or_insert(self.now + SLOW_TICK);
        match translate(&self.policy, &self.addresses, ip.dst) {
            Some(target) => {
                let context = (self.poll.registry(), &mut self.port, self.now);
                self.echo.request(ip, target, context);
            }
            None => icmp::unreachable(&mut self.port, ip, icmp::Unreachable::Prohibited),
        }
    }
}

fn is_gateway(addresses: &Addresses, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4 == addresses.gateway,
        IpAddr::V6(v6) => addresses.is_gateway6(v6),
    }
}

fn is_name_server(addresses: &Addresses, address: IpAddr) -> bool {
    address == IpAddr::V4(addresses.dns) || is_gateway(addresses, address)
}

/// Where a destination of the guest's really is; `None` where the guest may not go.
fn translate(policy: &Policy, addresses: &Addresses, address: IpAddr) -> Option<IpAddr> {
    if is_gateway(addresses, address) {
        let host: IpAddr =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        return policy.host.then_some(host);
    }
    let is_local = match address {
        IpAddr::V4(v4) => {
            let mask = addresses.mask().to_bits();
            v4.to_bits() & mask == addresses.gateway.to_bits() & mask
        }
        IpAddr::V6(v6) => addresses.is_guest6(v6),
    };
    // The guest's own network has no other hosts.
    (!is_local && policy.permits(address)).then_some(address)
}

/// Whether the host has a way to the IPv6 world. No packet is sent for this.
fn host_has_ipv6() -> bool {
    let somewhere = SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), 9);
    udp::connected_socket(somewhere).is_ok()
}

/// Lets this process have as many files as it may. Returns how many that is.
fn allow_files() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// More would gain nothing.
    const ENOUGH: u64 = 8192;
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(ENOUGH);
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    let now = if wanted > current && setrlimit(Resource::Nofile, raised).is_ok() { wanted } else { current };
    usize::try_from(now).unwrap_or(usize::MAX)
}
