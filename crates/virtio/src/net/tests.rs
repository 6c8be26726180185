use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tearless_net::{Card, Endpoint, Frame, Gso, GsoKind, Mac, Offload, Offloads, PartialChecksum};

use super::{Net, spec::feature};
use crate::{
    lock,
    testing::{Driver, Queue, eventually, readable, writable},
};

mod pairs;

const MAC: Mac = [0x52, 0x54, 0, 9, 8, 7];
const OTHER: Mac = [0x52, 0x54, 0, 9, 8, 8];
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// An endpoint that the test plays itself.
#[derive(Default)]
struct Bench {
    card: Mutex<Option<Arc<dyn Card>>>,
    kicks: Mutex<usize>,
}

impl Endpoint for Bench {
    fn accepts(&self) -> Offloads {
        Offloads::ALL
    }

    fn mtu(&self) -> Option<u16> {
        Some(1500)
    }

    fn attach(&self, card: Arc<dyn Card>) {
        *lock(&self.card) = Some(card);
    }

    fn detach(&self) {
        *lock(&self.card) = None;
    }

    fn kick(&self) {
        *lock(&self.kicks) += 1;
    }
}

impl Bench {
    fn card(&self) -> Arc<dyn Card> {
        lock(&self.card).clone().unwrap()
    }

    fn take(&self) -> Option<(Offload, Vec<u8>)> {
        let mut frame = Vec::new();
        let offload = self.card().take(&mut frame)?;
        Some((offload, frame))
    }
}

fn set_up(features: u64) -> (Arc<Bench>, Driver, VecDeque<Queue>) {
    set_up_for(1, features)
}

/// For as many vCPUs; all queues run.
fn set_up_for(vcpus: u32, features: u64) -> (Arc<Bench>, Driver, VecDeque<Queue>) {
    let bench = Arc::new(Bench::default());
    let mut driver = Driver::probe(Net::new(MAC, bench.clone(), vcpus));
    let count = driver.common(0x12, 2) as u16;
    let queues = driver.start(features, count).into();
    (bench, driver, queues)
}

/// A frame from `source` with `len` bytes in all.
fn frame(source: Mac, len: usize) -> Vec<u8> {
    let mut frame = vec![0x33; 6];
    frame.extend(source);
    frame.extend((12..len).map(|i| i as u8));
    frame
}

fn header(flags: u8, gso: u8, words: [u16; 5]) -> Vec<u8> {
    let mut header = vec![flags, gso];
    words.iter().for_each(|word| header.extend(word.to_le_bytes()));
    header
}

fn send(driver: &mut Driver, queue: &mut Queue, header: &[u8], frame: &[u8]) {
    let (first, second) = (driver.alloc_with(header), driver.alloc_with(frame));
    queue.offer(driver, &[readable(first, header.len()), readable(second, frame.len())]);
}

#[test]
fn a_card_says_what_it_is() {
    let (_, driver, _) = set_up(feature::MRG_RXBUF);
    let offered = driver.offered();
    for bit in [feature::MAC, feature::CSUM, feature::GUEST_TSO4, feature::HOST_TSO6, feature::MRG_RXBUF] {
        assert_ne!(offered & bit, 0);
    }
    let config: Vec<_> = (0..12).map(|at| driver.device_config(at, 1) as u8).collect();
    assert_eq!(config[..6], MAC);
    assert_eq!(config[6..], [1, 0, 0, 0, 0xdc, 5]);
}

#[test]
fn frames_of_the_guest_are_taken_with_what_is_left_to_do() {
    let (bench, mut driver, mut queues) = set_up(feature::CSUM | feature::HOST_TSO4);
    let queue = &mut queues[TRANSMIT];
    assert_eq!(bench.take(), None);
    let large = frame(MAC, 5000);
    send(&mut driver, queue, &header(1, 1, [54, 1448, 34, 16, 0]), &large);
    let gso = Gso { kind: GsoKind::Tcp4, size: 1448, headers: 54 };
    let checksum = PartialChecksum { start: 34, offset: 16 };
    let offload = Offload { checksum: Some(checksum), gso: Some(gso) };
    assert_eq!(bench.take(), Some((offload, large)));
    assert!(*lock(&bench.kicks) > 0, "the guest rang");
    bench.card().flush();
    assert_eq!(queue.wait(&driver).1, 0);
    assert!(driver.interrupted(2));
}

