//! Operand values: random bits, small numbers, boundaries, and the special values of each floating-point format.

use crate::rng::Rng;

const X_SPECIAL: &[u64] = &[
    0,
    1,
    2,
    u64::MAX,
    u64::MAX - 1,
    i64::MAX as u64,
    i64::MIN as u64,
    i32::MAX as u64,
    i32::MIN as i64 as u64,
    0x8000_0000,
    0xFFFF_FFFF,
    0x1_0000_0000,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7F,
    0x80,
    0xFF,
    63,
    64,
    31,
    32,
    0x5555_5555_5555_5555,
];

/// A general register.
pub fn x(rng: &mut Rng) -> u64 {
    match rng.below(8) {
        0 => rng.below(130),
        1 => rng.below(130).wrapping_neg(),
        2 | 3 => *rng.pick(X_SPECIAL),
        4 => u64::from(rng.next_u64() as u32),
        5 => rng.next_u64() & rng.next_u64() & rng.next_u64(),
        _ => rng.next_u64(),
    }
}

/// A floating-point format.
struct Format {
    bits: u32,
    fraction: u32,
}

const HALF: Format = Format { bits: 16, fraction: 10 };
const SINGLE: Format = Format { bits: 32, fraction: 23 };
const DOUBLE: Format = Format { bits: 64, fraction: 52 };

impl Format {
    fn exponent_max(&self) -> u64 {
        (1 << (self.bits - self.fraction - 1)) - 1
    }

    fn make(&self, sign: u64, exponent: u64, fraction: u64) -> u64 {
        let fraction_mask = (1u64 << self.fraction) - 1;
        (sign & 1) << (self.bits - 1) | exponent << self.fraction | fraction & fraction_mask
    }

    /// A fraction with the patterns that rounding cares about.
    fn fraction(&self, rng: &mut Rng) -> u64 {
        match rng.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << rng.below(u64::from(self.fraction)),
            3 => u64::MAX << rng.below(u64::from(self.fraction)),
            4 => 1,
            _ => rng.next_u64(),
        }
    }

    fn value(&self, rng: &mut Rng) -> u64 {
        let max = self.exponent_max();
        let bias = max / 2;
        let (sign, fraction) = (rng.next_u64(), self.fraction(rng));
        let quiet = 1 << (self.fraction - 1);
        match rng.below(16) {
            0 => self.make(sign, 0, 0),
            1 => self.make(sign, max, 0),
            2 => self.make(sign, max, fraction | quiet),
            3 => self.make(sign, max, fraction & !quiet | 1),
            4 => self.make(sign, 0, fraction),
            5 => self.make(sign, 1 + rng.below(2), fraction),
            6 => self.make(sign, max - 1 - rng.below(2), fraction),
            7 => self.make(sign, bias, 0),
            8 => self.make(sign, rng.below(max + 1), fraction),
            // Close to the limits of the integers, where conversions saturate.
            9 => self.make(
                sign,
                (bias + *rng.pick(&[6, 7, 8, 14, 15, 16, 30, 31, 32, 62, 63, 64])).min(max),
                fraction,
            ),
            // Halfway between integers, and small integers.
            10 => self.make(sign, bias - 1 + rng.below(u64::from(self.fraction) + 3), fraction),
            // Products and quotients of these fall at the underflow threshold.
            11 => self.make(sign, bias / 2 + rng.below(3), fraction),
            12 => self.make(sign, bias + bias / 2 + rng.below(3), fraction),
            _ => self.make(sign, bias - 4 + rng.below(9), fraction),
        }
    }

    fn lanes(&self, rng: &mut Rng) -> u64 {
        let mut out = 0;
        for at in (0..64).step_by(self.bits as usize) {
            out |= self.value(rng) << at;
        }
        out
    }
}

fn integer_lanes(rng: &mut Rng) -> u64 {
    let bits = 8 << rng.below(4);
    let mask = u64::MAX >> (64 - bits);
    let mut out = 0;
    for at in (0..64).step_by(bits) {
        let low = rng.below(70);
        let lane = match rng.below(6) {
            0 => 0,
            1 => mask,
            2 => mask >> 1,
            3 => (mask >> 1) + 1,
            4 => low,
            _ => low.wrapping_neg(),
        };
        out |= (lane & mask) << at;
    }
    out
}

/// What the lanes of a vector register hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any bits.
    Random,
    /// Integers around the boundaries of one lane size.
    Integer,
    /// Half precision.
    Half,
    /// Single precision.
    Single,
    /// Double precision.
    Double,
}

/// A random kind.
pub fn kind(rng: &mut Rng) -> Kind {
    *rng.pick(&[
        Kind::Random,
        Kind::Integer,
        Kind::Half,
        Kind::Single,
        Kind::Single,
        Kind::Double,
        Kind::Double,
    ])
}

/// Halves of vector registers, made in advance: making them takes longer than running the sequences.
pub struct Pool {
    halves: Vec<(Kind, Vec<u64>)>,
}

impl Pool {
    /// The pool of a session.
    pub fn new(seed: u64) -> Self {
        const SIZE: usize = 1 << 14;
        let mut rng = Rng::for_sequence(seed, u64::MAX);
        let kinds = [Kind::Integer, Kind::Half, Kind::Single, Kind::Double];
        Self { halves: kinds.map(|kind| (kind, (0..SIZE).map(|_| half(&mut rng, kind)).collect())).into() }
    }

    /// A vector register, of kind `usual` in most cases: operands of one format make more of an instruction's cases.
    pub fn vector(&self, rng: &mut Rng, usual: Kind) -> [u64; 2] {
        let kind = if rng.one_in(5) { kind(rng) } else { usual };
        match self.halves.iter().find(|(k, _)| *k == kind) {
            Some((_, halves)) => [*rng.pick(halves), *rng.pick(halves)],
            None => [rng.next_u64(), rng.next_u64()],
        }
    }
}

fn half(rng: &mut Rng, kind: Kind) -> u64 {
    match kind {
        Kind::Random => rng.next_u64(),
        Kind::Integer => integer_lanes(rng),
        Kind::Half => HALF.lanes(rng),
        Kind::Single => SINGLE.lanes(rng),
        Kind::Double => DOUBLE.lanes(rng),
    }
}

/// A legal FPCR: AHP, DN, FZ, RMode and FZ16; the trap enables and AH, FIZ, NEP stay clear (not advertised).
pub fn fpcr(rng: &mut Rng) -> u64 {
    const FLAGS: u64 = 1 << 26 | 1 << 25 | 1 << 24 | 3 << 22 | 1 << 19;
    match rng.below(4) {
        0 | 1 => 0,
        2 => rng.next_u64() & (3 << 22),
        _ => rng.next_u64() & FLAGS,
    }
}

/// FPSR: mostly clear, so that each flag that an instruction raises is seen.
pub fn fpsr(rng: &mut Rng) -> u64 {
    if rng.one_in(8) { rng.next_u64() & 0x0800_009F } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_make_their_specials() {
        assert_eq!(f64::from_bits(DOUBLE.make(1, 0, 0)), -0.0);
        assert_eq!(SINGLE.make(0, 0xFF, 0), u64::from(f32::INFINITY.to_bits()));
        assert_eq!(HALF.make(0, 15, 0), 0x3C00);
    }

    #[test]
    fn values_fit_their_lanes() {
        let mut rng = Rng::for_sequence(3, 3);
        for _ in 0..10_000 {
            assert!(HALF.value(&mut rng) <= 0xFFFF);
            assert!(SINGLE.value(&mut rng) <= 0xFFFF_FFFF);
        }
    }
}
