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

use std::{io, net::TcpListener, sync::Arc};

use crate::{Clipboard, Input, Screen, door::Door};

/// Most viewers at a time.
const MAX_VIEWERS: usize = 16;

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
    let nudged = screen.clone();
    input.on_lights(Arc::new(move || nudged.nudge()));
    let shown = Shown { screen, input, clipboard, options };
    Door::open(listener, "viewer", MAX_VIEWERS, move |stream, stranger| {
        session::run(stream, &shown, stranger)
    })
    .map(drop)
}
