//! The state of a VM that stands still: what `suspend` writes, and snapshots of running VMs.
//!
//! ```text
//!   FOLDER/State.json     the machine's outline, and its parts: name, version, what the part says of itself
//!   FOLDER/Memory         the guest's RAM from its first byte on; pages of zeros are holes
//! ```
//! Each part of a machine (a vCPU, the interrupt controller, a PCI function) writes its own [`Part`] and reads it back. A
//! part has a version of its own: it changes when an older reader would misunderstand what is written, and a newer reader
//! keeps reading the older ones. What is unknown, missing or newer is an error, before anything has changed.
//!
//! The files may come from elsewhere: lengths are checked before anything is allocated, and each part checks what it
//! takes over as it checks what its guest writes. See docs/decisions/014.

#![forbid(unsafe_code)]

mod error;
mod files;
mod memory;
mod part;

pub use error::StateError;
pub use files::{Folder, Machine, Progress, Saved, Writing, mark_foreign};
pub use part::{Encoded, Part, Parts};
