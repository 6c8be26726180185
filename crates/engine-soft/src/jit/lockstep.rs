//! Interpreter and translator side by side: every block is executed by both, from the same state, and the first
//! difference ends the run.
//!
//! A block is the translator's own, translated as always but never linked, so that it returns here wherever it would go on.
//! The interpreter goes first, one instruction at a time, with a blank TLB: each of its stores takes the slow path, which
//! notes what was in memory. Then registers and memory are put back, the translated block runs, and registers, memory and
//! the reason for stopping are compared. Instructions with effects beyond these (system instructions, maintenance,
//! exception calls and returns, block copies) are executed by the interpreter alone and end a block.
//!
//! - Flags that nothing reads may be stale in translated code: NZCV itself is not compared, but either side keeps its own
//!   from block to block, so that what reads a stale flag makes a difference.
//! - Devices write memory at any time. A difference counts only if it is there again when the block is run anew.
//! - Underflow in FPSR is not compared: see the specification on what is inexact.
//! - What the translated block stores where the interpreter stored nothing is not seen until it is read.

use std::fmt::Write as _;

use super::{HEAD, page::WORDS, translate};
use crate::{
    cpu::{Cpu, PAGE, SP, Stop},
    decode::{Barrier, Insn, PstateField, decode},
    interp::op::Op,
};
use tearless_arm64::sysreg::name as r;

/// How often a difference must be seen.
const TRIALS: usize = 8;

/// Cumulative underflow in FPSR.
const UFC: u32 = 1 << 3;

/// Most instructions to run before what both have done is compared: of a block, and of one of careful code behind it.
const MOST: usize = 128;

/// A translated block.
struct Block {
    /// The address of its main entry.
    code: u64,
    /// How many instructions it has.
    length: usize,
    /// How many plain instructions there are in its page, at most [`MOST`].
    most: usize,
}

/// Bytes of guest memory that the interpreter may have written.
struct Written {
    at: *mut u8,
    old: Vec<u8>,
    new: Vec<u8>,
}

/// What a block leaves behind in the CPU, memory excepted.
#[derive(Clone, Debug)]
struct Registers {
    x: [u64; 33],
    v: [u128; 32],
    nzcv: u32,
    fpsr: u32,
    pc: u64,
    pstate: u32,
    sp: [u64; 2],
    monitor: (u64, u64, u128),
    system: [u64; 7],
    stop: Stop,
}

/// NZCV as translated code left it behind the last block, while nothing else has run.
struct Stale {
    pc: u64,
    exact: u32,
    kept: u32,
}

/// The state of the comparison.
#[derive(Default)]
pub(crate) struct Lockstep {
    /// What the interpreter has written in this block, while it runs.
    written: Option<Vec<Written>>,
    stale: Option<Stale>,
    compared: u64,
    alone: u64,
    repeated: u64,
    /// What differs, for people.
    difference: Option<String>,
}

// SAFETY: the pointers are to guest memory, which moves with the vCPU.
unsafe impl Send for Lockstep {}

impl Drop for Lockstep {
    fn drop(&mut self) {
        let Self { compared, alone, repeated, .. } = self;
        tracing::info!(
            "lockstep: {compared} blocks compared, {repeated} of them again; {alone} instructions alone"
        );
    }
}

impl super::Jit {
    /// What compares it with the interpreter.
    pub fn lockstep(&self) -> Box<Lockstep> {
        Box::default()
    }
}

impl Lockstep {
    /// What differs, for people, if anything does.
    pub fn take_difference(&mut self) -> Option<String> {
        self.difference.take()
    }

    /// The current instruction may write `size` bytes at `at`.
    pub fn note_write(&mut self, at: *mut u8, size: u64) {
        if let Some(written) = &mut self.written {
            // SAFETY: the translation that `at` comes from allows to write, and so to read, `size` bytes there.
            let old = (0..size as usize).map(|i| unsafe { at.add(i).read_volatile() }).collect();
            written.push(Written { at, old, new: Vec::new() });
        }
    }
}

