//! Handlers of system instructions: MSR and MRS, SYS, barriers, exception calls and returns, waits and hints.

use std::sync::atomic::{Ordering, fence};

use tearless_arm64::{SysReg, pstate, sysreg::name as r};
use tearless_engine::Conduit;

use super::op::{Handler, Operands, fallible, serialising, simple};
use crate::{
    cpu::{Cpu, Exception, SCTLR_UMA, Stop, Trap, trap_iss},
    decode::PstateField,
};

/// UNDEFINED.
pub(in crate::interp) fn undefined(cpu: &mut Cpu, _: Operands) -> Result<(), Trap> {
    Err(cpu.undefined())
}

/// SVC: the exception is taken at once, and execution goes on at its vector.
pub(in crate::interp) fn svc(cpu: &mut Cpu, o: Operands) -> Result<u64, Trap> {
    // `pc` is past the instruction, and `take` wants its address.
    cpu.pc = cpu.pc.wrapping_sub(4);
    cpu.pstate &= !pstate::SS;
    Ok(cpu.take(Exception::Svc(o.imm as u16)))
}

/// HVC, the hypervisor call; at EL1 with immediate 0 it is one to the machine.
pub(in crate::interp) fn hvc(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    call(cpu, o, Conduit::Hvc)
}

/// SMC, as HVC.
pub(in crate::interp) fn smc(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    call(cpu, o, Conduit::Smc)
}

fn call(cpu: &mut Cpu, o: Operands, conduit: Conduit) -> Result<(), Trap> {
    if cpu.el() == 0 || o.imm != 0 {
        return Err(cpu.undefined());
    }
    cpu.stop = Stop::Smccc(conduit);
    Ok(())
}

/// BRK.
pub(in crate::interp) fn brk(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    Err(cpu.raise(Exception::Brk(o.imm as u16)))
}

/// ERET.
pub(in crate::interp) fn eret(cpu: &mut Cpu, _: Operands) -> Result<u64, Trap> {
    cpu.eret()
}

/// YIELD: another host thread may be what the guest spins for.
pub(in crate::interp) fn yield_(_: &mut Cpu, _: Operands) {
    std::thread::yield_now();
}

/// WFI.
pub(in crate::interp) fn wfi(cpu: &mut Cpu, _: Operands) -> Result<(), Trap> {
    if cpu.el() == 0 && !cpu.sctlr_bit(16) {
        return Err(cpu.raise(Exception::Wfx(0)));
    }
    cpu.stop = Stop::Wfi;
    Ok(())
}

/// WFE: a wait that may end at any time, and here does at once, after letting other threads run.
pub(in crate::interp) fn wfe(cpu: &mut Cpu, _: Operands) -> Result<(), Trap> {
    if cpu.el() == 0 && !cpu.sctlr_bit(18) {
        return Err(cpu.raise(Exception::Wfx(1)));
    }
    std::thread::yield_now();
    Ok(())
}

/// SEV, SEVL: since WFE never sleeps there is nobody to wake.
pub(in crate::interp) fn sev(_: &mut Cpu, _: Operands) {}

/// CLREX.
pub(in crate::interp) fn clrex(cpu: &mut Cpu, _: Operands) {
    cpu.clear_exclusive();
}

/// The access types of a barrier, CRm[1:0]: loads before anything, stores before stores, everything.
fn order(crm: u32) {
    match crm & 3 {
        1 => fence(Ordering::Acquire),
        2 => fence(Ordering::Release),
        _ => fence(Ordering::SeqCst),
    }
}

/// DMB.
pub(in crate::interp) fn dmb(_: &mut Cpu, o: Operands) {
    order(o.imm);
}

/// DSB: as DMB, and completes the TLB and cache maintenance that came before.
pub(in crate::interp) fn dsb(cpu: &mut Cpu, _: Operands) -> Result<(), Trap> {
    fence(Ordering::SeqCst);
    cpu.wait_for_others();
    Ok(())
}

/// ISB: being serialising is all it does.
pub(in crate::interp) fn isb(_: &mut Cpu, _: Operands) -> Result<(), Trap> {
    Ok(())
}

