//! The display (section 5.7): pictures in two dimensions, a pointer, and a screen whose size may change.
//!
//! ```text
//!   guest memory ──TRANSFER_TO_HOST──► resource ──RESOURCE_FLUSH──► the screen, if the resource is scanned out
//! ```

mod commands;
mod device;
mod edid;
mod resource;
mod saved;
mod spec;
#[cfg(test)]
mod tests;
mod worker;

pub use device::Gpu;
