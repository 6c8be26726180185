//! Barriers, and the system registers that are hot.

use super::{Translator, memory::Tag};
use crate::{
    cpu::{MDSCR_ACTIVE, SCTLR_DZE, ZERO_BLOCK, id_register, offset},
    decode::{Barrier, Insn, PstateField, Reg},
    jit::{
        asm::{Alu, Cc, RAX, RDX, Rm},
        asm_simd::Xmm,
        state::{field, of_flags_image, to_flags_image},
    },
};
use tearless_arm64::{SysReg, pstate, sysreg::name as r};

/// Whether the interpreter goes on elsewhere than behind `insn`, even if that is where it goes on.
pub(super) fn never_falls_through(insn: &Insn) -> bool {
    matches!(
        insn,
        Insn::Undefined
            | Insn::Call { .. }
            | Insn::Eret
            | Insn::Wfi
            | Insn::Wfe
            | Insn::Isb
            | Insn::Barrier { kind: Barrier::Synchronisation, .. }
    )
}

/// Whether `insn` may read FPSR, or compute with the host's floating point.
pub(super) fn is_float(insn: &Insn) -> bool {
    let is_status = |reg| matches!(reg, r::FPSR | r::FPCR);
    match *insn {
        Insn::Simd(_) => true,
        Insn::Mrs { reg, .. } | Insn::Msr { reg, .. } => is_status(reg),
        _ => false,
    }
}

impl Translator<'_> {
    /// System instructions with a translation; false for others.
    pub(super) fn system(&mut self, insn: &Insn) -> bool {
        match *insn {
            Insn::Barrier { kind: Barrier::Memory, crm } => {
                // The host orders all but stores with later loads.
                if crm & 3 != 1 && crm & 3 != 2 {
                    self.clobber_flags();
                    self.asm.full_barrier();
                }
                true
            }
            Insn::MsrImm { field: PstateField::DaifSet, imm } if self.source.el() != 0 => {
                self.clobber_flags();
                let mask = u32::from(imm) << 6 & pstate::DAIF;
                self.asm.alu_imm(Alu::Or, false, field(offset::PSTATE), mask as i32);
                true
            }
            Insn::MsrImm { field: PstateField::DaifClr, imm } if self.source.el() != 0 && imm & 8 == 0 => {
                self.clobber_flags();
                self.interpret_if_interrupted();
                let mask = u32::from(imm) << 6 & pstate::DAIF;
                self.asm.alu_imm(Alu::And, false, field(offset::PSTATE), !mask as i32);
                true
            }
            Insn::MsrImm { field: PstateField::Dit, imm } => self.set_pstate(pstate::DIT, imm),
            Insn::MsrImm { field: PstateField::Ssbs, imm } => self.set_pstate(pstate::SSBS, imm),
            Insn::Sys { reg: r::DC_ZVA, rt } => {
                self.zero_block(rt);
                true
            }
            Insn::Mrs { reg, rt } => self.mrs(reg, rt),
            Insn::Msr { reg, rt } => self.msr(reg, rt),
            _ => false,
        }
    }

    /// A bit of PSTATE that nothing in this CPU depends on.
    fn set_pstate(&mut self, bit: u32, imm: u8) -> bool {
        self.clobber_flags();
        let (op, bits) = if imm & 1 != 0 { (Alu::Or, bit) } else { (Alu::And, !bit) };
        self.asm.alu_imm(op, false, field(offset::PSTATE), bits as i32);
        true
    }

    /// An interrupt that waits is taken when it is unmasked, which is the interpreter's work.
    fn interpret_if_interrupted(&mut self) {
        self.asm.cmp8_imm(field(offset::IRQ), 0);
        self.interpret_if(Cc::Ne);
    }

    /// DC ZVA.
    fn zero_block(&mut self, rt: Reg) {
        self.clobber_flags();
        if self.source.el() == 0 {
            self.asm.test_imm(false, field(offset::SCTLR), SCTLR_DZE as i32);
            self.interpret_if(Cc::E);
        }
        let operand = self.x_operand(rt);
        self.asm.mov(true, RAX, operand);
        self.asm.alu_imm(Alu::And, true, RAX, -(ZERO_BLOCK as i32));
        let at = self.check(RAX, ZERO_BLOCK as i32, Tag::Write);
        let zero = Xmm(13);
        self.asm.v_zero(zero);
        for i in 0..ZERO_BLOCK as i32 / 16 {
            self.asm.vmovups_store(at.plus(i * 16), zero);
        }
    }

    /// MSR DAIF at EL1.
    fn write_masks(&mut self, rt: Reg) {
        self.clobber_flags();
        self.interpret_if_interrupted();
        // Whether debug exceptions are masked matters.
        self.asm.test_imm(false, field(offset::MDSCR), MDSCR_ACTIVE as i32);
        self.interpret_if(Cc::Ne);
        let operand = self.x_operand(rt);
        self.asm.mov(false, RAX, operand);
        self.asm.alu_imm(Alu::And, false, RAX, pstate::DAIF as i32);
        self.asm.mov(false, RDX, field(offset::PSTATE));
        self.asm.alu_imm(Alu::And, false, RDX, !pstate::DAIF as i32);
        self.asm.alu(Alu::Or, false, RAX, RDX);
        self.asm.store(2, field(offset::PSTATE), RAX);
    }

    fn mrs(&mut self, reg: SysReg, rt: Reg) -> bool {
        if reg == r::NZCV {
            self.save_flags_now();
            self.clobber_flags();
            of_flags_image(self.asm, RAX);
            self.x_finish(rt, RAX);
            return true;
        }
        if reg == r::DCZID_EL0 {
            if self.source.el() == 0 {
                // Else zeroing is prohibited there.
                self.clobber_flags();
                self.asm.test_imm(false, field(offset::SCTLR), SCTLR_DZE as i32);
                self.interpret_if(Cc::E);
            }
            self.x_set(rt, u64::from(ZERO_BLOCK.ilog2() - 2));
            return true;
        }
        if self.source.el() != 0 {
            match reg {
                r::DAIF => {
                    self.clobber_flags();
                    self.asm.mov(false, RAX, field(offset::PSTATE));
                    self.asm.alu_imm(Alu::And, false, RAX, pstate::DAIF as i32);
                    self.x_finish(rt, RAX);
                    return true;
                }
                r::SP_EL0 => {
                    self.clobber_flags();
                    self.interpret_unless_own_stack();
                    self.read_field(offset::SP_EL0, rt);
                    return true;
                }
                r::CURRENT_EL => {
                    self.x_set(rt, u64::from(self.source.el()) << 2);
                    return true;
                }
                _ => {}
            }
            if let Some(value) = id_register(reg) {
                self.x_set(rt, value);
                return true;
            }
        }
        let Some(at) = plain(reg, self.source.el(), false) else { return false };
        self.read_field(at, rt);
        true
    }

    fn read_field(&mut self, at: usize, rt: Reg) {
        let d = self.x_dest(rt, RAX);
        self.asm.mov(true, d, field(at));
        self.x_finish(rt, d);
    }

    fn msr(&mut self, reg: SysReg, rt: Reg) -> bool {
        if reg == r::NZCV {
            self.begin(true);
            let t = self.x_operand(rt);
            self.asm.mov(false, RAX, t);
            to_flags_image(self.asm, RAX);
            self.set_flags_image();
            return true;
        }
        if reg == r::DAIF && self.source.el() != 0 {
            self.write_masks(rt);
            return true;
        }
        if reg == r::SPSR_EL1 && self.source.el() != 0 {
            let operand = self.x_operand(rt);
            self.asm.mov(false, RAX, operand);
            self.asm.store(3, field(offset::SPSR), RAX);
            return true;
        }
        let own_stack = reg == r::SP_EL0 && self.source.el() != 0;
        if own_stack {
            self.clobber_flags();
            self.interpret_unless_own_stack();
        }
        let at = if own_stack { Some(offset::SP_EL0) } else { plain(reg, self.source.el(), true) };
        let Some(at) = at else { return false };
        let t = match self.x_operand(rt) {
            Rm::R(host) => host,
            memory => {
                self.asm.mov(true, RAX, memory);
                RAX
            }
        };
        self.asm.store(3, field(at), t);
        true
    }
}

