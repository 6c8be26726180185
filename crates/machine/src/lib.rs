//! The board: from a specification to a running machine.
//!
//! ```text
//!   Spec ──plan──► Plan ──build──► Machine ──run──► one thread per vCPU ──► Outcome
//! ```
//!
//! The [`plan`] resolves every address, interrupt and slot as plain data; [`build`] turns it into devices and wires
//! them; the vCPU loop answers the exits of whichever engine runs. No device sees the specification.

pub mod board;
mod build;
mod fdt;
mod firmware;
mod gate;
mod plan;
mod psci;
mod state;
mod vcpu_loop;
mod wake;

pub use build::{Boot, Handle, Machine, Spec, device_tree};
pub use firmware::FirmwareBoot;
pub use plan::{Plan, Shape, Slot, SlotKind};
pub use state::Still;
pub use tearless_devices::{fw_cfg::Kernel as FirmwareKernel, pflash::Flash};
pub use tearless_efi as efi;

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest powered off.
    PowerOff,
    /// The guest asked for a reset: build the machine anew and run it again.
    Reset,
    /// The host ended it.
    Killed,
    /// The host ended it once it was saved.
    Suspended,
}

/// Why a machine cannot be built or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The board cannot take what was asked for.
    #[error("{0}")]
    Board(String),
    /// The kernel or its companions do not fit.
    #[error(transparent)]
    Boot(#[from] tearless_boot::Error),
    /// EFI cannot be had.
    #[error(transparent)]
    Efi(#[from] tearless_efi::Error),
    /// No memory for the guest.
    #[error(transparent)]
    Memory(#[from] tearless_memory::Error),
    /// The CPU engine failed.
    #[error(transparent)]
    Engine(#[from] tearless_engine::Error),
    /// The saved state cannot be gone on from.
    #[error(transparent)]
    State(#[from] tearless_state::StateError),
    /// The host refused a resource.
    #[error("cannot {0}: {1}")]
    Host(&'static str, std::io::Error),
}
