//! The VM folder: configuration, locks, atomic writes.
//!
//! ```text
//! STORE/                     $TEARLESS_HOME, else the user's data folder
//!   .lock                    held for a moment while names come, go or change
//!   .new-deb-4711/           a VM in the making; becomes NAME.vm in one step
//!   .deleted-deb-4711/       a VM on its way out
//!   deb.vm/
//!     config.json            the VM, written atomically
//!     lock                   held exclusively while the VM runs; says by which process
//!     Disk.img  Kernel  Initrd  logs/
//! ```
//! Whatever is interrupted leaves either the old state or the new one, and at worst a hidden folder that the next
//! creation clears away once the lock in it is free.
#![forbid(unsafe_code)]

mod bundle;
mod create;
mod error;
mod files;
mod lock;
mod name;
mod store;

pub use bundle::Bundle;
pub use create::NewBundle;
pub use error::{Error, Result};
pub use lock::Lock;
pub use name::check_name;
pub use store::{HOME_VARIABLE, Listed, Store};

#[cfg(test)]
mod tests;
