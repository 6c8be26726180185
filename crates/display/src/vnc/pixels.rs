//! Pixels as viewers want them: Raw and ZRLE (RFC 6143, sections 7.4, 7.7.1 and 7.7.6).

use flate2::{Compress, Compression, FlushCompress};

use crate::Tile;

/// How a viewer wants pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelFormat {
    /// 8, 16 or 32.
    bits: u8,
    depth: u8,
    big_endian: bool,
    /// Red, green and blue: the largest value, and where it begins.
    max: [u16; 3],
    shift: [u8; 3],
}

impl PixelFormat {
    /// What a viewer gets that does not choose: as they are here, the least byte first.
    pub(super) const OWN: Self =
        Self { bits: 32, depth: 24, big_endian: false, max: [255; 3], shift: [16, 8, 0] };

    /// Reads one; `None` for what cannot be: colours from a table, or bits that are not there.
    pub(super) fn parse(bytes: [u8; 16]) -> Option<Self> {
        let [bits, depth, big, true_colour, r1, r2, g1, g2, b1, b2, red, green, blue, ..] = bytes;
        let max = [[r1, r2], [g1, g2], [b1, b2]].map(u16::from_be_bytes);
        let shift = [red, green, blue];
        let fits = max.iter().zip(shift).all(|(max, shift)| {
            max.checked_add(1).is_some_and(u16::is_power_of_two)
                && u32::from(shift) + max.count_ones() <= u32::from(bits)
        });
        let known = matches!(bits, 8 | 16 | 32) && true_colour != 0 && fits;
        known.then_some(Self { bits, depth, big_endian: big != 0, max, shift })
    }

    /// As it is said to viewers.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.bits, self.depth, self.big_endian.into(), 1];
        bytes.extend(self.max.iter().flat_map(|max| max.to_be_bytes()));
        bytes.extend(self.shift);
        bytes.extend([0; 3]);
        bytes
    }

    fn value(&self, pixel: u32) -> u32 {
        let [_, red, green, blue] = pixel.to_be_bytes();
        let parts = [red, green, blue].into_iter().zip(self.max).zip(self.shift);
        parts.fold(0, |value, ((colour, max), shift)| {
            value | (u32::from(colour) * u32::from(max) + 127) / 255 << shift
        })
    }

    /// Appends a pixel.
    pub(super) fn put(&self, pixel: u32, to: &mut Vec<u8>) {
        let value = self.value(pixel);
        let len = usize::from(self.bits / 8);
        if self.big_endian {
            to.extend(value.to_be_bytes().into_iter().skip(4 - len));
        } else {
            to.extend(value.to_le_bytes().into_iter().take(len));
        }
    }

    /// Which of the four bytes need not be sent in ZRLE, if one need not: the first or the last.
    fn idle_byte(&self) -> Option<usize> {
        if self.bits != 32 || self.depth > 24 {
            return None;
        }
        let used =
            self.max.iter().zip(self.shift).fold(0u32, |used, (max, shift)| used | u32::from(*max) << shift);
        match (used & 0xff00_0000, used & 0xff) {
            (0, _) => Some(if self.big_endian { 0 } else { 3 }),
            (_, 0) => Some(if self.big_endian { 3 } else { 0 }),
            _ => None,
        }
    }

    /// Appends a pixel as Tight has it: red, green and blue where that is all there is to it.
    pub(super) fn put_tight(&self, pixel: u32, to: &mut Vec<u8>) {
        if (self.bits, self.depth, self.max) == (32, 24, [255; 3]) {
            let [_, colours @ ..] = pixel.to_be_bytes();
            to.extend(colours);
        } else {
            self.put(pixel, to);
        }
    }

    /// Appends a pixel without the byte that need not be sent.
    fn put_compact(&self, pixel: u32, to: &mut Vec<u8>) {
        let start = to.len();
        self.put(pixel, to);
        if let Some(idle) = self.idle_byte() {
            to.remove(start + idle);
        }
    }
}

