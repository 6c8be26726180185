use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::{ffi::OsStrExt, net::UnixStream},
    path::{Path, PathBuf},
};

use tearless_guest_proto::{
    Put, Reply, Request,
    frame::{self, DataReader, DataWriter, Kind},
    printable,
    tree::{self, Unpack},
};

use crate::{Agent, Error, Result, agent::receive, error::unexpected};

/// Told about bytes on their way: how many of them now, and how many there are in all, if that is known.
pub type Progress<'a> = &'a mut dyn FnMut(u64, Option<u64>);

/// What was copied, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files that were left out: devices and the like, and what could not be read.
    pub skipped: u64,
    /// Why the first of them was.
    pub why: Option<String>,
}

/// Counts what passes through.
struct Counted<'a, S> {
    stream: S,
    total: Option<u64>,
    progress: Progress<'a>,
}

impl<S: Read> Read for Counted<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.stream.read(into)?;
        (self.progress)(len as u64, self.total);
        Ok(len)
    }
}

impl<S: Write> Write for Counted<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.stream.write(bytes)?;
        (self.progress)(len as u64, self.total);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Agent {
    /// Copies the file or folder `from` to `to` in the guest, or into it if that is a folder. What is there if this fails is
    /// said at [`Agent::get`].
    ///
    /// # Errors
    /// When `from` cannot be read, or as [`Agent::info`].
    pub fn put(&self, from: &Path, to: &[u8], progress: Progress<'_>) -> Result<Copied> {
        let local = |error| Error::Local { what: "read", path: from.to_owned(), error };
        let metadata = fs::metadata(from).map_err(local)?;
        if metadata.is_file() {
            // Better now than when the guest's file is gone.
            File::open(from).map_err(local)?;
        }
        // "." and ".." have names too.
        let full = fs::canonicalize(from).map_err(local)?;
        let name = from.file_name().or(full.file_name()).unwrap_or_default();
        let put = Put { path: to.to_owned(), name: name.as_bytes().to_owned(), folder: metadata.is_dir() };
        let (mut stream, reply) = self.open(&Request::Put(put))?;
        expect_ready(&reply)?;
        let total = Some(tree::size(from));
        let mut data = Counted { stream: DataWriter::new(&stream), total, progress };
        let packed = tree::pack(from, &mut data);
        let skipped = match packed {
            Ok(skipped) => skipped,
            // The agent may have given up before, and says why.
            Err(error) if is_gone(&error) => return Err(answer_or(&mut stream, Error::Lost(error))),
            Err(error) => return Err(answer_or(&mut stream, local(error))),
        };
        if let Err(error) = data.stream.finish() {
            return Err(answer_or(&mut stream, Error::Lost(error)));
        }
        match receive(&mut stream)? {
            Reply::Done => Ok(Copied { skipped: skipped.count, why: skipped.why }),
            _ => Err(unexpected("something else")),
        }
    }

    /// Copies the file or folder `from` of the guest to `to`, or into it if that is a folder. Nothing outside of that is
    /// touched, whatever the guest sends. If this fails, a file or folder that would be new is not there, and in a folder that
    /// was there before, each file is as it was or as it should be.
    ///
    /// # Errors
    /// When `to` cannot be written, or as [`Agent::info`].
    pub fn get(&self, from: &[u8], to: &Path, progress: Progress<'_>) -> Result<Copied> {
        let target = if to.is_dir() { to.join(name_of(from)) } else { to.to_owned() };
        // One that the user named may lead elsewhere; one that is only there, a guest may have brought before.
        if target != to && target.is_symlink() && target.is_dir() {
            let why = "a link to another folder has that name";
            let error = io::Error::new(io::ErrorKind::AlreadyExists, why);
            return Err(Error::Local { what: "write", path: target, error });
        }
        let (stream, reply) = self.open(&Request::Get { path: from.to_owned() })?;
        let Reply::Size { bytes } = reply else { return Err(unexpected("something else than a size")) };
        let mut data = Counted { stream: DataReader::new(stream), total: Some(bytes), progress };
        let unpacked = match Unpack::default().unpack(&mut data, &target, |_| {}) {
            Ok(unpacked) => unpacked,
            // What the agent says explains why its data broke off; the rest of the data explains nothing.
            Err(error) => {
                let failure = data.stream.into_message().and_then(|message| frame::decode(&message).ok());
                return Err(match failure {
                    Some(Reply::Failed(failure)) => failure.into(),
                    _ => Error::Local { what: "write", path: target, error },
                });
            }
        };
        let (mut stream, message) = data.stream.finish().map_err(Error::Lost)?;
        let copied = copied(&mut stream, message)?;
        unpacked.place().map_err(|error| Error::Local { what: "write", path: target, error })?;
        Ok(copied)
    }

    /// Writes the content of the guest's file `from` to `to`. The file may be a device or a pipe.
    ///
    /// # Errors
    /// When `to` cannot be written, or as [`Agent::info`].
    pub fn read(&self, from: &[u8], to: &mut dyn Write, progress: Progress<'_>) -> Result<()> {
        let (stream, reply) = self.open(&Request::Read { path: from.to_owned() })?;
        expect_ready(&reply)?;
        let mut data = Counted { stream: DataReader::new(stream), total: None, progress };
        io::copy(&mut data, to).and_then(|_| to.flush()).map_err(local_stream("write"))?;
        let (mut stream, message) = data.stream.finish().map_err(Error::Lost)?;
        copied(&mut stream, message).map(drop)
    }

    /// Makes what `from` gives the content of the guest's file `to`. If this fails, the file is as it was; unless it is a
    /// device, a pipe or the like, or a file that takes no other's place, such as those of procfs.
    ///
    /// # Errors
    /// When `from` cannot be read, or as [`Agent::info`].
    pub fn write(&self, from: &mut dyn Read, to: &[u8], progress: Progress<'_>) -> Result<()> {
        let (mut stream, reply) = self.open(&Request::Write { path: to.to_owned() })?;
        expect_ready(&reply)?;
        let mut buffer = vec![0; frame::MAX];
        loop {
            let len = match from.read(&mut buffer) {
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(local_stream("read")(error)),
            };
            progress(len as u64, None);
            let bytes = buffer.get(..len).unwrap_or_default();
            if let Err(error) = frame::write(&mut stream, Kind::Data, bytes) {
                return Err(answer_or(&mut stream, Error::Lost(error)));
            }
            if len == 0 {
                break;
            }
        }
        match receive(&mut stream)? {
            Reply::Done => Ok(()),
            _ => Err(unexpected("something else")),
        }
    }
}

