//! What counts as a difference.

use std::cell::Cell;
use std::fmt::Write as _;

use crate::encodings::{Encoding, TABLED, table};
use crate::features::Features;
use crate::generate::Sequence;
use crate::layout::{Fault, LOGGED, Record, WINDOW};
use crate::optional;
use crate::side::Kind;

/// In FPSR: underflow, inexact.
const UFC: u64 = 1 << 3;
const IXC: u64 = 1 << 4;

const SIGILL: u64 = 4;
const SIGTRAP: u64 = 5;
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
        0x20 | 0x21 | 0x24 | 0x25 if alignment => SIGBUS,
        0x20 | 0x21 | 0x24 | 0x25 => SIGSEGV,
        0x3C => SIGTRAP,
        _ => 1000 + class,
    }
}

/// What our side promises.
pub struct Rules {
    advertised: Vec<Encoding>,
    interrupted: bool,
    lazy_flags: bool,
    /// Differences that were only underflows.
    underflows: Cell<u64>,
}

impl Rules {
    /// The rules for a CPU with these features, which is interrupted now and then or not, and whose
    /// translator knows only such flags at a fault as will be read or all.
    pub fn new(features: &Features, interrupted: bool, lazy_flags: bool) -> Self {
        let all = TABLED.iter().flat_map(|class| table(*class));
        Self {
            advertised: all.filter(|e| features.has(e.name)).collect(),
            interrupted,
            lazy_flags,
            underflows: Cell::default(),
        }
    }

    /// Whether the results of two sides differ.
    pub fn differ(&self, kinds: [Kind; 2], sequence: &Sequence, results: [&Record; 2]) -> bool {
        match kinds {
            [Kind::Qemu, Kind::Qemu] => results[0] != results[1],
            [Kind::Qemu, _] => self.differs(sequence, results[0], results[1]),
            _ => self.tiers_differ(sequence, results[0], results[1]),
        }
    }

    /// Whether two tiers of the software CPU differ: they must not in anything, defined or not, but for one flag.
    fn tiers_differ(&self, sequence: &Sequence, one: &Record, other: &Record) -> bool {
        if one == other || self.excused(sequence) {
            return false;
        }
        let mut other = other.clone();
        if self.lazy_flags && one.status != 0 {
            other.nzcv = one.nzcv;
        }
        // What translated code is known not to see: it notes an underflow when the result is tiny after rounding, not
        // before.
        if one.fpsr & !other.fpsr == UFC && one.fpsr & IXC != 0 {
            other.fpsr |= UFC;
            self.underflows.set(self.underflows.get() + u64::from(*one == other));
        }
        *one != other
    }

    /// How many runs of the translator missed an underflow, and nothing else.
    pub fn underflows(&self) -> u64 {
        self.underflows.get()
    }

    /// The return from an interrupt clears the exclusive monitor.
    fn excused(&self, sequence: &Sequence) -> bool {
        self.interrupted && sequence.names.contains(&"stxr")
    }

