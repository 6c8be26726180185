//! Several VMs on a named network, each with a NAT of its own; the guests are the test's.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::member::{Membership, address};
use crate::{
    Endpoint as _, Gso, GsoKind, Mac, NatOptions, Offload, PartialChecksum, Policy, Threaded,
    nat::{ADDRESSES, start, tests::FakeCard},
    wire::{self, Ip, Link, be16, protocol},
};

/// Tests wait for events; this only ends one that would hang.
const PATIENCE: Duration = Duration::from_secs(30);
const ALL: Mac = [0xff; 6];

struct Guest {
    card: Arc<FakeCard>,
    nat: Arc<Threaded>,
    mac: Mac,
    address: Ipv4Addr,
}

impl Guest {
    fn new(folder: &Path, name: &str, number: u8) -> Self {
        let mac = [0x52, 0x54, 0, 0, 0, number];
        let membership = Membership::join(folder, name, mac).unwrap();
        let address = address(ADDRESSES.guest, membership.own.host);
        let policy = Policy { isolated: true, ..Policy::default() };
        let nat = start(NatOptions { policy, ..NatOptions::default() }, Some(membership)).unwrap();
        let card = FakeCard::with_mac(64, mac);
        nat.attach(card.clone());
        Self { card, nat, mac, address }
    }

    fn send(&self, frame: Vec<u8>, offload: Offload) {
        self.card.send_with(frame, offload);
        self.nat.kick();
    }

    /// A packet from this guest's card.
    fn packet(&self, to: Mac, src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let (mut frame, link) = (Vec::new(), Link { guest: to, gateway: self.mac });
        wire::ip_header(&mut frame, link, (src.into(), dst.into()), protocol, payload.len());
        frame.extend(payload);
        frame
    }

    fn arp(&self, kind: u8, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
        let mut frame = [ALL, self.mac].concat();
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, kind]);
        frame.extend(self.mac);
        frame.extend(sender.octets());
        frame.extend([0; 6]);
        frame.extend(target.octets());
        frame
    }

    /// The next frame that `wanted` wants; others are dropped.
    fn receive(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let start = Instant::now();
        loop {
            match self.card.receive() {
                Some(frame) if wanted(&frame) => return frame,
                Some(_) => self.nat.kick(),
                None => thread::yield_now(),
            }
            assert!(start.elapsed() < PATIENCE, "it never came");
        }
    }
}

/// Sends until it arrives: a member that has just joined may not have been greeted yet.
fn arrives(from: &Guest, frame: &[u8], to: &Guest) {
    let start = Instant::now();
    loop {
        from.send(frame.to_vec(), Offload::default());
        let soon = Instant::now() + Duration::from_millis(20);
        while Instant::now() < soon {
            match to.card.receive() {
                Some(got) if got == frame => return,
                Some(_) => to.nat.kick(),
                None => thread::yield_now(),
            }
        }
        assert!(start.elapsed() < PATIENCE, "it never came");
    }
}

fn is_marked(frame: &[u8]) -> bool {
    frame.ends_with(b"the end")
}

#[test]
fn guests_reach_each_other_as_themselves_only() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (Guest::new(folder.path(), "a", 1), Guest::new(folder.path(), "b", 2));
    assert_ne!(a.address, b.address);
    arrives(&a, &a.arp(1, a.address, b.address), &b);
    arrives(&b, &b.packet(a.mac, b.address, a.address, protocol::UDP, &[9; 80]), &a);
    let forged = [
        a.arp(2, b.address, a.address),
        a.arp(2, ADDRESSES.gateway, b.address),
        a.packet(b.mac, ADDRESSES.gateway, b.address, protocol::UDP, b"gateway"),
        a.packet(b.mac, b.address, b.address, protocol::UDP, b"itself"),
        a.packet(ALL, a.address, Ipv4Addr::BROADCAST, protocol::UDP, &[0, 67, 0, 68, 0, 8, 0, 0]),
    ];
    for frame in forged {
        a.send(frame, Offload::default());
    }
    let honest = a.packet(b.mac, a.address, b.address, protocol::UDP, b"the end");
    a.send(honest.clone(), Offload::default());
    // What else arrives by then was sent by the NAT.
    let first = b.receive(|frame| frame.get(6..12) == Some(&a.mac) && be16(frame, 12) == Some(wire::IPV4));
    assert_eq!(first, honest);
}

