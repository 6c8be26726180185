//! System registers: MRS and MSR (Arm ARM D23, D24).
//!
//! A register belongs to an exception level by its `op1`: 3 is for EL0 too, 0 to 2 for EL1, the others for levels that
//! this CPU does not have. What is neither here nor of the identification space is the machine's: the access leaves the
//! run loop, and is UNDEFINED if the machine does not know it either.

use tearless_arm64::{SysReg, pstate, sysreg::name as r};

use super::{Cpu, Exception, Stop, Trap, id, mmu, shared::attention, timer};

/// `SCTLR_EL1` bits that this CPU implements.
pub(super) mod sctlr {
    /// EL0 may access DAIF.
    pub const UMA: u64 = 1 << 9;
    /// EL0 may use DC ZVA.
    pub const DZE: u64 = 1 << 14;
    /// EL0 may read `CTR_EL0`.
    pub const UCT: u64 = 1 << 15;
    /// EL0 may maintain caches.
    pub const UCI: u64 = 1 << 26;
    /// What has no meaning here and reads as one: AArch32 controls, FEAT_LSMAOC, FEAT_ExS, FEAT_CSV2_2.
    pub const ONES: u64 = 1 << 29 | 1 << 28 | 1 << 22 | 1 << 20 | 1 << 11 | 1 << 8 | 1 << 7;
    /// Everything that can be written: M A C SA SA0 nAA UMA I DZE UCT nTWI nTWE WXN SPAN UCI MSCEn DSSBS EPAN.
    pub const WRITABLE: u64 = 0b1_1111
        | 1 << 6
        | UMA
        | 1 << 12
        | DZE
        | UCT
        | 1 << 16
        | 1 << 18
        | 1 << 19
        | 1 << 23
        | UCI
        | 1 << 33
        | 1 << 44
        | 1 << 57;
}
pub(crate) use sctlr::{DZE as SCTLR_DZE, UCI as SCTLR_UCI, UMA as SCTLR_UMA};

/// System registers that have no place of their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct SysRegs {
    /// SCTLR, TCR, TTBR0, TTBR1 and MAIR of EL1.
    pub mmu: mmu::Registers,
    pub cpacr: u64,
    pub vbar: u64,
    pub esr: u64,
    pub far: u64,
    pub elr: u64,
    pub spsr: u64,
    pub par: u64,
    pub afsr: [u64; 2],
    pub amair: u64,
    pub contextidr: u64,
    pub tpidr_el0: u64,
    pub tpidrro_el0: u64,
    pub tpidr_el1: u64,
    pub csselr: u64,
    pub cntkctl: u64,
    pub debug: super::debug::Registers,
}

impl SysRegs {
    /// The reset values.
    pub fn reset() -> Self {
        let mmu = mmu::Registers { sctlr: sctlr::ONES, ..mmu::Registers::default() };
        Self { mmu, ..Self::default() }
    }
}

/// The registers that hold what was written to them and have no effect of their own, or one that is looked up when it
/// matters.
pub(crate) fn plain(sys: &mut SysRegs, reg: SysReg) -> Option<&mut u64> {
    Some(match reg {
        r::VBAR_EL1 => &mut sys.vbar,
        r::ESR_EL1 => &mut sys.esr,
        r::FAR_EL1 => &mut sys.far,
        r::ELR_EL1 => &mut sys.elr,
        r::SPSR_EL1 => &mut sys.spsr,
        r::PAR_EL1 => &mut sys.par,
        r::AFSR0_EL1 => &mut sys.afsr[0],
        r::AFSR1_EL1 => &mut sys.afsr[1],
        r::AMAIR_EL1 => &mut sys.amair,
        r::CONTEXTIDR_EL1 => &mut sys.contextidr,
        r::TPIDR_EL0 => &mut sys.tpidr_el0,
        r::TPIDRRO_EL0 => &mut sys.tpidrro_el0,
        r::TPIDR_EL1 => &mut sys.tpidr_el1,
        r::CSSELR_EL1 => &mut sys.csselr,
        r::CNTKCTL_EL1 => &mut sys.cntkctl,
        _ => return None,
    })
}

