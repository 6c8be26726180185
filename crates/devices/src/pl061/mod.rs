//! General purpose inputs and outputs: Arm PrimeCell GPIO (PL061, DDI 0190).
//!
//! As on QEMU's `virt`, pin 3 is the power button, which the device tree describes as `gpio-keys`. Nothing is connected
//! to the other pins.

use std::{
    io,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use tearless_bus::{AccessError, IrqLine, MmioDevice};
use tearless_state::{Encoded, StateError};

mod registers;
pub mod spec;
#[cfg(test)]
mod tests;

use crate::access::{fill, lock, value, word};
use registers::Registers;

/// The pin of the power button, high while it is pressed.
pub const POWER_PIN: u8 = 3;
/// How long the button stays pressed: a guest on a slow CPU must find it so when it gets to looking.
const PRESS: Duration = Duration::from_millis(500);

/// The version of the state's format.
const STATE_VERSION: u32 = 1;

/// The GPIO block.
#[derive(Debug)]
pub struct Pl061 {
    registers: Mutex<Registers>,
    irq: IrqLine,
}

impl Pl061 {
    /// A block that interrupts by `irq`.
    pub fn new(irq: IrqLine) -> Arc<Self> {
        Arc::new(Self { registers: Mutex::default(), irq })
    }

    /// Presses the power button and lets it go half a second later. Pressing again meanwhile does nothing more.
    ///
    /// # Errors
    /// When the host has no thread for letting go; the button is not pressed then.
    pub fn press_power(self: &Arc<Self>) -> io::Result<()> {
        let device = Arc::downgrade(self);
        thread::Builder::new().name("power-button".into()).spawn(move || {
            // The level and the interrupt are set here and not before the thread is sure to be there.
            let Some(pressed) = device.upgrade() else { return };
            pressed.set_input(POWER_PIN, true);
            drop(pressed);
            thread::sleep(PRESS);
            if let Some(device) = device.upgrade() {
                device.set_input(POWER_PIN, false);
            }
        })?;
        Ok(())
    }

    /// Whether the guest wants interrupts of `pin`.
    pub fn listens(&self, pin: u8) -> bool {
        lock(&self.registers).interrupts_of(pin)
    }

    /// Drives the input `pin` (0..=7).
    pub fn set_input(&self, pin: u8, level: bool) {
        self.update(|registers| registers.set_input(pin, level));
    }

    /// The state, for a saved VM.
    ///
    /// # Errors
    /// None in practice.
    pub fn save(&self) -> Result<Encoded, StateError> {
        Encoded::new(STATE_VERSION, &*lock(&self.registers))
    }

    /// Takes a state over. The output follows with [`Self::drive`].
    ///
    /// # Errors
    /// When it is none of this device.
    pub fn restore(&self, state: &Encoded) -> Result<(), StateError> {
        *lock(&self.registers) = state.decode::<Registers>(STATE_VERSION)?;
        Ok(())
    }

    /// Drives the output as the state has it.
    pub fn drive(&self) {
        self.update(|_| ());
    }

    fn update<T>(&self, change: impl FnOnce(&mut Registers) -> T) -> T {
        let mut registers = lock(&self.registers);
        let outcome = change(&mut registers);
        self.irq.set_level(registers.interrupt());
        outcome
    }
}

impl MmioDevice for Pl061 {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        word(offset, data)?;
        fill(data, lock(&self.registers).read(offset).ok_or(AccessError::NoRegister)?.into());
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        word(offset, data)?;
        self.update(|registers| registers.write(offset, value(data) as u8)).ok_or(AccessError::NoRegister)
    }
}
