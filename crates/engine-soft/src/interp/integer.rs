//! Data processing on general registers (Arm ARM C3.4, C3.5). The lowering chooses among the type and const parameters,
//! so that the bodies are straight-line code.

use super::{op::Operands, width::Width};
use crate::{
    cpu::Cpu,
    decode::{Extend, bitmask},
};

/// An immediate of an op as a signed number.
#[inline(always)]
pub(super) fn signed(imm: u32) -> u64 {
    i64::from(imm as i32) as u64
}

/// Whether the flags satisfy a condition, given as a mask with one bit for each of the 16 values of NZCV.
#[inline(always)]
pub(super) fn holds(cpu: &Cpu, mask: u32) -> bool {
    mask >> (cpu.nzcv >> 28) & 1 != 0
}

/// The mask that [`holds`] takes for a condition (Arm ARM C1.2.4).
pub(super) const fn condition_mask(cond: u8) -> u16 {
    let mut mask = 0;
    let mut nzcv = 0;
    while nzcv < 16 {
        let (n, z, c, v) = (nzcv & 8 != 0, nzcv & 4 != 0, nzcv & 2 != 0, nzcv & 1 != 0);
        let base = match cond >> 1 {
            0 => z,
            1 => c,
            2 => n,
            3 => v,
            4 => c && !z,
            5 => n == v,
            6 => n == v && !z,
            _ => true,
        };
        if base != (cond & 1 != 0 && cond != 15) {
            mask |= 1 << nzcv;
        }
        nzcv += 1;
    }
    mask
}

/// ADR.
pub(super) fn adr(cpu: &mut Cpu, o: Operands) {
    cpu.w(o.d, cpu.pc_page.wrapping_add(signed(o.imm)));
}

/// ADRP: `imm` pages from the current one.
pub(super) fn adrp(cpu: &mut Cpu, o: Operands) {
    cpu.w(o.d, cpu.pc_page.wrapping_add(signed(o.imm) << 12));
}

/// A constant that zero-extends.
pub(super) fn constant(cpu: &mut Cpu, o: Operands) {
    cpu.w(o.d, u64::from(o.imm));
}

/// A constant that sign-extends.
pub(super) fn constant_signed(cpu: &mut Cpu, o: Operands) {
    cpu.w(o.d, signed(o.imm));
}

/// A constant shifted left by `a`, or the inverse of that.
pub(super) fn constant_shifted<const NOT: bool>(cpu: &mut Cpu, o: Operands) {
    let value = u64::from(o.imm) << (o.a & 63);
    cpu.w(o.d, if NOT { !value } else { value });
}

/// MOVK: 16 bits at `a`.
pub(super) fn move_keep<W: Width>(cpu: &mut Cpu, o: Operands) {
    let shift = u32::from(o.a);
    let keep = W::get(cpu, o.d).and(W::cut(0xffff).lsl(shift).not());
    keep.or(W::cut(u64::from(o.imm)).lsl(shift)).put(cpu, o.d);
}

/// MOV (register).
pub(super) fn copy<W: Width>(cpu: &mut Cpu, o: Operands) {
    W::get(cpu, o.m).put(cpu, o.d);
}

/// ADD and SUB of an immediate, which SUB has negated.
pub(super) fn add_imm<W: Width>(cpu: &mut Cpu, o: Operands) {
    W::get(cpu, o.n).add(W::sign_extend(o.imm)).put(cpu, o.d);
}

/// ADDS and SUBS of an immediate.
pub(super) fn add_imm_flags<W: Width, const SUB: bool>(cpu: &mut Cpu, o: Operands) {
    let right = W::cut(u64::from(o.imm));
    add_sub::<W, SUB, true>(cpu, o, right);
}

#[inline(always)]
fn add_sub<W: Width, const SUB: bool, const SET: bool>(cpu: &mut Cpu, o: Operands, right: W) {
    let left = W::get(cpu, o.n);
    match (SUB, SET) {
        (false, false) => left.add(right).put(cpu, o.d),
        (true, false) => left.sub(right).put(cpu, o.d),
        (sub, true) => {
            let (result, flags) = if sub { left.sub_flags(right) } else { left.add_flags(right) };
            cpu.nzcv = flags;
            result.put(cpu, o.d);
        }
    }
}