impl Written {
    fn now(&self) -> Vec<u8> {
        // SAFETY: as in `Lockstep::note_write`.
        (0..self.old.len()).map(|i| unsafe { self.at.add(i).read_volatile() }).collect()
    }
}

fn put_back(written: &[Written]) {
    for w in written.iter().rev() {
        for (i, &byte) in w.old.iter().enumerate() {
            // SAFETY: the guest was about to write these bytes.
            unsafe { w.at.add(i).write_volatile(byte) };
        }
    }
}

/// Whether `insn` changes nothing but what is put back and compared.
pub(super) fn is_plain(insn: &Insn) -> bool {
    match *insn {
        Insn::Undefined
        | Insn::Eret
        | Insn::Call { .. }
        | Insn::Yield
        | Insn::Wfi
        | Insn::Wfe
        | Insn::Sev { .. }
        | Insn::Barrier { kind: Barrier::Synchronisation, .. }
        | Insn::Isb
        | Insn::Sys { .. }
        | Insn::Sysl { .. }
        | Insn::MemoryCopy { .. }
        | Insn::MemorySet { .. } => false,
        // To the next instruction, which would look like not branching at all.
        Insn::Branch { offset, .. } | Insn::BranchCond { offset, .. } => offset != 4,
        Insn::CompareBranch { offset, .. } | Insn::TestBranch { offset, .. } => offset != 4,
        Insn::MsrImm { field, .. } => field == PstateField::DaifSet,
        Insn::Mrs { reg, .. } => [r::NZCV, r::TPIDR_EL0].contains(&reg),
        Insn::Msr { reg, .. } => [r::NZCV, r::TPIDR_EL0].contains(&reg),
        _ => true,
    }
}

/// The index of the first instruction from `word` on, before `end`, that is not plain.
pub(super) fn plain_end(host: *const u8, word: usize, end: usize) -> usize {
    (word..end).find(|&i| !is_plain(&decode(translate::fetch(host, i)))).unwrap_or(end)
}

impl Cpu {
    /// Executes the next block, or instruction, and compares.
    pub fn run_lockstep(&mut self) {
        let op = self.find_op(self.pc);
        if op.is_null() {
            return;
        }
        match self.block_to_compare() {
            Some(block) => self.compare_block(&block, op),
            None => {
                self.note(|l| {
                    l.stale = None;
                    l.alone += 1;
                });
                self.run_one(op);
            }
        }
    }

    fn note(&mut self, f: impl FnOnce(&mut Lockstep)) {
        if let Some(lockstep) = &mut self.lockstep {
            f(lockstep);
        }
    }

    /// The translated block at the current instruction, unless that is for the interpreter alone.
    fn block_to_compare(&mut self) -> Option<Block> {
        let mut jit = self.jit.take()?;
        let block = self.find_block(&mut jit);
        self.jit = Some(jit);
        block
    }

    fn find_block(&mut self, jit: &mut super::Jit) -> Option<Block> {
        let (place, _) = self.fetch().ok()?;
        let word = (self.pc % PAGE / 4) as usize;
        let most = plain_end(place.host, word, (word + MOST).min(WORDS)) - word;
        if most == 0 {
            return None;
        }
        let code = self.find_code(jit, self.pc);
        let entry = jit.offset_of(code) + HEAD;
        Some(Block { code: jit.address(entry), length: jit.length_of(entry)?, most })
    }

