//! Taps and bridges in a network of the test's own.

use std::{
    io::{self, Write as _},
    net::UdpSocket,
    process::Command,
    thread,
    time::Duration,
};

use super::*;
use crate::{Endpoint as _, nat::tests::FakeCard};

/// Gives this thread a network of its own and runs `setup` in it; `false` where the kernel refuses.
fn own_network(setup: &str) -> bool {
    let flags = rustix::thread::UnshareFlags::NEWNET;
    #[allow(unsafe_code)]
    // SAFETY: the network namespace is this thread's own; nothing else of the process changes.
    let unshared = unsafe { rustix::thread::unshare_unsafe(flags) };
    if let Err(error) = unshared {
        let _ = writeln!(io::stderr(), "skipped: this user may have no network of its own: {error}");
        return false;
    }
    let done = Command::new("sh").args(["-ec", setup]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        let _ = writeln!(io::stderr(), "skipped: {said}");
    }
    done.status.success()
}

/// Runs `test` on a thread, whose network goes with it.
fn apart(setup: &'static str, test: fn()) {
    let thread = thread::spawn(move || {
        if own_network(setup) {
            test();
        }
    });
    thread.join().unwrap();
}

const BRIDGE: &str =
    "ip link add br7 type bridge && ip address add 192.0.2.1/24 dev br7 && ip link set br7 up";