/// Where a register is that does nothing but hold 64 bits, if `el` may access it without a trap.
fn plain(reg: SysReg, el: u8, write: bool) -> Option<usize> {
    match reg {
        r::TPIDR_EL0 => Some(offset::TPIDR_EL0),
        r::TPIDRRO_EL0 if el != 0 || !write => Some(offset::TPIDRRO_EL0),
        _ if el == 0 => None,
        r::TPIDR_EL1 => Some(offset::TPIDR_EL1),
        r::ELR_EL1 => Some(offset::ELR),
        r::FAR_EL1 => Some(offset::FAR),
        // Not all bits of these can be written.
        r::SPSR_EL1 if !write => Some(offset::SPSR),
        r::ESR_EL1 if !write => Some(offset::ESR),
        // These have effects when they are written.
        r::SCTLR_EL1 if !write => Some(offset::SCTLR),
        r::TCR_EL1 if !write => Some(offset::TCR),
        r::TTBR0_EL1 if !write => Some(offset::TTBR0),
        r::TTBR1_EL1 if !write => Some(offset::TTBR1),
        r::MAIR_EL1 if !write => Some(offset::MAIR),
        r::VBAR_EL1 if !write => Some(offset::VBAR),
        r::CPACR_EL1 if !write => Some(offset::CPACR),
        r::CONTEXTIDR_EL1 if !write => Some(offset::CONTEXTIDR),
        r::PAR_EL1 => Some(offset::PAR),
        _ => None,
    }
}
