//! Directed corner cases, and properties against the host's arithmetic.

use super::*;

const MODES: [(u32, Rounding); 4] =
    [(0, Rounding::TieEven), (1 << 22, Rounding::Up), (2 << 22, Rounding::Down), (3 << 22, Rounding::Zero)];

fn env(fpcr: u32) -> Env {
    Env { fpcr, fpsr: 0 }
}

/// The result and the flags raised.
fn with<R>(fpcr: u32, f: impl FnOnce(&mut Env) -> R) -> (R, u32) {
    let mut e = env(fpcr);
    let result = f(&mut e);
    (result, e.fpsr)
}

/// xorshift64*, biased towards interesting exponents.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn f64(&mut self) -> u64 {
        let bits = self.next();
        match self.next() % 8 {
            0 => bits & u64::SIGN,
            1 => bits & 0x800f_ffff_ffff_ffff,
            2 => bits & u64::SIGN | 0x7fe << 52 | bits & 0xf_ffff_ffff_ffff,
            3 => bits & 0xffff_ff00_0000_0000,
            4 | 5 => bits & 0x800f_ffff_ffff_ffff | (1023 - 30 + self.next() % 60) << 52,
            _ => bits,
        }
    }

    fn f32(&mut self) -> u32 {
        let bits = self.next() as u32;
        match self.next() % 8 {
            0 => bits & 0x8000_0000,
            1 => bits & 0x807f_ffff,
            2 => bits & 0x807f_ffff | 0xfe << 23,
            3 => bits & 0xffff_f000,
            4 | 5 => bits & 0x807f_ffff | (127 - 12 + self.next() as u32 % 24) << 23,
            _ => bits,
        }
    }
}

/// Rounds the exact value `v` to single precision as the architecture does.
fn reference_f32(v: f64, mode: Rounding) -> (u32, u32) {
    let nearest = v as f32;
    let tiny = v != 0.0 && v.abs() < f64::from(f32::MIN_POSITIVE);
    let rounded = match mode {
        Rounding::Up if f64::from(nearest) < v => nearest.next_up(),
        Rounding::Down if f64::from(nearest) > v => nearest.next_down(),
        Rounding::Zero if f64::from(nearest).abs() > v.abs() => {
            if v > 0.0 {
                nearest.next_down()
            } else {
                nearest.next_up()
            }
        }
        _ => nearest,
    };
    let mut flags = 0;
    if f64::from(rounded) != v {
        flags |= fpsr::IXC;
        if tiny {
            flags |= fpsr::UFC;
        }
        // Overflow: beyond what rounds to the largest number with an unbounded exponent.
        let limit = f64::from(f32::MAX);
        let half = (2f64).powi(103);
        let beyond = match mode {
            Rounding::TieEven => v.abs() >= limit + half,
            Rounding::Zero => v.abs() >= limit + 2.0 * half,
            Rounding::Up if v > 0.0 => v > limit,
            Rounding::Down if v < 0.0 => v < -limit,
            _ => v.abs() >= limit + 2.0 * half,
        };
        if beyond {
            flags |= fpsr::OFC;
        }
    }
    (rounded.to_bits(), flags)
}

#[test]
fn single_precision_products_round_in_every_mode() {
    let mut random = Random(1);
    for _ in 0..200_000 {
        let (a, b) = (random.f32(), random.f32());
        let (x, y) = (f32::from_bits(a), f32::from_bits(b));
        if !x.is_finite() || !y.is_finite() {
            continue;
        }
        // Exact: 48 bits, and the exponents fit.
        let exact = f64::from(x) * f64::from(y);
        for (fpcr, mode) in MODES {
            assert_eq!(with(fpcr, |e| mul(e, a, b)), reference_f32(exact, mode), "{x:e} * {y:e} {mode:?}");
            let mut noted = Env { fpcr, fpsr: fpsr::IXC };
            assert_eq!(mul(&mut noted, a, b), reference_f32(exact, mode).0);
        }
    }
}

#[test]
fn double_to_single_rounds_in_every_mode() {
    let mut random = Random(2);
    for _ in 0..200_000 {
        let spread = (1023 - 160 + random.next() % 300) << 52;
        let bits = random.next() & 0x800f_ffff_ffff_ffff | spread;
        for (fpcr, mode) in MODES {
            let converted = with(fpcr, |e| convert::<u64, u32>(e, bits, mode));
            assert_eq!(converted, reference_f32(f64::from_bits(bits), mode), "{bits:x} {mode:?}");
        }
    }
}

