//! Structure loads and stores (Arm ARM C3.2.14).
//!
//! Memory moves in the largest units that the registers have, and is (de)interleaved in registers: an array of four
//! vectors holds it in memory order. Only where alignment is checked, accesses are element by element as the
//! architecture has them.
//!
//! Operands: `d` is the first vector register, `n` the base; `imm` plus the general register `m` is what the base
//! grows by, nothing when there is no write-back.

use super::lanes::{Lane, get, lane, lanes, put_lanes, set, set_lane, set_lanes, set_scalar, splat};
use crate::cpu::{Cpu, PAGE, SP, Trap, Unit};
use crate::decode::simd::Structure;
use crate::interp::op::{Handler, Operands, fallible, quick};

/// An element in registers and in memory.
trait Element: Lane + Unit {}
impl<T: Lane + Unit> Element for T {}

/// Up to four vectors in memory order.
type Buffer = [u128; 4];

/// In `a` of the operands of multiple structures and of replication: full vectors.
const FULL: u8 = 8;
/// Where the size of elements is in `a` of the operands of multiple structures.
const SIZE: u8 = 4;

/// The checks that come before any access, and the base address.
#[inline(always)]
fn begin(cpu: &mut Cpu, o: Operands) -> Result<u64, Trap> {
    cpu.fp_check()?;
    if o.n == SP {
        cpu.sp_check()?;
    }
    Ok(cpu.r(o.n))
}

/// Adds to the base.
#[inline(always)]
fn write_back(cpu: &mut Cpu, o: Operands, base: u64) {
    let value = base.wrapping_add(o.imm.into()).wrapping_add(cpu.r(o.m));
    cpu.w(o.n, value);
}

fn load_units<U: Element>(cpu: &mut Cpu, va: u64, bytes: usize) -> Result<Buffer, Trap> {
    let mut buffer = Buffer::default();
    for (unit, value) in U::of_quad_mut(&mut buffer).as_mut().iter_mut().enumerate().take(bytes / U::BYTES) {
        *value = cpu.load::<U>(va.wrapping_add((unit * U::BYTES) as u64))?;
    }
    Ok(buffer)
}

fn store_units<U: Element>(cpu: &mut Cpu, va: u64, bytes: usize, buffer: &Buffer) -> Result<(), Trap> {
    for (unit, &value) in U::of_quad(buffer).as_ref().iter().enumerate().take(bytes / U::BYTES) {
        cpu.store(va.wrapping_add((unit * U::BYTES) as u64), value)?;
    }
    Ok(())
}

/// LD1 to LD4 of `a` registers in structures of `S` elements; structures of one element are consecutive registers.
fn load_multiple<T: Element, const S: usize>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let base = begin(cpu, o)?;
    let (registers, full) = (usize::from(o.a & 7), o.a & FULL != 0);
    let width = if full { 16 } else { 8 };
    let buffer = match full {
        _ if cpu.regime.checks_alignment => load_units::<T>(cpu, base, width * registers)?,
        true => load_units::<u128>(cpu, base, width * registers)?,
        false => load_units::<u64>(cpu, base, width * registers)?,
    };
    for register in 0..registers {
        let register_index = o.d.wrapping_add(register as u8);
        if S == 1 {
            let value = match full {
                true => buffer[register & 3],
                false => u64::of_quad(&buffer)[register].into(),
            };
            set(cpu, register_index, value);
            continue;
        }
        let mut lanes = T::Array::default();
        let source = T::of_quad(&buffer).as_ref().chunks_exact(S);
        for (value, structure) in lanes.as_mut().iter_mut().zip(source).take(width / T::BYTES) {
            *value = structure[register];
        }
        set_lanes::<T>(cpu, register_index, lanes);
    }
    write_back(cpu, o, base);
    Ok(())
}

/// The base address if there are no checks to fail.
#[inline(always)]
fn quick_begin(cpu: &Cpu, o: Operands) -> Option<u64> {
    (cpu.fp_enabled && (o.n != SP || cpu.sp_is_aligned())).then(|| cpu.r(o.n))
}

/// `N` adjacent units, if all of them are at hand.
#[inline(always)]
fn quick_units<U: Element, const N: usize>(cpu: &Cpu, base: u64) -> Option<[U; N]> {
    let mut values = [U::default(); N];
    for (i, value) in values.iter_mut().enumerate() {
        *value = cpu.load_hit(base.wrapping_add((i * U::BYTES) as u64))?;
    }
    Some(values)
}

