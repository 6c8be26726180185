//! The VM's screen, with what is typed and pointed at there.

use std::sync::Arc;

use tearless_bus::CharInput;
use tearless_config::DisplayConfig;
use tearless_display::{Agent, Clipboard, Input, Mode, PictureError, Screen, Size, agent, png, terminal};
use tearless_machine::Handle;
use tearless_virtio::{
    VirtioDevice,
    console::ConsolePort,
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
    /// What was copied, if the guest and its viewers share that.
    pub clipboard: Option<Arc<Clipboard>>,
    /// What a desktop's agent in the guest speaks to.
    agent: Option<Arc<Agent>>,
}

impl Display {
    /// The types of [`Self::devices`].
    pub(crate) const DEVICE_TYPES: [u16; 3] = [Gpu::ID, input::Input::ID, input::Input::ID];

    /// The screen that `config` describes, if there is one.
    pub fn open(config: &DisplayConfig) -> Option<Self> {
        config.is_on().then(|| {
            let screen = Screen::new(mode(config));
            let clipboard = config.shares_clipboard().then(Arc::<Clipboard>::default);
            let agent = clipboard.as_ref().map(|clipboard| Agent::new(clipboard, &screen));
            Self { screen, input: Input::new(), clipboard, agent }
        })
    }

    /// Whether the guest has [`Self::agent_port`].
    pub(crate) fn has_agent(&self) -> bool {
        self.agent.is_some()
    }

    /// The port of a desktop's agent, for one life of the guest.
    pub(crate) fn agent_port(&self) -> Option<ConsolePort> {
        let agent = self.agent.clone()?;
        let opened = agent.clone();
        Some(ConsolePort {
            name: agent::PORT.to_owned(),
            is_console: false,
            sink: Box::new(move |bytes: &[u8]| agent.hear(bytes)),
            on_guest_open: Some(Box::new(move |open| opened.set_open(open))),
        })
    }

    /// A machine has been built: its agent's port is that of `handle`.
    pub(crate) fn plug(&self, handle: &Handle) {
        if let Some((agent, port)) = self.agent.as_ref().zip(handle.stream(agent::PORT)) {
            let room = Arc::downgrade(agent);
            port.on_space(Box::new(move || _ = room.upgrade().inspect(|agent| agent.flush())));
            let open = port.guest_open();
            let port = Arc::downgrade(&port);
            agent.plug(Box::new(move |bytes| port.upgrade().map_or(0, |port| port.push(bytes))));
            if open {
                // A saved guest opened it in its last process: it is asked anew what it can do.
                agent.set_open(true);
            }
        }
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
