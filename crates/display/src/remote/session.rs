//! One viewer.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    num::NonZero,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    Host, Site,
    message::{self, Action, Message},
};
use crate::{Changes, Mode, Party, Poll, Size, Tile, clipboard::MAX_TEXT, input::Seat, lock};

/// Most bytes that a viewer says at once.
pub(crate) const MAX_MESSAGE: usize = MAX_TEXT + 16;
/// How long a viewer may take to take what it has asked for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How many of a viewer's buttons are being done at a time. Pulling the plug must be possible while the guest shuts down.
const MAX_ACTING: usize = 4;
/// The console's size, in characters: what guests assume of a serial line.
const ROWS: NonZero<u16> = NonZero::new(24).unwrap();
const COLS: NonZero<u16> = NonZero::new(80).unwrap();
/// How long the console is listened to before it is shown, and how often at most.
const GATHER: Duration = Duration::from_millis(20);
const GATHERED: usize = 64;

/// Where messages for a viewer go. Several threads write.
pub(crate) trait Pipe: Send + Sync {
    /// Sends a message; waits until it is taken, within limits.
    fn send(&self, message: Vec<u8>) -> io::Result<()>;

    /// Ends the connection both ways; whoever reads or writes hears of it.
    fn close(&self);

    /// The message with a part of the picture.
    fn tile(&self, tile: &Tile) -> io::Result<Vec<u8>>;
}

type Writing = Arc<dyn Pipe>;

/// What its screen's thread and its reader share.
#[derive(Default)]
struct Wants {
    ready: bool,
    leave: bool,
    /// The size that it was told.
    size: Size,
}

