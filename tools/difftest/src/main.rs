//! Differential test of the software CPU: its translator, its interpreter and `qemu-aarch64` against each other.
//!
//! Random and directed A64 sequences run on all, from the same registers and memory, and everything that they leave
//! behind is compared: X0-X30, SP, NZCV, FPCR, FPSR, V0-V31, memory, and the kind and place of faults.
//!
//! ```text
//!   encodings ─► generate (+ compose, values, directed) ─┬─► Batch ─┬─► qemu: driver as an ELF, pipes        ─┬─► compare ─► shrink
//!                program (+ blocks)                     ─┘          ├─► interp: driver on a bare machine      │
//!                                                                   └─► jit: the same, the engine's other tier ┘
//! ```
//!
//! A failing sequence is shrunk and printed with the command line that makes it again.

mod asm;
mod blocks;
mod builder;
mod compare;
mod compose;
mod directed;
mod driver;
mod encodings;
mod features;
mod generate;
mod isolate;
mod kernel;
mod layout;
mod optional;
mod program;
mod qemu;
mod rng;
mod session;
mod shrink;
mod side;
mod soft;
mod tables;
mod values;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use tearless_engine_soft::Tier;

use crate::compare::Rules;
use crate::encodings::Class;
use crate::features::Features;
use crate::generate::{Generator, Spaces, World};
use crate::layout::{LINES, MAX_RECORDS, PROGRAMS, Slots};
use crate::qemu::Qemu;
use crate::session::{Reporting, Session, Sides, Stretch, Tally};
use crate::side::{Kind, Side};
use crate::soft::{Setting, Soft};

/// Runs random instruction sequences on the software CPU's tiers and on QEMU, and compares all that they leave behind.
#[derive(Parser)]
struct Args {
    /// How many sequences to run, of each shape.
    #[arg(long, default_value_t = 20_000)]
    sequences: u64,
    /// Names the stream of sequences.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which sequences, separated by commas; all by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    shape: Vec<Shape>,
    /// Which classes of instructions, separated by commas; all by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    class: Vec<Class>,
    /// Who runs them, separated by commas: each is compared with the next.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "qemu,interp,jit")]
    sides: Vec<Kind>,
    /// Run the sequences at EL1 (not with QEMU).
    #[arg(long)]
    el1: bool,
    /// Run the sequences in several address spaces, with changing tables and hostile memory (not with QEMU).
    #[arg(long)]
    spaces: bool,
    /// Let the translator forget flags that are overwritten before they are read, as users have it: NZCV at the fault
    /// that ends a sequence is not compared.
    #[arg(long)]
    lazy_flags: bool,
    /// Have the only vCPU update memory as if others did, too.
    #[arg(long)]
    locked: bool,
    /// The first sequence: with `--sequences 1` runs one again.
    #[arg(long, default_value_t = 0)]
    index: u64,
    /// How many sets of register values each sequence runs with (1 to 4, for programs to 16).
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
    /// Print each sequence that ends in this signal on the first side, differing or not.
    #[arg(long)]
    print_signal: Option<u64>,
    /// Run the directed tests of the classes instead of random sequences.
    #[arg(long)]
    directed: bool,
    /// Work in processes of their own, and when one crashes or hangs find the sequence that made it.
    #[arg(long)]
    isolate: bool,
    /// QEMU's program.
    #[arg(long, default_value = "qemu-aarch64")]
    qemu: String,
    /// The CPU that QEMU presents.
    #[arg(long, default_value = qemu::DEFAULT_CPU)]
    qemu_cpu: String,
}

/// What sequences look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Shape {
    /// Short sequences, mostly of one class.
    Lines,
    /// Programs of several blocks of all classes, with loops, calls, faults and changes of their own code.
    Programs,
}

impl Shape {
    fn slots(self) -> Slots {
        match self {
            Self::Lines => LINES,
            Self::Programs => PROGRAMS,
        }
    }
}

const ALL: [Class; 7] =
    [Class::Integer, Class::Fp, Class::Simd, Class::Crypto, Class::Memory, Class::System, Class::Decode];

