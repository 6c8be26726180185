//! VM descriptions.

use tearless_config::{HostLimits, VmConfig};

/// Reads `config.json`, judges it, and writes it again: what was read must come back the same.
pub fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let config = match VmConfig::from_json(text) {
        Ok(config) => config,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for (cpus, memory) in [(1, 0), (8, 16 << 30), (u32::MAX, u64::MAX)] {
        _ = config.validate(&HostLimits { cpus, max_vcpus: 123, memory });
    }
    let text = config.to_json().unwrap_or_default();
    assert_eq!(VmConfig::from_json(&text).as_ref(), Ok(&config), "{text}");
}
