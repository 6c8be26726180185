//! The host's own sound: what its user hears and says.
//!
//! In two steps, because a VM's process is confined in between: [`Host::connect`] opens what it may not open later,
//! [`Host::start`] starts threads, which a confined process must not have had before.

#[cfg(target_os = "linux")]
mod pulse;
#[cfg(target_os = "linux")]
use pulse as platform;

#[cfg(target_os = "macos")]
mod core_audio;
#[cfg(target_os = "macos")]
use core_audio as platform;

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod elsewhere;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
use elsewhere as platform;

#[cfg(any(target_os = "linux", target_os = "macos"))]
mod slots;

use crate::{Devices, SoundError};

/// A way to the host's sound.
pub struct Host(platform::Connection);

impl Host {
    /// Opens the way; starts no thread.
    ///
    /// # Errors
    /// When the host has no sound.
    pub fn connect() -> Result<Self, SoundError> {
        platform::Connection::open().map(Self)
    }

    /// What plays and what hears there.
    ///
    /// # Errors
    /// When the host's sound server will not have us.
    pub fn start(self) -> Result<Devices, SoundError> {
        self.0.start()
    }
}

/// There is none, or it does not want us.
fn no_sound(why: impl std::fmt::Display, advice: &str) -> SoundError {
    SoundError {
        what: "cannot use the host's sound".to_owned(),
        why: why.to_string(),
        advice: format!("{advice}, or --sound wav:FILE, silent or none"),
    }
}
