//! Floating point as the Arm ARM's shared pseudocode defines it (DDI 0487, J1.3 "shared/functions/float"), bit-exact in
//! results and in the cumulative flags of `FPSR`.
//!
//! Values travel as raw bits: `u16`, `u32` and `u64` are half, single and double precision through the trait [`Float`].
//! The soft path unpacks an operand to a [`Num`] (sign, exponent, 64-bit significand), computes in integers wide enough
//! to be exact or to keep a sticky bit, and rounds once in [`round`]. The operations that programs spend time in first
//! try the host's own arithmetic ([`host`]), which is used only where it provably gives the same bits and the same flags.

mod arith;
mod compare;
mod convert;
mod estimate;
mod host;
#[cfg(test)]
mod tests;

pub(crate) use arith::{add, div, mul, mul_add, mul_add_long, mulx, sqrt, sub};
pub(crate) use compare::{compare, eq, ge, gt, max, max_num, min, min_num};
pub(crate) use convert::{IntFormat, convert, from_fixed, jcvtzs, round_int, round_to_size, to_fixed};
pub(crate) use estimate::{
    recip_estimate, recip_exponent, recip_step, rsqrt_estimate, rsqrt_step, unsigned_recip_estimate,
    unsigned_rsqrt_estimate,
};
pub(crate) use host::Host;

/// `FPSR` bits.
pub(crate) mod fpsr {
    /// Invalid operation.
    pub(crate) const IOC: u32 = 1 << 0;
    /// Division by zero.
    pub(crate) const DZC: u32 = 1 << 1;
    /// Overflow.
    pub(crate) const OFC: u32 = 1 << 2;
    /// Underflow.
    pub(crate) const UFC: u32 = 1 << 3;
    /// Inexact.
    pub(crate) const IXC: u32 = 1 << 4;
    /// Input denormal.
    pub(crate) const IDC: u32 = 1 << 7;
    /// Integer saturation.
    pub(crate) const QC: u32 = 1 << 27;
}

/// `FPCR` bits.
pub(crate) mod fpcr {
    /// Flush half-precision denormals to zero.
    pub(crate) const FZ16: u32 = 1 << 19;
    /// The rounding mode, two bits.
    pub(crate) const RMODE: u32 = 3 << 22;
    /// Flush single- and double-precision denormals to zero.
    pub(crate) const FZ: u32 = 1 << 24;
    /// Every NaN result is the default NaN.
    pub(crate) const DN: u32 = 1 << 25;
    /// Half precision in conversions is the alternative format without infinities and NaNs.
    pub(crate) const AHP: u32 = 1 << 26;
}

/// How to round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// To nearest, ties to even.
    TieEven,
    /// Towards plus infinity.
    Up,
    /// Towards minus infinity.
    Down,
    /// Towards zero.
    Zero,
    /// To nearest, ties away from zero.
    TieAway,
    /// To odd (von Neumann), for `FCVTXN`.
    Odd,
}

/// The control and status registers during one instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Env {
    /// `FPCR`.
    pub fpcr: u32,
    /// `FPSR`: cumulative flags are added.
    pub fpsr: u32,
}

impl Env {
    /// The rounding mode of `FPCR`.
    #[inline]
    pub fn rounding(&self) -> Rounding {
        match (self.fpcr & fpcr::RMODE) >> 22 {
            0 => Rounding::TieEven,
            1 => Rounding::Up,
            2 => Rounding::Down,
            _ => Rounding::Zero,
        }
    }

    /// Sets cumulative flags.
    #[inline]
    pub fn raise(&mut self, flags: u32) {
        self.fpsr |= flags;
    }

    fn has(&self, bit: u32) -> bool {
        self.fpcr & bit != 0
    }

    /// Whether denormals of this format are flushed to zero.
    fn flushes<F: Float>(&self) -> bool {
        self.has(if F::BITS == 16 { fpcr::FZ16 } else { fpcr::FZ })
    }

    /// The result of an invalid operation.
    pub(crate) fn invalid<F: Float>(&mut self) -> F {
        self.raise(fpsr::IOC);
        F::from_raw(F::DEFAULT_NAN)
    }
}

