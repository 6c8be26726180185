//! Messages, from a device's write to the acknowledge of the LPI.

use std::sync::atomic::AtomicU64;

use tearless_arm64::gic::{LPI_BASE, gits::command};

use super::*;

const PROPERTIES: u64 = RAM + 0x10_0000;
const PENDING: u64 = RAM + 0x20_0000;
const QUEUE: u64 = RAM + 0x30_0000;
const DEVICES: u64 = RAM + 0x31_0000;
const COLLECTIONS: u64 = RAM + 0x32_0000;
const DOORBELL: Gpa = Gpa(ITS_BASE + gits::TRANSLATER);
const DEVICE: u32 = 0x18;
pub(super) const LPI: u32 = LPI_BASE + 5;

/// A board with LPIs enabled at every vCPU and an ITS with a queue of one page.
pub(super) struct Rig {
    pub(super) board: Board,
    next: AtomicU64,
}

fn valid(address: u64) -> u64 {
    gits::VALID | address
}

impl Rig {
    fn new(vcpus: u32) -> Self {
        let board = Board::new(vcpus);
        for cpu in 0..vcpus {
            let base = u64::from(cpu) * gicr::SIZE;
            write64(&*board.gicr, base + gicr::PROPBASER, PROPERTIES | 15);
            write64(&*board.gicr, base + gicr::PENDBASER, PENDING + u64::from(cpu) * 0x1_0000);
            write(&*board.gicr, base + gicr::CTLR, gicr::CTLR_ENABLE_LPIS);
        }
        write64(&*board.gits, gits::BASER, valid(DEVICES) | 0x7f);
        write64(&*board.gits, gits::BASER + 8, valid(COLLECTIONS));
        write64(&*board.gits, gits::CBASER, valid(QUEUE));
        write(&*board.gits, gits::CTLR, gits::CTLR_ENABLED);
        Self { board, next: AtomicU64::new(0) }
    }

    /// With collection n at vCPU n, event 1 of [`DEVICE`] mapped to [`LPI`] in collection 0, and enabled.
    pub(super) fn mapped(vcpus: u32) -> Self {
        let rig = Self::new(vcpus);
        for cpu in 0..u64::from(vcpus) {
            rig.run([command::MAPC.into(), 0, valid(cpu << 16 | cpu), 0]);
        }
        rig.run([rig.device(command::MAPD), 4, valid(0), 0]);
        rig.run([rig.device(command::MAPTI), 1 | u64::from(LPI) << 32, 0, 0]);
        rig.configure(LPI, 0xa1);
        rig.run([rig.device(command::INV), 1, 0, 0]);
        rig
    }

    /// On a board that is set up.
    pub(super) fn on(board: Board) -> Self {
        Self { board, next: AtomicU64::new(0) }
    }

    fn device(&self, number: u8) -> u64 {
        u64::from(number) | u64::from(DEVICE) << 32
    }

