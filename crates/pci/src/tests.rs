//! The segment as a guest sees it.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use tearless_bus::{AccessError, IrqLine, IrqSink, MmioDevice, Msi, MsiSink};
use tearless_memory::Gpa;
use tearless_state::{Encoded, Parts, StateError};

use crate::{
    AddError, Attachment, BarKind, ConfigSpace, Identity, Msix, PciFunction, PciHost, PciHostConfig,
    SavedMsix, command, lock, requester_id,
};

#[derive(Default)]
struct Record {
    messages: Mutex<Vec<Msi>>,
    levels: Mutex<Vec<(u32, bool)>>,
}

impl MsiSink for Record {
    fn signal(&self, msi: Msi) {
        lock(&self.messages).push(msi);
    }
}

impl IrqSink for Record {
    fn set_level(&self, line: u32, level: bool) {
        lock(&self.levels).push((line, level));
    }
}

/// A function whose BAR 0 answers reads with its number, and whose MSI-X table is in BAR 2.
struct Probe {
    config: Mutex<ConfigSpace>,
    msix: Msix,
    msix_capability: u16,
    number: u8,
    attachment: Mutex<Option<Attachment>>,
}

impl Probe {
    fn new(number: u8) -> Arc<Self> {
        let mut config = ConfigSpace::new(&Identity {
            vendor: 0x1af4,
            device: 0x1000 + u16::from(number),
            revision: 0,
            class: 0xff_00_00,
            subsystem_vendor: 0,
            subsystem: 0,
        })
        .with_intx();
        config.add_bar(0, 0x1000, BarKind::Mem64).unwrap();
        config.add_bar(2, 0x2000, BarKind::Mem32).unwrap();
        let msix = Msix::new(3).unwrap();
        let msix_capability = msix.add_capability(&mut config, 2, 0, 0x1000).unwrap();
        let config = Mutex::new(config);
        Arc::new(Self { config, msix, msix_capability, number, attachment: Mutex::default() })
    }
}

impl PciFunction for Probe {
    fn attach(&self, attachment: Attachment) {
        self.msix.attach(&attachment);
        *lock(&self.attachment) = Some(attachment);
    }
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        lock(&self.config).read(offset, data);
    }
    fn config_write(&self, offset: u16, data: &[u8]) {
        let mut config = lock(&self.config);
        config.write(offset, data);
        self.msix.set_control(config.read_u16(self.msix_capability + 2), config.command());
    }
    fn bar(&self, index: usize) -> Option<Range<Gpa>> {
        lock(&self.config).bar(index)
    }
    fn bar_read(&self, index: usize, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        match (index, offset) {
            (0, _) => data.fill(self.number),
            (2, ..0x1000) => self.msix.table_read(offset, data)?,
            (2, _) => self.msix.pending_read(offset - 0x1000, data)?,
            _ => return Err(AccessError::NoRegister),
        }
        Ok(())
    }
    fn bar_write(&self, index: usize, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        match (index, offset) {
            (2, ..0x1000) => self.msix.table_write(offset, data),
            _ => Err(AccessError::NoRegister),
        }
    }
    fn save(&self) -> Result<Encoded, StateError> {
        Encoded::new(1, &(lock(&self.config).save(), self.msix.save()))
    }
    fn restore(&self, state: &Encoded) -> Result<(), StateError> {
        let (config, msix): (Vec<u8>, SavedMsix) = state.decode(1)?;
        lock(&self.config).restore(&config)?;
        self.msix.restore(msix)
    }
}

const MEM32: Gpa = Gpa(0x1000_0000);
const MEM64: Gpa = Gpa(0x80_0000_0000);

struct Bench {
    host: PciHost,
    record: Arc<Record>,
    ecam: Arc<dyn MmioDevice>,
    low: Arc<dyn MmioDevice>,
    high: Arc<dyn MmioDevice>,
}

fn bench() -> Bench {
    let record = Arc::new(Record::default());
    let host = PciHost::new(PciHostConfig {
        mem32: MEM32..Gpa(0x3eff_0000),
        mem64: MEM64..Gpa(0x100_0000_0000),
        buses: 16,
        intx: [3, 4, 5, 6].map(|line| IrqLine::new(record.clone(), line)),
        msi: record.clone(),
    });
    Bench { record, ecam: host.ecam(), low: host.window32(), high: host.window64(), host }
}

