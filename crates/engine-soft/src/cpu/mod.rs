//! The architectural state of one vCPU and what every execution tier shares: memory access, system registers,
//! exceptions, timers.

#[allow(unsafe_code)]
mod atomic;
#[allow(unsafe_code)]
mod bulk;
mod debug;
mod exception;
#[allow(unsafe_code)]
mod flag;
#[allow(unsafe_code)]
mod host;
mod id;
mod keys;
#[allow(unsafe_code)]
mod maintain;
#[allow(unsafe_code)]
mod mem;
mod mmio;
#[allow(unsafe_code)]
pub(crate) mod mmu;
#[allow(unsafe_code)]
mod phys;
pub(crate) mod shared;
mod state;
mod sysop;
mod sysreg;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod timer;
#[allow(unsafe_code)]
mod tlb;

use std::sync::{Arc, atomic::Ordering};

use tearless_arm64::{SysReg, pstate};
use tearless_engine::Conduit;

pub(crate) use bulk::Side;
pub(crate) use debug::MDSCR_ACTIVE;
pub(crate) use exception::Exception;
pub(crate) use flag::Flag;
pub(crate) use host::{Unit, supported};
pub(crate) use id::{ZERO_BLOCK, id_register, id_registers};
pub(crate) use keys::{CodePlace, Returns};
pub(crate) use mmu::{Intent, Kind};
pub(crate) use phys::PAGE;
pub(crate) use sysreg::{SCTLR_DZE, SCTLR_UMA, SysRegs, trap_iss};
pub(crate) use timer::Timers;
pub(crate) use tlb::{SELECTOR, View};

use crate::{
    interp::{cache::CodeCache, op::Op},
    jit::{Jit, Lockstep},
};
use atomic::Monitor;
use mmio::Replay;
use mmu::Regime;
use phys::PhysMap;
use shared::{Mailbox, Shared, Tickets};
use tlb::{Bank, CodeMap, Tlb};

/// Where generated code finds fields of [`Cpu`].
pub(crate) mod offset {
    use super::{Bank, Cpu, Returns, SysRegs, atomic::Monitor};
    use std::mem::offset_of;

    pub const V: usize = offset_of!(Cpu, v);
    pub const NZCV: usize = offset_of!(Cpu, nzcv);
    pub const FPSR: usize = offset_of!(Cpu, fpsr);
    pub const FP_ENABLED: usize = offset_of!(Cpu, fp_enabled);
    pub const PC: usize = offset_of!(Cpu, pc);
    pub const BANK: usize = offset_of!(Cpu, bank);
    pub const USER_BANK: usize = offset_of!(Cpu, user_bank);
    pub const PSTATE: usize = offset_of!(Cpu, pstate);
    pub const IRQ: usize = offset_of!(Cpu, irq);
    pub const SP_EL0: usize = offset_of!(Cpu, sp);
    pub const RETURNS: usize = offset_of!(Cpu, returns) + offset_of!(Returns, now);
    pub const RETURNS_TOP: usize = offset_of!(Cpu, returns) + offset_of!(Returns, top);
    pub const HOST_STACK: usize = offset_of!(Cpu, host_stack);
    pub const BACK: usize = offset_of!(Cpu, back);
    pub const SYS: usize = offset_of!(Cpu, sys);
    pub const TPIDR_EL0: usize = SYS + offset_of!(SysRegs, tpidr_el0);
    pub const TPIDRRO_EL0: usize = SYS + offset_of!(SysRegs, tpidrro_el0);
    pub const TPIDR_EL1: usize = SYS + offset_of!(SysRegs, tpidr_el1);
    pub const ELR: usize = SYS + offset_of!(SysRegs, elr);
    pub const SPSR: usize = SYS + offset_of!(SysRegs, spsr);
    pub const ESR: usize = SYS + offset_of!(SysRegs, esr);
    pub const FAR: usize = SYS + offset_of!(SysRegs, far);
    pub const VBAR: usize = SYS + offset_of!(SysRegs, vbar);
    pub const PAR: usize = SYS + offset_of!(SysRegs, par);
    pub const CONTEXTIDR: usize = SYS + offset_of!(SysRegs, contextidr);
    pub const CPACR: usize = SYS + offset_of!(SysRegs, cpacr);
    pub const SCTLR: usize = SYS + offset_of!(SysRegs, mmu.sctlr);
    pub const TCR: usize = SYS + offset_of!(SysRegs, mmu.tcr);
    pub const MAIR: usize = SYS + offset_of!(SysRegs, mmu.mair);
    pub const TTBR0: usize = SYS + offset_of!(SysRegs, mmu.ttbr);
    pub const TTBR1: usize = TTBR0 + 8;
    pub const MDSCR: usize = SYS + offset_of!(SysRegs, debug.mdscr);
    pub const MONITOR_ADDRESS: usize = offset_of!(Cpu, monitor) + offset_of!(Monitor, address);
    pub const MONITOR_SIZE: usize = offset_of!(Cpu, monitor) + offset_of!(Monitor, size);
    pub const MONITOR_VALUE: usize = offset_of!(Cpu, monitor) + offset_of!(Monitor, value);
    /// Within a TLB bank.
    pub const READ: usize = offset_of!(Bank, read);
    pub const WRITE: usize = offset_of!(Bank, write);
    pub const ADDEND: usize = offset_of!(Bank, addend);
}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nothing special: continue at `cpu.pc`, after a look at what wants attention.
    Continue,
    /// The instruction at `cpu.pc` takes an exception.
    Exception(Exception),
    /// The instruction at `cpu.pc` needs `size` bytes of MMIO.
    MmioRead { gpa: u64, size: u8 },
    /// The instruction at `cpu.pc` writes MMIO.
    MmioWrite { gpa: u64, size: u8, value: u64 },
    /// The instruction at `cpu.pc` accesses a system register of the machine: a write of `write`, or a read into `rt`.
    SysReg { reg: SysReg, rt: u8, write: Option<u64> },
    /// A hypervisor call; `cpu.pc` is past it.
    Smccc(Conduit),
    /// WFI; `cpu.pc` is past it.
    Wfi,
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
    /// The bits of SP that must be zero where it is a base address.
    sp_mask: u64,
    /// The program counter; exact only when the inner loop is left, see [`Cpu::pc_of`].
    pub pc: u64,
    /// Virtual address of the code page being executed, a multiple of 4 KiB.
    pub pc_page: u64,
    /// The op array of that page.
    pub page_ops: *const Op,
    /// Translations of the current context; valid, see [`Cpu::select_banks`].
    bank: *mut Bank,
    /// Code pages of the current context.
    code_map: *mut CodeMap,
    /// Translations of EL0 for the current ASID.
    user_bank: *mut Bank,
    /// How other threads reach this vCPU.
    pub mailbox: Arc<Mailbox>,
    /// Why the inner loop stopped.
    pub stop: Stop,
    /// PSTATE in the layout of `SPSR_EL1`, NZCV excepted.
    pub pstate: u32,
    /// The IRQ input.
    pub irq: bool,
    /// `SP_EL0` and `SP_EL1`; the current one is in `x[SP]` instead.
    pub sp: [u64; 2],
    /// Everything else that MRS and MSR name.
    pub sys: SysRegs,
    /// Whether a watchpoint is enabled.
    watching: bool,
    /// The exclusive monitor.
    monitor: Monitor,
    /// Answers to the MMIO accesses of the current instruction.
    pub replay: Replay,
    /// The EL1&0 translation regime, decoded.
    pub regime: Regime,
    /// The guest physical memory map.
    pub memory: Arc<PhysMap>,
    tlb: Tlb,
    /// Pre-decoded code.
    pub code: CodeCache,
    /// The generic timers.
    pub timers: Timers,
    /// Whether they are to be looked at before the next instruction.
    pub timers_changed: bool,
    /// Broadcasts that the next DSB waits for.
    pub tickets: Tickets,
    /// What all vCPUs of the VM share.
    pub shared: Arc<Shared>,
    /// The number of this vCPU.
    pub index: u32,
    /// The translator, unless this host has none or it is off. Not here while it works.
    pub jit: Option<Box<Jit>>,
    /// Its return stacks.
    pub returns: Returns,
    /// The stack of who called it.
    pub host_stack: u64,
    /// Where it goes on when the interpreter has executed an instruction for it.
    pub back: u64,
    /// Whether generated code runs, which looks its successors up itself.
    pub in_jit: bool,
    /// Whether, and how far, both tiers are compared.
    pub lockstep: Option<Box<Lockstep>>,
}

