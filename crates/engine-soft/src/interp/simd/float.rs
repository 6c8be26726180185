//! Floating point: lanes, scalars, comparisons and conversions.

use super::lanes::{
    HIGH, Lane, env1, get, host3, indexed, lane, lanes, map1, pair2_env, peek, put, put_lanes, scalar1,
    scalar2, set_lanes, set_scalar, widen_env, with_env,
};
use crate::cpu::{Cpu, Trap};
use crate::decode::simd::{FixedPoint, FpBinary, FpUnary, Shape, Source};
use crate::fp::{self, Env, Float, Host as _, IntFormat, Rounding};
use crate::interp::integer::holds;
use crate::interp::op::{Handler, Operands, fallible, quick};

/// A format whose values are lanes.
pub(super) trait FpLane: Float + Lane {
    /// All bits set or clear.
    fn truth(value: bool) -> Self {
        Self::from_raw(if value { u64::MAX } else { 0 })
    }
}

impl<T: Float + Lane> FpLane for T {}

/// Rounding modes as a field of [`Operands`].
const MODES: [Rounding; 5] =
    [Rounding::TieEven, Rounding::Up, Rounding::Down, Rounding::Zero, Rounding::TieAway];
/// The mode of FPCR.
const CURRENT: u8 = 7;

/// The code of a rounding mode in [`Operands`].
pub(super) fn mode_code(mode: Option<Rounding>) -> u8 {
    let index = mode.and_then(|mode| MODES.iter().position(|&m| m == mode));
    index.map_or(CURRENT, |index| index as u8)
}

#[inline(always)]
fn mode_of(e: &Env, code: u8) -> Rounding {
    MODES.get(usize::from(code)).copied().unwrap_or_else(|| e.rounding())
}

/// A handler for lanes, or for scalars only, of a function of one operand; `host` does the frequent cases of scalars.
fn one<T, H, F>(shape: Shape, host: H, f: F) -> Handler
where
    T: Lane,
    H: Fn(&Env, T, Operands) -> Option<T> + Copy + 'static,
    F: Fn(&mut Env, T, Operands) -> T + Copy + 'static,
{
    if shape.size == shape.width { scalar1(host, f) } else { env1(f) }
}

/// A handler for lanes, or for scalars only, of a function of two operands; `host` does the frequent cases.
fn two<T, H, F>(shape: Shape, rm: Source, host: H, f: F) -> Handler
where
    T: Lane,
    H: Fn(&Env, T, T) -> Option<T> + Copy + 'static,
    F: Fn(&mut Env, T, T) -> T + Copy + 'static,
{
    if shape.size == shape.width && rm.index.is_none() {
        return scalar2(host, f);
    }
    host3(move |e, _, n, m| host(e, n, m), move |e, _, n, m| f(e, n, m))
}

pub(super) fn unary(op: FpUnary, shape: Shape) -> Handler {
    use FpUnary::*;
    macro_rules! one {
        ($f:expr) => {
            one!(|_, _, _| None, $f)
        };
        ($host:expr, $f:expr) => {
            by_size!(shape.size, float T => one::<T, _, _>(shape, $host, $f))
        };
    }
    match op {
        Fmov => map1(|n: u64, _| n),
        Fabs => by_size!(shape.size, float T => map1(|n: T, _| n.magnitude())),
        Fneg => by_size!(shape.size, float T => map1(|n: T, _| n.negated())),
        Fsqrt => one!(|e, n, _| T::host_sqrt(e, n), |e, n, _| fp::sqrt(e, n)),
        Frint { exact: false, .. } => one!(
            |e, n, o| T::host_round(e, n, mode_of(e, o.m), false),
            |e, n, o| fp::round_int(e, n, mode_of(e, o.m), false)
        ),
        Frint { exact: true, .. } => {
            one!(|e, n, o| T::host_round(e, n, mode_of(e, o.m), true), |e, n, o| fp::round_int(
                e,
                n,
                mode_of(e, o.m),
                true
            ))
        }
        FrintSize { bits: 32, .. } => one!(|e, n, o| fp::round_to_size(e, n, 32, mode_of(e, o.m))),
        FrintSize { .. } => one!(|e, n, o| fp::round_to_size(e, n, 64, mode_of(e, o.m))),
        Frecpe => one!(|e, n, _| fp::recip_estimate(e, n)),
        Frsqrte => one!(|e, n, _| fp::rsqrt_estimate(e, n)),
        Frecpx => one!(|e, n, _| fp::recip_exponent(e, n)),
        Fcmgt => one!(|e, n, _| T::truth(fp::gt(e, n, 0))),
        Fcmge => one!(|e, n, _| T::truth(fp::ge(e, n, 0))),
        Fcmeq => one!(|e, n, _| T::truth(fp::eq(e, n, 0))),
        Fcmle => one!(|e, n, _| T::truth(fp::ge(e, 0, n))),
        Fcmlt => one!(|e, n, _| T::truth(fp::gt(e, 0, n))),
    }
}

