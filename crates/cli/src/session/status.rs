//! The exit status of a command in the guest, reported on a stream.

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Result, bail};
use tearless_vm::ConsolePort;

use super::{Events, log::TailLog, stream_port};

/// The status is a decimal number in a line; anything longer is not one.
const MAX_STATUS: usize = 16;

/// What the guest has reported so far. Clones share.
#[derive(Clone, Default)]
pub struct Status(Arc<Mutex<Vec<u8>>>);

impl Status {
    /// The port that the guest reports on. When it has, the VM ends: `boot::quick` says why it is the host that ends it.
    pub fn port(&self, events: &Events) -> ConsolePort {
        let events = events.clone();
        let mut finished = false;
        let reported = Arc::clone(&self.0);
        stream_port(
            "tearless.control",
            Box::new(move |bytes: &[u8]| {
                let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
                let room = MAX_STATUS.saturating_sub(reported.len());
                reported.extend(&bytes[..bytes.len().min(room)]);
                // Once: a guest that goes on writing must not start a thread each time.
                if reported.ends_with(b"\n") && !std::mem::replace(&mut finished, true) {
                    events.finish();
                }
            }),
        )
    }

    /// The exit status, or an error with the guest's last words when it reported none.
    pub fn verdict(&self, console: &TailLog) -> Result<ExitCode> {
        let reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::str::from_utf8(&reported).ok().and_then(|text| text.trim().parse::<u8>().ok()) {
            Some(status) => Ok(ExitCode::from(status)),
            None => {
                bail!("the guest ended before the command did; its last words:\n{}", console.last_lines(12))
            }
        }
    }
}
