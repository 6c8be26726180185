//! The NAT against another TCP/IP stack as its guest, and against sockets of the host's loopback.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::{tcp, udp},
    time::Instant,
    wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint},
};

use super::{ADDRESSES, Forward, NatOptions, Transport, start};
use crate::{Card, Endpoint, Frame, Mac, Offload, Offloads, Policy, Threaded, lock, wire};

const MAC: Mac = [0x52, 0x54, 0, 1, 2, 3];
/// Tests wait for events; this only ends one that would hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// A card whose rings are lists.
pub(crate) struct FakeCard {
    sent: Mutex<VecDeque<(Vec<u8>, Offload)>>,
    received: Mutex<VecDeque<Vec<u8>>>,
    room: AtomicUsize,
    offloads: Offloads,
    mac: Mac,
}

impl FakeCard {
    pub(crate) fn new(room: usize) -> Arc<Self> {
        Self::with_mac(room, MAC)
    }

    pub(crate) fn with_mac(room: usize, mac: Mac) -> Arc<Self> {
        let (sent, received) = (Mutex::default(), Mutex::default());
        Arc::new(Self { sent, received, room: AtomicUsize::new(room), offloads: Offloads::default(), mac })
    }

    pub(crate) fn send(&self, frame: Vec<u8>) {
        self.send_with(frame, Offload::default());
    }

    pub(crate) fn send_with(&self, frame: Vec<u8>, offload: Offload) {
        lock(&self.sent).push_back((frame, offload));
    }

    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        lock(&self.received).pop_front()
    }
}

impl Card for FakeCard {
    fn mac(&self) -> Mac {
        self.mac
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn take(&self, into: &mut Vec<u8>) -> Option<Offload> {
        let (frame, offload) = lock(&self.sent).pop_front()?;
        into.clear();
        into.extend(frame);
        Some(offload)
    }

    fn give(&self, frame: &Frame<'_>) -> bool {
        let mut received = lock(&self.received);
        if received.len() >= self.room.load(Ordering::Acquire) {
            return false;
        }
        assert_eq!(frame.offload, Offload::default(), "this guest finishes nothing");
        received.push_back(frame.parts.concat());
        true
    }

    fn flush(&self) {}
}

/// The guest: its stack, the card, the NAT.
struct Guest {
    card: Arc<FakeCard>,
    nat: Arc<Threaded>,
    stack: Interface,
    sockets: SocketSet<'static>,
}

struct Wire<'a>(&'a FakeCard, &'a Threaded);
struct Received(Vec<u8>);
struct Sending<'a>(&'a FakeCard, &'a Threaded);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.send(frame);
        self.1.kick();
        result
    }
}

impl Device for Wire<'_> {
    type RxToken<'b>
        = Received
    where
        Self: 'b;
    type TxToken<'b>
        = Sending<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = lock(&self.0.received).pop_front()?;
        self.1.kick();
        Some((Received(frame), Sending(self.0, self.1)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(self.0, self.1))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

impl Guest {
    fn new(options: NatOptions) -> Self {
        Self::with_room(options, 64)
    }

    fn with_room(options: NatOptions, room: usize) -> Self {
        let nat = start(options, None).unwrap();
        let card = FakeCard::new(room);
        nat.attach(card.clone());
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(MAC)));
        let mut stack = Interface::new(config, &mut Wire(&card, &nat), Instant::now());
        stack.update_ip_addrs(|list| {
            list.push(IpCidr::new(IpAddress::Ipv4(ADDRESSES.guest), 24)).unwrap();
        });
        stack.routes_mut().add_default_ipv4_route(ADDRESSES.gateway).unwrap();
        Self { card, nat, stack, sockets: SocketSet::new(Vec::new()) }
    }

    fn poll(&mut self) {
        self.stack.poll(Instant::now(), &mut Wire(&self.card, &self.nat), &mut self.sockets);
    }

    fn tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 64 << 10]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    fn connect(&mut self, to: SocketAddr, local: u16) -> SocketHandle {
        let handle = self.tcp();
        let context = self.stack.context();
        self.sockets.get_mut::<tcp::Socket>(handle).connect(context, to, local).unwrap();
        handle
    }

    /// Polls until `done` says so.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = std::time::Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "{what} never happened");
            self.poll();
            thread::sleep(Duration::from_micros(100));
        }
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }
}

