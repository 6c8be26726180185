//! What a guest shows and what its viewers type.
//!
//! ```text
//!   devices (virtio-gpu)  ──paint──►  Screen  ──changes──►  viewers: VNC, browsers, windows, screenshots
//!   devices (virtio-input) ◄─events──  Input  ◄──seats─────
//!   Agent (spice-vdagent)  ◄──text──►  Clipboard  ◄─text──►
//! ```
//! A [`Screen`] has one writer at a time and any number of viewers, each with its own record of what it has not seen; nobody
//! waits for a viewer. A viewer's wish for another size goes the other way, to whoever drives the screen. Whoever paints
//! may be a device or firmware: the screen does not care.
#![forbid(unsafe_code)]

pub mod agent;
pub mod clipboard;
mod door;
mod geometry;
pub mod input;
pub mod link;
mod picture;
pub mod remote;
mod screen;
pub mod terminal;
pub mod vnc;
pub mod web;

pub use agent::Agent;
pub use clipboard::{Clipboard, Party};
pub use geometry::{Damage, Rect, Size};
pub use input::Input;
pub use picture::{PictureError, png};
pub use screen::{Changes, Cursor, MAX_SIDE, Mode, Poll, Screen, Tile, Viewer};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, and goes on with the data if another thread panicked.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
