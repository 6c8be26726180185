//! Commands as software writes them to the queue (IHI 0069, 5.3).

use tearless_arm64::gic::gits::command;

/// An event of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// Requester.
    pub device: u32,
    /// What it writes to the doorbell.
    pub event: u32,
}

/// A decoded command. Numbers are as wide as their field: whoever executes it checks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Maps a device with `event_bits` bits of events, or unmaps it.
    MapDevice { device: u32, event_bits: Option<u32> },
    /// Maps a collection to a redistributor, or unmaps it.
    MapCollection { collection: u16, target: Option<u32> },
    /// Maps an event to an LPI.
    MapEvent { id: EventId, lpi: u32, collection: u16 },
    /// Moves an event to another collection.
    Move { id: EventId, collection: u16 },
    /// Moves all that is pending at a redistributor to another.
    MoveAll { from: u32, to: u32 },
    /// Reads the configuration of an event's LPI anew.
    Invalidate { id: EventId },
    /// Reads the configuration of a collection's LPIs anew.
    InvalidateAll { collection: u16 },
    /// Makes an event's LPI pending.
    Set { id: EventId },
    /// Ends the pending state of an event's LPI.
    Clear { id: EventId },
    /// Unmaps an event and ends the pending state of its LPI.
    Discard { id: EventId },
    /// Waits for earlier commands, which are always done here.
    Sync,
}

impl Command {
    /// Decodes a command's four words. `None` for a number that is none (or of GICv4).
    pub fn decode(words: [u64; 4]) -> Option<Self> {
        let id = EventId { device: (words[0] >> 32) as u32, event: words[1] as u32 };
        let valid = words[2] >> 63 == 1;
        let collection = words[2] as u16;
        // Bits 50:16; with processor numbers as targets those of 16 bits matter, wider ones name no redistributor.
        let target = |word: u64| (word >> 16 & 0x7_ffff_ffff).try_into().unwrap_or(u32::MAX);
        Some(match words[0] as u8 {
            command::MAPD => Self::MapDevice {
                device: id.device,
                event_bits: valid.then_some((words[1] & 0x1f) as u32 + 1),
            },
            command::MAPC => Self::MapCollection { collection, target: valid.then_some(target(words[2])) },
            command::MAPTI => Self::MapEvent { id, lpi: (words[1] >> 32) as u32, collection },
            command::MAPI => Self::MapEvent { id, lpi: id.event, collection },
            command::MOVI => Self::Move { id, collection },
            command::MOVALL => Self::MoveAll { from: target(words[2]), to: target(words[3]) },
            command::INV => Self::Invalidate { id },
            command::INVALL => Self::InvalidateAll { collection },
            command::INT => Self::Set { id },
            command::CLEAR => Self::Clear { id },
            command::DISCARD => Self::Discard { id },
            command::SYNC => Self::Sync,
            _ => return None,
        })
    }
}
