//! Differential test of the software CPU against `qemu-aarch64`.
//!
//! Random and directed A64 sequences run on both, from the same registers and memory, and everything that they leave
//! behind is compared: X0-X30, SP, NZCV, FPCR, FPSR, V0-V31, memory, and the kind and place of a fault.
//!
//! ```text
//!   encodings ─► generate (+ compose, values, directed) ─► Batch ─┬─► qemu: driver as an ELF, pipes   ─┬─► compare ─► shrink
//!                                                                 └─► soft: driver at EL0, our engine ─┘
//! ```
//!
//! A failing sequence is shrunk and printed with the command line that makes it again.

mod asm;
mod compare;
mod compose;
mod directed;
mod driver;
mod encodings;
mod features;
mod generate;
mod kernel;
mod layout;
mod optional;
mod qemu;
mod rng;
mod shrink;
mod side;
mod soft;
mod values;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use crate::compare::Rules;
use crate::encodings::Class;
use crate::features::Features;
use crate::generate::{Generator, Sequence};
use crate::layout::{Batch, CODE, MAX_RECORDS, SLOT_SIZE, SLOTS, slot_address};
use crate::qemu::Qemu;
use crate::shrink::{Failure, Sides};
use crate::side::Side;
use crate::soft::Soft;

/// Runs random instruction sequences on the software CPU and on QEMU, and compares all that they leave behind.
#[derive(Parser)]
struct Args {
    /// How many sequences to run.
    #[arg(long, default_value_t = 20_000)]
    sequences: u64,
    /// Names the stream of sequences.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which classes of instructions, separated by commas; all by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    class: Vec<Class>,
    /// The first sequence: with `--sequences 1` runs one again.
    #[arg(long, default_value_t = 0)]
    index: u64,
    /// How many sets of register values each sequence runs with (1 to 4).
    #[arg(long, default_value_t = 4)]
    inputs: u64,
    /// Stop after this many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// How many differing sequences to shrink and print; the rest is only counted.
    #[arg(long, default_value_t = 10)]
    show: usize,
    /// Interrupt the software CPU each time that so many microseconds have passed.
    #[arg(long)]
    interrupt_micros: Option<u64>,
    /// List which instructions ended in signals.
    #[arg(long)]
    list_faults: bool,
    /// Print each sequence that ends in this signal on QEMU, differing or not.
    #[arg(long)]
    print_signal: Option<u64>,
    /// Run the directed tests of the classes instead of random sequences.
    #[arg(long)]
    directed: bool,
    /// The other side.
    #[arg(long, value_enum, default_value_t = Against::Soft)]
    against: Against,
    /// QEMU's program.
    #[arg(long, default_value = "qemu-aarch64")]
    qemu: String,
    /// The CPU that QEMU presents.
    #[arg(long, default_value = qemu::DEFAULT_CPU)]
    qemu_cpu: String,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Against {
    /// The software CPU.
    Soft,
    /// QEMU once more: checks the harness itself.
    Qemu,
}

const ALL: [Class; 7] =
    [Class::Integer, Class::Fp, Class::Simd, Class::Crypto, Class::Memory, Class::System, Class::Decode];

/// Counts of a whole session.
#[derive(Default)]
struct Tally {
    sequences: u64,
    runs: u64,
    differing: u64,
    /// Runs that ended in a signal, by signal and instruction.
    faults: BTreeMap<(u64, &'static str), u64>,
    /// Differing sequences by their culprit.
    culprits: BTreeMap<&'static str, u64>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("difftest: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<u64> {
    ensure!(
        (1..=(MAX_RECORDS / SLOTS) as u64).contains(&args.inputs),
        "--inputs must be 1 to {}",
        MAX_RECORDS / SLOTS
    );
    let classes = if args.class.is_empty() { ALL.to_vec() } else { args.class.clone() };
    let mut qemu = Qemu::start(&args.qemu, &args.qemu_cpu)?;
    let theirs = Features::probe(&mut qemu)?;
    let (ours, features): (Box<dyn Side>, Features) = match args.against {
        Against::Soft => {
            let soft = Soft::start(args.interrupt_micros.map(Duration::from_micros))
                .context("cannot start the software CPU")?;
            let features = soft.features();
            (Box::new(soft), features.common(theirs))
        }
        Against::Qemu => (Box::new(Qemu::start(&args.qemu, &args.qemu_cpu)?), theirs),
    };
    let rules = Rules::new(&features, args.interrupt_micros.is_some());
    let mut session = Session { args, qemu, ours, rules, tally: Tally::default() };
    let started = Instant::now();
    if args.directed {
        session.directed(&classes, &features)?;
    } else {
        session.random(&Generator::new(args.seed, &classes, &features))?;
    }
    summary(&session.tally, started.elapsed(), args.list_faults);
    if let Some(remark) = session.ours.remark() {
        println!("  {remark}");
    }
    Ok(session.tally.differing)
}

fn make_batch(generator: &Generator, sequences: &[Sequence], first: u64, inputs: u64) -> Batch {
    let mut batch = Batch::default();
    for (i, sequence) in sequences.iter().enumerate() {
        batch.code.push(sequence.words.clone());
        let index = first + i as u64;
        batch.records.extend((0..inputs).map(|k| generator.input(sequence, index, k, slot_address(i))));
    }
    batch
}

/// Both sides at work.
struct Session<'a> {
    args: &'a Args,
    qemu: Qemu,
    ours: Box<dyn Side>,
    rules: Rules,
    tally: Tally,
}

impl Session<'_> {
    fn random(&mut self, generator: &Generator) -> Result<()> {
        let deadline = self.args.seconds.map(|s| Instant::now() + Duration::from_secs(s));
        let end = self.args.index.saturating_add(self.args.sequences);
        let mut next = self.args.index;
        while next < end && deadline.is_none_or(|d| Instant::now() < d) {
            let count = (end - next).min(SLOTS as u64);
            let sequences: Vec<Sequence> = (next..next + count).map(|i| generator.sequence(i)).collect();
            let batch = make_batch(generator, &sequences, next, self.args.inputs);
            for (slot, failure) in self.compare(&sequences, &batch)? {
                let index = next + slot as u64;
                let classes: Vec<String> =
                    self.args.class.iter().map(|c| format!("{c:?}").to_lowercase()).collect();
                let class = if classes.is_empty() {
                    String::new()
                } else {
                    format!(" --class {}", classes.join(","))
                };
                let again = format!("--seed {} --index {index} --sequences 1{class}", self.args.seed);
                self.report(&again, failure)?;
            }
            next += count;
        }
        Ok(())
    }

