//! The screen before any driver: a frame buffer in the guest's RAM, and text drawn into it.
//!
//! The guest paints into memory and tells nobody, so a thread looks at it again and again and shows what has changed. It ends with
//! the machine, or when a driver of the guest's has taken the screen over.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tearless_display::{Rect, Screen, Size, terminal::Font};

use crate::{
    abi::Status,
    console::{COLUMNS, ROWS},
    guest::Guest,
};

/// Bytes of a pixel: blue, green, red, nothing.
pub(crate) const PIXEL: u64 = 4;
/// How often the picture is looked at while it changes, and when it has not for some time.
const BUSY: Duration = Duration::from_millis(40);
const CALM: Duration = Duration::from_millis(250);
/// Looks without a change after which that is calm.
const SOON: u32 = 50;
/// Sizes that loaders know, beside the screen's own.
const SIZES: [Size; 4] =
    [Size::new(1280, 1024), Size::new(1024, 768), Size::new(800, 600), Size::new(640, 480)];
/// The colours of text attributes (12.4.6).
const COLOURS: [u32; 16] = [
    0x000000, 0x0000aa, 0x00aa00, 0x00aaaa, 0xaa0000, 0xaa00aa, 0xaa5500, 0xaaaaaa, 0x555555, 0x5555ff,
    0x55ff55, 0x55ffff, 0xff5555, 0xff55ff, 0xffff55, 0xffffff,
];

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread needs to know.
struct Shared {
    size: Mutex<Size>,
    ended: AtomicBool,
    wake: Condvar,
}

/// The frame buffer.
pub(crate) struct Glass {
    guest: Guest,
    base: u64,
    modes: Vec<Size>,
    mode: usize,
    font: Font,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// The sizes that `screen` can have: its own first, then usual ones that are not larger.
pub(crate) fn modes(screen: &Screen) -> Vec<Size> {
    let own = screen.wish().size;
    let smaller = |size: &Size| size.width <= own.width && size.height <= own.height && *size != own;
    [own].into_iter().chain(SIZES.into_iter().filter(smaller)).collect()
}

/// Bytes of a frame buffer for the largest of `modes`.
pub(crate) fn bytes(modes: &[Size]) -> u64 {
    modes.iter().map(|size| size.area() * PIXEL).max().unwrap_or(0)
}

impl Glass {
    /// A frame buffer at `base`, where there are as many bytes as [`bytes`] says, that is shown on `screen`.
    ///
    /// # Errors
    /// When the host has no thread.
    pub fn new(guest: Guest, base: u64, modes: Vec<Size>, screen: Arc<Screen>) -> io::Result<Self> {
        let size = modes.first().copied().unwrap_or_default();
        let shared =
            Arc::new(Shared { size: Mutex::new(size), ended: AtomicBool::new(false), wake: Condvar::new() });
        let (theirs, memory) = (Arc::clone(&shared), guest.clone());
        let named = thread::Builder::new().name("frame buffer".to_owned());
        let thread = named.spawn(move || show(&theirs, &memory, base, &screen))?;
        let font = Font::fitting(size, COLUMNS, ROWS);
        Ok(Self { guest, base, modes, mode: 0, font, shared, thread: Some(thread) })
    }

    pub fn modes(&self) -> &[Size] {
        &self.modes
    }

    pub fn mode(&self) -> usize {
        self.mode
    }

