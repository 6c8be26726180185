//! SHA-512. The host has nothing for it: the sums of a round are made in general registers, the schedule lane by lane.

use super::{FEATURES, T0, T1, T2, Translator};
use crate::{
    decode::{Reg, simd::Sha},
    jit::{
        asm::{Alu, Gpr, RAX, RCX, RDX},
        asm_simd::{Xmm, op},
    },
};

impl Translator<'_> {
    /// SHA512H, SHA512H2, SHA512SU0 and SHA512SU1; false for others.
    pub(super) fn sha512(&mut self, op: Sha, [rd, rn, rm]: [Reg; 3]) -> bool {
        match op {
            Sha::Sha512h | Sha::Sha512h2 => {
                self.clobber_flags();
                let (n, m, d) = (self.v_read(rn), self.v_read(rm), self.v_modify(rd));
                if op == Sha::Sha512h {
                    self.sha512h(n, m, d);
                } else {
                    self.sha512h2(n, m, d);
                }
                // The upper half is in T0, the lower one in RAX.
                self.asm.v_from_gpr(3, d, RAX);
                self.asm.v3(op::PUNPCKLQDQ, d, d, T0);
            }
            Sha::Sha512su0 => {
                let (n, d) = (self.v_read(rn), self.v_modify(rd));
                self.asm.v3i(op::PALIGNR, T0, n, d, 8);
                self.mix([1, 8, 7], T0);
                self.asm.v3(op::PADD[3], d, d, T1);
            }
            Sha::Sha512su1 => {
                let (n, m, d) = (self.v_read(rn), self.v_read(rm), self.v_modify(rd));
                self.asm.v_move(T0, n);
                self.mix([19, 61, 6], T0);
                self.asm.v3(op::PADD[3], T1, T1, m);
                self.asm.v3(op::PADD[3], d, d, T1);
            }
            _ => return false,
        }
        true
    }

    /// T1 = T0 rotated right by the first two numbers and shifted right by the third, exclusive-or.
    fn mix(&mut self, [a, b, shift]: [u8; 3], x: Xmm) {
        self.asm.v_shift(op::PSRL[3], T1, x, shift);
        for by in [a, b] {
            if FEATURES.avx512 {
                self.asm.e_shift(op::PROR, true, T2, x, by);
            } else {
                // The bits of a rotation are those of two shifts, which have none in common.
                self.asm.v_shift(op::PSRL[3], T2, x, by);
                self.asm.v3(op::PXOR, T1, T1, T2);
                self.asm.v_shift(op::PSLL[3], T2, x, 64 - by);
            }
            self.asm.v3(op::PXOR, T1, T1, T2);
        }
    }

    /// `d` = exclusive-or of `x` rotated right by `c`, by `b + c` and by `a + b + c`.
    fn three_rotations(&mut self, [a, b, c]: [u8; 3], d: Gpr, x: Gpr) {
        self.asm.rorx(true, d, x, a);
        self.asm.alu(Alu::Xor, true, d, x);
        self.asm.rorx(true, d, d, b);
        self.asm.alu(Alu::Xor, true, d, x);
        self.asm.rorx(true, d, d, c);
    }

    /// `sum += half of x`; uses RDX.
    fn add_half(&mut self, sum: Gpr, x: Xmm, index: u8) {
        self.asm.v_extract(3, RDX, x, index);
        self.asm.alu(Alu::Add, true, sum, RDX);
    }

    /// Two rounds' sums with the choice function.
    fn sha512h(&mut self, n: Xmm, m: Xmm, d: Xmm) {
        const SIGMA: [u8; 3] = [23, 4, 14];
        self.asm.v_extract(3, RAX, m, 1);
        self.three_rotations(SIGMA, RCX, RAX);
        // The two sides of a choice have no bits in common, so they can be added.
        self.asm.v_extract(3, RDX, n, 1);
        self.asm.andn(true, RDX, RAX, RDX);
        self.asm.alu(Alu::Add, true, RCX, RDX);
        self.asm.v_extract(3, RDX, n, 0);
        self.asm.alu(Alu::And, true, RDX, RAX);
        self.asm.alu(Alu::Add, true, RCX, RDX);
        self.add_half(RCX, d, 1);
        self.asm.v_from_gpr(3, T0, RCX);
        self.add_half(RCX, m, 0);
        self.asm.alu(Alu::And, true, RAX, RCX);
        self.asm.v_extract(3, RDX, n, 0);
        self.asm.andn(true, RDX, RCX, RDX);
        self.asm.alu(Alu::Add, true, RAX, RDX);
        self.three_rotations(SIGMA, RDX, RCX);
        self.asm.alu(Alu::Add, true, RAX, RDX);
        self.add_half(RAX, d, 0);
    }

    /// Two rounds' sums with the majority function, of which T1 keeps a part.
    fn sha512h2(&mut self, n: Xmm, m: Xmm, d: Xmm) {
        const SIGMA: [u8; 3] = [5, 6, 28];
        self.asm.v_extract(3, RAX, m, 0);
        self.asm.v_extract(3, RCX, m, 1);
        self.asm.mov(true, RDX, RAX);
        self.asm.alu(Alu::And, true, RDX, RCX);
        self.asm.v_from_gpr(3, T1, RDX);
        self.asm.alu(Alu::Xor, true, RCX, RAX);
        // Where both agree, or else what the third has: no bits in common again.
        self.three_rotations(SIGMA, RDX, RAX);
        self.asm.v_extract(3, RAX, n, 0);
        self.asm.alu(Alu::And, true, RAX, RCX);
        self.asm.alu(Alu::Add, true, RAX, RDX);
        self.add_half(RAX, T1, 0);
        self.add_half(RAX, d, 1);
        self.asm.v_from_gpr(3, T0, RAX);
        self.asm.alu(Alu::And, true, RCX, RAX);
        self.three_rotations(SIGMA, RDX, RAX);
        self.asm.mov(true, RAX, RCX);
        self.asm.alu(Alu::Add, true, RAX, RDX);
        self.add_half(RAX, T1, 0);
        self.add_half(RAX, d, 0);
    }
}
