//! Moves of elements, permutations, lookups and immediates.

use super::{K, T0, T1, T2, Translator, width};
use crate::{
    decode::{
        Reg,
        simd::{ImmediateOp, Permute, Shape},
    },
    jit::{
        asm::RAX,
        asm_simd::{Xmm, op},
    },
};

impl Translator<'_> {
    pub(super) fn dup_element(&mut self, shape: Shape, index: u8, rd: Reg, rn: Reg) -> bool {
        let n = self.v_read(rn);
        let d = self.v_write(rd);
        if shape.width > shape.size {
            self.splat(shape.size, d, n, index);
            self.cut(shape.width, d, d);
            return true;
        }
        match index {
            0 => self.cut(shape.size, d, n),
            _ => {
                self.asm.v_shift(op::PSRLDQ, d, n, index << shape.size);
                self.cut(shape.size, d, d);
            }
        }
        true
    }

    pub(super) fn dup_general(&mut self, shape: Shape, rd: Reg, rn: Reg) -> bool {
        let n = self.x_read(rn, RAX);
        let d = self.v_write(rd);
        self.asm.v_from_gpr(shape.size.max(2), d, n);
        self.asm.v2(op::PBROADCAST[usize::from(shape.size)], d, d);
        self.cut(shape.width, d, d);
        true
    }

    pub(super) fn insert_element(&mut self, size: u8, [to, from]: [u8; 2], rd: Reg, rn: Reg) -> bool {
        let (n, d) = (self.v_read(rn), self.v_modify(rd));
        match size {
            3 if to == 0 => self.asm.v3i(op::SHUFPD, d, n, d, from | 2),
            3 => self.asm.v3i(op::SHUFPD, d, d, n, from << 1),
            2 => self.asm.v3i(op::INSERTPS, d, d, n, from << 6 | to << 4),
            _ => {
                self.asm.v_extract(size, RAX, n, from);
                self.asm.v_insert(size, d, d, RAX, to);
            }
        }
        true
    }

    pub(super) fn insert_general(&mut self, size: u8, to: u8, rd: Reg, rn: Reg) -> bool {
        let n = self.x_read(rn, RAX);
        let d = self.v_modify(rd);
        self.asm.v_insert(size, d, d, n, to);
        true
    }

    /// UMOV, SMOV (`signed`: whether to 64 bits) and FMOV.
    pub(super) fn move_to_general(
        &mut self,
        size: u8,
        signed: Option<bool>,
        index: u8,
        [rd, rn]: [Reg; 2],
    ) -> bool {
        let n = self.v_read(rn);
        let d = self.x_dest(rd, RAX);
        self.asm.v_extract(size, d, n, index);
        if let Some(sf) = signed {
            self.asm.movsx(size, sf, d, d);
        }
        self.x_finish(rd, d);
        true
    }

    pub(super) fn move_from_general(&mut self, size: u8, rd: Reg, rn: Reg) -> bool {
        let mut n = self.x_read(rn, RAX);
        if size == 1 {
            self.asm.movzx(1, RAX, n);
            n = RAX;
        }
        let d = self.v_write(rd);
        self.asm.v_from_gpr(size.max(2), d, n);
        self.v_is_narrow(rd, size);
        true
    }

    /// TBL and TBX. A shuffle gives zero where the top bit of an index is set, which the addition sees to.
    pub(super) fn table(&mut self, full: bool, count: u8, keep: bool, [rd, rn, rm]: [Reg; 3]) -> bool {
        let (bias, step) = (self.k(K::TableBias), self.k(K::TableStep));
        let m = self.v_read(rm);
        let mut index = m;
        for i in 0..count {
            let table = self.v_read((rn + i) & 31);
            if i > 0 {
                self.asm.v3(op::PSUB[0], T2, index, step);
                index = T2;
            }
            self.asm.v3(op::PADDUS[0], T1, index, bias);
            if i == 0 {
                self.asm.v3(op::PSHUFB, T0, table, T1);
            } else {
                self.asm.v3(op::PSHUFB, T1, table, T1);
                self.asm.v3(op::POR, T0, T0, T1);
            }
        }
        if keep {
            let end = self.k_after(K::TableEnd1, count - 1);
            self.asm.v3(op::PMAXU[0], T1, m, end);
            self.asm.v3(op::PCMPEQ[0], T1, T1, m);
            let d = self.v_modify(rd);
            self.asm.v_blend(op::PBLENDVB, T0, T0, d, T1);
        }
        self.finish(width(full), rd, T0);
        true
    }

    pub(super) fn permute(&mut self, op: Permute, shape: Shape, [rd, rn, rm]: [Reg; 3]) -> bool {
        let size = usize::from(shape.size);
        let (n, m) = (self.v_read(rn), self.v_read(rm));
        match op {
            Permute::Zip1 => self.asm.v3(op::PUNPCKL[size], T0, n, m),
            Permute::Zip2 if shape.width == 4 => self.asm.v3(op::PUNPCKH[size], T0, n, m),
            Permute::Zip2 => {
                self.asm.v3(op::PUNPCKL[size], T0, n, m);
                self.asm.v_shift(op::PSRLDQ, T0, T0, 8);
            }
            Permute::Uzp1 => self.take_apart(shape, n, m, [true, false]),
            Permute::Uzp2 => {
                self.take_apart(shape, n, m, [false, true]);
                self.finish(shape.width, rd, T1);
                return true;
            }
            Permute::Trn1 | Permute::Trn2 => self.transpose(op == Permute::Trn2, size, n, m),
        }
        self.finish(shape.width, rd, T0);
        true
    }

    /// T0 = the even or odd elements of both, alternating.
    fn transpose(&mut self, odd: bool, size: usize, n: Xmm, m: Xmm) {
        let bits = 8 << size;
        let (a, b) = match (size, odd) {
            (3, false) => return self.asm.v3(op::PUNPCKLQDQ, T0, n, m),
            (3, true) => return self.asm.v3(op::PUNPCKHQDQ, T0, n, m),
            (_, false) => {
                self.asm.v_shift(op::PSLL[size + 1], T1, m, bits);
                (n, T1)
            }
            (_, true) => {
                self.asm.v_shift(op::PSRL[size + 1], T1, n, bits);
                (T1, m)
            }
        };
        match size {
            2 => self.asm.v3i(op::PBLENDD, T0, a, b, 0b1010),
            1 => self.asm.v3i(op::PBLENDW, T0, a, b, 0xaa),
            _ => {
                let high = self.k(K::HighBytes);
                self.asm.v2(op::MOVDQA, T2, high);
                self.asm.v_blend(op::PBLENDVB, T0, a, b, T2);
            }
        }
    }

    pub(super) fn extract(&mut self, full: bool, at: u8, [rd, rn, rm]: [Reg; 3]) -> bool {
        let (n, m) = (self.v_read(rn), self.v_read(rm));
        let d = self.v_write(rd);
        if full {
            self.asm.v3i(op::PALIGNR, d, m, n, at);
        } else {
            self.asm.v3(op::PUNPCKLQDQ, d, n, m);
            self.asm.v_shift(op::PSRLDQ, d, d, at);
            self.cut(3, d, d);
        }
        true
    }

    pub(super) fn immediate(&mut self, op: ImmediateOp, full: bool, value: u64, rd: Reg) -> bool {
        match op {
            ImmediateOp::Move => {
                let d = self.v_write(rd);
                self.constant(full, value, d);
                if !full {
                    self.v_is_narrow(rd, if value >> 32 == 0 { 2 } else { 3 });
                }
            }
            ImmediateOp::Orr => {
                self.constant(full, value, T0);
                let d = self.v_modify(rd);
                self.asm.v3(op::POR, d, d, T0);
                self.cut(width(full), d, d);
            }
            ImmediateOp::Bic => {
                self.constant(full, value, T0);
                let d = self.v_modify(rd);
                self.asm.v3(op::PANDN, d, T0, d);
                self.cut(width(full), d, d);
            }
        }
        true
    }

    /// `d` = `value`, in both halves or with zero above it.
    pub(super) fn constant(&mut self, full: bool, value: u64, d: Xmm) {
        let low = value as u32;
        match (full, value) {
            (_, 0) => self.asm.v_zero(d),
            (true, u64::MAX) => self.asm.v_ones(d),
            (true, _) if value >> 32 == u64::from(low) => {
                self.asm.mov_imm(RAX, u64::from(low));
                self.asm.v_from_gpr(2, d, RAX);
                self.asm.v2(op::PBROADCAST[2], d, d);
            }
            _ => {
                self.asm.mov_imm(RAX, value);
                self.asm.v_from_gpr(3, d, RAX);
                if full {
                    self.asm.v2(op::PBROADCAST[3], d, d);
                }
            }
        }
    }
}
