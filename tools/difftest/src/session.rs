//! A session: batches of sequences on all sides, comparison of each side with the next, and the tally.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::compare::{Rules, signal_of};
use crate::directed;
use crate::encodings::Class;
use crate::features::Features;
use crate::generate::{Generator, Sequence};
use crate::layout::{Batch, MAX_RECORDS, Record, Slots};
use crate::shrink::{self, Failure, Pair};
use crate::side::{Kind, Side};

/// Counts of a whole session.
#[derive(Default)]
pub struct Tally {
    sequences: u64,
    runs: u64,
    /// Sequences on which two sides differ.
    pub differing: u64,
    /// Runs that ended in a signal, by signal and instruction.
    faults: BTreeMap<(u64, &'static str), u64>,
    survived: u64,
    /// Differing sequences by their culprit.
    culprits: BTreeMap<String, u64>,
}

/// What a session does with what it finds.
pub struct Reporting {
    /// How many kinds of differences to print.
    pub show: usize,
    /// Print each run that ends in this signal.
    pub signal: Option<u64>,
    /// The arguments that repeat the session, but for the sequence.
    pub again: String,
}

/// A stretch of the stream of sequences.
pub struct Stretch {
    /// The first one.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Sets of register values for each.
    pub inputs: u64,
    /// When to stop at the latest.
    pub deadline: Option<Instant>,
}

/// The sides, each compared with the next.
pub type Sides = Vec<(Kind, Box<dyn Side>)>;

/// All sides at work.
pub struct Session {
    /// The sides, each compared with the next.
    pub sides: Sides,
    /// What counts as a difference.
    pub rules: Rules,
    /// What is printed.
    pub reporting: Reporting,
    /// What has been found.
    pub tally: Tally,
    /// What the sides made of the last batch.
    pub results: Vec<Vec<Record>>,
}

/// A failure, and where in its batch.
struct Found {
    slot: usize,
    pair: usize,
    failure: Failure,
}

impl Session {
    /// Runs random sequences in slots of one kind.
    ///
    /// # Errors
    /// If a side is gone.
    pub fn random(&mut self, generator: &Generator, slots: Slots, stretch: &Stretch) -> Result<()> {
        let end = stretch.first.saturating_add(stretch.count);
        let mut next = stretch.first;
        let mut batch = Batch { slots, code: Vec::new(), records: Vec::new() };
        while next < end && stretch.deadline.is_none_or(|d| Instant::now() < d) {
            let count = (end - next).min(slots.count as u64);
            let sequences: Vec<Sequence> =
                (next..next + count).map(|i| generator.sequence(i, slots)).collect();
            batch.code.clear();
            batch.records.clear();
            for (slot, sequence) in sequences.iter().enumerate() {
                batch.code.push(sequence.words.clone());
                let index = next + slot as u64;
                batch.records.extend((0..stretch.inputs).map(|k| generator.input(sequence, index, k, slot)));
            }
            for found in self.compare(&sequences, &batch)? {
                let index = next + found.slot as u64;
                let again = format!("{} --index {index} --sequences 1", self.reporting.again);
                self.report(&again, found)?;
            }
            next += count;
        }
        Ok(())
    }

    /// Runs the directed tests.
    ///
    /// # Errors
    /// If a side is gone.
    pub fn directed(&mut self, classes: &[Class], features: &Features) -> Result<()> {
        for job in directed::jobs(classes, features) {
            for inputs in job.inputs.chunks(MAX_RECORDS) {
                let slots = job.sequence.slots;
                let batch = Batch { slots, code: vec![job.sequence.words.clone()], records: inputs.to_vec() };
                for found in self.compare(std::slice::from_ref(&job.sequence), &batch)? {
                    self.report("--directed", found)?;
                }
            }
        }
        Ok(())
    }

