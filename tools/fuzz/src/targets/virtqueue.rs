//! Virtio devices as a hostile driver sees them: registers, rings, descriptors, requests.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tearless_bus::{CharInput, IrqLine, MmioDevice, Msi, MsiSink};
use tearless_display::{Mode, Screen, Size};
use tearless_memory::{Gpa, GuestMemory};
use tearless_net::{Card, Endpoint, Frame, MAX_FRAME, Offload, Offloads};
use tearless_pci::{PciHost, PciHostConfig};
use tearless_sound::{Devices, Silence};
use tearless_storage::Disk;
use tearless_virtio::{
    VirtioDevice, VirtioPci,
    balloon::{Balloon, Gauge},
    blk::{Blk, BlkOptions},
    console::{Console, ConsolePort},
    gpu::Gpu,
    input::{self, Kind},
    net::Net,
    rng::Rng,
    sound::Sound,
    vsock::{Hub, Vsock},
};

use crate::Input;

const RAM: Gpa = Gpa(0x4000_0000);
const RAM_SIZE: u64 = 1 << 20;
const BAR: u64 = 0x80_0000_0000;
const BAR_SIZE: u64 = 0x8000;
const SLOT: u64 = 1;
const DISK_SIZE: usize = 1 << 16;
const CARD_ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Registers of the common configuration (virtio 1.3, 4.1.4.3) and where this transport has the notify registers.
mod register {
    pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub const DRIVER_FEATURE: u64 = 0x0c;
    pub const STATUS: u64 = 0x14;
    pub const QUEUE_SELECT: u64 = 0x16;
    pub const QUEUE_SIZE: u64 = 0x18;
    pub const QUEUE_ENABLE: u64 = 0x1c;
    pub const QUEUE_DESC: u64 = 0x20;
    pub const QUEUE_RESET: u64 = 0x3a;
    pub const NOTIFY: u64 = 0x3000;
}

/// A disk in memory that insists on what the contract promises it.
struct MemoryDisk(Mutex<Vec<u8>>);

impl MemoryDisk {
    fn with(&self, offset: u64, len: u64, work: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let mut bytes: MutexGuard<Vec<u8>> = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.checked_add(len).filter(|end| *end <= DISK_SIZE as u64);
        let Some(end) = end else { panic!("{offset:#x}+{len:#x} is beyond the disk") };
        work(&mut bytes[offset as usize..end as usize]);
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn name(&self) -> &str {
        "memory"
    }
    fn size(&self) -> u64 {
        DISK_SIZE as u64
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(offset, data.len() as u64, |bytes| data.copy_from_slice(bytes))
    }
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.with(offset, data.len() as u64, |bytes| bytes.copy_from_slice(data))
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.with(offset, len, |_| {})
    }
    fn write_zeroes(&self, offset: u64, len: u64, _: bool) -> io::Result<()> {
        self.with(offset, len, |bytes| bytes.fill(0))
    }
}

/// A network that sends the guest back what it sent, and a larger frame of the same flow after it.
#[derive(Default)]
struct Echo(Mutex<Option<Arc<dyn Card>>>);

impl Echo {
    fn card(&self) -> MutexGuard<'_, Option<Arc<dyn Card>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoint for Echo {
    fn accepts(&self) -> Offloads {
        Offloads::ALL
    }
    fn mtu(&self) -> Option<u16> {
        Some(1500)
    }
    fn attach(&self, card: Arc<dyn Card>) {
        *self.card() = Some(card);
    }
    fn detach(&self) {
        *self.card() = None;
    }
    fn kick(&self) {
        /// Frames for one kick: what a guest offers while it is served would go on for ever.
        const MOST: usize = 64;
        let Some(card) = self.card().clone() else { return };
        let mut frame = Vec::new();
        for _ in 0..MOST {
            let Some(offload) = card.take(&mut frame) else { break };
            assert!((14..=MAX_FRAME).contains(&frame.len()), "{} bytes", frame.len());
            card.give(&Frame::whole(&frame, offload));
            card.give(&Frame { offload: Offload::default(), parts: [&frame, &[0x5a; 600], &frame] });
        }
        card.flush();
    }
}

struct Ignore;

