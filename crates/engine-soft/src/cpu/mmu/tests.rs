//! The MMU against hand-made tables.

use tearless_arm64::esr::fsc;
use tearless_memory::Gpa;

use super::{Fault, Kind, Leaf, Regime, Registers};
use crate::cpu::{
    Exception, Stop, View,
    shared::{Request, TlbScope},
    testing::{DATA, RAM, TestCpu},
};

/// Descriptor bits.
const AF: u64 = 1 << 10;
const NG: u64 = 1 << 11;
const USER: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
const DBM: u64 = 1 << 51;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
const TABLES: u64 = DATA;

/// A CPU and the tables of its lower half.
struct Map {
    test: TestCpu,
    /// The next free 64 KiB for a table.
    next: u64,
}

impl Map {
    /// Tables for granule 2^`granule` and addresses of `bits` bits; attribute 0 is Normal memory, 1 Device.
    fn new(granule: u32, bits: u64) -> Self {
        let mut test = TestCpu::bare(&[]);
        let tg0 = match granule {
            12 => 0,
            14 => 2,
            _ => 1,
        };
        test.cpu.sys.mmu = Registers {
            sctlr: 1,
            // Upper half off; 48-bit output.
            tcr: (64 - bits) | tg0 << 14 | 1 << 23 | 5 << 32,
            ttbr: [TABLES, 0],
            mair: 0x00ff,
        };
        test.cpu.sys.cpacr = 3 << 20;
        test.cpu.mmu_changed();
        Self { test, next: TABLES + 0x1_0000 }
    }

    fn configure(&mut self, f: impl FnOnce(&mut Registers)) {
        f(&mut self.test.cpu.sys.mmu);
        self.test.cpu.mmu_changed();
    }

