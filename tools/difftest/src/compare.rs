//! What counts as a difference.

use std::fmt::Write as _;

use crate::encodings::{Encoding, TABLED, table};
use crate::features::Features;
use crate::generate::Sequence;
use crate::layout::{Record, WINDOW};
use crate::optional;

const SIGILL: u64 = 4;
const SIGBUS: u64 = 7;
const SIGSEGV: u64 = 11;

/// Turns ESR_EL1, as our side's kernel recorded it, into the signal that Linux would send; QEMU's record already has
/// one.
pub fn signal_of(esr: u64) -> u64 {
    if esr == 0 {
        return 0;
    }
    let class = esr >> 26 & 0x3F;
    let alignment = esr & 0x3F == 0x21;
    match class {
        // Unknown, trapped WFx and MSR, illegal state, SVE and SME access.
        0x00 | 0x01 | 0x0E | 0x18 | 0x19 | 0x1D => SIGILL,
        // PC and SP alignment.
        0x22 | 0x26 => SIGBUS,
        0x20 | 0x24 if alignment => SIGBUS,
        0x20 | 0x24 => SIGSEGV,
        _ => 1000 + class,
    }
}

/// What our side promises.
pub struct Rules {
    advertised: Vec<Encoding>,
}

impl Rules {
    /// The rules for a CPU with these features.
    pub fn new(features: &Features) -> Self {
        let all = TABLED.iter().flat_map(|class| table(*class));
        Self { advertised: all.filter(|e| features.has(e.name)).collect() }
    }

    /// Whether two results of one run differ in something that the architecture defines.
    pub fn differs(&self, sequence: &Sequence, qemu: &Record, ours: &Record) -> bool {
        if qemu.status == 0 && ours.status == 0 {
            return qemu != ours;
        }
        if qemu.status != ours.status || qemu.fault_pc != ours.fault_pc {
            return !self.beyond(sequence, qemu, ours);
        }
        // UNDEFINED changes nothing. After an abort the registers that the access loads, the part of memory that it
        // stores, and FAR's exact place in the access are open (Arm ARM D1.4.5, D19.2.40).
        let mut ours = ours.clone();
        ours.fault_address = qemu.fault_address;
        if qemu.status == SIGSEGV || qemu.status == SIGBUS {
            for reg in optional::targets(sequence.at(qemu)) {
                if let Some(x) = ours.x.get_mut(reg) {
                    *x = qemu.x[reg];
                }
                ours.v[reg] = qemu.v[reg];
            }
            ours.mem = qemu.mem;
        }
        *qemu != ours
    }

    /// A random word that QEMU takes and our side calls UNDEFINED is no difference if it is of no encoding that we
    /// advertise: QEMU's `max` CPU also has BF16, I8MM, MTE, LOR, SHA-3, SHA-512, SM3 and SM4.
    fn beyond(&self, sequence: &Sequence, qemu: &Record, ours: &Record) -> bool {
        let word = sequence.at(ours);
        ours.status == SIGILL && qemu.status != SIGILL && !self.advertised.iter().any(|e| e.matches(word))
    }
}

/// The fields that differ, a line each.
pub fn explain(input: &Record, qemu: &Record, ours: &Record) -> String {
    let mut out = String::new();
    let mut line = |name: String, before: String, a: String, b: String| {
        if a != b {
            let _ = writeln!(out, "  {name:<6} before {before}  qemu {a}  ours {b}");
        }
    };
    let hex = |v: u64| format!("{v:016x}");
    for i in 0..31 {
        line(format!("x{i}"), hex(input.x[i]), hex(qemu.x[i]), hex(ours.x[i]));
    }
    line("sp".into(), hex(input.sp), hex(qemu.sp), hex(ours.sp));
    for i in 0..32 {
        let hex = |v: [u64; 2]| format!("{:016x}_{:016x}", v[1], v[0]);
        line(format!("v{i}"), hex(input.v[i]), hex(qemu.v[i]), hex(ours.v[i]));
    }
    type Field = (&'static str, fn(&Record) -> u64);
    let fields: [Field; 6] = [
        ("nzcv", |r| r.nzcv),
        ("fpcr", |r| r.fpcr),
        ("fpsr", |r| r.fpsr),
        ("signal", |r| r.status),
        ("at pc", |r| r.fault_pc),
        ("fault", |r| r.fault_address),
    ];
    for (name, get) in fields {
        line(name.into(), hex(get(input)), hex(get(qemu)), hex(get(ours)));
    }
    for i in (0..WINDOW).step_by(8) {
        let hex = |r: &Record| {
            r.mem[i..i + 8].iter().rev().fold(String::new(), |mut acc, b| {
                let _ = write!(acc, "{b:02x}");
                acc
            })
        };
        line(format!("{:x}", input.window + i as u64), hex(input), hex(qemu), hex(ours));
    }
    out
}
