//! Virtio devices over PCI: console, block, network, entropy, sockets, memory balloon, display, input, sound (virtio 1.3).
//!
//! Three layers, each ignorant of the one above:
//!
//! ```text
//!   VirtioPci          registers, feature negotiation, interrupts          (vCPU threads)
//!      | starts, stops, kicks
//!   VirtQueue          one ring: bounded chains, used entries, breakage    (both)
//!      | wakes
//!   console, blk, ...  one thread per independent stream of requests       (worker threads)
//! ```
//! A vCPU never waits for the host's files or terminals: a kick sets a flag and wakes a worker. A worker touches guest
//! memory only inside [`VirtQueue::with`], which a reset excludes; so when a reset has returned, nothing of the old
//! life reaches the guest any more.
//!
//! The guest is hostile: descriptors, indices and lengths are checked where they enter, in [`Chain`] and [`Ring`]. A
//! ring that makes no sense stops and the device asks for a reset (`DEVICE_NEEDS_RESET`).

#![forbid(unsafe_code)]

pub mod balloon;
pub mod blk;
pub mod console;
pub mod fs;
pub mod gpu;
pub mod input;
pub mod net;
pub mod pci;
pub mod rng;
pub mod sound;
pub mod vsock;

mod chain;
mod device;
mod queue;
mod wake;

#[cfg(test)]
mod abuse;
#[cfg(test)]
mod testing;

pub use chain::{Chain, MAX_DESCRIPTORS};
pub use device::{Activation, DeviceKind, Interrupt, VirtioDevice, feature};
pub use pci::VirtioPci;
pub use queue::{Ring, RingAddresses, RingError, VirtQueue};
pub use wake::Wake;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, and goes on with the data if another thread panicked: a device must answer whatever happened elsewhere.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies the part of a device's configuration `bytes` that starts at `offset`; zeros beyond its end.
pub(crate) fn read_window(bytes: &[u8], offset: u64, data: &mut [u8]) {
    let skip = usize::try_from(offset).unwrap_or(usize::MAX);
    let from = bytes.iter().copied().skip(skip).chain(std::iter::repeat(0));
    data.iter_mut().zip(from).for_each(|(to, byte)| *to = byte);
}
