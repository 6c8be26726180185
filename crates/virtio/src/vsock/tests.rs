//! The socket device as a driver and the host see it.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use super::{
    Hub, Vsock,
    connection::BUFFER,
    spec::{GUEST_CID, HOST_CID, Header, TYPE_STREAM, op, shutdown},
};
use crate::{
    lock,
    testing::{Driver, Queue, eventually, readable, writable},
};

const PATIENCE: Duration = Duration::from_secs(20);
/// The guest's port in these tests.
const PORT: u32 = 1024;
const ROOM: usize = 4096;

/// A guest with a driver of its own.
struct Guest {
    driver: Driver,
    receive: Queue,
    transmit: Queue,
    event: Queue,
    buffer: tearless_memory::Gpa,
    packet: tearless_memory::Gpa,
}

impl Guest {
    fn start(hub: &Arc<Hub>) -> Self {
        Self::on(Driver::probe(Vsock::new(hub.clone()).unwrap()))
    }

    fn on(mut driver: Driver) -> Self {
        let mut queues = driver.start(1, 3).into_iter();
        let mut next = || queues.next().unwrap();
        let (receive, transmit, event) = (next(), next(), next());
        let buffer = driver.alloc(ROOM as u64);
        let packet = driver.alloc(128 << 10);
        Self { driver, receive, transmit, event, buffer, packet }
    }

    fn header(op: u16, to: u32) -> Header {
        Header {
            src_cid: GUEST_CID,
            dst_cid: HOST_CID,
            src_port: PORT,
            dst_port: to,
            kind: TYPE_STREAM,
            op,
            buf_alloc: 1 << 16,
            ..Header::default()
        }
    }

    fn offer(&mut self, header: &Header, data: &[u8]) {
        self.driver.memory.write(self.packet, &header.bytes()).unwrap();
        self.driver.memory.write(self.packet + Header::SIZE as u64, data).unwrap();
        self.transmit.offer(&self.driver, &[readable(self.packet, Header::SIZE + data.len())]);
    }

    fn send(&mut self, mut header: Header, data: &[u8]) {
        header.len = data.len() as u32;
        self.offer(&header, data);
        self.transmit.wait(&self.driver);
    }

    /// The next packet, for which a buffer is offered.
    fn next(&mut self) -> (Header, Vec<u8>) {
        self.receive.offer(&self.driver, &[writable(self.buffer, ROOM)]);
        self.used()
    }

    /// The next packet, for which a buffer was offered.
    fn used(&mut self) -> (Header, Vec<u8>) {
        let (_, len) = self.receive.wait(&self.driver);
        let mut bytes = self.driver.bytes(self.buffer, len as usize);
        let data = bytes.split_off(Header::SIZE);
        let header = Header::from_bytes(bytes.as_slice().try_into().unwrap());
        assert_eq!((header.src_cid, header.dst_cid, header.kind), (HOST_CID, GUEST_CID, TYPE_STREAM));
        assert_eq!(header.len as usize, data.len());
        (header, data)
    }

    fn expect(&mut self, op: u16) -> Header {
        let (header, data) = self.next();
        assert_eq!((header.op, data.len()), (op, 0), "{header:?}");
        header
    }

    /// Takes a call of the host, which runs on another thread.
    fn accept(&mut self) -> u32 {
        let request = self.expect(op::REQUEST);
        assert_eq!((request.dst_port, request.buf_alloc), (PORT, BUFFER));
        self.send(Self::header(op::RESPONSE, request.src_port), &[]);
        request.src_port
    }
}