/// Whether it is the other side that is missing, rather than a file.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn local_stream(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::Local { what, path: PathBuf::from("the stream"), error }
}

fn expect_ready(reply: &Reply) -> Result<()> {
    if *reply == Reply::Ready { Ok(()) } else { Err(unexpected("something else")) }
}

/// The failure that the agent reports, else `error`.
fn answer_or(stream: &mut UnixStream, error: Error) -> Error {
    // Without this the agent would wait for more, and this for the agent.
    drop(stream.shutdown(std::net::Shutdown::Write));
    match receive(stream) {
        Err(Error::Guest(failure)) => failure.into(),
        _ => error,
    }
}

fn copied(stream: &mut UnixStream, message: Option<Vec<u8>>) -> Result<Copied> {
    let reply = match message {
        Some(message) => frame::decode(&message).map_err(Error::Lost)?,
        None => receive(stream)?,
    };
    match reply {
        Reply::Copied { skipped, why } => Ok(Copied { skipped, why: why.as_deref().map(printable) }),
        Reply::Failed(failure) => Err(failure.into()),
        _ => Err(unexpected("something else")),
    }
}

/// What the last part of a guest's path is called.
fn name_of(path: &[u8]) -> PathBuf {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    path.file_name().map_or_else(|| "guest".into(), PathBuf::from)
}