    /// Runs a batch on all sides at once; the first failure of each slot that has one.
    fn compare(&mut self, sequences: &[Sequence], batch: &Batch) -> Result<Vec<Found>> {
        for (_, side) in &mut self.sides {
            side.submit(batch)?;
        }
        // From the last to the first: QEMU, which is first, works in a process of its own meanwhile.
        self.results.resize_with(self.sides.len(), Vec::new);
        for ((_, side), records) in self.sides.iter_mut().zip(&mut self.results).rev() {
            side.collect(batch, records)?;
        }
        let results = std::mem::take(&mut self.results);
        let mut found: Vec<Found> = Vec::new();
        for (i, input) in batch.records.iter().enumerate() {
            let slot = batch.slots.index(input);
            let sequence = &sequences[slot];
            self.count(sequence, &results[0][i]);
            if found.last().is_some_and(|f| f.slot == slot) {
                continue;
            }
            for pair in 0..results.len() - 1 {
                let kinds = [self.sides[pair].0, self.sides[pair + 1].0];
                let results = [&results[pair][i], &results[pair + 1][i]];
                if self.rules.differ(kinds, sequence, results) {
                    let history = batch.records[..=i].iter().filter(|r| batch.slots.index(r) == slot);
                    let failure = Failure {
                        sequence: sequence.clone(),
                        slot,
                        inputs: history.cloned().collect(),
                        kinds,
                        results: results.map(Clone::clone),
                        repeatable: false,
                    };
                    found.push(Found { slot, pair, failure });
                    break;
                }
            }
        }
        self.tally.sequences += sequences.len() as u64;
        self.tally.runs += batch.records.len() as u64;
        self.results = results;
        Ok(found)
    }

    fn count(&mut self, sequence: &Sequence, result: &Record) {
        self.tally.survived += result.survived;
        if result.status == 0 {
            return;
        }
        let signal = if self.sides[0].0 == Kind::Qemu { result.status } else { signal_of(result.status) };
        *self.tally.faults.entry((signal, sequence.name_at(result))).or_default() += 1;
        if self.reporting.signal == Some(signal) {
            println!("signal {signal} at {:x}:\n{}", result.fault_pc, shrink::listing(sequence, result));
        }
    }

    fn report(&mut self, again: &str, found: Found) -> Result<()> {
        const MOST_SHRUNK: u64 = 500;
        self.tally.differing += 1;
        if self.tally.differing > MOST_SHRUNK {
            return Ok(());
        }
        let Found { pair, failure, .. } = found;
        let failure = match &mut self.sides[pair..] {
            [one, other, ..] => {
                let mut pair = Pair { one: one.1.as_mut(), other: other.1.as_mut(), rules: &self.rules };
                shrink::shrink(&mut pair, failure)?
            }
            _ => failure,
        };
        let culprit = failure.culprit();
        let seen = self.tally.culprits.entry(culprit.clone()).or_default();
        *seen += 1;
        if *seen == 1 && self.tally.culprits.len() <= self.reporting.show {
            println!("DIFFERENCE in {culprit}; again with: difftest {again}\n{}", failure.report());
        }
        Ok(())
    }

    /// Prints what has been done and found.
    pub fn summary(&self, elapsed: Duration, list_faults: bool) {
        let (tally, seconds) = (&self.tally, elapsed.as_secs_f64());
        println!(
            "{} sequences, {} runs in {seconds:.1} s ({:.0} sequences/s): {} differ",
            tally.sequences,
            tally.runs,
            tally.sequences as f64 / seconds,
            tally.differing
        );
        let total: u64 = tally.faults.values().sum();
        println!("  {total} runs ended in a fault, {} faults were survived", tally.survived);
        for ((signal, name), count) in tally.faults.iter().filter(|_| list_faults) {
            println!("  signal {signal} in {name}: {count} runs");
        }
        for (name, count) in &tally.culprits {
            println!("  differs: {name}: {count} sequences");
        }
        if self.rules.underflows() > 0 {
            println!(
                "  {} runs of the translator missed an underflow that rounding undid",
                self.rules.underflows()
            );
        }
        for remark in self.sides.iter().filter_map(|(_, side)| side.remark()) {
            println!("  {remark}");
        }
    }
}