impl MsiSink for Ignore {
    fn signal(&self, _: Msi) {}
}

/// The device under test, and the host's side of the console.
struct Bench {
    memory: GuestMemory,
    ecam: Arc<dyn MmioDevice>,
    window: Arc<dyn MmioDevice>,
    console: Option<Arc<Console>>,
    hub: Arc<Hub>,
    gauge: Arc<Gauge>,
    /// The screen, what is typed, and whether the display is under test.
    viewed: (Arc<Screen>, Arc<tearless_display::Input>, bool),
    /// Whether the sound card is under test.
    sounds: bool,
    /// Whether the network card is.
    frames: bool,
    queues: u64,
}

/// Console, disk, entropy, socket or balloon device: the driver's moves come from the input.
pub fn virtqueue(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8() % 5;
    run(kind, &mut input);
}

/// The display or the keyboard, in the same way.
pub fn display(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = if input.one_in(4) { KEYBOARD } else { DISPLAY };
    run(kind, &mut input);
}

/// The network card with two pairs of queues, in the same way.
pub fn card(data: &[u8]) {
    run(CARD, &mut Input::new(data));
}

/// The sound card, in the same way.
pub fn sound(data: &[u8]) {
    run(SOUND, &mut Input::new(data));
}

const DISPLAY: u8 = 5;
const KEYBOARD: u8 = 6;
const SOUND: u8 = 7;
const CARD: u8 = 8;

fn run(kind: u8, input: &mut Input) {
    let Some(bench) = Bench::new(kind) else { return };
    bench.set_up(input);
    while !input.is_empty() {
        bench.step(input);
    }
    // A reset must not wait for ever, whatever the workers are at.
    bench.write(register::STATUS, 1, 0);
}

impl Bench {
    fn new(kind: u8) -> Option<Self> {
        let memory = GuestMemory::new(&[RAM..RAM + RAM_SIZE]).ok()?;
        let console = (kind == 0).then(console).flatten();
        let (hub, gauge) = (hub(), Gauge::new(0));
        let (screen, keys) = (Screen::new(Mode::default()), tearless_display::Input::new());
        let device: Arc<dyn VirtioDevice> = match (&console, kind) {
            (Some(console), _) => console.clone(),
            (None, 1) => {
                let disk = MemoryDisk(Mutex::new(vec![0x5a; DISK_SIZE]));
                Blk::new(Arc::new(disk), &BlkOptions { serial: "fuzz".to_owned(), queues: 2 })
            }
            (None, 2) => Vsock::new(hub.clone()).ok()?,
            (None, 3) => Balloon::new(gauge.clone()),
            (None, DISPLAY) => Gpu::new(screen.clone()),
            (None, KEYBOARD) => input::Input::new(Kind::Keyboard, &keys),
            (None, SOUND) => {
                Sound::new(Devices { speaker: Some(Arc::new(Silence)), microphone: Some(Arc::new(Silence)) })
            }
            (None, CARD) => Net::new(CARD_ADDRESS, Arc::new(Echo::default()), 2),
            _ => Rng::new(),
        };
        let queues = device.queues().len() as u64;
        let host = PciHost::new(PciHostConfig {
            mem32: Gpa(0x1000_0000)..Gpa(0x3eff_0000),
            mem64: Gpa(BAR)..Gpa(2 * BAR),
            buses: 1,
            intx: std::array::from_fn(|_| IrqLine::detached()),
            msi: Arc::new(Ignore),
        });
        host.add(SLOT as u8, VirtioPci::new(device, memory.clone()).ok()?).ok()?;
        let (ecam, window) = (host.ecam(), host.window64());
        let viewed = (screen, keys, kind == DISPLAY);
        let (sounds, frames) = (kind == SOUND, kind == CARD);
        let bench = Self { memory, ecam, window, console, hub, gauge, viewed, sounds, frames, queues };
        bench.configure(0x14, (BAR >> 32) as u32);
        bench.configure(0x04, 0x6);
        Some(bench)
    }

    fn configure(&self, register: u64, value: u32) {
        _ = self.ecam.write(SLOT << 15 | register, &value.to_le_bytes());
    }

