//! All keys for the window, on X11: also those that the desktop has a use for.

use std::{sync::Arc, thread};

use winit::{
    raw_window_handle::{HasWindowHandle, RawWindowHandle},
    window::Window,
};
use x11rb::{
    CURRENT_TIME,
    connection::Connection,
    protocol::{
        Event,
        xproto::{ConnectionExt, GrabMode, GrabStatus},
    },
    rust_connection::RustConnection,
};

/// X11 counts keys from here on.
const FIRST_KEY: u8 = 8;

/// Takes the keyboard, by a connection of its own: the window's gets no keys meanwhile.
pub struct Grabber {
    connection: Arc<RustConnection>,
    window: u32,
}

impl Grabber {
    /// One for `window`, whose keys `typed` hears of by evdev's codes while they are grabbed.
    ///
    /// # Errors
    /// Why there is none.
    pub fn new(window: &Window, typed: impl Fn(u16, bool) + Send + 'static) -> Result<Self, String> {
        let handle = window.window_handle().map_err(|error| error.to_string())?;
        let id = match handle.as_raw() {
            RawWindowHandle::Xlib(handle) => {
                u32::try_from(handle.window).map_err(|error| error.to_string())?
            }
            RawWindowHandle::Xcb(handle) => handle.window.get(),
            _ => return Err("this desktop lets no program have all keys".to_owned()),
        };
        let (connection, _) = x11rb::connect(None).map_err(|error| error.to_string())?;
        let connection = Arc::new(connection);
        let events = connection.clone();
        thread::Builder::new()
            .name("grabbed-keys".to_owned())
            .spawn(move || listen(&events, typed))
            .map_err(|error| error.to_string())?;
        Ok(Self { connection, window: id })
    }

    /// From now on all keys are the window's.
    ///
    /// # Errors
    /// Why not.
    pub fn grab(&self) -> Result<(), String> {
        let ask =
            self.connection.grab_keyboard(false, self.window, CURRENT_TIME, GrabMode::ASYNC, GrabMode::ASYNC);
        let answer = ask.map_err(|error| error.to_string())?.reply().map_err(|error| error.to_string())?;
        match answer.status {
            GrabStatus::SUCCESS => Ok(()),
            GrabStatus::ALREADY_GRABBED => Err("another program has it".to_owned()),
            status => Err(format!("X11 says {status:?}")),
        }
    }

    /// They are everybody's again.
    pub fn let_go(&self) {
        let asked = self.connection.ungrab_keyboard(CURRENT_TIME).map(|cookie| cookie.ignore_error());
        if let Err(error) = asked.and_then(|()| self.connection.flush()) {
            tracing::warn!(%error, "cannot give the keyboard back");
        }
    }
}

/// Passes on keys until the connection ends.
fn listen(connection: &RustConnection, typed: impl Fn(u16, bool)) {
    let mut next = None;
    loop {
        let Some(event) = next.take().or_else(|| connection.wait_for_event().ok()) else { return };
        let (key, down) = match event {
            Event::KeyPress(key) => (key, true),
            Event::KeyRelease(key) => (key, false),
            _ => continue,
        };
        if !down {
            // A key that stays down is let go and pressed at the same moment, again and again.
            next = connection.poll_for_event().ok().flatten();
            if matches!(next, Some(Event::KeyPress(again)) if (again.detail, again.time) == (key.detail, key.time))
            {
                next = None;
                continue;
            }
        }
        typed(key.detail.saturating_sub(FIRST_KEY).into(), down);
    }
}
