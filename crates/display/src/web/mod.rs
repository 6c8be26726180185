//! The screen in a browser: a page on loopback that shows the screen and the console and sends what is typed, pointed at and
//! copied.
//!
//! Whoever knows the token in the page's address may use it. Requests under a name that is no address (a rebound DNS name)
//! and from pages of other origins are refused; so is all that is too long.

mod http;
mod socket;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

pub use http::is_request;

use crate::{
    remote::Site,
    strangers::{Stranger, Strangers},
};

/// Most pages at a time that are open.
const MAX_PAGES: usize = 24;
/// How long the host is left alone when it cannot accept anybody.
const RECOVER: Duration = Duration::from_millis(100);

struct Served {
    site: Site,
    token: String,
    pages: AtomicUsize,
    strangers: Arc<Strangers>,
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
    let served = Arc::new(Served { site, token, pages: AtomicUsize::new(0), strangers: Arc::default() });
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
    let stranger = match served.strangers.greet(&stream) {
        Ok(stranger) => stranger,
        Err(error) => return tracing::warn!(%error, "cannot serve a browser"),
    };
    let guest = Guest { served: served.clone(), _stranger: stranger };
    let started = thread::Builder::new().name("web-page".to_owned()).spawn(move || {
        if let Err(error) = http::answer(stream, guest) {
            tracing::debug!(%error, "a browser left");
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "cannot serve a browser");
    }
}

/// A connection that has not shown the token yet.
struct Guest {
    served: Arc<Served>,
    _stranger: Stranger,
}

impl Guest {
    /// It has shown the token and is a page from now on, if there is room.
    fn admit(self) -> Option<Place> {
        let pages = &self.served.pages;
        let room = pages.fetch_update(Ordering::AcqRel, Ordering::Acquire, |pages| {
            (pages < MAX_PAGES).then_some(pages + 1)
        });
        room.is_ok().then(|| Place(self.served.clone()))
    }
}

/// Counts a page for as long as it is open.
struct Place(Arc<Served>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.pages.fetch_sub(1, Ordering::AcqRel);
    }
}
