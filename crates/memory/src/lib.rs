//! Guest physical memory.
//!
//! [`Gpa`] is an address as the guest's physical address space has it. [`GuestMemory`] is the RAM: anonymous host
//! mappings that are cheap to clone (a reference count) and that live as long as any clone does, so an engine that holds
//! one can hand out host pointers; what the guest has no use for is given back to the host meanwhile
//! ([`GuestMemory::discard`]). This is the only crate that names `vm-memory`'s types; virtqueue code that needs
//! them takes them from [`vm`].

mod gpa;
mod host;
mod ram;

pub use gpa::Gpa;
pub use ram::{Error, GuestMemory, HostRange};

/// The parts of `vm-memory` that virtqueue code is generic over.
pub mod vm {
    pub use vm_memory::{
        Address, ByteValued, Bytes, GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryMmap, Le16,
        Le32, Le64,
    };
}
