//! How sound is written down.

use std::time::Duration;

/// A sample. All are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// A signed number of 16 bits.
    S16,
    /// A signed number of 32 bits.
    S32,
    /// A fraction between -1 and 1 in 32 bits.
    F32,
}

impl Sample {
    /// How many bytes it takes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::S16 => 2,
            Self::S32 | Self::F32 => 4,
        }
    }
}

/// A format of sound: frames of a sample per channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The samples.
    pub sample: Sample,
    /// One or two: left, right.
    pub channels: u8,
    /// Frames per second.
    pub rate: u32,
}

impl Format {
    /// Bytes of a frame.
    pub fn frame(self) -> usize {
        self.sample.bytes() * usize::from(self.channels)
    }

    /// How long `bytes` of sound last.
    pub fn duration(self, bytes: usize) -> Duration {
        let per_second = self.frame() as u64 * u64::from(self.rate);
        let nanoseconds = (bytes as u128 * 1_000_000_000).checked_div(per_second.into()).unwrap_or(0);
        Duration::from_nanos(nanoseconds.try_into().unwrap_or(u64::MAX))
    }

    /// How many bytes, in whole frames, `time` takes.
    pub fn bytes(self, time: Duration) -> usize {
        let frames = time.as_nanos() * u128::from(self.rate) / 1_000_000_000;
        usize::try_from(frames).unwrap_or(usize::MAX).saturating_mul(self.frame())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_bytes_agree() {
        let cd = Format { sample: Sample::S16, channels: 2, rate: 44100 };
        assert_eq!(cd.frame(), 4);
        assert_eq!(cd.duration(176_400), Duration::from_secs(1));
        assert_eq!(cd.bytes(Duration::from_millis(10)), 441 * 4);
        let telephone = Format { sample: Sample::F32, channels: 1, rate: 8000 };
        assert_eq!(telephone.bytes(Duration::from_micros(190)), 4, "whole frames");
        assert_eq!(telephone.duration(usize::MAX).as_secs(), u64::MAX / 1_000_000_000, "no overflow");
    }
}
