//! A console as a driver and the host see it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use tearless_bus::CharInput;

use super::{
    Console, ConsoleError, ConsolePort,
    spec::{Control, F_MULTIPORT, F_SIZE, event},
};
use crate::{
    lock,
    testing::{Driver, Queue, eventually, readable, writable},
};

type Output = Arc<Mutex<Vec<u8>>>;

fn port(name: &str, is_console: bool) -> (ConsolePort, Output, Arc<Mutex<Vec<bool>>>) {
    let output = Output::default();
    let opens = Arc::new(Mutex::new(Vec::new()));
    let (to, seen) = (output.clone(), opens.clone());
    let port = ConsolePort {
        name: name.to_owned(),
        is_console,
        sink: Box::new(move |bytes: &[u8]| lock(&to).extend(bytes)),
        on_guest_open: Some(Box::new(move |open| lock(&seen).push(open))),
    };
    (port, output, opens)
}

const CONTROL_BUFFER: usize = 96;

/// A driver with both control queues going and a supply of control buffers.
struct Guest {
    driver: Driver,
    queues: Vec<Queue>,
    control: Vec<tearless_memory::Gpa>,
}

impl Guest {
    fn new(console: &Arc<Console>, ports: u16) -> Self {
        let mut driver = Driver::probe(console.clone());
        let offered = driver.offered() & (F_MULTIPORT | F_SIZE);
        let queues = driver.start(offered, 2 + 2 * ports);
        let mut guest = Self { driver, queues, control: Vec::new() };
        for _ in 0..8 {
            let at = guest.driver.alloc(CONTROL_BUFFER as u64);
            guest.control.push(at);
            guest.offer_control(at);
        }
        guest
    }

    fn offer_control(&mut self, at: tearless_memory::Gpa) {
        let head = self.queues[2].offer(&self.driver, &[writable(at, CONTROL_BUFFER)]);
        self.control.resize(16, at);
        self.control[usize::from(head)] = at;
    }

    fn say(&mut self, id: u32, event: u16, value: u16) {
        let at = self.driver.alloc_with(&Control { id, event, value }.bytes());
        self.queues[3].offer(&self.driver, &[readable(at, Control::SIZE)]);
        self.queues[3].wait(&self.driver);
    }

    fn hear(&mut self) -> (Control, Vec<u8>) {
        let (head, len) = self.queues[2].wait(&self.driver);
        let at = self.control[usize::from(head)];
        let mut bytes = self.driver.bytes(at, len as usize);
        let rest = bytes.split_off(Control::SIZE);
        self.offer_control(at);
        (Control::from_bytes(bytes.try_into().unwrap()), rest)
    }

    /// Port 0 ready and open, as Linux does it.
    fn bring_up(&mut self, ports: u32) {
        self.say(u32::MAX, event::DEVICE_READY, 1);
        for id in 0..ports {
            assert_eq!(self.hear().0, Control { id, event: event::PORT_ADD, value: 1 });
        }
        for id in 0..ports {
            self.say(id, event::PORT_READY, 1);
            while self.hear().0.event != event::PORT_OPEN {}
        }
    }

    /// Offers a buffer on port 0's receive queue, or a stream's, and returns what comes.
    fn receive(&mut self, queue: usize, len: usize) -> Vec<u8> {
        let at = self.driver.alloc(len as u64);
        self.queues[queue].offer(&self.driver, &[writable(at, len)]);
        let (_, len) = self.queues[queue].wait(&self.driver);
        self.driver.bytes(at, len as usize)
    }

    fn transmit(&mut self, queue: usize, bytes: &[u8]) {
        let at = self.driver.alloc_with(bytes);
        self.queues[queue].offer(&self.driver, &[readable(at, bytes.len())]);
    }
}

