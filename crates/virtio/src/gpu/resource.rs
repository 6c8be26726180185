//! Pictures that a guest has made, and the guest memory behind them.

use std::collections::BTreeMap;

use tearless_display::{Rect, Size};
use tearless_memory::{Gpa, GuestMemory};

use super::spec::response;
use crate::RingError;

/// Bytes that all pictures of a guest may take here: two of the largest screen's and more. Without a limit the guest would decide
/// how much of the host's memory it gets.
const MAX_BYTES: u64 = 256 << 20;
/// Most pictures, for each costs something however small it is.
const MAX_RESOURCES: usize = 1024;
/// Most ranges of guest memory behind all pictures.
const MAX_RANGES: usize = 1 << 18;

/// How the bytes of a pixel become `0xAARRGGBB`. A fourth byte is kept in formats without alpha, too: screens ignore it in any
/// case, and Linux makes the pictures of pointers, which have alpha, in such a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Bgra,
    Bgrx,
    Argb,
    Xrgb,
    Rgba,
    Rgbx,
    Abgr,
    Xbgr,
}

impl Format {
    /// The formats of section 5.7.6.8.
    fn of(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Bgra,
            2 => Self::Bgrx,
            3 => Self::Argb,
            4 => Self::Xrgb,
            67 => Self::Rgba,
            68 => Self::Xbgr,
            121 => Self::Abgr,
            134 => Self::Rgbx,
            _ => return None,
        })
    }

    fn number(self) -> u32 {
        match self {
            Self::Bgra => 1,
            Self::Bgrx => 2,
            Self::Argb => 3,
            Self::Xrgb => 4,
            Self::Rgba => 67,
            Self::Xbgr => 68,
            Self::Abgr => 121,
            Self::Rgbx => 134,
        }
    }

    fn pixel(self, [a, b, c, d]: [u8; 4]) -> u32 {
        u32::from_be_bytes(match self {
            Self::Bgra | Self::Bgrx => [d, c, b, a],
            Self::Argb | Self::Xrgb => [a, b, c, d],
            Self::Rgba | Self::Rgbx => [d, a, b, c],
            Self::Abgr | Self::Xbgr => [a, d, c, b],
        })
    }

    /// Sets the pixels `to` from the bytes `from`. Those of Linux' choice are handled many at a time by the host.
    fn convert(self, to: &mut [u32], from: &[[u8; 4]]) {
        let pairs = to.iter_mut().zip(from);
        match self {
            Self::Bgra | Self::Bgrx => pairs.for_each(|(to, p)| *to = u32::from_le_bytes(*p)),
            _ => pairs.for_each(|(to, p)| *to = self.pixel(*p)),
        }
    }
}

/// Guest memory in pieces, as one.
#[derive(Default)]
struct Backing {
    /// Each with where it begins in the whole.
    pieces: Vec<(u64, Gpa, u32)>,
    len: u64,
}

impl Backing {
    fn new(ranges: impl Iterator<Item = (Gpa, u32)>) -> Self {
        let mut backing = Self::default();
        for (start, len) in ranges {
            backing.pieces.push((backing.len, start, len));
            backing.len += u64::from(len);
        }
        backing
    }

    /// Reads from `offset` on. `false` when there is not as much.
    fn read(&self, memory: &GuestMemory, offset: u64, into: &mut [u8]) -> Result<bool, RingError> {
        let fits = offset.checked_add(into.len() as u64).is_some_and(|end| end <= self.len);
        if !fits {
            return Ok(false);
        }
        let first = self.pieces.partition_point(|(at, ..)| *at <= offset).saturating_sub(1);
        let mut rest = into;
        let mut at = offset;
        for (begin, start, len) in self.pieces.iter().skip(first) {
            if rest.is_empty() {
                break;
            }
            let skip = at.saturating_sub(*begin).min(u64::from(*len));
            let take = (u64::from(*len) - skip).min(rest.len() as u64);
            let (now, later) = rest.split_at_mut(take as usize);
            let from = start.checked_add(skip).ok_or(RingError::Chain("a picture's memory wraps around"))?;
            memory.read(from, now)?;
            rest = later;
            at += take;
        }
        Ok(true)
    }
}

/// A picture.
pub(super) struct Resource {
    size: Size,
    format: Format,
    /// `0xAARRGGBB`.
    pixels: Vec<u32>,
    backing: Backing,
}

impl Resource {
    /// Its size.
    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// `len` pixels of row `y` from column `x` on, as far as there are.
    pub(super) fn row(&self, x: u32, y: u32, len: usize) -> &[u32] {
        let row = self.pixels.chunks_exact(self.size.width as usize).nth(y as usize).unwrap_or_default();
        let rest = row.get(x as usize..).unwrap_or_default();
        rest.get(..len).unwrap_or(rest)
    }

    /// The number of its format.
    pub(super) fn format_number(&self) -> u32 {
        self.format.number()
    }

    /// Replaces all pixels by as many others.
    pub(super) fn set_pixels(&mut self, pixels: Vec<u32>) {
        if pixels.len() == self.pixels.len() {
            self.pixels = pixels;
        }
    }