#[test]
fn a_large_frame_is_cut_for_a_guest_that_takes_none() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (Guest::new(folder.path(), "a", 1), Guest::new(folder.path(), "b", 2));
    arrives(&a, &a.arp(1, a.address, b.address), &b);
    let payload: Vec<u8> = (0..9000u32).map(|i| (i * 31) as u8).collect();
    let head = [0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 5 << 4, 16, 1, 0, 0, 0, 0, 0];
    let mut frame =
        a.packet(b.mac, a.address, b.address, protocol::TCP, &[&head, payload.as_slice()].concat());
    let pseudo = wire::pseudo(a.address.into(), b.address.into(), protocol::TCP, 20 + payload.len());
    wire::put16(&mut frame, 34 + 16, wire::fold(pseudo));
    let offload = Offload {
        checksum: Some(PartialChecksum { start: 34, offset: 16 }),
        gso: Some(Gso { kind: GsoKind::Tcp4, size: 1460, headers: 54 }),
    };
    a.send(frame, offload);
    let mut received: Vec<u8> = Vec::new();
    while received.len() < payload.len() {
        let piece = b.receive(|frame| frame.get(23) == Some(&protocol::TCP));
        let ip = Ip::parse(wire::IPV4, &piece[wire::ETHERNET..]).unwrap();
        assert!(ip.checksum_holds() && piece.len() <= 1514);
        received.extend(&ip.payload[20..]);
        b.nat.kick();
    }
    assert_eq!(received, payload);
}

#[test]
fn members_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let a = Guest::new(folder.path(), "a", 1);
    let b = Guest::new(folder.path(), "b", 2);
    let c = Guest::new(folder.path(), "c", 3);
    arrives(&b, &b.arp(1, b.address, c.address), &c);
    arrives(&a, &a.arp(1, a.address, c.address), &c);
    let before = a.address;
    // The first is nobody special.
    drop(a);
    arrives(&b, &b.arp(1, b.address, c.address), &c);
    let a = Guest::new(folder.path(), "a", 1);
    assert_eq!(a.address, before);
    arrives(&c, &c.arp(1, c.address, a.address), &a);
    arrives(&a, &a.packet(b.mac, a.address, b.address, protocol::UDP, b"the end"), &b);
    drop((a, b));
    let text =
        c.packet(ADDRESSES.mac, c.address, ADDRESSES.gateway, protocol::ICMP, &[8, 0, 0, 0, 0, 1, 0, 1]);
    c.send(text, Offload::default());
    c.receive(|frame| frame.get(23) == Some(&protocol::ICMP) && frame.starts_with(&c.mac));
}

#[test]
fn members_have_names() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (Guest::new(folder.path(), "a", 1), Guest::new(folder.path(), "Web-1", 2));
    arrives(&a, &a.arp(1, a.address, b.address), &b);
    let ask = |labels: &[&str]| {
        let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in labels {
            question.push(label.len() as u8);
            question.extend(label.bytes());
        }
        question.extend([0, 0, 1, 0, 1]);
        let mut datagram = [0x10, 0, 0, 53].to_vec();
        datagram.extend((8 + question.len() as u16).to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(question);
        a.send(
            a.packet(ADDRESSES.mac, a.address, ADDRESSES.dns, protocol::UDP, &datagram),
            Offload::default(),
        );
        let answer = a.receive(|frame| frame.get(23) == Some(&protocol::UDP) && be16(frame, 34) == Some(53));
        let ip = Ip::parse(wire::IPV4, &answer[wire::ETHERNET..]).unwrap();
        a.nat.kick();
        let code = ip.payload[8 + 3] & 15;
        let found = be16(ip.payload, 8 + 6)
            .filter(|count| *count > 0)
            .and(wire::v4(ip.payload, ip.payload.len() - 4));
        (code, found.map(IpAddr::from))
    };
    for labels in [&["web-1"][..], &["WEB-1", "tearless", "internal"]] {
        assert_eq!(ask(labels), (0, Some(b.address.into())));
    }
    assert_eq!(ask(&["nobody", "tearless", "internal"]), (3, None));
    assert_eq!(ask(&["nobody"]), (5, None), "an isolated guest asks no others");
    assert_eq!(ask(&["host", "tearless", "internal"]), (0, Some(ADDRESSES.gateway.into())));
}

#[test]
fn a_program_that_is_no_vm_is_sent_away() {
    use std::{
        io::{Read as _, Write as _},
        os::unix::net::UnixStream,
    };

    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (Guest::new(folder.path(), "a", 1), Guest::new(folder.path(), "b", 2));
    let sockets = || std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let hello = |mac: Mac, host: u8| {
        let mut hello = 15u32.to_be_bytes().to_vec();
        hello.extend(b"tearnet1");
        hello.extend(mac);
        hello.push(host);
        hello
    };
    let host = b.address.octets()[3];
    arrives(&a, &a.arp(1, a.address, b.address), &b);
    for bad in
        [hello(b.mac, 77), hello([2; 6], host), hello([2; 6], 2), hello(ADDRESSES.mac, 77), vec![0xff; 64]]
    {
        for path in sockets().filter(|path| !path.ends_with("lock")) {
            let mut stream = UnixStream::connect(path).unwrap();
            stream.write_all(&bad).unwrap();
            let mut rest = Vec::new();
            // The greeting, and the end.
            _ = stream.read_to_end(&mut rest);
        }
    }
    arrives(&a, &a.packet(b.mac, a.address, b.address, protocol::UDP, b"the end"), &b);
    assert!(b.card.receive().is_none_or(|frame| !is_marked(&frame)));
}