/// Moves the nearest result by the sign of its exact error.
fn directed(nearest: f64, error: f64, mode: Rounding) -> f64 {
    match mode {
        Rounding::Up if error > 0.0 => nearest.next_up(),
        Rounding::Down if error < 0.0 => nearest.next_down(),
        Rounding::Zero if error != 0.0 && (error < 0.0) == (nearest > 0.0) => {
            if nearest > 0.0 {
                nearest.next_down()
            } else {
                nearest.next_up()
            }
        }
        _ => nearest,
    }
}

#[test]
fn double_precision_arithmetic_rounds_in_every_mode() {
    let mut random = Random(3);
    let moderate = |random: &mut Random| {
        f64::from_bits(random.next() & 0x800f_ffff_ffff_ffff | (1023 - 60 + random.next() % 120) << 52)
    };
    for _ in 0..100_000 {
        let (x, y) = (moderate(&mut random), moderate(&mut random));
        let (a, b) = (x.to_bits(), y.to_bits());
        for (fpcr, mode) in MODES {
            let check = |name: &str, got: (u64, u32), nearest: f64, error: f64| {
                let wanted = directed(nearest, error, mode);
                let flags = if error == 0.0 { 0 } else { fpsr::IXC };
                assert_eq!(got, (wanted.to_bits(), flags), "{name} {x:e} {y:e} {mode:?}");
            };
            let sum = x + y;
            let part = sum - x;
            let error = (x - (sum - part)) + (y - part);
            if sum != 0.0 {
                check("add", with(fpcr, |e| add(e, a, b)), sum, error);
                check("sub", with(fpcr, |e| sub(e, a, b.negated())), sum, error);
            }
            check("mul", with(fpcr, |e| mul(e, a, b)), x * y, x.mul_add(y, -(x * y)));
            let quotient = x / y;
            let residue = (-quotient).mul_add(y, x) * y.signum();
            check("div", with(fpcr, |e| div(e, a, b)), quotient, residue);
            let root = x.abs().sqrt();
            check("sqrt", with(fpcr, |e| sqrt(e, a.magnitude())), root, (-root).mul_add(root, x.abs()));
        }
    }
}

#[test]
fn soft_arithmetic_equals_the_host_in_nearest_even() {
    let mut random = Random(4);
    let same = |soft: u64, host: f64, what: &str| {
        assert!(
            f64::from_bits(soft).is_nan() && host.is_nan() || soft == host.to_bits(),
            "{what}: {soft:x} {:x}",
            host.to_bits()
        );
    };
    for _ in 0..300_000 {
        let (a, b, c) = (random.f64(), random.f64(), random.f64());
        let [x, y, z] = [a, b, c].map(f64::from_bits);
        let mut e = env(0);
        same(arith::soft_add(&mut e, a, b, false), x + y, "add");
        same(arith::soft_add(&mut e, a, b, true), x - y, "sub");
        same(arith::soft_mul(&mut e, a, b, false), x * y, "mul");
        same(arith::soft_div(&mut e, a, b), x / y, "div");
        same(arith::soft_sqrt(&mut e, a), x.sqrt(), "sqrt");
        same(arith::soft_mul_add(&mut e, c, a, b), x.mul_add(y, z), "fma");
        let (a, b, c) = (random.f32(), random.f32(), random.f32());
        let [x, y, z] = [a, b, c].map(f32::from_bits);
        let same = |soft: u32, host: f32| {
            assert!(
                f32::from_bits(soft).is_nan() && host.is_nan() || soft == host.to_bits(),
                "{x:e} {y:e} {z:e}"
            );
        };
        same(arith::soft_add(&mut e, a, b, false), x + y);
        same(arith::soft_div(&mut e, a, b), x / y);
        same(arith::soft_sqrt(&mut e, a), x.sqrt());
        same(arith::soft_mul_add(&mut e, c, a, b), x.mul_add(y, z));
    }
}

