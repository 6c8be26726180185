//! The user's terminal: raw mode that is always undone, its size, and the escape key.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr},
};

/// The settings to return to, while the terminal is raw. Global, because a signal or a panic must find it too.
static COOKED: Mutex<Option<Termios>> = Mutex::new(None);

/// Raw mode for as long as this lives.
pub struct RawMode(());

impl RawMode {
    /// Switches the terminal on standard input to raw mode, if it is one.
    pub fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let cooked = tcgetattr(&stdin)?;
        let mut raw = cooked.clone();
        raw.make_raw();
        *COOKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(cooked);
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self(())))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Leaves raw mode. Does nothing when the terminal is not raw.
pub fn restore() {
    let cooked = COOKED.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(cooked) = cooked {
        // The guest may have changed attributes, hidden the cursor or switched screens half-way: undo the common ones.
        let mut stdout = io::stdout();
        let _ = stdout.write_all(b"\x1b[0m\x1b[?25h\x1b[?2004l");
        let _ = stdout.flush();
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &cooked);
    }
}

/// Columns and rows of the terminal on standard output, if it is one that knows.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Finds the escape sequence in what the user types.
///
/// ```text
///   Typing ── Ctrl-] ──► Escaped ── q ──► leave
///     ▲                    │
///     └──── anything else ─┘   (Ctrl-] Ctrl-] sends one Ctrl-], another key sends both)
/// ```
#[derive(Default)]
pub struct EscapeFilter {
    escaped: bool,
}

/// Ctrl-].
const ESCAPE: u8 = 0x1d;

impl EscapeFilter {
    /// Appends to `out` what goes to the guest; returns whether the user asked to leave.
    pub fn feed(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in typed {
            match (std::mem::take(&mut self.escaped), byte) {
                (true, b'q' | b'Q') => return true,
                (true, ESCAPE) => out.push(ESCAPE),
                (true, other) => out.extend([ESCAPE, other]),
                (false, ESCAPE) => self.escaped = true,
                (false, other) => out.push(other),
            }
        }
        false
    }
}

/// Reads what there is on standard input, past the buffer of [`io::Stdin`], which would hold keys back. Blocks even
/// where another program left the descriptor non-blocking.
pub fn read_stdin(buffer: &mut [u8]) -> io::Result<usize> {
    let stdin = io::stdin();
    loop {
        match rustix::io::read(&stdin, &mut *buffer) {
            Ok(n) => return Ok(n),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None)?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(filter: &mut EscapeFilter, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        let leave = filter.feed(typed, &mut out);
        (out, leave)
    }

    #[test]
    fn only_escape_q_leaves() {
        let mut filter = EscapeFilter::default();
        assert_eq!(feed(&mut filter, b"q\x03a"), (b"q\x03a".to_vec(), false));
        assert_eq!(feed(&mut filter, b"x\x1d"), (b"x".to_vec(), false));
        assert_eq!(feed(&mut filter, b"y"), (b"\x1dy".to_vec(), false));
        assert_eq!(feed(&mut filter, b"\x1d\x1dq"), (b"\x1dq".to_vec(), false));
        assert_eq!(feed(&mut filter, b"ab\x1dqcd"), (b"ab".to_vec(), true));
    }
}
