//! Conversions between formats and to and from integers and fixed point.

use super::{
    Class, Env, Float, Num, Rounding, fpcr, fpsr, process_nan, round, round_with, rounds_up,
    shift_right_sticky, unpack,
};

/// An integer format of up to 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IntFormat {
    pub bits: u32,
    pub signed: bool,
}

impl IntFormat {
    /// `SatQ`: the nearest value of the format as `bits` low bits, and whether it is another one.
    fn saturate(self, value: i128) -> (u64, bool) {
        let (low, high) = match self.signed {
            true => (-1i128 << (self.bits - 1), (1i128 << (self.bits - 1)) - 1),
            false => (0, (1i128 << self.bits) - 1),
        };
        let result = value.clamp(low, high);
        (result as u64 & (u64::MAX >> (64 - self.bits)), result != value)
    }
}

/// Rounds a finite number times two to the power `scale` to an integer, and says whether that was inexact. Magnitudes
/// above 2^65 are cut to 2^65.
fn to_integer(num: Num, scale: i32, mode: Rounding) -> (i128, bool) {
    const POINT: u32 = 63;
    let exp = num.exp + scale;
    let fixed = match exp {
        ..0 => shift_right_sticky(num.man.into(), exp.unsigned_abs()),
        0..=64 => u128::from(num.man) << exp,
        65.. => 1 << 127,
    };
    let integer = fixed >> POINT;
    let rest = fixed & ((1 << POINT) - 1);
    let up = rounds_up(mode, num.sign, integer & 1 != 0, rest, 1 << (POINT - 1));
    let integer = integer as i128 + i128::from(up);
    (if num.sign { -integer } else { integer }, rest != 0)
}

/// `FPToFixed`, with `fbits` fraction bits; the result is zero-extended from the format's width.
#[inline]
pub(crate) fn to_fixed<F: Float>(e: &mut Env, value: F, fbits: u32, to: IntFormat, mode: Rounding) -> u64 {
    if fbits == 0
        && mode == Rounding::Zero
        && let Some(result) = F::host_to_int(e, value, to)
    {
        return result;
    }
    soft_to_fixed(e, value, fbits, to, mode)
}

#[cold]
pub(super) fn soft_to_fixed<F: Float>(
    e: &mut Env,
    value: F,
    fbits: u32,
    to: IntFormat,
    mode: Rounding,
) -> u64 {
    let num = unpack(e, value);
    let (integer, inexact) = match num.class {
        Class::Quiet | Class::Signalling => {
            e.raise(fpsr::IOC);
            return 0;
        }
        Class::Zero => return 0,
        Class::Infinity => (if num.sign { -1 << 66 } else { 1 << 66 }, false),
        Class::Finite => to_integer(num, fbits as i32, mode),
    };
    let (result, saturated) = to.saturate(integer);
    if saturated {
        e.raise(fpsr::IOC);
    } else if inexact {
        e.raise(fpsr::IXC);
    }
    result
}

/// `FixedToFP` of an integer with `fbits` fraction bits, in the rounding mode of `FPCR`.
#[inline]
pub(crate) fn from_fixed<F: Float>(e: &mut Env, value: i128, fbits: u32) -> F {
    if fbits == 0
        && let Some(result) = F::host_from_int(e, value)
    {
        return result;
    }
    soft_from_fixed(e, value, fbits)
}

#[cold]
pub(super) fn soft_from_fixed<F: Float>(e: &mut Env, value: i128, fbits: u32) -> F {
    if value == 0 {
        return F::zero(false);
    }
    round(e, Num::from_integer(value < 0, value.unsigned_abs() as u64, -(fbits as i32)))
}

/// `FPRoundInt`: to an integer in the same format; only with `exact` is a change of value inexact.
#[inline]
pub(crate) fn round_int<F: Float>(e: &mut Env, value: F, mode: Rounding, exact: bool) -> F {
    if let Some(result) = F::host_round(e, value, mode, exact) {
        return result;
    }
    soft_round_int(e, value, mode, exact)
}

#[cold]
pub(super) fn soft_round_int<F: Float>(e: &mut Env, value: F, mode: Rounding, exact: bool) -> F {
    let num = unpack(e, value);
    match num.class {
        Class::Quiet | Class::Signalling => return process_nan(e, num.class, value),
        Class::Infinity => return value,
        Class::Zero => return F::zero(num.sign),
        Class::Finite if num.exp >= F::MAN as i32 => return value,
        Class::Finite => {}
    }
    let (integer, inexact) = to_integer(num, 0, mode);
    if inexact && exact {
        e.raise(fpsr::IXC);
    }
    integral(e, num.sign, integer)
}

