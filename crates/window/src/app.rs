//! The window itself.

use std::{
    io,
    num::NonZero,
    rc::Rc,
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use softbuffer::{Context, SoftBufferError, Surface};
use tearless_display::{
    Mode, Rect, Size,
    link::Link,
    remote::{Hearing, Message},
    terminal::{self, Font},
};
use winit::{
    application::ApplicationHandler,
    dpi::{LogicalSize, PhysicalSize},
    event::{ElementState, KeyEvent, MouseButton, StartCause, WindowEvent},
    event_loop::{ActiveEventLoop, ControlFlow, EventLoopProxy},
    window::{Cursor, CursorGrabMode, CursorIcon, CustomCursor, Fullscreen, Window, WindowId},
};

use crate::{
    Error, Look, Mouth,
    clipboard::HostClipboard,
    dialog::{Choice, Dialog},
    grab::Grabber,
    keys::{self, Command, Fate, Keys},
    picture::{Picture, Placement},
    wheel::Wheel,
};

/// How long the window's size must be the same before the guest hears of it.
const SETTLED: Duration = Duration::from_millis(150);
/// The console's size, in characters.
const CONSOLE: (u32, u32) = (80, 24);
/// The smallest side of a window.
const MIN_SIDE: u32 = 64;

/// Why the main thread is woken.
#[derive(Clone, Copy, Debug)]
pub enum Wake {
    /// The VM said something.
    Heard,
    /// A key, by evdev's code, while all keys are the window's.
    Key(u16, bool),
}

/// What belongs to an open window.
struct Open {
    window: Rc<Window>,
    surface: Surface<Rc<Window>, Rc<Window>>,
    size: Size,
    grabber: Option<Grabber>,
}

/// All that the window knows.
pub struct App {
    look: Look,
    link: Link,
    mouth: Mouth,
    heard: Receiver<io::Result<Option<Hearing>>>,
    proxy: EventLoopProxy<Wake>,
    open: Option<Open>,
    picture: Picture,
    /// Whether that is the guest's, and not what its console says.
    shows_screen: bool,
    /// The part of the window that is to be drawn.
    dirty: Option<Rect>,
    /// The VM is to hear that its picture has been seen.
    seen: bool,
    keys: Keys,
    grabbed: bool,
    pointer: (f64, f64),
    buttons: u8,
    wheel: Wheel,
    clipboard: Option<HostClipboard>,
    dialog: Option<Dialog>,
    /// How the VM is; `None` for one that cannot be steered.
    phase: Option<String>,
    /// When the guest is to hear of the window's size.
    resize_at: Option<Instant>,
    outcome: Result<(), Error>,
}

impl App {
    pub fn new(
        look: Look,
        link: Link,
        mouth: Mouth,
        heard: Receiver<io::Result<Option<Hearing>>>,
        proxy: EventLoopProxy<Wake>,
    ) -> Self {
        Self {
            look,
            link,
            mouth,
            heard,
            proxy,
            open: None,
            picture: Picture::default(),
            shows_screen: false,
            dirty: None,
            seen: false,
            keys: Keys::default(),
            grabbed: false,
            pointer: (0.0, 0.0),
            buttons: 0,
            wheel: Wheel::default(),
            clipboard: None,
            dialog: None,
            phase: None,
            resize_at: None,
            outcome: Ok(()),
        }
    }

    /// How it ended.
    pub fn outcome(self) -> Result<(), Error> {
        self.outcome
    }

    fn open_window(&mut self, events: &ActiveEventLoop) -> Result<(), Error> {
        let (width, height) = self.look.size;
        let attributes = Window::default_attributes()
            .with_title(&self.look.title)
            .with_inner_size(LogicalSize::new(width, height))
            .with_min_inner_size(PhysicalSize::new(MIN_SIDE, MIN_SIDE));
        let window = events.create_window(attributes).map_err(|error| Error::Desktop(error.to_string()))?;
        let window = Rc::new(window);
        let desktop = |error: SoftBufferError| Error::Desktop(error.to_string());
        let context = Context::new(window.clone()).map_err(desktop)?;
        let surface = Surface::new(&context, window.clone()).map_err(desktop)?;
        let size = window.inner_size();
        let size = Size::new(size.width, size.height);
        window.set_ime_allowed(false);
        self.open = Some(Open { window, surface, size, grabber: None });
        if self.look.clipboard {
            let mouth = self.mouth.clone();
            self.clipboard = HostClipboard::open(move |text| mouth.say(Message::Text(text)));
        }
        self.link.greet(None)?;
        self.tell_size();
        self.mouth.say(Message::Ready);
        Ok(())
    }

    /// How many pixels are where an ordinary screen has one.
    fn scale(&self) -> f64 {
        self.open.as_ref().map_or(1.0, |open| open.window.scale_factor())
    }

    fn whole_scale(&self) -> u8 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 4")]
        let scale = self.scale().round().clamp(1.0, 4.0) as u8;
        scale
    }

    /// Has the guest's screen be as large as the window.
    fn tell_size(&mut self) {
        self.resize_at = None;
        let Some(Open { size, .. }) = self.open else { return };
        // Guests round odd widths.
        let size = Size::new((size.width & !1).max(MIN_SIDE), size.height.max(MIN_SIDE));
        self.mouth.say(Message::Resize { size, scale: self.whole_scale() });
    }

    fn placement(&self) -> Placement {
        let window = self.open.as_ref().map_or_else(Size::default, |open| open.size);
        Placement::new(self.picture.size(), window)
    }

    /// Has `part` of the window drawn; all of it with `None`.
    fn redraw(&mut self, part: Option<Rect>) {
        let Some(open) = &self.open else { return };
        let part = part.unwrap_or_else(|| Rect::all(open.size));
        self.dirty = Some(self.dirty.map_or(part, |dirty| dirty.hull(&part)));
        open.window.request_redraw();
    }

    fn draw(&mut self) -> Result<(), SoftBufferError> {
        let (place, scale) = (self.placement(), self.whole_scale());
        let Some(open) = &mut self.open else { return Ok(()) };
        let side = |side: u32| NonZero::new(side);
        let (Some(width), Some(height)) = (side(open.size.width), side(open.size.height)) else {
            return Ok(());
        };
        open.surface.resize(width, height)?;
        let mut buffer = open.surface.buffer_mut()?;
        let whole = Rect::all(open.size);
        // Only what was there last time can be kept.
        let part = self.dirty.take().filter(|_| buffer.age() == 1 && self.dialog.is_none()).unwrap_or(whole);
        let part = part.intersection(&whole);
        self.picture.draw(&place, part, (open.size, &mut buffer));
        if let Some(dialog) = &self.dialog {
            dialog.draw(&dialog.layout(open.size, scale.into()), open.size, &mut buffer);
        }
        open.window.pre_present_notify();
        // All of it: the desktop may have asked for what it has lost.
        buffer.present()?;
        if std::mem::take(&mut self.seen) {
            self.mouth.say(Message::Ready);
        }
        Ok(())
    }

    /// Takes what the VM says.
    fn hear(&mut self, events: &ActiveEventLoop, heard: Hearing) {
        match heard {
            Hearing::Size(size) => {
                self.shows_screen = true;
                self.picture.resize(size);
                self.redraw(None);
            }
            Hearing::Tile(tile) => {
                self.picture.paint(&tile);
                if tile.rect.is_within(self.picture.size()) {
                    self.redraw(Some(self.placement().part(tile.rect)));
                }
            }
            Hearing::All => {
                self.seen = true;
                // It is owed the answer also where nothing of it is seen.
                if self.dirty.is_none() && std::mem::take(&mut self.seen) {
                    self.mouth.say(Message::Ready);
                }
            }
            Hearing::Cursor { hot, size, rgba } => self.show_cursor(events, hot, size, rgba),
            Hearing::Text(text) => _ = self.clipboard.as_ref().inspect(|clipboard| clipboard.write(text)),
            Hearing::Console(text) if !self.shows_screen => self.show_console(&text),
            Hearing::Console(_) => {}
            Hearing::Phase { phase, said } => {
                if self.phase.replace(phase).is_none() && !self.shows_screen {
                    self.mouth.say(Message::Console);
                }
                if let Some(said) = said.filter(|said| !said.is_empty()) {
                    self.show_dialog(Some(Dialog::saying(&said)));
                }
                self.show_title();
            }
        }
    }

    fn show_title(&self) {
        let Some(open) = &self.open else { return };
        let phase = self.phase.as_deref().filter(|phase| *phase != "running");
        let phase = phase.map(|phase| format!(" ({phase})")).unwrap_or_default();
        let hint = if self.grabbed { ": Ctrl-Alt-G gives the keyboard back" } else { "" };
        open.window.set_title(&format!("{}{phase}{hint}", self.look.title));
    }

    /// What the console says, while the guest shows nothing.
    fn show_console(&mut self, text: &str) {
        let cell = Font::of(Mode::default()).cell();
        let size = Size::new(cell.width * CONSOLE.0, cell.height * CONSOLE.1);
        let (size, pixels) = terminal::render(text.replace('\n', "\r\n").as_bytes(), Mode { size, scale: 1 });
        self.picture.replace(size, pixels);
        self.redraw(None);
    }

    fn show_cursor(&self, events: &ActiveEventLoop, hot: (u16, u16), size: (u16, u16), rgba: Vec<u8>) {
        let Some(open) = &self.open else { return };
        let custom = CustomCursor::from_rgba(rgba, size.0, size.1, hot.0, hot.1);
        // A guest that shows no pointer draws its own, or has none: the host's says where it is.
        let cursor = custom
            .map_or(Cursor::Icon(CursorIcon::Default), |custom| events.create_custom_cursor(custom).into());
        open.window.set_cursor(cursor);
    }

    fn show_dialog(&mut self, dialog: Option<Dialog>) {
        if dialog.is_some() {
            self.set_grab(false);
            self.let_go();
        }
        self.dialog = dialog;
        self.redraw(None);
    }

    fn ask_to_close(&mut self) {
        self.show_dialog(Some(Dialog::closing(&self.look.title, self.phase.is_some())));
    }

    fn choose(&mut self, events: &ActiveEventLoop, choice: Choice) {
        self.show_dialog(None);
        match choice {
            Choice::Leave => events.exit(),
            Choice::GoOn => {}
            Choice::Act(action) => self.mouth.say(Message::Act(action)),
        }
    }

    /// The guest forgets all that is held down.
    fn let_go(&mut self) {
        for code in self.keys.let_go() {
            self.mouth.say(Message::Key { down: false, code });
        }
        if std::mem::take(&mut self.buttons) != 0 {
            self.point();
        }
    }

    fn point(&self) {
        let (x, y) = self.placement().pixel(self.pointer);
        self.mouth.say(Message::Pointer { x, y, buttons: self.buttons });
    }

    fn key(&mut self, code: u16, down: bool) {
        match self.keys.take(code, down) {
            Fate::Guest => self.mouth.say(Message::Key { down, code }),
            Fate::Nothing => {}
            Fate::Own(Command::Close) => self.ask_to_close(),
            Fate::Own(Command::Grab) => self.set_grab(!self.grabbed),
            Fate::Own(Command::FullScreen) => {
                if let Some(Open { window, .. }) = &self.open {
                    let full = window.fullscreen().is_none().then_some(Fullscreen::Borderless(None));
                    window.set_fullscreen(full);
                }
            }
        }
    }

    /// Takes all keys, and keeps the pointer in the window; or gives them back.
    fn set_grab(&mut self, wanted: bool) {
        let Some(open) = &mut self.open else { return };
        if wanted == self.grabbed {
            return;
        }
        let result = if wanted {
            take_keyboard(open, &self.proxy)
        } else {
            open.grabber.iter().for_each(Grabber::let_go);
            Ok(())
        };
        if let Err(why) = result {
            let text = format!(
                "Cannot take the keyboard\n  because: {why}\n  try: the desktop's own settings for its keys"
            );
            return self.show_dialog(Some(Dialog::saying(&text)));
        }
        self.grabbed = wanted;
        let mode = if wanted { CursorGrabMode::Confined } else { CursorGrabMode::None };
        if let Err(error) = open.window.set_cursor_grab(mode) {
            tracing::debug!(%error, "cannot keep the pointer in the window");
        }
        self.show_title();
    }

    fn pressed(&mut self, events: &ActiveEventLoop, event: &KeyEvent, synthetic: bool) {
        let down = event.state == ElementState::Pressed;
        if let Some(dialog) = self.dialog.as_mut().filter(|_| down && !synthetic) {
            match dialog.key(&event.logical_key) {
                Some(choice) => self.choose(events, choice),
                None => self.redraw(None),
            }
            return;
        }
        // What was pressed elsewhere is not for the guest.
        if let Some(code) = keys::code(event.physical_key).filter(|_| !(down && synthetic)) {
            self.key(code, down);
        }
    }

    fn clicked(&mut self, events: &ActiveEventLoop, button: MouseButton, down: bool) {
        let scale = self.whole_scale();
        if let (Some(dialog), Some(open)) = (&mut self.dialog, &self.open) {
            let layout = dialog.layout(open.size, scale.into());
            if let Some(choice) = dialog.point(&layout, self.pointer).filter(|_| down) {
                self.choose(events, choice);
            }
            return;
        }
        let bit = match button {
            MouseButton::Left => 1,
            MouseButton::Middle => 2,
            MouseButton::Right => 4,
            MouseButton::Back => 8,
            MouseButton::Forward => 16,
            MouseButton::Other(_) => return,
        };
        self.buttons = if down { self.buttons | bit } else { self.buttons & !bit };
        self.point();
    }

    fn moved(&mut self, to: (f64, f64)) {
        self.pointer = to;
        let scale = self.whole_scale();
        if let (Some(dialog), Some(open)) = (&mut self.dialog, &self.open) {
            let layout = dialog.layout(open.size, scale.into());
            if dialog.point(&layout, to).is_some() {
                self.redraw(None);
            }
            return;
        }
        self.point();
    }

    fn resized(&mut self, size: PhysicalSize<u32>) {
        if let Some(open) = &mut self.open {
            open.size = Size::new(size.width, size.height);
            self.resize_at = Some(Instant::now() + SETTLED);
            self.redraw(None);
        }
    }
}

