//! Integer operations on lanes, reductions and dot products.

use super::{FEATURES, K, T0, T1, T2, Translator, width};
use crate::{
    decode::{
        Reg,
        simd::{Across, Binary, Bitwise, PairLong, Shape, Source, Unary},
    },
    jit::{
        asm::{Cc, RAX},
        asm_simd::{V, Xmm, op},
    },
};

/// How BSL, BIT and BIF of destination (0xf0), first (0xcc) and second operand (0xaa) look to VPTERNLOG.
const fn ternary(op: Bitwise) -> u8 {
    match op {
        Bitwise::Bit => 0xd8,
        Bitwise::Bif => 0xe4,
        _ => 0xca,
    }
}

/// The one instruction that does it on elements of 1 << `size` bytes.
fn direct(op: Binary, size: usize) -> Option<V> {
    use Binary::*;
    let table: &[V] = match op {
        Add => &op::PADD,
        Sub => &op::PSUB,
        Cmgt => &op::PCMPGT,
        Cmeq => &op::PCMPEQ,
        Smax => &op::PMAXS,
        Smin => &op::PMINS,
        Umax => &op::PMAXU,
        Umin => &op::PMINU,
        Urhadd => &op::PAVG,
        Mul if size == 1 => return Some(op::PMULLW),
        Mul if size == 2 => return Some(op::PMULLD),
        _ => return None,
    };
    table.get(size).copied()
}

