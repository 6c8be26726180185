//! The whole state, read and replaced from outside.

use tearless_arm64::{SysReg, pstate, sysreg::name as r};
use tearless_engine::{Error, Result, VcpuState};

use super::{
    Cpu, Exception, SP, Stop,
    exception::PSTATE_KEPT,
    sysreg::{FPCR_WRITABLE, FPSR_WRITABLE, SysRegs, plain, sctlr},
    timer::Timers,
};

/// The system registers that a [`VcpuState`] lists, in ascending order (checked by a test).
const SAVED: &[SysReg] = &[
    point(0, 4),
    point(0, 5),
    point(0, 6),
    point(0, 7),
    point(1, 4),
    point(1, 5),
    point(1, 6),
    point(1, 7),
    r::MDCCINT_EL1,
    r::MDSCR_EL1,
    r::OSLAR_EL1,
    r::DBGCLAIMSET_EL1,
    r::SCTLR_EL1,
    r::CPACR_EL1,
    r::TTBR0_EL1,
    r::TTBR1_EL1,
    r::TCR_EL1,
    r::SPSR_EL1,
    r::ELR_EL1,
    r::AFSR0_EL1,
    r::AFSR1_EL1,
    r::ESR_EL1,
    r::FAR_EL1,
    r::PAR_EL1,
    r::MAIR_EL1,
    r::AMAIR_EL1,
    r::VBAR_EL1,
    r::CONTEXTIDR_EL1,
    r::TPIDR_EL1,
    r::CNTKCTL_EL1,
    r::CSSELR_EL1,
    r::TPIDR_EL0,
    r::TPIDRRO_EL0,
    r::CNTP_CTL_EL0,
    r::CNTP_CVAL_EL0,
    r::CNTV_CTL_EL0,
    r::CNTV_CVAL_EL0,
];

/// Of breakpoint and watchpoint `n` the register `op2`: `DBGBVRn_EL1`, `DBGBCRn_EL1`, `DBGWVRn_EL1`, `DBGWCRn_EL1`.
const fn point(n: u16, op2: u16) -> SysReg {
    SysReg::new(2, 0, 0, n, op2)
}

impl Cpu {
    /// Reads the state as it is between two instructions.
    pub fn state(&self) -> VcpuState {
        let mut sp = self.sp;
        sp[self.stack_in_use()] = self.r(SP);
        let mut x = [0; 31];
        x.copy_from_slice(&self.x[..31]);
        VcpuState {
            x,
            sp_el0: sp[0],
            sp_el1: sp[1],
            pc: self.pc,
            pstate: self.spsr(),
            v: self.v,
            fpcr: self.fpcr,
            fpsr: self.fpsr,
            sys: SAVED.iter().map(|&reg| (reg, self.saved(reg))).collect(),
        }
    }

    fn saved(&self, reg: SysReg) -> u64 {
        let mut sys = self.sys.clone();
        if let Some(value) = plain(&mut sys, reg) {
            return *value;
        }
        match reg {
            r::OSLAR_EL1 => u64::from(sys.debug.os_lock),
            // What is set reads as CLAIMCLR.
            r::DBGCLAIMSET_EL1 => sys.debug.read(r::DBGCLAIMCLR_EL1).unwrap_or(0),
            _ if reg.op0() == 2 => sys.debug.read(reg).unwrap_or(0),
            r::SCTLR_EL1 => sys.mmu.sctlr,
            r::CPACR_EL1 => sys.cpacr,
            r::TTBR0_EL1 => sys.mmu.ttbr[0],
            r::TTBR1_EL1 => sys.mmu.ttbr[1],
            r::TCR_EL1 => sys.mmu.tcr,
            r::MAIR_EL1 => sys.mmu.mair,
            // Without ISTATUS, which follows from the rest.
            r::CNTP_CTL_EL0 => self.timers.phys.control(0) & 3,
            r::CNTP_CVAL_EL0 => self.timers.phys.compare,
            r::CNTV_CTL_EL0 => self.timers.virt.control(0) & 3,
            _ => self.timers.virt.compare,
        }
    }

