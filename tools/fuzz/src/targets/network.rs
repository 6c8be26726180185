//! The NAT as a hostile guest sees it: frames of any kind.

use std::{
    collections::VecDeque,
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use tearless_net::{
    Card, Endpoint, Frame, Mac, NatOptions, Offload, Offloads, PartialChecksum, Policy,
    nat::{self, ADDRESSES},
};

use crate::Input;

pub(super) const MAC: Mac = [2, 0, 0, 0, 0, 1];
/// Frames that one input may send.
const FRAMES: usize = 256;

/// A card without memory: what it receives is gone.
pub(super) struct FuzzCard {
    frames: Mutex<VecDeque<Vec<u8>>>,
    offloads: Offloads,
}

impl FuzzCard {
    pub(super) fn new(offloads: Offloads) -> Arc<Self> {
        Arc::new(Self { frames: Mutex::default(), offloads })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Card for FuzzCard {
    fn mac(&self) -> Mac {
        MAC
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn take(&self, into: &mut Vec<u8>) -> Option<Offload> {
        into.clear();
        into.extend(lock(&self.frames).pop_front()?);
        // Checksums count as right, so that the parsers behind them are reached.
        let checksum = Some(PartialChecksum { start: 34, offset: 16 });
        Some(Offload { checksum, gso: None })
    }

    fn give(&self, frame: &Frame<'_>) -> bool {
        assert!(frame.len() >= 14 && frame.len() <= tearless_net::MAX_FRAME, "{} bytes", frame.len());
        true
    }

    fn flush(&self) {}
}

/// Frames from the guest: ARP, IPv4 and IPv6 with every protocol that the NAT knows. Nothing leaves the host: the guest may
/// reach the loopback interface only.
pub fn network(data: &[u8]) {
    let mut input = Input::new(data);
    let Ok(listener) = TcpListener::bind("127.0.0.1:0") else { return };
    let port = listener.local_addr().map_or(1, |address| address.port());
    let policy = Policy { isolated: true, host: true, ..Policy::default() };
    let options = NatOptions { policy, resolv_conf: "/dev/null".into(), ..NatOptions::default() };
    let Ok(nat) = nat::start(options, None) else { return };
    let offloads = if input.flag() { Offloads::ALL } else { Offloads::default() };
    let card = FuzzCard::new(offloads);
    nat.attach(card.clone());
    for _ in 0..FRAMES {
        if input.is_empty() {
            break;
        }
        let frame = frame(&mut input, port);
        lock(&card.frames).push_back(frame);
        nat.kick();
    }
    while !lock(&card.frames).is_empty() {
        thread::yield_now();
    }
}

/// A frame that is right up to a point.
fn frame(input: &mut Input<'_>, port: u16) -> Vec<u8> {
    let mut frame = ADDRESSES.mac.to_vec();
    frame.extend(MAC);
    let kind = input.u8() % 10;
    let (v6, protocol) = match kind {
        0 => {
            let len = usize::from(input.u16() % 2000);
            frame.extend(input.bytes(len));
            return frame;
        }
        1 => {
            frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
            frame.extend(input.bytes(20));
            return frame;
        }
        2..6 => (false, 6),
        6 | 7 => (input.flag(), 17),
        8 => (false, 1),
        _ => (true, 58),
    };
    let payload = payload(input, protocol, port);
    if v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((payload.len() as u16).to_be_bytes());
        frame.extend([protocol, 64]);
        frame.extend(ADDRESSES.gateway6.octets()[..8].iter().chain(&[0, 0, 0, 0, 0, 0, 0, 9]));
        frame.extend(ADDRESSES.gateway6.octets());
    } else {
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(((20 + payload.len()) as u16).to_be_bytes());
        let fragment = if input.one_in(8) { input.u16() } else { 0 };
        frame.extend([0, 1]);
        frame.extend(fragment.to_be_bytes());
        frame.extend([64, protocol, 0, 0]);
        frame.extend(ADDRESSES.guest.octets());
        let to = if input.flag() { ADDRESSES.gateway } else { ADDRESSES.dns };
        frame.extend(to.octets());
    }
    frame.extend(payload);
    if input.one_in(8) {
        let at = input.below(frame.len() as u64) as usize;
        frame[at] = input.u8();
    }
    frame
}

fn payload(input: &mut Input<'_>, protocol: u8, port: u16) -> Vec<u8> {
    let mut payload = Vec::new();
    let len = usize::from(if input.one_in(8) { input.u16() % 9000 } else { u16::from(input.u8()) });
    match protocol {
        6 => {
            payload.extend((1024 + u16::from(input.u8() % 4)).to_be_bytes());
            payload.extend(if input.one_in(8) { [0, 53] } else { port.to_be_bytes() });
            payload.extend((input.value() as u32).to_be_bytes());
            payload.extend((input.value() as u32).to_be_bytes());
            payload.extend([input.pick(&[5, 5, 8, 15, 0]) << 4, input.u8() & 0x3f]);
            payload.extend(input.u16().to_be_bytes());
            payload.extend([0; 4]);
        }
        17 => {
            payload.extend([0x13, 0x88]);
            payload.extend(input.pick(&[53u16, 67, 547, 53, 9]).to_be_bytes());
            let said = if input.one_in(8) { input.u16() } else { 8 + len as u16 };
            payload.extend(said.to_be_bytes());
            payload.extend([0, 0]);
        }
        _ => {}
    }
    payload.extend(input.bytes(len));
    payload
}
