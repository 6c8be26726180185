//! Directed tests: places where other emulators have been wrong, with all the operands that matter.
//!
//! Each job is one short sequence and a list of inputs: cross products of special values, or every value of a format
//! that is small enough.

use crate::encodings::{Class, Encoding, Reg, bits, table};
use crate::features::Features;
use crate::generate::Sequence;
use crate::layout::Record;

/// One sequence with its inputs.
pub struct Job {
    /// The sequence; operands are V1, V2, V3 or X1, X2, X3, the result is V0 or X0.
    pub sequence: Sequence,
    /// The inputs, their slots not yet filled in.
    pub inputs: Vec<Record>,
}

const H: &[u64] = &[
    0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x8400, 0x3C00, 0xBC00, 0x3800, 0x3E00, 0x4100, 0x7BFF,
    0xFBFF, 0x7C00, 0xFC00, 0x7C01, 0xFD55, 0x7E00, 0xFE01, 0x7FFF,
];
const S: &[u64] = &[
    0,
    0x8000_0000,
    1,
    0x8000_0001,
    0x007F_FFFF,
    0x0080_0000,
    0x3F80_0000,
    0xBF80_0000,
    0x3F00_0000,
    0x3FC0_0000,
    0x4020_0000,
    0x4B00_0001,
    0x4EFF_FFFF,
    0x4F00_0000,
    0xCF00_0000,
    0xCF00_0001,
    0x4F7F_FFFF,
    0x4F80_0000,
    0x5EFF_FFFF,
    0x5F00_0000,
    0xDF00_0000,
    0x5F80_0000,
    0x7F7F_FFFF,
    0xFF7F_FFFF,
    0x7F80_0000,
    0xFF80_0000,
    0x7F80_0001,
    0xFFA5_5555,
    0x7FC0_0000,
    0xFFC0_0001,
];
const D: &[u64] = &[
    0,
    1 << 63,
    1,
    1 << 63 | 1,
    0x000F_FFFF_FFFF_FFFF,
    0x0010_0000_0000_0000,
    0x3FF0_0000_0000_0000,
    0xBFF0_0000_0000_0000,
    0x3FE0_0000_0000_0000,
    0x3FF8_0000_0000_0000,
    0x4004_0000_0000_0000,
    0x4330_0000_0000_0001,
    0x41DF_FFFF_FFC0_0000,
    0x41DF_FFFF_FFE0_0000,
    0x41E0_0000_0000_0000,
    0xC1E0_0000_0000_0000,
    0xC1E0_0000_0010_0000,
    0xC1E0_0000_0020_0000,
    0x41EF_FFFF_FFF0_0000,
    0x41F0_0000_0000_0000,
    0x43DF_FFFF_FFFF_FFFF,
    0x43E0_0000_0000_0000,
    0xC3E0_0000_0000_0000,
    0x43F0_0000_0000_0000,
    0x36A0_0000_0000_0000,
    0x380F_FFFF_FFFF_FFFF,
    0x47EF_FFFF_F000_0000,
    0x3E60_0000_0000_0000,
    0x40EF_FFE0_0000_0000,
    0x7FEF_FFFF_FFFF_FFFF,
    0xFFEF_FFFF_FFFF_FFFF,
    0x7FF0_0000_0000_0000,
    0xFFF0_0000_0000_0000,
    0x7FF0_0000_0000_0001,
    0xFFF5_5555_5555_5555,
    0x7FF8_0000_0000_0000,
    0xFFF8_0000_0000_0001,
];
const X: &[u64] = &[
    0,
    1,
    2,
    u64::MAX,
    u64::MAX - 1,
    i64::MAX as u64,
    i64::MIN as u64,
    i32::MAX as u64,
    0x8000_0000,
    0xFFFF_FFFF,
    0x1_0000_0000,
    0x1_7FFF_FFFF,
    0x8000,
    0x80,
];
const I16: &[u64] = &[0, 1, 2, 0x3FFF, 0x4000, 0x7FFE, 0x7FFF, 0x8000, 0x8001, 0xC000, 0xFFFF];
const I32: &[u64] = &[0, 1, 2, 0x4000_0000, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xC000_0000, 0xFFFF_FFFF];

/// Rounding modes, flush-to-zero, default NaN, FZ16, alternative half precision.
const FPCR_MODES: &[u64] =
    &[0, 1 << 22, 2 << 22, 3 << 22, 1 << 24, 1 << 25, 1 << 24 | 1 << 25 | 1 << 19, 1 << 19, 1 << 26];

