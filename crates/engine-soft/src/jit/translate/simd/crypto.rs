//! AES, SHA and the three-way bitwise operations.

use super::{FEATURES, K, T0, T1, T2, Translator};
use crate::{
    decode::{
        Reg,
        simd::{Aes, Sha},
    },
    jit::asm_simd::{Xmm, op},
};

/// What SHA256RNDS2 reads without being told: the words of the schedule.
const X0: Xmm = Xmm(0);

/// Instructions that others are combined with.
const AESMC: u32 = 0x4e28_6800;
const AESIMC: u32 = 0x4e28_7800;
const SHA256H2: u32 = 0x5e00_5000;
const ORR: u32 = 0x4ea0_1c00;

impl Translator<'_> {
    pub(super) fn aes(&mut self, op: Aes, rd: Reg, rn: Reg) -> bool {
        if !FEATURES.aes {
            return false;
        }
        match op {
            Aes::Aese | Aes::Aesd => {
                let n = self.v_operand(rn);
                let d = self.v_modify(rd);
                self.asm.v_zero(T0);
                self.asm.v3(op::PXOR, d, d, n);
                // With the columns mixed, which usually follows, it is one instruction of the host too.
                let (mix, round, last) = match op {
                    Aes::Aese => (AESMC, op::AESENC, op::AESENCLAST),
                    _ => (AESIMC, op::AESDEC, op::AESDECLAST),
                };
                let mixes = self.next_is(mix | u32::from(rd) << 5 | u32::from(rd));
                self.asm.v3(if mixes { round } else { last }, d, d, T0);
                if mixes {
                    self.skip();
                }
            }
            Aes::Aesmc => {
                let n = self.v_read(rn);
                let d = self.v_write(rd);
                // The first undoes what the second does before it mixes columns.
                self.asm.v_zero(T0);
                self.asm.v3(op::AESDECLAST, T1, n, T0);
                self.asm.v3(op::AESENC, d, T1, T0);
            }
            Aes::Aesimc => {
                let n = self.v_read(rn);
                let d = self.v_write(rd);
                self.asm.v2(op::AESIMC, d, n);
            }
        }
        true
    }

    pub(super) fn sha(&mut self, op: Sha, [rd, rn, rm]: [Reg; 3]) -> bool {
        match op {
            Sha::Sha256h | Sha::Sha256h2 if FEATURES.sha => {
                self.sha256_rounds(op == Sha::Sha256h2, [rd, rn, rm]);
            }
            Sha::Sha256su0 if FEATURES.sha => {
                let (n, d) = (self.v_read(rn), self.v_modify(rd));
                self.asm.sha(op::SHA256MSG1, d, n);
            }
            Sha::Sha256su1 if FEATURES.sha => {
                let (n, m, d) = (self.v_read(rn), self.v_read(rm), self.v_modify(rd));
                self.asm.v3i(op::PALIGNR, T0, m, n, 4);
                self.asm.v3(op::PADD[2], T0, T0, d);
                self.asm.sha(op::SHA256MSG2, T0, m);
                self.finish(4, rd, T0);
            }
            Sha::Sha1c | Sha::Sha1p | Sha::Sha1m if FEATURES.sha => self.sha1_rounds(op, [rd, rn, rm]),
            Sha::Sha1h => {
                let n = self.v_read(rn);
                self.rotate_left(30, T0, n);
                self.finish(2, rd, T0);
            }
            Sha::Sha1su0 => {
                let (n, m, d) = (self.v_read(rn), self.v_read(rm), self.v_modify(rd));
                self.asm.v3i(op::PALIGNR, T0, n, d, 8);
                self.asm.v3(op::PXOR, T0, T0, d);
                self.asm.v3(op::PXOR, d, T0, m);
            }
            Sha::Sha1su1 => {
                let (n, d) = (self.v_read(rn), self.v_modify(rd));
                self.asm.v_shift(op::PSRLDQ, T0, n, 4);
                self.asm.v3(op::PXOR, T2, d, T0);
                self.rotate_left(1, T0, T2);
                self.asm.v_shift(op::PSLLDQ, T2, T2, 12);
                self.asm.v_move(d, T0);
                self.rotate_left(2, T0, T2);
                self.asm.v3(op::PXOR, d, d, T0);
            }
            Sha::Rax1 => {
                let (n, m) = (self.v_read(rn), self.v_read(rm));
                self.asm.v_shift(op::PSLL[3], T0, m, 1);
                self.asm.v_shift(op::PSRL[3], T1, m, 63);
                self.asm.v3(op::POR, T0, T0, T1);
                let d = self.v_write(rd);
                self.asm.v3(op::PXOR, d, n, T0);
            }
            _ => return self.sha512(op, [rd, rn, rm]),
        }
        true
    }

    /// `d` = words of `n`, rotated; uses T1.
    fn rotate_left(&mut self, by: u8, d: Xmm, n: Xmm) {
        if FEATURES.avx512 {
            return self.asm.e_shift(op::PROL, false, d, n, by);
        }
        self.asm.v_shift(op::PSRL[2], T1, n, 32 - by);
        self.asm.v_shift(op::PSLL[2], d, n, by);
        self.asm.v3(op::POR, d, d, T1);
    }

    /// SHA256H and SHA256H2: four rounds, of which either gives half of the result. The host does two at a time, with
    /// the eight words grouped as ABEF and CDGH.
    fn sha256_rounds(&mut self, second: bool, [rd, rn, rm]: [Reg; 3]) {
        let (n, m, d) = (self.v_read(rn), self.v_read(rm), self.v_modify(rd));
        let (abcd, efgh) = if second { (n, d) } else { (d, n) };
        self.asm.v3i(op::SHUFPS, T0, efgh, abcd, 0xbb);
        self.asm.v3i(op::SHUFPS, T1, efgh, abcd, 0x11);
        // XMM0 holds some V register, perhaps one of these; what it shall hold is read first.
        self.asm.v_move(T2, X0);
        self.asm.v_move(X0, m);
        let schedule = if m == X0 { T2 } else { m };
        self.asm.sha(op::SHA256RNDS2, T0, T1);
        self.asm.v2i(op::PSHUFD, X0, schedule, 0x0e);
        self.asm.sha(op::SHA256RNDS2, T1, T0);
        self.asm.v_move(X0, T2);
        // T1 is ABEF, T0 is CDGH.
        self.asm.v3i(op::SHUFPS, d, T1, T0, if second { 0x11 } else { 0xbb });
        if !second && self.other_half_follows([rd, rn, rm]) {
            let efgh = self.v_write(rn);
            self.asm.v3i(op::SHUFPS, efgh, T1, T0, 0x11);
            self.skip();
        }
    }

    /// Whether this SHA256H is followed by the SHA256H2 of the same rounds, with a copy of `rd` that was made right
    /// before.
    fn other_half_follows(&self, [rd, rn, rm]: [Reg; 3]) -> bool {
        let Some(before) = self.index.checked_sub(1) else { return false };
        let (d, n, m) = (u32::from(rd), u32::from(rn), u32::from(rm));
        // MOV of a vector is ORR with itself.
        let copy = self.words[before];
        let is_copy = copy & !31 == ORR | d << 16 | d << 5;
        is_copy
            && copy & 31 != n
            && copy & 31 != d
            && rd != rn
            && rd != rm
            && self.next_is(SHA256H2 | m << 16 | (copy & 31) << 5 | n)
    }

    /// Whether the next instruction of the block is this one.
    fn next_is(&self, word: u32) -> bool {
        self.words.get(self.index + 1) == Some(&word)
    }

    /// The next instruction is translated already. What side paths the current one has (an exception, if any) are its.
    fn skip(&mut self) {
        self.finish_deopts();
        self.index += 1;
    }

    /// Four rounds of SHA-1. The host has the words the other way round, and adds the constant by itself.
    fn sha1_rounds(&mut self, op: Sha, [rd, rn, rm]: [Reg; 3]) {
        let (n, m, d) = (self.v_read(rn), self.v_read(rm), self.v_modify(rd));
        let function = match op {
            Sha::Sha1c => 0,
            Sha::Sha1p => 1,
            _ => 2,
        };
        let constant = self.k_after(K::Sha1K0, function);
        self.asm.v3(op::PSUB[2], T0, m, constant);
        // E goes with the first word.
        self.cut(2, T1, n);
        self.asm.v3(op::PADD[2], T0, T0, T1);
        self.asm.v2i(op::PSHUFD, T0, T0, 0x1b);
        self.asm.v2i(op::PSHUFD, T1, d, 0x1b);
        self.asm.sha1rnds4(T1, T0, function);
        self.asm.v2i(op::PSHUFD, d, T1, 0x1b);
    }

    pub(super) fn eor3(&mut self, rd: Reg, [rn, rm, ra]: [Reg; 3]) -> bool {
        let (n, m, a) = (self.v_read(rn), self.v_operand(rm), self.v_operand(ra));
        self.asm.v3(op::PXOR, T0, n, m);
        let d = self.v_write(rd);
        self.asm.v3(op::PXOR, d, T0, a);
        true
    }

    pub(super) fn bcax(&mut self, rd: Reg, [rn, rm, ra]: [Reg; 3]) -> bool {
        let (n, m, a) = (self.v_read(rn), self.v_read(rm), self.v_read(ra));
        self.asm.v3(op::PANDN, T0, a, m);
        let d = self.v_write(rd);
        self.asm.v3(op::PXOR, d, n, T0);
        true
    }

    pub(super) fn xar(&mut self, rotate: u8, [rd, rn, rm]: [Reg; 3]) -> bool {
        let (n, m) = (self.v_read(rn), self.v_read(rm));
        self.asm.v3(op::PXOR, T0, n, m);
        if FEATURES.avx512 {
            let d = self.v_write(rd);
            self.asm.e_shift(op::PROR, true, d, T0, rotate);
            return true;
        }
        self.asm.v_shift(op::PSRL[3], T1, T0, rotate);
        self.asm.v_shift(op::PSLL[3], T0, T0, 64 - rotate);
        let d = self.v_write(rd);
        self.asm.v3(op::POR, d, T0, T1);
        true
    }
}