impl Translator<'_> {
    pub(super) fn unary(&mut self, op: Unary, shape: Shape, rd: Reg, rn: Reg) -> bool {
        use Unary::*;
        let size = usize::from(shape.size);
        let shuffle = match op {
            Rev(1) => Some(K::Rev8In16),
            Rev(2) if size == 0 => Some(K::Rev8In32),
            Rev(2) => Some(K::Rev16In32),
            Rev(_) if size == 0 => Some(K::Rev8In64),
            Rev(_) if size == 1 => Some(K::Rev16In64),
            _ => None,
        };
        let n = self.v_read(rn);
        if let Some(shuffle) = shuffle {
            let shuffle = self.k(shuffle);
            let d = self.v_write(rd);
            self.asm.v3(op::PSHUFB, d, n, shuffle);
            self.cut(shape.width, d, d);
            return true;
        }
        match op {
            Rev(_) => self.asm.v2i(op::PSHUFD, T0, n, 0xb1),
            Neg => {
                self.asm.v_zero(T0);
                self.asm.v3(op::PSUB[size], T0, T0, n);
            }
            Abs if size < 3 => self.asm.v2(op::PABS[size], T0, n),
            Abs if FEATURES.avx512 => self.asm.e3(op::PABSQ, T0, Xmm(0), n),
            Abs => {
                self.asm.v_zero(T1);
                self.asm.v3(op::PCMPGT[3], T1, T1, n);
                self.asm.v3(op::PXOR, T0, n, T1);
                self.asm.v3(op::PSUB[3], T0, T0, T1);
            }
            Not => {
                self.asm.v_ones(T0);
                self.asm.v3(op::PXOR, T0, T0, n);
            }
            Cnt => self.by_nibble(n, K::Count, K::Count, op::PADD[0]),
            Rbit if FEATURES.gfni => {
                let reversal = self.k(K::Reversal);
                self.asm.v3i(op::GF2P8AFFINEQB, T0, n, reversal, 0);
            }
            Rbit => self.by_nibble(n, K::ReverseLow, K::ReverseHigh, op::POR),
            Clz if size == 0 => self.by_nibble(n, K::LeadingLow, K::LeadingHigh, op::PMINU[0]),
            Clz if size == 2 && FEATURES.avx512 => self.asm.e3(op::PLZCNTD, T0, Xmm(0), n),
            Cmgt | Cmge | Cmeq | Cmle | Cmlt => self.compare_with_zero(op, size, n),
            _ => return false,
        }
        self.finish(shape.width, rd, T0);
        true
    }

    /// T0 = `combine` of what the tables have for the low and the high nibble of each byte.
    fn by_nibble(&mut self, n: Xmm, low: K, high: K, combine: V) {
        let (mask, low, high) = (self.k(K::LowNibbles), self.k(low), self.k(high));
        self.asm.v3(op::PAND, T0, n, mask);
        self.asm.v_shift(op::PSRL[1], T1, n, 4);
        self.asm.v3(op::PAND, T1, T1, mask);
        self.asm.v2(op::MOVDQA, T2, low);
        self.asm.v3(op::PSHUFB, T0, T2, T0);
        self.asm.v2(op::MOVDQA, T2, high);
        self.asm.v3(op::PSHUFB, T1, T2, T1);
        self.asm.v3(combine, T0, T0, T1);
    }

    /// T0 = comparison of `n` with zero.
    fn compare_with_zero(&mut self, op: Unary, size: usize, n: Xmm) {
        self.asm.v_zero(T0);
        match op {
            Unary::Cmeq => self.asm.v3(op::PCMPEQ[size], T0, n, T0),
            Unary::Cmgt | Unary::Cmle => self.asm.v3(op::PCMPGT[size], T0, n, T0),
            _ => self.asm.v3(op::PCMPGT[size], T0, T0, n),
        }
        if matches!(op, Unary::Cmle | Unary::Cmge) {
            self.invert();
        }
    }

    /// T0 = not T0; uses T1.
    fn invert(&mut self) {
        self.asm.v_ones(T1);
        self.asm.v3(op::PXOR, T0, T0, T1);
    }

    pub(super) fn bitwise(&mut self, op: Bitwise, full: bool, [rd, rn, rm]: [Reg; 3]) -> bool {
        use Bitwise::*;
        let once = match op {
            And => Some(op::PAND),
            Eor => Some(op::PXOR),
            Orr if rn != rm => Some(op::POR),
            _ => None,
        };
        if let Some(instruction) = once {
            let (n, m) = (self.v_read(rn), self.v_operand(rm));
            let d = self.v_write(rd);
            self.asm.v3(instruction, d, n, m);
            return self.bitwise_end(full, d, d);
        }
        let (n, m) = (self.v_read(rn), self.v_read(rm));
        let d = match op {
            Bsl | Bit | Bif => self.v_modify(rd),
            _ => self.v_write(rd),
        };
        match op {
            // A move.
            And | Orr | Eor => return self.bitwise_end(full, d, n),
            Bic => self.asm.v3(op::PANDN, d, m, n),
            Orn => {
                self.asm.v_ones(T0);
                self.asm.v3(op::PXOR, T0, T0, m);
                self.asm.v3(op::POR, d, n, T0);
            }
            _ if FEATURES.avx512 => self.asm.e3i(op::TERNLOG, d, n, m, ternary(op)),
            Bsl => {
                self.asm.v3(op::PXOR, T0, n, m);
                self.asm.v3(op::PAND, T0, T0, d);
                self.asm.v3(op::PXOR, d, T0, m);
            }
            Bit | Bif => {
                self.asm.v3(op::PXOR, T0, d, n);
                let and = if op == Bit { op::PAND } else { op::PANDN };
                self.asm.v3(and, T0, m, T0);
                self.asm.v3(op::PXOR, d, d, T0);
            }
        }
        self.bitwise_end(full, d, d)
    }

    fn bitwise_end(&mut self, full: bool, d: Xmm, s: Xmm) -> bool {
        self.cut(width(full), d, s);
        true
    }

    pub(super) fn binary(&mut self, op: Binary, shape: Shape, [rd, rn]: [Reg; 2], rm: Source) -> bool {
        use Binary::*;
        let size = usize::from(shape.size);
        if let Some(instruction) = direct(op, size) {
            let (n, m) = (self.v_read(rn), self.second_operand(shape.size, rm, T2));
            let d = self.v_write(rd);
            self.asm.v3(instruction, d, n, m);
            self.cut(shape.width, d, d);
            return true;
        }
        match op {
            Sqadd | Uqadd | Sqsub | Uqsub => return self.saturating(op, shape, [rd, rn], rm),
            Smaxp | Umaxp | Sminp | Uminp | Addp => return self.pairwise(op, shape, [rd, rn, rm.reg]),
            Sshl | Ushl => return self.shift_by_register(op == Sshl, shape, [rd, rn, rm.reg]),
            Sqdmulh | Sqrdmulh if size == 1 => return self.doubling_high(op, shape, [rd, rn], rm),
            _ => {}
        }
        let (n, m) = (self.v_read(rn), self.second(shape.size, rm, T2));
        let done = match op {
            Cmhi | Cmge | Cmhs | Cmtst => self.comparison(op, size, n, m),
            Sabd | Uabd | Saba | Uaba => {
                self.difference(matches!(op, Sabd | Saba), size, n, m);
                true
            }
            Shadd | Uhadd | Srhadd | Urhadd => self.halving(op, size, n, m),
            Mul | Mla | Mls => {
                self.product(size, n, m);
                true
            }
            _ => false,
        };
        if !done {
            return false;
        }
        match op {
            Mla | Saba | Uaba => {
                let d = self.v_modify(rd);
                self.asm.v3(op::PADD[size], T0, d, T0);
            }
            Mls => {
                let d = self.v_modify(rd);
                self.asm.v3(op::PSUB[size], T0, d, T0);
            }
            _ => {}
        }
        self.finish(shape.width, rd, T0);
        true
    }

    /// T0 = low halves of the products.
    fn product(&mut self, size: usize, n: Xmm, m: Xmm) {
        match size {
            0 => {
                let low = self.k(K::LowBytes);
                self.asm.v_shift(op::PSRL[1], T0, n, 8);
                self.asm.v_shift(op::PSRL[1], T1, m, 8);
                self.asm.v3(op::PMULLW, T0, T0, T1);
                self.asm.v_shift(op::PSLL[1], T0, T0, 8);
                self.asm.v3(op::PMULLW, T1, n, m);
                self.asm.v3(op::PAND, T1, T1, low);
                self.asm.v3(op::POR, T0, T0, T1);
            }
            1 => self.asm.v3(op::PMULLW, T0, n, m),
            _ => self.asm.v3(op::PMULLD, T0, n, m),
        }
    }

    /// T0 = absolute difference, which is unsigned.
    pub(super) fn difference(&mut self, signed: bool, size: usize, n: Xmm, m: Xmm) {
        let (max, min) = if signed { (op::PMAXS, op::PMINS) } else { (op::PMAXU, op::PMINU) };
        self.asm.v3(max[size], T0, n, m);
        self.asm.v3(min[size], T1, n, m);
        self.asm.v3(op::PSUB[size], T0, T0, T1);
    }

    /// T0 = comparison.
    fn comparison(&mut self, op: Binary, size: usize, n: Xmm, m: Xmm) -> bool {
        match op {
            Binary::Cmtst => {
                self.asm.v3(op::PAND, T0, n, m);
                self.asm.v_zero(T1);
                self.asm.v3(op::PCMPEQ[size], T0, T0, T1);
                self.invert();
            }
            Binary::Cmge => {
                self.asm.v3(op::PCMPGT[size], T0, m, n);
                self.invert();
            }
            _ if size == 3 => {
                // As signed numbers, with the sign flipped.
                let sign = self.k(K::SignD);
                self.asm.v3(op::PXOR, T0, n, sign);
                self.asm.v3(op::PXOR, T1, m, sign);
                match op {
                    Binary::Cmhi => self.asm.v3(op::PCMPGT[3], T0, T0, T1),
                    _ => {
                        self.asm.v3(op::PCMPGT[3], T0, T1, T0);
                        self.invert();
                    }
                }
            }
            Binary::Cmhs => {
                self.asm.v3(op::PMAXU[size], T0, n, m);
                self.asm.v3(op::PCMPEQ[size], T0, T0, n);
            }
            _ => {
                self.asm.v3(op::PMINU[size], T0, n, m);
                self.asm.v3(op::PCMPEQ[size], T0, T0, n);
                self.invert();
            }
        }
        true
    }

    /// T0 = half the sum.
    fn halving(&mut self, op: Binary, size: usize, n: Xmm, m: Xmm) -> bool {
        let signed = matches!(op, Binary::Shadd | Binary::Srhadd);
        let rounds = matches!(op, Binary::Srhadd | Binary::Urhadd);
        if size == 0 {
            // PAVG rounds upwards; what that adds is the lowest bit of the difference.
            let (sign, ones) = (self.k(K::Sign8), self.k(K::Ones8));
            let (mut a, mut b) = (n, m);
            if signed {
                self.asm.v3(op::PXOR, T0, n, sign);
                self.asm.v3(op::PXOR, T1, m, sign);
                (a, b) = (T0, T1);
            }
            self.asm.v3(op::PAVG[0], T0, a, b);
            if !rounds {
                self.asm.v3(op::PXOR, T1, n, m);
                self.asm.v3(op::PAND, T1, T1, ones);
                self.asm.v3(op::PSUB[0], T0, T0, T1);
            }
            if signed {
                self.asm.v3(op::PXOR, T0, T0, sign);
            }
            return true;
        }
        self.asm.v3(op::PXOR, T0, n, m);
        let shift = if signed { op::PSRA[size] } else { op::PSRL[size] };
        self.asm.v_shift(shift, T0, T0, 1);
        if rounds {
            self.asm.v3(op::POR, T1, n, m);
            self.asm.v3(op::PSUB[size], T0, T1, T0);
        } else {
            self.asm.v3(op::PAND, T1, n, m);
            self.asm.v3(op::PADD[size], T0, T1, T0);
        }
        true
    }

    /// SQADD, UQADD, SQSUB, UQSUB: the interpreter is asked where words and doublewords saturate.
    fn saturating(&mut self, op: Binary, shape: Shape, [rd, rn]: [Reg; 2], rm: Source) -> bool {
        use Binary::*;
        let size = usize::from(shape.size);
        let add = matches!(op, Sqadd | Uqadd);
        self.clobber_flags();
        let (n, m) = (self.v_read(rn), self.second(shape.size, rm, T2));
        let wrapping = if add { op::PADD[size] } else { op::PSUB[size] };
        self.asm.v3(wrapping, T0, n, m);
        if size < 2 {
            let saturated = match op {
                Sqadd => op::PADDS,
                Uqadd => op::PADDUS,
                Sqsub => op::PSUBS,
                _ => op::PSUBUS,
            };
            self.asm.v3(saturated[size], T1, n, m);
            self.cut(shape.width, T1, T1);
            self.cut(shape.width, T0, T0);
            self.asm.v3(op::PXOR, T0, T0, T1);
            self.note_saturation(T0);
            self.finish(4, rd, T1);
            return true;
        }
        match op {
            // The sign changes where it must not.
            Sqadd => {
                self.asm.v3(op::PXOR, T1, n, T0);
                self.asm.v3(op::PXOR, T2, m, T0);
                self.asm.v3(op::PAND, T1, T1, T2);
            }
            Sqsub => {
                self.asm.v3(op::PXOR, T1, n, T0);
                self.asm.v3(op::PXOR, T2, n, m);
                self.asm.v3(op::PAND, T1, T1, T2);
            }
            // A carry: the majority of n, m and not the sum.
            Uqadd => {
                self.asm.v3(op::POR, T1, n, m);
                self.asm.v3(op::PANDN, T1, T0, T1);
                self.asm.v3(op::PAND, T2, n, m);
                self.asm.v3(op::POR, T1, T1, T2);
            }
            // A borrow: the majority of not n, m and the difference.
            _ => {
                self.asm.v3(op::PANDN, T1, n, m);
                self.asm.v3(op::PANDN, T2, n, T0);
                self.asm.v3(op::POR, T1, T1, T2);
                self.asm.v3(op::PAND, T2, m, T0);
                self.asm.v3(op::POR, T1, T1, T2);
            }
        }
        let mask = if size == 3 { op::MOVMSKPD } else { op::MOVMSKPS };
        self.asm.v_mask(mask, RAX, T1);
        self.asm.test_imm(false, RAX, (1 << (1 << (shape.width - shape.size))) - 1);
        self.interpret_if(Cc::Ne);
        self.finish(shape.width, rd, T0);
        true
    }

    /// SQDMULH and SQRDMULH of halfwords.
    fn doubling_high(&mut self, op: Binary, shape: Shape, [rd, rn]: [Reg; 2], rm: Source) -> bool {
        self.clobber_flags();
        let (n, m) = (self.v_read(rn), self.second(1, rm, T2));
        if op == Binary::Sqrdmulh {
            self.asm.v3(op::PMULHRSW, T0, n, m);
        } else {
            self.asm.v3(op::PMULHW, T0, n, m);
            self.asm.v3(op::PMULLW, T1, n, m);
            self.asm.v_shift(op::PSLL[1], T0, T0, 1);
            self.asm.v_shift(op::PSRL[1], T1, T1, 15);
            self.asm.v3(op::POR, T0, T0, T1);
        }
        // The square of the most negative number is the only one that saturates, and gives this.
        let lowest = self.k(K::Sign16);
        self.asm.v3(op::PCMPEQ[1], T1, T0, lowest);
        self.interpret_if_any(T1, 1 << shape.width);
        self.finish(shape.width, rd, T0);
        true
    }

    /// The even and odd elements of both operands, in T0 and T1: of `n`, then of `m`, of `1 << width` bytes each.
    pub(super) fn take_apart(&mut self, shape: Shape, n: Xmm, m: Xmm, want: [bool; 2]) {
        let size = usize::from(shape.size);
        let (mut a, mut b) = (n, m);
        if shape.width == 3 {
            // Both halves together are one vector.
            self.asm.v3(op::PUNPCKLQDQ, T2, n, m);
            (a, b) = (T2, T2);
        }
        for (odd, d) in [(false, T0), (true, T1)] {
            if !want[usize::from(odd)] {
                continue;
            }
            match size {
                3 => self.asm.v3(if odd { op::PUNPCKHQDQ } else { op::PUNPCKLQDQ }, d, a, b),
                2 => self.asm.v3i(op::SHUFPS, d, a, b, if odd { 0xdd } else { 0x88 }),
                _ => {
                    let shuffle = match (size, odd) {
                        (0, false) => K::Even8,
                        (0, true) => K::Odd8,
                        (_, false) => K::Even16,
                        (_, true) => K::Odd16,
                    };
                    let shuffle = self.k(shuffle);
                    self.asm.v3(op::PSHUFB, d, a, shuffle);
                    if a == b {
                        self.asm.v3(op::PUNPCKLQDQ, d, d, d);
                    } else {
                        // When both are wanted, T2 is free: full vectors do not use it.
                        self.asm.v3(op::PSHUFB, T2, b, shuffle);
                        self.asm.v3(op::PUNPCKLQDQ, d, d, T2);
                    }
                }
            }
        }
    }

    fn pairwise(&mut self, op: Binary, shape: Shape, [rd, rn, rm]: [Reg; 3]) -> bool {
        use Binary::*;
        let size = usize::from(shape.size);
        let table: &[V] = match op {
            Smaxp => &op::PMAXS,
            Umaxp => &op::PMAXU,
            Sminp => &op::PMINS,
            Uminp => &op::PMINU,
            _ => &op::PADD,
        };
        let Some(&instruction) = table.get(size) else { return false };
        let (n, m) = (self.v_read(rn), self.v_read(rm));
        self.take_apart(shape, n, m, [true; 2]);
        self.asm.v3(instruction, T0, T0, T1);
        self.finish(shape.width, rd, T0);
        true
    }

    /// SADDLP, UADDLP, SADALP, UADALP.
    pub(super) fn pair_long(&mut self, op: PairLong, shape: Shape, rd: Reg, rn: Reg) -> bool {
        let n = self.v_read(rn);
        match (shape.size, op.signed) {
            (0, false) => {
                let ones = self.k(K::Ones8);
                self.asm.v3(op::PMADDUBSW, T0, n, ones);
            }
            (0, true) => {
                let ones = self.k(K::Ones8);
                self.asm.v2(op::MOVDQA, T0, ones);
                self.asm.v3(op::PMADDUBSW, T0, T0, n);
            }
            (1, true) => {
                let ones = self.k(K::Ones16);
                self.asm.v3(op::PMADDWD, T0, n, ones);
            }
            (size, false) => {
                let wide = usize::from(size) + 1;
                let low = self.k(if size == 1 { K::LowHalfwords } else { K::LowWords });
                self.asm.v3(op::PAND, T0, n, low);
                self.asm.v_shift(op::PSRL[wide], T1, n, 8 << size);
                self.asm.v3(op::PADD[wide], T0, T0, T1);
            }
            _ => return false,
        }
        if op.accumulate {
            let d = self.v_modify(rd);
            self.asm.v3(op::PADD[usize::from(shape.size) + 1], T0, d, T0);
        }
        self.finish(shape.width, rd, T0);
        true
    }

    /// Reductions to one element.
    pub(super) fn across(&mut self, op: Across, shape: Shape, rd: Reg, rn: Reg) -> bool {
        use Across::*;
        let size = usize::from(shape.size);
        let n = self.v_read(rn);
        let table: &[V] = match op {
            Addv => &op::PADD,
            Smaxv => &op::PMAXS,
            Umaxv => &op::PMAXU,
            Sminv => &op::PMINS,
            Uminv => &op::PMINU,
            Saddlv | Uaddlv => &op::PADD,
        };
        if size == 0 && matches!(op, Addv | Saddlv | Uaddlv) {
            self.sum_bytes(op, shape.width, n);
            self.finish(if op == Addv { 0 } else { 1 }, rd, T0);
            return true;
        }
        match (op, shape.size) {
            (Saddlv | Uaddlv, 1) => {
                // Sums of pairs first.
                if op == Saddlv {
                    let ones = self.k(K::Ones16);
                    self.asm.v3(op::PMADDWD, T0, n, ones);
                } else {
                    let low = self.k(K::LowHalfwords);
                    self.asm.v3(op::PAND, T0, n, low);
                    self.asm.v_shift(op::PSRL[2], T1, n, 16);
                    self.asm.v3(op::PADD[2], T0, T0, T1);
                }
                self.fold(op::PADD[2], 2, shape.width);
                self.finish(2, rd, T0);
            }
            (Saddlv | Uaddlv, _) => {
                let extend = if op == Saddlv { op::PMOVSX[2] } else { op::PMOVZX[2] };
                self.asm.v2i(op::PSHUFD, T1, n, 0xee);
                self.asm.v2(extend, T0, n);
                self.asm.v2(extend, T1, T1);
                self.asm.v3(op::PADD[3], T0, T0, T1);
                self.fold(op::PADD[3], 3, 4);
                self.finish(3, rd, T0);
            }
            _ => {
                let Some(&instruction) = table.get(size) else { return false };
                self.asm.v_move(T0, n);
                self.fold(instruction, shape.size, shape.width);
                self.finish(shape.size, rd, T0);
            }
        }
        true
    }

    /// The lowest element of T0 = all elements of its lowest 1 << `width` bytes, folded.
    fn fold(&mut self, instruction: V, size: u8, width: u8) {
        if width == 4 {
            self.asm.v2i(op::PSHUFD, T1, T0, 0xee);
            self.asm.v3(instruction, T0, T0, T1);
        }
        if size <= 2 {
            self.asm.v2i(op::PSHUFD, T1, T0, 0x55);
            self.asm.v3(instruction, T0, T0, T1);
        }
        if size <= 1 {
            self.asm.v_shift(op::PSRL[2], T1, T0, 16);
            self.asm.v3(instruction, T0, T0, T1);
        }
        if size == 0 {
            self.asm.v_shift(op::PSRL[1], T1, T0, 8);
            self.asm.v3(instruction, T0, T0, T1);
        }
    }

    /// The low halfword of T0 = sum of the bytes of `n`.
    fn sum_bytes(&mut self, op: Across, width: u8, n: Xmm) {
        let full = width == 4;
        self.asm.v_zero(T1);
        if op == Across::Saddlv {
            let sign = self.k(K::Sign8);
            self.asm.v3(op::PXOR, T0, n, sign);
            self.asm.v3(op::PSADBW, T0, T0, T1);
        } else {
            self.asm.v3(op::PSADBW, T0, n, T1);
        }
        if full {
            self.asm.v2i(op::PSHUFD, T1, T0, 0xee);
            self.asm.v3(op::PADD[2], T0, T0, T1);
        }
        if op == Across::Saddlv {
            let bias = self.k(if full { K::Bias16 } else { K::Bias8 });
            self.asm.v3(op::PSUB[1], T0, T0, bias);
        }
    }

    /// SDOT and UDOT.
    pub(super) fn dot(&mut self, signed: bool, full: bool, [rd, rn]: [Reg; 2], rm: Source) -> bool {
        let (n, m) = (self.v_read(rn), self.second(2, rm, T2));
        // Products of pairs of the lower half, then of the upper one.
        self.extend(signed, 0, false, T0, n);
        self.extend(signed, 0, false, T1, m);
        self.asm.v3(op::PMADDWD, T0, T0, T1);
        if full {
            self.extend(signed, 0, true, T1, m);
            self.extend(signed, 0, true, T2, n);
            self.asm.v3(op::PMADDWD, T1, T1, T2);
            self.asm.v3(op::PHADDD, T0, T0, T1);
        } else {
            self.asm.v3(op::PHADDD, T0, T0, T0);
        }
        let d = self.v_modify(rd);
        self.asm.v3(op::PADD[2], T0, d, T0);
        self.finish(width(full), rd, T0);
        true
    }

    /// SSHL and USHL of words and doublewords, and of halfwords where the host can: left by the low byte of each lane,
    /// right where that is negative.
    fn shift_by_register(&mut self, signed: bool, shape: Shape, [rd, rn, rm]: [Reg; 3]) -> bool {
        let size = usize::from(shape.size);
        let wide = match size {
            1 | 3 if signed => FEATURES.avx512,
            1 => FEATURES.avx512,
            2 | 3 => true,
            _ => false,
        };
        if !wide {
            return false;
        }
        let (n, m) = (self.v_read(rn), self.v_read(rm));
        let byte = self.k(match size {
            1 => K::LowBytes,
            2 => K::LowByteOf32,
            _ => K::LowByteOf64,
        });
        // Counts of the size and above give zero (or the sign), as they shall; so do negative ones, as unsigned bytes.
        self.asm.v_zero(T1);
        self.asm.v3(op::PSUB[size], T1, T1, m);
        self.asm.v3(op::PAND, T1, T1, byte);
        self.asm.v3(op::PAND, T0, m, byte);
        match size {
            1 => self.asm.e3(op::PSLLVW, T0, n, T0),
            _ => self.asm.v3(op::PSLLV[size - 2], T0, n, T0),
        }
        match (size, signed) {
            (1, false) => self.asm.e3(op::PSRLVW, T1, n, T1),
            (_, false) => self.asm.v3(op::PSRLV[size - 2], T1, n, T1),
            (1, true) => self.asm.e3(op::PSRAVW, T1, n, T1),
            (2, true) => self.asm.v3(op::PSRAVD, T1, n, T1),
            (_, true) => self.asm.e3(op::PSRAVQ, T1, n, T1),
        }
        if signed {
            // The count's sign chooses, in all bytes of a lane.
            self.asm.v_shift(op::PSLL[size], T2, m, (8 << size) - 8);
            match size {
                3 => self.asm.e_shift(op::PSRAQ, true, T2, T2, 63),
                _ => self.asm.v_shift(op::PSRA[size], T2, T2, 31),
            }
            self.asm.v_blend(op::PBLENDVB, T0, T0, T1, T2);
        } else {
            // One of them is zero, or both shifted by nothing.
            self.asm.v3(op::POR, T0, T0, T1);
        }
        self.finish(shape.width, rd, T0);
        true
    }
}