    fn get(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.test.memory.read(Gpa(at), &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn put(&self, at: u64, value: u64) {
        self.test.memory.write(Gpa(at), &value.to_le_bytes()).unwrap();
    }

    /// Maps `va` by `descriptor` (without its type bits) at `level`; returns where the descriptor is.
    fn map(&mut self, va: u64, level: u32, descriptor: u64) -> u64 {
        let regime = Regime::el1(&self.test.cpu.sys.mmu);
        let half = *regime.half(va);
        let mut table = half.table;
        let mut at_level = half.start_level();
        let mut bits = half.va_bits - half.shift(at_level);
        loop {
            let at = table + (va >> half.shift(at_level) & ((1 << bits) - 1)) * 8;
            if at_level == level {
                self.put(at, descriptor | if level == 3 { 3 } else { 1 });
                return at;
            }
            if self.get(at) & 1 == 0 {
                self.put(at, self.next | 3);
                self.next += 0x1_0000;
            }
            table = self.get(at) & 0x0000_ffff_ffff_f000;
            at_level += 1;
            bits = half.granule - 3;
        }
    }

    fn walk(&self, va: u64, view: View, kind: Kind) -> Result<Leaf, Fault> {
        self.test.cpu.translate(va, view, kind)
    }

    fn pa(&self, va: u64) -> Result<u64, Fault> {
        self.walk(va, View::Kernel, Kind::Read).map(|leaf| leaf.pa)
    }

    /// The fault status of the data abort that `stop` is, and its address.
    fn abort(&mut self) -> (u32, u64) {
        match std::mem::replace(&mut self.test.cpu.stop, Stop::Continue) {
            Stop::Exception(Exception::DataAbort { iss, far }) => (iss, far),
            other => panic!("no data abort: {other:?}"),
        }
    }
}

#[test]
fn every_granule_and_level_translates() {
    for (granule, bits) in
        [(12, 48), (12, 39), (12, 36), (12, 25), (14, 48), (14, 47), (14, 36), (16, 48), (16, 42)]
    {
        let mut map = Map::new(granule, bits);
        let first_block = if granule == 12 { 1 } else { 2 };
        let half = map.test.cpu.regime.halves[0];
        for level in half.start_level().max(first_block)..=3 {
            let size = 1_u64 << half.shift(level);
            // Near the top of the space, so that every index is exercised.
            let va = (1 << bits) - size;
            let pa = 0x7000_0000_0000 & !(size - 1);
            let at = map.map(va, level, pa | AF);
            for offset in [0, 0x123, size / 2 + 8, size - 1] {
                assert_eq!(
                    map.pa(va + offset),
                    Ok(pa + offset),
                    "granule {granule} bits {bits} level {level}"
                );
            }
            map.put(at, 0);
            assert_eq!(map.pa(va), Err(Fault(fsc::TRANSLATION_L0 + level)));
        }
    }
}

#[test]
fn addresses_outside_of_the_space_fault_at_level_0() {
    let mut map = Map::new(12, 39);
    map.map(0, 3, RAM | AF);
    assert_eq!(map.pa(0), Ok(RAM));
    for va in [1 << 39, 1 << 54, 0x0100_0000_0000_0000, u64::MAX] {
        assert_eq!(map.pa(va), Err(Fault(fsc::TRANSLATION_L0)), "{va:#x}");
    }
    // TBI0 ignores the top byte, for data and, without TBID0, for instructions.
    map.configure(|m| m.tcr |= 1 << 37);
    assert_eq!(map.pa(0xab00_0000_0000_0000), Ok(RAM));
    assert!(map.walk(0xab00_0000_0000_0000, View::Kernel, Kind::Execute).is_ok());
    map.configure(|m| m.tcr |= 1 << 51);
    assert!(map.walk(0xab00_0000_0000_0000, View::Kernel, Kind::Execute).is_err());
    // EPD0 and E0PD0.
    map.configure(|m| m.tcr |= 1 << 55);
    assert_eq!(map.walk(0, View::User, Kind::Read), Err(Fault(fsc::TRANSLATION_L0)));
    assert_eq!(map.pa(0), Ok(RAM));
    map.configure(|m| m.tcr |= 1 << 7);
    assert_eq!(map.pa(0), Err(Fault(fsc::TRANSLATION_L0)));
}

#[test]
fn reserved_descriptors_and_addresses_fault() {
    let mut map = Map::new(12, 48);
    let at = map.map(0, 3, RAM | AF);
    map.put(at, RAM | AF | 1);
    assert_eq!(map.pa(0), Err(Fault(fsc::TRANSLATION_L0 + 3)), "a level 3 block");
    map.put(TABLES, RAM | AF | 1);
    assert_eq!(map.pa(0), Err(Fault(fsc::TRANSLATION_L0)), "a level 0 block");
    map.put(TABLES, 0x1000 | 3);
    assert_eq!(map.pa(0), Err(Fault(fsc::EXTERNAL_WALK_L0 + 1)), "a table that is not RAM");
    // 32-bit output addresses.
    map.configure(|m| m.tcr &= !(7 << 32));
    map.put(TABLES, 1 << 40 | 3);
    assert_eq!(map.pa(0), Err(Fault(fsc::ADDRESS_SIZE_L0)));
    map.configure(|m| m.ttbr[0] = 1 << 40);
    assert_eq!(map.pa(0), Err(Fault(fsc::ADDRESS_SIZE_L0)));
}

/// Arm ARM tables D8-42 and D8-43: what AP, UXN and PXN give to EL1 and EL0.
#[test]
fn permissions_follow_the_tables() {
    let allowed = |map: &Map, view| {
        [Kind::Read, Kind::Write, Kind::Execute].map(|kind| match map.walk(0, view, kind) {
            Ok(_) => true,
            Err(fault) => {
                assert_eq!(fault, Fault(fsc::PERMISSION_L0 + 3));
                false
            }
        })
    };
    // Descriptor bits; then read, write, execute at EL1 and at EL0.
    let rows = [
        (0, [true, true, true], [false, false, true]),
        (PXN, [true, true, false], [false, false, true]),
        (UXN, [true, true, true], [false, false, false]),
        (USER, [true, true, false], [true, true, true]),
        (USER | UXN, [true, true, false], [true, true, false]),
        (READ_ONLY, [true, false, true], [false, false, true]),
        (READ_ONLY | UXN | PXN, [true, false, false], [false, false, false]),
        (USER | READ_ONLY, [true, false, true], [true, false, true]),
        (USER | READ_ONLY | PXN, [true, false, false], [true, false, true]),
    ];
    for (bits, kernel, user) in rows {
        let mut map = Map::new(12, 39);
        map.map(0, 3, RAM | AF | bits);
        assert_eq!(allowed(&map, View::Kernel), kernel, "{bits:#x} EL1");
        assert_eq!(allowed(&map, View::User), user, "{bits:#x} EL0");
        // PAN takes away data accesses to what EL0 can access; EPAN also to what EL0 can execute.
        let seen = bits & USER != 0;
        let pan = [kernel[0] && !seen, kernel[1] && !seen, kernel[2]];
        assert_eq!(allowed(&map, View::KernelPan), pan, "{bits:#x} PAN");
        map.configure(|m| m.sctlr |= 1 << 57);
        let seen = seen || bits & UXN == 0;
        let epan = [kernel[0] && !seen, kernel[1] && !seen, kernel[2]];
        assert_eq!(allowed(&map, View::KernelPan), epan, "{bits:#x} EPAN");
        // WXN takes execution away from what is writable.
        map.configure(|m| m.sctlr |= 1 << 19);
        assert_eq!(allowed(&map, View::Kernel)[2], kernel[2] && !kernel[1], "{bits:#x} WXN EL1");
        assert_eq!(allowed(&map, View::User)[2], user[2] && !user[1], "{bits:#x} WXN EL0");
    }
}

#[test]
fn tables_take_permissions_away_unless_disabled() {
    let mut map = Map::new(12, 39);
    map.map(0, 3, RAM | AF | USER);
    let root = map.get(TABLES);
    for (bit, view, kind) in
        [(61, View::User, Kind::Read), (62, View::Kernel, Kind::Write), (60, View::User, Kind::Execute)]
    {
        map.configure(|m| m.tcr &= !(1 << 41));
        map.put(TABLES, root);
        assert!(map.walk(0, view, kind).is_ok());
        map.put(TABLES, root | 1 << bit);
        assert_eq!(map.walk(0, view, kind), Err(Fault(fsc::PERMISSION_L0 + 3)), "bit {bit}");
        // HPD0.
        map.configure(|m| m.tcr |= 1 << 41);
        assert!(map.walk(0, view, kind).is_ok(), "bit {bit}");
    }
}

#[test]
fn access_flag_and_dirty_state_are_updated_only_when_enabled() {
    let mut map = Map::new(12, 39);
    let at = map.map(0, 3, RAM | READ_ONLY | DBM);
    assert_eq!(map.pa(0), Err(Fault(fsc::ACCESS_FLAG_L0 + 3)));
    // HA.
    map.configure(|m| m.tcr |= 1 << 39);
    assert_eq!(map.pa(0), Ok(RAM));
    assert_eq!(map.get(at), RAM | READ_ONLY | DBM | AF | 3);
    assert_eq!(map.walk(0, View::Kernel, Kind::Write), Err(Fault(fsc::PERMISSION_L0 + 3)));
    // HD: a read leaves the page clean and not writable for the TLB, a write makes it dirty.
    map.configure(|m| m.tcr |= 1 << 40);
    assert!(!map.walk(0, View::Kernel, Kind::Read).unwrap().writable);
    assert_eq!(map.test.cpu.load::<u8>(0), Ok(0));
    assert_eq!(map.get(at) & READ_ONLY, READ_ONLY);
    assert_eq!(map.test.cpu.store(0, 1_u8), Ok(()));
    assert_eq!(map.get(at), RAM | DBM | AF | 3);
    assert!(map.walk(0, View::Kernel, Kind::Read).unwrap().writable);
}

#[test]
fn accesses_that_cross_pages_are_split_and_checked_as_a_whole() {
    let mut map = Map::new(12, 39);
    map.map(0x1000, 3, RAM | AF);
    map.map(0x2000, 3, RAM + 0x5000 | AF);
    let cpu = &mut map.test.cpu;
    assert_eq!(cpu.store(0x1ffd, 0x0807_0605_0403_0201_u64), Ok(()));
    assert_eq!(cpu.load(0x1ffd), Ok(0x0807_0605_0403_0201_u64));
    assert_eq!(cpu.load(0x2000), Ok(0x08_0706_0504_u64));
    assert_eq!(map.get(RAM + 0x5000), 0x08_0706_0504);
    // The second page is missing: nothing is written, and the fault is at its start.
    assert!(map.test.cpu.store(0x2ffc, u64::MAX).is_err());
    assert_eq!(map.abort(), (1 << 6 | fsc::TRANSLATION_L0 + 3, 0x3000));
    assert_eq!(map.get(RAM + 0x5ff8), 0);
    assert!(map.test.cpu.store_pair(0x2ff8, (u64::MAX, u64::MAX)).is_err());
    assert_eq!(map.abort(), (1 << 6 | fsc::TRANSLATION_L0 + 3, 0x3000));
    assert_eq!(map.get(RAM + 0x5ff8), 0);
}

#[test]
fn device_memory_and_alignment_checking_refuse_unaligned_accesses() {
    let mut map = Map::new(12, 39);
    map.map(0x1000, 3, RAM | AF);
    map.map(0x2000, 3, RAM | AF | 1 << 2);
    assert_eq!(map.test.cpu.load::<u32>(0x1001), Ok(0));
    assert!(map.test.cpu.load::<u32>(0x2001).is_err());
    assert_eq!(map.abort(), (fsc::ALIGNMENT, 0x2001));
    assert!(map.test.cpu.load::<u32>(0x1ffe).is_err(), "the second half is Device memory");
    assert_eq!(map.abort().0, fsc::ALIGNMENT);
    map.configure(|m| m.sctlr |= 2);
    assert!(map.test.cpu.store(0x1001, 0_u32).is_err());
    assert_eq!(map.abort(), (1 << 6 | fsc::ALIGNMENT, 0x1001));
    assert_eq!(map.test.cpu.load::<u32>(0x1004), Ok(0));
}

#[test]
fn tlbi_by_address_drops_pages_and_whole_blocks() {
    let mut map = Map::new(12, 39);
    let page = map.map(0x1000, 3, RAM | AF);
    let block = map.map(0x4020_0000, 2, RAM | AF);
    for va in [0x1008, 0x4020_0018, 0x4020_3008] {
        assert_eq!(map.test.cpu.load::<u64>(va), Ok(0));
    }
    // In the tables' own memory, where no descriptor is in use.
    for at in [RAM + 0x10_0008, RAM + 0x20_0018, RAM + 0x20_3008] {
        map.put(at, 7);
    }
    map.put(page, RAM + 0x10_0000 | AF | 3);
    map.put(block, RAM + 0x20_0000 | AF | 1);
    let drop = |map: &mut Map, va, asid| {
        map.test.cpu.forget(Request::Tlb(TlbScope::Pages { va, pages: 1, asid }));
    };
    drop(&mut map, 0x1000, None);
    assert_eq!(map.test.cpu.load::<u64>(0x1008), Ok(7));
    // Any address of the block will do.
    drop(&mut map, 0x403f_f000, None);
    assert_eq!(map.test.cpu.load::<u64>(0x4020_0018), Ok(7));
    assert_eq!(map.test.cpu.load::<u64>(0x4020_3008), Ok(7));
}

#[test]
fn address_spaces_keep_their_translations_and_lose_them_by_asid() {
    let mut map = Map::new(12, 39);
    map.configure(|m| m.tcr |= 1 << 36);
    let private = map.map(0x1000, 3, RAM | AF | NG);
    let switch = |map: &mut Map, asid: u64| {
        let reg = tearless_arm64::sysreg::name::TTBR0_EL1;
        map.test.cpu.write_sysreg(reg, 0, TABLES | asid << 48).unwrap();
    };
    switch(&mut map, 0x101);
    assert_eq!(map.test.cpu.load::<u64>(0x1000), Ok(0));
    map.put(private, RAM + 0x10_0000 | AF | NG | 3);
    map.put(RAM + 0x10_0000, 9);
    switch(&mut map, 0x102);
    assert_eq!(map.test.cpu.load::<u64>(0x1000), Ok(9), "another address space walks by itself");
    switch(&mut map, 0x101);
    map.test.cpu.forget(Request::Tlb(TlbScope::Asid(0x102)));
    map.test.cpu.forget(Request::Tlb(TlbScope::Pages { va: 0x1000, pages: 1, asid: Some(0x102) }));
    map.test.cpu.forget(Request::Tlb(TlbScope::Asid(0x101)));
    assert_eq!(map.test.cpu.load::<u64>(0x1000), Ok(9));
}

/// As page table isolation maps a kernel.
#[test]
fn what_the_kernel_maps_for_one_address_space_others_do_not_see() {
    let mut map = Map::new(12, 39);
    // The upper half on, of 39 bits in 4 KiB granules, too.
    map.configure(|m| {
        m.tcr = m.tcr & !(1 << 23) | 1 << 36 | 25 << 16 | 2 << 30;
        m.ttbr[1] = TABLES + 0x8000;
    });
    let high = 0xffff_ff80_0000_1000;
    let at = map.map(high, 3, RAM | AF | NG);
    let reg = tearless_arm64::sysreg::name::TTBR0_EL1;
    let mut wanted = 0;
    for asid in [1, 2, 1, 3_u64] {
        map.test.cpu.write_sysreg(reg, 0, TABLES | asid << 48).unwrap();
        if asid != 1 {
            // Others walk by themselves, and address space 1 keeps what it found.
            wanted = asid;
            map.put(at, RAM + asid * 0x1_0000 | AF | NG | 3);
            map.put(RAM + asid * 0x1_0000, asid);
        }
        let expected = if asid == 1 { 0 } else { wanted };
        assert_eq!(map.test.cpu.load::<u64>(high), Ok(expected), "ASID {asid}");
    }
    for asid in [1, 2_u64] {
        map.test.cpu.forget(Request::Tlb(TlbScope::Asid(asid as u16)));
        map.test.cpu.write_sysreg(reg, 0, TABLES | asid << 48).unwrap();
        assert_eq!(map.test.cpu.load::<u64>(high), Ok(wanted), "after TLBI for {asid}");
    }
}

#[test]
fn a_global_page_is_dropped_from_every_address_space() {
    let mut map = Map::new(12, 39);
    map.configure(|m| m.tcr |= 1 << 36);
    let at = map.map(0x1000, 3, RAM | AF);
    let reg = tearless_arm64::sysreg::name::TTBR0_EL1;
    for asid in [1, 2_u64] {
        map.test.cpu.write_sysreg(reg, 0, TABLES | asid << 48).unwrap();
        assert_eq!(map.test.cpu.load::<u64>(0x1000), Ok(0));
    }
    map.put(at, RAM + 0x10_0000 | AF | 3);
    map.put(RAM + 0x10_0000, 5);
    map.test.cpu.forget(Request::Tlb(TlbScope::Pages { va: 0x1000, pages: 1, asid: Some(2) }));
    map.test.cpu.write_sysreg(reg, 0, TABLES | 1 << 48).unwrap();
    assert_eq!(map.test.cpu.load::<u64>(0x1000), Ok(5));
}

#[test]
fn at_reports_addresses_attributes_and_faults() {
    use tearless_arm64::sysreg::name as r;
    let mut map = Map::new(12, 39);
    map.map(0x1000, 3, RAM | AF | 3 << 8);
    let cpu = &mut map.test.cpu;
    cpu.system_instruction(r::AT_S1E1R, 0, 0x1234).unwrap();
    assert_eq!(cpu.sys.par, 0xff << 56 | RAM | 1 << 11 | 1 << 9 | 3 << 7);
    cpu.system_instruction(r::AT_S1E0R, 0, 0x1234).unwrap();
    assert_eq!(cpu.sys.par, 1 << 11 | u64::from(fsc::PERMISSION_L0 + 3) << 1 | 1);
    cpu.system_instruction(r::AT_S1E1W, 0, 0x2000).unwrap();
    assert_eq!(cpu.sys.par, 1 << 11 | u64::from(fsc::TRANSLATION_L0 + 3) << 1 | 1);
}

/// ESR_EL1.ISS.WnR of an atomic: clear if a read would have faulted as well.
#[test]
fn an_atomic_faults_as_a_read_where_a_read_would() {
    const WNR: u32 = 1 << 6;
    const READ_ONLY: u64 = 1 << 7;
    let mut map = Map::new(12, 48);
    assert!(map.test.cpu.rmw(8, |v: u64| v).is_err());
    assert_eq!(map.abort(), (fsc::TRANSLATION_L0, 8));
    map.map(0, 3, RAM | AF | READ_ONLY);
    assert!(map.test.cpu.cas(8, 0_u64, 1).is_err());
    assert_eq!(map.abort(), (fsc::PERMISSION_L0 + 3 | WNR, 8));
    assert!(map.test.cpu.rmw(13, |v: u64| v).is_err());
    assert_eq!(map.abort(), (fsc::ALIGNMENT, 13));
}
