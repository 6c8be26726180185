//! The sources of `tearless-vz`'s framework module, built for this host against an Objective-C runtime of our own whose `VZ…` classes
//! answer as Apple's documentation says. Tests only.
//!
//! ```text
//!   vz::framework ──► objc2, dispatch2, block2 ──► objc: classes, objects, queues, blocks ──► foundation, virtualization
//!                                                          └──► journal: messages, and what must not happen
//! ```
//! It notices: a message to a VM from another thread than its queue's, waiting for one's own queue, a reference too many or too
//! few, a message to what is gone, a delegate or installer that nobody keeps, a method or class that the framework does not
//! have, calls in a wrong order. It cannot notice what Apple's checks refuse, wrong types of arguments, or missing entitlements.
#![cfg(test)]

mod foundation;
mod journal;
mod objc;
mod virtualization;

#[path = "../../src/framework/mod.rs"]
#[allow(dead_code, reason = "what the window calls, which is not here")]
mod framework;

use tearless_vz::{
    FirstUser, Host, MacStart, Machine, Object, Platform, Refusal, Stream, Value, plan, start_options,
};

mod tests;
