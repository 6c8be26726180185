//! Targets that fail on purpose.

use std::thread;

/// Panics where an unwind would not reach the caller.
pub fn panics(data: &[u8]) {
    let len = data.len();
    let result = thread::spawn(move || assert!(len < 8, "{len} bytes are too many")).join();
    drop(result);
}

pub fn hangs(_: &[u8]) {
    loop {
        thread::park();
    }
}

pub fn hoards(_: &[u8]) {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1u8; 1 << 20]);
    }
}

pub fn recurses(data: &[u8]) {
    fn deeper(depth: u64, frame: [u64; 64]) -> u64 {
        let next = std::hint::black_box(frame);
        if depth == u64::MAX { 0 } else { deeper(depth + 1, next).wrapping_add(next[0]) }
    }
    std::hint::black_box(deeper(data.len() as u64, [1; 64]));
}