/// An IEEE 754 binary format, by its raw bits.
pub(crate) trait Float: Host + Copy + PartialEq + 'static {
    /// Width of the exponent field.
    const EXP: u32;
    /// Width of the fraction field.
    const MAN: u32;
    /// Width of the whole.
    const BITS: u32 = Self::EXP + Self::MAN + 1;
    /// The sign bit.
    const SIGN: u64 = 1 << (Self::BITS - 1);
    /// Plus infinity; also the mask of the exponent field.
    const INF: u64 = ((1 << Self::EXP) - 1) << Self::MAN;
    /// The bit that tells quiet NaNs from signalling ones.
    const QUIET: u64 = 1 << (Self::MAN - 1);
    /// The default NaN.
    const DEFAULT_NAN: u64 = Self::INF | Self::QUIET;
    /// The exponent of the smallest normal number.
    const MIN_EXP: i32 = 2 - (1 << (Self::EXP - 1));

    /// The bits, zero-extended.
    fn raw(self) -> u64;
    /// From the low bits.
    fn from_raw(bits: u64) -> Self;

    /// `FPNeg`.
    #[inline]
    fn negated(self) -> Self {
        Self::from_raw(self.raw() ^ Self::SIGN)
    }

    /// `FPAbs`.
    #[inline]
    fn magnitude(self) -> Self {
        Self::from_raw(self.raw() & !Self::SIGN)
    }

    /// `FPZero`.
    fn zero(sign: bool) -> Self {
        Self::from_raw(if sign { Self::SIGN } else { 0 })
    }

    /// `FPInfinity`.
    fn infinity(sign: bool) -> Self {
        Self::from_raw(Self::zero(sign).raw() | Self::INF)
    }

    /// `FPMaxNormal`.
    fn max_normal(sign: bool) -> Self {
        Self::from_raw(Self::zero(sign).raw() | (Self::INF - 1))
    }

    /// Whether it is a NaN that does not signal.
    fn is_quiet_nan(self) -> bool {
        self.raw() & Self::DEFAULT_NAN == Self::DEFAULT_NAN
    }
}

macro_rules! float {
    ($raw:ty, $exp:literal, $man:literal) => {
        impl Float for $raw {
            const EXP: u32 = $exp;
            const MAN: u32 = $man;

            #[inline(always)]
            fn raw(self) -> u64 {
                u64::from(self)
            }

            #[inline(always)]
            fn from_raw(bits: u64) -> Self {
                bits as $raw
            }
        }
    };
}
float!(u16, 5, 10);
float!(u32, 8, 23);
float!(u64, 11, 52);

/// What an operand is, after flushing of denormals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Zero,
    Finite,
    Infinity,
    Quiet,
    Signalling,
}

/// An unpacked operand. A finite one is `man / 2^63 * 2^exp` with the top bit of `man` set.
#[derive(Clone, Copy, Debug)]
struct Num {
    class: Class,
    sign: bool,
    exp: i32,
    man: u64,
}

impl Num {
    const fn new(class: Class, sign: bool) -> Self {
        Self { class, sign, exp: 0, man: 0 }
    }

    fn is_nan(self) -> bool {
        matches!(self.class, Class::Quiet | Class::Signalling)
    }

    fn is_zero(self) -> bool {
        self.class == Class::Zero
    }

    fn is_infinite(self) -> bool {
        self.class == Class::Infinity
    }

    /// The finite number `man * 2^exp`, or zero.
    fn from_integer(sign: bool, man: u64, exp: i32) -> Self {
        if man == 0 {
            return Self::new(Class::Zero, sign);
        }
        let shift = man.leading_zeros();
        Self { class: Class::Finite, sign, exp: exp + 63 - shift as i32, man: man << shift }
    }
}

/// `FPUnpack`.
fn unpack<F: Float>(e: &mut Env, value: F) -> Num {
    let raw = value.raw();
    let sign = raw & F::SIGN != 0;
    let fraction = raw & ((1 << F::MAN) - 1);
    let field = (raw & F::INF) >> F::MAN;
    if field == F::INF >> F::MAN {
        return match fraction {
            0 => Num::new(Class::Infinity, sign),
            _ if fraction & F::QUIET != 0 => Num::new(Class::Quiet, sign),
            _ => Num::new(Class::Signalling, sign),
        };
    }
    if field == 0 {
        if fraction != 0 && e.flushes::<F>() {
            if F::BITS != 16 {
                e.raise(fpsr::IDC);
            }
            return Num::new(Class::Zero, sign);
        }
        return Num::from_integer(sign, fraction, F::MIN_EXP - F::MAN as i32);
    }
    Num {
        class: Class::Finite,
        sign,
        exp: field as i32 + F::MIN_EXP - 1,
        man: (fraction | 1 << F::MAN) << (63 - F::MAN),
    }
}

