//! The Interrupt Translation Service: turns a device's message into an LPI at a vCPU (IHI 0069, chapter 5).
//!
//! Commands are executed within the write that makes them visible, so that the guest finds the queue empty when it
//! looks. One write executes at most the queue's entries (32768). A command that names what is not there is skipped;
//! a queue that is not in RAM stalls (`GITS_CREADR.Stalled`) until the guest says to retry.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tearless_arm64::gic::{IIDR_ARM, gits};
use tearless_bus::{AccessError, MmioDevice, Msi};
use tearless_memory::Gpa;
use tearless_state::StateError;

mod command;
mod port;
mod tables;

use super::{
    Gic, Wakes,
    distributor::identification_register,
    redistributor::{merge, wide},
};
use crate::access::{fill, lock, value};
use command::{Command, EventId};
use port::Port;
use tables::{ENTRY_SIZE, Fault, ID_BITS, SavedTables, Table, Tables};

/// The ITS's state.
#[derive(Clone, Debug, Default)]
pub struct Its {
    enabled: bool,
    cbaser: u64,
    /// Offset of the next command that the guest will write.
    cwriter: u64,
    /// Offset of the next command to execute.
    creadr: u64,
    stalled: bool,
    tables: Tables,
}

const TYPER: u64 = gits::TYPER_PHYSICAL
    | (ENTRY_SIZE - 1) << gits::TYPER_ITT_SIZE_SHIFT
    | (ID_BITS as u64 - 1) << gits::TYPER_IDBITS_SHIFT
    | (ID_BITS as u64 - 1) << gits::TYPER_DEVBITS_SHIFT;

/// `GITS_BASER0` and `GITS_BASER1` as they read, all else zero.
const fn baser_fixed(kind: u64) -> u64 {
    kind << gits::BASER_TYPE_SHIFT | (ENTRY_SIZE - 1) << gits::BASER_ENTRY_SHIFT
}

/// It as a saved VM has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedIts {
    enabled: bool,
    cbaser: u64,
    cwriter: u64,
    creadr: u64,
    stalled: bool,
    tables: SavedTables,
}

impl Its {
    /// For a saved VM.
    pub fn save(&self) -> SavedIts {
        let &Self { enabled, cbaser, cwriter, creadr, stalled, ref tables } = self;
        SavedIts { enabled, cbaser, cwriter, creadr, stalled, tables: tables.save() }
    }

    /// What was saved, of a machine with `vcpus` vCPUs.
    ///
    /// # Errors
    /// [`StateError::Malformed`] for what no guest could have brought about.
    pub fn restored(saved: &SavedIts, vcpus: usize) -> Result<Self, StateError> {
        let its = Self {
            enabled: saved.enabled,
            cbaser: saved.cbaser & gits::CBASER_MASK,
            cwriter: saved.cwriter,
            creadr: saved.creadr,
            stalled: saved.stalled,
            tables: Tables::restored(&saved.tables, vcpus)?,
        };
        // Else the queue would never be found empty.
        let within = |offset| offset & !gits::QUEUE_OFFSET == 0 && offset < its.queue_len();
        if within(its.cwriter) && within(its.creadr) {
            Ok(its)
        } else {
            Err(StateError::malformed("the command queue's offsets are not within it"))
        }
    }

    /// Reads a register of 64 bits.
    fn read(&self, register: u64) -> Option<u64> {
        Some(match register {
            gits::CTLR => {
                let control = if self.enabled { gits::CTLR_ENABLED } else { gits::CTLR_QUIESCENT };
                u64::from(IIDR_ARM) << 32 | u64::from(control)
            }
            gits::TYPER => TYPER,
            gits::CBASER => self.cbaser,
            gits::CWRITER => self.cwriter,
            gits::CREADR => self.creadr | if self.stalled { gits::CREADR_STALLED } else { 0 },
            gits::BASER => self.tables.device_table.0 | baser_fixed(gits::BASER_TYPE_DEVICE),
            0x108 => self.tables.collection_table.0 | baser_fixed(gits::BASER_TYPE_COLLECTION),
            0x110..gits::BASER_END => 0,
            _ => return None,
        })
    }

