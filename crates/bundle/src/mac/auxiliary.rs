//! The auxiliary storage, as far as it is known: somewhere in it stands which ECID may start the installed macOS.

use std::io::{self, Read};

/// `"ECID"` as a DER string's length and content, and the tag of the integer that follows.
const MARK: &[u8] = b"\x04ECID\x02";
/// The longest integer after it: 64 bits and a zero that makes it positive.
const LONGEST: usize = 9;
/// How much is looked at, at a time.
const BLOCK: usize = 64 << 10;

/// The ECIDs that an auxiliary storage names, each once, in the order of their places.
///
/// # Errors
/// It cannot be read.
pub fn ecids(mut storage: impl Read) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    let mut window = Vec::new();
    loop {
        let read = storage.by_ref().take(BLOCK as u64).read_to_end(&mut window)?;
        for (at, _) in window.windows(MARK.len()).enumerate().filter(|(_, bytes)| *bytes == MARK) {
            if let Some(ecid) = window.get(at + MARK.len()..).and_then(integer)
                && !found.contains(&ecid)
            {
                found.push(ecid);
            }
        }
        if read == 0 {
            return Ok(found);
        }
        // What a block's end cuts off is seen again with the next one.
        let kept = window.len().saturating_sub(MARK.len() + 1 + LONGEST);
        window.drain(..kept);
    }
}

/// The length and content of a DER integer that is no more than 64 bits.
fn integer(bytes: &[u8]) -> Option<u64> {
    let (length, rest) = bytes.split_first()?;
    let digits = rest.get(..usize::from(*length))?;
    match digits {
        [] => None,
        [0, rest @ ..] if rest.len() == 8 => Some(u64::from_be_bytes(rest.try_into().ok()?)),
        // The framework's own: eight bytes, whatever the first bit.
        digits if digits.len() <= 8 => Some(digits.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))),
        _ => None,
    }
}
