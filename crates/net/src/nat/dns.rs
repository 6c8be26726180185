//! The name server that the guest sees: it passes questions on to the host's name servers, unread but for their header and
//! name, and answers for the host itself.
//!
//! Where the host has no list of name servers, addresses are looked up with the host's own function, on a thread.

use std::{
    collections::VecDeque,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use mio::{Interest, Registry, Waker, net::UdpSocket};

use super::{Addresses, mesh::Mesh, port::Port, table::Table, token, udp};
use crate::wire::be16;

pub(super) const PORT: u16 = 53;
/// What names of ours end in; the host's is `host`.
const DOMAIN: &str = ".tearless.internal";
const HOST: &str = "host";
/// Questions under way. Each is a socket, so that answers are hard to forge.
const QUESTIONS: usize = 128;
/// After so long the next name server is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often name servers are asked, all together, before the guest is told that it failed.
const TRIES: usize = 4;
/// A name server's longest answer over UDP.
const ANSWER: usize = 65536;
/// How often the host's configuration may be read.
const FRESH: Duration = Duration::from_secs(5);
/// How long guests may keep answers of our own.
const TTL: u32 = 60;

mod rcode {
    pub(super) const NOERROR: u8 = 0;
    pub(super) const SERVFAIL: u8 = 2;
    pub(super) const NXDOMAIN: u8 = 3;
    pub(super) const NOTIMP: u8 = 4;
    pub(super) const REFUSED: u8 = 5;
}

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// The host's name servers, read again when they may have changed.
pub(super) struct Resolvers {
    path: std::path::PathBuf,
    servers: Vec<IpAddr>,
    read: Option<Instant>,
}

impl Resolvers {
    pub(super) fn new(path: std::path::PathBuf) -> Self {
        Self { path, servers: Vec::new(), read: None }
    }

    pub(super) fn get(&mut self, now: Instant) -> &[IpAddr] {
        if self.read.is_none_or(|read| now.duration_since(read) >= FRESH) {
            self.read = Some(now);
            // While it is being replaced, what was there before still holds.
            if let Ok(text) = fs::read_to_string(&self.path) {
                self.servers = parse_servers(&text);
            }
        }
        &self.servers
    }
}

/// The `nameserver` lines of `resolv.conf`. Addresses with a zone are left out: they need an interface.
fn parse_servers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    lines.filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).collect()
}

struct Question {
    /// Who asked, and at which of our addresses.
    guest: (IpAddr, u16),
    at: IpAddr,
    id: u16,
    bytes: Vec<u8>,
    socket: UdpSocket,
    tries: usize,
    deadline: Instant,
}

/// A question for the host's own function.
struct Lookup {
    guest: (IpAddr, u16),
    at: IpAddr,
    question: Vec<u8>,
    name: String,
    kind: u16,
}

type Answer = ((IpAddr, u16), IpAddr, Vec<u8>);

/// The name server.
pub(super) struct Dns {
    pub(super) resolvers: Resolvers,
    questions: Table<Question>,
    /// Questions whose sockets have something, in turn.
    ready: VecDeque<usize>,
    buffer: Vec<u8>,
    waker: Arc<Waker>,
    helper: Option<(SyncSender<Lookup>, Receiver<Answer>)>,
}

/// The names that are ours to answer for, and whether there are others.
pub(super) struct Zone<'a> {
    pub(super) addresses: &'a Addresses,
    /// The named network, where there is one.
    pub(super) mesh: Option<&'a Mesh>,
    /// Whether the guest may have other names looked up.
    pub(super) permitted: bool,
}

/// What our own names say.
enum Own {
    Addresses(Ipv4Addr, Option<Ipv6Addr>),
    NoSuchName,
}

impl Zone<'_> {
    /// `None` when the name is not ours. A guest finds others of its named network also without the domain.
    fn find(&self, name: &str) -> Option<Own> {
        let label = name.strip_suffix(DOMAIN);
        if label == Some(HOST) {
            return Some(Own::Addresses(self.addresses.gateway, Some(self.addresses.gateway6)));
        }
        let found = self.mesh.and_then(|mesh| mesh.find(label.unwrap_or(name)));
        match (found, label) {
            (Some(address), _) => Some(Own::Addresses(address, None)),
            (None, Some(_)) => Some(Own::NoSuchName),
            (None, None) => None,
        }
    }
}

/// What a guest asks.
struct Query<'a> {
    bytes: &'a [u8],
    name: String,
    kind: u16,
    /// Where the question ends.
    end: usize,
}

