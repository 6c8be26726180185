//! Decompression in pure Rust, with a bound on what may come out.
//!
//! A few kilobytes can unpack to any size, so every caller says how much it is ready to take.

use std::io::{self, Read};

use flate2::read::GzDecoder;
use lzma_rust2::{LzmaReader, XzReader};
use ruzstd::decoding::StreamingDecoder;

use crate::{Error, Result};

/// The most memory that a stream may ask for as its window: `xz -9` needs 64 MiB, `zstd --ultra -22` needs 128 MiB.
const WINDOW_KIB: u32 = 192 << 10;

/// A compression that this crate undoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The `.xz` container.
    Xz,
    /// The older `.lzma` container, which has no magic number.
    Lzma,
}

impl Format {
    /// The format that `bytes` begin with; [`Format::Lzma`] cannot be recognised.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            _ => None,
        }
    }

    /// The name that messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
        }
    }
}

/// Unpacks the stream that `packed` begins with (bytes after its end are ignored), up to `limit` bytes of output.
/// `what` names the file in errors.
///
/// # Errors
/// [`Error::Damaged`] for a broken or cut-off stream, [`Error::Unsuitable`] for one that unpacks to more than `limit`.
pub fn unpack(format: Format, packed: &[u8], limit: u64, what: &str) -> Result<Vec<u8>> {
    let broken = |e: io::Error| Error::damaged(what, format!("its {} stream: {e}", format.name()));
    let mut out = Vec::new();
    let mut source: Box<dyn Read + '_> = match format {
        Format::Gzip => Box::new(GzDecoder::new(packed)),
        Format::Zstd => Box::new(
            StreamingDecoder::new_with_max_window_size(packed, u64::from(WINDOW_KIB) << 10)
                .map_err(|e| broken(io::Error::other(e)))?,
        ),
        Format::Xz => Box::new(XzReader::new_mem_limit(packed, false, WINDOW_KIB)),
        Format::Lzma => Box::new(LzmaReader::new_mem_limit(packed, WINDOW_KIB, None).map_err(broken)?),
    };
    source.by_ref().take(limit.saturating_add(1)).read_to_end(&mut out).map_err(broken)?;
    if out.len() as u64 > limit {
        return Err(Error::unsuitable(
            what,
            format!("a {} stream that unpacks to more than {} MiB", format.name(), limit >> 20),
            "this is more than Tearless takes for such a file",
        ));
    }
    Ok(out)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    /// `printf 'tearless\n' | xz`, `zstd` and `xz --format=lzma`.
    pub(crate) const XZ: &[u8] = b"\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3\x01\x00\x08tearless\x0a\x00\x00\x00\x00\xe1W!BWy\xe2\x90\x00\x01!\x09l\x18\xc5\xd5\x1f\xb6\xf3}\x01\x00\x00\x00\x00\x04YZ";
    pub(crate) const ZSTD: &[u8] = b"(\xb5/\xfd\x04XI\x00\x00tearless\x0a;\x9e))";
    pub(crate) const LZMA: &[u8] = b"]\x00\x00\x80\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00:\x19HI\xa0:\x96\xcdz\xfe\xbe/\xff\xff\xef\xfd\x00\x00";

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut e = GzEncoder::new(Vec::new(), Compression::fast());
        e.write_all(data).unwrap();
        e.finish().unwrap()
    }

    #[test]
    fn unpacks_every_format_and_ignores_what_follows() {
        let gz = gzip(b"tearless\n");
        for (format, packed) in
            [(Format::Gzip, &gz[..]), (Format::Xz, XZ), (Format::Zstd, ZSTD), (Format::Lzma, LZMA)]
        {
            let mut padded = packed.to_vec();
            padded.extend([9, 0, 0, 0]);
            assert_eq!(unpack(format, &padded, 100, "t").unwrap(), b"tearless\n", "{format:?}");
            assert_eq!(Format::of(packed), (format != Format::Lzma).then_some(format));
        }
    }

    #[test]
    fn a_cut_stream_is_damaged() {
        let gz = gzip(b"tearless\n");
        for (format, packed) in
            [(Format::Gzip, &gz[..]), (Format::Xz, XZ), (Format::Zstd, ZSTD), (Format::Lzma, LZMA)]
        {
            for len in 0..packed.len() - 8 {
                let result = unpack(format, &packed[..len], 100, "t");
                assert!(matches!(result, Err(Error::Damaged { .. })), "{format:?} cut to {len}: {result:?}");
            }
        }
    }

    #[test]
    fn output_is_bounded() {
        let bomb = gzip(&vec![0; 1 << 20]);
        assert!(unpack(Format::Gzip, &bomb, 1 << 20, "t").is_ok());
        let e = unpack(Format::Gzip, &bomb, (1 << 20) - 1, "t").unwrap_err();
        assert!(matches!(e, Error::Unsuitable { .. }), "{e}");
    }
}
