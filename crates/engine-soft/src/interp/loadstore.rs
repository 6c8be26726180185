//! Loads and stores (Arm ARM C3.2), but for the structure loads and stores of Advanced SIMD.
//!
//! A handler is made of what moves, [`Load`] or [`Store`], and of where, [`Address`]. Base registers are written back
//! after the access, which may trap and be run again.

use std::marker::PhantomData;

use super::{
    integer::{extended, signed},
    op::Operands,
};
use crate::{
    cpu::{Cpu, SP, Trap, Unit},
    decode::Extend,
};

/// What a load does with the value that it gets.
pub(super) trait Load {
    /// What memory holds.
    type Memory: Unit;
    /// Whether the instruction needs the floating-point registers.
    const SIMD: bool;
    /// Puts the value into its register.
    fn put(value: Self::Memory, cpu: &mut Cpu, index: u8);
}

/// A load of a general register, zero-extending.
pub(super) struct Zero<T>(PhantomData<T>);
/// A load of a general register, sign-extending to 32 bits.
pub(super) struct Sign32<T>(PhantomData<T>);
/// A load of a general register, sign-extending to 64 bits.
pub(super) struct Sign64<T>(PhantomData<T>);
/// A load or store of a V register.
pub(super) struct Vector<T>(PhantomData<T>);
/// A store of a general register.
pub(super) struct General<T>(PhantomData<T>);

/// What a store takes from where.
pub(super) trait Store {
    /// What memory gets.
    type Memory: Unit;
    /// Whether the instruction needs the floating-point registers.
    const SIMD: bool;
    /// Takes the value from its register.
    fn get(cpu: &Cpu, index: u8) -> Self::Memory;
}

macro_rules! general {
    ($($u:ty, $i:ty;)*) => { $(
        impl Load for Zero<$u> {
            type Memory = $u;
            const SIMD: bool = false;
            #[inline(always)]
            fn put(value: $u, cpu: &mut Cpu, index: u8) {
                cpu.w(index, u64::from(value));
            }
        }
        impl Load for Sign32<$u> {
            type Memory = $u;
            const SIMD: bool = false;
            #[inline(always)]
            fn put(value: $u, cpu: &mut Cpu, index: u8) {
                cpu.w(index, u64::from(value as $i as i32 as u32));
            }
        }
        impl Load for Sign64<$u> {
            type Memory = $u;
            const SIMD: bool = false;
            #[inline(always)]
            fn put(value: $u, cpu: &mut Cpu, index: u8) {
                cpu.w(index, value as $i as i64 as u64);
            }
        }
        impl Store for General<$u> {
            type Memory = $u;
            const SIMD: bool = false;
            #[inline(always)]
            fn get(cpu: &Cpu, index: u8) -> $u {
                cpu.r(index) as $u
            }
        }
    )* };
}

general! {
    u8, i8;
    u16, i16;
    u32, i32;
    u64, i64;
}

impl<T: Unit> Load for Vector<T> {
    type Memory = T;
    const SIMD: bool = true;
    #[inline(always)]
    fn put(value: T, cpu: &mut Cpu, index: u8) {
        cpu.v[usize::from(index & 31)] = value.widen();
    }
}

impl<T: Unit> Store for Vector<T> {
    type Memory = T;
    const SIMD: bool = true;
    #[inline(always)]
    fn get(cpu: &Cpu, index: u8) -> T {
        T::truncate(cpu.v[usize::from(index & 31)])
    }
}

/// Where a load or store goes.
pub(super) trait Address {
    /// Whether the base register is the stack pointer, whose alignment is checked.
    const SP: bool;
    /// The address.
    fn of(cpu: &Cpu, o: Operands) -> u64;
    /// Writes the base register back, given the address.
    #[inline(always)]
    fn write_back(_: &mut Cpu, _: Operands, _: u64) {}
}

/// Register `n` plus the signed `imm`.
pub(super) struct Offset<const SP: bool>;
/// The same, and the sum is written back.
pub(super) struct PreIndex<const SP: bool>;
/// Register `n`; the sum with `imm` is written back.
pub(super) struct PostIndex<const SP: bool>;
/// Register `n` plus register `m`, extended as the [`Extend`] says and shifted left by `a`.
pub(super) struct Register<const SP: bool, const EXTEND: u8>;
/// The signed `imm` from the start of the code page.
pub(super) struct Literal;

impl<const S: bool> Address for Offset<S> {
    const SP: bool = S;
    #[inline(always)]
    fn of(cpu: &Cpu, o: Operands) -> u64 {
        cpu.r(o.n).wrapping_add(signed(o.imm))
    }
}

impl<const S: bool> Address for PreIndex<S> {
    const SP: bool = S;
    #[inline(always)]
    fn of(cpu: &Cpu, o: Operands) -> u64 {
        cpu.r(o.n).wrapping_add(signed(o.imm))
    }
    #[inline(always)]
    fn write_back(cpu: &mut Cpu, o: Operands, address: u64) {
        cpu.w(o.n, address);
    }
}

impl<const S: bool> Address for PostIndex<S> {
    const SP: bool = S;
    #[inline(always)]
    fn of(cpu: &Cpu, o: Operands) -> u64 {
        cpu.r(o.n)
    }
    #[inline(always)]
    fn write_back(cpu: &mut Cpu, o: Operands, address: u64) {
        cpu.w(o.n, address.wrapping_add(signed(o.imm)));
    }
}

impl<const S: bool, const EXTEND: u8> Address for Register<S, EXTEND> {
    const SP: bool = S;
    #[inline(always)]
    fn of(cpu: &Cpu, o: Operands) -> u64 {
        cpu.r(o.n).wrapping_add(extended::<EXTEND>(cpu.r(o.m)) << (o.a & 7))
    }
}

