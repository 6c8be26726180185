//! Advanced SIMD and cryptography, vectors and scalars in vector registers.

use super::scalar::expand_immediate;
use super::{
    Across, Aes, Binary, Bitwise, FixedPoint, FpBinary, FpUnary, ImmediateOp, Long, Narrow, PairLong,
    Permute, Sha, Shape, Shift, ShiftNarrow, SimdInsn, Source, Unary, bit, bits, reg,
};
use crate::fp::Rounding;

/// The fields that most encodings have.
#[derive(Clone, Copy)]
struct Fields {
    raw: u32,
    /// Whether the instruction is of the scalar group, where the Q bit is set.
    scalar: bool,
    /// Q: a full vector, or the upper half.
    q: bool,
    u: bool,
    size: u8,
    rd: u8,
    rn: u8,
    rm: u8,
}

/// No element size; the sets below have a bit per size.
const NONE: u8 = 0;
const B: u8 = 1;
const HS: u8 = 6;
const BHS: u8 = 7;
const D: u8 = 8;
const ALL: u8 = 15;

impl Fields {
    fn shape(self, size: u8) -> Shape {
        if self.scalar { Shape::scalar(size) } else { Shape::vector(size, self.q) }
    }

    /// The shape with elements of `size` if it is in the set for vectors, or for scalars; a vector of one doubleword
    /// is no vector.
    fn shape_in(self, size: u8, vector: u8, scalar: u8) -> Option<Shape> {
        let allowed = if self.scalar { scalar } else { vector };
        (allowed >> size & 1 != 0 && (self.scalar || self.q || size != 3)).then(|| self.shape(size))
    }

    /// The size of single and double precision in bit 22.
    fn fp_size(self) -> u8 {
        2 + (self.size & 1)
    }
}

pub(super) fn decode(raw: u32) -> Option<SimdInsn> {
    let f = Fields {
        raw,
        scalar: bit(raw, 28),
        q: bit(raw, 30),
        u: bit(raw, 29),
        size: bits(raw, 23, 22) as u8,
        rd: reg(raw, 0),
        rn: reg(raw, 5),
        rm: reg(raw, 16),
    };
    if bit(raw, 24) {
        return match (bit(raw, 10), bit(raw, 23)) {
            (false, _) => indexed(f),
            (true, true) => None,
            (true, false) if bits(raw, 22, 19) != 0 => shift_immediate(f),
            (true, false) if !f.scalar => modified_immediate(f),
            _ => None,
        };
    }
    if bit(raw, 21) {
        return match (bits(raw, 11, 10), bits(raw, 20, 17)) {
            (0b00, _) => three_different(f),
            (0b10, 0b0000) => two_misc(f),
            (0b10, 0b1000) if f.scalar => scalar_pairwise(f),
            (0b10, 0b1000) => across(f),
            (0b10, 0b1100) if bit(raw, 22) => fp_misc(f, 1),
            (0b10, 0b0100) => crypto_two_registers(f),
            (0b10, _) => None,
            _ => three_same(f),
        };
    }
    match (bit(raw, 10), bit(raw, 15)) {
        (true, true) => three_extra(f),
        (true, false) if f.size & 1 != 0 && bit(raw, 14) => None,
        (true, false) if f.size & 1 != 0 => fp_three_same(f, 0b11000 | bits(raw, 13, 11), 1),
        (true, false) if f.size == 0 => copy(f),
        (false, false) if f.scalar && !f.u && f.size == 0 && !bit(raw, 11) => sha_three_registers(f),
        (false, false) if !f.scalar => permutations(f),
        _ => None,
    }
}

