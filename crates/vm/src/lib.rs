//! Describe, create, open, start and stop virtual machines.
//!
//! This is the library for people who code their own virtualiser: a [`Hardware`] says what the machine is made of, a
//! [`Frontend`] is the host's end of its serial devices, [`Running`] is the machine while it runs.

#[cfg(target_os = "macos")]
pub mod apple;
#[cfg(not(target_os = "macos"))]
#[path = "apple_elsewhere.rs"]
pub mod apple;
mod console;
#[cfg(any(target_os = "macos", test))]
mod datagrams;
pub mod debian;
mod display;
pub mod engines;
mod firmware;
pub mod forward;
pub mod guest;
mod hardware;
pub mod host;
mod keyboard;
mod log;
pub mod network;
mod running;
mod save;
mod service;
mod share;
pub mod sound;
mod typist;
pub mod whole;

pub use console::Console;
pub use display::Display;
pub use firmware::{Firmware, MAX_FIRMWARE};
pub use hardware::{DiskSpec, Hardware, LinuxPayload, Payload, SavedState};
pub use keyboard::Keyboard;
pub use log::LogFile;
pub use network::{Network, Place};
pub use running::{Frontend, HostSide, Plug, Running};
pub use save::Keeper;
pub use service::{AskGuest, MAIN_LOG, Served, Service, TakeSnapshot, UART_LOG, VIRTIO_LOG};
pub use share::{SharedFolder, open_shares};
pub use sound::Sound;
pub use tearless_bus::CharSink;
pub use tearless_control::StopOutcome;
pub use tearless_display::{Input, Screen, link, remote, vnc, web};
pub use tearless_machine::{Handle, Outcome, Plan, Spec, device_tree, efi};
pub use tearless_sandbox as sandbox;
pub use tearless_storage as storage;
pub use tearless_virtio::{balloon::Gauge, console::ConsolePort, vsock::Hub};
pub use typist::Typist;

/// Why a VM cannot be started, or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine is missing, or failed.
    #[error("{0}")]
    Engine(String),
    /// A disk cannot be used.
    #[error(transparent)]
    Disk(#[from] tearless_storage::DiskError),
    /// A folder cannot be shared.
    #[error(transparent)]
    Share(#[from] tearless_share::ShareError),
    /// The network cannot be had.
    #[error(transparent)]
    Network(#[from] tearless_net::NetError),
    /// Debian cannot be had.
    #[error(transparent)]
    Image(#[from] tearless_image::Error),
    /// Firmware, or the file with its variables, cannot be used.
    #[error(
        "cannot use {} as firmware or its variables\n  because: {why}\n  try: EDK2's QEMU_EFI.fd or AAVMF_CODE.fd (Debian's package qemu-efi-aarch64); variables in a file of their own, 64 MiB at most",
        path.display()
    )]
    Firmware {
        /// The file.
        path: std::path::PathBuf,
        /// What the host says, or what it is.
        why: String,
    },
    /// The kernel or its companions cannot be used.
    #[error(transparent)]
    Boot(#[from] tearless_boot::Error),
    /// The machine cannot be built or run.
    #[error(transparent)]
    Machine(#[from] tearless_machine::Error),
    /// The saved state cannot be gone on from.
    #[error("cannot go on from the saved state\n  because: {0}\n  try: {advice}", advice = save::advice(.0))]
    State(tearless_state::StateError),
    /// The host refused a resource.
    #[error("cannot {0}: {1}")]
    Host(&'static str, std::io::Error),
}
