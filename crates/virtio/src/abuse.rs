//! Every device against a driver that writes nonsense into its rings.
//!
//! Descriptors, tables, indices, addresses, lengths and requests are pseudo-random, weighted towards what is almost
//! right. Afterwards each device must still serve a driver that behaves. `TEARLESS_ABUSE_ROUNDS` sets how many rings
//! each device is given (default 100); round `n` is the same every time, up to the timing of the workers.

use std::{
    collections::VecDeque,
    io::Write,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use tearless_bus::CharInput;
use tearless_display::{Mode, Screen, Size};
use tearless_memory::Gpa;
use tearless_net::{Card, Endpoint, Frame, Offload, Offloads};
use tearless_share::{Limits, Passthrough, Share, ShareOptions};
use tearless_storage::{OpenOptions, RawDisk};

use crate::{
    VirtioDevice,
    balloon::{Balloon, Gauge},
    blk::{Blk, BlkOptions},
    console::{Console, ConsolePort},
    fs::{Fs, FsOptions},
    gpu::Gpu,
    input::{Input, Kind},
    lock,
    net::Net,
    rng::Rng,
    sound::Sound,
    testing::{Driver, NEXT, Queue, RAM, RAM_SIZE, WRITE, readable, writable, write_descriptor},
    vsock::{Hub, Vsock},
};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Where buffers and tables of nonsense lie.
const PLAYGROUND: Gpa = Gpa(RAM.0 + RAM_SIZE / 2);

fn rounds() -> u64 {
    std::env::var("TEARLESS_ABUSE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(100)
}

fn address(random: &mut Random) -> Gpa {
    match random.below(24) {
        0 => Gpa(random.next()),
        1 => Gpa(RAM.0 + RAM_SIZE - random.below(64)),
        2 => Gpa(u64::MAX - random.below(4096)),
        3 => Gpa(RAM.0 + random.below(RAM_SIZE / 4)),
        _ => PLAYGROUND + random.below(1 << 16),
    }
}

fn length(random: &mut Random) -> u32 {
    match random.below(16) {
        0 => random.next() as u32,
        1 => 0,
        2 => 1 + random.below(8) as u32,
        3 => random.below(1 << 20) as u32,
        4..9 => 16,
        _ => 512 * random.below(9) as u32,
    }
}

fn flags(random: &mut Random) -> u16 {
    match random.below(12) {
        0 => random.next() as u16,
        1..4 => 0,
        4..8 => NEXT,
        8..10 => WRITE,
        _ => WRITE | NEXT,
    }
}

/// Small numbers in memory look like request types, sectors, ports and events; some of it like socket packets.
fn scatter(driver: &Driver, random: &mut Random) {
    for _ in 0..8 {
        let at = PLAYGROUND + (random.below(1 << 12) & !15);
        let mut packet = [3u64.to_le_bytes(), 2u64.to_le_bytes()].concat();
        for small in [14, 14, 64] {
            packet.extend((random.below(small) as u32).to_le_bytes());
        }
        packet.extend([1, 0, random.below(9) as u8, 0, random.below(4) as u8, 0, 0, 0]);
        packet.extend(random.next().to_le_bytes());
        driver.memory.write(at, &packet).unwrap();
    }
    for _ in 0..8 {
        // A display's commands, about pictures with small numbers.
        let kind = *[0x100, 0x101, 0x102, 0x103, 0x104, 0x105, 0x106, 0x300]
            .get(random.below(8) as usize)
            .unwrap_or(&0);
        let mut command = [kind, 0, 0, 0, 0, 0].map(u32::to_le_bytes).concat();
        command.extend((0..8).flat_map(|_| (random.below(5) as u32).to_le_bytes()));
        driver.memory.write(PLAYGROUND + (random.below(1 << 12) & !15), &command).unwrap();
    }
    for _ in 0..8 {
        // A sound card's requests: of items, of streams, and the parameters of one.
        let code = *[1, 0x100, 0x101, 0x101, 0x102, 0x103, 0x104, 0x105, 0x200]
            .get(random.below(9) as usize)
            .unwrap_or(&0);
        let mut request = [code, random.below(3) as u32, 4096, 1024, 16].map(u32::to_le_bytes).concat();
        request.extend([2, 5, 1 + random.below(10) as u8, 0]);
        driver.memory.write(PLAYGROUND + (random.below(1 << 12) & !15), &request).unwrap();
    }
    for _ in 0..64 {
        let at = PLAYGROUND + (random.below(1 << 16) & !3);
        let value = if random.one_in(4) { random.next() as u32 } else { random.below(14) as u32 };
        driver.memory.write(at, &value.to_le_bytes()).unwrap();
    }
    for _ in 0..32 {
        let at = PLAYGROUND + (random.below(1 << 16) & !15);
        let (to, len, next) = (address(random), length(random), random.below(40) as u16);
        write_descriptor(driver, at, (to, len), flags(random), next);
    }
}

/// Gives the workers a moment. Returns whether the device did something: used a buffer or asked for a reset.
fn reacted(driver: &Driver, queue: &Queue, used_before: &[u8]) -> bool {
    (0..50).any(|_| {
        thread::sleep(Duration::from_micros(20));
        driver.broken() || driver.bytes(queue.used + 2, 2) != used_before
    })
}

/// Returns how often the device reacted.
fn abuse(driver: &Driver, queues: &mut [Queue], random: &mut Random) -> u64 {
    let mut reactions = 0;
    for _ in 0..8 {
        if driver.broken() {
            break;
        }
        scatter(driver, random);
        let index = random.below(queues.len() as u64) as usize;
        let Some(queue) = queues.get_mut(index) else { continue };
        for descriptor in 0..16 {
            let next = if random.one_in(8) { random.next() as u16 } else { random.below(16) as u16 };
            let mut flags = flags(random);
            let mut at = address(random);
            if random.one_in(6) {
                flags = 4;
                at = PLAYGROUND + (random.below(1 << 15) & !15);
            }
            queue.descriptor(driver, descriptor, (at, length(random)), flags, next);
        }
        for _ in 0..random.below(6) {
            let head = if random.one_in(16) { random.next() as u16 } else { random.below(16) as u16 };
            queue.publish(driver, head);
        }
        if random.one_in(32) {
            driver.memory.write(queue.avail + 2, &(random.next() as u16).to_le_bytes()).unwrap();
        }
        let used = driver.bytes(queue.used + 2, 2);
        driver.kick(index as u16);
        reactions += u64::from(reacted(driver, queue, &used));
        if random.one_in(8) {
            driver.set_common(0x16, 2, index as u64);
            driver.set_common(0x3a, 2, 1);
        }
    }
    reactions
}

/// A driver with a little memory for its rings, used again each round.
fn torture(
    device: &Arc<impl VirtioDevice + 'static>,
    features: u64,
    queues: u16,
    during: impl Fn(),
) -> Driver {
    let mut driver = Driver::probe(device.clone());
    let mut random = Random(0x5eed_0000_0000_0001 ^ u64::from(device.kind().id));
    let mut reactions = 0;
    for _ in 0..rounds() {
        driver.rewind();
        let mut rings = driver.start(features, queues);
        reactions += abuse(&driver, &mut rings, &mut random);
        during();
    }
    assert!(
        reactions >= rounds() / 2,
        "nonsense that the device does not even look at proves nothing: {reactions}"
    );
    driver.rewind();
    driver
}

#[test]
fn the_entropy_device_survives() {
    let mut driver = torture(&Rng::new(), 0, 1, || {});
    let mut queue = driver.start(0, 1).remove(0);
    let at = driver.alloc(16);
    queue.offer(&driver, &[writable(at, 16)]);
    assert_eq!(queue.wait(&driver).1, 16);
}

#[test]
fn the_balloon_survives() {
    let gauge = Gauge::new(1 << 20);
    let balloon = Balloon::new(gauge.clone());
    let mut driver = torture(&balloon, balloon.features(), 4, || {
        gauge.set_target(2 << 20);
        gauge.read(Duration::from_micros(100));
    });
    let mut queues = driver.start(balloon.features(), 4);
    driver.memory.write(PLAYGROUND, &[0x5a; 8192]).unwrap();
    queues[3].offer(&driver, &[writable(PLAYGROUND, 4096)]);
    queues[3].wait(&driver);
    assert_eq!(driver.bytes(PLAYGROUND + 4095, 2), [0, 0x5a]);
}

#[test]
fn the_disk_survives() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[0; 1 << 20]).unwrap();
    let options = OpenOptions { sync: tearless_storage::Sync::None, ..OpenOptions::default() };
    let disk = Arc::new(RawDisk::open(file.path(), options).unwrap());
    let blk = Blk::new(disk, &BlkOptions { serial: "abused".to_owned(), queues: 2 });
    let mut driver = torture(&blk, blk.features(), 2, || {});
    for index in 0..2 {
        let mut queue = driver.start(0, 2).remove(index);
        let header = driver.alloc_with(&[&8u32.to_le_bytes()[..], &[0; 12]].concat());
        let (id, status) = (driver.alloc(20), driver.alloc_with(&[0xee]));
        queue.offer(&driver, &[readable(header, 16), writable(id, 20), writable(status, 1)]);
        queue.wait(&driver);
        assert_eq!((driver.bytes(status, 1), driver.bytes(id, 6)), (vec![0], b"abused".to_vec()));
    }
    assert_eq!(file.as_file().metadata().unwrap().len(), 1 << 20);
}

