//! A stream to another member.
//!
//! Each message comes after its length in four bytes, big-endian. The first says who is at the stream's end: a magic
//! number, the Ethernet address, the last byte of the IPv4 address, the name. All others are frames: the kind of a large
//! frame, whether its checksum is left out, four words (headers, size, start, offset; big-endian), the bytes.

use std::io::{self, Write};

use mio::net::UnixStream;

use super::{member::Identity, stranger};
use crate::{Gso, GsoKind, MAX_FRAME, Offload, PartialChecksum, inbox::Inbox, wire::be16};

const MAGIC: [u8; 8] = *b"tearnet1";
/// The longest name; that of a DNS label.
const NAME: usize = 63;
/// What comes before a frame's bytes.
const HEADER: usize = 10;
/// What waits for a member at most; frames beyond that are lost to it.
const WAITING: usize = 1 << 20;

pub(super) enum Message {
    Hello(Identity),
    Frame(Vec<u8>, Offload),
}

pub(super) struct Peer {
    stream: UnixStream,
    identity: Option<Identity>,
    readable: bool,
    writable: bool,
    input: Inbox,
    /// What is to be sent; `sent` bytes of it are.
    output: Vec<u8>,
    sent: usize,
}

impl Peer {
    /// `own` is told to it first of all.
    pub(super) fn new(stream: UnixStream, own: &Identity) -> Self {
        let mut output = ((MAGIC.len() + 7 + own.name.len().min(NAME)) as u32).to_be_bytes().to_vec();
        output.extend(MAGIC);
        output.extend(own.mac);
        output.push(own.host);
        output.extend(own.name.bytes().take(NAME));
        Self {
            stream,
            identity: None,
            readable: true,
            writable: true,
            input: Inbox::default(),
            output,
            sent: 0,
        }
    }

    /// Who it is, once it has said so.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    pub(super) fn introduce(&mut self, who: Identity) {
        self.identity = Some(who);
    }

    pub(super) fn ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// Sends a frame some time, or loses it.
    pub(super) fn push(&mut self, frame: &[u8], offload: Offload) {
        if self.output.len() - self.sent > WAITING {
            return;
        }
        let (kind, headers, size) = match offload.gso {
            None => (0, 0, 0),
            Some(Gso { kind: GsoKind::Tcp4, size, headers }) => (4, headers, size),
            Some(Gso { kind: GsoKind::Tcp6, size, headers }) => (6, headers, size),
        };
        let (start, offset) = offload.checksum.map_or((0, 0), |c| (c.start, c.offset));
        self.output.extend(((HEADER + frame.len()) as u32).to_be_bytes());
        self.output.extend([kind, u8::from(offload.checksum.is_some())]);
        self.output.extend([headers, size, start, offset].into_iter().flat_map(u16::to_be_bytes));
        self.output.extend(frame);
    }

    /// Sends what waits, as far as that is possible now.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.writable
            && let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty())
        {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        // Moved only when that is less than what was sent.
        if self.sent * 2 >= self.output.len() {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }

    /// The message that is next; it stays until it is consumed.
    pub(super) fn next(&mut self) -> io::Result<Option<Message>> {
        let most = HEADER + MAX_FRAME;
        while self.readable && self.input.message(most)?.is_none() {
            self.readable = self.input.fill(&mut self.stream)?;
        }
        let Some(body) = self.input.message(most)? else { return Ok(None) };
        let message = if self.identity.is_none() { hello(body) } else { frame(body) };
        message.map(Some).ok_or_else(|| stranger("it sent a message that makes no sense"))
    }

    /// Goes on to the next message.
    pub(super) fn consume(&mut self) {
        self.input.consume();
    }
}

fn hello(body: &[u8]) -> Option<Message> {
    let (mac, rest) = body.strip_prefix(&MAGIC)?.split_first_chunk()?;
    let (host, name) = rest.split_first()?;
    let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= NAME)?;
    Some(Message::Hello(Identity { mac: *mac, host: *host, name: name.to_ascii_lowercase() }))
}

fn frame(body: &[u8]) -> Option<Message> {
    let (header, frame) = body.split_at_checked(HEADER)?;
    let (kind, has_checksum) = (*header.first()?, *header.get(1)? != 0);
    let [headers, size, start, offset] = [2, 4, 6, 8].map(|at| be16(header, at).unwrap_or_default());
    let kind = match kind {
        0 => None,
        4 => Some(GsoKind::Tcp4),
        6 => Some(GsoKind::Tcp6),
        _ => return None,
    };
    let gso = kind.map(|kind| Gso { kind, size, headers });
    let checksum = has_checksum.then_some(PartialChecksum { start, offset });
    let fits = |c: PartialChecksum| usize::from(c.start) + usize::from(c.offset) + 2 <= frame.len();
    let is_right = checksum.is_none_or(fits) && gso.is_none_or(|gso| gso.size > 0 && checksum.is_some());
    is_right.then(|| Message::Frame(frame.to_vec(), Offload { checksum, gso }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_written_and_nonsense_is_not() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let own = Identity { mac: [2; 6], host: 20, name: "web".into() };
        let (mut a, mut b) = (Peer::new(ours, &own), Peer::new(theirs, &own));
        let checksum = Some(PartialChecksum { start: 34, offset: 16 });
        let gso = Some(Gso { kind: GsoKind::Tcp6, size: 1440, headers: 74 });
        a.push(&[7; 5000], Offload { checksum, gso });
        a.flush().unwrap();
        let Some(Message::Hello(who)) = b.next().unwrap() else { panic!("no greeting") };
        assert_eq!(who, own);
        b.introduce(who);
        b.consume();
        let Some(Message::Frame(bytes, offload)) = b.next().unwrap() else { panic!("no frame") };
        assert_eq!((bytes, offload), (vec![7; 5000], Offload { checksum, gso }));
        b.consume();
        assert!(b.next().unwrap().is_none());
        drop(a);
        b.ready(true, true);
        assert!(b.next().is_err(), "it has gone");

        for bad in
            [&b""[..], &[1; 12], &[4, 0, 0, 54, 5, 0, 0, 0, 0, 0, 9], &[0, 1, 0, 0, 0, 0, 0, 9, 0, 9, 1]]
        {
            assert!(frame(bad).is_none(), "{bad:?}");
        }
        assert!(hello(b"tearnet0123456789").is_none() && hello(&MAGIC).is_none());
    }

    #[test]
    fn what_waits_for_a_slow_member_is_bounded() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut peer = Peer::new(ours, &Identity { mac: [2; 6], host: 20, name: String::new() });
        for _ in 0..1000 {
            peer.push(&[0; 60_000], Offload::default());
            peer.flush().unwrap();
        }
        assert!(peer.output.len() < 3 * WAITING, "{}", peer.output.len());
    }
}