fn three_same(f: Fields) -> Option<SimdInsn> {
    use Binary::*;
    let opcode = bits(f.raw, 15, 11);
    if opcode >= 0b11000 {
        return fp_three_same(f, opcode, f.fp_size());
    }
    if opcode == 0b00011 && !f.scalar {
        use Bitwise::*;
        let op = [And, Bic, Orr, Orn, Eor, Bsl, Bit, Bif][usize::from(u8::from(f.u) << 2 | f.size)];
        return Some(SimdInsn::Bitwise { op, full: f.q, rd: f.rd, rn: f.rn, rm: f.rm });
    }
    let pick = |signed, unsigned| if f.u { unsigned } else { signed };
    let (op, vector, scalar) = match opcode {
        0b00000 => (pick(Shadd, Uhadd), BHS, NONE),
        0b00001 => (pick(Sqadd, Uqadd), ALL, ALL),
        0b00010 => (pick(Srhadd, Urhadd), BHS, NONE),
        0b00100 => (pick(Shsub, Uhsub), BHS, NONE),
        0b00101 => (pick(Sqsub, Uqsub), ALL, ALL),
        0b00110 => (pick(Cmgt, Cmhi), ALL, D),
        0b00111 => (pick(Cmge, Cmhs), ALL, D),
        0b01000 => (pick(Sshl, Ushl), ALL, D),
        0b01001 => (pick(Sqshl, Uqshl), ALL, ALL),
        0b01010 => (pick(Srshl, Urshl), ALL, D),
        0b01011 => (pick(Sqrshl, Uqrshl), ALL, ALL),
        0b01100 => (pick(Smax, Umax), BHS, NONE),
        0b01101 => (pick(Smin, Umin), BHS, NONE),
        0b01110 => (pick(Sabd, Uabd), BHS, NONE),
        0b01111 => (pick(Saba, Uaba), BHS, NONE),
        0b10000 => (pick(Add, Sub), ALL, D),
        0b10001 => (pick(Cmtst, Cmeq), ALL, D),
        0b10010 => (pick(Mla, Mls), BHS, NONE),
        0b10011 => (pick(Mul, Pmul), if f.u { B } else { BHS }, NONE),
        0b10100 => (pick(Smaxp, Umaxp), BHS, NONE),
        0b10101 => (pick(Sminp, Uminp), BHS, NONE),
        0b10110 => (pick(Sqdmulh, Sqrdmulh), HS, HS),
        0b10111 if !f.u => (Addp, ALL, NONE),
        _ => return None,
    };
    let shape = f.shape_in(f.size, vector, scalar)?;
    Some(SimdInsn::Binary { op, shape, rd: f.rd, rn: f.rn, rm: Source::whole(f.rm) })
}

/// The floating-point part of "three same"; bit 23 extends the opcode.
fn fp_three_same(f: Fields, opcode: u32, size: u8) -> Option<SimdInsn> {
    use FpBinary::*;
    let Fields { rd, rn, rm, .. } = f;
    let a = bit(f.raw, 23);
    let long = (!f.u && opcode == 0b11101) || (f.u && opcode == 0b11001);
    if long && !f.scalar && size == 2 {
        return Some(SimdInsn::FpMulAddLong {
            subtract: a,
            high: f.u,
            full: f.q,
            rd,
            rn,
            rm: Source::whole(rm),
        });
    }
    let shape = f.shape_in(size, ALL, ALL)?;
    let (op, scalar) = match (f.u, a, opcode) {
        (false, _, 0b11001) if !f.scalar => {
            return Some(SimdInsn::FpMulAdd { subtract: a, shape, rd, rn, rm: Source::whole(rm) });
        }
        (true, _, 0b11000 | 0b11010 | 0b11110) if !(f.scalar || a && opcode == 0b11010) => {
            let op = match (opcode, a) {
                (0b11000, false) => Fmaxnm,
                (0b11000, true) => Fminnm,
                (0b11010, _) => Fadd,
                (_, false) => Fmax,
                (_, true) => Fmin,
            };
            return Some(SimdInsn::FpPair { op, shape, rd, rn, rm });
        }
        (false, false, 0b11000) => (Fmaxnm, false),
        (false, false, 0b11010) => (Fadd, false),
        (false, false, 0b11011) => (Fmulx, true),
        (false, false, 0b11100) => (Fcmeq, true),
        (false, false, 0b11110) => (Fmax, false),
        (false, false, 0b11111) => (Frecps, true),
        (false, true, 0b11000) => (Fminnm, false),
        (false, true, 0b11010) => (Fsub, false),
        (false, true, 0b11110) => (Fmin, false),
        (false, true, 0b11111) => (Frsqrts, true),
        (true, false, 0b11011) => (Fmul, false),
        (true, false, 0b11100) => (Fcmge, true),
        (true, false, 0b11101) => (Facge, true),
        (true, false, 0b11111) => (Fdiv, false),
        (true, true, 0b11010) => (Fabd, true),
        (true, true, 0b11100) => (Fcmgt, true),
        (true, true, 0b11101) => (Facgt, true),
        _ => return None,
    };
    (scalar || !f.scalar).then_some(SimdInsn::FpBinary { op, shape, rd, rn, rm: Source::whole(rm) })
}

