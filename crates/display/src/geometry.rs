//! Sizes, rectangles and what has changed.

/// A size in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// A size.
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }

    /// How many pixels.
    pub fn area(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rect {
    /// The left edge.
    pub x: u32,
    /// The upper edge.
    pub y: u32,
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// The most rows of the picture that a viewer is sent at a time: it costs no more memory than these take, however large the screen
/// is and however slowly it takes them. VNC's Tight and ZRLE cut the picture at multiples of it in any case.
pub(crate) const BAND: u32 = 128;

impl Rect {
    /// The parts that a viewer is sent one after the other.
    pub(crate) fn bands(self) -> impl Iterator<Item = Self> {
        (0..self.height).step_by(BAND as usize).map(move |top| Self {
            y: self.y + top,
            height: BAND.min(self.height - top),
            ..self
        })
    }

    /// A rectangle.
    pub const fn new(x: u32, y: u32, width: u32, height: u32) -> Self {
        Self { x, y, width, height }
    }

    /// All of a picture of `size`.
    pub const fn all(size: Size) -> Self {
        Self { x: 0, y: 0, width: size.width, height: size.height }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// Its size.
    pub fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }

    /// Whether it lies within a picture of `size`, whatever its numbers.
    pub fn is_within(&self, size: Size) -> bool {
        let fits = |at: u32, len: u32, limit: u32| at.checked_add(len).is_some_and(|end| end <= limit);
        fits(self.x, self.width, size.width) && fits(self.y, self.height, size.height)
    }

    /// What it has in common with `other`; empty if nothing.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let span = |a: u32, a_len: u32, b: u32, b_len: u32| {
            let start = a.max(b);
            let end = a.saturating_add(a_len).min(b.saturating_add(b_len));
            (start, end.saturating_sub(start))
        };
        let (x, width) = span(self.x, self.width, other.x, other.width);
        let (y, height) = span(self.y, self.height, other.y, other.height);
        Self { x, y, width, height }
    }

    /// The smallest rectangle that has both; neither may be empty.
    #[must_use]
    pub fn hull(&self, other: &Self) -> Self {
        let span = |a: u32, a_len: u32, b: u32, b_len: u32| {
            let start = a.min(b);
            (start, a.saturating_add(a_len).max(b.saturating_add(b_len)) - start)
        };
        let (x, width) = span(self.x, self.width, other.x, other.width);
        let (y, height) = span(self.y, self.height, other.y, other.height);
        Self { x, y, width, height }
    }

    fn contains(&self, other: &Self) -> bool {
        self.intersection(other) == *other
    }
}

/// Most rectangles that are kept apart; beyond that their hull is as good.
const MAX_RECTS: usize = 16;

/// The parts of a picture that a viewer has not seen. Parts may overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage(Vec<Rect>);

impl Damage {
    /// Adds a part.
    pub fn add(&mut self, rect: Rect) {
        if rect.is_empty() || self.0.iter().any(|known| known.contains(&rect)) {
            return;
        }
        self.0.retain(|known| !rect.contains(known));
        if self.0.len() == MAX_RECTS {
            let hull = self.0.drain(..).fold(rect, |hull, known| hull.hull(&known));
            self.0.push(hull);
        } else {
            self.0.push(rect);
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all and returns it; together the parts are no larger than one that has them all.
    pub fn take(&mut self) -> Vec<Rect> {
        let rects = std::mem::take(&mut self.0);
        let hull = rects.iter().copied().reduce(|hull, rect| hull.hull(&rect)).unwrap_or_default();
        let sum: u64 = rects.iter().map(|rect| rect.size().area()).sum();
        if sum > hull.size().area() { vec![hull] } else { rects }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_of_any_numbers_are_safe() {
        let size = Size::new(100, 50);
        assert!(Rect::all(size).is_within(size));
        assert!(Rect::new(100, 50, 0, 0).is_within(size));
        for wrong in [
            Rect::new(1, 0, 100, 1),
            Rect::new(0, 0, 1, 51),
            Rect::new(u32::MAX, 0, 2, 1),
            Rect::new(2, 0, u32::MAX, 1),
        ] {
            assert!(!wrong.is_within(size), "{wrong:?}");
        }
        let huge = Rect::new(50, 10, u32::MAX, u32::MAX);
        assert_eq!(huge.intersection(&Rect::all(size)), Rect::new(50, 10, 50, 40));
        assert!(Rect::new(200, 0, 5, 5).intersection(&Rect::all(size)).is_empty());
    }

    #[test]
    fn damage_keeps_few_rectangles_and_loses_none() {
        let mut damage = Damage::default();
        damage.add(Rect::new(0, 0, 10, 10));
        damage.add(Rect::new(2, 2, 3, 3));
        damage.add(Rect::new(0, 0, 0, 9));
        assert_eq!(damage.0, [Rect::new(0, 0, 10, 10)]);
        damage.add(Rect::new(0, 0, 20, 20));
        assert_eq!(damage.0, [Rect::new(0, 0, 20, 20)]);
        damage.add(Rect::new(0, 0, 20, 12));
        damage.add(Rect::new(0, 5, 12, 20));
        damage.add(Rect::new(3, 0, 20, 20));
        assert_eq!(damage.take(), [Rect::new(0, 0, 23, 25)], "what overlaps much is one");
        for i in 0..40 {
            damage.add(Rect::new(30 * i, 0, 5, 5));
        }
        let rects = damage.take();
        assert!(rects.len() <= MAX_RECTS && damage.is_empty());
        for i in 1..40 {
            assert!(rects.iter().any(|r| r.contains(&Rect::new(30 * i, 0, 5, 5))), "{i}");
        }
    }
}
