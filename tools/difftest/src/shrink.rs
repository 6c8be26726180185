//! Makes a failing run small, and prints it.

use std::io::Write as _;
use std::process::Command;

use anyhow::Result;

use crate::compare::{self, Rules};
use crate::generate::{NOP, Sequence};
use crate::layout::{Batch, Record};
use crate::program;
use crate::side::{Kind, Side};

/// A run on which two sides differ.
pub struct Failure {
    /// The instructions.
    pub sequence: Sequence,
    /// The slot that they are in.
    pub slot: usize,
    /// What went in: the runs of the sequence so far, the last is the one with the difference.
    pub inputs: Vec<Record>,
    /// The sides.
    pub kinds: [Kind; 2],
    /// What they made of the last input.
    pub results: [Record; 2],
    /// Whether it comes again when the sequence runs alone.
    pub repeatable: bool,
}

/// What a failure is tried again on.
pub struct Pair<'a> {
    /// The reference.
    pub one: &'a mut dyn Side,
    /// The side under test.
    pub other: &'a mut dyn Side,
    /// What counts as a difference.
    pub rules: &'a Rules,
}

/// Replaces instructions by NOP and registers by zero as long as the sides still differ.
///
/// # Errors
/// If a side is gone.
pub fn shrink(pair: &mut Pair<'_>, failure: Failure) -> Result<Failure> {
    const OFTEN: usize = 40;
    let Some(last) = failure.inputs.last().cloned() else { return Ok(failure) };
    let many = failure.inputs.iter().cycle().take(failure.inputs.len() * OFTEN).cloned().collect();
    let histories =
        [vec![last.clone()], vec![last.clone(); 4], vec![last; OFTEN], failure.inputs.clone(), many];
    for history in histories {
        if let Some(mut best) = pair.attempt(&failure, &failure.sequence, &history)? {
            pair.simplify_places(&mut best)?;
            // Twice: what could not go at first may go when other things are gone.
            for _ in 0..2 {
                pair.drop_instructions(&mut best)?;
                pair.clear_registers(&mut best)?;
            }
            return Ok(best);
        }
    }
    Ok(failure)
}

impl Pair<'_> {
    /// Runs a sequence with some inputs; the failure if the sides differ.
    fn attempt(&mut self, old: &Failure, sequence: &Sequence, inputs: &[Record]) -> Result<Option<Failure>> {
        let mut code = vec![Vec::new(); old.slot];
        code.push(sequence.words.clone());
        let batch = Batch { slots: sequence.slots, code, records: inputs.to_vec() };
        let (one, other) = (self.one.run(&batch)?, self.other.run(&batch)?);
        let differing = one
            .into_iter()
            .zip(other)
            .enumerate()
            .find(|(_, (one, other))| self.rules.differ(old.kinds, sequence, [one, other]));
        Ok(differing.map(|(last, (one, other))| Failure {
            sequence: sequence.clone(),
            slot: old.slot,
            inputs: inputs[..=last].to_vec(),
            kinds: old.kinds,
            results: [one, other],
            repeatable: true,
        }))
    }

    fn take_if_it_fails(&mut self, best: &mut Failure, sequence: &Sequence, inputs: &[Record]) -> Result<()> {
        if let Some(smaller) = self.attempt(best, sequence, inputs)? {
            *best = smaller;
        }
        Ok(())
    }

    /// Tries the usual address space.
    fn simplify_places(&mut self, best: &mut Failure) -> Result<()> {
        let mut inputs = best.inputs.clone();
        for input in &mut inputs {
            input.space = 0;
            input.slot = best.sequence.slots.address(best.slot);
        }
        let sequence = best.sequence.clone();
        self.take_if_it_fails(best, &sequence, &inputs)
    }

    fn drop_instructions(&mut self, best: &mut Failure) -> Result<()> {
        for i in (0..best.sequence.words.len()).rev() {
            let droppable = !matches!(best.sequence.words[i], NOP | 0);
            if droppable && !program::is_structure(best.sequence.names[i]) {
                let mut sequence = best.sequence.clone();
                sequence.words[i] = NOP;
                let inputs = best.inputs.clone();
                self.take_if_it_fails(best, &sequence, &inputs)?;
            }
        }
        Ok(())
    }

    fn clear_registers(&mut self, best: &mut Failure) -> Result<()> {
        for i in 0..66 {
            let sequence = best.sequence.clone();
            let mut inputs = best.inputs.clone();
            for input in &mut inputs {
                match i {
                    0..31 if sequence.fixed[i].is_none() && !sequence.faulting => input.x[i] = 0,
                    31 if sequence.fixed[31].is_none() && !sequence.faulting => input.sp = 0,
                    32..64 => input.v[i - 32] = [0; 2],
                    64 => input.fpcr = 0,
                    65 => (input.fpsr, input.nzcv) = (0, 0),
                    _ => {}
                }
            }
            if inputs != best.inputs {
                self.take_if_it_fails(best, &sequence, &inputs)?;
            }
        }
        Ok(())
    }
}