fn three_extra(f: Fields) -> Option<SimdInsn> {
    let Fields { rd, rn, rm, .. } = f;
    let whole = Source::whole(rm);
    match (f.u, bits(f.raw, 14, 11)) {
        (true, opcode @ (0 | 1)) => {
            let op = if opcode == 0 { Binary::Sqrdmlah } else { Binary::Sqrdmlsh };
            Some(SimdInsn::Binary { op, shape: f.shape_in(f.size, HS, HS)?, rd, rn, rm: whole })
        }
        (_, 2) if f.size == 2 && !f.scalar => {
            Some(SimdInsn::Dot { signed: !f.u, full: f.q, rd, rn, rm: whole })
        }
        (true, opcode @ 0b1000..=0b1011) => {
            let shape = f.shape_in(f.size, HS | D, NONE)?;
            Some(SimdInsn::ComplexMulAdd { shape, rotation: opcode as u8 & 3, rd, rn, rm: whole })
        }
        (true, opcode @ (0b1100 | 0b1110)) => {
            let shape = f.shape_in(f.size, HS | D, NONE)?;
            Some(SimdInsn::ComplexAdd { shape, rotation: opcode as u8 & 2 | 1, rd, rn, rm })
        }
        _ => None,
    }
}

fn two_misc(f: Fields) -> Option<SimdInsn> {
    use Unary::*;
    let Fields { rd, rn, u, size, .. } = f;
    let opcode = bits(f.raw, 16, 12);
    let pick = |signed, unsigned| if u { unsigned } else { signed };
    let (op, vector, scalar) = match (u, opcode) {
        (false, 0b00000) => (Rev(3), BHS, NONE),
        (true, 0b00000) => (Rev(2), 3, NONE),
        (false, 0b00001) => (Rev(1), B, NONE),
        (_, 0b00010 | 0b00110) => {
            let op = PairLong { signed: !u, accumulate: opcode == 0b00110 };
            return Some(SimdInsn::PairLong { op, shape: f.shape_in(size, BHS, NONE)?, rd, rn });
        }
        (_, 0b00011) => (pick(Suqadd, Usqadd), ALL, ALL),
        (_, 0b00100) => (pick(Cls, Clz), BHS, NONE),
        (false, 0b00101) => (Cnt, B, NONE),
        (true, 0b00101) if size == 0 => (Not, B, NONE),
        (true, 0b00101) if size == 1 && !f.scalar => {
            return Some(SimdInsn::Unary { op: Rbit, shape: f.shape(0), rd, rn });
        }
        (_, 0b00111) => (pick(Sqabs, Sqneg), ALL, ALL),
        (_, 0b01000) => (pick(Cmgt, Cmge), ALL, D),
        (_, 0b01001) => (pick(Cmeq, Cmle), ALL, D),
        (false, 0b01010) => (Cmlt, ALL, D),
        (_, 0b01011) => (pick(Abs, Neg), ALL, D),
        (_, 0b10010 | 0b10100) => {
            let op = match (opcode, u) {
                (0b10010, false) if f.scalar => return None,
                (0b10010, false) => Narrow::Xtn,
                (0b10010, true) => Narrow::Sqxtun,
                (_, false) => Narrow::Sqxtn,
                (_, true) => Narrow::Uqxtn,
            };
            let high = f.q && !f.scalar;
            return (size < 3).then_some(SimdInsn::Narrow { op, size, high, scalar: f.scalar, rd, rn });
        }
        (true, 0b10011) if !f.scalar && size < 3 => {
            return Some(SimdInsn::ShiftLong { signed: false, size, high: f.q, amount: 8 << size, rd, rn });
        }
        (_, 0b10110 | 0b10111) => return change_length(f, opcode),
        (_, 0b11110 | 0b11111) if size < 2 && !f.scalar => {
            let bits = if opcode & 1 == 0 { 32 } else { 64 };
            let mode = (!u).then_some(Rounding::Zero);
            let shape = f.shape_in(f.fp_size(), ALL, NONE)?;
            return Some(SimdInsn::FpUnary { op: FpUnary::FrintSize { mode, bits }, shape, rd, rn });
        }
        (_, 0b11100) if size == 2 && !f.scalar => {
            return Some(SimdInsn::Unary { op: pick(Urecpe, Ursqrte), shape: f.shape(2), rd, rn });
        }
        _ => return fp_misc(f, f.fp_size()),
    };
    Some(SimdInsn::Unary { op, shape: f.shape_in(size, vector, scalar)?, rd, rn })
}

