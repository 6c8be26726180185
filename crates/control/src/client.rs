//! The side of whoever wants something from a VM.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{Error, Reply, Request, VERSION, line::read_line, place, protocol::Envelope};

/// How long a VM may take to say how it is; one that was stopped by a debugger must not stop a listing of all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Talks to one VM. Each call is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    paths: Vec<PathBuf>,
    name: String,
}

impl Client {
    /// The VM in the folder `bundle`, which errors call `name`.
    pub fn for_bundle(bundle: &Path, name: &str) -> Self {
        Self { paths: place::existing(bundle), name: name.to_owned() }
    }

    /// The VM that listens at `path`, which errors call `name`.
    pub fn at(path: &Path, name: &str) -> Self {
        Self { paths: vec![path.to_owned()], name: name.to_owned() }
    }

    /// Asks and waits for the answer, as long as it takes.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Refused`] with what the VM says, [`Error::Broken`] when it dies meanwhile.
    pub fn call(&self, request: &Request) -> Result<Reply, Error> {
        self.ask(request, None).map(|(reply, _)| reply)
    }

    /// Asks for a stream.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn stream(&self, request: &Request) -> Result<UnixStream, Error> {
        match self.ask(request, None)? {
            (Reply::Stream, stream) => Ok(stream),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Asks for what takes long, and hears how far it is. Returns the last answer.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn follow(&self, request: &Request, mut progress: impl FnMut(u64, u64)) -> Result<Reply, Error> {
        let mut stream = self.stream(request)?;
        loop {
            match hear(&mut stream)? {
                Reply::Progress { done, all } => progress(done, all),
                Reply::Error { message } => return Err(Error::Refused(message)),
                reply => return Ok(reply),
            }
        }
    }

    /// How the VM is.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn state(&self) -> Result<crate::State, Error> {
        match self.ask(&Request::State, Some(PATIENCE))?.0 {
            Reply::State(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    fn ask(&self, request: &Request, patience: Option<Duration>) -> Result<(Reply, UnixStream), Error> {
        let mut stream = self.connect()?;
        let broken = |e: io::Error| Error::Broken(e.to_string());
        stream.set_read_timeout(patience).map_err(broken)?;
        let envelope = Envelope { version: VERSION, request: request.clone() };
        let mut line = serde_json::to_vec(&envelope).map_err(|e| Error::Broken(e.to_string()))?;
        line.push(b'\n');
        stream.write_all(&line).map_err(broken)?;
        match hear(&mut stream)? {
            Reply::Error { message } => Err(Error::Refused(message)),
            reply => Ok((reply, stream)),
        }
    }

    fn connect(&self) -> Result<UnixStream, Error> {
        for path in &self.paths {
            match UnixStream::connect(path) {
                Ok(stream) => return Ok(stream),
                // A crashed VM leaves a socket on which nobody listens.
                Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {}
                Err(source) => {
                    return Err(Error::Socket {
                        doing: "connect to",
                        path: path.display().to_string(),
                        source,
                    });
                }
            }
        }
        Err(Error::NotRunning(self.name.clone()))
    }
}

/// Reads a line with a reply.
pub(crate) fn hear(stream: &mut UnixStream) -> Result<Reply, Error> {
    let line = read_line(stream).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => Error::Broken("it closed the connection".into()),
        io::ErrorKind::WouldBlock => Error::Broken("it does not answer".into()),
        _ => Error::Broken(e.to_string()),
    })?;
    serde_json::from_str(&line).map_err(|e| Error::Broken(e.to_string()))
}

pub(crate) fn unexpected(reply: &Reply) -> Error {
    Error::Broken(format!("it answered something else: {reply:?}"))
}
