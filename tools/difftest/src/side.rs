//! What the sides have in common.

use anyhow::Result;

use crate::layout::{Batch, Record};

/// Who runs sequences. Each is compared with the next of those chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// QEMU's user mode.
    Qemu,
    /// The software CPU's interpreter.
    Interp,
    /// The software CPU's translator.
    Jit,
}

impl Kind {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Interp => "interp",
            Self::Jit => "jit",
        }
    }
}

/// Runs batches.
pub trait Side {
    /// Hands over a batch. A side that has a process of its own runs it while the caller goes on.
    ///
    /// # Errors
    /// If the side is gone.
    fn submit(&mut self, batch: &Batch) -> Result<()>;

    /// Puts the records of the batch that was submitted, as they are after the run, in the place of `records`.
    ///
    /// # Errors
    /// If the side is gone, or did not come to the end of the batch.
    fn collect(&mut self, batch: &Batch, records: &mut Vec<Record>) -> Result<()>;

    /// Something about the whole session, for its summary.
    fn remark(&self) -> Option<String> {
        None
    }

    /// Runs a batch.
    ///
    /// # Errors
    /// As the two halves.
    fn run(&mut self, batch: &Batch) -> Result<Vec<Record>> {
        self.submit(batch)?;
        let mut records = Vec::new();
        self.collect(batch, &mut records)?;
        Ok(records)
    }
}