/// `FPProcessNaN`: quietens, or gives the default NaN.
fn process_nan<F: Float>(e: &mut Env, class: Class, value: F) -> F {
    if class == Class::Signalling {
        e.raise(fpsr::IOC);
    }
    if e.has(fpcr::DN) { F::from_raw(F::DEFAULT_NAN) } else { F::from_raw(value.raw() | F::QUIET) }
}

/// `FPProcessNaNs` and `FPProcessNaNs3`: the NaN that an operation on these operands gives, if any. Signalling ones
/// come first, then quiet ones, each in operand order.
fn process_nans<F: Float, const N: usize>(e: &mut Env, operands: [(Num, F); N]) -> Option<F> {
    for wanted in [Class::Signalling, Class::Quiet] {
        for (num, value) in operands {
            if num.class == wanted {
                return Some(process_nan(e, wanted, value));
            }
        }
    }
    None
}

/// Shifts right; bits lost are or-ed into bit 0.
fn shift_right_sticky(value: u128, count: u32) -> u128 {
    match count {
        0 => value,
        1..128 => value >> count | u128::from(value << (128 - count) != 0),
        _ => u128::from(value != 0),
    }
}

/// Normalises the significand of `man / 2^127 * 2^exp` (not zero) and keeps its upper half and a sticky bit.
fn normalise(sign: bool, exp: i32, man: u128) -> Num {
    let shift = man.leading_zeros();
    let man = shift_right_sticky(man << shift, 64) as u64;
    Num { class: Class::Finite, sign, exp: exp - shift as i32, man }
}

/// Whether a magnitude that lies between two neighbours is rounded away from zero. `odd` is the lowest bit kept,
/// `rest` against `half` what is cut off.
fn rounds_up(mode: Rounding, sign: bool, odd: bool, rest: u128, half: u128) -> bool {
    match mode {
        Rounding::TieEven => rest > half || (rest == half && odd),
        Rounding::TieAway => rest >= half,
        Rounding::Up => rest != 0 && !sign,
        Rounding::Down => rest != 0 && sign,
        Rounding::Zero | Rounding::Odd => false,
    }
}

/// `FPRound` of a finite number in the rounding mode of `FPCR`.
fn round<F: Float>(e: &mut Env, num: Num) -> F {
    let flush = e.flushes::<F>();
    round_with(e, num, e.rounding(), flush, false)
}

/// `FPRoundBase` of a finite number. Tininess is detected before rounding. With `alternative`, the format has no
/// infinities: overflow is an invalid operation that gives the largest number.
fn round_with<F: Float>(e: &mut Env, num: Num, mode: Rounding, flush: bool, alternative: bool) -> F {
    let Num { sign, exp, man, .. } = num;
    let signed = |bits: u64| F::from_raw(F::zero(sign).raw() | bits);
    let tiny = exp < F::MIN_EXP;
    if tiny && flush {
        e.raise(fpsr::UFC);
        return F::zero(sign);
    }
    let drop = 63 - F::MAN;
    let man = if tiny { shift_right_sticky(man.into(), F::MIN_EXP.abs_diff(exp)) as u64 } else { man };
    let kept = man >> drop;
    let rest = man & ((1 << drop) - 1);
    let inexact = rest != 0;
    if tiny && inexact {
        e.raise(fpsr::UFC);
    }
    // For a normal number the implicit bit in `kept` adds one to the exponent field.
    let field = if tiny { 0 } else { (exp - F::MIN_EXP) as u64 };
    if field >= F::INF >> F::MAN {
        return overflow(e, sign, mode, alternative);
    }
    let mut bits = (field << F::MAN) + kept;
    if rounds_up(mode, sign, kept & 1 != 0, rest.into(), 1 << (drop - 1)) {
        bits += 1;
    } else if mode == Rounding::Odd && inexact {
        bits |= 1;
    }
    if alternative {
        if bits >= 1 << (F::BITS - 1) {
            return overflow(e, sign, mode, alternative);
        }
    } else if bits >= F::INF {
        return overflow(e, sign, mode, alternative);
    }
    if inexact {
        e.raise(fpsr::IXC);
    }
    signed(bits)
}

/// What a result too large for the format becomes.
fn overflow<F: Float>(e: &mut Env, sign: bool, mode: Rounding, alternative: bool) -> F {
    if alternative {
        e.raise(fpsr::IOC);
        return F::from_raw(F::zero(sign).raw() | (F::SIGN - 1));
    }
    e.raise(fpsr::OFC | fpsr::IXC);
    match mode {
        Rounding::TieEven | Rounding::TieAway => F::infinity(sign),
        Rounding::Up if !sign => F::infinity(sign),
        Rounding::Down if sign => F::infinity(sign),
        _ => F::max_normal(sign),
    }
}
