//! The input devices as a driver and a viewer see them.

use tearless_display::{Size, input::Lights};
use tearless_state::Encoded;

use super::{Input, Kind};
use crate::VirtioDevice as _;
use crate::testing::{Driver, readable, writable};

fn select(driver: &Driver, what: u8, sub: u8) -> Vec<u8> {
    let at = driver.places.device;
    driver.write(at, 1, what.into());
    driver.write(at + 1, 1, sub.into());
    (0..driver.read(at + 2, 1)).map(|i| driver.read(at + 8 + i, 1) as u8).collect()
}

#[test]
fn a_driver_learns_what_they_are() {
    let hub = tearless_display::Input::new();
    let driver = Driver::probe(Input::new(Kind::Keyboard, &hub));
    assert_eq!(select(&driver, 1, 0), b"Tearless Keyboard");
    assert_eq!(select(&driver, 3, 0), [6, 0, 0, 0, 1, 0, 1, 0]);
    let keys = select(&driver, 0x11, 1);
    assert_eq!((keys.len(), keys[0], keys[1], keys[31]), (32, 0xfe, 0xff, 1));
    assert_eq!(select(&driver, 0x11, 0x11), [7]);
    assert!(select(&driver, 0x11, 3).is_empty());
    assert!(select(&driver, 0x12, 0).is_empty());

    let driver = Driver::probe(Input::new(Kind::Pointer, &hub));
    assert_eq!(select(&driver, 0x11, 3), [3]);
    assert_eq!(select(&driver, 0x11, 2), [0x40, 1]);
    let buttons = select(&driver, 0x11, 1);
    assert_eq!((buttons.len(), buttons[34]), (35, 0x1f));
    assert_eq!(select(&driver, 0x12, 1)[4..8], [0xff, 0x7f, 0, 0]);
    assert!(select(&driver, 0x12, 2).is_empty());
    assert!(select(&driver, 0xff, 0xff).is_empty());
}

fn event(bytes: &[u8]) -> (u16, u16, i32) {
    let half = |i: usize| u16::from_le_bytes([bytes[i], bytes[i + 1]]);
    (half(0), half(2), i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]))
}

#[test]
fn what_is_typed_reaches_the_driver_in_order() {
    let hub = tearless_display::Input::new();
    let mut driver = Driver::probe(Input::new(Kind::Keyboard, &hub));
    // Nobody is there yet.
    hub.seat().key(16, true);
    let mut queue = driver.start(0, 2).remove(0);
    let at = driver.alloc(64);
    for i in 0..4 {
        queue.offer(&driver, &[writable(at + 8 * i, 8)]);
    }
    let mut seat = hub.seat();
    seat.key(30, true);
    seat.key(30, false);
    let expected = [(1, 30, 1), (0, 0, 0), (1, 30, 0), (0, 0, 0)];
    for (i, expected) in (0..).zip(expected) {
        assert_eq!(queue.wait(&driver).1, 8);
        assert_eq!(event(&driver.bytes(at + 8 * i, 8)), expected);
    }
}

#[test]
fn a_driver_that_takes_nothing_costs_little_and_no_key_stays_stuck() {
    let hub = tearless_display::Input::new();
    let mut driver = Driver::probe(Input::new(Kind::Pointer, &hub));
    let mut queue = driver.start(0, 2).remove(0);
    let mut seat = hub.seat();
    seat.point((0, 0), Size::new(100, 100), 1);
    for i in 0..100_000 {
        seat.point((i % 100, 0), Size::new(100, 100), 1);
    }
    drop(seat);
    let at = driver.alloc(8);
    let mut seen = Vec::new();
    while seen.last() != Some(&(1, 0x110, 0)) {
        queue.offer(&driver, &[writable(at, 8)]);
        queue.wait(&driver);
        seen.push(event(&driver.bytes(at, 8)));
        assert!(seen.len() <= 1100);
    }
    assert_eq!(seen[2], (1, 0x110, 1));
}

#[test]
fn lights_are_seen_and_what_is_none_is_taken() {
    let hub = tearless_display::Input::new();
    let keyboard = Input::new(Kind::Keyboard, &hub);
    let mut driver = Driver::probe(keyboard.clone());
    assert_eq!(hub.lights(), None);
    let mut queue = driver.start(0, 2).remove(1);
    assert_eq!(hub.lights(), Some(Lights::default()));
    let mut switch = |event: &[u8]| {
        let at = driver.alloc_with(event);
        queue.offer(&driver, &[readable(at, event.len())]);
        assert_eq!(queue.wait(&driver).1, 0);
        hub.lights().unwrap().bits()
    };
    assert_eq!(switch(&[0x11, 0, 1, 0, 1, 0, 0, 0]), 0b010, "caps lock");
    assert_eq!(switch(&[0x11, 0, 2, 0, 0, 0, 0, 0x80]), 0b110, "scroll lock");
    for nothing in [
        &[0x11, 0, 3, 0, 1, 0, 0, 0][..],
        &[0x11, 0, 0xff, 0xff, 1, 0, 0, 0],
        &[0x12, 0, 0, 0, 1, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 0, 0],
        &[0x11, 0, 0, 0, 1],
    ] {
        assert_eq!(switch(nothing), 0b110, "{nothing:?}");
    }
    assert_eq!(switch(&[0x11, 0, 1, 0, 0, 0, 0, 0]), 0b100);

    let state = keyboard.save().unwrap().unwrap();
    keyboard.reset();
    assert_eq!(hub.lights(), None);
    let hub = tearless_display::Input::new();
    let keyboard = Input::new(Kind::Keyboard, &hub);
    let mut driver = Driver::probe(keyboard.clone());
    let _queues = driver.start(0, 2);
    keyboard.restore(Some(&state)).unwrap();
    assert_eq!(hub.lights(), Some(Lights::from_bits(0b100)));
}

#[test]
fn keys_that_were_held_when_a_vm_was_saved_are_let_go() {
    let hub = tearless_display::Input::new();
    let keyboard = Input::new(Kind::Keyboard, &hub);
    let mut driver = Driver::probe(keyboard.clone());
    let _queues = driver.start(0, 2);
    hub.seat().key(16, true);
    let mut seat = hub.seat();
    seat.key(30, true);
    let state = keyboard.save().unwrap().unwrap();

    let hub = tearless_display::Input::new();
    let keyboard = Input::new(Kind::Keyboard, &hub);
    let mut driver = Driver::probe(keyboard.clone());
    let mut queue = driver.start(0, 2).remove(0);
    keyboard.restore(Some(&state)).unwrap();
    let mut expected = vec![(1, 16, 1), (0, 0, 0), (1, 16, 0), (0, 0, 0)];
    expected.extend([(1, 30, 1), (0, 0, 0), (1, 30, 0), (0, 0, 0)]);
    let at = driver.alloc(8);
    for expected in expected {
        queue.offer(&driver, &[writable(at, 8)]);
        queue.wait(&driver);
        assert_eq!(event(&driver.bytes(at, 8)), expected);
    }
    let many = format!(r#"{{"selected":[0,0],"events":{{"waiting":[],"down":{:?}}}}}"#, vec![1; 5000]);
    let state = Encoded { version: 1, state: serde_json::from_str(&many).unwrap() };
    assert!(keyboard.restore(Some(&state)).is_err());
}
