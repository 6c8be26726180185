//! Ports of the host that lead to ports of the guest by way of its agent, whatever network it has.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tearless_guest::Agent;

/// Connections at a time; further ones are closed at once.
const MAX_CONNECTIONS: usize = 200;
/// How long a listener that fails waits: connections that end give descriptors back.
const RECOVER: Duration = Duration::from_secs(2);
/// Ports that are forwarded by themselves at a time: each is a thread and a descriptor, and a guest may listen at 65535.
const MAX_PORTS: usize = 64;
/// Where a port goes that the host does not give under its own number: so much higher, or twice as much, and so on.
const STEP: u16 = 10_000;

/// Makes forwards, which have a number of connections together.
#[derive(Clone)]
pub struct Forwarder {
    agent: Arc<Agent>,
    active: Arc<AtomicUsize>,
}

/// A port of the host that is listened at as long as this lives. Its connections outlive it.
pub struct Forward {
    stopped: Arc<AtomicBool>,
    at: SocketAddr,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // Wakes the thread that waits for connections; if it is gone already, there is nobody to wake.
        drop(TcpStream::connect(self.at));
    }
}

impl Forwarder {
    /// For the guest of `agent`.
    pub fn new(agent: Arc<Agent>) -> Self {
        Self { agent, active: Arc::default() }
    }

    /// Listens at `at` for connections to the guest's port `port`.
    ///
    /// # Errors
    /// When the host does not give the port, or a thread.
    pub fn listen(&self, at: SocketAddr, port: u16) -> io::Result<Forward> {
        let listener = TcpListener::bind(at)?;
        let stopped = Arc::new(AtomicBool::new(false));
        let forward = Forward { stopped: stopped.clone(), at };
        let forwarder = self.clone();
        thread::Builder::new()
            .name("forward".into())
            .spawn(move || forwarder.accept(&listener, port, &stopped))?;
        Ok(forward)
    }

    fn accept(&self, listener: &TcpListener, port: u16, stopped: &AtomicBool) {
        for stream in listener.incoming() {
            if stopped.load(Ordering::Acquire) {
                return;
            }
            let Ok(stream) = stream else {
                thread::sleep(RECOVER);
                continue;
            };
            let Some(slot) = Slot::take(&self.active) else { continue };
            let agent = self.agent.clone();
            let spawned = thread::Builder::new().name("forwarded".into()).spawn(move || {
                let _slot = slot;
                if let Err(error) = connect(&stream, port, &agent) {
                    tracing::info!(port, %error, "a forwarded connection failed");
                }
            });
            if let Err(error) = spawned {
                tracing::warn!(port, %error, "cannot start a thread for a forwarded connection");
            }
        }
    }
}

/// One of the connections that there may be.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(active: &Arc<AtomicUsize>) -> Option<Self> {
        let more = |now: usize| (now < MAX_CONNECTIONS).then_some(now + 1);
        active.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Self(active.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn connect(client: &TcpStream, port: u16, agent: &Agent) -> Result<(), tearless_guest::Error> {
    client.set_nodelay(true).map_err(tearless_guest::Error::Lost)?;
    let guest = agent.forward(port)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            // Either side may go away at any time: that is the end of its half.
            drop(io::copy(&mut &*client, &mut &guest));
            drop(guest.shutdown(Shutdown::Write));
        });
        let mut from: &UnixStream = &guest;
        drop(io::copy(&mut from.by_ref(), &mut &*client));
        drop(client.shutdown(Shutdown::Write));
    });
    Ok(())
}

/// Forwards of whatever a guest listens at, under the same number at 127.0.0.1 where the host gives it, else under one
/// that is a multiple of 10000 higher. Clones share.
#[derive(Clone, Default)]
pub struct Listening(Arc<Mutex<Table>>);

/// By the guest's port; `None` where the host gave no port, which is said once.
type Table = BTreeMap<u16, Option<Forward>>;

impl Listening {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The forwards that there are: where on the host, and to which port.
    pub fn list(&self) -> Vec<(SocketAddr, u16)> {
        self.table().iter().filter_map(|(port, forward)| Some((forward.as_ref()?.at, *port))).collect()
    }

    /// The guest listens at `ports` now. Those that it left are closed, new ones are forwarded by `listen`.
    pub fn update(&self, ports: &[u16], listen: impl Fn(SocketAddr, u16) -> io::Result<Forward>) {
        let mut table = self.table();
        table.retain(|port, _| ports.contains(port));
        for &port in ports {
            if table.contains_key(&port) {
                continue;
            }
            if table.len() == MAX_PORTS {
                tracing::debug!(port, "not forwarded: there are {MAX_PORTS} forwarded ports already");
                break;
            }
            let local = |number| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), number);
            let forward = candidates(port).find_map(|number| listen(local(number), port).ok());
            match &forward {
                Some(forward) => tracing::info!(at = %forward.at, port, "the guest listens: forwarded"),
                None => tracing::warn!(port, "the guest listens, but the host gives no port for it"),
            }
            table.insert(port, forward);
        }
    }
}

/// Numbers for the guest's port `port` on the host.
fn candidates(port: u16) -> impl Iterator<Item = u16> {
    std::iter::successors(Some(port), |number| number.checked_add(STEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> Forwarder {
        Forwarder::new(Arc::new(Agent::new(|| Err(io::ErrorKind::NotConnected.into()))))
    }

    #[test]
    fn ports_come_and_go_with_their_listeners() {
        let (listening, forwarder) = (Listening::default(), nobody());
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let tried = Mutex::new(Vec::new());
        // The host gives any port but for the first.
        let listen = |at: SocketAddr, guest| {
            tried.lock().unwrap().push((at.port(), guest));
            if at.port() == 80 {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            Ok(Forward { stopped: Arc::default(), at })
        };
        listening.update(&[80, 5000], listen);
        let at = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        assert_eq!(listening.list(), [(at(10_080), 80), (at(5000), 5000)]);
        listening.update(&[80, 5000], listen);
        assert_eq!(*tried.lock().unwrap(), [(80, 80), (10_080, 80), (5000, 5000)]);
        listening.update(&[5000], listen);
        assert_eq!(listening.list(), [(at(5000), 5000)]);
        listening.update(&[], listen);
        assert_eq!(listening.list(), []);

        // With real ports: one that is in use goes elsewhere, or nowhere.
        listening.update(&[port], |at, guest| forwarder.listen(at, guest));
        assert!(listening.list().iter().all(|(at, guest)| *guest == port && at.port() != port));
    }

    #[test]
    fn a_guest_cannot_have_all_ports() {
        let listening = Listening::default();
        let ports: Vec<_> = (1..=u16::MAX).collect();
        listening.update(&ports, |_, _| Err(io::ErrorKind::AddrInUse.into()));
        assert_eq!(listening.table().len(), MAX_PORTS);
        assert_eq!(listening.list(), []);
    }

    #[test]
    fn numbers_stay_numbers() {
        assert_eq!(candidates(22).take(3).collect::<Vec<_>>(), [22, 10_022, 20_022]);
        assert_eq!(candidates(60_000).collect::<Vec<_>>(), [60_000]);
    }

    #[test]
    fn connections_are_limited() {
        let active = Arc::new(AtomicUsize::new(MAX_CONNECTIONS - 1));
        let last = Slot::take(&active);
        assert!(last.is_some() && Slot::take(&active).is_none());
        drop(last);
        assert!(Slot::take(&active).is_some());
    }
}