impl Cpu {
    /// A vCPU in its reset state: EL1h, exceptions masked, MMU off.
    pub fn new(shared: Arc<Shared>, mailbox: Arc<Mailbox>, index: u32) -> Box<Self> {
        let timers = Timers::new(shared.counter_base);
        let sys = SysRegs::reset();
        let regime = Regime::el1(&sys.mmu);
        let mut cpu = Box::new(Self {
            x: [0; 64],
            v: [0; 32],
            nzcv: 0,
            fpcr: 0,
            fpsr: 0,
            fp_enabled: false,
            sp_mask: 0,
            pc: 0,
            pc_page: 0,
            page_ops: std::ptr::null(),
            bank: std::ptr::null_mut(),
            code_map: std::ptr::null_mut(),
            user_bank: std::ptr::null_mut(),
            mailbox,
            stop: Stop::Continue,
            pstate: pstate::DAIF | pstate::EL1H,
            irq: false,
            sp: [0; 2],
            sys,
            watching: false,
            monitor: Monitor::default(),
            replay: Replay::default(),
            regime,
            memory: shared.memory(),
            tlb: Tlb::new(),
            code: CodeCache::default(),
            timers,
            timers_changed: true,
            tickets: Tickets::default(),
            shared,
            index,
            jit: None,
            returns: Returns::default(),
            host_stack: 0,
            back: 0,
            in_jit: false,
            lockstep: None,
        });
        cpu.update_derived();
        cpu
    }

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

    /// The current exception level: 0 or 1.
    #[inline(always)]
    pub fn el(&self) -> u32 {
        self.pstate >> 2 & 3
    }

    /// PSTATE.PAN.
    #[inline(always)]
    pub fn pan(&self) -> bool {
        self.pstate & pstate::PAN != 0
    }

    /// Bit `n` of `SCTLR_EL1`.
    pub fn sctlr_bit(&self, n: u32) -> bool {
        self.sys.mmu.sctlr >> n & 1 != 0
    }

    /// Has the translator `jit` execute what it can.
    pub fn use_jit(&mut self, jit: Jit) {
        self.returns = Returns::new(jit.returns());
        self.jit = Some(Box::new(jit));
    }

    /// Whether the run loop is wanted: polled on backward branches and branches to other pages.
    #[inline(always)]
    pub fn attention(&self) -> bool {
        self.mailbox.attention.load(Ordering::Relaxed) != 0
    }
}