impl Bench {
    fn config_write(&self, slot: u64, register: u64, value: u32) {
        self.ecam.write(slot << 15 | register, &value.to_le_bytes()).unwrap();
    }
    fn config_read(&self, slot: u64, register: u64) -> u32 {
        let mut data = [0; 4];
        self.ecam.read(slot << 15 | register, &mut data).unwrap();
        u32::from_le_bytes(data)
    }
    fn who(&self, window: &Arc<dyn MmioDevice>, offset: u64) -> Option<u8> {
        let mut data = [0];
        window.read(offset, &mut data).ok().map(|()| data[0])
    }
    fn enable(&self, slot: u64) {
        self.config_write(slot, 4, u32::from(command::MEMORY | command::BUS_MASTER));
    }
}

#[test]
fn enumeration_finds_bridge_and_slots_and_nothing_else() {
    let bench = bench();
    bench.host.add(3, Probe::new(3)).unwrap();
    assert_eq!(bench.config_read(0, 0), 0x0008_1b36);
    assert_eq!(bench.config_read(3, 0), 0x1003_1af4);
    for absent in [1 << 15, 31 << 15, 3 << 15 | 1 << 12, 1 << 20 | 3 << 15, bench.host.ecam_size() - 8] {
        let mut data = [0; 8];
        bench.ecam.read(absent, &mut data).unwrap();
        assert_eq!(data, [0xff; 8], "{absent:#x}");
        bench.ecam.write(absent, &data).unwrap();
    }
    let mut eight = [0; 8];
    bench.ecam.read(3 << 15, &mut eight).unwrap();
    assert_eq!(eight[..4], 0x1003_1af4u32.to_le_bytes());
    assert_eq!(bench.ecam.read(3 << 15 | 1, &mut [0; 2]), Err(AccessError::Width));
    assert_eq!(bench.host.add(3, Probe::new(9)), Err(AddError::Taken(3)));
    assert_eq!(bench.host.add(0, Probe::new(9)), Err(AddError::Taken(0)));
    assert_eq!(bench.host.add(32, Probe::new(9)), Err(AddError::NoSlot(32)));
}

#[test]
fn bars_follow_the_guest_and_overlaps_have_one_answer() {
    let bench = bench();
    bench.host.add(1, Probe::new(1)).unwrap();
    bench.host.add(2, Probe::new(2)).unwrap();
    bench.config_write(2, 0x10, MEM32.0 as u32 + 0x4000);
    assert_eq!(bench.who(&bench.low, 0x4000), None, "decoding is off");
    bench.enable(2);
    assert_eq!(bench.who(&bench.low, 0x4000), Some(2));
    assert_eq!(bench.low.read(0x4ffe, &mut [0; 4]), Err(AccessError::NoRegister), "half beyond the BAR");

    bench.config_write(2, 0x14, (MEM64.0 >> 32) as u32);
    bench.config_write(2, 0x10, 0x8000);
    assert_eq!(bench.who(&bench.low, 0x4000), None, "moved away");
    assert_eq!(bench.who(&bench.high, 0x8000), Some(2));

    bench.config_write(1, 0x14, (MEM64.0 >> 32) as u32);
    bench.config_write(1, 0x10, 0x8000);
    bench.enable(1);
    assert_eq!(bench.who(&bench.high, 0x8000), Some(1), "the lowest slot wins");
    bench.config_write(1, 4, 0);
    assert_eq!(bench.who(&bench.high, 0x8000), Some(2));

    bench.config_write(2, 0x10, 0xffff_ffff);
    bench.config_write(2, 0x14, 0xffff_ffff);
    assert_eq!(bench.who(&bench.high, 0x8000), None);
}

#[test]
fn masked_vectors_wait_and_carry_the_requester() {
    let bench = bench();
    let probe = Probe::new(4);
    bench.host.add(4, probe.clone()).unwrap();
    bench.config_write(4, 0x18, MEM32.0 as u32);
    bench.enable(4);
    let control = u64::from(probe.msix_capability);
    assert_eq!(bench.config_read(4, control) >> 16 & 0x7ff, 2, "table size is written minus one");
    assert_eq!(bench.config_read(4, control + 4), 2);
    assert_eq!(bench.config_read(4, control + 8), 0x1002);

    probe.msix.signal(1);
    bench.config_write(4, control, 0x8000_0000);
    bench.low.write(0x10, &0x0808_0040u64.to_le_bytes()).unwrap();
    bench.low.write(0x18, &77u32.to_le_bytes()).unwrap();
    let pending = || {
        let mut data = [0; 8];
        bench.low.read(0x1000, &mut data).unwrap();
        u64::from_le_bytes(data)
    };
    assert_eq!(pending(), 0, "a signal while disabled is the wired interrupt's business");
    probe.msix.signal(1);
    probe.msix.signal(9);
    assert_eq!(pending(), 2);
    assert!(lock(&bench.record.messages).is_empty());

    bench.config_write(4, control, 0xc000_0000);
    bench.low.write(0x1c, &0u32.to_le_bytes()).unwrap();
    assert!(lock(&bench.record.messages).is_empty(), "the function is masked");
    bench.config_write(4, control, 0x8000_0000);
    let expected = Msi { address: Gpa(0x0808_0040), data: 77, device_id: u32::from(requester_id(4)) };
    assert_eq!(*lock(&bench.record.messages), [expected]);
    assert_eq!(pending(), 0);
    probe.msix.signal(1);
    assert_eq!(lock(&bench.record.messages).len(), 2);
    bench.config_write(4, 4, u32::from(command::MEMORY));
    probe.msix.signal(1);
    assert_eq!((pending(), lock(&bench.record.messages).len()), (2, 2), "not a bus master");
    bench.enable(4);
    assert_eq!((pending(), lock(&bench.record.messages).len()), (0, 3));

    assert_eq!(bench.low.write(0x12, &[0; 2]), Err(AccessError::Width));
    assert_eq!(bench.low.read(0x30, &mut [0; 4]), Err(AccessError::NoRegister));
    assert_eq!(bench.low.read(0x1008, &mut [0; 4]), Err(AccessError::NoRegister));
}

