//! When a stream's sound is due.

use std::time::{Duration, Instant};

use tearless_sound::{Backlog, Format};

use super::spec::Direction;

/// A stream that comes so much too late goes on from now, and does not hurry after: the host, or the whole VM, stood still.
const MOST_BEHIND: Duration = Duration::from_millis(100);
/// What waits between us and the host's sound server when its clock and ours agree.
const USUAL: Duration = Duration::from_millis(20);
/// Sound comes so much earlier or later at most, in millionths. Clocks differ by tens of millionths.
const MOST_STEERED: i64 = 5000;

/// The time up to which a stream's sound has been taken care of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    due: Instant,
}

impl Clock {
    /// Begins at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { due: now }
    }

    /// When the next sound is due.
    pub(super) fn due(self) -> Instant {
        self.due
    }

    /// Forgets what cannot be caught up with.
    pub(super) fn catch_up(&mut self, now: Instant) {
        if now.saturating_duration_since(self.due) > MOST_BEHIND {
            self.due = now;
        }
    }

    /// When sound that lasts `time` and begins when it is due has ended, `steered` by so many millionths.
    pub(super) fn after(self, time: Duration, steered: i64) -> Instant {
        // 10 ms at most, so nothing overflows.
        let nanoseconds = i64::try_from(time.as_nanos()).unwrap_or(0);
        let nanoseconds = nanoseconds + nanoseconds / 1000 * steered / 1000;
        self.due + Duration::from_nanos(nanoseconds.try_into().unwrap_or(0))
    }
}

/// By how many millionths sound is to last longer so that what waits for the host, or for us, stays what it is.
pub(super) fn steer(direction: Direction, format: Format, backlog: Option<Backlog>) -> i64 {
    let Some(Backlog { here, .. }) = backlog else { return 0 };
    let waiting = i64::try_from(format.duration(here).as_micros()).unwrap_or(i64::MAX);
    let usual = USUAL.as_micros() as i64;
    // 1 ms too much is gone after 10 s.
    let steered = (waiting.saturating_sub(usual) / 10).clamp(-MOST_STEERED, MOST_STEERED);
    match direction {
        Direction::Output => steered,
        Direction::Input => -steered,
    }
}

#[cfg(test)]
mod tests {
    use tearless_sound::Sample;

    use super::*;

    const FORMAT: Format = Format { sample: Sample::S16, channels: 2, rate: 44100 };

    #[test]
    fn an_hour_takes_an_hour() {
        let begin = Instant::now();
        let mut clock = Clock::new(begin);
        let slice = FORMAT.bytes(Duration::from_millis(10));
        for _ in 0..360_000 {
            clock = Clock::new(clock.after(FORMAT.duration(slice), 0));
        }
        let late = clock.due() - begin;
        assert!(late.abs_diff(Duration::from_secs(3600)) < Duration::from_millis(1), "{late:?}");
    }

    #[test]
    fn what_is_long_past_is_not_caught_up_with() {
        let begin = Instant::now();
        let mut clock = Clock::new(begin);
        clock.catch_up(begin + Duration::from_millis(90));
        assert_eq!(clock.due(), begin);
        clock.catch_up(begin + Duration::from_secs(5));
        assert_eq!(clock.due(), begin + Duration::from_secs(5));
    }

    #[test]
    fn a_host_that_is_slower_is_waited_for() {
        let steer = |direction, milliseconds| {
            let here = FORMAT.bytes(Duration::from_millis(milliseconds));
            steer(direction, FORMAT, Some(Backlog { here, beyond: 1 << 20 }))
        };
        assert_eq!(steer(Direction::Output, 20), 0);
        assert_eq!((steer(Direction::Output, 30), steer(Direction::Input, 30)), (1000, -1000));
        assert_eq!((steer(Direction::Output, 0), steer(Direction::Output, 500)), (-2000, MOST_STEERED));
        assert_eq!(super::steer(Direction::Output, FORMAT, None), 0);
        let clock = Clock::new(Instant::now());
        assert_eq!(clock.after(Duration::from_millis(10), 1000) - clock.due(), Duration::from_micros(10_010));
        assert_eq!(clock.after(Duration::from_millis(10), -1000) - clock.due(), Duration::from_micros(9_990));
    }
}
