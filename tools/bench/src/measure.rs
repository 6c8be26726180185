//! Timing of whole processes.

use std::{
    path::PathBuf,
    process::{Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};

/// What is compared.
#[derive(Clone)]
pub struct Sides {
    pub tearless: PathBuf,
    pub qemu: String,
    pub qemu_cpu: String,
}

/// One run.
#[derive(Clone, Copy)]
pub struct Sample {
    pub wall: Duration,
    /// User and system time of the process with all its threads.
    pub cpu: Duration,
}

/// A run of each side, one right after the other.
pub struct Pair {
    pub tearless: Sample,
    pub qemu: Sample,
}

/// Runs `command` to its end, `meanwhile` in the time between.
pub fn run<T>(
    mut command: Command,
    meanwhile: impl FnOnce() -> Result<T>,
) -> Result<(Sample, ExitStatus, T)> {
    let before = children_cpu();
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let result = meanwhile();
    let status = child.wait()?;
    let sample = Sample { wall: start.elapsed(), cpu: children_cpu() - before };
    Ok((sample, status, result?))
}

fn children_cpu() -> Duration {
    let of = |t: TimeVal| Duration::new(t.tv_sec().try_into().unwrap_or(0), t.tv_usec() as u32 * 1000);
    getrusage(UsageWho::RUSAGE_CHILDREN)
        .map_or(Duration::ZERO, |usage| of(usage.user_time()) + of(usage.system_time()))
}

/// Prints medians, and the ratio of CPU times pair by pair.
pub fn print_row(name: &str, instructions: Option<u64>, pairs: &[Pair]) {
    let cpu = |side: fn(&Pair) -> Sample| median(pairs.iter().map(|p| side(p).cpu.as_secs_f64()));
    let (tearless, qemu) = (cpu(|p| p.tearless), cpu(|p| p.qemu));
    let ratios: Vec<f64> =
        pairs.iter().map(|p| p.qemu.cpu.as_secs_f64() / p.tearless.cpu.as_secs_f64()).collect();
    let wall = median(pairs.iter().map(|p| p.qemu.wall.as_secs_f64() / p.tearless.wall.as_secs_f64()));
    let mips = instructions.map_or_else(String::new, |n| format!("{:.0}", n as f64 / tearless / 1e6));
    let (low, high) = ratios.iter().fold((f64::MAX, 0.0_f64), |(l, h), &r| (l.min(r), h.max(r)));
    let spread = format!("{:.2} ({low:.2}-{high:.2})", median(ratios.iter().copied()));
    println!("{name:<18} {tearless:>8.2}s {qemu:>8.2}s {mips:>8}   {spread:>26}   {wall:>9.2}");
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
