//! Serial port: Arm PrimeCell UART (PL011 r1p5, DDI 0183).
//!
//! Characters take no time here: what the guest transmits is with the [`CharSink`] when its write is done, so the
//! transmit FIFO is always empty. As with QEMU's, the receive interrupt is raised with the first character, which makes
//! the receive timeout superfluous, and output passes before the guest has enabled the UART, which early consoles rely
//! on. The modem inputs say that the other side is there and ready.
//!
//! Two locks: a sink that blocks holds up whoever transmits, but neither input nor the other registers.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use tearless_bus::{AccessError, CharInput, CharSink, IrqLine, MmioDevice};
use tearless_state::{Encoded, StateError};

mod registers;
pub mod spec;
#[cfg(test)]
mod tests;

use crate::access::{fill, lock, value, word};
use registers::Registers;

/// The version of the state's format.
const STATE_VERSION: u32 = 1;

type OnSpace = Arc<dyn Fn() + Send + Sync>;

/// The serial port.
pub struct Pl011 {
    registers: Mutex<Registers>,
    sink: Mutex<Box<dyn CharSink>>,
    on_space: Mutex<Option<OnSpace>>,
    irq: IrqLine,
}

impl fmt::Debug for Pl011 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pl011").field("registers", &self.registers).finish_non_exhaustive()
    }
}

impl Pl011 {
    /// A port that transmits to `sink` and interrupts by `irq`.
    pub fn new(sink: Box<dyn CharSink>, irq: IrqLine) -> Arc<Self> {
        Arc::new(Self {
            registers: Mutex::default(),
            sink: Mutex::new(sink),
            on_space: Mutex::new(None),
            irq,
        })
    }

    /// Changes the registers and drives the interrupt, within one lock so that levels arrive in the order of changes.
    fn update<T>(&self, change: impl FnOnce(&mut Registers) -> T) -> T {
        let mut registers = lock(&self.registers);
        let outcome = change(&mut registers);
        self.irq.set_level(registers.interrupt());
        outcome
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
        *lock(&self.registers) = state.decode::<Registers>(STATE_VERSION)?.checked()?;
        Ok(())
    }

    /// Drives the output as the state has it.
    pub fn drive(&self) {
        self.update(|_| ());
    }

    fn transmit(&self, byte: u8) {
        if !self.update(|registers| registers.loop_back(byte)) {
            lock(&self.sink).put(&[byte]);
            self.update(Registers::transmitted);
        }
    }

    fn tell_space(&self) {
        let callback = lock(&self.on_space).clone();
        if let Some(callback) = callback {
            callback();
        }
    }
}

impl MmioDevice for Pl011 {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        word(offset, data)?;
        let (value, space) = if offset == spec::DR {
            self.update(|registers| (Some(registers.receive()), registers.take_space()))
        } else {
            (lock(&self.registers).read(offset), false)
        };
        fill(data, value.ok_or(AccessError::NoRegister)?.into());
        if space {
            self.tell_space();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        word(offset, data)?;
        let value = value(data) as u32;
        if offset == spec::DR {
            self.transmit(value as u8);
            return Ok(());
        }
        let (outcome, space) = self.update(|registers| {
            let outcome = registers.write(offset, value);
            (outcome, registers.take_space())
        });
        if space {
            self.tell_space();
        }
        outcome.ok_or(AccessError::NoRegister)
    }
}

impl CharInput for Pl011 {
    fn push(&self, bytes: &[u8]) -> usize {
        self.update(|registers| registers.push(bytes))
    }

    fn on_space(&self, callback: Box<dyn Fn() + Send + Sync>) {
        *lock(&self.on_space) = Some(Arc::from(callback));
    }
}
