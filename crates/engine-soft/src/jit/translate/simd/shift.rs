//! Shifts by an immediate, and narrowing.

use super::{FEATURES, K, T0, T1, T2, Translator};
use crate::{
    decode::{
        Reg,
        simd::{Narrow, Shape, Shift, ShiftNarrow},
    },
    jit::asm_simd::{Xmm, op},
};

/// How narrow elements saturate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Saturate {
    No,
    /// Signed to signed, signed to unsigned, unsigned to unsigned.
    Signed,
    SignedToUnsigned,
    Unsigned,
}

impl Translator<'_> {
    pub(super) fn shift(&mut self, op: Shift, shape: Shape, amount: u8, [rd, rn]: [Reg; 2]) -> bool {
        use Shift::*;
        let size = shape.size;
        let n = self.v_read(rn);
        match op {
            Sshr | Ssra => self.shift_right(true, size, amount, T0, n),
            Ushr | Usra => self.shift_right(false, size, amount, T0, n),
            Srshr | Srsra => self.shift_right_rounded(true, size, amount, n),
            Urshr | Ursra => self.shift_right_rounded(false, size, amount, n),
            Shl => self.shift_left(size, amount, T0, n),
            Sli | Sri => return self.shift_insert(op == Sli, shape, amount, [rd, rn]),
            Sqshlu | Sqshl | Uqshl => return false,
        }
        if matches!(op, Ssra | Usra | Srsra | Ursra) {
            let d = self.v_modify(rd);
            self.asm.v3(op::PADD[usize::from(size)], T0, d, T0);
        }
        self.finish(shape.width, rd, T0);
        true
    }

    /// `d = n << amount`, less than the size; `d` is not `n`.
    fn shift_left(&mut self, size: u8, amount: u8, d: Xmm, n: Xmm) {
        if size > 0 {
            return self.asm.v_shift(op::PSLL[usize::from(size)], d, n, amount);
        }
        self.asm.v_shift(op::PSLL[1], d, n, amount);
        let mask = self.k_after(K::Left0, amount);
        self.asm.v3(op::PAND, d, d, mask);
    }

    /// `d = n >> amount`, 1 up to the size; uses T2.
    fn shift_right(&mut self, signed: bool, size: u8, amount: u8, d: Xmm, n: Xmm) {
        let s = usize::from(size);
        match (size, signed) {
            (0, _) if signed && amount >= 8 => {
                self.asm.v_zero(T2);
                self.asm.v3(op::PCMPGT[0], d, T2, n);
            }
            (0, _) => {
                let mask = self.k_after(K::Right1, amount - 1);
                self.asm.v_shift(op::PSRL[1], d, n, amount);
                self.asm.v3(op::PAND, d, d, mask);
                if signed {
                    let sign = self.k_after(K::Top1, amount - 1);
                    self.asm.v3(op::PXOR, d, d, sign);
                    self.asm.v3(op::PSUB[0], d, d, sign);
                }
            }
            (3, true) if FEATURES.avx512 => self.asm.e_shift(op::PSRAQ, true, d, n, amount.min(63)),
            (3, true) => {
                // The sign from above.
                self.asm.v_zero(T2);
                self.asm.v3(op::PCMPGT[3], T2, T2, n);
                self.asm.v_shift(op::PSLL[3], T2, T2, 64 - amount.min(63));
                self.asm.v_shift(op::PSRL[3], d, n, amount.min(63));
                self.asm.v3(op::POR, d, d, T2);
            }
            (_, true) => self.asm.v_shift(op::PSRA[s], d, n, amount),
            (_, false) => self.asm.v_shift(op::PSRL[s], d, n, amount),
        }
    }

    /// T0 = `n >> amount`, rounded: plus the highest of the bits shifted out.
    fn shift_right_rounded(&mut self, signed: bool, size: u8, amount: u8, n: Xmm) {
        let s = usize::from(size);
        self.shift_right(signed, size, amount, T0, n);
        // That bit alone.
        if size == 0 {
            let one = self.k(K::Ones8);
            self.asm.v_shift(op::PSRL[1], T1, n, amount - 1);
            self.asm.v3(op::PAND, T1, T1, one);
        } else {
            self.asm.v_shift(op::PSLL[s], T1, n, (8 << size) - amount);
            self.asm.v_shift(op::PSRL[s], T1, T1, (8 << size) - 1);
        }
        self.asm.v3(op::PADD[s], T0, T0, T1);
    }

    /// SLI and SRI.
    fn shift_insert(&mut self, left: bool, shape: Shape, amount: u8, [rd, rn]: [Reg; 2]) -> bool {
        let (size, s) = (shape.size, usize::from(shape.size));
        let bits = 8u8 << size;
        let (n, d) = (self.v_read(rn), self.v_modify(rd));
        if size == 0 {
            // What the shift leaves of the destination, in T1.
            let kept =
                if left { self.k_after(K::Left0, amount) } else { self.k_after(K::Right1, amount - 1) };
            self.asm.v2(op::MOVDQA, T1, kept);
            self.asm.v3(op::PANDN, T1, T1, d);
            if left {
                self.shift_left(0, amount, T0, n);
            } else {
                self.shift_right(false, 0, amount, T0, n);
            }
        } else if left {
            self.asm.v_shift(op::PSLL[s], T0, n, amount);
            self.asm.v_shift(op::PSLL[s], T1, d, bits - amount);
            self.asm.v_shift(op::PSRL[s], T1, T1, bits - amount);
        } else {
            self.asm.v_shift(op::PSRL[s], T0, n, amount);
            self.asm.v_shift(op::PSRL[s], T1, d, bits - amount);
            self.asm.v_shift(op::PSLL[s], T1, T1, bits - amount);
        }
        self.asm.v3(op::POR, T0, T0, T1);
        self.finish(shape.width, rd, T0);
        true
    }

    pub(super) fn narrow(&mut self, op: Narrow, size: u8, high: bool, [rd, rn]: [Reg; 2]) -> bool {
        let saturate = match op {
            Narrow::Xtn => Saturate::No,
            Narrow::Sqxtn => Saturate::Signed,
            Narrow::Uqxtn => Saturate::Unsigned,
            Narrow::Sqxtun => Saturate::SignedToUnsigned,
        };
        let n = self.v_read(rn);
        self.narrow_from(saturate, size, high, rd, n)
    }

    pub(super) fn shift_narrow(
        &mut self,
        op: ShiftNarrow,
        size: u8,
        high: bool,
        amount: u8,
        [rd, rn]: [Reg; 2],
    ) -> bool {
        use ShiftNarrow::*;
        let saturate = match op {
            Shrn | Rshrn => Saturate::No,
            Sqshrun | Sqrshrun => Saturate::SignedToUnsigned,
            Sqshrn | Sqrshrn => Saturate::Signed,
            Uqshrn | Uqrshrn => Saturate::Unsigned,
        };
        if saturate != Saturate::No && size == 2 {
            return false;
        }
        let n = self.v_read(rn);
        let signed = matches!(op, Sqshrun | Sqshrn | Sqrshrun | Sqrshrn);
        match op {
            Shrn | Sqshrun | Sqshrn | Uqshrn => self.shift_right(signed, size + 1, amount, T0, n),
            _ => self.shift_right_rounded(signed, size + 1, amount, n),
        }
        self.narrow_from(saturate, size, high, rd, T0)
    }

    /// Narrows the elements of `from`, which may be T0, to `size` and puts them into either half of `rd`.
    pub(super) fn narrow_plainly(&mut self, size: u8, high: bool, rd: Reg, from: Xmm) -> bool {
        self.narrow_from(Saturate::No, size, high, rd, from)
    }

    fn narrow_from(&mut self, saturate: Saturate, size: u8, high: bool, rd: Reg, from: Xmm) -> bool {
        let s = usize::from(size);
        if saturate == Saturate::No {
            let even = self.k_after(K::Even8, size * 2);
            self.asm.v3(op::PSHUFB, T0, from, even);
        } else {
            if size == 2 {
                return false;
            }
            self.clobber_flags();
            match saturate {
                Saturate::Signed => self.asm.v3(op::PACKSS[s], T2, from, from),
                Saturate::SignedToUnsigned => self.asm.v3(op::PACKUS[s], T2, from, from),
                _ => {
                    // The instruction takes its operands for signed ones.
                    let most = self.k(if size == 0 { K::LowBytes } else { K::LowHalfwords });
                    self.asm.v3(op::PMINU[s + 1], T2, from, most);
                    self.asm.v3(op::PACKUS[s], T2, T2, T2);
                }
            }
            let extend = if saturate == Saturate::Signed { op::PMOVSX } else { op::PMOVZX };
            self.asm.v2(extend[s], T1, T2);
            self.asm.v3(op::PXOR, T1, T1, from);
            self.note_saturation(T1);
            self.asm.v2(op::MOVQ, T0, T2);
        }
        self.finish_half(high, rd);
        true
    }
}
