//! Floating point, Advanced SIMD and cryptography in the host's vector instructions.
//!
//! Results are those of the interpreter, bit by bit, in registers and in FPSR: the host runs with FPCR's default modes (a
//! guard in front of the block's first such instruction sees to that) and collects the exception flags in MXCSR. What
//! the host does differently is left to the interpreter at run time, upon a check: operations that give a NaN (the
//! choice among NaNs and the sign of the default one differ), conversions out of range, saturation that FPSR.QC is to
//! note. A check comes before anything of the guest has changed. One difference stays: the host detects tininess after
//! rounding, so FPSR.UFC is not set when a result is rounded up to the smallest normal number.
//!
//! Whatever lies above a scalar or a half vector in its register is zero afterwards.

mod compare;
pub(in crate::jit) mod consts;
mod convert;
mod crypto;
mod float;
mod integer;
mod long;
mod memory;
mod permute;
mod sha512;
mod shift;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use super::Translator;
use crate::{
    cpu::offset,
    decode::{
        Reg,
        simd::{SimdInsn, Source},
    },
    fp::fpsr,
    jit::{
        asm::{Alu, Cc, RAX},
        asm_simd::{Xmm, XmmM, op},
        state::field,
    },
};
use consts::K;

/// Vector registers that are free in every instruction.
const T0: Xmm = Xmm(13);
const T1: Xmm = Xmm(14);
const T2: Xmm = Xmm(15);

/// Whether a register is one of these, so that nobody needs its value beyond an instruction.
const fn is_temporary(x: Xmm) -> bool {
    x.0 >= T0.0
}

/// What the host has beyond AVX2, FMA and F16C, without which there is no JIT.
#[derive(Clone, Copy, Debug)]
struct Features {
    aes: bool,
    clmul: bool,
    sha: bool,
    gfni: bool,
    /// AVX-512 F, VL, BW, DQ and CD.
    avx512: bool,
}

static FEATURES: LazyLock<Features> = LazyLock::new(|| {
    use std::arch::is_x86_feature_detected as has;
    Features {
        aes: has!("aes"),
        clmul: has!("pclmulqdq"),
        sha: has!("sha"),
        gfni: has!("gfni"),
        avx512: has!("avx512f")
            && has!("avx512vl")
            && has!("avx512bw")
            && has!("avx512dq")
            && has!("avx512cd"),
    }
});

/// Bytes of a full or half vector, as a binary logarithm.
const fn width(full: bool) -> u8 {
    3 + full as u8
}

