//! The screen in a browser: a page on loopback that shows the screen and the console and sends what is typed, pointed at and
//! copied.
//!
//! Whoever knows the token in the page's address may use it. Requests under a name that is no address (a rebound DNS name)
//! and from pages of other origins are refused; so is all that is too long.

mod http;
mod socket;
#[cfg(test)]
mod tests;

use std::{io, net::TcpListener, sync::Arc};

pub use http::is_request;

pub use crate::door::Opened;
use crate::{door::Door, remote::Site};

/// Most pages at a time that are open.
const MAX_PAGES: usize = 24;

struct Served {
    site: Site,
    token: String,
}

/// Where a page is, and what its address has that nobody can guess.
#[derive(Debug)]
pub struct Place {
    /// What browsers connect to. Several processes may have it, of which one serves it at a time.
    pub listener: TcpListener,
    /// 32 digits, hexadecimal.
    pub token: String,
}

impl Place {
    /// One with a new token.
    ///
    /// # Errors
    /// When the host has no randomness.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        let token = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { listener, token })
    }

    /// The page's address, which has the token.
    ///
    /// # Errors
    /// When the host does not tell where it listens.
    pub fn url(&self) -> io::Result<String> {
        Ok(format!("http://{}/?token={}", self.listener.local_addr()?, self.token))
    }

    /// Another handle of the same place.
    ///
    /// # Errors
    /// When the host has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { listener: self.listener.try_clone()?, token: self.token.clone() })
    }
}

/// Serves `site` to whoever connects to `place` and knows the token, until what is returned is closed.
///
/// # Errors
/// When the host has no thread or descriptor for it.
pub fn serve(place: Place, site: Site) -> io::Result<Opened> {
    let Place { listener, token } = place;
    let served = Arc::new(Served { site, token });
    Door::open(listener, "browser", MAX_PAGES, move |stream, stranger| {
        http::answer(stream, &served, stranger)
    })
}