    fn next(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    fn put(&self, words: [u64; 4]) {
        let at = self.next();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.board.memory.write(Gpa(QUEUE + at), &bytes).unwrap();
        self.next.store((at + 32) % 0x1000, Ordering::SeqCst);
    }

    fn ring(&self) {
        write64(&*self.board.gits, gits::CWRITER, self.next());
        assert_eq!(read64(&*self.board.gits, gits::CREADR), self.next(), "all executed");
    }

    fn run(&self, words: [u64; 4]) {
        self.put(words);
        self.ring();
    }

    fn configure(&self, lpi: u32, byte: u8) {
        self.board.memory.write(Gpa(PROPERTIES + u64::from(lpi - LPI_BASE)), &[byte]).unwrap();
    }

    pub(super) fn message(&self, data: u32) {
        self.board.gic.signal(Msi { address: DOORBELL, data, device_id: DEVICE });
    }

    pub(super) fn take(&self, cpu: u32) -> u32 {
        let intid = self.board.get(cpu, icc::IAR1);
        self.board.set(cpu, icc::EOIR1, intid);
        intid as u32
    }
}

#[test]
fn a_message_becomes_an_interrupt() {
    let rig = Rig::mapped(2);
    rig.message(1);
    assert!(rig.board.gic.irq_pending(0) && !rig.board.gic.irq_pending(1));
    assert_eq!(rig.board.woken(0), 1);
    assert_eq!(rig.board.get(0, icc::IAR1), u64::from(LPI));
    assert_eq!(rig.board.get(0, icc::RPR), 0xa0);
    rig.message(1);
    assert!(!rig.board.gic.irq_pending(0), "the running priority holds it back");
    rig.board.set(0, icc::EOIR1, LPI.into());
    assert_eq!(rig.take(0), LPI);
    assert_eq!(rig.take(0), 1023);
}

#[test]
fn messages_that_are_not_mapped_are_dropped() {
    let rig = Rig::mapped(1);
    rig.message(0);
    rig.message(32);
    let gic = &rig.board.gic;
    gic.signal(Msi { address: DOORBELL, data: 1, device_id: DEVICE + 1 });
    gic.signal(Msi { address: Gpa(DOORBELL.0 + 4), data: 1, device_id: DEVICE });
    write(&*rig.board.gits, gits::TRANSLATER, 1);
    assert!(!gic.irq_pending(0));
    write(&*rig.board.gits, gits::CTLR, 0);
    rig.message(1);
    assert!(!gic.irq_pending(0));
    assert_eq!(read(&*rig.board.gits, gits::CTLR), gits::CTLR_QUIESCENT);
}

#[test]
fn configuration_takes_effect_when_invalidated() {
    let rig = Rig::mapped(1);
    rig.configure(LPI, 0xa0);
    rig.message(1);
    assert!(rig.board.gic.irq_pending(0), "the old one is cached");
    rig.run([rig.device(command::INV), 1, 0, 0]);
    assert!(!rig.board.gic.irq_pending(0), "pending, but disabled");
    rig.configure(LPI, 0x41);
    rig.run([command::INVALL.into(), 0, 0, 0]);
    assert_eq!(rig.board.get(0, icc::IAR1), u64::from(LPI));
    assert_eq!(rig.board.get(0, icc::RPR), 0x40);
}

#[test]
fn commands_set_clear_and_discard() {
    let rig = Rig::mapped(1);
    rig.run([rig.device(command::INT), 1, 0, 0]);
    assert!(rig.board.gic.irq_pending(0));
    rig.run([rig.device(command::CLEAR), 1, 0, 0]);
    assert!(!rig.board.gic.irq_pending(0));
    rig.run([rig.device(command::INT), 1, 0, 0]);
    rig.run([rig.device(command::DISCARD), 1, 0, 0]);
    assert!(!rig.board.gic.irq_pending(0));
    rig.message(1);
    assert!(!rig.board.gic.irq_pending(0));
}

#[test]
fn moving_takes_what_is_pending_along() {
    let rig = Rig::mapped(3);
    rig.message(1);
    rig.run([rig.device(command::MOVI), 1, 1, 0]);
    assert!(!rig.board.gic.irq_pending(0));
    assert_eq!(rig.take(1), LPI);
    rig.message(1);
    assert!(rig.board.gic.irq_pending(1));
    rig.run([command::MOVALL.into(), 0, 1 << 16, 2 << 16]);
    assert!(!rig.board.gic.irq_pending(1));
    assert_eq!(rig.take(2), LPI);
    assert_eq!((rig.board.woken(1), rig.board.woken(2)), (3, 1));
}

#[test]
fn no_message_is_lost_while_its_event_moves() {
    let rig = Rig::mapped(2);
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            for n in 0..20_000 {
                rig.run([rig.device(command::MOVI), 1, n % 2, 0]);
            }
        });
        while !mover.is_finished() {
            rig.message(1);
            while ![0, 1].into_iter().any(|cpu| rig.board.gic.irq_pending(cpu) && rig.take(cpu) == LPI) {
                std::hint::spin_loop();
            }
        }
    });
}

