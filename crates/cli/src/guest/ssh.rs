//! `ssh`: the system's ssh, through the agent instead of a network.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};
use tearless_bundle::Store;
use tearless_guest::{Event, Exec};

use super::{agent, exec};
use crate::args::{ExecArgs, ProxyArgs, SshArgs};

/// Has the guest's ssh server accept the key `$1`, until the guest ends.
const ACCEPT: &str = "mkdir -p /run/tearless /run/sshd && echo \"$1\" >/run/tearless/authorized_keys";
/// The guest's own ssh server, for one connection: it need not run, and no port need be open.
const SERVER: &str = "PATH=$PATH:/usr/lib/ssh:/usr/libexec; exec \"$(command -v sshd || echo /usr/sbin/sshd)\" -i -o \
    'AuthorizedKeysFile .ssh/authorized_keys /run/tearless/authorized_keys'";

pub fn ssh(args: &SshArgs) -> Result<ExitCode> {
    let store = Store::open()?;
    let bundle = store.find(&args.name)?;
    let key = key(&store)?;
    let public = fs::read(key.with_extension("pub")).context("cannot read the key for ssh")?;
    let argv = [b"/bin/sh", &b"-c"[..], ACCEPT.as_bytes(), b"sh", public.trim_ascii()];
    let argv = argv.iter().map(|word| word.to_vec()).collect();
    let mut session = agent(&bundle, args.wait.time)?.exec(Exec { argv, ..Exec::default() })?;
    while !matches!(session.event()?, Event::Ended(_)) {}
    let program = std::env::current_exe().context("cannot find the tearless program")?;
    let proxy = format!("{} proxy {}", quoted(&program)?, quoted(bundle.path())?);
    // The way leads to this guest and no other, so there is no host key to remember.
    let options = [
        format!("ProxyCommand={proxy}"),
        "StrictHostKeyChecking=no".to_owned(),
        "UserKnownHostsFile=/dev/null".to_owned(),
        "LogLevel=ERROR".to_owned(),
    ];
    let mut command = Command::new("ssh");
    command.arg("-i").arg(&key);
    options.iter().for_each(|option| _ = command.args(["-o", option]));
    command.arg("-l").arg(args.user.as_deref().unwrap_or("root"));
    command.arg(bundle.name()).args(&args.command);
    let error = command.exec();
    Err(missing("ssh", &error))
}

fn missing(program: &str, error: &io::Error) -> anyhow::Error {
    anyhow!(
        "cannot run {program}\n  because: {error}\n  try: installing OpenSSH's client, or `tearless exec`, which needs none"
    )
}

/// The key pair of this store, made at first use.
fn key(store: &Store) -> Result<PathBuf> {
    let folder = store.path().join(".ssh");
    let key = folder.join("id_ed25519");
    if key.exists() {
        return Ok(key);
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.with_context(|| format!("cannot make {}", folder.display()))?;
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "tearless", "-f"]).arg(&key).stdin(Stdio::null());
    let output = command.output().map_err(|error| missing("ssh-keygen", &error))?;
    // Another command may have been faster.
    if !key.exists() {
        bail!("cannot make a key for ssh\n  because: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(key)
}

/// A word of a ssh `ProxyCommand`, which a shell reads after ssh has replaced `%`.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().filter(|text| !text.contains(['\'', '\n']));
    let text = text.ok_or_else(|| {
        anyhow!(
            "cannot use ssh\n  because: it cannot be told the path {}\n  try: another one",
            path.display()
        )
    })?;
    Ok(format!("'{}'", text.replace('%', "%%")))
}

/// Connects standard input and output with a ssh server in the guest, started for this one connection.
pub fn proxy(args: &ProxyArgs) -> Result<ExitCode> {
    exec(&ExecArgs::plain(&args.name, &["/bin/sh", "-c", SERVER]))
}
