use std::sync::{
    atomic::{AtomicBool, AtomicUsize, Ordering},
    mpsc,
};

use tearless_bus::IrqSink;

use super::*;

#[derive(Default)]
struct Line(AtomicBool);

impl IrqSink for Line {
    fn set_level(&self, _: u32, level: bool) {
        self.0.store(level, Ordering::SeqCst);
    }
}

struct Port {
    uart: Arc<Pl011>,
    line: Arc<Line>,
    output: mpsc::Receiver<Vec<u8>>,
}

fn port() -> Port {
    let line = Arc::new(Line::default());
    let (sender, output) = mpsc::channel();
    let sink = move |bytes: &[u8]| sender.send(bytes.to_vec()).unwrap();
    let uart = Pl011::new(Box::new(sink), IrqLine::new(Arc::clone(&line) as _, 1));
    Port { uart, line, output }
}

impl Port {
    fn read(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.uart.read(offset, &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    fn write(&self, offset: u64, value: u32) {
        self.uart.write(offset, &value.to_le_bytes()).unwrap();
    }

    fn interrupt(&self) -> bool {
        self.line.0.load(Ordering::SeqCst)
    }

    fn output(&self) -> Vec<u8> {
        self.output.try_iter().flatten().collect()
    }
}

#[test]
fn transmits_before_it_is_enabled_as_an_early_console_does() {
    let port = port();
    for byte in b"early" {
        assert_eq!(port.read(spec::FR) & (1 << 5 | 1 << 3), 0, "room, and not busy");
        port.uart.write(spec::DR, &[*byte]).unwrap();
    }
    assert_eq!(port.output(), b"early");
}

#[test]
fn interrupts_for_room_until_cleared() {
    let port = port();
    port.write(spec::IMSC, spec::INT_TX);
    assert!(!port.interrupt());
    port.write(spec::DR, 0x141);
    assert!(port.interrupt());
    assert_eq!(port.read(spec::MIS), spec::INT_TX);
    port.write(spec::ICR, spec::INT_TX);
    assert!(!port.interrupt());
    assert_eq!(port.output(), b"A");
}

#[test]
fn receives_with_an_interrupt_from_the_first_character() {
    let port = port();
    port.write(spec::LCR_H, spec::LCR_H_FEN | 0x60);
    port.write(spec::IMSC, spec::INT_RX);
    assert_eq!(port.uart.push(b"hi"), 2);
    assert!(port.interrupt());
    assert_eq!(port.read(spec::DR), u32::from(b'h'));
    assert!(port.interrupt());
    assert_eq!(port.read(spec::DR), u32::from(b'i'));
    assert!(!port.interrupt());
    assert_eq!(port.read(spec::FR) & spec::FR_RXFE, spec::FR_RXFE);
    assert_eq!(port.read(spec::DR), 0, "an empty FIFO reads as zero");
}

#[test]
fn refuses_what_does_not_fit_and_tells_when_it_does() {
    let port = port();
    let told = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&told);
    port.uart.on_space(Box::new(move || _ = counter.fetch_add(1, Ordering::SeqCst)));
    port.write(spec::LCR_H, spec::LCR_H_FEN);
    assert_eq!(port.uart.push(&[7; 40]), 32);
    assert_eq!(port.read(spec::FR) & spec::FR_RXFF, spec::FR_RXFF);
    assert_eq!(port.uart.push(&[8]), 0);
    (0..15).for_each(|_| _ = port.read(spec::DR));
    assert_eq!(told.load(Ordering::SeqCst), 0);
    port.read(spec::DR);
    assert_eq!(told.load(Ordering::SeqCst), 1);
    (0..16).for_each(|_| _ = port.read(spec::DR));
    assert_eq!(told.load(Ordering::SeqCst), 1, "told once");
}

#[test]
fn without_fifos_one_character_fits_and_a_callback_may_push() {
    let port = port();
    assert_eq!(port.uart.push(b"ab"), 1);
    let weak = Arc::downgrade(&port.uart);
    port.uart.on_space(Box::new(move || _ = weak.upgrade().map(|uart| uart.push(b"b"))));
    assert_eq!(port.read(spec::DR), u32::from(b'a'));
    assert_eq!(port.read(spec::DR), u32::from(b'b'));
}

#[test]
fn loops_back_and_reports_overrun() {
    let port = port();
    port.write(spec::CR, spec::CR_LBE);
    port.write(spec::DR, 0x31);
    port.write(spec::DR, 0x32);
    assert_eq!(port.read(spec::RIS) & (spec::INT_RX | spec::INT_OE), spec::INT_RX | spec::INT_OE);
    assert_eq!(port.read(spec::DR), spec::DR_OE | 0x31);
    assert_eq!(port.read(spec::RSR), spec::RSR_OE);
    port.write(spec::RSR, 0);
    assert_eq!(port.read(spec::RSR), 0);
    assert_eq!(port.output(), b"");
}

#[test]
fn a_blocked_sink_blocks_neither_input_nor_flags() {
    let (entered_sender, entered) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let sink = move |_: &[u8]| {
        entered_sender.send(()).unwrap();
        held.recv().unwrap();
    };
    let uart = Pl011::new(Box::new(sink), IrqLine::detached());
    std::thread::scope(|scope| {
        scope.spawn(|| uart.write(spec::DR, b"x"));
        entered.recv().unwrap();
        assert_eq!(uart.push(b"y"), 1);
        let mut data = [0];
        uart.read(spec::FR, &mut data).unwrap();
        uart.read(spec::DR, &mut data).unwrap();
        assert_eq!(data, *b"y");
        release.send(()).unwrap();
    });
}

#[test]
fn identifies_itself_and_keeps_what_is_written() {
    let port = port();
    let ids: Vec<u32> = (0..8).map(|n| port.read(0xfe0 + 4 * n)).collect();
    assert_eq!(ids, [0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
    assert_eq!((port.read(spec::CR), port.read(spec::IFLS)), (0x300, 0x12));
    for (offset, mask) in [(spec::IBRD, 0xffff), (spec::FBRD, 0x3f), (spec::ILPR, 0xff), (spec::DMACR, 7)] {
        port.write(offset, u32::MAX);
        assert_eq!(port.read(offset), mask);
    }
}

#[test]
fn refuses_odd_accesses() {
    let port = port();
    assert_eq!(port.uart.read(spec::FR, &mut [0; 8]), Err(AccessError::Width));
    assert_eq!(port.uart.write(spec::FR + 1, &[0]), Err(AccessError::Width));
    assert_eq!(port.uart.read(0x4c, &mut [0; 4]), Err(AccessError::NoRegister));
    assert_eq!(port.uart.write(0xffc, &[0; 4]), Ok(()), "identification is read-only");
}

#[test]
fn goes_on_with_what_was_received_and_written() {
    let first = port();
    first.write(spec::LCR_H, spec::LCR_H_FEN);
    first.write(spec::IBRD, 13);
    first.write(spec::IMSC, spec::INT_RX);
    assert_eq!(first.uart.push(b"abc"), 3);
    let state = first.uart.save().unwrap();

    let other = port();
    other.uart.restore(&state).unwrap();
    assert!(!other.line.0.load(Ordering::SeqCst));
    other.uart.drive();
    assert!(other.line.0.load(Ordering::SeqCst), "there is input");
    assert_eq!(other.uart.save().unwrap(), state);
    assert_eq!((other.read(spec::IBRD), other.read(spec::DR), other.read(spec::DR)), (13, 97, 98));

    let mut long = state.clone();
    long.state["received"] = vec![1; 33].into();
    assert!(other.uart.restore(&long).is_err());
    assert!(other.uart.restore(&Encoded { version: 2, ..state }).is_err());
}
