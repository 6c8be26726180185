//! The last step before a program runs: `tearless-agent launch UID GID,GID... TTY DIR -- PROGRAM ARG...`.
//!
//! The agent starts itself with this, with the program's environment and streams in place. In a process of its own, with
//! one thread, becoming another user and taking a terminal are plain calls; between `fork` and `exec` of the agent, which
//! has many threads, they would need unsafe code.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode},
};

use rustix::{
    fs::{Gid, Uid},
    process::{getegid, geteuid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::users::User;

pub const COMMAND: &str = "launch";
/// Statuses as shells give them.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// The arguments that have `argv` launched.
pub fn arguments(user: &User, terminal: bool, cwd: &Path, argv: &[OsString]) -> Vec<OsString> {
    let groups: Vec<_> = user.groups.iter().map(u32::to_string).collect();
    let mut arguments: Vec<OsString> = vec![
        COMMAND.into(),
        user.uid.to_string().into(),
        groups.join(",").into(),
        if terminal { "tty" } else { "-" }.into(),
        cwd.into(),
        "--".into(),
    ];
    arguments.extend_from_slice(argv);
    arguments
}

/// Becomes the program. Returns only if that is not possible.
pub fn launch(arguments: Vec<OsString>) -> ExitCode {
    let [uid, groups, terminal, cwd, dashes, program, rest @ ..] = arguments.as_slice() else {
        return refuse("start a program", "the agent was called with too few arguments");
    };
    let (Some(uid), Some(groups)) = (number(uid), list(groups)) else {
        return refuse("start a program", "the agent was called with wrong arguments");
    };
    if dashes != "--" {
        return refuse("start a program", "the agent was called with wrong arguments");
    }
    // A session of its own: signals for the program and its children reach nobody else.
    let session = rustix::process::setsid().map(drop);
    let taken = if terminal == "tty" {
        session.and_then(|()| rustix::process::ioctl_tiocsctty(io::stdin()))
    } else {
        session
    };
    if let Err(error) = taken {
        return refuse("take a terminal", error);
    }
    if let Err(error) = become_user(uid, &groups) {
        return refuse(&format!("run as user {uid}"), error);
    }
    if let Err(error) = std::env::set_current_dir(cwd) {
        return refuse(&format!("change to folder {}", cwd.display()), error);
    }
    let error = Command::new(program).args(rest).exec();
    eprintln!("tearless: cannot run {}\n  because: {error}", program.display());
    match error.kind() {
        io::ErrorKind::NotFound => ExitCode::from(NOT_FOUND),
        _ => ExitCode::from(NOT_EXECUTABLE),
    }
}

/// Already being the user is enough; only root can become another.
fn become_user(uid: u32, groups: &[u32]) -> rustix::io::Result<()> {
    let uid = Uid::from_raw(uid);
    let groups: Vec<_> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let gid = groups.first().copied().unwrap_or(Gid::ROOT);
    if !geteuid().is_root() && geteuid() == uid && getegid() == gid {
        return Ok(());
    }
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

fn refuse(what: &str, why: impl std::fmt::Display) -> ExitCode {
    eprintln!("tearless: cannot {what}\n  because: {why}");
    ExitCode::from(NOT_EXECUTABLE)
}

fn number(text: &OsStr) -> Option<u32> {
    text.to_str()?.parse().ok()
}

fn list(text: &OsStr) -> Option<Vec<u32>> {
    text.to_str()?.split(',').map(|gid| gid.parse().ok()).collect()
}
