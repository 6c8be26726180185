//! Exception syndromes, `ESR_ELx` (Arm ARM D24.2.40).

/// Shift of the exception class.
pub const EC_SHIFT: u32 = 26;
/// Instruction length bit: the trapped instruction is 32 bits wide.
pub const IL: u64 = 1 << 25;

/// Exception classes, `ESR_ELx.EC`.
pub mod ec {
    /// Unknown reason, among them UNDEFINED instructions.
    pub const UNKNOWN: u32 = 0x00;
    /// Trapped WFI, WFE, WFIT or WFET.
    pub const WFX: u32 = 0x01;
    /// Access to SVE, Advanced SIMD or floating point trapped by `CPACR_EL1`.
    pub const FP_ACCESS: u32 = 0x07;
    /// Illegal execution state.
    pub const ILLEGAL_STATE: u32 = 0x0e;
    /// SVC in AArch64.
    pub const SVC64: u32 = 0x15;
    /// HVC in AArch64.
    pub const HVC64: u32 = 0x16;
    /// SMC in AArch64.
    pub const SMC64: u32 = 0x17;
    /// Trapped MSR, MRS or system instruction.
    pub const SYSREG: u32 = 0x18;
    /// Instruction abort from a lower exception level.
    pub const IABT_LOWER: u32 = 0x20;
    /// Instruction abort from the same exception level.
    pub const IABT_SAME: u32 = 0x21;
    /// PC alignment fault.
    pub const PC_ALIGN: u32 = 0x22;
    /// Data abort from a lower exception level.
    pub const DABT_LOWER: u32 = 0x24;
    /// Data abort from the same exception level.
    pub const DABT_SAME: u32 = 0x25;
    /// SP alignment fault.
    pub const SP_ALIGN: u32 = 0x26;
    /// Memory copy and set exception (FEAT_MOPS).
    pub const MOPS: u32 = 0x27;
    /// Trapped floating-point exception in AArch64.
    pub const FP_EXC64: u32 = 0x2c;
    /// SError interrupt.
    pub const SERROR: u32 = 0x2f;
    /// Breakpoint from a lower exception level.
    pub const BREAKPOINT_LOWER: u32 = 0x30;
    /// Breakpoint from the same exception level.
    pub const BREAKPOINT_SAME: u32 = 0x31;
    /// Software step from a lower exception level.
    pub const STEP_LOWER: u32 = 0x32;
    /// Software step from the same exception level.
    pub const STEP_SAME: u32 = 0x33;
    /// Watchpoint from a lower exception level.
    pub const WATCHPOINT_LOWER: u32 = 0x34;
    /// Watchpoint from the same exception level.
    pub const WATCHPOINT_SAME: u32 = 0x35;
    /// BRK instruction.
    pub const BRK64: u32 = 0x3c;
}

/// Fault status codes, `ESR_ELx.{DFSC,IFSC}`; translation-table levels are added to the `_L0` codes.
pub mod fsc {
    /// Address size fault, level 0.
    pub const ADDRESS_SIZE_L0: u32 = 0x00;
    /// Translation fault, level 0.
    pub const TRANSLATION_L0: u32 = 0x04;
    /// Access flag fault, level 0.
    pub const ACCESS_FLAG_L0: u32 = 0x08;
    /// Permission fault, level 0.
    pub const PERMISSION_L0: u32 = 0x0c;
    /// Synchronous external abort, not on a translation table walk.
    pub const EXTERNAL: u32 = 0x10;
    /// Synchronous external abort on a translation table walk, level 0.
    pub const EXTERNAL_WALK_L0: u32 = 0x14;
    /// Alignment fault.
    pub const ALIGNMENT: u32 = 0x21;
    /// TLB conflict abort.
    pub const TLB_CONFLICT: u32 = 0x30;
    /// Unsupported exclusive or atomic access.
    pub const UNSUPPORTED_EXCLUSIVE: u32 = 0x35;
}
