//! A host whose sound we do not know.

use std::convert::Infallible;

use super::no_sound;
use crate::{Devices, SoundError};

/// There is none.
pub(super) struct Connection(Infallible);

impl Connection {
    pub(super) fn open() -> Result<Self, SoundError> {
        let why = format!("Tearless does not know how {} does that", std::env::consts::OS);
        Err(no_sound(why, "a Linux or macOS host"))
    }

    pub(super) fn start(self) -> Result<Devices, SoundError> {
        match self.0 {}
    }
}