pub(super) fn binary(op: FpBinary, shape: Shape, rm: Source) -> Handler {
    use FpBinary::*;
    macro_rules! two {
        ($f:expr) => {
            two!(|_, _, _| None, $f)
        };
        ($host:expr, $f:expr) => {
            by_size!(shape.size, float T => two::<T, _, _>(shape, rm, $host, $f))
        };
    }
    match op {
        Fadd => two!(T::host_add, fp::add),
        Fsub => two!(|e, n, m| T::host_add(e, n, m.negated()), fp::sub),
        Fmul => two!(T::host_mul, fp::mul),
        Fnmul => two!(|e, n, m| fp::mul(e, n, m).negated()),
        Fmulx => two!(T::host_mul, fp::mulx),
        Fdiv => two!(T::host_div, fp::div),
        Fmax => two!(|e, n, m| T::host_extreme(e, n, m, true), fp::max),
        Fmin => two!(|e, n, m| T::host_extreme(e, n, m, false), fp::min),
        Fmaxnm => two!(|e, n, m| T::host_extreme(e, n, m, true), fp::max_num),
        Fminnm => two!(|e, n, m| T::host_extreme(e, n, m, false), fp::min_num),
        Fabd => two!(|e, n, m| fp::sub(e, n, m).magnitude()),
        Fcmeq => two!(|e, n, m| T::truth(fp::eq(e, n, m))),
        Fcmge => two!(|e, n, m| T::truth(fp::ge(e, n, m))),
        Fcmgt => two!(|e, n, m| T::truth(fp::gt(e, n, m))),
        Facge => two!(|e, n, m| T::truth(fp::ge(e, n.magnitude(), m.magnitude()))),
        Facgt => two!(|e, n, m| T::truth(fp::gt(e, n.magnitude(), m.magnitude()))),
        Frecps => two!(fp::recip_step),
        Frsqrts => two!(fp::rsqrt_step),
    }
}

pub(super) fn pairwise(op: FpBinary, size: u8) -> Handler {
    by_size!(size, float T => match op {
        FpBinary::Fmax => pair2_env(fp::max::<T>),
        FpBinary::Fmin => pair2_env(fp::min::<T>),
        FpBinary::Fmaxnm => pair2_env(fp::max_num::<T>),
        FpBinary::Fminnm => pair2_env(fp::min_num::<T>),
        _ => pair2_env(fp::add::<T>),
    })
}

/// Folds the lanes of `1 << imm` bytes to one, by halves (`Reduce` of the Arm ARM).
fn fold<T: FpLane, F: Fn(&mut Env, T, T) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        with_env(cpu, |cpu, e| {
            let mut r = lanes::<T>(cpu, o.n);
            let lanes = r.as_mut();
            let mut count = ((1 << (o.imm & 7)) / T::BYTES).min(T::COUNT);
            while count > 1 {
                for i in 0..count / 2 {
                    lanes[i] = f(e, lanes[2 * i], lanes[2 * i + 1]);
                }
                count /= 2;
            }
            let result = lanes[0];
            set_scalar(cpu, o.d, result);
        });
        Ok(())
    })
}