fn main() -> ExitCode {
    let args = Args::parse();
    match if args.isolate { isolate::run(args.index, args.sequences) } else { run(&args) } {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("difftest: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn names<T: clap::ValueEnum>(values: &[T]) -> String {
    let names = values.iter().filter_map(T::to_possible_value).map(|v| v.get_name().to_owned());
    names.collect::<Vec<_>>().join(",")
}

impl Args {
    fn check(&self) -> Result<()> {
        ensure!(self.sides.len() > 1, "--sides needs two sides or more");
        ensure!(
            !self.sides[1..].contains(&Kind::Qemu) || self.sides == [Kind::Qemu; 2],
            "--sides: QEMU must be the first side, or both"
        );
        ensure!(
            !self.sides.contains(&Kind::Qemu) || !(self.el1 || self.spaces),
            "--el1 and --spaces are not for QEMU: add --sides interp,jit"
        );
        let most = self.shapes().iter().map(|s| (MAX_RECORDS / s.slots().count) as u64).min().unwrap_or(1);
        ensure!((1..=most).contains(&self.inputs), "--inputs must be 1 to {most}");
        Ok(())
    }

    fn shapes(&self) -> Vec<Shape> {
        if self.shape.is_empty() { vec![Shape::Lines, Shape::Programs] } else { self.shape.clone() }
    }

    /// The classes to generate: random words could do anything at EL1.
    fn classes(&self) -> Vec<Class> {
        let mut classes = if self.class.is_empty() { ALL.to_vec() } else { self.class.clone() };
        classes.retain(|class| !self.el1 || *class != Class::Decode);
        classes
    }

    /// The arguments that repeat this session with one shape, but for the sequence.
    fn again(&self, shape: Shape) -> String {
        let mut again = format!("--seed {} --shape {}", self.seed, names(&[shape]));
        if !self.class.is_empty() {
            again += &format!(" --class {}", names(&self.class));
        }
        again += &format!(" --sides {} --inputs {}", names(&self.sides), self.inputs);
        let flags = [
            (" --el1", self.el1),
            (" --spaces", self.spaces),
            (" --lazy-flags", self.lazy_flags),
            (" --locked", self.locked),
        ];
        for (flag, given) in flags {
            again += if given { flag } else { "" };
        }
        if let Some(micros) = self.interrupt_micros {
            again += &format!(" --interrupt-micros {micros}");
        }
        again
    }
}

/// Starts the sides; also what all of them advertise.
fn start(args: &Args) -> Result<(Sides, Features)> {
    let setting = Setting {
        el1: args.el1,
        spaces: args.spaces,
        interrupts: args.interrupt_micros.map(Duration::from_micros),
        lazy_flags: args.lazy_flags,
        locked: args.locked,
    };
    let mut sides = Sides::new();
    let mut common: Option<Features> = None;
    for kind in &args.sides {
        let (side, features): (Box<dyn Side>, Features) = match kind {
            Kind::Qemu => {
                let mut qemu = Qemu::start(&args.qemu, &args.qemu_cpu)?;
                let features = Features::probe(&mut qemu)?;
                (Box::new(qemu), features)
            }
            Kind::Interp | Kind::Jit => {
                let tier = if *kind == Kind::Jit { Tier::Jit } else { Tier::Interpreter };
                let soft = Soft::start(setting, tier).context("cannot start the software CPU")?;
                let features = soft.features();
                (Box::new(soft), features)
            }
        };
        common = Some(common.map_or(features, |c| c.common(features)));
        sides.push((*kind, side));
    }
    Ok((sides, common.unwrap_or_default()))
}

fn run(args: &Args) -> Result<u64> {
    args.check()?;
    let classes = args.classes();
    let (sides, features) = start(args)?;
    let rules = Rules::new(&features, args.interrupt_micros.is_some(), args.lazy_flags);
    let reporting = Reporting { show: args.show, signal: args.print_signal, again: String::new() };
    let mut session = Session { sides, rules, reporting, tally: Tally::default(), results: Vec::new() };
    let started = Instant::now();
    if args.directed {
        session.directed(&classes, &features)?;
    } else {
        let world = World { el1: args.el1, spaces: args.spaces.then_some(Spaces { off: args.el1 }) };
        let generator = Generator::new(args.seed, &classes, &features, world);
        let shapes = args.shapes();
        let share = args.seconds.map(|s| Duration::from_secs(s) / shapes.len() as u32);
        for shape in shapes {
            session.reporting.again = args.again(shape);
            let stretch = Stretch {
                first: args.index,
                count: args.sequences,
                inputs: args.inputs,
                deadline: share.map(|s| Instant::now() + s),
            };
            session.random(&generator, shape.slots(), &stretch)?;
        }
    }
    session.summary(started.elapsed(), args.list_faults);
    Ok(session.tally.differing)
}
