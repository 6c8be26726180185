//! The calls of Apple's Virtualization framework. Thin: what a VM is made of is decided by the plan.
//!
//! ```text
//!   any thread ──with, wait──► the VM's queue ──► VZVirtualMachine ──► VZVirtualMachineDelegate ──► channel of events
//! ```
//! The framework wants each touch of a VM to be on its queue (it traps otherwise); [`confined`] sees to that. What callbacks are
//! given is copied into plain data there and then.
//!
//! The tests of this module run elsewhere: in `crates/vz/mock`, where another Objective-C runtime pretends to be the framework.
#![allow(unsafe_code, reason = "Objective-C")]
// SAFETY, for the calls of the framework here and in `build`, `devices` and `machine`, which are all of one kind: the classes are there
// (`build::check_classes`, or the plan's host), arguments are of the types that Apple's headers give (`objc2-virtualization` has
// those), lists are copied by whoever takes them, blocks are copied by whoever keeps them, and a VM is touched on its queue only
// (`confined`). What goes beyond that has its reason beside it.
#![allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]

mod build;
mod confined;
mod devices;
mod entitlement;
mod failure;
mod host;
mod install;
mod machine;
mod start;
mod vmnet;

pub use build::Streams;
pub use failure::Failure;
pub use host::{host, missing, new_identifier};
pub use install::{RestoreImage, create_auxiliary_storage, install_rosetta};
pub use machine::{Event, Machine};
