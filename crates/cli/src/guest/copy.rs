//! `cp`: files between the host and a guest.

use std::{
    ffi::{OsStr, OsString},
    io::{self, IsTerminal},
    net::Shutdown,
    os::unix::{ffi::OsStrExt, net::UnixStream},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use tearless_bundle::Store;
use tearless_guest::{Agent, Copied};
use tearless_image::Progress;

use super::{agent_of, connector};
use crate::{args::CopyArgs, progress::Bars};

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Stdio,
    Host(PathBuf),
    Guest { name: String, path: Vec<u8> },
}

impl Place {
    /// `-`, `NAME:PATH`, or a path. A path with a colon is recognised by a slash before that.
    fn parse(text: &OsStr) -> Self {
        let bytes = text.as_bytes();
        let colon = bytes.iter().position(|b| *b == b':');
        let name =
            colon.map(|at| bytes.split_at(at).0).filter(|name| !name.is_empty() && !name.contains(&b'/'));
        match (bytes, name.and_then(|name| str::from_utf8(name).ok())) {
            (b"-", _) => Self::Stdio,
            (_, Some(name)) => {
                let path = bytes.iter().skip(name.len() + 1).copied().collect();
                Self::Guest { name: name.to_owned(), path }
            }
            _ => Self::Host(text.into()),
        }
    }
}

/// A bar, where there is a terminal and something to tell.
struct Bar<'a> {
    bars: Option<Bars>,
    begun: bool,
    what: &'a OsString,
}

impl Bar<'_> {
    fn advance(&mut self, bytes: u64, total: Option<u64>) {
        let Some(bars) = &self.bars else { return };
        if !self.begun {
            bars.begin(&format!("Copying {}", self.what.display()), total);
            self.begun = true;
        }
        bars.advance(bytes);
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.bars.iter().for_each(Bars::end);
    }
}

pub fn copy(args: &CopyArgs) -> Result<ExitCode> {
    let (from, to) = (Place::parse(&args.source), Place::parse(&args.target));
    let mut bar = Bar { bars: io::stderr().is_terminal().then(Bars::new), begun: false, what: &args.source };
    let mut progress = |bytes, total| bar.advance(bytes, total);
    let agent = |name: &str| agent_of(name, args.wait.time);
    let copied = match (from, to) {
        (Place::Host(from), Place::Guest { name, path }) => {
            agent(&name)?.put(&from, or_home(&path), &mut progress)?
        }
        (Place::Guest { name, path }, Place::Host(to)) => {
            let interruption = Interruption::default();
            let agent = interruption.agent(&name, args.wait.time)?;
            match (get(&agent, &path, &to, &mut progress), interruption.signal()) {
                (Err(_), Some(signal)) => {
                    drop(bar);
                    eprintln!("tearless: interrupted; no part of a file was left at {}", to.display());
                    return Ok(ExitCode::from(signal_status(signal)));
                }
                (got, _) => got?,
            }
        }
        (Place::Stdio, Place::Guest { name, path }) => {
            agent(&name)?.write(&mut io::stdin().lock(), &path, &mut progress)?;
            Copied::default()
        }
        (Place::Guest { name, path }, Place::Stdio) => {
            agent(&name)?.read(&path, &mut io::stdout().lock(), &mut progress)?;
            Copied::default()
        }
        (Place::Guest { .. }, Place::Guest { .. }) => bail!(
            "cannot copy from one guest to another\n  because: neither side is this host\n  try: tearless cp A:FILE - | \
             tearless cp - B:FILE, or by way of a folder of the host"
        ),
        _ => {
            bail!("cannot copy\n  because: neither side is a VM\n  try: NAME:/path for a file in the VM NAME")
        }
    };
    drop(bar);
    if copied.skipped > 0 {
        let why = copied.why.unwrap_or_default();
        eprintln!("tearless: {} files were left out; the first one: {why}", copied.skipped);
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn get(agent: &Agent, from: &[u8], to: &Path, progress: tearless_guest::Progress<'_>) -> Result<Copied> {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        bail!("cannot write {}\n  because: there is no folder {}", to.display(), parent.display());
    }
    Ok(agent.get(or_home(from), to, progress)?)
}

/// Lets a signal end what is copied to this host in order, so that nothing of it is left.
#[derive(Clone, Default)]
struct Interruption(Arc<Mutex<Interrupted>>);

#[derive(Default)]
struct Interrupted {
    by: Option<i32>,
    connection: Option<UnixStream>,
}

impl Interruption {
    fn lock(&self) -> MutexGuard<'_, Interrupted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent in the VM `name`, whose connection ends with the first signal. The second signal ends this program.
    fn agent(&self, name: &str, patience: Duration) -> Result<Agent> {
        let connect = connector(&Store::open()?.find(name)?, patience)?;
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for signals")?;
        let watched = self.clone();
        thread::spawn(move || {
            for signal in signals.forever() {
                let mut state = watched.lock();
                let connection = state.connection.take();
                if connection.is_none_or(|connection| connection.shutdown(Shutdown::Both).is_err()) {
                    std::process::exit(signal_status(signal).into());
                }
                state.by = Some(signal);
            }
        });
        let connected = self.clone();
        Ok(Agent::new(move || {
            let stream = connect()?;
            connected.lock().connection = Some(stream.try_clone()?);
            Ok(stream)
        }))
    }

    /// The signal that came, if one did.
    fn signal(&self) -> Option<i32> {
        self.lock().by
    }
}

/// The exit status of a program that a signal has ended.
fn signal_status(signal: i32) -> u8 {
    128_u8.saturating_add(u8::try_from(signal).unwrap_or(127))
}

/// `NAME:` alone is root's home.
fn or_home(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"/root" } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart() {
        let guest = |name: &str, path: &str| Place::Guest { name: name.into(), path: path.into() };
        for (text, place) in [
            ("-", Place::Stdio),
            ("vm:/etc/hosts", guest("vm", "/etc/hosts")),
            ("vm:", guest("vm", "")),
            ("vm:a:b", guest("vm", "a:b")),
            ("./a:b", Place::Host("./a:b".into())),
            ("/x:y", Place::Host("/x:y".into())),
            (":x", Place::Host(":x".into())),
            ("file", Place::Host("file".into())),
        ] {
            assert_eq!(Place::parse(OsStr::new(text)), place, "{text}");
        }
    }
}
