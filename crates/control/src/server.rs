//! The VM's side.

use std::{
    fs, io,
    io::Write as _,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, poll};

use crate::{Error, Reply, Request, VERSION, line::read_line, peer, protocol::Envelope};

/// Most connections at a time: consoles and connections into the guest, each with its thread. Further ones are refused.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// What answers requests.
pub trait Control: Send + Sync {
    /// Answers `request`, on a thread of its own: it may take its time.
    fn answer(&self, request: Request) -> Answer;
}

/// An answer.
pub enum Answer {
    /// A line.
    Reply(Reply),
    /// [`Reply::Stream`], after which the connection is given to this.
    Stream(Box<dyn FnOnce(UnixStream) + Send>),
}

impl Answer {
    /// A refusal.
    pub fn error(message: impl Into<String>) -> Self {
        Self::Reply(Reply::Error { message: message.into() })
    }
}

/// Requests that are being answered. Streams do not count: they end with the VM.
#[derive(Default)]
struct Busy {
    requests: Mutex<usize>,
    changed: Condvar,
}

struct Shared {
    control: Arc<dyn Control>,
    stopped: AtomicBool,
    connections: Mutex<usize>,
    busy: Busy,
}

/// A socket that nobody serves yet. It is removed when this is dropped.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Makes the socket at `path`, where at most a stale one may be: the caller holds the VM's lock.
    ///
    /// # Errors
    /// [`Error::Socket`] when the host refuses.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        let failed = |doing| move |source| Error::Socket { doing, path: path.display().to_string(), source };
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("replace")(e)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed("listen at"))?;
        let socket = Self { listener, path: path.to_owned() };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed("protect"))?;
        Ok(socket)
    }
}

impl Socket {
    /// Waits for a connection of this user's, for at most `patience`.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn accept(&self, patience: Duration) -> io::Result<Option<UnixStream>> {
        let patience = rustix::time::Timespec::try_from(patience).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        if poll(&mut fds, Some(&patience))? == 0 {
            return Ok(None);
        }
        let (stream, _) = self.listener.accept()?;
        Ok(peer::is_trusted(&stream).then_some(stream))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
    }
}

/// Answers requests at a socket, which is removed when this is dropped.
pub struct Server {
    shared: Arc<Shared>,
    socket: Socket,
}

impl Server {
    /// Answers at `socket` by `control`.
    ///
    /// # Errors
    /// [`Error::Socket`] when the host has no thread or descriptor left.
    pub fn start(socket: Socket, control: Arc<dyn Control>) -> Result<Self, Error> {
        let failed = |doing| {
            let path = socket.path.display().to_string();
            move |source| Error::Socket { doing, path, source }
        };
        let listener = socket.listener.try_clone().map_err(failed("listen at"))?;
        let shared = Arc::new(Shared {
            control,
            stopped: AtomicBool::new(false),
            connections: Mutex::default(),
            busy: Busy::default(),
        });
        let thread = thread::Builder::new().name("control".into());
        let serving = Arc::clone(&shared);
        thread.spawn(move || accept(&listener, &serving)).map_err(failed("start a thread for"))?;
        Ok(Self { shared, socket })
    }