fn calling(hub: &Arc<Hub>) -> thread::JoinHandle<io::Result<UnixStream>> {
    let hub = hub.clone();
    thread::spawn(move || {
        let stream = hub.connect(PORT, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    })
}

/// A guest and a connection that the host made.
fn connected() -> (Guest, u32, UnixStream, Arc<Hub>) {
    let hub = Hub::new();
    let mut guest = Guest::start(&hub);
    let call = calling(&hub);
    let port = guest.accept();
    (guest, port, call.join().unwrap().unwrap(), hub)
}

fn listening(hub: &Hub, port: u32) -> Arc<Mutex<Vec<UnixStream>>> {
    let streams = Arc::new(Mutex::new(Vec::new()));
    let accepted = streams.clone();
    hub.listen(port, move |stream| lock(&accepted).push(stream));
    streams
}

#[test]
fn says_what_it_is() {
    let driver = Driver::probe(Vsock::new(Hub::new()).unwrap());
    assert_eq!(driver.device_config(0, 8), GUEST_CID);
    assert_eq!(driver.offered() & 0xff_ffff, 1);
}

#[test]
fn the_host_calls_and_both_talk() {
    let (mut guest, port, mut host, _hub) = connected();
    host.write_all(b"to the guest").unwrap();
    let (header, data) = guest.next();
    assert_eq!((header.op, header.src_port, data.as_slice()), (op::RW, port, &b"to the guest"[..]));
    guest.send(Guest::header(op::RW, port), b"to the host");
    let mut bytes = [0; 11];
    host.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"to the host");
}

#[test]
fn the_guest_calls() {
    let hub = Hub::new();
    let streams = listening(&hub, 7);
    let mut guest = Guest::start(&hub);
    guest.send(Guest::header(op::REQUEST, 7), &[]);
    let response = guest.expect(op::RESPONSE);
    assert_eq!((response.src_port, response.dst_port, response.buf_alloc), (7, PORT, BUFFER));
    lock(&streams).pop().unwrap().write_all(b"hello").unwrap();
    assert_eq!(guest.next().1, b"hello");
    guest.send(Guest::header(op::REQUEST, 8), &[]);
    assert_eq!(guest.expect(op::RST).src_port, 8, "nobody listens there");
}

#[test]
fn calls_fail_for_what_they_fail() {
    let hub = Hub::new();
    assert_eq!(hub.connect(PORT, PATIENCE).unwrap_err().kind(), io::ErrorKind::NotConnected);
    let mut guest = Guest::start(&hub);
    assert!(hub.is_online());
    let call = calling(&hub);
    let request = guest.expect(op::REQUEST);
    guest.send(Guest::header(op::RST, request.src_port), &[]);
    assert_eq!(call.join().unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);

    let error = hub.connect(PORT, Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    guest.expect(op::RST);

    let call = calling(&hub);
    guest.expect(op::REQUEST);
    guest.driver.set_common(0x14, 1, 0);
    assert_eq!(call.join().unwrap().unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert!(!hub.is_online());
}

#[test]
fn the_guest_gets_no_more_than_it_can_take() {
    let (mut guest, port, mut host, _hub) = connected();
    let little = Header { buf_alloc: 100, ..Guest::header(op::CREDIT_UPDATE, port) };
    guest.send(little, &[]);
    host.write_all(&[7; 250]).unwrap();
    assert_eq!(guest.next().1.len(), 100);
    guest.send(Header { fwd_cnt: 60, ..little }, &[]);
    assert_eq!(guest.next().1.len(), 60);
    guest.send(Header { fwd_cnt: 160, buf_alloc: 50, ..little }, &[]);
    assert_eq!(guest.next().1.len(), 50);
    guest.send(Header { fwd_cnt: 210, ..little }, &[]);
    assert_eq!(guest.next().1.len(), 40);
}

#[test]
fn data_is_split_over_the_guests_buffers() {
    let (mut guest, _, mut host, _hub) = connected();
    let sent: Vec<u8> = (0..20_000u32).map(|i| (i % 251) as u8).collect();
    host.write_all(&sent).unwrap();
    let mut got = Vec::new();
    while got.len() < sent.len() {
        let (header, data) = guest.next();
        assert_eq!(header.op, op::RW);
        assert!(data.len() <= ROOM - Header::SIZE);
        got.extend(data);
    }
    assert!(got == sent);
}

#[test]
fn a_guest_that_sends_more_than_it_may_loses_the_connection() {
    let hub = Hub::new();
    let mut guest = Guest::start(&hub);
    let dialer = thread::spawn({
        let hub = hub.clone();
        move || hub.dial(PORT, PATIENCE).unwrap()
    });
    let port = guest.accept();
    let dialed = dialer.join().unwrap();
    for _ in 0..2 {
        guest.send(Guest::header(op::RW, port), &[1; BUFFER as usize / 2]);
    }
    guest.send(Guest::header(op::RW, port), b"!");
    guest.expect(op::RST);
    // What it sent before is delivered all the same.
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    dialed.attach(theirs).unwrap();
    let mut got = Vec::new();
    ours.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), BUFFER as usize);
}

