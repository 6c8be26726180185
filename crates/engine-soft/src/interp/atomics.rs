//! Exclusives and single-instruction atomics (Arm ARM C3.2.7, C3.2.12 to C3.2.15). All of them are sequentially
//! consistent here, which is what the hosts' compare-exchange gives and at least what every variant asks for.

use super::{loadstore::check_base, op::Operands};
use crate::cpu::{Cpu, Trap, Unit};

/// A memory type that a general register holds.
pub(super) trait Element: Unit {
    /// Two of them, as one memory access has them.
    type Pair: Unit;
    /// The low bits of a register.
    fn cut(value: u64) -> Self;
    /// Zero-extended.
    fn wide(self) -> u64;
    /// `self + other`, wrapping.
    fn add(self, other: Self) -> Self;
    /// `self & !other`.
    fn clear(self, other: Self) -> Self;
    /// `self ^ other`.
    fn eor(self, other: Self) -> Self;
    /// `self | other`.
    fn set(self, other: Self) -> Self;
    /// The greater, signed.
    fn signed_max(self, other: Self) -> Self;
    /// The lesser, signed.
    fn signed_min(self, other: Self) -> Self;
    /// The greater, unsigned.
    fn unsigned_max(self, other: Self) -> Self;
    /// The lesser, unsigned.
    fn unsigned_min(self, other: Self) -> Self;
}

macro_rules! element {
    ($($u:ty, $i:ty, $pair:ty;)*) => { $(
        impl Element for $u {
            type Pair = $pair;
            #[inline(always)]
            fn cut(value: u64) -> Self {
                value as $u
            }
            #[inline(always)]
            fn wide(self) -> u64 {
                u64::from(self)
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn clear(self, other: Self) -> Self {
                self & !other
            }
            #[inline(always)]
            fn eor(self, other: Self) -> Self {
                self ^ other
            }
            #[inline(always)]
            fn set(self, other: Self) -> Self {
                self | other
            }
            #[inline(always)]
            fn signed_max(self, other: Self) -> Self {
                (self as $i).max(other as $i) as $u
            }
            #[inline(always)]
            fn signed_min(self, other: Self) -> Self {
                (self as $i).min(other as $i) as $u
            }
            #[inline(always)]
            fn unsigned_max(self, other: Self) -> Self {
                self.max(other)
            }
            #[inline(always)]
            fn unsigned_min(self, other: Self) -> Self {
                self.min(other)
            }
        }
    )* };
}

element! {
    u8, i8, u16;
    u16, i16, u32;
    u32, i32, u64;
    u64, i64, u128;
}

/// Two registers as one memory access.
#[inline(always)]
fn join<T: Element>(low: u64, high: u64) -> T::Pair {
    T::Pair::truncate(T::cut(low).widen() | T::cut(high).widen() << (8 * T::SIZE))
}

/// The registers of one memory access.
#[inline(always)]
fn split<T: Element>(pair: T::Pair) -> (u64, u64) {
    let pair = pair.widen();
    (T::truncate(pair).wide(), T::truncate(pair >> (8 * T::SIZE)).wide())
}

#[inline(always)]
fn base(cpu: &mut Cpu, o: Operands) -> Result<u64, Trap> {
    check_base(cpu, o)?;
    Ok(cpu.r(o.n))
}

/// LDXR, LDAXR.
pub(super) fn load_exclusive<T: Element>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let va = base(cpu, o)?;
    let value: T = cpu.load_exclusive(va)?;
    cpu.w(o.d, value.wide());
    Ok(())
}

/// LDXP, LDAXP; the second register is `m`.
pub(super) fn load_exclusive_pair<T: Element>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let va = base(cpu, o)?;
    let (low, high) = split::<T>(cpu.load_exclusive(va)?);
    cpu.w(o.d, low);
    cpu.w(o.m, high);
    Ok(())
}

/// STXR, STLXR; `a` takes the status.
pub(super) fn store_exclusive<T: Element>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let va = base(cpu, o)?;
    let stored = cpu.store_exclusive(va, T::cut(cpu.r(o.d)))?;
    cpu.w(o.a, u64::from(!stored));
    Ok(())
}

/// STXP, STLXP; the second register is `m`, `a` takes the status.
pub(super) fn store_exclusive_pair<T: Element>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let va = base(cpu, o)?;
    let stored = cpu.store_exclusive(va, join::<T>(cpu.r(o.d), cpu.r(o.m)))?;
    cpu.w(o.a, u64::from(!stored));
    Ok(())
}

/// CAS and siblings: register `m` is compared, `a` takes the old value, `d` is the new one.
pub(super) fn compare_swap<T: Element>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let va = base(cpu, o)?;
    let old = cpu.cas(va, T::cut(cpu.r(o.m)), T::cut(cpu.r(o.d)))?;
    cpu.w(o.a, old.wide());
    Ok(())
}

/// CASP and siblings: the pair at `m` is compared, the pair at `d` is the new one. The upper halves are named by
/// `imm`: compared, replaced, new, a byte each.
pub(super) fn compare_swap_pair<T: Element>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let va = base(cpu, o)?;
    let [compared, replaced, new, _] = o.imm.to_le_bytes();
    let expected = join::<T>(cpu.r(o.m), cpu.r(compared));
    let wanted = join::<T>(cpu.r(o.d), cpu.r(new));
    let (low, high) = split::<T>(cpu.cas(va, expected, wanted)?);
    cpu.w(o.a, low);
    cpu.w(replaced, high);
    Ok(())
}

/// Declares the handler of one operation: register `m` is the operand, `d` takes the old value.
macro_rules! atomic {
    ($($(#[$doc:meta])* $name:ident, $old:ident, $operand:ident => $new:expr;)*) => { $(
        $(#[$doc])*
        pub(super) fn $name<T: Element>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
            let va = base(cpu, o)?;
            let $operand = T::cut(cpu.r(o.m));
            let old: T = cpu.rmw(va, |$old: T| $new)?;
            cpu.w(o.d, old.wide());
            Ok(())
        }
    )* };
}

atomic! {
    /// LDADD and siblings.
    add, old, operand => old.add(operand);
    /// LDCLR and siblings.
    clear, old, operand => old.clear(operand);
    /// LDEOR and siblings.
    eor, old, operand => old.eor(operand);
    /// LDSET and siblings.
    set, old, operand => old.set(operand);
    /// LDSMAX and siblings.
    signed_max, old, operand => old.signed_max(operand);
    /// LDSMIN and siblings.
    signed_min, old, operand => old.signed_min(operand);
    /// LDUMAX and siblings.
    unsigned_max, old, operand => old.unsigned_max(operand);
    /// LDUMIN and siblings.
    unsigned_min, old, operand => old.unsigned_min(operand);
    /// SWP and siblings.
    swap, _old, operand => operand;
}