    fn write(&self, register: u64, len: usize, value: u64) {
        _ = self.window.write(register, &value.to_le_bytes()[..len]);
    }

    /// Negotiates some features, and starts the device with its queues where queues belong: noise would not find that.
    fn set_up(&self, input: &mut Input) {
        for status in [0, 1, 3] {
            self.write(register::STATUS, 1, status);
        }
        for (half, features) in [(0, input.u32()), (1, 1 | u32::from(input.u8()) << 8)] {
            self.write(register::DRIVER_FEATURE_SELECT, 4, half);
            // What a device does not offer it refuses as a whole, so only bits that exist are set.
            let offered = self.offered(half);
            self.write(register::DRIVER_FEATURE, 4, u64::from(features) & offered);
        }
        self.write(register::STATUS, 1, 11);
        for index in 0..self.queues {
            let shape = if self.sounds && !input.one_in(8) { 4 } else { input.u8() };
            self.place_queue(index, shape, None);
        }
        self.write(register::STATUS, 1, 15);
    }

    fn offered(&self, half: u64) -> u64 {
        let mut data = [0; 4];
        self.write(0, 4, half);
        _ = self.window.read(4, &mut data);
        u32::from_le_bytes(data).into()
    }

    /// Where queue `index` has its descriptors; the rings follow, and each queue has 16 KiB.
    fn ring(index: u64) -> u64 {
        RAM.0 + index * 0x4000
    }

    fn place_queue(&self, index: u64, shape: u8, at: Option<u64>) {
        let base = at.unwrap_or(Self::ring(index));
        self.write(register::QUEUE_SELECT, 2, index);
        self.write(register::QUEUE_SIZE, 2, 1 << (shape % 10));
        for (n, offset) in [0, 0x2000, 0x3000].into_iter().enumerate() {
            let address = base.wrapping_add(offset);
            self.write(register::QUEUE_DESC + 8 * n as u64, 8, address);
        }
        self.write(register::QUEUE_ENABLE, 2, 1);
    }

    fn step(&self, input: &mut Input) {
        let queue = input.below(self.queues);
        match input.u8() % 16 {
            0 => input.access(&*self.window, BAR_SIZE),
            1 => {
                // Not the BAR: the device would be gone for the rest of the input. The pci target moves them.
                let register = input.pick(&[0x04, 0x06, 0x0c, 0x3c, 0x40, 0x44, 0x48, 0x80, 0x84, 0x90]);
                self.configure(register + u64::from(input.u8() & 0x7c), input.value() as u32);
                self.configure(0x14, (BAR >> 32) as u32);
                self.configure(0x10, 0);
            }
            2 => {
                let at = input.below(RAM_SIZE);
                let len = input.u8().into();
                _ = self.memory.write(RAM + at, input.bytes(len));
            }
            3..=7 => self.descriptor(input, queue),
            8..=10 => {
                self.publish(input, queue);
                self.write(register::NOTIFY + 4 * queue, 2, queue);
            }
            11 if self.viewed.2 => self.command(input),
            11 if self.sounds => self.message(input),
            12 if self.sounds => self.message(input),
            11 | 12 if self.frames => self.frame(input),
            11 if input.flag() => self.packet(input),
            11 => self.request(input),
            12 => thread::yield_now(),
            13 => {
                self.write(register::QUEUE_SELECT, 2, queue);
                self.write(register::QUEUE_RESET, 2, 1);
                let at = input.flag().then(|| input.value());
                self.place_queue(queue, input.u8(), at);
            }
            14 if input.one_in(8) => self.set_up(input),
            _ => self.host_side(input),
        }
    }

    /// Where a buffer or a table may be: mostly in RAM, mostly small.
    fn buffer(input: &mut Input) -> (u64, u32) {
        let at = match input.u8() % 16 {
            0 => input.value(),
            1 => RAM.0 + RAM_SIZE - u64::from(input.u8()),
            2 => RAM.0 + input.below(RAM_SIZE),
            _ => RAM.0 + RAM_SIZE / 2 + u64::from(input.u16() & 0xfff0),
        };
        let len = match input.u8() % 8 {
            0 => input.value() as u32,
            1..4 => 16,
            4 => 1,
            _ => u32::from(input.u8()) * 512,
        };
        (at, len)
    }

