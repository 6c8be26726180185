//! A named network as another member sees it whose process a guest has taken over: any bytes on its stream.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
};

use tearless_net::{Endpoint, Mac, Membership, NatOptions, Offloads, Policy, nat};

use super::network::{FuzzCard, MAC};
use crate::Input;

const PEER: Mac = [2, 0, 0, 0, 0, 2];
/// The last byte of the peer's address.
const HOST: u8 = 200;
/// Messages that one input may send.
const MESSAGES: usize = 64;

/// The stream of a member: its greeting, then frames with what is left to do for them, for a guest that takes all or nothing
/// unfinished.
pub fn member(data: &[u8]) {
    let mut input = Input::new(data);
    let Ok(folder) = tempfile::tempdir() else { return };
    let Ok(membership) = Membership::join(folder.path(), "fuzzed", MAC) else { return };
    let policy = Policy { isolated: true, ..Policy::default() };
    let options = NatOptions { policy, resolv_conf: "/dev/null".into(), ..NatOptions::default() };
    let Ok(nat) = nat::start(options, Some(membership)) else { return };
    let offloads = if input.flag() { Offloads::ALL } else { Offloads::default() };
    nat.attach(FuzzCard::new(offloads));
    let socket = std::fs::read_dir(folder.path()).ok().and_then(|mut entries| {
        entries.find_map(|entry| Some(entry.ok()?.path()).filter(|path| !path.ends_with("lock")))
    });
    let Some(mut stream) = socket.and_then(|path| UnixStream::connect(path).ok()) else { return };
    let mut bytes = greeting(&mut input);
    for _ in 0..MESSAGES {
        if input.is_empty() {
            break;
        }
        let message = message(&mut input);
        let len = if input.one_in(16) { input.value() as u32 } else { message.len() as u32 };
        bytes.extend(len.to_be_bytes());
        bytes.extend(message);
    }
    // It is sent away as soon as it makes no sense; else it has been heard to the end when its stream is closed.
    let said = stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    if said.is_ok() {
        let mut rest = Vec::new();
        _ = stream.read_to_end(&mut rest);
    }
}

fn greeting(input: &mut Input<'_>) -> Vec<u8> {
    let name = if input.one_in(4) { usize::from(input.u8() % 80) } else { 3 };
    let mut hello = b"tearnet1".to_vec();
    hello.extend(PEER);
    hello.push(HOST);
    hello.extend(input.bytes(name));
    if input.one_in(16) {
        let at = input.below(hello.len() as u64) as usize;
        hello[at] = input.u8();
    }
    [(hello.len() as u32).to_be_bytes().as_slice(), &hello].concat()
}

fn message(input: &mut Input<'_>) -> Vec<u8> {
    let mut message = vec![input.pick(&[0, 4, 6, 4, 9]), input.pick(&[1, 1, 0])];
    let words = if input.one_in(4) {
        [input.u16(), input.u16(), input.u16(), input.u16()]
    } else {
        [54, 600, 34, 16]
    };
    message.extend(words.into_iter().flat_map(u16::to_be_bytes));
    message.extend(if input.one_in(4) { [0xff; 6] } else { MAC });
    message.extend(PEER);
    let len = usize::from(if input.one_in(4) { input.u16() } else { u16::from(input.u8()) });
    let protocol = input.pick(&[6, 6, 17, 58, 0]);
    match input.u8() % 4 {
        0 => message.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 2, HOST]),
        1 => {
            message.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            message.extend((len as u16).to_be_bytes());
            message.extend([protocol, 64, 0xfe, 0x80]);
            message.extend([0; 13]);
            message.extend([input.u8() % 4, 0xff, 2]);
            message.extend([0; 13]);
            message.push(1);
        }
        _ => {
            message.extend([8, 0, 0x45, 0]);
            message.extend((20u16.saturating_add(len as u16)).to_be_bytes());
            message.extend([0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 2, HOST, 10, 0, 2, 15]);
        }
    }
    if protocol == 6 {
        message.extend([
            0,
            1,
            0,
            2,
            0,
            0,
            0,
            9,
            0,
            0,
            0,
            9,
            input.pick(&[5, 5, 8, 15, 0]) << 4,
            24,
            1,
            0,
            0,
            0,
            0,
            0,
        ]);
    }
    let payload = input.bytes(len);
    message.extend(payload);
    message.resize(message.len() + len - payload.len(), 0);
    if input.one_in(8) {
        let at = input.below(message.len() as u64) as usize;
        message[at] = input.u8();
    }
    message
}
