use std::{fs::File, io};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

use super::Outcome;

/// Makes the range zero and gives its space back.
pub(crate) fn punch(file: &File, offset: u64, len: u64) -> io::Result<Outcome> {
    call(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)
}

/// Makes the range zero and keeps its space.
pub(crate) fn zero(file: &File, offset: u64, len: u64) -> io::Result<Outcome> {
    call(file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, offset, len)
}

fn call(file: &File, mode: FallocateFlags, offset: u64, len: u64) -> io::Result<Outcome> {
    loop {
        match fallocate(file, mode, offset, len) {
            Ok(()) => return Ok(Outcome::Done),
            Err(Errno::INTR) => {}
            // Block devices say EINVAL for ranges that are not aligned to their blocks.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV | Errno::INVAL) => {
                return Ok(Outcome::Unsupported);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
