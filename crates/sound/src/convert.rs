//! Sound of one format as sound of another.

use crate::{Format, Sample};

/// A frame on its way: left and right, between -1 and 1.
type Frame = [f64; 2];

/// Converts frames as they come. Between rates it draws straight lines, which is heard in what is nearly too high to hear:
/// good enough where the right format was not to be had.
pub struct Converter {
    from: Format,
    to: Format,
    /// The frame before the next one, if there was one and rates differ.
    previous: Option<Frame>,
    /// How far behind that the next frame to write is, in parts of a frame of which there are `to.rate`.
    position: u64,
}

impl Converter {
    /// A converter for a stream of sound.
    pub fn new(from: Format, to: Format) -> Self {
        Self { from, to, previous: None, position: 0 }
    }

    /// Appends to `out` what `sound`, which is whole frames, is in the other format.
    pub fn convert(&mut self, sound: &[u8], out: &mut Vec<u8>) {
        if self.from == self.to {
            out.extend_from_slice(sound);
            return;
        }
        for bytes in sound.chunks_exact(self.from.frame().max(1)) {
            let frame = decode(bytes, self.from);
            self.frame(frame, out);
        }
    }

    fn frame(&mut self, next: Frame, out: &mut Vec<u8>) {
        if self.from.rate == self.to.rate {
            return encode(next, self.to, out);
        }
        if let Some([left, right]) = self.previous {
            let whole = u64::from(self.to.rate);
            while self.position < whole {
                let part = self.position as f64 / whole as f64;
                let between = |a: f64, b: f64| a + (b - a) * part;
                encode([between(left, next[0]), between(right, next[1])], self.to, out);
                self.position += u64::from(self.from.rate).max(1);
            }
            self.position -= whole;
        }
        self.previous = Some(next);
    }
}

fn decode(bytes: &[u8], format: Format) -> Frame {
    let mut samples = bytes.chunks_exact(format.sample.bytes()).map(|bytes| match (format.sample, bytes) {
        (Sample::S16, &[a, b]) => f64::from(i16::from_le_bytes([a, b])) / 32768.0,
        (Sample::S32, &[a, b, c, d]) => f64::from(i32::from_le_bytes([a, b, c, d])) / 2_147_483_648.0,
        (Sample::F32, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
        _ => 0.0,
    });
    let left = samples.next().unwrap_or(0.0);
    [left, samples.next().unwrap_or(left)]
}

fn encode([left, right]: Frame, format: Format, out: &mut Vec<u8>) {
    let mut put = |value: f64| match format.sample {
        // `as` keeps what is too loud within the range.
        Sample::S16 => out.extend(((value * 32768.0).round() as i16).to_le_bytes()),
        Sample::S32 => out.extend(((value * 2_147_483_648.0).round() as i32).to_le_bytes()),
        Sample::F32 => out.extend((value as f32).to_le_bytes()),
    };
    if format.channels == 1 {
        put((left + right) / 2.0);
    } else {
        put(left);
        put(right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEREO: Format = Format { sample: Sample::S16, channels: 2, rate: 48000 };

    fn convert(from: Format, to: Format, sound: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut converter = Converter::new(from, to);
        // In pieces, as it comes.
        sound.chunks(from.frame() * 7).for_each(|piece| converter.convert(piece, &mut out));
        out
    }

    fn words(values: &[i16]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn wider_samples_and_back_are_the_same() {
        let sound = words(&(0..2000).map(|i: i32| (i * 32 - 32000) as i16).collect::<Vec<_>>());
        assert_eq!(convert(STEREO, STEREO, &sound), sound);
        for sample in [Sample::S32, Sample::F32] {
            let wide = Format { sample, ..STEREO };
            assert_eq!(convert(wide, STEREO, &convert(STEREO, wide, &sound)), sound, "{sample:?}");
        }
    }

    #[test]
    fn channels_are_doubled_and_mixed() {
        let mono = Format { channels: 1, ..STEREO };
        assert_eq!(convert(mono, STEREO, &words(&[1, -2])), words(&[1, 1, -2, -2]));
        assert_eq!(convert(STEREO, mono, &words(&[100, 300, -32768, -32768])), words(&[200, -32768]));
    }

    #[test]
    fn too_loud_is_as_loud_as_can_be() {
        let fractions = Format { sample: Sample::F32, channels: 1, rate: 48000 };
        let mono = Format { channels: 1, ..STEREO };
        let sound: Vec<u8> =
            [1.5f32, -7.0, f32::NAN, f32::INFINITY].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(convert(fractions, mono, &sound), words(&[32767, -32768, 0, 32767]));
    }

    #[test]
    fn other_rates_keep_the_shape() {
        let mono = |rate| Format { sample: Sample::S16, channels: 1, rate };
        assert_eq!(
            convert(mono(8000), mono(16000), &words(&[0, 100, 50, 0])),
            words(&[0, 50, 100, 75, 50, 25])
        );
        assert_eq!(convert(mono(16000), mono(8000), &words(&[0, 1, 2, 3, 4, 5, 6, 7])), words(&[0, 2, 4, 6]));
        // A second stays one.
        let second = words(&vec![5; 44100]);
        let frames = convert(mono(44100), mono(96000), &second).len() / 2;
        assert!(frames.abs_diff(96000) <= 3, "{frames}");
    }
}
