//! Exceptions: entry to EL1 with exact syndromes, and ERET (Arm ARM D1.3).

use tearless_arm64::{
    esr::{self, ec},
    pstate,
};

use super::{Cpu, Stop, Trap};

/// An exception to take to EL1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exception {
    /// UNDEFINED, and whatever has no syndrome of its own.
    Undefined,
    /// SVC with its immediate; returns to the next instruction.
    Svc(u16),
    /// BRK with its immediate.
    Brk(u16),
    /// Floating point or Advanced SIMD while `CPACR_EL1` disables it.
    FpAccess,
    /// A trapped system register access, with its ISS.
    SysReg(u32),
    /// WFI or WFE at EL0 while `SCTLR_EL1` traps it, with its ISS.
    Wfx(u32),
    /// A data access failed.
    DataAbort { iss: u32, far: u64 },
    /// An instruction fetch failed.
    InstructionAbort { iss: u32, far: u64 },
    /// A branch to an address that is not a multiple of 4.
    PcAlignment { far: u64 },
    /// A memory access with a misaligned SP as its base.
    SpAlignment,
    /// A memory copy or set found registers that it cannot have left, with its ISS.
    MemoryCopySet(u32),
    /// An instruction executed with PSTATE.IL set.
    IllegalState,
    /// A software step; the ISS says whether the syndrome is valid and whether a load-exclusive was stepped.
    Step(u32),
    /// A hardware breakpoint.
    Breakpoint,
    /// A hardware watchpoint, with its ISS and the address.
    Watchpoint { iss: u32, far: u64 },
}

/// Offsets in the vector table.
mod vector {
    pub const SYNC: u64 = 0;
    pub const IRQ: u64 = 0x80;
    pub const FROM_SP_EL0: u64 = 0;
    pub const FROM_SP_ELX: u64 = 0x200;
    pub const FROM_LOWER: u64 = 0x400;
}

/// Exception classes come in pairs, "from a lower EL" and, one above, "from the same EL".
fn paired(lower: u32, from_el: u32) -> u32 {
    lower + u32::from(from_el != 0)
}

impl Exception {
    /// Exception class, ISS and, if it has one, the value of `FAR_EL1`.
    fn syndrome(self, from_el: u32) -> (u32, u32, Option<u64>) {
        match self {
            Self::Undefined => (ec::UNKNOWN, 0, None),
            Self::Svc(imm) => (ec::SVC64, u32::from(imm), None),
            Self::Brk(imm) => (ec::BRK64, u32::from(imm), None),
            // CV set, COND AL.
            Self::FpAccess => (ec::FP_ACCESS, 1 << 24 | 0xe << 20, None),
            Self::SysReg(iss) => (ec::SYSREG, iss, None),
            Self::Wfx(iss) => (ec::WFX, 1 << 24 | 0xe << 20 | iss, None),
            Self::DataAbort { iss, far } => (paired(ec::DABT_LOWER, from_el), iss, Some(far)),
            Self::InstructionAbort { iss, far } => (paired(ec::IABT_LOWER, from_el), iss, Some(far)),
            Self::PcAlignment { far } => (ec::PC_ALIGN, 0, Some(far)),
            Self::SpAlignment => (ec::SP_ALIGN, 0, None),
            Self::MemoryCopySet(iss) => (ec::MOPS, iss, None),
            Self::IllegalState => (ec::ILLEGAL_STATE, 0, None),
            Self::Step(iss) => (paired(ec::STEP_LOWER, from_el), iss | 0x22, None),
            Self::Breakpoint => (paired(ec::BREAKPOINT_LOWER, from_el), 0x22, None),
            Self::Watchpoint { iss, far } => (paired(ec::WATCHPOINT_LOWER, from_el), iss | 0x22, Some(far)),
        }
    }
}

impl Cpu {
    /// Stops the instruction with an exception.
    #[cold]
    pub fn raise(&mut self, exception: Exception) -> Trap {
        self.stop = Stop::Exception(exception);
        Trap
    }

    /// Stops the instruction as UNDEFINED.
    #[cold]
    pub fn undefined(&mut self) -> Trap {
        self.raise(Exception::Undefined)
    }

    /// The head of every floating-point and Advanced SIMD handler.
    ///
    /// # Errors
    /// When `CPACR_EL1` disables them here.
    #[inline(always)]
    pub fn fp_check(&mut self) -> Result<(), Trap> {
        if self.fp_enabled { Ok(()) } else { Err(self.raise(Exception::FpAccess)) }
    }

    /// The head of loads and stores whose base is SP (register index [`super::SP`]).
    ///
    /// # Errors
    /// When SP is misaligned and `SCTLR_EL1.SA` or `SA0` says to check it.
    #[inline(always)]
    pub fn sp_check(&mut self) -> Result<(), Trap> {
        if self.sp_is_aligned() { Ok(()) } else { Err(self.raise(Exception::SpAlignment)) }
    }

    /// Whether [`Cpu::sp_check`] has nothing to say.
    #[inline(always)]
    pub fn sp_is_aligned(&self) -> bool {
        self.x[usize::from(super::SP)] & self.sp_mask == 0
    }

