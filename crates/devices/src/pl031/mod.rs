//! Clock: Arm PrimeCell real time clock (PL031, DDI 0224).
//!
//! It shows the host's UTC time until the guest sets another; then it keeps the difference. The host's clock is looked
//! at anew each time, so when that is corrected the guest's is too.
//!
//! While the guest has an alarm set and its interrupt enabled there is a thread that waits for it. The thread ends with
//! the alarm or the device; a guest that sets no alarms costs none.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use tearless_bus::{AccessError, IrqLine, MmioDevice};
use tearless_state::{Encoded, StateError};

mod registers;
pub mod spec;
#[cfg(test)]
mod tests;

use crate::access::{fill, lock, value, word};
use registers::Registers;

/// The longest time to wait for an alarm before looking at the host's clock again, in case that was corrected.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The version of the state's format.
const STATE_VERSION: u32 = 1;

/// The time since the Unix epoch.
type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// The clock.
#[derive(Debug)]
pub struct Pl031(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something changed that the alarm's thread must know.
    changed: Condvar,
    clock: Clock,
    irq: IrqLine,
}

#[derive(Debug, Default)]
struct State {
    registers: Registers,
    /// The alarm's thread is there.
    waiting: bool,
    /// The device is gone.
    closed: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Pl031 {
    /// A clock that shows the host's time and interrupts by `irq`.
    pub fn new(irq: IrqLine) -> Self {
        let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::with_clock(irq, Box::new(clock))
    }

    fn with_clock(irq: IrqLine, clock: Clock) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), clock, irq }))
    }

    /// The state, for a saved VM: how far the guest's clock is ahead of the host's, so that it is right again afterwards.
    ///
    /// # Errors
    /// None in practice.
    pub fn save(&self) -> Result<Encoded, StateError> {
        Encoded::new(STATE_VERSION, &lock(&self.0.state).registers)
    }

    /// Takes a state over. The output follows with [`Self::drive`].
    ///
    /// # Errors
    /// When it is none of this device.
    pub fn restore(&self, state: &Encoded) -> Result<(), StateError> {
        lock(&self.0.state).registers = state.decode::<Registers>(STATE_VERSION)?;
        Ok(())
    }

    /// Drives the output as the state has it.
    pub fn drive(&self) {
        self.update(|_, _| ());
    }

    /// Changes the registers at the present time, drives the interrupt and sees to the alarm.
    fn update<T>(&self, change: impl FnOnce(&mut Registers, u64) -> T) -> T {
        let mut state = lock(&self.0.state);
        let now = (self.0.clock)().as_secs();
        state.registers.poll(now);
        let outcome = change(&mut state.registers, now);
        self.0.irq.set_level(state.registers.interrupt());
        if state.waiting {
            self.0.changed.notify_all();
        } else if state.registers.alarm().is_some() {
            let shared = Arc::clone(&self.0);
            let thread = thread::Builder::new().name("rtc-alarm".into()).spawn(move || shared.wait());
            match thread {
                Ok(_) => state.waiting = true,
                Err(error) => {
                    tracing::error!(%error, "no thread for the clock's alarm: it comes with the next access");
                }
            }
        }
        outcome
    }
}

impl Shared {
    /// Waits for the alarm; the body of its thread.
    fn wait(&self) {
        let mut state = lock(&self.state);
        while !state.closed {
            let now = (self.clock)();
            state.registers.poll(now.as_secs());
            self.irq.set_level(state.registers.interrupt());
            let Some(alarm) = state.registers.alarm() else { break };
            let left = Duration::from_secs(alarm).saturating_sub(now).min(LONGEST_WAIT);
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting = false;
    }
}

impl Drop for Pl031 {
    fn drop(&mut self) {
        lock(&self.0.state).closed = true;
        self.0.changed.notify_all();
    }
}

impl MmioDevice for Pl031 {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        word(offset, data)?;
        let value = self.update(|registers, now| registers.read(offset, now));
        fill(data, value.ok_or(AccessError::NoRegister)?.into());
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        word(offset, data)?;
        let value = value(data) as u32;
        self.update(|registers, now| registers.write(offset, value, now)).ok_or(AccessError::NoRegister)
    }
}
