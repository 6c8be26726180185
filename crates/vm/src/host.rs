//! What this host offers.

use tearless_config::HostLimits;
use tearless_machine::board;

use crate::Error;

/// The limits that a VM's configuration is checked against.
///
/// # Errors
/// When the host does not tell its size.
pub fn limits() -> Result<HostLimits, Error> {
    let cpus = std::thread::available_parallelism().map_err(|e| Error::Host("count the host's CPUs", e))?;
    Ok(HostLimits {
        cpus: u32::try_from(cpus.get()).unwrap_or(u32::MAX),
        max_vcpus: board::MAX_VCPUS,
        memory: memory()?,
    })
}

#[cfg(target_os = "linux")]
fn memory() -> Result<u64, Error> {
    let info = rustix::system::sysinfo();
    // The field's type differs between targets.
    #[allow(clippy::useless_conversion, reason = "totalram is 32 bits wide on some targets")]
    let units = u64::from(info.totalram);
    Ok(units * u64::from(info.mem_unit))
}

#[cfg(target_os = "macos")]
fn memory() -> Result<u64, Error> {
    let output = std::process::Command::new("/usr/sbin/sysctl").args(["-n", "hw.memsize"]).output();
    let output = output.map_err(|e| Error::Host("ask for the host's memory", e))?;
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .map_err(|_| Error::Host("read the host's memory size", std::io::ErrorKind::InvalidData.into()))
}
