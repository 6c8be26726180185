//! The memory balloon (section 5.5): takes memory from the guest, gives what the guest does not use back to the host, and
//! knows how much that is.

mod device;
mod gauge;
mod spec;
#[cfg(test)]
mod tests;
mod worker;

pub use device::Balloon;
pub use gauge::{Gauge, GuestUse, Reading};