impl Address for Literal {
    const SP: bool = false;
    #[inline(always)]
    fn of(cpu: &Cpu, o: Operands) -> u64 {
        cpu.pc_page.wrapping_add(signed(o.imm))
    }
}

/// The checks that come before an access, then its address.
#[inline(always)]
fn address<A: Address>(cpu: &mut Cpu, o: Operands, simd: bool) -> Result<u64, Trap> {
    if simd {
        cpu.fp_check()?;
    }
    if A::SP {
        cpu.sp_check()?;
    }
    Ok(A::of(cpu, o))
}

/// As [`address`], or `None` when one of the checks fails.
#[inline(always)]
fn quick_address<A: Address>(cpu: &Cpu, o: Operands, simd: bool) -> Option<u64> {
    if simd && !cpu.fp_enabled || A::SP && !cpu.sp_is_aligned() {
        return None;
    }
    Some(A::of(cpu, o))
}

/// LDR and siblings.
pub(super) fn load<L: Load, A: Address>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let va = address::<A>(cpu, o, L::SIMD)?;
    let value = cpu.load(va)?;
    A::write_back(cpu, o, va);
    L::put(value, cpu, o.d);
    Ok(())
}

/// The fast path of [`load`].
pub(super) fn quick_load<L: Load, A: Address>(cpu: &mut Cpu, o: Operands) -> bool {
    let Some(va) = quick_address::<A>(cpu, o, L::SIMD) else { return false };
    let Some(value) = cpu.load_hit(va) else { return false };
    A::write_back(cpu, o, va);
    L::put(value, cpu, o.d);
    true
}

/// STR and siblings.
pub(super) fn store<S: Store, A: Address>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let va = address::<A>(cpu, o, S::SIMD)?;
    cpu.store(va, S::get(cpu, o.d))?;
    A::write_back(cpu, o, va);
    Ok(())
}

/// The fast path of [`store`].
pub(super) fn quick_store<S: Store, A: Address>(cpu: &mut Cpu, o: Operands) -> bool {
    let Some(va) = quick_address::<A>(cpu, o, S::SIMD) else { return false };
    let done = cpu.store_hit(va, S::get(cpu, o.d));
    if done {
        A::write_back(cpu, o, va);
    }
    done
}

/// LDP, LDPSW; the second register is `m`.
pub(super) fn load_pair<L: Load, A: Address>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let va = address::<A>(cpu, o, L::SIMD)?;
    let (first, second) = cpu.load_pair(va)?;
    A::write_back(cpu, o, va);
    L::put(first, cpu, o.d);
    L::put(second, cpu, o.m);
    Ok(())
}

/// The fast path of [`load_pair`].
pub(super) fn quick_load_pair<L: Load, A: Address>(cpu: &mut Cpu, o: Operands) -> bool {
    let Some(va) = quick_address::<A>(cpu, o, L::SIMD) else { return false };
    let Some((first, second)) = cpu.load_pair_hit(va) else { return false };
    A::write_back(cpu, o, va);
    L::put(first, cpu, o.d);
    L::put(second, cpu, o.m);
    true
}

/// STP; the second register is `m`.
pub(super) fn store_pair<S: Store, A: Address>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let va = address::<A>(cpu, o, S::SIMD)?;
    cpu.store_pair(va, (S::get(cpu, o.d), S::get(cpu, o.m)))?;
    A::write_back(cpu, o, va);
    Ok(())
}

/// The fast path of [`store_pair`].
pub(super) fn quick_store_pair<S: Store, A: Address>(cpu: &mut Cpu, o: Operands) -> bool {
    let Some(va) = quick_address::<A>(cpu, o, S::SIMD) else { return false };
    let done = cpu.store_pair_hit(va, (S::get(cpu, o.d), S::get(cpu, o.m)));
    if done {
        A::write_back(cpu, o, va);
    }
    done
}

/// Checks the stack pointer when register `n` is it.
#[inline(always)]
pub(super) fn check_base(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    if o.n == SP { cpu.sp_check() } else { Ok(()) }
}

#[inline(always)]
fn offset_address(cpu: &mut Cpu, o: Operands) -> Result<u64, Trap> {
    check_base(cpu, o)?;
    Ok(cpu.r(o.n).wrapping_add(signed(o.imm)))
}

/// LDTR and siblings.
pub(super) fn load_user<L: Load>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let va = offset_address(cpu, o)?;
    let value = cpu.load_user(va)?;
    L::put(value, cpu, o.d);
    Ok(())
}

/// STTR and siblings.
pub(super) fn store_user<S: Store>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let va = offset_address(cpu, o)?;
    cpu.store_user(va, S::get(cpu, o.d))
}

/// LDAR, LDAPR, LDAPUR and siblings.
pub(super) fn load_acquire<L: Load>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let va = offset_address(cpu, o)?;
    let value = cpu.load_acquire(va)?;
    L::put(value, cpu, o.d);
    Ok(())
}

/// STLR, STLUR and siblings.
pub(super) fn store_release<S: Store>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let va = offset_address(cpu, o)?;
    cpu.store_release(va, S::get(cpu, o.d))
}

/// The register extensions that addresses know.
pub(super) const UXTW: u8 = Extend::Uxtw as u8;
/// As [`UXTW`]; also stands for SXTX.
pub(super) const UXTX: u8 = Extend::Uxtx as u8;
/// As [`UXTW`].
pub(super) const SXTW: u8 = Extend::Sxtw as u8;
