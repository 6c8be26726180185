//! The registers and pins.

use serde::{Deserialize, Serialize};

use super::spec;
use crate::access::{primecell_id, primecell_ids};

/// The state of the eight pins.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registers {
    /// What others drive.
    inputs: u8,
    /// What the guest drives, where a pin is an output.
    outputs: u8,
    direction: u8,
    sense: u8,
    both_edges: u8,
    event: u8,
    enable: u8,
    /// Edges seen.
    edges: u8,
    function: u8,
}

impl Registers {
    /// Drives an input pin (0..=7).
    pub fn set_input(&mut self, pin: u8, level: bool) {
        let before = self.inputs;
        let bit = 1 << (pin & 7);
        self.inputs = if level { before | bit } else { before & !bit };
        let wanted = self.both_edges | !(self.inputs ^ self.event);
        self.edges |= (before ^ self.inputs) & wanted & !self.sense & !self.direction;
    }

    /// The level of the interrupt output.
    pub fn interrupt(&self) -> bool {
        self.raw() & self.enable != 0
    }

    /// Whether `pin` (0..=7) may interrupt.
    pub fn interrupts_of(&self, pin: u8) -> bool {
        self.enable & 1 << (pin & 7) != 0
    }

    fn raw(&self) -> u8 {
        let levels = !(self.inputs ^ self.event) & self.sense & !self.direction;
        self.edges & !self.sense | levels
    }

    /// Reads a register.
    pub fn read(&self, offset: u64) -> Option<u32> {
        let byte = match offset {
            spec::DATA..spec::DATA_END => {
                let pins = self.outputs & self.direction | self.inputs & !self.direction;
                pins & (offset >> 2) as u8
            }
            spec::DIR => self.direction,
            spec::IS => self.sense,
            spec::IBE => self.both_edges,
            spec::IEV => self.event,
            spec::IE => self.enable,
            spec::RIS => self.raw(),
            spec::MIS => self.raw() & self.enable,
            spec::IC => 0,
            spec::AFSEL => self.function,
            _ => return primecell_id(&primecell_ids(spec::PERIPH_ID), offset),
        };
        Some(byte.into())
    }

    /// Writes a register. `None` for no register.
    pub fn write(&mut self, offset: u64, value: u8) -> Option<()> {
        match offset {
            spec::DATA..spec::DATA_END => {
                let mask = (offset >> 2) as u8;
                self.outputs = self.outputs & !mask | value & mask;
            }
            spec::DIR => self.direction = value,
            spec::IS => self.sense = value,
            spec::IBE => self.both_edges = value,
            spec::IEV => self.event = value,
            spec::IE => self.enable = value,
            spec::IC => self.edges &= !value,
            spec::AFSEL => self.function = value,
            _ => return self.read(offset).map(|_| ()),
        }
        Some(())
    }
}
