//! The native side: the amd64 system in a folder, entered with `unshare` and `chroot`, without root.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::measure::{Run, children_cpu};

/// Work that is done sooner is done repeatedly, as entering the system takes some milliseconds.
const LONG_ENOUGH: Duration = Duration::from_millis(100);
const MOST_REPEATS: u32 = 20;

const ENTER: &str = include_str!("../guest/native");

pub struct Native {
    root: PathBuf,
    /// CPU time of entering the system, which is no part of the work.
    entry: Duration,
}

impl Native {
    /// Checks that the system in `root` can be entered.
    pub fn new(root: PathBuf) -> Result<Self> {
        let mut native = Self { root, entry: Duration::ZERO };
        let mut entry = Duration::MAX;
        for _ in 0..5 {
            let run = native.run("true")?;
            ensure!(
                run.status == 0,
                "cannot run programs in {}\n  because: {}\n  try: as root, if this host keeps users from making \
                 namespaces",
                native.root.display(),
                run.output.trim()
            );
            entry = entry.min(run.cpu);
        }
        native.entry = entry;
        Ok(native)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Measures a shell command.
    pub fn measure(&self, script: &str) -> Result<Run> {
        let run = self.run(script)?;
        let missing = LONG_ENOUGH.as_secs_f64() / run.cpu.as_secs_f64().max(1e-3);
        let repeats = (missing.ceil() as u32).min(MOST_REPEATS);
        if repeats < 2 || run.status != 0 {
            return Ok(run);
        }
        let script = format!("n=0; while [ $n -lt {repeats} ]; do ({script}) >/dev/null; n=$((n+1)); done");
        let all = self.run(&script)?;
        Ok(Run { cpu: all.cpu / repeats, wall: all.wall / repeats, ..run })
    }

    /// Runs a shell command there to its end.
    pub fn run(&self, script: &str) -> Result<Run> {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", ENTER, "sh"]).arg(&self.root).arg(script);
        command.stdin(Stdio::null());
        let before = children_cpu();
        let start = Instant::now();
        let output = command.output().context("cannot start unshare (package util-linux)")?;
        let wall = start.elapsed();
        let cpu = children_cpu().saturating_sub(before).saturating_sub(self.entry);
        let text = [output.stdout, output.stderr].concat();
        Ok(Run {
            cpu,
            wall,
            status: output.status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&text).replace(['\n', '\r'], " ").trim().to_owned(),
        })
    }
}
