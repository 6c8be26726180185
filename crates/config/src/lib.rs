//! The description of a VM: plain data, defaults, validation.
//!
//! A [`VmConfig`] is what `config.json` of a bundle holds and what a command line turns into. This crate reads and
//! writes no files and asks no host: limits come in as [`HostLimits`], paths go out as they are.
#![forbid(unsafe_code)]

mod apple;
mod display;
mod net;
mod qos;
mod size;
mod sound;
mod validate;
mod vm;

pub use apple::{AppleChoice, AppleConfig, ParseAppleError, RosettaCache, Vmnet, apple_variables};
pub use display::{DisplayChoice, DisplayConfig, DisplayKind, ParseDisplayError, ScreenMode};
pub use net::{Allow, MacAddr, NamedNetwork, NetConfig, NetMode, ParseNetError, PortForward, PortProtocol};
pub use qos::{CpuList, Qos, QosClass};
pub use size::{ByteSize, ParseSizeError};
pub use sound::{ParseSoundError, SoundConfig, SoundEnd};
pub use validate::{HostLimits, MAX_SHARES, MAX_TAG, MIN_MEMORY};
pub use vm::{
    BootConfig, CacheMode, ConsoleKind, DiskBus, DiskConfig, DiskFormat, EngineChoice, FirmwareConfig,
    InstallerConfig, ShareConfig, SyncMode, UnattendedConfig, UnknownEngine, VERSION, VmConfig,
};

/// Why a description of a VM is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The file comes from a later release.
    #[error("it has version {found} of the format, this Tearless knows up to {known}; update Tearless")]
    Newer {
        /// The version that it states.
        found: u64,
        /// [`VERSION`].
        known: u32,
    },
    /// The text is no description of a VM.
    #[error("it is not a valid VM description: {0}")]
    Malformed(String),
    /// A value cannot work.
    #[error("cannot use {what}\n  because: {why}\n  try: {advice}")]
    Invalid {
        /// The field and its value, in the user's words.
        what: String,
        /// What speaks against it.
        why: String,
        /// What to do.
        advice: String,
    },
}
