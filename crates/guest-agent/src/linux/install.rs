//! Makes a guest that Tearless did not set up start the agent at each boot.

use std::{env, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use tearless_guest_proto::FailureKind;

use super::failure::{Explain, Outcome, failure};

const PROGRAM: &str = "/usr/local/sbin/tearless-agent";
const UNIT: &str = "/etc/systemd/system/tearless-agent.service";
const UNIT_TEXT: &str = include_str!("tearless-agent.service");

pub fn install() -> Outcome<()> {
    let refuse = |why: &str| Err(failure(FailureKind::Request, "cannot install the agent", why));
    if !rustix::process::geteuid().is_root() {
        return refuse("only root can; try: sudo");
    }
    // In a system that an installer has just put on a disk, systemd is, but does not run.
    let runs = Path::new("/run/systemd/system").exists();
    if !runs && !Path::new("/usr/lib/systemd/systemd").exists() {
        return refuse(
            "this guest does not use systemd; have its first process start the agent, as root, at each boot",
        );
    }
    let cannot = |path: &str| format!("cannot write {path}");
    let own =
        env::current_exe().and_then(fs::read).explain(|| "cannot read the agent's own file".to_owned())?;
    // Beside it and then in its place: an older agent may be running.
    let new = format!("{PROGRAM}.new");
    fs::write(&new, own).explain(|| cannot(PROGRAM))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).explain(|| cannot(PROGRAM))?;
    fs::rename(&new, PROGRAM).explain(|| cannot(PROGRAM))?;
    fs::write(UNIT, UNIT_TEXT.replace("/run/tearless/agent", PROGRAM)).explain(|| cannot(UNIT))?;
    let steps: &[&[&str]] = if runs {
        &[&["daemon-reload"], &["enable", "tearless-agent"], &["restart", "tearless-agent"]]
    } else {
        &[&["enable", "tearless-agent"]]
    };
    for words in steps {
        let status =
            Command::new("systemctl").args(*words).status().explain(|| "cannot run systemctl".to_owned())?;
        if !status.success() {
            return refuse(&format!("systemctl {} failed", words.join(" ")));
        }
    }
    println!(
        "installed {PROGRAM}; it runs {}",
        if runs { "now and after each boot" } else { "after each boot" }
    );
    Ok(())
}
