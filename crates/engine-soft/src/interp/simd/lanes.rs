//! Vectors as arrays of lanes, and the handlers that apply a function to lanes.
//!
//! Operands of these handlers: `d`, `n`, `m` are vector registers, `a` is the binary logarithm of the bytes that the
//! result has (what lies above becomes zero). `imm` is an immediate for functions of one vector, and [`indexed`] for
//! those of two.

use crate::cpu::Cpu;
use crate::fp::{Env, fpsr};
use crate::interp::op::{Handler, Operands, fallible, quick};

const _: () = assert!(cfg!(target_endian = "little"), "lanes are laid out as the guest sees them");

/// An element of a vector.
pub(super) trait Lane: Copy + Default + 'static {
    /// A full vector.
    type Array: AsRef<[Self]> + AsMut<[Self]> + Copy + Default;
    /// Bytes of an element.
    const BYTES: usize = size_of::<Self>();
    /// Elements of a full vector.
    const COUNT: usize = 16 / Self::BYTES;

    /// Four vectors.
    type Quad: AsRef<[Self]> + AsMut<[Self]>;

    fn of(vector: &u128) -> &Self::Array;
    fn of_mut(vector: &mut u128) -> &mut Self::Array;
    fn of_quad(vectors: &[u128; 4]) -> &Self::Quad;
    fn of_quad_mut(vectors: &mut [u128; 4]) -> &mut Self::Quad;
}

/// An integer element.
pub(super) trait Int: Lane + PartialEq {
    const BITS: u32;
    const LOW: i128;
    const HIGH: i128;

    /// The value.
    fn wide(self) -> i128;
    /// The low bits.
    fn cut(value: i128) -> Self;

    /// The nearest value of the type; notes in FPSR when it is another one.
    #[inline]
    fn saturate(e: &mut Env, value: i128) -> Self {
        let result = value.clamp(Self::LOW, Self::HIGH);
        if result != value {
            e.raise(fpsr::QC);
        }
        Self::cut(result)
    }

    /// The result of an operation that saturates, given what it would be without saturation.
    #[inline(always)]
    fn noting(self, e: &mut Env, wrapped: Self) -> Self {
        if self != wrapped {
            e.raise(fpsr::QC);
        }
        self
    }
}

macro_rules! lane {
    ($($t:ty),*) => { $(
        impl Lane for $t {
            type Array = [$t; 16 / size_of::<$t>()];
            type Quad = [$t; 64 / size_of::<$t>()];

            #[inline(always)]
            fn of(vector: &u128) -> &Self::Array {
                zerocopy::transmute_ref!(vector)
            }

            #[inline(always)]
            fn of_mut(vector: &mut u128) -> &mut Self::Array {
                zerocopy::transmute_mut!(vector)
            }

            #[inline(always)]
            fn of_quad(vectors: &[u128; 4]) -> &Self::Quad {
                zerocopy::transmute_ref!(vectors)
            }

            #[inline(always)]
            fn of_quad_mut(vectors: &mut [u128; 4]) -> &mut Self::Quad {
                zerocopy::transmute_mut!(vectors)
            }
        }
    )* };
}
// A vector as a whole is a lane too, for memory accesses.
lane!(u8, u16, u32, u64, u128, i8, i16, i32, i64);

macro_rules! int {
    ($($t:ty),*) => { $(
        impl Int for $t {
            const BITS: u32 = <$t>::BITS;
            const LOW: i128 = <$t>::MIN as i128;
            const HIGH: i128 = <$t>::MAX as i128;

            #[inline(always)]
            fn wide(self) -> i128 {
                self as i128
            }

            #[inline(always)]
            fn cut(value: i128) -> Self {
                value as $t
            }
        }
    )* };
}
int!(u8, u16, u32, u64, i8, i16, i32, i64);

/// What a result of `1 << index` bytes keeps.
const MASKS: [u128; 8] =
    [0xff, 0xffff, u32::MAX as u128, u64::MAX as u128, u128::MAX, u128::MAX, u128::MAX, u128::MAX];

/// Reads a vector register.
#[inline(always)]
pub(super) fn get(cpu: &Cpu, register: u8) -> u128 {
    cpu.v[usize::from(register & 31)]
}

