//! LZ4 as Apple's Compression framework frames it. Each block is compressed LZ4 data without LZ4's own frame.
//!
//! ```text
//!   bv41  u32 plain length  u32 packed length  data     compressed
//!   bv4-  u32 length  data                              stored
//!   bv4$                                                the end
//! ```
//! Numbers are little-endian. A compressed block may refer to the 64 KiB before it, of whatever blocks they come; those that
//! are written here do not.

use std::{
    io::{self, Read},
    sync::OnceLock,
};

const PACKED: [u8; 4] = *b"bv41";
const STORED: [u8; 4] = *b"bv4-";
const END: [u8; 4] = *b"bv4$";

/// What a block is made of here, and by Apple: as far as LZ4 refers back.
pub(crate) const BLOCK: usize = 64 << 10;
/// The longest block that is read, packed or not. Writers stay far below it.
const MAX_BLOCK: usize = 4 << 20;

/// Why a stream cannot be unpacked.
#[derive(Debug)]
pub enum Lz4Error {
    /// It cannot be read.
    Read(io::Error),
    /// It is no such stream, and why.
    Malformed(&'static str),
}

/// The content of `source`, packed as it is read.
pub(crate) struct Packer<R> {
    source: R,
    plain: Vec<u8>,
    packed: Vec<u8>,
    /// How far `packed` has been read.
    at: usize,
    ended: bool,
}

impl<R: Read> Packer<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, plain: vec![0; BLOCK], packed: Vec::new(), at: 0, ended: false }
    }

    /// Packs the next block.
    fn fill(&mut self) -> io::Result<()> {
        self.packed.clear();
        self.at = 0;
        let mut len = 0;
        while len < BLOCK {
            match self.source.read(&mut self.plain[len..]) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if len == 0 {
            self.packed.extend(END);
            self.ended = true;
            return Ok(());
        }
        match &self.plain[..len] {
            plain if *plain == ZEROS => self.packed.extend(packed_zeros()),
            plain => pack(plain, &mut self.packed),
        }
        Ok(())
    }
}

/// Most of a disk are blocks of zeros, so those are packed once.
static ZEROS: [u8; BLOCK] = [0; BLOCK];

fn packed_zeros() -> &'static [u8] {
    static PACKED: OnceLock<Vec<u8>> = OnceLock::new();
    PACKED.get_or_init(|| {
        let mut packed = Vec::new();
        pack(&ZEROS, &mut packed);
        packed
    })
}

fn pack(plain: &[u8], into: &mut Vec<u8>) {
    let data = lz4_flex::block::compress(plain);
    // No block is longer than `BLOCK`.
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    if data.len() < plain.len() {
        into.extend(PACKED);
        into.extend(number(plain.len()));
        into.extend(number(data.len()));
        into.extend(data);
    } else {
        into.extend(STORED);
        into.extend(number(plain.len()));
        into.extend(plain);
    }
}

impl<R: Read> Read for Packer<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.packed.len() && !self.ended {
            self.fill()?;
        }
        let rest = &self.packed[self.at..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.at += len;
        Ok(len)
    }
}

/// Unpacks a stream, block by block. It takes a few MiB, whatever the stream says.
pub struct Unpacker<R> {
    source: R,
    packed: Vec<u8>,
    plain: Vec<u8>,
    /// What came before `plain`, as far as a block may refer to it.
    history: Vec<u8>,
}

impl<R: Read> Unpacker<R> {
    /// Nothing is read before the first block is asked for.
    pub fn new(source: R) -> Self {
        Self { source, packed: Vec::new(), plain: Vec::new(), history: Vec::new() }
    }