impl Failure {
    /// The sides, and the instruction to blame in summaries: the last that is not NOP.
    pub fn culprit(&self) -> String {
        let words = self.sequence.words.iter().zip(&self.sequence.names);
        let mut blamed =
            words.filter(|(word, name)| !matches!(**word, NOP | 0) && !program::is_structure(name));
        let name = blamed.next_back().map_or("nothing", |(_, name)| name);
        let again = if self.repeatable { "" } else { ", not when it runs alone" };
        format!("{name} ({} and {}{again})", self.kinds[0].name(), self.kinds[1].name())
    }

    /// The sequence, the relevant inputs and the differences.
    pub fn report(&self) -> String {
        let Some(input) = self.inputs.last() else { return String::new() };
        let mut out = listing(&self.sequence, input);
        out += &format!(
            "  inputs of run {}: nzcv {:x} fpcr {:x} fpsr {:x} window {:x} space {:x} resume {}\n",
            self.inputs.len(),
            input.nzcv,
            input.fpcr,
            input.fpsr,
            input.window,
            input.space,
            input.resume
        );
        for (i, x) in input.x.iter().enumerate().filter(|(_, x)| **x != 0) {
            out += &format!("    x{i} = {x:016x}\n");
        }
        for (i, v) in input.v.iter().enumerate().filter(|(_, v)| **v != [0; 2]) {
            out += &format!("    v{i} = {:016x}_{:016x}\n", v[1], v[0]);
        }
        if input.sp != 0 {
            out += &format!("    sp = {:016x}\n", input.sp);
        }
        let [one, other] = &self.results;
        out + "  differences:\n" + &compare::explain(self.kinds.map(Kind::name), input, one, other)
    }
}

/// The instructions of a sequence, with addresses and what they are called here.
pub fn listing(sequence: &Sequence, record: &Record) -> String {
    let texts = disassemble(&sequence.words, record.slot + 4);
    let mut out = String::new();
    for (i, word) in sequence.words.iter().enumerate().filter(|(_, word)| !matches!(**word, NOP | 0)) {
        let address = record.slot + 4 + 4 * i as u64;
        let text = texts.get(i).map_or("", String::as_str);
        out += &format!("  {address:x}: {word:08x}  {text:<50} ; {}\n", sequence.names[i]);
    }
    out
}

/// Disassembles with `aarch64-linux-gnu-objdump` where it exists.
fn disassemble(words: &[u32], address: u64) -> Vec<String> {
    let run = || -> Option<String> {
        let mut file = tempfile::NamedTempFile::new().ok()?;
        file.write_all(&words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>()).ok()?;
        let output = Command::new("aarch64-linux-gnu-objdump")
            .args(["-D", "-z", "-b", "binary", "-m", "aarch64", "-M", "no-aliases"])
            .arg(format!("--adjust-vma={address:#x}"))
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
