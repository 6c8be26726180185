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

use crate::{door::Door, remote::Site};

/// Most pages at a time that are open.
const MAX_PAGES: usize = 24;

struct Served {
    site: Site,
    token: String,
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
    let served = Arc::new(Served { site, token });
    Door::open(listener, "browser", MAX_PAGES, move |stream, stranger| {
        http::answer(stream, &served, stranger)
    })?;
    Ok(url)
}
