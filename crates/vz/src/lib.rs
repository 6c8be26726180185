//! VMs of Apple's Virtualization framework.
//!
//! ```text
//!   configuration ──► plan: the framework's objects, as data ──► framework: the objects themselves (macOS only)
//! ```
//! The plan is pure: it asks no host and no framework, so any host can print and test it. It is the exact tree of the
//! framework's objects, with their properties, or an explanation of what the framework would refuse. Names of classes and
//! properties are those of the framework's documentation.

mod devices;
#[cfg(target_os = "macos")]
pub mod framework;
mod input;
mod object;
mod plan;
#[cfg(target_os = "macos")]
pub mod screen;
#[cfg(target_os = "macos")]
pub mod window;

pub use object::{Object, Stream, Value};
pub use plan::{FirstUser, Host, MacStart, Machine, Platform, Refusal, plan, start_options};

#[cfg(test)]
mod examples;
#[cfg(test)]
mod tests;
