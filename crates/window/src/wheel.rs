//! Wheels: guests count notches, touchpads move by parts of one.

use winit::event::MouseScrollDelta;

/// How many pixels of a touchpad, of an ordinary screen, are a notch.
const NOTCH: f64 = 40.0;

/// What has been turned and is not yet a notch.
#[derive(Default)]
pub struct Wheel {
    right: f64,
    away: f64,
}

impl Wheel {
    /// It was turned, on a screen of which `scale` pixels are where an ordinary one has one. Returns the notches to the right and
    /// away from the user, if there are any.
    pub fn turn(&mut self, delta: MouseScrollDelta, scale: f64) -> Option<(i8, i8)> {
        let (right, away) = match delta {
            MouseScrollDelta::LineDelta(right, away) => (f64::from(right), f64::from(away)),
            MouseScrollDelta::PixelDelta(by) => {
                let notch = NOTCH * scale.max(0.1);
                (by.x / notch, by.y / notch)
            }
        };
        let turned = (take(&mut self.right, -right), take(&mut self.away, away));
        (turned != (0, 0)).then_some(turned)
    }
}

/// Adds `by` and takes out what is whole.
fn take(sum: &mut f64, by: f64) -> i8 {
    if by.is_nan() {
        return 0;
    }
    // Another direction begins anew.
    if *sum * by < 0.0 {
        *sum = 0.0;
    }
    *sum = (*sum + by).clamp(-100.0, 100.0);
    let whole = sum.trunc();
    *sum -= whole;
    #[allow(clippy::cast_possible_truncation, reason = "at most 100")]
    let whole = whole as i8;
    whole
}

#[cfg(test)]
mod tests {
    use winit::dpi::PhysicalPosition;

    use super::*;

    #[test]
    fn parts_of_a_notch_are_gathered() {
        let mut wheel = Wheel::default();
        let touch = |wheel: &mut Wheel, y| {
            wheel.turn(MouseScrollDelta::PixelDelta(PhysicalPosition::new(0.0, y)), 2.0)
        };
        assert_eq!(wheel.turn(MouseScrollDelta::LineDelta(0.0, 1.0), 2.0), Some((0, 1)));
        assert_eq!([30.0, 30.0, 30.0].map(|y| touch(&mut wheel, y)), [None, None, Some((0, 1))]);
        assert_eq!(touch(&mut wheel, -70.0), None);
        assert_eq!(touch(&mut wheel, -250.0), Some((0, -4)));
        assert_eq!(touch(&mut wheel, f64::NAN), None);
        assert_eq!(touch(&mut wheel, f64::NEG_INFINITY), Some((0, -100)));
        assert_eq!(wheel.turn(MouseScrollDelta::LineDelta(-2.0, 0.0), 1.0), Some((2, 0)));
    }
}