#[test]
fn what_is_forged_or_makes_no_sense_is_dropped() {
    let (bench, mut driver, mut queues) = set_up(feature::CSUM | feature::HOST_TSO4);
    let queue = &mut queues[TRANSMIT];
    let plain = header(0, 0, [0; 5]);
    send(&mut driver, queue, &plain, &frame(OTHER, 60));
    send(&mut driver, queue, &plain, &frame(MAC, 13));
    send(&mut driver, queue, &header(1, 0, [0, 0, 59, 16, 0]), &frame(MAC, 60));
    send(&mut driver, queue, &header(1, 1, [54, 0, 34, 16, 0]), &frame(MAC, 60));
    send(&mut driver, queue, &header(0, 1, [54, 1448, 0, 0, 0]), &frame(MAC, 60));
    send(&mut driver, queue, &header(1, 4, [54, 1448, 34, 16, 0]), &frame(MAC, 60));
    let honest = frame(MAC, 60);
    send(&mut driver, queue, &plain, &honest);
    assert_eq!(bench.take(), Some((Offload::default(), honest)));
    for _ in 0..7 {
        queue.wait(&driver);
    }
    assert!(!driver.broken());
    let at = driver.alloc(16);
    queue.offer(&driver, &[readable(at, 11)]);
    assert_eq!(bench.take(), None);
    assert!(driver.broken(), "a packet without a header is no packet");
}

#[test]
fn a_large_frame_spreads_over_buffers_and_waits_for_them() {
    let (bench, mut driver, mut queues) =
        set_up(feature::MRG_RXBUF | feature::GUEST_CSUM | feature::GUEST_TSO4);
    let queue = &mut queues[RECEIVE];
    let card = bench.card();
    assert_eq!(card.offloads(), Offloads { checksum: true, tcp4: true, tcp6: false });
    let bytes = frame(OTHER, 2500);
    let (first, rest) = bytes.split_at(54);
    let (second, third) = rest.split_at(1000);
    let gso = Gso { kind: GsoKind::Tcp4, size: 1448, headers: 54 };
    let offload = Offload { checksum: Some(PartialChecksum { start: 34, offset: 16 }), gso: Some(gso) };
    let large = Frame { offload, parts: [first, second, third] };
    let buffers: Vec<_> = (0..3).map(|_| driver.alloc(1000)).collect();
    for buffer in &buffers[..2] {
        queue.offer(&driver, &[writable(*buffer, 1000)]);
    }
    assert!(!card.give(&large), "two buffers are too few");
    assert_eq!(queue.used(&driver), None);
    let before = *lock(&bench.kicks);
    queue.offer(&driver, &[writable(buffers[2], 1000)]);
    assert!(*lock(&bench.kicks) > before);
    assert!(card.give(&large));
    assert!(!driver.interrupted(1), "only the flush interrupts");
    card.flush();
    assert!(driver.interrupted(1));
    let mut received = Vec::new();
    for (buffer, len) in buffers.iter().zip([1000, 1000, 512]) {
        assert_eq!(queue.wait(&driver).1, len);
        received.extend(driver.bytes(*buffer, len as usize));
    }
    assert_eq!(received[..12], header(1, 1, [54, 1448, 34, 16, 3]));
    assert_eq!(received[12..], bytes);
}