/// Writes a vector register.
#[inline(always)]
pub(super) fn set(cpu: &mut Cpu, register: u8, value: u128) {
    cpu.v[usize::from(register & 31)] = value;
}

/// Clears a register above the width of the result that was written to it.
#[inline(always)]
fn cut(cpu: &mut Cpu, o: Operands) {
    if o.a != 4 {
        cpu.v[usize::from(o.d & 31)] &= MASKS[usize::from(o.a & 7)];
    }
}

/// Writes the result of an operation, zero above its width.
#[inline(always)]
pub(super) fn put(cpu: &mut Cpu, o: Operands, value: u128) {
    set(cpu, o.d, value);
    cut(cpu, o);
}

/// The lanes of a register. A vector stays in memory until it is an array of lanes: the compiler makes vector
/// instructions of that, but not of an integer of 128 bits taken apart.
#[inline(always)]
pub(super) fn lanes<T: Lane>(cpu: &Cpu, register: u8) -> T::Array {
    *T::of(&cpu.v[usize::from(register & 31)])
}

/// Writes the lanes of a register.
#[inline(always)]
pub(super) fn set_lanes<T: Lane>(cpu: &mut Cpu, register: u8, value: T::Array) {
    *T::of_mut(&mut cpu.v[usize::from(register & 31)]) = value;
}

/// Writes the lanes of the result of an operation, zero above its width.
#[inline(always)]
pub(super) fn put_lanes<T: Lane>(cpu: &mut Cpu, o: Operands, value: T::Array) {
    set_lanes::<T>(cpu, o.d, value);
    cut(cpu, o);
}

/// One lane of a register; the index wraps.
#[inline(always)]
pub(super) fn lane<T: Lane>(cpu: &Cpu, register: u8, index: usize) -> T {
    T::of(&cpu.v[usize::from(register & 31)]).as_ref()[index & (T::COUNT - 1)]
}

/// Writes one lane of a register; the index wraps.
#[inline(always)]
pub(super) fn set_lane<T: Lane>(cpu: &mut Cpu, register: u8, index: usize, value: T) {
    T::of_mut(&mut cpu.v[usize::from(register & 31)]).as_mut()[index & (T::COUNT - 1)] = value;
}

/// All lanes the same.
#[inline(always)]
pub(super) fn splat<T: Lane>(value: T) -> T::Array {
    let mut lanes = T::Array::default();
    lanes.as_mut().fill(value);
    lanes
}

/// Writes a scalar.
#[inline(always)]
pub(super) fn set_scalar<T: Lane>(cpu: &mut Cpu, register: u8, value: T) {
    let mut vector = 0;
    T::of_mut(&mut vector).as_mut()[0] = value;
    set(cpu, register, vector);
}

/// The `imm` of an operation whose second operand may be one element for all lanes.
pub(super) fn indexed(index: Option<u8>) -> u32 {
    index.map_or(0, |index| u32::from(index) + 1)
}

/// The second operand.
#[inline(always)]
pub(super) fn second<T: Lane>(cpu: &Cpu, o: Operands) -> T::Array {
    match o.imm & 0xff {
        0 => lanes::<T>(cpu, o.m),
        index => splat(lane::<T>(cpu, o.m, index as usize - 1)),
    }
}

/// Runs `f` with the control and status registers of floating point.
#[inline(always)]
pub(super) fn with_env<R>(cpu: &mut Cpu, f: impl FnOnce(&mut Cpu, &mut Env) -> R) -> R {
    let mut e = Env { fpcr: cpu.fpcr, fpsr: cpu.fpsr };
    let result = f(cpu, &mut e);
    cpu.fpsr = e.fpsr;
    result
}

/// Lanes of a result that is `1 << width` bytes wide.
#[inline(always)]
pub(super) fn count<T: Lane>(width: u8) -> usize {
    (1 << (width & 7) >> T::BYTES.trailing_zeros()).min(T::COUNT)
}