    pub fn size(&self) -> Size {
        self.modes.get(self.mode).copied().unwrap_or_default()
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    /// Switches to another size, and black.
    pub fn set_mode(&mut self, mode: usize) -> Result<(), Status> {
        self.mode = mode;
        let size = self.size();
        self.font = Font::fitting(size, COLUMNS, ROWS);
        self.guest.fill(self.base, size.area() * PIXEL, 0)?;
        *lock(&self.shared.size) = size;
        self.shared.wake.notify_all();
        Ok(())
    }

    /// Where a pixel is.
    pub fn at(&self, x: u32, y: u32) -> u64 {
        self.base + (u64::from(y) * u64::from(self.size().width) + u64::from(x)) * PIXEL
    }

    /// Sets `width` pixels of row `y` from `x` on; the caller has checked that they are there.
    pub fn put(&self, x: u32, y: u32, pixels: &[u32]) -> Result<(), Status> {
        let bytes: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
        self.guest.write(self.at(x, y), &bytes)
    }

    /// The text's part of the screen: in its middle.
    fn text(&self) -> (u32, u32) {
        let (size, cell) = (self.size(), self.font.cell());
        let margin = |side: u32, cells: u32, cell: u32| side.saturating_sub(cells * cell) / 2;
        (margin(size.width, COLUMNS, cell.width), margin(size.height, ROWS, cell.height))
    }

    /// Draws a character. What does not fit onto the screen is left out.
    pub fn draw(&self, (column, row): (u32, u32), character: char, attribute: u32) {
        let (size, cell, (left, top)) = (self.size(), self.font.cell(), self.text());
        let (x, y) = (left + column * cell.width, top + row * cell.height);
        if x + cell.width > size.width || y + cell.height > size.height {
            return;
        }
        let colour = |index: u32| COLOURS.get(index as usize & 15).copied().unwrap_or_default();
        let pixels = self.font.draw(character, colour(attribute & 15), colour(attribute >> 4 & 7));
        for (dy, line) in (0..).zip(pixels.chunks(cell.width as usize)) {
            // The memory is the guest's, and there.
            let _ = self.put(x, y + dy, line);
        }
    }

    /// Moves the text up by one row.
    pub fn scroll(&self, attribute: u32) {
        let (size, cell, (_, top)) = (self.size(), self.font.cell(), self.text());
        let bottom = (top + ROWS * cell.height).min(size.height);
        let lines = bottom.saturating_sub(top + cell.height);
        let len = u64::from(lines) * u64::from(size.width) * PIXEL;
        // The memory is the guest's, and there.
        let _ = self.guest.copy(self.at(0, top), self.at(0, top + cell.height), len);
        (0..COLUMNS).for_each(|column| self.draw((column, ROWS - 1), ' ', attribute));
    }

    /// All of the text's part in the background's colour, the rest black.
    pub fn clear(&self, attribute: u32) {
        // The memory is the guest's, and there.
        let _ = self.guest.fill(self.base, self.size().area() * PIXEL, 0);
        if attribute >> 4 & 7 != 0 {
            let cells = (0..ROWS).flat_map(|row| (0..COLUMNS).map(move |column| (column, row)));
            cells.for_each(|cell| self.draw(cell, ' ', attribute));
        }
    }
}

impl Drop for Glass {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        drop(lock(&self.shared.size));
        self.shared.wake.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the frame buffer's thread ended with a panic");
        }
    }
}

/// Shows what is in the frame buffer, until the end or until a driver shows something.
fn show(shared: &Shared, guest: &Guest, base: u64, screen: &Screen) {
    let (mut shown, mut now, mut calm) = (Vec::new(), Vec::new(), 0u32);
    let mut size = Size::default();
    loop {
        let wait = if calm < SOON { BUSY } else { CALM };
        {
            let current = lock(&shared.size);
            if shared.ended.load(Ordering::Acquire) {
                return;
            }
            let timed = shared.wake.wait_timeout(current, wait).unwrap_or_else(PoisonError::into_inner);
            if shared.ended.load(Ordering::Acquire) || screen.is_driven() {
                return;
            }
            if *timed.0 != size {
                size = *timed.0;
                shown.clear();
            }
        }
        now.resize(usize::try_from(size.area() * PIXEL).unwrap_or(0), 0);
        if guest.read(base, &mut now).is_err() {
            return;
        }
        if screen.size() != Some(size) {
            // New, or a driver that only was there for a moment has let go of it.
            screen.resize(size);
            shown.clear();
        }
        calm = calm.saturating_add(1);
        if let Some((first, last)) = changed(&shown, &now, size) {
            calm = 0;
            let rect = Rect::new(0, first, size.width, last - first + 1);
            let line = size.width as usize * PIXEL as usize;
            screen.paint(rect, |y, x, row| {
                let from = now.get(y as usize * line + x as usize * PIXEL as usize..).unwrap_or_default();
                for (to, pixel) in row.iter_mut().zip(from.chunks_exact(PIXEL as usize)) {
                    *to = pixel.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes) & 0xff_ffff);
                }
            });
        }
        std::mem::swap(&mut shown, &mut now);
    }
}

