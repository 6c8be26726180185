//! The applets of a busybox, read from its binary: it cannot be run on the host to list them.

use crate::{Error, Result};

const ADVICE: &str = "give a static arm64 busybox, such as Debian's busybox-static has";
const PT_INTERP: u32 = 3;
/// busybox has some 400 applets; a table beyond this is none.
const MAX_APPLETS: usize = 1000;

/// The names of the applets of `busybox`, without "busybox" itself.
pub(super) fn of(busybox: &[u8]) -> Result<Vec<&str>> {
    check(busybox)?;
    // A sorted table of NUL-terminated names, whose first are "[" and "[[" and which a NUL ends.
    let start = busybox.windows(5).position(|w| w == b"[\0[[\0");
    let start = start.ok_or_else(|| Error::unsuitable("busybox", "without a list of applets", ADVICE))?;
    let mut names: Vec<&str> = Vec::new();
    for name in busybox[start..].split(|&b| b == 0).take(MAX_APPLETS) {
        let plain = |&b: &u8| b.is_ascii_alphanumeric() || b"[._-".contains(&b);
        let Ok(text) = std::str::from_utf8(name) else { break };
        if name.is_empty() || !name.iter().all(plain) || names.last().is_some_and(|last| *last >= text) {
            break;
        }
        names.push(text);
    }
    for needed in ["sh", "mount", "insmod", "init", "cp"] {
        if !names.contains(&needed) {
            return Err(Error::unsuitable("busybox", format!("built without the applet {needed}"), ADVICE));
        }
    }
    names.retain(|n| *n != "busybox");
    Ok(names)
}

/// Refuses what is not a static arm64 executable.
fn check(busybox: &[u8]) -> Result<()> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(*busybox.get(at..)?.first_chunk()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(*busybox.get(at..)?.first_chunk()?));
    let aarch64 = busybox.starts_with(b"\x7fELF\x02\x01") && u16_at(18) == Some(183);
    if !aarch64 {
        return Err(Error::unsuitable("busybox", "no arm64 program", ADVICE));
    }
    let (Some(table), Some(size), Some(count)) = (u32_at(32), u16_at(54), u16_at(56)) else {
        return Err(Error::damaged("busybox", "the file ends inside its ELF header"));
    };
    let mut headers = (0..usize::from(count)).map(|i| u32_at(table as usize + i * usize::from(size)));
    if headers.any(|kind| kind == Some(PT_INTERP)) {
        return Err(Error::unsuitable("busybox", "dynamically linked", ADVICE));
    }
    Ok(())
}
