//! Decompression of what Debian archives and kernels use: xz, zstd, gzip, or nothing. All in Rust, all bounded.

use std::io::{self, BufReader, Read};

use crate::error::{Error, Result};

/// The xz dictionary may be this large, in KiB; Debian uses at most 64 MiB.
const XZ_MEMORY_KIB: u32 = 256 * 1024;

/// Wraps `source` by the compression that the file name says; the result never yields more than `limit` bytes.
pub(crate) fn reader<'a>(name: &str, source: impl Read + 'a, limit: u64) -> Result<Box<dyn Read + 'a>> {
    let fail = |e: &dyn std::fmt::Display| Error::format(format!("cannot decompress {name}"), e);
    let source = BufReader::with_capacity(64 * 1024, source);
    let inner: Box<dyn Read + 'a> = match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "xz" => Box::new(lzma_rust2::XzReader::new_mem_limit(source, true, XZ_MEMORY_KIB)),
        "zst" => Box::new(ruzstd::decoding::StreamingDecoder::new(source).map_err(|e| fail(&e))?),
        "gz" => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        _ => Box::new(source),
    };
    Ok(Box::new(Bounded { inner, left: limit }))
}

/// Decompresses a small file in memory.
pub(crate) fn bytes(name: &str, compressed: &[u8], limit: u64) -> Result<Vec<u8>> {
    read_all(name, &mut reader(name, compressed, limit)?, limit)
}

/// Reads a whole member of an archive into memory; more than `limit` bytes are an error.
pub(crate) fn read_all(name: &str, content: &mut dyn Read, limit: u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    Bounded { inner: content, left: limit }
        .read_to_end(&mut out)
        .map_err(|e| Error::format(format!("cannot unpack {name}"), e))?;
    Ok(out)
}

/// Fails, unlike [`Read::take`], when there is more than allowed: truncating silently would be a wrong result.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, "it unpacks to more than is sensible")
        })?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn gzip_round_trip_and_bound() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&[7; 5000]).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(bytes("x.gz", &packed, 5000).unwrap(), [7; 5000]);
        assert!(bytes("x.gz", &packed, 4999).unwrap_err().why().contains("more than is sensible"));
        assert!(bytes("x.gz", &packed[..packed.len() - 9], 5000).is_err());
        assert_eq!(bytes("x", b"plain", 10).unwrap(), b"plain");
    }

    #[test]
    fn damaged_files_are_errors() {
        for name in ["x.xz", "x.zst", "x.gz"] {
            assert!(bytes(name, b"surely not compressed data, and long enough", 100).is_err(), "{name}");
        }
    }
}
