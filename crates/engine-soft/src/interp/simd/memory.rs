//! Structure loads and stores (Arm ARM C3.2.14).
//!
//! Memory moves in the largest units that the registers have, and is (de)interleaved in registers: an array of four
//! vectors holds it in memory order. Only where alignment is checked, accesses are element by element as the
//! architecture has them.
//!
//! Operands: `d` is the first vector register, `n` the base; `imm` plus the general register `m` is what the base
//! grows by, nothing when there is no write-back.

use super::lanes::{Lane, get, lane, set, splat, with_lane};
use crate::cpu::{Cpu, SP, Trap, Unit};
use crate::interp::op::{Handler, Operands, fallible};

/// An element in registers and in memory.
trait Element: Lane + Unit {}
impl<T: Lane + Unit> Element for T {}

/// Up to four vectors in memory order.
type Buffer = [u128; 4];

/// In `a` of the operands of multiple structures and of replication: full vectors.
const FULL: u8 = 8;

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
    for unit in 0..bytes / U::BYTES {
        let value = cpu.load::<U>(va.wrapping_add((unit * U::BYTES) as u64))?;
        let vector = &mut buffer[unit / U::COUNT & 3];
        *vector = with_lane(*vector, unit, value);
    }
    Ok(buffer)
}

fn store_units<U: Element>(cpu: &mut Cpu, va: u64, bytes: usize, buffer: &Buffer) -> Result<(), Trap> {
    for unit in 0..bytes / U::BYTES {
        let value = lane::<U>(buffer[unit / U::COUNT & 3], unit);
        cpu.store(va.wrapping_add((unit * U::BYTES) as u64), value)?;
    }
    Ok(())
}

/// Where registers and lanes are in memory: `(vector, lane)` of the buffer.
#[inline(always)]
fn place<T: Lane>(register: usize, element: usize, structure: usize) -> (usize, usize) {
    let at = element * structure + register;
    (at / T::COUNT & 3, at & (T::COUNT - 1))
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
        let value = match (S, full) {
            (1, true) => buffer[register & 3],
            (1, false) => lane::<u64>(buffer[register / 2 & 3], register).into(),
            _ => {
                let mut lanes = T::Array::default();
                for (element, value) in lanes.as_mut().iter_mut().enumerate().take(width / T::BYTES) {
                    let (vector, at) = place::<T>(register, element, S);
                    *value = lane(buffer[vector], at);
                }
                T::join(lanes)
            }
        };
        set(cpu, o.d.wrapping_add(register as u8), value);
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
        let value = get(cpu, o.d.wrapping_add(register as u8));
        match (S, full) {
            (1, true) => buffer[register & 3] = value,
            (1, false) => {
                let vector = &mut buffer[register / 2 & 3];
                *vector = with_lane(*vector, register, value as u64);
            }
            _ => {
                for (element, &value) in T::split(value).as_ref().iter().enumerate().take(width / T::BYTES) {
                    let (vector, at) = place::<T>(register, element, S);
                    buffer[vector] = with_lane(buffer[vector], at, value);
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

pub(super) fn multiple(load: bool, size: u8, elements: u8) -> Handler {
    macro_rules! by_elements {
        ($handler:ident) => {
            match elements {
                1 => by_size!(size, unsigned T => fallible($handler::<T, 1>)),
                2 => by_size!(size, unsigned T => fallible($handler::<T, 2>)),
                3 => by_size!(size, unsigned T => fallible($handler::<T, 3>)),
                _ => by_size!(size, unsigned T => fallible($handler::<T, 4>)),
            }
        };
    }
    if load { by_elements!(load_multiple) } else { by_elements!(store_multiple) }
}

/// The `a` of [`multiple`] and [`replicate`].
pub(super) fn registers(count: u8, full: bool) -> u8 {
    count | if full { FULL } else { 0 }
}

/// The `a` of [`single`].
pub(super) fn element(count: u8, index: u8) -> u8 {
    count | index << 3
}

/// A structure of up to four elements.
fn load_structure<T: Element>(cpu: &mut Cpu, base: u64, elements: usize) -> Result<[T; 4], Trap> {
    let mut values = [T::default(); 4];
    for (i, value) in values.iter_mut().enumerate().take(elements) {
        *value = cpu.load(base.wrapping_add((i * T::BYTES) as u64))?;
    }
    Ok(values)
}

/// One element of each of `a & 7` registers, element `a >> 3`.
fn load_single<T: Element>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let base = begin(cpu, o)?;
    let (elements, index) = (usize::from(o.a & 7), usize::from(o.a >> 3));
    let values = load_structure::<T>(cpu, base, elements)?;
    for (register, value) in (o.d..).zip(values).take(elements) {
        set(cpu, register, with_lane(get(cpu, register), index, value));
    }
    write_back(cpu, o, base);
    Ok(())
}

fn store_single<T: Element>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let base = begin(cpu, o)?;
    let (elements, index) = (usize::from(o.a & 7), usize::from(o.a >> 3));
    if elements > 1 {
        cpu.check_write(base, (elements * T::BYTES) as u64)?;
    }
    for (i, register) in (o.d..).enumerate().take(elements) {
        let value = lane::<T>(get(cpu, register), index);
        cpu.store(base.wrapping_add((i * T::BYTES) as u64), value)?;
    }
    write_back(cpu, o, base);
    Ok(())
}

pub(super) fn single(load: bool, size: u8) -> Handler {
    match load {
        true => by_size!(size, unsigned T => fallible(load_single::<T>)),
        false => by_size!(size, unsigned T => fallible(store_single::<T>)),
    }
}

/// LD1R to LD4R.
fn load_replicate<T: Element>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    let base = begin(cpu, o)?;
    let elements = usize::from(o.a & 7);
    let mask = if o.a & FULL != 0 { u128::MAX } else { u64::MAX.into() };
    let values = load_structure::<T>(cpu, base, elements)?;
    for (register, value) in (o.d..).zip(values).take(elements) {
        set(cpu, register, splat(value) & mask);
    }
    write_back(cpu, o, base);
    Ok(())
}

pub(super) fn replicate(size: u8) -> Handler {
    by_size!(size, unsigned T => fallible(load_replicate::<T>))
}