/// Kinds of [`shifted`]: no shift at all.
pub(super) const NO_SHIFT: u8 = 0;
/// Kinds of [`shifted`]: LSL.
pub(super) const LSL: u8 = 1;
/// Kinds of [`shifted`]: LSR.
pub(super) const LSR: u8 = 2;
/// Kinds of [`shifted`]: ASR.
pub(super) const ASR: u8 = 3;
/// Kinds of [`shifted`]: ROR.
pub(super) const ROR: u8 = 4;

/// Register `m` shifted by `imm`.
#[inline(always)]
fn shifted<W: Width, const SHIFT: u8>(cpu: &Cpu, o: Operands) -> W {
    let value = W::get(cpu, o.m);
    match SHIFT {
        LSL => value.lsl(o.imm),
        LSR => value.lsr(o.imm),
        ASR => value.asr(o.imm),
        ROR => value.ror(o.imm),
        _ => value,
    }
}

/// ADD, SUB, ADDS, SUBS of a shifted register.
pub(super) fn add_shift<W: Width, const SUB: bool, const SET: bool, const SHIFT: u8>(
    cpu: &mut Cpu,
    o: Operands,
) {
    let right = shifted::<W, SHIFT>(cpu, o);
    add_sub::<W, SUB, SET>(cpu, o, right);
}

/// `value` widened as `EXTEND`, an [`Extend`], says.
#[inline(always)]
pub(super) fn extended<const EXTEND: u8>(value: u64) -> u64 {
    const UXTB: u8 = Extend::Uxtb as u8;
    const UXTH: u8 = Extend::Uxth as u8;
    const UXTW: u8 = Extend::Uxtw as u8;
    const SXTB: u8 = Extend::Sxtb as u8;
    const SXTH: u8 = Extend::Sxth as u8;
    const SXTW: u8 = Extend::Sxtw as u8;
    match EXTEND {
        UXTB => value & 0xff,
        UXTH => value & 0xffff,
        UXTW => value & 0xffff_ffff,
        SXTB => i64::from(value as i8) as u64,
        SXTH => i64::from(value as i16) as u64,
        SXTW => i64::from(value as i32) as u64,
        _ => value,
    }
}

/// ADD, SUB, ADDS, SUBS of register `m` extended and shifted left by `a`.
pub(super) fn add_extend<W: Width, const SUB: bool, const SET: bool, const EXTEND: u8>(
    cpu: &mut Cpu,
    o: Operands,
) {
    let right = W::cut(extended::<EXTEND>(cpu.r(o.m)) << (o.a & 7));
    add_sub::<W, SUB, SET>(cpu, o, right);
}

/// ADC, SBC, ADCS, SBCS.
pub(super) fn add_carry<W: Width, const SUB: bool, const SET: bool>(cpu: &mut Cpu, o: Operands) {
    let right = W::get(cpu, o.m);
    let right = if SUB { right.not() } else { right };
    let (result, flags) = W::get(cpu, o.n).add_with_carry(right, cpu.nzcv & 1 << 29 != 0);
    if SET {
        cpu.nzcv = flags;
    }
    result.put(cpu, o.d);
}

/// Operations of [`logic`].
pub(super) const AND: u8 = 0;
/// Operations of [`logic`].
pub(super) const ORR: u8 = 1;
/// Operations of [`logic`].
pub(super) const EOR: u8 = 2;
/// Operations of [`logic`]: AND that sets flags.
pub(super) const ANDS: u8 = 3;

#[inline(always)]
fn logic<W: Width, const OP: u8>(cpu: &mut Cpu, o: Operands, right: W) {
    let left = W::get(cpu, o.n);
    let result = match OP {
        ORR => left.or(right),
        EOR => left.xor(right),
        _ => left.and(right),
    };
    if OP == ANDS {
        cpu.nzcv = result.logic_flags();
    }
    result.put(cpu, o.d);
}

/// AND, ORR, EOR, ANDS of a bitmask that is a sign-extended 32-bit number.
pub(super) fn logic_imm<W: Width, const OP: u8>(cpu: &mut Cpu, o: Operands) {
    logic::<W, OP>(cpu, o, W::sign_extend(o.imm));
}

/// AND, ORR, EOR, ANDS of the 64-bit bitmask for pattern `imm`.
pub(super) fn logic_pattern<const OP: u8>(cpu: &mut Cpu, o: Operands) {
    logic::<u64, OP>(cpu, o, bitmask(o.imm as u16).unwrap_or(0));
}