/// The bits of a plain register that can be written.
fn writable(reg: SysReg) -> u64 {
    match reg {
        r::VBAR_EL1 => !0x7ff,
        r::ESR_EL1 | r::AFSR0_EL1 | r::AFSR1_EL1 => 0xffff_ffff,
        r::CONTEXTIDR_EL1 => 0xffff_ffff,
        r::CSSELR_EL1 => 0xf,
        r::CNTKCTL_EL1 => 0x3ff,
        r::SPSR_EL1 => 0xffff_ffff,
        _ => u64::MAX,
    }
}

/// Bits of `CNTKCTL_EL1` that open counters and timers to EL0.
mod cntkctl {
    pub const EL0PCTEN: u64 = 1;
    pub const EL0VCTEN: u64 = 1 << 1;
    pub const EL0VTEN: u64 = 1 << 8;
    pub const EL0PTEN: u64 = 1 << 9;
}

/// The ISS of a trapped system register access (Arm ARM D24.2.40, "ISS encoding for an exception from MSR, MRS, or
/// System instruction").
pub(crate) fn trap_iss(reg: SysReg, rt: u8, read: bool) -> u32 {
    let rt = u32::from(if rt >= 31 { 31 } else { rt });
    u32::from(reg.op0()) << 20
        | u32::from(reg.op2()) << 17
        | u32::from(reg.op1()) << 14
        | u32::from(reg.crn()) << 10
        | rt << 5
        | u32::from(reg.crm()) << 1
        | u32::from(read)
}

impl Cpu {
    /// MRS of `reg` into `rt` (which matters for syndromes only).
    ///
    /// # Errors
    /// When the access is trapped, undefined, or the machine's.
    pub fn read_sysreg(&mut self, reg: SysReg, rt: u8) -> Result<u64, Trap> {
        self.check_access(reg, rt, true)?;
        if let Some(value) = id::id_register(reg) {
            return Ok(value);
        }
        if let Some(value) = plain(&mut self.sys, reg) {
            return Ok(*value);
        }
        if let Some(value) = self.read_pstate(reg)? {
            return Ok(value);
        }
        if reg.op0() == 2 {
            return match self.sys.debug.read(reg) {
                Some(value) => Ok(value),
                None => Err(self.undefined()),
            };
        }
        let now = || self.timers.now();
        Ok(match reg {
            r::SCTLR_EL1 => self.sys.mmu.sctlr,
            r::TCR_EL1 => self.sys.mmu.tcr,
            r::TTBR0_EL1 => self.sys.mmu.ttbr[0],
            r::TTBR1_EL1 => self.sys.mmu.ttbr[1],
            r::MAIR_EL1 => self.sys.mmu.mair,
            r::ACTLR_EL1 => 0,
            r::CPACR_EL1 => self.sys.cpacr,
            r::MPIDR_EL1 => id::mpidr(self.index),
            r::CCSIDR_EL1 => id::cache_size(self.sys.csselr),
            r::DCZID_EL0 => {
                let prohibited = self.el() == 0 && self.sys.mmu.sctlr & sctlr::DZE == 0;
                u64::from(id::ZERO_BLOCK.ilog2() - 2) | u64::from(prohibited) << 4
            }
            r::ISR_EL1 => u64::from(self.irq) << 7,
            r::CNTFRQ_EL0 => timer::FREQUENCY,
            r::CNTPCT_EL0 | r::CNTVCT_EL0 => now(),
            r::CNTV_TVAL_EL0 => self.timers.virt.value(now()),
            r::CNTV_CTL_EL0 => self.timers.virt.control(now()),
            r::CNTV_CVAL_EL0 => self.timers.virt.compare,
            r::CNTP_TVAL_EL0 => self.timers.phys.value(now()),
            r::CNTP_CTL_EL0 => self.timers.phys.control(now()),
            r::CNTP_CVAL_EL0 => self.timers.phys.compare,
            _ => return Err(self.ask_machine(reg, rt, None)),
        })
    }

