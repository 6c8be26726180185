//! The process of one target.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    panic,
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tearless_fuzz::{
    Target,
    mutate::{Random, next_input},
};

use crate::{Args, Budget, allocator};

/// What the exit status says.
pub const PANICKED: i32 = 101;
pub const HUNG: i32 = 102;

/// Runs `target` until its budget is used up, or on the files given; the input of the moment is in `file`. Prints the
/// number of executions.
pub fn run(args: &Args, target: &Target, file: &Path) -> Result<()> {
    let mut record = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    // A panic anywhere is a finding, also in a thread whose end nobody asks for.
    panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        process::exit(PANICKED);
    }));
    let executions = Arc::new(AtomicU64::new(0));
    watch(executions.clone(), Duration::from_secs(args.timeout));

    let mut execute = |input: &[u8]| -> Result<()> {
        record.rewind()?;
        record.write_all(input)?;
        record.set_len(input.len() as u64)?;
        allocator::allow(target.memory_mib);
        (target.run)(input);
        executions.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    if args.input.is_empty() {
        fuzz(args, target, &mut execute)?;
    }
    for path in &args.input {
        let input = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        execute(&input)?;
    }
    println!("{}", executions.load(Ordering::Relaxed));
    Ok(())
}

fn fuzz(args: &Args, target: &Target, execute: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let seeds = (target.seeds)();
    let mut random = Random::new(args.seed);
    let start = Instant::now();
    let mut done = 0;
    let mut enough = || {
        done += 1;
        match args.budget(1) {
            Budget::Time(time) => start.elapsed() >= time,
            Budget::Executions(limit) => done > limit,
        }
    };
    for seed in &seeds {
        if enough() {
            return Ok(());
        }
        execute(seed)?;
    }
    while !enough() {
        execute(&next_input(&mut random, &seeds))?;
    }
    Ok(())
}

/// Ends the process when an execution takes longer than `limit`.
fn watch(executions: Arc<AtomicU64>, limit: Duration) {
    thread::spawn(move || {
        let (mut seen, mut since) = (u64::MAX, Instant::now());
        loop {
            thread::sleep(Duration::from_millis(100));
            let now = executions.load(Ordering::Relaxed);
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() > limit {
                eprintln!("an execution takes longer than {limit:?}");
                process::exit(HUNG);
            }
        }
    });
}
