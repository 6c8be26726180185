//! Permutations, table lookups, EXT and modified immediates.

use super::lanes::{Lane, get, lanes, pair2, put, put_lanes, set, set_lanes};
use crate::cpu::{Cpu, Trap};
use crate::decode::simd::{ImmediateOp, Permute};
use crate::interp::op::{Handler, Operands, fallible};

/// A permutation of the lanes of both operands: `source` gives an index into one after the other, for each lane of so
/// many in all.
#[inline(always)]
fn gather<T: Lane>(cpu: &mut Cpu, o: Operands, source: impl Fn(usize, usize) -> usize) -> Result<(), Trap> {
    #[inline(always)]
    fn pick<T: Lane>(n: &[T], m: &[T], count: usize, source: impl Fn(usize, usize) -> usize) -> T::Array {
        let mut r = T::Array::default();
        for (i, r) in r.as_mut().iter_mut().enumerate().take(count) {
            let at = source(i, count);
            *r = if at < count { n[at] } else { m[at - count] };
        }
        r
    }
    cpu.fp_check()?;
    let (n, m) = (lanes::<T>(cpu, o.n), lanes::<T>(cpu, o.m));
    let r = match o.a {
        4 => pick(n.as_ref(), m.as_ref(), T::COUNT, source),
        _ => pick(n.as_ref(), m.as_ref(), T::COUNT / 2, source),
    };
    set_lanes::<T>(cpu, o.d, r);
    Ok(())
}

/// ZIP, UZP and TRN.
pub(super) fn permute(op: Permute, size: u8) -> Handler {
    macro_rules! by_source {
        ($source:expr) => {
            by_size!(size, unsigned T => fallible(|cpu, o| gather::<T>(cpu, o, $source)))
        };
    }
    match op {
        Permute::Uzp1 => by_size!(size, unsigned T => pair2(|even: T, _| even)),
        Permute::Uzp2 => by_size!(size, unsigned T => pair2(|_, odd: T| odd)),
        Permute::Trn1 => by_source!(|i, lanes| (i & !1) + (i & 1) * lanes),
        Permute::Trn2 => by_source!(|i, lanes| (i | 1) + (i & 1) * lanes),
        Permute::Zip1 => by_source!(|i, lanes| i / 2 + (i & 1) * lanes),
        Permute::Zip2 => by_source!(|i, lanes| (i + lanes) / 2 + (i & 1) * lanes),
    }
}

/// TBL, and with `KEEP` TBX, of `COUNT` registers from `n` on.
fn table<const COUNT: u8, const KEEP: bool>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    cpu.fp_check()?;
    let mut bytes = [0; 64];
    for (index, chunk) in bytes.chunks_exact_mut(16).take(COUNT.into()).enumerate() {
        chunk.copy_from_slice(&lanes::<u8>(cpu, o.n.wrapping_add(index as u8)));
    }
    let mut r = lanes::<u8>(cpu, o.d);
    let indices = lanes::<u8>(cpu, o.m);
    for (r, index) in r.iter_mut().zip(indices) {
        if index < 16 * COUNT {
            *r = bytes[usize::from(index & 63)];
        } else if !KEEP {
            *r = 0;
        }
    }
    put_lanes::<u8>(cpu, o, r);
    Ok(())
}

pub(super) fn lookup(count: u8, keep: bool) -> Handler {
    match (count, keep) {
        (1, false) => fallible(table::<1, false>),
        (2, false) => fallible(table::<2, false>),
        (3, false) => fallible(table::<3, false>),
        (_, false) => fallible(table::<4, false>),
        (1, true) => fallible(table::<1, true>),
        (2, true) => fallible(table::<2, true>),
        (3, true) => fallible(table::<3, true>),
        (_, true) => fallible(table::<4, true>),
    }
}

/// EXT; `imm` counts bits.
pub(super) fn extract(full: bool) -> Handler {
    if full { fallible(extract_full) } else { fallible(extract_half) }
}

/// EXT of full vectors.
fn extract_full(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    cpu.fp_check()?;
    let (n, m) = (get(cpu, o.n), get(cpu, o.m));
    set(cpu, o.d, n >> (o.imm & 127) | m.checked_shl(128 - (o.imm & 127)).unwrap_or(0));
    Ok(())
}

/// EXT of half vectors.
fn extract_half(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    cpu.fp_check()?;
    let both = get(cpu, o.n) & u128::from(u64::MAX) | get(cpu, o.m) << 64;
    put(cpu, o, both >> (o.imm & 127));
    Ok(())
}

/// A word in all places.
fn twice(imm: u32) -> u128 {
    u128::from(imm) * 0x0000_0001_0000_0001_0000_0001_0000_0001
}

/// A word at the top of each half.
fn top(imm: u32) -> u128 {
    u128::from(imm) << 32 | u128::from(imm) << 96
}

/// A word at the bottom of each half.
fn bottom(imm: u32) -> u128 {
    u128::from(imm) | u128::from(imm) << 64
}

/// A byte of ones for each bit set, in each half.
fn byte_mask(imm: u32) -> u128 {
    let half: u128 = (0..8).filter(|bit| imm >> bit & 1 != 0).map(|bit| 0xff << (8 * bit)).sum();
    half | half << 64
}

/// A handler that combines the destination and the immediate.
fn modify<E: Fn(u32) -> u128 + Copy + 'static, F: Fn(u128, u128) -> u128 + Copy + 'static>(
    expand: E,
    f: F,
) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let result = f(get(cpu, o.d), expand(o.imm));
        put(cpu, o, result);
        Ok(())
    })
}

/// The handler of a modified immediate, and its `imm`: the 64 bits have one of few forms, which 32 bits can describe.
pub(super) fn immediate(op: ImmediateOp, value: u64) -> (Handler, u32) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    match op {
        ImmediateOp::Orr => (modify(twice, |d, imm| d | imm), low),
        ImmediateOp::Bic => (modify(twice, |d, imm| d & !imm), low),
        ImmediateOp::Move if low == high => (modify(twice, |_, imm| imm), low),
        ImmediateOp::Move if low == 0 => (modify(top, |_, imm| imm), high),
        ImmediateOp::Move if high == 0 => (modify(bottom, |_, imm| imm), low),
        ImmediateOp::Move => {
            let mask = (0..8).filter(|byte| value >> (8 * byte) & 1 != 0).map(|byte| 1 << byte).sum();
            (modify(byte_mask, |_, imm| imm), mask)
        }
    }
}
