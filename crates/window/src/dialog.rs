//! What the window asks and says, drawn over the picture.

use tearless_display::{Mode, Rect, Size, remote::Action, terminal::Font};
use winit::keyboard::{Key, NamedKey};

const TEXT: u32 = 0x00e8_e8e8;
const PANEL: u32 = 0x0030_3038;
const CHOSEN: u32 = 0x0030_60a0;

/// What the user chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Something for the VM to do.
    Act(Action),
    /// The window goes, and the VM stays.
    Leave,
    /// Nothing.
    GoOn,
}

/// A question, or something that is said.
#[derive(Debug)]
pub struct Dialog {
    title: Vec<String>,
    choices: Vec<(char, String, Choice)>,
    chosen: usize,
}

impl Dialog {
    /// Asks what is to become of the VM called `name` when its window closes. One that cannot be `steered` runs on.
    pub fn closing(name: &str, steered: bool) -> Self {
        let steer = [
            ('s', "Shut the guest down", Choice::Act(Action::Stop)),
            ('u', "Suspend it: it goes on next time", Choice::Act(Action::Suspend)),
            ('p', "Pull the plug", Choice::Act(Action::Kill)),
        ];
        let others =
            [('l', "Leave it running, without a window", Choice::Leave), ('g', "Go on", Choice::GoOn)];
        let choices = steer.into_iter().filter(|_| steered).chain(others);
        let choices = choices.map(|(key, text, choice)| (key, text.to_owned(), choice)).collect();
        Self { title: vec![format!("Close the window of {name}?")], choices, chosen: 0 }
    }

    /// Says `text`.
    pub fn saying(text: &str) -> Self {
        let title = text.lines().take(12).map(|line| line.chars().take(120).collect()).collect();
        Self { title, choices: vec![('g', "Go on".to_owned(), Choice::GoOn)], chosen: 0 }
    }

    /// A key was pressed.
    pub fn key(&mut self, key: &Key) -> Option<Choice> {
        match key {
            Key::Named(NamedKey::Escape) => Some(Choice::GoOn),
            Key::Named(NamedKey::Enter) => self.choices.get(self.chosen).map(|(_, _, choice)| *choice),
            Key::Named(NamedKey::ArrowDown) => {
                self.chosen = (self.chosen + 1).min(self.choices.len().saturating_sub(1));
                None
            }
            Key::Named(NamedKey::ArrowUp) => {
                self.chosen = self.chosen.saturating_sub(1);
                None
            }
            Key::Character(text) => {
                let typed = text.chars().next()?.to_ascii_lowercase();
                self.choices.iter().find(|(key, ..)| *key == typed).map(|(_, _, choice)| *choice)
            }
            _ => None,
        }
    }

    /// The pointer is at a place in the window; returns what is there.
    pub fn point(&mut self, layout: &Layout, (x, y): (f64, f64)) -> Option<Choice> {
        let panel = layout.panel;
        let within = x >= panel.x.into() && x < f64::from(panel.x + panel.width);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float's cast saturates"
        )]
        let line = ((y - f64::from(panel.y)) / f64::from(layout.line.max(1))) as usize;
        let at = line.checked_sub(self.title.len() + 2).filter(|_| within)?;
        let (_, _, choice) = self.choices.get(at)?;
        self.chosen = at;
        Some(*choice)
    }

    /// Where it is in a window, of which `scale` pixels are where an ordinary screen has one.
    pub fn layout(&self, window: Size, scale: u32) -> Layout {
        let font = Font::of(Mode { size: window, scale });
        let lines = self.lines();
        let columns = lines.iter().map(|(text, _)| text.chars().count()).max().unwrap_or(0) + 4;
        let Size { width, height } = font.cell();
        let line = height + height / 4;
        let size = |count: usize, each: u32, room: u32| {
            u32::try_from(count).unwrap_or(0).saturating_mul(each).min(room)
        };
        let (width, height) = (size(columns, width, window.width), size(lines.len(), line, window.height));
        let panel = Rect::new((window.width - width) / 2, (window.height - height) / 2, width, height);
        Layout { font, line, panel }
    }

    /// Its lines, and whether they are chosen.
    fn lines(&self) -> Vec<(String, bool)> {
        let empty = || (String::new(), false);
        let title = self.title.iter().map(|line| (line.clone(), false));
        let choices = self.choices.iter().enumerate().map(|(at, (key, text, _))| {
            (format!("[{}] {text}", key.to_ascii_uppercase()), at == self.chosen)
        });
        std::iter::once(empty()).chain(title).chain([empty()]).chain(choices).chain([empty()]).collect()
    }

    /// Draws it onto a window's pixels.
    pub fn draw(&self, layout: &Layout, window: Size, pixels: &mut [u32]) {
        let Layout { font, line, panel } = layout;
        let cell = font.cell();
        for (at, (text, chosen)) in (0..).zip(self.lines()) {
            let back = if chosen { CHOSEN } else { PANEL };
            let top = panel.y + at * line;
            let part = Rect::new(panel.x, top, panel.width, *line).intersection(panel);
            fill(window, pixels, part, |_, _| back);
            for (column, character) in (2..).zip(text.chars()) {
                let drawn = font.draw(character, TEXT, back);
                let at = Rect::new(panel.x + column * cell.width, top + line / 8, cell.width, cell.height);
                if at.intersection(panel) == at {
                    let pixel = |x, y| drawn.get((y * cell.width + x) as usize).copied().unwrap_or(back);
                    fill(window, pixels, at, pixel);
                }
            }
        }
    }
}

