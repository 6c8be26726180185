//! Where a VM's sound goes to and comes from: WAV files, the host's sound server, silence. Knows nothing of virtio.
//!
//! Nobody here keeps time: whoever plays hands sound over when its time has come, and whoever records asks for it when it
//! has been. Nothing here waits for the host's sound server. What that has no room for is lost, what it does not have is
//! silence; [`Backlog`] says which of both threatens, for the host's clock is another one than ours.
#![forbid(unsafe_code)]

mod convert;
mod format;
mod host;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod ring;
mod wav;

use std::sync::Arc;

pub use convert::Converter;
pub use format::{Format, Sample};
pub use host::Host;
pub use wav::{WavMicrophone, WavSpeaker};

/// What sound is played on. It outlives the guest's resets.
pub trait Speaker: Send + Sync {
    /// Begins to play sound of `format`.
    fn open(&self, format: Format) -> Box<dyn Playback>;
}

/// What sound comes from. It outlives the guest's resets.
pub trait Microphone: Send + Sync {
    /// Gets ready for recording sound of `format`.
    fn open(&self, format: Format) -> Box<dyn Capture>;
}

/// Sound that is being played. What was handed over before this is dropped is still heard.
pub trait Playback: Send {
    /// Takes over the next frames, whole ones, without waiting.
    fn play(&mut self, sound: &[u8]);

    /// How much has been handed over and not been heard yet; `None` where nobody hears.
    fn backlog(&self) -> Option<Backlog> {
        None
    }
}

/// Sound that is being recorded.
pub trait Capture: Send {
    /// Begins to listen, or ceases to.
    fn listen(&mut self, on: bool);

    /// Fills `sound`, whole frames, with what comes next; with silence where there is nothing.
    fn record(&mut self, sound: &mut [u8]);

    /// How much has been heard and not been fetched yet; `None` where nobody listens.
    fn backlog(&self) -> Option<Backlog> {
        None
    }
}

/// Bytes on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Between here and the host's sound server. When it grows our clock and the host's differ.
    pub here: usize,
    /// In the buffers of the server.
    pub beyond: usize,
}

/// Nobody hears what is played, and nothing is heard.
pub struct Silence;

impl Speaker for Silence {
    fn open(&self, _: Format) -> Box<dyn Playback> {
        Box::new(Self)
    }
}

impl Microphone for Silence {
    fn open(&self, _: Format) -> Box<dyn Capture> {
        Box::new(Self)
    }
}

impl Playback for Silence {
    fn play(&mut self, _: &[u8]) {}
}

impl Capture for Silence {
    fn listen(&mut self, _: bool) {}

    fn record(&mut self, sound: &mut [u8]) {
        // Of signed numbers and of fractions alike.
        sound.fill(0);
    }
}

/// Why sound cannot be played or recorded.
#[derive(Debug, thiserror::Error)]
#[error("{what}\n  because: {why}\n  try: {advice}")]
pub struct SoundError {
    /// What failed.
    pub what: String,
    /// The reason.
    pub why: String,
    /// What to do.
    pub advice: String,
}

/// What a VM plays on and what it hears.
#[derive(Clone, Default)]
pub struct Devices {
    /// What it plays on, if it can.
    pub speaker: Option<Arc<dyn Speaker>>,
    /// What it hears, if it can.
    pub microphone: Option<Arc<dyn Microphone>>,
}
