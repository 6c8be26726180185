//! Bitfields and extracts.

use super::Translator;
use crate::{
    decode::{Bitfield, Insn, Reg},
    jit::asm::{Alu, RAX, RCX, RDX, Rm, Rot},
};

/// A bitfield instruction's numbers.
#[derive(Clone, Copy)]
struct Field {
    sf: bool,
    immr: u8,
    imms: u8,
}

impl Field {
    fn bits(self) -> u8 {
        if self.sf { 64 } else { 32 }
    }

    /// Length of the field.
    fn len(self) -> u8 {
        if self.imms >= self.immr { self.imms - self.immr + 1 } else { self.imms + 1 }
    }

    /// The lowest bit of the field in the source, and in the destination.
    fn places(self) -> (u8, u8) {
        if self.imms >= self.immr { (self.immr, 0) } else { (0, self.bits() - self.immr) }
    }
}

impl Translator<'_> {
    /// SBFM, BFM, UBFM, EXTR.
    pub(super) fn bits(&mut self, insn: &Insn) -> bool {
        match *insn {
            Insn::Bitfield { sf, op, rd, rn, immr, imms } => {
                self.clobber_flags();
                let field = Field { sf, immr, imms };
                match op {
                    Bitfield::Insert => self.insert(field, rd, rn),
                    _ => self.extract_field(field, op == Bitfield::Signed, rd, rn),
                }
            }
            Insn::Extract { sf, rd, rn, rm, lsb } => self.extract_pair(sf, [rd, rn, rm], lsb),
            _ => return false,
        }
        true
    }

    fn extract_pair(&mut self, sf: bool, [rd, rn, rm]: [Reg; 3], lsb: u8) {
        let (n, m) = (self.x_operand(rn), self.x_operand(rm));
        let d = self.x_dest(rd, RAX);
        if rn == rm {
            self.asm.rorx(sf, d, m, lsb);
            self.x_finish(rd, d);
            return;
        }
        self.clobber_flags();
        self.asm.mov(sf, RAX, m);
        if lsb != 0 {
            self.asm.mov(sf, RCX, n);
            self.asm.shrd(sf, RAX, RCX, lsb);
        }
        self.x_finish(rd, RAX);
    }

    fn extract_field(&mut self, field: Field, signed: bool, rd: Reg, rn: Reg) {
        let n = self.x_operand(rn);
        let d = self.x_dest(rd, RAX);
        let (from, to) = field.places();
        let (len, bits, sf) = (field.len(), field.bits(), field.sf);
        match (from, to, len, signed) {
            (0, 0, 8, false) => self.asm.movzx(0, d, n),
            (0, 0, 16, false) => self.asm.movzx(1, d, n),
            (0, 0, 32, false) => self.asm.mov(false, d, n),
            (0, 0, 8, true) => self.asm.movsx(0, sf, d, n),
            (0, 0, 16, true) => self.asm.movsx(1, sf, d, n),
            (0, 0, 32, true) => self.asm.movsx(2, sf, d, n),
            _ => {
                if n != Rm::R(d) {
                    self.asm.mov(sf, d, n);
                }
                let right = if signed { Rot::Sar } else { Rot::Shr };
                // The field to the top of the register, and down to its place.
                let up = bits - from - len;
                let down = bits - to - len;
                if up == 0 {
                    self.shift_if(right, sf, d, down);
                } else if down == 0 {
                    self.shift_if(Rot::Shl, sf, d, up);
                } else if !signed && len < 32 {
                    self.shift_if(Rot::Shr, sf, d, from);
                    self.asm.alu_imm(Alu::And, false, d, ((1_u64 << len) - 1) as i32);
                    self.shift_if(Rot::Shl, sf, d, to);
                } else {
                    self.shift_if(Rot::Shl, sf, d, up);
                    self.shift_if(right, sf, d, down);
                }
            }
        }
        self.x_finish(rd, d);
    }

    fn shift_if(&mut self, op: Rot, sf: bool, d: crate::jit::asm::Gpr, amount: u8) {
        if amount != 0 {
            self.asm.rot_imm(op, sf, d, amount);
        }
    }

    /// BFM: the field of `rn` replaces bits of `rd`.
    fn insert(&mut self, field: Field, rd: Reg, rn: Reg) {
        let (from, to) = field.places();
        let (len, sf) = (field.len(), field.sf);
        let ones = if len == 64 { u64::MAX } else { (1 << len) - 1 };
        let (n, old) = (self.x_operand(rn), self.x_operand(rd));
        self.asm.mov(sf, RAX, n);
        self.shift_if(Rot::Shr, sf, RAX, from);
        self.asm.mov_imm(RDX, ones);
        self.asm.alu(Alu::And, sf, RAX, RDX);
        self.shift_if(Rot::Shl, sf, RAX, to);
        let mask = ones << to;
        let keep = if sf { !mask } else { u64::from(!mask as u32) };
        self.asm.mov_imm(RCX, keep);
        self.asm.alu(Alu::And, sf, RCX, old);
        self.asm.alu(Alu::Or, sf, RAX, RCX);
        self.x_finish(rd, RAX);
    }
}
