//! CPU time of processes.

use std::time::Duration;

#[cfg(target_os = "linux")]
use anyhow::Context;
use anyhow::Result;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike},
};

/// One run of a workload.
#[derive(Clone, Debug)]
pub struct Run {
    /// User and system time of all threads.
    pub cpu: Duration,
    pub wall: Duration,
    /// Exit status of the work.
    pub status: i32,
    /// What it wrote, on one line.
    pub output: String,
}

/// The CPU clock of another process, all its threads together, to the nanosecond.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy)]
pub struct CpuClock(nix::time::ClockId);

#[cfg(target_os = "linux")]
impl CpuClock {
    pub fn of(pid: u32) -> Result<Self> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).context("no such process")?);
        Ok(Self(nix::time::clock_getcpuclockid(pid).context("cannot find the process' CPU clock")?))
    }

    /// What the process has used so far.
    pub fn now(self) -> Result<Duration> {
        Ok(Duration::from(self.0.now().context("cannot read the process' CPU clock")?))
    }
}

/// Other systems do not show it.
#[cfg(not(target_os = "linux"))]
#[derive(Clone, Copy)]
pub struct CpuClock(std::convert::Infallible);

#[cfg(not(target_os = "linux"))]
impl CpuClock {
    pub fn of(_pid: u32) -> Result<Self> {
        anyhow::bail!("cannot measure CPU time of processes\n  because: this works on Linux only")
    }

    pub fn now(self) -> Result<Duration> {
        match self.0 {}
    }
}

/// CPU time of all children that have ended.
pub fn children_cpu() -> Duration {
    let of = |t: TimeVal| Duration::from_micros(u64::try_from(t.num_microseconds()).unwrap_or(0));
    getrusage(UsageWho::RUSAGE_CHILDREN)
        .map_or(Duration::ZERO, |usage| of(usage.user_time()) + of(usage.system_time()))
}
