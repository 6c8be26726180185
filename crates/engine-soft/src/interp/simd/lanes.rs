//! Vectors as arrays of lanes, and the handlers that apply a function to lanes.
//!
//! Operands of these handlers: `d`, `n`, `m` are vector registers, `a` is the binary logarithm of the bytes that the
//! result has (what lies above becomes zero). `imm` is an immediate for functions of one vector, and [`indexed`] for
//! those of two.

use crate::cpu::Cpu;
use crate::fp::{Env, fpsr};
use crate::interp::op::{Handler, Operands, fallible};

const _: () = assert!(cfg!(target_endian = "little"), "lanes are laid out as the guest sees them");

/// An element of a vector.
pub(super) trait Lane: Copy + Default + 'static {
    /// A full vector.
    type Array: AsRef<[Self]> + AsMut<[Self]> + Copy + Default;
    /// Bytes of an element.
    const BYTES: usize = size_of::<Self>();
    /// Elements of a full vector.
    const COUNT: usize = 16 / Self::BYTES;

    fn split(vector: u128) -> Self::Array;
    fn join(lanes: Self::Array) -> u128;
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

            #[inline(always)]
            fn split(vector: u128) -> Self::Array {
                zerocopy::transmute!(vector)
            }

            #[inline(always)]
            fn join(lanes: Self::Array) -> u128 {
                zerocopy::transmute!(lanes)
            }
        }

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
lane!(u8, u16, u32, u64, i8, i16, i32, i64);

/// A vector as a whole, for memory accesses.
impl Lane for u128 {
    type Array = [u128; 1];

    #[inline(always)]
    fn split(vector: u128) -> Self::Array {
        [vector]
    }

    #[inline(always)]
    fn join([vector]: Self::Array) -> u128 {
        vector
    }
}

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

/// Writes the result of an operation, zero above its width.
#[inline(always)]
pub(super) fn put(cpu: &mut Cpu, o: Operands, value: u128) {
    set(cpu, o.d, value & MASKS[usize::from(o.a & 7)]);
}

/// One lane; the index wraps.
#[inline(always)]
pub(super) fn lane<T: Lane>(vector: u128, index: usize) -> T {
    T::split(vector).as_ref()[index & (T::COUNT - 1)]
}

/// All lanes the same.
#[inline(always)]
pub(super) fn splat<T: Lane>(value: T) -> u128 {
    let mut lanes = T::Array::default();
    lanes.as_mut().fill(value);
    T::join(lanes)
}

/// A vector of zeros but for lane 0.
#[inline(always)]
pub(super) fn first<T: Lane>(value: T) -> u128 {
    let mut lanes = T::Array::default();
    lanes.as_mut()[0] = value;
    T::join(lanes)
}

/// One lane replaced; the index wraps.
#[inline(always)]
pub(super) fn with_lane<T: Lane>(vector: u128, index: usize, value: T) -> u128 {
    let mut lanes = T::split(vector);
    lanes.as_mut()[index & (T::COUNT - 1)] = value;
    T::join(lanes)
}

/// The `imm` of an operation whose second operand may be one element for all lanes.
pub(super) fn indexed(index: Option<u8>) -> u32 {
    index.map_or(0, |index| u32::from(index) + 1)
}

/// The second operand.
#[inline(always)]
pub(super) fn second<T: Lane>(cpu: &Cpu, o: Operands) -> u128 {
    let m = get(cpu, o.m);
    if o.imm & 0xff == 0 { m } else { splat(lane::<T>(m, (o.imm & 0xff) as usize - 1)) }
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
        let mut r = T::split(get(cpu, o.n));
        for r in r.as_mut() {
            *r = f(*r, o.imm);
        }
        put(cpu, o, T::join(r));
        Ok(())
    })
}

/// Each lane of the destination and the operand, with the immediate.
pub(super) fn map1_onto<T: Lane, F: Fn(T, T, u32) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (mut r, n) = (T::split(get(cpu, o.d)), T::split(get(cpu, o.n)));
        for (r, n) in r.as_mut().iter_mut().zip(n.as_ref()) {
            *r = f(*r, *n, o.imm);
        }
        put(cpu, o, T::join(r));
        Ok(())
    })
}

/// Lane by lane.
pub(super) fn map2<T: Lane, F: Fn(T, T) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (mut r, m) = (T::split(get(cpu, o.n)), T::split(get(cpu, o.m)));
        for (r, m) in r.as_mut().iter_mut().zip(m.as_ref()) {
            *r = f(*r, *m);
        }
        put(cpu, o, T::join(r));
        Ok(())
    })
}

