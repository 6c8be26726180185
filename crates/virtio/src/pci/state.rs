//! The transport of a saved VM.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tearless_pci::command;
use tearless_state::{Encoded, StateError};

use super::{
    device::{Common, QueueSetup, VirtioPci},
    signals::SavedSignals,
    spec::status,
};
use crate::{
    Activation, Interrupt as _, RingAddresses, lock,
    queue::{SavedRing, Start},
};

/// How long a request may take that can be repeated: a console may wait for its reader for ever.
const REPEATABLE: Duration = Duration::from_secs(1);

/// The version of the format.
const STATE_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedTransport {
    config: Vec<u8>,
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    queue_select: u16,
    queues: Vec<SavedQueue>,
    signals: SavedSignals,
    /// What the device itself says.
    device: Option<Encoded>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedQueue {
    addresses: RingAddresses,
    enabled: bool,
    /// `None` when it does not run: it has not begun, or is broken.
    ring: Option<SavedRing>,
}

impl VirtioPci {
    /// Waits for the requests in progress.
    pub(super) fn drain_queues(&self, deadline: Instant) -> Result<(), StateError> {
        let now = Instant::now();
        let deadline = match (self.device.ends_soon(), self.device.may_repeat()) {
            (false, _) => now,
            (true, true) => deadline.min(now + REPEATABLE),
            (true, false) => deadline,
        };
        // All of them stand still afterwards, whatever one of them says.
        let undrained = self.device.queues().iter().filter(|queue| !queue.drain(deadline)).count();
        if undrained == 0 || self.device.may_repeat() {
            return Ok(());
        }
        Err(StateError::Busy(format!(
            "a request to {} takes long and cannot be begun anew",
            self.device.outline()
        )))
    }

    pub(super) fn save_state(&self) -> Result<Encoded, StateError> {
        let common = lock(&self.common);
        let queues = common.queues.iter().zip(self.device.queues());
        let state = SavedTransport {
            config: lock(&self.config).save().to_vec(),
            device_feature_select: common.device_feature_select,
            driver_feature_select: common.driver_feature_select,
            driver_features: common.driver_features,
            queue_select: common.queue_select,
            queues: queues
                .map(|(setup, queue)| SavedQueue {
                    addresses: setup.addresses,
                    enabled: setup.enabled,
                    ring: queue.save(),
                })
                .collect(),
            signals: self.signals.save(),
            device: self.device.save()?,
        };
        Encoded::new(STATE_VERSION, &state)
    }

    pub(super) fn restore_state(&self, state: &Encoded) -> Result<(), StateError> {
        let saved: SavedTransport = state.decode(STATE_VERSION)?;
        self.check(&saved)?;
        self.device.queues().iter().for_each(|queue| queue.hold());
        self.device.queues().iter().for_each(|queue| _ = queue.drain(Instant::now()));
        let command = {
            let mut config = lock(&self.config);
            config.restore(&saved.config)?;
            config.command()
        };
        let is_up = saved.signals.status() & status::DRIVER_OK != 0;
        self.signals.restore(saved.signals)?;
        let mut common = lock(&self.common);
        common.device_feature_select = saved.device_feature_select;
        common.driver_feature_select = saved.driver_feature_select;
        common.driver_features = saved.driver_features;
        common.queue_select = saved.queue_select;
        for (setup, saved) in common.queues.iter_mut().zip(&saved.queues) {
            *setup = QueueSetup { addresses: saved.addresses, enabled: saved.enabled };
        }
        if is_up {
            let activation = Activation { features: common.driver_features, interrupt: self.signals.clone() };
            self.device
                .activate(activation)
                .map_err(|e| StateError::Busy(format!("a virtio device cannot start a thread: {e}")))?;
            self.start_queues(&common, &saved.queues)?;
        }
        drop(common);
        self.device.restore(saved.device.as_ref())?;
        self.gate_memory_access(command & command::BUS_MASTER != 0);
        Ok(())
    }

    /// Checks what the guest could not have brought about.
    fn check(&self, saved: &SavedTransport) -> Result<(), StateError> {
        let queues = self.device.queues();
        if saved.queues.len() != queues.len() {
            return Err(StateError::malformed("it has another number of queues"));
        }
        let fits = |(saved, max): (&SavedQueue, u16)| {
            let size = saved.addresses.size;
            size.is_power_of_two() && size <= max
        };
        if !saved.queues.iter().zip(queues.iter().map(|queue| queue.max_size())).all(fits) {
            return Err(StateError::malformed("a virtqueue has a size that it cannot have"));
        }
        let accepted = saved.signals.status() & status::FEATURES_OK != 0;
        let lost = saved.driver_features & !self.offered();
        if accepted && lost != 0 {
            return Err(StateError::Differs(format!(
                "its guest uses features {lost:#x} of {}, which is without them now",
                self.device.outline()
            )));
        }
        Ok(())
    }

    fn start_queues(&self, common: &Common, saved: &[SavedQueue]) -> Result<(), StateError> {
        for (index, (queue, saved)) in (0..).zip(self.device.queues().iter().zip(saved)) {
            if let Some(ring) = saved.ring.as_ref().filter(|_| saved.enabled) {
                queue.start_at(self.start(common, index, saved.addresses), ring)?;
            }
        }
        Ok(())
    }

    pub(super) fn start(&self, common: &Common, index: u16, addresses: RingAddresses) -> Start<'_> {
        Start {
            addresses,
            index,
            event_idx: common.driver_features & crate::feature::EVENT_IDX != 0,
            memory: &self.memory,
            interrupt: self.signals.clone(),
        }
    }

    pub(super) fn go_on(&self, restored: bool) {
        let queues = self.device.queues();
        if restored {
            self.signals.update_wiring(lock(&self.config).command() & command::INTX_DISABLE != 0);
            // Whatever was used and not signalled: one interrupt too many does no harm.
            let running = (0..).zip(queues).filter(|(_, queue)| queue.save().is_some());
            running.for_each(|(index, _)| self.signals.queue(index));
        }
        queues.iter().for_each(|queue| queue.release());
    }
}
