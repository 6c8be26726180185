//! A VM's screen in a window of this host: crisp, as large as the window is, with keys by their place.
//!
//! ```text
//!   the VM's process ──link──► reader ──► the window, on the main thread ──► writer ──link──► the VM's process
//!                                            ▲    └──► clipboard
//!                                      keys when they are grabbed
//! ```
//! The window is in a process of its own (docs/decisions/015): the VM's is confined, and has no business with the desktop. What comes
//! from there is checked, for a guest may have taken it over.
#![forbid(unsafe_code)]

mod app;
mod clipboard;
mod dialog;
mod grab;
mod keys;
mod picture;
mod wheel;

use std::{
    io,
    os::unix::net::UnixStream,
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread,
};

use tearless_display::{
    link::Link,
    remote::{Hearing, Message},
};
use winit::event_loop::{EventLoop, EventLoopProxy};

use app::{App, Wake};

/// What may wait to be said to the VM. More than that waits only if its process does not run.
const MAX_UNSAID: usize = 4096;
/// What of that which was heard may wait to be shown.
const MAX_UNSEEN: usize = 16;

/// Why there is no window.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host has no desktop that can be reached.
    #[error(
        "cannot open a window\n  because: {0}\n  try: in a session of the desktop (DISPLAY or WAYLAND_DISPLAY says where it is), or \
         --display web"
    )]
    Desktop(String),
    /// The VM's process is not there, or says what makes no sense.
    #[error("lost the VM's screen\n  because: {0}\n  try: `tearless list` shows whether the VM runs")]
    Link(#[from] io::Error),
}

/// How a window looks, and what it may do.
#[derive(Clone, Debug)]
pub struct Look {
    /// The VM's name.
    pub title: String,
    /// Its size at first, in pixels of an ordinary screen.
    pub size: (u32, u32),
    /// Whether what is copied is shared.
    pub clipboard: bool,
}

/// Shows the screen of the VM behind `stream` until its user closes the window, or the VM ends. On the main thread, which
/// desktops want.
///
/// # Errors
/// When there is no desktop; the VM has been told so.
pub fn show(stream: UnixStream, look: &Look) -> Result<(), Error> {
    let link = Link::new(stream);
    let result = open(&link, look);
    if let Err(error @ Error::Desktop(_)) = &result {
        // It may not wait for it any more.
        let _ = link.greet(Some(&error.to_string()));
    }
    result
}

fn open(link: &Link, look: &Look) -> Result<(), Error> {
    let desktop = |error: winit::error::EventLoopError| Error::Desktop(error.to_string());
    let events = EventLoop::<Wake>::with_user_event().build().map_err(desktop)?;
    let (unsaid, to_say) = sync_channel::<Message>(MAX_UNSAID);
    let (unseen, to_see) = sync_channel(MAX_UNSEEN);
    let mut app = App::new(look.clone(), link.clone(), Mouth(unsaid), to_see, events.create_proxy());
    let (writing, reading, proxy) = (link.clone(), link.clone(), events.create_proxy());
    thread::Builder::new().name("to-vm".to_owned()).spawn(move || {
        for message in to_say {
            if let Err(error) = writing.say(&message) {
                return tracing::debug!(%error, "the VM does not listen any more");
            }
        }
    })?;
    thread::Builder::new().name("from-vm".to_owned()).spawn(move || listen(&reading, &unseen, &proxy))?;
    events.run_app(&mut app).map_err(desktop)?;
    app.outcome()
}

/// Hands on what the VM says until it is gone.
fn listen(link: &Link, unseen: &SyncSender<io::Result<Option<Hearing>>>, proxy: &EventLoopProxy<Wake>) {
    loop {
        let heard = link.hear();
        let last = !matches!(heard, Ok(Some(_)));
        // Either fails when the window is closed.
        if unseen.send(heard).is_err() || proxy.send_event(Wake::Heard).is_err() || last {
            return;
        }
    }
}

/// The way to the VM. Never waits.
#[derive(Clone)]
struct Mouth(SyncSender<Message>);

impl Mouth {
    fn say(&self, message: Message) {
        if let Err(TrySendError::Full(_)) = self.0.try_send(message) {
            tracing::debug!("the VM's process does not run: what was typed is lost");
        }
    }
}
