//! The interrupt controller: registers, tables in guest memory, lines, messages, system registers.

use std::sync::Arc;

use tearless_arm64::gic::{gicd, gicr, gits, icc};
use tearless_bus::{CpuWake, IrqSink, Msi, MsiSink};
use tearless_devices::gic::{Gic, GicConfig};
use tearless_memory::{Gpa, GuestMemory};

use crate::Input;

const RAM: Gpa = Gpa(0x4000_0000);
const RAM_SIZE: u64 = 0x4_0000;
const ITS: u64 = 0x0808_0000;
const SPIS: u32 = 96;
const MAX_VCPUS: u64 = 4;

struct Ignore;

impl CpuWake for Ignore {
    fn wake(&self, _: u32) {}
}

/// Distributor, redistributors, ITS and the CPU interfaces of up to four vCPUs.
pub fn gic(data: &[u8]) {
    let mut input = Input::new(data);
    let Ok(memory) = GuestMemory::new(&[RAM..RAM + RAM_SIZE]) else { return };
    let vcpus = 1 + input.below(MAX_VCPUS) as u32;
    let doorbell = Some(Gpa(ITS + gits::TRANSLATER));
    let gic = Gic::new(GicConfig { vcpus, spis: SPIS, doorbell, memory: memory.clone() }, Arc::new(Ignore));
    let (gicd, gicr, gits) = (gic.distributor(), gic.redistributors(), gic.its());
    while !input.is_empty() {
        let cpu = input.below(u64::from(vcpus) + 1) as u32;
        match input.u8() % 12 {
            0 => input.access(&*gicd, gicd::SIZE),
            1 => input.access(&*gicr, gicr::SIZE * u64::from(vcpus)),
            2 => input.access(&*gits, gits::SIZE),
            3 => gic.set_level(input.u8().into(), input.flag()),
            4 => gic.set_ppi(cpu, 16 + u32::from(input.u8() % 16), input.flag()),
            5 => {
                let doorbell = Gpa(ITS + gits::TRANSLATER);
                gic.signal(Msi {
                    address: doorbell,
                    data: input.value() as u32,
                    device_id: input.value() as u32,
                });
            }
            6 => place_table(&mut input, &*gits, &*gicr),
            7 | 8 => place_command(&mut input, &memory),
            9 => {
                let at = input.below(RAM_SIZE);
                let len = input.u8().into();
                _ = memory.write(RAM + at, input.bytes(len));
            }
            10 => drop(gic.icc_read(cpu, input.pick(&icc::ALL))),
            _ => drop(gic.icc_write(cpu, input.pick(&icc::ALL), input.value())),
        }
        _ = (gic.irq_pending(cpu), gic.fiq_pending(cpu));
    }
}

/// An address in RAM, as a table's or the command queue's.
fn table(input: &mut Input) -> u64 {
    RAM.0 + input.below(RAM_SIZE / 0x1000) * 0x1000
}

/// Writes one of the registers that make the tables and the command queue exist.
fn place_table(input: &mut Input, gits: &dyn tearless_bus::MmioDevice, gicr: &dyn tearless_bus::MmioDevice) {
    let low = u64::from(input.u16() & 0xfff);
    let address = table(input) | low;
    let (device, offset, value) = match input.u8() % 8 {
        0 => (gits, gits::CTLR, 1),
        1 => (gits, gits::CBASER, gits::VALID | address),
        2 => (gits, gits::CWRITER, u64::from(input.u8()) * 32),
        3 | 4 => (gits, gits::BASER + 8 * input.below(2), gits::VALID | address | input.u64() & 0x7fff << 48),
        5 => (gicr, gicr::PROPBASER, address & !0x1f | 0xf),
        6 => (gicr, gicr::PENDBASER, address),
        _ => (gicr, gicr::CTLR, 1),
    };
    _ = device.write(offset, &value.to_le_bytes()[..if offset == gits::CTLR { 4 } else { 8 }]);
}

/// A command in one of the first slots of a page that may be the queue.
fn place_command(input: &mut Input, memory: &GuestMemory) {
    let at = table(input) + 32 * input.below(8);
    let kind = u64::from(input.u8() % 16) | u64::from(input.u8()) << 32;
    let words = [kind, input.value(), input.value(), input.value()];
    for (word, place) in words.into_iter().zip((at..).step_by(8)) {
        _ = memory.write(Gpa(place), &word.to_le_bytes());
    }
}
