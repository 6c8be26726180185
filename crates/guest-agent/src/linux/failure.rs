//! Failures as the host hears of them.

use std::fmt::Display;

use tearless_guest_proto::{Failure, FailureKind};

pub type Outcome<T> = Result<T, Failure>;

/// `what` failed because of `why`.
pub fn failure(kind: FailureKind, what: impl Display, why: impl Display) -> Failure {
    Failure { kind, what: what.to_string(), because: why.to_string() }
}

/// Makes failures of errors.
pub trait Explain<T> {
    /// Says what failed.
    fn explain(self, what: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T, E: Into<std::io::Error>> Explain<T> for Result<T, E> {
    fn explain(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| {
            let error: std::io::Error = error.into();
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound => FailureKind::NotFound,
                _ => FailureKind::System,
            };
            failure(kind, what(), error)
        })
    }
}
