//! Scalar floating point.

use super::{FixedPoint, FpBinary, FpUnary, Shape, SimdInsn, Source, bit, bits, reg};
use crate::fp::Rounding;

/// The rounding modes as conversion instructions encode them.
const MODES: [Rounding; 4] = [Rounding::TieEven, Rounding::Up, Rounding::Down, Rounding::Zero];

pub(super) fn decode(raw: u32) -> Option<SimdInsn> {
    if bit(raw, 24) {
        return fused(raw);
    }
    if !bit(raw, 21) {
        return fixed_point(raw);
    }
    if bits(raw, 15, 10) == 0 {
        return integer(raw);
    }
    // Only the conversions above have a use for bit 31.
    if bit(raw, 31) {
        return None;
    }
    let size = format(raw)?;
    let (rd, rn, rm) = (reg(raw, 0), reg(raw, 5), reg(raw, 16));
    let cond = bits(raw, 15, 12) as u8;
    match bits(raw, 11, 10) {
        0b01 => {
            let (signal, nzcv) = (bit(raw, 4), bits(raw, 3, 0) as u8);
            Some(SimdInsn::FpCondCompare { size, signal, rn, rm, cond, nzcv })
        }
        0b10 => {
            let op = binary(bits(raw, 15, 12))?;
            Some(SimdInsn::FpBinary { op, shape: Shape::scalar(size), rd, rn, rm: Source::whole(rm) })
        }
        0b11 => Some(SimdInsn::FpCondSelect { size, rd, rn, rm, cond }),
        _ if bits(raw, 14, 10) == 0b10000 => one_source(raw, size),
        _ if bits(raw, 15, 10) == 0b001000 => compare(raw, size),
        _ if bits(raw, 12, 5) == 0b1000_0000 => Some(SimdInsn::Immediate {
            op: super::ImmediateOp::Move,
            full: false,
            value: expand_immediate(bits(raw, 20, 13), size),
            rd,
        }),
        _ => None,
    }
}

/// The `ptype` field as the binary logarithm of the format's bytes.
fn format(raw: u32) -> Option<u8> {
    match bits(raw, 23, 22) {
        0 => Some(2),
        1 => Some(3),
        3 => Some(1),
        _ => None,
    }
}

/// `VFPExpandImm`.
pub(super) fn expand_immediate(imm8: u32, size: u8) -> u64 {
    let imm = u64::from(imm8);
    let (sign, low) = (imm >> 7, imm & 0x3f);
    let big = imm >> 6 & 1 == 0;
    // The exponent is NOT(b):b...b:cd.
    match size {
        1 => sign << 15 | if big { 0x4000 } else { 0x3000 } | low << 6,
        2 => sign << 31 | if big { 0x4000_0000 } else { 0x3e00_0000 } | low << 19,
        _ => sign << 63 | if big { 0x4000 << 48 } else { 0x3fc0 << 48 } | low << 48,
    }
}

fn fused(raw: u32) -> Option<SimdInsn> {
    if bit(raw, 31) {
        return None;
    }
    let (o1, o0) = (bit(raw, 21), bit(raw, 15));
    Some(SimdInsn::FpFused {
        size: format(raw)?,
        negate_product: o0 != o1,
        negate_addend: o1,
        rd: reg(raw, 0),
        rn: reg(raw, 5),
        rm: reg(raw, 16),
        ra: reg(raw, 10),
    })
}

fn fixed_point(raw: u32) -> Option<SimdInsn> {
    let (sf, size, scale) = (bit(raw, 31), format(raw)?, bits(raw, 15, 10));
    if !sf && scale < 32 {
        return None;
    }
    let fixed = FixedPoint { signed: !bit(raw, 16), fbits: 64 - scale as u8 };
    let (rd, rn) = (reg(raw, 0), reg(raw, 5));
    match bits(raw, 20, 17) {
        0b0001 => Some(SimdInsn::GeneralToFp { from: fixed, size, sf, rd, rn }),
        0b1100 => Some(SimdInsn::FpToGeneral { to: fixed, mode: Rounding::Zero, size, sf, rd, rn }),
        _ => None,
    }
}

