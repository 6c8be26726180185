//! The sound card as the transport sees it.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use tearless_sound::Devices;
use tearless_state::{Encoded, StateError};

use super::{
    card::{Card, directions, items},
    spec::{
        CLASS, DEVICE_ID, Direction,
        request::{CHMAP_INFO, JACK_INFO, PCM_INFO},
    },
};
use crate::{Activation, DeviceKind, VirtQueue, VirtioDevice, Wake, lock, read_window};

/// Control requests come one by one, and events are few; Linux has 16 periods in a buffer at most.
const QUEUE_SIZE: u16 = 64;

/// The version of the state's format.
const STATE_VERSION: u32 = 1;

/// A sound card.
pub struct Sound {
    queues: [Arc<VirtQueue>; 4],
    directions: Vec<Direction>,
    card: Arc<Mutex<Card>>,
    resets: Arc<AtomicU64>,
    wake: Arc<Wake>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Sound {
    /// The device type (section 5).
    pub const ID: u16 = DEVICE_ID;

    /// A card that plays and records with `devices`; what there is of them it has streams for.
    pub fn new(devices: Devices) -> Arc<Self> {
        let wake = Arc::new(Wake::default());
        let queues = [(); 4].map(|()| VirtQueue::new(QUEUE_SIZE, wake.clone()));
        let (directions, resets) = (directions(&devices), Arc::<AtomicU64>::default());
        let card = Arc::new(Mutex::new(Card::new(queues.clone(), devices, resets.clone())));
        Arc::new(Self { queues, directions, card, resets, wake, thread: Mutex::new(None) })
    }
}

impl VirtioDevice for Sound {
    fn kind(&self) -> DeviceKind {
        DeviceKind { id: DEVICE_ID, class: CLASS }
    }

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> &[Arc<VirtQueue>] {
        &self.queues
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let count = |code| items(code, &self.directions).map_or(0, |items| items.len() as u32);
        let fields = [JACK_INFO, PCM_INFO, CHMAP_INFO].map(|code| count(code).to_le_bytes());
        read_window(&fields.concat(), offset, data);
    }

    fn activate(&self, _: Activation) -> io::Result<()> {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let (card, wake) = (self.card.clone(), self.wake.clone());
            let run = move || {
                let mut next = None;
                while wake.wait_until(next) {
                    next = lock(&card).step(Instant::now());
                }
            };
            *thread = Some(thread::Builder::new().name("sound-card".to_owned()).spawn(run)?);
        }
        Ok(())
    }

    fn outline(&self) -> String {
        match self.directions.as_slice() {
            [Direction::Output] => "a sound card that plays",
            [Direction::Input] => "a sound card that records",
            _ => "a sound card that plays and records",
        }
        .to_owned()
    }

    fn save(&self) -> Result<Option<Encoded>, StateError> {
        let state = lock(&self.card).save();
        Encoded::new(STATE_VERSION, &state).map(Some)
    }

    fn restore(&self, state: Option<&Encoded>) -> Result<(), StateError> {
        let state = state.ok_or_else(|| StateError::malformed("what is played is missing"))?;
        lock(&self.card).restore(state.decode(STATE_VERSION)?)
    }

    /// A buffer stays here until it has been played, and a stopped stream keeps its buffers.
    fn ends_soon(&self) -> bool {
        false
    }

    /// The worker forgets what was said as soon as it looks: here nobody waits for files that it writes.
    fn reset(&self) {
        self.resets.fetch_add(1, Ordering::AcqRel);
        self.wake.signal();
    }
}

impl Drop for Sound {
    fn drop(&mut self) {
        self.wake.shut_down();
        if lock(&self.thread).take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the sound card's worker ended with a panic");
        }
    }
}
