use std::{
    io,
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use tearless_guest_proto::{
    Control, Ended, Reply, STDIN_WINDOW, WindowSize,
    frame::{self, Kind},
};

use crate::{Error, Result, error::unexpected};

/// What a running program does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// It wrote to its output.
    Stdout(&'a [u8]),
    /// It wrote to its error output.
    Stderr(&'a [u8]),
    /// It takes no more input.
    StdinClosed,
    /// It ended, and there is no more output.
    Ended(Ended),
}

/// A program in the guest. Dropping it ends the program.
pub struct Session {
    remote: Remote,
    pid: u32,
    buffer: Vec<u8>,
}

/// The way to a program: its input, signals, the size of its terminal. Clones go to the same program.
#[derive(Clone)]
pub struct Remote {
    stream: Arc<UnixStream>,
    input: Arc<Input>,
}

struct Input {
    /// How much the program takes; `None` when no more.
    window: Mutex<Option<usize>>,
    changed: Condvar,
    /// Frames of several threads do not mix.
    writing: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub(crate) fn new(stream: UnixStream, pid: u32) -> Result<Self> {
        let input = Input {
            window: Mutex::new(Some(STDIN_WINDOW as usize)),
            changed: Condvar::new(),
            writing: Mutex::new(()),
        };
        let remote = Remote { stream: Arc::new(stream), input: Arc::new(input) };
        Ok(Self { remote, pid, buffer: Vec::new() })
    }

    /// The program's number in the guest.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The way to the program, for other threads.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Waits for what the program does next.
    ///
    /// # Errors
    /// When the connection is lost, for example because the guest ends.
    pub fn event(&mut self) -> Result<Event<'_>> {
        loop {
            let kind = frame::read(&mut &*self.remote.stream, &mut self.buffer).map_err(Error::Lost)?;
            match kind {
                Some(Kind::Stdout) => return Ok(Event::Stdout(&self.buffer)),
                Some(Kind::Stderr) => return Ok(Event::Stderr(&self.buffer)),
                Some(Kind::Message) => {
                    if let Some(event) = self.hear()? {
                        return Ok(event);
                    }
                }
                Some(_) => return Err(unexpected("with data of another kind")),
                None => return Err(Error::Lost(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    fn hear(&mut self) -> Result<Option<Event<'static>>> {
        match frame::decode(&self.buffer).map_err(Error::Lost)? {
            Reply::Window(more) => {
                self.remote.input.update(|window| window.map(|now| now.saturating_add(more as usize)));
                Ok(None)
            }
            Reply::StdinClosed => {
                self.remote.input.update(|_| None);
                Ok(Some(Event::StdinClosed))
            }
            Reply::Ended(ended) => {
                self.remote.input.update(|_| None);
                Ok(Some(Event::Ended(ended)))
            }
            Reply::Failed(failure) => Err(failure.into()),
            _ => Err(unexpected("something out of turn")),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Clones of the way to the program may live on, but the program may not.
        drop(self.remote.stream.shutdown(Shutdown::Both));
        self.remote.input.update(|_| None);
    }
}

impl Input {
    fn update(&self, change: impl FnOnce(Option<usize>) -> Option<usize>) {
        let mut window = lock(&self.window);
        *window = change(*window);
        self.changed.notify_all();
    }

    /// Waits until the program takes some of `wanted` bytes; `None` when it takes no more.
    fn take(&self, wanted: usize) -> Option<usize> {
        let closed = |window: &mut Option<usize>| *window == Some(0);
        let mut window =
            self.changed.wait_while(lock(&self.window), closed).unwrap_or_else(PoisonError::into_inner);
        let taken = (*window)?.min(wanted);
        *window = window.map(|now| now - taken);
        Some(taken)
    }
}

impl Remote {
    /// Sends input, as fast as the program takes it. Returns `false` when it takes no more.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn stdin(&self, mut bytes: &[u8]) -> io::Result<bool> {
        while !bytes.is_empty() {
            let Some(len) = self.input.take(bytes.len().min(frame::MAX)) else { return Ok(false) };
            let (now, later) = bytes.split_at(len);
            self.frame(Kind::Stdin, now)?;
            bytes = later;
        }
        Ok(true)
    }

    /// The end of the input.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn end_stdin(&self) -> io::Result<()> {
        self.frame(Kind::Stdin, &[])
    }

    /// Sends a signal, by its Linux number, to the program and its children.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        self.control(Control::Signal(number))
    }

    /// The terminal has another size.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        self.control(Control::Resize(size))
    }

    fn control(&self, control: Control) -> io::Result<()> {
        let _guard = lock(&self.input.writing);
        frame::send(&mut &*self.stream, &control)
    }

    fn frame(&self, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        let _guard = lock(&self.input.writing);
        frame::write(&mut &*self.stream, kind, bytes)
    }
}
