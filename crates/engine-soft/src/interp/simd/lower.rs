//! From decoded instructions to ops.

use super::lanes::{HIGH, indexed};
use super::{crypto, float, integer, memory, permute, shift, transfer};
use crate::cpu::{SP, XZR, XZR_SINK};
use crate::decode::simd::{FpUnary, Post, Shape, SimdInsn, Structure};
use crate::interp::integer::condition_mask;
use crate::interp::op::{Op, Operands, fallible};

/// The width of a full or half vector.
const fn width(full: bool) -> u8 {
    3 + full as u8
}

/// The width of narrow results: half a vector, or an element.
const fn narrow_width(size: u8, scalar: bool) -> u8 {
    if scalar { size } else { 3 }
}

/// The width of results of twice the element size: a vector, or an element.
const fn wide_width(size: u8, scalar: bool) -> u8 {
    if scalar { size + 1 } else { 4 }
}

/// A general register as a destination.
const fn sink(register: u8) -> u8 {
    if register == XZR { XZR_SINK } else { register }
}

const fn high_flag(high: bool) -> u32 {
    if high { HIGH } else { 0 }
}

/// Operands of an instruction with one vector operand.
const fn unary(d: u8, n: u8, a: u8, imm: u32) -> Operands {
    Operands { d, n, m: 0, a, imm }
}

