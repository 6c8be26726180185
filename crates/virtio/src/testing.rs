//! A small driver: it finds the device on a PCI host, negotiates and keeps rings in guest memory, all through MMIO.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use tearless_bus::{IrqLine, IrqSink, MmioDevice, Msi, MsiSink};
use tearless_memory::{Gpa, GuestMemory};
use tearless_pci::{PciHost, PciHostConfig, requester_id};
use tearless_state::{Parts, StateError};

use crate::{VirtioDevice, VirtioPci, feature, lock};

pub(crate) const RAM: Gpa = Gpa(0x4000_0000);
pub(crate) const RAM_SIZE: u64 = 16 << 20;
const BAR: u64 = 0x80_0000_0000;
const SLOT: u8 = 2;
const DOORBELL: u64 = 0x0808_0040;
/// Tests poll for what workers do; this only ends a test that would hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what} never happened");
        thread::sleep(Duration::from_micros(200));
    }
}

#[derive(Default)]
pub(crate) struct Record {
    pub(crate) vectors: Mutex<Vec<u32>>,
    pub(crate) levels: Mutex<Vec<bool>>,
}

impl MsiSink for Record {
    fn signal(&self, msi: Msi) {
        assert_eq!((msi.address, msi.device_id), (Gpa(DOORBELL), u32::from(requester_id(SLOT))));
        lock(&self.vectors).push(msi.data);
    }
}

impl IrqSink for Record {
    fn set_level(&self, _: u32, level: bool) {
        lock(&self.levels).push(level);
    }
}

/// Offsets of the structures in the BAR, as the capabilities say.
#[derive(Default, Debug)]
pub(crate) struct Places {
    pub(crate) common: u64,
    pub(crate) notify: u64,
    pub(crate) multiplier: u64,
    pub(crate) isr: u64,
    pub(crate) device: u64,
    pub(crate) access_capability: u64,
}

fn segment(record: &Arc<Record>, device: Arc<dyn VirtioDevice>, memory: &GuestMemory) -> PciHost {
    let host = PciHost::new(PciHostConfig {
        mem32: Gpa(0x1000_0000)..Gpa(0x3eff_0000),
        mem64: Gpa(BAR)..Gpa(2 * BAR),
        buses: 1,
        intx: [0, 1, 2, 3].map(|line| IrqLine::new(record.clone(), line)),
        msi: record.clone(),
    });
    host.add(SLOT, VirtioPci::new(device, memory.clone()).unwrap()).unwrap();
    host
}

pub(crate) struct Driver {
    pub(crate) memory: GuestMemory,
    pub(crate) record: Arc<Record>,
    pub(crate) places: Places,
    pub(crate) ecam: Arc<dyn MmioDevice>,
    pub(crate) window: Arc<dyn MmioDevice>,
    host: PciHost,
    msix: u64,
    next: u64,
}

impl Driver {
    /// Finds `device` and places its BAR.
    pub(crate) fn probe(device: Arc<dyn VirtioDevice>) -> Self {
        let memory = GuestMemory::new(&[RAM..Gpa(RAM.0 + RAM_SIZE)]).unwrap();
        let record = Arc::new(Record::default());
        let host = segment(&record, device, &memory);
        let mut driver = Self {
            memory,
            record,
            places: Places::default(),
            ecam: host.ecam(),
            window: host.window64(),
            host,
            msix: 0,
            next: RAM.0,
        };
        driver.config_write(0x14, (BAR >> 32) as u32);
        driver.config_write(0x10, 0);
        driver.config_write(0x04, 0x6);
        driver.walk_capabilities();
        driver
    }

    /// The state of the device, which stands still until [`Driver::proceed`].
    pub(crate) fn save(&self) -> Parts {
        let mut parts = Parts::default();
        self.host.quiesce(Instant::now() + PATIENCE).unwrap();
        self.host.save(&mut parts).unwrap();
        parts
    }

    pub(crate) fn proceed(&self) {
        self.host.proceed(false);
    }

    /// The guest goes on with `device`, whose state is in `parts`, and with a copy of its memory.
    pub(crate) fn go_on(&self, device: Arc<dyn VirtioDevice>, mut parts: Parts) -> Result<Self, StateError> {
        let memory = GuestMemory::new(&[RAM..Gpa(RAM.0 + RAM_SIZE)]).unwrap();
        memory.write(RAM, &self.bytes(RAM, RAM_SIZE as usize)).unwrap();
        let record = Arc::new(Record::default());
        let host = segment(&record, device, &memory);
        host.restore(&mut parts)?;
        host.proceed(true);
        let Places { common, notify, multiplier, isr, device, access_capability } = self.places;
        Ok(Self {
            memory,
            record,
            places: Places { common, notify, multiplier, isr, device, access_capability },
            ecam: host.ecam(),
            window: host.window64(),
            host,
            msix: self.msix,
            next: self.next,
        })
    }

