//! Viewers that speak our own protocol: pages in browsers ([`crate::web`]) and windows of this host ([`crate::link`]).
//!
//! Each viewer has a thread that reads what it says and one that sends what it has asked for; a console, if it looks at one, is a
//! third, and what a button does is done on a fourth.

mod message;
pub(crate) mod session;

use std::{io, os::unix::net::UnixStream, sync::Arc};

pub use message::{Action, Hearing, Message};
pub(crate) use message::{png_tile, raw_tile};

use crate::{Clipboard, Input, Screen};

/// What a viewer can do with the VM besides looking at its screen.
pub trait Host: Send + Sync {
    /// How the VM is, in a word.
    fn phase(&self) -> String;

    /// How often that has changed. Never waits: the screen is locked. Whoever changes it nudges the screen ([`Screen::nudge`]).
    fn phases(&self) -> u64;

    /// What a viewer that comes or is told of another phase has to know, for people.
    fn news(&self) -> Option<String> {
        None
    }

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

/// What is viewed.
#[derive(Clone)]
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