fn fill(window: Size, pixels: &mut [u32], part: Rect, colour: impl Fn(u32, u32) -> u32) {
    let rows = pixels.chunks_exact_mut(window.width.max(1) as usize).skip(part.y as usize);
    for (y, row) in (0..part.height).zip(rows) {
        let row = row.iter_mut().skip(part.x as usize).take(part.width as usize);
        (0..).zip(row).for_each(|(x, pixel)| *pixel = colour(x, y));
    }
}

/// Where a dialog is.
pub struct Layout {
    font: Font,
    /// Pixels from one line to the next.
    line: u32,
    panel: Rect,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_made_by_letter_arrows_or_pointer() {
        let mut dialog = Dialog::closing("desk", true);
        assert_eq!(dialog.key(&Key::Character("S".into())), Some(Choice::Act(Action::Stop)));
        assert_eq!(dialog.key(&Key::Character("x".into())), None);
        assert_eq!(dialog.key(&Key::Named(NamedKey::ArrowUp)), None);
        assert_eq!(dialog.key(&Key::Named(NamedKey::ArrowDown)), None);
        assert_eq!(dialog.key(&Key::Named(NamedKey::Enter)), Some(Choice::Act(Action::Suspend)));
        assert_eq!(dialog.key(&Key::Named(NamedKey::Escape)), Some(Choice::GoOn));
        let layout = dialog.layout(Size::new(800, 600), 1);
        let line = |line: u32| f64::from(layout.panel.y + line * layout.line + 1);
        assert_eq!(dialog.point(&layout, (400.0, line(5))), Some(Choice::Act(Action::Kill)));
        assert_eq!(dialog.point(&layout, (400.0, line(1))), None);
        assert_eq!(dialog.point(&layout, (0.0, line(5))), None);
        assert_eq!(dialog.point(&layout, (400.0, -5.0)), None);
        let mut other = Dialog::closing("desk", false);
        assert_eq!(other.key(&Key::Character("s".into())), None);
        assert_eq!(other.key(&Key::Named(NamedKey::Enter)), Some(Choice::Leave));
    }

    #[test]
    fn it_is_drawn_within_windows_of_any_size() {
        let dialog = Dialog::saying(&"x".repeat(1000));
        for size in [Size::new(0, 0), Size::new(1, 1), Size::new(30, 300), Size::new(640, 400)] {
            let mut pixels = vec![0; usize::try_from(size.area()).unwrap()];
            dialog.draw(&dialog.layout(size, 2), size, &mut pixels);
        }
        let size = Size::new(640, 400);
        let mut pixels = vec![0; 640 * 400];
        dialog.draw(&dialog.layout(size, 1), size, &mut pixels);
        assert!(pixels.contains(&TEXT) && pixels.contains(&PANEL) && pixels.contains(&CHOSEN));
    }
}
