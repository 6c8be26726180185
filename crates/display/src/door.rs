//! Who is let in: a connection is a stranger's until it has shown that it may be here, and a guest's from then on.

use std::{
    collections::VecDeque,
    io,
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

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
    strangers: Mutex<Strangers>,
    guests: AtomicUsize,
    most_guests: usize,
}

/// Their connections, the oldest first.
#[derive(Default)]
struct Strangers {
    next: u64,
    streams: VecDeque<(u64, TcpStream)>,
}

impl Door {
    /// Has `session` run, in a thread of its own, for each connection to `listener`, for as long as the process lives; at most
    /// `most_guests` of them are let in at a time.
    ///
    /// # Errors
    /// When the host has no thread for it.
    pub fn open(
        listener: TcpListener,
        name: &'static str,
        most_guests: usize,
        session: impl Fn(TcpStream, Stranger) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<()> {
        let door =
            Arc::new(Self { name, strangers: Mutex::default(), guests: AtomicUsize::new(0), most_guests });
        let session = Arc::new(session);
        thread::Builder::new().name(format!("{name}s")).spawn(move || {
            loop {
                match listener.accept() {
                    Ok((stream, from)) => {
                        tracing::debug!(%from, "a {name} comes");
                        if let Err(error) = door.welcome(stream, &session) {
                            tracing::warn!(%error, "cannot serve a {name}");
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "cannot accept a {name}");
                        thread::sleep(RECOVER);
                    }
                }
            }
        })?;
        Ok(())
    }

    fn welcome(
        self: &Arc<Self>,
        stream: TcpStream,
        session: &Arc<impl Fn(TcpStream, Stranger) -> io::Result<()> + Send + Sync + 'static>,
    ) -> io::Result<()> {
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
        let mut strangers = lock(&self.strangers);
        let id = strangers.next;
        strangers.next += 1;
        strangers.streams.push_back((id, stream));
        if strangers.streams.len() > MAX_STRANGERS
            && let Some((_, oldest)) = strangers.streams.pop_front()
        {
            let _ = oldest.shutdown(Shutdown::Both);
        }
        drop(strangers);
        Ok(Stranger { door: self.clone(), id })
    }
}

/// One of them. Dropped when it is gone.
pub(crate) struct Stranger {
    door: Arc<Door>,
    id: u64,
}

impl Stranger {
    /// It has shown that it may be here, and is a guest if there is room.
    pub fn admit(self) -> Option<Guest> {
        let Door { guests, most_guests, .. } = &*self.door;
        let room = guests.fetch_update(Ordering::AcqRel, Ordering::Acquire, |guests| {
            (guests < *most_guests).then_some(guests + 1)
        });
        room.is_ok().then(|| Guest(self.door.clone()))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        lock(&self.door.strangers).streams.retain(|(id, _)| *id != self.id);
    }
}

/// Counted for as long as it is here.
pub(crate) struct Guest(Arc<Door>);

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.guests.fetch_sub(1, Ordering::AcqRel);
    }
}
