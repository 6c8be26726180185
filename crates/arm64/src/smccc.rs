//! SMC Calling Convention, DEN0028.

/// `SMCCC_VERSION`.
pub const VERSION: u32 = 0x8000_0000;
/// `SMCCC_ARCH_FEATURES`.
pub const ARCH_FEATURES: u32 = 0x8000_0001;
/// The version that we implement, 1.1.
pub const VERSION_1_1: u32 = 0x0001_0001;
/// `TRNG_VERSION` (DEN0098).
pub const TRNG_VERSION: u32 = 0x8400_0050;
/// What an unknown function returns.
pub const NOT_SUPPORTED: i64 = -1;
