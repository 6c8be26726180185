//! PCI Express functions: configuration space, BARs, MSI-X and the ECAM host bridge.
//!
//! The host side of one PCI Express segment with one root bus. [`PciHost`] owns the slots and offers three MMIO
//! devices to the machine: the enhanced configuration access mechanism ([`PciHost::ecam`]) and the 32-bit and 64-bit
//! memory windows. The guest (its kernel or its firmware) assigns the BARs; the windows route each access by the
//! addresses that the BARs hold at that moment. A function implements [`PciFunction`] and builds its registers from
//! [`ConfigSpace`] and [`Msix`].

#![forbid(unsafe_code)]

mod bridge;
mod config;
mod function;
mod host;
mod msix;

#[cfg(test)]
mod tests;

pub use config::{BarKind, ConfigSpace, Identity, LayoutError, command, register};
pub use function::{Attachment, PciFunction};
pub use host::{AddError, PciHost, PciHostConfig, requester_id};
pub use msix::{Msix, MsixError, SavedMsix};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, and goes on with the data if another thread panicked: a device must answer whatever happened elsewhere.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