#[test]
fn the_guest_hears_when_there_is_room_again() {
    let (mut guest, port, mut host, _hub) = connected();
    let reader = thread::spawn(move || {
        let mut got = vec![0; BUFFER as usize / 4];
        host.read_exact(&mut got).unwrap();
        host
    });
    guest.send(Guest::header(op::RW, port), &[1; BUFFER as usize / 4]);
    let update = guest.expect(op::CREDIT_UPDATE);
    assert_eq!((update.buf_alloc, update.fwd_cnt), (BUFFER, BUFFER / 4));
    let _host = reader.join().unwrap();
    guest.send(Guest::header(op::CREDIT_REQUEST, port), &[]);
    assert_eq!(guest.expect(op::CREDIT_UPDATE).fwd_cnt, BUFFER / 4);
}

#[test]
fn halves_end_one_by_one() {
    let (mut guest, port, mut host, _hub) = connected();
    host.write_all(b"question").unwrap();
    host.shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.next().1, b"question");
    assert_eq!(guest.expect(op::SHUTDOWN).flags, shutdown::SEND);
    guest.send(Guest::header(op::RW, port), b"answer");
    guest.send(Header { flags: shutdown::SEND, ..Guest::header(op::SHUTDOWN, port) }, &[]);
    let mut answer = String::new();
    host.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
}

#[test]
fn what_the_guest_sent_before_it_ended_arrives() {
    let (mut guest, port, mut host, _hub) = connected();
    guest.send(Guest::header(op::RW, port), b"last words");
    guest.send(Header { flags: shutdown::BOTH, ..Guest::header(op::SHUTDOWN, port) }, &[]);
    assert_eq!(guest.expect(op::RST).src_port, port);
    let mut words = String::new();
    host.read_to_string(&mut words).unwrap();
    assert_eq!(words, "last words");
}

#[test]
fn the_guest_hears_that_the_host_is_gone() {
    let (mut guest, port, host, _hub) = connected();
    drop(host);
    let mut flags = 0;
    while flags != shutdown::BOTH {
        flags |= guest.expect(op::SHUTDOWN).flags;
    }
    guest.send(Guest::header(op::RST, port), &[]);
    guest.send(Guest::header(op::RW, port), b"to nobody");
    guest.expect(op::RST);
}

#[test]
fn packets_that_make_no_sense_are_refused() {
    let (mut guest, port, mut host, _hub) = connected();
    guest.send(Header { dst_cid: 9, ..Guest::header(op::RW, port) }, b"x");
    guest.send(Header { src_cid: 9, ..Guest::header(op::RW, port) }, b"x");
    guest.send(Guest::header(op::RW, port + 1), b"x");
    assert_eq!(guest.expect(op::RST).src_port, port + 1);
    guest.send(Header { kind: 2, ..Guest::header(op::REQUEST, 99) }, &[]);
    assert_eq!(guest.expect(op::RST).src_port, 99);
    guest.offer(&Header { len: 4000, ..Guest::header(op::RW, port) }, b"less than it says");
    assert_eq!(guest.expect(op::RST).src_port, port);
    let mut got = Vec::new();
    host.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"");
    assert!(!guest.driver.broken());
}

