//! What viewers are sent: updates of the screen (RFC 6143, section 7.6.1), when they have asked for one.

use std::{
    io::{self, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
};

use super::{
    clipboard,
    pixels::{PixelFormat, Zrle, raw},
    tight::Tight,
};
use crate::{Changes, Cursor, Party, Poll, Rect, Screen, Size, Tile, lock};

/// Encodings and what looks like some (sections 7.7 and 7.8, and the community's list).
pub(super) mod encoding {
    pub const RAW: i32 = 0;
    pub const TIGHT: i32 = 7;
    pub const ZRLE: i32 = 16;
    pub const CURSOR: i32 = -239;
    pub const DESKTOP_SIZE: i32 = -223;
    pub const EXTENDED_DESKTOP_SIZE: i32 = -308;
    pub const KEY_CODES: i32 = -258;
    pub const CLIPBOARD: i32 = 0xc0a1_e5ce_u32.cast_signed();
}

/// Answers to a viewer that wants another size: it may come later; it cannot be.
pub(super) const FORWARDED: u16 = 4;
pub(super) const INVALID: u16 = 3;

/// What a viewer wants and can do.
pub(super) struct Wants {
    pub(super) format: PixelFormat,
    pub(super) leave: bool,
    request: Option<(bool, Rect)>,
    /// The size that it knows of.
    size: Size,
    /// How it wants pixels best.
    encoding: i32,
    cursor: bool,
    /// It knows the clipboard's extension.
    clipboard: bool,
    say: Say,
    resize: Option<i32>,
    /// It has to be told that it can ask for sizes, or send codes.
    tell_resize: bool,
    tell_codes: bool,
    /// It has asked for a size: the answer.
    answer: Option<u16>,
    /// It has been told of another size, and has seen nothing since.
    redraw: bool,
}

impl Wants {
    pub(super) fn new(size: Size) -> Self {
        Self {
            format: PixelFormat::OWN,
            leave: false,
            request: None,
            size,
            encoding: encoding::RAW,
            cursor: false,
            clipboard: false,
            say: Say::default(),
            resize: None,
            tell_resize: false,
            tell_codes: false,
            answer: None,
            redraw: false,
        }
    }

    /// The size that it knows of.
    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// It says what it understands.
    pub(super) fn learn(&mut self, encodings: &[i32]) {
        use encoding::{CLIPBOARD, CURSOR, DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE, RAW, TIGHT, ZRLE};
        let knows = |encoding| encodings.contains(&encoding);
        let ours = encodings.iter().copied().find(|encoding| [TIGHT, ZRLE, RAW].contains(encoding));
        self.encoding = ours.unwrap_or(RAW);
        self.say.caps |= knows(CLIPBOARD) && !self.clipboard;
        self.clipboard = knows(CLIPBOARD);
        self.cursor = knows(CURSOR);
        self.resize = [EXTENDED_DESKTOP_SIZE, DESKTOP_SIZE].into_iter().find(|encoding| knows(*encoding));
        self.tell_resize = knows(EXTENDED_DESKTOP_SIZE);
        self.tell_codes = knows(encoding::KEY_CODES);
    }

    /// It asks for the screen. Asked twice, it gets what is more.
    pub(super) fn ask(&mut self, incremental: bool, rect: Rect) {
        let all = |(known, _): &(bool, Rect)| !known;
        if !self.request.as_ref().is_some_and(all) {
            self.request = Some((incremental, rect));
        }
    }

    /// It has asked for a size.
    pub(super) fn answer_resize(&mut self, status: u16) {
        self.answer = Some(status);
    }

    /// It says something about its clipboard that has to be answered.
    pub(super) fn ask_clipboard(&mut self, ask: Ask) {
        if !self.clipboard {
            return;
        }
        match ask {
            Ask::Text => self.say.provide = true,
            Ask::Whether => self.say.notify = true,
            Ask::Theirs => self.say.request = true,
        }
    }

    fn poll(&self) -> Poll {
        let news = self.tell_resize || self.tell_codes || self.answer.is_some();
        match self.request {
            _ if self.leave => Poll::Leave,
            _ if self.say != Say::default() => Poll::Return,
            None => Poll::Idle,
            Some(_) if self.redraw => Poll::Now(Rect::all(self.size)),
            Some((false, rect)) => Poll::Now(rect),
            Some((true, _)) if news => Poll::Now(Rect::default()),
            Some((true, _)) => Poll::Changes,
        }
    }
}

/// What is to be said about the clipboard to a viewer that knows the extension. Each is said once, however often it was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Say {
    caps: bool,
    notify: bool,
    request: bool,
    provide: bool,
}