    /// Writes a register of 64 bits, part of which may hold what it did before.
    fn write(&mut self, register: u64, value: u64, port: &mut Port) -> Option<()> {
        match register {
            gits::CTLR => {
                self.enabled = value as u32 & gits::CTLR_ENABLED != 0;
                self.run(port);
            }
            gits::CWRITER => {
                let offset = value & gits::QUEUE_OFFSET;
                if offset < self.queue_len() {
                    self.cwriter = offset;
                    self.stalled &= value & gits::CWRITER_RETRY == 0;
                    self.run(port);
                }
            }
            // Read-only, or in use.
            gits::TYPER | gits::CREADR => {}
            gits::CBASER | gits::BASER..gits::BASER_END if self.enabled => {}
            gits::CBASER => {
                self.cbaser = value & gits::CBASER_MASK;
                self.creadr = 0;
                self.cwriter = 0;
                self.stalled = false;
            }
            gits::BASER => {
                if replace(&mut self.tables.device_table, value) {
                    self.tables.clear_devices();
                }
            }
            0x108 => {
                if replace(&mut self.tables.collection_table, value) {
                    self.tables.clear_collections();
                }
            }
            0x110..gits::BASER_END => {}
            _ => return None,
        }
        Some(())
    }

    /// Length of the command queue in bytes.
    fn queue_len(&self) -> u64 {
        ((self.cbaser & gits::SIZE_MASK) + 1) * 0x1000
    }

    /// Executes what is in the queue.
    fn run(&mut self, port: &mut Port) {
        if !self.enabled || self.cbaser & gits::VALID == 0 {
            return;
        }
        let base = Gpa(self.cbaser & gits::CBASER_ADDRESS);
        // Each turn moves `creadr` by an entry around the queue towards `cwriter`, which is within it.
        while !self.stalled && self.creadr != self.cwriter {
            let mut bytes = [0; gits::COMMAND_SIZE as usize];
            let at = base.checked_add(self.creadr);
            if at.is_none_or(|at| port.memory().read(at, &mut bytes).is_err()) {
                tracing::debug!(%base, offset = self.creadr, "the ITS command queue is not RAM");
                self.stalled = true;
                return;
            }
            let words = std::array::from_fn(|n| value(&bytes[8 * n..8 * n + 8]));
            let command = Command::decode(words).ok_or(Fault::Unknown);
            if let Err(fault) = command.and_then(|command| self.tables.execute(command, port)) {
                tracing::debug!(?words, %fault, "ITS command skipped");
            }
            self.creadr = (self.creadr + gits::COMMAND_SIZE) % self.queue_len();
        }
    }
}

/// Writes a `GITS_BASER`; whether that changed anything.
fn replace(table: &mut Table, value: u64) -> bool {
    let value = value & gits::BASER_MASK;
    std::mem::replace(&mut table.0, value) != value
}

/// The 128 KiB of the ITS.
pub struct Frames(pub Arc<Gic>);

impl MmioDevice for Frames {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        let its = &self.0.its.as_ref().ok_or(AccessError::NoRegister)?.its;
        let (register, shift) = wide(offset, data.len())?;
        let value = match identification_register(0x94, offset) {
            Some(id) => id.into(),
            None => lock(its).read(register).ok_or(AccessError::NoRegister)? >> shift,
        };
        fill(data, value);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        let its = &self.0.its.as_ref().ok_or(AccessError::NoRegister)?.its;
        if offset == gits::TRANSLATER {
            // A vCPU is no requester: there is no device number to translate.
            return Ok(());
        }
        let (register, shift) = wide(offset, data.len())?;
        let mut wakes = Wakes::default();
        let mut its = lock(its);
        let old = its.read(register).ok_or(AccessError::NoRegister)?;
        let mut port = Port::new(&self.0);
        let outcome = if offset == gits::IIDR {
            Some(())
        } else {
            its.write(register, merge(old, shift, data), &mut port)
        };
        port.finish(&mut wakes);
        drop(its);
        self.0.wake_all(&wakes);
        outcome.ok_or(AccessError::NoRegister)
    }
}

impl Gic {
    /// Translates a message and delivers the LPI.
    pub(super) fn signal_event(&self, msi: Msi) {
        let Some(translation) = self.its.as_ref().filter(|its| its.doorbell == msi.address) else {
            tracing::debug!(?msi, "message to no doorbell");
            return;
        };
        let mut wakes = Wakes::default();
        let its = lock(&translation.its);
        if !its.enabled {
            return;
        }
        match its.tables.translate(EventId { device: msi.device_id, event: msi.data }) {
            Ok((vcpu, lpi)) => {
                let mut port = Port::new(self);
                port.set(vcpu, lpi);
                port.finish(&mut wakes);
            }
            Err(fault) => tracing::debug!(?msi, %fault, "message dropped"),
        }
        drop(its);
        self.wake_all(&wakes);
    }
}
