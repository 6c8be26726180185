//! Compressed streams.

use tearless_boot::unpack::{Format, unpack as bounded};

use crate::Input;

const FORMATS: [Format; 4] = [Format::Gzip, Format::Zstd, Format::Xz, Format::Lzma];

/// Unpacks with a bound, which must hold. The first byte chooses the format when the stream does not say.
pub fn unpack(data: &[u8]) {
    const LIMIT: u64 = 1 << 20;
    let (format, stream) = match Format::of(data) {
        Some(format) => (format, data),
        None => {
            let mut input = Input::new(data);
            (input.pick(&FORMATS), input.rest())
        }
    };
    if let Ok(bytes) = bounded(format, stream, LIMIT, "input") {
        assert!(bytes.len() as u64 <= LIMIT);
    }
}
