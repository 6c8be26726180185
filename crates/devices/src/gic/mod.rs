//! The interrupt controller: GICv3 with one security state, affinity routing and an optional ITS (IHI 0069).
//!
//! ```text
//!   devices ── IrqSink ──▶ distributor (SPIs) ──┐ best SPI of each group
//!   MsiSink ──▶ ITS ──▶ pending LPIs ───────────┤
//!   timers ── set_ppi ──▶ private bank ─────────┼──▶ CpuState ──▶ outputs (one atomic byte) ──▶ CpuWake
//!   SGIxR of any vCPU ──▶ private bank ─────────┘        ▲
//!                                           ICC_* of the vCPU itself
//! ```
//!
//! What a vCPU sees is decided by its own [`CpuState`] behind its own lock: timer ticks, IPIs and LPIs never meet
//! another vCPU's lock. SPIs live in the distributor behind one more lock, which puts each vCPU's best SPI into that
//! vCPU's state. Locks are taken in the order ITS, distributor, vCPU, never two vCPUs at once, and
//! [`CpuWake::wake`] is called with none of them held.
//!
//! Interrupts of group 1 are signalled as IRQ, those of group 0 as FIQ ([`Gic::fiq_pending`]), as the architecture has
//! it for one security state. Group 0 is what `GICD_IGROUPR` selects after reset.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
};

use tearless_arm64::{
    SysReg,
    gic::{INTID_NONE, INTID_SPECIAL, LPI_BASE, SPI_BASE, SPI_MAX, icc},
};
use tearless_bus::{CpuWake, IrqLine, IrqSink, MmioDevice, Msi, MsiSink};
use tearless_memory::{Gpa, GuestMemory};

mod bank;
mod cpu;
mod distributor;
mod its;
mod lpi;
mod redistributor;
mod spi;
mod state;
#[cfg(test)]
mod tests;

use crate::access::lock;
use cpu::{CpuState, FIQ, IRQ};
use its::Its;
use lpi::LpiConfig;
use spi::Spis;

/// Implemented bits of a priority, the upper ones of its byte.
const PRIORITY_BITS: u32 = 5;
const PRIORITY_MASK: u8 = (0xff00_u32 >> PRIORITY_BITS) as u8;
/// The most vCPUs: what QEMU's `virt` allows. The redistributors of that many take 64 MiB of addresses.
pub const MAX_VCPUS: u32 = 512;

/// What [`Gic::new`] needs to know.
#[derive(Clone, Debug)]
pub struct GicConfig {
    /// Number of vCPUs, 1 to [`MAX_VCPUS`].
    pub vcpus: u32,
    /// Number of SPIs, at most 988.
    pub spis: u32,
    /// Guest physical address of `GITS_TRANSLATER`: 0x1_0040 after the start of the ITS. Without there is neither an
    /// ITS nor LPIs.
    pub doorbell: Option<Gpa>,
    /// Where the tables of LPIs and of the ITS are.
    pub memory: GuestMemory,
}

/// A pending interrupt. The order is that of delivery: priority (lower is more urgent), then INTID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    priority: u8,
    intid: u32,
    group: u8,
}

/// A vCPU's state and outputs, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot {
    outputs: AtomicU8,
    state: Mutex<CpuState>,
}

/// The interrupt controller.
pub struct Gic {
    distributor: Mutex<Spis>,
    cpus: Box<[Slot]>,
    its: Option<Translation>,
    lpi_config: LpiConfig,
    memory: GuestMemory,
    wake: Arc<dyn CpuWake>,
}

struct Translation {
    doorbell: Gpa,
    its: Mutex<Its>,
}

impl fmt::Debug for Gic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gic").field("vcpus", &self.cpus.len()).finish_non_exhaustive()
    }
}

/// A set of vCPUs.
#[derive(Clone, Copy, Default)]
struct CpuSet([u64; MAX_VCPUS as usize / 64]);

impl CpuSet {
    fn insert(&mut self, cpu: usize) {
        if let Some(word) = self.0.get_mut(cpu / 64) {
            *word |= 1 << (cpu % 64);
        }
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(n, word)| {
            let rest = std::iter::successors(Some(word), |word| Some(word & word.wrapping_sub(1)));
            rest.take_while(|word| *word != 0).map(move |word| 64 * n + word.trailing_zeros() as usize)
        })
    }
}

/// The vCPUs to wake after an operation.
#[derive(Default)]
struct Wakes {
    set: CpuSet,
    /// The vCPU whose own access this is. It need not be told that its output fell.
    caller: Option<usize>,
}

impl Wakes {
    fn by(caller: usize) -> Self {
        Self { set: CpuSet::default(), caller: Some(caller) }
    }
}