    /// Whether two results of one run differ in something that the architecture defines.
    fn differs(&self, sequence: &Sequence, qemu: &Record, ours: &Record) -> bool {
        if qemu == ours || self.excused(sequence) {
            return false;
        }
        let mut ours = as_linux_has_it(ours);
        for (theirs, ours) in qemu.log.iter().zip(&mut ours.log) {
            if same_fault_address(theirs, ours) {
                ours.address = theirs.address;
            }
        }
        if qemu.status != ours.status || qemu.fault_pc != ours.fault_pc {
            return !self.beyond(sequence, qemu, &ours);
        }
        if qemu.status == 0 {
            return *qemu != ours;
        }
        // UNDEFINED changes nothing. After an abort the registers that the access loads and the part of memory that it
        // stores are open (Arm ARM D1.4.5).
        if same_fault_address(&qemu.fault(), &ours.fault()) {
            ours.fault_address = qemu.fault_address;
        }
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
    /// advertise: QEMU's `max` CPU also has BF16, I8MM, MTE, LOR, SM3 and SM4.
    fn beyond(&self, sequence: &Sequence, qemu: &Record, ours: &Record) -> bool {
        let word = sequence.at(ours);
        ours.status == SIGILL && qemu.status != SIGILL && !self.advertised.iter().any(|e| e.matches(word))
    }
}

/// A record of our side with signals in the place of syndromes.
fn as_linux_has_it(ours: &Record) -> Record {
    let mut ours = ours.clone();
    ours.status = signal_of(ours.status);
    for fault in &mut ours.log {
        fault.status = signal_of(fault.status);
    }
    ours
}

/// Whether both sides report the same address of a fault. Only aborts have one; QEMU has none for an address that is
/// not canonical on its host; and Linux hides the tag in the top byte.
fn same_fault_address(qemu: &Fault, ours: &Fault) -> bool {
    const ADDRESS: u64 = u64::MAX >> 8;
    let abort = qemu.status == SIGSEGV || qemu.status == SIGBUS;
    !abort || qemu.address == 0 || (qemu.address ^ ours.address) & ADDRESS == 0
}

/// The fields that differ, a line each.
pub fn explain(names: [&str; 2], input: &Record, one: &Record, other: &Record) -> String {
    let mut out = String::new();
    let mut line = |name: String, before: String, a: String, b: String| {
        if a != b {
            let _ = writeln!(out, "  {name:<6} before {before}  {} {a}  {} {b}", names[0], names[1]);
        }
    };
    let hex = |v: u64| format!("{v:016x}");
    for i in 0..31 {
        line(format!("x{i}"), hex(input.x[i]), hex(one.x[i]), hex(other.x[i]));
    }
    line("sp".into(), hex(input.sp), hex(one.sp), hex(other.sp));
    for i in 0..32 {
        let hex = |v: [u64; 2]| format!("{:016x}_{:016x}", v[1], v[0]);
        line(format!("v{i}"), hex(input.v[i]), hex(one.v[i]), hex(other.v[i]));
    }
    type Field = (&'static str, fn(&Record) -> u64);
    let fields: [Field; 7] = [
        ("nzcv", |r| r.nzcv),
        ("fpcr", |r| r.fpcr),
        ("fpsr", |r| r.fpsr),
        ("status", |r| r.status),
        ("at pc", |r| r.fault_pc),
        ("fault", |r| r.fault_address),
        ("faults", |r| r.survived),
    ];
    for (name, get) in fields {
        line(name.into(), hex(get(input)), hex(get(one)), hex(get(other)));
    }
    for i in 0..LOGGED {
        let text = |r: &Record| format!("{:x}@{:x},{:x}", r.log[i].status, r.log[i].pc, r.log[i].address);
        line(format!("log{i}"), text(input), text(one), text(other));
    }
    for i in (0..WINDOW).step_by(8) {
        let hex = |r: &Record| {
            r.mem[i..i + 8].iter().rev().fold(String::new(), |mut acc, b| {
                let _ = write!(acc, "{b:02x}");
                acc
            })
        };
        line(format!("{:x}", input.window + i as u64), hex(input), hex(one), hex(other));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::LINES;

    fn sequence(word: u32) -> Sequence {
        Sequence::line(vec![word], vec!["test"])
    }

    const ILLEGAL: u64 = 1 << 25;
    const ABORT: u64 = 0x9200_0007;

    fn fault(status: u64) -> Record {
        Record { status, fault_pc: LINES.address(0) + 4, ..Record::zero() }
    }

    #[test]
    fn every_part_of_the_state_counts() {
        let rules = Rules::new(&Features::everything(), false, false);
        let add = sequence(0x8B02_0020);
        let changes: [fn(&mut Record); 9] = [
            |r| r.x[30] ^= 1,
            |r| r.sp ^= 1,
            |r| r.v[31][1] ^= 1 << 63,
            |r| r.nzcv ^= 1 << 28,
            |r| r.fpcr ^= 1 << 24,
            |r| r.fpsr ^= 1 << 4,
            |r| r.mem[WINDOW - 1] ^= 1,
            |r| r.log[2].pc ^= 4,
            |r| *r = fault(ILLEGAL),
        ];
        assert!(!rules.differs(&add, &Record::zero(), &Record::zero()));
        for change in changes {
            let mut other = Record::zero();
            change(&mut other);
            assert!(rules.differs(&add, &Record::zero(), &other));
            assert!(rules.tiers_differ(&add, &Record::zero(), &other));
            assert!(rules.tiers_differ(&add, &other, &Record::zero()));
        }
    }

    #[test]
    fn the_translator_may_miss_an_underflow_that_rounding_undoes() {
        let rules = Rules::new(&Features::everything(), false, false);
        let with = |fpsr| Record { fpsr, ..Record::zero() };
        let fmadd = sequence(0x1F42_0C20);
        assert!(!rules.tiers_differ(&fmadd, &with(UFC | IXC), &with(IXC)));
        assert_eq!(rules.underflows(), 1);
        assert!(rules.tiers_differ(&fmadd, &with(IXC), &with(UFC | IXC)));
        assert!(rules.tiers_differ(&fmadd, &with(UFC | IXC), &with(0)));
        assert!(rules.differs(&fmadd, &with(UFC | IXC), &with(IXC)));
    }

    #[test]
    fn after_an_abort_only_the_targets_are_open() {
        let rules = Rules::new(&Features::everything(), false, false);
        let ldp = sequence(0xA940_0801); // LDP X1, X2, [X0]
        let qemu = fault(SIGSEGV);
        let mut ours = fault(ABORT);
        ours.x[2] = 7;
        assert!(!rules.differs(&ldp, &qemu, &ours));
        ours.x[5] = 7;
        assert!(rules.differs(&ldp, &qemu, &ours));
        let at = |fault_address, status| Record { fault_address, ..fault(status) };
        assert!(!rules.differs(&ldp, &at(0x1000, SIGSEGV), &at(0x5500_0000_0000_1000, ABORT)));
        assert!(rules.differs(&ldp, &at(0x1000, SIGSEGV), &at(0x1008, ABORT)));
    }

    #[test]
    fn undefined_must_agree_for_what_is_advertised() {
        let rules = Rules::new(&Features::everything(), false, false);
        let bfdot = sequence(0x2E42_FC20);
        assert!(!rules.differs(&bfdot, &Record::zero(), &fault(ILLEGAL)));
        assert!(rules.differs(&bfdot, &fault(SIGILL), &Record::zero()));
        let add = sequence(0x8B02_0020);
        assert!(rules.differs(&add, &Record::zero(), &fault(ILLEGAL)));
    }

    #[test]
    fn syndromes_become_signals() {
        assert_eq!(signal_of(0x0200_0000), SIGILL);
        assert_eq!(signal_of(0x9200_0021), SIGBUS);
        assert_eq!(signal_of(0x9200_0007), SIGSEGV);
        assert_eq!(signal_of(0x8A00_0000), SIGBUS);
    }
}
