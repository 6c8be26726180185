//! The transport and the rings as a driver, good or hostile, sees them.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tearless_memory::Gpa;

use crate::{
    Activation, Chain, DeviceKind, VirtQueue, VirtioDevice, Wake, feature,
    testing::{
        Driver, INDIRECT, NEXT, Queue, RAM, RAM_SIZE, WRITE, eventually, readable, writable, write_descriptor,
    },
};

/// Answers each request with as many bytes as fit, taken from what it reads. It works on the vCPU's thread, so tests
/// need not wait: a kick does it all.
struct Echo {
    queues: Vec<Arc<VirtQueue>>,
    wakes: Vec<Arc<Wake>>,
    resets: AtomicUsize,
    fail: bool,
}

const OWN_FEATURE: u64 = 1 << 3;

impl Echo {
    fn new(fail: bool) -> Arc<Self> {
        let wakes: Vec<_> = (0..2).map(|_| Arc::new(Wake::default())).collect();
        let queues = wakes.iter().map(|wake| VirtQueue::new(64, wake.clone())).collect();
        Arc::new(Self { queues, wakes, resets: AtomicUsize::new(0), fail })
    }
}

impl VirtioDevice for Echo {
    fn kind(&self) -> DeviceKind {
        DeviceKind { id: 42, class: 0xff_00_00 }
    }
    fn features(&self) -> u64 {
        OWN_FEATURE
    }
    fn queues(&self) -> &[Arc<VirtQueue>] {
        &self.queues
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        crate::read_window(&[1, 2, 3, 4, 5, 6, 7, 8], offset, data);
    }
    fn activate(&self, _: Activation) -> io::Result<()> {
        if self.fail {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        for (queue, wake) in self.queues.iter().zip(&self.wakes) {
            let (queue, wake) = (queue.clone(), wake.clone());
            std::thread::spawn(move || {
                let mut chain = Chain::default();
                while wake.wait() {
                    while queue.with(|ring| echo(ring, &mut chain)) == Some(true) {}
                }
            });
        }
        Ok(())
    }
    fn reset(&self) {
        self.resets.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.wakes.iter().for_each(|wake| wake.shut_down());
    }
}

fn echo(ring: &mut crate::Ring, chain: &mut Chain) -> Result<bool, crate::RingError> {
    if !ring.pop_or_arm(chain)? {
        return Ok(false);
    }
    let mut data = [0; 256];
    let len = chain.read(ring.memory(), 0, &mut data)?;
    let written = chain.write(ring.memory(), 0, &data[..len])?;
    ring.push(chain.head(), written as u32)?;
    ring.notify()?;
    Ok(true)
}

fn started() -> (Driver, Queue) {
    let mut driver = Driver::probe(Echo::new(false));
    let mut queues = driver.start(0, 1);
    let queue = queues.remove(0);
    (driver, queue)
}

#[test]
fn identity_and_features() {
    let driver = Driver::probe(Echo::new(false));
    assert_eq!(driver.config_read(0), 0x106a_1af4);
    assert_eq!(driver.config_read(8), 0xff00_0001);
    assert_eq!(driver.offered(), OWN_FEATURE | feature::COMMON);
    assert_eq!(driver.device_config(4, 4), 0x0807_0605);
    assert_eq!(driver.device_config(7, 8), 8);
    assert_eq!(driver.common(0x12, 2), 2);

    assert_eq!(driver.negotiate(OWN_FEATURE), 11);
    driver.set_common(8, 4, 0);
    driver.set_common(0xc, 4, 0);
    assert_eq!(driver.common(0xc, 4), OWN_FEATURE | feature::EVENT_IDX, "fixed once accepted");
    assert_eq!(driver.negotiate(1 << 5), 3, "a feature that was not offered");
    driver.set_common(0x14, 1, 15);
    assert_eq!(driver.status(), 3, "no DRIVER_OK without FEATURES_OK");
}

#[test]
fn version_1_is_required() {
    let driver = Driver::probe(Echo::new(false));
    driver.set_common(0x14, 1, 3);
    driver.set_common(0x14, 1, 11);
    assert_eq!(driver.status(), 3);
}

#[test]
fn requests_go_round_and_interrupt() {
    let (mut driver, mut queue) = started();
    let question = driver.alloc_with(b"hello");
    let answer = driver.alloc(8);
    for round in 0..40u32 {
        let head =
            queue.offer(&driver, &[readable(question, 5), writable(answer, 3), writable(answer + 3, 5)]);
        assert_eq!(queue.wait(&driver), (head, 5), "round {round}");
        assert_eq!(driver.bytes(answer, 5), b"hello");
    }
    eventually("an interrupt", || driver.interrupted(1));
    assert!(!driver.broken());
}

#[test]
fn indirect_tables_work() {
    let (mut driver, mut queue) = started();
    let question = driver.alloc_with(b"via a table");
    let answer = driver.alloc(16);
    let table = driver.alloc(32);
    write_descriptor(&driver, table, (question, 11), NEXT, 1);
    write_descriptor(&driver, table + 16, (answer, 16), WRITE, 0);
    queue.descriptor(&driver, 3, (table, 32), INDIRECT, 0);
    queue.publish(&driver, 3);
    driver.kick(0);
    assert_eq!(queue.wait(&driver), (3, 11));
    assert_eq!(driver.bytes(answer, 11), b"via a table");
}

#[test]
fn without_msix_the_wired_line_and_the_isr_work() {
    let mut driver = Driver::probe(Echo::new(false));
    driver.negotiate(0);
    let mut queue = driver.queue(0, 16);
    driver.set_common(0x14, 1, 15);
    let at = driver.alloc(4);
    queue.offer(&driver, &[writable(at, 4)]);
    queue.wait(&driver);
    let levels = || crate::lock(&driver.record.levels).clone();
    eventually("the line rose", || levels() == [true]);
    assert_eq!(driver.read(driver.places.isr, 1), 1);
    assert_eq!(levels(), [true, false]);
    assert_eq!(driver.read(driver.places.isr, 1), 0);
    queue.offer(&driver, &[writable(at, 4)]);
    queue.wait(&driver);
    eventually("the line rose", || levels() == [true, false, true]);
    driver.config_write(4, 0x406);
    assert_eq!(levels(), [true, false, true, false], "INTx disable drops it");
}

#[test]
fn a_reset_forgets_everything_and_leaves_the_ring_alone() {
    let device = Echo::new(false);
    let mut driver = Driver::probe(device.clone());
    let mut queue = driver.start(0, 1).remove(0);
    driver.set_common(0x14, 1, 0);
    assert_eq!((driver.status(), device.resets.load(Ordering::Acquire)), (0, 2));
    driver.set_common(0x16, 2, 0);
    assert_eq!((driver.common(0x1c, 2), driver.common(0x20, 8), driver.common(0x18, 2)), (0, 0, 64));
    assert_eq!(driver.common(0x1a, 2), 0xffff);
    let at = driver.alloc(4);
    queue.offer(&driver, &[writable(at, 4)]);
    driver.set_common(0x14, 1, 0);
    assert!(queue.used(&driver).is_none());
    let mut queue = driver.start(0, 1).remove(0);
    queue.offer(&driver, &[writable(at, 4)]);
    queue.wait(&driver);
}

#[test]
fn without_bus_mastering_memory_is_left_alone() {
    let (mut driver, mut queue) = started();
    driver.config_write(0x04, 2);
    let at = driver.alloc(4);
    queue.offer(&driver, &[writable(at, 4)]);
    std::thread::sleep(std::time::Duration::from_millis(2));
    assert!(queue.used(&driver).is_none());
    driver.config_write(0x04, 6);
    queue.wait(&driver);
}

#[test]
fn a_single_queue_resets_and_comes_back() {
    let mut driver = Driver::probe(Echo::new(false));
    let mut queues = driver.start(feature::RING_RESET, 2);
    driver.set_common(0x16, 2, 1);
    driver.set_common(0x3a, 2, 1);
    assert_eq!((driver.common(0x3a, 2), driver.common(0x1c, 2)), (0, 0));
    let at = driver.alloc(4);
    queues[0].offer(&driver, &[writable(at, 4)]);
    queues[0].wait(&driver);
    queues[1].offer(&driver, &[writable(at, 4)]);
    assert!(queues[1].used(&driver).is_none());
    let mut fresh = driver.queue(1, 8);
    fresh.offer(&driver, &[writable(at, 4)]);
    fresh.wait(&driver);
}

#[test]
fn a_device_that_cannot_start_says_so() {
    let mut driver = Driver::probe(Echo::new(true));
    driver.negotiate(0);
    driver.use_msix();
    driver.queue(0, 16);
    driver.set_common(0x14, 1, 15);
    assert_eq!(driver.status(), 15 | 64);
    assert!(driver.interrupted(0));
}

/// Each breaks the ring in another way: the device must ask for a reset, and work again after it.
#[test]
fn malformed_rings_break_the_device_until_it_is_reset() {
    type Break = fn(&Driver, &mut Queue);
    let ram_end = Gpa(RAM.0 + RAM_SIZE);
    assert_eq!(ram_end, Gpa(0x4100_0000));
    let ways: [(&str, Break); 12] = [
        ("loop", |d, q| {
            q.descriptor(d, 0, (RAM, 4), NEXT, 1);
            q.descriptor(d, 1, (RAM, 4), NEXT, 0);
            q.publish(d, 0);
        }),
        ("next beyond the table", |d, q| {
            q.descriptor(d, 0, (RAM, 4), NEXT, 999);
            q.publish(d, 0);
        }),
        ("head beyond the table", |d, q| q.publish(d, 16)),
        ("readable after writable", |d, q| {
            q.descriptor(d, 0, (RAM, 4), WRITE | NEXT, 1);
            q.descriptor(d, 1, (RAM, 4), 0, 0);
            q.publish(d, 0);
        }),
        ("buffer beyond RAM", |d, q| {
            q.descriptor(d, 0, (Gpa(0x40ff_fffe), 4), 0, 0);
            q.publish(d, 0);
        }),
        ("buffer that wraps", |d, q| {
            q.descriptor(d, 0, (RAM, 4), NEXT, 1);
            q.descriptor(d, 1, (Gpa(u64::MAX - 1), 4), WRITE, 0);
            q.publish(d, 0);
        }),
        ("more than 4 GiB", |d, q| {
            q.descriptor(d, 0, (RAM, u32::MAX), NEXT, 1);
            q.descriptor(d, 1, (RAM, 2), 0, 0);
            q.publish(d, 0);
        }),
        ("more requests than entries", |d, q| {
            d.memory.write(q.avail + 2, &17u16.to_le_bytes()).unwrap();
        }),
        ("indirect table within a table", |d, q| {
            write_descriptor(d, RAM + 0x80_0000, (RAM, 16), INDIRECT, 0);
            q.descriptor(d, 0, (RAM + 0x80_0000, 16), INDIRECT, 0);
            q.publish(d, 0);
        }),
        ("indirect table of odd size", |d, q| {
            q.descriptor(d, 0, (RAM, 17), INDIRECT, 0);
            q.publish(d, 0);
        }),
        ("empty indirect table", |d, q| {
            q.descriptor(d, 0, (RAM, 0), INDIRECT, 0);
            q.publish(d, 0);
        }),
        ("indirect table that never ends", |d, q| {
            for i in 0..4096 {
                let next = ((i + 1) % 4096) as u16;
                write_descriptor(d, RAM + 0x80_0000 + 16 * i, (RAM, 1), NEXT, next);
            }
            q.descriptor(d, 0, (RAM + 0x80_0000, 65536), INDIRECT, 0);
            q.publish(d, 0);
        }),
    ];
    let mut driver = Driver::probe(Echo::new(false));
    for (name, break_it) in ways {
        let mut queue = driver.start(0, 1).remove(0);
        break_it(&driver, &mut queue);
        driver.kick(0);
        eventually(name, || driver.broken());
        eventually("the configuration interrupt", || driver.interrupted(0));
        assert!(queue.used(&driver).is_none(), "{name}");
        crate::lock(&driver.record.vectors).clear();

        let mut queue = driver.start(0, 1).remove(0);
        let at = driver.alloc(4);
        queue.offer(&driver, &[writable(at, 4)]);
        queue.wait(&driver);
        assert!(!driver.broken(), "{name}");
    }
}

#[test]
fn zero_length_buffers_are_requests_like_others() {
    let (driver, mut queue) = started();
    let head = queue.offer(&driver, &[readable(RAM, 0), writable(RAM, 0)]);
    assert_eq!(queue.wait(&driver), (head, 0));
}

#[test]
fn rings_outside_of_ram_are_refused() {
    for (register, value) in [(0x20, 0x1000), (0x28, u64::MAX - 0xf), (0x30, 0x40ff_fff0), (0x20, RAM.0 + 8)]
    {
        let mut driver = Driver::probe(Echo::new(false));
        driver.negotiate(0);
        driver.queue(0, 16);
        driver.set_common(0x16, 2, 0);
        driver.set_common(register, 8, 0);
        assert_ne!(driver.common(register, 8), 0, "an enabled queue does not change");
        driver.set_common(0x3a, 2, 1);
        for (at, address) in
            [(0x20, RAM.0), (0x28, RAM.0 + 0x1000), (0x30, RAM.0 + 0x2000), (register, value)]
        {
            driver.set_common(at, 8, address);
        }
        driver.set_common(0x1c, 2, 1);
        driver.set_common(0x14, 1, 15);
        assert!(driver.broken(), "{register:#x} = {value:#x}");
        driver.kick(0);
    }
}

#[test]
fn queue_sizes_are_checked() {
    let driver = Driver::probe(Echo::new(false));
    driver.set_common(0x16, 2, 1);
    for size in [0, 3, 128, 0xffff] {
        let _ = driver.window.write(driver.places.common + 0x18, &(size as u16).to_le_bytes());
        assert_eq!(driver.common(0x18, 2), 64);
    }
    driver.set_common(0x18, 2, 32);
    assert_eq!(driver.common(0x18, 2), 32);
    driver.set_common(0x16, 2, 2);
    assert_eq!((driver.common(0x18, 2), driver.common(0x1a, 2)), (0, 0xffff));
    driver.set_common(0x1c, 2, 1);
    driver.set_common(0x3a, 2, 1);
    driver.set_common(0x10, 2, 99);
    assert_eq!(driver.common(0x10, 2), 0xffff, "no such vector");
}

#[test]
fn the_configuration_window_reaches_the_bar() {
    let driver = Driver::probe(Echo::new(false));
    let at = driver.places.access_capability;
    driver.config_write(at + 8, driver.places.device as u32 + 4);
    driver.config_write(at + 12, 4);
    assert_eq!(driver.config_read(at + 16), 0x0807_0605);
    driver.config_write(at + 8, driver.places.common as u32 + 0x16);
    driver.config_write(at + 12, 2);
    driver.config_write(at + 16, 1);
    assert_eq!(driver.common(0x16, 2), 1);
    for (offset, length) in [(u32::MAX, 4), (0x7ffe, 4), (0, 3), (0, 0), (0x2001, 2)] {
        driver.config_write(at + 8, offset);
        driver.config_write(at + 12, length);
        driver.config_write(at + 16, u32::MAX);
        driver.config_read(at + 16);
    }
    assert_eq!(driver.common(0x16, 2), 1);
}

/// Registers take anything; the sequence is pseudo-random but always the same.
#[test]
fn arbitrary_accesses_do_no_harm() {
    let mut driver = Driver::probe(Echo::new(false));
    let mut seed = 0x1234_5678_9abc_def1u64;
    for _ in 0..200_000 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let value = seed.wrapping_mul(0x2545_f491_4f6c_dd1d);
        let len = 1usize << (seed >> 60 & 3);
        let offset = if seed >> 32 & 3 == 0 { seed & 0x7fff } else { seed & 0x3f };
        let mut data = [0; 8];
        let _ = driver.window.write(offset, &value.to_le_bytes()[..len]);
        let _ = driver.window.read(offset, &mut data[..len]);
        if seed >> 40 & 0xf == 0 {
            let register = 2 << 15 | seed & 0xff & !3;
            // The BAR and the command register stay, or the rest of the test would hit nothing.
            if !matches!(register & 0xff, 4..0x18) {
                driver.ecam.write(register, &value.to_le_bytes()[..4]).unwrap();
            }
            driver.ecam.read(register, &mut data[..4]).unwrap();
        }
    }
    driver.set_common(0x14, 1, 0);
    let mut queue = driver.start(0, 1).remove(0);
    let at = driver.alloc(4);
    queue.offer(&driver, &[writable(at, 4)]);
    queue.wait(&driver);
}