/// MSR (immediate): the field is in `a`, its new value in `imm`.
pub(in crate::interp) fn msr_imm(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let on = o.imm & 1 != 0;
    let set = |mask: u32| if on { mask } else { 0 };
    let daif = o.imm << 6 & pstate::DAIF;
    let is = |field: PstateField| o.a == field as u8;
    if cpu.el() == 0 {
        if is(PstateField::Pan) || is(PstateField::SpSel) {
            return Err(cpu.undefined());
        }
        let is_daif = is(PstateField::DaifSet) || is(PstateField::DaifClr);
        if is_daif && cpu.sys.mmu.sctlr & SCTLR_UMA == 0 {
            let op2 = if is(PstateField::DaifSet) { 6 } else { 7 };
            let reg = SysReg::new(0, 3, 4, o.imm as u16, op2);
            return Err(cpu.raise(Exception::SysReg(trap_iss(reg, 31, false))));
        }
    }
    if is(PstateField::DaifSet) {
        // Masking needs nothing looked at.
        cpu.pstate |= daif;
    } else if is(PstateField::DaifClr) {
        cpu.change_pstate(daif, 0);
    } else if is(PstateField::Pan) {
        cpu.change_pstate(pstate::PAN, set(pstate::PAN));
    } else if is(PstateField::SpSel) {
        cpu.change_pstate(1, set(1));
    } else if is(PstateField::Ssbs) {
        cpu.change_pstate(pstate::SSBS, set(pstate::SSBS));
    } else {
        cpu.change_pstate(pstate::DIT, set(pstate::DIT));
    }
    Ok(())
}

/// The register in `imm`.
fn reg(o: Operands) -> SysReg {
    SysReg(o.imm as u16)
}

fn msr_any(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    cpu.write_sysreg(reg(o), o.n, cpu.r(o.n))
}

fn mrs_any(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let value = cpu.read_sysreg(reg(o), o.d)?;
    cpu.w(o.d, value);
    Ok(())
}

/// Requires EL1.
#[inline(always)]
fn kernel(cpu: &mut Cpu) -> Result<(), Trap> {
    if cpu.el() == 0 { Err(cpu.undefined()) } else { Ok(()) }
}

/// The handler of MSR to `reg`; the source is in `n`. Those that every system call and switch executes are direct.
pub(in crate::interp) fn msr(reg: SysReg) -> Handler {
    match reg {
        r::TPIDR_EL0 => simple(|cpu, o| cpu.sys.tpidr_el0 = cpu.r(o.n)),
        r::NZCV => simple(|cpu, o| cpu.nzcv = cpu.r(o.n) as u32 & pstate::NZCV),
        r::ELR_EL1 => fallible(|cpu, o| kernel(cpu).map(|()| cpu.sys.elr = cpu.r(o.n))),
        r::SPSR_EL1 => fallible(|cpu, o| kernel(cpu).map(|()| cpu.sys.spsr = cpu.r(o.n) & 0xffff_ffff)),
        _ => serialising(msr_any),
    }
}

/// The handler of MRS from `reg`; the destination is in `d`.
pub(in crate::interp) fn mrs(reg: SysReg) -> Handler {
    match reg {
        r::TPIDR_EL0 => simple(|cpu, o| cpu.w(o.d, cpu.sys.tpidr_el0)),
        r::TPIDRRO_EL0 => simple(|cpu, o| cpu.w(o.d, cpu.sys.tpidrro_el0)),
        r::NZCV => simple(|cpu, o| cpu.w(o.d, u64::from(cpu.nzcv))),
        r::TPIDR_EL1 => fallible(|cpu, o| kernel(cpu).map(|()| cpu.w(o.d, cpu.sys.tpidr_el1))),
        r::ESR_EL1 => fallible(|cpu, o| kernel(cpu).map(|()| cpu.w(o.d, cpu.sys.esr))),
        r::ELR_EL1 => fallible(|cpu, o| kernel(cpu).map(|()| cpu.w(o.d, cpu.sys.elr))),
        r::SPSR_EL1 => fallible(|cpu, o| kernel(cpu).map(|()| cpu.w(o.d, cpu.sys.spsr))),
        r::SP_EL0 => fallible(|cpu, o| {
            if cpu.pstate & 1 == 0 {
                return Err(cpu.undefined());
            }
            cpu.w(o.d, cpu.sp[0]);
            Ok(())
        }),
        r::DAIF => fallible(|cpu, o| {
            if cpu.el() == 0 {
                return mrs_any(cpu, o);
            }
            cpu.w(o.d, u64::from(cpu.pstate & pstate::DAIF));
            Ok(())
        }),
        _ => fallible(mrs_any),
    }
}

/// The handler of SYS; the operand register is in `n`.
pub(in crate::interp) fn sys(reg: SysReg) -> Handler {
    match reg {
        r::DC_ZVA => fallible(|cpu, o| cpu.zero_block(cpu.r(o.n))),
        _ => serialising(|cpu, o| cpu.system_instruction(self::reg(o), o.n, cpu.r(o.n))),
    }
}

/// SYSL: none exists.
pub(in crate::interp) fn sysl(cpu: &mut Cpu, _: Operands) -> Result<(), Trap> {
    Err(cpu.undefined())
}
