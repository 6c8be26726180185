//! System register names (Arm ARM D24).

use std::fmt;

/// A system register (or system instruction) by its encoding: `op0:op1:CRn:CRm:op2`, 16 bits, the order that MRS and
/// MSR have in bits 20:5 of the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SysReg(pub u16);

impl SysReg {
    /// The register with these five fields; a field's excess bits are dropped.
    pub const fn new(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> Self {
        Self((op0 & 3) << 14 | (op1 & 7) << 11 | (crn & 15) << 7 | (crm & 15) << 3 | (op2 & 7))
    }

    /// `op0`.
    pub const fn op0(self) -> u16 {
        self.0 >> 14
    }

    /// `op1`.
    pub const fn op1(self) -> u16 {
        self.0 >> 11 & 7
    }

    /// `CRn`.
    pub const fn crn(self) -> u16 {
        self.0 >> 7 & 15
    }

    /// `CRm`.
    pub const fn crm(self) -> u16 {
        self.0 >> 3 & 15
    }

    /// `op2`.
    pub const fn op2(self) -> u16 {
        self.0 & 7
    }
}

impl fmt::Debug for SysReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S{}_{}_C{}_C{}_{}", self.op0(), self.op1(), self.crn(), self.crm(), self.op2())
    }
}

impl fmt::Display for SysReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Registers and system instructions by name.
pub mod name {
    use super::SysReg;