/// The host's loopback is open to this guest.
fn open() -> NatOptions {
    let policy = Policy { host: true, ..Policy::default() };
    NatOptions { policy, ..NatOptions::default() }
}

fn gateway(port: u16) -> SocketAddr {
    (ADDRESSES.gateway, port).into()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 21) as u8).collect()
}

#[test]
fn a_connection_carries_both_directions_and_ends_in_each() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (to_host, to_guest) = (pattern(3_000_000), pattern(2_500_000));
    let server = thread::spawn({
        let to_guest = to_guest.clone();
        move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            // The guest has closed its direction; this one is open still.
            stream.write_all(&to_guest).unwrap();
            received
        }
    });
    let mut guest = Guest::with_room(open(), 7);
    let handle = guest.connect(gateway(port), 50000);
    let (mut sent, mut received) = (0, Vec::new());
    guest.until("the exchange", |guest| {
        let socket = guest.socket(handle);
        if sent < to_host.len() && socket.can_send() {
            sent += socket.send_slice(&to_host[sent..]).unwrap();
            if sent == to_host.len() {
                socket.close();
            }
        }
        while socket.can_recv() {
            socket
                .recv(|bytes| {
                    received.extend_from_slice(bytes);
                    (bytes.len(), ())
                })
                .unwrap();
        }
        received.len() == to_guest.len() && !socket.may_recv()
    });
    assert!(received == to_guest, "bytes to the guest changed");
    assert!(server.join().unwrap() == to_host, "bytes to the host changed");
}

#[test]
fn a_refused_connection_is_refused_and_a_closed_host_stays_closed() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut guest = Guest::new(open());
    let handle = guest.connect(gateway(port), 50001);
    guest.until("the reset", |guest| guest.socket(handle).state() == tcp::State::Closed);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let to = gateway(listener.local_addr().unwrap().port());
    let mut closed = Guest::new(NatOptions::default());
    let handle = closed.connect(to, 50002);
    // The guest is told with an ICMP message, which its stack shows as nothing; the host sees no connection.
    closed.until("the answer", |guest| {
        guest.socket(handle);
        lock(&guest.card.received)
            .iter()
            .any(|frame| frame.get(23) == Some(&1) && frame.get(34..36) == Some(&[3, 13]))
    });
    assert!(listener.accept().is_err());
}

#[test]
fn a_reset_of_the_host_reaches_the_guest_and_the_other_way_round() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = gateway(listener.local_addr().unwrap().port());
    let mut guest = Guest::new(open());
    let handle = guest.connect(to, 50003);
    guest.until("the connection", |guest| guest.socket(handle).may_send());
    let (stream, _) = listener.accept().unwrap();
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
    guest.until("the host's reset", |guest| guest.socket(handle).state() == tcp::State::Closed);

    let handle = guest.connect(to, 50004);
    guest.until("the connection", |guest| guest.socket(handle).may_send());
    let (mut stream, _) = listener.accept().unwrap();
    guest.socket(handle).abort();
    guest.poll();
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn many_connections_at_once() {
    const COUNT: usize = 200;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = gateway(listener.local_addr().unwrap().port());
    let server = thread::spawn(move || {
        let streams: Vec<_> = (0..COUNT).map(|_| listener.accept().unwrap().0).collect();
        for mut stream in streams {
            let mut byte = [0; 2];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
        }
    });
    let mut guest = Guest::new(open());
    let handles: Vec<_> = (0..COUNT as u16).map(|i| guest.connect(to, 40000 + i)).collect();
    let mut told = [false; COUNT];
    let mut done = 0;
    guest.until("every answer", |guest| {
        for (i, handle) in handles.iter().enumerate() {
            let socket = guest.socket(*handle);
            let own = (i as u16).to_be_bytes();
            if !told[i] && socket.may_send() {
                told[i] = socket.send_slice(&own).unwrap() == 2;
            }
            let mut answer = [0; 2];
            if socket.can_recv() {
                assert_eq!(socket.recv_slice(&mut answer).unwrap(), 2);
                assert_eq!(answer, own);
                done += 1;
            }
        }
        done == COUNT
    });
    server.join().unwrap();
}