#[test]
fn handshake_announces_ports_names_and_sizes() {
    let (zero, ..) = port("", true);
    let (one, ..) = port("org.tearless.stdin", false);
    let console = Console::new(vec![zero, one]).unwrap();
    console.resize(132, 43);
    let mut guest = Guest::new(&console, 2);
    assert_eq!(guest.driver.common(0x12, 2), 6);
    assert_eq!(guest.driver.device_config(0, 8), 132 | 43 << 16 | 2 << 32);

    guest.say(0, event::DEVICE_READY, 1);
    for id in 0..2 {
        assert_eq!(guest.hear(), (Control { id, event: event::PORT_ADD, value: 1 }, vec![]));
    }
    guest.say(0, event::PORT_READY, 1);
    let (told, _) = guest.hear();
    assert_eq!(told, Control { id: 0, event: event::CONSOLE_PORT, value: 1 });
    let (told, size) = guest.hear();
    assert_eq!((told.event, size), (event::RESIZE, vec![132, 0, 43, 0]));
    assert_eq!(guest.hear().0, Control { id: 0, event: event::PORT_OPEN, value: 1 });
    guest.say(1, event::PORT_READY, 1);
    let (told, name) = guest.hear();
    assert_eq!((told.id, told.event, name.as_slice()), (1, event::PORT_NAME, &b"org.tearless.stdin"[..]));
    assert_eq!(guest.hear().0, Control { id: 1, event: event::PORT_OPEN, value: 1 });

    let generation = guest.driver.common(0x15, 1);
    console.resize(80, 25);
    let (told, size) = guest.hear();
    assert_eq!((told.id, told.event, size), (0, event::RESIZE, vec![80, 0, 25, 0]));
    assert_ne!(guest.driver.common(0x15, 1), generation);
    assert!(guest.driver.interrupted(3), "control messages interrupt");
    console.resize(80, 25);
    guest.say(9, event::PORT_READY, 1);
    guest.say(1, 77, 1);
    assert!(guest.queues[2].used(&guest.driver).is_none(), "nothing new, nothing said");
}

#[test]
fn output_arrives_in_order_and_input_waits_for_the_guest() {
    let (zero, output, opens) = port("", true);
    let console = Console::new(vec![zero, port("stream", false).0]).unwrap();
    let input = console.port(0).unwrap();
    assert_eq!(input.push(b"early "), 6);
    let mut guest = Guest::new(&console, 2);
    guest.bring_up(2);
    for part in ["one ", "two ", "three"] {
        guest.transmit(1, part.as_bytes());
    }
    for _ in 0..3 {
        guest.queues[1].wait(&guest.driver);
    }
    assert_eq!(*lock(&output), b"one two three");
    assert!(console.drain(Duration::from_secs(20)));

    let at = guest.driver.alloc(4);
    guest.queues[0].offer(&guest.driver, &[writable(at, 4)]);
    guest.say(0, event::PORT_READY, 1);
    assert!(guest.queues[0].used(&guest.driver).is_none(), "the guest has not opened the port");
    guest.say(0, event::PORT_OPEN, 1);
    assert_eq!(guest.queues[0].wait(&guest.driver).1, 4);
    assert_eq!(guest.driver.bytes(at, 4), b"earl");
    assert_eq!(input.push(b"late"), 4);
    assert_eq!(guest.receive(0, 64), b"y late");
    assert!(guest.driver.interrupted(1));
    eventually("the observer ran", || *lock(&opens) == [true]);
    guest.say(0, event::PORT_OPEN, 0);
    eventually("the observer ran", || *lock(&opens) == [true, false]);
}

#[test]
fn a_full_port_refuses_and_calls_back_and_loses_nothing() {
    let (zero, ..) = port("", true);
    let console = Console::new(vec![zero, port("stream", false).0]).unwrap();
    let input = console.port(0).unwrap();
    let data: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    let sent = Arc::new(AtomicUsize::new(0));
    let (more, from, counter) = (Arc::downgrade(&input), data.clone(), sent.clone());
    input.on_space(Box::new(move || {
        if let Some(input) = more.upgrade() {
            let start = counter.load(Ordering::Acquire);
            counter.fetch_add(input.push(&from[start..]), Ordering::AcqRel);
        }
    }));
    sent.store(input.push(&data), Ordering::Release);
    assert_eq!(sent.load(Ordering::Acquire), 64 << 10);
    assert_eq!(input.push(b"x"), 0);

    let mut guest = Guest::new(&console, 2);
    guest.bring_up(2);
    guest.say(0, event::PORT_OPEN, 1);
    let mut received = Vec::new();
    while received.len() < data.len() {
        received.extend(guest.receive(0, 9000));
    }
    assert!(received == data);
}

