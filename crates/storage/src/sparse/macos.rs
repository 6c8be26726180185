//! macOS gives space back by `F_PUNCHHOLE`, for whole blocks of the file system; zeros are written.

#![allow(unsafe_code)]

use std::{fs::File, io, os::fd::AsRawFd};

use super::Outcome;

/// What APFS and HFS+ punch in.
const BLOCK: u64 = 4096;

/// Makes the range zero and gives its space back, if it is whole blocks.
pub(crate) fn punch(file: &File, offset: u64, len: u64) -> io::Result<Outcome> {
    let whole = offset.is_multiple_of(BLOCK) && len.is_multiple_of(BLOCK);
    let (Ok(offset), Ok(length), true) = (i64::try_from(offset), i64::try_from(len), whole) else {
        return Ok(Outcome::Unsupported);
    };
    let hole = libc::fpunchhole_t { fp_flags: 0, reserved: 0, fp_offset: offset, fp_length: length };
    // SAFETY: the kernel reads the structure, which outlives the call, and changes nothing of ours.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PUNCHHOLE, &raw const hole) } == 0 {
        return Ok(Outcome::Done);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOTSUP | libc::EOPNOTSUPP | libc::EINVAL | libc::ENOTTY) => Ok(Outcome::Unsupported),
        _ => Err(error),
    }
}

/// Cannot make zeros without writing them.
pub(crate) fn zero(_: &File, _: u64, _: u64) -> io::Result<Outcome> {
    Ok(Outcome::Unsupported)
}
