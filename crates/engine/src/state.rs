use tearless_arm64::{SysReg, pstate};

/// The architectural state of a vCPU, engine-neutral.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VcpuState {
    /// X0 to X30.
    pub x: [u64; 31],
    /// `SP_EL0`.
    pub sp_el0: u64,
    /// `SP_EL1`.
    pub sp_el1: u64,
    /// The program counter.
    pub pc: u64,
    /// PSTATE in the layout of `SPSR_EL1`.
    pub pstate: u32,
    /// V0 to V31.
    pub v: [u128; 32],
    /// `FPCR`.
    pub fpcr: u32,
    /// `FPSR`.
    pub fpsr: u32,
    /// Every other register that the engine keeps, in ascending order. In `set_state`, registers that are not listed
    /// take their reset values.
    pub sys: Vec<(SysReg, u64)>,
}

impl VcpuState {
    /// The state in which PSCI `CPU_ON` and the Linux boot protocol start a CPU (DEN0022 6.4): EL1h, exceptions
    /// masked, MMU and caches off, `context` in X0.
    pub fn entry(pc: u64, context: u64) -> Self {
        let mut x = [0; 31];
        x[0] = context;
        Self {
            x,
            sp_el0: 0,
            sp_el1: 0,
            pc,
            pstate: pstate::DAIF | pstate::EL1H,
            v: [0; 32],
            fpcr: 0,
            fpsr: 0,
            sys: Vec::new(),
        }
    }
}
