//! What a stream has been told to do (section 5.14.6.6.1).
//!
//! ```text
//!             set parameters       prepare             start
//!   unset ───────────────────► set ◄──────► prepared ──────────► running
//!                               ▲  set        │  ▲                │  ▲
//!                               └─────────────┘  └ prepare    stop▼  │start
//!                               ▲     release                  stopped
//!                               └─────────────────────────────────┘
//! ```

use serde::{Deserialize, Serialize};
use tearless_sound::Format;

use super::spec::{F_XRUNS, MAX_CHANNELS, RATES, SAMPLES, Status, request};

/// The largest buffer of a guest. Nothing here is as large, so this bounds no memory; it refuses nonsense.
const MAX_BUFFER: u32 = 16 << 20;

/// Where a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    #[default]
    Unset,
    Set,
    Prepared,
    Running,
    Stopped,
}

impl State {
    /// Where `code`, which is the request to set parameters or one of those without, leads.
    pub(super) fn after(self, code: u32) -> Option<Self> {
        match (code, self) {
            (request::PCM_SET_PARAMS, Self::Unset | Self::Set | Self::Prepared)
            | (request::PCM_RELEASE, Self::Prepared | Self::Stopped) => Some(Self::Set),
            (request::PCM_PREPARE, Self::Set | Self::Prepared) => Some(Self::Prepared),
            (request::PCM_START, Self::Prepared | Self::Stopped) => Some(Self::Running),
            (request::PCM_STOP, Self::Running) => Some(Self::Stopped),
            _ => None,
        }
    }

    /// Whether the stream keeps what the driver offers for later, or for now.
    pub(super) fn takes_messages(self) -> bool {
        matches!(self, Self::Prepared | Self::Running | Self::Stopped)
    }
}

/// What the driver has chosen, as it said it: `struct virtio_snd_pcm_set_params` without its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    buffer_bytes: u32,
    period_bytes: u32,
    features: u32,
    channels: u8,
    format: u8,
    rate: u8,
}

/// What that means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) format: Format,
    pub(super) period_bytes: usize,
    /// Tell of underruns and overruns.
    pub(super) xruns: bool,
}

impl Parameters {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<4>();
        let [buffer, period, features, last] = words else { return None };
        let [channels, format, rate, _] = *last;
        let [buffer_bytes, period_bytes, features] = [*buffer, *period, *features].map(u32::from_le_bytes);
        rest.is_empty().then_some(Self { buffer_bytes, period_bytes, features, channels, format, rate })
    }

    /// Checks it.
    pub(super) fn choose(self) -> Result<Chosen, Status> {
        let find =
            |table: &[(u8, u32)], number| table.iter().find(|(n, _)| *n == number).map(|(_, value)| *value);
        let sample = SAMPLES.iter().find(|(number, _)| *number == self.format).map(|(_, sample)| *sample);
        let (Some(sample), Some(rate)) = (sample, find(&RATES, self.rate)) else {
            return Err(Status::NotSupported);
        };
        if !(1..=MAX_CHANNELS).contains(&self.channels) || self.features & !F_XRUNS != 0 {
            return Err(Status::NotSupported);
        }
        let format = Format { sample, channels: self.channels, rate };
        let (buffer, period) = (self.buffer_bytes, self.period_bytes);
        if period == 0 || buffer == 0 || !buffer.is_multiple_of(period) {
            return Err(Status::BadMessage);
        }
        if buffer > MAX_BUFFER {
            return Err(Status::NotSupported);
        }
        Ok(Chosen { format, period_bytes: period as usize, xruns: self.features & F_XRUNS != 0 })
    }
}

#[cfg(test)]
mod tests {
    use tearless_sound::Sample;

    use super::*;

    const GOOD: Parameters = Parameters {
        buffer_bytes: 16384,
        period_bytes: 4096,
        features: F_XRUNS,
        channels: 2,
        format: 5,
        rate: 7,
    };

    #[test]
    fn parameters_are_checked() {
        let chosen = GOOD.choose().unwrap();
        assert_eq!(chosen.format, Format { sample: Sample::S16, channels: 2, rate: 48000 });
        assert!(chosen.xruns);
        let refused =
            |status, parameters: Parameters| assert_eq!(parameters.choose(), Err(status), "{parameters:?}");
        for features in [1, 2, 4, 8, 1 << 31] {
            refused(Status::NotSupported, Parameters { features, ..GOOD });
        }
        for channels in [0, 3, 255] {
            refused(Status::NotSupported, Parameters { channels, ..GOOD });
        }
        for other in [0, 11, 14, 64, 255] {
            refused(Status::NotSupported, Parameters { rate: other, ..GOOD });
            refused(Status::NotSupported, Parameters { format: other, ..GOOD });
        }
        for (buffer_bytes, period_bytes) in [(0, 1), (1, 0), (4096, 16384), (16384, 5000)] {
            refused(Status::BadMessage, Parameters { buffer_bytes, period_bytes, ..GOOD });
        }
        refused(Status::NotSupported, Parameters { buffer_bytes: MAX_BUFFER + 4096, ..GOOD });
        assert!(Parameters::parse(&[0; 15]).is_none() && Parameters::parse(&[0; 17]).is_none());
    }

    #[test]
    fn only_the_ways_of_the_specification_are_open() {
        use State::*;
        let codes = 0x101..=0x105;
        let ways: Vec<_> = [Unset, Set, Prepared, Running, Stopped]
            .iter()
            .map(|state| codes.clone().map(|code| state.after(code)).collect::<Vec<_>>())
            .collect();
        // Set parameters, prepare, release, start, stop.
        assert_eq!(
            ways,
            [
                [Some(Set), None, None, None, None],
                [Some(Set), Some(Prepared), None, None, None],
                [Some(Set), Some(Prepared), Some(Set), Some(Running), None],
                [None, None, None, None, Some(Stopped)],
                [None, None, Some(Set), Some(Running), None],
            ]
        );
    }
}
