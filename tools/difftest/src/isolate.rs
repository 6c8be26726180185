//! Runs a session in processes of its own, so that a sequence which makes the translator crash or hang can be found.

use std::env;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

/// Sequences that a process runs.
const PORTION: u64 = 100_000;

/// Runs this program again for each portion of the sequences, with the other arguments as they are. Returns how many
/// portions had differences or crashed.
///
/// # Errors
/// If a process cannot be started.
pub fn run(first: u64, count: u64) -> Result<u64> {
    let mut bad = 0;
    let end = first.saturating_add(count);
    let mut next = first;
    while next < end {
        let count = PORTION.min(end - next);
        let status = run_portion(next, count, false)?;
        if !status.success() {
            bad += 1;
        }
        if crashed(status) {
            report(next, count, status)?;
        }
        next += count;
    }
    Ok(bad)
}

fn crashed(status: ExitStatus) -> bool {
    !matches!(status.code(), Some(0 | 1))
}

/// Halves the portion as long as a half of it crashes alone.
fn report(mut first: u64, mut count: u64, status: ExitStatus) -> Result<()> {
    while count > 1 {
        let half = count / 2;
        if crashed(run_portion(first, half, true)?) {
            count = half;
        } else if crashed(run_portion(first + half, count - half, true)?) {
            first += half;
            count -= half;
        } else {
            break;
        }
    }
    println!("CRASH ({status}); again with the same arguments and --index {first} --sequences {count}");
    Ok(())
}

fn run_portion(first: u64, count: u64, quiet: bool) -> Result<ExitStatus> {
    let mut command = Command::new(env::current_exe().context("cannot find this program")?);
    let mut arguments = env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--index" || argument == "--sequences" {
            arguments.next();
        } else if argument != "--isolate" {
            command.arg(argument);
        }
    }
    command.args(["--index", &first.to_string(), "--sequences", &count.to_string()]);
    if quiet {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    command.status().context("cannot start this program again")
}