    /// MSR of `value`, which is in `rt`, to `reg`.
    ///
    /// # Errors
    /// As [`Cpu::read_sysreg`].
    pub fn write_sysreg(&mut self, reg: SysReg, rt: u8, value: u64) -> Result<(), Trap> {
        self.check_access(reg, rt, false)?;
        if let Some(place) = plain(&mut self.sys, reg) {
            *place = value & writable(reg);
            return Ok(());
        }
        if self.write_pstate(reg, value)? {
            return Ok(());
        }
        if reg.op0() == 2 {
            if !self.sys.debug.write(reg, value) {
                return Err(self.undefined());
            }
            self.debug_changed();
            return Ok(());
        }
        match reg {
            r::SCTLR_EL1 | r::TCR_EL1 | r::TTBR0_EL1 | r::TTBR1_EL1 | r::MAIR_EL1 => {
                self.write_translation_control(reg, value);
                return Ok(());
            }
            r::ACTLR_EL1 => return Ok(()),
            r::CPACR_EL1 => {
                self.sys.cpacr = value & (3 << 20);
                self.update_derived();
                return Ok(());
            }
            r::CNTFRQ_EL0 => return Err(self.undefined()),
            _ if id::id_register(reg).is_some() => return Err(self.undefined()),
            _ => {}
        }
        let now = self.timers.now();
        match reg {
            r::CNTV_TVAL_EL0 => self.timers.virt.set_value(value, now),
            r::CNTV_CTL_EL0 => self.timers.virt.set_control(value),
            r::CNTV_CVAL_EL0 => self.timers.virt.compare = value,
            r::CNTP_TVAL_EL0 => self.timers.phys.set_value(value, now),
            r::CNTP_CTL_EL0 => self.timers.phys.set_control(value),
            r::CNTP_CVAL_EL0 => self.timers.phys.compare = value,
            _ => return Err(self.ask_machine(reg, rt, Some(value))),
        }
        self.timers_changed = true;
        self.mailbox.raise(attention::SELF);
        Ok(())
    }

    /// Registers that configure translation.
    fn write_translation_control(&mut self, reg: SysReg, value: u64) {
        let old = self.sys.mmu;
        let m = &mut self.sys.mmu;
        match reg {
            r::SCTLR_EL1 => m.sctlr = value & sctlr::WRITABLE | sctlr::ONES,
            r::TCR_EL1 => m.tcr = value,
            r::TTBR0_EL1 => m.ttbr[0] = value,
            r::TTBR1_EL1 => m.ttbr[1] = value,
            _ => m.mair = value,
        }
        if *m == old {
            return;
        }
        if m.ttbr != old.ttbr {
            self.tables_changed();
        } else {
            self.mmu_changed();
        }
    }

    /// TTBR0 or TTBR1 changed: other banks, and nothing to flush, since TLB entries are tagged with the ASID.
    fn tables_changed(&mut self) {
        let regime = mmu::Regime::el1(&self.sys.mmu);
        if regime.asid != self.regime.asid {
            self.switch_banks();
        }
        self.regime = regime;
        self.select_banks();
    }

    /// Registers changed that TLB entries are not tagged with.
    pub fn mmu_changed(&mut self) {
        self.regime = mmu::Regime::el1(&self.sys.mmu);
        self.switch_banks();
        self.flush_tlb();
        self.update_derived();
    }

    /// The registers that are fields of PSTATE, the stack pointer of EL0, and those of floating point.
    fn read_pstate(&mut self, reg: SysReg) -> Result<Option<u64>, Trap> {
        let field = |mask: u32| Ok(Some(u64::from(self.pstate & mask)));
        match reg {
            r::CURRENT_EL => Ok(Some(u64::from(self.el() << 2))),
            r::SP_SEL => field(1),
            r::PAN => field(pstate::PAN),
            r::DIT => field(pstate::DIT),
            r::SSBS => field(pstate::SSBS),
            r::DAIF => field(pstate::DAIF),
            r::NZCV => Ok(Some(u64::from(self.nzcv))),
            r::SP_EL0 => {
                if self.pstate & 1 == 0 {
                    return Err(self.undefined());
                }
                Ok(Some(self.sp[0]))
            }
            r::FPCR | r::FPSR => {
                self.fp_check()?;
                Ok(Some(u64::from(if reg == r::FPCR { self.fpcr } else { self.fpsr })))
            }
            _ => Ok(None),
        }
    }

