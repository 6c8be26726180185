//! The socket device as the transport sees it.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use tearless_state::{Encoded, StateError};

use super::{
    hub::Hub,
    spec::{CLASS, DEVICE_ID, F_STREAM, GUEST_CID},
    worker::{Queues, Worker},
};
use crate::{Activation, DeviceKind, VirtQueue, VirtioDevice, Wake, lock, read_window};

const QUEUE_SIZE: u16 = 128;
const EVENT_QUEUE_SIZE: u16 = 16;

/// A socket device.
pub struct Vsock {
    hub: Arc<Hub>,
    /// Receive, transmit, event (section 5.10.2).
    queues: [Arc<VirtQueue>; 3],
    wake: Arc<Wake>,
    /// Rung by `wake`; the worker's, once that runs.
    bell: Mutex<Option<UnixStream>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Vsock {
    /// The device type.
    pub const ID: u16 = DEVICE_ID;

    /// A device whose connections `hub` makes. A hub serves one device at a time.
    ///
    /// # Errors
    /// When the host has no file descriptors left.
    pub fn new(hub: Arc<Hub>) -> io::Result<Arc<Self>> {
        let (bell, rope) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        rope.set_nonblocking(true)?;
        let wake = Arc::new(Wake::with_bell(move || {
            // When the socket is full it has woken the worker already; when it is closed there is none.
            drop((&rope).write(&[1]));
        }));
        let queues =
            [QUEUE_SIZE, QUEUE_SIZE, EVENT_QUEUE_SIZE].map(|size| VirtQueue::new(size, wake.clone()));
        let (bell, thread) = (Mutex::new(Some(bell)), Mutex::new(None));
        Ok(Arc::new(Self { hub, queues, wake, bell, thread }))
    }
}

impl VirtioDevice for Vsock {
    fn kind(&self) -> DeviceKind {
        DeviceKind { id: DEVICE_ID, class: CLASS }
    }

    fn features(&self) -> u64 {
        F_STREAM
    }

    fn queues(&self) -> &[Arc<VirtQueue>] {
        &self.queues
    }

    /// `struct virtio_vsock_config`: the guest's CID.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_window(&GUEST_CID.to_le_bytes(), offset, data);
    }

    fn activate(&self, _: Activation) -> io::Result<()> {
        let mut thread = lock(&self.thread);
        if let Some(bell) = lock(&self.bell).take() {
            let [receive, transmit, event] = self.queues.clone();
            let queues = Queues { receive, transmit, event };
            let worker = Worker::new(queues, self.hub.clone(), self.wake.clone(), bell);
            *thread = Some(thread::Builder::new().name("vsock".to_owned()).spawn(move || worker.run())?);
        }
        self.hub.set_online(self.wake.clone());
        Ok(())
    }

    /// The connections are the process', which is another one now; the guest hears that they are gone. What the guest listens
    /// at it goes on listening at.
    fn restore(&self, state: Option<&Encoded>) -> Result<(), StateError> {
        if state.is_some() {
            return Err(StateError::malformed("it is of another device"));
        }
        self.hub.transport_reset();
        Ok(())
    }

    fn reset(&self) {
        self.hub.set_offline();
        self.wake.signal();
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        self.hub.set_offline();
        self.wake.shut_down();
        if lock(&self.thread).take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the socket worker ended with a panic");
        }
    }
}