/// FCVTL, FCVTN and FCVTXN.
fn change_length(f: Fields, opcode: u32) -> Option<SimdInsn> {
    let Fields { rd, rn, q: high, u, size, .. } = f;
    if size >= 2 || (f.scalar && !(u && opcode == 0b10110)) {
        return None;
    }
    let high = high && !f.scalar;
    match (opcode, u) {
        (0b10110, false) => {
            Some(SimdInsn::FpShorten { size: size + 1, high, odd: false, scalar: false, rd, rn })
        }
        (0b10110, true) if size == 1 => {
            Some(SimdInsn::FpShorten { size: 2, high, odd: true, scalar: f.scalar, rd, rn })
        }
        (0b10111, false) => Some(SimdInsn::FpLengthen { size: size + 1, high, rd, rn }),
        _ => None,
    }
}

/// The floating-point part of "two-register miscellaneous"; bit 23 extends the opcode.
fn fp_misc(f: Fields, size: u8) -> Option<SimdInsn> {
    use FpUnary::*;
    let Fields { rd, rn, u, .. } = f;
    let opcode = bits(f.raw, 16, 12);
    let a = bit(f.raw, 23);
    let shape = f.shape_in(size, ALL, ALL)?;
    let fixed = FixedPoint { signed: !u, fbits: 0 };
    let frint = |mode, exact| (Frint { mode, exact }, false);
    let (op, scalar) = match (opcode, a, u) {
        (0b01100, true, false) => (Fcmgt, true),
        (0b01100, true, true) => (Fcmge, true),
        (0b01101, true, false) => (Fcmeq, true),
        (0b01101, true, true) => (Fcmle, true),
        (0b01110, true, false) => (Fcmlt, true),
        (0b01111, true, false) => (Fabs, false),
        (0b01111, true, true) => (Fneg, false),
        (0b11000, false, false) => frint(Some(Rounding::TieEven), false),
        (0b11000, false, true) => frint(Some(Rounding::TieAway), false),
        (0b11000, true, false) => frint(Some(Rounding::Up), false),
        (0b11001, false, false) => frint(Some(Rounding::Down), false),
        (0b11001, false, true) => frint(None, true),
        (0b11001, true, false) => frint(Some(Rounding::Zero), false),
        (0b11001, true, true) => frint(None, false),
        (0b11010..=0b11100, false, _) | (0b11010 | 0b11011, true, _) => {
            let mode = match (opcode, a) {
                (0b11010, false) => Rounding::TieEven,
                (0b11010, true) => Rounding::Up,
                (0b11011, false) => Rounding::Down,
                (0b11011, true) => Rounding::Zero,
                _ => Rounding::TieAway,
            };
            return Some(SimdInsn::FpToFixed { to: fixed, mode, shape, rd, rn });
        }
        (0b11101, false, _) => return Some(SimdInsn::FixedToFp { from: fixed, shape, rd, rn }),
        (0b11101, true, false) => (Frecpe, true),
        (0b11101, true, true) => (Frsqrte, true),
        (0b11111, true, false) if f.scalar => (Frecpx, true),
        (0b11111, true, true) => (Fsqrt, false),
        _ => return None,
    };
    (scalar || !f.scalar).then_some(SimdInsn::FpUnary { op, shape, rd, rn })
}

fn scalar_pairwise(f: Fields) -> Option<SimdInsn> {
    let Fields { rd, rn, u, size, .. } = f;
    let opcode = bits(f.raw, 16, 12);
    if opcode == 0b11011 {
        let pair = Shape { size: 3, width: 4 };
        return (!u && size == 3).then_some(SimdInsn::Across { op: Across::Addv, shape: pair, rd, rn });
    }
    let element = match (u, size & 1) {
        (false, 0) => 1,
        (false, _) => return None,
        (true, sz) => 2 + sz,
    };
    let op = match (opcode, bit(f.raw, 23)) {
        (0b01101, false) => FpBinary::Fadd,
        (opcode, a) => fp_extreme(opcode, a)?,
    };
    Some(SimdInsn::FpAcross { op, shape: Shape { size: element, width: element + 1 }, rd, rn })
}

