use tearless_arm64::SysReg;

use super::simd::SimdInsn;

/// A general register number as encoded, 0 to 31. Whether 31 means XZR or SP is said per field; unsaid, it is XZR.
pub(crate) type Reg = u8;

/// A condition as encoded, 0 (EQ) to 15 (NV, which means always).
pub(crate) type Cond = u8;

/// A decoded instruction. `sf` says whether it works on X registers (else W, zero-extending). Offsets of branches and
/// literals are in bytes from the instruction itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Insn {
    /// Unallocated, or of an extension that this CPU does not have.
    Undefined,

    /// `rd = pc + offset`.
    Adr { rd: Reg, offset: i32 },
    /// `rd = (pc & !0xfff) + (pages << 12)`.
    Adrp { rd: Reg, pages: i32 },
    /// ADD, SUB (`rd` and `rn` may be SP), ADDS, SUBS (`rn` may be SP) with an immediate that is shifted already.
    AddSubImm { sf: bool, sub: bool, set: bool, rd: Reg, rn: Reg, imm: u32 },
    /// AND, ORR, EOR (`rd` may be SP), ANDS with the bitmask that [`super::bitmask`] has for `pattern`.
    LogicImm { sf: bool, op: Logic, set: bool, rd: Reg, rn: Reg, pattern: u16 },
    /// MOVN, MOVZ, MOVK: `imm << shift`.
    MoveWide { sf: bool, op: MoveWide, rd: Reg, imm: u16, shift: u8 },
    /// SBFM, BFM, UBFM.
    Bitfield { sf: bool, op: Bitfield, rd: Reg, rn: Reg, immr: u8, imms: u8 },
    /// EXTR: the register-wide piece of `rn:rm` that starts at bit `lsb`.
    Extract { sf: bool, rd: Reg, rn: Reg, rm: Reg, lsb: u8 },

    /// ADD, SUB, ADDS, SUBS with a shifted register (never ROR).
    AddSubShift { sf: bool, sub: bool, set: bool, rd: Reg, rn: Reg, rm: Reg, shift: Shift, amount: u8 },
    /// ADD, SUB (`rd` and `rn` may be SP), ADDS, SUBS (`rn` may be SP) with an extended register shifted left by 0 to 4.
    AddSubExtend { sf: bool, sub: bool, set: bool, rd: Reg, rn: Reg, rm: Reg, extend: Extend, amount: u8 },
    /// ADC, SBC, ADCS, SBCS.
    AddSubCarry { sf: bool, sub: bool, set: bool, rd: Reg, rn: Reg, rm: Reg },
    /// AND, ORR, EOR, ANDS and with `invert` BIC, ORN, EON, BICS, with a shifted register.
    LogicShift {
        sf: bool,
        op: Logic,
        invert: bool,
        set: bool,
        rd: Reg,
        rn: Reg,
        rm: Reg,
        shift: Shift,
        amount: u8,
    },
    /// CCMN, or with `sub` CCMP: compare when `cond` holds, else set the flags to `nzcv` (4 bits).
    CondCompare { sf: bool, sub: bool, rn: Reg, with: RegOrImm, nzcv: u8, cond: Cond },
    /// CSEL, CSINC, CSINV, CSNEG.
    CondSelect { sf: bool, op: CondSelect, rd: Reg, rn: Reg, rm: Reg, cond: Cond },
    /// RBIT, REV16, REV32, REV, CLZ, CLS.
    OneSource { sf: bool, op: OneSource, rd: Reg, rn: Reg },
    /// UDIV, SDIV and the shifts by register.
    TwoSource { sf: bool, op: TwoSource, rd: Reg, rn: Reg, rm: Reg },
    /// CRC32B..X, or with `castagnoli` CRC32CB..CX, of `1 << size` bytes.
    Crc32 { castagnoli: bool, size: u8, rd: Reg, rn: Reg, rm: Reg },
    /// MADD, MSUB.
    MultiplyAdd { sf: bool, sub: bool, rd: Reg, rn: Reg, rm: Reg, ra: Reg },
    /// SMADDL, SMSUBL, UMADDL, UMSUBL.
    MultiplyAddLong { signed: bool, sub: bool, rd: Reg, rn: Reg, rm: Reg, ra: Reg },
    /// SMULH, UMULH.
    MultiplyHigh { signed: bool, rd: Reg, rn: Reg, rm: Reg },
    /// RMIF (FEAT_FlagM): `rn` rotated right by `rotate` gives the flags in `mask` (4 bits).
    Rmif { rn: Reg, rotate: u8, mask: u8 },
    /// SETF8, or with `half` SETF16 (FEAT_FlagM).
    SetFlags { half: bool, rn: Reg },
    /// CFINV, XAFLAG, AXFLAG (FEAT_FlagM, FEAT_FlagM2).
    ConvertFlags(ConvertFlags),

    /// B, BL.
    Branch { link: bool, offset: i32 },
    /// B.cond.
    BranchCond { cond: Cond, offset: i32 },
    /// CBZ, CBNZ.
    CompareBranch { sf: bool, nonzero: bool, rt: Reg, offset: i32 },
    /// TBZ, TBNZ.
    TestBranch { nonzero: bool, rt: Reg, bit: u8, offset: i32 },
    /// BR, BLR, RET.
    BranchReg { kind: BranchReg, rn: Reg },
    /// ERET.
    Eret,

    /// SVC, HVC, SMC, BRK.
    Call { kind: Call, imm: u16 },
    /// NOP and the hints that are none to this CPU.
    Nop,
    /// YIELD.
    Yield,
    /// WFI.
    Wfi,
    /// WFE.
    Wfe,
    /// SEV, or with `local` SEVL.
    Sev { local: bool },
    /// CLREX.
    Clrex,
    /// DMB, DSB with CRm.
    Barrier { kind: Barrier, crm: u8 },
    /// ISB.
    Isb,
    /// SB: no speculation past it.
    Sb,
    /// MSR (immediate); `imm` is CRm.
    MsrImm { field: PstateField, imm: u8 },
    /// MSR (register).
    Msr { reg: SysReg, rt: Reg },
    /// MRS.
    Mrs { reg: SysReg, rt: Reg },
    /// SYS: cache, TLB and address translation operations.
    Sys { reg: SysReg, rt: Reg },
    /// SYSL.
    Sysl { reg: SysReg, rt: Reg },

    /// Loads and stores of one register at `rn` (may be SP) plus an immediate.
    LoadStoreImm { access: Access, rt: Reg, rn: Reg, index: Index, offset: i32 },
    /// Loads and stores of one register at `rn` (may be SP) plus an extended register shifted left by `shift`.
    LoadStoreReg { access: Access, rt: Reg, rn: Reg, rm: Reg, extend: Extend, shift: u8 },
    /// LDR (literal).
    LoadLiteral { access: Access, rt: Reg, offset: i32 },
    /// LDTR, STTR and siblings: with the permissions of EL0.
    LoadStoreUser { access: Access, rt: Reg, rn: Reg, offset: i32 },
    /// LDP, STP, LDPSW, LDNP, STNP.
    LoadStorePair { access: Access, rt: Reg, rt2: Reg, rn: Reg, index: Index, offset: i32 },
    /// PRFM, PRFUM.
    Prefetch,
    /// LDXR, LDAXR, LDXP, LDAXP.
    LoadExclusive { size: u8, pair: bool, acquire: bool, rt: Reg, rt2: Reg, rn: Reg },
    /// STXR, STLXR, STXP, STLXP; `rs` takes the status.
    StoreExclusive { size: u8, pair: bool, release: bool, rs: Reg, rt: Reg, rt2: Reg, rn: Reg },
    /// LDAR, LDLAR, LDAPR, LDAPUR and siblings, STLR, STLLR, STLUR.
    Ordered { access: Access, rt: Reg, rn: Reg, offset: i32, order: Order },
    /// CAS, CASA, CASL, CASAL: `rs` is compared and takes the old value.
    CompareSwap { size: u8, rs: Reg, rt: Reg, rn: Reg },
    /// CASP and siblings: pairs from the even registers `rs` and `rt`; `size` is that of one half.
    CompareSwapPair { size: u8, rs: Reg, rt: Reg, rn: Reg },
    /// LDADD, LDCLR, LDEOR, LDSET, LDSMAX, LDSMIN, LDUMAX, LDUMIN, SWP: `rt` takes the old value.
    Atomic { op: AtomicOp, size: u8, acquire: bool, release: bool, rs: Reg, rt: Reg, rn: Reg },

    /// CPYFP, CPYFM, CPYFE with `ascending`, else CPYP, CPYM, CPYE: from the address in `rs` to that in `rd`, as many
    /// bytes as `rn` says; `options` is op2, 4 bits.
    MemoryCopy { stage: Stage, ascending: bool, options: u8, rd: Reg, rs: Reg, rn: Reg },
    /// SETP, SETM, SETE: as many bytes as `rn` says at the address in `rd` to the value of `rs`; `options` is op2's low 2
    /// bits.
    MemorySet { stage: Stage, options: u8, rd: Reg, rs: Reg, rn: Reg },

    /// Floating point, Advanced SIMD and cryptography, and structure loads and stores.
    Simd(SimdInsn),
}

