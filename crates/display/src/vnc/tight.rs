//! The encoding Tight, without pictures that lose anything (the RFB community's specification, section 7.7.7).

use flate2::{Compress, Compression};

use super::pixels::{PixelFormat, compress, pack};
use crate::{Rect, Tile};

/// The side of the parts that an update is cut into: small enough to have few colours, large enough to compress.
const SIDE: u32 = 128;
/// Most colours in a palette.
const MAX_PALETTE: usize = 256;
/// Fewer bytes than that are sent as they are.
const MIN_COMPRESSED: usize = 12;

/// The kind of a part, in the highest bits of its first byte.
const FILL: u8 = 0x80;
/// The stream that is used, and that a filter is named.
const STREAM_BIT: u8 = 4;
const HAS_FILTER: u8 = 0x40;
const PALETTE: u8 = 1;

/// A Tight encoder. Its streams go through a whole session: one for pixels, one for two colours, one for more.
pub(super) struct Tight {
    streams: [Compress; 3],
    plain: Vec<u8>,
    palette: Palette,
}

impl Tight {
    pub(super) fn new() -> Self {
        let streams = [(); 3].map(|()| Compress::new(Compression::fast(), true));
        Self { streams, plain: Vec::new(), palette: Palette::default() }
    }

    /// How many parts [`Self::put`] makes of a tile at `rect`.
    pub(super) fn count(rect: Rect) -> usize {
        let along = |side: u32| side.div_ceil(SIDE) as usize;
        along(rect.width) * along(rect.height)
    }

    /// Appends the parts of a tile: `head` writes what comes before each.
    pub(super) fn put(
        &mut self,
        format: &PixelFormat,
        tile: &Tile,
        to: &mut Vec<u8>,
        mut head: impl FnMut(&mut Vec<u8>, Rect),
    ) {
        let Rect { x, y, width, height } = tile.rect;
        for top in (0..height).step_by(SIDE as usize) {
            for left in (0..width).step_by(SIDE as usize) {
                let part = Rect::new(left, top, SIDE.min(width - left), SIDE.min(height - top));
                head(to, Rect::new(x + left, y + top, part.width, part.height));
                let rows =
                    tile.pixels.chunks_exact(width as usize).skip(top as usize).take(part.height as usize);
                let columns = left as usize..(left + part.width) as usize;
                let rows: Vec<_> = rows.filter_map(|row| row.get(columns.clone())).collect();
                self.put_part(format, &rows, to);
            }
        }
    }

    fn put_part(&mut self, format: &PixelFormat, rows: &[&[u32]], to: &mut Vec<u8>) {
        self.plain.clear();
        let known = self.palette.learn(rows);
        let colours = self.palette.colours.as_slice();
        let stream = match (known, colours) {
            (true, &[] | &[_]) => {
                to.push(FILL);
                return format.put_tight(colours.first().copied().unwrap_or(0), to);
            }
            (true, _) => {
                let stream = if colours.len() == 2 { 1 } else { 2 };
                to.extend([stream << STREAM_BIT | HAS_FILTER, PALETTE, (colours.len() - 1) as u8]);
                colours.iter().for_each(|colour| format.put_tight(*colour, to));
                if stream == 1 {
                    rows.iter().for_each(|row| pack(row, colours, 1, &mut self.plain));
                } else {
                    self.plain.extend(rows.iter().copied().flatten().map(|pixel| self.palette.place(*pixel)));
                }
                stream
            }
            (false, _) => {
                to.push(0);
                rows.iter().copied().flatten().for_each(|pixel| format.put_tight(*pixel, &mut self.plain));
                0
            }
        };
        if self.plain.len() < MIN_COMPRESSED {
            return to.extend(&self.plain);
        }
        let mut packed = Vec::new();
        if let Some(stream) = self.streams.get_mut(usize::from(stream)) {
            compress(stream, &self.plain, &mut packed);
        }
        put_len(packed.len(), to);
        to.extend(packed);
    }
}

/// Appends a length: seven bits a byte, eight in the third, the lowest first.
fn put_len(len: usize, to: &mut Vec<u8>) {
    let [low, middle, high] = [len & 0x7f, len >> 7 & 0x7f, len >> 14 & 0xff].map(|bits| bits as u8);
    match (middle, high) {
        (0, 0) => to.push(low),
        (_, 0) => to.extend([low | 0x80, middle]),
        _ => to.extend([low | 0x80, middle | 0x80, high]),
    }
}

/// The places of a table in which a colour is looked for.
const SLOTS: usize = 1024;

/// The colours of a part, if they are few, and which is which.
struct Palette {
    colours: Vec<u32>,
    /// By a hash of the colour: its place and one more; 0 where there is none.
    slots: Vec<u16>,
}

impl Default for Palette {
    fn default() -> Self {
        Self { colours: Vec::new(), slots: vec![0; SLOTS] }
    }
}

impl Palette {
    /// Looks at a part. Returns whether its colours are few.
    fn learn(&mut self, rows: &[&[u32]]) -> bool {
        self.colours.clear();
        self.slots.fill(0);
        let mut last = None;
        for &pixel in rows.iter().copied().flatten() {
            if last.replace(pixel) == Some(pixel) {
                continue;
            }
            let (slot, place) = self.find(pixel);
            if place.is_none() {
                if self.colours.len() == MAX_PALETTE {
                    return false;
                }
                self.colours.push(pixel);
                if let Some(slot) = self.slots.get_mut(slot) {
                    *slot = self.colours.len() as u16;
                }
            }
        }
        true
    }