    /// As [`Cpu::read_pstate`]; whether `reg` is one of them.
    fn write_pstate(&mut self, reg: SysReg, value: u64) -> Result<bool, Trap> {
        let mask = match reg {
            r::SP_SEL => 1,
            r::PAN => pstate::PAN,
            r::DIT => pstate::DIT,
            r::SSBS => pstate::SSBS,
            r::DAIF => pstate::DAIF,
            r::NZCV => {
                self.nzcv = value as u32 & pstate::NZCV;
                return Ok(true);
            }
            r::CURRENT_EL => return Err(self.undefined()),
            r::SP_EL0 => {
                if self.pstate & 1 == 0 {
                    return Err(self.undefined());
                }
                self.sp[0] = value;
                return Ok(true);
            }
            r::FPCR => {
                self.fp_check()?;
                self.fpcr = value as u32 & FPCR_WRITABLE;
                return Ok(true);
            }
            r::FPSR => {
                self.fp_check()?;
                self.fpsr = value as u32 & FPSR_WRITABLE;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        self.change_pstate(mask, value as u32 & mask);
        Ok(true)
    }

    /// Replaces the bits `mask` of PSTATE.
    pub fn change_pstate(&mut self, mask: u32, bits: u32) {
        let new = self.pstate & !mask | bits;
        if mask & !(pstate::DAIF | pstate::DIT | pstate::SSBS) != 0 {
            self.set_mode(new);
            return;
        }
        // Nothing that memory accesses depend on; kernels unmask interrupts all the time.
        self.pstate = new;
        if self.wants_attention() {
            self.mailbox.raise(attention::SELF);
        }
    }

    /// Whether the current exception level may access `reg`.
    fn check_access(&mut self, reg: SysReg, rt: u8, read: bool) -> Result<(), Trap> {
        let kernel = self.el() != 0;
        match reg.op1() {
            3 if !kernel => {}
            0..=3 if kernel => return Ok(()),
            _ => return Err(self.undefined()),
        }
        let open = |mask| self.sys.cntkctl & mask != 0;
        let permitted = match reg {
            r::CTR_EL0 => self.sys.mmu.sctlr & sctlr::UCT != 0,
            r::DAIF => self.sys.mmu.sctlr & sctlr::UMA != 0,
            r::CNTFRQ_EL0 => open(cntkctl::EL0PCTEN | cntkctl::EL0VCTEN),
            r::CNTPCT_EL0 => open(cntkctl::EL0PCTEN),
            r::CNTVCT_EL0 => open(cntkctl::EL0VCTEN),
            r::CNTV_TVAL_EL0 | r::CNTV_CTL_EL0 | r::CNTV_CVAL_EL0 => open(cntkctl::EL0VTEN),
            r::CNTP_TVAL_EL0 | r::CNTP_CTL_EL0 | r::CNTP_CVAL_EL0 => open(cntkctl::EL0PTEN),
            r::MDCCSR_EL0 => self.sys.debug.open_to_user(),
            r::NZCV | r::DIT | r::SSBS | r::FPCR | r::FPSR | r::TPIDR_EL0 | r::DCZID_EL0 => true,
            r::TPIDRRO_EL0 if read => true,
            _ => return Err(self.undefined()),
        };
        if permitted { Ok(()) } else { Err(self.raise(Exception::SysReg(trap_iss(reg, rt, read)))) }
    }

    #[cold]
    fn ask_machine(&mut self, reg: SysReg, rt: u8, write: Option<u64>) -> Trap {
        if self.el() == 0 {
            return self.undefined();
        }
        self.stop = Stop::SysReg { reg, rt, write };
        Trap
    }
}

/// AHP, DN, FZ, RMode, FZ16; the trap enables are not implemented and read as zero.
pub(crate) const FPCR_WRITABLE: u32 = 1 << 26 | 1 << 25 | 1 << 24 | 3 << 22 | 1 << 19;
/// QC and the cumulative exception flags.
pub(crate) const FPSR_WRITABLE: u32 = 1 << 27 | 0x9f;