    fn walk_capabilities(&mut self) {
        let mut at = u64::from(self.config_read(0x34) & 0xff);
        let mut seen = 0;
        while at != 0 {
            let word = self.config_read(at);
            match (word & 0xff, word >> 24) {
                (0x11, _) => self.msix = at,
                (0x09, kind) => {
                    seen |= 1 << kind;
                    let offset = u64::from(self.config_read(at + 8));
                    match kind {
                        1 => self.places.common = offset,
                        2 => {
                            self.places.notify = offset;
                            self.places.multiplier = u64::from(self.config_read(at + 16));
                        }
                        3 => self.places.isr = offset,
                        4 => self.places.device = offset,
                        5 => self.places.access_capability = at,
                        other => panic!("capability type {other}"),
                    }
                }
                (other, _) => panic!("capability {other:#x}"),
            }
            at = u64::from(word >> 8 & 0xff);
        }
        assert_eq!(seen, 0b11_1110);
        assert_ne!(self.msix, 0);
    }

    pub(crate) fn config_read(&self, register: u64) -> u32 {
        let mut data = [0; 4];
        self.ecam.read(u64::from(SLOT) << 15 | register, &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    pub(crate) fn config_write(&self, register: u64, value: u32) {
        self.ecam.write(u64::from(SLOT) << 15 | register, &value.to_le_bytes()).unwrap();
    }

    pub(crate) fn read(&self, offset: u64, len: usize) -> u64 {
        let mut data = [0; 8];
        self.window.read(offset, &mut data[..len]).unwrap();
        u64::from_le_bytes(data)
    }

    pub(crate) fn write(&self, offset: u64, len: usize, value: u64) {
        self.window.write(offset, &value.to_le_bytes()[..len]).unwrap();
    }

    pub(crate) fn common(&self, offset: u64, len: usize) -> u64 {
        self.read(self.places.common + offset, len)
    }

    pub(crate) fn set_common(&self, offset: u64, len: usize, value: u64) {
        self.write(self.places.common + offset, len, value);
    }

    pub(crate) fn device_config(&self, offset: u64, len: usize) -> u64 {
        self.read(self.places.device + offset, len)
    }

    pub(crate) fn status(&self) -> u8 {
        self.common(0x14, 1) as u8
    }

    pub(crate) fn offered(&self) -> u64 {
        self.set_common(0, 4, 0);
        let low = self.common(4, 4);
        self.set_common(0, 4, 1);
        low | self.common(4, 4) << 32
    }

    /// Resets, and negotiates `features` besides VERSION_1 and EVENT_IDX. Returns the status.
    pub(crate) fn negotiate(&self, features: u64) -> u8 {
        self.set_common(0x14, 1, 0);
        self.set_common(0x14, 1, 1);
        self.set_common(0x14, 1, 3);
        let features = features | feature::VERSION_1 | feature::EVENT_IDX;
        for half in 0..2 {
            self.set_common(8, 4, half);
            self.set_common(0xc, 4, features >> (32 * half) & 0xffff_ffff);
        }
        self.set_common(0x14, 1, 11);
        self.status()
    }

    /// One MSI-X vector per queue, vector 0 for the configuration; messages carry the vector's number.
    pub(crate) fn use_msix(&self) {
        let table = u64::from(self.config_read(self.msix + 4) & !7);
        let vectors = u64::from(self.config_read(self.msix) >> 16 & 0x7ff) + 1;
        self.config_write(self.msix, 0x8000_0000);
        for vector in 0..vectors {
            self.write(table + 16 * vector, 8, DOORBELL);
            self.write(table + 16 * vector + 8, 8, vector);
        }
        self.set_common(0x10, 2, 0);
        for queue in 0..self.common(0x12, 2) {
            self.set_common(0x16, 2, queue);
            self.set_common(0x1a, 2, queue + 1);
            assert_eq!(self.common(0x1a, 2), queue + 1);
        }
    }

    /// Guest memory that nothing else uses.
    pub(crate) fn alloc(&mut self, len: u64) -> Gpa {
        let at = Gpa(self.next);
        self.next = (self.next + len).next_multiple_of(64);
        assert!(self.next <= RAM.0 + RAM_SIZE);
        at
    }

    /// Gives all of it back.
    pub(crate) fn rewind(&mut self) {
        self.next = RAM.0;
    }

    pub(crate) fn alloc_with(&mut self, data: &[u8]) -> Gpa {
        let at = self.alloc(data.len() as u64);
        self.memory.write(at, data).unwrap();
        at
    }

    /// Places and enables queue `index`.
    pub(crate) fn queue(&mut self, index: u16, size: u16) -> Queue {
        let entries = u64::from(size);
        let queue = Queue {
            index,
            size,
            desc: self.alloc(16 * entries),
            avail: self.alloc(6 + 2 * entries),
            used: self.alloc(6 + 8 * entries),
            free: 0,
            offered: 0,
            seen: 0,
        };
        for at in [queue.avail, queue.used] {
            self.memory.write(at, &[0; 4]).unwrap();
        }
        self.set_common(0x16, 2, u64::from(index));
        self.set_common(0x18, 2, entries);
        for (register, at) in [(0x20, queue.desc), (0x28, queue.avail), (0x30, queue.used)] {
            self.set_common(register, 4, at.0 & 0xffff_ffff);
            self.set_common(register + 4, 4, at.0 >> 32);
            assert_eq!(self.common(register, 8), at.0);
        }
        self.set_common(0x1c, 2, 1);
        queue
    }

    /// Negotiates, enables queues 0 to `count - 1` and sets DRIVER_OK.
    pub(crate) fn start(&mut self, features: u64, count: u16) -> Vec<Queue> {
        assert_eq!(self.negotiate(features), 11);
        self.use_msix();
        let queues = (0..count).map(|index| self.queue(index, 16)).collect();
        self.set_common(0x14, 1, 15);
        assert_eq!(self.status(), 15);
        queues
    }

    pub(crate) fn kick(&self, queue: u16) {
        self.write(self.places.notify + self.places.multiplier * u64::from(queue), 2, u64::from(queue));
    }

    pub(crate) fn interrupted(&self, vector: u32) -> bool {
        self.interrupts(vector) > 0
    }

    pub(crate) fn interrupts(&self, vector: u32) -> usize {
        lock(&self.record.vectors).iter().filter(|seen| **seen == vector).count()
    }

    pub(crate) fn bytes(&self, at: Gpa, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.memory.read(at, &mut data).unwrap();
        data
    }

    /// Whether the device asks for a reset.
    pub(crate) fn broken(&self) -> bool {
        self.status() & 64 != 0
    }
}

/// A buffer of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    pub(crate) at: Gpa,
    pub(crate) len: u32,
    pub(crate) writable: bool,
}

pub(crate) fn readable(at: Gpa, len: usize) -> Buffer {
    Buffer { at, len: len as u32, writable: false }
}

pub(crate) fn writable(at: Gpa, len: usize) -> Buffer {
    Buffer { at, len: len as u32, writable: true }
}

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// The driver's side of a queue.
pub(crate) struct Queue {
    pub(crate) index: u16,
    pub(crate) size: u16,
    pub(crate) desc: Gpa,
    pub(crate) avail: Gpa,
    pub(crate) used: Gpa,
    free: u16,
    offered: u16,
    seen: u16,
}

impl Queue {
    /// Writes descriptor `index` as it is told, sense or no sense.
    pub(crate) fn descriptor(&self, driver: &Driver, index: u16, buffer: (Gpa, u32), flags: u16, next: u16) {
        write_descriptor(driver, self.desc + 16 * u64::from(index), buffer, flags, next);
    }