/// Lane by lane, destination first; the second operand may be an element.
pub(super) fn map3<T: Lane, F: Fn(T, T, T) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (mut r, n) = (T::split(get(cpu, o.d)), T::split(get(cpu, o.n)));
        let m = T::split(second::<T>(cpu, o));
        for ((r, n), m) in r.as_mut().iter_mut().zip(n.as_ref()).zip(m.as_ref()) {
            *r = f(*r, *n, *m);
        }
        put(cpu, o, T::join(r));
        Ok(())
    })
}

/// Each lane by itself, where the function may raise flags; it sees all operands for parameters in them.
pub(super) fn env1<T: Lane, F: Fn(&mut Env, T, Operands) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        with_env(cpu, |cpu, e| {
            let (n, mut r) = (T::split(get(cpu, o.n)), T::Array::default());
            for (r, n) in r.as_mut().iter_mut().zip(n.as_ref()).take(count::<T>(o.a)) {
                *r = f(e, *n, o);
            }
            set(cpu, o.d, T::join(r));
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
        with_env(cpu, |cpu, e| {
            let (d, n) = (T::split(get(cpu, o.d)), T::split(get(cpu, o.n)));
            let m = T::split(second::<T>(cpu, o));
            let mut r = T::Array::default();
            let sources = d.as_ref().iter().zip(n.as_ref()).zip(m.as_ref());
            for (r, ((d, n), m)) in r.as_mut().iter_mut().zip(sources).take(count::<T>(o.a)) {
                *r = f(e, *d, *n, *m);
            }
            set(cpu, o.d, T::join(r));
        });
        Ok(())
    })
}

/// The lowest lane of one operand, where the function may raise flags.
pub(super) fn scalar1<T: Lane, F: Fn(&mut Env, T, Operands) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let n = lane::<T>(get(cpu, o.n), 0);
        let r = with_env(cpu, |_, e| f(e, n, o));
        set(cpu, o.d, first(r));
        Ok(())
    })
}

/// The lowest lanes, where the function may raise flags.
pub(super) fn scalar2<T: Lane, F: Fn(&mut Env, T, T) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (n, m) = (lane::<T>(get(cpu, o.n), 0), lane::<T>(get(cpu, o.m), 0));
        let r = with_env(cpu, |_, e| f(e, n, m));
        set(cpu, o.d, first(r));
        Ok(())
    })
}

/// Adjacent lanes of the first operand, then of the second, where the function may raise flags.
pub(super) fn pair2<T: Lane, F: Fn(&mut Env, T, T) -> T + Copy + 'static>(f: F) -> Handler {
    /// The lower half of `r` from `n`, the upper one from `m`, of `lanes` each.
    #[inline(always)]
    fn fold<T: Lane>(e: &mut Env, n: u128, m: u128, lanes: usize, f: impl Fn(&mut Env, T, T) -> T) -> u128 {
        let mut r = T::Array::default();
        let (low, high) = r.as_mut()[..lanes].split_at_mut(lanes / 2);
        for (half, source) in [(low, T::split(n)), (high, T::split(m))] {
            for (r, pair) in half.iter_mut().zip(source.as_ref().chunks_exact(2)) {
                *r = f(e, pair[0], pair[1]);
            }
        }
        T::join(r)
    }
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        with_env(cpu, |cpu, e| {
            let (n, m) = (get(cpu, o.n), get(cpu, o.m));
            let r = match o.a {
                4 => fold(e, n, m, T::COUNT, f),
                _ => fold(e, n, m, T::COUNT / 2, f),
            };
            set(cpu, o.d, r);
        });
        Ok(())
    })
}

/// Folds the lanes to one of type `A`; `imm` says how many bytes there are, as a binary logarithm.
pub(super) fn across<T: Lane, A: Lane + From<T>, F: Fn(A, A) -> A + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let n = T::split(get(cpu, o.n));
        let fold = |lanes: &[T]| lanes[1..].iter().fold(A::from(lanes[0]), |r, &n| f(r, A::from(n)));
        let r = match o.imm {
            4 => fold(n.as_ref()),
            _ => fold(&n.as_ref()[..T::COUNT / 2]),
        };
        set(cpu, o.d, first(r));
        Ok(())
    })
}

/// In the `imm` of the handlers below: the narrow elements are in the upper half.
pub(super) const HIGH: u32 = 1 << 8;

/// The lower half of the result's width, or the upper one.
#[inline(always)]
fn half(vector: u128, o: Operands) -> u128 {
    if o.imm & HIGH != 0 { vector >> (4 << (o.a & 7)) } else { vector }
}

/// The lanes of the lower half, extended.
#[inline(always)]
fn extend<T: Lane, W: Lane + From<T>>(vector: u128) -> W::Array {
    let (n, mut r) = (T::split(vector), W::Array::default());
    for (r, n) in r.as_mut().iter_mut().zip(n.as_ref()) {
        *r = W::from(*n);
    }
    r
}

