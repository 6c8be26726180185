//! Barriers, and the system registers that are hot.

use super::Translator;
use crate::{
    cpu::offset,
    decode::{Barrier, Insn, PstateField, Reg},
    jit::{
        asm::{Alu, RAX, RDX, Rm, Rot},
        state::{FLAGS_MASK, field, slot, x},
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
            Insn::Mrs { reg, rt } => self.mrs(reg, rt),
            Insn::Msr { reg, rt } => self.msr(reg, rt),
            _ => false,
        }
    }

    fn mrs(&mut self, reg: SysReg, rt: Reg) -> bool {
        if reg == r::NZCV {
            self.save_flags_now();
            self.clobber_flags();
            self.asm.mov(false, RAX, x(slot::FLAGS));
            self.asm.mov_imm(RDX, u64::from(FLAGS_MASK));
            self.asm.pext(false, RAX, RAX, RDX);
            self.asm.rot_imm(Rot::Shl, false, RAX, 28);
            self.x_finish(rt, RAX);
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
                _ => {}
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
            self.asm.rot_imm(Rot::Shr, false, RAX, 28);
            self.asm.mov_imm(RDX, u64::from(FLAGS_MASK));
            self.asm.pdep(false, RAX, RAX, RDX);
            self.set_flags_image();
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
        _ => None,
    }
}