#[test]
fn the_end_of_a_stream_comes_after_its_data() {
    let (zero, ..) = port("", true);
    let (one, ..) = port("stdin", false);
    let console = Console::new(vec![zero, one]).unwrap();
    let stream = console.port_named("stdin").unwrap();
    stream.push(b"all of it");
    stream.close();
    assert_eq!(stream.push(b"more"), 0);
    let mut guest = Guest::new(&console, 2);
    guest.bring_up(2);
    guest.say(1, event::PORT_OPEN, 1);
    assert!(guest.queues[2].used(&guest.driver).is_none(), "not before the data");
    assert_eq!(guest.receive(4, 4), b"all ");
    assert!(guest.queues[2].used(&guest.driver).is_none(), "not before all data");
    assert_eq!(guest.receive(4, 64), b"of it");
    assert_eq!(guest.hear().0, Control { id: 1, event: event::PORT_OPEN, value: 0 });
    stream.open();
    assert_eq!(guest.hear().0, Control { id: 1, event: event::PORT_OPEN, value: 1 });
    eventually("the port takes data again", || stream.push(b"again") == 5);
    assert_eq!(guest.receive(4, 64), b"again");
}

#[test]
fn a_blocked_sink_holds_up_its_port_only_and_a_reset_does_not_wait_for_it() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let (zero, output, _) = port("", true);
    let slow = ConsolePort {
        name: "slow".to_owned(),
        is_console: false,
        sink: Box::new(move |_: &[u8]| lock(&gate).recv().unwrap_or_default()),
        on_guest_open: None,
    };
    let console = Console::new(vec![zero, slow]).unwrap();
    let mut guest = Guest::new(&console, 2);
    guest.bring_up(2);
    guest.transmit(5, b"stuck");
    guest.transmit(1, b"flows");
    guest.queues[1].wait(&guest.driver);
    assert_eq!(*lock(&output), b"flows");
    assert!(guest.queues[5].used(&guest.driver).is_none());
    assert!(!console.drain(Duration::from_millis(1)));
    guest.driver.set_common(0x14, 1, 0);
    assert_eq!(guest.driver.status(), 0);
    release.send(()).unwrap();
    assert!(console.drain(Duration::from_secs(20)));
    assert!(guest.queues[5].used(&guest.driver).is_none(), "the old ring is left alone");
    drop(release);
    let queues = guest.driver.start(F_MULTIPORT, 6);
    let mut guest = Guest { queues, ..guest };
    guest.transmit(5, b"runs again");
    guest.queues[5].wait(&guest.driver);
}

#[test]
fn a_lone_console_needs_no_control_queues() {
    let (zero, output, opens) = port("", true);
    let console = Console::new(vec![zero]).unwrap();
    let mut driver = Driver::probe(console.clone());
    assert_eq!(driver.offered() & (F_SIZE | F_MULTIPORT), F_SIZE);
    assert_eq!(driver.common(0x12, 2), 2);
    let queues = driver.start(F_SIZE, 2);
    let mut guest = Guest { driver, queues, control: Vec::new() };
    guest.transmit(1, b"hello");
    guest.queues[1].wait(&guest.driver);
    assert_eq!(*lock(&output), b"hello");
    console.port(0).unwrap().push(b"abc");
    assert_eq!(guest.receive(0, 8), b"abc");
    assert!(!guest.driver.interrupted(0), "the size is not known");
    console.resize(100, 30);
    assert!(guest.driver.interrupted(0), "the configuration changed");
    assert_eq!(guest.driver.device_config(0, 4), 100 | 30 << 16);
    assert_eq!(*lock(&opens), [true]);
}

#[test]
fn a_driver_hears_of_a_size_that_was_known_before_it_came() {
    let console = Console::new(vec![port("", true).0]).unwrap();
    console.resize(100, 30);
    let mut driver = Driver::probe(console);
    driver.start(F_SIZE, 2);
    assert!(driver.interrupted(0));
}

