//! What a network card is plugged into.
//!
//! ```text
//!   virtio-net ── Card ◄──────────► Endpoint ──┬── nat      the host's sockets speak for the guest
//!    (queues)     take, give          kick     ├── socket   a program such as passt
//!                                              └── tap      a bridge of the host
//! ```
//! An [`Endpoint`] has one thread, which takes the guest's frames from the [`Card`] and gives it others; the card's queues
//! are touched by that thread only, so a frame crosses no thread on its way from the guest's memory to a socket. When the
//! guest has something new (a frame, or room for one) its vCPU rings with [`Endpoint::kick`].
//!
//! Nothing here knows of virtio. Everything a guest sends is hostile: lengths and offsets are checked where a frame
//! is read (`wire`), and what a guest can make the host keep is bounded, each with its reason beside it.

mod card;
mod guard;
mod inbox;
mod line;
pub mod nat;
mod plug;
mod policy;
mod segment;
pub mod socket;
#[cfg(target_os = "linux")]
pub mod tap;
#[cfg(not(target_os = "linux"))]
#[path = "tap_elsewhere.rs"]
pub mod tap;
mod wire;

pub use card::{Card, Endpoint, Frame, Gso, GsoKind, MAX_FRAME, Mac, Offload, Offloads, PartialChecksum};
pub use line::Uplink;
pub use nat::{Forward, Membership, NatOptions, Place, Transport};
pub use plug::Threaded;
pub use policy::{Cidr, ParseCidrError, Policy};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why a network cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{what}\n  because: {why}\n  try: {advice}")]
pub struct NetError {
    /// What failed.
    pub what: String,
    /// The reason.
    pub why: String,
    /// What to do about it.
    pub advice: String,
}

impl NetError {
    pub(crate) fn new(
        what: impl Into<String>,
        why: impl std::fmt::Display,
        advice: impl Into<String>,
    ) -> Self {
        Self { what: what.into(), why: why.to_string(), advice: advice.into() }
    }
}

/// Locks, and goes on with the data if another thread panicked.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