#[test]
fn the_fast_path_gives_the_results_and_flags_of_the_soft_one() {
    let mut random = Random(5);
    for _ in 0..300_000 {
        let (a, b, c) = (random.f64(), random.f64(), random.f64());
        let (s, t) = (random.f32(), random.f32());
        for fpsr in [0, fpsr::IXC] {
            for fpcr in [0, fpcr::FZ, fpcr::DN, 1 << 22] {
                let mut fast = Env { fpcr, fpsr };
                let mut soft = fast;
                assert_eq!(add(&mut fast, a, b), arith::soft_add(&mut soft, a, b, false));
                assert_eq!(mul(&mut fast, a, b), arith::soft_mul(&mut soft, a, b, false));
                assert_eq!(div(&mut fast, a, b), arith::soft_div(&mut soft, a, b));
                assert_eq!(sqrt(&mut fast, a), arith::soft_sqrt(&mut soft, a));
                assert_eq!(mul_add(&mut fast, c, a, b), arith::soft_mul_add(&mut soft, c, a, b));
                assert_eq!(div(&mut fast, s, t), arith::soft_div(&mut soft, s, t));
                assert_eq!(sub(&mut fast, s, t), arith::soft_add(&mut soft, s, t, true));
                assert_eq!(
                    max(&mut fast, a, b),
                    compare::soft_extreme(&mut soft, a, b, std::cmp::Ordering::Greater)
                );
                assert_eq!(
                    min(&mut fast, s, t),
                    compare::soft_extreme(&mut soft, s, t, std::cmp::Ordering::Less)
                );
                assert_eq!(
                    compare::ordering(&mut fast, a, b, true),
                    compare::soft_ordering(&mut soft, a, b, true)
                );
                assert_eq!(
                    from_fixed::<u64>(&mut fast, b as i64 as i128, 0),
                    convert::soft_from_fixed::<u64>(&mut soft, b as i64 as i128, 0)
                );
                assert_eq!(
                    from_fixed::<u32>(&mut fast, b as i128, 0),
                    convert::soft_from_fixed::<u32>(&mut soft, b as i128, 0)
                );
                assert_eq!(
                    convert::<u64, u32>(&mut fast, a, Rounding::TieEven),
                    convert::soft_convert::<u64, u32>(&mut soft, a, Rounding::TieEven)
                );
                for mode in
                    [Rounding::TieEven, Rounding::Up, Rounding::Down, Rounding::Zero, Rounding::TieAway]
                {
                    let got = round_int(&mut fast, a, mode, true);
                    assert_eq!(got, convert::soft_round_int(&mut soft, a, mode, true), "{a:x} {mode:?}");
                }
                for (bits, signed) in [(32, true), (32, false), (64, true), (64, false)] {
                    let to = IntFormat { bits, signed };
                    let got = to_fixed(&mut fast, a, 0, to, Rounding::Zero);
                    assert_eq!(
                        got,
                        convert::soft_to_fixed(&mut soft, a, 0, to, Rounding::Zero),
                        "{a:x} {to:?}"
                    );
                }
                assert_eq!(fast.fpsr, soft.fpsr, "{a:x} {b:x} {c:x} {s:x} {t:x}");
            }
        }
    }
}

const ONE: u32 = 0x3f80_0000;
const INF: u32 = 0x7f80_0000;
const QNAN: u32 = 0x7fc0_0000;
const SNAN: u32 = 0x7f80_0001;
const MIN_NORMAL: u32 = 0x0080_0000;

#[test]
fn nans_propagate_in_the_order_of_the_architecture() {
    // A signalling NaN in second place beats a quiet one in first; it is quietened.
    assert_eq!(with(0, |e| add(e, QNAN | 1, SNAN | 2)), (QNAN | 3, fpsr::IOC));
    assert_eq!(with(0, |e| add(e, QNAN | 1, QNAN | 2)), (QNAN | 1, 0));
    assert_eq!(with(0, |e| add(e, ONE, QNAN | 0x8000_0002)), (QNAN | 0x8000_0002, 0));
    assert_eq!(with(fpcr::DN, |e| add(e, ONE, QNAN | 0x8000_0002)), (QNAN, 0));
    assert_eq!(with(0, |e| sub(e, INF, INF)), (QNAN, fpsr::IOC));
    // The addend comes first, and a quiet one does not hide infinity times zero.
    assert_eq!(with(0, |e| mul_add(e, QNAN | 1, INF, 0)), (QNAN, fpsr::IOC));
    assert_eq!(with(0, |e| mul_add(e, QNAN | 1, QNAN | 2, 0)), (QNAN | 1, 0));
    assert_eq!(with(0, |e| mul_add(e, ONE, INF, 0)), (QNAN, fpsr::IOC));
    assert_eq!(with(0, |e| mul_add(e, INF | 1 << 31, INF, ONE)), (QNAN, fpsr::IOC));
    assert_eq!(with(0, |e| mulx(e, INF | 1 << 31, 0)), (0xc000_0000, 0));
}

