//! Runs the same guest work on Tearless and on `qemu-system-aarch64`, in turn, and prints how they compare.
//!
//! One Debian system, one kernel, one RAM disk and one set of programs for all sides ([`system`]); each guest boots once
//! and is then told over its console what to run ([`guest`]); the same programs run natively as amd64 ([`native`]).
//! What counts is CPU time, and runs go from side to side, so that the noise of a shared machine meets all alike.
//! See the README beside this crate for how to read the table.

mod guest;
mod measure;
mod native;
mod report;
mod results;
mod system;
mod workloads;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tearless_image::Progress;

use guest::{Guest, Side};
use measure::Run;
use report::Results;
use results::{Row, Series};
use system::System;
use workloads::{Class, WORKLOADS, Workload};

/// The models that count as QEMU's best, separated by spaces as their names contain commas.
const CPUS: &str = "max,pauth=off neoverse-n1 cortex-a72 max,pauth-impdef=on";
const QUICK_CPUS: usize = 2;
/// A model that is so much slower than another one in its first rounds runs no more: it will not be the best.
const HOPELESS: f64 = 1.25;

#[derive(Parser)]
#[command(about = "Runs the same guest work on Tearless and on QEMU, side by side")]
struct Args {
    /// Only these workloads; several separated by commas.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Only these classes; several separated by commas.
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    class: Vec<String>,
    /// A line of shell of your own, instead of the workloads. Its output is shown too.
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["only", "class"])]
    script: Option<String>,
    /// Runs of each side per workload; the best counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The -cpu models of QEMU, separated by spaces. An empty text: no QEMU.
    #[arg(long, default_value = CPUS)]
    cpus: String,
    /// One round, against the first two models.
    #[arg(long)]
    quick: bool,
    /// Leaves out the native runs.
    #[arg(long)]
    skip_native: bool,
    /// Takes QEMU's and the native figures from the results of an earlier run instead of measuring them.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Writes all figures to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Prints the table of an earlier run's results and exits.
    #[arg(long, value_name = "FILE")]
    show: Option<PathBuf>,
    /// Seconds that one run may take.
    #[arg(long, default_value_t = 120)]
    timeout: u64,
    /// The tearless command; default: the one built beside this tool.
    #[arg(long, value_name = "FILE")]
    tearless: Option<PathBuf>,
    /// One more argument for `tearless run`; repeat it for more.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    tearless_arg: Vec<String>,
    /// QEMU.
    #[arg(long, value_name = "FILE", default_value = "qemu-system-aarch64")]
    qemu: PathBuf,
    /// Makes the guest system anew, with the mirror's newest packages.
    #[arg(long)]
    rebuild: bool,
    /// Lists the workloads and exits.
    #[arg(long)]
    list: bool,
}