impl Gic {
    /// A controller as it is after power-on.
    ///
    /// # Panics
    /// When `config.vcpus` is 0 or above [`MAX_VCPUS`], or `config.spis` is above 988: the machine's plan fixes both.
    pub fn new(config: GicConfig, wake: Arc<dyn CpuWake>) -> Arc<Self> {
        assert!((1..=MAX_VCPUS).contains(&config.vcpus), "a GIC for {} vCPUs", config.vcpus);
        assert!(config.spis <= SPI_MAX, "a GIC with {} SPIs", config.spis);
        Arc::new(Self {
            distributor: Mutex::new(Spis::new(config.spis, config.vcpus)),
            cpus: (0..config.vcpus).map(|_| Slot::default()).collect(),
            its: config.doorbell.map(|doorbell| Translation { doorbell, its: Mutex::default() }),
            lpi_config: LpiConfig::default(),
            memory: config.memory,
            wake,
        })
    }

    /// The distributor's frame, 64 KiB.
    pub fn distributor(self: &Arc<Self>) -> Arc<dyn MmioDevice> {
        Arc::new(distributor::Frame(Arc::clone(self)))
    }

    /// The redistributors, 128 KiB for each vCPU, in the order of their numbers.
    pub fn redistributors(self: &Arc<Self>) -> Arc<dyn MmioDevice> {
        Arc::new(redistributor::Frames(Arc::clone(self)))
    }

    /// The ITS, 128 KiB. Without a doorbell it has no registers.
    pub fn its(self: &Arc<Self>) -> Arc<dyn MmioDevice> {
        Arc::new(its::Frames(Arc::clone(self)))
    }

    /// The input of SPI number `spi` (counted from 0: its INTID is 32 more).
    pub fn irq_line(self: &Arc<Self>, spi: u32) -> IrqLine {
        IrqLine::new(Arc::clone(self) as Arc<dyn IrqSink>, SPI_BASE.saturating_add(spi))
    }

    /// Drives the private interrupt `intid` (16..=31) of vCPU `cpu`.
    pub fn set_ppi(&self, cpu: u32, intid: u32, level: bool) {
        let Some(slot) = self.cpus.get(cpu as usize).filter(|_| (16..SPI_BASE).contains(&intid)) else {
            tracing::error!(cpu, intid, "no such private interrupt");
            return;
        };
        let mut wakes = Wakes::default();
        let mut state = lock(&slot.state);
        if state.private.set_level(intid, level) {
            self.publish(cpu as usize, &mut state, &mut wakes);
        }
        drop(state);
        self.wake_all(&wakes);
    }

    /// Whether vCPU `cpu`'s IRQ input is asserted. One atomic load.
    #[inline]
    pub fn irq_pending(&self, cpu: u32) -> bool {
        self.cpus.get(cpu as usize).is_some_and(|slot| slot.outputs.load(Ordering::Acquire) & IRQ != 0)
    }

    /// Whether vCPU `cpu`'s FIQ input is asserted. One atomic load.
    #[inline]
    pub fn fiq_pending(&self, cpu: u32) -> bool {
        self.cpus.get(cpu as usize).is_some_and(|slot| slot.outputs.load(Ordering::Acquire) & FIQ != 0)
    }

    /// Reads a CPU interface register for vCPU `cpu`, on its thread. `None` when there is no such register to read.
    pub fn icc_read(&self, cpu: u32, register: SysReg) -> Option<u64> {
        let index = cpu as usize;
        let slot = self.cpus.get(index)?;
        let state = || lock(&slot.state);
        Some(match register {
            icc::IAR0 => self.acknowledge(index, 0).into(),
            icc::IAR1 => self.acknowledge(index, 1).into(),
            icc::HPPIR0 => state().hppir(0).into(),
            icc::HPPIR1 => state().hppir(1).into(),
            icc::PMR => state().priority_mask().into(),
            icc::RPR => state().running_priority().into(),
            icc::BPR0 => state().bpr0().into(),
            icc::BPR1 => state().bpr1().into(),
            icc::CTLR => state().control(),
            icc::SRE => icc::SRE_ALL,
            icc::IGRPEN0 => state().group_enabled(0).into(),
            icc::IGRPEN1 => state().group_enabled(1).into(),
            icc::AP0R0 => state().active_priorities()[0].into(),
            icc::AP1R0 => state().active_priorities()[1].into(),
            _ => return None,
        })
    }

