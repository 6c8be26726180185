//! The screen's description (VESA E-EDID 1.4): its name, its one mode, and how large it is, from which guests choose a scale.

use tearless_display::Mode;

/// Pixels per inch of an ordinary screen.
const DPI: u64 = 96;
/// Times a second that the picture would be drawn.
const REFRESH: u64 = 60;
/// The pixel clock is a 16-bit number of 10 kHz.
const MAX_CLOCK: u64 = 0xffff;

/// An EDID of one block for a screen that is like `mode`.
pub(super) fn edid(mode: Mode) -> [u8; 128] {
    let mm = |pixels: u32| u64::from(pixels) * 254 / (10 * DPI * u64::from(mode.scale.max(1)));
    let (width_mm, height_mm) = (mm(mode.size.width), mm(mode.size.height));
    let centimetres = |mm: u64| ((mm + 5) / 10).clamp(1, 255) as u8;
    let mut block = Vec::with_capacity(128);
    block.extend([0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    // Who made it ("TRL", five bits a letter), what, which one, when (week 1 of 2026), and the version.
    block.extend(letters(*b"TRL").to_be_bytes());
    block.extend([1, 0, 1, 0, 0, 0, 1, 36, 1, 4]);
    // Digital with 8 bits a colour; its size; gamma 2.2; sRGB, and the first timing is the preferred one.
    block.extend([0xa0, centimetres(width_mm), centimetres(height_mm), 120, 0x06]);
    // The primary colours of sRGB.
    block.extend([0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54]);
    block.extend([0; 3]);
    block.extend([1; 16]);
    block.extend(timing(mode, (width_mm, height_mm)));
    block.extend(text(0xfc, b"Tearless"));
    block.extend(text(0xff, b"0001"));
    // An unused descriptor.
    block.extend(text(0x10, b""));
    block.push(0);
    block.resize(127, 0);
    let sum = block.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    block.push(sum.wrapping_neg());
    let mut bytes = [0; 128];
    bytes.iter_mut().zip(block).for_each(|(to, byte)| *to = byte);
    bytes
}

fn letters(name: [u8; 3]) -> u16 {
    name.iter().fold(0, |word, letter| word << 5 | u16::from(letter - b'@'))
}

/// A detailed timing descriptor (section 3.10.2), with reduced blanking. A picture so large that its clock does not fit
/// would be drawn less often.
fn timing(mode: Mode, (width_mm, height_mm): (u64, u64)) -> [u8; 18] {
    const H_BLANK: u64 = 160;
    const V_BLANK: u64 = 40;
    let (width, height) = (u64::from(mode.size.width), u64::from(mode.size.height));
    let clock = ((width + H_BLANK) * (height + V_BLANK) * REFRESH / 10_000).min(MAX_CLOCK);
    let low = |value: u64| (value & 0xff) as u8;
    let highs = |first: u64, second: u64| ((first >> 8 & 15) << 4 | second >> 8 & 15) as u8;
    [
        low(clock),
        low(clock >> 8),
        low(width),
        low(H_BLANK),
        highs(width, H_BLANK),
        low(height),
        low(V_BLANK),
        highs(height, V_BLANK),
        48,
        32,
        3 << 4 | 5,
        0,
        low(width_mm),
        low(height_mm),
        highs(width_mm, height_mm),
        0,
        0,
        // Digital separate sync, horizontal positive.
        0x1a,
    ]
}

/// A descriptor with text, at most 13 bytes of it.
fn text(tag: u8, text: &[u8]) -> [u8; 18] {
    let mut descriptor = [b' '; 18];
    let head = [0, 0, 0, tag, 0];
    let ended = head.iter().chain(text).chain(b"\n");
    descriptor.iter_mut().zip(ended).for_each(|(to, byte)| *to = *byte);
    descriptor
}

#[cfg(test)]
mod tests {
    use tearless_display::Size;

    use super::*;

    #[test]
    fn a_screen_of_twice_the_scale_is_as_large_with_twice_the_pixels() {
        let one = edid(Mode { size: Size::new(1280, 800), scale: 1 });
        let two = edid(Mode { size: Size::new(2560, 1600), scale: 2 });
        assert_eq!((one[21], one[22]), (34, 21));
        assert_eq!(one[21..23], two[21..23]);
        for (block, width, height) in [(one, 1280, 800), (two, 2560, 1600)] {
            assert_eq!(block.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
            let timing = &block[54..72];
            let wide = |low: usize, high: usize| u32::from(timing[low]) | u32::from(timing[high] >> 4) << 8;
            assert_eq!((wide(2, 4), wide(5, 7), wide(12, 14)), (width, height, 338));
            assert_eq!(&block[72..85], b"\0\0\0\xfc\0Tearless");
        }
    }

    #[test]
    fn the_largest_screen_fits() {
        let block = edid(Mode { size: Size::new(4095, 4095), scale: 1 });
        assert_eq!((block[54], block[55], block[56], block[58] >> 4), (0xff, 0xff, 0xff, 0xf));
    }
}
