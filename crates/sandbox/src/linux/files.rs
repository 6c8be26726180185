//! Files, by Landlock.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::Rules;

/// The newest version whose rights are named here; older kernels enforce the part that they know.
const ABI: ABI = ABI::V6;

/// What resolving names reads, and what every program may want from devices.
const READ_BY_ALL: [&str; 10] = [
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/run/systemd/resolve",
    "/run/NetworkManager",
];
/// What is written to by any program.
const WRITE_BY_ALL: [&str; 1] = ["/dev/null"];

pub(super) fn restrict(rules: &Rules) -> Result<String, String> {
    let status = apply(rules).map_err(|e| e.to_string())?;
    match status {
        RulesetStatus::NotEnforced => Err("this kernel does not have it".to_owned()),
        RulesetStatus::PartiallyEnforced => Ok("Landlock (as far as this kernel has it)".to_owned()),
        RulesetStatus::FullyEnforced => Ok("Landlock".to_owned()),
    }
}

fn apply(rules: &Rules) -> Result<RulesetStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI))?
        .scope(Scope::from_all(ABI))?;
    if !rules.network {
        ruleset = ruleset.handle_access(AccessNet::from_all(ABI))?;
    }
    let mut ruleset = ruleset.create()?;
    if !rules.network {
        for &port in &rules.connect {
            ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
        }
    }
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    // Nothing is executed, and devices that somebody makes in a shared folder are nobody's friends.
    let writing = AccessFs::from_all(ABI) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
    let own = |paths: &'static [&'static str]| paths.iter().map(Path::new);
    for path in rules.read.iter().map(AsRef::as_ref).chain(own(&READ_BY_ALL)) {
        ruleset = allow(ruleset, path, reading)?;
    }
    for path in rules.write.iter().map(AsRef::as_ref).chain(own(&WRITE_BY_ALL)) {
        ruleset = allow(ruleset, path, writing)?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

/// Allows `access` to `path` and below. What is not there cannot be allowed.
fn allow(
    ruleset: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(fd) = PathFd::new(path) else { return Ok(ruleset) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(ABI) };
    ruleset.add_rule(PathBeneath::new(fd, access))
}
