//! Input devices (section 5.8): a keyboard, and a pointer that knows where on the screen it is.

mod device;
mod spec;
#[cfg(test)]
mod tests;
mod worker;

pub use device::{Input, Kind};
