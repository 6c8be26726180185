//! The screen: one picture, whoever paints it, and any number of viewers.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use crate::{Damage, Rect, Size, lock};

/// Most pixels per side. A mode line of an EDID cannot say more.
pub const MAX_SIDE: u32 = 4095;

/// What a screen is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Its size in pixels.
    pub size: Size,
    /// How many pixels, in each direction, are shown where an ordinary screen has one.
    pub scale: u32,
}

impl Default for Mode {
    fn default() -> Self {
        Self { size: Size::new(1280, 800), scale: 1 }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}@{}x", self.size.width, self.size.height, self.scale)
    }
}

/// The pointer's picture, which is not part of the screen's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Where its hot spot is.
    pub x: u32,
    /// Where its hot spot is.
    pub y: u32,
    /// The hot spot within the picture.
    pub hot_x: u32,
    /// The hot spot within the picture.
    pub hot_y: u32,
    /// The size of the picture; empty when there is no pointer to be seen.
    pub size: Size,
    /// Its pixels, `0xAARRGGBB`, colours multiplied by alpha.
    pub pixels: Arc<[u32]>,
}

/// A part of the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Where.
    pub rect: Rect,
    /// Its pixels, `0x00RRGGBB`, row by row.
    pub pixels: Vec<u32>,
}

/// What a viewer has not seen yet. It takes the pixels in parts of its own choice ([`Viewer::tile`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The new size, if it is another.
    pub resized: Option<Size>,
    /// The new pointer, if its picture is another.
    pub cursor: Option<Cursor>,
    /// Where the picture is new.
    pub rects: Vec<Rect>,
}

/// What a viewer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Nothing now.
    Idle,
    /// What has changed, once something has.
    Changes,
    /// This part, changed or not, and what has changed besides.
    Now(Rect),
    /// To have something else to do: no changes, at once.
    Return,
    /// To leave.
    Leave,
}

struct Frame {
    size: Size,
    pixels: Vec<u32>,
}

impl Frame {
    fn black(size: Size) -> Self {
        Self { size, pixels: vec![0; usize::try_from(size.area()).unwrap_or(0)] }
    }

    fn rows(&self, rect: Rect) -> impl Iterator<Item = &[u32]> {
        let width = self.size.width as usize;
        let rows = self.pixels.chunks_exact(width.max(1)).skip(rect.y as usize).take(rect.height as usize);
        rows.filter_map(move |row| row.get(rect.x as usize..)?.get(..rect.width as usize))
    }
}

#[derive(Default)]
struct Unseen {
    damage: Damage,
    resized: bool,
    cursor: bool,
}

/// Who is to hear of wishes.
pub type Listener = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct State {
    frame: Option<Frame>,
    cursor: Cursor,
    wish: Mode,
    listener: Option<Listener>,
    /// Others who hear of wishes, whoever drives it.
    watchers: Vec<Listener>,
    viewers: BTreeMap<u64, Unseen>,
    next_viewer: u64,
}

impl State {
    fn damage(&mut self, rect: Rect) {
        self.viewers.values_mut().for_each(|unseen| unseen.damage.add(rect));
    }
}

/// A screen. It shows nothing until somebody gives it a size.
#[derive(Default)]
pub struct Screen {
    state: Mutex<State>,
    changed: Condvar,
}

impl Screen {
    /// A screen that is to be like `mode`, as far as it is for its user to say.
    pub fn new(mode: Mode) -> Arc<Self> {
        let screen = Self::default();
        lock(&screen.state).wish = mode;
        Arc::new(screen)
    }

    /// What its user wants it to be like.
    pub fn wish(&self) -> Mode {
        lock(&self.state).wish
    }

    /// Wants it to be of `size`, as far as that can be; whoever drives it hears of it.
    pub fn want(&self, size: Size) {
        let scale = self.wish().scale;
        self.want_mode(Mode { size, scale });
    }

