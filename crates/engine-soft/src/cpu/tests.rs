//! Exceptions, debug, atomics, MMIO by replay and changed code, by running instructions.

use std::sync::Arc;

use tearless_arm64::{esr::ec, pstate};
use tearless_memory::Gpa;

use super::{
    Cpu, Stop,
    testing::{DATA, RAM, TestCpu},
};

/// Where vectors are.
const VECTORS: u64 = RAM + 0x8_0000;

const NOP: u32 = 0xd503_201f;
const ERET: u32 = 0xd69f_03e0;

fn with_vectors(code: &[u32]) -> TestCpu {
    let mut t = TestCpu::new(code);
    t.cpu.sys.vbar = VECTORS;
    t
}

fn class(cpu: &Cpu) -> u32 {
    (cpu.sys.esr >> 26) as u32
}

#[test]
fn svc_enters_el1_and_eret_returns() {
    // svc #7, at EL0; the handler returns at once.
    let mut t = with_vectors(&[0xd400_00e1, NOP]);
    t.put_code(VECTORS + 0x400, &[ERET]);
    // The page must be accessible to EL0: code at EL0 and data, AP = 01 would bar EL1 from executing it.
    t.cpu.sys.mmu.sctlr &= !1;
    t.cpu.mmu_changed();
    t.cpu.set_mode(pstate::EL0T);
    t.cpu.nzcv = pstate::Z | pstate::C;
    t.cpu.w(super::SP, 0x1234);
    t.steps(1);
    assert_eq!((class(&t.cpu), t.cpu.sys.esr & 0xffff), (ec::SVC64, 7));
    assert_eq!((t.cpu.pc, t.cpu.sys.elr), (VECTORS + 0x400, RAM + 4));
    assert_eq!(t.cpu.sys.spsr, u64::from(pstate::Z | pstate::C));
    assert_eq!(t.cpu.pstate & !pstate::PAN, pstate::DAIF | pstate::EL1H);
    assert_eq!(t.cpu.sp[0], 0x1234);
    t.steps(1);
    assert_eq!((t.cpu.pc, t.cpu.el(), t.cpu.r(super::SP)), (RAM + 4, 0, 0x1234));
}

#[test]
fn an_illegal_return_stays_and_faults_on_the_next_instruction() {
    let mut t = with_vectors(&[ERET]);
    for mode in [pstate::EL2H, pstate::AARCH32, 0b0001] {
        t.cpu.pc = RAM;
        t.cpu.set_mode(pstate::EL1H | pstate::DAIF);
        t.cpu.sys.elr = RAM + 0x100;
        t.cpu.sys.spsr = u64::from(mode);
        t.steps(1);
        assert_eq!(t.cpu.pstate & pstate::MODE, pstate::EL1H, "{mode:#b}");
        assert_ne!(t.cpu.pstate & pstate::IL, 0, "{mode:#b}");
        assert!(t.cpu.wants_attention());
    }
}

#[test]
fn undefined_alignment_and_floating_point_exceptions_have_their_syndromes() {
    // udf; a load through a misaligned SP; fadd without access; br to a misaligned address.
    let mut t = with_vectors(&[0, 0xf940_03e0, 0x1e62_2820, 0xd61f_0000]);
    t.step();
    assert_eq!((class(&t.cpu), t.cpu.sys.elr, t.cpu.pc), (ec::UNKNOWN, RAM, VECTORS + 0x200));
    t.cpu.pc = RAM + 4;
    t.cpu.sys.mmu.sctlr |= 1 << 3;
    t.cpu.w(super::SP, DATA + 8);
    t.cpu.mmu_changed();
    t.step();
    assert_eq!((class(&t.cpu), t.cpu.sys.elr), (ec::SP_ALIGN, RAM + 4));
    t.cpu.pc = RAM + 8;
    t.cpu.sys.cpacr = 0;
    t.cpu.update_derived();
    t.step();
    assert_eq!((class(&t.cpu), t.cpu.sys.esr & 0x1ff_ffff), (ec::FP_ACCESS, 0x1e0_0000));
    t.cpu.pc = RAM + 12;
    t.cpu.w(0, RAM + 2);
    t.step();
    assert_eq!((class(&t.cpu), t.cpu.sys.elr, t.cpu.sys.far), (ec::PC_ALIGN, RAM + 2, RAM + 2));
}

#[test]
fn software_step_runs_one_instruction_at_a_time() {
    let mut t = with_vectors(&[NOP, NOP, ERET]);
    t.cpu.sys.debug.os_lock = false;
    // SS and KDE.
    t.cpu.sys.debug.mdscr = 1 | 1 << 13;
    // Return to EL1 with debug exceptions unmasked and SPSR.SS set.
    t.cpu.sys.spsr = u64::from(pstate::EL1H | pstate::SS);
    t.cpu.sys.elr = RAM;
    t.cpu.pc = RAM + 8;
    t.steps(1);
    assert!(t.cpu.is_stepping());
    assert_ne!(t.cpu.pstate & pstate::SS, 0);
    t.steps(1);
    assert_eq!((t.cpu.pc, t.cpu.pstate & pstate::SS), (RAM + 4, 0));
    // The run loop now takes the exception before the next instruction; a kick ends the run.
    t.put_code(VECTORS + 0x200, &[0xd400_0002]);
    t.cpu.mailbox.raise(super::shared::attention::SELF);
    let leave = t.cpu.run();
    assert_eq!(leave, crate::interp::run::Leave::Stop(Stop::Smccc(tearless_engine::Conduit::Hvc)));
    assert_eq!((class(&t.cpu), t.cpu.sys.elr), (ec::STEP_SAME, RAM + 4));
}

