//! The display of a saved VM: its pictures, what of them is on the screen, the pointer.

use std::io::{Read as _, Write as _};

use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use serde::{Deserialize, Serialize};
use tearless_display::{Cursor, Rect, Size};
use tearless_memory::Gpa;
use tearless_state::StateError;

use super::{
    commands::{Display, Scanout},
    resource::Resources,
    spec::CURSOR_SIDE,
};

/// The version of the format.
pub(super) const STATE_VERSION: u32 = 1;
/// All pictures, packed. Desktops pack to a few MiB; what is more does not belong into a file that is read as a whole.
const MAX_PACKED: usize = 64 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedDisplay {
    resources: Vec<SavedResource>,
    scanout: Option<SavedScanout>,
    /// The size of what is on the screen.
    screen: Option<(u32, u32)>,
    cursor: SavedCursor,
    /// `events_read`.
    pub(super) events: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedResource {
    id: u32,
    format: u32,
    size: (u32, u32),
    pixels: Packed,
    /// Guest memory: addresses and lengths.
    backing: Vec<(u64, u32)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedScanout {
    resource: u32,
    rect: [u32; 4],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedCursor {
    at: (u32, u32),
    hot: (u32, u32),
    size: (u32, u32),
    pixels: Packed,
}

/// Pixels, packed by zlib, in hexadecimal digits.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Packed(String);

impl Packed {
    fn pack(pixels: &[u32]) -> Result<Self, StateError> {
        let failed = |e: std::io::Error| StateError::malformed(e.to_string());
        let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
        let bytes: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
        packer.write_all(&bytes).map_err(failed)?;
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
        let packed = packer.finish().map_err(failed)?;
        Ok(Self(packed.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()))
    }

    /// Exactly `count` pixels.
    fn unpack(&self, count: u64) -> Result<Vec<u32>, StateError> {
        let wrong = || StateError::malformed("a picture's pixels are none");
        let (digits, rest) = self.0.as_bytes().as_chunks::<2>();
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let bytes: Option<Vec<u8>> =
            digits.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?)).collect();
        let packed = bytes.filter(|_| rest.is_empty()).ok_or_else(wrong)?;
        let mut bytes = Vec::new();
        // One more than there are to be, so that too many are noticed.
        let mut unpacker = ZlibDecoder::new(&*packed).take(4 * count + 1);
        unpacker.read_to_end(&mut bytes).map_err(|_| wrong())?;
        if bytes.len() as u64 != 4 * count {
            return Err(wrong());
        }
        Ok(bytes.as_chunks::<4>().0.iter().map(|pixel| u32::from_le_bytes(*pixel)).collect())
    }
}

impl Display {
    pub(super) fn save(&self, events: u32) -> Result<SavedDisplay, StateError> {
        let mut resources = Vec::new();
        let mut packed = 0;
        for (id, resource) in self.resources.iter() {
            let pixels = Packed::pack(resource.pixels())?;
            packed += pixels.0.len();
            if packed > MAX_PACKED {
                return Err(StateError::Busy("what its guest draws takes too much room to be saved".into()));
            }
            let size = resource.size();
            resources.push(SavedResource {
                id,
                format: resource.format_number(),
                size: (size.width, size.height),
                pixels,
                backing: resource.backing().map(|(start, len)| (start.0, len)).collect(),
            });
        }
        let cursor = self.screen.cursor();
        Ok(SavedDisplay {
            resources,
            scanout: self.scanout.map(|Scanout { resource, rect }| SavedScanout {
                resource,
                rect: [rect.x, rect.y, rect.width, rect.height],
            }),
            screen: self.screen.size().map(|size| (size.width, size.height)),
            cursor: SavedCursor {
                at: (cursor.x, cursor.y),
                hot: (cursor.hot_x, cursor.hot_y),
                size: (cursor.size.width, cursor.size.height),
                pixels: Packed::pack(&cursor.pixels)?,
            },
            events,
        })
    }

    /// Takes a state over, and shows what it showed.
    pub(super) fn restore(&mut self, saved: SavedDisplay) -> Result<(), StateError> {
        let wrong = |_| StateError::malformed("a picture is none that a guest can have made");
        let mut resources = Resources::default();
        for SavedResource { id, format, size: (width, height), pixels, backing } in saved.resources {
            let size = Size::new(width, height);
            resources.create(id, format, size).map_err(wrong)?;
            if backing.len() > resources.ranges_left() {
                return Err(wrong(0));
            }
            resources.get_mut(id).map_err(wrong)?.set_pixels(pixels.unpack(size.area())?);
            resources.attach(id, backing.into_iter().map(|(start, len)| (Gpa(start), len))).map_err(wrong)?;
        }
        let cursor = saved.cursor;
        let size = Size::new(cursor.size.0, cursor.size.1);
        let none = size == Size::default();
        let hot = cursor.hot.0.max(cursor.hot.1);
        if !none && (size != Size::new(CURSOR_SIDE, CURSOR_SIDE) || hot >= CURSOR_SIDE) {
            return Err(StateError::malformed("its pointer is none that a guest can have made"));
        }
        let pixels = cursor.pixels.unpack(size.area())?.into();
        let (x, y) = cursor.at;
        let cursor = Cursor { x, y, hot_x: cursor.hot.0, hot_y: cursor.hot.1, size, pixels };
        self.resources = resources;
        if let Some((width, height)) = saved.screen {
            self.screen.resize(Size::new(width, height));
        }
        if let Some(SavedScanout { resource, rect: [x, y, width, height] }) = saved.scanout {
            self.show(resource, Rect::new(x, y, width, height)).map_err(wrong)?;
        }
        self.screen.set_cursor(cursor);
        Ok(())
    }
}