/// The fast path of [`load_consecutive`].
fn quick_load_consecutive<U: Element, const R: usize>(cpu: &mut Cpu, o: Operands) -> bool {
    let Some(base) = quick_begin(cpu, o) else { return false };
    let Some(values) = quick_units::<U, R>(cpu, base) else { return false };
    for (i, value) in values.into_iter().enumerate() {
        set_scalar(cpu, o.d.wrapping_add(i as u8), value);
    }
    write_back(cpu, o, base);
    true
}

/// The fast path of [`store_consecutive`].
fn quick_store_consecutive<U: Element, const R: usize>(cpu: &mut Cpu, o: Operands) -> bool {
    let Some(base) = quick_begin(cpu, o) else { return false };
    // Within a page, all of them hit or none.
    if base % PAGE > PAGE - (R * U::BYTES) as u64 {
        return false;
    }
    for i in 0..R {
        let value = lane::<U>(cpu, o.d.wrapping_add(i as u8), 0);
        if !cpu.store_hit(base.wrapping_add((i * U::BYTES) as u64), value) {
            return false;
        }
    }
    write_back(cpu, o, base);
    true
}

/// LD1 of `R` registers in units of their width.
fn load_consecutive<U: Element, const R: usize>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    if cpu.regime.checks_alignment {
        return by_size!(o.a >> SIZE, unsigned T => load_multiple::<T, 1>(cpu, o));
    }
    let base = begin(cpu, o)?;
    let mut values = [U::default(); R];
    for (i, value) in values.iter_mut().enumerate() {
        *value = cpu.load(base.wrapping_add((i * U::BYTES) as u64))?;
    }
    for (i, value) in values.into_iter().enumerate() {
        set_scalar(cpu, o.d.wrapping_add(i as u8), value);
    }
    write_back(cpu, o, base);
    Ok(())
}

/// ST1, likewise.
fn store_consecutive<U: Element, const R: usize>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    if cpu.regime.checks_alignment {
        return by_size!(o.a >> SIZE, unsigned T => store_multiple::<T, 1>(cpu, o));
    }
    let base = begin(cpu, o)?;
    if R > 1 {
        cpu.check_write(base, (R * U::BYTES) as u64)?;
    }
    for i in 0..R {
        let value = lane::<U>(cpu, o.d.wrapping_add(i as u8), 0);
        cpu.store(base.wrapping_add((i * U::BYTES) as u64), value)?;
    }
    write_back(cpu, o, base);
    Ok(())
}

/// ST1 to ST4, likewise.
fn store_multiple<T: Element, const S: usize>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let base = begin(cpu, o)?;
    let (registers, full) = (usize::from(o.a & 7), o.a & FULL != 0);
    let width = if full { 16 } else { 8 };
    let mut buffer = Buffer::default();
    for register in 0..registers {
        let index = o.d.wrapping_add(register as u8);
        match (S, full) {
            (1, true) => buffer[register & 3] = get(cpu, index),
            (1, false) => u64::of_quad_mut(&mut buffer)[register] = lane(cpu, index, 0),
            _ => {
                let lanes = lanes::<T>(cpu, index);
                let target = T::of_quad_mut(&mut buffer).as_mut().chunks_exact_mut(S);
                for (&value, structure) in lanes.as_ref().iter().zip(target).take(width / T::BYTES) {
                    structure[register] = value;
                }
            }
        }
    }
    let bytes = width * registers;
    cpu.check_write(base, bytes as u64)?;
    match full {
        _ if cpu.regime.checks_alignment => store_units::<T>(cpu, base, bytes, &buffer)?,
        true => store_units::<u128>(cpu, base, bytes, &buffer)?,
        false => store_units::<u64>(cpu, base, bytes, &buffer)?,
    }
    write_back(cpu, o, base);
    Ok(())
}

