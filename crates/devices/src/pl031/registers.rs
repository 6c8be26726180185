//! The registers, as a function of the host's time, which is given in seconds since the Unix epoch.

use serde::{Deserialize, Serialize};

use super::spec;
use crate::access::{primecell_id, primecell_ids};

/// The state of the clock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registers {
    /// What the guest's time is ahead of the host's. In seconds, modulo 2^32 as the time itself.
    offset: u32,
    match_value: u32,
    load: u32,
    mask: u32,
    raw: u32,
    /// When, in the host's time, the guest's reaches `match_value`. Until `match_value` is written there is no alarm.
    deadline: Option<u64>,
}

impl Registers {
    /// Takes note of the time: raises the alarm if it is due.
    pub fn poll(&mut self, now: u64) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.deadline = None;
            self.raw = spec::INT_ALARM;
        }
    }

    /// The level of the interrupt output.
    pub fn interrupt(&self) -> bool {
        self.raw & self.mask != 0
    }

    /// When the interrupt output will rise, in the host's time, if nothing is written until then.
    pub fn alarm(&self) -> Option<u64> {
        self.deadline.filter(|_| self.mask != 0 && self.raw == 0)
    }

    fn time(&self, now: u64) -> u32 {
        (now as u32).wrapping_add(self.offset)
    }

    fn arm(&mut self, now: u64) {
        let left = self.match_value.wrapping_sub(self.time(now));
        self.deadline = Some(now.saturating_add(left.into()));
        self.poll(now);
    }

    /// Reads a register.
    pub fn read(&self, offset: u64, now: u64) -> Option<u32> {
        Some(match offset {
            spec::DR => self.time(now),
            spec::MR => self.match_value,
            spec::LR => self.load,
            spec::CR => spec::CR_START,
            spec::IMSC => self.mask,
            spec::RIS => self.raw,
            spec::MIS => self.raw & self.mask,
            spec::ICR => 0,
            _ => return primecell_id(&primecell_ids(spec::PERIPH_ID), offset),
        })
    }

    /// Writes a register. `None` for no register.
    pub fn write(&mut self, offset: u64, value: u32, now: u64) -> Option<()> {
        match offset {
            spec::MR => {
                self.match_value = value;
                self.arm(now);
            }
            spec::LR => {
                self.load = value;
                self.offset = value.wrapping_sub(now as u32);
                if self.deadline.is_some() {
                    self.arm(now);
                }
            }
            spec::IMSC => self.mask = value & spec::INT_ALARM,
            spec::ICR => self.raw &= !value,
            // The clock runs already, and all else is read-only.
            _ => return self.read(offset, now).map(|_| ()),
        }
        Some(())
    }
}