    fn compare_block(&mut self, block: &Block, op: *const Op) {
        let stale = self.lockstep.as_mut().and_then(|l| l.stale.take());
        let before = self.registers();
        let page = (self.pc_page, self.page_ops);
        let kept = match stale {
            Some(s) if (s.pc, s.exact) == (before.pc, before.nzcv) => s.kept,
            _ => before.nzcv,
        };
        let (mut trial, mut length, mut code) = (0, block.length, block.code);
        let (wanted, found) = loop {
            trial += 1;
            // Translated code that calls the interpreter has it work on another page.
            (self.pc_page, self.page_ops) = page;
            let (wanted, written) = self.interpret_block(length, op);
            put_back(&written);
            self.set_registers(&before);
            self.nzcv = kept;
            self.run_translated(code);
            let found = self.registers();
            let Some(difference) = differs(&wanted, &found, &written) else { break (wanted, found) };
            if trial == TRIALS {
                let text = self.describe(&before, length, &difference);
                self.note(|l| l.difference = Some(text));
                return;
            }
            put_back(&written);
            self.set_registers(&before);
            // Careful code, where the block may have gone on, ends elsewhere.
            let distance = found.pc.wrapping_sub(before.pc) / 4;
            // And it may have emptied the cache.
            let Some(again) = self.block_to_compare() else { return };
            code = again.code;
            length = if (1..=block.most as u64).contains(&distance) { distance as usize } else { block.most };
        };
        // Both are the same but for NZCV.
        self.nzcv = wanted.nzcv;
        self.fpsr = wanted.fpsr;
        self.note(|l| {
            l.compared += 1;
            l.repeated += u64::from(trial > 1);
            l.stale = Some(Stale { pc: wanted.pc, exact: wanted.nzcv, kept: found.nzcv });
        });
    }

    /// Has the interpreter execute at most `length` instructions from `op` on, up to the first taken branch or stop.
    fn interpret_block(&mut self, length: usize, mut op: *const Op) -> (Registers, Vec<Written>) {
        self.note(|l| l.written = Some(Vec::new()));
        self.miss_always();
        // So that branches do not look for their targets, which may take an exception.
        self.in_jit = true;
        for left in (0..length).rev() {
            let following = op.wrapping_add(1);
            let pc = self.pc_of(op);
            self.pc = pc;
            op = self.run_one(op);
            if left == 0 || self.stop != Stop::Continue {
                break;
            }
            if op.is_null() && self.pc == pc.wrapping_add(4) {
                // What serialises says where to go on, but not by which op.
                op = following;
            } else if op != following {
                break;
            }
        }
        self.in_jit = false;
        self.select_banks();
        self.replay.clear();
        let mut written = self.lockstep.as_mut().and_then(|l| l.written.take()).unwrap_or_default();
        for w in &mut written {
            w.new = w.now();
        }
        (self.registers(), written)
    }

    fn run_translated(&mut self, code: u64) {
        // Loops within a block end after one iteration, as the interpreter's does.
        self.mailbox.raise(crate::cpu::shared::attention::SELF);
        let Some(enter) = self.jit.as_ref().map(|jit| jit.thunks.enter) else { return };
        self.in_jit = true;
        self.enter_code_at(enter, code);
        self.in_jit = false;
    }

    fn registers(&self) -> Registers {
        let s = &self.sys;
        let mut x = [0; 33];
        x.copy_from_slice(&self.x[..=usize::from(SP)]);
        Registers {
            x,
            v: self.v,
            nzcv: self.nzcv,
            fpsr: self.fpsr,
            pc: self.pc,
            pstate: self.pstate,
            sp: self.sp,
            monitor: self.exclusive(),
            system: [s.tpidr_el0, s.tpidrro_el0, s.tpidr_el1, s.elr, s.spsr, s.esr, s.far],
            stop: self.stop,
        }
    }

    fn set_registers(&mut self, to: &Registers) {
        self.x[..=usize::from(SP)].copy_from_slice(&to.x);
        (self.v, self.nzcv, self.fpsr) = (to.v, to.nzcv, to.fpsr);
        (self.pc, self.pstate, self.sp, self.stop) = (to.pc, to.pstate, to.sp, to.stop);
        self.set_exclusive(to.monitor);
        let s = &mut self.sys;
        [s.tpidr_el0, s.tpidrro_el0, s.tpidr_el1, s.elr, s.spsr, s.esr, s.far] = to.system;
    }

