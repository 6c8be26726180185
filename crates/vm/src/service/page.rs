//! What pages in browsers and windows do with the VM.

use std::{
    io,
    os::unix::net::UnixStream,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use tearless_control::{Answer, Phase, StopOutcome};
use tearless_display::{
    link,
    remote::{Action, Host, Site},
};

use super::Service;

/// How long the guest has to shut down before the plug is pulled.
const PATIENCE: Duration = Duration::from_secs(60);

impl Service {
    /// Serves the screen to a window in another process.
    pub(super) fn screen(&self) -> Answer {
        let Some(display) = self.0.display.clone() else {
            return Answer::error(
                "cannot show the screen\n  because: the VM has none\n  try: `tearless set NAME --display window`, and restart it",
            );
        };
        let site = Site {
            title: String::new(),
            screen: display.screen,
            input: display.input,
            clipboard: display.clipboard,
            host: Some(Arc::new(self.clone())),
        };
        Answer::Stream(Box::new(move |stream| {
            if let Err(error) = link::await_viewer(&stream).and_then(|()| link::serve(stream, &site)) {
                tracing::debug!(%error, "a window left");
            }
        }))
    }

    /// Has viewers hear that the VM's phase is another. Not to be called with the state locked.
    pub(super) fn tell_viewers(&self) {
        self.0.phases.fetch_add(1, Ordering::AcqRel);
        if let Some(display) = &self.0.display {
            display.screen.nudge();
        }
    }
}

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

    fn phases(&self) -> u64 {
        self.0.phases.load(Ordering::Acquire)
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
            Action::Start => Ok("It runs already.".to_owned()),
            Action::Snapshot => {
                let take = self.now().take_snapshot.clone();
                take.ok_or("cannot take a snapshot\n  because: what this VM writes is not kept, or it was started without a page\n  try: tearless snapshot take, in a terminal")?()
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