/// Appends a tile's pixels one by one.
pub(super) fn raw(format: &PixelFormat, tile: &Tile, to: &mut Vec<u8>) {
    to.reserve(tile.pixels.len() * 4);
    tile.pixels.iter().for_each(|pixel| format.put(*pixel, to));
}

/// The side of ZRLE's tiles.
const SIDE: usize = 64;
/// Most colours in a packed palette.
const MAX_PALETTE: usize = 16;

/// A ZRLE encoder. Its stream goes through a whole session.
pub(super) struct Zrle {
    stream: Compress,
    plain: Vec<u8>,
}

impl Zrle {
    pub(super) fn new() -> Self {
        Self { stream: Compress::new(Compression::fast(), true), plain: Vec::new() }
    }

    /// Appends a tile with its length before it.
    pub(super) fn put(&mut self, format: &PixelFormat, tile: &Tile, to: &mut Vec<u8>) {
        self.plain.clear();
        let width = tile.rect.width as usize;
        for band in tile.pixels.chunks(SIDE * width.max(1)) {
            for x in (0..width).step_by(SIDE) {
                let rows = band.chunks(width).map(|row| row.get(x..width.min(x + SIDE)).unwrap_or_default());
                encode(format, &rows.collect::<Vec<_>>(), &mut self.plain);
            }
        }
        let start = to.len();
        to.extend([0; 4]);
        compress(&mut self.stream, &self.plain, to);
        let len = (to.len() - start - 4) as u32;
        to.iter_mut().skip(start).zip(len.to_be_bytes()).for_each(|(to, byte)| *to = byte);
    }
}

/// Appends all of `plain` through a stream that goes on.
pub(super) fn compress(stream: &mut Compress, plain: &[u8], to: &mut Vec<u8>) {
    let mut rest = plain;
    loop {
        to.reserve(rest.len() / 2 + 1024);
        let before = stream.total_in();
        // Our own stream cannot be in a wrong state.
        let done = stream.compress_vec(rest, to, FlushCompress::Sync).is_err();
        let read = usize::try_from(stream.total_in() - before).unwrap_or(rest.len());
        rest = rest.get(read..).unwrap_or_default();
        if done || rest.is_empty() && to.len() < to.capacity() {
            return;
        }
    }
}

/// Appends the pixels of up to 64 rows: one colour, a palette, or all of them.
fn encode(format: &PixelFormat, rows: &[&[u32]], to: &mut Vec<u8>) {
    let mut palette: Vec<u32> = Vec::with_capacity(MAX_PALETTE + 1);
    for &pixel in rows.iter().copied().flatten() {
        if !palette.contains(&pixel) {
            palette.push(pixel);
            if palette.len() > MAX_PALETTE {
                break;
            }
        }
    }
    match palette.len() {
        0..=1 => {
            to.push(1);
            format.put_compact(palette.first().copied().unwrap_or(0), to);
        }
        2..=MAX_PALETTE => {
            to.push(palette.len() as u8);
            palette.iter().for_each(|pixel| format.put_compact(*pixel, to));
            let bits = match palette.len() {
                2 => 1,
                3..=4 => 2,
                _ => 4,
            };
            rows.iter().for_each(|row| pack(row, &palette, bits, to));
        }
        _ => {
            to.push(0);
            rows.iter().copied().flatten().for_each(|pixel| format.put_compact(*pixel, to));
        }
    }
}

