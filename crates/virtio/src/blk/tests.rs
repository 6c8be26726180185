//! A disk as a driver sees it.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use tearless_storage::{Disk, OpenOptions, RawDisk};

use super::{
    Blk, BlkOptions,
    spec::{MAX_RANGE_SECTORS, feature, request},
};
use crate::{
    lock,
    testing::{Driver, Queue, eventually, readable, writable},
};

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;
const SECTORS: u64 = 8192;

fn file() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let content: Vec<u8> = (0..SECTORS).flat_map(|sector| [sector as u8; 512]).collect();
    file.write_all(&content).unwrap();
    file
}

fn open(file: &tempfile::NamedTempFile, read_only: bool) -> Arc<RawDisk> {
    Arc::new(RawDisk::open(file.path(), OpenOptions { read_only, ..OpenOptions::default() }).unwrap())
}

struct Bench {
    driver: Driver,
    queue: Queue,
}

impl Bench {
    fn new(disk: Arc<dyn Disk>, features: u64) -> Self {
        let mut driver = Driver::probe(Blk::new(disk, &BlkOptions { serial: "root".to_owned(), queues: 1 }));
        let queue = driver.start(features, 1).remove(0);
        Self { driver, queue }
    }

    fn header(&mut self, kind: u32, sector: u64) -> tearless_memory::Gpa {
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        self.driver.alloc_with(&header)
    }

    /// Sends a request with `data` to the device; returns its status.
    fn send(&mut self, kind: u32, sector: u64, data: &[u8]) -> u8 {
        let header = self.header(kind, sector);
        let data_at = self.driver.alloc_with(data);
        let status = self.driver.alloc_with(&[0xee]);
        let (head, tail) = (readable(header, 16), writable(status, 1));
        if data.is_empty() {
            self.queue.offer(&self.driver, &[head, tail]);
        } else {
            self.queue.offer(&self.driver, &[head, readable(data_at, data.len()), tail]);
        }
        self.queue.wait(&self.driver);
        self.driver.bytes(status, 1)[0]
    }

    /// Sends a request for `len` bytes; returns its status, the data and the used length.
    fn fetch(&mut self, kind: u32, sector: u64, len: usize) -> (u8, Vec<u8>, u32) {
        let header = self.header(kind, sector);
        let data = self.driver.alloc(len as u64);
        let status = self.driver.alloc_with(&[0xee]);
        self.queue.offer(&self.driver, &[readable(header, 16), writable(data, len), writable(status, 1)]);
        let (_, used) = self.queue.wait(&self.driver);
        (self.driver.bytes(status, 1)[0], self.driver.bytes(data, len), used)
    }

