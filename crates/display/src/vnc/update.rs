//! What viewers are sent: updates of the screen (RFC 6143, section 7.6.1), when they have asked for one.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use super::{
    clipboard,
    pixels::{PixelFormat, Zrle, raw},
    tight::Tight,
};
use crate::{
    Cursor, Input, Party, Poll, Rect, Screen, Size, Tile, Viewer,
    input::{Lights, evdev::LED_CAPSL, evdev::LED_NUML, evdev::LED_SCROLLL},
    lock,
    screen::Changes,
};

/// Encodings and what looks like some (sections 7.7 and 7.8, and the community's list).
pub(super) mod encoding {
    pub const RAW: i32 = 0;
    pub const TIGHT: i32 = 7;
    pub const ZRLE: i32 = 16;
    pub const CURSOR: i32 = -239;
    pub const DESKTOP_SIZE: i32 = -223;
    pub const EXTENDED_DESKTOP_SIZE: i32 = -308;
    pub const KEY_CODES: i32 = -258;
    pub const LIGHTS: i32 = -261;
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
    /// It knows of the keyboard's lights; how they are, and how it knows them to be.
    knows_lights: bool,
    lights: Option<Lights>,
    told_lights: Option<Lights>,
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
            knows_lights: false,
            lights: None,
            told_lights: None,
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
        if !std::mem::replace(&mut self.knows_lights, knows(encoding::LIGHTS)) {
            self.told_lights = None;
        }
    }

    /// The lights are like that now; nobody knows without a keyboard.
    fn see_lights(&mut self, lights: Option<Lights>) {
        self.lights = lights;
    }

    /// How the lights are, if it does not know.
    fn news_of_lights(&self) -> Option<Lights> {
        self.lights.filter(|lights| self.knows_lights && self.told_lights != Some(*lights))
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
        let news =
            self.tell_resize || self.tell_codes || self.answer.is_some() || self.news_of_lights().is_some();
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

/// What viewers are told about.
pub(super) struct Sights<'a> {
    pub(super) screen: &'a Arc<Screen>,
    pub(super) input: &'a Input,
    pub(super) party: Option<&'a Party>,
}