pub(super) fn reduce(op: FpBinary, size: u8) -> Handler {
    by_size!(size, float T => match op {
        FpBinary::Fmax => fold(fp::max::<T>),
        FpBinary::Fmin => fold(fp::min::<T>),
        FpBinary::Fmaxnm => fold(fp::max_num::<T>),
        FpBinary::Fminnm => fold(fp::min_num::<T>),
        _ => fold(fp::add::<T>),
    })
}

/// FMLA and FMLS.
pub(super) fn multiply_add(subtract: bool, size: u8) -> Handler {
    by_size!(size, float T => match subtract {
        false => host3(T::host_mul_add, fp::mul_add),
        true => host3(
            |e, d, n, m| T::host_mul_add(e, d, n.negated(), m),
            |e, d, n, m| fp::mul_add(e, d, n.negated(), m),
        ),
    })
}

/// FMLAL and FMLSL.
pub(super) fn multiply_add_long(subtract: bool) -> Handler {
    match subtract {
        false => widen_env::<u16, u32, _>(|e, d, n, m| fp::mul_add_long(e, d, n as u16, m as u16)),
        true => widen_env::<u16, u32, _>(|e, d, n, m| fp::mul_add_long(e, d, (n as u16).negated(), m as u16)),
    }
}

/// FMADD and its kin: `a` is the addend.
pub(super) fn fused(negate_product: bool, negate_addend: bool, size: u8) -> Handler {
    /// The addend and the factors.
    #[inline(always)]
    fn operands<T: FpLane, const PRODUCT: bool, const ADDEND: bool>(cpu: &Cpu, o: Operands) -> [T; 3] {
        let [a, n, m] = [o.a, o.n, o.m].map(|v| lane::<T>(cpu, v, 0));
        [if ADDEND { a.negated() } else { a }, if PRODUCT { n.negated() } else { n }, m]
    }
    fn handler<T: FpLane, const PRODUCT: bool, const ADDEND: bool>() -> Handler {
        quick(
            |cpu, o| {
                let [a, n, m] = operands::<T, PRODUCT, ADDEND>(cpu, o);
                let result = peek(cpu).and_then(|e| T::host_mul_add(&e, a, n, m));
                result.map(|r| set_scalar(cpu, o.d, r)).is_some()
            },
            |cpu, o| {
                cpu.fp_check()?;
                let [a, n, m] = operands::<T, PRODUCT, ADDEND>(cpu, o);
                let r = with_env(cpu, |_, e| fp::mul_add(e, a, n, m));
                set_scalar(cpu, o.d, r);
                Ok(())
            },
        )
    }
    by_size!(size, float T => match (negate_product, negate_addend) {
        (false, false) => handler::<T, false, false>(),
        (true, false) => handler::<T, true, false>(),
        (false, true) => handler::<T, false, true>(),
        (true, true) => handler::<T, true, true>(),
    })
}

/// FCADD; `imm` above [`HIGH`] is the rotation in quarter turns, 1 or 3.
pub(super) fn complex_add(size: u8) -> Handler {
    fn handler<T: FpLane>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
        cpu.fp_check()?;
        complex::<T>(cpu, o, |e, [_, _], [re, im], [mre, mim]| match o.imm / HIGH {
            1 => [fp::add(e, re, mim.negated()), fp::add(e, im, mre)],
            _ => [fp::add(e, re, mim), fp::add(e, im, mre.negated())],
        });
        Ok(())
    }
    by_size!(size, float T => fallible(handler::<T>))
}

/// FCMLA; `imm` is the index of a pair as in [`indexed`], and above [`HIGH`] the rotation in quarter turns.
pub(super) fn complex_multiply_add(size: u8) -> Handler {
    fn handler<T: FpLane>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
        cpu.fp_check()?;
        complex::<T>(cpu, o, |e, [dre, dim], [re, im], [mre, mim]| {
            let (n, a, b) = match o.imm / HIGH {
                0 => (re, mre, mim),
                1 => (im, mim.negated(), mre),
                2 => (re, mre.negated(), mim.negated()),
                _ => (im, mim, mre.negated()),
            };
            [fp::mul_add(e, dre, n, a), fp::mul_add(e, dim, n, b)]
        });
        Ok(())
    }
    by_size!(size, float T => fallible(handler::<T>))
}

