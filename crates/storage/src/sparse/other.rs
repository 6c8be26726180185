//! Hosts without a way that safe code can take: space stays, zeros are written.

use std::{fs::File, io};

use super::Outcome;

/// Cannot give space back.
pub(crate) fn punch(_: &File, _: u64, _: u64) -> io::Result<Outcome> {
    Ok(Outcome::Unsupported)
}

/// Cannot make zeros without writing them.
pub(crate) fn zero(_: &File, _: u64, _: u64) -> io::Result<Outcome> {
    Ok(Outcome::Unsupported)
}