#[test]
fn a_flood_of_half_open_connections_costs_little() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = gateway(listener.local_addr().unwrap().port());
    let files = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let mut guest = Guest::with_room(open(), 10_000);
    let before = files();
    for port in 1024..6024u16 {
        guest.card.send(syn(port, to.port()));
    }
    guest.nat.kick();
    guest.until("all of them read", |guest| lock(&guest.card.sent).is_empty());
    assert!(files() < before + 1500, "{} files", files() - before);
    // What is honest still gets through.
    lock(&guest.card.received).clear();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let handle = guest.connect(gateway(other.local_addr().unwrap().port()), 50005);
    guest.until("the connection", |guest| guest.socket(handle).may_send());
}

/// A connection's first frame, of a guest that will not go on with it.
fn syn(src: u16, dst: u16) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(src.to_be_bytes());
    segment.extend(dst.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 0xff, 0xff, 0, 0, 0, 0]);
    packet(wire::protocol::TCP, ADDRESSES.guest, ADDRESSES.gateway, (segment, 16))
}

/// A frame of the guest with `payload`, whose checksum belongs at byte `at`.
fn packet(protocol: u8, src: Ipv4Addr, dst: Ipv4Addr, (mut payload, at): (Vec<u8>, usize)) -> Vec<u8> {
    let link = wire::Link { guest: ADDRESSES.mac, gateway: MAC };
    let pseudo = wire::pseudo(src.into(), dst.into(), protocol, payload.len());
    let check = !wire::fold(wire::sum(&payload, pseudo));
    wire::put16(&mut payload, at, check);
    let mut frame = Vec::new();
    wire::ip_header(&mut frame, link, (src.into(), dst.into()), protocol, payload.len());
    frame.extend(payload);
    frame
}

#[test]
fn a_forwarded_port_leads_to_the_guest() {
    let port = free_port();
    let host: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
    let forward = Forward { transport: Transport::Tcp, host, guest: 80 };
    let mut guest = Guest::new(NatOptions { forwards: vec![forward], ..NatOptions::default() });
    let handle = guest.tcp();
    guest.socket(handle).listen(80).unwrap();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(host).unwrap();
        stream.write_all(b"question").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let mut question = Vec::new();
    guest.until("the question", |guest| {
        let socket = guest.socket(handle);
        while socket.can_recv() {
            socket
                .recv(|bytes| {
                    question.extend_from_slice(bytes);
                    (bytes.len(), ())
                })
                .unwrap();
        }
        question == b"question"
    });
    guest.socket(handle).send_slice(b"answer").unwrap();
    guest.socket(handle).close();
    guest.until("the end", |_| client.is_finished());
    assert_eq!(client.join().unwrap(), "answer");
    assert!(start(NatOptions { forwards: vec![forward], ..NatOptions::default() }, None).is_err());
    drop(guest);
    assert!(TcpListener::bind(host).is_ok(), "the port is free again");
}

/// A port that nobody uses at the moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn udp_socket(guest: &mut Guest, port: u16) -> SocketHandle {
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 8], vec![0; 16 << 10]);
    let handle = guest.sockets.add(udp::Socket::new(buffer(), buffer()));
    guest.sockets.get_mut::<udp::Socket>(handle).bind(port).unwrap();
    handle
}