/// What an immediate of [`complex_multiply_add`] is.
pub(super) fn complex_immediate(rotation: u8, index: Option<u8>) -> u32 {
    indexed(index) | u32::from(rotation) * HIGH
}

/// Applies a function to pairs of lanes: of the destination and both operands.
#[inline(always)]
fn complex<T: FpLane>(cpu: &mut Cpu, o: Operands, f: impl Fn(&mut Env, [T; 2], [T; 2], [T; 2]) -> [T; 2]) {
    with_env(cpu, |cpu, e| {
        let (mut r, n, m) = (lanes::<T>(cpu, o.d), lanes::<T>(cpu, o.n), lanes::<T>(cpu, o.m));
        let lanes = ((1 << (o.a & 7)) / T::BYTES).min(T::COUNT);
        let chosen = (o.imm & 0xff) as usize;
        for pair in 0..lanes / 2 {
            let (at, with) =
                (2 * pair, if chosen == 0 { pair } else { (chosen - 1) & (T::COUNT / 2 - 1) } * 2);
            let (d, n, m) =
                (&mut r.as_mut()[at..at + 2], &n.as_ref()[at..at + 2], &m.as_ref()[with..with + 2]);
            d.copy_from_slice(&f(e, [d[0], d[1]], [n[0], n[1]], [m[0], m[1]]));
        }
        put_lanes::<T>(cpu, o, r);
    });
}

/// The value of an integer that is kept in the bits of a float.
#[inline(always)]
fn integer<T: Float>(value: T, signed: bool) -> i128 {
    let raw = value.raw();
    match signed {
        true => ((raw << (64 - T::BITS)) as i64 >> (64 - T::BITS)).into(),
        false => raw.into(),
    }
}

/// To integers or fixed point of the same size; `m` is the rounding mode, `imm` the fraction bits.
pub(super) fn to_fixed(to: FixedPoint, shape: Shape) -> Handler {
    macro_rules! one {
        ($signed:literal) => {
            by_size!(shape.size, float T => one::<T, _, _>(shape, |_, _, _| None, |e, n, o| {
                let to = IntFormat { bits: <T as Float>::BITS, signed: $signed };
                T::from_raw(fp::to_fixed(e, n, o.imm, to, mode_of(e, o.m)))
            }))
        };
    }
    if to.signed { one!(true) } else { one!(false) }
}

/// From integers or fixed point of the same size; `imm` is the fraction bits.
pub(super) fn from_fixed(from: FixedPoint, shape: Shape) -> Handler {
    macro_rules! one {
        ($signed:literal) => {
            by_size!(shape.size, float T => one::<T, _, _>(shape, |_, _, _| None, |e, n, o| {
                fp::from_fixed(e, integer(n, $signed), o.imm)
            }))
        };
    }
    if from.signed { one!(true) } else { one!(false) }
}

/// FCVTL, FCVTN and FCVTXN: the lanes of either half of the source to lanes of another size. `m` is the rounding
/// mode; `imm` has [`HIGH`] for the half, of the source or (when narrowing) of the destination.
#[inline(always)]
fn convert_lanes<S: FpLane, D: FpLane>(cpu: &mut Cpu, o: Operands, count: usize) -> Result<(), Trap> {
    cpu.fp_check()?;
    let narrows = D::BYTES < S::BYTES;
    let high = o.imm & HIGH != 0;
    with_env(cpu, |cpu, e| {
        let mode = if o.m == ODD { Rounding::Odd } else { e.rounding() };
        let (n, mut r) = (lanes::<S>(cpu, o.n), D::Array::default());
        let from = if high && !narrows { S::COUNT / 2 } else { 0 };
        for (r, n) in r.as_mut().iter_mut().zip(&n.as_ref()[from..]).take(count) {
            *r = fp::convert(e, *n, mode);
        }
        if high && narrows {
            let d = D::of_mut(&mut cpu.v[usize::from(o.d & 31)]);
            d.as_mut()[D::COUNT / 2..].copy_from_slice(&r.as_ref()[..D::COUNT / 2]);
        } else {
            set_lanes::<D>(cpu, o.d, r);
        }
    });
    Ok(())
}

