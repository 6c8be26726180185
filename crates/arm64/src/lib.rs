//! Architecture facts of AArch64, without behaviour.
//!
//! Everything here is a name for a number that a specification fixes: system register encodings and exception
//! syndromes (Arm ARM, DDI 0487), power management calls (PSCI, DEN0022; SMCCC, DEN0028) and the register maps of the
//! interrupt controller (GICv3, IHI 0069). The engines, the machine and the devices share these names.

pub mod esr;
pub mod gic;
pub mod psci;
pub mod pstate;
pub mod smccc;
pub mod sysreg;

pub use sysreg::SysReg;