    /// Main ID.
    pub const MIDR_EL1: SysReg = SysReg::new(3, 0, 0, 0, 0);
    /// Multiprocessor affinity.
    pub const MPIDR_EL1: SysReg = SysReg::new(3, 0, 0, 0, 5);
    /// Revision ID.
    pub const REVIDR_EL1: SysReg = SysReg::new(3, 0, 0, 0, 6);
    /// Processor features 0.
    pub const ID_AA64PFR0_EL1: SysReg = SysReg::new(3, 0, 0, 4, 0);
    /// Processor features 1.
    pub const ID_AA64PFR1_EL1: SysReg = SysReg::new(3, 0, 0, 4, 1);
    /// Debug features 0.
    pub const ID_AA64DFR0_EL1: SysReg = SysReg::new(3, 0, 0, 5, 0);
    /// Instruction set attributes 0.
    pub const ID_AA64ISAR0_EL1: SysReg = SysReg::new(3, 0, 0, 6, 0);
    /// Instruction set attributes 1.
    pub const ID_AA64ISAR1_EL1: SysReg = SysReg::new(3, 0, 0, 6, 1);
    /// Instruction set attributes 2.
    pub const ID_AA64ISAR2_EL1: SysReg = SysReg::new(3, 0, 0, 6, 2);
    /// Memory model features 0.
    pub const ID_AA64MMFR0_EL1: SysReg = SysReg::new(3, 0, 0, 7, 0);
    /// Memory model features 1.
    pub const ID_AA64MMFR1_EL1: SysReg = SysReg::new(3, 0, 0, 7, 1);
    /// Memory model features 2.
    pub const ID_AA64MMFR2_EL1: SysReg = SysReg::new(3, 0, 0, 7, 2);
    /// System control.
    pub const SCTLR_EL1: SysReg = SysReg::new(3, 0, 1, 0, 0);
    /// Auxiliary control.
    pub const ACTLR_EL1: SysReg = SysReg::new(3, 0, 1, 0, 1);
    /// Architectural feature access control.
    pub const CPACR_EL1: SysReg = SysReg::new(3, 0, 1, 0, 2);
    /// Translation table base 0.
    pub const TTBR0_EL1: SysReg = SysReg::new(3, 0, 2, 0, 0);
    /// Translation table base 1.
    pub const TTBR1_EL1: SysReg = SysReg::new(3, 0, 2, 0, 1);
    /// Translation control.
    pub const TCR_EL1: SysReg = SysReg::new(3, 0, 2, 0, 2);
    /// Saved program status.
    pub const SPSR_EL1: SysReg = SysReg::new(3, 0, 4, 0, 0);
    /// Exception link.
    pub const ELR_EL1: SysReg = SysReg::new(3, 0, 4, 0, 1);
    /// Stack pointer of EL0.
    pub const SP_EL0: SysReg = SysReg::new(3, 0, 4, 1, 0);
    /// Stack pointer select.
    pub const SP_SEL: SysReg = SysReg::new(3, 0, 4, 2, 0);
    /// Current exception level.
    pub const CURRENT_EL: SysReg = SysReg::new(3, 0, 4, 2, 2);
    /// Privileged access never.
    pub const PAN: SysReg = SysReg::new(3, 0, 4, 2, 3);
    /// Interrupt priority mask.
    pub const ICC_PMR_EL1: SysReg = SysReg::new(3, 0, 4, 6, 0);
    /// Auxiliary fault status 0.
    pub const AFSR0_EL1: SysReg = SysReg::new(3, 0, 5, 1, 0);
    /// Auxiliary fault status 1.
    pub const AFSR1_EL1: SysReg = SysReg::new(3, 0, 5, 1, 1);
    /// Exception syndrome.
    pub const ESR_EL1: SysReg = SysReg::new(3, 0, 5, 2, 0);
    /// Fault address.
    pub const FAR_EL1: SysReg = SysReg::new(3, 0, 6, 0, 0);
    /// Physical address, the result of AT.
    pub const PAR_EL1: SysReg = SysReg::new(3, 0, 7, 4, 0);
    /// Memory attribute indirection.
    pub const MAIR_EL1: SysReg = SysReg::new(3, 0, 10, 2, 0);
    /// Auxiliary memory attribute indirection.
    pub const AMAIR_EL1: SysReg = SysReg::new(3, 0, 10, 3, 0);
    /// Vector base address.
    pub const VBAR_EL1: SysReg = SysReg::new(3, 0, 12, 0, 0);
    /// Interrupt status.
    pub const ISR_EL1: SysReg = SysReg::new(3, 0, 12, 1, 0);
    /// Context ID.
    pub const CONTEXTIDR_EL1: SysReg = SysReg::new(3, 0, 13, 0, 1);
    /// EL1 software thread ID.
    pub const TPIDR_EL1: SysReg = SysReg::new(3, 0, 13, 0, 4);
    /// Counter-timer kernel control.
    pub const CNTKCTL_EL1: SysReg = SysReg::new(3, 0, 14, 1, 0);
    /// Current cache size ID.
    pub const CCSIDR_EL1: SysReg = SysReg::new(3, 1, 0, 0, 0);
    /// Cache level ID.
    pub const CLIDR_EL1: SysReg = SysReg::new(3, 1, 0, 0, 1);
    /// Auxiliary ID.
    pub const AIDR_EL1: SysReg = SysReg::new(3, 1, 0, 0, 7);
    /// Cache size selection.
    pub const CSSELR_EL1: SysReg = SysReg::new(3, 2, 0, 0, 0);
    /// Cache type.
    pub const CTR_EL0: SysReg = SysReg::new(3, 3, 0, 0, 1);
    /// Data cache zero ID.
    pub const DCZID_EL0: SysReg = SysReg::new(3, 3, 0, 0, 7);
    /// Condition flags.
    pub const NZCV: SysReg = SysReg::new(3, 3, 4, 2, 0);
    /// Interrupt mask bits.
    pub const DAIF: SysReg = SysReg::new(3, 3, 4, 2, 1);
    /// Data independent timing.
    pub const DIT: SysReg = SysReg::new(3, 3, 4, 2, 5);
    /// Speculative store bypass safe.
    pub const SSBS: SysReg = SysReg::new(3, 3, 4, 2, 6);
    /// Floating-point control.
    pub const FPCR: SysReg = SysReg::new(3, 3, 4, 4, 0);
    /// Floating-point status.
    pub const FPSR: SysReg = SysReg::new(3, 3, 4, 4, 1);
    /// EL0 software thread ID.
    pub const TPIDR_EL0: SysReg = SysReg::new(3, 3, 13, 0, 2);
    /// EL0 read-only software thread ID.
    pub const TPIDRRO_EL0: SysReg = SysReg::new(3, 3, 13, 0, 3);
    /// Counter-timer frequency.
    pub const CNTFRQ_EL0: SysReg = SysReg::new(3, 3, 14, 0, 0);
    /// Physical count.
    pub const CNTPCT_EL0: SysReg = SysReg::new(3, 3, 14, 0, 1);
    /// Virtual count.
    pub const CNTVCT_EL0: SysReg = SysReg::new(3, 3, 14, 0, 2);
    /// Physical timer value.
    pub const CNTP_TVAL_EL0: SysReg = SysReg::new(3, 3, 14, 2, 0);
    /// Physical timer control.
    pub const CNTP_CTL_EL0: SysReg = SysReg::new(3, 3, 14, 2, 1);
    /// Physical timer compare value.
    pub const CNTP_CVAL_EL0: SysReg = SysReg::new(3, 3, 14, 2, 2);
    /// Virtual timer value.
    pub const CNTV_TVAL_EL0: SysReg = SysReg::new(3, 3, 14, 3, 0);
    /// Virtual timer control.
    pub const CNTV_CTL_EL0: SysReg = SysReg::new(3, 3, 14, 3, 1);
    /// Virtual timer compare value.
    pub const CNTV_CVAL_EL0: SysReg = SysReg::new(3, 3, 14, 3, 2);
    /// Monitor DCC interrupt enable.
    pub const MDCCINT_EL1: SysReg = SysReg::new(2, 0, 0, 2, 0);
    /// Monitor debug system control.
    pub const MDSCR_EL1: SysReg = SysReg::new(2, 0, 0, 2, 2);
    /// OS lock data transfer, receive.
    pub const OSDTRRX_EL1: SysReg = SysReg::new(2, 0, 0, 0, 2);
    /// OS lock data transfer, transmit.
    pub const OSDTRTX_EL1: SysReg = SysReg::new(2, 0, 0, 3, 2);
    /// OS lock exception catch control.
    pub const OSECCR_EL1: SysReg = SysReg::new(2, 0, 0, 6, 2);
    /// Monitor debug ROM address.
    pub const MDRAR_EL1: SysReg = SysReg::new(2, 0, 1, 0, 0);
    /// OS lock access.
    pub const OSLAR_EL1: SysReg = SysReg::new(2, 0, 1, 0, 4);
    /// OS lock status.
    pub const OSLSR_EL1: SysReg = SysReg::new(2, 0, 1, 1, 4);
    /// OS double lock.
    pub const OSDLR_EL1: SysReg = SysReg::new(2, 0, 1, 3, 4);
    /// Debug power control.
    pub const DBGPRCR_EL1: SysReg = SysReg::new(2, 0, 1, 4, 4);
    /// Debug claim tag set.
    pub const DBGCLAIMSET_EL1: SysReg = SysReg::new(2, 0, 7, 8, 6);
    /// Debug claim tag clear.
    pub const DBGCLAIMCLR_EL1: SysReg = SysReg::new(2, 0, 7, 9, 6);
    /// Debug authentication status.
    pub const DBGAUTHSTATUS_EL1: SysReg = SysReg::new(2, 0, 7, 14, 6);
    /// Monitor DCC status.
    pub const MDCCSR_EL0: SysReg = SysReg::new(2, 3, 0, 1, 0);
    /// Instruction IC IALLUIS.
    pub const IC_IALLUIS: SysReg = SysReg::new(1, 0, 7, 1, 0);
    /// Instruction IC IALLU.
    pub const IC_IALLU: SysReg = SysReg::new(1, 0, 7, 5, 0);
    /// Instruction IC IVAU.
    pub const IC_IVAU: SysReg = SysReg::new(1, 3, 7, 5, 1);
    /// Instruction DC IVAC.
    pub const DC_IVAC: SysReg = SysReg::new(1, 0, 7, 6, 1);
    /// Instruction DC ISW.
    pub const DC_ISW: SysReg = SysReg::new(1, 0, 7, 6, 2);
    /// Instruction DC CSW.
    pub const DC_CSW: SysReg = SysReg::new(1, 0, 7, 10, 2);
    /// Instruction DC CISW.
    pub const DC_CISW: SysReg = SysReg::new(1, 0, 7, 14, 2);
    /// Instruction DC ZVA.
    pub const DC_ZVA: SysReg = SysReg::new(1, 3, 7, 4, 1);
    /// Instruction DC CVAC.
    pub const DC_CVAC: SysReg = SysReg::new(1, 3, 7, 10, 1);
    /// Instruction DC CVAU.
    pub const DC_CVAU: SysReg = SysReg::new(1, 3, 7, 11, 1);
    /// Instruction DC CVAP.
    pub const DC_CVAP: SysReg = SysReg::new(1, 3, 7, 12, 1);
    /// Instruction DC CIVAC.
    pub const DC_CIVAC: SysReg = SysReg::new(1, 3, 7, 14, 1);
    /// Instruction AT S1E1R.
    pub const AT_S1E1R: SysReg = SysReg::new(1, 0, 7, 8, 0);
    /// Instruction AT S1E1W.
    pub const AT_S1E1W: SysReg = SysReg::new(1, 0, 7, 8, 1);
    /// Instruction AT S1E0R.
    pub const AT_S1E0R: SysReg = SysReg::new(1, 0, 7, 8, 2);
    /// Instruction AT S1E0W.
    pub const AT_S1E0W: SysReg = SysReg::new(1, 0, 7, 8, 3);
    /// Instruction AT S1E1RP.
    pub const AT_S1E1RP: SysReg = SysReg::new(1, 0, 7, 9, 0);
    /// Instruction AT S1E1WP.
    pub const AT_S1E1WP: SysReg = SysReg::new(1, 0, 7, 9, 1);
}