/// Whole vectors, three in, one out: destination, first and second operand.
pub(super) fn whole<F: Fn(u128, u128, u128) -> u128 + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let result = f(get(cpu, o.d), get(cpu, o.n), get(cpu, o.m));
        put(cpu, o, result);
        Ok(())
    })
}

/// Each lane by itself, with the immediate.
pub(super) fn map1<T: Lane, F: Fn(T, u32) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let mut r = lanes::<T>(cpu, o.n);
        for r in r.as_mut() {
            *r = f(*r, o.imm);
        }
        put_lanes::<T>(cpu, o, r);
        Ok(())
    })
}

/// Each lane of the destination and the operand, with the immediate.
pub(super) fn map1_onto<T: Lane, F: Fn(T, T, u32) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (mut r, n) = (lanes::<T>(cpu, o.d), lanes::<T>(cpu, o.n));
        for (r, n) in r.as_mut().iter_mut().zip(n.as_ref()) {
            *r = f(*r, *n, o.imm);
        }
        put_lanes::<T>(cpu, o, r);
        Ok(())
    })
}

/// Lane by lane.
pub(super) fn map2<T: Lane, F: Fn(T, T) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (mut r, m) = (lanes::<T>(cpu, o.n), lanes::<T>(cpu, o.m));
        for (r, m) in r.as_mut().iter_mut().zip(m.as_ref()) {
            *r = f(*r, *m);
        }
        put_lanes::<T>(cpu, o, r);
        Ok(())
    })
}

/// Lane by lane, destination first; the second operand may be an element.
pub(super) fn map3<T: Lane, F: Fn(T, T, T) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (mut r, n) = (lanes::<T>(cpu, o.d), lanes::<T>(cpu, o.n));
        let m = second::<T>(cpu, o);
        for ((r, n), m) in r.as_mut().iter_mut().zip(n.as_ref()).zip(m.as_ref()) {
            *r = f(*r, *n, *m);
        }
        put_lanes::<T>(cpu, o, r);
        Ok(())
    })
}

/// Lane by lane, saturating: notes in FPSR when a lane is not what it would be without saturation. The second operand
/// may be an element.
pub(super) fn saturating2<T, S, W>(saturated: S, wrapped: W) -> Handler
where
    T: Lane + PartialEq,
    S: Fn(T, T) -> T + Copy + 'static,
    W: Fn(T, T) -> T + Copy + 'static,
{
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (n, m) = (lanes::<T>(cpu, o.n), second::<T>(cpu, o));
        let (mut r, mut noted) = (T::Array::default(), false);
        let sources = n.as_ref().iter().zip(m.as_ref());
        // The compiler makes vector instructions of a loop over a constant number of lanes.
        if o.a == 4 {
            for (r, (n, m)) in r.as_mut().iter_mut().zip(sources) {
                *r = saturated(*n, *m);
                noted |= *r != wrapped(*n, *m);
            }
        } else {
            for (r, (n, m)) in r.as_mut().iter_mut().zip(sources).take(count::<T>(o.a)) {
                *r = saturated(*n, *m);
                noted |= *r != wrapped(*n, *m);
            }
        }
        set_lanes::<T>(cpu, o.d, r);
        if noted {
            cpu.fpsr |= fpsr::QC;
        }
        Ok(())
    })
}

/// Each lane by itself, where the function may raise flags; it sees all operands for parameters in them.
pub(super) fn env1<T: Lane, F: Fn(&mut Env, T, Operands) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        with_env(cpu, |cpu, e| {
            let (n, mut r) = (lanes::<T>(cpu, o.n), T::Array::default());
            for (r, n) in r.as_mut().iter_mut().zip(n.as_ref()).take(count::<T>(o.a)) {
                *r = f(e, *n, o);
            }
            set_lanes::<T>(cpu, o.d, r);
        });
        Ok(())
    })
}

/// Lane by lane, where the function may raise flags; the second operand may be an element.
pub(super) fn env2<T: Lane, F: Fn(&mut Env, T, T) -> T + Copy + 'static>(f: F) -> Handler {
    env3(move |e, _, n, m| f(e, n, m))
}

/// Lane by lane, destination first, where the function may raise flags; the second operand may be an element.
pub(super) fn env3<T: Lane, F: Fn(&mut Env, T, T, T) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        lanes3(cpu, o, f);
        Ok(())
    })
}

