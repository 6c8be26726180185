//! `tearless doctor`: which engines work here and why the others do not.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use tearless_vm::{engines, host};

use crate::args::ListArgs;
use crate::out::say;

/// What `doctor --json` prints (docs/json.md).
#[derive(Serialize)]
struct Doctor {
    host: Host,
    engines: Vec<Engine>,
}

#[derive(Serialize)]
struct Host {
    os: &'static str,
    arch: &'static str,
    cpus: u32,
    memory_bytes: u64,
    max_vcpus: u32,
}

#[derive(Serialize)]
struct Engine {
    name: String,
    available: bool,
    description: &'static str,
    reason: Option<String>,
}

pub fn doctor(args: &ListArgs) -> Result<ExitCode> {
    let limits = host::limits()?;
    let report = Doctor {
        host: Host {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            cpus: limits.cpus,
            memory_bytes: limits.memory,
            max_vcpus: limits.default_max_vcpus(),
        },
        engines: engines::detect()
            .into_iter()
            .map(|r| Engine {
                name: r.engine.to_string(),
                available: r.missing.is_none(),
                description: r.what,
                reason: r.missing,
            })
            .collect(),
    };
    if args.json {
        say!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(if report.engines.iter().any(|e| e.available) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &Doctor) {
    let Host { os, arch, cpus, memory_bytes, max_vcpus } = &report.host;
    say!(
        "Host     {os} on {arch}, {cpus} CPUs (up to {max_vcpus} vCPUs in a VM), {} MiB of memory",
        memory_bytes >> 20
    );
    let mut best = true;
    for engine in &report.engines {
        let state = match &engine.reason {
            None if std::mem::take(&mut best) => "works, used by default".to_owned(),
            None => "works".to_owned(),
            Some(reason) => format!("no: {reason}"),
        };
        say!("{:<8} {}\n         {state}", engine.name, engine.description);
    }
}
