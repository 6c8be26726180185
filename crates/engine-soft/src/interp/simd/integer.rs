//! Integer operations on lanes.

use super::lanes::{
    Int, across, env1, env3, map1, map2, map3, narrow_env, narrow1, narrow2, pair_long, pair2, saturating2,
    whole, widen, widen_env, widen_second,
};
use super::shift;
use crate::decode::simd::{Across, Binary, Bitwise, Long, Narrow, PairLong, Unary};
use crate::fp;
use crate::interp::op::Handler;

/// The even halfwords of a doubleword.
const EVEN: u64 = 0x0000_ffff_0000_ffff;

pub(super) fn unary(op: Unary, size: u8) -> Handler {
    use Unary::*;
    match op {
        Abs => by_size!(size, signed T => map1(|n: T, _| n.wrapping_abs())),
        Neg => by_size!(size, signed T => map1(|n: T, _| n.wrapping_neg())),
        Not => map1(|n: u64, _| !n),
        Rbit => map1(|n: u8, _| n.reverse_bits()),
        Cnt => map1(|n: u8, _| n.count_ones() as u8),
        Cls => by_size!(size, signed T => map1(|n: T, _| ((n ^ (n >> 1)) & T::MAX).leading_zeros() as T - 1)),
        Clz => by_size!(size, unsigned T => map1(|n: T, _| n.leading_zeros() as T)),
        Rev(1) => map1(|n: u16, _| n.swap_bytes()),
        Rev(2) => match size {
            0 => map1(|n: u32, _| n.swap_bytes()),
            _ => map1(|n: u32, _| n.rotate_left(16)),
        },
        Rev(_) => match size {
            0 => map1(|n: u64, _| n.swap_bytes()),
            // Swapping neighbours within words, then the words.
            1 => map1(|n: u64, _| (n >> 16 & EVEN | (n & EVEN) << 16).rotate_left(32)),
            _ => map1(|n: u64, _| n.rotate_left(32)),
        },
        Sqabs => {
            by_size!(size, signed T => env1(|e, n: T, _| n.saturating_abs().noting(e, n.wrapping_abs())))
        }
        Sqneg => {
            by_size!(size, signed T => env1(|e, n: T, _| n.saturating_neg().noting(e, n.wrapping_neg())))
        }
        Cmgt => by_size!(size, signed T => map1(|n: T, _| -((n > 0) as T))),
        Cmge => by_size!(size, signed T => map1(|n: T, _| -((n >= 0) as T))),
        Cmeq => by_size!(size, signed T => map1(|n: T, _| -((n == 0) as T))),
        Cmle => by_size!(size, signed T => map1(|n: T, _| -((n <= 0) as T))),
        Cmlt => by_size!(size, signed T => map1(|n: T, _| -((n < 0) as T))),
        Suqadd => by_size!(size, signed T => env3(|e, d: T, n, _| {
            let unsigned = n.wide() & (1i128 << T::BITS) - 1;
            T::saturate(e, d.wide() + unsigned)
        })),
        Usqadd => by_size!(size, unsigned T => env3(|e, d: T, n, _| {
            let signed = n.wide() - ((n >> (T::BITS - 1)) as i128) * (1 << T::BITS);
            T::saturate(e, d.wide() + signed)
        })),
        Urecpe => map1(|n: u32, _| fp::unsigned_recip_estimate(n)),
        Ursqrte => map1(|n: u32, _| fp::unsigned_rsqrt_estimate(n)),
    }
}