#[inline(always)]
fn lanes3<T: Lane>(cpu: &mut Cpu, o: Operands, f: impl Fn(&mut Env, T, T, T) -> T) {
    with_env(cpu, |cpu, e| {
        let (d, n, m) = (lanes::<T>(cpu, o.d), lanes::<T>(cpu, o.n), second::<T>(cpu, o));
        let mut r = T::Array::default();
        let sources = d.as_ref().iter().zip(n.as_ref()).zip(m.as_ref());
        for (r, ((d, n), m)) in r.as_mut().iter_mut().zip(sources).take(count::<T>(o.a)) {
            *r = f(e, *d, *n, *m);
        }
        set_lanes::<T>(cpu, o.d, r);
    });
}

/// The control and status registers for a look, when floating point is accessible.
#[inline(always)]
pub(super) fn peek(cpu: &Cpu) -> Option<Env> {
    cpu.fp_enabled.then_some(Env { fpcr: cpu.fpcr, fpsr: cpu.fpsr })
}

/// The lowest lane of one operand, where the function may raise flags; `host` does the frequent cases.
pub(super) fn scalar1<T: Lane, H, F>(host: H, f: F) -> Handler
where
    H: Fn(&Env, T, Operands) -> Option<T> + Copy + 'static,
    F: Fn(&mut Env, T, Operands) -> T + Copy + 'static,
{
    quick(
        move |cpu, o| {
            let result = peek(cpu).and_then(|e| host(&e, lane::<T>(cpu, o.n, 0), o));
            result.map(|r| set_scalar(cpu, o.d, r)).is_some()
        },
        move |cpu, o| {
            cpu.fp_check()?;
            let n = lane::<T>(cpu, o.n, 0);
            let r = with_env(cpu, |_, e| f(e, n, o));
            set_scalar(cpu, o.d, r);
            Ok(())
        },
    )
}

/// The lowest lanes, where the function may raise flags; `host` does the frequent cases.
pub(super) fn scalar2<T: Lane, H, F>(host: H, f: F) -> Handler
where
    H: Fn(&Env, T, T) -> Option<T> + Copy + 'static,
    F: Fn(&mut Env, T, T) -> T + Copy + 'static,
{
    quick(
        move |cpu, o| {
            let result = peek(cpu).and_then(|e| host(&e, lane(cpu, o.n, 0), lane(cpu, o.m, 0)));
            result.map(|r| set_scalar(cpu, o.d, r)).is_some()
        },
        move |cpu, o| {
            cpu.fp_check()?;
            let (n, m) = (lane::<T>(cpu, o.n, 0), lane::<T>(cpu, o.m, 0));
            let r = with_env(cpu, |_, e| f(e, n, m));
            set_scalar(cpu, o.d, r);
            Ok(())
        },
    )
}

/// As [`env3`], where `host` does the frequent cases.
pub(super) fn host3<T: Lane, H, F>(host: H, f: F) -> Handler
where
    H: Fn(&Env, T, T, T) -> Option<T> + Copy + 'static,
    F: Fn(&mut Env, T, T, T) -> T + Copy + 'static,
{
    quick(
        move |cpu, o| {
            let Some(e) = peek(cpu) else { return false };
            let (d, n, m) = (lanes::<T>(cpu, o.d), lanes::<T>(cpu, o.n), second::<T>(cpu, o));
            let mut r = T::Array::default();
            let sources = d.as_ref().iter().zip(n.as_ref()).zip(m.as_ref());
            for (r, ((d, n), m)) in r.as_mut().iter_mut().zip(sources).take(count::<T>(o.a)) {
                match host(&e, *d, *n, *m) {
                    Some(result) => *r = result,
                    None => return false,
                }
            }
            set_lanes::<T>(cpu, o.d, r);
            true
        },
        move |cpu, o| {
            cpu.fp_check()?;
            lanes3(cpu, o, f);
            Ok(())
        },
    )
}

