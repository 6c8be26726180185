//! How a sleeping or running vCPU learns that there is something for it.

use std::{
    cell::Cell,
    sync::{Condvar, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use tearless_bus::CpuWake;
use tearless_engine::Kicker;

thread_local! {
    /// The vCPU whose thread this is. Waking oneself needs no kick: the vCPU looks at its interrupts before it runs on.
    static CURRENT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// One vCPU's bell.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
    kicker: OnceLock<Kicker>,
}

/// The bells of all vCPUs.
pub(crate) struct Bells(Vec<Bell>);

impl Bells {
    pub fn new(vcpus: u32) -> Self {
        Self((0..vcpus).map(|_| Bell::default()).collect())
    }

    /// Says that the calling thread runs vCPU `index`, which `kicker` interrupts.
    pub fn adopt(&self, index: u32, kicker: Kicker) {
        CURRENT.set(Some(index));
        if let Some(bell) = self.0.get(index as usize) {
            // Each vCPU is adopted once, by its own thread.
            let _ = bell.kicker.set(kicker);
        }
    }

    /// Sleeps until the bell of `index` rings or `deadline` passes. A ring from before the call counts.
    pub fn sleep(&self, index: u32, deadline: Option<Instant>) {
        let Some(bell) = self.0.get(index as usize) else { return };
        let mut rung = bell.rung.lock().unwrap_or_else(PoisonError::into_inner);
        while !*rung {
            rung = match deadline {
                None => bell.changed.wait(rung).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    bell.changed.wait_timeout(rung, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        *rung = false;
    }

    /// Rings every bell.
    pub fn wake_all(&self) {
        (0..self.0.len() as u32).for_each(|index| self.wake(index));
    }
}

impl CpuWake for Bells {
    fn wake(&self, index: u32) {
        let Some(bell) = self.0.get(index as usize) else { return };
        *bell.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        if CURRENT.get() == Some(index) {
            return;
        }
        bell.changed.notify_one();
        if let Some(kicker) = bell.kicker.get() {
            kicker.kick();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    #[test]
    fn a_ring_before_the_sleep_is_not_lost() {
        let bells = Bells::new(1);
        bells.wake(0);
        bells.sleep(0, None);
        bells.sleep(0, Some(Instant::now()));
        bells.wake(7);
        bells.sleep(7, None);
    }

    #[test]
    fn a_sleeper_is_woken_by_another_thread() {
        let bells = Arc::new(Bells::new(2));
        let sleeper = std::thread::spawn({
            let bells = Arc::clone(&bells);
            move || bells.sleep(1, Some(Instant::now() + Duration::from_secs(60)))
        });
        let start = Instant::now();
        bells.wake_all();
        sleeper.join().unwrap();
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
