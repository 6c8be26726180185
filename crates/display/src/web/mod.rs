//! The screen in a browser: a page on loopback that shows the screen and the console and sends what is typed, pointed at and
//! copied.
//!
//! Whoever knows the token in the page's address may use it. Requests under a name that is no address (a rebound DNS name)
//! and from pages of other origins are refused; so is all that is too long. Each page has a thread that reads what it says
//! and one that sends what it has asked for; a console, if it looks at one, is a third.

mod http;
mod message;
mod session;
#[cfg(test)]
mod tests;

pub use message::{Action, Message};

use std::{
    io,
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{Clipboard, Input, Screen};

/// Most connections at a time: a page takes one for good, and up to three more while it loads.
const MAX_CONNECTIONS: usize = 24;
/// How long the host is left alone when it cannot accept anybody.
const RECOVER: Duration = Duration::from_millis(100);

/// What a page can do with the VM besides looking at its screen.
pub trait Host: Send + Sync {
    /// How the VM is, in a word.
    fn phase(&self) -> String;

    /// Does it. What came of it is shown to the user.
    ///
    /// # Errors
    /// Why it cannot be done, for people.
    fn act(&self, action: Action) -> Result<String, String>;

    /// A stream of what the console says and of what is typed there.
    ///
    /// # Errors
    /// When the host cannot make one.
    fn console(&self) -> io::Result<UnixStream>;
}

/// What a page is about.
pub struct Site {
    /// What is on top of it.
    pub title: String,
    /// What is seen.
    pub screen: Arc<Screen>,
    /// What is typed and pointed at.
    pub input: Arc<Input>,
    /// What is copied, if that is shared.
    pub clipboard: Option<Arc<Clipboard>>,
    /// The VM, if it is one that can be steered.
    pub host: Option<Arc<dyn Host>>,
}

struct Served {
    site: Site,
    token: String,
    connections: AtomicUsize,
}

/// Serves `site` to whoever connects to `listener` and knows the token, for as long as the process lives. Returns the page's
/// address, which has the token.
///
/// # Errors
/// When the host has no randomness or no thread for it.
pub fn serve(listener: TcpListener, site: Site) -> io::Result<String> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    let token: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let at = listener.local_addr()?;
    let url = format!("http://{at}/?token={token}");
    let served = Arc::new(Served { site, token, connections: AtomicUsize::new(0) });
    thread::Builder::new().name("web".to_owned()).spawn(move || {
        loop {
            match listener.accept() {
                Ok((stream, from)) => {
                    tracing::debug!(%from, "a browser comes");
                    welcome(stream, &served);
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a browser");
                    thread::sleep(RECOVER);
                }
            }
        }
    })?;
    Ok(url)
}

fn welcome(stream: TcpStream, served: &Arc<Served>) {
    if served.connections.fetch_add(1, Ordering::AcqRel) >= MAX_CONNECTIONS {
        served.connections.fetch_sub(1, Ordering::AcqRel);
        return tracing::warn!("browsers have {MAX_CONNECTIONS} connections: another one was closed");
    }
    let place = Place(served.clone());
    let started = thread::Builder::new().name("web-page".to_owned()).spawn(move || {
        if let Err(error) = http::answer(stream, &place.0) {
            tracing::debug!(%error, "a browser left");
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "cannot serve a browser");
    }
}

/// Counts a connection for as long as it is there.
struct Place(Arc<Served>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}