fn fp_extreme(opcode: u32, minimum: bool) -> Option<FpBinary> {
    match (opcode, minimum) {
        (0b01100, false) => Some(FpBinary::Fmaxnm),
        (0b01100, true) => Some(FpBinary::Fminnm),
        (0b01111, false) => Some(FpBinary::Fmax),
        (0b01111, true) => Some(FpBinary::Fmin),
        _ => None,
    }
}

fn across(f: Fields) -> Option<SimdInsn> {
    use Across::*;
    let Fields { rd, rn, u, size, .. } = f;
    let opcode = bits(f.raw, 16, 12);
    let op = match (opcode, u) {
        (0b00011, false) => Saddlv,
        (0b00011, true) => Uaddlv,
        (0b01010, false) => Smaxv,
        (0b01010, true) => Umaxv,
        (0b11010, false) => Sminv,
        (0b11010, true) => Uminv,
        (0b11011, false) => Addv,
        _ => {
            let op = fp_extreme(opcode, bit(f.raw, 23))?;
            let shape = match (u, size & 1, f.q) {
                (false, 0, _) => f.shape(1),
                (true, 0, true) => f.shape(2),
                _ => return None,
            };
            return Some(SimdInsn::FpAcross { op, shape, rd, rn });
        }
    };
    (size < 2 || (size == 2 && f.q)).then_some(SimdInsn::Across { op, shape: f.shape(size), rd, rn })
}

fn three_different(f: Fields) -> Option<SimdInsn> {
    use Long::*;
    let Fields { rd, rn, rm, u, size, .. } = f;
    let pick = |signed, unsigned| if u { unsigned } else { signed };
    let (op, vector, scalar) = match bits(f.raw, 15, 12) {
        0b0000 => (pick(Saddl, Uaddl), BHS, NONE),
        0b0001 => (pick(Saddw, Uaddw), BHS, NONE),
        0b0010 => (pick(Ssubl, Usubl), BHS, NONE),
        0b0011 => (pick(Ssubw, Usubw), BHS, NONE),
        0b0100 => (pick(Addhn, Raddhn), BHS, NONE),
        0b0101 => (pick(Sabal, Uabal), BHS, NONE),
        0b0110 => (pick(Subhn, Rsubhn), BHS, NONE),
        0b0111 => (pick(Sabdl, Uabdl), BHS, NONE),
        0b1000 => (pick(Smlal, Umlal), BHS, NONE),
        0b1010 => (pick(Smlsl, Umlsl), BHS, NONE),
        0b1100 => (pick(Smull, Umull), BHS, NONE),
        0b1001 if !u => (Sqdmlal, HS, HS),
        0b1011 if !u => (Sqdmlsl, HS, HS),
        0b1101 if !u => (Sqdmull, HS, HS),
        0b1110 if !u => (Pmull, B | D, NONE),
        _ => return None,
    };
    let allowed = if f.scalar { scalar } else { vector };
    let high = f.q && !f.scalar;
    let rm = Source::whole(rm);
    (allowed >> size & 1 != 0).then_some(SimdInsn::Long { op, size, high, scalar: f.scalar, rd, rn, rm })
}

fn shift_immediate(f: Fields) -> Option<SimdInsn> {
    use Shift::*;
    let Fields { rd, rn, u, scalar, .. } = f;
    let (immediate, opcode) = (bits(f.raw, 22, 16) as u8, bits(f.raw, 15, 11));
    // The highest bit of immh tells the size.
    let size = 4 - (immediate.leading_zeros() as u8);
    let (left, right) = (immediate - (8 << size), ((16u8) << size) - immediate);
    let pick = |signed, unsigned| if u { unsigned } else { signed };
    let (op, amount, scalars) = match opcode {
        0b00000 => (pick(Sshr, Ushr), right, D),
        0b00010 => (pick(Ssra, Usra), right, D),
        0b00100 => (pick(Srshr, Urshr), right, D),
        0b00110 => (pick(Srsra, Ursra), right, D),
        0b01000 if u => (Sri, right, D),
        0b01010 => (pick(Shl, Sli), left, D),
        0b01100 if u => (Sqshlu, left, ALL),
        0b01110 => (pick(Sqshl, Uqshl), left, ALL),
        0b10000..=0b10011 => return shift_narrow(f, size, right),
        0b10100 if size < 3 && !scalar => {
            return Some(SimdInsn::ShiftLong { signed: !u, size, high: f.q, amount: left, rd, rn });
        }
        0b11100 | 0b11111 => {
            let shape = f.shape_in(size, HS | D, HS | D)?;
            let fixed = FixedPoint { signed: !u, fbits: right };
            return Some(match opcode {
                0b11100 => SimdInsn::FixedToFp { from: fixed, shape, rd, rn },
                _ => SimdInsn::FpToFixed { to: fixed, mode: Rounding::Zero, shape, rd, rn },
            });
        }
        _ => return None,
    };
    Some(SimdInsn::Shift { op, shape: f.shape_in(size, ALL, scalars)?, amount, rd, rn })
}