    /// A report about a block that began with `before`.
    fn describe(&mut self, before: &Registers, length: usize, difference: &str) -> String {
        self.set_registers(before);
        let mut text = format!(
            "the translated block at {:#x} (EL{}, {length} instructions) does something else than the interpreter\n",
            before.pc,
            self.el()
        );
        if let Ok((place, _)) = self.fetch() {
            let word = (before.pc % PAGE / 4) as usize;
            for i in 0..length {
                let w = translate::fetch(place.host, word + i);
                let _ = writeln!(text, "  {:#x}: {w:08x}  {:?}", before.pc + 4 * i as u64, decode(w));
            }
        }
        text.push_str(" before:\n");
        for (i, x) in before.x.iter().enumerate() {
            let _ = write!(text, "  x{i}={x:#x}");
        }
        for (i, v) in before.v.iter().enumerate().filter(|(_, v)| **v != 0) {
            let _ = write!(text, "  v{i}={v:#x}");
        }
        let _ = writeln!(text, "  nzcv={:#x} fpcr={:#x} fpsr={:#x}", before.nzcv, self.fpcr, before.fpsr);
        let _ = write!(text, " what differs, interpreter first:\n{difference}");
        text
    }
}

/// Of a register that is not one of many.
const NO_NUMBER: usize = usize::MAX;

/// Says what differs, if anything does.
fn differs(wanted: &Registers, found: &Registers, written: &[Written]) -> Option<String> {
    let mut text = String::new();
    let mut pair = |name: &str, number: usize, a: u128, b: u128| {
        if a != b {
            let _ = match number {
                NO_NUMBER => writeln!(text, "  {name}: {a:#x} {b:#x}"),
                _ => writeln!(text, "  {name}{number}: {a:#x} {b:#x}"),
            };
        }
    };
    for (i, (a, b)) in wanted.x.iter().zip(&found.x).enumerate() {
        pair("x", i, u128::from(*a), u128::from(*b));
    }
    for (i, (a, b)) in wanted.v.iter().zip(&found.v).enumerate() {
        pair("v", i, *a, *b);
    }
    pair("fpsr", NO_NUMBER, u128::from(wanted.fpsr & !UFC), u128::from(found.fpsr & !UFC));
    pair("pc", NO_NUMBER, u128::from(wanted.pc), u128::from(found.pc));
    pair("pstate", NO_NUMBER, u128::from(wanted.pstate), u128::from(found.pstate));
    for (i, (a, b)) in wanted.sp.iter().zip(&found.sp).enumerate() {
        pair("sp_el", i, u128::from(*a), u128::from(*b));
    }
    for (i, (a, b)) in wanted.system.iter().zip(&found.system).enumerate() {
        let names = ["tpidr_el0", "tpidrro_el0", "tpidr_el1", "elr", "spsr", "esr", "far"];
        pair(names[i], NO_NUMBER, u128::from(*a), u128::from(*b));
    }
    let (a, b) = (wanted.monitor, found.monitor);
    pair("exclusive address", NO_NUMBER, u128::from(a.0), u128::from(b.0));
    if a.0 != 0 {
        pair("exclusive size", NO_NUMBER, u128::from(a.1), u128::from(b.1));
        let mask = u128::MAX >> (128 - 8 * a.1.clamp(1, 16));
        pair("exclusive value", NO_NUMBER, a.2 & mask, b.2 & mask);
    }
    if wanted.stop != found.stop {
        let _ = writeln!(text, "  stop: {:?} {:?}", wanted.stop, found.stop);
    }
    for w in written {
        let now = w.now();
        if now != w.new {
            let _ = writeln!(text, "  memory at host {:p}: {:02x?} {now:02x?}", w.at, w.new);
        }
    }
    (!text.is_empty()).then_some(text)
}
