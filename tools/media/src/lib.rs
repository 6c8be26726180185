//! Bootable media of Debian's own, unmodified parts, for tests and measurements: CDs that boot as Debian's do, and disks with
//! an EFI system partition. Packages come through the product's mirror client, verified and cached.

mod iso;
mod loaders;
mod packages;

pub use iso::IsoBuilder;
pub use loaders::{Loader, System, cd, debian_cd, disk, grub_disk, installer};
pub use packages::files;