fn shift_narrow(f: Fields, size: u8, amount: u8) -> Option<SimdInsn> {
    use ShiftNarrow::*;
    let Fields { rd, rn, u, scalar, .. } = f;
    let opcode = bits(f.raw, 12, 11) as usize;
    let op = match u {
        false => [Shrn, Rshrn, Sqshrn, Sqrshrn][opcode],
        true => [Sqshrun, Sqrshrun, Uqshrn, Uqrshrn][opcode],
    };
    let high = f.q && !scalar;
    let saturating = !matches!(op, Shrn | Rshrn);
    (size < 3 && (saturating || !scalar)).then_some(SimdInsn::ShiftNarrow {
        op,
        size,
        high,
        scalar,
        amount,
        rd,
        rn,
    })
}

fn modified_immediate(f: Fields) -> Option<SimdInsn> {
    let (cmode, imm8) = (bits(f.raw, 15, 12), bits(f.raw, 18, 16) << 5 | bits(f.raw, 9, 5));
    let imm = u64::from(imm8);
    let half = bit(f.raw, 11);
    if half && (cmode != 0b1111 || f.u) {
        return None;
    }
    let words = |word: u64| word | word << 32;
    let halfwords = |halfword: u64| words(halfword | halfword << 16);
    let value = match cmode {
        0b0000..=0b0111 => words(imm << (8 * (cmode >> 1))),
        0b1000..=0b1011 => halfwords(imm << (8 * (cmode >> 1 & 1))),
        0b1100 => words(imm << 8 | 0xff),
        0b1101 => words(imm << 16 | 0xffff),
        0b1110 if f.u => (0..8).filter(|bit| imm >> bit & 1 != 0).map(|bit| 0xff << (8 * bit)).sum(),
        0b1110 => imm * 0x0101_0101_0101_0101,
        _ if half => halfwords(expand_immediate(imm8, 1)),
        _ if f.u && !f.q => return None,
        _ if f.u => expand_immediate(imm8, 3),
        _ => words(expand_immediate(imm8, 2)),
    };
    // Below 0b1100, the lowest bit tells ORR and BIC from MOVI and MVNI.
    let (op, value) = match (cmode < 0b1100 && cmode & 1 != 0, f.u) {
        (true, false) => (ImmediateOp::Orr, value),
        (true, true) => (ImmediateOp::Bic, value),
        (false, true) if cmode < 0b1110 => (ImmediateOp::Move, !value),
        (false, _) => (ImmediateOp::Move, value),
    };
    Some(SimdInsn::Immediate { op, full: f.q, value, rd: f.rd })
}

/// The element that an indexed instruction names, by the size of the elements.
fn element(f: Fields, size: u8) -> Option<Source> {
    let (l, m, h) = (bits(f.raw, 21, 21) as u8, bits(f.raw, 20, 20) as u8, bits(f.raw, 11, 11) as u8);
    let (reg, index) = match size {
        1 => (f.rm & 15, h << 2 | l << 1 | m),
        2 => (f.rm, h << 1 | l),
        _ if l == 0 => (f.rm, h),
        _ => return None,
    };
    Some(Source { reg, index: Some(index) })
}

