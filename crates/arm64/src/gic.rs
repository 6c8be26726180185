//! GICv3 facts (IHI 0069): interrupt identifiers and register maps.

/// First private peripheral interrupt; below are the 16 software generated interrupts.
pub const PPI_BASE: u32 = 16;
/// First shared peripheral interrupt.
pub const SPI_BASE: u32 = 32;
/// First locality-specific peripheral interrupt, the kind that the ITS delivers.
pub const LPI_BASE: u32 = 8192;

/// INTID of the EL1 virtual timer's private interrupt (PPI 11).
pub const INTID_VTIMER: u32 = 27;
/// INTID of the EL1 physical timer's private interrupt (PPI 14).
pub const INTID_PTIMER: u32 = 30;
/// INTID of the EL2 physical timer's private interrupt (PPI 10).
pub const INTID_HYP_PTIMER: u32 = 26;