#[test]
fn watchpoints_and_breakpoints_stop_before_the_access() {
    // str x0, [x1]; ldr x0, [x1]; nop
    let mut t = with_vectors(&[0xf900_0020, 0xf940_0020, NOP]);
    t.cpu.w(1, DATA + 8);
    t.cpu.w(0, 5);
    // Warm the TLB up: setting a watchpoint must take effect on what is cached.
    t.steps(2);
    t.cpu.sys.debug.os_lock = false;
    t.cpu.set_mode(pstate::EL1H);
    // MDE and KDE; watch stores to all eight bytes from EL1.
    t.cpu.sys.debug.mdscr = 1 << 15 | 1 << 13;
    t.cpu.sys.debug.watchpoints[0] = (DATA + 8, 0xff << 5 | 2 << 3 | 0b11);
    t.cpu.debug_changed();
    t.cpu.pc = RAM + 4;
    t.steps(1);
    t.cpu.pc = RAM;
    t.step();
    assert_eq!((class(&t.cpu), t.cpu.sys.elr, t.cpu.sys.far), (ec::WATCHPOINT_SAME, RAM, DATA + 8));
    assert_eq!(t.cpu.sys.esr & 0x7f, 1 << 6 | 0x22);
    // A breakpoint on the third instruction, from EL1.
    t.cpu.set_mode(pstate::EL1H);
    t.cpu.sys.debug.watchpoints[0] = (0, 0);
    t.cpu.sys.debug.breakpoints[1] = (RAM + 8, 0xf << 5 | 0b11);
    t.cpu.debug_changed();
    t.cpu.pc = RAM + 4;
    t.put_code(VECTORS + 0x200, &[0xd400_0002]);
    let leave = t.cpu.run();
    assert_eq!(leave, crate::interp::run::Leave::Stop(Stop::Smccc(tearless_engine::Conduit::Hvc)));
    assert_eq!((class(&t.cpu), t.cpu.sys.elr), (ec::BREAKPOINT_SAME, RAM + 8));
}

#[test]
fn exclusives_fail_after_a_change_and_without_a_reservation() {
    let cpu = &mut TestCpu::new(&[]).cpu;
    assert_eq!(cpu.store_exclusive(DATA, 1_u32), Ok(false));
    assert_eq!(cpu.load_exclusive::<u32>(DATA), Ok(0));
    assert_eq!(cpu.store_exclusive(DATA, 1_u32), Ok(true));
    assert_eq!(cpu.store_exclusive(DATA, 2_u32), Ok(false));
    assert_eq!(cpu.load_exclusive::<u32>(DATA), Ok(1));
    cpu.store(DATA, 9_u32).unwrap();
    assert_eq!(cpu.store_exclusive(DATA, 3_u32), Ok(false));
    assert_eq!(cpu.load_exclusive::<u128>(DATA), Ok(9));
    cpu.clear_exclusive();
    assert_eq!(cpu.store_exclusive(DATA, 1_u128), Ok(false));
    assert_eq!(cpu.load_exclusive::<u64>(DATA), Ok(9));
    assert_eq!(cpu.store_exclusive(DATA + 8, 1_u64), Ok(false), "another address");
    assert!(cpu.load_exclusive::<u64>(DATA + 12).is_err(), "leaves 16 aligned bytes");
}

#[test]
fn atomics_work_unaligned_within_16_bytes_only() {
    let cpu = &mut TestCpu::new(&[]).cpu;
    cpu.store(DATA, u128::MAX).unwrap();
    assert_eq!(cpu.rmw(DATA + 3, |v: u32| v.wrapping_add(1)), Ok(u32::MAX));
    assert_eq!(cpu.load::<u128>(DATA), Ok(!(0xffff_ffff_u128 << 24)));
    assert_eq!(cpu.cas(DATA + 3, 0_u32, 0x1234_u32), Ok(0));
    assert_eq!(cpu.load::<u32>(DATA + 3), Ok(0x1234));
    assert!(cpu.rmw(DATA + 13, |v: u32| v).is_err());
    assert!(cpu.load_acquire::<u64>(DATA + 12).is_err());
    assert_eq!(cpu.load_acquire::<u64>(DATA + 4).map(|v| v & 0xff), Ok(0x12));
    assert_eq!(cpu.load_exclusive::<u32>(DATA + 3), Ok(0x1234));
    assert_eq!(cpu.store_exclusive(DATA + 3, 0x5678_u32), Ok(true));
    assert_eq!(cpu.load_exclusive::<u32>(DATA + 3), Ok(0x5678));
    cpu.store(DATA + 3, 1_u8).unwrap();
    assert_eq!(cpu.store_exclusive(DATA + 3, 0_u32), Ok(false));
    assert_eq!(cpu.load::<u128>(DATA), Ok(!(0xffff_ffff << 24) | 0x5601 << 24));
}