/// `FPRoundIntN`: to an integer that fits in `bits` signed bits; what does not becomes the most negative one.
pub(crate) fn round_to_size<F: Float>(e: &mut Env, value: F, bits: u32, mode: Rounding) -> F {
    let num = unpack(e, value);
    let (integer, inexact) = match num.class {
        Class::Zero => return F::zero(num.sign),
        Class::Finite => to_integer(num, 0, mode),
        _ => (i128::MAX, false),
    };
    let format = IntFormat { bits, signed: true };
    if format.saturate(integer).1 {
        e.raise(fpsr::IOC);
        return integral(e, true, -1 << (bits - 1));
    }
    if inexact {
        e.raise(fpsr::IXC);
    }
    integral(e, num.sign, integer)
}

/// An integer that the format represents exactly; zero takes the sign given.
fn integral<F: Float>(e: &mut Env, sign: bool, integer: i128) -> F {
    match integer {
        0 => F::zero(sign),
        _ => round(e, Num::from_integer(sign, integer.unsigned_abs() as u64, 0)),
    }
}

/// `FPConvert`: from one format to another. Half-precision denormals are never flushed, and `FPCR.AHP` selects the
/// alternative half-precision format without infinities and NaNs.
#[inline]
pub(crate) fn convert<S: Float, D: Float>(e: &mut Env, value: S, mode: Rounding) -> D {
    if let Some(result) = S::host_convert::<D>(e, value, mode) {
        return result;
    }
    soft_convert(e, value, mode)
}

#[cold]
pub(super) fn soft_convert<S: Float, D: Float>(e: &mut Env, value: S, mode: Rounding) -> D {
    let ahp = e.fpcr & fpcr::AHP != 0;
    let mut inner = Env { fpcr: e.fpcr & !fpcr::FZ16, ..*e };
    let num = if S::BITS == 16 && ahp { unpack_alternative(value.raw()) } else { unpack(&mut inner, value) };
    let alternative = D::BITS == 16 && ahp;
    let result = match num.class {
        Class::Quiet | Class::Signalling => {
            if alternative || num.class == Class::Signalling {
                inner.raise(fpsr::IOC);
            }
            match alternative {
                true => D::zero(num.sign),
                false if e.fpcr & fpcr::DN != 0 => D::from_raw(D::DEFAULT_NAN),
                false => convert_nan(value),
            }
        }
        Class::Infinity if alternative => {
            inner.raise(fpsr::IOC);
            D::from_raw(D::zero(num.sign).raw() | (D::SIGN - 1))
        }
        Class::Infinity => D::infinity(num.sign),
        Class::Zero => D::zero(num.sign),
        Class::Finite => {
            let flush = D::BITS != 16 && inner.flushes::<D>();
            round_with(&mut inner, num, mode, flush, alternative)
        }
    };
    e.fpsr = inner.fpsr;
    result
}

/// A number in the alternative half-precision format, where the largest exponent is an ordinary one.
fn unpack_alternative(raw: u64) -> Num {
    let (sign, field, fraction) = (raw & u16::SIGN != 0, (raw >> 10 & 0x1f) as i32, raw & 0x3ff);
    match field {
        0 => Num::from_integer(sign, fraction, u16::MIN_EXP - 10),
        _ => Num::from_integer(sign, fraction | 0x400, u16::MIN_EXP - 10 + field - 1),
    }
}

/// `FPConvertNaN`: keeps the sign and the top of the fraction, and quietens.
fn convert_nan<S: Float, D: Float>(value: S) -> D {
    let raw = value.raw();
    let top = (raw & ((1 << S::MAN) - 1)) << (63 - S::MAN) >> (63 - D::MAN);
    D::from_raw(D::zero(raw & S::SIGN != 0).raw() | D::DEFAULT_NAN | top)
}

/// `FPToFixedJS`: to a 32-bit integer modulo 2^32, and whether that was exact.
pub(crate) fn jcvtzs(e: &mut Env, value: u64) -> (u32, bool) {
    let num = unpack(e, value);
    match num.class {
        Class::Quiet | Class::Signalling | Class::Infinity => {
            e.raise(fpsr::IOC);
            return (0, false);
        }
        // Neither minus zero nor a denormal that was flushed is exact here.
        Class::Zero => return (0, value == 0),
        Class::Finite => {}
    }
    // An integer of 2^85 and above is a multiple of 2^32, since the significand has 53 bits.
    if num.exp >= 85 {
        e.raise(fpsr::IOC);
        return (0, false);
    }
    let shift = 63 - num.exp;
    let magnitude = match shift {
        64.. => 0,
        0..64 => num.man >> shift,
        _ => num.man.wrapping_shl(shift.unsigned_abs()),
    };
    let result = if num.sign { magnitude.wrapping_neg() } else { magnitude } as u32;
    let limit = if num.sign { 1 << 31 } else { (1 << 31) - 1 };
    if num.exp > 31 || magnitude > limit {
        e.raise(fpsr::IOC);
        return (result, false);
    }
    let inexact = shift >= 64 || num.man.trailing_zeros() < shift as u32;
    if inexact {
        e.raise(fpsr::IXC);
    }
    (result, !inexact)
}
