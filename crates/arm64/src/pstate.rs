//! PSTATE as it is laid out in `SPSR_ELx` (Arm ARM C5.2.18).

/// Negative flag.
pub const N: u32 = 1 << 31;
/// Zero flag.
pub const Z: u32 = 1 << 30;
/// Carry flag.
pub const C: u32 = 1 << 29;
/// Overflow flag.
pub const V: u32 = 1 << 28;
/// All four condition flags.
pub const NZCV: u32 = N | Z | C | V;
/// Data independent timing.
pub const DIT: u32 = 1 << 24;
/// User access override.
pub const UAO: u32 = 1 << 23;
/// Privileged access never.
pub const PAN: u32 = 1 << 22;
/// Software step.
pub const SS: u32 = 1 << 21;
/// Illegal execution state.
pub const IL: u32 = 1 << 20;
/// Speculative store bypass safe.
pub const SSBS: u32 = 1 << 12;
/// Debug exceptions masked.
pub const D: u32 = 1 << 9;
/// SError masked.
pub const A: u32 = 1 << 8;
/// IRQ masked.
pub const I: u32 = 1 << 7;
/// FIQ masked.
pub const F: u32 = 1 << 6;
/// All four exception masks.
pub const DAIF: u32 = D | A | I | F;
/// Set when the state is AArch32.
pub const AARCH32: u32 = 1 << 4;
/// The mode field: exception level in bits 3:2, stack pointer selection in bit 0.
pub const MODE: u32 = 0xf;
/// Mode EL0t.
pub const EL0T: u32 = 0b0000;
/// Mode EL1t (EL1 on `SP_EL0`).
pub const EL1T: u32 = 0b0100;
/// Mode EL1h (EL1 on `SP_EL1`).
pub const EL1H: u32 = 0b0101;
/// Mode EL2t.
pub const EL2T: u32 = 0b1000;
/// Mode EL2h.
pub const EL2H: u32 = 0b1001;
