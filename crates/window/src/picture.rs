//! The guest's picture, and how it lies in the window.

use tearless_display::{Rect, Size, Tile};

/// What is around the picture.
const BORDER: u32 = 0x0020_2020;

/// What the guest shows.
#[derive(Default)]
pub struct Picture {
    size: Size,
    pixels: Vec<u32>,
}

impl Picture {
    /// Its size; empty before the guest shows anything.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Makes it black and of `size`.
    pub fn resize(&mut self, size: Size) {
        *self = Self { size, pixels: vec![0; usize::try_from(size.area()).unwrap_or(0)] };
    }

    /// Shows a picture as large as it is.
    pub fn replace(&mut self, size: Size, pixels: Vec<u32>) {
        *self = Self { size, pixels };
    }

    /// Paints a part, if it lies within.
    pub fn paint(&mut self, tile: &Tile) {
        if tile.rect.is_empty() || !tile.rect.is_within(self.size) {
            return;
        }
        let (left, width) = (tile.rect.x as usize, tile.rect.width as usize);
        let rows = self.pixels.chunks_exact_mut(self.size.width as usize).skip(tile.rect.y as usize);
        for (to, from) in rows.zip(tile.pixels.chunks_exact(width)) {
            if let Some(to) = to.get_mut(left..left + width) {
                to.copy_from_slice(from);
            }
        }
    }

    /// Draws what of it is within `part` of a window whose pixels are `to`.
    pub fn draw(&self, place: &Placement, part: Rect, (window, to): (Size, &mut [u32])) {
        let rows = to.chunks_exact_mut(window.width.max(1) as usize);
        let columns = part.x as usize..(part.x + part.width) as usize;
        for (y, row) in (0..).zip(rows).skip(part.y as usize).take(part.height as usize) {
            let Some(row) = row.get_mut(columns.clone()) else { return };
            match place.rows(y) {
                Some((from, 1)) => self.draw_row(place, part.x, from, row),
                Some((from, count)) => self.draw_mean(place, part.x, (from, count), row),
                None => row.fill(BORDER),
            }
        }
    }

    fn row(&self, y: u32) -> &[u32] {
        let width = self.size.width as usize;
        self.pixels.get(y as usize * width..).and_then(|rest| rest.get(..width)).unwrap_or_default()
    }

    /// A row of which each pixel is one of the picture's.
    fn draw_row(&self, place: &Placement, first: u32, y: u32, to: &mut [u32]) {
        let from = self.row(y);
        if place.at.width == self.size.width {
            // Crisp and quick: as it is.
            to.fill(BORDER);
            let skip = place.at.x.saturating_sub(first) as usize;
            let from = from.get(first.saturating_sub(place.at.x) as usize..).unwrap_or_default();
            to.iter_mut().skip(skip).zip(from).for_each(|(to, from)| *to = *from);
            return;
        }
        for (x, to) in (first..).zip(to) {
            *to = place.columns(x).and_then(|(x, _)| from.get(x as usize)).copied().unwrap_or(BORDER);
        }
    }

    /// A row of which each pixel is the mean of several.
    fn draw_mean(&self, place: &Placement, first: u32, (y, count): (u32, u32), to: &mut [u32]) {
        let rows: Vec<_> = (y..y + count).map(|y| self.row(y)).collect();
        for (x, to) in (first..).zip(to) {
            let Some((x, wide)) = place.columns(x) else {
                *to = BORDER;
                continue;
            };
            let columns = x as usize..(x + wide) as usize;
            let pixels = rows.iter().filter_map(|row| row.get(columns.clone())).flatten();
            *to = mean(pixels);
        }
    }
}

fn mean<'a>(pixels: impl Iterator<Item = &'a u32>) -> u32 {
    let (sums, count) = pixels.fold(([0; 3], 0), |([red, green, blue], count), pixel| {
        let [_, r, g, b] = pixel.to_be_bytes().map(u32::from);
        ([red + r, green + g, blue + b], count + 1)
    });
    sums.into_iter().fold(0, |pixel, sum: u32| pixel << 8 | sum / count.max(1))
}

/// Where the picture lies in the window: pixel for pixel or several for each where there is room, smaller where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The part of the window.
    at: Rect,
    picture: Size,
}

impl Placement {
    /// That of a picture in a window.
    pub fn new(picture: Size, window: Size) -> Self {
        if picture.area() == 0 || window.area() == 0 {
            return Self::default();
        }
        let times = (window.width / picture.width).min(window.height / picture.height);
        let size = if times > 0 {
            Size::new(picture.width * times, picture.height * times)
        } else {
            // As much as there is, in the same shape.
            let fit = |side: u32, room: u32, of: u32| {
                u32::try_from(u64::from(side) * u64::from(room) / u64::from(of))
                    .unwrap_or(room)
                    .clamp(1, side)
            };
            let by_width = Size::new(window.width, fit(picture.height, window.width, picture.width));
            if by_width.height <= window.height && window.width <= picture.width {
                by_width
            } else {
                Size::new(fit(picture.width, window.height, picture.height), window.height)
            }
        };
        let middle = |room: u32, side: u32| room.saturating_sub(side) / 2;
        let (x, y) = (middle(window.width, size.width), middle(window.height, size.height));
        Self { at: Rect::new(x, y, size.width, size.height), picture }
    }

