//! Hosts on which no program can have all keys without the user's help.

use winit::window::Window;

/// There is none.
pub enum Grabber {}

impl Grabber {
    /// Says so.
    ///
    /// # Errors
    /// Always.
    pub fn new(_: &Window, _: impl Fn(u16, bool) + Send + 'static) -> Result<Self, String> {
        Err("this desktop lets no program have all keys".to_owned())
    }

    /// There is none to be asked.
    ///
    /// # Errors
    /// Never.
    pub fn grab(&self) -> Result<(), String> {
        match *self {}
    }

    /// There is none to be asked.
    pub fn let_go(&self) {
        match *self {}
    }
}
