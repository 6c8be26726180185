//! Moves of elements, between vectors and to and from general registers.

use super::lanes::{Lane, lane, put_lanes, set_lane, set_scalar, splat};
use crate::cpu::{Cpu, Trap};
use crate::interp::op::{Handler, Operands, fallible};

/// The low bits of a general register as a lane.
pub(super) trait FromGeneral: Lane {
    fn cut(value: u64) -> Self;
}

/// A lane as a general register.
pub(super) trait ToGeneral: Lane {
    fn extend(self) -> u64;
}

macro_rules! general {
    ($($u:ty, $i:ty);*) => { $(
        impl FromGeneral for $u {
            #[inline(always)]
            fn cut(value: u64) -> Self {
                value as $u
            }
        }
        impl ToGeneral for $u {
            #[inline(always)]
            fn extend(self) -> u64 {
                self as u64
            }
        }
        impl ToGeneral for $i {
            #[inline(always)]
            fn extend(self) -> u64 {
                self as i64 as u64
            }
        }
    )* };
}
general!(u8, i8; u16, i16; u32, i32; u64, i64);

/// DUP of element `imm`.
fn dup<T: Lane>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    cpu.fp_check()?;
    let value = lane::<T>(cpu, o.n, o.imm as usize);
    put_lanes::<T>(cpu, o, splat(value));
    Ok(())
}

/// DUP of a general register.
fn dup_register<T: FromGeneral>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    cpu.fp_check()?;
    let value = T::cut(cpu.r(o.n));
    put_lanes::<T>(cpu, o, splat(value));
    Ok(())
}

/// INS of element `a` at `imm`.
fn insert<T: Lane>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    cpu.fp_check()?;
    let value = lane::<T>(cpu, o.n, o.a.into());
    set_lane(cpu, o.d, o.imm as usize, value);
    Ok(())
}

/// INS of a general register at element `imm`; also FMOV to the upper half.
fn insert_register<T: FromGeneral>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    cpu.fp_check()?;
    let value = T::cut(cpu.r(o.n));
    set_lane(cpu, o.d, o.imm as usize, value);
    Ok(())
}

/// UMOV, SMOV and FMOV of element `imm` to a general register.
fn to_register<T: ToGeneral>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    cpu.fp_check()?;
    let value = lane::<T>(cpu, o.n, o.imm as usize);
    cpu.w(o.d, value.extend());
    Ok(())
}

/// SMOV to a W register.
fn to_general_word<T: ToGeneral>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    cpu.fp_check()?;
    let value = lane::<T>(cpu, o.n, o.imm as usize);
    cpu.w(o.d, u64::from(value.extend() as u32));
    Ok(())
}

/// FMOV of a general register to a scalar.
fn scalar_from_register<T: FromGeneral>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    cpu.fp_check()?;
    let value = T::cut(cpu.r(o.n));
    set_scalar(cpu, o.d, value);
    Ok(())
}

pub(super) fn dup_element(size: u8) -> Handler {
    by_size!(size, unsigned T => fallible(dup::<T>))
}

pub(super) fn dup_general(size: u8) -> Handler {
    by_size!(size, unsigned T => fallible(dup_register::<T>))
}

pub(super) fn insert_element(size: u8) -> Handler {
    by_size!(size, unsigned T => fallible(insert::<T>))
}

pub(super) fn insert_general(size: u8) -> Handler {
    by_size!(size, unsigned T => fallible(insert_register::<T>))
}

pub(super) fn to_general(size: u8, signed: bool, sf: bool) -> Handler {
    match (signed, sf) {
        (false, _) => by_size!(size, unsigned T => fallible(to_register::<T>)),
        (true, true) => by_size!(size, signed T => fallible(to_register::<T>)),
        (true, false) => by_size!(size, signed T => fallible(to_general_word::<T>)),
    }
}

pub(super) fn scalar_from_general(size: u8) -> Handler {
    by_size!(size, unsigned T => fallible(scalar_from_register::<T>))
}