pub(super) fn multiple(how: Structure, full: bool, registers: u8) -> Handler {
    macro_rules! by_registers {
        ($quick:ident, $handler:ident, $unit:ty) => {
            match registers {
                1 => quick($quick::<$unit, 1>, $handler::<$unit, 1>),
                2 => quick($quick::<$unit, 2>, $handler::<$unit, 2>),
                3 => quick($quick::<$unit, 3>, $handler::<$unit, 3>),
                _ => quick($quick::<$unit, 4>, $handler::<$unit, 4>),
            }
        };
    }
    macro_rules! by_elements {
        ($handler:ident) => {
            match how.elements {
                2 => by_size!(how.size, unsigned T => fallible($handler::<T, 2>)),
                3 => by_size!(how.size, unsigned T => fallible($handler::<T, 3>)),
                _ => by_size!(how.size, unsigned T => fallible($handler::<T, 4>)),
            }
        };
    }
    match (how.elements, how.load, full) {
        (1, true, true) => by_registers!(quick_load_consecutive, load_consecutive, u128),
        (1, true, false) => by_registers!(quick_load_consecutive, load_consecutive, u64),
        (1, false, true) => by_registers!(quick_store_consecutive, store_consecutive, u128),
        (1, false, false) => by_registers!(quick_store_consecutive, store_consecutive, u64),
        (_, true, _) => by_elements!(load_multiple),
        (_, false, _) => by_elements!(store_multiple),
    }
}

/// The `a` of [`multiple`].
pub(super) fn registers(how: Structure, full: bool, count: u8) -> u8 {
    count | if full { FULL } else { 0 } | how.size << SIZE
}

/// A structure of `E` elements.
#[inline(always)]
fn load_structure<T: Element, const E: usize>(cpu: &mut Cpu, base: u64) -> Result<[T; E], Trap> {
    let mut values = [T::default(); E];
    for (i, value) in values.iter_mut().enumerate() {
        *value = cpu.load(base.wrapping_add((i * T::BYTES) as u64))?;
    }
    Ok(values)
}

/// Element `a` of each of `E` registers.
fn load_single<T: Element, const E: usize>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let base = begin(cpu, o)?;
    let values = load_structure::<T, E>(cpu, base)?;
    for (register, value) in (o.d..).zip(values) {
        set_lane(cpu, register, o.a.into(), value);
    }
    write_back(cpu, o, base);
    Ok(())
}

fn store_single<T: Element, const E: usize>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let base = begin(cpu, o)?;
    if E > 1 {
        cpu.check_write(base, (E * T::BYTES) as u64)?;
    }
    for (i, register) in (o.d..).enumerate().take(E) {
        let value = lane::<T>(cpu, register, o.a.into());
        cpu.store(base.wrapping_add((i * T::BYTES) as u64), value)?;
    }
    write_back(cpu, o, base);
    Ok(())
}

/// LD1R to LD4R; `a` is the width of the vectors.
fn load_replicate<T: Element, const E: usize>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let base = begin(cpu, o)?;
    let values = load_structure::<T, E>(cpu, base)?;
    for (register, value) in (o.d..).zip(values) {
        put_lanes::<T>(cpu, Operands { d: register, ..o }, splat(value));
    }
    write_back(cpu, o, base);
    Ok(())
}

/// The fast path of [`load_replicate`].
fn quick_load_replicate<T: Element, const E: usize>(cpu: &mut Cpu, o: Operands) -> bool {
    let Some(base) = quick_begin(cpu, o) else { return false };
    let Some(values) = quick_units::<T, E>(cpu, base) else { return false };
    for (register, value) in (o.d..).zip(values) {
        put_lanes::<T>(cpu, Operands { d: register, ..o }, splat(value));
    }
    write_back(cpu, o, base);
    true
}

/// A handler for the number and size of a structure's elements.
macro_rules! by_structure {
    ($how:expr, $handler:ident) => {
        match $how.elements {
            1 => by_size!($how.size, unsigned T => fallible($handler::<T, 1>)),
            2 => by_size!($how.size, unsigned T => fallible($handler::<T, 2>)),
            3 => by_size!($how.size, unsigned T => fallible($handler::<T, 3>)),
            _ => by_size!($how.size, unsigned T => fallible($handler::<T, 4>)),
        }
    };
}

pub(super) fn single(how: Structure) -> Handler {
    if how.load { by_structure!(how, load_single) } else { by_structure!(how, store_single) }
}

pub(super) fn replicate(how: Structure) -> Handler {
    by_size!(how.size, unsigned T => match how.elements {
        1 => quick(quick_load_replicate::<T, 1>, load_replicate::<T, 1>),
        2 => quick(quick_load_replicate::<T, 2>, load_replicate::<T, 2>),
        3 => quick(quick_load_replicate::<T, 3>, load_replicate::<T, 3>),
        _ => quick(quick_load_replicate::<T, 4>, load_replicate::<T, 4>),
    })
}
