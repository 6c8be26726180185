//! Floating-point comparisons to NZCV, and selection.

use super::{
    T0, T1, Translator,
    float::{EQ_OQ, EQ_OS},
};
use crate::{
    decode::{Cond, Reg},
    jit::{
        asm::{Cc, RAX, RDX},
        asm_simd::{Fp, Xmm, op},
        state::flags_image,
    },
};

/// What NZCV is for less, equal, greater and unordered.
const LESS: u8 = 0b1000;
const EQUAL: u8 = 0b0110;
const GREATER: u8 = 0b0010;
const UNORDERED: u8 = 0b0011;

/// Instead of a V register: zero.
const ZERO: Reg = 32;

impl Translator<'_> {
    /// FCMP and FCMPE.
    pub(super) fn fp_compare(&mut self, size: u8, signal: bool, rn: Reg, rm: Option<Reg>) -> bool {
        if size < 2 {
            return false;
        }
        match self.only_question() {
            Some(cond) => self.compare_for(cond, size, signal, [rn, rm.unwrap_or(ZERO)]),
            None => {
                self.compare_to_image(size, signal, rn, rm);
                self.set_flags_image();
            }
        }
        true
    }

    /// A V register, or zero in T1.
    fn v_or_zero(&mut self, v: Reg) -> Xmm {
        if v != ZERO {
            return self.v_read(v);
        }
        self.asm.v_zero(T1);
        T1
    }

    /// Compares so that the host's flags answer `cond`. UCOMIS sets CF for less, ZF for equal, both and PF for unordered,
    /// which tells four of the seven conditions; with the operands swapped, two others and C. Equality is told from
    /// being unordered by another instruction.
    fn compare_for(&mut self, cond: Cond, size: u8, signal: bool, [rn, rm]: [Reg; 2]) {
        let (n, m) = (self.v_or_zero(rn), self.v_or_zero(rm));
        let fp = Fp { double: size == 3, packed: false };
        // The condition, for the even one of each pair.
        let (swap, cc) = match cond >> 1 {
            0 => {
                let predicate = if signal { EQ_OS } else { EQ_OQ };
                self.asm.v3i(fp.op(op::CMP), T0, n, m, predicate);
                self.asm.v_to_gpr(2, RAX, T0);
                self.asm.test(false, RAX, RAX);
                return self.set_answer(cond & !1, Cc::Ne);
            }
            1 => (true, Cc::Be),
            2 => (true, Cc::A),
            3 => (false, Cc::P),
            4 => (true, Cc::B),
            5 => (false, Cc::Ae),
            _ => (false, Cc::A),
        };
        let (a, b) = if swap { (m, n) } else { (n, m) };
        let compare = if signal { op::COMIS } else { op::UCOMIS };
        self.asm.v2(compare[usize::from(fp.double)], a, b);
        self.set_answer(cond & !1, cc);
    }

    /// RAX = image of the flags that the comparison gives. Uses RDX.
    fn compare_to_image(&mut self, size: u8, signal: bool, rn: Reg, rm: Option<Reg>) {
        let n = self.v_read(rn);
        let m = self.v_or_zero(rm.unwrap_or(ZERO));
        let compare = if signal { op::COMIS } else { op::UCOMIS };
        self.asm.v2(compare[usize::from(size == 3)], n, m);
        self.asm.mov_imm(RAX, u64::from(flags_image(GREATER)));
        for (cc, nzcv) in [(Cc::B, LESS), (Cc::E, EQUAL), (Cc::P, UNORDERED)] {
            self.asm.mov_imm(RDX, u64::from(flags_image(nzcv)));
            self.asm.cmov(cc, false, RAX, RDX);
        }
    }

    /// FCCMP and FCCMPE.
    pub(super) fn fp_cond_compare(
        &mut self,
        size: u8,
        signal: bool,
        [rn, rm]: [Reg; 2],
        cond: Cond,
        nzcv: u8,
    ) -> bool {
        if size < 2 {
            return false;
        }
        if cond >= 14 {
            return self.fp_compare(size, signal, rn, Some(rm));
        }
        // So that both paths have them.
        self.v_read(rn);
        self.v_read(rm);
        let holds = self.condition(cond);
        self.asm.mov_imm(RAX, u64::from(flags_image(nzcv)));
        let done = self.asm.jcc_short(holds.not());
        self.compare_to_image(size, signal, rn, Some(rm));
        self.asm.bind_short(done);
        self.set_flags_image();
        true
    }

    /// FCSEL, without a branch.
    pub(super) fn fp_cond_select(&mut self, size: u8, [rd, rn, rm]: [Reg; 3], cond: Cond) -> bool {
        let (n, m) = (self.v_read(rn), self.v_read(rm));
        if cond >= 14 || rn == rm {
            self.finish(size, rd, n);
            return true;
        }
        let holds = self.condition(cond);
        let (from, wide) = (size.max(2), size == 3);
        self.asm.v_to_gpr(from, RAX, m);
        self.asm.v_to_gpr(from, RDX, n);
        self.asm.cmov(holds, wide, RAX, RDX);
        if size == 1 {
            self.asm.movzx(1, RAX, RAX);
        }
        let d = self.v_write(rd);
        self.asm.v_from_gpr(from, d, RAX);
        self.v_is_narrow(rd, size);
        true
    }
}
