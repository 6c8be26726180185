//! Disk back ends.
//!
//! [`Disk`] is what a block device needs of its medium: [`RawDisk`] is a plain file or a block device of the host,
//! [`ImageDisk`] a qcow2 image with what backs it, [`NbdDisk`] what a server holds. [`open()`] makes one from a file's name. A [`Queue`] has many
//! requests in progress at once; it is the fast way, on io_uring where the host has that.
//!
//! ```text
//!            queue()                          Disk
//!   Uring ------------> RawDisk ------> file, O_DIRECT file
//!   Pool  ------------> RawDisk, ImageDisk ---> imago ---> file, backing files (read-only)
//!         ------------> VMDK (read-only) -----> file, the other parts
//!         ------------> NbdDisk ------> a server
//! ```
//! It knows nothing of virtio.

mod copy;
mod disk;
mod error;
mod format;
mod image;
mod layer;
mod nbd;
mod open;
mod pool;
mod queue;
mod raw;
mod sparse;
#[cfg(target_os = "linux")]
mod uring;
mod vmdk;

pub use copy::{copy, flatten};
pub use disk::{Disk, Pause};
pub use error::DiskError;
pub use format::Format;
pub use image::ImageDisk;
pub use layer::{base_of, derive, open_ephemeral, overlay_of, share_blocks};
#[doc(hidden)]
pub use nbd::listen as listen_to_nbd;
pub use nbd::{NbdDisk, Reach, is_remote, reach};
pub use open::{Cache, OpenOptions, Sync, backing_files, open, open_layer};
pub use queue::{Completion, Operation, Queue, Request, Segment, queue};
pub use raw::RawDisk;
