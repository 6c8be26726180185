//! Branches. Near ones stay within the page's op array, and `imm` counts ops; of far ones it is the target as an offset
//! in bytes from the start of the page.

use super::{
    integer::{condition_mask, holds, signed},
    op::Operands,
    width::Width,
};
use crate::cpu::Cpu;

#[inline(always)]
fn far(cpu: &Cpu, o: Operands) -> u64 {
    cpu.pc_page.wrapping_add(signed(o.imm))
}

/// B, near.
pub(super) fn always(_: &mut Cpu, _: Operands) -> bool {
    true
}

/// B, far.
pub(super) fn jump(cpu: &mut Cpu, o: Operands) -> Option<u64> {
    Some(far(cpu, o))
}

/// Sets the link register; the index of the return address in the page is in `n` (low) and `m` (high).
#[inline(always)]
fn link(cpu: &mut Cpu, o: Operands) {
    let index = u16::from_le_bytes([o.n, o.m]);
    cpu.w(30, cpu.pc_page.wrapping_add(u64::from(index) * 4));
}

/// BL, near.
pub(super) fn call_near(cpu: &mut Cpu, o: Operands) -> bool {
    link(cpu, o);
    true
}

/// BL, far.
pub(super) fn call_far(cpu: &mut Cpu, o: Operands) -> Option<u64> {
    link(cpu, o);
    Some(far(cpu, o))
}

/// Whether the flags satisfy condition `COND`.
#[inline(always)]
fn condition<const COND: u8>(cpu: &Cpu) -> bool {
    const N: u32 = 1 << 31;
    const Z: u32 = 1 << 30;
    const C: u32 = 1 << 29;
    const V: u32 = 1 << 28;
    let flags = cpu.nzcv;
    let base = match COND >> 1 {
        0 => flags & Z != 0,
        1 => flags & C != 0,
        2 => flags & N != 0,
        3 => flags & V != 0,
        5 => (flags ^ flags << 3) & N == 0,
        _ => return holds(cpu, u32::from(const { condition_mask(COND) })),
    };
    base != (COND & 1 != 0)
}

/// B.cond, near.
pub(super) fn cond_near<const COND: u8>(cpu: &mut Cpu, _: Operands) -> bool {
    condition::<COND>(cpu)
}

/// B.cond, far.
pub(super) fn cond_far<const COND: u8>(cpu: &mut Cpu, o: Operands) -> Option<u64> {
    condition::<COND>(cpu).then(|| far(cpu, o))
}

#[inline(always)]
fn compare<W: Width, const NONZERO: bool>(cpu: &Cpu, o: Operands) -> bool {
    (W::get(cpu, o.d).wide() != 0) == NONZERO
}

/// CBZ, CBNZ, near.
pub(super) fn compare_near<W: Width, const NONZERO: bool>(cpu: &mut Cpu, o: Operands) -> bool {
    compare::<W, NONZERO>(cpu, o)
}

/// CBZ, CBNZ, far.
pub(super) fn compare_far<W: Width, const NONZERO: bool>(cpu: &mut Cpu, o: Operands) -> Option<u64> {
    compare::<W, NONZERO>(cpu, o).then(|| far(cpu, o))
}

/// The bit's number is in `a`.
#[inline(always)]
fn test<const NONZERO: bool>(cpu: &Cpu, o: Operands) -> bool {
    (cpu.r(o.d) >> (o.a & 63) & 1 != 0) == NONZERO
}

/// TBZ, TBNZ, near.
pub(super) fn test_near<const NONZERO: bool>(cpu: &mut Cpu, o: Operands) -> bool {
    test::<NONZERO>(cpu, o)
}

/// TBZ, TBNZ, far.
pub(super) fn test_far<const NONZERO: bool>(cpu: &mut Cpu, o: Operands) -> Option<u64> {
    test::<NONZERO>(cpu, o).then(|| far(cpu, o))
}

/// BR, RET.
pub(super) fn jump_register(cpu: &mut Cpu, o: Operands) -> Option<u64> {
    Some(cpu.r(o.d))
}

/// BLR; `imm` is the return address as an offset in bytes from the start of the page.
pub(super) fn call_register(cpu: &mut Cpu, o: Operands) -> Option<u64> {
    let target = cpu.r(o.d);
    cpu.w(30, far(cpu, o));
    Some(target)
}