#[test]
fn answers_wait_for_buffers_and_packets_for_answers() {
    let hub = Hub::new();
    let mut guest = Guest::start(&hub);
    for port in 0..128 {
        guest.send(Header { src_port: port, ..Guest::header(op::RW, 1) }, &[]);
    }
    // The device owes so many answers now that it takes no more packets.
    for port in 128..140 {
        let header = Header { src_port: port, ..Guest::header(op::RW, 1) };
        let at = guest.driver.alloc_with(&header.bytes());
        guest.transmit.offer(&guest.driver, &[readable(at, Header::SIZE)]);
    }
    for port in 0..140 {
        assert_eq!(guest.expect(op::RST).dst_port, port);
    }
}

#[test]
fn connections_are_limited() {
    let hub = Hub::new();
    let _streams = listening(&hub, 7);
    let mut guest = Guest::start(&hub);
    for port in 0..512 {
        guest.send(Header { src_port: port, ..Guest::header(op::REQUEST, 7) }, &[]);
        guest.expect(op::RESPONSE);
    }
    guest.send(Header { src_port: 600, ..Guest::header(op::REQUEST, 7) }, &[]);
    assert_eq!(guest.expect(op::RST).dst_port, 600);
    let error = hub.connect(PORT, PATIENCE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    guest.send(Header { src_port: 5, ..Guest::header(op::RST, 7) }, &[]);
    guest.send(Header { src_port: 600, ..Guest::header(op::REQUEST, 7) }, &[]);
    guest.expect(op::RESPONSE);
}

#[test]
fn a_reset_ends_all_and_a_new_life_begins() {
    let (guest, _, mut host, hub) = connected();
    let mut driver = guest.driver;
    driver.set_common(0x14, 1, 0);
    driver.rewind();
    let mut end = Vec::new();
    host.read_to_end(&mut end).unwrap();
    assert_eq!(end, b"");
    let mut guest = Guest::on(driver);
    let call = calling(&hub);
    guest.accept();
    call.join().unwrap().unwrap();
}

#[test]
fn a_snapshot_ends_all_with_an_event() {
    let (mut guest, _, mut host, hub) = connected();
    let at = guest.driver.alloc(4);
    guest.driver.memory.write(at, &[0xff; 4]).unwrap();
    guest.event.offer(&guest.driver, &[writable(at, 4)]);
    hub.transport_reset();
    assert_eq!(guest.event.wait(&guest.driver).1, 4);
    assert_eq!(guest.driver.bytes(at, 4), [0; 4]);
    let mut end = Vec::new();
    host.read_to_end(&mut end).unwrap();
    assert_eq!(end, b"");
}

#[test]
fn a_buffer_without_room_breaks_the_device() {
    let (mut guest, _, mut host, _hub) = connected();
    guest.receive.offer(&guest.driver, &[writable(guest.buffer, Header::SIZE)]);
    host.write_all(b"x").unwrap();
    eventually("a broken device", || guest.driver.broken());
}

#[test]
fn a_call_waits_until_the_guest_knows_that_its_connections_are_gone() {
    let hub = Hub::new();
    let mut guest = Guest::start(&hub);
    let event = guest.driver.alloc(4);
    guest.event.offer(&guest.driver, &[writable(event, 4)]);
    let parts = guest.driver.save();
    let hub = Hub::new();
    guest.driver = guest.driver.go_on(Vsock::new(hub.clone()).unwrap(), parts).unwrap();
    guest.event.wait(&guest.driver);
    assert_eq!(guest.driver.bytes(event, 4), 0u32.to_le_bytes());
    let call = calling(&hub);
    // The buffer for the request is there, but the event's has not come back.
    guest.receive.offer(&guest.driver, &[writable(guest.buffer, ROOM)]);
    thread::sleep(Duration::from_millis(30));
    assert!(guest.receive.used(&guest.driver).is_none());
    guest.event.offer(&guest.driver, &[writable(event, 4)]);
    let (request, _) = guest.used();
    assert_eq!(request.op, op::REQUEST);
    guest.send(Guest::header(op::RESPONSE, request.src_port), &[]);
    call.join().unwrap().unwrap();
}
