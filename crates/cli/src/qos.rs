//! The VM's share of the host: priority and CPUs. Threads take over what their process has when they start, so this comes
//! before there are any.

use anyhow::{Context, Result};
use rustix::process::setpriority_process;
use tearless_config::{Qos, QosClass};

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
    match qos.class {
        QosClass::Default => Ok(()),
        QosClass::Efficiency => yield_to_all(),
    }
}

/// Refuses what cannot be said of a VM of Apple's framework: its CPUs belong to a process of macOS.
pub fn check_framework(qos: &Qos) -> Result<()> {
    if qos.class == QosClass::Default {
        return Ok(());
    }
    anyhow::bail!(
        "cannot run the VM on the efficiency cores\n  because: with engine vz its CPUs belong to a process of macOS, which takes no \
         such wishes\n  try: --qos default, or --engine soft"
    )
}

/// Puts this process, with all the threads that it will have, into macOS' background: Apple's CPUs run that on the efficiency
/// cores only. What is not there runs on the performance cores when it computes, so there is nothing to say for that.
#[cfg(target_os = "macos")]
fn yield_to_all() -> Result<()> {
    let pid = std::process::id().to_string();
    let output = std::process::Command::new("/usr/sbin/taskpolicy").args(["-b", "-p", &pid]).output();
    let output =
        output.context("cannot run the VM on the efficiency cores: macOS' taskpolicy does not start")?;
    if !output.status.success() {
        anyhow::bail!(
            "cannot run the VM on the efficiency cores\n  because: taskpolicy says {}\n  try: --qos default, or --nice 19",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

#[cfg(not(target_os = "macos"))]
fn yield_to_all() -> Result<()> {
    anyhow::bail!(
        "cannot run the VM on the efficiency cores\n  because: only macOS takes such wishes\n  try: --cpu-affinity with the CPUs that you \
         mean, --nice to have the VM yield; --qos default"
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_said_with_what_can() {
        let qos = Qos { class: QosClass::Efficiency, ..Qos::default() };
        for result in [check_framework(&qos), if cfg!(target_os = "macos") { Ok(()) } else { apply(&qos) }] {
            let Err(error) = result else { continue };
            let text = error.to_string();
            assert!(
                text.contains("because: ") && text.contains("try: ") && text.contains("--qos default"),
                "{text}"
            );
        }
        assert!(check_framework(&qos).is_err() && check_framework(&Qos::default()).is_ok());
    }
}
