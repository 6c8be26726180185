//! The translation against the interpreter: random instructions on values that are prone to trouble.

use crate::{
    Tier,
    cpu::{
        Stop,
        testing::{DATA, RAM, TestCpu},
    },
    decode::{Insn, decode, simd::SimdInsn},
    fp::fpsr,
    jit::{
        Jit,
        asm::Asm,
        thunks,
        translate::{Options, Room, Source, translate},
    },
};

/// Where the base registers of structure accesses point.
const BASE: u64 = DATA + 0x100;
/// Bytes of memory that are compared.
const WINDOW: usize = 0x100;
/// WFI, which ends a snippet.
const WFI: u32 = 0xd503_207f;
/// B.EQ, which keeps flags alive up to the end of a snippet.
const READER: u32 = 0x5400_0020;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn half(&mut self) -> u16 {
        match self.below(2) {
            0 => self.next() as u16,
            _ => self.pick(&[0, 0x8000, 0x3c00, 0xbc00, 0x7c00, 0xfc00, 0x7e00, 0x7d00, 1, 0x400, 0x7bff]),
        }
    }

    fn single(&mut self) -> u32 {
        match self.below(4) {
            0 => self.next() as u32,
            1 => (self.next() as i16 as f32 / 4.0).to_bits(),
            2 => {
                let edge = self.pick(&[31u32, 32, 63, 64, 52, 23]);
                let near =
                    ((1u128 << edge) as f32).to_bits().wrapping_add(self.below(5) as u32).wrapping_sub(2);
                near | (self.next() as u32 & 1 << 31)
            }
            _ => self.pick(&[
                0,
                1 << 31,
                1,
                0x8000_0001,
                0x0080_0000,
                0x7f7f_ffff,
                0x7f80_0000,
                0xff80_0000,
                0x7fc0_0001,
                0xffc0_0002,
                0x7f80_0001,
                0x3f80_0000,
                0x3eff_ffff,
                0x3f00_0000,
                0xbf00_0000,
            ]),
        }
    }

    fn double(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next(),
            1 => (self.next() as i16 as f64 / 4.0).to_bits(),
            2 => {
                let edge = self.pick(&[31u32, 32, 63, 64, 52, 23]);
                let near = ((1u128 << edge) as f64).to_bits().wrapping_add(self.below(5)).wrapping_sub(2);
                near | (self.next() & 1 << 63)
            }
            _ => self.pick(&[
                0,
                1 << 63,
                1,
                0x0010 << 48,
                0x7fef_ffff_ffff_ffff,
                0x7ff0 << 48,
                0xfff0 << 48,
                0x7ff8_0000_0000_0001,
                0xfff8_0000_0000_0002,
                0x7ff0_0000_0000_0001,
                0x3ff0 << 48,
                0x3fdf_ffff_ffff_ffff,
                0x3fe0 << 48,
                0xbfe0 << 48,
                0x41df_ffff_ffe0_0000,
            ]),
        }
    }

    fn integers(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next(),
            1 => self.next() & self.next() & self.next() & 0x0f0f_0f0f_0f0f_0f0f,
            2 => self.next() | 0x7f7f_7f7f_7f7f_7f7f,
            _ => {
                self.pick(&[0, u64::MAX, 0x8000_8000_8000_8000, 0x8080_8080_7f7f_7f7f, 0x7fff_ffff_8000_0000])
            }
        }
    }

    fn vector(&mut self) -> u128 {
        let both = |low: u64, high: u64| u128::from(high) << 64 | u128::from(low);
        match self.below(4) {
            0 => (0..8).fold(0, |v, _| v << 16 | u128::from(self.half())),
            1 => (0..4).fold(0, |v, _| v << 32 | u128::from(self.single())),
            2 => both(self.double(), self.double()),
            _ => both(self.integers(), self.integers()),
        }
    }

    /// An instruction of the group, with few different registers most of the time.
    fn word(&mut self) -> u32 {
        const CLASSES: [u32; 12] = [
            0x0e00_0000,
            0x0f00_0000,
            0x1e00_0000,
            0x1f00_0000,
            0x0e20_0400,
            0x0e20_0800,
            0x0f00_0400,
            0x0e00_0800,
            0x1e20_0800,
            0x0c00_0000,
            0x0d00_0000,
            0x1e20_0000,
        ];
        const CRYPTO: [u32; 6] =
            [0x4e28_4800, 0x5e00_0000, 0x5e28_0800, 0xce00_0000, 0xce80_0000, 0xce60_8000];
        let random = self.next() as u32;
        let mut word = match self.below(16) {
            0 => {
                let class = self.pick(&CRYPTO);
                let free = match class {
                    0x4e28_4800 => 0x0000_33ff,
                    0x5e00_0000 => 0x001f_73ff,
                    0x5e28_0800 => 0x0000_33ff,
                    _ => 0x007f_ffff,
                };
                class | random & free
            }
            _ => self.pick(&CLASSES) | random & 0x60ff_ffff | random >> 3 & 0x9000_0000,
        };
        if self.below(4) != 0 {
            word &= !0x0003_0318 | 0x0001_0000;
        }
        word
    }
}

