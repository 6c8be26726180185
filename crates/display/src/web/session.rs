//! A page that is open.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    num::NonZero,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use tungstenite::{
    WebSocket,
    protocol::{Message as Frame, Role, WebSocketConfig},
};

use super::{
    Site,
    message::{self, Action, Message},
};
use crate::{Party, Poll, Size, clipboard::MAX_TEXT, input::Seat, lock};

/// Most bytes that a page says at once.
const MAX_MESSAGE: usize = MAX_TEXT + 16;
/// How long a page may take to take what it has asked for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The console's size, in characters: what guests assume of a serial line.
const ROWS: NonZero<u16> = NonZero::new(24).unwrap();
const COLS: NonZero<u16> = NonZero::new(80).unwrap();
/// How long the console is listened to before it is shown, and how often at most.
const GATHER: Duration = Duration::from_millis(20);
const GATHERED: usize = 64;

/// The half of a connection that is read. What the protocol would answer by itself (to pings, which browsers do not send) is
/// dropped, because the other half may be in the middle of a message.
struct Reading(TcpStream);

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Reading {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The half that is written, by several threads.
#[derive(Clone)]
struct Writing(Arc<Mutex<WebSocket<TcpStream>>>);

impl Writing {
    fn send(&self, message: Vec<u8>) -> io::Result<()> {
        lock(&self.0).send(Frame::Binary(message.into())).map_err(io::Error::other)
    }
}

/// What its screen's thread and its reader share.
#[derive(Default)]
struct Wants {
    ready: bool,
    leave: bool,
    /// The size that it was told.
    size: Size,
}

/// Serves the page behind `stream` until it is closed.
///
/// # Errors
/// Why it was, or had to be.
pub(super) fn run(stream: TcpStream, site: &Site) -> io::Result<()> {
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let mut reading = WebSocket::from_raw_socket(Reading(stream.try_clone()?), Role::Server, Some(config));
    let writing = WebSocket::from_raw_socket(stream.try_clone()?, Role::Server, None);
    let writing = Writing(Arc::new(Mutex::new(writing)));
    let wants = Arc::<Mutex<Wants>>::default();
    let nudged = site.screen.clone();
    let party = site.clipboard.as_ref().map(|clipboard| Arc::new(clipboard.join(move || nudged.nudge())));
    if let Some(host) = &site.host {
        writing.send(message::phase(&host.phase(), ""))?;
    }
    let screen = thread::Builder::new().name("web-screen".to_owned()).spawn({
        let (writing, wants, party) = (writing.clone(), wants.clone(), party.clone());
        let (viewer, stream) = (site.screen.viewer(), stream.try_clone()?);
        move || {
            if let Err(error) = show(&viewer, &writing, &wants, party.as_deref()) {
                tracing::debug!(%error, "cannot show a browser the screen");
            }
            let _ = stream.shutdown(Shutdown::Both);
        }
    })?;
    let mut page = Page { site, writing, wants: &wants, party, seat: site.input.seat(), console: None };
    let gone = loop {
        match reading.read() {
            Ok(Frame::Binary(bytes)) => match Message::parse(&bytes) {
                Some(message) => page.take(message),
                None => break "it says what is no message".to_owned(),
            },
            Ok(Frame::Close(_)) => break "it was closed".to_owned(),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    page.leave();
    lock(&wants).leave = true;
    let _ = stream.shutdown(Shutdown::Both);
    site.screen.nudge();
    if screen.join().is_err() {
        tracing::error!("a page's writer ended with a panic");
    }
    Err(io::Error::other(gone))
}

/// Sends what the page has not seen whenever it is ready for more.
fn show(
    viewer: &crate::Viewer,
    writing: &Writing,
    wants: &Mutex<Wants>,
    party: Option<&Party>,
) -> io::Result<()> {
    let mut copied = None;
    let poll = |copied: &mut Option<Arc<str>>| {
        *copied = party.and_then(Party::news);
        match &*lock(wants) {
            Wants { leave: true, .. } => Poll::Leave,
            _ if copied.is_some() => Poll::Return,
            Wants { ready: true, .. } => Poll::Changes,
            _ => Poll::Idle,
        }
    };
    while let Some(changes) = viewer.next(|| poll(&mut copied)) {
        if let Some(text) = copied.take() {
            writing.send(message::text(&text))?;
            continue;
        }
        if let Some(size) = changes.resized {
            lock(wants).size = size;
            writing.send(message::size(size))?;
        }
        if let Some(cursor) = &changes.cursor {
            writing.send(message::cursor(cursor))?;
        }
        if !changes.tiles.is_empty() {
            lock(wants).ready = false;
            writing.send(message::tiles(&changes.tiles))?;
        }
    }
    Ok(())
}

struct Page<'a> {
    site: &'a Site,
    writing: Writing,
    wants: &'a Mutex<Wants>,
    party: Option<Arc<Party>>,
    seat: Seat,
    console: Option<UnixStream>,
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
            Message::Resize(size) => self.site.screen.want(size),
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
        let writing = self.writing.clone();
        let acting = move || {
            let said = host.act(action).unwrap_or_else(|why| why);
            let _ = writing.send(message::phase(&host.phase(), &said));
        };
        if let Err(error) = thread::Builder::new().name("web-button".to_owned()).spawn(acting) {
            tracing::warn!(%error, "cannot do what a page's button says");
        }
    }

    fn look_at_console(&mut self) {
        let Some(host) = self.site.host.as_ref().filter(|_| self.console.is_none()) else { return };
        let started = host.console().and_then(|stream| {
            let (from, writing) = (stream.try_clone()?, self.writing.clone());
            thread::Builder::new().name("web-console".to_owned()).spawn(move || {
                if let Err(error) = show_console(from, &writing) {
                    tracing::debug!(%error, "a page does not look at the console any more");
                }
            })?;
            // A guest that does not read must not hold up the page.
            stream.set_write_timeout(Some(GATHER))?;
            Ok(stream)
        });
        match started {
            Ok(stream) => self.console = Some(stream),
            Err(error) => tracing::warn!(%error, "cannot show a page the console"),
        }
    }

    fn leave(&mut self) {
        if let Some(console) = self.console.take() {
            let _ = console.shutdown(Shutdown::Both);
        }
    }
}

/// Sends what there is to be seen on a terminal that shows the console, until that ends.
fn show_console(mut from: UnixStream, writing: &Writing) -> io::Result<()> {
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
