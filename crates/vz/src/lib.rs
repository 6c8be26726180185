//! What Apple's Virtualization framework is told of a VM: a configuration becomes the exact tree of the framework's
//! objects, with their properties, or an explanation of what the framework would refuse.
//!
//! This is pure: it asks no host and no framework, so any host can print and test it. Names of classes and properties are
//! those of the framework's documentation.
#![forbid(unsafe_code)]

mod devices;
mod input;
mod object;
mod plan;

pub use object::{Object, Stream, Value};
pub use plan::{Host, Machine, Platform, Refusal, plan, start_options};

#[cfg(test)]
mod tests;
