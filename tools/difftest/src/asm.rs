//! A tiny A64 assembler: just the instructions that the driver program and the EL1 kernel need.
//!
//! Both programs are made by this tool at run time, so no cross compiler is needed and no binary lives in the
//! repository. Operands are plain register numbers; 31 is the zero register or SP as the instruction has it.

use std::collections::HashMap;

/// System registers by their MRS/MSR encoding `op0:op1:CRn:CRm:op2` (Arm ARM C5.2).
#[derive(Clone, Copy)]
pub struct SysReg(pub u32);

/// Makes the encoding of a system register as MRS/MSR hold it in bits 20:5.
pub const fn sysreg(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> SysReg {
    SysReg((op0 << 19) | (op1 << 16) | (crn << 12) | (crm << 8) | (op2 << 5))
}

pub const NZCV: SysReg = sysreg(3, 3, 4, 2, 0);
pub const FPCR: SysReg = sysreg(3, 3, 4, 4, 0);
pub const FPSR: SysReg = sysreg(3, 3, 4, 4, 1);
pub const TPIDR_EL0: SysReg = sysreg(3, 3, 13, 0, 2);
pub const TPIDR_EL1: SysReg = sysreg(3, 0, 13, 0, 4);
pub const ESR_EL1: SysReg = sysreg(3, 0, 5, 2, 0);
pub const FAR_EL1: SysReg = sysreg(3, 0, 6, 0, 0);
pub const ELR_EL1: SysReg = sysreg(3, 0, 4, 0, 1);
pub const SPSR_EL1: SysReg = sysreg(3, 0, 4, 0, 0);
pub const SP_EL0: SysReg = sysreg(3, 0, 4, 1, 0);
pub const VBAR_EL1: SysReg = sysreg(3, 0, 12, 0, 0);
pub const SCTLR_EL1: SysReg = sysreg(3, 0, 1, 0, 0);
pub const CPACR_EL1: SysReg = sysreg(3, 0, 1, 0, 2);
pub const TTBR0_EL1: SysReg = sysreg(3, 0, 2, 0, 0);
pub const TCR_EL1: SysReg = sysreg(3, 0, 2, 0, 2);
pub const MDSCR_EL1: SysReg = sysreg(2, 0, 0, 2, 2);
pub const MAIR_EL1: SysReg = sysreg(3, 0, 10, 2, 0);

/// A label, made by [`Asm::label`] and placed by [`Asm::bind`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label(usize);

#[derive(Clone, Copy)]
enum Fixup {
    Imm26,
    Imm19,
    Imm14,
}

/// Code under construction at a fixed address.
pub struct Asm {
    base: u64,
    words: Vec<u32>,
    labels: usize,
    places: HashMap<Label, usize>,
    fixups: Vec<(usize, Label, Fixup)>,
}

impl Asm {
    /// Starts at address `base`.
    pub fn at(base: u64) -> Self {
        Self { base, words: Vec::new(), labels: 0, places: HashMap::new(), fixups: Vec::new() }
    }

    /// Address of the next instruction.
    pub fn here(&self) -> u64 {
        self.base + 4 * self.words.len() as u64
    }

    /// A new label.
    pub fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels)
    }

    /// Places `label` here.
    pub fn bind(&mut self, label: Label) {
        self.places.insert(label, self.words.len());
    }

    /// Appends a raw instruction.
    pub fn word(&mut self, word: u32) {
        self.words.push(word);
    }

    /// Pads with UDF up to `offset` bytes from the start.
    pub fn pad_to(&mut self, offset: usize) {
        assert!(offset >= 4 * self.words.len(), "code grew over its place");
        self.words.resize(offset / 4, 0);
    }

    /// The finished bytes; every label used must have been placed.
    pub fn finish(mut self) -> Vec<u8> {
        for (at, label, kind) in &self.fixups {
            let delta = self.places[label] as i64 - *at as i64;
            self.words[*at] |= match kind {
                Fixup::Imm26 => delta as u32 & 0x03FF_FFFF,
                Fixup::Imm19 => (delta as u32 & 0x7FFFF) << 5,
                Fixup::Imm14 => (delta as u32 & 0x3FFF) << 5,
            };
        }
        self.words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    fn branch(&mut self, word: u32, label: Label, kind: Fixup) {
        self.fixups.push((self.words.len(), label, kind));
        self.word(word);
    }

    pub fn b(&mut self, to: Label) {
        self.branch(0x1400_0000, to, Fixup::Imm26);
    }

    pub fn cbz(&mut self, rt: u32, to: Label) {
        self.branch(0xB400_0000 | rt, to, Fixup::Imm19);
    }

    pub fn cbnz(&mut self, rt: u32, to: Label) {
        self.branch(0xB500_0000 | rt, to, Fixup::Imm19);
    }

    /// TBZ of one of the bits 0 to 31.
    pub fn tbz(&mut self, rt: u32, bit: u32, to: Label) {
        self.branch(0x3600_0000 | bit << 19 | rt, to, Fixup::Imm14);
    }

    pub fn br(&mut self, rn: u32) {
        self.word(0xD61F_0000 | rn << 5);
    }

    /// Loads a 64-bit constant with MOVZ and MOVK.
    pub fn mov_imm(&mut self, rd: u32, value: u64) {
        self.word(0xD280_0000 | (value as u32 & 0xFFFF) << 5 | rd);
        for hw in 1..4 {
            let part = (value >> (16 * hw)) as u32 & 0xFFFF;
            if part != 0 {
                self.word(0xF280_0000 | hw << 21 | part << 5 | rd);
            }
        }
    }

    pub fn add_imm(&mut self, rd: u32, rn: u32, imm: u32) {
        assert!(imm < 4096);
        self.word(0x9100_0000 | imm << 10 | rn << 5 | rd);
    }

    pub fn sub_imm(&mut self, rd: u32, rn: u32, imm: u32) {
        assert!(imm < 4096);
        self.word(0xD100_0000 | imm << 10 | rn << 5 | rd);
    }

    pub fn add(&mut self, rd: u32, rn: u32, rm: u32) {
        self.word(0x8B00_0000 | rm << 16 | rn << 5 | rd);
    }

    pub fn sub(&mut self, rd: u32, rn: u32, rm: u32) {
        self.word(0xCB00_0000 | rm << 16 | rn << 5 | rd);
    }

    pub fn orr(&mut self, rd: u32, rn: u32, rm: u32) {
        self.word(0xAA00_0000 | rm << 16 | rn << 5 | rd);
    }

    pub fn mul(&mut self, rd: u32, rn: u32, rm: u32) {
        self.word(0x9B00_7C00 | rm << 16 | rn << 5 | rd);
    }

    pub fn lsr(&mut self, rd: u32, rn: u32, shift: u32) {
        self.word(0xD340_FC00 | shift << 16 | rn << 5 | rd);
    }

    pub fn ldr(&mut self, rt: u32, rn: u32, offset: u32) {
        assert!(offset.is_multiple_of(8) && offset < 32768);
        self.word(0xF940_0000 | (offset / 8) << 10 | rn << 5 | rt);
    }

    pub fn str(&mut self, rt: u32, rn: u32, offset: u32) {
        assert!(offset.is_multiple_of(8) && offset < 32768);
        self.word(0xF900_0000 | (offset / 8) << 10 | rn << 5 | rt);
    }

    pub fn ldr_w(&mut self, rt: u32, rn: u32, offset: u32) {
        assert!(offset.is_multiple_of(4) && offset < 16384);
        self.word(0xB940_0000 | (offset / 4) << 10 | rn << 5 | rt);
    }

    pub fn ldp(&mut self, rt: u32, rt2: u32, rn: u32, offset: u32) {
        assert!(offset.is_multiple_of(8) && offset <= 504);
        self.word(0xA940_0000 | (offset / 8) << 15 | rt2 << 10 | rn << 5 | rt);
    }

    pub fn stp(&mut self, rt: u32, rt2: u32, rn: u32, offset: u32) {
        assert!(offset.is_multiple_of(8) && offset <= 504);
        self.word(0xA900_0000 | (offset / 8) << 15 | rt2 << 10 | rn << 5 | rt);
    }

    pub fn ldp_q(&mut self, rt: u32, rn: u32, offset: u32) {
        assert!(offset.is_multiple_of(16) && offset <= 1008);
        self.word(0xAD40_0000 | (offset / 16) << 15 | (rt + 1) << 10 | rn << 5 | rt);
    }

    pub fn stp_q(&mut self, rt: u32, rn: u32, offset: u32) {
        assert!(offset.is_multiple_of(16) && offset <= 1008);
        self.word(0xAD00_0000 | (offset / 16) << 15 | (rt + 1) << 10 | rn << 5 | rt);
    }

    /// MOV between SP and a general register.
    pub fn mov_sp(&mut self, rd: u32, rn: u32) {
        self.add_imm(rd, rn, 0);
    }

    pub fn mov(&mut self, rd: u32, rm: u32) {
        self.word(0xAA00_03E0 | rm << 16 | rd);
    }

    pub fn mrs(&mut self, rt: u32, reg: SysReg) {
        self.word(0xD520_0000 | reg.0 | rt);
    }

    pub fn msr(&mut self, reg: SysReg, rt: u32) {
        self.word(0xD500_0000 | reg.0 | rt);
    }

    pub fn svc(&mut self, imm: u32) {
        self.word(0xD400_0001 | imm << 5);
    }

    pub fn hvc(&mut self, imm: u32) {
        self.word(0xD400_0002 | imm << 5);
    }

    pub fn eret(&mut self) {
        self.word(0xD69F_03E0);
    }

    pub fn isb(&mut self) {
        self.word(0xD503_3FDF);
    }

    pub fn dsb_ish(&mut self) {
        self.word(0xD503_3B9F);
    }

    pub fn tlbi_vmalle1(&mut self) {
        self.word(0xD508_871F);
    }

    pub fn tlbi_aside1(&mut self, rt: u32) {
        self.word(0xD508_8740 | rt);
    }

    pub fn clrex(&mut self) {
        self.word(0xD503_3F5F);
    }

    pub fn dc_cvau(&mut self, rt: u32) {
        self.word(0xD50B_7B20 | rt);
    }

    pub fn ic_ivau(&mut self, rt: u32) {
        self.word(0xD50B_7520 | rt);
    }

    /// Copies `bytes` (a multiple of 64) from `[src]` to `[dst]`; changes both registers, x10 and V0-V3.
    pub fn copy_loop(&mut self, dst: u32, src: u32, bytes: u64) {
        self.mov_imm(10, bytes / 64);
        let top = self.label();
        self.bind(top);
        self.ldp_q(0, src, 0);
        self.ldp_q(2, src, 32);
        self.stp_q(0, dst, 0);
        self.stp_q(2, dst, 32);
        self.add_imm(src, src, 64);
        self.add_imm(dst, dst, 64);
        self.sub_imm(10, 10, 1);
        self.cbnz(10, top);
    }
}
