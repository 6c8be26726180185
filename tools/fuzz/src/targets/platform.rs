//! The small devices: serial port, clock, GPIO.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tearless_bus::{CharInput, IrqLine};
use tearless_devices::{pl011::Pl011, pl031::Pl031, pl061::Pl061};

use crate::Input;

/// Bytes of each device's registers.
const SIZE: u64 = 0x1000;

/// The serial port, with input from the host now and then.
pub fn pl011(data: &[u8]) {
    let mut input = Input::new(data);
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let sink = move |bytes: &[u8]| _ = counter.fetch_add(bytes.len(), Ordering::Relaxed);
    let uart = Pl011::new(Box::new(sink), IrqLine::detached());
    let mut accesses = 0;
    while !input.is_empty() {
        match input.u8() % 16 {
            0 | 1 => {
                let len = input.u8().into();
                let bytes = input.bytes(len);
                assert!(uart.push(bytes) <= bytes.len());
            }
            3 => {
                let again = Arc::downgrade(&uart);
                uart.on_space(Box::new(move || {
                    if let Some(uart) = again.upgrade() {
                        uart.push(b"more");
                    }
                }));
            }
            _ => {
                accesses += 1;
                input.access(&*uart, SIZE);
            }
        }
    }
    assert!(sent.load(Ordering::Relaxed) <= accesses, "a write transmits one character at most");
}

/// The clock.
pub fn pl031(data: &[u8]) {
    let mut input = Input::new(data);
    let rtc = Pl031::new(IrqLine::detached());
    while !input.is_empty() {
        input.access(&rtc, SIZE);
    }
}

/// GPIO, with pins that the host moves.
pub fn pl061(data: &[u8]) {
    let mut input = Input::new(data);
    let gpio = Pl061::new(IrqLine::detached());
    while !input.is_empty() {
        match input.u8() % 16 {
            0 | 1 => gpio.set_input(input.u8(), input.flag()),
            _ => input.access(&*gpio, SIZE),
        }
    }
}