/// Appends a row of places in the palette, `bits` each, the first in the highest bits.
pub(super) fn pack(row: &[u32], palette: &[u32], bits: usize, to: &mut Vec<u8>) {
    for pixels in row.chunks(8 / bits) {
        let places = pixels.iter().map(|pixel| palette.iter().position(|known| known == pixel).unwrap_or(0));
        let byte = places.enumerate().fold(0, |byte, (i, place)| byte | place << (8 - bits * (i + 1)));
        to.push(byte as u8);
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};

    use super::*;
    use crate::Rect;

    fn format(bits: u8, depth: u8, big: u8, max: [u8; 3], shift: [u8; 3]) -> Option<PixelFormat> {
        let [r, g, b] = max;
        let [x, y, z] = shift;
        PixelFormat::parse([bits, depth, big, 1, 0, r, 0, g, 0, b, x, y, z, 0, 0, 0])
    }

    #[test]
    fn formats_are_checked() {
        assert!(format(16, 16, 0, [31, 63, 31], [11, 5, 0]).is_some());
        assert!(format(8, 8, 0, [7, 7, 3], [0, 3, 6]).is_some());
        for wrong in [
            format(24, 24, 0, [255; 3], [16, 8, 0]),
            format(16, 16, 0, [255; 3], [16, 8, 0]),
            format(32, 24, 0, [255; 3], [255, 8, 0]),
            format(32, 24, 0, [100, 255, 255], [16, 8, 0]),
            PixelFormat::parse([32, 24, 0, 0, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]),
            PixelFormat::parse([32, 24, 0, 1, 255, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]),
        ] {
            assert_eq!(wrong, None);
        }
        let bytes: [u8; 16] = PixelFormat::OWN.bytes().try_into().unwrap();
        assert_eq!(PixelFormat::parse(bytes), Some(PixelFormat::OWN));
    }

    #[test]
    fn pixels_are_written_as_wanted() {
        let put = |format: PixelFormat| {
            let mut bytes = Vec::new();
            format.put(0xff8040, &mut bytes);
            bytes.push(0xee);
            format.put_compact(0xff8040, &mut bytes);
            bytes
        };
        assert_eq!(put(PixelFormat::OWN), [0x40, 0x80, 0xff, 0, 0xee, 0x40, 0x80, 0xff]);
        let big = format(32, 24, 1, [255; 3], [24, 16, 8]).unwrap();
        assert_eq!(put(big), [0xff, 0x80, 0x40, 0, 0xee, 0xff, 0x80, 0x40]);
        let small = format(16, 16, 0, [31, 63, 31], [11, 5, 0]).unwrap();
        let value = (31u16 << 11 | 32 << 5 | 8).to_le_bytes();
        assert_eq!(put(small), [&value[..], &[0xee], &value].concat());
    }

    fn inflate(bytes: &[u8], stream: &mut Decompress) -> Vec<u8> {
        let len = u32::from_be_bytes(bytes[..4].try_into().unwrap());
        assert_eq!(len as usize, bytes.len() - 4);
        let mut plain = Vec::with_capacity(1 << 20);
        stream.decompress_vec(&bytes[4..], &mut plain, FlushDecompress::Sync).unwrap();
        plain
    }

    #[test]
    fn zrle_tiles_can_be_read_back() {
        let (mut zrle, mut stream) = (Zrle::new(), Decompress::new(true));
        let mut tile = Tile { rect: Rect::new(0, 0, 70, 65), pixels: vec![0x010203; 70 * 65] };
        let mut bytes = Vec::new();
        zrle.put(&PixelFormat::OWN, &tile, &mut bytes);
        assert_eq!(inflate(&bytes, &mut stream), [1, 3, 2, 1].repeat(4));

        // Nine pixels in two colours: a byte and a bit of the next.
        tile = Tile { rect: Rect::new(0, 0, 9, 1), pixels: vec![5, 5, 6, 5, 5, 5, 5, 6, 6] };
        bytes.clear();
        zrle.put(&PixelFormat::OWN, &tile, &mut bytes);
        assert_eq!(inflate(&bytes, &mut stream), [2, 5, 0, 0, 6, 0, 0, 0x21, 0x80]);

        let noise: Vec<u32> = (0..64 * 64).map(|i: u32| i.wrapping_mul(0x9e37_79b9) >> 8).collect();
        tile = Tile { rect: Rect::new(0, 0, 64, 64), pixels: noise.clone() };
        bytes.clear();
        zrle.put(&PixelFormat::OWN, &tile, &mut bytes);
        let plain = inflate(&bytes, &mut stream);
        let expected = noise.iter().flat_map(|p| p.to_le_bytes().into_iter().take(3)).collect::<Vec<_>>();
        assert_eq!((plain[0], &plain[1..]), (0, &expected[..]));
    }
}
