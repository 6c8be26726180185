//! The CPU model: what the identification registers say, and why.
//!
//! A field that is not named is zero: the feature is absent, or the register is reserved and reads as zero. Each feature
//! here is one that the decoder and the CPU implement, no more and no less.

use tearless_arm64::{SysReg, sysreg::name as r};

/// `CTR_EL0.IminLine` as a number of bytes. Larger than real caches have: maintaining a line costs about the same at
/// any size, and guests loop over lines.
pub(crate) const CODE_LINE: u64 = 2048;
/// Block size of DC ZVA in bytes.
pub(crate) const ZERO_BLOCK: u64 = 64;

/// One field: the lowest bit, the value.
type Field = (u32, u64);

const PFR0: &[Field] = &[
    (0, 1),  // EL0: AArch64 only
    (4, 1),  // EL1: AArch64 only
    (16, 1), // FP: with half precision
    (20, 1), // AdvSIMD: with half precision
    (24, 1), // GIC: CPU interface by system registers
    (48, 1), // DIT
    (56, 1), // CSV2: no speculation on foreign branch history; spares the guest its Spectre mitigations
    (60, 1), // CSV3: no speculation across privilege; spares the guest KPTI
];

const PFR1: &[Field] = &[
    (4, 2), // SSBS: PSTATE.SSBS, with MSR and MRS
];

const DFR0: &[Field] = &[
    (0, 8),    // DebugVer: Armv8.2 debug
    (12, 1),   // BRPs: 2 breakpoints, the architectural minimum
    (20, 1),   // WRPs: 2 watchpoints
    (36, 0xf), // DoubleLock: none
];

const ISAR0: &[Field] = &[
    (4, 2),  // AES, with PMULL
    (8, 1),  // SHA1
    (12, 2), // SHA2: SHA-256 and SHA-512
    (16, 1), // CRC32
    (20, 2), // Atomic: LSE
    (28, 1), // RDM
    (32, 1), // SHA3
    (44, 1), // DP: dot product
    (48, 1), // FHM: FMLAL and FMLSL
    (52, 2), // TS: FlagM and FlagM2
    (56, 2), // TLB: outer shareable and range invalidation
];

const ISAR1: &[Field] = &[
    (0, 1),  // DPB: DC CVAP
    (12, 1), // JSCVT
    (16, 1), // FCMA
    (20, 2), // LRCPC: with unscaled offsets
    (32, 1), // FRINTTS
    (36, 1), // SB
];

const ISAR2: &[Field] = &[
    (16, 1), // MOPS: memory copy and set
];

const MMFR0: &[Field] = &[
    (0, 5),  // PARange: 48 bits
    (4, 2),  // ASIDBits: 16
    (20, 1), // TGran16: 16 KiB granule; 4 KiB and 64 KiB are encoded as zero
];

const MMFR1: &[Field] = &[
    (0, 2),  // HAFDBS: access flag and dirty state
    (12, 1), // HPDS: hierarchical permissions can be disabled
    (20, 3), // PAN: with AT S1E1RP and EPAN
    (60, 1), // ECBHB: branch history is not exploitable; spares the guest clearing loops
];

const MMFR2: &[Field] = &[
    (0, 1),  // CnP
    (48, 1), // TTL
    (52, 2), // BBM: changes of block size need no break-before-make, since the TLB holds 4 KiB pieces only
    (60, 1), // E0PD: spares the guest KPTI even with KASLR
];

/// `CTR_EL0`: DIC 0 (code must be invalidated), IDC 1 (data need not be cleaned for it), PIPT, 64-byte data lines,
/// exclusives granule and write-back granule.
const CTR: &[Field] =
    &[(0, CODE_LINE.ilog2() as u64 - 2), (14, 3), (16, 4), (20, 4), (24, 4), (28, 1), (31, 1)];

/// `CLIDR_EL1`: separate first level caches, a unified second level which is the point of coherency. With IDC there is
/// nothing to do for the point of unification.
const CLIDR: &[Field] = &[(0, 3), (3, 4), (24, 2)];

const fn pack(fields: &[Field]) -> u64 {
    let mut value = 0;
    let mut i = 0;
    while i < fields.len() {
        value |= fields[i].1 << fields[i].0;
        i += 1;
    }
    value
}

/// `MIDR_EL1`: implementer 0 (software), architecture by ID registers, part 0x7ea; on nobody's erratum list.
const MIDR: u64 = 0x000f_7ea0;

/// `MPIDR_EL1` of vCPU `index`: 16 to a cluster, as the GICv3 affinity routing of the board has it.
pub(crate) fn mpidr(index: u32) -> u64 {
    1 << 31 | u64::from(index / 16 & 0xff) << 8 | u64::from(index % 16)
}

/// The value of an identification register that is the same on all vCPUs; `None` for other registers.
pub(crate) fn id_register(reg: SysReg) -> Option<u64> {
    Some(match reg {
        r::MIDR_EL1 => MIDR,
        r::REVIDR_EL1 | r::AIDR_EL1 => 0,
        r::ID_AA64PFR0_EL1 => const { pack(PFR0) },
        r::ID_AA64PFR1_EL1 => const { pack(PFR1) },
        r::ID_AA64DFR0_EL1 => const { pack(DFR0) },
        r::ID_AA64ISAR0_EL1 => const { pack(ISAR0) },
        r::ID_AA64ISAR1_EL1 => const { pack(ISAR1) },
        r::ID_AA64ISAR2_EL1 => const { pack(ISAR2) },
        r::ID_AA64MMFR0_EL1 => const { pack(MMFR0) },
        r::ID_AA64MMFR1_EL1 => const { pack(MMFR1) },
        r::ID_AA64MMFR2_EL1 => const { pack(MMFR2) },
        r::CLIDR_EL1 => const { pack(CLIDR) },
        r::CTR_EL0 => const { pack(CTR) },
        // The rest of the identification space is reserved, or of AArch32, and reads as zero (Arm ARM D23.3.1).
        _ if reg.op0() == 3 && reg.op1() == 0 && reg.crn() == 0 && (1..8).contains(&reg.crm()) => 0,
        _ => return None,
    })
}

/// The registers that describe the CPU to guests.
pub(crate) fn id_registers() -> Vec<(SysReg, u64)> {
    let all = [
        r::MIDR_EL1,
        r::ID_AA64PFR0_EL1,
        r::ID_AA64PFR1_EL1,
        r::ID_AA64DFR0_EL1,
        r::ID_AA64ISAR0_EL1,
        r::ID_AA64ISAR1_EL1,
        r::ID_AA64ISAR2_EL1,
        r::ID_AA64MMFR0_EL1,
        r::ID_AA64MMFR1_EL1,
        r::ID_AA64MMFR2_EL1,
        r::CTR_EL0,
    ];
    all.into_iter().filter_map(|reg| Some((reg, id_register(reg)?))).collect()
}

/// `CCSIDR_EL1` for the cache that `CSSELR_EL1` selects: 64-byte lines; 64 KiB 4-way, or 1 MiB 16-way.
pub(crate) fn cache_size(selected: u64) -> u64 {
    let (sets, ways) = if selected >> 1 & 7 == 0 { (256, 4) } else { (1024, 16) };
    (sets - 1) << 13 | (ways - 1) << 3 | 2
}
