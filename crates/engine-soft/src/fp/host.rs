//! The host's floating point as a fast path.
//!
//! The host runs with round to nearest even and without flushing. Its result is used when that is the guest's rounding
//! mode, the result is a normal number (which it is not if an operand is a NaN or infinite) or an exact zero, and above
//! the smallest normal number, to which a tiny one may have been rounded; and when inexactness needs no record:
//! `FPSR.IXC` is set already, or the result is provably exact. When denormals are flushed, there must be none among the
//! operands either. In all other cases the soft path decides.

use super::convert::IntFormat;
use super::{Env, Float, Rounding, fpcr, fpsr};
use std::cmp::Ordering;

/// Operations that the host may compute; `None` leaves the operation, flags included, to the soft path.
pub(crate) trait Host: Sized {
    fn host_add(_: &Env, _a: Self, _b: Self) -> Option<Self> {
        None
    }
    fn host_mul(_: &Env, _a: Self, _b: Self) -> Option<Self> {
        None
    }
    fn host_div(_: &Env, _a: Self, _b: Self) -> Option<Self> {
        None
    }
    fn host_sqrt(_: &Env, _a: Self) -> Option<Self> {
        None
    }
    fn host_mul_add(_: &Env, _addend: Self, _a: Self, _b: Self) -> Option<Self> {
        None
    }
    fn host_order(_: &Env, _a: Self, _b: Self) -> Option<Ordering> {
        None
    }
    fn host_compare(_: &Env, _a: Self, _b: Self) -> Option<u32> {
        None
    }
    fn host_extreme(_: &Env, _a: Self, _b: Self, _largest: bool) -> Option<Self> {
        None
    }
    fn host_round(_: &Env, _value: Self, _mode: Rounding, _exact: bool) -> Option<Self> {
        None
    }
    fn host_to_int(_: &Env, _value: Self, _to: IntFormat) -> Option<u64> {
        None
    }
    fn host_from_int(_: &Env, _value: i128) -> Option<Self> {
        None
    }
    fn host_convert<D: Float>(_: &Env, _value: Self, _mode: Rounding) -> Option<D> {
        None
    }
}

impl Host for u16 {}

/// Whether these operands need no flushing.
#[inline(always)]
fn accepts<F: Float, const N: usize>(e: &Env, operands: [F; N]) -> bool {
    e.fpcr & fpcr::FZ == 0 || operands.into_iter().all(plain)
}

/// Whether the host rounds as the guest, and these operands need no flushing.
#[inline(always)]
fn ready<F: Float, const N: usize>(e: &Env, operands: [F; N]) -> bool {
    e.fpcr & fpcr::RMODE == 0 && accepts(e, operands)
}

fn inexact_is_recorded(e: &Env) -> bool {
    e.fpsr & fpsr::IXC != 0
}