    /// The next block; `None` at the end, after which `source` is not read any more.
    ///
    /// # Errors
    /// The stream cannot be read, or is damaged.
    pub fn block(&mut self) -> Result<Option<&[u8]>, Lz4Error> {
        self.remember();
        let kind: [u8; 4] = self.read_array()?;
        match kind {
            END => return Ok(None),
            STORED => {
                let len = self.read_length()?;
                self.plain.resize(len, 0);
                self.source.read_exact(&mut self.plain).map_err(cut)?;
            }
            PACKED => {
                let (len, packed) = (self.read_length()?, self.read_length()?);
                self.packed.resize(packed, 0);
                self.source.read_exact(&mut self.packed).map_err(cut)?;
                self.plain.resize(len, 0);
                let unpacked =
                    lz4_flex::block::decompress_into_with_dict(&self.packed, &mut self.plain, &self.history);
                if !unpacked.is_ok_and(|n| n == len) {
                    return Err(Lz4Error::Malformed("a compressed block is damaged"));
                }
            }
            _ => return Err(Lz4Error::Malformed("a block is of no known kind")),
        }
        Ok(Some(&self.plain))
    }

    /// What the stream is read from.
    pub fn into_source(self) -> R {
        self.source
    }

    fn remember(&mut self) {
        self.history.append(&mut self.plain);
        let old = self.history.len().saturating_sub(BLOCK);
        self.history.drain(..old);
    }

    fn read_array(&mut self) -> Result<[u8; 4], Lz4Error> {
        let mut bytes = [0; 4];
        self.source.read_exact(&mut bytes).map_err(cut)?;
        Ok(bytes)
    }

    fn read_length(&mut self) -> Result<usize, Lz4Error> {
        let len = u32::from_le_bytes(self.read_array()?) as usize;
        if len > MAX_BLOCK {
            return Err(Lz4Error::Malformed("a block is longer than any writer makes it"));
        }
        Ok(len)
    }
}

fn cut(error: io::Error) -> Lz4Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Lz4Error::Malformed("it ends in the middle"),
        _ => Lz4Error::Read(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(plain: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        Packer::new(plain).read_to_end(&mut packed).unwrap();
        packed
    }

    fn unpack(packed: &[u8]) -> Result<Vec<u8>, Lz4Error> {
        let mut unpacker = Unpacker::new(packed);
        let mut plain = Vec::new();
        while let Some(block) = unpacker.block()? {
            plain.extend(block);
        }
        assert!(unpacker.into_source().is_empty(), "bytes are left");
        Ok(plain)
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        for plain in [vec![], vec![0; BLOCK * 3 + 1], noise(BLOCK + 17), b"abc".repeat(100_000)] {
            assert_eq!(unpack(&pack(&plain)).unwrap(), plain);
        }
        assert_eq!(pack(b""), END);
        let zeros = pack(&[0; BLOCK]);
        assert!(zeros.starts_with(b"bv41\0\0\x01\0") && zeros.len() < 300, "{}", zeros.len());
        assert!(pack(&noise(BLOCK)).starts_with(b"bv4-\0\0\x01\0"), "what cannot be made smaller is stored");
    }

    #[test]
    fn blocks_refer_to_blocks_before_them() {
        let first = noise(1000);
        let second = lz4_flex::block::compress_with_dict(&first, &first);
        assert!(second.len() < 100, "it only refers");
        let number = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        let stream = [
            &STORED[..],
            &number(1000),
            &first,
            &PACKED,
            &number(1000),
            &number(second.len()),
            &second,
            &END,
        ]
        .concat();
        assert_eq!(unpack(&stream).unwrap(), [first.clone(), first].concat());
    }

    #[test]
    fn damage_is_seen() {
        let packed = pack(&b"some text that repeats itself, ".repeat(50));
        for len in 0..packed.len() {
            assert!(matches!(unpack(&packed[..len]), Err(Lz4Error::Malformed(_))), "{len}");
        }
        for bad in [&b"bv42"[..], b"bv4-\xff\xff\xff\xff", b"bv41\x01\0\0\0\x02\0\0\0\xff\xff"] {
            assert!(matches!(unpack(bad), Err(Lz4Error::Malformed(_))), "{bad:?}");
        }
    }
}
