//! Fuzz targets for everything that reads what a guest, a mirror or a stranger wrote.
//!
//! A target is a function from bytes to nothing: it must return, whatever the bytes are, within seconds and a bound on
//! memory. [`TARGETS`] lists them. Two things drive them:
//!
//! ```text
//!   seeds ─► mutate ─┐
//!                    ├─► target(bytes)      cargo run --release -p tearless-fuzz      stable, in CI, no feedback
//!   libFuzzer ───────┘                      cd fuzz && cargo +nightly fuzz run gic    guided by coverage, for days
//! ```
//! Targets of devices take the bytes as a program: [`Input`] hands them out as choices, addresses and values, so that
//! every string of bytes is a sequence of accesses that gets somewhere. Targets of parsers take them as the file.

#![forbid(unsafe_code)]

mod input;
pub mod mutate;
mod seeds;
pub mod targets;

pub use input::Input;
pub use targets::{SELF_TESTS, TARGETS, Target};