    /// Writes a descriptor of `queue`, or one in an indirect table.
    fn descriptor(&self, input: &mut Input, queue: u64) {
        let (address, len) = Self::buffer(input);
        let flags = u16::from(input.u8() % 8);
        let next = if input.one_in(16) { input.u16() } else { u16::from(input.u8() % 16) };
        let index = u64::from(input.u8());
        let at = if index < 224 { Self::ring(queue) } else { RAM.0 + RAM_SIZE / 2 } + 16 * (index % 16);
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        _ = self.memory.write(Gpa(at), &bytes);
    }

    /// Makes some descriptors available; rarely the index jumps.
    fn publish(&self, input: &mut Input, queue: u64) {
        let available = Self::ring(queue) + 0x2000;
        let mut index = [0; 2];
        _ = self.memory.read(Gpa(available + 2), &mut index);
        let mut index = u16::from_le_bytes(index);
        for _ in 0..input.u8() % 4 {
            let head = if input.one_in(32) { input.u16() } else { u16::from(input.u8() % 16) };
            let slot = u64::from(index % 256);
            _ = self.memory.write(Gpa(available + 4 + 2 * slot), &head.to_le_bytes());
            index = index.wrapping_add(1);
        }
        if input.one_in(32) {
            index = input.u16();
        }
        _ = self.memory.write(Gpa(available + 2), &index.to_le_bytes());
    }

    /// What looks like the header of a disk request, a range to discard, or a message of the console.
    fn request(&self, input: &mut Input) {
        let at = RAM.0 + RAM_SIZE / 2 + u64::from(input.u16() & 0xfff0);
        let mut bytes = u32::from(input.u8() % 14).to_le_bytes().to_vec();
        bytes.extend(u32::from(input.u16()).to_le_bytes());
        bytes.extend(input.value().to_le_bytes());
        _ = self.memory.write(Gpa(at), &bytes);
    }

    /// What looks like a frame of a TCP connection behind its header, or like a command of the control queue.
    fn frame(&self, input: &mut Input) {
        let at = RAM.0 + RAM_SIZE / 2 + u64::from(input.u16() & 0xfff0);
        let mut bytes = vec![4, 0, input.u8() % 4, 0];
        if !input.one_in(4) {
            bytes = vec![0; 18];
            bytes.extend(CARD_ADDRESS);
            bytes.extend(b"\x08\0\x45\0\0\x28\0\0\0\0\x40\x06\0\0\x0a\0\x02\x0f\x0a\0\x02\x02\0");
            bytes.extend([input.u8(), 0, 80]);
        }
        _ = self.memory.write(Gpa(at), &bytes);
    }

    /// What looks like a packet between the guest's and the host's sockets.
    fn packet(&self, input: &mut Input) {
        let at = RAM.0 + RAM_SIZE / 2 + u64::from(input.u16() & 0xfff0);
        let mut bytes = [3u64.to_le_bytes(), 2u64.to_le_bytes()].concat();
        bytes.extend(u32::from(input.u8() % 4).to_le_bytes());
        bytes.extend(u32::from(input.u8() % 4).to_le_bytes());
        bytes.extend((input.value() as u32 % 0x2_0000).to_le_bytes());
        bytes.extend([1, 0, input.u8() % 9, 0, input.u8() % 4, 0, 0, 0]);
        bytes.extend(input.value().to_le_bytes());
        _ = self.memory.write(Gpa(at), &bytes);
    }

