//! The last words of a console that nobody watches.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tearless_vm::CharSink;

/// Enough for a kernel's panic message; the guest can write without end, so there must be a bound.
const KEEP: usize = 16 << 10;

/// Keeps the tail of what is written to it. Clones share.
#[derive(Clone, Default)]
pub struct TailLog(Arc<Mutex<VecDeque<u8>>>);

impl TailLog {
    /// Appends `bytes`.
    pub fn append(&self, bytes: &[u8]) {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(&bytes[bytes.len().saturating_sub(KEEP)..]);
        let excess = tail.len().saturating_sub(KEEP);
        tail.drain(..excess);
    }

    /// A sink that appends.
    pub fn sink(&self) -> Box<dyn CharSink> {
        let log = self.clone();
        Box::new(move |bytes: &[u8]| log.append(bytes))
    }

    /// The last `lines` lines.
    pub fn last_lines(&self, lines: usize) -> String {
        let bytes: Vec<u8> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<_> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_tail_only() {
        let log = TailLog::default();
        log.append(b"first\r\n");
        assert_eq!(log.last_lines(5), "first");
        log.append(&[b'x'; KEEP]);
        log.append(b"\nsecond\n\nthird");
        assert_eq!(log.last_lines(2), "second\nthird");
        assert!(!log.last_lines(9).contains("first"));
    }
}