#[test]
fn zeros_keep_their_signs() {
    assert_eq!(with(0, |e| add(e, 0u32, 0x8000_0000)).0, 0);
    assert_eq!(with(2 << 22, |e| add(e, 0u32, 0x8000_0000)).0, 0x8000_0000);
    assert_eq!(with(2 << 22, |e| sub(e, ONE, ONE)).0, 0x8000_0000);
    assert_eq!(with(0, |e| max(e, 0x8000_0000u32, 0)).0, 0);
    assert_eq!(with(0, |e| min(e, 0u32, 0x8000_0000)).0, 0x8000_0000);
    assert_eq!(with(0, |e| max_num(e, QNAN, 0xbf80_0000)).0, 0xbf80_0000);
    assert_eq!(with(0, |e| min_num(e, ONE, SNAN)), (QNAN | 1, fpsr::IOC));
    assert_eq!(with(0, |e| sqrt(e, 0x8000_0000u32)), (0x8000_0000, 0));
}

#[test]
fn denormals_are_flushed_on_request_and_tiny_before_rounding() {
    assert_eq!(with(fpcr::FZ, |e| add(e, 1u32, ONE)), (ONE, fpsr::IDC));
    assert_eq!(with(fpcr::FZ, |e| mul(e, MIN_NORMAL, 0x3f00_0000)), (0, fpsr::UFC));
    assert_eq!(with(0, |e| mul(e, MIN_NORMAL, 0x3f00_0000)), (MIN_NORMAL >> 1, 0));
    // Rounds up to the smallest normal number, yet is tiny.
    let below_one = 0x3f7f_ffff;
    assert_eq!(with(0, |e| mul(e, MIN_NORMAL, below_one)), (MIN_NORMAL, fpsr::UFC | fpsr::IXC));
    let mut noted = Env { fpcr: 0, fpsr: fpsr::IXC };
    assert_eq!((mul(&mut noted, MIN_NORMAL, below_one), noted.fpsr), (MIN_NORMAL, fpsr::UFC | fpsr::IXC));
    assert_eq!(with(fpcr::FZ, |e| mul(e, MIN_NORMAL, below_one)), (0, fpsr::UFC));
    // Half precision has a control of its own and does not report flushed inputs.
    assert_eq!(with(fpcr::FZ, |e| add(e, 1u16, 0)), (1, 0));
    assert_eq!(with(fpcr::FZ16, |e| add(e, 1u16, 0)), (0, 0));
    assert_eq!(with(fpcr::FZ16, |e| convert::<u16, u32>(e, 1, Rounding::TieEven)), (0x3380_0000, 0));
}

#[test]
fn conversions_to_integers_saturate() {
    let signed = IntFormat { bits: 32, signed: true };
    let unsigned = IntFormat { bits: 32, signed: false };
    let to = |value: f32, format, mode| with(0, |e| to_fixed(e, value.to_bits(), 0, format, mode));
    assert_eq!(to(3e9, signed, Rounding::Zero), (0x7fff_ffff, fpsr::IOC));
    assert_eq!(to(-3e9, signed, Rounding::Zero), (0x8000_0000, fpsr::IOC));
    assert_eq!(to(-0.5, unsigned, Rounding::Zero), (0, fpsr::IXC));
    assert_eq!(to(-1.0, unsigned, Rounding::Zero), (0, fpsr::IOC));
    assert_eq!(to(f32::NAN, signed, Rounding::Zero), (0, fpsr::IOC));
    assert_eq!(to(f32::NEG_INFINITY, unsigned, Rounding::Up), (0, fpsr::IOC));
    assert_eq!(to(2.5, signed, Rounding::TieEven), (2, fpsr::IXC));
    assert_eq!(to(2.5, signed, Rounding::TieAway), (3, fpsr::IXC));
    assert_eq!(to(-2.5, signed, Rounding::TieAway), (-3i32 as u32 as u64, fpsr::IXC));
    assert_eq!(to(2.1, signed, Rounding::Up), (3, fpsr::IXC));
    assert_eq!(
        with(0, |e| to_fixed(e, ONE, 63, IntFormat { bits: 64, signed: true }, Rounding::Zero)),
        (i64::MAX as u64, fpsr::IOC)
    );
    assert_eq!(with(0, |e| from_fixed::<u32>(e, 3, 1)), (0x3fc0_0000, 0));
    assert_eq!(with(0, |e| from_fixed::<u32>(e, u64::MAX.into(), 0)), (0x5f80_0000, fpsr::IXC));
}