/// The first and the last row that are not as they were.
fn changed(before: &[u8], now: &[u8], size: Size) -> Option<(u32, u32)> {
    let line = (size.width as usize * PIXEL as usize).max(1);
    if before.len() != now.len() {
        return size.height.checked_sub(1).map(|last| (0, last));
    }
    let mut rows = before.chunks(line).zip(now.chunks(line));
    let first = rows.position(|(before, now)| before != now)?;
    let last = before.chunks(line).zip(now.chunks(line)).rposition(|(before, now)| before != now)?;
    Some((u32::try_from(first).ok()?, u32::try_from(last).ok()?))
}

#[cfg(test)]
mod tests {
    use tearless_display::Mode;
    use tearless_memory::{Gpa, GuestMemory};

    use super::*;

    const BASE: u64 = 0x10_0000;

    fn setup(size: Size) -> (Glass, Guest, Arc<Screen>) {
        let guest = Guest::new(GuestMemory::new(&[Gpa(0)..Gpa(0x100_0000)]).unwrap());
        let screen = Screen::new(Mode { size, scale: 1 });
        let modes = modes(&screen);
        assert!(BASE + bytes(&modes) < 0x100_0000);
        (Glass::new(guest.clone(), BASE, modes, screen.clone()).unwrap(), guest, screen)
    }

    fn wait_for(screen: &Screen, what: impl Fn(Size, &[u32]) -> bool) {
        let viewer_sees = || screen.picture().is_some_and(|(size, pixels)| what(size, &pixels));
        while !viewer_sees() {
            thread::yield_now();
        }
    }

    #[test]
    fn what_the_guest_paints_is_seen() {
        let (mut glass, guest, screen) = setup(Size::new(1280, 800));
        guest.write(glass.at(5, 7), &[0x33, 0x22, 0x11, 0xff]).unwrap();
        wait_for(&screen, |size, pixels| size.width == 1280 && pixels[7 * 1280 + 5] == 0x11_2233);
        assert_eq!(glass.modes(), [Size::new(1280, 800), SIZES[1], SIZES[2], SIZES[3]]);
        glass.set_mode(3).unwrap();
        wait_for(&screen, |size, pixels| size == Size::new(640, 480) && pixels.iter().all(|p| *p == 0));
        glass.draw((0, 0), 'X', 0x0f);
        wait_for(&screen, |_, pixels| pixels.contains(&0xff_ffff));
        // A driver has it from now on, and the thread is gone when the glass is.
        screen.drive(Arc::new(|| ()));
        drop(glass);
        assert_eq!(screen.size(), Some(Size::new(640, 480)));
    }

    #[test]
    fn text_scrolls_and_small_screens_have_none() {
        let (glass, guest, _) = setup(Size::new(1280, 800));
        glass.draw((3, ROWS - 1), 'X', 0x0f);
        let line = |row: u32| {
            let (cell, (_, top)) = (glass.font.cell(), glass.text());
            let len = u64::from(cell.height) * 1280 * PIXEL;
            guest.bytes(glass.at(0, top + row * cell.height), len).unwrap()
        };
        let drawn = line(ROWS - 1);
        assert!(drawn.contains(&0xff));
        glass.scroll(7);
        assert_eq!(line(ROWS - 2), drawn);
        assert!(line(ROWS - 1).iter().all(|byte| *byte == 0));
        let (small, ..) = setup(Size::new(64, 64));
        small.draw((79, 24), 'X', 7);
        small.scroll(7);
        small.clear(0x1f);
    }
}
