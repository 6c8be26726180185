//! The balloon as the transport sees it.

use std::{
    io,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use tearless_state::{Encoded, StateError};

use super::{
    Gauge,
    gauge::Held,
    spec::{CLASS, DEVICE_ID, config, feature},
    worker::{Role, Worker},
};
use crate::{Activation, DeviceKind, VirtQueue, VirtioDevice, Wake, lock, read_window};

/// A report names at most as many ranges as its queue has entries, and Linux wants room for 32.
const QUEUE_SIZE: u16 = 128;

/// The version of the state's format.
const STATE_VERSION: u32 = 1;

/// A memory balloon.
pub struct Balloon {
    gauge: Arc<Gauge>,
    queues: [Arc<VirtQueue>; Role::ALL.len()],
    /// What each queue is for depends on what was negotiated.
    roles: Arc<Mutex<Vec<Role>>>,
    wake: Arc<Wake>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Balloon {
    /// The device type (section 5).
    pub const ID: u16 = DEVICE_ID;

    /// A balloon that `gauge` steers.
    pub fn new(gauge: Arc<Gauge>) -> Arc<Self> {
        let wake = Arc::new(Wake::default());
        let queues = Role::ALL.map(|_| VirtQueue::new(QUEUE_SIZE, wake.clone()));
        Arc::new(Self { gauge, queues, roles: Arc::default(), wake, thread: Mutex::new(None) })
    }
}

impl VirtioDevice for Balloon {
    fn kind(&self) -> DeviceKind {
        DeviceKind { id: DEVICE_ID, class: CLASS }
    }

    fn features(&self) -> u64 {
        feature::STATS_VQ | feature::DEFLATE_ON_OOM | feature::PAGE_POISON | feature::PAGE_REPORTING
    }

    fn queues(&self) -> &[Arc<VirtQueue>] {
        &self.queues
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_window(&self.gauge.config().map(u32::to_le_bytes).concat(), offset, data);
    }

    /// Two fields are the driver's, and it writes each as a whole.
    fn write_config(&self, offset: u64, data: &[u8]) {
        let Ok(value) = data.try_into().map(u32::from_le_bytes) else { return };
        match usize::try_from(offset) {
            Ok(config::ACTUAL) => self.gauge.set_actual(value),
            Ok(config::POISON) => self.gauge.set_poison(value),
            _ => {}
        }
    }

    fn activate(&self, activation: Activation) -> io::Result<()> {
        let Activation { features, interrupt } = activation;
        *lock(&self.roles) = Role::of(features);
        let tells = features & feature::STATS_VQ != 0;
        self.gauge.connect(interrupt, tells.then(|| self.wake.clone()));
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let worker = Worker::new(self.gauge.clone(), self.queues.to_vec(), self.roles.clone());
            let wake = self.wake.clone();
            let named = thread::Builder::new().name("balloon".to_owned());
            *thread = Some(named.spawn(move || worker.run(&wake))?);
        }
        Ok(())
    }

    fn save(&self) -> Result<Option<Encoded>, StateError> {
        Encoded::new(STATE_VERSION, &self.gauge.held()).map(Some)
    }

    fn restore(&self, state: Option<&Encoded>) -> Result<(), StateError> {
        let state = state.ok_or_else(|| StateError::malformed("what the guest holds is missing"))?;
        let Held { actual, poison } = state.decode(STATE_VERSION)?;
        self.gauge.set_actual(actual);
        self.gauge.set_poison(poison);
        Ok(())
    }

    /// The buffer for statistics stays with the device.
    fn ends_soon(&self) -> bool {
        false
    }

    fn reset(&self) {
        self.gauge.disconnect();
    }
}

impl Drop for Balloon {
    fn drop(&mut self) {
        self.gauge.disconnect();
        self.wake.shut_down();
        if lock(&self.thread).take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the balloon's worker ended with a panic");
        }
    }
}