/// AND, ORR, EOR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logic {
    And,
    Orr,
    Eor,
}

/// MOVN, MOVZ, MOVK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MoveWide {
    Not,
    Zero,
    Keep,
}

/// SBFM, BFM, UBFM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bitfield {
    Signed,
    Insert,
    Unsigned,
}

/// How a register operand is shifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shift {
    Lsl,
    Lsr,
    Asr,
    Ror,
}

impl Shift {
    /// From the two bits that encode it.
    pub(crate) fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::Lsl,
            1 => Self::Lsr,
            2 => Self::Asr,
            _ => Self::Ror,
        }
    }
}

/// How a register operand is widened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extend {
    Uxtb,
    Uxth,
    Uxtw,
    Uxtx,
    Sxtb,
    Sxth,
    Sxtw,
    Sxtx,
}

impl Extend {
    /// From the three bits that encode it.
    pub(crate) fn from_bits(bits: u32) -> Self {
        match bits & 7 {
            0 => Self::Uxtb,
            1 => Self::Uxth,
            2 => Self::Uxtw,
            3 => Self::Uxtx,
            4 => Self::Sxtb,
            5 => Self::Sxth,
            6 => Self::Sxtw,
            _ => Self::Sxtx,
        }
    }
}

/// The second operand of a conditional compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegOrImm {
    Reg(Reg),
    /// 0 to 31.
    Imm(u8),
}