fn job(name: &'static str, words: Vec<u32>, inputs: Vec<Record>) -> Job {
    let names = vec![name; words.len()];
    Job { sequence: Sequence::line(words, names), inputs }
}

/// The word of `encoding` with operands 1, 2, 3 and result 0, its free bits from `free`.
fn word_with(encoding: &Encoding, free: u32) -> Option<u32> {
    let mut word = free & !encoding.mask | encoding.value;
    let fields = encoding.fields;
    for (kind, low, number) in [(fields.d, 0, 0), (fields.n, 5, 1), (fields.m, 16, 2), (fields.a, 10, 3)] {
        if kind != Reg::None {
            word = word & !(0x1F << low) | number << low;
        }
    }
    (encoding.ok)(word).then_some(word)
}

/// Every allocated word of `encoding` as far as size, Q and the like go: at most `limit` of them.
fn words_of(encoding: &Encoding, limit: usize) -> Vec<u32> {
    let fields = encoding.fields;
    let mut free: Vec<u32> = (0..32).filter(|bit| encoding.mask >> bit & 1 == 0).collect();
    for (kind, low) in [(fields.d, 0), (fields.n, 5), (fields.m, 16), (fields.a, 10)] {
        free.retain(|bit| kind == Reg::None || !(low..low + 5).contains(bit));
    }
    let count = 1u64 << free.len().min(16);
    let step = (count / limit as u64).max(1);
    let mut words: Vec<u32> = (0..count)
        .step_by(step as usize)
        .filter_map(|n| {
            // High bits (Q, U, size) vary fastest.
            let bits =
                free.iter().rev().enumerate().fold(0, |acc, (i, bit)| acc | ((n >> i & 1) as u32) << bit);
            word_with(encoding, bits)
        })
        .collect();
    words.dedup();
    words
}

fn with(change: impl FnOnce(&mut Record)) -> Record {
    let mut record = Record::zero();
    change(&mut record);
    record
}

/// Scalar floating point and its vector forms on all pairs of special values, in all modes.
fn floating_point(jobs: &mut Vec<Job>) {
    for encoding in table(Class::Fp) {
        for word in words_of(&encoding, 24) {
            let values = match bits(word, 23, 22) {
                0 => S,
                1 => D,
                _ => H,
            };
            let mut inputs = Vec::new();
            for mode in FPCR_MODES {
                for (i, a) in values.iter().enumerate() {
                    for (j, b) in values.iter().enumerate() {
                        let one_operand = encoding.fields.m == Reg::None;
                        if one_operand && j != 0 {
                            continue;
                        }
                        let c = values[(i * 7 + j * 3) % values.len()];
                        inputs.push(with(|r| {
                            r.fpcr = *mode;
                            r.v[0] = [u64::MAX; 2];
                            r.v[1] = [*a, u64::MAX];
                            r.v[2] = [*b, u64::MAX];
                            r.v[3] = [c, u64::MAX];
                            r.x[1] = X[(i + j) % X.len()];
                        }));
                    }
                }
            }
            jobs.push(job(encoding.name, vec![word], inputs));
        }
    }
}

/// Every half-precision value through every unary half-precision instruction, eight at a time.
fn half_exhaustive(jobs: &mut Vec<Job>) {
    for encoding in table(Class::Simd) {
        let unary_half = encoding.value & 0x1F7E_0C00 == 0x0E78_0800 && encoding.mask >> 28 & 1 == 1;
        let widen = encoding.name == "fcvtl";
        if !unary_half && !widen {
            continue;
        }
        for word in words_of(&encoding, 8) {
            let mut inputs = Vec::new();
            for base in (0..0x1_0000u64).step_by(8) {
                let lane = |i: u64| (base + i) & 0xFFFF;
                let low = (0..4).fold(0, |acc, i| acc | lane(i) << (16 * i));
                let high = (4..8).fold(0, |acc, i| acc | lane(i) << (16 * (i - 4)));
                let mode = FPCR_MODES[(base as usize / 8) % FPCR_MODES.len()];
                inputs.push(with(|r| {
                    r.fpcr = mode;
                    r.v[1] = [low, high];
                }));
            }
            jobs.push(job(encoding.name, vec![word], inputs));
        }
    }
}

