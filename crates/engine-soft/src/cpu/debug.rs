//! Self-hosted debug: software step (Arm ARM D2.12), breakpoint and watchpoint registers.
//!
//! The step state machine is *active-not-pending* while `MDSCR_EL1.SS` is set, debug exceptions are enabled from the
//! current state and PSTATE.SS is 1: one instruction runs and clears PSTATE.SS. With PSTATE.SS 0 it is
//! *active-pending*: the exception comes before the next instruction.
//!
//! Watchpoints (D2.10) cost nothing when there are none: a page with one is not entered into the TLB, so that accesses
//! to it take the slow path, which compares. Breakpoints (D2.9) make the run loop go instruction by instruction while
//! one is enabled for the current exception level; a kernel enables those of a process only while it runs.

use tearless_arm64::{SysReg, pstate, sysreg::name as r};

use super::{Cpu, Exception, Intent, Trap, View, phys::PAGE};

/// Breakpoints, and watchpoints.
pub(crate) const POINTS: usize = 2;

/// `MDSCR_EL1.SS`: software step enabled.
const MDSCR_SS: u64 = 1;
/// `MDSCR_EL1.TDCC`: EL0 may not access the debug communications channel.
const MDSCR_TDCC: u64 = 1 << 12;
/// `MDSCR_EL1.KDE`: debug exceptions from EL1 to EL1.
const MDSCR_KDE: u64 = 1 << 13;
/// `MDSCR_EL1.MDE`: breakpoint and watchpoint exceptions.
const MDSCR_MDE: u64 = 1 << 15;
/// The bits of `MDSCR_EL1` without which there are no debug exceptions, whatever is masked.
pub(crate) const MDSCR_ACTIVE: u64 = MDSCR_SS | MDSCR_KDE | MDSCR_MDE;
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

/// Whether the control register of a breakpoint or watchpoint enables it for an access by EL0 (`user`) or EL1: E, and
/// PMC or PAC. Those for other exception levels (HMC, SSC) and linked ones (LBN) never match here.
fn is_enabled(control: u64, user: bool) -> bool {
    control & 1 != 0 && control >> 13 & 7 == 0 && control >> (1 + u32::from(user)) & 1 != 0
}

/// Address bits that are not the tag.
const ADDRESS: u64 = (1 << 56) - 1;

/// The address range that watchpoint `(value, control)` covers at most: first address, length.
fn watched_range((value, control): (u64, u64)) -> (u64, u64) {
    let mask = control >> 24 & 31;
    let value = value & ADDRESS;
    if mask >= 3 { (value & !((1 << mask) - 1), 1 << mask) } else { (value & !7, 8) }
}

/// Whether watchpoint `point` covers a byte of the `size` ones at `va`.
fn watches(point: (u64, u64), va: u64, size: u64) -> bool {
    let (start, len) = watched_range(point);
    let va = va & ADDRESS;
    if va >= start + len || start >= va + size {
        return false;
    }
    // BAS selects bytes of the doubleword; with a mask it is all ones.
    len > 8 || (0..8).any(|i| point.1 >> (5 + i) & 1 != 0 && (va..va + size).contains(&(start + i)))
}

impl Cpu {
    /// Whether a watchpoint is on the page of `va`, so that accesses must be compared.
    pub(super) fn is_watched(&self, va: u64) -> bool {
        self.watching
            && self.sys.debug.watchpoints.iter().any(|&point| {
                let (start, len) = watched_range(point);
                let page = va & ADDRESS & !(PAGE - 1);
                point.1 & 1 != 0 && start < page + PAGE && page < start + len
            })
    }

    /// Compares an access with the watchpoints.
    ///
    /// # Errors
    /// The watchpoint exception.
    pub(super) fn check_watchpoints(
        &mut self,
        va: u64,
        size: u64,
        intent: Intent,
        view: View,
    ) -> Result<(), Trap> {
        if !self.watching || intent.maintenance || !self.debug_points_enabled() {
            return Ok(());
        }
        // LSC: 1 for loads, 2 for stores.
        let access = if intent.write { 2 } else { 1 };
        let hit = self.sys.debug.watchpoints.iter().any(|&point| {
            is_enabled(point.1, view == View::User) && point.1 >> 3 & access != 0 && watches(point, va, size)
        });
        if hit {
            let iss = u32::from(intent.write) << 6;
            return Err(self.raise(Exception::Watchpoint { iss, far: va }));
        }
        Ok(())
    }

    /// Whether breakpoints are enabled for the code that runs now.
    fn has_breakpoints(&self) -> bool {
        let user = self.el() == 0;
        self.debug_points_enabled() && self.sys.debug.breakpoints.iter().any(|p| is_enabled(p.1, user))
    }

    /// Whether the instruction at `pc` has a breakpoint.
    pub fn is_at_breakpoint(&self) -> bool {
        let user = self.el() == 0;
        self.debug_points_enabled()
            && self.sys.debug.breakpoints.iter().any(|&(value, control)| {
                // BT 0: unlinked address match.
                is_enabled(control, user) && control >> 20 & 15 == 0 && (value ^ self.pc) & ADDRESS & !3 == 0
            })
    }

    /// Whether instructions are to be run one by one.
    pub fn goes_singly(&self) -> bool {
        self.is_stepping() || self.has_breakpoints()
    }

    /// Whether breakpoints and watchpoints are enabled in the current state.
    fn debug_points_enabled(&self) -> bool {
        self.sys.debug.mdscr & MDSCR_MDE != 0 && self.debug_enabled_in(self.pstate)
    }

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
        let watching = self.sys.debug.watchpoints.iter().any(|p| p.1 & 1 != 0);
        if watching || self.watching {
            self.flush_tlb();
        }
        self.watching = watching;
        self.update_derived();
    }
}