    /// Replaces the state.
    ///
    /// # Errors
    /// When PSTATE or a register names something that this CPU does not have; nothing changes then.
    pub fn set_state(&mut self, state: &VcpuState) -> Result<()> {
        let mode = state.pstate & (pstate::MODE | pstate::AARCH32);
        if !matches!(mode, pstate::EL0T | pstate::EL1T | pstate::EL1H) {
            return Err(Error::Unsupported(format!(
                "the software CPU has EL0 and EL1 in AArch64 only, not mode {mode:#07b}"
            )));
        }
        if let Some((reg, _)) = state.sys.iter().find(|(reg, _)| !SAVED.contains(reg)) {
            return Err(Error::Unsupported(format!("the software CPU does not keep system register {reg}")));
        }
        self.sys = SysRegs::reset();
        let reported = self.timers.reported;
        self.timers = Timers::new(self.timers.base());
        self.timers.reported = reported;
        for &(reg, value) in &state.sys {
            self.restore(reg, value);
        }
        self.x[..31].copy_from_slice(&state.x);
        self.v = state.v;
        self.nzcv = state.pstate & pstate::NZCV;
        self.fpcr = state.fpcr & FPCR_WRITABLE;
        self.fpsr = state.fpsr & FPSR_WRITABLE;
        self.pc = state.pc;
        self.pstate = state.pstate & (PSTATE_KEPT | pstate::MODE);
        self.sp = [state.sp_el0, state.sp_el1];
        self.x[usize::from(SP)] = self.sp[self.stack_in_use()];
        self.replay.clear();
        self.clear_exclusive();
        self.stop = Stop::Continue;
        self.timers_changed = true;
        self.mmu_changed();
        self.debug_changed();
        Ok(())
    }

    fn restore(&mut self, reg: SysReg, value: u64) {
        if let Some(place) = plain(&mut self.sys, reg) {
            *place = value;
            return;
        }
        let (sys, timers) = (&mut self.sys, &mut self.timers);
        match reg {
            _ if reg.op0() == 2 => _ = sys.debug.write(reg, value),
            r::SCTLR_EL1 => sys.mmu.sctlr = value & sctlr::WRITABLE | sctlr::ONES,
            r::CPACR_EL1 => sys.cpacr = value & (3 << 20),
            r::TTBR0_EL1 => sys.mmu.ttbr[0] = value,
            r::TTBR1_EL1 => sys.mmu.ttbr[1] = value,
            r::TCR_EL1 => sys.mmu.tcr = value,
            r::MAIR_EL1 => sys.mmu.mair = value,
            r::CNTP_CTL_EL0 => timers.phys.set_control(value),
            r::CNTP_CVAL_EL0 => timers.phys.compare = value,
            r::CNTV_CTL_EL0 => timers.virt.set_control(value),
            _ => timers.virt.compare = value,
        }
    }

    /// The machine answered a system register access of the instruction at `pc`.
    pub fn complete_sysreg(&mut self, rt: u8, write: bool, value: u64, handled: bool) {
        if !handled {
            self.take(Exception::Undefined);
            return;
        }
        if !write {
            self.w(rt, value);
        }
        self.pc = self.pc.wrapping_add(4);
        self.pstate &= !pstate::SS;
    }

    /// X0 to X17.
    pub fn call_registers(&mut self) -> &mut [u64; 18] {
        let (registers, _) = self.x.split_first_chunk_mut().unwrap_or_else(|| unreachable!("64 registers"));
        registers
    }

    /// Which of SP_EL0 and SP_EL1 is in use.
    pub(super) fn stack_in_use(&self) -> usize {
        usize::from(self.el() != 0 && self.pstate & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_registers_ascend() {
        assert!(SAVED.is_sorted_by(|a, b| a < b));
    }
}