/// Vector and scalar SIMD floating point: pairs of special values, different ones in each lane.
fn vector_floating_point(jobs: &mut Vec<Job>) {
    for encoding in table(Class::Simd).iter().filter(|e| e.name.starts_with('f') && !e.name.contains("imm")) {
        for word in words_of(encoding, 32) {
            let half_group = bits(word, 22, 21) == 2 && bits(word, 24, 24) == 0;
            let half_element = bits(word, 24, 24) == 1 && bits(word, 23, 22) == 0;
            let (values, width) = match bits(word, 22, 22) {
                _ if half_group || half_element => (H, 16),
                0 => (S, 32),
                _ => (D, 64),
            };
            let lanes = 128 / width;
            let fill = |first: usize, step: usize| {
                let all = (0..lanes).fold(0u128, |acc, lane| {
                    acc | u128::from(values[(first + step * lane) % values.len()]) << (lane * width)
                });
                [all as u64, (all >> 64) as u64]
            };
            let mut inputs = Vec::new();
            for (i, a) in (0..values.len()).step_by(lanes).enumerate() {
                for b in 0..values.len() {
                    for mode in 0..3 {
                        inputs.push(with(|r| {
                            r.fpcr = FPCR_MODES[(mode * 3 + b + i) % FPCR_MODES.len()];
                            r.v[0] = fill(a * 5 + b * 3, 7);
                            r.v[1] = fill(a, 1);
                            r.v[2] = fill(b, 1 + mode);
                        }));
                    }
                }
            }
            jobs.push(job(encoding.name, vec![word], inputs));
        }
    }
}

/// The estimate instructions on every fraction that their tables tell apart, at many exponents.
fn estimates(jobs: &mut Vec<Job>) {
    // FRECPE, FRSQRTE, FRECPX on S and D; URECPE, URSQRTE.
    for (name, word) in [
        ("frecpe s", 0x5EA1_D820),
        ("frsqrte s", 0x7EA1_D820),
        ("frecpx s", 0x5EA1_F820),
        ("frecpe d", 0x5EE1_D820),
        ("frsqrte d", 0x7EE1_D820),
        ("frecpx d", 0x5EE1_F820),
        ("urecpe", 0x0EA1_C820),
        ("ursqrte", 0x2EA1_C820),
    ] {
        let double = name.ends_with(" d");
        let mut inputs = Vec::new();
        for top in 0..1024u64 {
            for (i, exponent) in [0u64, 1, 2, 0x7E, 0x7F, 0x80, 0xFD, 0xFE].iter().enumerate() {
                let value = if double {
                    let exponent =
                        if *exponent >= 0x7E { exponent + 0x380 + i as u64 * 0x40 } else { *exponent };
                    exponent.min(0x7FE) << 52 | top << 42 | top & 3
                } else {
                    exponent << 23 | top << 13 | top & 3
                };
                let sign = if top % 5 == 0 { if double { 1 << 63 } else { 1 << 31 } } else { 0 };
                inputs.push(with(|r| {
                    r.fpcr = FPCR_MODES[(top as usize + i) % FPCR_MODES.len()];
                    r.v[1] = [value | sign | if double { 0 } else { (top << 54) | (*exponent << 40) }, 0];
                }));
            }
        }
        jobs.push(job(name, vec![word], inputs));
    }
}

/// Saturating and rounding multiplies on all triples of boundary values.
fn saturating(jobs: &mut Vec<Job>) {
    const NAMES: &[&str] = &[
        "sqdmulh",
        "sqdmulh s",
        "sqrdmlah/sqrdmlsh",
        "sqrdmlah s",
        "sqdmlal",
        "sqdmlsl",
        "sqdmull",
        "sqadd s",
        "sqsub s",
        "sqrshl s",
        "sqshl s",
        "suqadd s",
        "sqabs/sqneg s",
        "srshl s",
        "sshl s",
        "sqxtn s",
        "sqxtun s",
    ];
    for encoding in table(Class::Simd).iter().filter(|e| NAMES.contains(&e.name)) {
        for word in words_of(encoding, 32) {
            let values = match bits(word, 23, 22) {
                2 => I32,
                3 => X,
                _ => I16,
            };
            let mut inputs = Vec::new();
            for a in values {
                for b in values {
                    for c in values {
                        inputs.push(with(|r| {
                            r.v[0] = [c | c << 16, *c];
                            r.v[1] = [a | a << 32, *a];
                            r.v[2] = [b | b << 32, *b];
                        }));
                    }
                }
            }
            jobs.push(job(encoding.name, vec![word], inputs));
        }
    }
    // Shift counts around the width, from a register's low byte.
    for encoding in table(Class::Simd).iter().filter(|e| e.name.contains("shl") && e.fields.m == Reg::V) {
        for word in words_of(encoding, 32) {
            let inputs = (0..256u64)
                .flat_map(|count| X.iter().map(move |x| (count, *x)))
                .map(|(count, x)| {
                    let every =
                        |v: u64, width: u32| (0..64).step_by(width as usize).fold(0, |acc, at| acc | v << at);
                    let width = 8 << bits(word, 23, 22);
                    with(|r| {
                        r.v[1] = [x, x.rotate_left(13)];
                        r.v[2] = [every(count, width), every(count, width)];
                    })
                })
                .collect();
            jobs.push(job(encoding.name, vec![word], inputs));
        }
    }
}

