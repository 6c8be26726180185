//! Power State Coordination Interface, DEN0022.

/// `PSCI_VERSION`.
pub const VERSION: u32 = 0x8400_0000;
/// `CPU_SUSPEND`, 32-bit and 64-bit calling convention.
pub const CPU_SUSPEND: [u32; 2] = [0x8400_0001, 0xc400_0001];
/// `CPU_OFF`.
pub const CPU_OFF: u32 = 0x8400_0002;
/// `CPU_ON`, 32-bit and 64-bit calling convention.
pub const CPU_ON: [u32; 2] = [0x8400_0003, 0xc400_0003];
/// `AFFINITY_INFO`, 32-bit and 64-bit calling convention.
pub const AFFINITY_INFO: [u32; 2] = [0x8400_0004, 0xc400_0004];
/// `MIGRATE_INFO_TYPE`.
pub const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
/// `SYSTEM_OFF`.
pub const SYSTEM_OFF: u32 = 0x8400_0008;
/// `SYSTEM_RESET`.
pub const SYSTEM_RESET: u32 = 0x8400_0009;
/// `PSCI_FEATURES`.
pub const FEATURES: u32 = 0x8400_000a;
/// `SYSTEM_RESET2`, 32-bit and 64-bit calling convention.
pub const SYSTEM_RESET2: [u32; 2] = [0x8400_0012, 0xc400_0012];

/// The version that we implement, 1.1, as `PSCI_VERSION` returns it.
pub const VERSION_1_1: u32 = 0x0001_0001;
/// `MIGRATE_INFO_TYPE` result: there is no Trusted OS to migrate.
pub const NO_TRUSTED_OS: u64 = 2;

/// Return codes (DEN0022 5.2.2), sign-extended to a register.
pub mod ret {
    /// Success.
    pub const SUCCESS: i64 = 0;
    /// The function or feature is not implemented.
    pub const NOT_SUPPORTED: i64 = -1;
    /// An argument is invalid.
    pub const INVALID_PARAMETERS: i64 = -2;
    /// The call is refused.
    pub const DENIED: i64 = -3;
    /// The CPU is on already.
    pub const ALREADY_ON: i64 = -4;
    /// A `CPU_ON` for this CPU is under way.
    pub const ON_PENDING: i64 = -5;
    /// The entry point address is invalid.
    pub const INVALID_ADDRESS: i64 = -9;
}

/// Results of `AFFINITY_INFO`.
pub mod affinity {
    /// The CPU is on.
    pub const ON: i64 = 0;
    /// The CPU is off.
    pub const OFF: i64 = 1;
    /// The CPU is coming up.
    pub const ON_PENDING: i64 = 2;
}
