//! The entropy device as the transport sees it.

use std::{
    io,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use super::{
    spec::{CLASS, DEVICE_ID},
    worker::run,
};
use crate::{Activation, DeviceKind, VirtQueue, VirtioDevice, Wake, lock};

const QUEUE_SIZE: u16 = 64;

/// An entropy device.
pub struct Rng {
    queues: [Arc<VirtQueue>; 1],
    wake: Arc<Wake>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Rng {
    /// A device that draws from the host's generator.
    pub fn new() -> Arc<Self> {
        let wake = Arc::new(Wake::default());
        let queues = [VirtQueue::new(QUEUE_SIZE, wake.clone())];
        Arc::new(Self { queues, wake, thread: Mutex::new(None) })
    }
}

impl VirtioDevice for Rng {
    fn kind(&self) -> DeviceKind {
        DeviceKind { id: DEVICE_ID, class: CLASS }
    }

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> &[Arc<VirtQueue>] {
        &self.queues
    }

    fn read_config(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn activate(&self, _: Activation) -> io::Result<()> {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let [queue] = self.queues.clone();
            let wake = self.wake.clone();
            *thread = Some(thread::Builder::new().name("rng".to_owned()).spawn(move || run(&queue, &wake))?);
        }
        Ok(())
    }

    fn reset(&self) {}
}

impl Drop for Rng {
    fn drop(&mut self) {
        self.wake.shut_down();
        if lock(&self.thread).take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the entropy worker ended with a panic");
        }
    }
}
