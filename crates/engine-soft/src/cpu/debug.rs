//! Self-hosted debug: software step (Arm ARM D2.12), breakpoint and watchpoint registers.
//!
//! The step state machine is *active-not-pending* while `MDSCR_EL1.SS` is set, debug exceptions are enabled from the
//! current state and PSTATE.SS is 1: one instruction runs and clears PSTATE.SS. With PSTATE.SS 0 it is
//! *active-pending*: the exception comes before the next instruction.

use tearless_arm64::{SysReg, pstate, sysreg::name as r};

use super::Cpu;

/// Breakpoints, and watchpoints.
pub(crate) const POINTS: usize = 2;

/// `MDSCR_EL1.SS`: software step enabled.
const MDSCR_SS: u64 = 1;
/// `MDSCR_EL1.TDCC`: EL0 may not access the debug communications channel.
const MDSCR_TDCC: u64 = 1 << 12;
/// `MDSCR_EL1.KDE`: debug exceptions from EL1 to EL1.
const MDSCR_KDE: u64 = 1 << 13;
/// What of `MDSCR_EL1` can be written: SS, ERR, TDCC, KDE, HDE, MDE and the bits that only hold values.
const MDSCR_WRITABLE: u64 = 0x0_6c68_f041;

/// The debug registers.
#[derive(Clone, Debug)]
pub(crate) struct Registers {
    pub mdscr: u64,
    /// The OS lock, set at reset; debug exceptions wait for the kernel to open it.
    pub os_lock: bool,
    claim: u64,
    /// Value and control of breakpoints.
    pub breakpoints: [(u64, u64); POINTS],
    /// Value and control of watchpoints.
    pub watchpoints: [(u64, u64); POINTS],
    mdccint: u64,
}

impl Default for Registers {
    fn default() -> Self {
        Self {
            mdscr: 0,
            os_lock: true,
            claim: 0,
            breakpoints: [(0, 0); POINTS],
            watchpoints: [(0, 0); POINTS],
            mdccint: 0,
        }
    }
}

impl Registers {
    /// The value or control register `reg` of a breakpoint or watchpoint.
    fn point(&mut self, reg: SysReg) -> Option<&mut u64> {
        if (reg.op1(), reg.crn()) != (0, 0) {
            return None;
        }
        let n = usize::from(reg.crm());
        match reg.op2() {
            4 => self.breakpoints.get_mut(n).map(|p| &mut p.0),
            5 => self.breakpoints.get_mut(n).map(|p| &mut p.1),
            6 => self.watchpoints.get_mut(n).map(|p| &mut p.0),
            7 => self.watchpoints.get_mut(n).map(|p| &mut p.1),
            _ => None,
        }
    }

    /// MRS; `None` when there is no such register.
    pub fn read(&mut self, reg: SysReg) -> Option<u64> {
        if let Some(point) = self.point(reg) {
            return Some(*point);
        }
        Some(match reg {
            r::MDSCR_EL1 => self.mdscr,
            r::MDCCINT_EL1 => self.mdccint,
            // OSLM says that the lock exists.
            r::OSLSR_EL1 => 1 << 3 | u64::from(self.os_lock) << 1,
            r::DBGCLAIMSET_EL1 => 0xff,
            r::DBGCLAIMCLR_EL1 => self.claim,
            // No external debug and no debug communications channel.
            r::OSDTRRX_EL1
            | r::OSDTRTX_EL1
            | r::OSECCR_EL1
            | r::OSDLR_EL1
            | r::MDRAR_EL1
            | r::DBGPRCR_EL1
            | r::DBGAUTHSTATUS_EL1
            | r::MDCCSR_EL0 => 0,
            _ => return None,
        })
    }

    /// MSR; whether there is such a register.
    pub fn write(&mut self, reg: SysReg, value: u64) -> bool {
        if let Some(point) = self.point(reg) {
            *point = value;
            return true;
        }
        match reg {
            r::MDSCR_EL1 => self.mdscr = value & MDSCR_WRITABLE,
            r::MDCCINT_EL1 => self.mdccint = value & (3 << 29),
            r::OSLAR_EL1 => self.os_lock = value & 1 != 0,
            r::DBGCLAIMSET_EL1 => self.claim |= value & 0xff,
            r::DBGCLAIMCLR_EL1 => self.claim &= !value,
            r::OSDTRRX_EL1 | r::OSDTRTX_EL1 | r::OSECCR_EL1 | r::OSDLR_EL1 | r::DBGPRCR_EL1 => {}
            _ => return false,
        }
        true
    }

    /// Whether EL0 may use the debug communications channel.
    pub fn open_to_user(&self) -> bool {
        self.mdscr & MDSCR_TDCC == 0
    }
}

impl Cpu {
    /// Whether debug exceptions are enabled in PSTATE `state` (Arm ARM D2.4, AArch64.GenerateDebugExceptions).
    fn debug_enabled_in(&self, state: u32) -> bool {
        let kernel = state & (pstate::MODE & !1) != 0;
        !self.sys.debug.os_lock
            && (!kernel || (self.sys.debug.mdscr & MDSCR_KDE != 0 && state & pstate::D == 0))
    }

    /// Whether the step state machine is active in the current state.
    pub fn is_stepping(&self) -> bool {
        self.sys.debug.mdscr & MDSCR_SS != 0 && self.debug_enabled_in(self.pstate)
    }

    /// Whether ERET to `new` takes PSTATE.SS from the SPSR: only from a state where debug exceptions are disabled to
    /// one where they are enabled (Arm ARM D2.12.4).
    pub fn step_is_armed_for(&self, new: u32) -> bool {
        self.sys.debug.mdscr & MDSCR_SS != 0
            && !self.debug_enabled_in(self.pstate)
            && self.debug_enabled_in(new)
    }

    /// A debug register was written.
    pub fn debug_changed(&mut self) {
        self.update_derived();
    }
}
