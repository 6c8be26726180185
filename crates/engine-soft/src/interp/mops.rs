//! Memory copy and set (Arm ARM C3.2.16, FEAT_MOPS), by the architecture's option A.
//!
//! A copy is a prologue, a main part and an epilogue. The prologue only turns the registers into option A's form, in
//! which the size register says how far to go: negative and counting up for a copy that ascends, whose address
//! registers point at the ends; positive and counting down for one that descends. The main part does all the work, at
//! most a page per run of its op, which then runs again: between pages the vCPU can be interrupted, and after a fault
//! the registers say what is left. The epilogue finds nothing to do, or finishes likewise.
//!
//! Operands: `d` destination, `m` source address or value, `n` size, `a` the options as encoded, `imm` the syndrome
//! that a mismatch has, without its reasons.

use super::op::Operands;
use crate::cpu::{Cpu, Exception, Side, Trap};

/// `SCTLR_EL1.MSCEn`: EL0 may use these instructions.
const MSCEN: u32 = 33;
/// Most bytes that an ascending copy and a set take.
const MAX_ASCENDING: u64 = i64::MAX as u64;
/// Most bytes that a copy takes which may descend.
const MAX_EITHER_WAY: u64 = 0x007f_ffff_ffff_ffff;
/// The option bit for stores with EL0's permissions.
const USER_STORE: u8 = 1;
/// The option bit for loads with EL0's permissions; of copies only.
const USER_LOAD: u8 = 2;

/// `ISS` of the memory copy and memory set exceptions (Arm ARM D24.2.40).
pub(super) mod iss {
    /// It is a set.
    pub const SET: u32 = 1 << 24;
    /// Where the options are.
    pub const OPTIONS: u32 = 19;
    /// It is an epilogue.
    pub const EPILOGUE: u32 = 1 << 18;
    /// The registers are in the form of the other option.
    pub const WRONG_OPTION: u32 = 1 << 17;
    /// This CPU has option A.
    pub const OPTION_A: u32 = 1 << 16;
}

fn check_enabled(cpu: &mut Cpu) -> Result<(), Trap> {
    if cpu.el() == 0 && !cpu.sctlr_bit(MSCEN) { Err(cpu.undefined()) } else { Ok(()) }
}

/// What is left to do according to the size register; `ascending` says that only that direction makes sense.
fn remaining(cpu: &mut Cpu, o: Operands, ascending: bool) -> Result<i64, Trap> {
    check_enabled(cpu)?;
    let left = cpu.r(o.n) as i64;
    if left == 0 {
        return Ok(0);
    }
    // Option B marks its form by C.
    let wrong_option = cpu.nzcv & 1 << 29 != 0;
    if wrong_option || ascending && left > 0 {
        let reason = if wrong_option { iss::WRONG_OPTION } else { 0 };
        return Err(cpu.raise(Exception::MemoryCopySet(o.imm | reason)));
    }
    Ok(left)
}

/// CPYP, or CPYFP when `ASCENDING`, and siblings.
pub(super) fn copy_prologue<const ASCENDING: bool>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    check_enabled(cpu)?;
    let size = cpu.r(o.n).min(if ASCENDING { MAX_ASCENDING } else { MAX_EITHER_WAY });
    let (to, from) = (cpu.r(o.d), cpu.r(o.m));
    if ASCENDING || !must_descend(to, from, size) {
        cpu.w(o.d, to.wrapping_add(size));
        cpu.w(o.m, from.wrapping_add(size));
        cpu.w(o.n, size.wrapping_neg());
    } else {
        cpu.w(o.n, size);
    }
    cpu.nzcv = 0;
    Ok(())
}

/// Whether the end of the source overlaps the start of the target. The top byte of addresses does not count.
fn must_descend(to: u64, from: u64, size: u64) -> bool {
    const ADDRESS: u64 = (1 << 56) - 1;
    let (to, from) = (to & ADDRESS, from & ADDRESS);
    from < to && from + size > to
}

/// CPYM, CPYE, or CPYFM, CPYFE when `ASCENDING`, and siblings. Whether it is done.
pub(super) fn copy<const ASCENDING: bool>(cpu: &mut Cpu, o: Operands) -> Result<bool, Trap> {
    let left = remaining(cpu, o, ASCENDING)?;
    if left == 0 {
        return Ok(true);
    }
    // Both directions: the address registers plus the size register point at what is next.
    let at = |register: u8, option: u8| Side {
        va: cpu.r(register).wrapping_add(left as u64),
        user: o.a & option != 0,
    };
    let (to, from) = (at(o.d, USER_STORE), at(o.m, USER_LOAD));
    let left = if left < 0 {
        let len = left.unsigned_abs().min(to.after()).min(from.after());
        left.wrapping_add_unsigned(cpu.copy_block(to, from, len, false)?)
    } else {
        let len = left.unsigned_abs().min(to.before()).min(from.before());
        let start = |side: Side| Side { va: side.va.wrapping_sub(len), ..side };
        left.wrapping_sub_unsigned(cpu.copy_block(start(to), start(from), len, true)?)
    };
    cpu.w(o.n, left as u64);
    Ok(left == 0)
}

/// SETP and siblings.
pub(super) fn set_prologue(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    check_enabled(cpu)?;
    let size = cpu.r(o.n).min(MAX_ASCENDING);
    cpu.w(o.d, cpu.r(o.d).wrapping_add(size));
    cpu.w(o.n, size.wrapping_neg());
    cpu.nzcv = 0;
    Ok(())
}

/// SETM, SETE and siblings. Whether it is done.
pub(super) fn set(cpu: &mut Cpu, o: Operands) -> Result<bool, Trap> {
    let left = remaining(cpu, o, true)?;
    if left == 0 {
        return Ok(true);
    }
    let to = Side { va: cpu.r(o.d).wrapping_add(left as u64), user: o.a & USER_STORE != 0 };
    let len = left.unsigned_abs().min(to.after());
    let left = left.wrapping_add_unsigned(cpu.set_block(to, cpu.r(o.m) as u8, len)?);
    cpu.w(o.n, left as u64);
    Ok(left == 0)
}
