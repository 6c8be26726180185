//! Locality-specific peripheral interrupts: their configuration, which all redistributors share, and the set that is
//! pending at each.
//!
//! Configuration and pending state live in tables in the guest's memory. Both are cached here: the configuration is
//! read when LPIs are enabled and when the guest invalidates it, the pending table is read when LPIs are enabled and
//! written back when they are disabled, as the architecture allows (IHI 0069, 5.1).

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU8, Ordering},
};

use tearless_arm64::gic::{LPI_BASE, gicr};
use tearless_memory::{Gpa, GuestMemory};

use super::{Candidate, PRIORITY_MASK};

/// Bits of an INTID: fixes the size of everything that is kept per LPI, at most 57344 of them.
pub const ID_BITS: u32 = 16;
const COUNT: usize = (1 << ID_BITS) - LPI_BASE as usize;

/// The configuration bytes of all LPIs. 56 KiB.
#[derive(Debug)]
pub struct LpiConfig(Box<[AtomicU8]>);

impl Default for LpiConfig {
    fn default() -> Self {
        Self((0..COUNT).map(|_| AtomicU8::new(0)).collect())
    }
}

impl LpiConfig {
    /// The priority of an LPI that is enabled.
    fn priority(&self, lpi: u32) -> Option<u8> {
        let byte = self.0.get(lpi.checked_sub(LPI_BASE)? as usize)?.load(Ordering::Relaxed);
        (byte & gicr::LPI_ENABLE != 0).then_some(byte & gicr::LPI_PRIORITY & PRIORITY_MASK)
    }

    /// Reads the configuration of `lpi` from the table that `propbaser` describes. An entry outside of the table or of
    /// the RAM disables the LPI.
    pub fn load_one(&self, memory: &GuestMemory, propbaser: u64, lpi: u32) {
        let Some(index) = lpi.checked_sub(LPI_BASE) else { return };
        let Some(slot) = self.0.get(index as usize) else { return };
        let mut byte = [0];
        let entry = Gpa(propbaser & gicr::PROPBASER_ADDRESS).checked_add(index.into());
        let readable = (index as usize) < table_len(propbaser)
            && entry.is_some_and(|entry| memory.read(entry, &mut byte).is_ok());
        slot.store(if readable { byte[0] } else { 0 }, Ordering::Relaxed);
    }

    /// Reads the configuration of all LPIs from the table that `propbaser` describes. What lies outside of the table
    /// or of the RAM is disabled.
    pub fn load_all(&self, memory: &GuestMemory, propbaser: u64) {
        const CHUNK: usize = 4096;
        let len = table_len(propbaser);
        let base = Gpa(propbaser & gicr::PROPBASER_ADDRESS);
        for (n, slots) in self.0.chunks(CHUNK).enumerate() {
            let mut bytes = [0; CHUNK];
            let valid = len.saturating_sub(n * CHUNK).min(slots.len());
            let start = base.checked_add((n * CHUNK) as u64);
            if start.is_none_or(|start| memory.read(start, &mut bytes[..valid]).is_err()) {
                bytes.fill(0);
            }
            slots.iter().zip(bytes).for_each(|(slot, byte)| slot.store(byte, Ordering::Relaxed));
        }
    }
}

/// Entries of the configuration table.
fn table_len(propbaser: u64) -> usize {
    let bits = ((propbaser & gicr::PROPBASER_IDBITS) as u32 + 1).min(ID_BITS);
    (1_usize << bits).saturating_sub(LPI_BASE as usize)
}

/// The LPIs that are pending at one redistributor.
#[derive(Clone, Debug, Default)]
pub struct PendingLpis {
    /// At most one entry for each LPI: bounded.
    pending: BTreeSet<u32>,
    best: Option<Candidate>,
    /// `best` must be looked for anew. That costs time in the number of pending LPIs, so it is put off to the end of a
    /// batch of changes.
    stale: bool,
}

impl PendingLpis {
    /// Makes `lpi` pending.
    pub fn insert(&mut self, lpi: u32, config: &LpiConfig) {
        if (LPI_BASE..1 << ID_BITS).contains(&lpi) && self.pending.insert(lpi) {
            self.best = self.best.into_iter().chain(candidate(lpi, config)).min();
        }
    }

    /// Ends the pending state of `lpi`; whether it was pending.
    pub fn remove(&mut self, lpi: u32) -> bool {
        if self.best.is_some_and(|best| best.intid == lpi) {
            // Until the end of the batch nothing may acknowledge it.
            self.best = None;
            self.stale = true;
        }
        self.pending.remove(&lpi)
    }

    /// Takes over all that is pending at another redistributor, which has none then.
    pub fn take_over(&mut self, mut other: Self) {
        // The smaller set goes into the larger one: no sequence of commands makes this slow.
        if other.pending.len() > self.pending.len() {
            std::mem::swap(&mut self.pending, &mut other.pending);
        }
        self.pending.extend(other.pending);
        self.stale = true;
    }

    /// The configuration changed.
    pub fn reconfigured(&mut self) {
        self.stale = true;
    }

    /// Brings [`Self::best`] up to date.
    pub fn settle(&mut self, config: &LpiConfig) {
        if self.stale {
            self.best = self.pending.iter().filter_map(|lpi| candidate(*lpi, config)).min();
            self.stale = false;
        }
    }

    /// The enabled pending LPI of highest priority.
    pub fn best(&self) -> Option<Candidate> {
        self.best
    }

    /// For a saved VM: all that are pending.
    pub fn save(&self) -> Vec<u32> {
        self.pending.iter().copied().collect()
    }

    /// Those of `saved` that are LPIs.
    pub fn restored(saved: &[u32]) -> Self {
        let pending = saved.iter().copied().filter(|lpi| (LPI_BASE..1 << ID_BITS).contains(lpi)).collect();
        Self { pending, best: None, stale: true }
    }

    /// Reads the pending table that `pendbaser` describes, of as many INTIDs as `propbaser` says. What is not RAM
    /// counts as not pending.
    pub fn load(memory: &GuestMemory, pendbaser: u64, propbaser: u64) -> Self {
        let mut bytes = vec![0; table_len(propbaser) / 8];
        if table_start(pendbaser).is_none_or(|start| memory.read(start, &mut bytes).is_err()) {
            bytes.fill(0);
        }
        let set = bytes.iter().zip((LPI_BASE..).step_by(8)).flat_map(|(byte, first)| {
            let byte = *byte;
            (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| first + bit)
        });
        Self { pending: set.collect(), best: None, stale: true }
    }

    /// Writes the pending table that `pendbaser` describes, of as many INTIDs as `propbaser` says. Returns whether all
    /// of it is RAM.
    pub fn store(&self, memory: &GuestMemory, pendbaser: u64, propbaser: u64) -> bool {
        let mut bytes = vec![0_u8; table_len(propbaser) / 8];
        for lpi in &self.pending {
            let index = (lpi - LPI_BASE) as usize;
            if let Some(byte) = bytes.get_mut(index / 8) {
                *byte |= 1 << (index % 8);
            }
        }
        table_start(pendbaser).is_some_and(|start| memory.write(start, &bytes).is_ok())
    }
}

/// Where in the pending table the LPIs begin: the bits below are for INTIDs that are none.
fn table_start(pendbaser: u64) -> Option<Gpa> {
    Gpa(pendbaser & gicr::PENDBASER_ADDRESS).checked_add(u64::from(LPI_BASE) / 8)
}

fn candidate(lpi: u32, config: &LpiConfig) -> Option<Candidate> {
    config.priority(lpi).map(|priority| Candidate { priority, intid: lpi, group: 1 })
}
