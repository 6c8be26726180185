//! The host's side: connecting to the guest's ports and answering at ports of the host.

use std::{
    collections::HashMap,
    io,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use super::connection::DialReply;
use crate::{Wake, lock};

/// Answers a connection of the guest, with the host's end of it. It runs on the device's thread and must not wait.
pub(super) type Handler = Arc<dyn Fn(UnixStream) + Send + Sync>;

/// What the device's thread is asked to do.
pub(super) enum Command {
    Dial { id: u64, port: u32, reply: DialReply },
    Attach { id: u64, stream: UnixStream },
    HangUp { id: u64 },
    TransportReset,
}

/// A device with a driver.
struct Online {
    wake: Arc<Wake>,
}

#[derive(Default)]
struct State {
    /// Counts the lives of the guest's driver.
    generation: u64,
    online: Option<Online>,
    commands: Vec<Command>,
    listeners: HashMap<u32, Handler>,
    next_id: u64,
}

/// Connects programs of the host with programs of the guest. It outlives resets of the guest, the connections do not.
#[derive(Default)]
pub struct Hub(Mutex<State>);

impl Hub {
    /// A hub that no device serves yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Whether the guest's driver is there. Connections may still be refused: that is up to the guest's programs.
    pub fn is_online(&self) -> bool {
        lock(&self.0).online.is_some()
    }

    /// Connects to the guest's port `port`.
    ///
    /// # Errors
    /// As [`Hub::dial`].
    pub fn connect(self: &Arc<Self>, port: u32, patience: Duration) -> io::Result<UnixStream> {
        let dialed = self.dial(port, patience)?;
        let (ours, theirs) = UnixStream::pair()?;
        dialed.attach(theirs)?;
        Ok(ours)
    }

    /// Connects to the guest's port `port`; where the data goes is said later, with [`Dialed::attach`].
    ///
    /// # Errors
    /// `NotConnected` when the guest has no driver (yet) or lost it meanwhile, `ConnectionRefused` when nothing in it
    /// listens there, `TimedOut` when it does not answer within `patience`.
    pub fn dial(self: &Arc<Self>, port: u32, patience: Duration) -> io::Result<Dialed> {
        let (reply, answer) = mpsc::sync_channel(1);
        let id = {
            let mut state = lock(&self.0);
            state.next_id += 1;
            let id = state.next_id;
            state.command(Command::Dial { id, port, reply })?;
            id
        };
        let dialed = Dialed { hub: self.clone(), id, attached: false };
        match answer.recv_timeout(patience) {
            Ok(result) => result.map(|()| dialed),
            Err(RecvTimeoutError::Timeout) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the guest does not answer"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }

    /// Has `handler` answer connections of the guest to the host's port `port`, from now on, instead of another one. It
    /// runs on the device's thread and must not wait.
    pub fn listen(&self, port: u32, handler: impl Fn(UnixStream) + Send + Sync + 'static) {
        lock(&self.0).listeners.insert(port, Arc::new(handler));
    }

    /// Ends all connections and tells the guest that they are gone: after the guest's state came from a snapshot, where
    /// it had others.
    pub fn transport_reset(&self) {
        // Without a driver there is nobody to tell.
        drop(lock(&self.0).command(Command::TransportReset));
    }

    pub(super) fn set_online(&self, wake: Arc<Wake>) {
        lock(&self.0).online = Some(Online { wake });
    }

    /// The driver is gone, and with it all connections.
    pub(super) fn set_offline(&self) {
        let mut state = lock(&self.0);
        state.generation += 1;
        state.online = None;
        // Their dialers see that nobody will answer.
        state.commands.clear();
    }

    /// Which life of the driver this is, and what there is to do.
    pub(super) fn take_commands(&self) -> (u64, Vec<Command>) {
        let mut state = lock(&self.0);
        (state.generation, std::mem::take(&mut state.commands))
    }

    pub(super) fn listener(&self, port: u32) -> Option<Handler> {
        lock(&self.0).listeners.get(&port).cloned()
    }

    pub(super) fn new_id(&self) -> u64 {
        let mut state = lock(&self.0);
        state.next_id += 1;
        state.next_id
    }
}

impl State {
    fn command(&mut self, command: Command) -> io::Result<()> {
        let online = self.online.as_ref().ok_or_else(gone)?;
        self.commands.push(command);
        online.wake.signal();
        Ok(())
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the guest has no driver for virtio sockets running")
}

/// A connection that the guest has accepted. Its data waits for [`Dialed::attach`]; without it the connection ends.
pub struct Dialed {
    hub: Arc<Hub>,
    id: u64,
    attached: bool,
}

impl Dialed {
    /// From now on `stream` is the host's end: its other side is connected with the guest.
    ///
    /// # Errors
    /// When the guest lost its driver meanwhile, or the stream cannot be used.
    pub fn attach(mut self, stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        self.attached = true;
        lock(&self.hub.0).command(Command::Attach { id: self.id, stream })
    }
}

impl Drop for Dialed {
    fn drop(&mut self) {
        if !self.attached {
            // Without a driver the connection is gone already.
            drop(lock(&self.hub.0).command(Command::HangUp { id: self.id }));
        }
    }
}