    fn directed(&mut self, classes: &[Class], features: &Features) -> Result<()> {
        for job in directed::jobs(classes, features) {
            for inputs in job.inputs.chunks(MAX_RECORDS) {
                let batch = Batch { code: vec![job.sequence.words.clone()], records: inputs.to_vec() };
                let sequences = std::slice::from_ref(&job.sequence);
                for (_, failure) in self.compare(sequences, &batch)? {
                    self.report("--directed", failure)?;
                }
            }
        }
        Ok(())
    }

    /// Runs a batch on both sides at once; the first failure of each slot that has one.
    fn compare(&mut self, sequences: &[Sequence], batch: &Batch) -> Result<Vec<(usize, Failure)>> {
        self.qemu.submit(batch)?;
        self.ours.submit(batch)?;
        let (ours, theirs) = (self.ours.collect(batch)?, self.qemu.collect(batch)?);
        let mut failures: Vec<(usize, Failure)> = Vec::new();
        for ((qemu, ours), input) in theirs.into_iter().zip(ours).zip(&batch.records) {
            let slot = ((input.slot - CODE) / SLOT_SIZE) as usize;
            let sequence = &sequences[slot];
            let signal = qemu.status;
            if signal != 0 {
                *self.tally.faults.entry((signal, sequence.name_at(&qemu))).or_default() += 1;
            }
            let differs = self.rules.differs(sequence, &qemu, &ours);
            let failure = Failure { sequence: sequence.clone(), input: input.clone(), qemu, ours };
            if self.args.print_signal == Some(signal) {
                println!("{}", failure.report());
            }
            if differs && failures.last().is_none_or(|f| f.0 != slot) {
                failures.push((slot, failure));
            }
        }
        self.tally.sequences += sequences.len() as u64;
        self.tally.runs += batch.records.len() as u64;
        Ok(failures)
    }

    fn report(&mut self, again: &str, failure: Failure) -> Result<()> {
        const MOST_SHRUNK: u64 = 2000;
        self.tally.differing += 1;
        if self.tally.differing > MOST_SHRUNK {
            return Ok(());
        }
        let mut sides = Sides { qemu: &mut self.qemu, ours: self.ours.as_mut(), rules: &self.rules };
        let failure = shrink::shrink(&mut sides, failure)?;
        let culprit = failure.culprit();
        let seen = self.tally.culprits.entry(culprit).or_default();
        *seen += 1;
        if *seen == 1 && self.tally.culprits.len() <= self.args.show {
            println!("DIFFERENCE in {culprit}; again with: difftest {again}\n{}", failure.report());
        }
        Ok(())
    }
}

fn summary(tally: &Tally, elapsed: Duration, list_faults: bool) {
    let seconds = elapsed.as_secs_f64();
    println!(
        "{} sequences, {} runs in {seconds:.1} s ({:.0} sequences/s): {} differ",
        tally.sequences,
        tally.runs,
        tally.sequences as f64 / seconds,
        tally.differing
    );
    let total: u64 = tally.faults.values().sum();
    println!("  {total} runs ended in a signal on QEMU");
    for ((signal, name), count) in tally.faults.iter().filter(|_| list_faults) {
        println!("  signal {signal} in {name}: {count} runs");
    }
    for (name, count) in &tally.culprits {
        println!("  differs: {name}: {count} sequences");
    }
}