#[test]
fn datagrams_go_both_ways() {
    let host = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to: IpEndpoint = gateway(host.local_addr().unwrap().port()).into();
    let mut guest = Guest::new(open());
    let handle = udp_socket(&mut guest, 5000);
    guest.sockets.get_mut::<udp::Socket>(handle).send_slice(b"ping", to).unwrap();
    guest.poll();
    let mut buffer = [0; 16];
    host.set_read_timeout(Some(PATIENCE)).unwrap();
    guest.until("nothing", |guest| lock(&guest.card.sent).is_empty());
    // The first datagram waits for the gateway's Ethernet address.
    guest.until("the ARP answer", |guest| {
        guest.poll();
        host.set_nonblocking(true).unwrap();
        host.peek_from(&mut buffer).is_ok()
    });
    let (len, peer) = host.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"ping");
    host.send_to(b"pong", peer).unwrap();
    guest.until("the answer", |guest| guest.sockets.get_mut::<udp::Socket>(handle).can_recv());
    let (answer, meta) = guest.sockets.get_mut::<udp::Socket>(handle).recv().unwrap();
    assert_eq!((answer, meta.endpoint), (b"pong".as_slice(), to));
}

#[test]
fn a_forwarded_datagram_is_answered() {
    let port = free_port();
    let host: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
    let forward = Forward { transport: Transport::Udp, host, guest: 53 };
    let mut guest = Guest::new(NatOptions { forwards: vec![forward], ..NatOptions::default() });
    let handle = udp_socket(&mut guest, 53);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"question", host).unwrap();
    guest.until("the question", |guest| guest.sockets.get_mut::<udp::Socket>(handle).can_recv());
    let socket = guest.sockets.get_mut::<udp::Socket>(handle);
    let (question, meta) = socket.recv().map(|(bytes, meta)| (bytes.to_vec(), meta)).unwrap();
    assert_eq!(question, b"question");
    socket.send_slice(b"answer", meta.endpoint).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut buffer = [0; 16];
    guest.until("the answer", |_| client.peek_from(&mut buffer).is_ok());
    let (len, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..len], from), (b"answer".as_slice(), host));
}

#[test]
fn names_are_asked_of_the_hosts_servers_and_the_hosts_own_is_known() {
    let mut guest = Guest::new(NatOptions::default());
    let handle = udp_socket(&mut guest, 5001);
    let mut question = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["host", "tearless", "internal"] {
        question.push(label.len() as u8);
        question.extend(label.bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let to: IpEndpoint = SocketAddr::from((ADDRESSES.dns, 53)).into();
    guest.sockets.get_mut::<udp::Socket>(handle).send_slice(&question, to).unwrap();
    guest.until("the answer", |guest| guest.sockets.get_mut::<udp::Socket>(handle).can_recv());
    let (answer, _) = guest.sockets.get_mut::<udp::Socket>(handle).recv().unwrap();
    assert_eq!(answer[..2], [0xab, 0xcd]);
    assert_eq!(answer[answer.len() - 4..], ADDRESSES.gateway.octets());
}

#[test]
fn an_isolated_guest_gets_no_names() {
    let policy = Policy { isolated: true, ..Policy::default() };
    let mut guest = Guest::new(NatOptions { policy, ..NatOptions::default() });
    let handle = udp_socket(&mut guest, 5002);
    let question = [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'x', 0, 0, 1, 0, 1];
    let to: IpEndpoint = SocketAddr::from((ADDRESSES.dns, 53)).into();
    guest.sockets.get_mut::<udp::Socket>(handle).send_slice(&question, to).unwrap();
    guest.until("the answer", |guest| guest.sockets.get_mut::<udp::Socket>(handle).can_recv());
    let (answer, _) = guest.sockets.get_mut::<udp::Socket>(handle).recv().unwrap();
    assert_eq!(answer[3] & 15, 5, "refused");
    assert_eq!(guest.nat.guest(), Some(ADDRESSES.guest), "it has asked who the name server is");
    guest.nat.detach();
    assert_eq!(guest.nat.guest(), None);
}

#[test]
fn dhcp_gives_the_address() {
    let nat = start(NatOptions::default(), None).unwrap();
    let card = FakeCard::new(64);
    nat.attach(card.clone());
    let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(MAC)));
    let stack = Interface::new(config, &mut Wire(&card, &nat), Instant::now());
    let mut guest = Guest { card, nat, stack, sockets: SocketSet::new(Vec::new()) };
    let handle = guest.sockets.add(smoltcp::socket::dhcpv4::Socket::new());
    let mut lease = None;
    guest.until("the lease", |guest| {
        let socket = guest.sockets.get_mut::<smoltcp::socket::dhcpv4::Socket>(handle);
        if let Some(smoltcp::socket::dhcpv4::Event::Configured(config)) = socket.poll() {
            lease = Some((config.address.address(), config.address.prefix_len(), config.router));
            assert_eq!(config.dns_servers.as_slice(), [ADDRESSES.dns]);
        }
        lease.is_some()
    });
    assert_eq!(lease, Some((ADDRESSES.guest, 24, Some(ADDRESSES.gateway))));
    assert_eq!(guest.nat.guest(), Some(ADDRESSES.guest));
}

