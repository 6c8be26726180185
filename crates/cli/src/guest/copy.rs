//! `cp`: files between the host and a guest.

use std::{
    ffi::{OsStr, OsString},
    io::{self, IsTerminal},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, bail};
use tearless_guest::Copied;
use tearless_image::Progress;

use super::agent_of;
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
        (Place::Guest { name, path }, Place::Host(to)) => get(&agent(&name)?, &path, &to, &mut progress)?,
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

fn get(
    agent: &tearless_guest::Agent,
    from: &[u8],
    to: &Path,
    progress: tearless_guest::Progress<'_>,
) -> Result<Copied> {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        bail!("cannot write {}\n  because: there is no folder {}", to.display(), parent.display());
    }
    Ok(agent.get(or_home(from), to, progress)?)
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
