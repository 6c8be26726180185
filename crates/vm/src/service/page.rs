//! What the page in a browser does with the VM.

use std::{io, os::unix::net::UnixStream, thread, time::Duration};

use tearless_control::{Phase, StopOutcome};
use tearless_display::web::{Action, Host};

use super::Service;

/// How long the guest has to shut down before the plug is pulled.
const PATIENCE: Duration = Duration::from_secs(60);

impl Host for Service {
    fn phase(&self) -> String {
        match self.now().phase() {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Saving => "being saved",
            Phase::Stopping => "stopping",
        }
        .to_owned()
    }

    fn act(&self, action: Action) -> Result<String, String> {
        match action {
            Action::Pause => self
                .pause()
                .map_err(|why| format!("cannot pause the VM\n  because: {why}\n  try: in a moment"))
                .map(|()| String::new()),
            Action::Resume => {
                self.resume();
                Ok(String::new())
            }
            Action::Stop => Ok(match self.stop(PATIENCE) {
                StopOutcome::Guest => "The guest shut down.",
                _ => "The guest did not shut down in time, so its plug was pulled.",
            }
            .to_owned()),
            Action::Kill => {
                self.kill();
                Ok(String::new())
            }
            Action::Suspend => {
                self.suspend(&|_, _| (), |_| ())?;
                Ok("The VM is saved.".to_owned())
            }
        }
    }

    fn console(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let console = self.0.console.clone();
        thread::Builder::new().name("page-console".into()).spawn(move || console.attach(theirs))?;
        Ok(ours)
    }
}
