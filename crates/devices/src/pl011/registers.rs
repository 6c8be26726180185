//! The registers, apart from what the sink does.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tearless_state::StateError;

use super::spec;
use crate::access::{primecell_id, primecell_ids};

/// The state of the port.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registers {
    /// Received characters with their error bits, as `DR` has them. At most [`spec::FIFO_DEPTH`].
    received: VecDeque<u32>,
    /// Input was refused and whoever offered it waits for space.
    refused: bool,
    status: u32,
    ilpr: u32,
    ibrd: u32,
    fbrd: u32,
    lcr_h: u32,
    cr: u32,
    ifls: u32,
    imsc: u32,
    ris: u32,
    dmacr: u32,
}

impl Default for Registers {
    fn default() -> Self {
        Self {
            received: VecDeque::with_capacity(spec::FIFO_DEPTH),
            refused: false,
            status: 0,
            ilpr: 0,
            ibrd: 0,
            fbrd: 0,
            lcr_h: 0,
            cr: spec::CR_RESET,
            ifls: spec::IFLS_RESET,
            imsc: 0,
            ris: 0,
            dmacr: 0,
        }
    }
}

impl Registers {
    /// Checks registers that were saved: no access could have made others. Whoever waited for space is gone.
    ///
    /// # Errors
    /// [`StateError::Malformed`].
    pub fn checked(mut self) -> Result<Self, StateError> {
        if self.received.len() > spec::FIFO_DEPTH {
            return Err(StateError::malformed("more characters are received than there is room for"));
        }
        for (offset, value) in [
            (spec::ILPR, self.ilpr),
            (spec::IBRD, self.ibrd),
            (spec::FBRD, self.fbrd),
            (spec::CR, self.cr),
            (spec::IFLS, self.ifls),
            (spec::IMSC, self.imsc),
            (spec::DMACR, self.dmacr),
        ] {
            self.write(offset, value);
        }
        self.lcr_h &= 0xff;
        self.ris &= spec::INT_ALL;
        self.refused = false;
        Ok(self)
    }

    /// The level of the interrupt output.
    pub fn interrupt(&self) -> bool {
        self.ris & self.imsc != 0
    }

    fn depth(&self) -> usize {
        if self.lcr_h & spec::LCR_H_FEN != 0 { spec::FIFO_DEPTH } else { 1 }
    }

    /// Takes input; returns how much.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.depth().saturating_sub(self.received.len()));
        self.received.extend(bytes.iter().take(taken).map(|byte| u32::from(*byte)));
        self.refused |= taken < bytes.len();
        if taken > 0 {
            self.ris |= spec::INT_RX;
        }
        taken
    }

    /// Whether input was refused since the last time, and there is a fair amount of space now: at least half the FIFO,
    /// so that not every character read costs a callback.
    pub fn take_space(&mut self) -> bool {
        self.received.len() <= self.depth() / 2 && std::mem::take(&mut self.refused)
    }

    /// Reads `DR`.
    pub fn receive(&mut self) -> u32 {
        let data = self.received.pop_front().unwrap_or(0);
        self.status = data >> 8;
        if self.received.is_empty() {
            self.ris &= !spec::INT_RX;
        }
        data
    }

    /// A character was written to `DR` while the port is looped back: it is received. `false` when it is not.
    pub fn loop_back(&mut self, byte: u8) -> bool {
        if self.cr & spec::CR_LBE == 0 {
            return false;
        }
        self.feed(byte.into());
        self.transmitted();
        true
    }

    fn feed(&mut self, data: u32) {
        if self.received.len() < self.depth() {
            self.received.push_back(data);
            self.ris |= spec::INT_RX;
        } else if let Some(last) = self.received.back_mut() {
            *last |= spec::DR_OE;
            self.status |= spec::RSR_OE;
            self.ris |= spec::INT_OE;
        }
    }

    /// A character was transmitted: the FIFO went from not empty to empty.
    pub fn transmitted(&mut self) {
        self.ris |= spec::INT_TX;
    }

    /// Reads any register but `DR`.
    pub fn read(&self, offset: u64) -> Option<u32> {
        Some(match offset {
            spec::RSR => self.status,
            spec::FR => {
                let empty = if self.received.is_empty() { spec::FR_RXFE } else { 0 };
                let full = if self.received.len() >= self.depth() { spec::FR_RXFF } else { 0 };
                spec::FR_MODEM | spec::FR_TXFE | empty | full
            }
            spec::ILPR => self.ilpr,
            spec::IBRD => self.ibrd,
            spec::FBRD => self.fbrd,
            spec::LCR_H => self.lcr_h,
            spec::CR => self.cr,
            spec::IFLS => self.ifls,
            spec::IMSC => self.imsc,
            spec::RIS => self.ris,
            spec::MIS => self.ris & self.imsc,
            spec::ICR => 0,
            spec::DMACR => self.dmacr,
            _ => return primecell_id(&primecell_ids(spec::PERIPH_ID), offset),
        })
    }

    /// Writes any register but `DR`. `None` for no register.
    pub fn write(&mut self, offset: u64, value: u32) -> Option<()> {
        match offset {
            spec::RSR => self.status = 0,
            spec::ILPR => self.ilpr = value & 0xff,
            spec::IBRD => self.ibrd = value & 0xffff,
            spec::FBRD => self.fbrd = value & 0x3f,
            spec::LCR_H => self.write_lcr_h(value & 0xff),
            spec::CR => self.cr = value & 0xff87,
            spec::IFLS => self.ifls = value & 0x3f,
            spec::IMSC => self.imsc = value & spec::INT_ALL,
            spec::ICR => self.clear_interrupts(value),
            spec::DMACR => self.dmacr = value & 7,
            spec::FR | spec::RIS | spec::MIS => {}
            _ => return self.read(offset).map(|_| ()),
        }
        Some(())
    }

    fn write_lcr_h(&mut self, value: u32) {
        let changed = self.lcr_h ^ value;
        self.lcr_h = value;
        if changed & spec::LCR_H_FEN != 0 {
            // Either way the FIFO starts over.
            self.received.clear();
            self.ris &= !spec::INT_RX;
        }
        if changed & value & spec::LCR_H_BRK != 0 && self.cr & spec::CR_LBE != 0 {
            self.feed(spec::DR_BE);
        }
    }

    fn clear_interrupts(&mut self, value: u32) {
        self.ris &= !value;
    }
}
