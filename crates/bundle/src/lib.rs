//! The VM folder: configuration, locks, atomic writes.
//!
//! ```text
//! STORE/                     $TEARLESS_HOME, else the user's data folder
//!   .lock                    held for a moment while names come, go or change
//!   .new-deb-4711/           a VM in the making; becomes NAME.vm in one step
//!   .deleted-deb-4711/       a VM on its way out
//!   .pull-5f1c9ab2/          what an interrupted pull goes on with
//!   .macos/                  who runs macOS guests, which may be two at a time
//!   deb.vm/
//!     config.json            the VM, written atomically
//!     lock                   held exclusively while the VM runs; says by which process
//!     Disk.img  Kernel  Initrd  logs/
//!     MachineIdentifier  HardwareModel  AuxiliaryStorage     of a virtual Mac
//!     disks/                 layers of disks, after the first snapshot or clone
//!     snapshots/NAME.json    states to go back to
//!     state/suspended/       memory and devices of a VM that is suspended
//! ```
//! Whatever is interrupted leaves either the old state or the new one, and at worst a hidden folder that the next
//! creation clears away once the lock in it is free.
#![forbid(unsafe_code)]

mod bundle;
mod clone;
mod create;
mod error;
mod files;
mod import;
mod layers;
mod live;
mod lock;
pub mod mac;
mod name;
mod snapshot;
mod store;

pub use bundle::Bundle;
pub use create::NewBundle;
pub use error::{Error, Result};
pub use import::{APPLE_VARIABLES_FILE, ExportFormat, Foreign, ForeignDisk, Guest, tart};
pub use live::{LiveSnapshot, OpenLayer, RunningDisk};
pub use lock::Lock;
pub use name::check_name;
pub use snapshot::{Snapshot, Snapshots};
pub use store::{HOME_VARIABLE, Listed, Store};

#[cfg(test)]
mod tests;