fn main() -> Result<ExitCode> {
    let mut args = Args::parse();
    let own = args.script.clone().map(Workload::own);
    let workloads = own.as_ref().map_or_else(|| select(&args), |own| Ok(vec![own]))?;
    if args.list {
        for workload in workloads {
            println!("{:<13} {:<12} {}", workload.name, workload.class.name(), workload.script);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(path) = &args.show {
        let results = Results::read(path)?;
        println!("{}\n{}\n", results.versions.describe(), results.qemu);
        report::print_head();
        results.rows.iter().for_each(report::print_row);
        report::print_verdicts(&report::verdicts(&results.rows), &results.rows);
        return Ok(ExitCode::SUCCESS);
    }
    if args.quick {
        args.rounds = 1;
    }
    ensure!(args.rounds > 0, "--rounds must be at least 1");
    let baseline = args.baseline.as_deref().map(Results::read).transpose()?;
    let mut bench = Bench::new(&args, baseline)?;
    report::print_head();
    let mut rows = Vec::new();
    for workload in workloads {
        let row = bench.measure(workload);
        report::print_row(&row);
        if args.script.is_some() {
            println!("              {}", row.tearless.output);
        }
        rows.push(row);
        if let Some(path) = &args.json {
            // After each, so that an interrupted run is not lost.
            bench.results(&rows).write(path)?;
        }
    }
    report::print_verdicts(&report::verdicts(&rows), &rows);
    let failed = rows.iter().any(|row| row.tearless.failure.is_some());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The workloads that were asked for.
fn select<'a>(args: &Args) -> Result<Vec<&'a Workload>> {
    for name in &args.only {
        ensure!(WORKLOADS.iter().any(|w| w.name == name), "there is no workload {name}; see --list");
    }
    for class in &args.class {
        ensure!(Class::ALL.iter().any(|c| c.name() == class), "there is no class {class}; see --list");
    }
    let all = args.only.is_empty() && args.class.is_empty();
    let wanted = |w: &&Workload| {
        all || args.only.iter().any(|n| n == w.name) || args.class.iter().any(|c| c == w.class.name())
    };
    Ok(WORKLOADS.iter().filter(wanted).collect())
}

/// The sides with their running guests.
struct Bench {
    system: System,
    qemu_version: String,
    tearless: Side,
    /// The models of QEMU; the index of one is the number of the pair that Tearless makes with it.
    models: Vec<Side>,
    /// Pair, side, vCPUs, guest.
    guests: Vec<(usize, Side, u32, Guest)>,
    baseline: Option<Results>,
    native: bool,
    rounds: usize,
    patience: Duration,
}

impl Bench {
    fn new(args: &Args, baseline: Option<Results>) -> Result<Self> {
        let program = match &args.tearless {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("tearless"),
        };
        ensure!(
            program.exists(),
            "{} is missing\n  try: cargo build --release -p tearless",
            program.display()
        );
        let tearless = Side::Tearless { program, extra: args.tearless_arg.clone() };
        let mut models = Vec::new();
        if baseline.is_none() {
            let limit = if args.quick { QUICK_CPUS } else { usize::MAX };
            let cpus = args.cpus.split_whitespace().take(limit);
            models.extend(cpus.map(|cpu| Side::Qemu { program: args.qemu.clone(), cpu: cpu.to_owned() }));
        }
        let qemu_version = match &baseline {
            Some(baseline) => baseline.qemu.clone(),
            None if !models.is_empty() => qemu_version(&args.qemu)?,
            None => "not measured".to_owned(),
        };
        let system = system::prepare(args.rebuild, &Stages)?;
        println!("{}\n{qemu_version}\n", system.versions.describe());
        Ok(Self {
            system,
            qemu_version,
            tearless,
            models,
            guests: Vec::new(),
            native: baseline.is_none() && !args.skip_native,
            baseline,
            rounds: args.rounds,
            patience: Duration::from_secs(args.timeout),
        })
    }

    /// Runs one workload on all sides, round by round. Each run of a model of QEMU is paired with one of Tearless on a guest
    /// that only this model is compared with, and all others are as many: the best of many runs and boots is less than the
    /// best of few.
    fn measure(&mut self, workload: &Workload) -> Row {
        let (tearless, models) = (self.tearless.clone(), self.models.clone());
        let native = self.native && workload.class != Class::Boot;
        let mut row = Row {
            name: workload.name.to_owned(),
            tearless: Series::new(tearless.name()),
            qemu: models.iter().map(|model| Series::new(model.name())).collect(),
            native: native.then(|| Series::new("native")),
            single: (workload.vcpus() > 1).then(|| Series::new("tearless, 1 vCPU")),
        };
        for _ in 0..self.rounds {
            let best = row.qemu.iter().filter_map(Series::best).reduce(f64::min).unwrap_or(f64::MAX);
            let hopeful =
                |s: &Series| s.failure.is_none() && s.best().is_none_or(|own| own <= best * HOPELESS);
            let pairs: Vec<usize> = (0..models.len()).filter(|&i| hopeful(&row.qemu[i])).collect();
            if pairs.is_empty() {
                self.run_ours(0, workload, &mut row);
            }
            for pair in pairs {
                self.run_ours(pair, workload, &mut row);
                let run = self.run((pair, &models[pair]), workload.vcpus(), workload);
                row.qemu[pair].add(run);
                row.qemu[pair].beside.extend(row.tearless.cpu.last());
            }
        }
        let known = self.baseline.as_ref().and_then(|b| b.rows.iter().find(|r| r.name == row.name));
        if let Some(known) = known {
            row.qemu.clone_from(&known.qemu);
            row.native.clone_from(&known.native);
            row.qemu.iter_mut().for_each(|series| series.beside.clone_from(&row.tearless.cpu));
        }
        row.check_outputs(workload.same_natively);
        row
    }

    /// Runs it on Tearless, with one vCPU too if it is for two, and natively.
    fn run_ours(&mut self, pair: usize, workload: &Workload, row: &mut Row) {
        let side = self.tearless.clone();
        if row.tearless.failure.is_none() {
            row.tearless.add(self.run((pair, &side), workload.vcpus(), workload));
        }
        if let Some(single) = row.single.as_mut().filter(|s| s.failure.is_none()) {
            // On guests that have run no more than those with two: most programs are known to the others by now.
            let pair = pair + self.models.len().max(1);
            single.add(self.run((pair, &side), 1, workload));
        }
        if let Some(native) = row.native.as_mut().filter(|s| s.failure.is_none()) {
            native.add(self.system.native.measure(&workload.script));
        }
    }

    /// Runs it once on a guest of this pair, which is booted if need be; one that failed is ended.
    fn run(&mut self, (pair, side): (usize, &Side), vcpus: u32, workload: &Workload) -> Result<Run> {
        if workload.class == Class::Boot {
            return Ok(Guest::boot(side, &self.system, vcpus, self.patience)?.boot_run());
        }
        let known = |(p, s, n, _): &(usize, Side, u32, Guest)| (*p, s, *n) == (pair, side, vcpus);
        let at = match self.guests.iter().position(known) {
            Some(at) => at,
            None => {
                let guest = Guest::boot(side, &self.system, vcpus, self.patience)?;
                self.guests.push((pair, side.clone(), vcpus, guest));
                self.guests.len() - 1
            }
        };
        let (.., guest) = self.guests.get_mut(at).context("the guest is gone")?;
        let run = guest.run(&workload.script, self.patience);
        if run.is_err() {
            self.guests.swap_remove(at);
        }
        run
    }

    fn results(&self, rows: &[Row]) -> Results {
        Results {
            qemu: self.qemu_version.clone(),
            versions: self.system.versions.clone(),
            rows: rows.to_vec(),
            verdicts: report::verdicts(rows),
        }
    }
}

fn qemu_version(program: &Path) -> Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {} (package qemu-system-arm)", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

/// Says on standard error what takes long.
struct Stages;

impl Progress for Stages {
    fn begin(&self, what: &str, _total: Option<u64>) {
        eprintln!("{what} ...");
    }

    fn advance(&self, _bytes: u64) {}

    fn end(&self) {}

    fn warn(&self, message: &str) {
        eprintln!("note: {message}");
    }
}
