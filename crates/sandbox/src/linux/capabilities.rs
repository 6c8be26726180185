//! Capabilities, for a VM that root runs.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// What shared folders, low ports, taps and priorities need. Gone are those that reach the kernel, other processes and
/// mounts.
const KEEP: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_NICE)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::IPC_LOCK);

/// Drops all others from this thread and those that it starts.
pub(super) fn drop_most() -> Result<String, String> {
    let now = capabilities(None).map_err(|e| e.to_string())?;
    if now.permitted.is_empty() {
        return Ok("no capabilities".to_owned());
    }
    let sets = CapabilitySets {
        effective: now.effective & KEEP,
        permitted: now.permitted & KEEP,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(|e| e.to_string())?;
    Ok("fewer capabilities".to_owned())
}