/// AND, ORR, EOR, ANDS, BIC, ORN, EON, BICS of a shifted register.
pub(super) fn logic_shift<W: Width, const OP: u8, const INVERT: bool, const SHIFT: u8>(
    cpu: &mut Cpu,
    o: Operands,
) {
    let right = shifted::<W, SHIFT>(cpu, o);
    logic::<W, OP>(cpu, o, if INVERT { right.not() } else { right });
}

/// LSL by the immediate `a`.
pub(super) fn shift_left<W: Width>(cpu: &mut Cpu, o: Operands) {
    W::get(cpu, o.n).lsl(u32::from(o.a)).put(cpu, o.d);
}

/// LSR and ASR by the immediate `imm`.
pub(super) fn shift_right<W: Width, const SIGNED: bool>(cpu: &mut Cpu, o: Operands) {
    let value = W::get(cpu, o.n);
    if SIGNED { value.asr(o.imm) } else { value.lsr(o.imm) }.put(cpu, o.d);
}

/// SBFM, UBFM: to the left by `a`, which drops the bits above the field, then to the right by `imm`, which puts it in
/// its place.
pub(super) fn bitfield<W: Width, const SIGNED: bool>(cpu: &mut Cpu, o: Operands) {
    let value = W::get(cpu, o.n).lsl(u32::from(o.a));
    if SIGNED { value.asr(o.imm) } else { value.lsr(o.imm) }.put(cpu, o.d);
}

/// BFM: rotates right by `m`, then keeps the destination but for the field of `imm` bits from bit `a`.
pub(super) fn bitfield_insert<W: Width>(cpu: &mut Cpu, o: Operands) {
    let field = W::cut(u64::MAX).lsr(W::BITS.wrapping_sub(o.imm)).lsl(u32::from(o.a));
    let source = W::get(cpu, o.n).ror(u32::from(o.m));
    W::get(cpu, o.d).and(field.not()).or(source.and(field)).put(cpu, o.d);
}

/// EXTR from bit `imm`.
pub(super) fn extract<W: Width>(cpu: &mut Cpu, o: Operands) {
    let high = W::get(cpu, o.n).lsl(1).lsl(W::BITS - 1 - o.imm % W::BITS);
    W::get(cpu, o.m).lsr(o.imm).or(high).put(cpu, o.d);
}

/// CCMP, CCMN: `imm` is the flags of the condition that fails in bits 31:28 and the condition's mask below; `m` is a
/// register or an immediate.
pub(super) fn cond_compare<W: Width, const SUB: bool, const IMM: bool>(cpu: &mut Cpu, o: Operands) {
    cpu.nzcv = if holds(cpu, o.imm & 0xffff) {
        let left = W::get(cpu, o.n);
        let right = if IMM { W::cut(u64::from(o.m)) } else { W::get(cpu, o.m) };
        if SUB { left.sub_flags(right).1 } else { left.add_flags(right).1 }
    } else {
        o.imm & 0xf000_0000
    };
}

/// CSEL, or with INVERT and INCREMENT the siblings that change the second operand (CSNEG does both).
pub(super) fn cond_select<W: Width, const INVERT: bool, const INCREMENT: bool>(cpu: &mut Cpu, o: Operands) {
    let mut other = W::get(cpu, o.m);
    if INVERT {
        other = other.not();
    }
    if INCREMENT {
        other = other.add(W::cut(1));
    }
    let first = W::get(cpu, o.n);
    if holds(cpu, o.imm) { first } else { other }.put(cpu, o.d);
}

/// RBIT.
pub(super) fn reverse_bits<W: Width>(cpu: &mut Cpu, o: Operands) {
    W::get(cpu, o.n).reverse_bits().put(cpu, o.d);
}

/// REV16.
pub(super) fn reverse_halves<W: Width>(cpu: &mut Cpu, o: Operands) {
    const ODD: u64 = 0xff00_ff00_ff00_ff00;
    let value = cpu.r(o.n);
    W::cut((value & ODD) >> 8 | (value & !ODD) << 8).put(cpu, o.d);
}

/// REV32 of an X register.
pub(super) fn reverse_words(cpu: &mut Cpu, o: Operands) {
    cpu.w(o.d, cpu.r(o.n).swap_bytes().rotate_left(32));
}

/// REV.
pub(super) fn reverse<W: Width>(cpu: &mut Cpu, o: Operands) {
    W::get(cpu, o.n).swap_bytes().put(cpu, o.d);
}