#[test]
fn a_forged_source_is_not_passed_on() {
    let host = UdpSocket::bind("127.0.0.1:0").unwrap();
    host.set_nonblocking(true).unwrap();
    let port = host.local_addr().unwrap().port();
    let mut guest = Guest::new(open());
    let datagram = || {
        let mut datagram = vec![0x13, 0x88];
        datagram.extend(port.to_be_bytes());
        datagram.extend([0, 9, 0, 0, b'x']);
        (datagram, 6)
    };
    let forged = Ipv4Addr::new(10, 0, 2, 99);
    for source in [forged, Ipv4Addr::new(192, 0, 2, 1), ADDRESSES.gateway, Ipv4Addr::UNSPECIFIED] {
        let frame = packet(wire::protocol::UDP, source, ADDRESSES.gateway, datagram());
        guest.card.send(frame);
    }
    // A datagram whose checksum is wrong, and an honest one last: what arrives first is that.
    let mut damaged = packet(wire::protocol::UDP, ADDRESSES.guest, ADDRESSES.gateway, datagram());
    *damaged.last_mut().unwrap() = b'y';
    guest.card.send(damaged);
    let honest = packet(wire::protocol::UDP, ADDRESSES.guest, ADDRESSES.gateway, datagram());
    guest.card.send(honest);
    guest.nat.kick();
    let mut buffer = [0; 4];
    guest.until("the honest one", |_| host.peek_from(&mut buffer).is_ok());
    assert_eq!(host.recv_from(&mut buffer).unwrap().0, 1);
    assert_eq!(buffer[0], b'x');
    assert!(host.recv_from(&mut buffer).is_err(), "only one");
}

#[test]
fn a_guest_that_starts_anew_finds_the_network_as_new() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = gateway(listener.local_addr().unwrap().port());
    let mut guest = Guest::new(open());
    let handle = guest.connect(to, 50006);
    guest.until("the connection", |guest| guest.socket(handle).may_send());
    let (mut stream, _) = listener.accept().unwrap();
    guest.nat.detach();
    assert!(stream.read(&mut [0]).is_err(), "the old guest's connections are reset");
    let card = FakeCard::new(64);
    guest.nat.attach(card.clone());
    guest.card = card;
    guest.sockets = SocketSet::new(Vec::new());
    let handle = guest.connect(to, 50006);
    guest.until("the connection", |guest| guest.socket(handle).may_send());
}