/// A UDP datagram of the guest (192.0.2.9) to the host's port, whose checksum is left to do.
fn datagram(host: [u8; 6], port: u16, text: &[u8]) -> (Vec<u8>, Offload) {
    let (src, dst) = ("192.0.2.9".parse().unwrap(), "192.0.2.1".parse().unwrap());
    let link = wire::Link { guest: host, gateway: [0x52, 0x54, 0, 1, 2, 3] };
    let mut frame = Vec::new();
    wire::ip_header(&mut frame, link, (src, dst), wire::protocol::UDP, 8 + text.len());
    let start = frame.len();
    frame.extend(4000u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend((8 + text.len() as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(text);
    let pseudo = wire::fold(wire::pseudo(src, dst, wire::protocol::UDP, 8 + text.len()));
    wire::put16(&mut frame, start + 6, pseudo);
    let checksum = PartialChecksum { start: start as u16, offset: 6 };
    (frame, Offload { checksum: Some(checksum), gso: None })
}

fn address_of(interface: &str) -> [u8; 6] {
    let shown = Command::new("ip").args(["-o", "link", "show", interface]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let text = shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

#[test]
fn a_guest_on_a_bridge_speaks_with_the_host() {
    apart(BRIDGE, || {
        let host = UdpSocket::bind("192.0.2.1:0").unwrap();
        let tap = bridged("br7").unwrap();
        assert_eq!((tap.offloads, tap.mtu), (Offloads::ALL, Some(1500)));
        let tap = tap.start().unwrap();
        let card = FakeCard::new(64);
        tap.attach(card.clone());
        let port = host.local_addr().unwrap().port();
        // The bridge has the address of its first port, unless it was given one.
        let (frame, offload) = datagram(address_of("br7"), port, b"from the guest");
        host.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut text = [0; 64];
        let (len, guest) = loop {
            // The kernel takes a moment to see that the tap is up; until then frames are lost.
            card.send_with(frame.clone(), offload);
            tap.kick();
            match host.recv_from(&mut text) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => break other.unwrap(),
            }
        };
        assert_eq!((&text[..len], guest), (&b"from the guest"[..], "192.0.2.9:4000".parse().unwrap()));
        // The guest of this test answers no ARP.
        let known = "ip neighbour replace 192.0.2.9 lladdr 52:54:00:01:02:03 dev br7";
        assert!(Command::new("sh").args(["-c", known]).status().unwrap().success());
        host.send_to(b"from the host", guest).unwrap();
        let frame = loop {
            match card.receive() {
                Some(frame) if frame.ends_with(b"from the host") => break frame,
                _ => thread::yield_now(),
            }
        };
        let ip = wire::Ip::parse(wire::IPV4, &frame[wire::ETHERNET..]).unwrap();
        assert!(ip.checksum_holds(), "this guest finishes nothing, so the kernel did");
        drop(tap);
        assert!(control::index(any_socket().unwrap(), "tearless0").is_err(), "the tap goes with the VM");
    });
}

#[test]
fn a_tap_of_the_users_is_taken_and_only_once() {
    apart("ip tuntap add dev mine mode tap && ip link set mine up && ip link add other type bridge", || {
        let tap = named("mine").unwrap();
        let error = named("mine").err().unwrap().to_string();
        assert!(error.contains("another program uses it"), "{error}");
        drop(tap);
        named("mine").unwrap();
        let error = named("other").err().unwrap().to_string();
        assert!(error.contains("--net bridged:other"), "{error}");
    });
    apart("ip tuntap add dev many mode tap multi_queue", || drop(named("many").unwrap()));
}

#[test]
fn an_open_tap_is_taken_and_other_files_are_not() {
    apart("true", || {
        let tun = open_tun().unwrap();
        control::attach(&tun, "x%d", PLAIN).unwrap();
        let tap = passed(tun.as_raw_fd()).unwrap();
        assert_eq!(tap.offloads, Offloads::ALL);
        let bare = open_tun().unwrap();
        control::attach(&bare, "y%d", control::IFF_TAP | control::IFF_NO_PI).unwrap();
        assert_eq!(passed(bare.as_raw_fd()).unwrap().offloads, Offloads::default());
        let file = File::open("/dev/null").unwrap();
        let error = passed(file.as_raw_fd()).err().unwrap().to_string();
        assert!(error.contains("no tap"), "{error}");
        let error = passed(9999).err().unwrap().to_string();
        assert!(error.contains("no such file"), "{error}");
    });
}

#[test]
fn what_is_missing_is_said_with_what_to_type() {
    apart("ip link add lonely type dummy", || {
        for (result, hints) in [
            (bridged("nothing"), ["no interface nothing", "ip link show type bridge"]),
            (bridged("lonely"), ["it is no bridge", "ip link set lonely master br0"]),
            (named("nothing"), ["no interface nothing", "ip tuntap add dev nothing mode tap user"]),
            (bridged("a-name-that-is-far-too-long"), ["no interface", "try:"]),
        ] {
            let error = result.err().unwrap().to_string();
            assert!(hints.iter().all(|hint| error.contains(hint)), "{error}");
        }
    });
    let error = without_rights("br0", Errno::PERM).to_string();
    for hint in
        ["CAP_NET_ADMIN", "mode tap user \"$USER\"", "set tearless0 master br0 up", "--net tap:tearless0"]
    {
        assert!(error.contains(hint), "{error}");
    }
}

#[test]
fn a_frame_that_is_not_what_it_says_is_dropped() {
    let (frame, offload) = datagram([2; 6], 9, &[0; 3000]);
    assert_eq!(encode(&frame, offload).unwrap()[..2], [NEEDS_CHECKSUM, GSO_NONE]);
    let gso = Some(Gso { kind: GsoKind::Tcp4, size: 1448, headers: 54 });
    assert_eq!(encode(&frame, Offload { gso, ..offload }), None, "UDP is no TCP");
    let mut tcp = frame;
    tcp[23] = wire::protocol::TCP;
    let header = encode(&tcp, Offload { gso, ..offload }).unwrap();
    assert_eq!(decode(&header), Offload { gso, ..offload });
    let gso = Some(Gso { kind: GsoKind::Tcp6, size: 1448, headers: 54 });
    assert_eq!(encode(&tcp, Offload { gso, ..offload }), None, "IPv4 is no IPv6");
    tcp.truncate(40);
    let gso = Some(Gso { kind: GsoKind::Tcp4, size: 1448, headers: 54 });
    assert_eq!(encode(&tcp, Offload { gso, ..offload }), None, "cut off");
}
