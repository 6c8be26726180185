//! EFI without firmware: boot services and runtime services (UEFI 2.10) that the host answers.
//!
//! ```text
//!   guest                                   host
//!   loader ── calls a table's entry ─► stub ── store to the doorbell ─► Firmware ─► Efi: a service
//!          ◄──────── returns ────────  stub ◄─ what to do, in the frame ──┘
//! ```
//! [`Firmware`] is an MMIO device, the doorbell. All that a service needs of the guest is its memory; nothing needs a
//! vCPU's registers, so any engine runs it ([`stub`]). One file per protocol is in [`protocol`]; boot services are in
//! [`boot`], runtime services in [`runtime`]; which of them exist says `docs/efi.md`.
//!
//! Loaders are guests: whatever they give us is checked, and what they can make us keep is bounded.
#![forbid(unsafe_code)]

mod abi;
mod boot;
mod boot_manager;
mod call;
mod console;
mod device_path;
mod efi;
mod events;
mod glass;
mod guest;
mod handles;
mod keyboard;
pub mod media;
mod pages;
pub mod pe;
mod protocol;
mod runtime;
mod saved;
mod service;
mod smbios;
mod stub;
mod time;
mod variables;

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tearless_bus::{AccessError, MmioDevice};
use tearless_display::{Input, Screen};
use tearless_memory::{Gpa, GuestMemory};
use tearless_storage::Disk;

use efi::{Efi, Phase};
use stub::doorbell;

pub use smbios::Identity;
pub use variables::{INSTALLED, Variables};

/// Why EFI cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The guest's memory is too small for what EFI itself needs.
    #[error(
        "EFI needs more memory than the VM has\n  because: tables, stack and code take some\n  try: --memory 256M or more"
    )]
    NoRoom,
    /// The host has no thread for the screen.
    #[error(
        "cannot show the screen\n  because: this host starts no more threads\n  try: fewer programs at a time"
    )]
    NoThread,
    /// Nothing of what there is to boot could be booted.
    #[error(
        "cannot boot\n  because: {0}\n  try: an installer with --iso FILE, or a disk with a system for ARM64"
    )]
    NothingToBoot(&'static str),
    /// A boot loader got an exception.
    #[error(
        "the boot loader crashed\n  because: exception with syndrome {syndrome:#x} at {at:#x}, address {address:#x}\n  \
         try: another version of it; if it works elsewhere, report this"
    )]
    Crashed {
        /// What happened (`ESR_EL1`).
        syndrome: u64,
        /// The instruction's address.
        at: u64,
        /// The address that it used.
        address: u64,
    },
}

/// What a machine with EFI is made of.
pub struct Setup {
    /// The guest's memory.
    pub memory: GuestMemory,
    /// Where its RAM is.
    pub ram: Range<Gpa>,
    /// Where the doorbell is: 64 KiB.
    pub doorbell: Range<Gpa>,
    /// The PL011 that the console is on.
    pub serial: Arc<dyn MmioDevice>,
    /// The device tree that the OS gets.
    pub device_tree: Vec<u8>,
    /// The disks, each with its slot on the PCIe bus.
    pub disks: Vec<(Arc<dyn Disk>, u8)>,
    /// The variables.
    pub variables: Arc<Variables>,
    /// Who the machine is.
    pub identity: Identity,
    /// The screen, and what is typed there.
    pub display: Option<(Arc<Screen>, Arc<Input>)>,
    /// A kernel that is booted before anything on the disks is looked at.
    pub kernel: Option<Kernel>,
}

/// A kernel with an EFI stub that the host gives, not a disk.
pub struct Kernel {
    /// The EFI program.
    pub program: Vec<u8>,
    /// Its RAM disk; empty for none. Linux takes it from 5.8 on.
    pub initrd: Vec<u8>,
    /// Its command line.
    pub cmdline: String,
}

/// EFI of a machine: the device at its doorbell.
pub struct Firmware(Mutex<Efi>);

impl Firmware {
    /// Puts EFI into a machine's memory. Returns the device and where the first vCPU starts.
    ///
    /// # Errors
    /// [`Error::NoRoom`].
    pub fn new(setup: Setup) -> Result<(Arc<Self>, Gpa), Error> {
        let (efi, entry) = efi::build(setup)?;
        Ok((Arc::new(Self(Mutex::new(efi))), entry))
    }

    /// EFI of a machine that goes on from a saved state: all that the guest sees of it is in its memory. [`Firmware::restore`]
    /// gives it the rest.
    pub fn resumed(
        memory: GuestMemory,
        ram: Range<Gpa>,
        doorbell: Range<Gpa>,
        (serial, variables, screen): (Arc<dyn MmioDevice>, Arc<Variables>, Option<Arc<Screen>>),
    ) -> Arc<Self> {
        let mut efi = Efi::new(memory, (ram, doorbell), serial, variables);
        efi.screen = screen;
        Arc::new(Self(Mutex::new(efi)))
    }

    /// Why EFI switched the machine off, if it was EFI that did so and not a guest.
    pub fn failure(&self) -> Option<Error> {
        self.lock().failure
    }

    fn lock(&self) -> MutexGuard<'_, Efi> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MmioDevice for Firmware {
    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), AccessError> {
        Err(AccessError::NoRegister)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        let value = u64::from_le_bytes(*data.first_chunk().ok_or(AccessError::Width)?);
        let mut efi = self.lock();
        match offset {
            // An OS that has taken over has none of these calls, and none of their stacks.
            doorbell::CALL | doorbell::AGAIN if efi.phase == Phase::Runtime => efi.lost(value),
            doorbell::CALL => efi.called(value),
            doorbell::AGAIN => efi.again(value),
            doorbell::RUNTIME => efi.runtime_called(),
            doorbell::COPIED => efi.runtime_copied(),
            doorbell::ELR | doorbell::FAR | doorbell::ESR => efi.exception(offset, value),
            _ => return Err(AccessError::NoRegister),
        }
        Ok(())
    }
}