/// CSEL, CSINC, CSINV, CSNEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CondSelect {
    Plain,
    Increment,
    Invert,
    Negate,
}

/// Instructions of one source register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OneSource {
    Rbit,
    Rev16,
    /// REV32: bytes within each word of an X register.
    Rev32,
    /// REV: bytes of the whole register.
    Rev,
    Clz,
    Cls,
}

/// Instructions of two source registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TwoSource {
    Udiv,
    Sdiv,
    Lslv,
    Lsrv,
    Asrv,
    Rorv,
}

/// Instructions that rewrite the flags from the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConvertFlags {
    /// CFINV: invert C.
    InvertCarry,
    /// XAFLAG: from the external format to Arm's.
    ToArm,
    /// AXFLAG: from Arm's format to the external one.
    ToExternal,
}

/// BR, BLR, RET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BranchReg {
    Jump,
    Call,
    Return,
}

/// Instructions that generate an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Svc,
    Hvc,
    Smc,
    Brk,
}

/// DMB, DSB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barrier {
    Memory,
    Synchronisation,
}

/// Fields of PSTATE that MSR (immediate) writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PstateField {
    Pan,
    SpSel,
    Ssbs,
    Dit,
    DaifSet,
    DaifClr,
}

/// What a load or store moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub kind: AccessKind,
    /// Log2 of the bytes in memory, 0 to 3, or 4 for a Q register.
    pub size: u8,
    /// Whether the register is a V register.
    pub simd: bool,
}

/// The direction of a load or store, and what becomes of a general register's upper bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessKind {
    Store,
    /// Zero-extends.
    Load,
    /// Sign-extends to 32 bits and zero-extends from there.
    LoadSigned32,
    /// Sign-extends to 64 bits.
    LoadSigned64,
}

/// When the offset is added to the base register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Index {
    /// To the address only.
    Offset,
    /// To the base, before the access.
    Pre,
    /// To the base, after the access.
    Post,
}

/// The ordering of a load-acquire or store-release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// LDAR, STLR, LDLAR, STLLR: ordered with each other.
    Sequential,
    /// LDAPR, LDAPUR, STLUR: processor consistent.
    ProcessorConsistent,
}

/// Atomic operations on memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtomicOp {
    Add,
    Clear,
    Eor,
    Set,
    SignedMax,
    SignedMin,
    UnsignedMax,
    UnsignedMin,
    Swap,
}

/// The parts of a memory copy or set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Prologue,
    Main,
    Epilogue,
}
