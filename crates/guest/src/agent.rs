use std::{
    io::{self, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    time::{SystemTime, UNIX_EPOCH},
};

use tearless_guest_proto::{Address, Exec, Info, Power, Reply, Request, VERSION, frame, hello, read_hello};

use crate::{Error, Result, Session, error::unexpected};

type Connect = Box<dyn Fn() -> io::Result<UnixStream> + Send + Sync>;

/// A guest's agent.
pub struct Agent {
    connect: Connect,
}

/// File systems that stand still as long as this lives, at most for a minute.
pub struct Frozen(UnixStream);

impl Drop for Frozen {
    fn drop(&mut self) {
        // If the connection is gone, they have thawed.
        drop(self.0.shutdown(Shutdown::Both));
    }
}

impl Agent {
    /// The agent that `connect` leads to: it connects with socket port [`AGENT_PORT`](crate::AGENT_PORT) of the guest.
    pub fn new(connect: impl Fn() -> io::Result<UnixStream> + Send + Sync + 'static) -> Self {
        Self { connect: Box::new(connect) }
    }

    /// Sends `request` and returns the connection with the first answer.
    pub(crate) fn open(&self, request: &Request) -> Result<(UnixStream, Reply)> {
        let mut stream = (self.connect)().map_err(Error::Unreachable)?;
        let greeting = stream.write_all(&hello()).and_then(|()| frame::send(&mut stream, request));
        let version = read_hello(&mut stream).map_err(Error::Unreachable)?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        greeting.map_err(Error::Lost)?;
        let reply = receive(&mut stream)?;
        Ok((stream, reply))
    }

    /// Carries out what has one answer.
    fn ask(&self, request: &Request) -> Result<Reply> {
        Ok(self.open(request)?.1)
    }

    fn tell(&self, request: &Request) -> Result<()> {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            _ => Err(unexpected("something else")),
        }
    }

    /// What the guest is.
    ///
    /// # Errors
    /// As all methods: when the agent cannot be reached, is of another release, or fails.
    pub fn info(&self) -> Result<Info> {
        match self.ask(&Request::Info)? {
            Reply::Info(info) => Ok(info),
            _ => Err(unexpected("something else than what it is")),
        }
    }

    /// Runs a program.
    ///
    /// # Errors
    /// As [`Agent::info`]. A program that is not there is no error: it ends with status 127.
    pub fn exec(&self, exec: Exec) -> Result<Session> {
        match self.open(&Request::Exec(exec))? {
            (stream, Reply::Started { pid }) => Session::new(stream, pid),
            _ => Err(unexpected("something else than a program's number")),
        }
    }

    /// The network addresses, those that are good for most first; none of the loopback.
    ///
    /// # Errors
    /// As [`Agent::info`].
    pub fn addresses(&self) -> Result<Vec<Address>> {
        match self.ask(&Request::Addresses)? {
            Reply::Addresses(addresses) => Ok(addresses),
            _ => Err(unexpected("something else than addresses")),
        }
    }

    /// The TCP ports that programs listen at, in ascending order.
    ///
    /// # Errors
    /// As [`Agent::info`].
    pub fn ports(&self) -> Result<Vec<u16>> {
        match self.ask(&Request::Ports)? {
            Reply::Ports(ports) => Ok(ports),
            _ => Err(unexpected("something else than ports")),
        }
    }

    /// Connects with a TCP port of the guest itself, whatever network it has.
    ///
    /// # Errors
    /// As [`Agent::info`].
    pub fn forward(&self, port: u16) -> Result<UnixStream> {
        match self.open(&Request::Forward { port })? {
            (stream, Reply::Done) => Ok(stream),
            _ => Err(unexpected("something else than a connection")),
        }
    }

    /// Has the guest end cleanly. It has only begun to when this returns.
    ///
    /// # Errors
    /// As [`Agent::info`].
    pub fn power(&self, how: Power) -> Result<()> {
        self.tell(&Request::Power(how))
    }

    /// Sets the guest's clock, for example after it was suspended.
    ///
    /// # Errors
    /// As [`Agent::info`].
    pub fn set_time(&self, time: SystemTime) -> Result<()> {
        let nanos = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        self.tell(&Request::SetTime { nanos: u64::try_from(nanos).unwrap_or(u64::MAX) })
    }

    /// Has the guest write everything to its disks.
    ///
    /// # Errors
    /// As [`Agent::info`].
    pub fn sync(&self) -> Result<()> {
        self.tell(&Request::Sync)
    }

    /// Has the guest write everything to its disks and keeps them still until the result is dropped.
    ///
    /// # Errors
    /// As [`Agent::info`].
    pub fn freeze(&self) -> Result<Frozen> {
        match self.open(&Request::Freeze)? {
            (stream, Reply::Done) => Ok(Frozen(stream)),
            _ => Err(unexpected("something else")),
        }
    }
}

/// Reads an answer; a failure is an error.
pub(crate) fn receive(stream: &mut UnixStream) -> Result<Reply> {
    match frame::receive(stream).map_err(Error::Lost)? {
        Reply::Failed(failure) => Err(failure.into()),
        reply => Ok(reply),
    }
}