#[test]
fn half_precision_converts_in_both_formats() {
    let half = |fpcr, value: f32| with(fpcr, |e| convert::<u32, u16>(e, value.to_bits(), e.rounding()));
    assert_eq!(half(0, 65504.0), (0x7bff, 0));
    assert_eq!(half(0, 65520.0), (0x7c00, fpsr::OFC | fpsr::IXC));
    assert_eq!(half(fpcr::AHP, 65536.0), (0x7c00, 0));
    assert_eq!(half(fpcr::AHP, 131008.0), (0x7fff, 0));
    assert_eq!(half(fpcr::AHP, 131072.0), (0x7fff, fpsr::IOC));
    assert_eq!(half(fpcr::AHP, f32::NEG_INFINITY), (0xffff, fpsr::IOC));
    assert_eq!(half(fpcr::AHP, -f32::NAN), (0x8000, fpsr::IOC));
    assert_eq!(half(0, 2f32.powi(-25)), (0, fpsr::UFC | fpsr::IXC));
    assert_eq!(half(0, 2f32.powi(-24)), (1, 0));
    assert_eq!(with(fpcr::AHP, |e| convert::<u16, u32>(e, 0x7c00, Rounding::TieEven)), (0x4780_0000, 0));
    assert_eq!(with(0, |e| convert::<u16, u32>(e, 0x7c01, Rounding::TieEven)), (0x7fc0_2000, fpsr::IOC));
    for bits in 0..=u16::MAX {
        let wide = with(0, |e| convert::<u16, u32>(e, bits, Rounding::TieEven)).0;
        let back = with(0, |e| convert::<u32, u16>(e, wide, Rounding::TieEven)).0;
        let quiet = if bits & 0x7c00 == 0x7c00 && bits & 0x3ff != 0 { bits | 0x200 } else { bits };
        assert_eq!(back, quiet);
    }
    assert_eq!(with(0, |e| convert::<u64, u32>(e, 1, Rounding::Odd)), (1, fpsr::UFC | fpsr::IXC));
    assert_eq!(
        with(0, |e| convert::<u64, u32>(e, f64::MAX.to_bits(), Rounding::Odd)),
        (0x7f7f_ffff, fpsr::OFC | fpsr::IXC)
    );
}

#[test]
fn rounding_to_integral_values() {
    let round = |value: f64, mode, exact| with(0, |e| round_int(e, value.to_bits(), mode, exact));
    assert_eq!(round(-0.25, Rounding::TieEven, true), ((-0.0f64).to_bits(), fpsr::IXC));
    assert_eq!(round(2.5, Rounding::TieEven, false), (2f64.to_bits(), 0));
    assert_eq!(round(-2.5, Rounding::Down, false), ((-3f64).to_bits(), 0));
    assert_eq!(round(1e300, Rounding::Up, true), (1e300f64.to_bits(), 0));
    let sized = |value: f64, bits| with(0, |e| round_to_size(e, value.to_bits(), bits, Rounding::Zero));
    assert_eq!(sized(2147483647.5, 32), (2147483647f64.to_bits(), fpsr::IXC));
    assert_eq!(sized(2147483648.0, 32), ((-2147483648f64).to_bits(), fpsr::IOC));
    assert_eq!(sized(f64::NAN, 64), ((-9223372036854775808f64).to_bits(), fpsr::IOC));
    assert_eq!(sized(-2147483648.5, 32), ((-2147483648f64).to_bits(), fpsr::IXC));
}