    fn range(sector: u64, count: u32, flags: u32) -> Vec<u8> {
        let mut bytes = sector.to_le_bytes().to_vec();
        bytes.extend(count.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes
    }
}

#[test]
fn configuration_describes_the_disk() {
    let file = file();
    let blk = Blk::new(open(&file, false), &BlkOptions { serial: String::new(), queues: 4 });
    let driver = Driver::probe(blk);
    assert_eq!(driver.common(0x12, 2), 4);
    assert_eq!(driver.device_config(0, 8), SECTORS);
    assert_eq!(driver.device_config(12, 4), 254);
    assert_eq!(driver.device_config(20, 4), 512);
    assert_eq!(driver.device_config(24, 1), 3);
    assert_eq!(driver.device_config(26, 2), 8);
    assert_eq!(driver.device_config(34, 2), 4);
    assert_eq!(driver.device_config(36, 4), u64::from(MAX_RANGE_SECTORS));
    assert_eq!(driver.device_config(48, 4), u64::from(MAX_RANGE_SECTORS));
    assert_eq!(driver.device_config(56, 1), 1);
    assert_eq!(driver.offered() & feature::RO, 0);
    drop(driver);
    let driver = Driver::probe(Blk::new(open(&file, true), &BlkOptions::default()));
    assert_eq!(driver.offered() & (feature::RO | feature::DISCARD | feature::WRITE_ZEROES), feature::RO);
}

#[test]
fn reads_writes_flushes_and_identifies() {
    let file = file();
    let mut bench = Bench::new(open(&file, false), feature::FLUSH);
    let (status, data, used) = bench.fetch(request::IN, 3, 1024);
    assert_eq!((status, used), (OK, 1025));
    assert!(data[..512].iter().all(|b| *b == 3) && data[512..].iter().all(|b| *b == 4));
    assert_eq!(bench.send(request::OUT, 5, &[0xab; 1024]), OK);
    assert_eq!(bench.send(request::FLUSH, 0, &[]), OK);
    let content = std::fs::read(file.path()).unwrap();
    assert!(content[5 * 512..7 * 512].iter().all(|b| *b == 0xab));
    assert_eq!((content[5 * 512 - 1], content[7 * 512]), (4, 7));
    let (status, id, used) = bench.fetch(request::GET_ID, 0, 20);
    assert_eq!((status, &id[..5], used), (OK, &b"root\0"[..], 21));
    assert_eq!(bench.fetch(request::GET_ID, 0, 8).0, IO_ERROR);
    let (status, _, used) = bench.fetch(99, 0, 512);
    assert_eq!((status, used), (UNSUPPORTED, 0));
    eventually("an interrupt", || bench.driver.interrupted(1));
}

#[test]
fn large_and_scattered_requests_arrive_whole() {
    let file = file();
    let mut bench = Bench::new(open(&file, false), 0);
    let data: Vec<u8> = (0..3 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let header = bench.header(request::OUT, 16);
    let at = bench.driver.alloc_with(&data);
    let status = bench.driver.alloc_with(&[0xee]);
    let cuts = [0, 7, 513, 1 << 20, (2 << 20) + 3, 3 << 20];
    let mut buffers = vec![readable(header, 16)];
    buffers.extend(cuts.windows(2).map(|cut| readable(at + cut[0] as u64, cut[1] - cut[0])));
    buffers.push(writable(status, 1));
    bench.queue.offer(&bench.driver, &buffers);
    bench.queue.wait(&bench.driver);
    assert_eq!(bench.driver.bytes(status, 1), [OK]);
    let (status, back, _) = bench.fetch(request::IN, 16, 3 << 20);
    assert_eq!(status, OK);
    assert!(back == data);
}

#[test]
fn discards_and_zeroes() {
    let file = file();
    let mut bench = Bench::new(open(&file, false), feature::DISCARD | feature::WRITE_ZEROES);
    let two = [Bench::range(8, 8, 0), Bench::range(32, 1, 1)].concat();
    assert_eq!(bench.send(request::WRITE_ZEROES, 0, &two), OK);
    assert_eq!(bench.fetch(request::IN, 8, 4096).1, [0; 4096]);
    assert_eq!(bench.fetch(request::IN, 32, 512).1, [0; 512]);
    assert_eq!(bench.fetch(request::IN, 33, 512).1, [33; 512]);
    assert_eq!(bench.send(request::DISCARD, 0, &Bench::range(64, 64, 0)), OK);
    assert_eq!(bench.fetch(request::IN, 128, 512).1, [128; 512]);

    assert_eq!(bench.send(request::DISCARD, 0, &Bench::range(0, 1, 1)), UNSUPPORTED);
    assert_eq!(bench.send(request::WRITE_ZEROES, 0, &Bench::range(0, 1, 2)), UNSUPPORTED);
    assert_eq!(bench.send(request::DISCARD, 0, &Bench::range(SECTORS - 1, 2, 0)), IO_ERROR);
    assert_eq!(bench.send(request::DISCARD, 0, &Bench::range(u64::MAX, 1, 0)), IO_ERROR);
    assert_eq!(bench.send(request::DISCARD, 0, &Bench::range(0, u32::MAX, 0)), IO_ERROR);
    assert_eq!(bench.send(request::DISCARD, 0, &[0; 15]), IO_ERROR);
    assert_eq!(bench.send(request::DISCARD, 0, &[]), IO_ERROR);
    assert_eq!(bench.send(request::DISCARD, 0, &[0; 16 * 257]), IO_ERROR);
    assert!(!bench.driver.broken());
}

#[test]
fn ranges_beyond_the_disk_and_odd_lengths_fail() {
    let file = file();
    let mut bench = Bench::new(open(&file, false), 0);
    for (sector, len) in
        [(SECTORS, 512), (SECTORS - 1, 1024), (u64::MAX, 512), (u64::MAX / 512, 512), (0, 100)]
    {
        let (status, data, used) = bench.fetch(request::IN, sector, len);
        assert_eq!((status, used), (IO_ERROR, 0), "{sector}+{len}");
        assert!(data.iter().all(|b| *b == 0));
        assert_eq!(bench.send(request::OUT, sector, &vec![1; len]), IO_ERROR);
    }
    assert_eq!(std::fs::metadata(file.path()).unwrap().len(), SECTORS * 512);
}

#[test]
fn a_read_only_disk_does_not_change() {
    let file = file();
    let mut bench = Bench::new(open(&file, true), 0);
    assert_eq!(bench.fetch(request::IN, 9, 512).1, [9; 512]);
    assert_eq!(bench.send(request::OUT, 9, &[1; 512]), IO_ERROR);
    assert_eq!(bench.send(request::DISCARD, 0, &Bench::range(0, 1, 0)), IO_ERROR);
    assert_eq!(bench.send(request::WRITE_ZEROES, 0, &Bench::range(0, 1, 0)), IO_ERROR);
    assert_eq!(bench.send(request::FLUSH, 0, &[]), OK);
}

#[test]
fn chains_that_are_no_requests_break_the_queue() {
    let file = file();
    for short_header in [true, false] {
        let mut bench = Bench::new(open(&file, true), 0);
        let header = bench.header(request::IN, 0);
        let at = bench.driver.alloc(512);
        if short_header {
            bench.queue.offer(&bench.driver, &[readable(header, 15), writable(at, 512)]);
        } else {
            bench.queue.offer(&bench.driver, &[readable(header, 16)]);
        }
        eventually("the device asks for a reset", || bench.driver.broken());
    }
}

/// A disk of the worst kind.
#[derive(Default)]
struct Failing {
    flushes: AtomicUsize,
    writes: Mutex<Vec<u64>>,
}

impl Disk for Failing {
    fn name(&self) -> &str {
        "failing"
    }
    fn size(&self) -> u64 {
        1 << 20
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(5))
    }
    fn write_at(&self, _: &[u8], offset: u64) -> io::Result<()> {
        lock(&self.writes).push(offset);
        if offset == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(5)) }
    }
    fn flush(&self) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Other.into())
    }
    fn write_zeroes(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn host_errors_become_status_bytes_and_writes_are_durable_without_flush() {
    let disk = Arc::new(Failing::default());
    let mut bench = Bench::new(disk.clone(), 0);
    assert_eq!(bench.fetch(request::IN, 0, 512).0, IO_ERROR);
    assert_eq!(bench.send(request::OUT, 1, &[1; 512]), IO_ERROR);
    assert_eq!(bench.send(request::DISCARD, 0, &Bench::range(0, 1, 0)), IO_ERROR);
    assert_eq!(disk.flushes.load(Ordering::Acquire), 0);
    assert_eq!(bench.send(request::OUT, 0, &[1; 512]), OK);
    assert_eq!(disk.flushes.load(Ordering::Acquire), 1, "the driver cannot flush");
    assert_eq!(bench.send(request::WRITE_ZEROES, 0, &Bench::range(0, 1, 0)), OK);
    assert_eq!(disk.flushes.load(Ordering::Acquire), 2);

    let mut bench = Bench::new(disk.clone(), feature::FLUSH);
    assert_eq!(bench.send(request::OUT, 0, &[1; 512]), OK);
    assert_eq!(disk.flushes.load(Ordering::Acquire), 2, "the driver decides");
    assert_eq!(*lock(&disk.writes), [512, 0, 0]);
}

#[test]
fn dropping_the_device_frees_the_disk() {
    let file = file();
    let mut bench = Bench::new(open(&file, false), 0);
    assert_eq!(bench.send(request::OUT, 1, &[1; 512]), OK);
    drop(bench);
    open(&file, false);
}

/// A disk whose host file system is full until somebody makes room.
#[derive(Default)]
struct Filling {
    room: AtomicBool,
    refused: AtomicUsize,
    written: AtomicU64,
}

impl Disk for Filling {
    fn name(&self) -> &str {
        "filling"
    }
    fn size(&self) -> u64 {
        1 << 20
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read_at(&self, data: &mut [u8], _: u64) -> io::Result<()> {
        data.fill(3);
        Ok(())
    }
    fn write_at(&self, data: &[u8], _: u64) -> io::Result<()> {
        if !self.room.load(Ordering::Acquire) {
            self.refused.fetch_add(1, Ordering::AcqRel);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.written.fetch_add(data.len() as u64, Ordering::AcqRel);
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn write_zeroes(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
        Ok(())
    }
}

impl Bench {
    /// Sends a write and waits until the disk has refused it. Returns where its status byte will be.
    fn stall(&mut self, disk: &Filling) -> tearless_memory::Gpa {
        let before = disk.refused.load(Ordering::Acquire);
        let header = self.header(request::OUT, 0);
        let data = self.driver.alloc_with(&[1; 512]);
        let status = self.driver.alloc_with(&[0xee]);
        self.queue.offer(&self.driver, &[readable(header, 16), readable(data, 512), writable(status, 1)]);
        eventually("the host's refusal", || disk.refused.load(Ordering::Acquire) > before);
        status
    }
}

#[test]
fn a_full_host_makes_a_slow_disk_and_no_errors() {
    let disk = Arc::new(Filling::default());
    let mut bench = Bench::new(disk.clone(), feature::FLUSH);
    let status = bench.stall(&disk);
    // Others are served meanwhile.
    let (read, data, _) = bench.fetch(request::IN, 4, 512);
    assert_eq!((read, data[0]), (OK, 3));
    assert_eq!(bench.driver.bytes(status, 1), [0xee]);
    disk.room.store(true, Ordering::Release);
    bench.queue.wait(&bench.driver);
    assert_eq!((bench.driver.bytes(status, 1), disk.written.load(Ordering::Acquire)), (vec![OK], 512));
}

#[test]
fn what_stalled_holds_up_neither_a_reset_nor_the_end() {
    let disk = Arc::new(Filling::default());
    let mut bench = Bench::new(disk.clone(), feature::FLUSH);
    let status = bench.stall(&disk);
    bench.queue = bench.driver.start(feature::FLUSH, 1).remove(0);
    disk.room.store(true, Ordering::Release);
    assert_eq!(bench.send(request::OUT, 1, &[1; 1024]), OK);
    assert_eq!(disk.written.load(Ordering::Acquire), 1024, "the old life's write is forgotten");
    assert_eq!(bench.driver.bytes(status, 1), [0xee]);
    disk.room.store(false, Ordering::Release);
    bench.stall(&disk);
    drop(bench);
    assert_eq!(Arc::strong_count(&disk), 1);
}

#[test]
fn a_disk_grows_under_its_driver() {
    let file = file();
    let blk = Blk::new(open(&file, false), &BlkOptions::default());
    let mut driver = Driver::probe(blk.clone());
    let _queue = driver.start(0, 1).remove(0);
    let generation = driver.common(0x15, 1);
    blk.grow(2 * SECTORS * 512).unwrap();
    assert!(driver.interrupted(0), "a configuration change interrupt");
    assert_ne!(driver.common(0x15, 1), generation);
    assert_eq!(driver.device_config(0, 8), 2 * SECTORS);
    assert!(blk.grow(512).is_err());
    assert_eq!(driver.device_config(0, 8), 2 * SECTORS);
}

#[test]
fn every_queue_serves_many_requests_at_once() {
    let file = file();
    let blk = Blk::new(open(&file, false), &BlkOptions { serial: String::new(), queues: 4 });
    let mut driver = Driver::probe(blk);
    let mut queues = driver.start(feature::MQ, 4);
    let mut expected = Vec::new();
    for round in 0..5 {
        for queue in &mut queues {
            let sector = round * 4 + u64::from(queue.index);
            let mut header = request::IN.to_le_bytes().to_vec();
            header.extend([0; 4]);
            header.extend(sector.to_le_bytes());
            let header = driver.alloc_with(&header);
            let (data, status) = (driver.alloc(512), driver.alloc_with(&[0xee]));
            queue.offer(&driver, &[readable(header, 16), writable(data, 512), writable(status, 1)]);
            expected.push((data, status, sector as u8));
        }
    }
    for queue in &mut queues {
        (0..5).for_each(|_| assert_eq!(queue.wait(&driver).1, 513));
    }
    for (data, status, byte) in expected {
        assert_eq!((driver.bytes(status, 1), driver.bytes(data, 1)), (vec![OK], vec![byte]));
    }
}

#[test]
fn what_stalled_is_done_by_whoever_goes_on() {
    let disk = Arc::new(Filling::default());
    let mut bench = Bench::new(disk.clone(), feature::FLUSH);
    assert_eq!(bench.fetch(request::IN, 4, 512).0, OK);
    let status = bench.stall(&disk);
    let parts = bench.driver.save();
    // One that is offered while the device stands still waits in the ring.
    let header = bench.header(request::IN, 1);
    let (data, late) = (bench.driver.alloc(512), bench.driver.alloc_with(&[0xee]));
    bench.queue.offer(&bench.driver, &[readable(header, 16), writable(data, 512), writable(late, 1)]);

    let roomy = Arc::new(Filling::default());
    roomy.room.store(true, Ordering::Release);
    let blk = Blk::new(roomy.clone(), &BlkOptions { serial: "root".to_owned(), queues: 1 });
    let driver = bench.driver.go_on(blk, parts).unwrap();
    let mut heads = [bench.queue.wait(&driver).0, bench.queue.wait(&driver).0];
    heads.sort_unstable();
    assert_eq!(roomy.written.load(Ordering::Acquire), 512);
    assert_eq!((driver.bytes(status, 1), driver.bytes(late, 1)), (vec![OK], vec![OK]));
    assert_eq!(driver.bytes(data, 512), [3; 512]);
    assert_ne!(heads[0], heads[1]);
    assert!(driver.interrupted(1));
    assert_eq!(bench.driver.bytes(status, 1), [0xee], "the old machine stood still");
}

#[test]
fn a_disk_that_was_saved_goes_on_itself() {
    let file = file();
    let mut bench = Bench::new(open(&file, false), feature::FLUSH);
    let before = bench.driver.save();
    let header = bench.header(request::IN, 1);
    let (data, status) = (bench.driver.alloc(512), bench.driver.alloc_with(&[0xee]));
    bench.queue.offer(&bench.driver, &[readable(header, 16), writable(data, 512), writable(status, 1)]);
    assert!(bench.queue.used(&bench.driver).is_none());
    bench.driver.proceed();
    bench.queue.wait(&bench.driver);
    assert_eq!(bench.driver.bytes(data, 512), [1; 512]);
    assert_eq!(bench.driver.bytes(status, 1), [OK]);
    let after = bench.driver.save();
    assert_ne!(before, after);
}

#[test]
fn states_that_no_guest_brings_about_are_refused() {
    let file = file();
    let bench = Bench::new(open(&file, false), feature::FLUSH);
    let good = serde_json::to_string(&bench.driver.save()).unwrap();
    let go_on = |text: &str| {
        let parts = serde_json::from_str(text).unwrap();
        let disk = Arc::new(Filling::default());
        bench
            .driver
            .go_on(Blk::new(disk, &BlkOptions::default()), parts)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    go_on(&good).unwrap();
    let ring = r#""ring":{"next_avail":0"#;
    assert!(good.contains(ring) && good.contains(r#""size":16"#), "{good}");
    for (from, to, why) in [
        (r#""size":16"#, r#""size":15"#, "a size that it cannot have"),
        (r#""size":16"#, r#""size":512"#, "a size that it cannot have"),
        (ring, r#""ring":{"next_avail":5"#, "more requests than it has room for"),
        (r#""descriptors":10737"#, r#""descriptors":99910737"#, "virtqueue 0"),
        (r#""version":1"#, r#""version":2"#, "version 2; this Tearless knows 1"),
        (r#""driver_features":"#, r#""driver_features":9"#, "features"),
    ] {
        let text = good.replace(from, to);
        assert_ne!(text, good, "{from}");
        let error = go_on(&text).unwrap_err();
        assert!(error.contains(why), "{to}: {error}");
    }
    let taken = good.replace(r#""taken":[]"#, &format!(r#""taken":{:?}"#, vec![0; 17]));
    assert!(go_on(&taken).unwrap_err().contains("more requests"));
}
