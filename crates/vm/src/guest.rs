//! The agent in a running VM, for the VM's own process.

use std::{
    io,
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use tearless_guest::{AGENT_PORT, Agent, Error, Result};
use tearless_virtio::vsock::Hub;

/// How long a guest may take to answer a connection: its vCPUs may be busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// The agent of the guest that `hub` connects with. It is there once the guest has started it. A guest may take as long as
/// it likes for its answers: for questions there is [`ask`].
pub fn agent(hub: Arc<Hub>) -> Agent {
    Agent::new(move || hub.connect(AGENT_PORT, PATIENCE))
}

/// The connection of a question that has a time limit.
enum Line {
    Idle,
    Open(UnixStream),
    Over,
}

/// Asks the agent of the guest that `hub` connects with, and waits for the answer for `patience`, whatever the guest does.
///
/// # Errors
/// What `question` fails with, or [`Error::Unreachable`] when the time is up.
pub fn ask<T: Send + 'static>(
    hub: &Arc<Hub>,
    patience: Duration,
    question: impl FnOnce(&Agent) -> Result<T> + Send + 'static,
) -> Result<T> {
    let line = Arc::new(Mutex::new(Line::Idle));
    let agent = Agent::new({
        let (hub, line) = (hub.clone(), line.clone());
        move || {
            let stream = hub.connect(AGENT_PORT, patience)?;
            let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(*line, Line::Over) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            *line = Line::Open(stream.try_clone()?);
            Ok(stream)
        }
    });
    let (sender, answer) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("question".into())
        // Nobody may wait for the answer any more.
        .spawn(move || drop(sender.send(question(&agent))))
        .map_err(Error::Unreachable)?;
    answer.recv_timeout(patience).unwrap_or_else(|_| {
        let line = std::mem::replace(&mut *line.lock().unwrap_or_else(PoisonError::into_inner), Line::Over);
        if let Line::Open(stream) = line {
            // The thread ends by that. If the guest hung up already, it has.
            drop(stream.shutdown(Shutdown::Both));
        }
        Err(Error::Unreachable(io::Error::new(io::ErrorKind::TimedOut, "the guest does not answer in time")))
    })
}