#[test]
fn streams_alone_are_no_console() {
    let (zero, output, _) = port("zero", false);
    let (one, ..) = port("one", false);
    let console = Console::new(vec![zero, one]).unwrap();
    let driver = Driver::probe(console.clone());
    assert_eq!(driver.offered() & (F_SIZE | F_MULTIPORT), F_MULTIPORT);
    assert_eq!(driver.negotiate(0), 3, "a driver that would take a stream for its console");
    let mut guest = Guest::new(&console, 2);
    guest.say(0, event::DEVICE_READY, 1);
    for id in 0..2 {
        assert_eq!(guest.hear().0, Control { id, event: event::PORT_ADD, value: 1 });
    }
    for (id, name) in [(0, "zero"), (1, "one")] {
        guest.say(id, event::PORT_READY, 1);
        let (told, bytes) = guest.hear();
        assert_eq!((told.id, told.event, bytes.as_slice()), (id, event::PORT_NAME, name.as_bytes()));
        assert_eq!(guest.hear().0, Control { id, event: event::PORT_OPEN, value: 1 });
    }
    guest.transmit(1, b"data");
    guest.queues[1].wait(&guest.driver);
    assert_eq!(*lock(&output), b"data");
}

#[test]
fn a_lone_stream_has_control_queues() {
    let console = Console::new(vec![port("stream", false).0]).unwrap();
    let mut guest = Guest::new(&console, 1);
    guest.bring_up(1);
    guest.say(0, event::PORT_OPEN, 1);
    console.port_named("stream").unwrap().push(b"in");
    assert_eq!(guest.receive(0, 8), b"in");
}

#[test]
fn a_large_buffer_goes_out_piece_by_piece() {
    let (zero, output, _) = port("", true);
    let console = Console::new(vec![zero]).unwrap();
    let mut driver = Driver::probe(console);
    let queues = driver.start(0, 2);
    let data: Vec<u8> = (0..1_000_000u32).map(|i| (i / 7) as u8).collect();
    let mut guest = Guest { driver, queues, control: Vec::new() };
    guest.transmit(1, &data);
    guest.queues[1].wait(&guest.driver);
    assert!(*lock(&output) == data);
}

#[test]
fn output_in_progress_survives_a_pause() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let output = Output::default();
    let to = output.clone();
    let sink = Box::new(move |bytes: &[u8]| {
        lock(&to).extend(bytes);
        lock(&gate).recv().unwrap_or_default();
    });
    let zero = ConsolePort { name: String::new(), is_console: true, sink, on_guest_open: None };
    let mut driver = Driver::probe(Console::new(vec![zero]).unwrap());
    let queues = driver.start(0, 2);
    let mut guest = Guest { driver, queues, control: Vec::new() };
    let data = vec![b'z'; 40 << 10];
    guest.transmit(1, &data);
    eventually("the sink has the first piece", || !lock(&output).is_empty());
    guest.driver.config_write(4, 2);
    drop(release);
    assert!(guest.queues[1].used(&guest.driver).is_none());
    guest.driver.config_write(4, 6);
    guest.queues[1].wait(&guest.driver);
    assert!(*lock(&output) == data);
}

#[test]
fn refuses_ports_that_no_guest_could_use() {
    let make = |ports: &[(&str, bool)]| {
        Console::new(ports.iter().map(|(name, console)| port(name, *console).0).collect()).err()
    };
    assert_eq!(make(&[]), Some(ConsoleError::Count(0)));
    assert_eq!(make(&[("", true); 32]), Some(ConsoleError::Count(32)));
    assert_eq!(make(&[("a", false)]), None);
    assert_eq!(make(&[("", true), ("", false)]), Some(ConsoleError::Name(String::new())));
    assert_eq!(make(&[("", true), ("a/b", false)]), Some(ConsoleError::Name("a/b".to_owned())));
    assert_eq!(make(&[("", true), ("x", false), ("x", false)]), Some(ConsoleError::Twice("x".to_owned())));
    assert_eq!(make(&[("", true), ("", true), ("org.a-b_c", false)]), None);
}

#[test]
fn a_console_goes_on_with_what_was_typed() {
    let (old, ..) = port("", true);
    let (new, output, opens) = port("", true);
    let console = Console::new(vec![old]).unwrap();
    let mut driver = Driver::probe(console.clone());
    let queues = driver.start(0, 2);
    // No buffer is offered yet: the device keeps it.
    assert_eq!(console.port(0).unwrap().push(b"typed"), 5);
    let console = Console::new(vec![new]).unwrap();
    let driver = driver.go_on(console, driver.save()).unwrap();
    let mut guest = Guest { driver, queues, control: Vec::new() };
    assert_eq!(*lock(&opens), [true]);
    assert_eq!(guest.receive(0, 16), b"typed");
    guest.transmit(1, b"seen");
    guest.queues[1].wait(&guest.driver);
    assert_eq!(*lock(&output), b"seen");
}
