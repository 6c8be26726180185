//! The modern PCI transport (section 4.1).
//!
//! One 64-bit BAR holds everything: the structures that the vendor capabilities point to and the MSI-X table. Without
//! MSI-X the device drives INTA and the ISR register.

mod device;
mod signals;
mod spec;
mod state;
#[cfg(test)]
mod tests;

pub use device::{Error, VirtioPci};
