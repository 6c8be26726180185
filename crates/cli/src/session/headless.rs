//! A guest in the background: nobody looks, but for those who attach to its console.

use std::process::ExitCode;

use anyhow::Result;
use tearless_vm::{Frontend, Handle, HostSide, Keyboard};

use super::{Events, Primary, Session, console_port};

/// The session of a VM in the background.
pub struct HeadlessSession {
    primary: Primary,
    keyboard: Keyboard,
    events: Events,
    on_up: Option<Box<dyn FnOnce() + Send>>,
}

impl HeadlessSession {
    /// A session whose viewers type on `keyboard`; `on_up` is called when the guest begins to run.
    pub fn new(
        primary: Primary,
        keyboard: Keyboard,
        events: Events,
        on_up: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self { primary, keyboard, events, on_up: Some(Box::new(on_up)) }
    }
}

impl Frontend for HeadlessSession {
    fn connect(&mut self) -> HostSide {
        HostSide {
            uart: Box::new(|_: &[u8]| {}),
            console: console_port(Box::new(|_: &[u8]| {})),
            streams: Vec::new(),
        }
    }

    fn started(&mut self, handle: &Handle) {
        self.keyboard.plug(self.primary.input(handle));
        self.events.set_handle(handle);
        if let Some(on_up) = self.on_up.take() {
            on_up();
        }
    }

    fn restart(&mut self) -> bool {
        true
    }
}

impl Session for HeadlessSession {
    fn verdict(&self) -> Box<dyn FnOnce() -> Result<ExitCode> + Send> {
        Box::new(|| Ok(ExitCode::SUCCESS))
    }
}
