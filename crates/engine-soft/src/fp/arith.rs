//! Addition, multiplication, division, square root and fused multiply-add.

use super::{
    Class, Env, Float, Num, Rounding, fpsr, normalise, process_nan, process_nans, round, shift_right_sticky,
    unpack,
};

/// The sign of an exact zero sum of operands of different signs.
fn zero_sum<F: Float>(e: &Env) -> F {
    F::zero(e.rounding() == Rounding::Down)
}

/// The exact sum of two finite numbers or zeros, with a sticky bit below 128 bits; `None` when it is zero.
///
/// The operands are `man / 2^126 * 2^exp`; each has at most 106 significant bits, so a bit is only lost when the
/// operands are so far apart that the result keeps more bits than any format has.
fn sum(a: (bool, i32, u128), b: (bool, i32, u128)) -> Option<Num> {
    let (large, small) = if b.2 == 0 || (a.2 != 0 && a.1 >= b.1) { (a, b) } else { (b, a) };
    if large.2 == 0 {
        return None;
    }
    let (sign, exp, man) = large;
    let other = if small.2 == 0 { 0 } else { shift_right_sticky(small.2, exp.abs_diff(small.1)) };
    let (sign, man) = match (sign == small.0, man >= other) {
        (true, _) => (sign, man + other),
        (false, true) => (sign, man - other),
        (false, false) => (!sign, other - man),
    };
    (man != 0).then(|| normalise(sign, exp + 1, man))
}

fn term(num: Num) -> (bool, i32, u128) {
    (num.sign, num.exp, if num.is_zero() { 0 } else { u128::from(num.man) << 63 })
}

/// `FPAdd`.
#[inline]
pub(crate) fn add<F: Float>(e: &mut Env, a: F, b: F) -> F {
    if let Some(result) = F::host_add(e, a, b) {
        return result;
    }
    soft_add(e, a, b, false)
}

/// `FPSub`.
#[inline]
pub(crate) fn sub<F: Float>(e: &mut Env, a: F, b: F) -> F {
    if let Some(result) = F::host_add(e, a, b.negated()) {
        return result;
    }
    soft_add(e, a, b, true)
}

#[cold]
pub(super) fn soft_add<F: Float>(e: &mut Env, a: F, b: F, subtract: bool) -> F {
    let (x, mut y) = (unpack(e, a), unpack(e, b));
    if let Some(nan) = process_nans(e, [(x, a), (y, b)]) {
        return nan;
    }
    y.sign ^= subtract;
    match (x.is_infinite(), y.is_infinite()) {
        (true, true) if x.sign != y.sign => e.invalid(),
        (true, _) => F::infinity(x.sign),
        (_, true) => F::infinity(y.sign),
        _ if x.is_zero() && y.is_zero() && x.sign == y.sign => F::zero(x.sign),
        _ => match sum(term(x), term(y)) {
            Some(num) => round(e, num),
            None => zero_sum(e),
        },
    }
}

/// `FPMul`.
#[inline]
pub(crate) fn mul<F: Float>(e: &mut Env, a: F, b: F) -> F {
    if let Some(result) = F::host_mul(e, a, b) {
        return result;
    }
    soft_mul(e, a, b, false)
}

/// `FPMulX`: as a product, but infinity times zero is two.
#[inline]
pub(crate) fn mulx<F: Float>(e: &mut Env, a: F, b: F) -> F {
    if let Some(result) = F::host_mul(e, a, b) {
        return result;
    }
    soft_mul(e, a, b, true)
}

#[cold]
pub(super) fn soft_mul<F: Float>(e: &mut Env, a: F, b: F, extended: bool) -> F {
    let (x, y) = (unpack(e, a), unpack(e, b));
    if let Some(nan) = process_nans(e, [(x, a), (y, b)]) {
        return nan;
    }
    let sign = x.sign != y.sign;
    if (x.is_infinite() && y.is_zero()) || (x.is_zero() && y.is_infinite()) {
        return if extended { round(e, Num::from_integer(sign, 2, 0)) } else { e.invalid() };
    }
    if x.is_infinite() || y.is_infinite() {
        return F::infinity(sign);
    }
    if x.is_zero() || y.is_zero() {
        return F::zero(sign);
    }
    let product = u128::from(x.man) * u128::from(y.man);
    round(e, normalise(sign, x.exp + y.exp + 1, product))
}

/// `FPDiv`.
#[inline]
pub(crate) fn div<F: Float>(e: &mut Env, a: F, b: F) -> F {
    if let Some(result) = F::host_div(e, a, b) {
        return result;
    }
    soft_div(e, a, b)
}