    /// As [`Self::want`], with another scale.
    pub fn want_mode(&self, mode: Mode) {
        let clamp = |side: u32| side.clamp(MIN_SIDE, MAX_SIDE);
        let size = Size::new(clamp(mode.size.width), clamp(mode.size.height));
        let mode = Mode { size, scale: mode.scale.clamp(1, MAX_SCALE) };
        let listeners: Vec<_> = {
            let mut state = lock(&self.state);
            if std::mem::replace(&mut state.wish, mode) == mode {
                return;
            }
            state.listener.iter().chain(&state.watchers).cloned().collect()
        };
        listeners.iter().for_each(|listener| listener());
    }

    /// From now on `watcher` hears of wishes too, whoever drives it.
    pub fn on_wish(&self, watcher: Listener) {
        lock(&self.state).watchers.push(watcher);
    }

    /// From now on `listener` hears of wishes.
    pub fn drive(&self, listener: Listener) {
        lock(&self.state).listener = Some(listener);
    }

    /// Whether somebody drives it: what firmware shows is not wanted then.
    pub fn is_driven(&self) -> bool {
        lock(&self.state).listener.is_some()
    }

    /// Nobody drives it any more, and it shows nothing.
    pub fn release(&self) {
        let mut state = lock(&self.state);
        state.listener = None;
        state.frame = None;
        state.cursor = Cursor::default();
        for unseen in state.viewers.values_mut() {
            *unseen = Unseen { resized: true, cursor: true, damage: Damage::default() };
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The size of what it shows.
    pub fn size(&self) -> Option<Size> {
        lock(&self.state).frame.as_ref().map(|frame| frame.size)
    }

    /// Shows a picture of `size`, at most [`MAX_SIDE`] on each side: black if that is a new one.
    pub fn resize(&self, size: Size) {
        let size = Size::new(size.width.min(MAX_SIDE), size.height.min(MAX_SIDE));
        let mut state = lock(&self.state);
        if state.frame.as_ref().is_some_and(|frame| frame.size == size) {
            return;
        }
        state.frame = Some(Frame::black(size));
        for unseen in state.viewers.values_mut() {
            unseen.resized = true;
            unseen.damage = Damage::default();
        }
        state.damage(Rect::all(size));
        drop(state);
        self.changed.notify_all();
    }

    /// Paints `rect`, or what of it is on the screen: `row` is given each row's number, counted from the screen's upper edge, its
    /// first column and its pixels to be set, `0x00RRGGBB`.
    pub fn paint(&self, rect: Rect, mut row: impl FnMut(u32, u32, &mut [u32])) {
        let mut state = lock(&self.state);
        let Some(frame) = &mut state.frame else { return };
        let rect = rect.intersection(&Rect::all(frame.size));
        if rect.is_empty() {
            return;
        }
        let rows = frame.pixels.chunks_exact_mut(frame.size.width as usize);
        for (y, pixels) in (0..).zip(rows).skip(rect.y as usize).take(rect.height as usize) {
            let part = pixels.get_mut(rect.x as usize..).and_then(|p| p.get_mut(..rect.width as usize));
            if let Some(part) = part {
                row(y, rect.x, part);
            }
        }
        state.damage(rect);
        drop(state);
        self.changed.notify_all();
    }

    /// Shows another pointer.
    pub fn set_cursor(&self, cursor: Cursor) {
        let mut state = lock(&self.state);
        state.cursor = cursor;
        state.viewers.values_mut().for_each(|unseen| unseen.cursor = true);
        drop(state);
        self.changed.notify_all();
    }

    /// The pointer.
    pub fn cursor(&self) -> Cursor {
        lock(&self.state).cursor.clone()
    }

    /// Moves the pointer. Viewers are not told: theirs is where they moved it.
    pub fn move_cursor(&self, x: u32, y: u32) {
        let mut state = lock(&self.state);
        (state.cursor.x, state.cursor.y) = (x, y);
    }

    /// All that there is to be seen, pointer included.
    pub fn picture(&self) -> Option<(Size, Vec<u32>)> {
        let state = lock(&self.state);
        let frame = state.frame.as_ref()?;
        let mut pixels = frame.pixels.clone();
        blend(frame.size, &mut pixels, &state.cursor);
        Some((frame.size, pixels))
    }

    /// A new viewer, which has not seen anything.
    pub fn viewer(self: &Arc<Self>) -> Viewer {
        let mut state = lock(&self.state);
        let id = state.next_viewer;
        state.next_viewer += 1;
        let mut unseen = Unseen { resized: true, cursor: true, damage: Damage::default() };
        if let Some(frame) = &state.frame {
            unseen.damage.add(Rect::all(frame.size));
        }
        state.viewers.insert(id, unseen);
        Viewer { screen: self.clone(), id }
    }

    /// Has viewers that wait ask again what they want.
    pub fn nudge(&self) {
        // Under the lock: one that has just asked must not miss it.
        let state = lock(&self.state);
        self.changed.notify_all();
        drop(state);
    }
}

/// The largest scale that anybody can want.
const MAX_SCALE: u32 = 4;
/// The smallest side that anybody can want.
const MIN_SIDE: u32 = 64;

/// Puts the pointer onto the picture.
fn blend(size: Size, pixels: &mut [u32], cursor: &Cursor) {
    let width = cursor.size.width as usize;
    let left = i64::from(cursor.x) - i64::from(cursor.hot_x);
    let top = i64::from(cursor.y) - i64::from(cursor.hot_y);
    for (dy, row) in (0i64..).zip(cursor.pixels.chunks_exact(width.max(1))) {
        for (dx, &over) in (0i64..).zip(row) {
            let (x, y) = (left + dx, top + dy);
            if x < 0 || y < 0 || x >= i64::from(size.width) || y >= i64::from(size.height) {
                continue;
            }
            let at = usize::try_from(y * i64::from(size.width) + x).unwrap_or(usize::MAX);
            if let Some(under) = pixels.get_mut(at) {
                *under = mix(*under, over);
            }
        }
    }
}

fn mix(under: u32, over: u32) -> u32 {
    let rest = 255 - (over >> 24);
    [16, 8, 0].into_iter().fold(0, |pixel, shift| {
        let (below, above) = (under >> shift & 0xff, over >> shift & 0xff);
        pixel | (above + below * rest / 255).min(255) << shift
    })
}

/// Somebody who looks at a screen.
pub struct Viewer {
    screen: Arc<Screen>,
    id: u64,
}

impl Viewer {
    /// Waits until there is what `poll` wants. It is asked whenever something has changed, and after [`Screen::nudge`].
    /// `None` when it wants to leave. The screen is locked meanwhile: `poll` must not ask it anything.
    pub fn next(&self, mut poll: impl FnMut() -> Poll) -> Option<Changes> {
        let mut state = lock(&self.screen.state);
        loop {
            let wanted = match poll() {
                Poll::Leave => return None,
                Poll::Return => return Some(Changes::default()),
                Poll::Idle => None,
                Poll::Changes => Some(None),
                Poll::Now(rect) => Some(Some(rect)),
            };
            if let Some(rect) = wanted
                && let Some(changes) = self.take(&mut state, rect)
            {
                return Some(changes);
            }
            state = self.screen.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What is to be seen at `rect` now, black where the screen is not as large any more. What is painted there later is news again.
    pub fn tile(&self, rect: Rect) -> Tile {
        let mut tile = Tile { rect, pixels: vec![0; usize::try_from(rect.size().area()).unwrap_or(0)] };
        let state = lock(&self.screen.state);
        let Some(frame) = &state.frame else { return tile };
        let seen = rect.intersection(&Rect::all(frame.size));
        let rows = tile.pixels.chunks_exact_mut(rect.width.max(1) as usize);
        for (to, from) in rows.zip(frame.rows(seen)) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
        tile
    }

    fn take(&self, state: &mut State, now: Option<Rect>) -> Option<Changes> {
        let State { frame, cursor, viewers, .. } = state;
        let unseen = viewers.get_mut(&self.id)?;
        let frame = frame.as_ref()?;
        if let Some(rect) = now {
            unseen.damage.add(rect.intersection(&Rect::all(frame.size)));
        }
        if unseen.damage.is_empty() && !unseen.resized && !unseen.cursor && now.is_none() {
            return None;
        }
        let Unseen { mut damage, resized, cursor: new_cursor } = std::mem::take(unseen);
        Some(Changes {
            resized: resized.then_some(frame.size),
            cursor: new_cursor.then(|| cursor.clone()),
            rects: damage.take(),
        })
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        lock(&self.screen.state).viewers.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const SIZE: Size = Size::new(8, 4);

    fn fill(screen: &Screen, rect: Rect, colour: u32) {
        screen.paint(rect, |_, _, row| row.fill(colour));
    }

    #[test]
    fn a_viewer_sees_all_first_and_changes_later() {
        let screen = Screen::new(Mode::default());
        screen.resize(SIZE);
        fill(&screen, Rect::new(1, 1, 2, 2), 0xabcdef);
        let viewer = screen.viewer();
        let changes = viewer.next(|| Poll::Changes).unwrap();
        assert_eq!((changes.resized, changes.rects), (Some(SIZE), vec![Rect::all(SIZE)]));
        let tile = viewer.tile(Rect::all(SIZE));
        assert_eq!((tile.pixels[8 + 1], tile.pixels[0]), (0xabcdef, 0));

        fill(&screen, Rect::new(6, 3, 9, 9), 7);
        let changes = viewer.next(|| Poll::Changes).unwrap();
        assert_eq!(changes.resized, None);
        assert_eq!(changes.rects, [Rect::new(6, 3, 2, 1)]);
        let again = viewer.next(|| Poll::Now(Rect::new(6, 3, 1, 1))).unwrap();
        assert_eq!(viewer.tile(again.rects[0]).pixels, [7]);
        assert_eq!(viewer.next(|| Poll::Leave), None);
    }

    #[test]
    fn a_part_is_what_is_there_now_and_black_where_nothing_is_any_more() {
        let screen = Screen::new(Mode::default());
        let viewer = screen.viewer();
        assert_eq!(viewer.tile(Rect::new(0, 0, 2, 1)).pixels, [0, 0]);
        screen.resize(SIZE);
        fill(&screen, Rect::all(SIZE), 1);
        let changes = viewer.next(|| Poll::Changes).unwrap();
        assert_eq!((changes.resized, changes.rects), (Some(SIZE), vec![Rect::all(SIZE)]));
        screen.resize(Size::new(7, 2));
        fill(&screen, Rect::new(0, 0, 7, 2), 2);
        assert_eq!(viewer.tile(Rect::new(5, 1, 3, 2)).pixels, [2, 2, 0, 0, 0, 0]);
        assert!(!viewer.next(|| Poll::Changes).unwrap().rects.is_empty());
    }

    #[test]
    fn a_waiting_viewer_is_woken_by_changes_and_nudges() {
        let screen = Screen::new(Mode::default());
        let viewer = screen.viewer();
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        let waiting = std::thread::spawn(move || {
            viewer.next(|| if count.fetch_add(1, Ordering::SeqCst) == 0 { Poll::Idle } else { Poll::Changes })
        });
        while asked.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        screen.nudge();
        screen.resize(SIZE);
        assert_eq!(waiting.join().unwrap().unwrap().resized, Some(SIZE));
    }

    #[test]
    fn wishes_reach_the_driver_within_bounds() {
        let screen = Screen::new(Mode::default());
        let heard = Arc::new(AtomicU32::new(0));
        let count = heard.clone();
        screen.drive(Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        screen.want(Size::new(1, 1 << 30));
        screen.want(Size::new(0, u32::MAX));
        assert_eq!(screen.wish().size, Size::new(64, MAX_SIDE));
        assert_eq!(heard.load(Ordering::SeqCst), 1);
        screen.release();
        screen.want(Size::new(800, 600));
        assert_eq!(heard.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_pointer_is_on_the_picture_and_may_hang_over_its_edge() {
        let screen = Screen::new(Mode::default());
        screen.resize(SIZE);
        fill(&screen, Rect::all(SIZE), 0x0000ff);
        let pixels = Arc::from([0xffff_0000u32, 0x8080_0000, 0, 0xff00_ff00]);
        let cursor = Cursor { x: 0, y: 0, hot_x: 1, hot_y: 0, size: Size::new(2, 2), pixels };
        screen.set_cursor(cursor.clone());
        let (_, picture) = screen.picture().unwrap();
        assert_eq!((picture[0], picture[8]), (0x80007f, 0x00ff00));
        screen.move_cursor(u32::MAX, 3);
        assert!(screen.picture().unwrap().1.iter().all(|&p| p == 0xff));
    }
}
