//! The balloon as a driver and its host see it.

use std::{sync::Arc, thread, time::Duration};

use tearless_memory::Gpa;

use super::{Balloon, Gauge, GuestUse, Reading, spec::feature};
use crate::testing::{Driver, Queue, RAM, eventually, readable, writable};

/// Longer than any test takes: nobody waits for it unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);
const MIB: u64 = 1 << 20;
/// Beyond what the driver has its rings in.
const PAGES: Gpa = Gpa(RAM.0 + 8 * MIB);

fn up(features: u64, queues: u16) -> (Driver, Arc<Gauge>, Vec<Queue>) {
    let gauge = Gauge::new(0);
    let mut driver = Driver::probe(Balloon::new(gauge.clone()));
    let queues = driver.start(features, queues);
    (driver, gauge, queues)
}

fn fill(driver: &Driver, pages: usize) {
    driver.memory.write(PAGES, &vec![0x5a; pages * 4096]).unwrap();
}

/// What is left of what [`fill`] wrote, page by page: 'x' as it was, '.' zeros.
fn left(driver: &Driver, pages: usize) -> String {
    let bytes = driver.bytes(PAGES, pages * 4096);
    let all = |page: &[u8], byte| page.iter().all(|b| *b == byte);
    bytes
        .chunks(4096)
        .map(|p| {
            if all(p, 0x5a) {
                'x'
            } else if all(p, 0) {
                '.'
            } else {
                '?'
            }
        })
        .collect()
}

fn numbers(pages: &[u64]) -> Vec<u8> {
    pages.iter().flat_map(|page| ((PAGES.0 / 4096 + page) as u32).to_le_bytes()).collect()
}

fn stats(list: &[(u16, u64)]) -> Vec<u8> {
    list.iter().flat_map(|(tag, value)| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat()).collect()
}

#[test]
fn pages_in_the_balloon_go_back_to_the_host() {
    let (mut driver, gauge, mut queues) = up(0, 2);
    fill(&driver, 8);
    let mut request = numbers(&[5, 1, 2, 2]);
    request.extend([0xff; 3]);
    let at = driver.alloc_with(&request);
    queues[0].offer(&driver, &[readable(at, 10), readable(at + 10, request.len() - 10)]);
    assert_eq!(queues[0].wait(&driver).1, 0);
    assert_eq!(left(&driver, 8), "x..xx.xx");
    driver.write(driver.places.device + 4, 4, 3);
    assert_eq!(gauge.read(Duration::ZERO), Reading { actual: 3 * 4096, ..Reading::default() });
    queues[1].offer(&driver, &[readable(at, 4)]);
    queues[1].wait(&driver);
    assert!(!driver.broken());
}

#[test]
fn a_page_that_is_no_ram_breaks_the_device() {
    let (mut driver, _, mut queues) = up(0, 2);
    fill(&driver, 2);
    let at = driver.alloc_with(&[numbers(&[0]), u32::MAX.to_le_bytes().to_vec()].concat());
    queues[0].offer(&driver, &[readable(at, 8)]);
    eventually("a request for a reset", || driver.broken());
}

#[test]
fn reported_pages_go_back_to_the_host() {
    // The statistics' queue was not negotiated, so it is not there.
    let (driver, _, mut queues) = up(feature::PAGE_REPORTING, 3);
    fill(&driver, 8);
    queues[2].offer(&driver, &[writable(PAGES, 2 * 4096), writable(PAGES + 5 * 4096, 4096)]);
    queues[2].wait(&driver);
    assert_eq!(left(&driver, 8), "..xxx.xx");
}

#[test]
fn reported_pages_keep_their_pattern() {
    let (driver, _, mut queues) = up(feature::PAGE_REPORTING | feature::PAGE_POISON, 3);
    fill(&driver, 2);
    driver.write(driver.places.device + 12, 4, 0xaaaa_aaaa);
    assert_eq!(driver.device_config(12, 4), 0xaaaa_aaaa);
    queues[2].offer(&driver, &[writable(PAGES, 2 * 4096)]);
    queues[2].wait(&driver);
    assert_eq!(left(&driver, 2), "xx");
    // Zeros are a pattern that pages have anyway.
    driver.write(driver.places.device + 12, 4, 0);
    queues[2].offer(&driver, &[writable(PAGES, 2 * 4096)]);
    queues[2].wait(&driver);
    assert_eq!(left(&driver, 2), "..");
}

#[test]
fn the_driver_hears_of_another_size() {
    let gauge = Gauge::new(3 * MIB + 1);
    let mut driver = Driver::probe(Balloon::new(gauge.clone()));
    driver.use_msix();
    driver.start(0, 2);
    assert_eq!(driver.device_config(0, 4), 3 * 256);
    gauge.set_target(MIB);
    assert!(driver.interrupted(0));
    assert_eq!(driver.device_config(0, 4), 256);
    // The balloon's size is the driver's to say, the target is not.
    driver.write(driver.places.device, 4, 77);
    driver.write(driver.places.device + 5, 2, 77);
    assert_eq!(driver.device_config(0, 8), 256);
    gauge.set_target(u64::MAX);
    assert_eq!(driver.device_config(0, 4), u64::from(u32::MAX));
}

#[test]
fn the_guest_is_asked_how_it_uses_its_memory() {
    let (mut driver, gauge, mut queues) = up(feature::STATS_VQ, 3);
    let at = driver.alloc_with(&stats(&[(5, 512 * MIB), (4, MIB), (6, 300 * MIB), (99, 1), (7, 4 * MIB)]));
    let queue = &mut queues[2];
    let head = queue.offer(&driver, &[readable(at, 55)]);
    let first = GuestUse { total: 512 * MIB, free: MIB, available: 300 * MIB, caches: 4 * MIB };
    eventually("statistics", || gauge.read(Duration::ZERO).guest == Some(first));
    assert!(queue.used(&driver).is_none(), "the buffer stays until somebody wants to know");

    let reader = thread::spawn({
        let gauge = gauge.clone();
        move || gauge.read(PATIENCE).guest
    });
    assert_eq!(queue.wait(&driver).0, head);
    let at = driver.alloc_with(&stats(&[(5, 512 * MIB), (4, 2 * MIB)]));
    queue.offer(&driver, &[readable(at, 20)]);
    let second = GuestUse { total: 512 * MIB, free: 2 * MIB, ..GuestUse::default() };
    assert_eq!(reader.join().unwrap(), Some(second));

    // A driver that does not answer holds nobody up for ever, and one that goes takes along what it said.
    assert_eq!(gauge.read(Duration::from_millis(1)).guest, Some(second));
    driver.set_common(0x14, 1, 0);
    assert_eq!(gauge.read(PATIENCE).guest, None);
}

#[test]
fn a_reset_wakes_whoever_waits_for_the_guest() {
    let (driver, gauge, _queues) = up(feature::STATS_VQ, 3);
    let reader = thread::spawn({
        let gauge = gauge.clone();
        move || gauge.read(Duration::from_secs(3600)).guest
    });
    driver.set_common(0x14, 1, 0);
    // Whether it asked before or after the reset.
    assert_eq!(reader.join().unwrap(), None);
}

#[test]
fn nonsense_is_no_statistic() {
    assert_eq!(GuestUse::parse(&[]), GuestUse::default());
    assert_eq!(GuestUse::parse(&[5, 0, 1, 2, 3]), GuestUse::default());
    let all = stats(&[(5, u64::MAX), (4, 1), (4, 2)]);
    assert_eq!(GuestUse::parse(&all), GuestUse { total: u64::MAX, free: 2, ..GuestUse::default() });
}