    /// Waits until every request has its answer, at most for `limit`. To be called before the process ends.
    pub fn drain(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut requests = lock(&self.shared.busy.requests);
        while *requests > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.shared.busy.changed.wait_timeout(requests, left);
            requests = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        // Wakes the listener, which ends then. A confined process may not connect; its listener ends with it.
        let _ = UnixStream::connect(&self.socket.path);
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: some come back.
                tracing::warn!(%error, "cannot accept a control connection");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
        if !peer::is_trusted(&stream) {
            tracing::warn!("refused a control connection of another user");
            continue;
        }
        let Some(slot) = Slot::take(shared) else {
            tracing::warn!("refused a control connection: there are {MAX_CONNECTIONS} already");
            continue;
        };
        // Counted here, so that a stop cannot overtake a request that has arrived.
        let request = BusyRequest::begin(shared);
        let spawned = thread::Builder::new().name("control-client".into()).spawn(move || {
            if let Err(error) = serve(stream, &slot.0, request) {
                tracing::debug!(%error, "a control connection ended early");
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "cannot start a thread for a control connection");
        }
    }
}

/// One of the connections that there may be.
struct Slot(Arc<Shared>);

impl Slot {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        let mut connections = lock(&shared.connections);
        if *connections == MAX_CONNECTIONS {
            return None;
        }
        *connections += 1;
        Some(Self(Arc::clone(shared)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *lock(&self.0.connections) -= 1;
    }
}

/// A request without its answer.
struct BusyRequest(Arc<Shared>);

impl BusyRequest {
    fn begin(shared: &Arc<Shared>) -> Self {
        *lock(&shared.busy.requests) += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for BusyRequest {
    fn drop(&mut self) {
        *lock(&self.0.busy.requests) -= 1;
        self.0.busy.changed.notify_all();
    }
}

fn serve(mut stream: UnixStream, shared: &Shared, busy: BusyRequest) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = read_line(&mut stream)?;
    stream.set_read_timeout(None)?;
    let answer = match parse(&request) {
        Ok(request) => shared.control.answer(request),
        Err(message) => Answer::error(message),
    };
    let (reply, then) = match answer {
        Answer::Reply(reply) => (reply, None),
        Answer::Stream(then) => (Reply::Stream, Some(then)),
    };
    tell(&mut stream, &reply)?;
    drop(busy);
    if let Some(then) = then {
        then(stream);
    }
    Ok(())
}

/// Sends `reply` as a line on a stream that was answered with.
///
/// # Errors
/// When the client has gone.
pub fn tell(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&line)?;
    stream.set_write_timeout(None)
}

fn parse(line: &str) -> Result<Request, String> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let malformed = |e: serde_json::Error| {
        format!(
            "the VM does not understand the request\n  because: {e}\n  try: the tearless that started the VM"
        )
    };
    let Versioned { version } = serde_json::from_str(line).map_err(malformed)?;
    if version != VERSION {
        return Err(format!(
            "the VM does not understand the request\n  because: it speaks version {VERSION} of the control protocol, not \
             {version}\n  try: the tearless that started the VM, or restart the VM"
        ));
    }
    let envelope: Envelope = serde_json::from_str(line).map_err(malformed)?;
    Ok(envelope.request)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::{Client, StopOutcome};

    struct Echo;

    impl Control for Echo {
        fn answer(&self, request: Request) -> Answer {
            match request {
                Request::Kill => Answer::Reply(Reply::Stopped { how: StopOutcome::Killed }),
                Request::Console => Answer::Stream(Box::new(|mut stream| {
                    let mut bytes = [0; 5];
                    stream.read_exact(&mut bytes).unwrap();
                    stream.write_all(&bytes).unwrap();
                })),
                _ => Answer::error("no\n  because: of me"),
            }
        }
    }

    fn server() -> (tempfile::TempDir, PathBuf, Server) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let server = Server::start(Socket::bind(&path).unwrap(), Arc::new(Echo)).unwrap();
        (folder, path, server)
    }

    #[test]
    fn requests_are_answered_and_streams_follow() {
        let (_folder, path, server) = server();
        let client = Client::at(&path, "x");
        assert_eq!(client.call(&Request::Kill).unwrap(), Reply::Stopped { how: StopOutcome::Killed });
        assert_eq!(client.call(&Request::Pause).unwrap_err().to_string(), "no\n  because: of me");
        let mut stream = client.stream(&Request::Console).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut back = String::new();
        stream.read_to_string(&mut back).unwrap();
        assert_eq!(back, "hello");
        server.drain(Duration::from_secs(60));
        drop(server);
        assert!(!path.exists());
        assert!(matches!(client.call(&Request::State), Err(Error::NotRunning(_))));
    }

    #[test]
    fn a_stale_socket_is_replaced_and_only_the_owner_may_use_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(Client::at(&path, "x").call(&Request::State), Err(Error::NotRunning(_))));
        let _server = Server::start(Socket::bind(&path).unwrap(), Arc::new(Echo)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        Client::at(&path, "x").call(&Request::Kill).unwrap();
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let (_folder, path, _server) = server();
        for (line, hint) in [
            ("{}\n", "version"),
            ("{\"version\":2,\"request\":\"fly\"}\n", "version 1 of the control protocol, not 2"),
            ("{\"version\":1,\"request\":\"fly\"}\n", "fly"),
            ("\n", "does not understand"),
        ] {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(line.as_bytes()).unwrap();
            let reply = read_line(&mut stream).unwrap();
            let Reply::Error { message } = serde_json::from_str(&reply).unwrap() else { panic!("{reply}") };
            assert!(message.contains(hint), "{line}: {message}");
        }
        let mut stream = UnixStream::connect(&path).unwrap();
        // The server may close before all of it is sent.
        let _ = stream.write_all(&[b'x'; crate::protocol::MAX_LINE + 10]);
        assert!(read_line(&mut stream).is_err());
        Client::at(&path, "x").call(&Request::Kill).unwrap();
    }
}
