//! What a slot of the bus holds.

use std::{ops::Range, sync::Arc, time::Instant};

use tearless_bus::{AccessError, IrqLine, MsiSink};
use tearless_memory::Gpa;
use tearless_state::{Encoded, StateError};

/// What a function gets when it is plugged in.
#[derive(Clone)]
pub struct Attachment {
    /// Bus, device and function number as messages carry them.
    pub requester_id: u16,
    /// Where message-signalled interrupts go.
    pub msi: Arc<dyn MsiSink>,
    /// The function's wired interrupt, pin INTA.
    pub intx: IrqLine,
}

/// A PCI function.
///
/// Accesses come from several vCPU threads at once. Offsets into the configuration space are below 4096, and
/// `data` is 1, 2 or 4 bytes long and naturally aligned there.
pub trait PciFunction: Send + Sync {
    /// Tells the function where it sits. Called once, before any access.
    fn attach(&self, attachment: Attachment);

    /// Reads from the configuration space.
    fn config_read(&self, offset: u16, data: &mut [u8]);

    /// Writes to the configuration space.
    fn config_write(&self, offset: u16, data: &[u8]);

    /// The guest physical range that BAR `index` (0 to 5) decodes right now: `None` when there is no such BAR, when
    /// memory decoding is off or when the range would wrap around the address space.
    fn bar(&self, index: usize) -> Option<Range<Gpa>>;

    /// Reads 1, 2, 4 or 8 bytes at `offset` within BAR `index`.
    ///
    /// # Errors
    /// [`AccessError`] when there is nothing to read that way.
    fn bar_read(&self, index: usize, offset: u64, data: &mut [u8]) -> Result<(), AccessError>;

    /// Writes 1, 2, 4 or 8 bytes at `offset` within BAR `index`.
    ///
    /// # Errors
    /// [`AccessError`] when there is nothing to write that way.
    fn bar_write(&self, index: usize, offset: u64, data: &[u8]) -> Result<(), AccessError>;

    /// What it is, for the outline of a saved machine.
    fn outline(&self) -> String {
        "a host bridge".to_owned()
    }

    /// Takes no new requests of the guest, and leaves its memory alone but for those in progress. Called while no vCPU runs.
    fn hold(&self) {}

    /// Waits for the requests in progress, at most until `deadline`, then leaves the guest's memory alone altogether. Those
    /// that take longer are part of the state if they can be repeated.
    ///
    /// # Errors
    /// [`StateError::Busy`] when one takes longer that cannot.
    fn drain(&self, _deadline: Instant) -> Result<(), StateError> {
        Ok(())
    }

    /// The state, between [`PciFunction::drain`] and [`PciFunction::proceed`].
    ///
    /// # Errors
    /// When it cannot be told.
    fn save(&self) -> Result<Encoded, StateError>;

    /// Takes a state over, in a machine that has not run yet. The function does nothing until [`PciFunction::proceed`].
    ///
    /// # Errors
    /// When it is none of this function.
    fn restore(&self, state: &Encoded) -> Result<(), StateError>;

    /// Goes on after [`PciFunction::hold`] or [`PciFunction::restore`]; `restored` tells which.
    fn proceed(&self, _restored: bool) {}
}
