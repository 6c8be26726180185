//! The PCI segment: configuration space of every slot, BARs wherever the guest puts them, MSI-X.

use std::sync::Arc;

use tearless_bus::{IrqLine, Msi, MsiSink};
use tearless_memory::{Gpa, GuestMemory};
use tearless_pci::{PciHost, PciHostConfig};
use tearless_virtio::{VirtioPci, rng::Rng};

use crate::Input;

const RAM: Gpa = Gpa(0x4000_0000);
const MEM32: Gpa = Gpa(0x1000_0000);
const MEM64: Gpa = Gpa(0x80_0000_0000);
const BUSES: u16 = 2;
const SLOTS: u8 = 3;

struct Ignore;

impl MsiSink for Ignore {
    fn signal(&self, _: Msi) {}
}

/// Accesses to configuration space and both windows. The windows reach exactly where BARs can be, so they are fuzzed
/// from where the guest last put one.
pub fn pci(data: &[u8]) {
    let mut input = Input::new(data);
    let Ok(memory) = GuestMemory::new(&[RAM..RAM + 0x1_0000]) else { return };
    let host = PciHost::new(PciHostConfig {
        mem32: MEM32..Gpa(0x3eff_0000),
        mem64: MEM64..Gpa(2 * MEM64.0),
        buses: BUSES,
        intx: std::array::from_fn(|_| IrqLine::detached()),
        msi: Arc::new(Ignore),
    });
    for slot in 1..=SLOTS {
        let Ok(function) = VirtioPci::new(Rng::new(), memory.clone()) else { return };
        assert!(host.add(slot, function).is_ok());
    }
    let (ecam, low, high) = (host.ecam(), host.window32(), host.window64());
    let mut base = 0;
    while !input.is_empty() {
        let slot = u64::from(input.u8() % (SLOTS + 2)) << 15;
        match input.u8() % 8 {
            0 => input.access(&*ecam, host.ecam_size()),
            1 => {
                let register = slot | u64::from(input.u8());
                let value = input.value().to_le_bytes();
                let len = 1 << (input.u8() % 4);
                _ = ecam.write(register, &value[..len]);
                _ = ecam.read(register, &mut [0; 8][..len]);
            }
            2 => {
                base = u64::from(input.u16()) << 15;
                let bar = MEM64.0 + base;
                _ = ecam.write(slot | 0x14, &((bar >> 32) as u32).to_le_bytes());
                _ = ecam.write(slot | 0x10, &(bar as u32).to_le_bytes());
                _ = ecam.write(slot | 0x04, &[input.u8() | 2, input.u8()]);
            }
            3 => input.access(&*low, 0x2eff_0000),
            _ => {
                let offset = base + u64::from(input.u16() & 0x7fff);
                let len = 1 << (input.u8() % 4);
                let mut bytes = input.value().to_le_bytes();
                if input.flag() {
                    _ = high.write(offset, &bytes[..len]);
                } else {
                    _ = high.read(offset, &mut bytes[..len]);
                }
            }
        }
    }
}