/// The op that executes a decoded instruction.
#[expect(clippy::too_many_lines, reason = "one arm per instruction, each of them short")]
pub(in crate::interp) fn lower(insn: &SimdInsn) -> Op {
    use SimdInsn as I;
    let (run, o) = match *insn {
        I::Unary { op, shape: Shape { size, width }, rd, rn } => {
            (integer::unary(op, size), unary(rd, rn, width, 0))
        }
        I::Binary { op, shape: Shape { size, width }, rd, rn, rm } => {
            let o = Operands { d: rd, n: rn, m: rm.reg, a: width, imm: indexed(rm.index) };
            (integer::binary(op, size), o)
        }
        I::Bitwise { op, full, rd, rn, rm } => {
            (integer::bitwise(op), Operands { d: rd, n: rn, m: rm, a: width(full), imm: 0 })
        }
        I::PairLong { op, shape: Shape { size, width }, rd, rn } => {
            (integer::pairwise_long(op, size), unary(rd, rn, width, 0))
        }
        I::Long { op, size, high, scalar, rd, rn, rm } => {
            let a = if integer::narrows(op) { 3 } else { wide_width(size, scalar) };
            let imm = indexed(rm.index) | high_flag(high);
            (integer::long(op, size), Operands { d: rd, n: rn, m: rm.reg, a, imm })
        }
        I::Narrow { op, size, high, scalar, rd, rn } => {
            (integer::narrow(op, size), unary(rd, rn, narrow_width(size, scalar), high_flag(high)))
        }
        I::Shift { op, shape: Shape { size, width }, amount, rd, rn } => {
            (shift::by_immediate(op, size), unary(rd, rn, width, amount.into()))
        }
        I::ShiftNarrow { op, size, high, scalar, amount, rd, rn } => {
            let imm = u32::from(amount) | high_flag(high);
            (shift::narrowing(op, size), unary(rd, rn, narrow_width(size, scalar), imm))
        }
        I::ShiftLong { signed, size, high, amount, rd, rn } => {
            (shift::lengthening(signed, size), unary(rd, rn, 4, u32::from(amount) | high_flag(high)))
        }
        I::Across { op, shape, rd, rn } => {
            (integer::reduce(op, shape.size), unary(rd, rn, 4, shape.width.into()))
        }
        I::FpAcross { op, shape, rd, rn } => {
            (float::reduce(op, shape.size), unary(rd, rn, 4, shape.width.into()))
        }
        I::DupElement { shape: Shape { size, width }, index, rd, rn } => {
            (transfer::dup_element(size), unary(rd, rn, width, index.into()))
        }
        I::DupGeneral { shape: Shape { size, width }, rd, rn } => {
            (transfer::dup_general(size), unary(rd, rn, width, 0))
        }
        I::InsertElement { size, to, from, rd, rn } => {
            (transfer::insert_element(size), unary(rd, rn, from, to.into()))
        }
        I::InsertGeneral { size, to, rd, rn } => {
            (transfer::insert_general(size), unary(rd, rn, 0, to.into()))
        }
        I::MoveTop { rd, rn } => (transfer::insert_general(3), unary(rd, rn, 0, 1)),
        I::ToGeneral { size, signed, sf, index, rd, rn } => {
            (transfer::to_general(size, signed, sf), unary(sink(rd), rn, 0, index.into()))
        }
        I::MoveToGeneral { size, index, rd, rn } => {
            (transfer::to_general(size, false, true), unary(sink(rd), rn, 0, index.into()))
        }
        I::MoveFromGeneral { size, rd, rn } => (transfer::scalar_from_general(size), unary(rd, rn, 0, 0)),
        I::Table { full, count, keep, rd, rn, rm } => {
            (permute::lookup(count, keep), Operands { d: rd, n: rn, m: rm, a: width(full), imm: 0 })
        }
        I::Permute { op, shape: Shape { size, width }, rd, rn, rm } => {
            (permute::permute(op, size), Operands { d: rd, n: rn, m: rm, a: width, imm: 0 })
        }
        I::Extract { full, at, rd, rn, rm } => {
            let o = Operands { d: rd, n: rn, m: rm, a: width(full), imm: u32::from(at) * 8 };
            (permute::extract(full), o)
        }
        I::Immediate { op, full, value, rd } => {
            let (run, imm) = permute::immediate(op, value);
            (run, unary(rd, 0, width(full), imm))
        }
        I::Dot { signed, full, rd, rn, rm } => {
            let o = Operands { d: rd, n: rn, m: rm.reg, a: width(full), imm: indexed(rm.index) };
            (integer::dot(signed), o)
        }
        I::FpUnary { op, shape, rd, rn } => {
            let mode = match op {
                FpUnary::Frint { mode, .. } | FpUnary::FrintSize { mode, .. } => float::mode_code(mode),
                _ => 0,
            };
            (float::unary(op, shape), Operands { d: rd, n: rn, m: mode, a: shape.width, imm: 0 })
        }
        I::FpBinary { op, shape, rd, rn, rm } => {
            let o = Operands { d: rd, n: rn, m: rm.reg, a: shape.width, imm: indexed(rm.index) };
            (float::binary(op, shape, rm), o)
        }
        I::FpPair { op, shape: Shape { size, width }, rd, rn, rm } => {
            (float::pairwise(op, size), Operands { d: rd, n: rn, m: rm, a: width, imm: 0 })
        }
        I::FpMulAdd { subtract, shape: Shape { size, width }, rd, rn, rm } => {
            let o = Operands { d: rd, n: rn, m: rm.reg, a: width, imm: indexed(rm.index) };
            (float::multiply_add(subtract, size), o)
        }
        I::FpMulAddLong { subtract, high, full, rd, rn, rm } => {
            let imm = indexed(rm.index) | high_flag(high);
            let o = Operands { d: rd, n: rn, m: rm.reg, a: width(full), imm };
            (float::multiply_add_long(subtract), o)
        }
        I::ComplexAdd { shape: Shape { size, width }, rotation, rd, rn, rm } => {
            let imm = float::complex_immediate(rotation, None);
            (float::complex_add(size), Operands { d: rd, n: rn, m: rm, a: width, imm })
        }
        I::ComplexMulAdd { shape: Shape { size, width }, rotation, rd, rn, rm } => {
            let imm = float::complex_immediate(rotation, rm.index);
            (float::complex_multiply_add(size), Operands { d: rd, n: rn, m: rm.reg, a: width, imm })
        }
        I::FpToFixed { to, mode, shape, rd, rn } => {
            let m = float::mode_code(Some(mode));
            let o = Operands { d: rd, n: rn, m, a: shape.width, imm: to.fbits.into() };
            (float::to_fixed(to, shape), o)
        }
        I::FixedToFp { from, shape, rd, rn } => {
            (float::from_fixed(from, shape), unary(rd, rn, shape.width, from.fbits.into()))
        }
        I::FpLengthen { size, high, rd, rn } => (float::lengthen(size), unary(rd, rn, 4, high_flag(high))),
        I::FpShorten { size, high, odd, scalar, rd, rn } => {
            let m = if odd { float::ODD } else { 0 };
            let run = if scalar { float::convert(size + 1, size) } else { float::shorten(size) };
            (run, Operands { d: rd, n: rn, m, a: 0, imm: high_flag(high) })
        }
        I::FpConvert { from, to, rd, rn } => (float::convert(from, to), unary(rd, rn, 0, 0)),
        I::FpFused { size, negate_product, negate_addend, rd, rn, rm, ra } => {
            let o = Operands { d: rd, n: rn, m: rm, a: ra, imm: 0 };
            (float::fused(negate_product, negate_addend, size), o)
        }
        I::FpCompare { size, signal, rn, rm } => {
            let o = Operands { d: 0, n: rn, m: rm.unwrap_or(0), a: 0, imm: u32::from(rm.is_none()) };
            (float::compare(signal, size), o)
        }
        I::FpCondCompare { size, signal, rn, rm, cond, nzcv } => {
            let imm = u32::from(condition_mask(cond)) | u32::from(nzcv) << 28;
            (float::conditional_compare(signal, size), Operands { d: 0, n: rn, m: rm, a: 0, imm })
        }
        I::FpCondSelect { size, rd, rn, rm, cond } => {
            let o = Operands { d: rd, n: rn, m: rm, a: size, imm: condition_mask(cond).into() };
            (fallible(float::conditional_select), o)
        }
        I::FpToGeneral { to, mode, size, sf, rd, rn } => {
            let m = float::mode_code(Some(mode));
            let o = Operands { d: sink(rd), n: rn, m, a: 0, imm: to.fbits.into() };
            (float::to_general(to, sf, size), o)
        }
        I::GeneralToFp { from, size, sf, rd, rn } => {
            (float::from_general(from, sf, size), unary(rd, rn, 0, from.fbits.into()))
        }
        I::JavaScript { rd, rn } => (fallible(float::javascript), unary(sink(rd), rn, 0, 0)),
        I::Aes { op, rd, rn } => (crypto::aes(op), unary(rd, rn, 4, 0)),
        I::Sha { op, rd, rn, rm } => (crypto::sha(op), Operands { d: rd, n: rn, m: rm, a: 4, imm: 0 }),
        I::Eor3 { rd, rn, rm, ra } => {
            (crypto::eor3(), Operands { d: rd, n: rn, m: rm, a: 4, imm: ra.into() })
        }
        I::Bcax { rd, rn, rm, ra } => {
            (crypto::bcax(), Operands { d: rd, n: rn, m: rm, a: 4, imm: ra.into() })
        }
        I::Xar { rotate, rd, rn, rm } => {
            (crypto::xar(), Operands { d: rd, n: rn, m: rm, a: 4, imm: rotate.into() })
        }
        I::Multiple { how, full, registers } => {
            let bytes = u32::from(registers) << width(full);
            let o = structure(how, memory::registers(how, full, registers), bytes);
            (memory::multiple(how, full, registers), o)
        }
        I::Single { how, index } => {
            (memory::single(how), structure(how, index, u32::from(how.elements) << how.size))
        }
        I::Replicate { how, full } => {
            (memory::replicate(how), structure(how, width(full), u32::from(how.elements) << how.size))
        }
    };
    Op { run, o }
}

/// Operands of a structure access that moves so many bytes.
fn structure(how: Structure, a: u8, bytes: u32) -> Operands {
    let (m, imm) = match how.post {
        Post::None => (XZR, 0),
        Post::Bytes => (XZR, bytes),
        Post::Reg(register) => (register, 0),
    };
    let n = if how.rn == XZR { SP } else { how.rn };
    Operands { d: how.rt, n, m, a, imm }
}