#[test]
fn the_shared_folder_survives() {
    let folder = tempfile::tempdir().unwrap();
    let share = Share::open(folder.path(), ShareOptions { read_only: false, guest_owner: 0 }).unwrap();
    let files = Passthrough::new(share, Limits::default()).unwrap();
    let fs = Fs::new(files, &FsOptions { tag: "abused".to_owned(), queues: 2 });
    let mut driver = torture(&fs, fs.features(), 3, || {});
    let mut queue = driver.start(0, 2).remove(1);
    let words = [56u32, 26, 1, 0, 0, 0, 0, 0, 0, 0, 7, 38, 0, 0].map(u32::to_le_bytes).concat();
    let (request, reply) = (driver.alloc_with(&words), driver.alloc(80));
    queue.offer(&driver, &[readable(request, 56), writable(reply, 80)]);
    assert_eq!(queue.wait(&driver).1, 80);
    assert_eq!(driver.bytes(reply, 8), [80, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn the_console_survives() {
    let port = |name: &str, is_console| ConsolePort {
        name: name.to_owned(),
        is_console,
        sink: Box::new(|_: &[u8]| {}),
        on_guest_open: None,
    };
    let console = Console::new(vec![port("", true), port("stream", false)]).unwrap();
    let input = console.port(1).unwrap();
    let mut driver = torture(&console, console.features(), 6, || {
        input.push(b"some input for whoever opened the port");
        input.close();
        input.open();
        console.resize(80, 24);
        console.resize(81, 24);
    });
    let mut queue = driver.start(0, 2).remove(1);
    let at = driver.alloc_with(b"still here");
    queue.offer(&driver, &[readable(at, 10)]);
    queue.wait(&driver);
}

#[test]
fn the_sockets_survive() {
    let hub = Hub::new();
    for port in 0..14 {
        // Some stay open for a while, some end at once.
        let streams = Mutex::new(VecDeque::new());
        hub.listen(port, move |stream| {
            let mut streams = lock(&streams);
            streams.push_back(stream);
            streams.truncate(port as usize);
        });
    }
    let vsock = Vsock::new(hub.clone()).unwrap();
    let mut driver = torture(&vsock, vsock.features(), 3, || {
        _ = hub.dial(3, Duration::from_micros(10));
        hub.transport_reset();
    });
    let mut queues = driver.start(vsock.features(), 2);
    let at = driver.alloc(44);
    queues[0].offer(&driver, &[writable(at, 4096)]);
    assert_eq!(hub.dial(9, Duration::from_millis(1)).err().unwrap().kind(), std::io::ErrorKind::TimedOut);
    queues[0].wait(&driver);
    let header = driver.bytes(at, 44);
    assert_eq!((header[20], header[30]), (9, 1), "a call to port 9");
}

/// Sends the guest back what it sent, on the thread that kicks.
#[derive(Default)]
struct Echo(Mutex<Option<Arc<dyn Card>>>);

impl Endpoint for Echo {
    fn accepts(&self) -> Offloads {
        Offloads::ALL
    }

    fn mtu(&self) -> Option<u16> {
        Some(1500)
    }

    fn attach(&self, card: Arc<dyn Card>) {
        *lock(&self.0) = Some(card);
    }

    fn detach(&self) {
        *lock(&self.0) = None;
    }

    fn kick(&self) {
        let Some(card) = lock(&self.0).clone() else { return };
        let mut frame = Vec::new();
        while card.take(&mut frame).is_some() {
            card.give(&Frame::whole(&frame, Offload::default()));
        }
        card.give(&Frame::whole(&[0x5a; 600], Offload::default()));
        card.flush();
    }
}

#[test]
fn the_network_card_survives() {
    let mac = [2, 0, 0, 0, 0, 1];
    for (vcpus, count) in [(1, 2), (2, 5)] {
        let net = Net::new(mac, Arc::new(Echo::default()), vcpus);
        let mut driver = torture(&net, net.features(), count, || {});
        let mut queues = driver.start(net.features(), count);
        let into = driver.alloc(2048);
        queues[0].offer(&driver, &[writable(into, 2048)]);
        assert_eq!(queues[0].wait(&driver).1, 612);
        let Some(control) = queues.get_mut(4) else { continue };
        let (command, answer) = (driver.alloc_with(&[4, 0, 2, 0]), driver.alloc_with(&[0xee]));
        control.offer(&driver, &[readable(command, 4), writable(answer, 1)]);
        control.wait(&driver);
        assert_eq!(driver.bytes(answer, 1), [0]);
    }
}

#[test]
fn the_display_survives() {
    let screen = Screen::new(Mode::default());
    let gpu = Gpu::new(screen.clone());
    let mut driver = torture(&gpu, gpu.features(), 2, || {
        screen.want(Size::new(800, 600));
        screen.want(Size::new(801, 600));
        screen.picture();
    });
    let mut queue = driver.start(0, 2).remove(0);
    let request = driver.alloc_with(&[0x100u32.to_le_bytes().to_vec(), vec![0; 20]].concat());
    let answer = driver.alloc(408);
    queue.offer(&driver, &[readable(request, 24), writable(answer, 408)]);
    assert_eq!(queue.wait(&driver).1, 408);
}

#[test]
fn the_keyboard_survives() {
    let hub = tearless_display::Input::new();
    let keyboard = Input::new(Kind::Keyboard, &hub);
    let mut driver = torture(&keyboard, 0, 2, || {
        let mut seat = hub.seat();
        (0..200).for_each(|code| seat.key(code, true));
    });
    let mut queue = driver.start(0, 2).remove(0);
    let at = driver.alloc(8);
    queue.offer(&driver, &[writable(at, 8)]);
    hub.seat().key(30, true);
    assert_eq!(queue.wait(&driver).1, 8);
}

#[test]
fn the_sound_card_survives() {
    let silence = || Arc::new(tearless_sound::Silence);
    let devices = tearless_sound::Devices { speaker: Some(silence()), microphone: Some(silence()) };
    let mut driver = torture(&Sound::new(devices), 0, 4, || {});
    let mut queue = driver.start(0, 4).remove(0);
    let request = driver.alloc_with(&[0x100u32, 1, 1, 32].map(u32::to_le_bytes).concat());
    let answer = driver.alloc(36);
    queue.offer(&driver, &[readable(request, 16), writable(answer, 36)]);
    assert_eq!(queue.wait(&driver).1, 36);
    assert_eq!(driver.bytes(answer, 4), [0, 0x80, 0, 0]);
}
