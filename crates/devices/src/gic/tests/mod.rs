//! Tests that drive the registers as a guest's driver does.

use std::sync::atomic::{AtomicU32, Ordering};

use tearless_arm64::gic::{gicd, gicr, gits, icc, irq};
use tearless_bus::AccessError;

use super::*;

mod fuzz;
mod its;
mod lines;
mod priorities;
mod sgis;
mod state;

/// Counts the wakes of each vCPU.
#[derive(Default)]
struct Wakes([AtomicU32; 32]);

impl CpuWake for Wakes {
    fn wake(&self, index: u32) {
        self.0[index as usize].fetch_add(1, Ordering::SeqCst);
    }
}

const ITS_BASE: u64 = 0x0808_0000;
const RAM: u64 = 0x4000_0000;
const RAM_LEN: u64 = 0x40_0000;

/// A GIC and what a machine has around it.
struct Board {
    gic: Arc<Gic>,
    memory: GuestMemory,
    wakes: Arc<Wakes>,
    gicd: Arc<dyn MmioDevice>,
    gicr: Arc<dyn MmioDevice>,
    gits: Arc<dyn MmioDevice>,
}

fn read(device: &dyn MmioDevice, offset: u64) -> u32 {
    let mut data = [0; 4];
    device.read(offset, &mut data).unwrap();
    u32::from_le_bytes(data)
}

fn read64(device: &dyn MmioDevice, offset: u64) -> u64 {
    let mut data = [0; 8];
    device.read(offset, &mut data).unwrap();
    u64::from_le_bytes(data)
}

fn write(device: &dyn MmioDevice, offset: u64, value: u32) {
    device.write(offset, &value.to_le_bytes()).unwrap();
}

fn write64(device: &dyn MmioDevice, offset: u64, value: u64) {
    device.write(offset, &value.to_le_bytes()).unwrap();
}

impl Board {
    /// As after power-on.
    fn cold(vcpus: u32, spis: u32) -> Self {
        let memory = GuestMemory::new(&[Gpa(RAM)..Gpa(RAM + RAM_LEN)]).unwrap();
        let wakes = Arc::new(Wakes::default());
        let doorbell = Some(Gpa(ITS_BASE + gits::TRANSLATER));
        let config = GicConfig { vcpus, spis, doorbell, memory: memory.clone() };
        let gic = Gic::new(config, Arc::clone(&wakes) as _);
        let (gicd, gicr, gits) = (gic.distributor(), gic.redistributors(), gic.its());
        Self { gic, memory, wakes, gicd, gicr, gits }
    }

    /// Another one, in the state of this one and on the same memory.
    fn saved_and_restored(&self) -> Self {
        let state = self.gic.save().unwrap();
        let wakes = Arc::new(Wakes::default());
        let doorbell = Some(Gpa(ITS_BASE + gits::TRANSLATER));
        let (vcpus, spis) = (self.gic.cpus.len() as u32, lock(&self.gic.distributor).count());
        let config = GicConfig { vcpus, spis, doorbell, memory: self.memory.clone() };
        let gic = Gic::new(config, Arc::clone(&wakes) as _);
        gic.restore(&state).unwrap();
        assert_eq!(gic.save().unwrap(), state);
        let (gicd, gicr, gits) = (gic.distributor(), gic.redistributors(), gic.its());
        Self { gic, memory: self.memory.clone(), wakes, gicd, gicr, gits }
    }

    /// As Linux sets it up: all in group 1 at priority 0xa0, mask 0xf0, both groups on.
    fn new(vcpus: u32) -> Self {
        let board = Self::cold(vcpus, 96);
        for bank in 1..4 {
            write(&*board.gicd, irq::IGROUPR + 4 * bank, u32::MAX);
        }
        for intid in (32..128).step_by(4) {
            write(&*board.gicd, irq::IPRIORITYR + intid, 0xa0a0_a0a0);
        }
        write(&*board.gicd, gicd::CTLR, gicd::CTLR_ARE | gicd::CTLR_ENABLE_GRP1 | gicd::CTLR_ENABLE_GRP0);
        for cpu in 0..vcpus {
            board.write_gicr(cpu, gicr::WAKER, 0);
            board.write_sgi(cpu, irq::IGROUPR, u32::MAX);
            for intid in (0..32).step_by(4) {
                board.write_sgi(cpu, irq::IPRIORITYR + intid, 0xa0a0_a0a0);
            }
            board.write_sgi(cpu, irq::ISENABLER, 0xffff);
            board.set(cpu, icc::PMR, 0xf0);
            board.set(cpu, icc::IGRPEN1, 1);
        }
        board
    }

    fn write_gicr(&self, cpu: u32, offset: u64, value: u32) {
        write(&*self.gicr, u64::from(cpu) * gicr::SIZE + offset, value);
    }

    fn read_gicr(&self, cpu: u32, offset: u64) -> u32 {
        read(&*self.gicr, u64::from(cpu) * gicr::SIZE + offset)
    }

    fn write_sgi(&self, cpu: u32, offset: u64, value: u32) {
        self.write_gicr(cpu, gicr::FRAME + offset, value);
    }

    fn read_sgi(&self, cpu: u32, offset: u64) -> u32 {
        self.read_gicr(cpu, gicr::FRAME + offset)
    }

    fn set(&self, cpu: u32, register: SysReg, value: u64) {
        assert!(self.gic.icc_write(cpu, register, value), "{register} cannot be written");
    }

    fn get(&self, cpu: u32, register: SysReg) -> u64 {
        self.gic.icc_read(cpu, register).unwrap_or_else(|| panic!("{register} cannot be read"))
    }

    /// Enables an SPI of vCPU 0.
    fn enable_spi(&self, intid: u64) {
        write(&*self.gicd, irq::ISENABLER + intid / 32 * 4, 1 << (intid % 32));
    }

    fn edge_spi(&self, intid: u64) {
        let offset = irq::ICFGR + intid / 16 * 4;
        write(&*self.gicd, offset, read(&*self.gicd, offset) | 2 << (intid % 16 * 2));
    }

    fn route(&self, intid: u64, value: u64) {
        write64(&*self.gicd, gicd::IROUTER + 8 * intid, value);
    }

    fn priority(&self, intid: u64, priority: u8) {
        self.gicd.write(irq::IPRIORITYR + intid, &[priority]).unwrap();
    }

    /// How often vCPU `cpu` was woken since the last time.
    fn woken(&self, cpu: u32) -> u32 {
        self.wakes.0[cpu as usize].swap(0, Ordering::SeqCst)
    }
}