fn indexed(f: Fields) -> Option<SimdInsn> {
    let Fields { rd, rn, u, size, scalar, .. } = f;
    let opcode = bits(f.raw, 15, 12);
    let pick = |signed, unsigned| if u { unsigned } else { signed };
    let long = |op, scalars: u8| {
        let allowed = if scalar { scalars } else { HS };
        let high = f.q && !scalar;
        let rm = element(f, size)?;
        (allowed >> size & 1 != 0).then_some(SimdInsn::Long { op, size, high, scalar, rd, rn, rm })
    };
    let lanes = |op, scalars| {
        let shape = f.shape_in(size, HS, scalars)?;
        Some(SimdInsn::Binary { op, shape, rd, rn, rm: element(f, size)? })
    };
    match (u, opcode) {
        (_, 0b0010) => long(pick(Long::Smlal, Long::Umlal), NONE),
        (_, 0b0110) => long(pick(Long::Smlsl, Long::Umlsl), NONE),
        (_, 0b1010) => long(pick(Long::Smull, Long::Umull), NONE),
        (false, 0b0011) => long(Long::Sqdmlal, HS),
        (false, 0b0111) => long(Long::Sqdmlsl, HS),
        (false, 0b1011) => long(Long::Sqdmull, HS),
        (true, 0b0000) if size < 3 && size > 0 => lanes(Binary::Mla, NONE),
        (true, 0b0100) => lanes(Binary::Mls, NONE),
        (false, 0b1000) if size == 1 || (size == 2) => lanes(Binary::Mul, NONE),
        (false, 0b1100) => lanes(Binary::Sqdmulh, HS),
        (false, 0b1101) => lanes(Binary::Sqrdmulh, HS),
        (true, 0b1101) => lanes(Binary::Sqrdmlah, HS),
        (true, 0b1111) => lanes(Binary::Sqrdmlsh, HS),
        (_, 0b1110) if size == 2 && !scalar => {
            Some(SimdInsn::Dot { signed: !u, full: f.q, rd, rn, rm: element(f, 2)? })
        }
        (false, 0b0001 | 0b0101 | 0b1001) | (true, 0b1001) => fp_indexed(f, opcode),
        (false, 0b0000 | 0b0100) | (true, 0b1000 | 0b1100) if size == 2 && !scalar => {
            let rm = element(f, 1)?;
            Some(SimdInsn::FpMulAddLong { subtract: opcode & 4 != 0, high: u, full: f.q, rd, rn, rm })
        }
        (true, 0b0001 | 0b0011 | 0b0101 | 0b0111) if !scalar => complex_indexed(f, opcode as u8 >> 1),
        _ => None,
    }
}

fn fp_indexed(f: Fields, opcode: u32) -> Option<SimdInsn> {
    let Fields { rd, rn, .. } = f;
    let size = match f.size {
        0 => 1,
        1 => return None,
        size => size,
    };
    let (shape, rm) = (f.shape_in(size, ALL, ALL)?, element(f, size)?);
    Some(match opcode {
        0b1001 => {
            SimdInsn::FpBinary { op: if f.u { FpBinary::Fmulx } else { FpBinary::Fmul }, shape, rd, rn, rm }
        }
        _ => SimdInsn::FpMulAdd { subtract: opcode & 4 != 0, shape, rd, rn, rm },
    })
}

/// FCMLA by element; the index counts pairs.
fn complex_indexed(f: Fields, rotation: u8) -> Option<SimdInsn> {
    let (l, h) = (bits(f.raw, 21, 21) as u8, bits(f.raw, 11, 11) as u8);
    let index = match f.size {
        1 if f.q || h == 0 => h << 1 | l,
        2 if f.q && l == 0 => h,
        _ => return None,
    };
    let rm = Source { reg: f.rm, index: Some(index) };
    Some(SimdInsn::ComplexMulAdd { shape: f.shape(f.size), rotation, rd: f.rd, rn: f.rn, rm })
}

fn copy(f: Fields) -> Option<SimdInsn> {
    let Fields { rd, rn, .. } = f;
    let (imm5, imm4) = (bits(f.raw, 20, 16) as u8, bits(f.raw, 14, 11) as u8);
    let size = imm5.trailing_zeros() as u8;
    if size > 3 {
        return None;
    }
    let index = imm5 >> (size + 1);
    if f.u {
        let from = imm4 >> size;
        return (f.q && !f.scalar).then_some(SimdInsn::InsertElement { size, to: index, from, rd, rn });
    }
    match imm4 {
        0b0000 => Some(SimdInsn::DupElement { shape: f.shape_in(size, ALL, ALL)?, index, rd, rn }),
        _ if f.scalar => None,
        0b0001 => Some(SimdInsn::DupGeneral { shape: f.shape_in(size, ALL, NONE)?, rd, rn }),
        0b0011 if f.q => Some(SimdInsn::InsertGeneral { size, to: index, rd, rn }),
        0b0101 if size < 2 || (size == 2 && f.q) => {
            Some(SimdInsn::ToGeneral { size, signed: true, sf: f.q, index, rd, rn })
        }
        0b0111 if (size == 3) == f.q => {
            Some(SimdInsn::ToGeneral { size, signed: false, sf: f.q, index, rd, rn })
        }
        _ => None,
    }
}

