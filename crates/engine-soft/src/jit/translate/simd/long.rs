//! Operations between elements and ones of twice the size.

use super::{FEATURES, T0, T1, T2, Translator};
use crate::{
    decode::{
        Reg,
        simd::{Long, Source},
    },
    jit::asm_simd::{Xmm, op},
};

impl Translator<'_> {
    /// `d` = elements of 1 << `size` bytes of one half of `n`, extended to twice the size.
    pub(super) fn extend(&mut self, signed: bool, size: u8, high: bool, d: Xmm, n: Xmm) {
        let extend = if signed { op::PMOVSX } else { op::PMOVZX };
        let mut from = n;
        if high {
            self.asm.v2i(op::PSHUFD, d, n, 0xee);
            from = d;
        }
        self.asm.v2(extend[usize::from(size)], d, from);
    }

    pub(super) fn long(&mut self, op: Long, size: u8, high: bool, [rd, rn]: [Reg; 2], rm: Source) -> bool {
        use Long::*;
        match op {
            Saddl | Uaddl | Ssubl | Usubl | Saddw | Uaddw | Ssubw | Usubw => {
                self.long_sum(op, size, high, [rd, rn, rm.reg])
            }
            Addhn | Raddhn | Subhn | Rsubhn => self.high_narrow(op, size, high, [rd, rn, rm.reg]),
            Sabal | Uabal | Sabdl | Uabdl => self.long_difference(op, size, high, [rd, rn, rm.reg]),
            Smlal | Umlal | Smlsl | Umlsl | Smull | Umull => self.long_product(op, size, high, [rd, rn], rm),
            Pmull if size == 3 && FEATURES.clmul => {
                let (n, m) = (self.v_read(rn), self.v_read(rm.reg));
                let d = self.v_write(rd);
                self.asm.v3i(op::PCLMULQDQ, d, n, m, if high { 0x11 } else { 0 });
                true
            }
            Sqdmlal | Sqdmlsl | Sqdmull | Pmull => false,
        }
    }

    fn long_sum(&mut self, op: Long, size: u8, high: bool, [rd, rn, rm]: [Reg; 3]) -> bool {
        use Long::*;
        let wide = usize::from(size) + 1;
        let signed = matches!(op, Saddl | Saddw | Ssubl | Ssubw);
        let (mut n, m) = (self.v_read(rn), self.v_read(rm));
        if matches!(op, Saddl | Uaddl | Ssubl | Usubl) {
            self.extend(signed, size, high, T0, n);
            n = T0;
        }
        self.extend(signed, size, high, T1, m);
        let d = self.v_write(rd);
        let add = matches!(op, Saddl | Uaddl | Saddw | Uaddw);
        self.asm.v3(if add { op::PADD[wide] } else { op::PSUB[wide] }, d, n, T1);
        true
    }

    /// ADDHN and its kin.
    fn high_narrow(&mut self, op: Long, size: u8, high: bool, [rd, rn, rm]: [Reg; 3]) -> bool {
        let wide = usize::from(size) + 1;
        let (n, m) = (self.v_read(rn), self.v_read(rm));
        let add = matches!(op, Long::Addhn | Long::Raddhn);
        self.asm.v3(if add { op::PADD[wide] } else { op::PSUB[wide] }, T0, n, m);
        if matches!(op, Long::Raddhn | Long::Rsubhn) {
            // Half of the lowest bit that stays.
            self.asm.v_ones(T1);
            self.asm.v_shift(op::PSRL[wide], T1, T1, (16 << size) - 1);
            self.asm.v_shift(op::PSLL[wide], T1, T1, (8 << size) - 1);
            self.asm.v3(op::PADD[wide], T0, T0, T1);
        }
        self.asm.v_shift(op::PSRL[wide], T0, T0, 8 << size);
        self.narrow_plainly(size, high, rd, T0)
    }

    fn long_difference(&mut self, op: Long, size: u8, high: bool, [rd, rn, rm]: [Reg; 3]) -> bool {
        let (n, m) = (self.v_read(rn), self.v_read(rm));
        self.difference(matches!(op, Long::Sabal | Long::Sabdl), usize::from(size), n, m);
        self.extend(false, size, high, T0, T0);
        self.accumulate(matches!(op, Long::Sabal | Long::Uabal).then_some(true), size + 1, rd);
        true
    }

    /// `rd` = T0, added to it or subtracted from it.
    fn accumulate(&mut self, add: Option<bool>, wide: u8, rd: Reg) {
        let wide = usize::from(wide);
        match add {
            None => self.finish(4, rd, T0),
            Some(add) => {
                let d = self.v_modify(rd);
                self.asm.v3(if add { op::PADD[wide] } else { op::PSUB[wide] }, d, d, T0);
            }
        }
    }

    fn long_product(&mut self, op: Long, size: u8, high: bool, [rd, rn]: [Reg; 2], rm: Source) -> bool {
        use Long::*;
        let signed = matches!(op, Smlal | Smlsl | Smull);
        let (n, m) = (self.v_read(rn), self.second(size, rm, T2));
        match size {
            0 => {
                self.extend(signed, 0, high, T0, n);
                self.extend(signed, 0, high, T1, m);
                self.asm.v3(op::PMULLW, T0, T0, T1);
            }
            1 => {
                self.asm.v3(op::PMULLW, T0, n, m);
                self.asm.v3(if signed { op::PMULHW } else { op::PMULHUW }, T1, n, m);
                self.asm.v3(if high { op::PUNPCKH[1] } else { op::PUNPCKL[1] }, T0, T0, T1);
            }
            _ => {
                // Elements 0 and 1, or 2 and 3, to places 0 and 2.
                let places = if high { 0xfa } else { 0x50 };
                self.asm.v2i(op::PSHUFD, T0, n, places);
                self.asm.v2i(op::PSHUFD, T1, m, places);
                self.asm.v3(if signed { op::PMULDQ } else { op::PMULUDQ }, T0, T0, T1);
            }
        }
        let add = match op {
            Smlal | Umlal => Some(true),
            Smlsl | Umlsl => Some(false),
            _ => None,
        };
        self.accumulate(add, size + 1, rd);
        true
    }
}