/// What a viewer wants of the clipboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// The text.
    Text,
    /// Whether there is one.
    Whether,
    /// That its own is asked for.
    Theirs,
}

/// Sends a viewer what it asks for until it leaves.
///
/// # Errors
/// When it does not take it.
pub(super) fn run(
    mut stream: &TcpStream,
    screen: &Arc<Screen>,
    wants: &Mutex<Wants>,
    party: Option<&Party>,
) -> io::Result<()> {
    let viewer = screen.viewer();
    let mut encoders = Encoders { zrle: Zrle::new(), tight: Tight::new() };
    let mut copied = None;
    let poll = |copied: &mut Option<Arc<str>>| {
        *copied = party.and_then(Party::news);
        let wanted = lock(wants).poll();
        if copied.is_some() && wanted != Poll::Leave { Poll::Return } else { wanted }
    };
    while let Some(changes) = viewer.next(|| poll(&mut copied)) {
        // Its own statement: the viewer's words are heard while something is written.
        let said = talk(&mut lock(wants), copied.take().as_deref(), party)?;
        if let Some(said) = said {
            stream.write_all(&said)?;
            continue;
        }
        let mut wants = lock(wants);
        let bytes = encode(&mut wants, &mut encoders, &changes);
        if let Some(bytes) = bytes {
            wants.request = None;
            drop(wants);
            stream.write_all(&bytes)?;
        }
    }
    Ok(())
}

/// What there is to say about the clipboard, `copied` being what was copied just now.
fn talk(wants: &mut Wants, copied: Option<&str>, party: Option<&Party>) -> io::Result<Option<Vec<u8>>> {
    let say = std::mem::take(&mut wants.say);
    if !wants.clipboard {
        return Ok(copied.map(cut_text));
    }
    let text = party.map(Party::text).unwrap_or_default();
    let mut said = Vec::new();
    if say.caps {
        said.extend(clipboard::caps());
    }
    if copied.is_some() || say.notify {
        said.extend(clipboard::notify(!text.is_empty()));
    }
    if say.request {
        said.extend(clipboard::request());
    }
    if say.provide {
        said.extend(clipboard::provide(&text)?);
    }
    Ok((!said.is_empty()).then_some(said))
}

/// What pixels are encoded with, through a whole session.
struct Encoders {
    zrle: Zrle,
    tight: Tight,
}

/// Tells of a text that was copied (section 7.6.4), which is Latin-1.
fn cut_text(text: &str) -> Vec<u8> {
    let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
    [&[3, 0, 0, 0], &(bytes.len() as u32).to_be_bytes()[..], &bytes].concat()
}

/// The update that tells of `changes`, if there is something in them for the viewer.
fn encode(wants: &mut Wants, encoders: &mut Encoders, changes: &Changes) -> Option<Vec<u8>> {
    let mut update = Update::default();
    if std::mem::take(&mut wants.tell_codes) {
        update.head(Rect::default(), encoding::KEY_CODES);
    }
    wants.redraw = false;
    if resize(wants, changes, &mut update) {
        // An update of its own: not every viewer takes pixels of a size that it has just heard of.
        wants.redraw = true;
        return update.finish();
    }
    if let Some(cursor) = changes.cursor.as_ref().filter(|_| wants.cursor) {
        update.cursor(&wants.format, cursor);
    }
    for tile in changes.tiles.iter().filter_map(|tile| crop(tile, wants.size)) {
        match wants.encoding {
            encoding::TIGHT => {
                let Update { count, body } = &mut update;
                encoders.tight.put(&wants.format, &tile, body, |body, rect| {
                    *count += 1;
                    put_head(body, rect, encoding::TIGHT);
                });
            }
            encoding::ZRLE => {
                update.head(tile.rect, encoding::ZRLE);
                encoders.zrle.put(&wants.format, &tile, &mut update.body);
            }
            _ => {
                update.head(tile.rect, encoding::RAW);
                raw(&wants.format, &tile, &mut update.body);
            }
        }
    }
    update.finish()
}

