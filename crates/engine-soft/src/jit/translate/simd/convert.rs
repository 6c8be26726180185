//! Conversions between formats, and to and from integers.

use super::{
    FEATURES, K, T0, T1, T2, Translator,
    float::{QUIETLY, format, rounding},
};
use crate::{
    decode::{
        Reg,
        simd::{FixedPoint, Shape},
    },
    fp::Rounding,
    jit::{
        asm::{Alu, Cc, Gpr, RAX, RDX, Rot},
        asm_simd::{Fp, Xmm, op},
    },
};

/// What comes out of an integer conversion.
#[derive(Clone, Copy)]
struct Integer {
    signed: bool,
    /// 64 bits.
    wide: bool,
}

impl Translator<'_> {
    /// `d` = the low lane of `n` as an integer. Out of range, the interpreter is asked. Destroys the host's flags, which
    /// are saved already; uses RDX and T0.
    fn convert_lane(&mut self, double: bool, to: Integer, mode: u8, d: Gpr, n: Xmm) {
        const TOWARDS_ZERO: u8 = 3;
        let mut from = n;
        if mode != TOWARDS_ZERO {
            let fp = Fp { double, packed: false };
            self.asm.v3i(op::ROUND[fp.index()], T0, n, n, mode | QUIETLY);
            from = T0;
        }
        if to.signed {
            self.asm.v_truncate(double, to.wide, d, from);
            // Subtracting one overflows from what the host gives for all it cannot convert.
            self.asm.alu_imm(Alu::Cmp, to.wide, d, 1);
            self.interpret_if(Cc::O);
        } else {
            // As unsigned numbers, the bits of what is negative (or a NaN) are large, too.
            if double {
                self.asm.v_to_gpr(3, RDX, from);
                self.asm.rot_imm(Rot::Shr, true, RDX, 52);
                // The exponent fields of 2^63 and 2^32.
                self.asm.alu_imm(Alu::Cmp, false, RDX, if to.wide { 0x43e } else { 0x41f });
            } else {
                self.asm.v_to_gpr(2, RDX, from);
                self.asm.alu_imm(Alu::Cmp, false, RDX, if to.wide { 0x5f00_0000 } else { 0x4f80_0000 });
            }
            self.interpret_if(Cc::Ae);
            self.asm.v_truncate(double, true, d, from);
        }
        if mode != TOWARDS_ZERO {
            // For the note that it was inexact.
            self.asm.v_truncate(double, true, RDX, n);
        }
    }

    /// FCVT* to a general register.
    pub(super) fn fp_to_general(
        &mut self,
        to: FixedPoint,
        mode: Rounding,
        [size, rd, rn]: [u8; 3],
        sf: bool,
    ) -> bool {
        let Some(mode) = rounding(mode) else { return false };
        if to.fbits != 0 || size < 2 {
            return false;
        }
        self.clobber_flags();
        let n = self.v_read(rn);
        let d = self.x_dest(rd, RAX);
        self.convert_lane(size == 3, Integer { signed: to.signed, wide: sf }, mode, d, n);
        self.x_finish(rd, d);
        true
    }

    /// FCVT* within the vector registers.
    pub(super) fn fp_to_fixed(
        &mut self,
        to: FixedPoint,
        mode: Rounding,
        shape: Shape,
        [rd, rn]: [Reg; 2],
    ) -> bool {
        let (Some(fp), Some(code)) = (format(shape), rounding(mode)) else { return false };
        if to.fbits != 0 {
            return false;
        }
        self.clobber_flags();
        let n = self.v_read(rn);
        let integer = Integer { signed: to.signed, wide: fp.double };
        if !fp.packed {
            self.convert_lane(fp.double, integer, code, RAX, n);
            let d = self.v_write(rd);
            self.asm.v_from_gpr(shape.size, d, RAX);
            self.v_is_narrow(rd, shape.size);
            return true;
        }
        if fp.double && FEATURES.avx512 && mode == Rounding::Zero {
            self.truncate_doubles(to.signed, n);
            self.finish(4, rd, T0);
            return true;
        }
        if fp.double {
            self.convert_lane(true, integer, code, RAX, n);
            self.asm.v_from_gpr(3, T2, RAX);
            self.asm.v2i(op::PSHUFD, T1, n, 0xee);
            self.convert_lane(true, integer, code, RAX, T1);
            self.asm.v_insert(3, T2, T2, RAX, 1);
            self.finish(4, rd, T2);
            return true;
        }
        self.convert_singles(to.signed, code, shape, [rd, rn]);
        true
    }

    /// T0 = two doubles as integers.
    fn truncate_doubles(&mut self, signed: bool, n: Xmm) {
        // What comes out for all that cannot be converted.
        if signed {
            let invalid = self.k(K::SignD);
            self.asm.e3(op::CVTTPD2QQ, T0, Xmm(0), n);
            self.asm.v3(op::PCMPEQ[3], T1, T0, invalid);
        } else {
            self.asm.e3(op::CVTTPD2UQQ, T0, Xmm(0), n);
            self.asm.v_ones(T1);
            self.asm.v3(op::PCMPEQ[3], T1, T0, T1);
        }
        self.asm.v_mask(op::MOVMSKPD, RAX, T1);
        self.asm.test(false, RAX, RAX);
        self.interpret_if(Cc::Ne);
    }

    /// Four singles, or two.
    fn convert_singles(&mut self, signed: bool, mode: u8, shape: Shape, [rd, rn]: [Reg; 2]) {
        let n = self.v_read(rn);
        let original = self.lanes(shape, n, T2);
        let mut from = original;
        if mode != 3 {
            self.asm.v2i(op::ROUND[0], T0, original, mode | QUIETLY);
            from = T0;
        }
        if signed {
            let invalid = self.k(K::SignS);
            self.asm.v2(op::CVTTPS2DQ, T0, from);
            self.asm.v3(op::PCMPEQ[2], T1, T0, invalid);
        } else {
            // Up to 2^31; what is negative looks large.
            let limit = self.k(K::TwoTo31S);
            self.asm.v3(op::PMAXU[2], T1, from, limit);
            self.asm.v3(op::PCMPEQ[2], T1, T1, from);
        }
        self.asm.v_mask(op::MOVMSKPS, RAX, T1);
        self.asm.test(false, RAX, RAX);
        self.interpret_if(Cc::Ne);
        if !signed {
            self.asm.v2(op::CVTTPS2DQ, T0, from);
        }
        if mode != 3 {
            // For the note that it was inexact.
            self.asm.v2(op::CVTTPS2DQ, T1, original);
        }
        self.finish(shape.width, rd, T0);
    }

    /// `d` = integer in `from`, the rest zero; that is of 64 bits, or of 32, extended already when unsigned. Large
    /// unsigned ones are left to the interpreter, for which the host's flags are saved already.
    fn convert_integer(&mut self, double: bool, from: Integer, fbits: u8, d: Xmm, x: Gpr) {
        if !from.signed && from.wide {
            self.asm.test(true, x, x);
            self.interpret_if(Cc::S);
        }
        self.asm.v_zero(T0);
        self.asm.v_from_int(double, from.wide || !from.signed, d, T0, x);
        if fbits != 0 {
            let fp = Fp { double, packed: false };
            self.scale(fp, fbits, T1);
            self.asm.v3(fp.op(op::MUL), d, d, T1);
        }
    }

    /// `d` = two to the power `-fbits` in the low lane, or in all of them. Uses RAX.
    fn scale(&mut self, fp: Fp, fbits: u8, d: Xmm) {
        let power = match fp.double {
            true => (1023 - u64::from(fbits)) << 52,
            false => (127 - u64::from(fbits)) << 23,
        };
        let power = if fp.double { power } else { power << 32 | power };
        self.constant(fp.packed, power, d);
    }

    /// SCVTF and UCVTF of a general register.
    pub(super) fn general_to_fp(&mut self, from: FixedPoint, size: u8, sf: bool, [rd, rn]: [Reg; 2]) -> bool {
        if size < 2 {
            return false;
        }
        if sf && !from.signed {
            self.clobber_flags();
        }
        let mut n = self.x_read(rn, RAX);
        if !sf && !from.signed {
            self.asm.mov(false, RAX, n);
            n = RAX;
        }
        self.convert_integer(size == 3, Integer { signed: from.signed, wide: sf }, from.fbits, T2, n);
        self.finish_narrow(size, rd, T2);
        true
    }

    /// SCVTF and UCVTF within the vector registers.
    pub(super) fn fixed_to_fp(&mut self, from: FixedPoint, shape: Shape, rd: Reg, rn: Reg) -> bool {
        let Some(fp) = format(shape) else { return false };
        let integer = Integer { signed: from.signed, wide: fp.double };
        if !from.signed && fp.double {
            self.clobber_flags();
        }
        let n = self.v_read(rn);
        if !fp.packed {
            self.asm.v_to_gpr(shape.size, RAX, n);
            self.convert_integer(fp.double, integer, from.fbits, T2, RAX);
            self.finish_narrow(shape.size, rd, T2);
            return true;
        }
        if fp.double && FEATURES.avx512 {
            let convert = if from.signed { op::CVTQQ2PD } else { op::CVTUQQ2PD };
            self.asm.e3(convert, T2, Xmm(0), n);
        } else if fp.double {
            self.asm.v_to_gpr(3, RAX, n);
            self.convert_integer(true, integer, 0, T2, RAX);
            self.asm.v_extract(3, RAX, n, 1);
            self.convert_integer(true, integer, 0, T1, RAX);
            self.asm.v3(op::PUNPCKLQDQ, T2, T2, T1);
        } else {
            let n = self.lanes(shape, n, T2);
            self.convert_words(from.signed, n);
        }
        if from.fbits != 0 {
            self.scale(fp, from.fbits, T1);
            self.asm.v3(fp.op(op::MUL), T2, T2, T1);
        }
        self.finish(shape.width, rd, T2);
        true
    }

    /// T2 = words of `n` as singles. Of an unsigned one the halves are exact, so that it is rounded once, in their sum.
    fn convert_words(&mut self, signed: bool, n: Xmm) {
        if signed {
            return self.asm.v2(op::CVTDQ2PS, T2, n);
        }
        let single = Fp { double: false, packed: true };
        let (low, upper) = (self.k(K::LowHalfwords), self.k(K::TwoTo16S));
        self.asm.v_shift(op::PSRL[2], T1, n, 16);
        self.asm.v2(op::CVTDQ2PS, T1, T1);
        self.asm.v3(single.op(op::MUL), T1, T1, upper);
        self.asm.v3(op::PAND, T2, n, low);
        self.asm.v2(op::CVTDQ2PS, T2, T2);
        self.asm.v3(single.op(op::ADD), T2, T2, T1);
    }

    /// FCVTL.
    pub(super) fn fp_lengthen(&mut self, size: u8, high: bool, rd: Reg, rn: Reg) -> bool {
        let mut n = self.v_read(rn);
        if high {
            self.asm.v2i(op::PSHUFD, T0, n, 0xee);
            n = T0;
        }
        let d = self.v_write(rd);
        self.asm.v2(if size == 1 { op::CVTPH2PS } else { op::CVTPS2PD }, d, n);
        true
    }

    /// FCVTN.
    pub(super) fn fp_shorten(&mut self, size: u8, high: bool, rd: Reg, rn: Reg) -> bool {
        let n = self.v_read(rn);
        if size == 1 {
            self.asm.v_to_half(T0, n);
        } else {
            self.asm.v2(op::CVTPD2PS, T0, n);
        }
        self.finish_half(high, rd);
        true
    }

    /// FCVT between formats; from double to half precision would be rounded twice.
    pub(super) fn fp_convert(&mut self, from: u8, to: u8, rd: Reg, rn: Reg) -> bool {
        if (from, to) == (3, 1) {
            return false;
        }
        let n = self.v_read(rn);
        self.asm.v_zero(T0);
        match (from, to) {
            (2, 3) => self.asm.v3(op::CVTSS2SD, T0, T0, n),
            (3, 2) => self.asm.v3(op::CVTSD2SS, T0, T0, n),
            (2, _) => {
                self.cut(2, T0, n);
                self.asm.v_to_half(T0, T0);
            }
            _ => {
                self.asm.v3i(op::PBLENDW, T0, T0, n, 1);
                self.asm.v2(op::CVTPH2PS, T0, T0);
                if to == 3 {
                    self.asm.v_zero(T1);
                    self.asm.v3(op::CVTSS2SD, T0, T1, T0);
                }
            }
        }
        self.finish_narrow(to, rd, T0);
        true
    }
}