pub(super) fn binary(op: Binary, size: u8) -> Handler {
    use Binary::*;
    match op {
        Shadd => by_size!(size, signed T => map2(|n: T, m| (n & m) + ((n ^ m) >> 1))),
        Uhadd => by_size!(size, unsigned T => map2(|n: T, m| (n & m) + ((n ^ m) >> 1))),
        Srhadd => by_size!(size, signed T => map2(|n: T, m| (n | m) - ((n ^ m) >> 1))),
        Urhadd => by_size!(size, unsigned T => map2(|n: T, m| (n | m) - ((n ^ m) >> 1))),
        Shsub => by_size!(size, signed T => map2(|n: T, m| (n >> 1) - (m >> 1) - (!n & m & 1))),
        Uhsub => {
            by_size!(size, unsigned T => map2(|n: T, m| (n >> 1).wrapping_sub(m >> 1).wrapping_sub(!n & m & 1)))
        }
        Sqadd => by_size!(size, signed T => saturating2(T::saturating_add, T::wrapping_add)),
        Uqadd => by_size!(size, unsigned T => saturating2(T::saturating_add, T::wrapping_add)),
        Sqsub => by_size!(size, signed T => saturating2(T::saturating_sub, T::wrapping_sub)),
        Uqsub => by_size!(size, unsigned T => saturating2(T::saturating_sub, T::wrapping_sub)),
        Cmgt => by_size!(size, signed T => map2(|n: T, m| -((n > m) as T))),
        Cmhi => by_size!(size, unsigned T => map2(|n: T, m| ((n > m) as T).wrapping_neg())),
        Cmge => by_size!(size, signed T => map2(|n: T, m| -((n >= m) as T))),
        Cmhs => by_size!(size, unsigned T => map2(|n: T, m| ((n >= m) as T).wrapping_neg())),
        Cmtst => by_size!(size, signed T => map2(|n: T, m| -((n & m != 0) as T))),
        Cmeq => by_size!(size, signed T => map2(|n: T, m| -((n == m) as T))),
        Sshl | Ushl | Sqshl | Uqshl | Srshl | Urshl | Sqrshl | Uqrshl => shift::by_register(op, size),
        Smax => by_size!(size, signed T => map2(|n: T, m| n.max(m))),
        Umax => by_size!(size, unsigned T => map2(|n: T, m| n.max(m))),
        Smin => by_size!(size, signed T => map2(|n: T, m| n.min(m))),
        Umin => by_size!(size, unsigned T => map2(|n: T, m| n.min(m))),
        Sabd => by_size!(size, signed T => map2(|n: T, m| n.max(m).wrapping_sub(n.min(m)))),
        Uabd => by_size!(size, unsigned T => map2(|n: T, m| n.abs_diff(m))),
        Saba => {
            by_size!(size, signed T => map3(|d: T, n, m| d.wrapping_add(n.max(m).wrapping_sub(n.min(m)))))
        }
        Uaba => by_size!(size, unsigned T => map3(|d: T, n, m| d.wrapping_add(n.abs_diff(m)))),
        Add => by_size!(size, unsigned T => map2(|n: T, m| n.wrapping_add(m))),
        Sub => by_size!(size, unsigned T => map2(|n: T, m| n.wrapping_sub(m))),
        Mla => by_size!(size, unsigned T => map3(|d: T, n, m| d.wrapping_add(n.wrapping_mul(m)))),
        Mls => by_size!(size, unsigned T => map3(|d: T, n, m| d.wrapping_sub(n.wrapping_mul(m)))),
        Mul => by_size!(size, unsigned T => map3(|_: T, n, m| n.wrapping_mul(m))),
        Pmul => map2(|n: u8, m| poly_mul(n, m) as u8),
        Smaxp => by_size!(size, signed T => pair2(|n: T, m| n.max(m))),
        Umaxp => by_size!(size, unsigned T => pair2(|n: T, m| n.max(m))),
        Sminp => by_size!(size, signed T => pair2(|n: T, m| n.min(m))),
        Uminp => by_size!(size, unsigned T => pair2(|n: T, m| n.min(m))),
        Addp => by_size!(size, unsigned T => pair2(|n: T, m| n.wrapping_add(m))),
        Sqdmulh | Sqrdmulh | Sqrdmlah | Sqrdmlsh => doubling_high(op, size),
    }
}

/// Twice the product, the upper half of it, of halfwords and words.
fn doubling_high(op: Binary, size: u8) -> Handler {
    /// Accumulating forms saturate once, after the sum.
    macro_rules! accumulate {
        ($operation:tt) => {
            by_size!(@ size, [1 i16; i32], T => env3(|e, d: T, n, m| {
                let sum = (d.wide() << T::BITS) $operation 2 * n.wide() * m.wide();
                T::saturate(e, (sum + (1 << (T::BITS - 1))) >> T::BITS)
            }))
        };
    }
    /// Without an accumulator, only the square of the most negative number saturates.
    macro_rules! product {
        ($round:expr) => {
            by_size!(@@ size, [1 i16, i32; i32, i64], T, W => saturating2(
                |n: T, m| match (W::from(n) * W::from(m) + $round * (1 << (T::BITS - 2))) >> (T::BITS - 1) {
                    high if high > W::from(T::MAX) => T::MAX,
                    high => high as T,
                },
                |n: T, m| ((W::from(n) * W::from(m) + $round * (1 << (T::BITS - 2))) >> (T::BITS - 1)) as T,
            ))
        };
    }
    match op {
        Binary::Sqdmulh => product!(0),
        Binary::Sqrdmulh => product!(1),
        Binary::Sqrdmlah => accumulate!(+),
        _ => accumulate!(-),
    }
}

