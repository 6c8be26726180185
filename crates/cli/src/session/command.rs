//! A command in a guest, with this process' own standard streams.

use std::{io, process::ExitCode, thread};

use anyhow::Result;
use tearless_vm::{Frontend, Handle, HostSide, Typist};

use super::{Events, Session, console_port, log::TailLog, status::Status, stream_port, stream_sink};
use crate::terminal;

/// The session of `tearless run -- CMD` when not all standard streams are terminals.
pub struct CommandSession {
    events: Events,
    status: Status,
    console_tail: TailLog,
}

const STDIN: &str = "tearless.stdin";

impl CommandSession {
    /// A session on the standard streams of this process.
    pub fn new(events: Events) -> Self {
        Self { events, status: Status::default(), console_tail: TailLog::default() }
    }
}

impl Frontend for CommandSession {
    fn connect(&mut self) -> HostSide {
        HostSide {
            uart: self.console_tail.sink(),
            console: console_port(self.console_tail.sink()),
            streams: vec![
                stream_port(STDIN, Box::new(|_: &[u8]| {})),
                stream_port("tearless.stdout", stream_sink(io::stdout(), self.events.clone())),
                stream_port("tearless.stderr", stream_sink(io::stderr(), self.events.clone())),
                self.status.port(&self.events),
            ],
        }
    }

    fn started(&mut self, handle: &Handle) {
        self.events.set_handle(handle);
        let Some(port) = handle.stream(STDIN) else { return };
        // Detached: it sits in a read that only the process' end interrupts.
        thread::spawn(move || {
            let typist = Typist::new(port.clone());
            let mut buffer = vec![0; 64 << 10];
            while let Ok(n @ 1..) = terminal::read_stdin(&mut buffer) {
                typist.type_all(buffer.get(..n).unwrap_or_default());
            }
            port.close();
        });
    }

    fn restart(&mut self) -> bool {
        false
    }
}

impl Session for CommandSession {
    fn verdict(&self) -> Box<dyn FnOnce() -> Result<ExitCode> + Send> {
        let (status, tail) = (self.status.clone(), self.console_tail.clone());
        Box::new(move || status.verdict(&tail))
    }
}