#[test]
fn wired_lines_are_shared_and_swizzled() {
    let bench = bench();
    let probes: Vec<_> = [1, 5, 6].into_iter().map(|slot| (slot, Probe::new(slot))).collect();
    for (slot, probe) in &probes {
        bench.host.add(*slot, probe.clone()).unwrap();
    }
    let line = |i: usize| lock(&probes[i].1.attachment).as_ref().unwrap().intx.clone();
    line(0).set_level(true);
    line(1).set_level(true);
    line(0).set_level(false);
    line(2).set_level(true);
    assert_eq!(*lock(&bench.record.levels), [(4, true), (5, true)]);
    line(1).set_level(false);
    assert_eq!(lock(&bench.record.levels).last(), Some(&(4, false)));
}

/// Configuration space and windows take anything; the sequence is pseudo-random but always the same.
#[test]
fn arbitrary_accesses_do_no_harm() {
    let bench = bench();
    bench.host.add(1, Probe::new(1)).unwrap();
    bench.host.add(2, Probe::new(2)).unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..100_000 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let data = seed.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
        let len = 1 << (seed >> 60 & 3);
        let mut into = [0; 8];
        let slots = seed & 0x1_8fff;
        let _ = bench.ecam.write(slots, &data[..len]);
        let _ = bench.ecam.read(slots, &mut into[..len]);
        for window in [&bench.low, &bench.high] {
            let _ = window.write(seed >> 8 & 0x7fff_ffff, &data[..len]);
            let _ = window.read(seed >> 8 & 0x7fff_ffff, &mut into[..len]);
        }
    }
    assert_eq!(bench.config_read(0, 0), 0x0008_1b36);
    assert_eq!(bench.config_read(1, 0), 0x1001_1af4);
}

#[test]
fn a_segment_goes_on_where_another_was() {
    let (old, new) = (bench(), bench());
    let probes = [Probe::new(2), Probe::new(2)];
    old.host.add(2, probes[0].clone()).unwrap();
    new.host.add(2, probes[1].clone()).unwrap();
    old.config_write(2, 0x14, (MEM64.0 >> 32) as u32);
    old.config_write(2, 0x10, 0x8000);
    old.config_write(2, 0x18, MEM32.0 as u32 + 0x4000);
    old.enable(2);
    // A masked vector that is pending.
    old.config_write(2, u64::from(probes[0].msix_capability), 0x8000_0000);
    for (offset, word) in [(0x4000, 0x1234u32), (0x4008, 77), (0x400c, 1)] {
        old.low.write(offset, &word.to_le_bytes()).unwrap();
    }
    probes[0].msix.signal(0);

    let mut parts = Parts::default();
    old.host.save(&mut parts).unwrap();
    new.host.restore(&mut parts.clone()).unwrap();
    assert_eq!(new.who(&new.high, 0x8000), Some(2));
    assert!(lock(&new.record.messages).is_empty());
    new.low.write(0x400c, &[0; 4]).unwrap();
    assert_eq!(lock(&new.record.messages)[0].data, 77, "sent once it is unmasked");
    let mut again = Parts::default();
    old.host.save(&mut again).unwrap();
    assert_eq!(again, parts);
    assert_eq!(new.host.outline().len(), 2);

    let without = bench();
    assert!(
        without.host.restore(&mut parts.clone()).is_ok() && parts.find("pci/02").is_some(),
        "it is left over"
    );
    assert!(
        matches!(new.host.restore(&mut Parts::default()), Err(StateError::Missing(part)) if part == "pci/00")
    );
}
