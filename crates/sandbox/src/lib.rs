//! Confines a VM's process once it has what it needs: a bug in the VMM that a guest finds is then worth the VM's own files
//! and network, not those of its user.
//!
//! On Linux: Landlock for files, TCP, signals and abstract sockets; a seccomp filter of system calls; no new privileges;
//! fewer capabilities where there are any. What a kernel lacks is left out, and [`Report`] says so. Other hosts have
//! nothing of that kind that a program can do to itself; [`Report`] says that too.
#![forbid(unsafe_code)]

use std::{fmt, path::PathBuf};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux::enter as enter_host;

/// What a process still needs. What is not listed it cannot open any more; what is open stays open.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Files and folders (with all below) to read.
    pub read: Vec<PathBuf>,
    /// Files and folders (with all below) to read and change.
    pub write: Vec<PathBuf>,
    /// Whether it speaks TCP, UDP and ICMP.
    pub network: bool,
    /// TCP ports that it connects to, on any host, where it has no `network` at all.
    pub connect: Vec<u16>,
    /// Whether it makes unix sockets later on. They reach whatever listens for the same user, so this is a large hole.
    pub unix_sockets: bool,
}

/// What holds from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What is enforced, by name.
    pub enforced: Vec<String>,
    /// What is not, and why.
    pub missing: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.enforced.as_slice() {
            [] => f.write_str("none")?,
            enforced => f.write_str(&enforced.join(", "))?,
        }
        if !self.missing.is_empty() {
            write!(f, " (without {})", self.missing.join("; "))?;
        }
        Ok(())
    }
}

/// Confines this process for good. To be called from its only thread: on Linux threads that exist already keep their files.
pub fn enter(rules: &Rules) -> Report {
    let report = enter_host(rules);
    for missing in &report.missing {
        tracing::warn!("the sandbox lacks {missing}");
    }
    report
}

#[cfg(not(target_os = "linux"))]
fn enter_host(_: &Rules) -> Report {
    Report {
        enforced: Vec::new(),
        missing: vec![format!("all: it needs Linux, this is {}", std::env::consts::OS)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_read_well() {
        let words = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let report = |enforced: &[&str], missing: &[&str]| {
            Report { enforced: words(enforced), missing: words(missing) }.to_string()
        };
        assert_eq!(report(&["Landlock", "seccomp"], &[]), "Landlock, seccomp");
        assert_eq!(report(&[], &["all: why"]), "none (without all: why)");
    }
}
