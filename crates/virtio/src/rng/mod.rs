//! The entropy device (section 5.4): random bytes from the host's generator.

mod device;
mod spec;
#[cfg(test)]
mod tests;
mod worker;

pub use device::Rng;