#[test]
fn mapi_uses_the_event_as_intid() {
    let rig = Rig::mapped(1);
    rig.run([rig.device(command::MAPD), 15, valid(0), 0]);
    rig.configure(9000, 0xa1);
    rig.run([rig.device(command::MAPI), 9000, 0, 0]);
    rig.message(9000);
    assert_eq!(rig.take(0), 9000);
    rig.message(1);
    assert!(!rig.board.gic.irq_pending(0), "mapping the device anew unmapped its events");
}

#[test]
fn the_most_urgent_lpi_comes_first() {
    let rig = Rig::mapped(1);
    for (event, priority) in [(2, 0x81), (3, 0x61), (4, 0x81)] {
        rig.configure(LPI + event, priority);
        let id = u64::from(event) | u64::from(LPI + event) << 32;
        rig.run([rig.device(command::MAPTI), id, 0, 0]);
        rig.message(event);
    }
    rig.message(1);
    let order: Vec<u32> = (0..5).map(|_| rig.take(0)).collect();
    assert_eq!(order, [LPI + 3, LPI + 2, LPI + 4, LPI, 1023]);
}

#[test]
fn bad_commands_are_skipped_without_effect() {
    let rig = Rig::mapped(2);
    let device = |number: u8, id: u32| u64::from(number) | u64::from(id) << 32;
    for words in [
        [0xff, 0, 0, 0],
        [device(command::MAPD, 0x1_0000), 4, valid(0), 0],
        [device(command::MAPD, DEVICE), 31, valid(0), 0],
        [command::MAPC.into(), 0, valid(2 << 16), 0],
        [command::MAPC.into(), 0, valid(0x1_0000 << 16), 0],
        [command::MAPC.into(), 0, valid(512), 0],
        [rig.device(command::MAPTI), 1 | 8191 << 32, 0, 0],
        [rig.device(command::MAPTI), 1 | 0x1_0000 << 32, 0, 0],
        [rig.device(command::MAPTI), 32 | 8192 << 32, 0, 0],
        [rig.device(command::MAPTI), 1 | 8192 << 32, 512, 0],
        [device(command::MAPTI, 0x99), 1 | 8192 << 32, 0, 0],
        [rig.device(command::MOVI), 1, 2, 0],
        [command::MOVALL.into(), 0, 0, 2 << 16],
        [command::INVALL.into(), 0, 9, 0],
        [u64::MAX; 4],
    ] {
        rig.run(words);
    }
    rig.message(1);
    assert_eq!(rig.take(0), LPI);
}

#[test]
fn devices_need_table_space() {
    let rig = Rig::new(1);
    rig.run([command::MAPC.into(), 0, valid(0), 0]);
    write(&*rig.board.gits, gits::CTLR, 0);
    // Two levels with 4 KiB pages: 512 devices each. The second page only is there.
    write64(&*rig.board.gits, gits::BASER, valid(DEVICES) | gits::BASER_INDIRECT);
    assert_eq!(read64(&*rig.board.gits, gits::BASER) >> 48, 0xc107);
    rig.board.memory.write(Gpa(DEVICES + 8), &valid(RAM).to_le_bytes()).unwrap();
    write(&*rig.board.gits, gits::CTLR, gits::CTLR_ENABLED);
    rig.configure(LPI, 0xa1);
    for (id, mapped) in [(5_u32, false), (517, true), (1029, false)] {
        let id64 = u64::from(id) << 32;
        rig.run([id64 | u64::from(command::MAPD), 4, valid(0), 0]);
        rig.run([id64 | u64::from(command::MAPTI), 1 | u64::from(LPI) << 32, 0, 0]);
        rig.board.gic.signal(Msi { address: DOORBELL, data: 1, device_id: id });
        assert_eq!(rig.take(0) == LPI, mapped, "{id}");
    }
}