    /// Writes a CPU interface register for vCPU `cpu`, on its thread. `false` when there is no such register to write.
    pub fn icc_write(&self, cpu: u32, register: SysReg, value: u64) -> bool {
        let index = cpu as usize;
        if index >= self.cpus.len() {
            return false;
        }
        match register {
            icc::EOIR0 => self.end_of_interrupt(index, 0, value),
            icc::EOIR1 => self.end_of_interrupt(index, 1, value),
            icc::DIR => self.deactivate(index, value),
            icc::SGI1R => self.send_sgi(index, value, 0b11),
            // With one security state there is no other whose group 1 could be meant: as for group 0.
            icc::SGI0R | icc::ASGI1R => self.send_sgi(index, value, 0b01),
            icc::SRE => {}
            icc::IGRPEN0 | icc::IGRPEN1 => {
                let group = u8::from(register == icc::IGRPEN1);
                self.with_cpu(index, |state| state.enable_group(group, value));
                self.update_taker(index);
            }
            icc::PMR => self.with_cpu(index, |state| state.set_priority_mask(value)),
            icc::BPR0 => self.with_cpu(index, |state| state.set_bpr0(value)),
            icc::BPR1 => self.with_cpu(index, |state| state.set_bpr1(value)),
            icc::CTLR => self.with_cpu(index, |state| state.set_control(value)),
            icc::AP0R0 => self.with_cpu(index, |state| state.set_active_priorities(0, value)),
            icc::AP1R0 => self.with_cpu(index, |state| state.set_active_priorities(1, value)),
            _ => return false,
        }
        true
    }

    /// Changes the state of `cpu`, whose thread this is, alone.
    fn with_cpu(&self, cpu: usize, change: impl FnOnce(&mut CpuState)) {
        let mut wakes = Wakes::by(cpu);
        self.update_cpu(cpu, &mut wakes, change);
        self.wake_all(&wakes);
    }

    /// Changes the state of `cpu`.
    fn update_cpu(&self, cpu: usize, wakes: &mut Wakes, change: impl FnOnce(&mut CpuState)) {
        if let Some(slot) = self.cpus.get(cpu) {
            let mut state = lock(&slot.state);
            change(&mut state);
            self.publish(cpu, &mut state, wakes);
        }
    }

    /// Brings the outputs of `cpu` up to date with its state, whose lock the caller holds.
    fn publish(&self, cpu: usize, state: &mut CpuState, wakes: &mut Wakes) {
        let Some(slot) = self.cpus.get(cpu) else { return };
        let outputs = state.outputs(&self.lpi_config);
        let before = slot.outputs.load(Ordering::Relaxed);
        if outputs != before {
            slot.outputs.store(outputs, Ordering::Release);
            if outputs & !before != 0 || wakes.caller != Some(cpu) {
                wakes.set.insert(cpu);
            }
        }
    }

    /// Calls [`CpuWake::wake`]; the caller holds no lock.
    fn wake_all(&self, wakes: &Wakes) {
        wakes.set.iter().for_each(|cpu| self.wake.wake(cpu as u32));
    }

    /// Gives `cpu` its best SPIs anew.
    fn refresh(&self, spis: &Spis, cpu: usize, wakes: &mut Wakes) {
        let best = spis.best(cpu);
        self.update_cpu(cpu, wakes, |state| state.spi = best);
    }

    fn refresh_all(&self, spis: &Spis, wakes: &mut Wakes) {
        (0..self.cpus.len()).for_each(|cpu| self.refresh(spis, cpu, wakes));
    }

    /// Refreshes the vCPU that `intid` is routed to.
    fn refresh_target(&self, spis: &Spis, intid: u32, wakes: &mut Wakes) {
        if let Some(cpu) = spis.target(intid) {
            self.refresh(spis, cpu, wakes);
        }
    }

    /// Routes 1-of-N interrupts anew when `cpu` begins or ends to take them.
    fn update_taker(&self, cpu: usize) {
        let Some(slot) = self.cpus.get(cpu) else { return };
        let mut wakes = Wakes::by(cpu);
        let mut spis = lock(&self.distributor);
        let groups = lock(&slot.state).takes_any();
        if spis.set_taker(cpu, groups) {
            self.refresh_all(&spis, &mut wakes);
        }
        drop(spis);
        self.wake_all(&wakes);
    }

    /// `ICC_IAR0_EL1` and `ICC_IAR1_EL1`.
    fn acknowledge(&self, cpu: usize, group: u8) -> u32 {
        let Some(slot) = self.cpus.get(cpu) else { return INTID_NONE };
        let mut wakes = Wakes::by(cpu);
        let mut state = lock(&slot.state);
        let Some(candidate) = state.signalled().filter(|candidate| candidate.group == group) else {
            return INTID_NONE;
        };
        if (SPI_BASE..INTID_SPECIAL).contains(&candidate.intid) {
            drop(state);
            return self.acknowledge_any(cpu, slot, group);
        }
        state.acknowledge(candidate);
        self.publish(cpu, &mut state, &mut wakes);
        drop(state);
        self.wake_all(&wakes);
        candidate.intid
    }

