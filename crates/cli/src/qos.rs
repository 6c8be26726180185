//! The VM's share of the host: priority and CPUs. Threads take over what their process has when they start, so this comes
//! before there are any.

use anyhow::{Context, Result};
use rustix::process::setpriority_process;
use tearless_config::Qos;

/// Applies `qos` to this process.
pub fn apply(qos: &Qos) -> Result<()> {
    if qos.nice != 0 {
        setpriority_process(None, qos.nice.into()).map_err(std::io::Error::from).with_context(|| {
            format!(
                "cannot give the VM niceness {}\n  try: --nice 0 to 19; less than 0 needs privileges (CAP_SYS_NICE)",
                qos.nice
            )
        })?;
    }
    if !qos.cpus.is_all() {
        pin(qos)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn pin(qos: &Qos) -> Result<()> {
    use rustix::thread::{CpuSet, sched_setaffinity};

    let mut set = CpuSet::new();
    for &cpu in qos.cpus.cpus() {
        set.set(cpu as usize);
    }
    sched_setaffinity(None, &set).map_err(std::io::Error::from).with_context(|| {
        format!(
            "cannot run the VM on host CPUs {}\n  try: CPUs that the host has (`nproc --all`), or all",
            qos.cpus
        )
    })
}

#[cfg(not(target_os = "linux"))]
fn pin(qos: &Qos) -> Result<()> {
    anyhow::bail!(
        "cannot run the VM on host CPUs {}\n  because: this host lets no program choose its CPUs\n  try: --cpu-affinity \
         all, and --nice to have the VM yield",
        qos.cpus
    )
}
