use std::{io, path::PathBuf};

/// Why a state cannot be saved or gone on from.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The state has no such part.
    #[error("the saved state has no part {0:?}")]
    Missing(String),
    /// The machine has no such part.
    #[error("the saved state has a part {0:?}, which this machine has not")]
    Unknown(String),
    /// A later release wrote it.
    #[error("part {part:?} of the saved state has version {version}; this Tearless knows {known}")]
    Newer {
        /// Which part.
        part: String,
        /// What was found.
        version: u32,
        /// The newest that is known.
        known: u32,
    },
    /// It is not what a part writes.
    #[error("part {part:?} of the saved state is damaged: {why}")]
    Malformed {
        /// Which part.
        part: String,
        /// What is wrong.
        why: String,
    },
    /// The machine is another one now.
    #[error("{0}")]
    Differs(String),
    /// Something in the VM cannot be saved now.
    #[error("{0}")]
    Busy(String),
    /// It is no saved state.
    #[error("{} is damaged: {why}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The host refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
}

impl StateError {
    /// Damage found by a part that does not know its name; [`Encoded::decode`](crate::Encoded::decode) and
    /// [`StateError::of`] fill that in.
    pub fn malformed(why: impl Into<String>) -> Self {
        Self::Malformed { part: String::new(), why: why.into() }
    }

    /// The same, of the part `name`, unless it says already of which.
    #[must_use]
    pub fn of(self, name: &str) -> Self {
        match self {
            Self::Malformed { part, why } if part.is_empty() => Self::Malformed { part: name.into(), why },
            Self::Newer { part, version, known } if part.is_empty() => {
                Self::Newer { part: name.into(), version, known }
            }
            other => other,
        }
    }
}

/// Turns an [`io::Error`] into [`StateError::Io`].
pub(crate) fn failed(doing: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> StateError {
    move |source| StateError::Io { doing, path: path.to_owned(), source }
}
