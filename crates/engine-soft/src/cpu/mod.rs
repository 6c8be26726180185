//! The architectural state of one vCPU and what every execution tier shares: memory access, system registers,
//! exceptions, timers.

use crate::interp::op::Op;

/// An instruction did not complete: [`Cpu::stop`] says why. The value itself carries nothing, so that
/// `Result<(), Trap>` is one byte in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trap;

/// Index in [`Cpu::x`] that reads as zero: XZR as a source.
pub(crate) const XZR: u8 = 31;
/// Index in [`Cpu::x`] of the stack pointer of the current exception level and SPSel.
pub(crate) const SP: u8 = 32;
/// Index in [`Cpu::x`] that nobody reads: XZR as a destination.
pub(crate) const XZR_SINK: u8 = 33;

/// Why the inner loop stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nothing special: continue at `cpu.pc`, after a look at what wants attention.
    Continue,
}

/// One vCPU.
#[repr(C, align(64))]
pub(crate) struct Cpu {
    /// X0 to X30 and the pseudo-registers [`XZR`], [`SP`] and [`XZR_SINK`]. 64 entries so that masking an index with 63
    /// (see [`Cpu::r`]) needs no bounds check.
    pub x: [u64; 64],
    /// V0 to V31.
    pub v: [u128; 32],
    /// Condition flags in bits 31:28, the rest zero.
    pub nzcv: u32,
    /// `FPCR`.
    pub fpcr: u32,
    /// `FPSR`.
    pub fpsr: u32,
    /// Whether Advanced SIMD and floating point are accessible at the current exception level; kept up to date by
    /// whatever changes `CPACR_EL1` or the exception level.
    pub fp_enabled: bool,
    /// The program counter; exact only when the inner loop is left, see [`Cpu::pc_of`].
    pub pc: u64,
    /// Virtual address of the code page being executed, a multiple of 4 KiB.
    pub pc_page: u64,
    /// The op array of that page.
    pub page_ops: *const Op,
    /// Why the inner loop stopped.
    pub stop: Stop,
}

impl Cpu {
    /// Reads general register `index` of an [`Operands`](crate::interp::op::Operands) field, 64 bits.
    #[inline(always)]
    pub fn r(&self, index: u8) -> u64 {
        self.x[usize::from(index & 63)]
    }

    /// Writes general register `index`, 64 bits; writers of W registers zero-extend.
    #[inline(always)]
    pub fn w(&mut self, index: u8, value: u64) {
        self.x[usize::from(index & 63)] = value;
    }

    /// The virtual address of the instruction that `op`, an element of the current page's array, stands for.
    #[inline(always)]
    pub fn pc_of(&self, op: *const Op) -> u64 {
        let index = (op as usize - self.page_ops as usize) / size_of::<Op>();
        self.pc_page.wrapping_add(index as u64 * 4)
    }
}