/// EXT, TBL, TBX and the permutations.
fn permutations(f: Fields) -> Option<SimdInsn> {
    use Permute::*;
    let Fields { rd, rn, rm, q: full, .. } = f;
    if f.u {
        let at = bits(f.raw, 14, 11) as u8;
        return (f.size == 0 && (full || at < 8)).then_some(SimdInsn::Extract { full, at, rd, rn, rm });
    }
    if !bit(f.raw, 11) {
        let (count, keep) = (bits(f.raw, 14, 13) as u8 + 1, bit(f.raw, 12));
        return (f.size == 0).then_some(SimdInsn::Table { full, count, keep, rd, rn, rm });
    }
    let op = match bits(f.raw, 14, 12) {
        1 => Uzp1,
        2 => Trn1,
        3 => Zip1,
        5 => Uzp2,
        6 => Trn2,
        7 => Zip2,
        _ => return None,
    };
    Some(SimdInsn::Permute { op, shape: f.shape_in(f.size, ALL, NONE)?, rd, rn, rm })
}

/// AES, and the SHA instructions of two registers.
fn crypto_two_registers(f: Fields) -> Option<SimdInsn> {
    let Fields { rd, rn, .. } = f;
    let opcode = bits(f.raw, 16, 12);
    if f.u || f.size != 0 || !f.q {
        return None;
    }
    if f.scalar {
        let op = *[Sha::Sha1h, Sha::Sha1su1, Sha::Sha256su0].get(opcode as usize)?;
        return Some(SimdInsn::Sha { op, rd, rn, rm: 0 });
    }
    let op = match opcode {
        0b00100 => Aes::Aese,
        0b00101 => Aes::Aesd,
        0b00110 => Aes::Aesmc,
        0b00111 => Aes::Aesimc,
        _ => return None,
    };
    Some(SimdInsn::Aes { op, rd, rn })
}

fn sha_three_registers(f: Fields) -> Option<SimdInsn> {
    use Sha::*;
    let op =
        *[Sha1c, Sha1p, Sha1m, Sha1su0, Sha256h, Sha256h2, Sha256su1].get(bits(f.raw, 14, 12) as usize)?;
    Some(SimdInsn::Sha { op, rd: f.rd, rn: f.rn, rm: f.rm })
}

/// SHA-512 and SHA-3.
pub(super) fn crypto_four_registers(raw: u32) -> Option<SimdInsn> {
    let (rd, rn, rm, ra) = (reg(raw, 0), reg(raw, 5), reg(raw, 16), reg(raw, 10));
    match (bits(raw, 23, 21), bits(raw, 15, 10)) {
        (0b000, _) if !bit(raw, 15) => Some(SimdInsn::Eor3 { rd, rn, rm, ra }),
        (0b001, _) if !bit(raw, 15) => Some(SimdInsn::Bcax { rd, rn, rm, ra }),
        (0b100, rotate) => Some(SimdInsn::Xar { rotate: rotate as u8, rd, rn, rm }),
        (0b011, 0b100000) => Some(SimdInsn::Sha { op: Sha::Sha512h, rd, rn, rm }),
        (0b011, 0b100001) => Some(SimdInsn::Sha { op: Sha::Sha512h2, rd, rn, rm }),
        (0b011, 0b100010) => Some(SimdInsn::Sha { op: Sha::Sha512su1, rd, rn, rm }),
        (0b011, 0b100011) => Some(SimdInsn::Sha { op: Sha::Rax1, rd, rn, rm }),
        (0b110, 0b100000) if rm == 0 => Some(SimdInsn::Sha { op: Sha::Sha512su0, rd, rn, rm }),
        _ => None,
    }
}
