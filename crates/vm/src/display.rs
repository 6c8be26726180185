//! The VM's screen, with what is typed and pointed at there.

use std::sync::Arc;

use tearless_config::DisplayConfig;
use tearless_display::{Input, Mode, PictureError, Screen, Size, png, terminal};
use tearless_virtio::{
    VirtioDevice,
    gpu::Gpu,
    input::{self, Kind},
};

/// A screen, a keyboard and a pointer. They outlive the guest's resets. Clones share.
#[derive(Clone)]
pub struct Display {
    /// What is seen.
    pub screen: Arc<Screen>,
    /// What is typed and pointed at.
    pub input: Arc<Input>,
}

impl Display {
    /// The types of [`Self::devices`].
    pub(crate) const DEVICE_TYPES: [u16; 3] = [Gpu::ID, input::Input::ID, input::Input::ID];

    /// The screen that `config` describes, if there is one.
    pub fn open(config: &DisplayConfig) -> Option<Self> {
        config.is_on().then(|| Self { screen: Screen::new(mode(config)), input: Input::new() })
    }

    /// Its devices for one life of the guest.
    pub(crate) fn devices(&self) -> [Arc<dyn VirtioDevice>; 3] {
        [
            Gpu::new(self.screen.clone()),
            input::Input::new(Kind::Keyboard, &self.input),
            input::Input::new(Kind::Pointer, &self.input),
        ]
    }
}

fn mode(config: &DisplayConfig) -> Mode {
    let mode = config.mode;
    Mode { size: Size::new(mode.width, mode.height), scale: mode.scale }
}

/// A PNG file of what `display` shows; of the console's `text` while the guest shows nothing.
///
/// # Errors
/// When there is too much of it.
pub(crate) fn screenshot(display: Option<&Display>, text: &[u8]) -> Result<Vec<u8>, PictureError> {
    let (size, pixels) = display.and_then(|display| display.screen.picture()).unwrap_or_else(|| {
        let mode = display.map_or_else(Mode::default, |display| display.screen.wish());
        terminal::render(text, mode)
    });
    png(size, &pixels)
}
