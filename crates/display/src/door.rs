//! Who is let in: a connection is a stranger's until it has shown that it may be here, and a guest's from then on.

use std::{
    collections::VecDeque,
    io::{self, Read as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, poll};

use crate::lock;

/// Most strangers at a time. One more ends the oldest: whoever may be here needs a moment only to show it, so the others can keep nobody
/// out.
const MAX_STRANGERS: usize = 16;
/// How long the host is left alone when it cannot accept anybody.
const RECOVER: Duration = Duration::from_millis(100);

/// What leads to one server.
pub(crate) struct Door {
    /// What whoever comes is called.
    name: &'static str,
    most_guests: usize,
    inside: Mutex<Inside>,
}

/// The connections, the oldest first.
#[derive(Default)]
struct Inside {
    next: u64,
    strangers: VecDeque<(u64, TcpStream)>,
    guests: Vec<(u64, TcpStream)>,
}

/// A door that is open: it stays so for as long as the process lives, also when this is dropped, unless it is closed.
pub struct Opened {
    door: Arc<Door>,
    /// Its other end is with the thread, which ends when this does.
    wake: UnixStream,
    thread: JoinHandle<()>,
}

impl Opened {
    /// How many are let in now.
    pub fn guests(&self) -> usize {
        lock(&self.door.inside).guests.len()
    }

    /// Closes it: who is here is sent away, and whoever comes has to wait for somebody else to serve the listener, if it is shared.
    pub fn close(self) {
        let _ = self.wake.shutdown(Shutdown::Write);
        if self.thread.join().is_err() {
            tracing::error!("the {}s' thread ended with a panic", self.door.name);
        }
        let inside = lock(&self.door.inside);
        let all = inside.strangers.iter().chain(&inside.guests);
        all.for_each(|(_, stream)| _ = stream.shutdown(Shutdown::Both));
    }
}

impl Door {
    /// Has `session` run, in a thread of its own, for each connection to `listener`; at most `most_guests` of them are let in at a
    /// time.
    ///
    /// # Errors
    /// When the host has no thread or descriptor for it.
    pub fn open(
        listener: TcpListener,
        name: &'static str,
        most_guests: usize,
        session: impl Fn(TcpStream, Stranger) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<Opened> {
        // Another process may have it, too, and be quicker.
        listener.set_nonblocking(true)?;
        let door = Arc::new(Self { name, most_guests, inside: Mutex::default() });
        let (wake, mut woken) = UnixStream::pair()?;
        let kept = wake.try_clone()?;
        let (session, theirs) = (Arc::new(session), door.clone());
        let thread = thread::Builder::new().name(format!("{name}s")).spawn(move || {
            // Held here, so that an end is heard only of who closes the door.
            let _kept = kept;
            while await_somebody(&listener, &mut woken) {
                match listener.accept() {
                    Ok((stream, from)) => {
                        tracing::debug!(%from, "a {name} comes");
                        if let Err(error) = theirs.welcome(stream, &session) {
                            tracing::warn!(%error, "cannot serve a {name}");
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => {
                        tracing::debug!(%error, "cannot accept a {name}");
                        thread::sleep(RECOVER);
                    }
                }
            }
        })?;
        Ok(Opened { door, wake, thread })
    }

    fn welcome(
        self: &Arc<Self>,
        stream: TcpStream,
        session: &Arc<impl Fn(TcpStream, Stranger) -> io::Result<()> + Send + Sync + 'static>,
    ) -> io::Result<()> {
        // Some hosts hand that on from the listener.
        stream.set_nonblocking(false)?;
        let stranger = self.greet(&stream)?;
        let (name, session) = (self.name, session.clone());
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(error) = session(stream, stranger) {
                tracing::debug!(%error, "a {name} left");
            }
        })?;
        Ok(())
    }

    /// Takes a stranger in, and ends the oldest if there are too many.
    fn greet(self: &Arc<Self>, stream: &TcpStream) -> io::Result<Stranger> {
        let stream = stream.try_clone()?;
        let mut inside = lock(&self.inside);
        let id = inside.next;
        inside.next += 1;
        inside.strangers.push_back((id, stream));
        if inside.strangers.len() > MAX_STRANGERS
            && let Some((_, oldest)) = inside.strangers.pop_front()
        {
            let _ = oldest.shutdown(Shutdown::Both);
        }
        drop(inside);
        Ok(Stranger { door: self.clone(), id })
    }
}

/// Waits for a connection; `false` when the door is to be closed.
fn await_somebody(listener: &TcpListener, woken: &mut UnixStream) -> bool {
    let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(&*woken, PollFlags::IN)];
    if let Err(error) = poll(&mut fds, None) {
        tracing::debug!(%error, "cannot wait for connections");
        thread::sleep(RECOVER);
        return true;
    }
    let [_, wake] = &fds;
    wake.revents().is_empty() || !matches!(woken.read(&mut [0]), Ok(0))
}

/// One of them. Dropped when it is gone.
pub(crate) struct Stranger {
    door: Arc<Door>,
    id: u64,
}

impl Stranger {
    /// It has shown that it may be here, and is a guest if there is room.
    pub fn admit(self) -> Option<Guest> {
        let Inside { strangers, guests, .. } = &mut *lock(&self.door.inside);
        if guests.len() >= self.door.most_guests {
            return None;
        }
        let at = strangers.iter().position(|(id, _)| *id == self.id)?;
        guests.extend(strangers.remove(at));
        Some(Guest { door: self.door.clone(), id: self.id })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        lock(&self.door.inside).strangers.retain(|(id, _)| *id != self.id);
    }
}

/// Counted for as long as it is here.
pub(crate) struct Guest {
    door: Arc<Door>,
    id: u64,
}

impl Drop for Guest {
    fn drop(&mut self) {
        lock(&self.door.inside).guests.retain(|(id, _)| *id != self.id);
    }
}
