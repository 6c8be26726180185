//! The A64 encodings under test, as tables after the Arm ARM's chapter C4.
//!
//! An encoding is a 32-character pattern, bit 31 first:
//! `0` `1` fixed; `i` free; `d` Rd, `D` Rd or SP; `n` Rn, `N` Rn or SP; `m` Rm; `a` Ra or Rt2; `V` `A` `B` `C` the
//! vector registers in the places of Rd, Rn, Rm and Ra. Not every free pattern is allocated, so each encoding has a
//! predicate; UNDEFINED words are the business of [`Class::Decode`] alone.

pub mod crypto;
pub mod fp;
pub mod integer;
pub mod memory;
pub mod simd;
pub mod system;

/// What `--class` selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Class {
    /// General-register data processing, conditions, flags, branches.
    Integer,
    /// Scalar floating point.
    Fp,
    /// Advanced SIMD, vector and scalar.
    Simd,
    /// AES, SHA, polynomial multiply.
    Crypto,
    /// Loads, stores, atomics, exclusives, memory copies.
    Memory,
    /// System registers of EL0, hints, barriers.
    System,
    /// Random words: both sides must agree what is UNDEFINED.
    Decode,
}

/// What a register field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    /// The field is something else.
    None,
    /// A general register, 31 is the zero register.
    X,
    /// A general register, 31 is SP.
    XSp,
    /// A vector register.
    V,
}

/// Register fields by place: bits 4:0, 9:5, 14:10 and 20:16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Bits 4:0.
    pub d: Reg,
    /// Bits 9:5.
    pub n: Reg,
    /// Bits 14:10.
    pub a: Reg,
    /// Bits 20:16.
    pub m: Reg,
}

/// One encoding.
#[derive(Clone, Debug)]
pub struct Encoding {
    /// Its name in reports.
    pub name: &'static str,
    /// Bits that are fixed.
    pub mask: u32,
    /// Their values.
    pub value: u32,
    /// Its register fields.
    pub fields: Fields,
    /// Whether a word that fits the pattern is allocated and its behaviour is defined.
    pub ok: fn(u32) -> bool,
    /// For loads and stores: how the address is made.
    pub access: Option<memory::Access>,
}

impl Encoding {
    /// Parses a pattern; spaces are ignored.
    pub fn new(name: &'static str, pattern: &str, ok: fn(u32) -> bool) -> Self {
        let letters: Vec<char> = pattern.chars().filter(|c| *c != ' ').collect();
        assert_eq!(letters.len(), 32, "pattern of {name}: {pattern}");
        let (mut mask, mut value) = (0u32, 0u32);
        for letter in &letters {
            mask = mask << 1 | u32::from(matches!(letter, '0' | '1'));
            value = value << 1 | u32::from(*letter == '1');
        }
        let at = |low: usize| match letters[31 - low] {
            'd' | 'n' | 'm' | 'a' => Reg::X,
            'D' | 'N' => Reg::XSp,
            'V' | 'A' | 'B' | 'C' => Reg::V,
            _ => Reg::None,
        };
        let fields = Fields { d: at(0), n: at(5), a: at(10), m: at(16) };
        Self { name, mask, value, fields, ok, access: None }
    }

    /// Whether `word` is of this encoding.
    pub fn matches(&self, word: u32) -> bool {
        word & self.mask == self.value && (self.ok)(word)
    }
}

/// The bits `high:low` of a word.
pub const fn bits(word: u32, high: u32, low: u32) -> u32 {
    (word >> low) & ((1u64 << (high - low + 1)) - 1) as u32
}

/// Accepts every word.
pub fn any(_: u32) -> bool {
    true
}

/// The classes that have tables.
pub const TABLED: [Class; 6] =
    [Class::Integer, Class::Fp, Class::Simd, Class::Crypto, Class::Memory, Class::System];

/// All encodings of a class; empty for [`Class::Decode`].
pub fn table(class: Class) -> Vec<Encoding> {
    match class {
        Class::Integer => integer::table(),
        Class::Fp => fp::table(),
        Class::Simd => simd::table(),
        Class::Crypto => crypto::table(),
        Class::Memory => memory::table(),
        Class::System => system::table(),
        Class::Decode => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn each_encoding_has_words_and_owns_them() {
        let mut rng = Rng::for_sequence(1, 1);
        for class in TABLED {
            for encoding in table(class) {
                let found = (0..20_000)
                    .any(|_| encoding.matches(rng.next_u64() as u32 & !encoding.mask | encoding.value));
                assert!(found, "{} has no word", encoding.name);
                assert_eq!(encoding.value & !encoding.mask, 0, "{}", encoding.name);
            }
        }
    }

    #[test]
    fn no_word_has_two_owners() {
        let mut rng = Rng::for_sequence(2, 1);
        let all: Vec<Encoding> = TABLED.iter().flat_map(|c| table(*c)).collect();
        for encoding in &all {
            for _ in 0..30 {
                let word = rng.next_u64() as u32 & !encoding.mask | encoding.value;
                if encoding.matches(word) {
                    let owners: Vec<_> = all.iter().filter(|e| e.matches(word)).map(|e| e.name).collect();
                    assert_eq!(owners, [encoding.name], "{word:#010x}");
                }
            }
        }
    }

    #[test]
    fn patterns_know_their_fields() {
        let add = Encoding::new("add", "i00 01011 ii 0 mmmmm iiiiii nnnnn ddddd", any);
        assert_eq!(add.value, 0x0B00_0000);
        assert_eq!(add.fields, Fields { d: Reg::X, n: Reg::X, a: Reg::None, m: Reg::X });
        assert!(add.matches(0x8B02_0020));
    }
}
