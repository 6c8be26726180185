//! The conversation in which a snapshot of a running VM is taken.
//!
//! ```text
//!   client                                        VM process
//!     request: snapshot                     ──►
//!                                           ◄──   disks: what it has open
//!     new layers are written
//!     layer, with open files; any number    ──►
//!     stop                                  ──►   file systems frozen, vCPUs and devices stand still, disks flushed
//!                                           ◄──   progress, while memory is written; still
//!     the configuration names the layers
//!     switch                                ──►   goes on, with the new layers
//!                                           ◄──   switched
//!                                                 memory made durable
//!                                           ◄──   kept
//!     the snapshot is written; end          ──►
//! ```
//! The VM is confined: it can neither change its configuration nor open files that are new. So whoever asks does that, and
//! hands over the files. If either side ends, the other goes on as it was: the VM with the disks that it has, which the
//! new layers have the content of.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    time::Duration,
};

use crate::{
    Client, Error, OpenDisk, Reply, Request, Step,
    client::{hear, unexpected},
    files::{receive, send},
};

pub use crate::files::MAX_FILES;

/// The client's side.
pub struct Taking(UnixStream);

impl Taking {
    /// Begins. Returns also what the VM has open.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn begin(client: &Client, memory: bool) -> Result<(Self, Vec<OpenDisk>), Error> {
        let mut stream = client.stream(&Request::Snapshot { memory })?;
        match answer(&mut stream)? {
            Reply::Disks { disks } => Ok((Self(stream), disks)),
            other => Err(unexpected(&other)),
        }
    }

    /// Hands over the layer that disk `disk` is to have: its files from the top down.
    ///
    /// # Errors
    /// When the VM has gone.
    pub fn layer(&mut self, disk: usize, files: &[(PathBuf, File)]) -> Result<(), Error> {
        let names = files.iter().map(|(path, _)| path.clone()).collect();
        let files: Vec<_> = files.iter().map(|(_, file)| file).collect();
        self.say(&Step::Layer { disk, files: names }, &files)
    }

    /// Has the VM stand still; `progress` hears how much of its memory is written. Returns whether its file systems are
    /// frozen.
    ///
    /// # Errors
    /// When it cannot; then it goes on as it was.
    pub fn stop(&mut self, mut progress: impl FnMut(u64, u64)) -> Result<bool, Error> {
        self.say(&Step::Stop, &[])?;
        loop {
            match answer(&mut self.0)? {
                Reply::Progress { done, all } => progress(done, all),
                Reply::Still { frozen } => return Ok(frozen),
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Has it go on with the new layers.
    ///
    /// # Errors
    /// When it cannot; then it goes on with the old ones.
    pub fn switch(&mut self) -> Result<(), Error> {
        self.say(&Step::Switch, &[])?;
        match answer(&mut self.0)? {
            Reply::Switched => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until the memory is in its place. Returns how much of it was in use, in bytes.
    ///
    /// # Errors
    /// When the host refuses; the VM goes on in any case.
    pub fn kept(&mut self) -> Result<u64, Error> {
        match answer(&mut self.0)? {
            Reply::Kept { bytes } => Ok(bytes),
            other => Err(unexpected(&other)),
        }
    }

    fn say(&mut self, step: &Step, files: &[&File]) -> Result<(), Error> {
        let mut line = serde_json::to_vec(step).map_err(|e| Error::Broken(e.to_string()))?;
        line.push(b'\n');
        let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
        send(&self.0, &line, &files).map_err(|e| Error::Broken(e.to_string()))
    }
}

/// The next reply, if it is no refusal.
fn answer(stream: &mut UnixStream) -> Result<Reply, Error> {
    match hear(stream)? {
        Reply::Error { message } => Err(Error::Refused(message)),
        reply => Ok(reply),
    }
}

/// Hears the next step, for at most `patience`, and the files that come with it.
///
/// # Errors
/// When the client has gone, is too slow, or says what is no step.
pub fn next_step(stream: &UnixStream, patience: Duration) -> io::Result<(Step, Vec<OwnedFd>)> {
    stream.set_read_timeout(Some(patience))?;
    let (line, files) = receive(stream)?;
    Ok((serde_json::from_slice(&line)?, files))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn files_come_with_their_line() {
        let (a, b) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"layer").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let mut taking = Taking(a);
        taking.layer(3, &[("/x".into(), file)]).unwrap();
        taking.say(&Step::Stop, &[]).unwrap();
        let (step, files) = next_step(&b, Duration::from_secs(60)).unwrap();
        assert_eq!(step, Step::Layer { disk: 3, files: vec!["/x".into()] });
        let mut text = String::new();
        File::from(files.into_iter().next().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "layer");
        let (step, files) = next_step(&b, Duration::from_secs(60)).unwrap();
        assert!(step == Step::Stop && files.is_empty());
        taking.0.write_all(b"{\"step\":\"fly\"}\n").unwrap();
        assert!(next_step(&b, Duration::from_secs(60)).is_err());
        drop(taking);
        assert!(next_step(&b, Duration::from_secs(60)).is_err(), "the client has gone");
    }
}
