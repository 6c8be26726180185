//! Connections: who is served, and with what.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tearless_guest_proto::{
    AGENT_PORT, Failure, FailureKind, READY_PORT, Reply, Request, VERSION, frame, hello, read_hello,
};
use vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockListener, VsockStream};

use super::{
    copy, exec,
    failure::{Explain, Outcome, failure},
    freeze, network, power, system,
};

/// How long the socket driver may take to appear after the agent has started.
const DRIVER_TRIES: u32 = 100;
const DRIVER_PAUSE: Duration = Duration::from_millis(100);

/// A connection with the host. Both halves can be used at once, by any thread.
#[derive(Clone)]
pub struct Host {
    socket: Arc<File>,
    /// Frames do not mix.
    writing: Arc<Mutex<()>>,
}

impl Host {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket: Arc::new(socket.into()), writing: Arc::default() }
    }

    /// Its readable half.
    pub fn reader(&self) -> &File {
        &self.socket
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn send(&self, reply: &Reply) -> io::Result<()> {
        let _guard = self.lock();
        frame::send(&mut &*self.socket, reply)
    }

    pub fn write(&self, kind: frame::Kind, bytes: &[u8]) -> io::Result<()> {
        let _guard = self.lock();
        frame::write(&mut &*self.socket, kind, bytes)
    }

    /// What is written to it becomes data for the host.
    pub fn data(&self) -> frame::DataWriter<&File> {
        frame::DataWriter::new(&self.socket)
    }

    /// No more will be sent.
    pub fn end_writing(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Write)?)
    }
}

/// Serves the host for as long as the guest lives.
pub fn serve() -> Outcome<()> {
    let listener = listen()?;
    announce();
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => accept(stream),
            Err(error) => {
                eprintln!("tearless-agent: cannot accept a connection: {error}");
                thread::sleep(DRIVER_PAUSE);
            }
        }
    }
    Ok(())
}

/// The socket driver may be loaded while this runs.
fn listen() -> Outcome<VsockListener> {
    let mut tries = 0;
    loop {
        match VsockListener::bind_with_cid_port(VMADDR_CID_ANY, AGENT_PORT) {
            Ok(listener) => return Ok(listener),
            Err(error) if tries == DRIVER_TRIES || error.kind() == io::ErrorKind::AddrInUse => {
                return Err(error).explain(|| format!("cannot listen at socket port {AGENT_PORT}"));
            }
            Err(_) => thread::sleep(DRIVER_PAUSE),
        }
        tries += 1;
    }
}

/// Tells a host that waits for it. One that does not listen refuses, and that is all right.
fn announce() {
    for _ in 0..DRIVER_TRIES {
        match VsockStream::connect_with_cid_port(VMADDR_CID_HOST, READY_PORT) {
            Ok(mut host) => {
                drop(host.write_all(&hello()));
                return;
            }
            // The driver, which knows the way to the host, is not there yet.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
                thread::sleep(DRIVER_PAUSE);
            }
            Err(_) => return,
        }
    }
}

fn accept(stream: VsockStream) {
    let from_host = stream.peer_addr().is_ok_and(|peer| peer.cid() == VMADDR_CID_HOST);
    if !from_host {
        eprintln!("tearless-agent: refused a connection that does not come from the host");
        return;
    }
    let served = thread::Builder::new()
        .name("connection".to_owned())
        .spawn(move || serve_one(Host::new(OwnedFd::from(stream))));
    if let Err(error) = served {
        eprintln!("tearless-agent: cannot start a thread: {error}");
    }
}

/// Serves the connection that whoever started the agent has accepted.
pub fn serve_stdin() -> Outcome<()> {
    let socket =
        io::stdin().as_fd().try_clone_to_owned().explain(|| "cannot use standard input".to_owned())?;
    serve_one(Host::new(socket));
    Ok(())
}

/// Serves one connection to its end.
fn serve_one(host: Host) {
    let result = converse(&host);
    if let Err(Gone::Failed(failure)) = result {
        // If the host is gone too, nobody needs to hear it.
        drop(host.send(&Reply::Failed(failure)));
    }
}

/// Why a request was not carried out.
pub enum Gone {
    /// The host is to hear why.
    Failed(Failure),
    /// The host went away.
    Host,
}

impl From<Failure> for Gone {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Self {
        Self::Host
    }
}

fn converse(host: &Host) -> Result<(), Gone> {
    {
        let _guard = host.lock();
        host.reader().write_all(&hello())?;
    }
    let version = read_hello(&mut host.reader())?;
    if version != VERSION {
        let what = format!("the host speaks version {version}, this agent {VERSION}");
        let why = "the agent in the guest is of another release than Tearless on the host";
        return Err(failure(FailureKind::Request, what, why).into());
    }
    let request: Request = frame::receive(&mut host.reader())?;
    let reply = match request {
        Request::Exec(exec) => return exec::run(host, &exec),
        Request::Put(put) => copy::put(host, &put)?,
        Request::Get { path } => return copy::get(host, path),
        Request::Read { path } => return copy::read(host, path),
        Request::Write { path } => copy::write(host, path)?,
        Request::Forward { port } => return network::forward(host, port),
        Request::Freeze => return freeze::freeze(host),
        Request::Power(how) => return power::end(host, how),
        Request::Info => Reply::Info(system::info()?),
        Request::Addresses => Reply::Addresses(network::addresses()?),
        Request::Ports => Reply::Ports(network::ports()?),
        Request::SetTime { nanos } => system::set_time(nanos).map(|()| Reply::Done)?,
        Request::Sync => {
            rustix::fs::sync();
            Reply::Done
        }
    };
    Ok(host.send(&reply)?)
}
