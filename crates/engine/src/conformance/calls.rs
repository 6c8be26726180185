//! Calls to the machine, exceptions, and the state.

use tearless_arm64::{esr, pstate, sysreg::name as reg};

use super::{
    Outcome,
    guest::{Event, Guest, RAM, Running, kernel_with, same, start},
};
use crate::Vm;

/// The vector of synchronous exceptions from the current level with its own stack.
const SYNC: u64 = 0x200;
/// The vector of synchronous exceptions from EL0.
const SYNC_USER: u64 = 0x400;

/// An `ESR_EL1` value.
fn syndrome(class: u32, iss: u64) -> u64 {
    u64::from(class) << esr::EC_SHIFT | esr::IL | iss
}

/// Runs up to an exception by `vector`, with this syndrome and this preferred return address.
pub(super) fn exception<V: Vm>(vcpu: &mut Running<V>, vector: u64, esr: u64, elr: u64) -> Outcome {
    vcpu.expect(Event::Vector(vector))?;
    same("ESR_EL1", vcpu.sys(reg::ESR_EL1)?, esr)?;
    same("ELR_EL1", vcpu.sys(reg::ELR_EL1)?, elr)
}

/// A hypervisor call.
const CALL: &[u32] = &[
    0xd400_0002, // hvc #0
    0xf900_0380, // str x0, [x28]
];

pub(super) fn smccc<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, CALL)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.change(|state| {
        for i in 0..18 {
            state.x[i] = 0x8400_0000 + i as u64;
        }
    })?;
    vcpu.answer = 100;
    vcpu.expect(Event::Smccc { x: std::array::from_fn(|i| 0x8400_0000 + i as u64) })?;
    same("x0 as the guest has it", vcpu.finish()?, 100)?;
    let x = vcpu.state()?.x;
    same("x0 to x3", &x[..4], &[100, 101, 102, 103])?;
    for (i, &value) in x.iter().enumerate().take(18).skip(4) {
        same("a register that the call does not return", value, 0x8400_0000 + i as u64)?;
    }
    Ok(())
}

/// Calls itself 6000 times, deeper than a host follows returns, then returns to a place that it was not called from.
const RETURNS: &[u32] = &[
    0xd282_ee01, // mov x1, #6000
    0xaa01_03e4, // mov x4, x1
    0xd280_0000, // mov x0, #0
    0x1000_0045, // adr x5, 1f
    0x9400_0005, // bl 3f
    0x9400_000b, // 1: bl 5f
    0x9100_0400, // add x0, x0, #1, which is not executed
    0xf900_0380, // 2: str x0, [x28]
    0x1400_0000, // b .
    0xb400_00c1, // 3: cbz x1, 4f
    0xd100_0421, // sub x1, x1, #1
    0x97ff_fffe, // bl 3b
    0x9100_0400, // add x0, x0, #1
    0xeb04_001f, // cmp x0, x4
    0x9a9e_00be, // csel x30, x5, x30, eq
    0xd65f_03c0, // 4: ret
    0x10ff_fefe, // 5: adr x30, 2b
    0xd65f_03c0, // ret
];

pub(super) fn returns<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, RETURNS)?;
    same("the depth", guest.vcpu(0)?.finish()?, 6000)
}

/// Writes and reads a register of the interrupt controller's CPU interface.
const SYSREG: &[u32] = &[
    0xd518_4601, // msr icc_pmr_el1, x1
    0xd538_4600, // mrs x0, icc_pmr_el1
    0xd538_461f, // mrs xzr, icc_pmr_el1
    0xf900_0380, // str x0, [x28]
];

pub(super) fn sysreg_handled<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, SYSREG)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.change(|state| state.x[1] = 0xf0)?;
    vcpu.answer = 0xa0;
    vcpu.expect(Event::SysReg { reg: reg::ICC_PMR_EL1, write: Some(0xf0) })?;
    vcpu.expect(Event::SysReg { reg: reg::ICC_PMR_EL1, write: None })?;
    vcpu.expect(Event::SysReg { reg: reg::ICC_PMR_EL1, write: None })?;
    same("the answer", vcpu.finish()?, 0xa0)
}

pub(super) fn sysreg_unhandled<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, SYSREG)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.change(|state| (state.x[0], state.pc) = (5, RAM + 4))?;
    vcpu.has_sysregs = false;
    vcpu.answer = 0xa0;
    vcpu.expect(Event::SysReg { reg: reg::ICC_PMR_EL1, write: None })?;
    exception(&mut vcpu, SYNC, syndrome(esr::ec::UNKNOWN, 0), RAM + 4)?;
    same("x0, which is not written", vcpu.x(0)?, 5)
}

/// Synchronous exceptions; the default vector returns to the instruction after SVC, and to BRK itself.
const EXCEPTIONS: &[u32] = &[
    0xd400_2461, // svc #0x123
    0xd420_00e0, // brk #7
];

