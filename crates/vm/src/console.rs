//! What a VM's console says, for any number of viewers.
//!
//! The guest writes into a ring of the last bytes. Each viewer reads from it at its own speed; one that falls behind
//! misses what the ring no longer has. So neither the guest nor another viewer ever waits for one.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tearless_bus::CharSink;

use crate::Keyboard;

/// Bytes that the ring keeps: what a viewer may lag behind.
const RING: usize = 256 << 10;
/// Bytes of scrollback that a new viewer gets: a few screens.
const SCROLLBACK: u64 = 16 << 10;
/// Bytes given to a viewer at a time.
const CHUNK: usize = 16 << 10;
/// How long a viewer that reads nothing is waited for when the VM has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

#[derive(Default)]
struct State {
    ring: VecDeque<u8>,
    /// How many bytes have ever been written.
    end: u64,
    finished: bool,
    viewers: usize,
}

impl State {
    fn start(&self) -> u64 {
        self.end - self.ring.len() as u64
    }

    /// Where a viewer begins: at the start of a line, if the scrollback has one.
    fn scrollback(&self) -> u64 {
        let from = self.start().max(self.end.saturating_sub(SCROLLBACK));
        if from == 0 {
            return 0;
        }
        let skip = (from - self.start()) as usize;
        let line = self.ring.iter().skip(skip).position(|&byte| byte == b'\n');
        from + line.map_or(0, |at| at as u64 + 1)
    }

    /// Up to [`CHUNK`] bytes from `at` on, and where they start.
    fn read(&self, at: u64) -> (u64, Vec<u8>) {
        let at = at.max(self.start());
        let skip = (at - self.start()) as usize;
        (at, self.ring.iter().skip(skip).take(CHUNK).copied().collect())
    }
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

/// A console. Clones share.
#[derive(Clone, Default)]
pub struct Console {
    inner: Arc<Inner>,
    keyboard: Keyboard,
}

impl Console {
    /// A console whose viewers type on `keyboard`.
    pub fn new(keyboard: Keyboard) -> Self {
        Self { inner: Arc::default(), keyboard }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows `bytes` to everybody.
    pub fn show(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.end += bytes.len() as u64;
        let bytes = &bytes[bytes.len().saturating_sub(RING)..];
        let excess = (state.ring.len() + bytes.len()).saturating_sub(RING);
        state.ring.drain(..excess);
        state.ring.extend(bytes);
        drop(state);
        self.inner.changed.notify_all();
    }

    /// The last of what was shown.
    pub fn last(&self) -> Vec<u8> {
        let state = self.lock();
        let from = state.scrollback().saturating_sub(state.start());
        state.ring.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)).copied().collect()
    }

    /// A device's sink: shows what it is given and hands it on to `next`.
    pub fn tee(&self, mut next: Box<dyn CharSink>) -> Box<dyn CharSink> {
        let console = self.clone();
        Box::new(move |bytes: &[u8]| {
            console.show(bytes);
            next.put(bytes);
        })
    }

    /// Serves a viewer on `stream` until it leaves or the VM has ended.
    pub fn attach(&self, stream: UnixStream) {
        let reader = match stream.try_clone() {
            Ok(reader) => reader,
            Err(error) => return tracing::warn!(%error, "cannot serve a console viewer"),
        };
        let keyboard = self.keyboard.clone();
        let gone = Arc::new(Mutex::new(None));
        let (console, left) = (self.clone(), Arc::clone(&gone));
        // Ends when the viewer shuts its side down, or with the stream below.
        let typing = thread::Builder::new().name("console-keys".into()).spawn(move || {
            copy_keys(reader, &keyboard);
            // Under the lock, so that whoever is about to wait for output sees it.
            let state = console.lock();
            *left.lock().unwrap_or_else(PoisonError::into_inner) = Some(state.end);
            drop(state);
            console.inner.changed.notify_all();
        });
        if let Err(error) = typing {
            return tracing::warn!(%error, "cannot serve a console viewer");
        }
        self.lock().viewers += 1;
        // A viewer that does not read must not keep the VM's process when it ends.
        if let Err(error) = self.copy_output(&stream, &gone) {
            tracing::debug!(%error, "a console viewer left");
        }
        let _ = stream.shutdown(Shutdown::Both);
        self.lock().viewers -= 1;
        self.inner.changed.notify_all();
    }