/// TBL and TBX with every index.
fn tables(jobs: &mut Vec<Job>) {
    for encoding in table(Class::Simd).iter().filter(|e| e.name == "tbl" || e.name == "tbx") {
        for word in words_of(encoding, 64) {
            let inputs = (0..256u64)
                .step_by(8)
                .map(|base| {
                    let index = (0..8).fold(0, |acc, i| acc | (base + i) << (8 * i));
                    with(|r| {
                        for (i, v) in r.v.iter_mut().enumerate() {
                            *v = [0x0706_0504_0302_0100 + 0x1111 * i as u64, !(i as u64)];
                        }
                        r.v[2] = [index, index.rotate_left(24)];
                    })
                })
                .collect();
            jobs.push(job(encoding.name, vec![word], inputs));
        }
    }
}

/// Integer instructions with carry, conditions and variable shifts, on boundary values and all flags.
fn integer(jobs: &mut Vec<Job>) {
    const NAMES: &[&str] = &[
        "adc/sbc",
        "ccmn/ccmp reg",
        "ccmn/ccmp imm",
        "csel",
        "udiv",
        "sdiv",
        "shift reg",
        "smulh",
        "umulh",
        "madd/msub",
        "smaddl/smsubl",
        "umaddl/umsubl",
        "cls",
        "clz",
        "crc32",
        "rmif",
        "setf",
        "cfinv",
        "xaflag",
        "axflag",
    ];
    for encoding in table(Class::Integer).iter().filter(|e| NAMES.contains(&e.name)) {
        let shift = encoding.name == "shift reg";
        for word in words_of(encoding, 64) {
            let mut inputs = Vec::new();
            let amounts: Vec<u64> = if shift { (0..=130).collect() } else { X.to_vec() };
            for a in X {
                for (i, b) in amounts.iter().enumerate() {
                    inputs.push(with(|r| {
                        r.x[1] = *a;
                        r.x[2] = *b;
                        r.x[3] = X[(i * 5) % X.len()];
                        r.nzcv = ((i as u64) & 15) << 28;
                    }));
                }
            }
            inputs.extend((0..16u64).map(|flags| {
                with(|r| {
                    r.nzcv = flags << 28;
                    r.x[1] = 0x1234_5678_9ABC_DEF0 + flags;
                    r.x[2] = 3;
                })
            }));
            jobs.push(job(encoding.name, vec![word], inputs));
        }
    }
}

/// All directed jobs of the given classes, as far as `features` has them.
pub fn jobs(classes: &[Class], features: &Features) -> Vec<Job> {
    let mut jobs = Vec::new();
    for class in classes {
        match class {
            Class::Integer => integer(&mut jobs),
            Class::Fp => floating_point(&mut jobs),
            Class::Simd => {
                half_exhaustive(&mut jobs);
                vector_floating_point(&mut jobs);
                estimates(&mut jobs);
                saturating(&mut jobs);
                tables(&mut jobs);
            }
            _ => {}
        }
    }
    jobs.retain(|job| features.has(job.sequence.names[0]));
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_jobs_with_inputs() {
        for class in [Class::Integer, Class::Fp, Class::Simd] {
            let jobs = jobs(&[class], &Features::everything());
            assert!(jobs.len() > 20, "{class:?}");
            assert!(jobs.iter().all(|j| !j.inputs.is_empty()));
        }
    }

    #[test]
    fn half_precision_is_covered() {
        let mut jobs = Vec::new();
        half_exhaustive(&mut jobs);
        for name in ["fcvtl", "fsqrt v", "frintn/frinta v", "frecpe/frsqrte", "scvtf/ucvtf v"] {
            assert!(jobs.iter().any(|j| j.sequence.names[0] == name), "{name}");
        }
    }
}