/// As `m` of the conversions between formats: round to odd.
pub(super) const ODD: u8 = 5;

/// FCVT and scalar FCVTXN.
pub(super) fn convert(from: u8, to: u8) -> Handler {
    #[inline(always)]
    fn mode(e: &Env, o: Operands) -> Rounding {
        if o.m == ODD { Rounding::Odd } else { e.rounding() }
    }
    fn handler<S: FpLane, D: FpLane>() -> Handler {
        quick(
            |cpu, o| {
                let n = lane::<S>(cpu, o.n, 0);
                let result: Option<D> = peek(cpu).and_then(|e| S::host_convert(&e, n, mode(&e, o)));
                result.map(|r| set_scalar(cpu, o.d, r)).is_some()
            },
            |cpu, o| {
                cpu.fp_check()?;
                let n = lane::<S>(cpu, o.n, 0);
                let r: D = with_env(cpu, |_, e| fp::convert(e, n, mode(e, o)));
                set_scalar(cpu, o.d, r);
                Ok(())
            },
        )
    }
    match (from, to) {
        (1, 2) => handler::<u16, u32>(),
        (1, _) => handler::<u16, u64>(),
        (2, 1) => handler::<u32, u16>(),
        (2, _) => handler::<u32, u64>(),
        (_, 1) => handler::<u64, u16>(),
        _ => handler::<u64, u32>(),
    }
}

/// FCVTL; `size` is that of the narrow lanes.
pub(super) fn lengthen(size: u8) -> Handler {
    match size {
        1 => fallible(|cpu, o| convert_lanes::<u16, u32>(cpu, o, 4)),
        _ => fallible(|cpu, o| convert_lanes::<u32, u64>(cpu, o, 2)),
    }
}

/// FCVTN and FCVTXN; `size` is that of the narrow lanes.
pub(super) fn shorten(size: u8) -> Handler {
    match size {
        1 => fallible(|cpu, o| convert_lanes::<u32, u16>(cpu, o, 4)),
        _ => fallible(|cpu, o| convert_lanes::<u64, u32>(cpu, o, 2)),
    }
}

/// FCMP and FCMPE; with `imm` bit 0 against zero.
pub(super) fn compare(signal: bool, size: u8) -> Handler {
    #[inline(always)]
    fn operands<T: FpLane>(cpu: &Cpu, o: Operands) -> (T, T) {
        let (n, m) = (lane::<T>(cpu, o.n, 0), lane::<T>(cpu, o.m, 0));
        (n, if o.imm & 1 != 0 { T::from_raw(0) } else { m })
    }
    fn handler<T: FpLane, const SIGNAL: bool>() -> Handler {
        quick(
            |cpu, o| {
                let (n, m) = operands::<T>(cpu, o);
                let flags = peek(cpu).and_then(|e| T::host_compare(&e, n, m));
                flags.map(|flags| cpu.nzcv = flags).is_some()
            },
            |cpu, o| {
                cpu.fp_check()?;
                let (n, m) = operands::<T>(cpu, o);
                cpu.nzcv = with_env(cpu, |_, e| fp::compare(e, n, m, SIGNAL));
                Ok(())
            },
        )
    }
    by_size!(size, float T => match signal {
        false => handler::<T, false>(),
        true => handler::<T, true>(),
    })
}

/// FCCMP and FCCMPE; `imm` is the condition's mask in bits 15:0, the other flags in bits 31:28.
pub(super) fn conditional_compare(signal: bool, size: u8) -> Handler {
    fn handler<T: FpLane, const SIGNAL: bool>(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
        cpu.fp_check()?;
        if !holds(cpu, o.imm & 0xffff) {
            cpu.nzcv = o.imm & 0xf000_0000;
            return Ok(());
        }
        let (n, m) = (lane::<T>(cpu, o.n, 0), lane::<T>(cpu, o.m, 0));
        cpu.nzcv = with_env(cpu, |_, e| fp::compare(e, n, m, SIGNAL));
        Ok(())
    }
    by_size!(size, float T => match signal {
        false => fallible(handler::<T, false>),
        true => fallible(handler::<T, true>),
    })
}

