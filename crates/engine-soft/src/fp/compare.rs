//! Comparisons, maximum and minimum.

use super::{Env, Float, Num, fpsr, process_nans, unpack};
use std::cmp::Ordering;

/// Orders two numbers that are not NaNs.
fn order(a: Num, b: Num) -> Ordering {
    let magnitude = |n: Num| match n {
        _ if n.is_zero() => (0, 0, 0),
        _ if n.is_infinite() => (2, 0, 0),
        _ => (1, n.exp, n.man),
    };
    let negative = |n: Num| n.sign && !n.is_zero();
    match (negative(a), negative(b)) {
        (false, false) => magnitude(a).cmp(&magnitude(b)),
        (true, true) => magnitude(b).cmp(&magnitude(a)),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    }
}

/// The order of two operands, `None` when a NaN makes them unordered. An invalid operation is raised for a signalling
/// NaN, and for any with `signal_all`.
#[inline]
pub(super) fn ordering<F: Float>(e: &mut Env, a: F, b: F, signal_all: bool) -> Option<Ordering> {
    if let Some(order) = F::host_order(e, a, b) {
        return Some(order);
    }
    soft_ordering(e, a, b, signal_all)
}

#[cold]
pub(super) fn soft_ordering<F: Float>(e: &mut Env, a: F, b: F, signal_all: bool) -> Option<Ordering> {
    let (x, y) = (unpack(e, a), unpack(e, b));
    if x.is_nan() || y.is_nan() {
        let signalling = |n: Num| n.class == super::Class::Signalling;
        if signal_all || signalling(x) || signalling(y) {
            e.raise(fpsr::IOC);
        }
        return None;
    }
    Some(order(x, y))
}

/// `FPCompare`: the condition flags in bits 31:28.
#[inline]
pub(crate) fn compare<F: Float>(e: &mut Env, a: F, b: F, signal_all: bool) -> u32 {
    if let Some(flags) = F::host_compare(e, a, b) {
        return flags;
    }
    match soft_ordering(e, a, b, signal_all) {
        Some(Ordering::Less) => 0b1000 << 28,
        Some(Ordering::Equal) => 0b0110 << 28,
        Some(Ordering::Greater) => 0b0010 << 28,
        None => 0b0011 << 28,
    }
}

/// `FPCompareEQ`.
pub(crate) fn eq<F: Float>(e: &mut Env, a: F, b: F) -> bool {
    ordering(e, a, b, false) == Some(Ordering::Equal)
}

/// `FPCompareGE`.
pub(crate) fn ge<F: Float>(e: &mut Env, a: F, b: F) -> bool {
    matches!(ordering(e, a, b, true), Some(Ordering::Greater | Ordering::Equal))
}

/// `FPCompareGT`.
pub(crate) fn gt<F: Float>(e: &mut Env, a: F, b: F) -> bool {
    ordering(e, a, b, true) == Some(Ordering::Greater)
}

/// `FPMax`.
#[inline]
pub(crate) fn max<F: Float>(e: &mut Env, a: F, b: F) -> F {
    extreme(e, a, b, Ordering::Greater)
}

/// `FPMin`.
#[inline]
pub(crate) fn min<F: Float>(e: &mut Env, a: F, b: F) -> F {
    extreme(e, a, b, Ordering::Less)
}

#[inline]
fn extreme<F: Float>(e: &mut Env, a: F, b: F, wanted: Ordering) -> F {
    if let Some(result) = F::host_extreme(e, a, b, wanted == Ordering::Greater) {
        return result;
    }
    soft_extreme(e, a, b, wanted)
}

#[cold]
pub(super) fn soft_extreme<F: Float>(e: &mut Env, a: F, b: F, wanted: Ordering) -> F {
    let (x, y) = (unpack(e, a), unpack(e, b));
    if let Some(nan) = process_nans(e, [(x, a), (y, b)]) {
        return nan;
    }
    let (num, value) = if order(x, y) == wanted { (x, a) } else { (y, b) };
    if !num.is_zero() {
        return value;
    }
    // Of zeros, the positive one is the larger.
    F::zero(if wanted == Ordering::Greater { x.sign && y.sign } else { x.sign || y.sign })
}

/// `FPMaxNum`: a single quiet NaN loses against a number.
pub(crate) fn max_num<F: Float>(e: &mut Env, a: F, b: F) -> F {
    match (a.is_quiet_nan(), b.is_quiet_nan()) {
        (true, false) => max(e, F::infinity(true), b),
        (false, true) => max(e, a, F::infinity(true)),
        _ => max(e, a, b),
    }
}

/// `FPMinNum`: a single quiet NaN loses against a number.
pub(crate) fn min_num<F: Float>(e: &mut Env, a: F, b: F) -> F {
    match (a.is_quiet_nan(), b.is_quiet_nan()) {
        (true, false) => min(e, F::infinity(false), b),
        (false, true) => min(e, a, F::infinity(false)),
        _ => min(e, a, b),
    }
}