#[test]
fn the_driver_never_sees_a_part_of_the_buffers_of_a_packet() {
    const BUFFERS: u16 = 8;
    let (bench, mut driver, mut queues) = set_up(feature::MRG_RXBUF);
    let queue = &mut queues[RECEIVE];
    let at = driver.alloc(100);
    let (memory, index) = (driver.memory.clone(), queue.used + 2);
    let over = AtomicBool::new(false);
    let torn = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut torn = 0;
            while !over.load(Ordering::Relaxed) {
                let mut seen = [0; 2];
                memory.read(index, &mut seen).unwrap();
                torn += u32::from(u16::from_le_bytes(seen) % BUFFERS != 0);
            }
            torn
        });
        for _ in 0..5000 {
            (0..BUFFERS).for_each(|_| _ = queue.offer(&driver, &[writable(at, 100)]));
            assert!(bench.card().give(&Frame::whole(&frame(OTHER, 788), Offload::default())));
            (0..BUFFERS).for_each(|_| assert_eq!(queue.used(&driver).unwrap().1, 100));
        }
        over.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    assert_eq!(torn, 0);
}

#[test]
fn an_event_inside_of_a_packet_interrupts() {
    let (bench, mut driver, mut queues) = set_up(feature::MRG_RXBUF);
    let queue = &mut queues[RECEIVE];
    let at = driver.alloc(100);
    let mut packet_interrupts = |event: u16| {
        (0..4).for_each(|_| _ = queue.offer(&driver, &[writable(at, 100)]));
        driver.memory.write(queue.avail + 4 + 2 * u64::from(queue.size), &event.to_le_bytes()).unwrap();
        assert!(bench.card().give(&Frame::whole(&frame(OTHER, 388), Offload::default())));
        let before = driver.interrupts(1);
        bench.card().flush();
        driver.interrupts(1) - before == 1
    };
    assert!(packet_interrupts(0), "the first buffer's");
    assert!(packet_interrupts(6), "one in the middle's");
    assert!(!packet_interrupts(12), "the next packet's");
    assert!(packet_interrupts(15), "the last one's");
}

#[test]
fn what_was_not_announced_before_a_pause_is_announced_after_it() {
    let (bench, mut driver, mut queues) = set_up(feature::MRG_RXBUF);
    let at = driver.alloc(100);
    queues[RECEIVE].offer(&driver, &[writable(at, 100)]);
    assert!(bench.card().give(&Frame::whole(&frame(OTHER, 60), Offload::default())));
    drop(driver.save());
    bench.card().flush();
    assert_eq!(driver.interrupts(1), 0, "the machine stands still");
    driver.proceed();
    assert_eq!(driver.interrupts(1), 1);
}

#[test]
fn what_can_never_fit_does_not_block_the_rest() {
    let (bench, mut driver, mut queues) = set_up(0);
    let queue = &mut queues[RECEIVE];
    let at = driver.alloc(100);
    queue.offer(&driver, &[writable(at, 100)]);
    let large = frame(OTHER, 200);
    assert!(bench.card().give(&Frame::whole(&large, Offload::default())), "dropped");
    let small = frame(OTHER, 60);
    assert!(bench.card().give(&Frame::whole(&small, Offload::default())));
    assert_eq!(queue.wait(&driver).1, 72);
    assert_eq!(driver.bytes(at + 10, 2), [1, 0], "one buffer");

    let (bench, mut driver, mut queues) = set_up(feature::MRG_RXBUF);
    let at = driver.alloc(16);
    for _ in 0..16 {
        queues[RECEIVE].offer(&driver, &[writable(at, 4)]);
    }
    assert!(
        bench.card().give(&Frame::whole(&large, Offload::default())),
        "sixteen buffers are all there can be"
    );
    assert_eq!(queues[RECEIVE].used(&driver), None);
}

#[test]
fn after_a_reset_the_card_is_dead() {
    let (bench, driver, mut queues) = set_up(0);
    let old = bench.card();
    driver.set_common(0x14, 1, 0);
    eventually("the endpoint is told", || lock(&bench.card).is_none());
    assert!(!old.give(&Frame::whole(&frame(OTHER, 60), Offload::default())));
    assert_eq!(old.take(&mut Vec::new()), None);
    old.flush();
    assert_eq!(queues[RECEIVE].used(&driver), None);
}