/// Applies a function to adjacent lanes of `n`, then of `m`, for a result of so many lanes.
#[inline(always)]
fn fold_pairs<T: Lane>(n: &[T], m: &[T], count: usize, mut f: impl FnMut(T, T) -> T) -> T::Array {
    let mut r = T::Array::default();
    // Plain indices: the compiler makes vector instructions of this form.
    let lanes = r.as_mut();
    for i in 0..count / 2 {
        lanes[i] = f(n[2 * i], n[2 * i + 1]);
    }
    for i in 0..count / 2 {
        lanes[count / 2 + i] = f(m[2 * i], m[2 * i + 1]);
    }
    r
}

/// Adjacent lanes of the first operand, then of the second.
pub(super) fn pair2<T: Lane, F: Fn(T, T) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (n, m) = (lanes::<T>(cpu, o.n), lanes::<T>(cpu, o.m));
        let r = fold_pairs(n.as_ref(), m.as_ref(), T::COUNT, f);
        set_lanes::<T>(cpu, o.d, r);
        if o.a != 4 {
            // What half vectors give is in the lower halves of both halves.
            let [low, _, high, _] = lanes::<u32>(cpu, o.d);
            set_lanes::<u32>(cpu, o.d, [low, high, 0, 0]);
        }
        Ok(())
    })
}

/// Adjacent lanes of the first operand, then of the second, where the function may raise flags.
pub(super) fn pair2_env<T: Lane, F: Fn(&mut Env, T, T) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        with_env(cpu, |cpu, e| {
            let (n, m) = (lanes::<T>(cpu, o.n), lanes::<T>(cpu, o.m));
            let r = fold_pairs(n.as_ref(), m.as_ref(), count::<T>(o.a), |n, m| f(e, n, m));
            set_lanes::<T>(cpu, o.d, r);
        });
        Ok(())
    })
}

/// Folds the lanes to one of type `A`; `imm` says how many bytes there are, as a binary logarithm.
pub(super) fn across<T: Lane, A: Lane + From<T>, F: Fn(A, A) -> A + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let n = lanes::<T>(cpu, o.n);
        let fold = |lanes: &[T]| lanes[1..].iter().fold(A::from(lanes[0]), |r, &n| f(r, A::from(n)));
        let r = match o.imm {
            4 => fold(n.as_ref()),
            _ => fold(&n.as_ref()[..T::COUNT / 2]),
        };
        set_scalar(cpu, o.d, r);
        Ok(())
    })
}

/// In the `imm` of the handlers below: the narrow elements are in the upper half.
pub(super) const HIGH: u32 = 1 << 8;

/// The lanes of the lower half of the result's width, or of the upper one, extended.
#[inline(always)]
fn extend<T: Lane, W: Lane + From<T>>(lanes: &T::Array, o: Operands) -> W::Array {
    let from = if o.imm & HIGH != 0 { (1 << (o.a & 7)) / 2 / T::BYTES } else { 0 };
    let mut r = W::Array::default();
    for (r, n) in r.as_mut().iter_mut().zip(&lanes.as_ref()[from.min(W::COUNT)..]) {
        *r = W::from(*n);
    }
    r
}

/// Destination, and both operands extended to its element type; the second one may be an element.
pub(super) fn widen<T: Lane, W: Lane + From<T>, F: Fn(W, W, W) -> W + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        // All lanes of an element are the same, so the half makes no difference.
        let n = extend::<T, W>(&lanes::<T>(cpu, o.n), o);
        let m = extend::<T, W>(&second::<T>(cpu, o), o);
        let mut r = lanes::<W>(cpu, o.d);
        for ((r, n), m) in r.as_mut().iter_mut().zip(n.as_ref()).zip(m.as_ref()) {
            *r = f(*r, *n, *m);
        }
        set_lanes::<W>(cpu, o.d, r);
        Ok(())
    })
}

