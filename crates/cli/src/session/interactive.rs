//! A guest on the user's terminal.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    sync::Arc,
    thread,
};

use anyhow::Result;
use tearless_bus::CharInput;
use tearless_config::ConsoleKind;
use tearless_vm::{Frontend, Handle, HostSide, Keyboard};

use super::{Cause, Events, Session, console_port, log::TailLog, status::Status, stream_sink};
use crate::terminal::{self, EscapeFilter, RawMode};

/// Which device is on the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Primary {
    /// The UART, `ttyAMA0`. What comes from the virtio console is shown too.
    Uart,
    /// The virtio console, `hvc0`. The UART's output is kept for the case of a crash.
    Virtio,
}

impl From<ConsoleKind> for Primary {
    fn from(kind: ConsoleKind) -> Self {
        match kind {
            ConsoleKind::Uart => Self::Uart,
            ConsoleKind::Virtio => Self::Virtio,
        }
    }
}

impl Primary {
    /// Where what is typed goes.
    pub fn input(self, handle: &Handle) -> Arc<dyn CharInput> {
        match self {
            Self::Uart => handle.uart(),
            Self::Virtio => handle.console(),
        }
    }
}

/// What the guest's end means.
#[derive(Clone)]
pub enum End {
    /// Success; a guest that resets runs again if told so.
    PowerOff {
        /// Whether a reset starts the machine again.
        restarts: bool,
    },
    /// That of a command, which the guest reports.
    Command(Status),
}

/// The terminal's session.
pub struct InteractiveSession {
    primary: Primary,
    events: Events,
    keyboard: Keyboard,
    uart_tail: TailLog,
    end: End,
    raw: Option<RawMode>,
    reader_started: bool,
}

impl InteractiveSession {
    /// A session on the terminal of this process.
    pub fn new(primary: Primary, end: End, events: Events) -> Self {
        Self::with_keyboard(primary, end, events, Keyboard::default())
    }

    /// As [`InteractiveSession::new`], on a keyboard that others type on too.
    pub fn with_keyboard(primary: Primary, end: End, events: Events, keyboard: Keyboard) -> Self {
        Self {
            primary,
            events,
            keyboard,
            uart_tail: TailLog::default(),
            end,
            raw: None,
            reader_started: false,
        }
    }

    fn start_reader(&mut self) {
        if std::mem::replace(&mut self.reader_started, true) {
            return;
        }
        let (keyboard, events) = (self.keyboard.clone(), self.events.clone());
        // Detached: it sits in a read that only the process' end interrupts.
        thread::spawn(move || read_keys(&keyboard, &events));
    }
}

impl Frontend for InteractiveSession {
    fn connect(&mut self) -> HostSide {
        let stdout = || stream_sink(io::stdout(), self.events.clone());
        let streams = match &self.end {
            End::Command(status) => vec![status.port(&self.events)],
            End::PowerOff { .. } => Vec::new(),
        };
        let uart = match self.primary {
            Primary::Uart => stdout(),
            Primary::Virtio => self.uart_tail.sink(),
        };
        HostSide { uart, console: console_port(stdout()), streams }
    }

    fn started(&mut self, handle: &Handle) {
        if self.raw.is_none() {
            match RawMode::enter() {
                Ok(raw) => self.raw = raw,
                Err(error) => tracing::warn!(%error, "cannot switch the terminal to raw mode"),
            }
        }
        self.keyboard.plug(self.primary.input(handle));
        self.events.set_handle(handle);
        self.start_reader();
    }

    fn restart(&mut self) -> bool {
        matches!(self.end, End::PowerOff { restarts: true })
    }
}

impl Session for InteractiveSession {
    fn verdict(&self) -> Box<dyn FnOnce() -> Result<ExitCode> + Send> {
        match self.end.clone() {
            End::PowerOff { .. } => Box::new(|| Ok(ExitCode::SUCCESS)),
            End::Command(status) => {
                let tail = self.uart_tail.clone();
                Box::new(move || status.verdict(&tail))
            }
        }
    }
}

fn read_keys(keyboard: &Keyboard, events: &Events) {
    let is_terminal = io::stdin().is_terminal();
    let mut filter = EscapeFilter::default();
    let mut buffer = [0; 4096];
    let mut keys = Vec::new();
    loop {
        let typed = match terminal::read_stdin(&mut buffer) {
            Ok(0) => return,
            Ok(n) => buffer.get(..n).unwrap_or_default(),
            Err(error) => return tracing::warn!(%error, "cannot read standard input"),
        };
        keys.clear();
        if is_terminal {
            if filter.feed(typed, &mut keys) {
                return events.end(Cause::Left);
            }
        } else {
            keys.extend_from_slice(typed);
        }
        keyboard.type_all(&keys);
    }
}
