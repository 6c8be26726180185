//! Saving a running VM.
//!
//! ```text
//!   pause vCPUs ─► devices finish and stand still ─► flush disks ─► parts and memory into FOLDER/saving
//!        ─► renamed to FOLDER/suspended: from here on it is suspended ─► the machine ends
//! ```
//! Whatever goes wrong before the renaming leaves the VM running, or what a crash leaves; afterwards it is suspended.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tearless_machine::{Handle, Still};
use tearless_state::{Progress, Saved, StateError, Writing};

/// How long requests in progress may take: a shared folder or a console may wait for its host.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Where a VM keeps its state.
#[derive(Clone, Debug)]
pub struct Keeper {
    saving: PathBuf,
    suspended: PathBuf,
    /// Where the memory of a snapshot is written, and where it is then for its name to be given.
    pub(crate) taking: PathBuf,
    pub(crate) taken: PathBuf,
}

impl Keeper {
    /// One who writes into the first of `suspending` and keeps at the second, which are in one folder; the same for the
    /// memory of a snapshot.
    pub fn new(suspending: [&Path; 2], snapshot: [&Path; 2]) -> Self {
        let ([saving, suspended], [taking, taken]) =
            (suspending.map(Path::to_owned), snapshot.map(Path::to_owned));
        Self { saving, suspended, taking, taken }
    }

    /// Writes the state of the machine of `handle`, which is paused and which `engine` runs. Returns the machine, which has to
    /// end now, and how much of its memory is not zero, in bytes.
    ///
    /// # Errors
    /// When something in the machine cannot be saved now, or the host refuses; then there is no state.
    pub(crate) fn keep(
        &self,
        handle: &Handle,
        engine: &str,
        progress: Progress<'_>,
    ) -> Result<(Still, u64), StateError> {
        let still = handle.quiesce(Instant::now() + PATIENCE)?;
        still.flush_disks()?;
        let (machine, parts) = still.save(engine)?;
        let (memory, range) = still.memory();
        let writing = Writing::begin(&self.saving)?;
        let bytes = writing.memory(memory, range, progress)?;
        writing.finish(&Saved::new(machine, parts), &self.suspended)?;
        Ok((still, bytes))
    }
}

/// What to do about `error`.
pub(crate) fn advice(error: &StateError) -> &'static str {
    match error {
        StateError::Differs(_) => {
            "give the VM what it had when it was saved, or throw the saved state away: --discard-state"
        }
        StateError::Newer { .. } => {
            "the Tearless that saved it, or throw the saved state away: --discard-state"
        }
        StateError::Io { .. } | StateError::Busy(_) => {
            "again once the host's trouble is over; the state is still there"
        }
        StateError::Missing(_)
        | StateError::Unknown(_)
        | StateError::Malformed { .. }
        | StateError::File { .. } => {
            "throw the saved state away: --discard-state; the VM then starts as after a power failure"
        }
    }
}
