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
    /// A device that the machine's owner brings; its index among them.
    Attached(usize),
}

/// The slots of the disks.
const DISKS: Range<u8> = 3..13;
/// The slots of the devices that the machine's owner brings, by virtio device type (section 5). Each type has a range of
/// its own, so that a device's slot does not depend on what else there is.
const ATTACHED: [(u16, &str, Range<u8>); 7] = [
    (1, "network devices", 13..17),
    (26, "shared folders", 17..25),
    (19, "sockets", 25..26),
    (5, "balloons", 26..27),
    (16, "displays", 27..28),
    (18, "input devices", 28..30),
    (25, "sound devices", 30..31),
];
/// The streams stand in the last slot.
const STREAMS_SLOT: u8 = 31;

/// What a machine is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// How many vCPUs.
    pub vcpus: u32,
    /// How much RAM, in bytes.
    pub memory: u64,
    /// How many disks.
    pub disks: usize,
    /// Whether there are named streams.
    pub streams: bool,
    /// The virtio device types of the devices that the machine's owner brings.
    pub attached: Vec<u16>,
}

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
    /// Resolves a machine of `shape`.
    ///
    /// # Errors
    /// When the board has no room for that much.
    pub fn new(shape: &Shape) -> Result<Self, Error> {
        let &Shape { vcpus, memory, .. } = shape;
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
        let redistributors =
            board::GICR.start..board::GICR.start + u64::from(vcpus) * board::REDISTRIBUTOR_SIZE;
        Ok(Self {
            vcpus,
            ram: board::RAM_BASE..board::RAM_BASE + memory,
            redistributors,
            slots: slots(shape)?,
        })
    }
}

fn slots(shape: &Shape) -> Result<Vec<Slot>, Error> {
    let mut slots =
        vec![Slot { number: 1, kind: SlotKind::Console }, Slot { number: 2, kind: SlotKind::Rng }];
    let disks: Vec<_> = (0..shape.disks).map(SlotKind::Block).collect();
    fill(&mut slots, "disks", DISKS, &disks)?;
    for (id, name, range) in ATTACHED {
        let with_index = shape.attached.iter().enumerate();
        let kinds: Vec<_> =
            with_index.filter(|(_, a)| **a == id).map(|(i, _)| SlotKind::Attached(i)).collect();
        fill(&mut slots, name, range, &kinds)?;
    }
    if let Some(id) = shape.attached.iter().find(|a| ATTACHED.iter().all(|(id, ..)| id != *a)) {
        return Err(Error::Board(format!("the board has no slot for virtio devices of type {id}")));
    }
    slots.extend(shape.streams.then_some(Slot { number: STREAMS_SLOT, kind: SlotKind::Streams }));
    Ok(slots)
}

/// Puts devices of `kinds` into the slots of `range`.
fn fill(slots: &mut Vec<Slot>, name: &str, range: Range<u8>, kinds: &[SlotKind]) -> Result<(), Error> {
    if kinds.len() > range.len() {
        return Err(Error::Board(format!(
            "{} {name} do not fit: the board takes up to {}",
            kinds.len(),
            range.len()
        )));
    }
    slots.extend(range.zip(kinds).map(|(number, &kind)| Slot { number, kind }));
    Ok(())
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
        let shape =
            Shape { vcpus: 2, memory: 1 << 30, disks: 1, streams: true, attached: vec![26, 1, 26, 19, 5] };
        let plan = Plan::new(&shape).unwrap();
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
00:0d.0  virtio Attached(1)
00:11.0  virtio Attached(0)
00:12.0  virtio Attached(2)
00:19.0  virtio Attached(3)
00:1a.0  virtio Attached(4)
00:1f.0  virtio Streams
"
        );
    }

    #[test]
    fn refuses_what_the_board_cannot_take() {
        let fits =
            Shape { vcpus: board::MAX_VCPUS, memory: 1 << 30, disks: 10, streams: true, attached: vec![] };
        assert!(Plan::new(&fits).is_ok());
        for wrong in [
            Shape { vcpus: 0, ..fits.clone() },
            Shape { vcpus: board::MAX_VCPUS + 1, ..fits.clone() },
            Shape { memory: board::RAM_MAX + 0x1000, ..fits.clone() },
            Shape { memory: 0x1001, ..fits.clone() },
            Shape { disks: 11, ..fits.clone() },
            Shape { attached: vec![1; 5], ..fits.clone() },
            Shape { attached: vec![999], ..fits.clone() },
        ] {
            assert!(Plan::new(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn no_device_moves_another() {
        let bare = Shape { vcpus: 1, memory: 1 << 30, disks: 2, ..Shape::default() };
        let full = Shape { streams: true, attached: vec![1, 5, 16, 18, 19, 25, 26], ..bare.clone() };
        let (bare, full) = (Plan::new(&bare).unwrap().slots, Plan::new(&full).unwrap().slots);
        assert!(bare.iter().all(|slot| full.contains(slot)));
        assert_eq!(full.len(), bare.len() + 8);
    }
}
