//! Drives the fuzz targets without coverage feedback, on a stable toolchain: `cargo run --release -p tearless-fuzz`.
//!
//! Each target runs in a process of its own, which leaves the input that it is at in a file. So whatever ends that
//! process, a panic in any thread, a signal, a stack overflow, too much memory or too much time, the input that did
//! it is there, and the other targets run on.

mod allocator;
mod supervisor;
mod worker;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use tearless_fuzz::{SELF_TESTS, TARGETS, Target};

/// Feeds every parser and device hostile input, and reports what panics, hangs or takes memory without bound.
#[derive(Debug, Parser)]
struct Args {
    /// Time for all targets together. Default: 60, unless --executions is given.
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    /// Executions of each target.
    #[arg(long, conflicts_with = "seconds")]
    executions: Option<u64>,
    /// Which targets, separated by commas; all by default.
    #[arg(long, value_delimiter = ',')]
    target: Vec<String>,
    /// Names the stream of inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Targets that run at once. Default: one per CPU.
    #[arg(long)]
    jobs: Option<usize>,
    /// Longest time for one execution, in seconds.
    #[arg(long, default_value_t = 10)]
    timeout: u64,
    /// Where inputs that fail go.
    #[arg(long, default_value = "fuzz/artifacts")]
    artifacts: PathBuf,
    /// Runs one target on these files instead.
    #[arg(long, num_args = 1.., conflicts_with_all = ["seconds", "executions"])]
    input: Vec<PathBuf>,
    /// Writes the seeds into folders named after the targets, as a corpus for cargo-fuzz, and ends.
    #[arg(long, value_name = "DIR")]
    write_seeds: Option<PathBuf>,
    /// Lists the targets and ends.
    #[arg(long)]
    list: bool,
    /// Is the process of one target; the file takes its present input.
    #[arg(long, hide = true, value_name = "FILE")]
    worker: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

/// When a target has run enough.
#[derive(Clone, Copy, Debug)]
enum Budget {
    Time(Duration),
    Executions(u64),
}

impl Args {
    fn targets(&self) -> Result<Vec<&'static Target>> {
        if self.target.is_empty() {
            return Ok(TARGETS.iter().collect());
        }
        let find = |name: &String| {
            let mut all = TARGETS.iter().chain(SELF_TESTS);
            all.find(|target| target.name == name)
                .with_context(|| format!("there is no target {name}; see --list"))
        };
        self.target.iter().map(find).collect()
    }

    fn jobs(&self) -> usize {
        let cpus = std::thread::available_parallelism().map_or(1, Into::into);
        self.jobs.unwrap_or(cpus).max(1)
    }

    fn budget(&self, targets: usize) -> Budget {
        const DEFAULT: Duration = Duration::from_secs(60);
        match self.executions {
            Some(executions) => Budget::Executions(executions),
            None => {
                let all = self.seconds.unwrap_or(DEFAULT);
                // As many at once as there are jobs.
                let at_once = self.jobs().min(targets.max(1)) as u32;
                Budget::Time(all * at_once / targets.max(1) as u32)
            }
        }
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let targets = args.targets()?;
    if args.list {
        targets.iter().for_each(|target| println!("{:<14} {}", target.name, target.about));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(folder) = &args.write_seeds {
        return write_seeds(&targets, folder).map(|()| ExitCode::SUCCESS);
    }
    if !args.input.is_empty() && targets.len() != 1 {
        bail!("--input needs --target with one name");
    }
    if let Some(file) = &args.worker {
        let [target] = targets[..] else { bail!("a worker has one target") };
        return worker::run(&args, target, file).map(|()| ExitCode::SUCCESS);
    }
    supervisor::run(&args, &targets)
}

fn write_seeds(targets: &[&Target], folder: &std::path::Path) -> Result<()> {
    for target in targets {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (n, seed) in (target.seeds)().iter().enumerate() {
            let path = folder.join(format!("seed-{n}"));
            fs::write(&path, seed).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}
