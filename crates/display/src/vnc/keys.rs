//! Keys of viewers as evdev's codes.

/// The evdev code of a key code of the first PC's keyboard (set 1; keys that came later have the bit 0x80).
pub(super) fn from_code(code: u32) -> Option<u16> {
    Some(match code {
        1..=0x53 | 0x56..=0x58 => code as u16,
        0x54 | 0xb7 => 99,
        0x59 => 117,
        // F13 and so on came one by one.
        0x5d..=0x5f => 183 + (code - 0x5d) as u16,
        0x55 => 186,
        0x83 => 187,
        0xf7 => 188,
        0x84 => 189,
        0x5a => 190,
        0x74 => 191,
        0xf9 => 192,
        0x6d => 193,
        0x6f => 194,
        // Japan's, Korea's and Brazil's.
        0x70 => 93,
        0x73 => 89,
        0x76 => 85,
        0x77 => 91,
        0x78 => 90,
        0x79 => 92,
        0x7b => 94,
        0x7d => 124,
        0x7e => 121,
        0xf1 => 123,
        0xf2 => 122,
        // For music, and for browsers.
        0x90 => 165,
        0x99 => 163,
        0xa2 => 164,
        0xa4 => 166,
        0xb2 => 172,
        0xde => 116,
        0xdf => 142,
        0xe3 => 143,
        0xe5 => 217,
        0xe6 => 156,
        0xe7 => 173,
        0xe8 => 128,
        0xe9 => 159,
        0xea => 158,
        0xeb => 157,
        0xec => 155,
        0xed => 226,
        0x9c => 96,
        0x9d => 97,
        0xa0 => 113,
        0xae => 114,
        0xb0 => 115,
        0xb5 => 98,
        0xb8 => 100,
        0xc6 => 119,
        0xc7 => 102,
        0xc8 => 103,
        0xc9 => 104,
        0xcb => 105,
        0xcd => 106,
        0xcf => 107,
        0xd0 => 108,
        0xd1 => 109,
        0xd2 => 110,
        0xd3 => 111,
        0xdb => 125,
        0xdc => 126,
        0xdd => 127,
        _ => return None,
    })
}

/// The keys of a US keyboard, row by row, from the code on: what they type alone and with shift.
const ROWS: [(u16, &str, &str); 4] = [
    (2, "1234567890-=", "!@#$%^&*()_+"),
    (16, "qwertyuiop[]", "QWERTYUIOP{}"),
    (30, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
];

/// What the key of an evdev code types on a US keyboard, with the shift key held down or not.
pub fn character(code: u16, shift: bool) -> Option<char> {
    ROWS.iter().find_map(|(first, plain, shifted)| {
        let place = usize::from(code.checked_sub(*first)?);
        if shift { shifted } else { plain }.chars().nth(place)
    })
}

/// The evdev code of the key that types an X11 symbol on a US keyboard. For viewers that send no codes; shift comes by itself.
pub(super) fn from_symbol(symbol: u32) -> Option<u16> {
    if let Some(character) = char::from_u32(symbol).filter(char::is_ascii_graphic) {
        return ROWS.iter().find_map(|(first, plain, shifted)| {
            let place = |keys: &str| keys.chars().position(|key| key == character);
            let place = place(plain).or_else(|| place(shifted))?;
            u16::try_from(place).ok().map(|place| first + place)
        });
    }
    Some(match symbol {
        0x20 => 57,
        0xff08 => 14,
        0xff09 | 0xfe20 => 15,
        0xff0d => 28,
        0xff13 => 119,
        0xff14 => 70,
        0xff15 | 0xff61 => 99,
        0xff1b => 1,
        0xff50 => 102,
        0xff51 => 105,
        0xff52 => 103,
        0xff53 => 106,
        0xff54 => 108,
        0xff55 => 104,
        0xff56 => 109,
        0xff57 => 107,
        0xff63 => 110,
        0xff67 => 127,
        0xff7f => 69,
        0xff8d => 96,
        0xffaa => 55,
        0xffab => 78,
        0xffad => 74,
        0xffae => 83,
        0xffaf => 98,
        0xffb0 => 82,
        0xffb1..=0xffb3 => 79 + (symbol - 0xffb1) as u16,
        0xffb4..=0xffb6 => 75 + (symbol - 0xffb4) as u16,
        0xffb7..=0xffb9 => 71 + (symbol - 0xffb7) as u16,
        0xffbe..=0xffc7 => 59 + (symbol - 0xffbe) as u16,
        0xffc8 => 87,
        0xffc9 => 88,
        0xffe1 => 42,
        0xffe2 => 54,
        0xffe3 => 29,
        0xffe4 => 97,
        0xffe5 => 58,
        0xffe7 | 0xffeb => 125,
        0xffe8 | 0xffec => 126,
        0xffe9 => 56,
        0xffea | 0xfe03 => 100,
        0xffff => 111,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_keys_of_a_us_keyboard() {
        let code = |c: char| from_symbol(c.into());
        let expected = [
            ('a', 30),
            ('Z', 44),
            ('1', 2),
            ('!', 2),
            ('0', 11),
            ('=', 13),
            ('p', 25),
            ('{', 26),
            ('`', 41),
            ('~', 41),
            ('\\', 43),
            ('/', 53),
            ('\'', 40),
            (' ', 57),
            ('m', 50),
        ];
        for (character, key) in expected {
            assert_eq!(code(character), Some(key), "{character}");
        }
        assert_eq!(
            (from_symbol(0xffbe), from_symbol(0xffc9), from_symbol(0xffb5)),
            (Some(59), Some(88), Some(76))
        );
        assert_eq!((from_symbol(0xe4), from_symbol(u32::MAX)), (None, None));
        for c in '!'..='~' {
            assert!(code(c).is_some(), "{c}");
        }
    }

    #[test]
    fn codes_are_those_of_a_pc() {
        assert_eq!(
            (from_code(30), from_code(0x58), from_code(0xc8), from_code(0x9c)),
            (Some(30), Some(88), Some(103), Some(96))
        );
        assert_eq!((from_code(0), from_code(0x1000)), (None, None));
        assert_eq!(
            (from_code(0x56), from_code(0x5f), from_code(0x7e), from_code(0xa2)),
            (Some(86), Some(185), Some(121), Some(164))
        );
        let mut known: Vec<_> =
            (0..256).filter(|code| ![0x54, 0xb7].contains(code)).filter_map(from_code).collect();
        let count = known.len();
        known.sort_unstable();
        known.dedup();
        assert_eq!(known.len(), count, "no key is at two places");
    }
}