#[test]
fn a_pair_from_mmio_is_two_exits_and_one_instruction() {
    // ldp x0, x1, [x2], #16
    let mut t = TestCpu::new(&[0xa8c1_0440]);
    t.cpu.w(2, 0x1000);
    assert_eq!(t.step(), Stop::MmioRead { gpa: 0x1000, size: 8 });
    t.cpu.replay.answer(11);
    assert_eq!(t.step(), Stop::MmioRead { gpa: 0x1008, size: 8 });
    assert_eq!((t.cpu.pc, t.cpu.r(2)), (RAM, 0x1000));
    t.cpu.replay.answer(22);
    assert_eq!(t.step(), Stop::Continue);
    assert_eq!((t.cpu.r(0), t.cpu.r(1), t.cpu.r(2), t.cpu.pc), (11, 22, 0x1010, RAM + 4));
    assert!(!t.cpu.replay.is_active());
}

/// movz x0, #`value`
fn mov_x0(value: u32) -> u32 {
    0xd280_0000 | value << 5
}

#[test]
fn changed_code_is_seen_after_ic_ivau_on_every_vcpu() {
    use tearless_arm64::sysreg::name as r;
    let mut a = TestCpu::new(&[mov_x0(1), NOP]);
    let shared = Arc::clone(&a.cpu.shared);
    let mut b = TestCpu::join(&shared, &a.memory, 1, &[mov_x0(1)]);
    for t in [&mut a, &mut b] {
        t.steps(1);
        assert_eq!(t.cpu.r(0), 1);
        t.cpu.pc = RAM;
    }
    a.put_code(RAM, &[mov_x0(2)]);
    // The op is decoded: without maintenance the old instruction may run, and here does.
    a.steps(1);
    assert_eq!(a.cpu.r(0), 1);
    a.cpu.pc = RAM;
    a.cpu.system_instruction(r::IC_IVAU, 0, RAM).unwrap();
    a.cpu.wait_for_others();
    assert!(b.cpu.mailbox.has_requests());
    b.cpu.drain_requests();
    for t in [&mut a, &mut b] {
        t.steps(1);
        assert_eq!(t.cpu.r(0), 2);
        t.cpu.pc = RAM;
    }
    // IC IALLU is local.
    a.put_code(RAM, &[mov_x0(3)]);
    a.cpu.system_instruction(r::IC_IALLU, 0, 0).unwrap();
    a.steps(1);
    b.steps(1);
    assert_eq!((a.cpu.r(0), b.cpu.r(0)), (3, 2));
}

#[test]
fn a_dsb_waits_for_running_vcpus_only() {
    use super::shared::{Request, TlbScope};
    // b .
    let mut a = TestCpu::new(&[0x1400_0000]);
    let shared = Arc::clone(&a.cpu.shared);
    let mailbox = shared.add_vcpu(1).unwrap();
    a.cpu.broadcast(Request::Tlb(TlbScope::All));
    a.cpu.wait_for_others();
    let memory = a.memory.clone();
    let peer = Arc::clone(&mailbox);
    let thread = std::thread::spawn(move || {
        let mut cpu = Cpu::new(shared, Arc::clone(&peer), 1);
        cpu.pc = RAM;
        peer.enter();
        let leave = cpu.run();
        peer.leave();
        drop(memory);
        leave
    });
    for _ in 0..1000 {
        a.cpu.broadcast(Request::Tlb(TlbScope::Pages { va: 0, pages: 1, asid: None }));
        a.cpu.wait_for_others();
        assert!(a.cpu.tickets.is_empty());
    }
    mailbox.raise(super::shared::attention::KICK);
    assert_eq!(thread.join().unwrap(), crate::interp::run::Leave::Kicked);
}

#[test]
fn id_registers_describe_the_model() {
    use tearless_arm64::sysreg::name as r;
    let mut t = TestCpu::new(&[]);
    let mut read = |reg| t.cpu.read_sysreg(reg, 0).unwrap();
    assert_eq!(read(r::MPIDR_EL1), 1 << 31);
    assert_eq!(read(r::CTR_EL0) >> 28 & 3, 1, "IDC without DIC");
    assert_eq!(read(r::ID_AA64PFR0_EL1) & 0xff, 0x11);
    assert_eq!(read(r::DCZID_EL0), 4);
    // A reserved identification register reads as zero, and EL0 may not read any.
    assert_eq!(read(tearless_arm64::SysReg::new(3, 0, 0, 7, 7)), 0);
    t.cpu.set_mode(pstate::EL0T);
    assert!(t.cpu.read_sysreg(r::MIDR_EL1, 0).is_err());
    assert_eq!(t.memory.ranges(), [Gpa(RAM)..Gpa(RAM + super::testing::RAM_SIZE)]);
}