macro_rules! host {
    ($raw:ty, $native:ty) => {
        impl Host for $raw {
            #[inline(always)]
            fn host_add(e: &Env, a: Self, b: Self) -> Option<Self> {
                let (x, y) = (<$native>::from_bits(a), <$native>::from_bits(b));
                let sum = x + y;
                // The error term of Knuth's two-sum is exact.
                let error = || {
                    let part = sum - x;
                    (x - (sum - part)) + (y - part)
                };
                let bits = sum.to_bits();
                // A sum of zero is exact, and its sign is the same on every host.
                let good = ready(e, [a, b]) && (normal(bits) || bits << 1 == 0);
                (good && (inexact_is_recorded(e) || error() == 0.0)).then_some(bits)
            }

            #[inline(always)]
            fn host_mul(e: &Env, a: Self, b: Self) -> Option<Self> {
                let bits = (<$native>::from_bits(a) * <$native>::from_bits(b)).to_bits();
                let zero = || bits << 1 == 0 && (a << 1 == 0 || b << 1 == 0);
                let good = ready(e, [a, b]) && (normal(bits) || zero());
                (good && (inexact_is_recorded(e) || zero() || product_is_exact(a, b))).then_some(bits)
            }

            #[inline(always)]
            fn host_div(e: &Env, a: Self, b: Self) -> Option<Self> {
                let bits = (<$native>::from_bits(a) / <$native>::from_bits(b)).to_bits();
                let zero = || bits << 1 == 0 && a << 1 == 0;
                // When the product of quotient and divisor is exact, its equality to the dividend means something.
                let exact = || {
                    normal(a)
                        && product_is_exact(bits, b)
                        && <$native>::from_bits(bits) * <$native>::from_bits(b) == <$native>::from_bits(a)
                };
                let good = ready(e, [a, b]) && (normal(bits) || zero());
                (good && (inexact_is_recorded(e) || zero() || exact())).then_some(bits)
            }

            #[inline(always)]
            fn host_sqrt(e: &Env, a: Self) -> Option<Self> {
                let root = <$native>::from_bits(a).sqrt();
                let bits = root.to_bits();
                let exact =
                    || normal(a) && product_is_exact(bits, bits) && root * root == <$native>::from_bits(a);
                (ready(e, [a]) && normal(bits) && (inexact_is_recorded(e) || exact())).then_some(bits)
            }

            #[inline(always)]
            fn host_mul_add(e: &Env, addend: Self, a: Self, b: Self) -> Option<Self> {
                if !(ready(e, [addend, a, b]) && inexact_is_recorded(e)) {
                    return None;
                }
                let [z, x, y] = [addend, a, b].map(<$native>::from_bits);
                let bits = x.mul_add(y, z).to_bits();
                normal(bits).then_some(bits)
            }

            #[inline(always)]
            fn host_order(e: &Env, a: Self, b: Self) -> Option<Ordering> {
                let (x, y) = (<$native>::from_bits(a), <$native>::from_bits(b));
                let ordered = x <= y || x > y;
                (accepts(e, [a, b]) && ordered).then(|| ((x > y) as i8 - (x < y) as i8).cmp(&0))
            }

            #[inline(always)]
            fn host_compare(e: &Env, a: Self, b: Self) -> Option<u32> {
                let (x, y) = (<$native>::from_bits(a), <$native>::from_bits(b));
                let different = if x < y { 0b1000 << 28 } else { 0b0010 << 28 };
                let ordered = x <= y || x > y;
                (accepts(e, [a, b]) && ordered).then_some(if x == y { 0b0110 << 28 } else { different })
            }

            #[inline(always)]
            fn host_extreme(e: &Env, a: Self, b: Self, largest: bool) -> Option<Self> {
                let (x, y) = (<$native>::from_bits(a), <$native>::from_bits(b));
                // Zeros need a look at their signs.
                let (less, greater) = (x < y, x > y);
                (accepts(e, [a, b]) && (less || greater)).then_some(if greater == largest { a } else { b })
            }

            #[inline(always)]
            fn host_round(e: &Env, value: Self, mode: Rounding, exact: bool) -> Option<Self> {
                let x = <$native>::from_bits(value);
                let result = match mode {
                    Rounding::TieEven => x.round_ties_even(),
                    Rounding::Up => x.ceil(),
                    Rounding::Down => x.floor(),
                    Rounding::Zero => x.trunc(),
                    Rounding::TieAway => x.round(),
                    Rounding::Odd => return None,
                };
                let good = accepts(e, [value]) && result.is_finite();
                (good && (!exact || inexact_is_recorded(e) || result == x)).then(|| result.to_bits())
            }

            #[inline(always)]
            fn host_to_int(e: &Env, value: Self, to: IntFormat) -> Option<u64> {
                let x = <$native>::from_bits(value);
                // Below half the range the conversions of the host are in range for both signednesses.
                let limit = (1u64 << (to.bits - 2)) as $native;
                if !(accepts(e, [value]) && x < limit && x > if to.signed { -limit } else { -1.0 }) {
                    return None;
                }
                let integer = x as i64;
                if !inexact_is_recorded(e) && integer as $native != x {
                    return None;
                }
                Some(integer as u64 & (u64::MAX >> (64 - to.bits)))
            }

            #[inline(always)]
            fn host_from_int(e: &Env, value: i128) -> Option<Self> {
                let integer = i64::try_from(value).ok()?;
                let exact = || integer.unsigned_abs() >> (<$raw as Float>::MAN + 1) == 0;
                let good = e.fpcr & fpcr::RMODE == 0 && (inexact_is_recorded(e) || exact());
                good.then(|| (integer as $native).to_bits())
            }

            #[inline(always)]
            fn host_convert<D: Float>(e: &Env, value: Self, mode: Rounding) -> Option<D> {
                let x = <$native>::from_bits(value);
                if !(mode == Rounding::TieEven && accepts(e, [value])) {
                    return None;
                }
                match D::BITS {
                    64 => {
                        let bits = f64::from(x).to_bits();
                        (normal(bits) || bits << 1 == 0).then_some(D::from_raw(bits))
                    }
                    32 => {
                        let result = x as f32;
                        let bits = result.to_bits();
                        let exact = || f64::from(result) == f64::from(x);
                        ((normal(bits) || value << 1 == 0) && (inexact_is_recorded(e) || exact()))
                            .then_some(D::from_raw(bits.into()))
                    }
                    _ => None,
                }
            }
        }
    };
}

host!(u32, f32);
host!(u64, f64);

/// Whether a normal number or zero.
#[inline(always)]
fn plain<F: Float>(value: F) -> bool {
    let magnitude = value.raw() & !F::SIGN;
    magnitude == 0 || normal_range::<F>(magnitude, 0)
}

/// Whether a normal number above the smallest one, which a tiny result may have been rounded to.
#[inline(always)]
fn normal<F: Float>(value: F) -> bool {
    normal_range::<F>(value.raw() & !F::SIGN, 1)
}

/// Whether a magnitude is that of a normal number, at least `above` units above the smallest one.
#[inline(always)]
fn normal_range<F: Float>(magnitude: u64, above: u64) -> bool {
    let least = (1 << F::MAN) + above;
    magnitude.wrapping_sub(least) < F::INF - least
}

/// Whether the product of two numbers is exact for want of significant bits, if it is a normal number.
#[inline(always)]
fn product_is_exact<F: Float>(a: F, b: F) -> bool {
    // Bits from the first to the last set one of the significand.
    let significant = |value: F| F::MAN + 1 - (value.raw() | 1 << F::MAN).trailing_zeros();
    normal(a) && normal(b) && significant(a) + significant(b) <= F::MAN + 1
}