/// CLZ.
pub(super) fn count_zeros<W: Width>(cpu: &mut Cpu, o: Operands) {
    W::cut(u64::from(W::get(cpu, o.n).leading_zeros())).put(cpu, o.d);
}

/// CLS.
pub(super) fn count_signs<W: Width>(cpu: &mut Cpu, o: Operands) {
    let value = W::get(cpu, o.n);
    let changes = value.xor(value.asr(1));
    W::cut(u64::from(changes.leading_zeros()) - 1).put(cpu, o.d);
}

/// UDIV, SDIV.
pub(super) fn divide<W: Width, const SIGNED: bool>(cpu: &mut Cpu, o: Operands) {
    let (left, right) = (W::get(cpu, o.n), W::get(cpu, o.m));
    if SIGNED { left.sdiv(right) } else { left.udiv(right) }.put(cpu, o.d);
}

/// LSLV, LSRV, ASRV, RORV.
pub(super) fn shift_variable<W: Width, const SHIFT: u8>(cpu: &mut Cpu, o: Operands) {
    let (value, amount) = (W::get(cpu, o.n), cpu.r(o.m) as u32);
    match SHIFT {
        LSL => value.lsl(amount),
        LSR => value.lsr(amount),
        ASR => value.asr(amount),
        _ => value.ror(amount),
    }
    .put(cpu, o.d);
}

/// MADD, MSUB.
pub(super) fn multiply_add<W: Width, const SUB: bool>(cpu: &mut Cpu, o: Operands) {
    let product = W::get(cpu, o.n).mul(W::get(cpu, o.m));
    let sum = W::get(cpu, o.a);
    if SUB { sum.sub(product) } else { sum.add(product) }.put(cpu, o.d);
}

/// SMADDL, SMSUBL, UMADDL, UMSUBL.
pub(super) fn multiply_add_long<const SIGNED: bool, const SUB: bool>(cpu: &mut Cpu, o: Operands) {
    let widen = |index| {
        let value = cpu.r(index);
        if SIGNED { i64::from(value as i32) as u64 } else { value & 0xffff_ffff }
    };
    let product = widen(o.n).wrapping_mul(widen(o.m));
    let sum = cpu.r(o.a);
    cpu.w(o.d, if SUB { sum.wrapping_sub(product) } else { sum.wrapping_add(product) });
}

/// SMULH, UMULH.
pub(super) fn multiply_high<const SIGNED: bool>(cpu: &mut Cpu, o: Operands) {
    let (left, right) = (cpu.r(o.n), cpu.r(o.m));
    let product = if SIGNED {
        (i128::from(left as i64) * i128::from(right as i64)) as u128
    } else {
        u128::from(left) * u128::from(right)
    };
    cpu.w(o.d, (product >> 64) as u64);
}

/// RMIF: `a` is the mask of the flags, `imm` the rotation.
pub(super) fn rmif(cpu: &mut Cpu, o: Operands) {
    let new = (cpu.r(o.n).rotate_right(o.imm & 63) as u32) << 28;
    let mask = u32::from(o.a) << 28;
    cpu.nzcv = cpu.nzcv & !mask | new & mask;
}

/// SETF8, SETF16.
pub(super) fn set_flags<const HALF: bool>(cpu: &mut Cpu, o: Operands) {
    let width = if HALF { 16 } else { 8 };
    let value = cpu.r(o.n) as u32;
    let (sign, above) = (value >> (width - 1) & 1, value >> width & 1);
    let zero = u32::from(value << (32 - width) == 0);
    cpu.nzcv = cpu.nzcv & 1 << 29 | sign << 31 | zero << 30 | (sign ^ above) << 28;
}

/// CFINV.
pub(super) fn invert_carry(cpu: &mut Cpu, _: Operands) {
    cpu.nzcv ^= 1 << 29;
}

/// XAFLAG.
pub(super) fn flags_to_arm(cpu: &mut Cpu, _: Operands) {
    let (z, c) = (cpu.nzcv >> 30 & 1, cpu.nzcv >> 29 & 1);
    cpu.nzcv = (!c & !z & 1) << 31 | (z & c) << 30 | (c | z) << 29 | (!c & z & 1) << 28;
}

/// AXFLAG.
pub(super) fn flags_to_external(cpu: &mut Cpu, _: Operands) {
    let (z, c, v) = (cpu.nzcv >> 30 & 1, cpu.nzcv >> 29 & 1, cpu.nzcv >> 28 & 1);
    cpu.nzcv = (z | v) << 30 | (c & !v & 1) << 29;
}
