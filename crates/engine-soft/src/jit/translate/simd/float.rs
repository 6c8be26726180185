//! Floating-point arithmetic.

use super::{K, T0, T1, T2, Translator};
use crate::{
    decode::{
        Reg,
        simd::{FpBinary, FpUnary, Shape, Source},
    },
    fp::Rounding,
    jit::{
        asm::{Cc, RAX},
        asm_simd::{Fp, Xmm, XmmM, op},
    },
};

/// Predicates of CMPPS and its kin. Those with an S raise an invalid operation for any NaN, the others for signalling
/// ones.
pub(super) const EQ_OQ: u8 = 0x00;
pub(super) const EQ_OS: u8 = 0x10;
const LT_OS: u8 = 0x01;
const LE_OS: u8 = 0x02;
const UNORD_Q: u8 = 0x03;
const GE_OS: u8 = 0x0d;
const GT_OS: u8 = 0x0e;

/// Rounding by the mode of MXCSR, with and (by the bit) without a note of inexactness.
const CURRENT: u8 = 4;
pub(super) const QUIETLY: u8 = 8;

/// What the lanes of a shape are to the host; `None` for half precision.
pub(super) fn format(shape: Shape) -> Option<Fp> {
    (shape.size >= 2).then_some(Fp { double: shape.size == 3, packed: shape.width > shape.size })
}

/// The host's code for a rounding mode, if it has it.
pub(super) fn rounding(mode: Rounding) -> Option<u8> {
    match mode {
        Rounding::TieEven => Some(0),
        Rounding::Down => Some(1),
        Rounding::Up => Some(2),
        Rounding::Zero => Some(3),
        Rounding::TieAway | Rounding::Odd => None,
    }
}

