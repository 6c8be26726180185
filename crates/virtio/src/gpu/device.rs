//! The display as the transport sees it.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
};

use tearless_display::Screen;
use tearless_state::{Encoded, StateError};

use super::{
    commands::Display,
    saved::{STATE_VERSION, SavedDisplay},
    spec::{CLASS, DEVICE_ID, EVENT_DISPLAY, EVENTS_CLEAR, feature},
    worker::run,
};
use crate::{Activation, DeviceKind, VirtQueue, VirtioDevice, Wake, lock, read_window};

const CONTROL_QUEUE_SIZE: u16 = 256;
const CURSOR_QUEUE_SIZE: u16 = 16;

/// A display.
pub struct Gpu {
    screen: Arc<Screen>,
    queues: [Arc<VirtQueue>; 2],
    display: Arc<Mutex<Display>>,
    /// `events_read`.
    events: Arc<AtomicU32>,
    wake: Arc<Wake>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Gpu {
    /// The device type (section 5).
    pub const ID: u16 = DEVICE_ID;

    /// A display that shows on `screen` what its guest paints.
    pub fn new(screen: Arc<Screen>) -> Arc<Self> {
        let wake = Arc::new(Wake::default());
        let queues = [CONTROL_QUEUE_SIZE, CURSOR_QUEUE_SIZE].map(|size| VirtQueue::new(size, wake.clone()));
        let display = Arc::new(Mutex::new(Display::new(screen.clone())));
        Arc::new(Self { screen, queues, display, events: Arc::default(), wake, thread: Mutex::new(None) })
    }
}

impl VirtioDevice for Gpu {
    fn save(&self) -> Result<Option<Encoded>, StateError> {
        let state = lock(&self.display).save(self.events.load(Ordering::Acquire))?;
        Encoded::new(STATE_VERSION, &state).map(Some)
    }

    fn restore(&self, state: Option<&Encoded>) -> Result<(), StateError> {
        let state = state.ok_or_else(|| StateError::malformed("what the screen shows is missing"))?;
        let state: SavedDisplay = state.decode(STATE_VERSION)?;
        self.events.store(state.events, Ordering::Release);
        lock(&self.display).restore(state)
    }

    fn kind(&self) -> DeviceKind {
        DeviceKind { id: DEVICE_ID, class: CLASS }
    }

    fn features(&self) -> u64 {
        feature::EDID
    }

    fn queues(&self) -> &[Arc<VirtQueue>] {
        &self.queues
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        // Events, what clears them, scanouts, capability sets.
        let fields = [self.events.load(Ordering::Acquire), 0, 1, 0];
        read_window(&fields.map(u32::to_le_bytes).concat(), offset, data);
    }

    fn write_config(&self, offset: u64, data: &[u8]) {
        if let (EVENTS_CLEAR, Ok(bytes)) = (offset, data.try_into()) {
            self.events.fetch_and(!u32::from_le_bytes(bytes), Ordering::AcqRel);
        }
    }

    fn activate(&self, Activation { interrupt, .. }: Activation) -> io::Result<()> {
        let events = self.events.clone();
        self.screen.drive(Arc::new(move || {
            events.fetch_or(EVENT_DISPLAY, Ordering::AcqRel);
            interrupt.config();
        }));
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let (queues, display, wake) = (self.queues.clone(), self.display.clone(), self.wake.clone());
            let named = thread::Builder::new().name("display".to_owned());
            *thread = Some(named.spawn(move || run(&queues, &display, &wake))?);
        }
        Ok(())
    }

    fn reset(&self) {
        lock(&self.display).reset();
        self.events.store(0, Ordering::Release);
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        self.wake.shut_down();
        if lock(&self.thread).take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the display's worker ended with a panic");
        }
        lock(&self.display).reset();
    }
}
