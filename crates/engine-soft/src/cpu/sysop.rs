//! SYS instructions: cache and TLB maintenance, address translation (Arm ARM C5.3, C5.4, C5.5).

use tearless_arm64::{SysReg, sysreg::name as r};

use super::{
    Cpu, Exception, Intent, Kind, Trap, View, id,
    phys::PAGE,
    shared::{Request, TlbScope},
    sysreg::{SCTLR_DZE, SCTLR_UCI, trap_iss},
};

/// `CRn` of TLB maintenance.
const TLBI: u16 = 8;

/// The pages that the operand of a TLBI by address names, in units of 4 KiB, and whether it is a range.
///
/// `None` when the operand names no granule: everything is to be dropped then.
fn tlbi_pages(range: bool, granule: u32, value: u64) -> Option<(u64, u64)> {
    if !range {
        let va = ((value << 20) as i64 >> 8) as u64;
        return Some((va & !((1 << granule) - 1), 1 << (granule - 12)));
    }
    let granule = match value >> 46 & 3 {
        1 => 12,
        2 => 14,
        3 => 16,
        _ => return None,
    };
    let base = ((value << 27) as i64 >> 27 << granule) as u64;
    let (num, scale) = (value >> 39 & 31, value >> 44 & 3);
    Some((base, (num + 1) << (5 * scale + 1) << (granule - 12)))
}

impl Cpu {
    /// Executes the SYS instruction `reg` with operand `value`, which is in `rt`.
    ///
    /// # Errors
    /// When it is trapped, undefined, or its address does not translate.
    pub fn system_instruction(&mut self, reg: SysReg, rt: u8, value: u64) -> Result<(), Trap> {
        if self.el() == 0 {
            self.check_user(reg, rt)?;
        }
        match reg {
            // Caches hold nothing that memory does not: cleaning is only a check of the address.
            r::DC_CVAC | r::DC_CVAU | r::DC_CVAP | r::DC_CIVAC | r::DC_IVAC => {
                self.maintained(value)?;
            }
            r::DC_ISW | r::DC_CSW | r::DC_CISW => {}
            r::DC_ZVA => self.zero_block(value)?,
            r::IC_IVAU => self.invalidate_code(value)?,
            r::IC_IALLU => self.forget(Request::AllCode),
            r::IC_IALLUIS => self.broadcast(Request::AllCode),
            r::AT_S1E1R => self.translate_for(value, self.kernel_view(false), Kind::Read),
            r::AT_S1E1W => self.translate_for(value, self.kernel_view(false), Kind::Write),
            r::AT_S1E0R => self.translate_for(value, View::User, Kind::Read),
            r::AT_S1E0W => self.translate_for(value, View::User, Kind::Write),
            r::AT_S1E1RP => self.translate_for(value, self.kernel_view(true), Kind::Read),
            r::AT_S1E1WP => self.translate_for(value, self.kernel_view(true), Kind::Write),
            _ if (reg.op1(), reg.crn()) == (0, TLBI) => return self.invalidate_tlb(reg, value),
            _ => return Err(self.undefined()),
        }
        Ok(())
    }

    /// Whether EL0 may execute `reg`.
    fn check_user(&mut self, reg: SysReg, rt: u8) -> Result<(), Trap> {
        let enable = match reg {
            r::DC_CVAC | r::DC_CVAU | r::DC_CVAP | r::DC_CIVAC | r::IC_IVAU => SCTLR_UCI,
            r::DC_ZVA => SCTLR_DZE,
            _ => return Err(self.undefined()),
        };
        if self.sys.mmu.sctlr & enable != 0 {
            return Ok(());
        }
        Err(self.raise(Exception::SysReg(trap_iss(reg, rt, false))))
    }

    /// The physical address of `va`, for cache maintenance.
    fn maintained(&mut self, va: u64) -> Result<u64, Trap> {
        match self.translate(va, self.view(), Kind::Read) {
            Ok(leaf) => Ok(leaf.pa),
            Err(fault) => Err(self.data_abort(va, fault.0, Intent::MAINTAIN)),
        }
    }

    /// DC ZVA.
    ///
    /// # Errors
    /// As a store to the block would.
    pub fn zero_block(&mut self, va: u64) -> Result<(), Trap> {
        if self.el() == 0 && self.sys.mmu.sctlr & SCTLR_DZE == 0 {
            return Err(self.raise(Exception::SysReg(trap_iss(r::DC_ZVA, 31, false))));
        }
        let block = va & !(id::ZERO_BLOCK - 1);
        self.check_write(block, id::ZERO_BLOCK)?;
        for i in 0..id::ZERO_BLOCK / 16 {
            self.store(block + i * 16, 0_u128)?;
        }
        Ok(())
    }

    /// IC IVAU.
    fn invalidate_code(&mut self, va: u64) -> Result<(), Trap> {
        let pa = self.maintained(va)?;
        // Lines are larger than this guest-visible operation needs to be exact about: the whole page is compared.
        self.broadcast(Request::Code(pa & !(PAGE - 1)));
        Ok(())
    }

    fn invalidate_tlb(&mut self, reg: SysReg, value: u64) -> Result<(), Trap> {
        let (broadcast, range) = match reg.crm() {
            1 | 3 => (true, false),
            7 => (false, false),
            2 | 5 => (true, true),
            6 => (false, true),
            _ => return Err(self.undefined()),
        };
        let asid = self.masked_asid((value >> 48) as u16);
        let granule = self.regime.half(value << 12).granule;
        let pages = |asid| match tlbi_pages(range, granule, value) {
            Some((va, pages)) => TlbScope::Pages { va, pages, asid },
            None => TlbScope::All,
        };
        let scope = match (range, reg.op2()) {
            (false, 0) => TlbScope::All,
            (false, 2) => TlbScope::Asid(asid),
            (_, 1 | 5) => pages(Some(asid)),
            (_, 3 | 7) => pages(None),
            _ => return Err(self.undefined()),
        };
        if broadcast {
            self.broadcast(Request::Tlb(scope));
        } else {
            self.forget(Request::Tlb(scope));
        }
        Ok(())
    }

    /// With 8-bit ASIDs the upper half of an operand's ASID is ignored.
    fn masked_asid(&self, asid: u16) -> u16 {
        if self.sys.mmu.tcr >> 36 & 1 != 0 { asid } else { asid & 0xff }
    }

    fn kernel_view(&self, respects_pan: bool) -> View {
        if respects_pan && self.pan() { View::KernelPan } else { View::Kernel }
    }

    /// AT: sets `PAR_EL1` (Arm ARM D24.2.123).
    fn translate_for(&mut self, va: u64, view: View, kind: Kind) {
        self.sys.par = match self.translate(va, view, kind) {
            Ok(leaf) => {
                // Device memory and Normal non-cacheable memory report as outer shareable.
                let shareability =
                    if leaf.is_device() || leaf.attributes == 0x44 { 2 } else { leaf.shareability };
                u64::from(leaf.attributes) << 56
                    | leaf.pa & 0x0000_ffff_ffff_f000
                    | 1 << 11
                    | 1 << 9
                    | u64::from(shareability) << 7
            }
            Err(fault) => 1 << 11 | u64::from(fault.0) << 1 | 1,
        };
    }
}
