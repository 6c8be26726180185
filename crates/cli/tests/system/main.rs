//! The command as a user runs it, against Debian's own kernel and busybox.
//!
//! The first test to run downloads them from a Debian mirror into the user's cache, unless they are there.
#![allow(clippy::unwrap_used, reason = "a failed set-up fails the test")]

mod boot;
mod browser;
mod display;
mod efi;
mod guest;
mod json;
mod life;
mod mac;
mod mistakes;
mod registry;
mod share;
mod sound;
mod states;
mod suspend;
mod tool;
mod window;
