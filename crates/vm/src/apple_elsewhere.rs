//! Apple's Virtualization framework, where there is none: nothing of this is ever had, and all of it says so.

use std::{
    convert::Infallible,
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, mpsc::Sender},
};

use tearless_config::{ScreenMode, VmConfig};

use crate::whole::{Backend, Ended, Start, Wanted};

/// What an IPSW installs, and on what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipsw {
    /// Its macOS, "15.1".
    pub version: String,
    /// Its build, "24B83".
    pub build: String,
    /// The file `HardwareModel` of the best virtual Mac that this host can be for it.
    pub model: Vec<u8>,
    /// The fewest vCPUs.
    pub cpus: u32,
    /// The least memory, in bytes.
    pub memory: u64,
}

/// A VM that has been built: there is none.
pub struct Built(Infallible);

/// A VM that can be shown: there is none.
pub struct View(Infallible);

/// Why the framework cannot be used here; `None` when it can.
pub fn missing() -> Option<String> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    Some(format!("Virtualization.framework exists only on Apple silicon Macs; this is {os} on {arch}"))
}

fn nothing<T>() -> Result<T, String> {
    Err(missing().unwrap_or_default())
}

/// Why the framework cannot run that VM.
pub fn refusal(_: &Wanted<'_>) -> Option<String> {
    missing()
}

/// What the framework is told of the VM.
///
/// # Errors
/// Always.
pub fn describe(_: &Wanted<'_>) -> Result<String, String> {
    nothing()
}

/// Builds the VM.
///
/// # Errors
/// Always.
pub fn build(_: &Wanted<'_>) -> Result<Built, String> {
    nothing()
}

impl Built {
    /// Starts it.
    ///
    /// # Errors
    /// What the framework says.
    pub fn start(&self, _: Start<'_>) -> Result<(), String> {
        match self.0 {}
    }

    /// What steers it.
    pub fn backend(&self) -> Arc<dyn Backend> {
        match self.0 {}
    }

    /// The host's end of its console, once.
    pub fn take_console(&mut self) -> Option<UnixStream> {
        match self.0 {}
    }

    /// Waits until it ends by itself.
    pub fn wait(self, _: impl Fn(&str)) -> Ended {
        match self.0 {}
    }

    /// What shows it in a window.
    pub fn view(&self) -> View {
        match self.0 {}
    }

    /// Installs macOS.
    ///
    /// # Errors
    /// What the installer says.
    pub fn install(&self, _: &Path, _: impl FnMut(f64)) -> Result<(), String> {
        match self.0 {}
    }
}

impl View {
    /// Shows it until the process ends.
    ///
    /// # Errors
    /// When that is another thread than the main one.
    pub fn show(&self, _: &str, _: ScreenMode, _: Sender<()>) -> Result<(), String> {
        match self.0 {}
    }
}

/// Whether the VM is to have a window.
pub fn has_window(_: &VmConfig) -> bool {
    false
}

/// Has the framework look at an IPSW.
///
/// # Errors
/// Always.
pub fn load_ipsw(_: &Path) -> Result<Ipsw, String> {
    nothing()
}

/// Makes the auxiliary storage of a new virtual Mac.
///
/// # Errors
/// Always.
pub fn create_auxiliary_storage(_: &Path, _: &[u8]) -> Result<(), String> {
    nothing()
}

/// A new identity for a VM that is no virtual Mac.
pub fn new_identifier() -> Vec<u8> {
    Vec::new()
}

/// Why this host cannot have macOS make a user at its first start.
pub fn first_user_missing(_: &str) -> Option<String> {
    missing()
}

/// How many of the host's CPUs are performance cores, where it tells.
pub fn performance_cores() -> Option<u32> {
    None
}
