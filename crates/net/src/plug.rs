//! An endpoint's thread, and what others tell it: that there is another card, that the guest rang, that it is over.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use mio::{Poll, Token, Waker};

use crate::{Card, Endpoint, NetError, Offloads, lock};

/// An endpoint with a thread that does its work. Dropping it ends the thread, and closes what that has open: when the drop
/// returns, forwarded ports are free.
pub struct Threaded {
    plug: Arc<Plug>,
    thread: Option<JoinHandle<()>>,
    offloads: Offloads,
    mtu: Option<u16>,
}

impl Threaded {
    /// Starts the thread, which has `make` make its work, with a poll that `wake` wakes, and then does that. Its frames may
    /// have `offloads` and are those of an `mtu`.
    ///
    /// # Errors
    /// When the host lacks a resource, or `make` fails.
    pub(crate) fn start<Work: FnOnce()>(
        (offloads, mtu): (Offloads, Option<u16>),
        wake: Token,
        make: impl FnOnce(Poll, Arc<Plug>) -> io::Result<Work> + Send + 'static,
    ) -> Result<Arc<Self>, NetError> {
        let start = || {
            let poll = Poll::new()?;
            let plug = Plug::new(&poll, wake)?;
            let (made, is_made) = mpsc::sync_channel(1);
            let body = {
                let plug = plug.clone();
                move || match make(poll, plug) {
                    Ok(work) => {
                        drop(made.send(Ok(())));
                        work();
                    }
                    Err(error) => drop(made.send(Err(error))),
                }
            };
            let thread = Some(thread::Builder::new().name("net".to_owned()).spawn(body)?);
            let threaded = Arc::new(Self { plug, thread, offloads, mtu });
            is_made.recv().map_err(|_| io::ErrorKind::BrokenPipe)??;
            Ok(threaded)
        };
        start().map_err(|e: io::Error| {
            NetError::new("cannot start the network", e, "close other programs, or use --net none")
        })
    }
}

impl Endpoint for Threaded {
    fn accepts(&self) -> Offloads {
        self.offloads
    }

    fn mtu(&self) -> Option<u16> {
        self.mtu
    }

    fn attach(&self, card: Arc<dyn Card>) {
        self.plug.insert(Some(card));
    }

    fn detach(&self) {
        self.plug.insert(None);
    }

    fn kick(&self) {
        self.plug.kick();
    }

    fn guest(&self) -> Option<Ipv4Addr> {
        let bits = self.plug.guest.load(Ordering::Relaxed);
        (bits != 0).then(|| Ipv4Addr::from_bits(bits))
    }
}

impl Drop for Threaded {
    fn drop(&mut self) {
        self.plug.end();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the network's thread ended with a panic");
        }
    }
}

/// Shared by an endpoint and its thread.
pub(crate) struct Plug {
    pub(crate) waker: Arc<Waker>,
    kicked: AtomicBool,
    ended: AtomicBool,
    /// The card, and whether it is another one than the thread has.
    card: Mutex<(Option<Arc<dyn Card>>, bool)>,
    /// The guest's address, as bits; 0 for none.
    guest: AtomicU32,
}

impl Plug {
    /// Wakes `poll` with `token`.
    fn new(poll: &Poll, token: Token) -> io::Result<Arc<Self>> {
        let waker = Arc::new(Waker::new(poll.registry(), token)?);
        let (kicked, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        let (card, guest) = (Mutex::new((None, false)), AtomicU32::new(0));
        Ok(Arc::new(Self { waker, kicked, ended, card, guest }))
    }

    fn wake(&self) {
        // It cannot fail but by a full counter, and then the thread wakes anyway.
        drop(self.waker.wake());
    }

    fn insert(&self, card: Option<Arc<dyn Card>>) {
        *lock(&self.card) = (card, true);
        // Another guest, which has yet to say who it is.
        self.guest.store(0, Ordering::Relaxed);
        self.wake();
    }

    fn kick(&self) {
        if !self.kicked.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.wake();
    }

    /// The guest says that `address` is its own.
    pub(crate) fn meet(&self, address: Ipv4Addr) {
        self.guest.store(address.to_bits(), Ordering::Relaxed);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The card, if it is another one than last time.
    pub(crate) fn changed(&self) -> Option<Option<Arc<dyn Card>>> {
        let mut slot = lock(&self.card);
        std::mem::take(&mut slot.1).then(|| slot.0.clone())
    }

    /// Whether the guest rang since last time.
    pub(crate) fn was_kicked(&self) -> bool {
        self.kicked.swap(false, Ordering::AcqRel)
    }
}