/// The instruction of a word to test, if it is one.
fn subject(word: u32) -> Option<SimdInsn> {
    match decode(word) {
        Insn::Simd(insn) => Some(insn),
        _ => None,
    }
}

/// The state that instructions of the group change.
#[derive(Clone, PartialEq)]
struct State {
    v: [u128; 32],
    x: [u64; 33],
    nzcv: u32,
    fpsr: u32,
    memory: Vec<u8>,
}

impl State {
    fn random(r: &mut Random, insn: Option<SimdInsn>) -> Self {
        let mut v = [0; 32];
        v.fill_with(|| r.vector());
        let mut x = [0; 33];
        x.fill_with(|| if r.below(2) == 0 { r.integers() } else { r.double() });
        // What loops count.
        x[28] = 3;
        match insn {
            Some(
                SimdInsn::Multiple { how, .. }
                | SimdInsn::Single { how, .. }
                | SimdInsn::Replicate { how, .. },
            ) => {
                let index = if how.rn == 31 { 32 } else { usize::from(how.rn) };
                x[index] = BASE + if how.rn == 31 { 0 } else { r.below(64) };
            }
            _ => x[32] = DATA,
        }
        x[31] = 0;
        let memory = (0..WINDOW).map(|_| r.next() as u8).collect();
        Self { v, x, nzcv: (r.next() as u32) & 0xf << 28, fpsr: r.pick(&[0, 0, fpsr::IXC, fpsr::QC]), memory }
    }

    fn put(&self, t: &mut TestCpu, pc: u64) {
        t.cpu.v = self.v;
        t.cpu.x[..33].copy_from_slice(&self.x);
        (t.cpu.nzcv, t.cpu.fpsr, t.cpu.pc) = (self.nzcv, self.fpsr, pc);
        t.cpu.stop = Stop::Continue;
        t.memory.write(tearless_memory::Gpa(BASE), &self.memory).unwrap();
    }

    fn get(t: &TestCpu) -> Self {
        let mut memory = vec![0; WINDOW];
        t.memory.read(tearless_memory::Gpa(BASE), &mut memory).unwrap();
        let mut x = [0; 33];
        x.copy_from_slice(&t.cpu.x[..33]);
        Self { v: t.cpu.v, x, nzcv: t.cpu.nzcv, fpsr: t.cpu.fpsr, memory }
    }

    /// Whether a result may have been rounded up to the smallest normal number.
    fn has_least(&self) -> bool {
        self.v.iter().any(|v| {
            let singles = (0..4).any(|i| ((v >> (32 * i)) as u32) << 1 == 0x0100_0000);
            let doubles = (0..2).any(|i| ((v >> (64 * i)) as u64) << 1 == 0x0020 << 48);
            let halves = (0..8).any(|i| ((v >> (16 * i)) as u16) << 1 == 0x0800);
            singles || doubles || halves
        })
    }

    fn difference(&self, other: &Self) -> Option<String> {
        let mut text = String::new();
        for i in 0..32 {
            if self.v[i] != other.v[i] {
                text += &format!(" v{i} {:032x} not {:032x}", other.v[i], self.v[i]);
            }
        }
        for i in 0..33 {
            if self.x[i] != other.x[i] {
                text += &format!(" x{i} {:016x} not {:016x}", other.x[i], self.x[i]);
            }
        }
        if self.nzcv != other.nzcv {
            text += &format!(" nzcv {:x} not {:x}", other.nzcv >> 28, self.nzcv >> 28);
        }
        // See the head of the module.
        let ignored = if self.has_least() { fpsr::UFC } else { 0 };
        if (self.fpsr ^ other.fpsr) & !ignored != 0 {
            text += &format!(" fpsr {:x} not {:x}", other.fpsr, self.fpsr);
        }
        if self.memory != other.memory {
            text += " memory";
        }
        (!text.is_empty()).then_some(text)
    }
}