/// The polynomial product of two bytes over {0, 1}.
fn poly_mul(n: u8, m: u8) -> u16 {
    (0..8).fold(0, |r, bit| r ^ if m >> bit & 1 != 0 { u16::from(n) << bit } else { 0 })
}

pub(super) fn bitwise(op: Bitwise) -> Handler {
    match op {
        Bitwise::And => whole(|_, n, m| n & m),
        Bitwise::Bic => whole(|_, n, m| n & !m),
        Bitwise::Orr => whole(|_, n, m| n | m),
        Bitwise::Orn => whole(|_, n, m| n | !m),
        Bitwise::Eor => whole(|_, n, m| n ^ m),
        Bitwise::Bsl => whole(|d, n, m| m ^ (m ^ n) & d),
        Bitwise::Bit => whole(|d, n, m| d ^ (d ^ n) & m),
        Bitwise::Bif => whole(|d, n, m| d ^ (d ^ n) & !m),
    }
}

pub(super) fn pairwise_long(op: PairLong, size: u8) -> Handler {
    match (op.signed, op.accumulate) {
        (true, false) => by_size!(size, signed T, W => pair_long::<T, W, _>(|_, a, b| a + b)),
        (true, true) => by_size!(size, signed T, W => pair_long::<T, W, _>(|d, a, b| d.wrapping_add(a + b))),
        (false, false) => by_size!(size, unsigned T, W => pair_long::<T, W, _>(|_, a, b| a + b)),
        (false, true) => {
            by_size!(size, unsigned T, W => pair_long::<T, W, _>(|d, a, b| d.wrapping_add(a + b)))
        }
    }
}

/// Twice the product of signed halfwords or words, saturated, then what the closure makes of it and the destination.
macro_rules! doubling {
    ($size:expr, |$e:ident, $d:ident, $product:ident| $result:expr) => {
        by_size!(@@ $size, [1 i16, i32; i32, i64], T, W => widen_env::<T, W, _>(|$e, $d, n, m| {
            let $product = W::saturate($e, 2 * n.wide() * m.wide());
            $result
        }))
    };
}

/// `size` is that of the narrow elements.
pub(super) fn long(op: Long, size: u8) -> Handler {
    use Long::*;
    match op {
        Saddl => by_size!(size, signed T, W => widen::<T, W, _>(|_, n, m| n + m)),
        Uaddl => by_size!(size, unsigned T, W => widen::<T, W, _>(|_, n, m| n + m)),
        Saddw => by_size!(size, signed T, W => widen_second::<T, W, _>(|n, m| n.wrapping_add(m))),
        Uaddw => by_size!(size, unsigned T, W => widen_second::<T, W, _>(|n, m| n.wrapping_add(m))),
        Ssubl => by_size!(size, signed T, W => widen::<T, W, _>(|_, n, m| n - m)),
        Usubl => by_size!(size, unsigned T, W => widen::<T, W, _>(|_, n, m| n.wrapping_sub(m))),
        Ssubw => by_size!(size, signed T, W => widen_second::<T, W, _>(|n, m| n.wrapping_sub(m))),
        Usubw => by_size!(size, unsigned T, W => widen_second::<T, W, _>(|n, m| n.wrapping_sub(m))),
        Addhn => {
            by_size!(size, unsigned T, W => narrow2::<W, T, _>(|n, m| (n.wrapping_add(m) >> T::BITS) as T))
        }
        Raddhn => by_size!(size, unsigned T, W => narrow2::<W, T, _>(|n, m| {
            (n.wrapping_add(m).wrapping_add(1 << (T::BITS - 1)) >> T::BITS) as T
        })),
        Subhn => {
            by_size!(size, unsigned T, W => narrow2::<W, T, _>(|n, m| (n.wrapping_sub(m) >> T::BITS) as T))
        }
        Rsubhn => by_size!(size, unsigned T, W => narrow2::<W, T, _>(|n, m| {
            (n.wrapping_sub(m).wrapping_add(1 << (T::BITS - 1)) >> T::BITS) as T
        })),
        Sabal => by_size!(size, signed T, W => widen::<T, W, _>(|d, n, m| d.wrapping_add((n - m).abs()))),
        Uabal => {
            by_size!(size, unsigned T, W => widen::<T, W, _>(|d, n, m| d.wrapping_add(n.abs_diff(m))))
        }
        Sabdl => by_size!(size, signed T, W => widen::<T, W, _>(|_, n, m| (n - m).abs())),
        Uabdl => by_size!(size, unsigned T, W => widen::<T, W, _>(|_, n, m| n.abs_diff(m))),
        Smlal => by_size!(size, signed T, W => widen::<T, W, _>(|d, n, m| d.wrapping_add(n * m))),
        Umlal => by_size!(size, unsigned T, W => widen::<T, W, _>(|d, n, m| d.wrapping_add(n * m))),
        Smlsl => by_size!(size, signed T, W => widen::<T, W, _>(|d, n, m| d.wrapping_sub(n * m))),
        Umlsl => by_size!(size, unsigned T, W => widen::<T, W, _>(|d, n, m| d.wrapping_sub(n * m))),
        Smull => by_size!(size, signed T, W => widen::<T, W, _>(|_, n, m| n * m)),
        Umull => by_size!(size, unsigned T, W => widen::<T, W, _>(|_, n, m| n * m)),
        Sqdmull => doubling!(size, |_e, _d, product| product),
        Sqdmlal => {
            doubling!(size, |e, d, product| d.saturating_add(product).noting(e, d.wrapping_add(product)))
        }
        Sqdmlsl => {
            doubling!(size, |e, d, product| d.saturating_sub(product).noting(e, d.wrapping_sub(product)))
        }
        Pmull if size == 0 => pmull_bytes(),
        Pmull => super::crypto::pmull(),
    }
}

