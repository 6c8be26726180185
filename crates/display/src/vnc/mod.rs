//! A VNC server: RFB 3.8 (RFC 6143), with Tight and ZRLE, pointers drawn by the viewer, sizes that the viewer may choose, and key codes instead
//! of symbols where the viewer has them.
//!
//! Each viewer has two threads: one reads what it says, one sends what it has asked for. Viewers are strangers: what they send
//! is checked, what they may have us keep is bounded.

mod clipboard;
mod keys;
mod message;
mod pixels;
mod session;
#[cfg(test)]
mod tests;
mod tight;
mod update;

pub use clipboard::Extended;
pub use keys::character;
pub use message::Message;
pub use pixels::PixelFormat;

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

use crate::{Clipboard, Input, Screen, strangers::Strangers};

/// Most viewers at a time.
const MAX_VIEWERS: usize = 16;
/// How long the host is left alone when it cannot accept anybody.
const RECOVER: Duration = Duration::from_millis(100);

/// How viewers are let in.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What they must know; its first 8 bytes count.
    pub password: Option<String>,
}

/// What a session is about.
struct Shown {
    screen: Arc<Screen>,
    input: Arc<Input>,
    clipboard: Option<Arc<Clipboard>>,
    options: Options,
    viewers: AtomicUsize,
    strangers: Arc<Strangers>,
}

/// Serves `screen` and `input`, and the text of `clipboard` if they share one, to whoever connects to `listener`, for as
/// long as the process lives.
///
/// # Errors
/// When the host has no thread for it.
pub fn serve(
    listener: TcpListener,
    screen: Arc<Screen>,
    input: Arc<Input>,
    clipboard: Option<Arc<Clipboard>>,
    options: Options,
) -> io::Result<()> {
    let shown = Arc::new(Shown {
        screen,
        input,
        clipboard,
        options,
        viewers: AtomicUsize::new(0),
        strangers: Arc::default(),
    });
    thread::Builder::new().name("vnc".to_owned()).spawn(move || {
        loop {
            match listener.accept() {
                Ok((stream, from)) => {
                    tracing::debug!(%from, "a viewer comes");
                    welcome(stream, &shown);
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a viewer");
                    thread::sleep(RECOVER);
                }
            }
        }
    })?;
    Ok(())
}

fn welcome(stream: TcpStream, shown: &Arc<Shown>) {
    let stranger = match shown.strangers.greet(&stream) {
        Ok(stranger) => stranger,
        Err(error) => return tracing::warn!(%error, "cannot serve a viewer"),
    };
    let shown = shown.clone();
    let started = thread::Builder::new().name("vnc-viewer".to_owned()).spawn(move || {
        if let Err(error) = session::run(stream, &shown, stranger) {
            tracing::debug!(%error, "a viewer left");
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "cannot serve a viewer");
    }
}

/// Counts a viewer for as long as it is there.
struct Guest(Arc<Shown>);

impl Guest {
    /// One more, if there is room.
    fn admit(shown: &Arc<Shown>) -> Option<Self> {
        let room = shown.viewers.fetch_update(Ordering::AcqRel, Ordering::Acquire, |viewers| {
            (viewers < MAX_VIEWERS).then_some(viewers + 1)
        });
        room.is_ok().then(|| Self(shown.clone()))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::AcqRel);
    }
}