fn take_keyboard(open: &mut Open, proxy: &EventLoopProxy<Wake>) -> Result<(), String> {
    if open.grabber.is_none() {
        let proxy = proxy.clone();
        // It fails when the window is closed.
        let typed = move |code, down| {
            let _ = proxy.send_event(Wake::Key(code, down));
        };
        open.grabber = Some(Grabber::new(&open.window, typed)?);
    }
    open.grabber.as_ref().map_or(Ok(()), Grabber::grab)
}

impl ApplicationHandler<Wake> for App {
    fn resumed(&mut self, events: &ActiveEventLoop) {
        if self.open.is_none()
            && let Err(error) = self.open_window(events)
        {
            self.outcome = Err(error);
            events.exit();
        }
    }

    fn user_event(&mut self, events: &ActiveEventLoop, wake: Wake) {
        match wake {
            Wake::Key(code, down) => self.key(code, down),
            Wake::Heard => match self.heard.try_recv() {
                Ok(Ok(Some(heard))) => self.hear(events, heard),
                Ok(Ok(None)) => events.exit(),
                Ok(Err(error)) => {
                    // One that is killed leaves no last word.
                    let ended =
                        matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof);
                    if !ended {
                        self.outcome = Err(error.into());
                    }
                    events.exit();
                }
                Err(_) => {}
            },
        }
    }

    fn window_event(&mut self, events: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        match event {
            WindowEvent::CloseRequested => self.ask_to_close(),
            WindowEvent::Resized(size) => self.resized(size),
            WindowEvent::ScaleFactorChanged { .. } => {
                self.resize_at = Some(Instant::now() + SETTLED);
                self.redraw(None);
            }
            WindowEvent::RedrawRequested => {
                if let Err(error) = self.draw() {
                    self.outcome = Err(Error::Desktop(error.to_string()));
                    events.exit();
                }
            }
            WindowEvent::Focused(true) => _ = self.clipboard.as_ref().inspect(|clipboard| clipboard.read()),
            // Whoever has all keys is not told of any.
            WindowEvent::Focused(false) if !self.grabbed => self.let_go(),
            WindowEvent::KeyboardInput { event, is_synthetic, .. } => {
                self.pressed(events, &event, is_synthetic)
            }
            WindowEvent::CursorMoved { position, .. } => self.moved((position.x, position.y)),
            WindowEvent::MouseInput { state, button, .. } => {
                self.clicked(events, button, state == ElementState::Pressed);
            }
            WindowEvent::MouseWheel { delta, .. } if self.dialog.is_none() => {
                if let Some((right, away)) = self.wheel.turn(delta, self.scale()) {
                    self.mouth.say(Message::Wheel { right, away });
                }
            }
            _ => {}
        }
    }

    fn new_events(&mut self, _: &ActiveEventLoop, cause: StartCause) {
        if matches!(cause, StartCause::ResumeTimeReached { .. }) && self.resize_at.is_some() {
            self.tell_size();
        }
    }

    fn about_to_wait(&mut self, events: &ActiveEventLoop) {
        events.set_control_flow(self.resize_at.map_or(ControlFlow::Wait, ControlFlow::WaitUntil));
    }
}
