//! A translation regime: what its control registers say, decoded once per write instead of once per walk.

use tearless_arm64::esr::fsc;

use super::Fault;

/// `SCTLR_EL1` bits that the MMU looks at.
pub(crate) mod sctlr {
    /// Stage 1 translation enabled.
    pub const M: u64 = 1;
    /// Alignment checking of all accesses.
    pub const A: u64 = 1 << 1;
    /// Writable memory is not executable.
    pub const WXN: u64 = 1 << 19;
    /// PAN also covers memory that user code may only execute.
    pub const EPAN: u64 = 1 << 57;
}

/// Physical address bits that the CPU has: `ID_AA64MMFR0_EL1.PARange` = 0b0101.
pub(crate) const PA_BITS: u32 = 48;

/// The registers that configure a regime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registers {
    pub sctlr: u64,
    pub tcr: u64,
    pub ttbr: [u64; 2],
    pub mair: u64,
}

/// One half of the virtual address space.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Half {
    /// Address bits that are translated: 64 - TxSZ.
    pub va_bits: u32,
    /// log2 of the granule: 12, 14 or 16.
    pub granule: u32,
    /// The top byte of data addresses is ignored.
    pub tbi_data: bool,
    /// The top byte of instruction addresses is ignored.
    pub tbi_code: bool,
    /// Walks are disabled.
    pub walks_disabled: bool,
    /// EL0 has no access at all (FEAT_E0PD).
    pub no_user: bool,
    /// Hierarchical permissions are disabled.
    pub flat_permissions: bool,
    /// Base address of the first table; low bits are not cleaned.
    pub table: u64,
}

impl Half {
    /// The level at which walks start.
    pub fn start_level(&self) -> u32 {
        let stride = self.granule - 3;
        4 - (self.va_bits - self.granule).div_ceil(stride)
    }

    /// The lowest address bit that a descriptor at `level` translates.
    pub fn shift(&self, level: u32) -> u32 {
        self.granule + (self.granule - 3) * (3 - level)
    }

    /// Whether a descriptor at `level` may be a block.
    pub fn has_blocks(&self, level: u32) -> bool {
        match self.granule {
            12 => level == 1 || level == 2,
            _ => level == 2,
        }
    }
}

/// A stage 1 regime with two address ranges (EL1&0).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Regime {
    pub enabled: bool,
    /// All accesses must be aligned.
    pub checks_alignment: bool,
    pub wxn: bool,
    pub epan: bool,
    /// The access flag is set by hardware.
    pub sets_access: bool,
    /// Dirty state is managed by hardware.
    pub sets_dirty: bool,
    pub asid: u16,
    /// Output addresses have this many bits.
    pub pa_bits: u32,
    pub mair: u64,
    pub halves: [Half; 2],
}

fn bit(value: u64, n: u32) -> bool {
    value >> n & 1 != 0
}

fn half(r: &Registers, upper: bool) -> Half {
    let tcr = r.tcr;
    let (tsz, granule) = if upper {
        let granule = match tcr >> 30 & 3 {
            1 => 14,
            3 => 16,
            _ => 12,
        };
        (tcr >> 16 & 63, granule)
    } else {
        let granule = match tcr >> 14 & 3 {
            1 => 16,
            2 => 14,
            _ => 12,
        };
        (tcr & 63, granule)
    };
    let n = u32::from(upper);
    let tbi = bit(tcr, 37 + n);
    Half {
        // Sizes that are not supported behave as the nearest one that is (Arm ARM D8.2.4, constrained unpredictable).
        va_bits: 64 - (tsz as u32).clamp(16, 39),
        granule,
        tbi_data: tbi,
        tbi_code: tbi && !bit(tcr, 51 + n),
        walks_disabled: bit(tcr, if upper { 23 } else { 7 }),
        no_user: bit(tcr, 55 + n),
        flat_permissions: bit(tcr, 41 + n),
        table: r.ttbr[n as usize] & 0x0000_ffff_ffff_fffe,
    }
}

impl Regime {
    /// Decodes EL1&0.
    pub fn el1(r: &Registers) -> Self {
        let enabled = r.sctlr & sctlr::M != 0;
        let pa_bits = match r.tcr >> 32 & 7 {
            // Without translation the physical address size is the only limit.
            _ if !enabled => PA_BITS,
            0 => 32,
            1 => 36,
            2 => 40,
            3 => 42,
            4 => 44,
            _ => PA_BITS,
        };
        let asid_mask = if bit(r.tcr, 36) { 0xffff } else { 0xff };
        let asid = (r.ttbr[(r.tcr >> 22 & 1) as usize] >> 48) & asid_mask;
        let sets_access = bit(r.tcr, 39);
        Self {
            enabled,
            checks_alignment: r.sctlr & sctlr::A != 0,
            wxn: r.sctlr & sctlr::WXN != 0,
            epan: r.sctlr & sctlr::EPAN != 0,
            sets_access,
            sets_dirty: sets_access && bit(r.tcr, 40),
            asid: asid as u16,
            pa_bits,
            mair: r.mair,
            halves: [half(r, false), half(r, true)],
        }
    }

    /// The half that `va` is in.
    pub fn half(&self, va: u64) -> &Half {
        &self.halves[(va >> 55 & 1) as usize]
    }

    /// Whether `pa` fits the output size.
    pub fn checked_output(&self, pa: u64, level: u32) -> Result<u64, Fault> {
        if pa >> self.pa_bits != 0 { Err(Fault(fsc::ADDRESS_SIZE_L0 + level)) } else { Ok(pa) }
    }

    /// An address that a branch goes to, without its tag (Arm ARM, AArch64.BranchAddr).
    pub fn branch_address(&self, va: u64) -> u64 {
        let half = self.half(va);
        if half.tbi_code { ((va << 8) as i64 >> 8) as u64 } else { va }
    }
}
