//! A guest's console as a picture: what there is to be seen of a guest that has no screen, or does not drive it yet.

use std::num::NonZero;

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use crate::{Mode, Size};

/// Grey on black, as a console.
const FOREGROUND: u32 = 0x00d0_d0d0;
const BACKGROUND: u32 = 0;
/// The first colours of a terminal, dark and bright.
const COLOURS: [u32; 16] = [
    0x000000, 0xcd3131, 0x0dbc79, 0xe5e510, 0x2472c8, 0xbc3fbc, 0x11a8cd, 0xd0d0d0, 0x666666, 0xf14c4c,
    0x23d18b, 0xf5f543, 0x3b8eea, 0xd670d6, 0x29b8db, 0xffffff,
];
/// Most characters per row and rows: the terminal's memory, and the time to draw it.
const MAX_CELLS: u16 = 500;

/// A font of which all characters are of one size.
#[derive(Clone, Copy, Debug)]
pub struct Font {
    height: RasterHeight,
    size: Size,
}

impl Font {
    /// That of a screen like `mode`.
    pub fn of(mode: Mode) -> Self {
        Self::new(if mode.scale > 1 { RasterHeight::Size32 } else { RasterHeight::Size16 })
    }

    fn new(height: RasterHeight) -> Self {
        let width = get_raster_width(FontWeight::Regular, height);
        Self { height, size: Size::new(width as u32, height.val() as u32) }
    }

    /// The largest with which so many columns and rows fit onto `screen`; the smallest when none does.
    pub fn fitting(screen: Size, columns: u32, rows: u32) -> Self {
        let large = Self::new(RasterHeight::Size32);
        let fits = columns * large.size.width <= screen.width && rows * large.size.height <= screen.height;
        if fits { large } else { Self::new(RasterHeight::Size16) }
    }

    /// The size of a character.
    pub fn cell(&self) -> Size {
        self.size
    }

    /// The pixels of a character, row by row.
    pub fn draw(&self, character: char, front: u32, back: u32) -> Vec<u32> {
        let raster = get_raster(substitute(character), FontWeight::Regular, self.height)
            .or_else(|| get_raster('?', FontWeight::Regular, self.height));
        let shade = |x, y| raster.as_ref().and_then(|raster| raster.pixel(x, y)).unwrap_or(0);
        let (width, height) = (self.size.width as usize, self.size.height as usize);
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        places.map(|(x, y)| between(back, front, shade(x, y))).collect()
    }
}

/// The picture of a terminal, as large as `mode` says, to which `text` was written.
pub fn render(text: &[u8], mode: Mode) -> (Size, Vec<u32>) {
    let font = Font::of(mode);
    let cells = |pixels: u32, cell: u32| {
        let cells = u16::try_from(pixels / cell.max(1)).unwrap_or(MAX_CELLS);
        NonZero::new(cells.min(MAX_CELLS)).unwrap_or(NonZero::<u16>::MIN)
    };
    let (cols, rows) = (cells(mode.size.width, font.size.width), cells(mode.size.height, font.size.height));
    let mut parser = vt100::Parser::new(rows, cols, 0);
    parser.process(text);
    let mut canvas =
        Canvas { size: mode.size, pixels: vec![BACKGROUND; usize::try_from(mode.size.area()).unwrap_or(0)] };
    let screen = parser.screen();
    let cursor = (!screen.hide_cursor()).then(|| screen.cursor_position());
    for row in 0..rows.get() {
        for col in 0..cols.get() {
            if let Some(cell) = screen.cell(row, col) {
                let inverse = cell.inverse() != (cursor == Some((row, col)));
                canvas.cell(&font, (row, col), cell, inverse);
            }
        }
    }
    (canvas.size, canvas.pixels)
}

struct Canvas {
    size: Size,
    pixels: Vec<u32>,
}

impl Canvas {
    fn cell(&mut self, font: &Font, (row, col): (u16, u16), cell: &vt100::Cell, inverse: bool) {
        let (mut front, mut back) =
            (colour(cell.fgcolor(), cell.bold(), FOREGROUND), colour(cell.bgcolor(), false, BACKGROUND));
        if inverse {
            (front, back) = (back, front);
        }
        let character = cell.contents().chars().next().unwrap_or(' ');
        let pixels = font.draw(character, front, back);
        let (left, top) = (u32::from(col) * font.size.width, u32::from(row) * font.size.height);
        for (y, row) in (0..).zip(pixels.chunks(font.size.width.max(1) as usize)) {
            for (x, pixel) in (0..).zip(row) {
                self.set(left + x, top + y, *pixel);
            }
        }
    }