/// Sends a viewer what it asks for until it leaves.
///
/// # Errors
/// When it does not take it.
pub(super) fn run(stream: &mut impl Write, sights: &Sights<'_>, wants: &Mutex<Wants>) -> io::Result<()> {
    let Sights { screen, input, party } = *sights;
    let viewer = screen.viewer();
    let mut encoders = Encoders { zrle: Zrle::new(), tight: Tight::new() };
    let mut copied = None;
    let poll = |copied: &mut Option<Arc<str>>| {
        *copied = party.and_then(Party::news);
        let mut wants = lock(wants);
        wants.see_lights(input.lights());
        let wanted = wants.poll();
        if copied.is_some() && wanted != Poll::Leave { Poll::Return } else { wanted }
    };
    while let Some(places) = viewer.next(|| poll(&mut copied)) {
        // Its own statement: the viewer's words are heard while something is written.
        let said = talk(&mut lock(wants), copied.take().as_deref(), party)?;
        if let Some(said) = said {
            stream.write_all(&said)?;
            continue;
        }
        let update = Update::plan(&mut lock(wants), &places);
        update.send(&viewer, &mut encoders, stream)?;
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

/// Lights as viewers are told of them (QEMU's LED state; the community's list, section 7.8).
fn rfb_lights(lights: Lights) -> u8 {
    let order = [LED_SCROLLL, LED_NUML, LED_CAPSL];
    (0..).zip(order).fold(0, |bits, (bit, light)| bits | u8::from(lights.is_on(light)) << bit)
}

/// What pixels are encoded with, through a whole session.
struct Encoders {
    zrle: Zrle,
    tight: Tight,
}

impl Encoders {
    /// Appends a part of the picture; raw pixels without what comes before them.
    fn put(&mut self, format: &PixelFormat, encoding: i32, tile: &Tile, to: &mut Vec<u8>) {
        match encoding {
            encoding::TIGHT => {
                self.tight.put(format, tile, to, |to, rect| put_head(to, rect, encoding::TIGHT));
            }
            encoding::ZRLE => {
                put_head(to, tile.rect, encoding::ZRLE);
                self.zrle.put(format, tile, to);
            }
            _ => raw(format, tile, to),
        }
    }
}

/// Tells of a text that was copied (section 7.6.4), which is Latin-1.
fn cut_text(text: &str) -> Vec<u8> {
    let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
    [&[3, 0, 0, 0], &(bytes.len() as u32).to_be_bytes()[..], &bytes].concat()
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

fn put_head(body: &mut Vec<u8>, rect: Rect, encoding: i32) {
    let Rect { x, y, width, height } = rect;
    body.extend([x, y, width, height].into_iter().flat_map(|n| (n as u16).to_be_bytes()));
    body.extend(encoding.to_be_bytes());
}

/// An update: what its first part says, and which parts of the picture follow. It is planned with what the viewer wants at one
/// moment, and sent without holding up who hears it meanwhile.
#[derive(Default)]
struct Update {
    count: usize,
    body: Vec<u8>,
    /// The parts of the picture, within the screen as the viewer knows it.
    rects: Vec<Rect>,
    how: Option<(PixelFormat, i32)>,
}

impl Update {
    /// The update that tells of `changes`: empty if there is nothing in them for the viewer.
    fn plan(wants: &mut Wants, changes: &Changes) -> Self {
        let mut update = Self::default();
        if std::mem::take(&mut wants.tell_codes) {
            update.head(Rect::default(), encoding::KEY_CODES);
        }
        if let Some(lights) = wants.news_of_lights() {
            wants.told_lights = Some(lights);
            update.head(Rect::default(), encoding::LIGHTS);
            update.body.push(rfb_lights(lights));
        }
        wants.redraw = false;
        if resize(wants, changes, &mut update) {
            // An update of its own: not every viewer takes pixels of a size that it has just heard of.
            wants.redraw = true;
        } else {
            if let Some(cursor) = changes.cursor.as_ref().filter(|_| wants.cursor) {
                update.cursor(&wants.format, cursor);
            }
            let all = Rect::all(wants.size);
            let rects = changes.rects.iter().map(|rect| rect.intersection(&all));
            update.rects = rects.filter(|rect| !rect.is_empty()).collect();
            update.how = Some((wants.format, wants.encoding));
        }
        if update.count > 0 || !update.rects.is_empty() {
            wants.request = None;
        }
        update
    }

    /// Sends it, if there is something in it.
    fn send(self, viewer: &Viewer, encoders: &mut Encoders, to: &mut impl Write) -> io::Result<()> {
        let Self { mut count, body, rects, how } = self;
        let (format, encoding) = how.unwrap_or((PixelFormat::OWN, encoding::RAW));
        count += match encoding {
            encoding::TIGHT => rects.iter().copied().flat_map(Rect::bands).map(Tight::count).sum(),
            encoding::ZRLE => rects.iter().copied().flat_map(Rect::bands).count(),
            _ => rects.len(),
        };
        if count == 0 {
            return Ok(());
        }
        let head = (count as u16).to_be_bytes();
        let mut bytes = [&[0, 0], &head[..], &body].concat();
        for rect in rects {
            if encoding == encoding::RAW {
                put_head(&mut bytes, rect, encoding);
            }
            for band in rect.bands() {
                encoders.put(&format, encoding, &viewer.tile(band), &mut bytes);
                to.write_all(&bytes)?;
                bytes.clear();
            }
        }
        // What has no picture.
        to.write_all(&bytes)
    }

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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mode;

    /// A viewer's end of the connection: how much it was sent, and how much at most at once.
    #[derive(Default)]
    struct Sent {
        all: Vec<u8>,
        most: usize,
    }

    impl Write for Sent {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.all.extend(bytes);
            self.most = self.most.max(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// However large the screen is, no more than a band of it is kept for a viewer, whichever way it wants it.
    #[test]
    fn an_update_is_never_in_memory_as_a_whole() {
        let size = Size::new(2000, 1000);
        let screen = Screen::new(Mode::default());
        screen.resize(size);
        // Noise, which does not get smaller.
        screen.paint(Rect::all(size), |y, _, row| {
            (0..).zip(row).for_each(|(x, to)| *to = (y << 12 | x).wrapping_mul(0x9e37_79b9) >> 8);
        });
        let band = (size.width * crate::geometry::BAND * 4) as usize;
        for (encoding, heads) in [(encoding::RAW, 1), (encoding::TIGHT, 16 * 8), (encoding::ZRLE, 8)] {
            let (viewer, mut sent) = (screen.viewer(), Sent::default());
            let mut wants = Wants::new(size);
            wants.learn(&[encoding]);
            wants.ask(false, Rect::all(size));
            let places = viewer.next(|| wants.poll()).unwrap();
            let mut encoders = Encoders { zrle: Zrle::new(), tight: Tight::new() };
            Update::plan(&mut wants, &places).send(&viewer, &mut encoders, &mut sent).unwrap();
            assert_eq!(sent.all[..4], [0, 0, 0, heads], "{encoding}");
            assert!(sent.all.len() > size.area() as usize * 2, "{encoding}: {}", sent.all.len());
            assert!(sent.most <= band + band / 8, "{encoding}: {} of {}", sent.most, sent.all.len());
        }
    }

    /// Its rectangles were counted before: what is no more is black.
    #[test]
    fn a_screen_that_shrinks_while_it_is_sent_leaves_what_follows_intact() {
        let (screen, size) = (Screen::new(Mode::default()), Size::new(300, 300));
        screen.resize(size);
        screen.paint(Rect::all(size), |_, _, row| row.fill(1));
        let (viewer, mut sent) = (screen.viewer(), Sent::default());
        let mut wants = Wants::new(size);
        wants.ask(true, Rect::all(size));
        let places = viewer.next(|| wants.poll()).unwrap();
        let update = Update::plan(&mut wants, &places);
        screen.resize(Size::new(100, 200));
        screen.paint(Rect::all(size), |_, _, row| row.fill(2));
        let mut encoders = Encoders { zrle: Zrle::new(), tight: Tight::new() };
        update.send(&viewer, &mut encoders, &mut sent).unwrap();
        let pixels = &sent.all[4 + 12..];
        assert_eq!(pixels.len(), 300 * 300 * 4);
        assert_eq!(pixels.chunks(4).filter(|pixel| pixel[0] == 2).count(), 100 * 200);
    }
}