/// FCSEL; `imm` is the condition's mask, `a` the width.
pub(super) fn conditional_select(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    cpu.fp_check()?;
    let value = get(cpu, if holds(cpu, o.imm) { o.n } else { o.m });
    put(cpu, o, value);
    Ok(())
}

/// FCVTxx to a general register; `m` is the rounding mode, `imm` the fraction bits.
pub(super) fn to_general(to: FixedPoint, sf: bool, size: u8) -> Handler {
    fn handler<T: FpLane, const BITS: u32, const SIGNED: bool>() -> Handler {
        quick(
            |cpu, o| {
                if MODES.get(usize::from(o.m)) != Some(&Rounding::Zero) || o.imm != 0 {
                    return false;
                }
                let n = lane::<T>(cpu, o.n, 0);
                let to = IntFormat { bits: BITS, signed: SIGNED };
                peek(cpu).and_then(|e| T::host_to_int(&e, n, to)).map(|value| cpu.w(o.d, value)).is_some()
            },
            |cpu, o| {
                cpu.fp_check()?;
                let n = lane::<T>(cpu, o.n, 0);
                let to = IntFormat { bits: BITS, signed: SIGNED };
                let value = with_env(cpu, |_, e| fp::to_fixed(e, n, o.imm, to, mode_of(e, o.m)));
                cpu.w(o.d, value);
                Ok(())
            },
        )
    }
    by_size!(size, float T => match (sf, to.signed) {
        (false, true) => handler::<T, 32, true>(),
        (false, false) => handler::<T, 32, false>(),
        (true, true) => handler::<T, 64, true>(),
        (true, false) => handler::<T, 64, false>(),
    })
}

/// SCVTF and UCVTF of a general register; `imm` is the fraction bits.
pub(super) fn from_general(from: FixedPoint, sf: bool, size: u8) -> Handler {
    #[inline(always)]
    fn operand<const SF: bool, const SIGNED: bool>(cpu: &Cpu, o: Operands) -> i128 {
        let x = cpu.r(o.n);
        match (SF, SIGNED) {
            (false, false) => i128::from(x as u32),
            (false, true) => i128::from(x as i32),
            (true, false) => i128::from(x),
            (true, true) => i128::from(x as i64),
        }
    }
    fn handler<T: FpLane, const SF: bool, const SIGNED: bool>() -> Handler {
        quick(
            |cpu, o| {
                let value = operand::<SF, SIGNED>(cpu, o);
                let host = |e| if o.imm == 0 { T::host_from_int(&e, value) } else { None };
                peek(cpu).and_then(host).map(|r| set_scalar(cpu, o.d, r)).is_some()
            },
            |cpu, o| {
                cpu.fp_check()?;
                let value = operand::<SF, SIGNED>(cpu, o);
                let r: T = with_env(cpu, |_, e| fp::from_fixed(e, value, o.imm));
                set_scalar(cpu, o.d, r);
                Ok(())
            },
        )
    }
    by_size!(size, float T => match (sf, from.signed) {
        (false, false) => handler::<T, false, false>(),
        (false, true) => handler::<T, false, true>(),
        (true, false) => handler::<T, true, false>(),
        (true, true) => handler::<T, true, true>(),
    })
}

/// FJCVTZS.
pub(super) fn javascript(cpu: &mut Cpu, o: Operands) -> Result<(), Trap> {
    cpu.fp_check()?;
    let n = lane::<u64>(cpu, o.n, 0);
    let (value, exact) = with_env(cpu, |_, e| fp::jcvtzs(e, n));
    cpu.nzcv = u32::from(exact) << 30;
    cpu.w(o.d, value.into());
    Ok(())
}