impl Translator<'_> {
    /// One constant or the other, by precision.
    pub(super) fn k_by(&self, fp: Fp, single: K, double: K) -> XmmM {
        self.k(if fp.double { double } else { single })
    }

    /// Has the interpreter execute the instruction if a lane of `x` is a NaN. The host's flags are saved already.
    pub(super) fn interpret_if_nan(&mut self, fp: Fp, x: Xmm) {
        self.interpret_if_unordered(fp, x, x);
    }

    /// Likewise, if a lane of either is a NaN.
    fn interpret_if_unordered(&mut self, fp: Fp, x: Xmm, y: Xmm) {
        if fp.packed {
            // T1 is free wherever results are checked.
            self.asm.v3i(fp.op(op::CMP), T1, x, y, UNORD_Q);
            self.asm.v_mask(op::MOVMSKPS, RAX, T1);
            self.asm.test(false, RAX, RAX);
            self.interpret_if(Cc::Ne);
        } else {
            self.asm.v2(op::UCOMIS[usize::from(fp.double)], x, y);
            self.interpret_if(Cc::P);
        }
    }

    /// An operand such that what lies beyond a half vector cannot raise anything: both halves are the same then.
    pub(super) fn lanes(&mut self, shape: Shape, x: Xmm, tmp: Xmm) -> Xmm {
        if shape.width == 3 && shape.size == 2 {
            self.asm.v2(op::MOVDDUP, tmp, x);
            return tmp;
        }
        x
    }

    /// Both operands of an instruction, as [`Translator::lanes`], in T1 and T2 where they are changed.
    fn operands(&mut self, shape: Shape, rn: Reg, rm: Source) -> (Xmm, Xmm) {
        let (n, m) = (self.v_read(rn), self.second(shape.size, rm, T2));
        let n = self.lanes(shape, n, T1);
        let m = if rm.index.is_some() { m } else { self.lanes(shape, m, T2) };
        (n, m)
    }

    pub(super) fn fp_binary(&mut self, op: FpBinary, shape: Shape, [rd, rn]: [Reg; 2], rm: Source) -> bool {
        use FpBinary::*;
        let Some(fp) = format(shape) else { return false };
        match op {
            Fadd | Fsub | Fmul | Fdiv | Fnmul | Fabd => {}
            Fmax | Fmin | Fmaxnm | Fminnm => {
                self.clobber_flags();
                let (n, m) = self.operands(shape, rn, rm);
                if (n, m) == (T1, T2) {
                    // The check needs T1.
                    self.asm.v_move(T0, n);
                    return self.fp_extreme(op, fp, [T0, m], |t| t.finish(shape.width, rd, T0));
                }
                return self.fp_extreme(op, fp, [n, m], |t| t.finish(shape.width, rd, T0));
            }
            Fcmeq | Fcmge | Fcmgt | Facge | Facgt => return self.fp_compare_lanes(op, shape, [rd, rn], rm),
            Fmulx | Frecps | Frsqrts => return false,
        }
        self.clobber_flags();
        let opcode = match op {
            Fadd => op::ADD,
            Fsub | Fabd => op::SUB,
            Fdiv => op::DIV,
            _ => op::MUL,
        };
        let (mut n, mut m) = self.operands(shape, rn, rm);
        // What lies above a scalar comes from the first operand.
        let mut narrow = !fp.packed && self.v_has_width(rn, shape.size);
        let commutes = matches!(op, Fadd | Fmul | Fnmul) && rm.index.is_none();
        if !fp.packed && !narrow && commutes && self.v_has_width(rm.reg, shape.size) {
            (n, m, narrow) = (m, n, true);
        }
        let t = self.target(rd, &[rn, rm.reg]);
        self.asm.v3(fp.op(opcode), t, n, m);
        self.interpret_if_nan(fp, t);
        if op == Fabd {
            let abs = self.k_by(fp, K::AbsS, K::AbsD);
            self.asm.v3(op::PAND, t, t, abs);
        } else if op == Fnmul {
            let sign = self.k_by(fp, K::SignS, K::SignD);
            self.asm.v3(op::PXOR, t, t, sign);
            // All lanes have it now.
            narrow = false;
        }
        self.finish_if(narrow, shape.width, rd, t);
        true
    }

    /// T0 = maximum or minimum; then `finish`. Of equal operands the host gives the second, so both orders together
    /// tell the signs of zeros. `m` is not T1; T0 may be `n`.
    fn fp_extreme(&mut self, op: FpBinary, fp: Fp, [n, m]: [Xmm; 2], finish: impl FnOnce(&mut Self)) -> bool {
        self.interpret_if_unordered(fp, n, m);
        self.extreme(op, fp, T0, n, m);
        finish(self);
        true
    }

    /// `d` = maximum or minimum of numbers; uses T1.
    fn extreme(&mut self, op: FpBinary, fp: Fp, d: Xmm, n: Xmm, m: Xmm) {
        let (opcode, combine) = match op {
            FpBinary::Fmax | FpBinary::Fmaxnm => (op::MAX, op::PAND),
            _ => (op::MIN, op::POR),
        };
        self.asm.v3(fp.op(opcode), T1, n, m);
        self.asm.v3(fp.op(opcode), d, m, n);
        self.asm.v3(combine, d, d, T1);
    }

    /// Comparisons lane by lane.
    fn fp_compare_lanes(&mut self, op: FpBinary, shape: Shape, [rd, rn]: [Reg; 2], rm: Source) -> bool {
        let Some(fp) = format(shape) else { return false };
        let (mut n, mut m) = self.operands(shape, rn, rm);
        if matches!(op, FpBinary::Facge | FpBinary::Facgt) {
            let abs = self.k_by(fp, K::AbsS, K::AbsD);
            self.asm.v3(op::PAND, T1, n, abs);
            self.asm.v3(op::PAND, T2, m, abs);
            (n, m) = (T1, T2);
        }
        let predicate = match op {
            FpBinary::Fcmeq => EQ_OQ,
            FpBinary::Fcmge | FpBinary::Facge => GE_OS,
            _ => GT_OS,
        };
        self.asm.v3i(fp.op(op::CMP), T0, n, m, predicate);
        self.finish(shape.width, rd, T0);
        true
    }

    pub(super) fn fp_unary(&mut self, op: FpUnary, shape: Shape, rd: Reg, rn: Reg) -> bool {
        use FpUnary::*;
        if op == Fmov {
            let n = self.v_read(rn);
            self.finish(shape.width, rd, n);
            return true;
        }
        let Some(fp) = format(shape) else { return false };
        match op {
            Fabs | Fneg => {
                let n = self.v_read(rn);
                let d = self.v_write(rd);
                if op == Fabs {
                    let abs = self.k_by(fp, K::AbsS, K::AbsD);
                    self.asm.v3(op::PAND, d, n, abs);
                } else {
                    let sign = self.k_by(fp, K::SignS, K::SignD);
                    self.asm.v3(op::PXOR, d, n, sign);
                }
                self.cut(shape.width, d, d);
            }
            Fsqrt => {
                self.clobber_flags();
                let n = self.v_read(rn);
                let n = self.lanes(shape, n, T1);
                let t = self.target(rd, &[rn]);
                if fp.packed {
                    self.asm.v2(fp.op(op::SQRT), t, n);
                } else {
                    self.asm.v_zero(T2);
                    self.asm.v3(fp.op(op::SQRT), t, T2, n);
                }
                self.interpret_if_nan(fp, t);
                self.finish_if(!fp.packed, shape.width, rd, t);
            }
            Frint { mode: Some(Rounding::TieAway), .. } if !fp.packed => self.round_ties_away(fp, rd, rn),
            Frint { mode, exact } => {
                let code = match mode {
                    None => Some(CURRENT),
                    Some(mode) => rounding(mode),
                };
                let Some(code) = code else { return false };
                self.fp_round(fp, shape, code | if exact { 0 } else { QUIETLY }, [rd, rn]);
            }
            Fcmgt | Fcmge | Fcmeq | Fcmle | Fcmlt => {
                let predicate = match op {
                    Fcmgt => GT_OS,
                    Fcmge => GE_OS,
                    Fcmle => LE_OS,
                    Fcmlt => LT_OS,
                    _ => EQ_OQ,
                };
                let n = self.v_read(rn);
                let n = self.lanes(shape, n, T1);
                self.asm.v_zero(T2);
                self.asm.v3i(fp.op(op::CMP), T0, n, T2, predicate);
                self.finish(shape.width, rd, T0);
            }
            _ => return false,
        }
        true
    }

    /// To integral values. A NaN becomes quiet and is otherwise kept, as in the guest.
    fn fp_round(&mut self, fp: Fp, shape: Shape, code: u8, [rd, rn]: [Reg; 2]) {
        let n = self.v_read(rn);
        let n = self.lanes(shape, n, T1);
        let d = self.v_write(rd);
        let round = op::ROUND[fp.index()];
        if fp.packed {
            self.asm.v2i(round, d, n, code);
            self.cut(shape.width, d, d);
        } else {
            self.asm.v_zero(T2);
            self.asm.v3i(round, d, T2, n, code);
            self.v_is_narrow(rd, shape.width);
        }
    }

    /// FRINTA of a scalar: truncates, and adds one where the rest is a half or more. Large numbers and NaNs, of which
    /// there is no rest, are left to the interpreter.
    fn round_ties_away(&mut self, fp: Fp, rd: Reg, rn: Reg) {
        self.clobber_flags();
        let n = self.v_read(rn);
        let [abs, sign, integral, half, one] = [
            (K::AbsS, K::AbsD),
            (K::SignS, K::SignD),
            (K::IntegralS, K::IntegralD),
            (K::HalfS, K::HalfD),
            (K::OneS, K::OneD),
        ]
        .map(|(single, double)| self.k_by(fp, single, double));
        self.asm.v3(op::PAND, T1, n, abs);
        self.asm.v2(op::MOVDQA, T2, integral);
        self.asm.v2(op::UCOMIS[usize::from(fp.double)], T2, T1);
        self.interpret_if(Cc::Be);
        self.asm.v3i(op::ROUND[fp.index()], T0, n, n, 3 | QUIETLY);
        self.asm.v3(fp.op(op::SUB), T1, n, T0);
        self.asm.v3(op::PAND, T1, T1, abs);
        self.asm.v2(op::MOVDQA, T2, half);
        self.asm.v3i(fp.op(op::CMP), T1, T2, T1, LE_OS);
        // One where the rest is large, zero where not, with the sign of the number: adding a zero keeps that of a zero.
        self.asm.v3(op::PAND, T1, T1, one);
        self.asm.v3(op::PAND, T2, n, sign);
        self.asm.v3(op::POR, T1, T1, T2);
        self.asm.v3(fp.op(op::ADD), T0, T0, T1);
        self.finish(if fp.double { 3 } else { 2 }, rd, T0);
    }

    /// FADDP and the pairwise extremes.
    pub(super) fn fp_pair(&mut self, op: FpBinary, shape: Shape, [rd, rn, rm]: [Reg; 3]) -> bool {
        let Some(fp) = format(shape) else { return false };
        self.clobber_flags();
        let (n, m) = (self.v_read(rn), self.v_read(rm));
        if op != FpBinary::Fadd {
            self.take_apart(shape, n, m, [true; 2]);
            if shape.width == 3 {
                // What lies above is the same again.
                self.asm.v2(op::MOVDDUP, T0, T0);
                self.asm.v2(op::MOVDDUP, T1, T1);
            }
            self.asm.v_move(T2, T1);
            return self.fp_extreme(op, fp, [T0, T2], |t| t.finish(shape.width, rd, T0));
        }
        match (shape.size, shape.width) {
            (2, 3) => {
                self.asm.v3(op::PUNPCKLQDQ, T0, n, m);
                self.asm.v3(op::HADDPS, T0, T0, T0);
            }
            (2, _) => self.asm.v3(op::HADDPS, T0, n, m),
            _ => self.asm.v3(op::HADDPD, T0, n, m),
        }
        self.interpret_if_nan(fp, T0);
        self.finish(shape.width, rd, T0);
        true
    }

    /// Reductions of two lanes, and the extremes of four.
    pub(super) fn fp_across(&mut self, op: FpBinary, shape: Shape, rd: Reg, rn: Reg) -> bool {
        let Some(fp) = format(shape) else { return false };
        let scalar = Fp { packed: false, ..fp };
        self.clobber_flags();
        let n = self.v_read(rn);
        let neighbour = if fp.double { 0xee } else { 0x55 };
        if op == FpBinary::Fadd {
            self.asm.v2i(op::PSHUFD, T1, n, neighbour);
            self.asm.v3(scalar.op(op::ADD), T0, n, T1);
            self.interpret_if_nan(scalar, T0);
        } else if shape.width == shape.size + 1 {
            self.asm.v2i(op::PSHUFD, T2, n, neighbour);
            self.interpret_if_unordered(scalar, n, T2);
            self.extreme(op, scalar, T0, n, T2);
        } else {
            self.interpret_if_nan(fp, n);
            self.asm.v2i(op::PSHUFD, T2, n, 0xb1);
            self.extreme(op, fp, T0, n, T2);
            self.asm.v2i(op::PSHUFD, T2, T0, 0x4e);
            self.extreme(op, fp, T0, T0, T2);
        }
        self.finish(shape.size, rd, T0);
        true
    }

    /// FMLA and FMLS.
    pub(super) fn fp_mul_add(
        &mut self,
        subtract: bool,
        shape: Shape,
        [rd, rn]: [Reg; 2],
        rm: Source,
    ) -> bool {
        let Some(fp) = format(shape) else { return false };
        self.clobber_flags();
        let (n, m) = self.operands(shape, rn, rm);
        let d = self.v_read(rd);
        if self.lanes(shape, d, T0) != T0 {
            self.asm.v_move(T0, d);
        }
        // Onto the first operand.
        self.asm.v3(fp.fused(if subtract { 0xbc } else { 0xb8 }), T0, n, m);
        self.interpret_if_nan(fp, T0);
        self.finish(shape.width, rd, T0);
        true
    }

    /// FMADD and its kin.
    pub(super) fn fp_fused(
        &mut self,
        size: u8,
        [negate_product, negate_addend]: [bool; 2],
        [rd, rn, rm, ra]: [Reg; 4],
    ) -> bool {
        let Some(fp) = format(Shape::scalar(size)) else { return false };
        let opcode = match (negate_product, negate_addend) {
            (false, false) => 0xb8,
            (false, true) => 0xba,
            (true, false) => 0xbc,
            (true, true) => 0xbe,
        };
        self.clobber_flags();
        let (n, m, a) = (self.v_read(rn), self.v_operand(rm), self.v_read(ra));
        let narrow = self.v_has_width(ra, size);
        let t = self.target(rd, &[rn, rm, ra]);
        self.asm.v_move(t, a);
        self.asm.v3(fp.fused(opcode), t, n, m);
        self.interpret_if_nan(fp, t);
        self.finish_if(narrow, size, rd, t);
        true
    }
}
