//! Disk back ends.
//!
//! [`Disk`] is what a block device needs of its medium; [`RawDisk`] is a plain file or a block device of the host. It
//! knows nothing of virtio or of guest memory.

#![forbid(unsafe_code)]

mod disk;
mod format;
mod raw;
mod sparse;

pub use disk::Disk;
pub use raw::{DiskError, RawDisk, RawOptions, Sync};