    /// The slot that a colour has or would have, and its place if it has one. There are more slots than colours.
    fn find(&self, pixel: u32) -> (usize, Option<u8>) {
        let mut slot = (pixel.wrapping_mul(0x9e37_79b1) >> 22) as usize % SLOTS;
        loop {
            match self.slots.get(slot).copied().unwrap_or(0).checked_sub(1) {
                None => return (slot, None),
                Some(place) if self.colours.get(usize::from(place)) == Some(&pixel) => {
                    return (slot, Some(place as u8));
                }
                Some(_) => slot = (slot + 1) % SLOTS,
            }
        }
    }

    fn place(&self, pixel: u32) -> u8 {
        self.find(pixel).1.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};

    use super::*;

    /// What a viewer would make of it.
    struct Viewer {
        streams: [Decompress; 3],
    }

    impl Viewer {
        fn read(&mut self, bytes: &mut &[u8], (width, height): (usize, usize)) -> Vec<u32> {
            let pixel = |bytes: &[u8]| u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
            let take = |bytes: &mut &[u8], len: usize| bytes.split_off(..len).unwrap().to_vec();
            let control = take(bytes, 1)[0];
            if control == FILL {
                return vec![pixel(&take(bytes, 3)); width * height];
            }
            let stream = usize::from(control >> 4 & 3);
            let palette = (control & HAS_FILTER != 0).then(|| {
                assert_eq!(take(bytes, 1), [PALETTE]);
                let count = usize::from(take(bytes, 1)[0]) + 1;
                take(bytes, count * 3).chunks(3).map(pixel).collect::<Vec<_>>()
            });
            let len = match &palette {
                None => width * height * 3,
                Some(palette) if palette.len() == 2 => width.div_ceil(8) * height,
                Some(_) => width * height,
            };
            let plain = if len < MIN_COMPRESSED {
                take(bytes, len)
            } else {
                let mut packed = usize::from(bytes[0] & 0x7f);
                let mut used = 1;
                if bytes[0] & 0x80 != 0 {
                    packed |= usize::from(bytes[1] & 0x7f) << 7;
                    used = 2;
                    if bytes[1] & 0x80 != 0 {
                        packed |= usize::from(bytes[2]) << 14;
                        used = 3;
                    }
                }
                take(bytes, used);
                let packed = take(bytes, packed);
                let mut plain = Vec::with_capacity(len);
                self.streams[stream].decompress_vec(&packed, &mut plain, FlushDecompress::Sync).unwrap();
                assert_eq!(plain.len(), len);
                plain
            };
            match palette {
                None => plain.chunks(3).map(pixel).collect(),
                Some(palette) if palette.len() == 2 => {
                    let bit = |row: &[u8], x: usize| usize::from(row[x / 8] >> (7 - x % 8) & 1);
                    plain
                        .chunks(width.div_ceil(8))
                        .flat_map(|row| (0..width).map(|x| palette[bit(row, x)]).collect::<Vec<_>>())
                        .collect()
                }
                Some(palette) => plain.iter().map(|place| palette[usize::from(*place)]).collect(),
            }
        }
    }

    #[test]
    fn parts_of_all_kinds_can_be_read_back() {
        let mut tight = Tight::new();
        let mut viewer = Viewer { streams: [(); 3].map(|()| Decompress::new(true)) };
        let colours = |count: u32| {
            move |i: u32| ((i.wrapping_mul(0x9e37_79b9) >> 7) % count).wrapping_mul(0x0001_0307) & 0x00ff_ffff
        };
        for (width, height) in [(1, 1), (5, 2), (128, 128), (300, 200)] {
            for count in [1, 2, 3, 16, 200, 256, 257, 100_000] {
                let pixels: Vec<u32> = (0..width * height).map(colours(count)).collect();
                let tile = Tile { rect: Rect::new(7, 9, width, height), pixels: pixels.clone() };
                let (mut bytes, mut heads) = (Vec::new(), Vec::new());
                tight.put(&PixelFormat::OWN, &tile, &mut bytes, |_, rect| heads.push(rect));
                let (mut rest, mut back) = (bytes.as_slice(), vec![u32::MAX; pixels.len()]);
                for rect in heads {
                    let part = viewer.read(&mut rest, (rect.width as usize, rect.height as usize));
                    for (y, row) in (0..).zip(part.chunks(rect.width as usize)) {
                        let start = ((rect.y - 9 + y) * width + rect.x - 7) as usize;
                        back[start..start + row.len()].copy_from_slice(row);
                    }
                }
                assert!(rest.is_empty());
                assert_eq!(back, pixels, "{width}x{height}, {count}");
            }
        }
    }

    #[test]
    fn lengths_are_of_one_to_three_bytes() {
        let put = |len| {
            let mut bytes = Vec::new();
            put_len(len, &mut bytes);
            bytes
        };
        assert_eq!((put(12), put(127), put(128)), (vec![12], vec![127], vec![0x80, 1]));
        assert_eq!((put(10_000), put(16_384)), (vec![0x90, 0x4e], vec![0x80, 0x80, 1]));
    }
}
