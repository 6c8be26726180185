//! Debian mirror client, package extraction, disk image building, cache.
//!
//! Data flows one way: [`mirror`] says where, [`release`] what may be trusted, [`packages`] what there is, [`fetch`] brings
//! it into the [`cache`] by digest, [`deb`] takes it apart, and [`quick`] makes of it what boots. All of
//! it blocks, reports to a [`progress::Progress`], and fails with one [`error::Error`] that says what to do.

pub mod cache;
mod compression;
pub mod deb;
pub mod deb822;
pub mod debian;
pub mod digest;
pub mod error;
pub mod ext4;
pub mod fetch;
pub mod gpt;
pub mod installer;
pub mod ipsw;
pub mod mirror;
pub mod modules;
pub mod oci;
pub mod packages;
pub mod progress;
pub mod quick;
pub mod release;
pub mod resolve;
#[cfg(test)]
mod test_server;
mod tls;
pub mod tree;
pub mod version;

pub use debian::{DebianDisk, DebianOptions, build_debian};
pub use error::{Error, Result};
pub use progress::{Progress, Silent};
pub use quick::{Flavour, Kernel, QuickBoot, QuickOptions, quick_boot};
