use std::{io, path::PathBuf};

use tearless_guest_proto::Failure;

/// What the functions here give.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no way to the agent.
    #[error(
        "cannot reach the agent in the guest\n  because: {0}\n  try: again when the guest is up; a guest that Tearless \
         did not install needs the agent first, see `tearless agent --help`"
    )]
    Unreachable(io::Error),
    /// The agent is of another release.
    #[error(
        "cannot talk to the agent in the guest\n  because: it speaks version {0} of the protocol, this Tearless \
         {ours}\n  try: restart the guest, which then gets the current agent; or install that, see `tearless agent \
         --help`",
        ours = tearless_guest_proto::VERSION
    )]
    Version(u32),
    /// The connection broke.
    #[error("lost the connection with the agent in the guest\n  because: {0}")]
    Lost(io::Error),
    /// The agent says why it did not work.
    #[error("{0}")]
    Guest(#[source] Failure),
    /// A file on this side.
    #[error("cannot {what} {}\n  because: {error}", path.display())]
    Local {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Guest(failure.printable())
    }
}

/// The agent's answer makes no sense here.
pub(crate) fn unexpected(what: &str) -> Error {
    Error::Lost(io::Error::new(io::ErrorKind::InvalidData, format!("the agent answered {what}")))
}
