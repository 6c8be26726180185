//! Runs the same guest work on Tearless and on `qemu-system-aarch64`, in turn, and prints ratios.
//!
//! Two kinds of work: bare metal loops with a known number of instructions, and commands in the fresh Debian (the same
//! kernel and RAM disk on both). The machine's noise hits both sides alike when runs alternate, so a ratio means something
//! where a time does not.

mod bare;
mod linux;
mod measure;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

use measure::{Pair, Sample};

#[derive(Parser)]
struct Args {
    /// Runs of each side per workload.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only the workloads whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// The `-cpu` that QEMU emulates.
    #[arg(long, default_value = "max,pauth=off")]
    qemu_cpu: String,
    /// QEMU.
    #[arg(long, default_value = "qemu-system-aarch64")]
    qemu: String,
    /// The tearless command; default: the one built beside this tool.
    #[arg(long)]
    tearless: Option<PathBuf>,
}

/// One piece of work that both sides can do.
trait Workload {
    fn name(&self) -> String;
    /// Guest instructions, where they are known.
    fn instructions(&self) -> Option<u64>;
    fn on_tearless(&self) -> Result<Sample>;
    fn on_qemu(&self) -> Result<Sample>;
}

fn main() -> Result<()> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    let tearless = match args.tearless {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("tearless"),
    };
    anyhow::ensure!(
        tearless.exists(),
        "{} is missing: build it with `cargo build --release`",
        tearless.display()
    );
    let sides = measure::Sides { tearless, qemu: args.qemu, qemu_cpu: args.qemu_cpu };

    let mut workloads: Vec<Box<dyn Workload>> = Vec::new();
    workloads.extend(bare::workloads(&sides, folder.path())?);
    workloads.extend(linux::workloads(&sides, folder.path())?);

    println!(
        "{:<18} {:>9} {:>9} {:>8}   {:>26}   {:>9}",
        "workload", "tearless", "QEMU", "MIPS", "QEMU/tearless CPU (min-max)", "wall"
    );
    for workload in workloads.iter().filter(|w| w.name().contains(&args.only)) {
        let pairs = (0..args.runs)
            .map(|_| Ok(Pair { tearless: workload.on_tearless()?, qemu: workload.on_qemu()? }))
            .collect::<Result<Vec<_>>>()
            .with_context(|| format!("workload {}", workload.name()))?;
        measure::print_row(&workload.name(), workload.instructions(), &pairs);
    }
    Ok(())
}
