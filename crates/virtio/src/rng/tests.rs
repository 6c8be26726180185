//! The entropy device as a driver sees it.

use super::Rng;
use crate::testing::{Driver, readable, writable};

#[test]
fn fills_buffers_up_to_its_limit() {
    let mut driver = Driver::probe(Rng::new());
    let mut queue = driver.start(0, 1).remove(0);
    let at = driver.alloc(8192);
    queue.offer(&driver, &[writable(at, 32), writable(at + 100, 32)]);
    assert_eq!(queue.wait(&driver).1, 64);
    let (first, second) = (driver.bytes(at, 32), driver.bytes(at + 100, 32));
    assert_ne!(first, [0; 32]);
    assert_ne!(first, second);
    assert_eq!(driver.bytes(at + 32, 68), [0; 68]);
    assert_eq!(driver.bytes(at + 132, 8), [0; 8]);

    queue.offer(&driver, &[writable(at, 8192)]);
    assert_eq!(queue.wait(&driver).1, 4096);
    assert_eq!(driver.bytes(at + 4096, 16), [0; 16]);
}

#[test]
fn a_request_without_room_gets_nothing() {
    let mut driver = Driver::probe(Rng::new());
    let mut queue = driver.start(0, 1).remove(0);
    let at = driver.alloc(16);
    queue.offer(&driver, &[readable(at, 16)]);
    assert_eq!(queue.wait(&driver).1, 0);
    assert_eq!(driver.bytes(at, 16), [0; 16]);
    assert!(!driver.broken());
}
