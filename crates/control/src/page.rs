//! What a VM that has a page and its attendant tell each other, a line of JSON at a time. The attendant is a process beside
//! the VM's which may do what the VM's may not: it takes snapshots, and keeps the page from one run of the VM to the next.
//!
//! ```text
//!   VM process                                         attendant
//!     page, with its socket    ──►                            in the VM's first run, which starts the attendant
//!                              ◄──  page, with its socket     in another one, which finds it ([`crate::place::pages`])
//!     snapshot                 ──►
//!                              ◄──  said
//!     leave                    ──►                            the VM is seen in another way: it ends
//!     end                      ──►                            the VM has ended: it serves the page
//! ```

use std::{
    io,
    net::TcpListener,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
};

use serde::{Deserialize, Serialize};

use crate::files::{receive, send};

/// What one says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// The page, whose listening socket comes with the line.
    Page {
        /// What whoever uses it has to know.
        token: String,
    },
    /// A snapshot is to be taken.
    Snapshot,
    /// What came of it.
    Said {
        /// It was taken.
        done: bool,
        /// For people.
        text: String,
    },
    /// The attendant is to end.
    Leave,
}

/// Says `word`.
///
/// # Errors
/// When the other side has gone.
pub fn say(stream: &UnixStream, word: &Word) -> io::Result<()> {
    send(stream, &line(word)?, &[])
}

/// Hands over the page at `listener`, whose users know `token`.
///
/// # Errors
/// When the other side has gone.
pub fn hand_over(stream: &UnixStream, token: &str, listener: &TcpListener) -> io::Result<()> {
    send(stream, &line(&Word::Page { token: token.to_owned() })?, &[listener.as_fd()])
}

fn line(word: &Word) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    Ok(line)
}

/// Hears a word. What comes with it is dropped.
///
/// # Errors
/// When the other side has gone, is slower than the stream's timeout, or says what is no word.
pub fn hear(stream: &UnixStream) -> io::Result<Word> {
    hear_all(stream).map(|(word, _)| word)
}

/// Takes over a page: its listener, and what its users know.
///
/// # Errors
/// As [`hear`], and when something else comes.
pub fn take_over(stream: &UnixStream) -> io::Result<(TcpListener, String)> {
    match hear_all(stream)? {
        (Word::Page { token }, mut files) if files.len() == 1 => {
            files.pop().map(|fd| (fd.into(), token)).ok_or_else(|| io::ErrorKind::InvalidData.into())
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn hear_all(stream: &UnixStream) -> io::Result<(Word, Vec<OwnedFd>)> {
    let (line, files) = receive(stream)?;
    Ok((serde_json::from_slice(&line)?, files))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_page_goes_from_one_to_the_other() {
        let (mut vm, attendant) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        hand_over(&vm, "secret", &listener).unwrap();
        say(&vm, &Word::Snapshot).unwrap();
        let (other, token) = take_over(&attendant).unwrap();
        assert_eq!((other.local_addr().unwrap(), token), (listener.local_addr().unwrap(), "secret".into()));
        assert_eq!(hear(&attendant).unwrap(), Word::Snapshot);
        // Neither nonsense, nor a page without its socket, nor an end is one.
        say(&vm, &Word::Page { token: String::new() }).unwrap();
        assert!(take_over(&attendant).is_err());
        vm.write_all(b"{}\n").unwrap();
        assert!(hear(&attendant).is_err());
        drop(vm);
        assert_eq!(hear(&attendant).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