/// A CPU that translates; none where the host cannot.
fn translating() -> Option<TestCpu> {
    let mut cpu = TestCpu::new(&[]);
    let options = crate::Options { tier: Tier::Jit, exact_flags: true, ..Default::default() };
    cpu.cpu.use_jit(Jit::for_vcpu(options, 1, &cpu.cpu.mailbox.attention)?);
    Some(cpu)
}

/// Random code of the group, at least one instruction; the first one may access memory.
fn snippet(r: &mut Random, length: usize) -> Vec<u32> {
    let accesses = |insn: &SimdInsn| {
        matches!(insn, SimdInsn::Multiple { .. } | SimdInsn::Single { .. } | SimdInsn::Replicate { .. })
    };
    let mut words = Vec::new();
    while words.len() < length {
        let word = r.word();
        if subject(word).is_some_and(|insn| words.is_empty() || !accesses(&insn)) {
            words.push(word);
        }
    }
    words
}

/// Instructions that are translated together.
fn companions(r: &mut Random) -> Vec<u32> {
    let mut v = || r.below(5) as u32;
    let (d, n, m, copy) = (v(), v(), v(), v());
    let precision = (v() & 1) << 22;
    // The condition is neither AL nor NV.
    let cond = (v() * 5 + v()) % 14 << 12;
    // SUBS, so that no earlier flags are needed afterwards; MRS of NZCV.
    let end = [0xeb02_003f, 0xd53b_4209];
    match r.below(6) {
        // AESE, AESMC; AESD, AESIMC.
        0 => vec![0x4e28_4800 | n << 5 | d, 0x4e28_6800 | d << 5 | d],
        1 => vec![0x4e28_5800 | n << 5 | d, 0x4e28_7800 | d << 5 | d],
        // MOV, SHA256H, SHA256H2.
        2 => {
            let sums = |op: u32, d: u32, n: u32| 0x5e00_0000 | op << 12 | m << 16 | n << 5 | d;
            vec![0x4ea0_1c00 | d << 16 | d << 5 | copy, sums(4, d, n), sums(5, n, copy)]
        }
        // FCMP, FCMPE, also with zero; CSEL, FCSEL.
        3 => vec![
            0x1e20_2000 | precision | m << 16 | n << 5 | (d & 1) << 4,
            0x9a83_0041 | cond,
            end[0],
            end[1],
        ],
        4 => vec![
            0x1e20_2008 | precision | n << 5 | (d & 1) << 4,
            0x1e60_0c00 | cond | m << 16 | n << 5 | d,
            end[0],
            end[1],
        ],
        // FCMP, B.cond over a MOV to X1, both ways to SUBS.
        _ => vec![
            0x1e20_2000 | precision | m << 16 | n << 5 | (d & 1) << 4,
            0x5400_0040 | cond >> 12,
            0xaa02_03e1,
            end[0],
            end[1],
        ],
    }
}