#[test]
fn javascript_conversion_wraps() {
    let js = |value: f64| with(0, |e| jcvtzs(e, value.to_bits()));
    assert_eq!(js(1.0), ((1, true), 0));
    assert_eq!(js(-1.5), ((-1i32 as u32, false), fpsr::IXC));
    assert_eq!(js(-0.0), ((0, false), 0));
    assert_eq!(js(4294967297.0), ((1, false), fpsr::IOC));
    assert_eq!(js(-4294967297.5), ((-1i32 as u32, false), fpsr::IOC));
    assert_eq!(js(-2147483648.0), ((0x8000_0000, true), 0));
    assert_eq!(js(2147483648.0), ((0x8000_0000, false), fpsr::IOC));
    assert_eq!(js(2f64.powi(84) + 2f64.powi(32)), ((0, false), fpsr::IOC));
    assert_eq!(js(2f64.powi(70) + 2f64.powi(20)), ((1 << 20, false), fpsr::IOC));
    assert_eq!(js(f64::INFINITY), ((0, false), fpsr::IOC));
    assert_eq!(js(1e-300), ((0, false), fpsr::IXC));
    assert_eq!(with(fpcr::FZ, |e| jcvtzs(e, 1)), ((0, false), fpsr::IDC));
}

#[test]
fn estimates_follow_the_defining_loops() {
    for a in 256..512 {
        let b = (1 << 19) / (a * 2 + 1);
        assert_eq!(estimate::recip_table(a), (b + 1) >> 1);
    }
    for input in 128..512 {
        let a = if input < 256 { input * 2 + 1 } else { ((input >> 1) * 2 + 1) * 2 };
        let mut b = 512;
        while a * (b + 1) * (b + 1) < 1 << 28 {
            b += 1;
        }
        assert_eq!(estimate::rsqrt_table(input), (b + 1) >> 1, "{input}");
    }
}

#[test]
fn estimates_handle_the_edges_of_the_format() {
    assert_eq!(with(0, |e| recip_estimate(e, ONE)), (0x3f7f_8000, 0));
    assert_eq!(with(0, |e| recip_estimate(e, 0u32)), (INF, fpsr::DZC));
    assert_eq!(with(0, |e| recip_estimate(e, 1u32)), (INF, fpsr::OFC | fpsr::IXC));
    assert_eq!(with(3 << 22, |e| recip_estimate(e, 1u32)), (0x7f7f_ffff, fpsr::OFC | fpsr::IXC));
    assert_eq!(with(fpcr::FZ, |e| recip_estimate(e, 0x7e80_0000u32)), (0, fpsr::UFC));
    assert_eq!(with(0, |e| recip_estimate(e, INF | 1 << 31)), (1 << 31, 0));
    assert_eq!(with(0, |e| rsqrt_estimate(e, ONE)), (0x3f7f_8000, 0));
    assert_eq!(with(0, |e| rsqrt_estimate(e, 0x8000_0000u32)), (INF | 1 << 31, fpsr::DZC));
    assert_eq!(with(0, |e| rsqrt_estimate(e, 0xbf80_0000u32)), (QNAN, fpsr::IOC));
    assert_eq!(with(0, |e| recip_step(e, 0u32, INF)), (0x4000_0000, 0));
    assert_eq!(with(0, |e| rsqrt_step(e, 0u32, INF)), (0x3fc0_0000, 0));
    assert_eq!(with(0, |e| rsqrt_step(e, ONE, ONE)), (ONE, 0));
    assert_eq!(with(0, |e| recip_step(e, ONE, 0x4000_0000)), (0, 0));
    assert_eq!(with(0, |e| recip_exponent(e, ONE)), (0x4000_0000, 0));
    assert_eq!(with(0, |e| recip_exponent(e, 1u32)), (0x7f00_0000, 0));
}

#[test]
fn widening_multiply_add_is_single_precision() {
    assert_eq!(with(0, |e| mul_add_long(e, ONE, 0x3c00, 0x3c00)), (0x4000_0000, 0));
    assert_eq!(with(0, |e| mul_add_long(e, ONE, 0x7c01, 0x3c00)), (0x7fc0_2000, fpsr::IOC));
    assert_eq!(with(0, |e| mul_add_long(e, QNAN, 0x7c00, 0)), (QNAN, fpsr::IOC));
}