    /// [`Self::acknowledge`] when the interrupt may be an SPI: with the distributor locked.
    fn acknowledge_any(&self, cpu: usize, slot: &Slot, group: u8) -> u32 {
        let mut wakes = Wakes::by(cpu);
        let mut spis = lock(&self.distributor);
        let mut state = lock(&slot.state);
        let Some(candidate) = state.signalled().filter(|candidate| candidate.group == group) else {
            return INTID_NONE;
        };
        state.acknowledge(candidate);
        spis.activate(candidate.intid);
        state.spi = spis.best(cpu);
        self.publish(cpu, &mut state, &mut wakes);
        drop(state);
        drop(spis);
        self.wake_all(&wakes);
        candidate.intid
    }

    /// `ICC_EOIR0_EL1` and `ICC_EOIR1_EL1`.
    fn end_of_interrupt(&self, cpu: usize, group: usize, value: u64) {
        let Some(slot) = self.cpus.get(cpu) else { return };
        let intid = value as u32 & 0xff_ffff;
        if (INTID_SPECIAL..LPI_BASE).contains(&intid) {
            return;
        }
        let mut wakes = Wakes::by(cpu);
        let mut state = lock(&slot.state);
        let ends = state.drop_priority(group) && !state.split_eoi();
        if ends && intid < SPI_BASE {
            state.private.deactivate(intid);
        }
        self.publish(cpu, &mut state, &mut wakes);
        drop(state);
        if ends {
            self.deactivate_spi(intid, &mut wakes);
        }
        self.wake_all(&wakes);
    }

    /// `ICC_DIR_EL1`.
    fn deactivate(&self, cpu: usize, value: u64) {
        let Some(slot) = self.cpus.get(cpu) else { return };
        let intid = value as u32 & 0xff_ffff;
        let mut wakes = Wakes::by(cpu);
        let mut state = lock(&slot.state);
        if !state.split_eoi() {
            return;
        }
        if intid < SPI_BASE {
            state.private.deactivate(intid);
            self.publish(cpu, &mut state, &mut wakes);
        }
        drop(state);
        self.deactivate_spi(intid, &mut wakes);
        self.wake_all(&wakes);
    }

    /// Ends the active state of `intid` if it is an SPI.
    fn deactivate_spi(&self, intid: u32, wakes: &mut Wakes) {
        if (SPI_BASE..INTID_SPECIAL).contains(&intid) {
            let mut spis = lock(&self.distributor);
            if spis.deactivate(intid) {
                self.refresh_target(&spis, intid, wakes);
            }
        }
    }

    /// `ICC_SGI0R_EL1`, `ICC_SGI1R_EL1` and `ICC_ASGI1R_EL1`: sends the SGI to the vCPUs that `value` selects, if it
    /// belongs to one of the groups in the mask there.
    fn send_sgi(&self, from: usize, value: u64, groups: u8) {
        let intid = (value >> 24 & 15) as u32;
        let mut wakes = Wakes::by(from);
        let mut send = |cpu| {
            self.update_cpu(cpu, &mut wakes, |state| {
                if groups >> state.private.group(intid) & 1 == 1 {
                    state.private.message(intid, true);
                }
            });
        };
        if value & icc::SGI_IRM != 0 {
            (0..self.cpus.len()).filter(|cpu| *cpu != from).for_each(&mut send);
        } else {
            // Level 3 in bits 55:48, the range selector in 47:44, level 2 in 39:32: all zero for every vCPU here.
            if value >> 32 & 0x00ff_f0ff != 0 {
                return;
            }
            let first = (value >> 16 & 0xff) as usize * 16;
            (0..16).filter(|n| value >> n & 1 == 1).map(|n| first + n).for_each(&mut send);
        }
        self.wake_all(&wakes);
    }
}

impl IrqSink for Gic {
    fn set_level(&self, line: u32, level: bool) {
        let mut wakes = Wakes::default();
        let mut spis = lock(&self.distributor);
        if spis.set_level(line, level) {
            self.refresh_target(&spis, line, &mut wakes);
        }
        drop(spis);
        self.wake_all(&wakes);
    }
}

impl MsiSink for Gic {
    fn signal(&self, msi: Msi) {
        self.signal_event(msi);
    }
}

/// The vCPU whose affinity levels 0 to 2 are in the low bits of `affinity`.
fn vcpu_at(affinity: u64) -> Option<usize> {
    let (level0, level1, level2) = (affinity & 0xff, affinity >> 8 & 0xff, affinity >> 16 & 0xff);
    (level0 < 16 && level2 == 0).then_some((level1 * 16 + level0) as usize)
}

/// Those interrupts of a bank, whose groups are in `group`, that belong to the groups in the mask `groups`.
fn group_mask(group: u32, groups: u8) -> u32 {
    let zero = if groups & 0b01 != 0 { !group } else { 0 };
    let one = if groups & 0b10 != 0 { group } else { 0 };
    zero | one
}
