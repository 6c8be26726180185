//! Shifts by register and by immediate.

use super::lanes::{Int, env1, env2, map1, map1_onto, map2, narrow_env, narrow1, widen_only};
use crate::decode::simd::{Binary, Shift, ShiftNarrow};
use crate::fp::{Env, fpsr};
use crate::interp::op::Handler;

/// Shifts right by 1 or more and rounds to nearest, ties upwards.
#[inline(always)]
fn rounded(value: i128, by: u32) -> i128 {
    // Beyond 65 no bit of a 64-bit element is left, and no rounding reaches one.
    let by = by.min(65);
    (value + (1 << (by - 1))) >> by
}

/// Shifts left, saturating.
#[inline]
fn saturated<T: Int>(e: &mut Env, value: i128, by: u32) -> T {
    match value {
        0 => T::cut(0),
        _ if by < T::BITS => T::saturate(e, value << by),
        _ => T::saturate(e, if value < 0 { i128::MIN } else { i128::MAX }),
    }
}

/// Left by the signed low byte of `by`, right when that is negative.
#[inline]
fn shift<T: Int, const ROUND: bool, const SATURATE: bool>(e: &mut Env, n: T, by: T) -> T {
    let (value, by) = (n.wide(), by.wide() as i8);
    let amount = by.unsigned_abs().into();
    match by {
        0.. if SATURATE => saturated(e, value, amount),
        0.. => T::cut(if amount < T::BITS { value << amount } else { 0 }),
        _ if ROUND => T::cut(rounded(value, amount)),
        _ => T::cut(value >> amount.min(127)),
    }
}

pub(super) fn by_register(op: Binary, size: u8) -> Handler {
    match op {
        Binary::Sshl => by_size!(size, signed T => map2(|n: T, by| match by.wide() as i8 {
            by @ 0.. => n.checked_shl(by as u32).unwrap_or(0),
            by => n >> u32::from(by.unsigned_abs()).min(T::BITS - 1),
        })),
        Binary::Ushl => by_size!(size, unsigned T => map2(|n: T, by| match by.wide() as i8 {
            by @ 0.. => n.checked_shl(by as u32).unwrap_or(0),
            by => n.checked_shr(by.unsigned_abs().into()).unwrap_or(0),
        })),
        Binary::Sqshl => by_size!(size, signed T => env2(shift::<T, false, true>)),
        Binary::Uqshl => by_size!(size, unsigned T => env2(shift::<T, false, true>)),
        Binary::Srshl => by_size!(size, signed T => env2(shift::<T, true, false>)),
        Binary::Urshl => by_size!(size, unsigned T => env2(shift::<T, true, false>)),
        Binary::Sqrshl => by_size!(size, signed T => env2(shift::<T, true, true>)),
        _ => by_size!(size, unsigned T => env2(shift::<T, true, true>)),
    }
}

pub(super) fn by_immediate(op: Shift, size: u8) -> Handler {
    match op {
        Shift::Sshr => by_size!(size, signed T => map1(|n: T, by| n >> by.min(T::BITS - 1))),
        Shift::Ushr => by_size!(size, unsigned T => map1(|n: T, by| n.checked_shr(by).unwrap_or(0))),
        Shift::Ssra => {
            by_size!(size, signed T => map1_onto(|d: T, n, by| d.wrapping_add(n >> by.min(T::BITS - 1))))
        }
        Shift::Usra => {
            by_size!(size, unsigned T => map1_onto(|d: T, n, by| d.wrapping_add(n.checked_shr(by).unwrap_or(0))))
        }
        Shift::Srshr => by_size!(size, signed T => map1(|n: T, by| T::cut(rounded(n.wide(), by)))),
        Shift::Urshr => by_size!(size, unsigned T => map1(|n: T, by| T::cut(rounded(n.wide(), by)))),
        Shift::Srsra => {
            by_size!(size, signed T => map1_onto(|d: T, n, by| d.wrapping_add(T::cut(rounded(n.wide(), by)))))
        }
        Shift::Ursra => {
            by_size!(size, unsigned T => map1_onto(|d: T, n, by| d.wrapping_add(T::cut(rounded(n.wide(), by)))))
        }
        Shift::Sri => by_size!(size, unsigned T => map1_onto(|d: T, n, by| {
            let mask = T::MAX.checked_shr(by).unwrap_or(0);
            d & !mask | n.checked_shr(by).unwrap_or(0)
        })),
        Shift::Shl => by_size!(size, unsigned T => map1(|n: T, by| n << (by & (T::BITS - 1)))),
        Shift::Sli => by_size!(size, unsigned T => map1_onto(|d: T, n, by| {
            let by = by & (T::BITS - 1);
            d & !(T::MAX << by) | n << by
        })),
        Shift::Sqshlu => by_size!(size, unsigned T => env1(|e, n: T, o| {
            if n >> (T::BITS - 1) != 0 {
                e.raise(fpsr::QC);
                return 0;
            }
            saturated(e, n.wide(), o.imm)
        })),
        Shift::Sqshl => by_size!(size, signed T => env1(|e, n: T, o| saturated(e, n.wide(), o.imm))),
        Shift::Uqshl => by_size!(size, unsigned T => env1(|e, n: T, o| saturated(e, n.wide(), o.imm))),
    }
}

/// Shifts right.
#[inline(always)]
fn plain(value: i128, by: u32) -> i128 {
    value >> (by & 127)
}

pub(super) fn narrowing(op: ShiftNarrow, size: u8) -> Handler {
    /// Saturates wide elements of one signedness to narrow ones of another.
    macro_rules! saturating {
        ($shift:expr; $w0:ty, $t0:ty; $w1:ty, $t1:ty; $w2:ty, $t2:ty) => {
            by_size!(@@ size, [0 $t0, $w0, 1 $t1, $w1; $t2, $w2], T, W => {
                narrow_env::<W, T, _>(|e, n, by| T::saturate(e, $shift(n.wide(), by)))
            })
        };
    }
    match op {
        ShiftNarrow::Shrn => {
            by_size!(size, unsigned T, W => narrow1::<W, T, _>(|n, by| (n >> (by & (W::BITS - 1))) as T))
        }
        ShiftNarrow::Rshrn => {
            by_size!(size, unsigned T, W => narrow1::<W, T, _>(|n, by| T::cut(rounded(n.wide(), by))))
        }
        ShiftNarrow::Sqshrun => saturating!(plain; i16, u8; i32, u16; i64, u32),
        ShiftNarrow::Sqrshrun => saturating!(rounded; i16, u8; i32, u16; i64, u32),
        ShiftNarrow::Sqshrn => saturating!(plain; i16, i8; i32, i16; i64, i32),
        ShiftNarrow::Sqrshrn => saturating!(rounded; i16, i8; i32, i16; i64, i32),
        ShiftNarrow::Uqshrn => saturating!(plain; u16, u8; u32, u16; u64, u32),
        ShiftNarrow::Uqrshrn => saturating!(rounded; u16, u8; u32, u16; u64, u32),
    }
}

/// SSHLL, USHLL and SHLL.
pub(super) fn lengthening(signed: bool, size: u8) -> Handler {
    match signed {
        true => by_size!(size, signed T, W => widen_only::<T, W, _>(|n, by| n << (by & (W::BITS - 1)))),
        false => by_size!(size, unsigned T, W => widen_only::<T, W, _>(|n, by| n << (by & (W::BITS - 1)))),
    }
}
