//! Accesses to what is not RAM, by replay.
//!
//! An instruction that accesses MMIO stops with an exit and is run again from its start once the machine has answered.
//! The answers of its earlier accesses are in a log, so that each access happens exactly once, and handlers need to do
//! nothing but be restartable. The log is emptied when the instruction completes or takes an exception.

use super::{Cpu, Stop, Trap, host::Unit};

/// What the machine answered to the accesses of the current instruction, in their order.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    answers: Vec<u64>,
    /// How many of them this run of the instruction has used.
    used: usize,
}

impl Replay {
    /// Whether the instruction at `pc` is to be run on its own, with answers at hand.
    pub fn is_active(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Before the instruction is run again.
    pub fn rewind(&mut self) {
        self.used = 0;
    }

    /// The answer to the access that stopped the instruction: the value of a read, anything for a write.
    pub fn answer(&mut self, value: u64) {
        self.answers.push(value);
    }

    /// The instruction is over.
    pub fn clear(&mut self) {
        self.answers.clear();
        self.used = 0;
    }

    fn next(&mut self) -> Option<u64> {
        let answer = self.answers.get(self.used).copied()?;
        self.used += 1;
        Some(answer)
    }
}

/// The largest naturally aligned access of at most `left` and 8 bytes at `gpa`.
fn piece(gpa: u64, left: u64) -> u64 {
    let mut size = 8;
    while size > left || !gpa.is_multiple_of(size) {
        size /= 2;
    }
    size
}

impl Cpu {
    /// Loads from MMIO, in naturally aligned pieces of at most 8 bytes.
    pub(super) fn mmio_load<T: Unit>(&mut self, gpa: u64) -> Result<T, Trap> {
        let mut value = 0_u128;
        let mut done = 0;
        while done < T::SIZE {
            let size = piece(gpa + done, T::SIZE - done);
            let Some(answer) = self.replay.next() else {
                self.stop = Stop::MmioRead { gpa: gpa + done, size: size as u8 };
                return Err(Trap);
            };
            let mask = u64::MAX >> (64 - 8 * size);
            value |= u128::from(answer & mask) << (8 * done);
            done += size;
        }
        Ok(T::truncate(value))
    }

    /// Stores to MMIO, as [`Cpu::mmio_load`].
    pub(super) fn mmio_store<T: Unit>(&mut self, gpa: u64, value: T) -> Result<(), Trap> {
        let mut done = 0;
        while done < T::SIZE {
            let size = piece(gpa + done, T::SIZE - done);
            if self.replay.next().is_none() {
                let mask = u64::MAX >> (64 - 8 * size);
                let value = (value.widen() >> (8 * done)) as u64 & mask;
                self.stop = Stop::MmioWrite { gpa: gpa + done, size: size as u8, value };
                return Err(Trap);
            }
            done += size;
        }
        Ok(())
    }
}
