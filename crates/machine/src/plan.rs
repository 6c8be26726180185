//! The plan: what is where, resolved from a configuration before anything is built.
//!
//! A plan is plain data. Printing it answers "which address, which interrupt, which slot" for a bug report, and the
//! golden test below keeps those answers stable from release to release.

use std::{fmt, ops::Range};

use tearless_memory::Gpa;

use crate::{Error, board};

/// What stands in a PCIe slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// virtio console: one terminal.
    Console,
    /// virtio console device with the named streams.
    Streams,
    /// virtio entropy source.
    Rng,
    /// virtio block device; the index of the disk.
    Block(usize),
}

/// The streams stand in the last slot, so that a disk's slot does not depend on whether there are any.
const STREAMS_SLOT: u8 = 31;
/// The console, the entropy source and the streams have slots of their own.
const MAX_DISKS: usize = 28;

/// One PCIe slot of bus 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Device number; function 0.
    pub number: u8,
    /// What stands there.
    pub kind: SlotKind,
}

/// Where everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many vCPUs.
    pub vcpus: u32,
    /// The RAM.
    pub ram: Range<Gpa>,
    /// The redistributors' range, as long as the vCPUs need.
    pub redistributors: Range<Gpa>,
    /// The PCIe slots.
    pub slots: Vec<Slot>,
}

impl Plan {
    /// Resolves a machine with `vcpus` vCPUs, `memory` bytes of RAM and `disks` disks, and with or without named
    /// streams.
    ///
    /// # Errors
    /// When the board has no room for that many.
    pub fn new(vcpus: u32, memory: u64, disks: usize, streams: bool) -> Result<Self, Error> {
        if vcpus == 0 || vcpus > board::MAX_VCPUS {
            return Err(Error::Board(format!(
                "{vcpus} vCPUs do not fit: the board takes 1 to {}",
                board::MAX_VCPUS
            )));
        }
        if memory == 0 || !memory.is_multiple_of(0x1000) || memory > board::RAM_MAX {
            return Err(Error::Board(format!(
                "{memory} bytes of memory do not fit: the board takes whole pages, up to {} GiB",
                board::RAM_MAX >> 30
            )));
        }
        if disks > MAX_DISKS {
            return Err(Error::Board(format!("{disks} disks do not fit: the board takes up to {MAX_DISKS}")));
        }
        let kinds = [SlotKind::Console, SlotKind::Rng].into_iter().chain((0..disks).map(SlotKind::Block));
        let last = streams.then_some((STREAMS_SLOT, SlotKind::Streams));
        let slots = (1..STREAMS_SLOT).zip(kinds).chain(last).map(|(number, kind)| Slot { number, kind });
        let redistributors =
            board::GICR.start..board::GICR.start + u64::from(vcpus) * board::REDISTRIBUTOR_SIZE;
        Ok(Self {
            vcpus,
            ram: board::RAM_BASE..board::RAM_BASE + memory,
            redistributors,
            slots: slots.collect(),
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, range: &Range<Gpa>, intid: Option<u32>| {
            let intid = intid.map(|i| format!("  INTID {i}")).unwrap_or_default();
            writeln!(f, "{:#014x}..{:#014x}  {name}{intid}", range.start.0, range.end.0)
        };
        line("GIC distributor", &board::GICD, None)?;
        line("GIC ITS", &board::ITS, None)?;
        line("GIC redistributors", &self.redistributors, None)?;
        line("PL011 UART", &board::UART, Some(board::UART_INTID))?;
        line("PL031 RTC", &board::RTC, Some(board::RTC_INTID))?;
        line("PL061 GPIO", &board::GPIO, Some(board::GPIO_INTID))?;
        line("PCIe 32-bit window", &board::PCIE_MEM32, None)?;
        line("RAM", &self.ram, None)?;
        line("PCIe ECAM", &board::PCIE_ECAM, None)?;
        line("PCIe 64-bit window", &board::PCIE_MEM64, None)?;
        writeln!(f, "{} vCPUs", self.vcpus)?;
        for slot in &self.slots {
            writeln!(f, "00:{:02x}.0  virtio {:?}", slot.number, slot.kind)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_stable() {
        let plan = Plan::new(2, 1 << 30, 1, true).unwrap();
        assert_eq!(
            plan.to_string(),
            "\
0x000008000000..0x000008010000  GIC distributor
0x000008080000..0x0000080a0000  GIC ITS
0x0000080a0000..0x0000080e0000  GIC redistributors
0x000009000000..0x000009001000  PL011 UART  INTID 33
0x000009010000..0x000009011000  PL031 RTC  INTID 34
0x000009030000..0x000009031000  PL061 GPIO  INTID 39
0x000010000000..0x00003eff0000  PCIe 32-bit window
0x000040000000..0x000080000000  RAM
0x004010000000..0x004020000000  PCIe ECAM
0x008000000000..0x010000000000  PCIe 64-bit window
2 vCPUs
00:01.0  virtio Console
00:02.0  virtio Rng
00:03.0  virtio Block(0)
00:1f.0  virtio Streams
"
        );
    }

    #[test]
    fn refuses_what_the_board_cannot_take() {
        assert!(Plan::new(0, 1 << 30, 0, false).is_err());
        assert!(Plan::new(board::MAX_VCPUS, 1 << 30, 28, true).is_ok());
        assert!(Plan::new(board::MAX_VCPUS + 1, 1 << 30, 0, false).is_err());
        assert!(Plan::new(1, board::RAM_MAX + 0x1000, 0, false).is_err());
        assert!(Plan::new(1, 0x1001, 0, false).is_err());
        assert!(Plan::new(1, 1 << 30, 29, false).is_err());
    }

    #[test]
    fn streams_move_nothing() {
        let without = Plan::new(1, 1 << 30, 28, false).unwrap().slots;
        let with = Plan::new(1, 1 << 30, 28, true).unwrap().slots;
        assert_eq!(
            with.strip_prefix(without.as_slice()),
            Some(&[Slot { number: 31, kind: SlotKind::Streams }][..])
        );
    }
}