    /// Takes `exception`; `self.pc` is the address of the instruction. Returns the address of the vector.
    pub fn take(&mut self, exception: Exception) -> u64 {
        let (class, iss, far) = exception.syndrome(self.el());
        // These have no 16-bit instruction to describe, and IL is set for all of them (Arm ARM D24.2.40).
        let esr = u64::from(class) << esr::EC_SHIFT | esr::IL | u64::from(iss);
        let returns_to = match exception {
            Exception::Svc(_) => self.pc.wrapping_add(4),
            _ => self.pc,
        };
        self.sys.esr = esr;
        if let Some(far) = far {
            self.sys.far = far;
        }
        self.enter(returns_to, vector::SYNC)
    }

    /// Takes an IRQ before the instruction at `self.pc`.
    pub fn take_irq(&mut self) -> u64 {
        self.enter(self.pc, vector::IRQ)
    }

    fn enter(&mut self, returns_to: u64, kind: u64) -> u64 {
        let from = match (self.el(), self.pstate & 1) {
            (0, _) => vector::FROM_LOWER,
            (_, 0) => vector::FROM_SP_EL0,
            _ => vector::FROM_SP_ELX,
        };
        self.sys.spsr = u64::from(self.spsr());
        self.sys.elr = returns_to;
        let mut new = pstate::EL1H | pstate::DAIF | self.pstate & (pstate::PAN | pstate::DIT);
        if self.sys.mmu.sctlr & SCTLR_SPAN == 0 {
            new |= pstate::PAN;
        }
        if self.sys.mmu.sctlr & SCTLR_DSSBS != 0 {
            new |= pstate::SSBS;
        }
        self.set_mode(new);
        self.pc = self.sys.vbar.wrapping_add(from + kind);
        self.pc
    }

    /// The current PSTATE in the layout of `SPSR_EL1`.
    pub fn spsr(&self) -> u32 {
        self.nzcv & pstate::NZCV | self.pstate
    }

    /// ERET: the address to go on at.
    ///
    /// # Errors
    /// UNDEFINED at EL0.
    pub fn eret(&mut self) -> Result<u64, Trap> {
        if self.el() == 0 {
            return Err(self.undefined());
        }
        self.clear_exclusive();
        let spsr = self.sys.spsr as u32;
        let target = self.sys.elr;
        let mode = spsr & (pstate::MODE | pstate::AARCH32);
        let mut new = spsr & PSTATE_KEPT;
        if matches!(mode, pstate::EL0T | pstate::EL1T | pstate::EL1H) {
            new |= mode;
        } else {
            // An illegal return keeps the exception level and stack pointer and sets IL (Arm ARM D1.3.5).
            new |= self.pstate & pstate::MODE | pstate::IL;
        }
        if !self.step_is_armed_for(new) {
            new &= !pstate::SS;
        }
        self.nzcv = spsr & pstate::NZCV;
        self.set_mode(new);
        self.pc = target;
        Ok(target)
    }

    /// Replaces PSTATE (but for NZCV) and what depends on it.
    pub fn set_mode(&mut self, new: u32) {
        let sp = usize::from(super::SP);
        let old_stack = self.stack_in_use();
        self.pstate = new;
        let new_stack = self.stack_in_use();
        if old_stack != new_stack {
            self.sp[old_stack] = self.x[sp];
            self.x[sp] = self.sp[new_stack];
        }
        self.update_derived();
    }

    /// Brings what depends on PSTATE and on control registers up to date.
    pub fn update_derived(&mut self) {
        let el = self.el();
        self.fp_enabled = match self.sys.cpacr >> 20 & 3 {
            3 => true,
            1 => el != 0,
            _ => false,
        };
        let checked = self.sys.mmu.sctlr & if el == 0 { SCTLR_SA0 } else { SCTLR_SA } != 0;
        self.sp_mask = if checked { 15 } else { 0 };
        self.select_banks();
        if self.wants_attention() {
            self.mailbox.raise(super::shared::attention::SELF);
        }
    }

    /// Whether the run loop must look at this vCPU before the next instruction.
    pub fn wants_attention(&self) -> bool {
        (self.irq && self.pstate & pstate::I == 0) || self.pstate & pstate::IL != 0 || self.goes_singly()
    }
}

/// Bits of PSTATE that an SPSR holds and this CPU has, without NZCV and the mode.
pub(super) const PSTATE_KEPT: u32 =
    pstate::DAIF | pstate::PAN | pstate::DIT | pstate::SSBS | pstate::SS | pstate::IL;

/// `SCTLR_EL1.SA`: SP alignment check at EL1.
const SCTLR_SA: u64 = 1 << 3;
/// `SCTLR_EL1.SA0`: SP alignment check at EL0.
const SCTLR_SA0: u64 = 1 << 4;
/// `SCTLR_EL1.SPAN`: PAN is left alone on exception entry.
const SCTLR_SPAN: u64 = 1 << 23;
/// `SCTLR_EL1.DSSBS`: the value of SSBS on exception entry.
const SCTLR_DSSBS: u64 = 1 << 44;