#[test]
fn a_full_turn_of_the_queue_is_executed_in_one_write() {
    let rig = Rig::mapped(1);
    for _ in 0..126 {
        rig.put([command::SYNC.into(), 0, 0, 0]);
    }
    rig.put([rig.device(command::INT), 1, 0, 0]);
    rig.ring();
    assert_eq!(rig.take(0), LPI);
    write64(&*rig.board.gits, gits::CWRITER, 0x1000);
    assert_eq!(read64(&*rig.board.gits, gits::CWRITER), rig.next(), "beyond the queue");
}

#[test]
fn a_queue_outside_of_the_ram_stalls_until_retried() {
    let rig = Rig::new(1);
    write(&*rig.board.gits, gits::CTLR, 0);
    write64(&*rig.board.gits, gits::CBASER, valid(RAM + RAM_LEN - 0x1000) | 1);
    write(&*rig.board.gits, gits::CTLR, gits::CTLR_ENABLED);
    write64(&*rig.board.gits, gits::CWRITER, 0x1040);
    assert_eq!(read64(&*rig.board.gits, gits::CREADR), 0x1000 | gits::CREADR_STALLED);
    write64(&*rig.board.gits, gits::CWRITER, 0x1040);
    assert_eq!(read64(&*rig.board.gits, gits::CREADR), 0x1001);
    write64(&*rig.board.gits, gits::CWRITER, 0x1000 | gits::CWRITER_RETRY);
    assert_eq!(read64(&*rig.board.gits, gits::CREADR), 0x1000);
}

#[test]
fn pending_state_survives_disabling_in_the_guests_table() {
    let rig = Rig::mapped(1);
    rig.message(1);
    rig.board.write_gicr(0, gicr::CTLR, 0);
    assert!(!rig.board.gic.irq_pending(0));
    let mut byte = [0];
    rig.board.memory.read(Gpa(PENDING + u64::from(LPI) / 8), &mut byte).unwrap();
    assert_eq!(byte[0], 1 << (LPI % 8));
    rig.message(1);
    assert!(!rig.board.gic.irq_pending(0));
    rig.board.write_gicr(0, gicr::CTLR, gicr::CTLR_ENABLE_LPIS);
    assert_eq!(rig.take(0), LPI);
    rig.board.write_gicr(0, gicr::CTLR, 0);
    write64(&*rig.board.gicr, gicr::PENDBASER, PENDING | gicr::PENDBASER_PTZ);
    rig.board.write_gicr(0, gicr::CTLR, gicr::CTLR_ENABLE_LPIS);
    assert_eq!(rig.take(0), 1023);
    assert_eq!(read64(&*rig.board.gicr, gicr::PENDBASER), PENDING);
}

#[test]
fn the_pending_table_is_as_long_as_the_guest_says() {
    let rig = Rig::mapped(1);
    rig.board.write_gicr(0, gicr::CTLR, 0);
    write64(&*rig.board.gicr, gicr::PROPBASER, PROPERTIES | 13);
    // 14 bits of INTIDs: 2 KiB, and what follows is not part of the table.
    rig.board.memory.write(Gpa(PENDING), &[0xff; 0x2000]).unwrap();
    rig.board.memory.write(Gpa(PROPERTIES), &[0xa1; 0xe000]).unwrap();
    rig.board.write_gicr(0, gicr::CTLR, gicr::CTLR_ENABLE_LPIS);
    let taken = std::iter::from_fn(|| Some(rig.take(0))).take_while(|intid| *intid != 1023);
    assert!(taken.eq(LPI_BASE..1 << 14));
    rig.board.write_gicr(0, gicr::CTLR, 0);
    let mut table = [0; 0x2000];
    rig.board.memory.read(Gpa(PENDING), &mut table).unwrap();
    assert!(table[..0x400].iter().chain(&table[0x800..]).all(|byte| *byte == 0xff));
    assert!(table[0x400..0x800].iter().all(|byte| *byte == 0));
}