impl<'a> Query<'a> {
    /// Reads the header and the first question of a standard query.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let flags = be16(bytes, 2)?;
        if flags & 0x8000 != 0 || be16(bytes, 4)? != 1 {
            return None;
        }
        let mut name = String::new();
        let mut at = 12;
        loop {
            let len = usize::from(*bytes.get(at)?);
            at += 1;
            if len == 0 {
                break;
            }
            let label = bytes.get(at..at + len).filter(|_| len < 64 && name.len() < 255)?;
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
            at += len;
        }
        Some(Self { bytes, name, kind: be16(bytes, at)?, end: at + 4 }).filter(|q| q.end <= bytes.len())
    }

    /// An answer of our own.
    fn answer(&self, code: u8, addresses: &[IpAddr]) -> Vec<u8> {
        let question = self.bytes.get(12..self.end).unwrap_or_default();
        let recursion = self.bytes.get(2).map_or(0, |b| b & 1);
        let mut out = self.bytes.get(..2).unwrap_or_default().to_vec();
        out.extend([0x80 | recursion, 0x80 | code, 0, 1]);
        out.extend((addresses.len() as u16).to_be_bytes());
        out.extend([0; 4]);
        out.extend(question);
        for address in addresses {
            // The name is that of the question, at byte 12.
            out.extend([0xc0, 12]);
            let (kind, octets) = match address {
                IpAddr::V4(v4) => (TYPE_A, v4.octets().to_vec()),
                IpAddr::V6(v6) => (TYPE_AAAA, v6.octets().to_vec()),
            };
            out.extend(kind.to_be_bytes());
            out.extend([0, 1]);
            out.extend(TTL.to_be_bytes());
            out.extend((octets.len() as u16).to_be_bytes());
            out.extend(octets);
        }
        out
    }
}

impl Dns {
    pub(super) fn new(resolvers: Resolvers, waker: Arc<Waker>) -> Self {
        let (questions, ready) = (Table::default(), VecDeque::new());
        Self { resolvers, questions, ready, buffer: vec![0; ANSWER], waker, helper: None }
    }

    pub(super) fn clear(&mut self) {
        self.questions.clear();
        self.ready.clear();
    }

    /// A question of the guest's, sent to our address `at`.
    pub(super) fn ask(
        &mut self,
        (guest, at): ((IpAddr, u16), IpAddr),
        bytes: &[u8],
        zone: &Zone<'_>,
        (registry, port, now): (&Registry, &mut Port, Instant),
    ) {
        let Some(query) = Query::parse(bytes) else { return };
        let mut answer =
            |code, found: &[IpAddr]| port.send_udp((at, PORT), guest, &query.answer(code, found));
        match zone.find(&query.name) {
            Some(Own::Addresses(v4, v6)) => {
                let found = match query.kind {
                    TYPE_A => Some(v4.into()),
                    TYPE_AAAA => v6.map(Into::into),
                    _ => None,
                };
                return answer(rcode::NOERROR, found.as_slice());
            }
            Some(Own::NoSuchName) => return answer(rcode::NXDOMAIN, &[]),
            None => {}
        }
        if !zone.permitted {
            return answer(rcode::REFUSED, &[]);
        }
        if self.resolvers.get(now).is_empty() {
            if let Some(code) = self.look_up(&query, guest, at) {
                answer(code, &[]);
            }
            return;
        }
        if self.questions.len() >= QUESTIONS {
            return answer(rcode::SERVFAIL, &[]);
        }
        let index = self.questions.next_index();
        match self.open(0, index, registry) {
            Ok(socket) => {
                // A name server that is not there shows at the deadline.
                drop(socket.send(bytes));
                let id = be16(bytes, 0).unwrap_or_default();
                let (bytes, deadline) = (bytes.to_vec(), now + PATIENCE);
                self.questions.insert(Question { guest, at, id, bytes, socket, tries: 1, deadline });
            }
            Err(_) => answer(rcode::SERVFAIL, &[]),
        }
    }

    fn open(&self, tries: usize, index: usize, registry: &Registry) -> io::Result<UdpSocket> {
        let servers = &self.resolvers.servers;
        let server = servers.get(tries % servers.len().max(1)).ok_or(io::ErrorKind::NotFound)?;
        let mut socket = udp::connected_socket(SocketAddr::new(*server, PORT))?;
        registry.register(&mut socket, token(token::DNS, index), Interest::READABLE)?;
        Ok(socket)
    }

    /// Has the host's own function look a name up. A code when that cannot be.
    fn look_up(&mut self, query: &Query<'_>, guest: (IpAddr, u16), at: IpAddr) -> Option<u8> {
        if !matches!(query.kind, TYPE_A | TYPE_AAAA) {
            return Some(rcode::NOTIMP);
        }
        if self.helper.is_none() {
            self.helper = start_helper(self.waker.clone()).ok();
        }
        let question = query.bytes.get(..query.end).unwrap_or_default().to_vec();
        let lookup = Lookup { guest, at, question, name: query.name.clone(), kind: query.kind };
        match self.helper.as_ref().map(|(ask, _)| ask.try_send(lookup)) {
            Some(Ok(())) => None,
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => Some(rcode::SERVFAIL),
        }
    }

    /// The poll says that an answer may have come.
    pub(super) fn ready(&mut self, index: usize) {
        // A name server that talks without end while the guest takes nothing shall not cost memory.
        if !self.ready.contains(&index) {
            self.ready.push_back(index);
        }
    }

