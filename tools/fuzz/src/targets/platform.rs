//! The small devices: serial port, clock, GPIO, flash, fw_cfg.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tearless_bus::{CharInput, IrqLine, MmioDevice};
use tearless_devices::{
    fw_cfg::{FwCfg, Items, Kernel},
    pflash::{self, Flash, Pflash},
    pl011::Pl011,
    pl031::Pl031,
    pl061::Pl061,
};
use tearless_memory::{Gpa, GuestMemory};

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

/// NOR flash: commands at the places that they mean, and anything else anywhere.
pub fn pflash(data: &[u8]) {
    use pflash::spec;
    const COMMANDS: [u8; 12] = [
        spec::READ_ARRAY,
        spec::PROGRAM,
        spec::PROGRAM_OLD,
        spec::ERASE,
        spec::PROGRAM_BUFFER,
        spec::LOCK,
        spec::CONFIRM,
        spec::CLEAR_STATUS,
        spec::READ_STATUS,
        spec::READ_ID,
        spec::QUERY,
        0,
    ];
    let mut input = Input::new(data);
    let flash = Pflash::new(Arc::new(Flash::volatile()));
    while !input.is_empty() {
        if input.flag() {
            // A few blocks only: what is erased takes memory.
            let offset = u64::from(input.u16() & 0x3fff) * 4;
            let command = u32::from(input.pick(&COMMANDS)) * 0x1_0001;
            assert_eq!(flash.write(offset, &command.to_le_bytes()), Ok(()));
        } else {
            input.access(&flash, 4 * spec::BLOCK as u64);
        }
    }
    assert!(flash.save().is_err(), "a flash without a file has no state");
}

/// What firmware is told, with transfers described in memory that the guest writes.
pub fn fw_cfg(data: &[u8]) {
    use tearless_devices::fw_cfg::spec;
    const RAM: Gpa = Gpa(0x4000_0000);
    const PAGE: u64 = 0x1000;
    let mut input = Input::new(data);
    let Ok(memory) = GuestMemory::new(&[RAM..RAM + 4 * PAGE]) else { return };
    let mut items = Items::new(4);
    items.set_menu_wait(1);
    items.add_kernel(&Kernel { program: [7; 100].into(), initrd: [8; 10].into(), cmdline: "x".into() });
    let device = FwCfg::new(items, memory.clone());
    while !input.is_empty() {
        if input.flag() {
            let at = RAM + u64::from(input.u16() & 0x3fff);
            let address = if input.flag() { RAM.0 + u64::from(input.u16()) } else { input.value() };
            let number =
                u128::from(input.u32()) << 96 | u128::from(input.value() as u32) << 64 | u128::from(address);
            _ = memory.write(at, &number.to_be_bytes());
            _ = device.write(spec::DMA, &at.0.to_be_bytes());
        } else {
            input.access(&device, spec::SIZE + 8);
        }
    }
}
