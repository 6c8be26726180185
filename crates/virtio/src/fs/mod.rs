//! The file system device (section 5.11): a [`FileSystem`](tearless_share::FileSystem) as a mount of type `virtiofs`.
//!
//! Requests are FUSE's. A worker takes one out of its ring, copies it, lets go of the ring while the host's files are
//! worked on, and comes back with the reply: so requests of one queue overtake each other, as they may, and a slow disk
//! holds up only those that need it. A request that a reset overtakes is finished, and its reply goes nowhere.

mod device;
mod spec;
#[cfg(test)]
mod tests;
mod worker;

pub use device::{Fs, FsOptions};
pub use spec::{DEVICE_ID, TAG_LEN};
