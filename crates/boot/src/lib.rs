//! Everything that stands in guest memory before the first guest instruction runs.
//!
//! - [`kernel`]: recognises and unpacks what the user calls "a kernel";
//! - [`place`]: decides where kernel, RAM disk and device tree go, as a pure function;
//! - [`fdt`]: the device tree of the board;
//! - [`initramfs`]: writes a newc cpio archive;
//! - [`quick`]: the RAM disk of `tearless run`;
//! - [`Source`]: where kernel and RAM disk come from, each time the machine starts;
//! - [`unpack`]: the bounded decompressors behind kernels and modules.
//!
//! Bytes and layout in, bytes and addresses out: nothing here knows a board address, a device or the host's cache.
#![forbid(unsafe_code)]

mod error;
pub mod fdt;
pub mod initramfs;
pub mod kernel;
pub mod place;
pub mod quick;
mod source;
pub mod unpack;

pub use error::{Error, Result};
pub use source::Source;
