//! The host's floating point as a fast path.
//!
//! The host runs with round to nearest even and without flushing. Its result is used when that is the guest's rounding
//! mode, the operands are normal numbers or zeros, the result is neither tiny nor an overflow, and inexactness needs no
//! record: `FPSR.IXC` is set already, or the result is provably exact. In all other cases the soft path decides.

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
    fn host_order(_a: Self, _b: Self) -> Option<Ordering> {
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

fn nearest(e: &Env) -> bool {
    e.fpcr & fpcr::RMODE == 0
}

fn inexact_is_recorded(e: &Env) -> bool {
    e.fpsr & fpsr::IXC != 0
}

macro_rules! host {
    ($raw:ty, $native:ty) => {
        impl Host for $raw {
            #[inline(always)]
            fn host_add(e: &Env, a: Self, b: Self) -> Option<Self> {
                if !(nearest(e) && plain(a) && plain(b)) {
                    return None;
                }
                let (x, y) = (<$native>::from_bits(a), <$native>::from_bits(b));
                let sum = x + y;
                // The error term of Knuth's two-sum is exact.
                let error = || {
                    let part = sum - x;
                    (x - (sum - part)) + (y - part)
                };
                let bits = sum.to_bits();
                // A sum of zero is exact, and its sign is the same on every host.
                ((normal(bits) || bits << 1 == 0) && (inexact_is_recorded(e) || error() == 0.0))
                    .then_some(bits)
            }

            #[inline(always)]
            fn host_mul(e: &Env, a: Self, b: Self) -> Option<Self> {
                if !(nearest(e) && plain(a) && plain(b)) {
                    return None;
                }
                let bits = (<$native>::from_bits(a) * <$native>::from_bits(b)).to_bits();
                let zero = a << 1 == 0 || b << 1 == 0;
                let exact = || zero || significant_bits(a) + significant_bits(b) <= <$raw as Float>::MAN + 1;
                ((normal(bits) || zero) && (inexact_is_recorded(e) || exact())).then_some(bits)
            }

            #[inline(always)]
            fn host_div(e: &Env, a: Self, b: Self) -> Option<Self> {
                if !(nearest(e) && plain(a) && normal(b)) {
                    return None;
                }
                let bits = (<$native>::from_bits(a) / <$native>::from_bits(b)).to_bits();
                let zero = a << 1 == 0;
                // The product of quotient and divisor is exact, so their equality to the dividend means something.
                let exact = || {
                    let fits = significant_bits(bits) + significant_bits(b) <= <$raw as Float>::MAN + 1;
                    zero || (fits
                        && <$native>::from_bits(bits) * <$native>::from_bits(b) == <$native>::from_bits(a))
                };
                ((normal(bits) || zero) && (inexact_is_recorded(e) || exact())).then_some(bits)
            }

            #[inline(always)]
            fn host_sqrt(e: &Env, a: Self) -> Option<Self> {
                if !(nearest(e) && normal(a) && a >> (<$raw>::BITS - 1) == 0) {
                    return None;
                }
                let root = <$native>::from_bits(a).sqrt();
                let exact = || {
                    2 * significant_bits(root.to_bits()) <= <$raw as Float>::MAN + 1
                        && root * root == <$native>::from_bits(a)
                };
                (inexact_is_recorded(e) || exact()).then(|| root.to_bits())
            }

            #[inline(always)]
            fn host_mul_add(e: &Env, addend: Self, a: Self, b: Self) -> Option<Self> {
                if !(nearest(e) && inexact_is_recorded(e) && plain(addend) && plain(a) && plain(b)) {
                    return None;
                }
                let [z, x, y] = [addend, a, b].map(<$native>::from_bits);
                let bits = x.mul_add(y, z).to_bits();
                normal(bits).then_some(bits)
            }

            #[inline(always)]
            fn host_order(a: Self, b: Self) -> Option<Ordering> {
                if !(plain(a) && plain(b)) {
                    return None;
                }
                <$native>::from_bits(a).partial_cmp(&<$native>::from_bits(b))
            }

            #[inline(always)]
            fn host_to_int(e: &Env, value: Self, to: IntFormat) -> Option<u64> {
                if !plain(value) {
                    return None;
                }
                let x = <$native>::from_bits(value);
                // Below half the range the conversions of the host are in range for both signednesses.
                let limit = (1u64 << (to.bits - 2)) as $native;
                if !(x < limit && x > if to.signed { -limit } else { -1.0 }) {
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
                if !nearest(e) {
                    return None;
                }
                let integer = i64::try_from(value).ok()?;
                let result = integer as $native;
                let exact = || integer.unsigned_abs() >> (<$raw as Float>::MAN + 1) == 0;
                (inexact_is_recorded(e) || exact()).then(|| result.to_bits())
            }

            #[inline(always)]
            fn host_convert<D: Float>(e: &Env, value: Self, mode: Rounding) -> Option<D> {
                if !(mode == Rounding::TieEven && plain(value)) {
                    return None;
                }
                let x = <$native>::from_bits(value);
                match D::BITS {
                    64 => Some(D::from_raw(f64::from(x).to_bits())),
                    32 => {
                        let result = x as f32;
                        let exact = || f64::from(result) == f64::from(x);
                        let kept = result.is_normal() && result.abs() > f32::MIN_POSITIVE;
                        ((kept || x == 0.0) && (inexact_is_recorded(e) || exact()))
                            .then(|| D::from_raw(result.to_bits().into()))
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

/// Bits from the first to the last set one of a normal number's significand.
#[inline(always)]
fn significant_bits<F: Float>(value: F) -> u32 {
    F::MAN + 1 - (value.raw() | 1 << F::MAN).trailing_zeros()
}
