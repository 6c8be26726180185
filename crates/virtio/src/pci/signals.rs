//! Everything that a worker may change about the transport: interrupts, status, configuration generation.
//!
//! It has locks of its own, so a worker that holds a queue's lock can signal while a vCPU holds the transport's lock
//! and waits for the queue.

use std::sync::{
    Mutex, OnceLock,
    atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering},
};

use serde::{Deserialize, Serialize};
use tearless_bus::IrqLine;
use tearless_pci::{Attachment, Msix, MsixError, SavedMsix};
use tearless_state::StateError;

use super::spec::{NO_VECTOR, isr, status};
use crate::{Interrupt, lock};

/// They as a saved VM has them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedSignals {
    msix: SavedMsix,
    status: u8,
    generation: u8,
    config_vector: u16,
    queue_vectors: Vec<u16>,
    isr: u8,
}

impl SavedSignals {
    pub(super) fn status(&self) -> u8 {
        self.status
    }
}

pub(super) struct Signals {
    pub(super) msix: Msix,
    status: AtomicU8,
    generation: AtomicU8,
    config_vector: AtomicU16,
    queue_vectors: Vec<AtomicU16>,
    isr: Mutex<u8>,
    intx: OnceLock<IrqLine>,
    intx_disabled: AtomicBool,
}

impl Signals {
    pub(super) fn new(queues: u16) -> Result<Self, MsixError> {
        Ok(Self {
            msix: Msix::new(queues.saturating_add(1))?,
            status: AtomicU8::new(0),
            generation: AtomicU8::new(0),
            config_vector: AtomicU16::new(NO_VECTOR),
            queue_vectors: (0..queues).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
            isr: Mutex::new(0),
            intx: OnceLock::new(),
            intx_disabled: AtomicBool::new(false),
        })
    }

    pub(super) fn attach(&self, attachment: &Attachment) {
        self.msix.attach(attachment);
        if self.intx.set(attachment.intx.clone()).is_err() {
            tracing::error!("virtio function attached twice; the first slot stays");
        }
    }

    pub(super) fn status(&self) -> u8 {
        self.status.load(Ordering::Acquire)
    }

    pub(super) fn add_status(&self, bits: u8) {
        self.status.fetch_or(bits, Ordering::AcqRel);
    }

    pub(super) fn generation(&self) -> u8 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn config_vector(&self) -> u16 {
        self.config_vector.load(Ordering::Acquire)
    }

    pub(super) fn queue_vector(&self, queue: u16) -> u16 {
        self.queue_vectors.get(usize::from(queue)).map_or(NO_VECTOR, |v| v.load(Ordering::Acquire))
    }

    /// A vector that the table does not have reads back as none, which tells the driver that it failed.
    pub(super) fn set_config_vector(&self, vector: u16) {
        self.config_vector.store(self.existing(vector), Ordering::Release);
    }

    pub(super) fn set_queue_vector(&self, queue: u16, vector: u16) {
        if let Some(place) = self.queue_vectors.get(usize::from(queue)) {
            place.store(self.existing(vector), Ordering::Release);
        }
    }

    fn existing(&self, vector: u16) -> u16 {
        if vector < self.msix.vectors() { vector } else { NO_VECTOR }
    }

    /// Reads the ISR register, which clears it and drops the line.
    pub(super) fn take_isr(&self) -> u8 {
        let mut pending = lock(&self.isr);
        let value = std::mem::take(&mut *pending);
        self.drive(*pending);
        value
    }

    /// The guest changed MSI-X enable or the command register's INTx disable.
    pub(super) fn update_wiring(&self, intx_disabled: bool) {
        self.intx_disabled.store(intx_disabled, Ordering::Release);
        self.drive(*lock(&self.isr));
    }

    /// The state after a device reset; the MSI-X table is the function's and stays.
    pub(super) fn reset(&self) {
        self.status.store(0, Ordering::Release);
        self.config_vector.store(NO_VECTOR, Ordering::Release);
        self.queue_vectors.iter().for_each(|v| v.store(NO_VECTOR, Ordering::Release));
        let mut pending = lock(&self.isr);
        *pending = 0;
        self.drive(0);
    }

    /// For a saved VM.
    pub(super) fn save(&self) -> SavedSignals {
        SavedSignals {
            msix: self.msix.save(),
            status: self.status(),
            generation: self.generation(),
            config_vector: self.config_vector(),
            queue_vectors: self.queue_vectors.iter().map(|v| v.load(Ordering::Acquire)).collect(),
            isr: *lock(&self.isr),
        }
    }

    /// Takes over what was saved. The line follows with [`Signals::update_wiring`].
    ///
    /// # Errors
    /// [`StateError::Malformed`] when it is of another number of queues.
    pub(super) fn restore(&self, saved: SavedSignals) -> Result<(), StateError> {
        if saved.queue_vectors.len() != self.queue_vectors.len() {
            return Err(StateError::malformed("it has another number of queues"));
        }
        self.msix.restore(saved.msix)?;
        self.status.store(saved.status, Ordering::Release);
        self.generation.store(saved.generation, Ordering::Release);
        self.set_config_vector(saved.config_vector);
        (0..).zip(&saved.queue_vectors).for_each(|(queue, vector)| self.set_queue_vector(queue, *vector));
        *lock(&self.isr) = saved.isr & (isr::QUEUE | isr::CONFIG);
        Ok(())
    }

    fn signal(&self, vector: u16, isr_bit: u8) {
        if self.msix.enabled() {
            self.msix.signal(vector);
        } else {
            let mut pending = lock(&self.isr);
            *pending |= isr_bit;
            self.drive(*pending);
        }
    }

    /// Called with the ISR's lock held, so the level cannot lag behind.
    fn drive(&self, pending: u8) {
        if let Some(line) = self.intx.get() {
            let blocked = self.intx_disabled.load(Ordering::Acquire) || self.msix.enabled();
            line.set_level(pending != 0 && !blocked);
        }
    }
}

impl Interrupt for Signals {
    fn queue(&self, index: u16) {
        self.signal(self.queue_vector(index), isr::QUEUE);
    }

    fn config(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.signal(self.config_vector(), isr::CONFIG);
    }

    fn needs_reset(&self) {
        // Only a driver that is up hears of it (section 2.1.2).
        let before = self.status.fetch_or(status::NEEDS_RESET, Ordering::AcqRel);
        if before & (status::DRIVER_OK | status::NEEDS_RESET) == status::DRIVER_OK {
            self.signal(self.config_vector(), isr::CONFIG);
        }
    }
}