/// Tells of sizes; returns whether there is a new one. A viewer that cannot change its own sees what of the screen fits.
fn resize(wants: &mut Wants, changes: &Changes, update: &mut Update) -> bool {
    let new = changes.resized.filter(|size| *size != wants.size && wants.resize.is_some());
    wants.size = new.unwrap_or(wants.size);
    let answer = wants.answer.take();
    let first = std::mem::take(&mut wants.tell_resize);
    match wants.resize {
        Some(encoding::EXTENDED_DESKTOP_SIZE) => {
            if let Some(status) = answer {
                update.screens(wants.size, 1, status);
            }
            if first || new.is_some() {
                update.screens(wants.size, 0, 0);
            }
        }
        Some(kind) if new.is_some() => update.head(Rect::all(wants.size), kind),
        _ => {}
    }
    new.is_some()
}

/// What of `tile` is within `size`.
fn crop(tile: &Tile, size: Size) -> Option<Tile> {
    let rect = tile.rect.intersection(&Rect::all(size));
    if rect.is_empty() {
        return None;
    }
    let rows = tile.pixels.chunks_exact(tile.rect.width as usize).take(rect.height as usize);
    let pixels = rows.flat_map(|row| row.iter().take(rect.width as usize)).copied().collect();
    Some(Tile { rect, pixels })
}

fn put_head(body: &mut Vec<u8>, rect: Rect, encoding: i32) {
    let Rect { x, y, width, height } = rect;
    body.extend([x, y, width, height].into_iter().flat_map(|n| (n as u16).to_be_bytes()));
    body.extend(encoding.to_be_bytes());
}

/// An update that is being written.
#[derive(Default)]
struct Update {
    count: usize,
    body: Vec<u8>,
}

impl Update {
    fn head(&mut self, rect: Rect, encoding: i32) {
        self.count += 1;
        put_head(&mut self.body, rect, encoding);
    }

    /// The screen's size: why it is said, and what came of a wish.
    fn screens(&mut self, size: Size, reason: u32, status: u16) {
        let rect = Rect { x: reason, y: status.into(), ..Rect::all(size) };
        self.head(rect, encoding::EXTENDED_DESKTOP_SIZE);
        self.body.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        self.body.extend([size.width, size.height].into_iter().flat_map(|n| (n as u16).to_be_bytes()));
        self.body.extend([0; 4]);
    }

    /// The pointer: its pixels, and which of them are there.
    fn cursor(&mut self, format: &PixelFormat, cursor: &Cursor) {
        let Size { width, height } = cursor.size;
        self.head(Rect::new(cursor.hot_x, cursor.hot_y, width, height), encoding::CURSOR);
        cursor.pixels.iter().for_each(|pixel| format.put(*pixel & 0x00ff_ffff, &mut self.body));
        for row in cursor.pixels.chunks(width.max(1) as usize) {
            for eight in row.chunks(8) {
                let bits = eight.iter().enumerate();
                let byte = bits.fold(0, |byte, (i, pixel)| byte | ((pixel >> 31) as u8) << (7 - i));
                self.body.push(byte);
            }
        }
    }

    fn finish(self) -> Option<Vec<u8>> {
        if self.count == 0 {
            return None;
        }
        let mut bytes = vec![0, 0];
        bytes.extend((self.count as u16).to_be_bytes());
        bytes.extend(self.body);
        Some(bytes)
    }
}
