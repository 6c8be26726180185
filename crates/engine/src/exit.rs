use std::time::Instant;

use tearless_arm64::SysReg;
use tearless_memory::Gpa;

/// Why [`Vcpu::run`](crate::Vcpu::run) came back. References are answers that the caller fills in before the next
/// `run`; what the guest sees is decided there.
#[derive(Debug)]
pub enum Exit<'a> {
    /// The guest reads `size` (1, 2, 4 or 8) bytes of unmapped memory. Wider accesses come as several exits.
    MmioRead {
        /// Where.
        gpa: Gpa,
        /// How many bytes.
        size: u8,
        /// The answer, in the low bits; the excess bits are ignored.
        value: &'a mut u64,
    },
    /// The guest writes `size` (1, 2, 4 or 8) bytes of unmapped (or read-only) memory.
    MmioWrite {
        /// Where.
        gpa: Gpa,
        /// How many bytes.
        size: u8,
        /// What, in the low bits; the excess bits are zero.
        value: u64,
    },
    /// The guest accesses a system register that the engine does not implement: those of the GIC's CPU interface, and
    /// unknown ones.
    SysReg(SysRegAccess<'a>),
    /// A call by HVC or SMC with immediate 0.
    Smccc(SmcccCall<'a>),
    /// The guest waits for an interrupt. `run` may be called at any time; calling it with nothing pending is allowed
    /// and merely comes back again.
    Wfi {
        /// When the next enabled and unmasked guest timer fires, if any.
        deadline: Option<Instant>,
    },
    /// The output of a guest timer changed: see [`Vcpu::timer_lines`](crate::Vcpu::timer_lines).
    Timer(TimerLines),
    /// A [`Kicker`](crate::Kicker) was used.
    Kicked,
}

/// A trapped MSR or MRS.
#[derive(Debug)]
pub struct SysRegAccess<'a> {
    /// Which register.
    pub reg: SysReg,
    /// The value that MSR writes, or `None` for MRS.
    pub write: Option<u64>,
    /// The answer of MRS.
    pub value: &'a mut u64,
    /// Whether the access exists. It starts as `false`: left so, the guest takes an UNDEFINED exception.
    pub handled: &'a mut bool,
}

/// Which instruction made a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// HVC.
    Hvc,
    /// SMC.
    Smc,
}

/// A call by the SMC Calling Convention (DEN0028).
#[derive(Debug)]
pub struct SmcccCall<'a> {
    /// By which instruction.
    pub conduit: Conduit,
    /// X0 to X17; the callee returns values in X0 to X3.
    pub x: &'a mut [u64; 18],
}

/// The levels of a vCPU's generic timer outputs (Arm ARM D12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerLines {
    /// EL1 virtual timer.
    pub virt: bool,
    /// EL1 physical timer.
    pub phys: bool,
    /// EL2 physical timer.
    pub hyp: bool,
}
