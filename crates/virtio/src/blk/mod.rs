//! The block device (section 5.2): a [`Disk`](tearless_storage::Disk) as `/dev/vdX`.
//!
//! Each queue has a worker thread that takes requests in batches and interrupts once per batch. A reset waits for the
//! request in progress, so no write of an old driver lands behind a new one's back.

mod device;
mod spec;
#[cfg(test)]
mod tests;
mod worker;

pub use device::{Blk, BlkOptions};
