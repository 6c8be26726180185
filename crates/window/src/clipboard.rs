//! The host's clipboard. It may have to wait for other programs, so it has a thread of its own.

use std::{
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread,
};

use arboard::Clipboard;

/// What may wait to be done.
const MAX_WAITING: usize = 8;

enum Job {
    Read,
    Write(String),
}

/// The way to the host's clipboard.
pub struct HostClipboard(SyncSender<Job>);

impl HostClipboard {
    /// The clipboard of this host; `copied` is given what is on it when it was asked for. `None` where there is none.
    pub fn open(copied: impl Fn(String) + Send + 'static) -> Option<Self> {
        let (sender, jobs) = sync_channel(MAX_WAITING);
        let work = move || {
            let mut clipboard = match Clipboard::new() {
                Ok(clipboard) => clipboard,
                Err(error) => return tracing::debug!(%error, "this host has no clipboard"),
            };
            // What came from the guest need not go back.
            let mut known = String::new();
            for job in jobs {
                match job {
                    Job::Read => match clipboard.get_text() {
                        Ok(text) if text != known => {
                            known.clone_from(&text);
                            copied(text);
                        }
                        Ok(_) => {}
                        Err(error) => tracing::debug!(%error, "there is no text on the clipboard"),
                    },
                    Job::Write(text) => {
                        known.clone_from(&text);
                        if let Err(error) = clipboard.set_text(text) {
                            tracing::debug!(%error, "the clipboard does not take the guest's text");
                        }
                    }
                }
            }
        };
        let started = thread::Builder::new().name("clipboard".to_owned()).spawn(work);
        started.inspect_err(|error| tracing::warn!(%error, "cannot share the clipboard")).ok()?;
        Some(Self(sender))
    }

    /// Asks what is on it.
    pub fn read(&self) {
        self.ask(Job::Read);
    }

    /// Puts `text` onto it.
    pub fn write(&self, text: String) {
        self.ask(Job::Write(text));
    }

    fn ask(&self, job: Job) {
        if let Err(TrySendError::Full(_)) = self.0.try_send(job) {
            tracing::debug!("the clipboard is busy");
        }
    }
}