#[cold]
pub(super) fn soft_div<F: Float>(e: &mut Env, a: F, b: F) -> F {
    let (x, y) = (unpack(e, a), unpack(e, b));
    if let Some(nan) = process_nans(e, [(x, a), (y, b)]) {
        return nan;
    }
    let sign = x.sign != y.sign;
    if (x.is_infinite() && y.is_infinite()) || (x.is_zero() && y.is_zero()) {
        return e.invalid();
    }
    if x.is_infinite() || y.is_zero() {
        if !x.is_infinite() {
            e.raise(fpsr::DZC);
        }
        return F::infinity(sign);
    }
    if x.is_zero() || y.is_infinite() {
        return F::zero(sign);
    }
    let (dividend, divisor) = (u128::from(x.man) << 63, u128::from(y.man));
    // The quotient has 63 or 64 bits; with a sticky bit below it, and one position to the left for it.
    let quotient = dividend / divisor << 1 | u128::from(dividend % divisor != 0);
    round(e, normalise(sign, x.exp - y.exp + 63, quotient))
}

/// `FPSqrt`.
#[inline]
pub(crate) fn sqrt<F: Float>(e: &mut Env, a: F) -> F {
    if let Some(result) = F::host_sqrt(e, a) {
        return result;
    }
    soft_sqrt(e, a)
}

#[cold]
pub(super) fn soft_sqrt<F: Float>(e: &mut Env, a: F) -> F {
    let x = unpack(e, a);
    if x.is_nan() {
        return process_nan(e, x.class, a);
    }
    if x.is_zero() {
        return F::zero(x.sign);
    }
    if x.sign {
        return e.invalid();
    }
    if x.is_infinite() {
        return F::infinity(false);
    }
    let odd = x.exp & 1;
    let radicand = u128::from(x.man) << (63 + odd);
    let root = radicand.isqrt();
    let man = root << 1 | u128::from(root * root != radicand);
    round(e, normalise(false, (x.exp - odd) / 2 + 63, man))
}

/// `FPMulAdd`: `addend + a * b`, rounded once.
#[inline]
pub(crate) fn mul_add<F: Float>(e: &mut Env, addend: F, a: F, b: F) -> F {
    if let Some(result) = F::host_mul_add(e, addend, a, b) {
        return result;
    }
    soft_mul_add(e, addend, a, b)
}

#[cold]
pub(super) fn soft_mul_add<F: Float>(e: &mut Env, addend: F, a: F, b: F) -> F {
    let (z, x, y) = (unpack(e, addend), unpack(e, a), unpack(e, b));
    let nan = process_nans(e, [(z, addend), (x, a), (y, b)]);
    if let Some(result) = special_product(e, z, x, y, nan) {
        return result;
    }
    fused(e, z, x, y, 0)
}

/// `FPMulAddH`: a single-precision addend and half-precision factors.
pub(crate) fn mul_add_long(e: &mut Env, addend: u32, a: u16, b: u16) -> u32 {
    let (z, x, y) = (unpack(e, addend), unpack(e, a), unpack(e, b));
    let widen = |nan: u16| {
        let nan = u32::from(nan);
        (nan & 0x8000) << 16 | u32::INF as u32 | (nan & 0x3ff) << 13
    };
    // Widening keeps the bit that tells quiet from signalling.
    let nan = process_nans(e, [(z, addend), (x, widen(a)), (y, widen(b))]);
    if let Some(result) = special_product(e, z, x, y, nan) {
        return result;
    }
    fused(e, z, x, y, 0)
}

/// The result of a fused multiply-add with a NaN or an infinity among its operands.
fn special_product<F: Float>(e: &mut Env, z: Num, x: Num, y: Num, nan: Option<F>) -> Option<F> {
    let undefined = (x.is_infinite() && y.is_zero()) || (x.is_zero() && y.is_infinite());
    if undefined && z.class == Class::Quiet {
        return Some(e.invalid());
    }
    if nan.is_some() {
        return nan;
    }
    let sign = x.sign != y.sign;
    let infinite = x.is_infinite() || y.is_infinite();
    if undefined || (z.is_infinite() && infinite && z.sign != sign) {
        return Some(e.invalid());
    }
    if z.is_infinite() {
        return Some(F::infinity(z.sign));
    }
    infinite.then(|| F::infinity(sign))
}

/// `(z + x * y) * 2^scale` of finite numbers or zeros.
pub(super) fn fused<F: Float>(e: &mut Env, z: Num, x: Num, y: Num, scale: i32) -> F {
    let sign = x.sign != y.sign;
    let product = if x.is_zero() || y.is_zero() {
        if z.is_zero() && z.sign == sign {
            return F::zero(sign);
        }
        (sign, 0, 0)
    } else {
        // 106 significant bits at most, so nothing is lost below when the top bit moves to 126.
        let man = u128::from(x.man) * u128::from(y.man);
        let carry = (man >> 127) as i32;
        (sign, x.exp + y.exp + carry, man >> carry)
    };
    match sum(product, term(z)) {
        Some(mut num) => {
            num.exp += scale;
            round(e, num)
        }
        None => zero_sum(e),
    }
}
