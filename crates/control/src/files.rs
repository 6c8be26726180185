//! Lines that open files come with.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::{
    io::FdFlags,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
};

use crate::protocol::MAX_LINE;

/// The most files that come with one line: a layer and what it builds on.
pub const MAX_FILES: usize = 128;

/// Receives a line, without its end, and the files that come with it.
pub(crate) fn receive(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut line, mut files) = (Vec::new(), Vec::new());
    loop {
        let mut byte = [0];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let got = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::empty());
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                // No program that is started meanwhile shall have them.
                for fd in fds {
                    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
                    files.push(fd);
                }
            }
        }
        match got {
            Ok(got) if got.bytes == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) if byte == *b"\n" => return Ok((line, files)),
            Ok(_) if line.len() == MAX_LINE || files.len() > MAX_FILES => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
            }
            Ok(_) => line.extend(byte),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends `line`, which has its end, with `files`.
pub(crate) fn send(stream: &UnixStream, line: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    if files.len() > MAX_FILES || line.len() > MAX_LINE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "that is too much for one line"));
    }
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut sent = 0;
    while let Some(rest) = line.get(sent..).filter(|rest| !rest.is_empty()) {
        let mut control = SendAncillaryBuffer::new(&mut room);
        // With the first byte only.
        if sent == 0 && !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match sendmsg(stream, &[IoSlice::new(rest)], &mut control, SendFlags::empty()) {
            Ok(len) => sent += len,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
