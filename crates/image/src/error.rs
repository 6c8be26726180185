//! The one error type of this crate: what failed, why, and what to do about it.

use std::fmt;
use std::io;
use std::path::Path;

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The family an error belongs to, for callers that react differently to each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The mirror cannot be reached at all, or the connection broke.
    Network,
    /// The mirror answered, and does not have the file.
    Missing,
    /// A signature, size or digest is wrong.
    Integrity,
    /// A local file or folder cannot be read or written.
    Local,
    /// A file does not have the form that its format demands.
    Format,
    /// The request cannot be met: unknown package, contradictory dependencies, a bad option.
    Request,
}

/// An error in three parts, each one line of its `Display`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    what: String,
    why: String,
    help: String,
}

impl Error {
    /// Builds an error: `what` failed, `why`, and what to do (`help`, may be empty).
    pub fn new(kind: Kind, what: impl Into<String>, why: impl fmt::Display, help: impl Into<String>) -> Self {
        Self { kind, what: what.into(), why: why.to_string(), help: help.into() }
    }

    /// A malformed file. Debian's own files are signed, so this usually means a corrupt download.
    pub fn format(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::new(
            Kind::Format,
            what,
            why,
            "run again with --refresh; if it stays, choose another mirror with --mirror",
        )
    }

    /// A failed operation on a local path.
    pub fn local(verb: &str, path: &Path, why: &io::Error) -> Self {
        let help = match why.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free some space, or point TEARLESS_CACHE at a larger disk"
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "make it writable for you, or point TEARLESS_CACHE at a folder that is"
            }
            _ => "check the path and the disk it is on",
        };
        Self::new(Kind::Local, format!("cannot {verb} {}", path.display()), why, help)
    }

    /// The family of this error.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What failed, without the reason.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Why it failed.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// What the user can do; empty when nothing useful is known.
    pub fn help(&self) -> &str {
        &self.help
    }

    /// The same error with other advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  because: {}", self.what, self.why)?;
        if !self.help.is_empty() {
            write!(f, "\n  try: {}", self.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
