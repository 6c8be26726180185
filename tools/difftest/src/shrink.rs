//! Makes a failing run small, and prints it.

use std::io::Write as _;
use std::process::Command;

use anyhow::Result;

use crate::compare::{self, Rules};
use crate::generate::{NOP, Sequence};
use crate::layout::{Batch, Record, SLOT_SIZE, slot_address};
use crate::side::Side;

/// A run on which the sides differ.
pub struct Failure {
    /// The instructions.
    pub sequence: Sequence,
    /// What went in.
    pub input: Record,
    /// What QEMU made of it.
    pub qemu: Record,
    /// What the other side made of it.
    pub ours: Record,
}

/// What a failure is tried again on.
pub struct Sides<'a> {
    /// The reference.
    pub qemu: &'a mut dyn Side,
    /// The side under test.
    pub ours: &'a mut dyn Side,
    /// What counts as a difference.
    pub rules: &'a Rules,
}

/// Replaces instructions by NOP and registers by zero as long as the sides still differ.
///
/// # Errors
/// If a side is gone.
pub fn shrink(sides: &mut Sides<'_>, failure: Failure) -> Result<Failure> {
    let mut best = Failure { input: Record { slot: slot_address(0), ..failure.input }, ..failure };
    // In slot 0, addresses of code differ from those of the first run: keep the original if that cures it.
    let Some(moved) = sides.attempt(&best.sequence, &best.input)? else { return Ok(best) };
    best = moved;
    for i in (0..best.sequence.words.len()).rev() {
        let mut sequence = best.sequence.clone();
        sequence.words[i] = NOP;
        if let Some(smaller) = sides.attempt(&sequence, &best.input)? {
            best = smaller;
        }
    }
    for i in 0..66 {
        let mut input = best.input.clone();
        match i {
            0..31 if best.sequence.fixed[i].is_none() && !best.sequence.faulting => input.x[i] = 0,
            31 if best.sequence.fixed[31].is_none() && !best.sequence.faulting => input.sp = 0,
            32..64 => input.v[i - 32] = [0; 2],
            64 => input.fpcr = 0,
            65 => (input.fpsr, input.nzcv) = (0, 0),
            _ => continue,
        }
        if let Some(smaller) = sides.attempt(&best.sequence, &input)? {
            best = smaller;
        }
    }
    Ok(best)
}

impl Sides<'_> {
    /// Runs one input; the failure if the sides differ.
    fn attempt(&mut self, sequence: &Sequence, input: &Record) -> Result<Option<Failure>> {
        let batch = Batch { code: vec![sequence.words.clone()], records: vec![input.clone()] };
        let (qemu, ours) = (self.qemu.run(&batch)?.remove(0), self.ours.run(&batch)?.remove(0));
        let differs = self.rules.differs(sequence, &qemu, &ours);
        Ok(differs.then(|| Failure { sequence: sequence.clone(), input: input.clone(), qemu, ours }))
    }
}

impl Failure {
    /// The instruction to blame in summaries: the last that is not NOP.
    pub fn culprit(&self) -> &'static str {
        let words = self.sequence.words.iter().zip(&self.sequence.names);
        words.rev().find(|(word, _)| **word != NOP).map_or("nothing", |(_, name)| name)
    }

    /// The sequence, the relevant inputs and the differences.
    pub fn report(&self) -> String {
        let mut out = String::new();
        let texts = disassemble(&self.sequence.words);
        for (i, word) in self.sequence.words.iter().enumerate() {
            if *word != NOP {
                let address = self.input.slot + 4 + 4 * i as u64;
                let text = texts.get(i).map_or("", String::as_str);
                out += &format!("  {address:x}: {word:08x}  {text:<50} ; {}\n", self.sequence.names[i]);
            }
        }
        debug_assert!(4 * self.sequence.words.len() as u64 <= SLOT_SIZE);
        out += &format!(
            "  inputs: nzcv {:x} fpcr {:x} fpsr {:x} window {:x}\n",
            self.input.nzcv, self.input.fpcr, self.input.fpsr, self.input.window
        );
        for (i, x) in self.input.x.iter().enumerate().filter(|(_, x)| **x != 0) {
            out += &format!("    x{i} = {x:016x}\n");
        }
        for (i, v) in self.input.v.iter().enumerate().filter(|(_, v)| **v != [0; 2]) {
            out += &format!("    v{i} = {:016x}_{:016x}\n", v[1], v[0]);
        }
        if self.input.sp != 0 {
            out += &format!("    sp = {:016x}\n", self.input.sp);
        }
        out + "  differences:\n" + &compare::explain(&self.input, &self.qemu, &self.ours)
    }
}

/// Disassembles with `aarch64-linux-gnu-objdump` where it exists.
fn disassemble(words: &[u32]) -> Vec<String> {
    let run = || -> Option<String> {
        let mut file = tempfile::NamedTempFile::new().ok()?;
        file.write_all(&words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>()).ok()?;
        let output = Command::new("aarch64-linux-gnu-objdump")
            .args(["-D", "-b", "binary", "-m", "aarch64", "-M", "no-aliases"])
            .arg(file.path())
            .output()
            .ok()?;
        String::from_utf8(output.stdout).ok()
    };
    let text = run().unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once(":\t")?;
            let (_, rest) = rest.split_once('\t')?;
            Some(rest.replace('\t', " "))
        })
        .collect()
}