    fn set(&mut self, x: u32, y: u32, colour: u32) {
        if x < self.size.width
            && let Some(pixel) = self.pixels.get_mut(y as usize * self.size.width as usize + x as usize)
        {
            *pixel = colour;
        }
    }
}

/// What stands for a character that the font has not: lines of boxes are made of dashes.
fn substitute(character: char) -> char {
    match character {
        '─' | '━' | '═' => '-',
        '│' | '┃' | '║' => '|',
        '\u{2500}'..='\u{257f}' => '+',
        '\u{2580}'..='\u{259f}' => '#',
        other => other,
    }
}

fn between(back: u32, front: u32, shade: u8) -> u32 {
    let shade = u32::from(shade);
    [16, 8, 0].into_iter().fold(0, |pixel, shift| {
        let (back, front) = (back >> shift & 0xff, front >> shift & 0xff);
        pixel | (back * (255 - shade) + front * shade) / 255 << shift
    })
}

fn colour(colour: vt100::Color, bold: bool, default: u32) -> u32 {
    match colour {
        vt100::Color::Default => default,
        vt100::Color::Rgb(red, green, blue) => u32::from_be_bytes([0, red, green, blue]),
        vt100::Color::Idx(index) => palette(if bold && index < 8 { index + 8 } else { index }),
    }
}

/// The 256 colours that terminals have agreed on: 16, a cube of 6x6x6, 24 greys.
fn palette(index: u8) -> u32 {
    let step = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
    match index {
        0..16 => COLOURS.get(usize::from(index)).copied().unwrap_or(FOREGROUND),
        16..232 => {
            let cube = index - 16;
            u32::from_be_bytes([0, step(cube / 36), step(cube / 6 % 6), step(cube % 6)])
        }
        grey => u32::from(8 + 10 * (grey - 232)) * 0x010101,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(scale: u32) -> Mode {
        Mode { size: Size::new(640 * scale, 400 * scale), scale }
    }

    /// How many pixels of the cell at `row` and `col` are bright.
    fn ink(picture: &(Size, Vec<u32>), font: &Font, (row, col): (u32, u32)) -> usize {
        let bright = |x: u32, y: u32| {
            let at = (row * font.size.height + y) * picture.0.width + col * font.size.width + x;
            picture.1[at as usize] & 0xff > 0x60
        };
        (0..font.size.height).map(|y| (0..font.size.width).filter(|&x| bright(x, y)).count()).sum()
    }

    #[test]
    fn text_is_where_it_was_written_at_both_scales() {
        for scale in [1, 2] {
            let font = Font::of(mode(scale));
            let picture = render(b"\x1b[?25lX\r\n\x1b[3;5HW", mode(scale));
            assert_eq!(picture.0, mode(scale).size);
            assert!(ink(&picture, &font, (0, 0)) > 8);
            assert!(ink(&picture, &font, (2, 4)) > 8);
            assert_eq!(ink(&picture, &font, (1, 0)), 0);
        }
    }

    #[test]
    fn colours_and_the_cursor_are_drawn() {
        let (_, pixels) = render("\x1b[?25l\x1b[41m \x1b[48;5;231m \x1b[0m┌\u{1f600}".as_bytes(), mode(1));
        assert_eq!((pixels[0], pixels[8]), (0xcd3131, 0xffffff));
        let (_, pixels) = render(b"", mode(1));
        assert_eq!(pixels[0], FOREGROUND);
    }

    #[test]
    fn no_size_is_too_small_or_large() {
        for size in [Size::new(0, 0), Size::new(1, 1), Size::new(7, 4095), Size::new(4095, 16)] {
            let (_, pixels) = render(b"\x1b[999;999HX\x1b[1;1H\x1b[99999@\xff\xf0", Mode { size, scale: 1 });
            assert_eq!(pixels.len() as u64, size.area());
        }
    }
}