    /// Until the VM has ended, or the viewer is `gone`: then up to what had been written by that time.
    fn copy_output(&self, mut stream: &UnixStream, gone: &Mutex<Option<u64>>) -> io::Result<()> {
        let is_last = |at| gone.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|last| at >= last);
        let mut at = self.lock().scrollback();
        loop {
            let (from, bytes) = {
                let mut state = self.lock();
                while state.end == at && !state.finished && !is_last(at) {
                    state = self.inner.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if is_last(at) {
                    return Ok(());
                }
                state.read(at)
            };
            if bytes.is_empty() {
                return Ok(());
            }
            if from > at {
                write!(stream, "\r\n[tearless: {} bytes were missed here]\r\n", from - at)?;
            }
            stream.write_all(&bytes)?;
            at = from + bytes.len() as u64;
        }
    }

    /// The VM has ended: every viewer gets the last words, if it reads them.
    pub fn finish(&self) {
        let deadline = Instant::now() + LAST_WORDS;
        let mut state = self.lock();
        state.finished = true;
        self.inner.changed.notify_all();
        while state.viewers > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.inner.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn copy_keys(mut stream: UnixStream, keyboard: &Keyboard) {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => keyboard.type_all(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn viewer(console: &Console) -> (UnixStream, thread::JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let before = console.lock().viewers;
        let console = console.clone();
        let watched = console.clone();
        let serving = thread::spawn(move || console.attach(theirs));
        while watched.lock().viewers == before {
            thread::yield_now();
        }
        (ours, serving)
    }

    #[test]
    fn viewers_get_the_scrollback_and_all_that_follows() {
        let console = Console::default();
        console.show(b"before\n");
        let (mut one, first) = viewer(&console);
        let (mut two, second) = viewer(&console);
        console.show(b"after\n");
        console.finish();
        for stream in [&mut one, &mut two] {
            let mut seen = String::new();
            stream.read_to_string(&mut seen).unwrap();
            assert_eq!(seen, "before\nafter\n");
        }
        first.join().unwrap();
        second.join().unwrap();
    }

    #[test]
    fn a_viewer_that_does_not_read_holds_up_nobody_and_learns_what_it_missed() {
        let console = Console::default();
        let (mut slow, serving) = viewer(&console);
        let line = [b'x'; 1023].into_iter().chain([b'\n']).collect::<Vec<_>>();
        for _ in 0..4096 {
            console.show(&line);
        }
        let reader = thread::spawn(move || {
            let mut seen = Vec::new();
            slow.read_to_end(&mut seen).map(|_| seen)
        });
        console.finish();
        let seen = reader.join().unwrap().unwrap();
        assert!(seen.len() < 4 << 20 && seen.ends_with(&line));
        assert!(String::from_utf8(seen).unwrap().contains("bytes were missed here"));
        serving.join().unwrap();
        assert_eq!(console.lock().ring.len(), RING);
    }

    #[test]
    fn a_viewer_that_leaves_is_forgotten() {
        let console = Console::default();
        let (stream, serving) = viewer(&console);
        drop(stream);
        serving.join().unwrap();
        assert_eq!(console.lock().viewers, 0);
    }

    #[test]
    fn the_scrollback_begins_with_a_line() {
        let console = Console::default();
        console.show(&[b'a'; 20_000]);
        console.show(b"\nlast");
        assert_eq!(console.lock().scrollback(), 20_001);
        console.show(&[b'b'; RING + 5]);
        let state = console.lock();
        assert_eq!(state.scrollback(), state.end - SCROLLBACK);
    }
}