/// Likewise, where the function may raise flags.
pub(super) fn widen_env<T: Lane, W: Lane + From<T>, F: Fn(&mut Env, W, W, W) -> W + Copy + 'static>(
    f: F,
) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        with_env(cpu, |cpu, e| {
            let n = extend::<T, W>(&lanes::<T>(cpu, o.n), o);
            let m = extend::<T, W>(&second::<T>(cpu, o), o);
            let (d, mut r) = (lanes::<W>(cpu, o.d), W::Array::default());
            let sources = d.as_ref().iter().zip(n.as_ref()).zip(m.as_ref());
            for (r, ((d, n), m)) in r.as_mut().iter_mut().zip(sources).take(count::<W>(o.a)) {
                *r = f(e, *d, *n, *m);
            }
            set_lanes::<W>(cpu, o.d, r);
        });
        Ok(())
    })
}

/// The first operand of wide elements, the second one extended.
pub(super) fn widen_second<T: Lane, W: Lane + From<T>, F: Fn(W, W) -> W + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (mut r, m) = (lanes::<W>(cpu, o.n), extend::<T, W>(&lanes::<T>(cpu, o.m), o));
        for (r, m) in r.as_mut().iter_mut().zip(m.as_ref()) {
            *r = f(*r, *m);
        }
        put_lanes::<W>(cpu, o, r);
        Ok(())
    })
}

/// The operand extended, with `imm` bits 7:0.
pub(super) fn widen_only<T: Lane, W: Lane + From<T>, F: Fn(W, u32) -> W + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let mut r = extend::<T, W>(&lanes::<T>(cpu, o.n), o);
        for r in r.as_mut() {
            *r = f(*r, o.imm & 0xff);
        }
        put_lanes::<W>(cpu, o, r);
        Ok(())
    })
}

/// Sums of adjacent lanes in elements of twice the size; `accumulate` adds to the destination.
pub(super) fn pair_long<T: Lane, W: Lane + From<T>, F: Fn(W, W, W) -> W + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (n, mut r) = (lanes::<T>(cpu, o.n), lanes::<W>(cpu, o.d));
        for (r, pair) in r.as_mut().iter_mut().zip(n.as_ref().chunks_exact(2)) {
            *r = f(*r, W::from(pair[0]), W::from(pair[1]));
        }
        put_lanes::<W>(cpu, o, r);
        Ok(())
    })
}

/// Puts narrow lanes, which are in the lower half of `value`, into either half; the other half becomes zero or stays.
#[inline(always)]
fn put_half<T: Lane>(cpu: &mut Cpu, o: Operands, value: T::Array) {
    if o.imm & HIGH == 0 {
        return set_lanes::<T>(cpu, o.d, value);
    }
    let d = T::of_mut(&mut cpu.v[usize::from(o.d & 31)]);
    d.as_mut()[T::COUNT / 2..].copy_from_slice(&value.as_ref()[..T::COUNT / 2]);
}

/// Wide lanes of both operands to narrow ones.
pub(super) fn narrow2<W: Lane, T: Lane, F: Fn(W, W) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (n, m, mut r) = (lanes::<W>(cpu, o.n), lanes::<W>(cpu, o.m), T::Array::default());
        for ((r, n), m) in r.as_mut().iter_mut().zip(n.as_ref()).zip(m.as_ref()) {
            *r = f(*n, *m);
        }
        put_half::<T>(cpu, o, r);
        Ok(())
    })
}

/// Wide lanes to narrow ones, with `imm` bits 7:0.
pub(super) fn narrow1<W: Lane, T: Lane, F: Fn(W, u32) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (n, mut r) = (lanes::<W>(cpu, o.n), T::Array::default());
        for (r, n) in r.as_mut().iter_mut().zip(n.as_ref()) {
            *r = f(*n, o.imm & 0xff);
        }
        put_half::<T>(cpu, o, r);
        Ok(())
    })
}

/// Wide lanes to narrow ones, where the function may raise flags; with `imm` bits 7:0. `a` is the width of the result.
pub(super) fn narrow_env<W: Lane, T: Lane, F: Fn(&mut Env, W, u32) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        with_env(cpu, |cpu, e| {
            let (n, mut r) = (lanes::<W>(cpu, o.n), T::Array::default());
            for (r, n) in r.as_mut().iter_mut().zip(n.as_ref()).take(count::<T>(o.a)) {
                *r = f(e, *n, o.imm & 0xff);
            }
            put_half::<T>(cpu, o, r);
        });
        Ok(())
    })
}