    /// Makes the chain that starts at descriptor `head` available.
    pub(crate) fn publish(&mut self, driver: &Driver, head: u16) {
        let slot = self.avail + 4 + 2 * u64::from(self.offered % self.size);
        driver.memory.write(slot, &head.to_le_bytes()).unwrap();
        self.offered = self.offered.wrapping_add(1);
        driver.memory.write(self.avail + 2, &self.offered.to_le_bytes()).unwrap();
    }

    /// Offers a request and kicks. Returns its head.
    pub(crate) fn offer(&mut self, driver: &Driver, buffers: &[Buffer]) -> u16 {
        let head = self.free % self.size;
        for (i, buffer) in buffers.iter().enumerate() {
            let index = self.free % self.size;
            self.free = self.free.wrapping_add(1);
            let last = i + 1 == buffers.len();
            let flags = if buffer.writable { WRITE } else { 0 } | if last { 0 } else { NEXT };
            self.descriptor(driver, index, (buffer.at, buffer.len), flags, self.free % self.size);
        }
        self.publish(driver, head);
        driver.kick(self.index);
        head
    }

    /// The next used entry, if there is one: head and length.
    pub(crate) fn used(&mut self, driver: &Driver) -> Option<(u16, u32)> {
        let bytes = driver.bytes(self.used + 2, 2);
        if u16::from_le_bytes([bytes[0], bytes[1]]) == self.seen {
            return None;
        }
        let entry = driver.bytes(self.used + 4 + 8 * u64::from(self.seen % self.size), 8);
        self.seen = self.seen.wrapping_add(1);
        // Ask for an interrupt at the next one.
        let used_event = self.avail + 4 + 2 * u64::from(self.size);
        driver.memory.write(used_event, &self.seen.to_le_bytes()).unwrap();
        let word = |i: usize| u32::from_le_bytes([entry[i], entry[i + 1], entry[i + 2], entry[i + 3]]);
        Some((word(0) as u16, word(4)))
    }

    /// Waits for the next used entry.
    pub(crate) fn wait(&mut self, driver: &Driver) -> (u16, u32) {
        let mut found = None;
        eventually("a used buffer", || {
            found = self.used(driver);
            found.is_some()
        });
        found.unwrap()
    }
}

pub(crate) fn write_descriptor(driver: &Driver, at: Gpa, (gpa, len): (Gpa, u32), flags: u16, next: u16) {
    let mut bytes = gpa.0.to_le_bytes().to_vec();
    bytes.extend(len.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(next.to_le_bytes());
    driver.memory.write(at, &bytes).unwrap();
}
