//! Processes of this program beside a VM's, with a stream between the two: a window, what attends to a page.

use std::{
    env,
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Command, Stdio},
};

/// Starts one with `args`, which says nothing on standard output. `is_quiet`: on standard error neither.
pub fn start(args: impl IntoIterator<Item = OsString>, is_quiet: bool) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(env::current_exe()?);
    command.args(args).stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
    if is_quiet {
        command.stderr(Stdio::null());
    }
    // What is typed into this terminal is no business of its.
    command.process_group(0).spawn()?;
    // Its streams are dropped with the command: else the end of the process would not be heard.
    Ok(ours)
}

/// The other end of the stream, in the process that was started.
pub fn stream() -> io::Result<UnixStream> {
    io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from)
}
