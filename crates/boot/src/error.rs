use std::io;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a guest cannot be prepared. Each message says what failed, why, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read at all.
    #[error("cannot read {what}\n  because: {source}\n  try: check the path and its permissions")]
    Read {
        /// The file, as the user named it.
        what: String,
        /// What the host said.
        source: io::Error,
    },
    /// A file is not what it has to be.
    #[error("cannot use {what}\n  because: it is {found}\n  try: {advice}")]
    Unsuitable {
        /// The file, as the user named it.
        what: String,
        /// What it turned out to be.
        found: String,
        /// What the user can do.
        advice: &'static str,
    },
    /// A file has the right kind but its content contradicts itself.
    #[error(
        "cannot use {what}\n  because: it is damaged or incomplete ({why})\n  try: fetch or build it again"
    )]
    Damaged {
        /// The file, as the user named it.
        what: String,
        /// The contradiction.
        why: String,
    },
    /// The guest's memory is too small for what must be loaded.
    #[error(
        "{what} need {need_mib} MiB\n  because: the VM has {have_mib} MiB\n  try: --memory {need_mib}M or more"
    )]
    NoRoom {
        /// What must be loaded.
        what: &'static str,
        /// The least memory that would do.
        need_mib: u64,
        /// The memory that the VM has.
        have_mib: u64,
    },
    /// A RAM disk or what goes into one cannot be built.
    #[error("cannot build the RAM disk\n  because: {0}")]
    Initramfs(String),
    /// The device tree cannot be written.
    #[error("cannot build the device tree\n  because: {0}")]
    DeviceTree(String),
}

impl Error {
    pub(crate) fn damaged(what: &str, why: impl Into<String>) -> Self {
        Self::Damaged { what: what.into(), why: why.into() }
    }

    pub(crate) fn unsuitable(what: &str, found: impl Into<String>, advice: &'static str) -> Self {
        Self::Unsuitable { what: what.into(), found: found.into(), advice }
    }
}