    /// The guest memory behind it, in order.
    pub(super) fn backing(&self) -> impl Iterator<Item = (Gpa, u32)> {
        self.backing.pieces.iter().map(|(_, start, len)| (*start, *len))
    }

    /// All pixels.
    pub(super) fn pixels(&self) -> &[u32] {
        &self.pixels
    }

    /// Copies `rect` from guest memory, where its first pixel is at `offset`. The answer's type, if that cannot be.
    ///
    /// # Errors
    /// When the guest placed the picture where there is no RAM.
    pub(super) fn transfer(
        &mut self,
        memory: &GuestMemory,
        rect: Rect,
        offset: u64,
    ) -> Result<Result<(), u32>, RingError> {
        if !rect.is_within(self.size) {
            return Ok(Err(response::ERR_INVALID_PARAMETER));
        }
        if rect.is_empty() {
            return Ok(Ok(()));
        }
        let stride = 4 * u64::from(self.size.width);
        let mut bytes = vec![0; 4 * rect.width as usize];
        let rows = self.pixels.chunks_exact_mut(self.size.width as usize);
        for (i, row) in (0..).zip(rows.skip(rect.y as usize).take(rect.height as usize)) {
            let Some(from) = offset.checked_add(stride * i) else {
                return Ok(Err(response::ERR_INVALID_PARAMETER));
            };
            if !self.backing.read(memory, from, &mut bytes)? {
                return Ok(Err(response::ERR_INVALID_PARAMETER));
            }
            let (pixels, _) = bytes.as_chunks::<4>();
            self.format.convert(row.get_mut(rect.x as usize..).unwrap_or_default(), pixels);
        }
        Ok(Ok(()))
    }
}

/// All pictures of a guest.
#[derive(Default)]
pub(super) struct Resources {
    by_id: BTreeMap<u32, Resource>,
    bytes: u64,
    ranges: usize,
}

impl Resources {
    /// Makes a picture.
    pub(super) fn create(&mut self, id: u32, format: u32, size: Size) -> Result<(), u32> {
        if id == 0 || self.by_id.contains_key(&id) {
            return Err(response::ERR_INVALID_RESOURCE_ID);
        }
        let format = Format::of(format).ok_or(response::ERR_INVALID_PARAMETER)?;
        if size.area() == 0 {
            return Err(response::ERR_INVALID_PARAMETER);
        }
        let bytes = size.area().checked_mul(4).and_then(|bytes| bytes.checked_add(self.bytes));
        let bytes = bytes.filter(|bytes| *bytes <= MAX_BYTES && self.by_id.len() < MAX_RESOURCES);
        self.bytes = bytes.ok_or(response::ERR_OUT_OF_MEMORY)?;
        let pixels = vec![0; usize::try_from(size.area()).unwrap_or(0)];
        self.by_id.insert(id, Resource { size, format, pixels, backing: Backing::default() });
        Ok(())
    }

    /// Forgets a picture.
    pub(super) fn remove(&mut self, id: u32) -> Result<(), u32> {
        let gone = self.by_id.remove(&id).ok_or(response::ERR_INVALID_RESOURCE_ID)?;
        self.bytes -= 4 * gone.size.area();
        self.ranges -= gone.backing.pieces.len();
        Ok(())
    }

    /// How many ranges of guest memory a picture may still get.
    pub(super) fn ranges_left(&self) -> usize {
        MAX_RANGES - self.ranges
    }

    /// Puts guest memory behind a picture that has none.
    pub(super) fn attach(&mut self, id: u32, ranges: impl Iterator<Item = (Gpa, u32)>) -> Result<(), u32> {
        let resource = self.by_id.get_mut(&id).ok_or(response::ERR_INVALID_RESOURCE_ID)?;
        if !resource.backing.pieces.is_empty() {
            return Err(response::ERR_UNSPEC);
        }
        resource.backing = Backing::new(ranges);
        self.ranges += resource.backing.pieces.len();
        Ok(())
    }

    /// Takes the guest memory from behind a picture.
    pub(super) fn detach(&mut self, id: u32) -> Result<(), u32> {
        let resource = self.by_id.get_mut(&id).ok_or(response::ERR_INVALID_RESOURCE_ID)?;
        self.ranges -= std::mem::take(&mut resource.backing).pieces.len();
        Ok(())
    }

    /// All pictures with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Resource)> {
        self.by_id.iter().map(|(id, resource)| (*id, resource))
    }

    /// A picture.
    pub(super) fn get(&self, id: u32) -> Result<&Resource, u32> {
        self.by_id.get(&id).ok_or(response::ERR_INVALID_RESOURCE_ID)
    }

    /// A picture to be changed.
    pub(super) fn get_mut(&mut self, id: u32) -> Result<&mut Resource, u32> {
        self.by_id.get_mut(&id).ok_or(response::ERR_INVALID_RESOURCE_ID)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_formats_mean_what_the_others_do() {
        let from = [[1, 2, 3, 4], [0xff, 0, 0x80, 0], [9, 8, 7, 0xff]];
        for number in [1, 2, 3, 4, 67, 68, 121, 134] {
            let format = Format::of(number).unwrap();
            let mut to = [0; 3];
            format.convert(&mut to, &from);
            assert_eq!(to, from.map(|p| format.pixel(p)), "{format:?}");
        }
    }
}