/// Serves a viewer until it leaves: what it says comes from `read`, which returns `None` at the end; what it is told goes to
/// `writing`.
///
/// # Errors
/// Why it left, or had to.
pub(crate) fn run(
    site: &Site,
    writing: Writing,
    mut read: impl FnMut() -> io::Result<Option<Vec<u8>>>,
) -> io::Result<()> {
    let wants = Arc::<Mutex<Wants>>::default();
    let nudged = site.screen.clone();
    let party = site.clipboard.as_ref().map(|clipboard| Arc::new(clipboard.join(move || nudged.nudge())));
    let screen = thread::Builder::new().name("viewer-screen".to_owned()).spawn({
        let showing = Showing {
            viewer: site.screen.viewer(),
            writing: writing.clone(),
            wants: wants.clone(),
            party: party.clone(),
            host: site.host.clone(),
        };
        move || {
            if let Err(error) = showing.run() {
                tracing::debug!(%error, "cannot show a viewer the screen");
            }
            // Its reader must not wait for one that is gone.
            showing.writing.close();
        }
    })?;
    let mut page = Page {
        site,
        writing,
        wants: &wants,
        party,
        seat: site.input.seat(),
        console: None,
        acting: Arc::default(),
    };
    let gone = loop {
        match read() {
            Ok(Some(bytes)) => match Message::parse(&bytes) {
                Some(message) => page.take(message),
                None => break Err(io::Error::other("it says what is no message")),
            },
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    page.leave();
    lock(&wants).leave = true;
    page.writing.close();
    site.screen.nudge();
    if screen.join().is_err() {
        tracing::error!("a viewer's writer ended with a panic");
    }
    gone
}

/// What it takes to send a viewer what it has not seen.
struct Showing {
    viewer: crate::Viewer,
    writing: Writing,
    wants: Arc<Mutex<Wants>>,
    party: Option<Arc<Party>>,
    host: Option<Arc<dyn Host>>,
}

impl Showing {
    /// Sends it whenever the viewer is ready for more, until it leaves.
    fn run(&self) -> io::Result<()> {
        let (mut copied, mut phases) = (None, None);
        loop {
            let now = self.host.as_ref().map(|host| host.phases());
            if let Some(host) = self.host.as_ref().filter(|_| now != phases) {
                self.writing.send(message::phase(&host.phase(), host.news().as_deref()))?;
                phases = now;
            }
            let Some(changes) = self.viewer.next(|| self.poll(&mut copied, phases)) else { return Ok(()) };
            if let Some(text) = copied.take() {
                self.writing.send(message::text(&text))?;
            }
            self.show(&changes)?;
        }
    }

    fn poll(&self, copied: &mut Option<Arc<str>>, phases: Option<u64>) -> Poll {
        *copied = self.party.as_ref().and_then(|party| party.news());
        let news = copied.is_some() || self.host.as_ref().map(|host| host.phases()) != phases;
        match &*lock(&self.wants) {
            Wants { leave: true, .. } => Poll::Leave,
            _ if news => Poll::Return,
            Wants { ready: true, .. } => Poll::Changes,
            _ => Poll::Idle,
        }
    }

    fn show(&self, changes: &Changes) -> io::Result<()> {
        if let Some(size) = changes.resized {
            lock(&self.wants).size = size;
            self.writing.send(message::size(size))?;
        }
        if let Some(cursor) = &changes.cursor {
            self.writing.send(message::cursor(cursor))?;
        }
        if changes.rects.is_empty() {
            return Ok(());
        }
        lock(&self.wants).ready = false;
        // What is painted meanwhile is sent again next time.
        for part in changes.rects.iter().flat_map(|rect| rect.bands()) {
            self.writing.send(self.writing.tile(&self.viewer.tile(part))?)?;
        }
        self.writing.send(message::all())
    }
}

struct Page<'a> {
    site: &'a Site,
    writing: Writing,
    wants: &'a Mutex<Wants>,
    party: Option<Arc<Party>>,
    seat: Seat,
    console: Option<UnixStream>,
    acting: Arc<AtomicUsize>,
}

impl Page<'_> {
    fn take(&mut self, message: Message) {
        match message {
            Message::Ready => {
                lock(self.wants).ready = true;
                self.site.screen.nudge();
            }
            Message::Key { down, code } => self.seat.key(code, down),
            Message::Pointer { x, y, buttons } => {
                let size = lock(self.wants).size;
                self.seat.point((x.into(), y.into()), size, buttons);
            }
            Message::Wheel { right, away } => self.seat.turn(right.into(), away.into()),
            Message::Resize { size, scale: 0 } => self.site.screen.want(size),
            Message::Resize { size, scale } => {
                self.site.screen.want_mode(Mode { size, scale: scale.into() });
            }
            Message::Text(text) => _ = self.party.as_ref().inspect(|party| party.copy(&text)),
            Message::Console => self.look_at_console(),
            Message::Typed(typed) => {
                if let Some(console) = &mut self.console {
                    let _ = console.write_all(&typed);
                }
            }
            Message::Act(action) => self.act(action),
        }
    }

    /// What takes long holds up nobody: it is done aside.
    fn act(&self, action: Action) {
        let Some(host) = self.site.host.clone() else { return };
        let turn = Turn(self.acting.clone());
        if turn.0.fetch_add(1, Ordering::AcqRel) >= MAX_ACTING {
            return;
        }
        let writing = self.writing.clone();
        let acting = move || {
            let said = host.act(action).unwrap_or_else(|why| why);
            let mut phase = host.phase();
            let _ = writing.send(message::phase(&phase, Some(&said)));
            // Whoever tells of changes may have told of one before this was sent: what is sent last shall be true.
            while let Some(now) = Some(host.phase()).filter(|now| *now != phase) {
                phase = now;
                let _ = writing.send(message::phase(&phase, None));
            }
            drop(turn);
        };
        if let Err(error) = thread::Builder::new().name("viewer-button".to_owned()).spawn(acting) {
            tracing::warn!(%error, "cannot do what a viewer's button says");
        }
    }

    fn look_at_console(&mut self) {
        let Some(host) = self.site.host.as_ref().filter(|_| self.console.is_none()) else { return };
        let started = host.console().and_then(|stream| {
            let (from, writing) = (stream.try_clone()?, self.writing.clone());
            thread::Builder::new().name("viewer-console".to_owned()).spawn(move || {
                if let Err(error) = show_console(from, &*writing) {
                    tracing::debug!(%error, "a viewer does not look at the console any more");
                }
            })?;
            // A guest that does not read must not hold up the page.
            stream.set_write_timeout(Some(GATHER))?;
            Ok(stream)
        });
        match started {
            Ok(stream) => self.console = Some(stream),
            Err(error) => _ = self.writing.send(message::console((0, 0), &error.to_string())),
        }
    }

    fn leave(&mut self) {
        if let Some(console) = self.console.take() {
            let _ = console.shutdown(Shutdown::Both);
        }
    }
}

/// A button that is being done.
struct Turn(Arc<AtomicUsize>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Sends what there is to be seen on a terminal that shows the console, until that ends.
fn show_console(mut from: UnixStream, writing: &dyn Pipe) -> io::Result<()> {
    let mut parser = vt100::Parser::new(ROWS, COLS, 0);
    let mut buffer = vec![0; 16 << 10];
    let mut ended = false;
    while !ended {
        from.set_read_timeout(None)?;
        // What comes at once is shown at once; a guest that never stops is shown now and then.
        for _ in 0..GATHERED {
            match from.read(&mut buffer) {
                Ok(0) => ended = true,
                Ok(len) => parser.process(buffer.get(..len).unwrap_or_default()),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
                Err(e) => return Err(e),
            }
            if ended {
                break;
            }
            from.set_read_timeout(Some(GATHER))?;
        }
        let screen = parser.screen();
        writing.send(message::console(screen.cursor_position(), &screen.contents()))?;
    }
    Ok(())
}