    /// The pixel of the picture under a place in the window, or the next one.
    pub fn pixel(&self, (x, y): (f64, f64)) -> (u16, u16) {
        let along = |at: f64, from: u32, length: u32, pixels: u32| {
            let place = (at - f64::from(from)) * f64::from(pixels) / f64::from(length.max(1));
            // Numbers out of range become the nearest within.
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float's cast saturates"
            )]
            let place = place as u16;
            place.min(u16::try_from(pixels.saturating_sub(1)).unwrap_or(u16::MAX))
        };
        (
            along(x, self.at.x, self.at.width, self.picture.width),
            along(y, self.at.y, self.at.height, self.picture.height),
        )
    }

    /// The part of the window where `rect` of the picture is seen, with what it has a share in.
    pub fn part(&self, rect: Rect) -> Rect {
        let span = |at: u32, len: u32, from: u32, length: u32, pixels: u32| {
            let place = |at: u32| u64::from(at) * u64::from(length) / u64::from(pixels.max(1));
            let first = place(at).saturating_sub(1);
            let last = (place(at + len) + 1).min(length.into());
            let narrow = |value: u64| u32::try_from(value).unwrap_or(length);
            (from + narrow(first), narrow(last.saturating_sub(first)))
        };
        let (x, width) = span(rect.x, rect.width, self.at.x, self.at.width, self.picture.width);
        let (y, height) = span(rect.y, rect.height, self.at.y, self.at.height, self.picture.height);
        Rect::new(x, y, width, height)
    }

    fn columns(&self, x: u32) -> Option<(u32, u32)> {
        span(x, self.at.x, self.at.width, self.picture.width)
    }

    fn rows(&self, y: u32) -> Option<(u32, u32)> {
        span(y, self.at.y, self.at.height, self.picture.height)
    }
}

/// The first of `pixels` under place `at`, and how many there are, where the picture takes `length` places after `from`.
fn span(at: u32, from: u32, length: u32, pixels: u32) -> Option<(u32, u32)> {
    let at = at.checked_sub(from).filter(|at| *at < length)?;
    let place = |at: u32| u32::try_from(u64::from(at) * u64::from(pixels) / u64::from(length)).ok();
    let first = place(at)?;
    Some((first, place(at + 1)?.saturating_sub(first).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(picture: &Picture, window: Size) -> Vec<u32> {
        let mut pixels = vec![9; usize::try_from(window.area()).unwrap()];
        let place = Placement::new(picture.size(), window);
        picture.draw(&place, Rect::all(window), (window, &mut pixels));
        pixels
    }

    #[test]
    fn a_picture_is_crisp_where_there_is_room() {
        let mut picture = Picture::default();
        picture.resize(Size::new(2, 1));
        picture.paint(&Tile { rect: Rect::new(1, 0, 1, 1), pixels: vec![7] });
        // What does not lie within is left out.
        picture.paint(&Tile { rect: Rect::new(1, 0, 2, 1), pixels: vec![8, 8] });
        picture.paint(&Tile { rect: Rect::new(u32::MAX, 0, 2, 1), pixels: vec![8, 8] });
        let b = BORDER;
        assert_eq!(drawn(&picture, Size::new(2, 1)), [0, 7]);
        assert_eq!(drawn(&picture, Size::new(4, 3)), [0, 0, 7, 7, 0, 0, 7, 7, b, b, b, b]);
        assert_eq!(drawn(&picture, Size::new(3, 2)), [0, 7, b, b, b, b]);
        assert_eq!(drawn(&Picture::default(), Size::new(2, 1)), [b, b]);
    }

    #[test]
    fn where_there_is_none_it_is_smaller() {
        let mut picture = Picture::default();
        picture.replace(Size::new(4, 2), vec![0, 0x10, 0xff0000, 0, 0, 0x10, 0, 0xff0000]);
        assert_eq!(drawn(&picture, Size::new(2, 1)), [8, 0x7f0000]);
        assert_eq!(drawn(&picture, Size::new(3, 3)).len(), 9);
        for (width, height) in [(1, 1), (1, 5000), (5000, 1), (3, 2), (7, 1)] {
            let place = Placement::new(picture.size(), Size::new(width, height));
            assert!(!place.at.is_empty() && place.at.is_within(Size::new(width, height)), "{place:?}");
        }
    }

    #[test]
    fn places_in_the_window_are_pixels_of_the_guest() {
        let place = Placement::new(Size::new(100, 50), Size::new(220, 110));
        assert_eq!(place.at, Rect::new(10, 5, 200, 100));
        assert_eq!(place.pixel((10.0, 5.0)), (0, 0));
        assert_eq!(place.pixel((12.0, 104.9)), (1, 49));
        assert_eq!(place.pixel((-1e9, 1e9)), (0, 49));
        assert_eq!(place.part(Rect::new(1, 0, 1, 50)), Rect::new(11, 5, 4, 100));
        assert_eq!(Placement::default().pixel((5.0, 5.0)), (0, 0));
        assert_eq!(Placement::default().part(Rect::default()), Rect::default());
        let small = Placement::new(Size::new(1000, 500), Size::new(100, 80));
        assert_eq!(
            (small.at, small.part(Rect::all(Size::new(1000, 500)))),
            (Rect::new(0, 15, 100, 50), Rect::new(0, 15, 100, 50))
        );
    }
}