/// Destination, and both operands extended to its element type; the second one may be an element.
pub(super) fn widen<T: Lane, W: Lane + From<T>, F: Fn(&mut Env, W, W, W) -> W + Copy + 'static>(
    f: F,
) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        with_env(cpu, |cpu, e| {
            let m = second::<T>(cpu, o);
            let m = if o.imm & 0xff == 0 { half(m, o) } else { m };
            let (n, m) = (extend::<T, W>(half(get(cpu, o.n), o)), extend::<T, W>(m));
            let (d, mut r) = (W::split(get(cpu, o.d)), W::Array::default());
            let sources = d.as_ref().iter().zip(n.as_ref()).zip(m.as_ref());
            for (r, ((d, n), m)) in r.as_mut().iter_mut().zip(sources).take(count::<W>(o.a)) {
                *r = f(e, *d, *n, *m);
            }
            set(cpu, o.d, W::join(r));
        });
        Ok(())
    })
}

/// The first operand of wide elements, the second one extended.
pub(super) fn widen_second<T: Lane, W: Lane + From<T>, F: Fn(W, W) -> W + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (mut r, m) = (W::split(get(cpu, o.n)), extend::<T, W>(half(get(cpu, o.m), o)));
        for (r, m) in r.as_mut().iter_mut().zip(m.as_ref()) {
            *r = f(*r, *m);
        }
        put(cpu, o, W::join(r));
        Ok(())
    })
}

/// The operand extended, with `imm` bits 7:0.
pub(super) fn widen_only<T: Lane, W: Lane + From<T>, F: Fn(W, u32) -> W + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let mut r = extend::<T, W>(half(get(cpu, o.n), o));
        for r in r.as_mut() {
            *r = f(*r, o.imm & 0xff);
        }
        put(cpu, o, W::join(r));
        Ok(())
    })
}

/// Sums of adjacent lanes in elements of twice the size; `accumulate` adds to the destination.
pub(super) fn pair_long<T: Lane, W: Lane + From<T>, F: Fn(W, W, W) -> W + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (n, mut r) = (T::split(get(cpu, o.n)), W::split(get(cpu, o.d)));
        for (r, pair) in r.as_mut().iter_mut().zip(n.as_ref().chunks_exact(2)) {
            *r = f(*r, W::from(pair[0]), W::from(pair[1]));
        }
        put(cpu, o, W::join(r));
        Ok(())
    })
}

/// Puts narrow lanes, which are in the lower half of `value`, into either half; the other half becomes zero or stays.
#[inline(always)]
fn put_half(cpu: &mut Cpu, o: Operands, value: u128) {
    if o.imm & HIGH != 0 {
        set(cpu, o.d, value << 64 | get(cpu, o.d) & u128::from(u64::MAX));
    } else {
        put(cpu, o, value);
    }
}

/// Wide lanes of both operands to narrow ones.
pub(super) fn narrow2<W: Lane, T: Lane, F: Fn(W, W) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (n, m, mut r) = (W::split(get(cpu, o.n)), W::split(get(cpu, o.m)), T::Array::default());
        for ((r, n), m) in r.as_mut().iter_mut().zip(n.as_ref()).zip(m.as_ref()) {
            *r = f(*n, *m);
        }
        put_half(cpu, o, T::join(r));
        Ok(())
    })
}

/// Wide lanes to narrow ones, with `imm` bits 7:0.
pub(super) fn narrow1<W: Lane, T: Lane, F: Fn(W, u32) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        let (n, mut r) = (W::split(get(cpu, o.n)), T::Array::default());
        for (r, n) in r.as_mut().iter_mut().zip(n.as_ref()) {
            *r = f(*n, o.imm & 0xff);
        }
        put_half(cpu, o, T::join(r));
        Ok(())
    })
}

/// Wide lanes to narrow ones, where the function may raise flags; with `imm` bits 7:0. `a` is the width of the result.
pub(super) fn narrow_env<W: Lane, T: Lane, F: Fn(&mut Env, W, u32) -> T + Copy + 'static>(f: F) -> Handler {
    fallible(move |cpu, o| {
        cpu.fp_check()?;
        with_env(cpu, |cpu, e| {
            let (n, mut r) = (W::split(get(cpu, o.n)), T::Array::default());
            for (r, n) in r.as_mut().iter_mut().zip(n.as_ref()).take(count::<T>(o.a)) {
                *r = f(e, *n, o.imm & 0xff);
            }
            put_half(cpu, o, T::join(r));
        });
        Ok(())
    })
}