    /// Passes answers on to the guest.
    pub(super) fn work(&mut self, port: &mut Port) {
        while port.is_open()
            && let Some(index) = self.ready.pop_front()
        {
            let Some(question) = self.questions.get_mut(index) else { continue };
            let Ok(len) = question.socket.recv(&mut self.buffer) else { continue };
            let answer = self.buffer.get(..len).unwrap_or_default();
            if be16(answer, 0) != Some(question.id) || answer.get(2).is_none_or(|flags| flags & 0x80 == 0) {
                // Nothing of ours; the real one may follow.
                self.ready.push_back(index);
                continue;
            }
            port.send_udp((question.at, PORT), question.guest, answer);
            self.questions.remove(index);
        }
        while port.is_open()
            && let Some((_, answers)) = &self.helper
            && let Ok((guest, at, answer)) = answers.try_recv()
        {
            port.send_udp((at, PORT), guest, &answer);
        }
    }

    /// Asks the next name server where one is silent. Returns whether any question is left.
    pub(super) fn tick(&mut self, (registry, port, now): (&Registry, &mut Port, Instant)) -> bool {
        let late = self.questions.iter().filter(|(_, question)| now >= question.deadline);
        let late: Vec<_> = late.map(|(index, _)| index).collect();
        for index in late {
            let Some(question) = self.questions.get_mut(index) else { continue };
            let tries = question.tries;
            let next = if tries < TRIES {
                self.open(tries, index, registry)
            } else {
                Err(io::ErrorKind::TimedOut.into())
            };
            let Some(question) = self.questions.get_mut(index) else { continue };
            if let Ok(socket) = next {
                drop(socket.send(&question.bytes));
                question.socket = socket;
                question.tries += 1;
                question.deadline = now + PATIENCE;
                continue;
            }
            if let Some(query) = Query::parse(&question.bytes) {
                port.send_udp((question.at, PORT), question.guest, &query.answer(rcode::SERVFAIL, &[]));
            }
            self.questions.remove(index);
        }
        self.questions.len() > 0
    }
}

fn start_helper(waker: Arc<Waker>) -> io::Result<(SyncSender<Lookup>, Receiver<Answer>)> {
    let (ask, questions) = sync_channel::<Lookup>(QUESTIONS);
    let (tell, answers) = sync_channel(QUESTIONS);
    thread::Builder::new().name("names".to_owned()).spawn(move || {
        for lookup in questions {
            if tell.send((lookup.guest, lookup.at, resolve(&lookup))).is_err() || waker.wake().is_err() {
                break;
            }
        }
    })?;
    Ok((ask, answers))
}

fn resolve(lookup: &Lookup) -> Vec<u8> {
    let Some(query) = Query::parse(&lookup.question) else { return Vec::new() };
    match (lookup.name.as_str(), 0).to_socket_addrs() {
        Ok(found) => {
            let wanted = found.map(|a| a.ip()).filter(|a| a.is_ipv4() == (lookup.kind == TYPE_A));
            let mut addresses: Vec<_> = wanted.take(16).collect();
            addresses.dedup();
            query.answer(rcode::NOERROR, &addresses)
        }
        Err(_) => query.answer(rcode::NXDOMAIN, &[]),
    }
}

/// Where a TCP connection to our name server goes.
pub(super) fn tcp_target(servers: &[IpAddr]) -> Option<SocketAddr> {
    servers.first().map(|server| SocketAddr::new(*server, PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend(label.bytes());
        }
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes
    }

    #[test]
    fn questions_are_read_and_answered() {
        let bytes = question("Host.Example", TYPE_A);
        let query = Query::parse(&bytes).unwrap();
        assert_eq!((query.name.as_str(), query.kind, query.end), ("host.example", TYPE_A, bytes.len()));
        let answer = query.answer(rcode::NOERROR, &[Ipv4Addr::new(192, 0, 2, 1).into()]);
        assert_eq!(answer[..8], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1]);
        assert_eq!(answer[answer.len() - 6..], [0, 4, 192, 0, 2, 1]);
        for len in 0..bytes.len() {
            assert!(Query::parse(&bytes[..len]).is_none(), "{len}");
        }
        let mut compressed = bytes.clone();
        compressed[12] = 0xc0;
        assert!(Query::parse(&compressed).is_none());
    }

    #[test]
    fn what_waits_for_the_guest_is_bounded() {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let mut dns = Dns::new(Resolvers::new("/nonexistent".into()), waker);
        (0..1000).for_each(|i| dns.ready(i % 2));
        assert_eq!(dns.ready, [0, 1]);
    }

    #[test]
    fn name_servers_are_found() {
        let text = "# x\nnameserver 192.0.2.53\n nameserver\t::1 # y\nnameserver fe80::1%eth0\nsearch a\nnameserver\n";
        assert_eq!(parse_servers(text), ["192.0.2.53".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
    }
}