#[test]
fn tables_outside_of_the_ram_disable() {
    let rig = Rig::mapped(1);
    rig.board.write_gicr(0, gicr::CTLR, 0);
    write64(&*rig.board.gicr, gicr::PROPBASER, (RAM + RAM_LEN - 0x1000) | 31);
    write64(&*rig.board.gicr, gicr::PENDBASER, 0xf_ffff_ffff_0000);
    rig.board.write_gicr(0, gicr::CTLR, gicr::CTLR_ENABLE_LPIS);
    rig.run([rig.device(command::INV), 1, 0, 0]);
    rig.message(1);
    assert!(!rig.board.gic.irq_pending(0));
    rig.board.write_gicr(0, gicr::CTLR, 0);
}

#[test]
fn no_sequence_of_commands_is_slow() {
    let rig = Rig::mapped(2);
    // Every LPI pending at vCPU 0, from the table.
    rig.board.write_gicr(0, gicr::CTLR, 0);
    rig.board.memory.write(Gpa(PENDING), &[0xff; 0x2000]).unwrap();
    rig.board.memory.write(Gpa(PROPERTIES), &[0xa1; 0xe000]).unwrap();
    rig.board.write_gicr(0, gicr::CTLR, gicr::CTLR_ENABLE_LPIS);
    for _ in 0..200 {
        for _ in 0..31 {
            rig.put([command::MOVALL.into(), 0, 0, 1 << 16]);
            rig.put([rig.device(command::INT), 1, 0, 0]);
            rig.put([command::MOVALL.into(), 0, 1 << 16, 0]);
            rig.put([command::INVALL.into(), 0, 0, 0]);
        }
        rig.ring();
    }
    assert_eq!(rig.take(0), LPI_BASE);
}

#[test]
fn without_a_doorbell_there_are_no_lpis() {
    let memory = GuestMemory::new(&[Gpa(RAM)..Gpa(RAM + RAM_LEN)]).unwrap();
    let wakes = Arc::new(Wakes::default());
    let gic = Gic::new(GicConfig { vcpus: 1, spis: 32, doorbell: None, memory }, wakes);
    assert_eq!(gic.its().read(gits::TYPER, &mut [0; 8]), Err(AccessError::NoRegister));
    assert_eq!(read(&*gic.distributor(), gicd::TYPER) & gicd::TYPER_LPIS, 0);
    write(&*gic.redistributors(), gicr::CTLR, gicr::CTLR_ENABLE_LPIS);
    assert_eq!(read(&*gic.redistributors(), gicr::CTLR), 0);
    assert_eq!(gic.redistributors().read(gicr::PROPBASER, &mut [0; 8]), Err(AccessError::NoRegister));
    gic.signal(Msi { address: DOORBELL, data: 0, device_id: 0 });
}

#[test]
fn describes_its_tables() {
    let cold = Board::cold(1, 32);
    assert_eq!(read64(&*cold.gits, gits::BASER), 0x0107_0000_0000_0200, "devices, 64 KiB pages");
    assert_eq!(read64(&*cold.gits, gits::BASER + 8), 0x0407_0000_0000_0200, "collections, 64 KiB pages");
    let rig = Rig::new(1);
    let typer = read64(&*rig.board.gits, gits::TYPER);
    assert_eq!((typer & 1, typer >> 8 & 31, typer >> 13 & 31), (1, 15, 15));
    assert_eq!(u64::from(read(&*rig.board.gits, gits::TYPER)), typer);
    assert_eq!(read64(&*rig.board.gits, gits::BASER + 16), 0);
    write64(&*rig.board.gits, gits::BASER, 0);
    assert_ne!(read64(&*rig.board.gits, gits::BASER) & gits::VALID, 0, "in use");
    assert_eq!(rig.board.gits.read(0x140, &mut [0; 8]), Err(AccessError::NoRegister));
    assert_eq!(rig.board.gits.read(gits::TYPER, &mut [0; 1]), Err(AccessError::Width));
}
