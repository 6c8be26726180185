use std::fs;

use tearless_share::{Limits, Passthrough, Share, ShareOptions, opcode};

use super::*;
use crate::{
    VirtioDevice,
    testing::{Driver, Queue, readable, writable},
};

fn request(code: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let mut request = (40 + body.len() as u32).to_le_bytes().to_vec();
    request.extend(code.to_le_bytes());
    request.extend(77u64.to_le_bytes());
    request.extend(node.to_le_bytes());
    request.extend([0; 16]);
    request.extend(body);
    request
}

fn ask(driver: &mut Driver, queue: &mut Queue, request: &[u8], room: usize) -> Vec<u8> {
    let at = driver.alloc_with(request);
    let reply = driver.alloc(room.max(1) as u64);
    // In two pieces, as Linux does it.
    let head = [readable(at, 40), readable(at + 40, request.len() - 40)];
    let tail = [writable(reply, 16), writable(reply + 16, room - 16)];
    let buffers: Vec<_> = head.into_iter().chain(tail).filter(|buffer| buffer.len > 0).collect();
    queue.offer(driver, &buffers);
    let (_, len) = queue.wait(driver);
    driver.bytes(reply, len as usize)
}

fn init() -> Vec<u8> {
    request(opcode::INIT, 0, &[7u32, 38, 0, 0].map(u32::to_le_bytes).concat())
}

fn device(folder: &tempfile::TempDir) -> std::sync::Arc<Fs<Passthrough>> {
    let options = ShareOptions { read_only: false, guest_owner: 0 };
    let share = Share::open(folder.path(), options).unwrap();
    let files = Passthrough::new(share, Limits::default()).unwrap();
    Fs::new(files, &FsOptions { tag: "work".into(), queues: 2 })
}

#[test]
fn the_configuration_names_the_tag_and_the_queues() {
    let folder = tempfile::tempdir().unwrap();
    let driver = Driver::probe(device(&folder));
    assert_eq!(driver.device_config(0, 4), u64::from(u32::from_le_bytes(*b"work")));
    assert_eq!((driver.device_config(4, 4), driver.device_config(36, 4)), (0, 2));
    let tag = "x".repeat(40);
    let share = Share::open(folder.path(), ShareOptions { read_only: true, guest_owner: 0 }).unwrap();
    let long = Fs::new(Passthrough::new(share, Limits::default()).unwrap(), &FsOptions { tag, queues: 99 });
    let mut config = [0; 44];
    long.read_config(0, &mut config);
    assert_eq!((config[35], config[36], long.queues().len()), (b'x', 4, 5));
}

#[test]
fn requests_are_answered_on_every_queue() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "content").unwrap();
    let mut driver = Driver::probe(device(&folder));
    let mut queues = driver.start(0, 3);
    let reply = ask(&mut driver, &mut queues[1], &init(), 80);
    assert_eq!((reply.len(), &reply[..4], &reply[8..16]), (80, &[80, 0, 0, 0][..], &77u64.to_le_bytes()[..]));
    for index in [1, 2, 1, 2] {
        let reply = ask(&mut driver, &mut queues[index], &request(opcode::LOOKUP, 1, b"a\0"), 144);
        assert_eq!(reply.len(), 144);
    }
    // What is forgotten gets no reply, but its buffer back.
    let at = driver.alloc_with(&request(opcode::FORGET, 2, &4u64.to_le_bytes()));
    queues[0].offer(&driver, &[readable(at, 48)]);
    assert_eq!(queues[0].wait(&driver).1, 0);
    let reply = ask(&mut driver, &mut queues[1], &request(opcode::GETATTR, 2, &[0; 16]), 120);
    assert_eq!(reply[4..8], (-116i32).to_le_bytes());
}

#[test]
fn a_reset_forgets_all() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "content").unwrap();
    let mut driver = Driver::probe(device(&folder));
    let mut queues = driver.start(0, 2);
    ask(&mut driver, &mut queues[1], &init(), 80);
    ask(&mut driver, &mut queues[1], &request(opcode::LOOKUP, 1, b"a\0"), 144);
    driver.rewind();
    let mut queues = driver.start(0, 2);
    let reply = ask(&mut driver, &mut queues[1], &request(opcode::LOOKUP, 1, b"a\0"), 144);
    assert_eq!(reply[4..8], (-5i32).to_le_bytes());
    ask(&mut driver, &mut queues[1], &init(), 80);
    let reply = ask(&mut driver, &mut queues[1], &request(opcode::LOOKUP, 1, b"a\0"), 144);
    assert_eq!(reply.len(), 144);
}

#[test]
fn a_request_that_cannot_be_breaks_the_ring() {
    let folder = tempfile::tempdir().unwrap();
    let mut driver = Driver::probe(device(&folder));
    let mut queues = driver.start(0, 2);
    let at = driver.alloc(64);
    queues[1].offer(&driver, &[readable(at, 2 << 20)]);
    crate::testing::eventually("a request for a reset", || driver.broken());
}

#[test]
fn files_are_the_same_for_whoever_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "content").unwrap();
    let mut driver = Driver::probe(device(&folder));
    let mut queues = driver.start(0, 3);
    ask(&mut driver, &mut queues[1], &init(), 80);
    ask(&mut driver, &mut queues[1], &request(opcode::LOOKUP, 1, b"a\0"), 144);
    let mut driver = driver.go_on(device(&folder), driver.save()).unwrap();
    let reply = ask(&mut driver, &mut queues[2], &request(opcode::GETATTR, 2, &[0; 16]), 120);
    assert_eq!(reply[4..8], [0; 4]);
    assert_eq!(reply[40..48], 7u64.to_le_bytes(), "its size");
}