    /// A whole message to the sound card, well placed: a request with sensible numbers, or a buffer of some length.
    fn message(&self, input: &mut Input) {
        let (queue, len) = match input.u8() % 8 {
            0..=4 => (0, if input.one_in(8) { u32::from(input.u8()) } else { input.pick(&[8, 24, 16]) }),
            5..=6 => (2, 4),
            _ => (3, 4),
        };
        let code = input.pick(&[0x101, 0x101, 0x102, 0x102, 0x103, 0x104, 0x104, 0x105, 1, 0x100, 0x200]);
        let stream = u32::from(input.u8() % 8 / 3);
        let mut words = vec![stream, 4096, 1024, if input.flag() { 16 } else { 0 }];
        words.insert(0, if queue == 0 { code } else { stream });
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend([1 + input.u8() % 2, 5, 1 + input.u8() % 10, 0]);
        let at = RAM.0 + RAM_SIZE / 4 * 3 + queue * 0x100;
        _ = self.memory.write(Gpa(at), &bytes);
        let (next, write) = (1u16, 2u16);
        let sound = (u32::from(input.u8()) * 4, if queue == 2 { 0 } else { write });
        let descriptors = [(at, len, next), (at + 0x1000, sound.0, sound.1 | next), (at + 0x2000, 8, write)];
        for (index, (address, len, flags)) in (12u16..).zip(descriptors) {
            let mut bytes = address.to_le_bytes().to_vec();
            bytes.extend(len.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend((index + 1).to_le_bytes());
            _ = self.memory.write(Gpa(Self::ring(queue) + 16 * u64::from(index)), &bytes);
        }
        let available = Self::ring(queue) + 0x2000;
        let mut count = [0; 2];
        _ = self.memory.read(Gpa(available + 2), &mut count);
        let count = u16::from_le_bytes(count);
        // The ring of whoever chose 16 entries, which is common enough.
        _ = self.memory.write(Gpa(available + 4 + 2 * u64::from(count % 16)), &12u16.to_le_bytes());
        _ = self.memory.write(Gpa(available + 2), &count.wrapping_add(1).to_le_bytes());
        self.write(register::NOTIFY + 4 * queue, 2, queue);
    }

    /// What looks like a command to a display, about pictures with small numbers.
    fn command(&self, input: &mut Input) {
        let at = RAM.0 + RAM_SIZE / 2 + u64::from(input.u16() & 0xfff0);
        let kinds =
            [0x100, 0x101, 0x101, 0x102, 0x103, 0x104, 0x105, 0x106, 0x106, 0x107, 0x10a, 0x300, 0x301];
        let mut bytes = (input.pick(&kinds) as u32).to_le_bytes().to_vec();
        bytes.extend([0; 20]);
        for _ in 0..8 {
            let word = if input.one_in(8) { input.value() as u32 } else { u32::from(input.u8() % 5) };
            bytes.extend(word.to_le_bytes());
        }
        _ = self.memory.write(Gpa(at), &bytes);
    }

    /// A viewer wants another size, looks and types.
    fn viewer(&self, input: &mut Input) {
        let (screen, keys, _) = &self.viewed;
        screen.want(Size::new(input.u16().into(), input.u16().into()));
        screen.picture();
        let mut seat = keys.seat();
        (0..input.u8() % 64).for_each(|_| seat.key(input.u16() % 300, input.flag()));
    }

    /// The host types, closes, opens, resizes and calls.
    fn host_side(&self, input: &mut Input) {
        if self.hub.is_online() {
            match input.u8() % 8 {
                0 => self.hub.transport_reset(),
                _ => drop(self.hub.dial(input.u8().into(), Duration::ZERO)),
            }
        }
        self.viewer(input);
        self.gauge.set_target(RAM_SIZE / 2);
        self.gauge.read(Duration::from_micros(1));
        let Some(console) = &self.console else { return };
        let Some(port) = console.port(input.below(2) as usize) else { return };
        match input.u8() % 4 {
            0 => port.close(),
            1 => port.open(),
            2 => console.resize(input.u8().into(), input.u8().into()),
            _ => {
                let len = input.u8().into();
                let bytes = input.bytes(len);
                assert!(port.push(bytes) <= bytes.len());
            }
        }
    }
}

/// Two ports answer: one keeps its connections for ever and says something, the other ends them at once.
fn hub() -> Arc<Hub> {
    let hub = Hub::new();
    let kept = Mutex::new(Vec::new());
    hub.listen(1, move |mut stream| {
        _ = stream.write_all(&[7; 300]);
        kept.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    });
    hub.listen(2, drop);
    hub
}

fn console() -> Option<Arc<Console>> {
    let port = |name: &str, is_console| ConsolePort {
        name: name.to_owned(),
        is_console,
        sink: Box::new(|_: &[u8]| {}),
        on_guest_open: None,
    };
    Console::new(vec![port("", true), port("stream", false)]).ok()
}