pub(super) fn exceptions<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, EXCEPTIONS)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.set_pstate(pstate::N | pstate::C | kernel_with(pstate::D | pstate::I))?;
    exception(&mut vcpu, SYNC, syndrome(esr::ec::SVC64, 0x123), RAM + 4)?;
    let saved = pstate::N | pstate::C | kernel_with(pstate::D | pstate::I);
    same("SPSR_EL1", vcpu.sys(reg::SPSR_EL1)?, u64::from(saved))?;
    same("the masks in the handler", vcpu.state()?.pstate & pstate::DAIF, pstate::DAIF)?;
    for _ in 0..2 {
        exception(&mut vcpu, SYNC, syndrome(esr::ec::BRK64, 7), RAM + 4)?;
    }
    Ok(())
}

/// An undefined instruction.
const UNDEFINED: &[u32] = &[
    0x0000_0000, // udf #0
];

pub(super) fn undefined<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, UNDEFINED)?;
    let mut vcpu = guest.vcpu(0)?;
    exception(&mut vcpu, SYNC, syndrome(esr::ec::UNKNOWN, 0), RAM)
}

/// At EL0: a system call, then a privileged register.
const USER: &[u32] = &[
    0xd400_0021, // svc #1
    0xd518_d080, // msr tpidr_el1, x0
];

pub(super) fn user<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, USER)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.set_pstate(pstate::EL0T)?;
    exception(&mut vcpu, SYNC_USER, syndrome(esr::ec::SVC64, 1), RAM + 4)?;
    same("SPSR_EL1", vcpu.sys(reg::SPSR_EL1)?, u64::from(pstate::EL0T))?;
    exception(&mut vcpu, SYNC_USER, syndrome(esr::ec::UNKNOWN, 0), RAM + 4)
}

/// Nothing but the end.
const NOTHING: &[u32] = &[
    0xf900_0380, // str x0, [x28]
];

pub(super) fn state<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, NOTHING)?;
    let mut vcpu = guest.vcpu(0)?;
    let mut wanted = start();
    for i in 0..24 {
        wanted.x[i] = 0x0101_0101_0101_0101 * i as u64;
    }
    (wanted.x[29], wanted.x[30]) = (29, 30);
    (wanted.sp_el0, wanted.sp_el1) = (0x1000, 0x2000);
    wanted.v = std::array::from_fn(|i| u128::from(u64::MAX) * (i as u128 + 1));
    wanted.pstate = pstate::Z | pstate::V | kernel_with(pstate::F);
    (wanted.fpcr, wanted.fpsr) = (1 << 25 | 1 << 24, 0x0800_0001);
    wanted.sys.extend([
        (reg::TPIDR_EL0, 0x1111),
        (reg::TPIDRRO_EL0, 0x2222),
        (reg::TPIDR_EL1, 0x3333),
        (reg::MAIR_EL1, 0xff44),
        (reg::ELR_EL1, 0x5550),
        (reg::SPSR_EL1, 0x5),
        (reg::FAR_EL1, 0x7777),
        (reg::ESR_EL1, 0x5600_0000),
        (reg::CNTV_CVAL_EL0, 0x1234_5678),
    ]);
    vcpu.change(|state| *state = wanted.clone())?;
    for run in [false, true] {
        if run {
            // An exit that is not answered yet leaves its instruction unfinished; a kick finishes it first.
            vcpu.finish()?;
            vcpu.kicker.kick();
            vcpu.expect(Event::Kicked)?;
            wanted.pc += 4;
        }
        let got = vcpu.state()?;
        same("pc", got.pc, wanted.pc)?;
        same("x", got.x, wanted.x)?;
        same("the stack pointers", (got.sp_el0, got.sp_el1), (wanted.sp_el0, wanted.sp_el1))?;
        same("pstate", got.pstate, wanted.pstate)?;
        same("v", got.v, wanted.v)?;
        same("fpcr and fpsr", (got.fpcr, got.fpsr), (wanted.fpcr, wanted.fpsr))?;
        for &(register, value) in &wanted.sys {
            same("a system register", (register, vcpu.sys(register)?), (register, value))?;
        }
        same("the order of the registers", got.sys.is_sorted_by_key(|(register, _)| *register), true)?;
    }
    let saved = vcpu.state()?;
    vcpu.change(|state| *state = saved.clone())?;
    same("the state after a round trip", vcpu.state()?, saved)
}

/// Which CPU is this?
const AFFINITY: &[u32] = &[
    0xd538_00a0, // mrs x0, mpidr_el1
    0xf900_0380, // str x0, [x28]
];

pub(super) fn affinity<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, AFFINITY)?;
    for (index, expected) in [(0, 0), (1, 1)] {
        let mut vcpu = guest.vcpu(index)?;
        // Bit 31 is RES1.
        same("MPIDR_EL1", vcpu.finish()?, 1 << 31 | expected)?;
    }
    Ok(())
}