impl Translator<'_> {
    /// Translates `insn`; false, with the guest's state as it was, when that is left to the interpreter.
    pub(super) fn simd(&mut self, insn: &SimdInsn) -> bool {
        self.simd_integer(insn) || self.simd_move(insn) || self.simd_float(insn) || self.simd_other(insn)
    }

    fn simd_integer(&mut self, insn: &SimdInsn) -> bool {
        use SimdInsn as I;
        match *insn {
            I::Unary { op, shape, rd, rn } => self.unary(op, shape, rd, rn),
            I::Binary { op, shape, rd, rn, rm } => self.binary(op, shape, [rd, rn], rm),
            I::Bitwise { op, full, rd, rn, rm } => self.bitwise(op, full, [rd, rn, rm]),
            I::PairLong { op, shape, rd, rn } => self.pair_long(op, shape, rd, rn),
            I::Long { op, size, high, scalar: false, rd, rn, rm } => self.long(op, size, high, [rd, rn], rm),
            I::Narrow { op, size, high, scalar: false, rd, rn } => self.narrow(op, size, high, [rd, rn]),
            I::Shift { op, shape, amount, rd, rn } => self.shift(op, shape, amount, [rd, rn]),
            I::ShiftNarrow { op, size, high, scalar: false, amount, rd, rn } => {
                self.shift_narrow(op, size, high, amount, [rd, rn])
            }
            I::ShiftLong { signed, size, high, amount, rd, rn } => {
                let n = self.v_read(rn);
                let d = self.v_write(rd);
                self.extend(signed, size, high, d, n);
                if amount != 0 {
                    self.asm.v_shift(op::PSLL[usize::from(size) + 1], d, d, amount);
                }
                true
            }
            I::Across { op, shape, rd, rn } => self.across(op, shape, rd, rn),
            I::Dot { signed, full, rd, rn, rm } => self.dot(signed, full, [rd, rn], rm),
            _ => false,
        }
    }

    fn simd_move(&mut self, insn: &SimdInsn) -> bool {
        use SimdInsn as I;
        match *insn {
            I::DupElement { shape, index, rd, rn } => self.dup_element(shape, index, rd, rn),
            I::DupGeneral { shape, rd, rn } => self.dup_general(shape, rd, rn),
            I::InsertElement { size, to, from, rd, rn } => self.insert_element(size, [to, from], rd, rn),
            I::InsertGeneral { size, to, rd, rn } => self.insert_general(size, to, rd, rn),
            I::MoveTop { rd, rn } => self.insert_general(3, 1, rd, rn),
            I::ToGeneral { size, signed, sf, index, rd, rn } => {
                self.move_to_general(size, signed.then_some(sf), index, [rd, rn])
            }
            I::MoveToGeneral { size, index, rd, rn } => self.move_to_general(size, None, index, [rd, rn]),
            I::MoveFromGeneral { size, rd, rn } => self.move_from_general(size, rd, rn),
            I::Table { full, count, keep, rd, rn, rm } => self.table(full, count, keep, [rd, rn, rm]),
            I::Permute { op, shape, rd, rn, rm } => self.permute(op, shape, [rd, rn, rm]),
            I::Extract { full, at, rd, rn, rm } => self.extract(full, at, [rd, rn, rm]),
            I::Immediate { op, full, value, rd } => self.immediate(op, full, value, rd),
            _ => false,
        }
    }

    fn simd_float(&mut self, insn: &SimdInsn) -> bool {
        use SimdInsn as I;
        if !self.source.is_fp_default() {
            return false;
        }
        match *insn {
            I::FpUnary { op, shape, rd, rn } => self.fp_unary(op, shape, rd, rn),
            I::FpBinary { op, shape, rd, rn, rm } => self.fp_binary(op, shape, [rd, rn], rm),
            I::FpPair { op, shape, rd, rn, rm } => self.fp_pair(op, shape, [rd, rn, rm]),
            I::FpAcross { op, shape, rd, rn } => self.fp_across(op, shape, rd, rn),
            I::FpMulAdd { subtract, shape, rd, rn, rm } => self.fp_mul_add(subtract, shape, [rd, rn], rm),
            I::FpFused { size, negate_product, negate_addend, rd, rn, rm, ra } => {
                self.fp_fused(size, [negate_product, negate_addend], [rd, rn, rm, ra])
            }
            I::FpToFixed { to, mode, shape, rd, rn } => self.fp_to_fixed(to, mode, shape, [rd, rn]),
            I::FixedToFp { from, shape, rd, rn } => self.fixed_to_fp(from, shape, rd, rn),
            I::FpToGeneral { to, mode, size, sf, rd, rn } => self.fp_to_general(to, mode, [size, rd, rn], sf),
            I::GeneralToFp { from, size, sf, rd, rn } => self.general_to_fp(from, size, sf, [rd, rn]),
            I::FpLengthen { size, high, rd, rn } => self.fp_lengthen(size, high, rd, rn),
            I::FpShorten { size, high, odd: false, scalar: false, rd, rn } => {
                self.fp_shorten(size, high, rd, rn)
            }
            I::FpConvert { from, to, rd, rn } => self.fp_convert(from, to, rd, rn),
            I::FpCompare { size, signal, rn, rm } => self.fp_compare(size, signal, rn, rm),
            I::FpCondCompare { size, signal, rn, rm, cond, nzcv } => {
                self.fp_cond_compare(size, signal, [rn, rm], cond, nzcv)
            }
            I::FpCondSelect { size, rd, rn, rm, cond } => self.fp_cond_select(size, [rd, rn, rm], cond),
            _ => false,
        }
    }

    fn simd_other(&mut self, insn: &SimdInsn) -> bool {
        use SimdInsn as I;
        match *insn {
            I::Aes { op, rd, rn } => self.aes(op, rd, rn),
            I::Sha { op, rd, rn, rm } => self.sha(op, [rd, rn, rm]),
            I::Eor3 { rd, rn, rm, ra } => self.eor3(rd, [rn, rm, ra]),
            I::Bcax { rd, rn, rm, ra } => self.bcax(rd, [rn, rm, ra]),
            I::Xar { rotate, rd, rn, rm } => self.xar(rotate, [rd, rn, rm]),
            I::Multiple { how, full, registers } => self.structure_multiple(how, full, registers),
            I::Single { how, index } => self.structure_single(how, index),
            I::Replicate { how, full } => self.structure_replicate(how, full),
            _ => false,
        }
    }

    /// A constant as an operand.
    fn k(&self, k: K) -> XmmM {
        self.k_after(k, 0)
    }

    /// The constant `n` places behind another one.
    fn k_after(&self, k: K, n: u8) -> XmmM {
        XmmM::At(self.thunks.constants + (k as u64 + u64::from(n)) * 16)
    }

    /// `d` = the low 1 << `width` bytes of `s`, the rest zero.
    fn cut(&mut self, width: u8, d: Xmm, s: Xmm) {
        match width {
            4 if is_temporary(s) => self.asm.v_take(d, s),
            4 => self.asm.v_move(d, s),
            3 => self.asm.v2(op::MOVQ, d, s),
            2 => self.asm.v3i(op::INSERTPS, d, s, s, 0x0e),
            _ => {
                self.asm.v_shift(op::PSLLDQ, d, s, 16 - (1 << width));
                self.asm.v_shift(op::PSRLDQ, d, d, 16 - (1 << width));
            }
        }
    }

    /// The result of an instruction for `rd` is the low 1 << `width` bytes of `s`.
    fn finish(&mut self, width: u8, rd: Reg, s: Xmm) {
        let d = self.v_write(rd);
        self.cut(width, d, s);
        self.v_is_narrow(rd, width);
    }

    /// The result of an instruction for `rd` is `s`, in which all beyond 1 << `width` bytes is zero already.
    fn finish_narrow(&mut self, width: u8, rd: Reg, s: Xmm) {
        let d = self.v_write(rd);
        self.cut(4, d, s);
        self.v_is_narrow(rd, width);
    }

    /// The result of a narrowing instruction is the low half of [`T0`], whose upper half is zero: `rd`'s upper half with
    /// `high`, else all of it.
    fn finish_half(&mut self, high: bool, rd: Reg) {
        if high {
            let d = self.v_modify(rd);
            self.asm.v3(op::PUNPCKLQDQ, d, d, T0);
        } else {
            self.finish(4, rd, T0);
        }
    }

    /// As one or the other, by whether it is known to be `narrow`.
    fn finish_if(&mut self, narrow: bool, width: u8, rd: Reg, s: Xmm) {
        if narrow { self.finish_narrow(width, rd, s) } else { self.finish(width, rd, s) }
    }

    /// Where to compute the result of an instruction while the interpreter may still be asked to execute it: the
    /// register of `rd`, unless the instruction reads that.
    fn target(&mut self, rd: Reg, sources: &[Reg]) -> Xmm {
        if sources.contains(&rd) { T0 } else { self.v_write(rd) }
    }

    /// All lanes of `d` = element `index` of `s`.
    fn splat(&mut self, size: u8, d: Xmm, s: Xmm, index: u8) {
        match (size, index) {
            (3, _) => self.asm.v2i(op::PSHUFD, d, s, if index == 0 { 0x44 } else { 0xee }),
            (2, 1..) => self.asm.v2i(op::PSHUFD, d, s, index * 0x55),
            (_, 0) => self.asm.v2(op::PBROADCAST[usize::from(size)], d, s),
            _ => {
                self.asm.v_shift(op::PSRLDQ, d, s, index << size);
                self.asm.v2(op::PBROADCAST[usize::from(size)], d, d);
            }
        }
    }

    /// The second operand of an instruction on elements of `size`; an element of it for all lanes is put into `tmp`.
    fn second(&mut self, size: u8, rm: Source, tmp: Xmm) -> Xmm {
        let m = self.v_read(rm.reg);
        match rm.index {
            None => m,
            Some(index) => {
                self.splat(size, tmp, m, index);
                tmp
            }
        }
    }

    /// As [`Translator::second`], where it is needed once.
    fn second_operand(&mut self, size: u8, rm: Source, tmp: Xmm) -> XmmM {
        match rm.index {
            None => self.v_operand(rm.reg),
            Some(_) => XmmM::R(self.second(size, rm, tmp)),
        }
    }

    /// Has the interpreter execute the instruction if any bit of `x` is set among the lowest `lanes` bytes' top bits.
    /// Destroys the host's flags, which are saved already.
    fn interpret_if_any(&mut self, x: Xmm, bytes: u8) {
        self.asm.v_mask(op::PMOVMSKB, RAX, x);
        match bytes {
            16 => self.asm.test(false, RAX, RAX),
            _ => self.asm.test_imm(false, RAX, (1 << bytes) - 1),
        }
        self.interpret_if(Cc::Ne);
    }

    /// Sets FPSR.QC if `x` is not zero.
    fn note_saturation(&mut self, x: Xmm) {
        self.asm.v2(op::PTEST, x, x);
        let none = self.asm.jcc_short(Cc::E);
        self.asm.alu_imm(Alu::Or, false, field(offset::FPSR), fpsr::QC as i32);
        self.asm.bind_short(none);
    }
}
