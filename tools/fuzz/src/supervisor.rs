//! Starts a process per target, and says how each ended.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tearless_fuzz::Target;

use crate::{Args, Budget, allocator, worker};

/// Runs `targets`; the last line says how many passed.
pub fn run(args: &Args, targets: &[&'static Target]) -> Result<ExitCode> {
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let budget = args.budget(targets.len());
    let waiting = Mutex::new(targets.iter());
    let failed = Mutex::new(0);
    thread::scope(|scope| {
        let work = || -> Result<()> {
            while let Some(target) = waiting.lock().ok().and_then(|mut waiting| waiting.next()) {
                let passed = supervise(args, target, budget, &scratch.path().join(target.name))?;
                if let (false, Ok(mut failed)) = (passed, failed.lock()) {
                    *failed += 1;
                }
            }
            Ok(())
        };
        let jobs: Vec<_> = (0..args.jobs()).map(|_| scope.spawn(work)).collect();
        jobs.into_iter().try_for_each(|job| match job.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let failed = failed.into_inner().unwrap_or_default();
    println!("{} passed, {failed} failed", targets.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one target to its end; whether it passed.
fn supervise(args: &Args, target: &Target, budget: Budget, record: &Path) -> Result<bool> {
    let start = Instant::now();
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.args(["--target", target.name, "--timeout", &args.timeout.to_string(), "--jobs", "1"]);
    command.arg("--worker").arg(record);
    // Errors that carry a backtrace load the program's symbols, which is none of the target's memory.
    command.env("RUST_LIB_BACKTRACE", "0");
    if args.input.is_empty() {
        command.args(["--seed", &args.seed.to_string()]);
        match budget {
            Budget::Time(time) => command.args(["--seconds", &time.as_secs_f64().to_string()]),
            Budget::Executions(n) => command.args(["--executions", &n.to_string()]),
        };
    } else {
        command.arg("--input").args(&args.input);
    }
    let output = command.stderr(Stdio::piped()).output().context("cannot start a worker")?;
    let time = start.elapsed();
    if output.status.success() {
        let executions = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0);
        println!("ok    {:<14} {executions:>10} executions in {}", target.name, seconds(time));
        return Ok(true);
    }
    let why = match output.status.code() {
        Some(worker::PANICKED) => "panicked".to_owned(),
        Some(worker::HUNG) => "does not end".to_owned(),
        Some(allocator::EXHAUSTED) => format!("takes more than {} MiB", target.memory_mib),
        _ => format!("ended with {} (stack, or a bad access)", output.status),
    };
    println!("FAIL  {:<14} {why} after {}", target.name, seconds(time));
    String::from_utf8_lossy(&output.stderr).lines().take(80).for_each(|line| println!("      {line}"));
    let artifact = keep(args, target, record)?;
    println!(
        "      again: cargo run --release -p tearless-fuzz -- --target {} --input {}",
        target.name,
        artifact.display()
    );
    Ok(false)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Copies the input that failed to where it stays.
fn keep(args: &Args, target: &Target, record: &Path) -> Result<PathBuf> {
    let input = fs::read(record).with_context(|| format!("cannot read {}", record.display()))?;
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let folder = args.artifacts.join(target.name);
    let path = folder.join(format!("crash-{:016x}", hasher.finish()));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, input))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