fn integer(raw: u32) -> Option<SimdInsn> {
    let (sf, rmode, opcode) = (bit(raw, 31), bits(raw, 20, 19), bits(raw, 18, 16));
    let (rd, rn) = (reg(raw, 0), reg(raw, 5));
    let whole = FixedPoint { signed: opcode & 1 == 0, fbits: 0 };
    match (rmode, opcode, sf, bits(raw, 23, 22)) {
        (0b01, 0b110, true, 0b10) => Some(SimdInsn::MoveToGeneral { size: 3, index: 1, rd, rn }),
        (0b01, 0b111, true, 0b10) => Some(SimdInsn::MoveTop { rd, rn }),
        (0b11, 0b110, false, 0b01) => Some(SimdInsn::JavaScript { rd, rn }),
        (0, 0b110 | 0b111, _, ptype) => {
            let size = match (sf, ptype) {
                (_, 0b11) => 1,
                (false, 0b00) => 2,
                (true, 0b01) => 3,
                _ => return None,
            };
            Some(match opcode & 1 {
                0 => SimdInsn::MoveToGeneral { size, index: 0, rd, rn },
                _ => SimdInsn::MoveFromGeneral { size, rd, rn },
            })
        }
        (_, 0b000 | 0b001, ..) => {
            let mode = MODES[rmode as usize];
            Some(SimdInsn::FpToGeneral { to: whole, mode, size: format(raw)?, sf, rd, rn })
        }
        (0, 0b010 | 0b011, ..) => Some(SimdInsn::GeneralToFp { from: whole, size: format(raw)?, sf, rd, rn }),
        (0, 0b100 | 0b101, ..) => {
            Some(SimdInsn::FpToGeneral { to: whole, mode: Rounding::TieAway, size: format(raw)?, sf, rd, rn })
        }
        _ => None,
    }
}

fn one_source(raw: u32, size: u8) -> Option<SimdInsn> {
    let (rd, rn) = (reg(raw, 0), reg(raw, 5));
    let rint = |mode| FpUnary::Frint { mode: Some(mode), exact: false };
    let op = match bits(raw, 20, 15) {
        0b000000 => FpUnary::Fmov,
        0b000001 => FpUnary::Fabs,
        0b000010 => FpUnary::Fneg,
        0b000011 => FpUnary::Fsqrt,
        opcode @ (0b000100 | 0b000101 | 0b000111) => {
            let to = [2, 3, 0, 1][(opcode & 3) as usize];
            return (to != size).then_some(SimdInsn::FpConvert { from: size, to, rd, rn });
        }
        opcode @ 0b001000..=0b001011 => rint(MODES[(opcode & 3) as usize]),
        0b001100 => rint(Rounding::TieAway),
        0b001110 => FpUnary::Frint { mode: None, exact: true },
        0b001111 => FpUnary::Frint { mode: None, exact: false },
        opcode @ 0b010000..=0b010011 if size != 1 => FpUnary::FrintSize {
            mode: (opcode & 1 == 0).then_some(Rounding::Zero),
            bits: if opcode & 2 == 0 { 32 } else { 64 },
        },
        _ => return None,
    };
    Some(SimdInsn::FpUnary { op, shape: Shape::scalar(size), rd, rn })
}

fn compare(raw: u32, size: u8) -> Option<SimdInsn> {
    if bits(raw, 2, 0) != 0 {
        return None;
    }
    let (zero, signal) = (bit(raw, 3), bit(raw, 4));
    Some(SimdInsn::FpCompare { size, signal, rn: reg(raw, 5), rm: (!zero).then_some(reg(raw, 16)) })
}

fn binary(opcode: u32) -> Option<FpBinary> {
    use FpBinary::*;
    [Fmul, Fdiv, Fadd, Fsub, Fmax, Fmin, Fmaxnm, Fminnm, Fnmul].get(opcode as usize).copied()
}
