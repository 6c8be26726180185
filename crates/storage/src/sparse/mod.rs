//! Giving file space back to the host, which each host does in its own way.

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod host;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod host;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
#[path = "other.rs"]
mod host;

pub(crate) use host::{punch, zero};

/// Whether the host did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The range reads as zeros now.
    Done,
    /// The host or its file system cannot; nothing changed.
    Unsupported,
}
