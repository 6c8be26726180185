//! A VM in the foreground: its consoles, the user's terminal or pipes, signals, and the exit status.

mod command;
mod headless;
mod interactive;
mod log;
mod status;
mod steer;

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH},
    iterator::Signals,
};
use tearless_vm::{
    CharSink, ConsolePort, Frontend, Handle, Hardware, Outcome, Plug, Running, Served, Service, StopOutcome,
};

pub use command::CommandSession;
pub use headless::HeadlessSession;
pub use interactive::{End, InteractiveSession, Primary};
pub use status::Status;

use crate::terminal;

/// How long to wait for our streams at a time.
const DRAIN_STEP: Duration = Duration::from_secs(1);

/// How long a guest may take to shut down after a signal to its VM in the background; service managers give 90 seconds.
const SIGNAL_PATIENCE: Duration = Duration::from_secs(30);

/// What happened to a session besides the guest's own doing.
#[derive(Clone, Default)]
pub struct Events(Arc<EventsInner>);

#[derive(Default)]
struct EventsInner {
    plug: OnceLock<Plug>,
    handle: Mutex<Option<Handle>>,
    cause: Mutex<Option<Cause>>,
    /// Set for a VM in the background: a signal asks its guest to shut down.
    graceful: OnceLock<Service>,
}

/// Why the host ended the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The user typed the escape sequence.
    Left,
    /// A signal.
    Signal(i32),
    /// The command that the VM was for has ended.
    Finished,
}

impl Events {
    /// Ends the VM because of `cause`; the first cause stays.
    pub fn end(&self, cause: Cause) {
        self.0.cause.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
        if let Some(plug) = self.0.plug.get() {
            plug.pull();
        }
    }

    /// Ends the VM once everything that the guest has written has reached our streams. Returns at once.
    pub fn finish(&self) {
        let events = self.clone();
        // It must not run on the caller's thread: that is one of those that it waits for.
        thread::spawn(move || {
            let handle = events.handle();
            // As long as our reader takes; a signal ends the VM in the meantime.
            while handle.as_ref().is_some_and(|h| !h.drain(DRAIN_STEP)) {}
            events.end(Cause::Finished);
        });
    }

    /// From now on a signal asks the guest of `service` to shut down; another one ends the VM at once.
    pub fn stop_gracefully(&self, service: Service) {
        // Set once, before the VM runs.
        let _ = self.0.graceful.set(service);
    }

    fn signal(&self, signal: i32, seen: &mut bool) {
        match self.0.graceful.get() {
            // The terminal that the VM was started from has gone: that is what the background is for.
            Some(_) if signal == SIGHUP => {}
            Some(service) if !std::mem::replace(seen, true) => {
                let service = service.clone();
                thread::spawn(move || {
                    let how: StopOutcome = service.stop(SIGNAL_PATIENCE);
                    tracing::info!(signal, ?how, "stopped by a signal");
                });
            }
            _ => self.end(Cause::Signal(signal)),
        }
    }

    /// The machine that runs now.
    pub fn set_handle(&self, handle: &Handle) {
        *self.0.handle.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle.clone());
        self.resize();
    }

    fn handle(&self) -> Option<Handle> {
        self.0.handle.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn cause(&self) -> Option<Cause> {
        *self.0.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the guest the size of the terminal.
    fn resize(&self) {
        if let (Some(handle), Some((cols, rows))) = (self.handle(), terminal::size()) {
            handle.resize(cols, rows);
        }
    }
}

/// How a session's guest ended, and what its frontend makes of that.
pub trait Session: Frontend {
    /// The exit status once the guest has powered off (or, where it may not restart, reset) by itself.
    fn verdict(&self) -> Box<dyn FnOnce() -> Result<ExitCode> + Send>;
}

impl Session for Served<Box<dyn Session>> {
    fn verdict(&self) -> Box<dyn FnOnce() -> Result<ExitCode> + Send> {
        self.inner().verdict()
    }
}

/// Runs a VM to its end.
pub fn run(hardware: Hardware, events: &Events, session: Box<dyn Session>) -> Result<ExitCode> {
    run_with(hardware, events, session, Plug::default(), |_| ())
}

/// As [`run`]; `plug` ends the VM, and `ended` hears of its end first.
pub fn run_with(
    hardware: Hardware,
    events: &Events,
    session: Box<dyn Session>,
    plug: Plug,
    ended: impl FnOnce(Option<Outcome>),
) -> Result<ExitCode> {
    let verdict = session.verdict();
    events.0.plug.set(plug.clone()).map_err(|_| anyhow::anyhow!("a session runs one VM"))?;
    watch_signals(events.clone())?;
    let outcome = Running::start_with(hardware, session, plug).and_then(Running::wait);
    terminal::restore();
    ended(outcome.as_ref().ok().copied());
    let outcome = outcome?;
    match events.cause() {
        Some(Cause::Left) => {
            // The cursor is wherever the guest left it.
            eprintln!("\ntearless: left; the VM is off");
            Ok(ExitCode::SUCCESS)
        }
        Some(Cause::Signal(signal)) => {
            Ok(ExitCode::from(128u8.saturating_add(signal.try_into().unwrap_or(0))))
        }
        _ if outcome == Outcome::Suspended => {
            eprintln!("\ntearless: suspended; it goes on with: tearless resume, run or start");
            Ok(ExitCode::SUCCESS)
        }
        None | Some(Cause::Finished) => {
            tracing::info!(?outcome, "the VM ended");
            verdict()
        }
    }
}

fn watch_signals(events: Events) -> Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP, SIGWINCH]).context("cannot watch for signals")?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut seen = false;
            for signal in signals.forever() {
                match signal {
                    SIGWINCH => events.resize(),
                    signal => events.signal(signal, &mut seen),
                }
            }
        })
        .context("cannot start a thread")?;
    Ok(())
}

/// A sink that writes to a stream of ours and, when its reader has gone, ends the VM as a pipe's writer would end.
fn stream_sink(mut stream: impl Write + Send + 'static, events: Events) -> Box<dyn CharSink> {
    let mut broken = false;
    Box::new(move |bytes: &[u8]| {
        if broken {
            return;
        }
        if let Err(error) = stream.write_all(bytes).and_then(|()| stream.flush()) {
            broken = true;
            if error.kind() != io::ErrorKind::BrokenPipe {
                tracing::error!(%error, "cannot write the guest's output");
            }
            events.end(Cause::Signal(signal_hook::consts::SIGPIPE));
        }
    })
}

/// The console itself.
fn console_port(sink: Box<dyn CharSink>) -> ConsolePort {
    ConsolePort { name: String::new(), is_console: true, sink, on_guest_open: None }
}

/// A stream that the guest finds by `name`.
fn stream_port(name: &str, sink: Box<dyn CharSink>) -> ConsolePort {
    ConsolePort { name: name.to_owned(), is_console: false, sink, on_guest_open: None }
}
