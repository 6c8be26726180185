//! What the guest is, and its clock.

use std::fs;

use rustix::{
    system::{sysinfo, uname},
    time::{ClockId, Timespec, clock_settime},
};
use tearless_guest_proto::Info;

use super::failure::{Explain, Outcome};

const NANOS: u64 = 1_000_000_000;

pub fn info() -> Outcome<Info> {
    let uname = uname();
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    Ok(Info {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: uname.nodename().to_string_lossy().into_owned(),
        system: name.unwrap_or("Linux").trim_matches('"').to_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
        uptime: u64::try_from(sysinfo().uptime).unwrap_or(0),
    })
}

pub fn set_time(nanos: u64) -> Outcome<()> {
    // Both fit: 2^64 nanoseconds are 584 years.
    let time = Timespec { tv_sec: (nanos / NANOS) as i64, tv_nsec: (nanos % NANOS) as i64 };
    clock_settime(ClockId::Realtime, time).explain(|| "cannot set the clock".to_owned())
}