/// Whether the operation gives narrow elements.
pub(super) fn narrows(op: Long) -> bool {
    matches!(op, Long::Addhn | Long::Raddhn | Long::Subhn | Long::Rsubhn)
}

fn pmull_bytes() -> Handler {
    widen::<u8, u16, _>(|_, n, m| poly_mul(n as u8, m as u8))
}

pub(super) fn narrow(op: Narrow, size: u8) -> Handler {
    match op {
        Narrow::Xtn => by_size!(size, unsigned T, W => narrow1::<W, T, _>(|n, _| n as T)),
        Narrow::Sqxtn => {
            by_size!(size, signed T, W => narrow_env::<W, T, _>(|e, n, _| T::saturate(e, n.wide())))
        }
        Narrow::Uqxtn => {
            by_size!(size, unsigned T, W => narrow_env::<W, T, _>(|e, n, _| T::saturate(e, n.wide())))
        }
        Narrow::Sqxtun => match size {
            0 => narrow_env::<i16, u8, _>(|e, n, _| u8::saturate(e, n.wide())),
            1 => narrow_env::<i32, u16, _>(|e, n, _| u16::saturate(e, n.wide())),
            _ => narrow_env::<i64, u32, _>(|e, n, _| u32::saturate(e, n.wide())),
        },
    }
}

pub(super) fn reduce(op: Across, size: u8) -> Handler {
    match op {
        Across::Addv => by_size!(size, unsigned T => across::<T, T, _>(|a, b| a.wrapping_add(b))),
        Across::Saddlv => by_size!(size, signed T, W => across::<T, W, _>(|a, b| a.wrapping_add(b))),
        Across::Uaddlv => by_size!(size, unsigned T, W => across::<T, W, _>(|a, b| a.wrapping_add(b))),
        Across::Smaxv => by_size!(size, signed T => across::<T, T, _>(|a, b| a.max(b))),
        Across::Umaxv => by_size!(size, unsigned T => across::<T, T, _>(|a, b| a.max(b))),
        Across::Sminv => by_size!(size, signed T => across::<T, T, _>(|a, b| a.min(b))),
        Across::Uminv => by_size!(size, unsigned T => across::<T, T, _>(|a, b| a.min(b))),
    }
}

/// SDOT and UDOT.
pub(super) fn dot(signed: bool) -> Handler {
    /// The sum of the products of four bytes each.
    #[inline(always)]
    fn products(d: u32, n: u32, m: u32, extend: impl Fn(u8) -> i32) -> u32 {
        let pairs = n.to_le_bytes().into_iter().zip(m.to_le_bytes());
        pairs.fold(d, |sum, (n, m)| sum.wrapping_add((extend(n) * extend(m)) as u32))
    }
    match signed {
        true => map3(|d: u32, n, m| products(d, n, m, |byte| (byte as i8).into())),
        false => map3(|d: u32, n, m| products(d, n, m, i32::from)),
    }
}
