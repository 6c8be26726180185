//! Reciprocal and reciprocal square root: estimates and Newton-Raphson steps.

use super::arith::fused;
use super::{Class, Env, Float, Num, Rounding, fpsr, process_nan, process_nans, round, unpack};

/// `RecipEstimate`: of `a / 512` in [0.5, 1), for `a` in 256..512; the result in the same units.
pub(super) fn recip_table(a: u32) -> u32 {
    let b = (1 << 19) / (a * 2 + 1);
    b.div_ceil(2)
}

/// `RecipSqrtEstimate`: of `a / 512` in [0.25, 1), for `a` in 128..512; the result in the same units.
pub(super) fn rsqrt_table(a: u32) -> u32 {
    let a = if a < 256 { a * 2 + 1 } else { (a & !1) * 2 + 2 };
    // The largest b with a * b^2 < 2^28.
    let square = ((1u32 << 28) - 1) / a;
    (square.isqrt().max(512)).div_ceil(2)
}

/// The fraction field, normalised to 52 bits, and the exponent field of a finite number that is not zero; denormals
/// count below zero.
fn scaled<F: Float>(num: Num) -> (u64, i32) {
    (num.man << 1 >> 12, num.exp - F::MIN_EXP + 1)
}

/// `FPRecipEstimate`.
pub(crate) fn recip_estimate<F: Float>(e: &mut Env, value: F) -> F {
    let num = unpack(e, value);
    let sign = num.sign;
    match num.class {
        Class::Quiet | Class::Signalling => return process_nan(e, num.class, value),
        Class::Infinity => return F::zero(sign),
        Class::Zero => {
            e.raise(fpsr::DZC);
            return F::infinity(sign);
        }
        Class::Finite => {}
    }
    if num.exp < F::MIN_EXP - 2 {
        e.raise(fpsr::OFC | fpsr::IXC);
        let to_infinity = match e.rounding() {
            Rounding::Up => !sign,
            Rounding::Down => sign,
            Rounding::Zero => false,
            _ => true,
        };
        return if to_infinity { F::infinity(sign) } else { F::max_normal(sign) };
    }
    if e.flushes::<F>() && num.exp >= -F::MIN_EXP {
        e.raise(fpsr::UFC);
        return F::zero(sign);
    }
    let (fraction, exp) = scaled::<F>(num);
    let estimate = recip_table(256 | (fraction >> 44) as u32);
    // 29, 253, 2045 for the three formats.
    let field = ((1 << F::EXP) - 3) - exp;
    let fraction = u64::from(estimate & 0xff) << 44;
    let (fraction, field) = match field {
        ..0 => (1 << 50 | fraction >> 2, 0),
        0 => (1 << 51 | fraction >> 1, 0),
        _ => (fraction, field),
    };
    F::from_raw(F::zero(sign).raw() | (field as u64) << F::MAN | fraction >> (52 - F::MAN))
}

/// `FPRSqrtEstimate`.
pub(crate) fn rsqrt_estimate<F: Float>(e: &mut Env, value: F) -> F {
    let num = unpack(e, value);
    match num.class {
        Class::Quiet | Class::Signalling => return process_nan(e, num.class, value),
        Class::Zero => {
            e.raise(fpsr::DZC);
            return F::infinity(num.sign);
        }
        _ if num.sign => return e.invalid(),
        Class::Infinity => return F::zero(false),
        Class::Finite => {}
    }
    let (fraction, exp) = scaled::<F>(num);
    let input = match exp & 1 {
        0 => 256 | (fraction >> 44) as u32,
        _ => 128 | (fraction >> 45) as u32,
    };
    // 44, 380, 3068 for the three formats; the difference is never negative.
    let field = (3 * (1 << (F::EXP - 1)) - 4 - exp) / 2;
    let fraction = u64::from(rsqrt_table(input) & 0xff) << (F::MAN - 8);
    F::from_raw((field as u64) << F::MAN | fraction)
}

/// `UnsignedRecipEstimate`.
pub(crate) fn unsigned_recip_estimate(value: u32) -> u32 {
    if value >> 31 == 0 { u32::MAX } else { recip_table(value >> 23) << 23 }
}

/// `UnsignedRSqrtEstimate`.
pub(crate) fn unsigned_rsqrt_estimate(value: u32) -> u32 {
    if value >> 30 == 0 { u32::MAX } else { rsqrt_table(value >> 23) << 23 }
}

/// `FPRecpX`: the negated exponent.
pub(crate) fn recip_exponent<F: Float>(e: &mut Env, value: F) -> F {
    let num = unpack(e, value);
    if num.is_nan() {
        return process_nan(e, num.class, value);
    }
    let field = value.raw() & F::INF;
    let field = if field == 0 { F::INF - (1 << F::MAN) } else { F::INF ^ field };
    F::from_raw(F::zero(num.sign).raw() | field)
}

/// `FPRecipStepFused`: `2 - a * b`.
pub(crate) fn recip_step<F: Float>(e: &mut Env, a: F, b: F) -> F {
    step(e, a, b, 2, 0)
}

/// `FPRSqrtStepFused`: `(3 - a * b) / 2`.
pub(crate) fn rsqrt_step<F: Float>(e: &mut Env, a: F, b: F) -> F {
    step(e, a, b, 3, -1)
}

/// `(constant - a * b) * 2^scale`, where infinity times zero counts as zero.
fn step<F: Float>(e: &mut Env, a: F, b: F, constant: u64, scale: i32) -> F {
    let a = a.negated();
    let (x, y) = (unpack(e, a), unpack(e, b));
    if let Some(nan) = process_nans(e, [(x, a), (y, b)]) {
        return nan;
    }
    if (x.is_infinite() && y.is_zero()) || (x.is_zero() && y.is_infinite()) {
        return round(e, Num::from_integer(false, constant, scale));
    }
    if x.is_infinite() || y.is_infinite() {
        return F::infinity(x.sign != y.sign);
    }
    fused(e, Num::from_integer(false, constant, 0), x, y, scale)
}