/// Compares snippets, `count` instructions of them in all, from `seed` on; what differs.
fn compare(seed: u64, count: usize, mut snippet: impl FnMut(&mut Random) -> Vec<u32>) -> Vec<String> {
    let mut r = Random(seed);
    let mut plain = TestCpu::new(&[]);
    let Some(mut jit) = translating() else { return Vec::new() };
    let (mut code, mut snippets) = (Vec::new(), Vec::new());
    while code.len() < count {
        let words = snippet(&mut r);
        snippets.push((code.len(), words.len()));
        code.extend(words);
        code.extend([WFI, READER]);
    }
    plain.put_code(RAM, &code);
    jit.put_code(RAM, &code);
    let mut wrong = Vec::new();
    for &(at, length) in &snippets {
        let words = &code[at..at + length];
        let (pc, end) = (RAM + 4 * at as u64, RAM + 4 * (at + length) as u64);
        for _ in 0..6 {
            let before = State::random(&mut r, subject(words[0]));
            before.put(&mut plain, pc);
            while plain.cpu.pc < end {
                plain.steps(1);
            }
            before.put(&mut jit, pc);
            jit.cpu.run_jit();
            assert_eq!((jit.cpu.stop, jit.cpu.pc), (Stop::Wfi, end + 4), "{words:08x?}");
            if let Some(difference) = State::get(&plain).difference(&State::get(&jit)) {
                wrong.push(format!("{words:08x?} {:x?}:{difference}", subject(words[0])));
                break;
            }
        }
    }
    wrong
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

#[test]
fn random_instructions_do_what_the_interpreter_does() {
    assert_none(&compare(1, 40_000, |r| snippet(r, 1)));
}

#[test]
fn random_sequences_do_what_the_interpreter_does() {
    assert_none(&compare(2, 20_000, |r| {
        let length = 1 + r.below(12) as usize;
        snippet(r, length)
    }));
}

#[test]
fn companions_do_what_the_interpreter_does() {
    assert_none(&compare(3, 20_000, companions));
}

/// A loop of three iterations, counted in X28, and perhaps something before and behind it.
fn looping(r: &mut Random) -> Vec<u32> {
    let mut words = Vec::new();
    let body = 1 + r.below(6) as usize;
    while words.len() < body {
        let word = r.word();
        let Some(insn) = subject(word) else { continue };
        let writes_general = matches!(
            insn,
            SimdInsn::Multiple { .. }
                | SimdInsn::Single { .. }
                | SimdInsn::Replicate { .. }
                | SimdInsn::ToGeneral { .. }
                | SimdInsn::FpToGeneral { .. }
                | SimdInsn::MoveToGeneral { .. }
                | SimdInsn::JavaScript { .. }
        );
        if !writes_general {
            words.push(word);
        }
    }
    // SUBS X28, X28, #1; B.NE back.
    words.extend([0xf100_079c, 0x5400_0001 | (body as u32 + 1).wrapping_neg() << 5 & 0x00ff_ffe0]);
    if r.below(2) == 0 {
        words.extend(snippet(r, 1).into_iter().filter(|&word| word & 0x0e00_0000 != 0x0c00_0000));
    }
    words
}

#[test]
fn loops_do_what_the_interpreter_does() {
    assert_none(&compare(4, 20_000, looping));
}

#[test]
#[ignore = "takes minutes"]
fn many_random_sequences() {
    for seed in 0..100 {
        assert_none(&compare(1000 + seed, 100_000, |r| {
            let length = 1 + r.below(1 + seed % 16) as usize;
            snippet(r, length)
        }));
    }
}

/// Whether there is a translation of `word`: whether the interpreter is not called before WFI needs it.
fn is_translated(word: u32) -> bool {
    let (mut asm, mut cold) = (Asm::new(), Asm::new());
    let thunks = thunks::emit(&mut asm, 0, 0);
    let mut page = [WFI; 1024];
    page[0] = word;
    let source =
        Source { host: page.as_ptr().cast(), word: 0, end: 1024, mode: 0, page: 0, code: 0, cells: 0 };
    asm.restart(0);
    cold.restart(1 << 20);
    translate(
        (&mut asm, &mut cold, &mut Room::default()),
        &source,
        &thunks,
        Options { exact_flags: true, ..Options::default() },
    );
    // MOV EAX, instruction.
    let place = |word: u32| {
        let [a, b, c, d] = word.to_le_bytes();
        asm.bytes().windows(5).position(|w| w == [0xb8, a, b, c, d])
    };
    place(word).is_none_or(|at| place(WFI).is_some_and(|end| at > end))
}

#[test]
#[ignore = "prints a list"]
fn coverage() {
    let mut r = Random(1);
    let mut lacking = std::collections::BTreeMap::new();
    let (mut all, mut done) = (0, 0);
    for _ in 0..300_000 {
        let word = r.word();
        let Some(insn) = subject(word) else { continue };
        all += 1;
        if is_translated(word) {
            done += 1;
        } else {
            let text = format!("{insn:?}");
            let key = text.split(", rd").next().unwrap_or_default().to_owned();
            *lacking.entry(key).or_insert(0) += 1;
        }
    }
    println!("{done} of {all}");
    for (key, n) in lacking {
        println!("{n:6} {key}");
    }
}
