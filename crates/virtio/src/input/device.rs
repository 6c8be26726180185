//! The input devices as the transport sees them.

use std::{
    io,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use serde::{Deserialize, Serialize};
use tearless_display::input::{
    ABS_MAX, BUTTONS, Lights,
    evdev::{ABS_X, ABS_Y, EV_ABS, EV_KEY, EV_LED, EV_REL, KEY_LAST, LED_SCROLLL, REL_HWHEEL, REL_WHEEL},
};
use tearless_state::{Encoded, StateError};

use super::{
    spec::{BUS_VIRTUAL, CLASS_KEYBOARD, CLASS_POINTER, DATA_LEN, DEVICE_ID, HEADER_LEN, event, select},
    worker::{Events, SavedEvents, run},
};
use crate::{Activation, DeviceKind, VirtQueue, VirtioDevice, Wake, lock, read_window};

const QUEUE_SIZE: u16 = 64;

/// Which device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All keys that there are.
    Keyboard,
    /// A position on the screen, buttons and wheels.
    Pointer,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Keyboard => "Tearless Keyboard",
            Self::Pointer => "Tearless Pointer",
        }
    }

    /// The bitmap of the events of type `kind`.
    fn bits(self, kind: u8) -> Vec<u8> {
        let bitmap = |codes: &mut dyn Iterator<Item = u16>| {
            let mut bits = Vec::new();
            for code in codes {
                let at = usize::from(code / 8);
                bits.resize(bits.len().max(at + 1), 0);
                if let Some(byte) = bits.get_mut(at) {
                    *byte |= 1 << (code % 8);
                }
            }
            bits
        };
        match (self, kind, u16::from(kind)) {
            (Self::Keyboard, _, EV_KEY) => bitmap(&mut (1..=KEY_LAST)),
            (Self::Keyboard, event::REP, _) => bitmap(&mut (0..2)),
            // Num, caps and scroll lock.
            (Self::Keyboard, _, EV_LED) => bitmap(&mut (0..=LED_SCROLLL)),
            (Self::Pointer, _, EV_KEY) => bitmap(&mut BUTTONS.into_iter()),
            (Self::Pointer, _, EV_REL) => bitmap(&mut [REL_HWHEEL, REL_WHEEL].into_iter()),
            (Self::Pointer, _, EV_ABS) => bitmap(&mut [ABS_X, ABS_Y].into_iter()),
            _ => Vec::new(),
        }
    }

    /// What the driver reads after it has selected something.
    fn answer(self, selected: u8, sub: u8) -> Vec<u8> {
        match selected {
            select::ID_NAME => self.name().into(),
            select::ID_DEVIDS => [BUS_VIRTUAL, 0, self as u16 + 1, 1].map(u16::to_le_bytes).concat(),
            select::EV_BITS => self.bits(sub),
            select::ABS_INFO if self == Self::Pointer && u16::from(sub) <= ABS_Y => {
                [0, ABS_MAX, 0, 0, 0].map(u32::to_le_bytes).concat()
            }
            _ => Vec::new(),
        }
    }
}

/// A keyboard or a pointer.
pub struct Input {
    kind: Kind,
    queues: [Arc<VirtQueue>; 2],
    events: Arc<Events>,
    selected: Mutex<[u8; 2]>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Input {
    /// The device type (section 5).
    pub const ID: u16 = DEVICE_ID;

    /// A device that is plugged into `input`.
    pub fn new(kind: Kind, input: &Arc<tearless_display::Input>) -> Arc<Self> {
        let wake = Arc::new(Wake::default());
        let queues = [(); 2].map(|()| VirtQueue::new(QUEUE_SIZE, wake.clone()));
        let lights = (kind == Kind::Keyboard).then(|| input.clone());
        let events = Arc::new(Events::new(wake, lights));
        match kind {
            Kind::Keyboard => input.plug_keyboard(events.clone()),
            Kind::Pointer => input.plug_pointer(events.clone()),
        }
        Arc::new(Self { kind, queues, events, selected: Mutex::default(), thread: Mutex::new(None) })
    }
}

/// The version of the state's format.
const STATE_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedInput {
    selected: [u8; 2],
    events: SavedEvents,
}

impl VirtioDevice for Input {
    fn save(&self) -> Result<Option<Encoded>, StateError> {
        let state = SavedInput { selected: *lock(&self.selected), events: self.events.save() };
        Encoded::new(STATE_VERSION, &state).map(Some)
    }

    fn restore(&self, state: Option<&Encoded>) -> Result<(), StateError> {
        let state = state.ok_or_else(|| StateError::malformed("what was typed is missing"))?;
        let SavedInput { selected, events } = state.decode(STATE_VERSION)?;
        *lock(&self.selected) = selected;
        self.events.restore(events)
    }

    fn kind(&self) -> DeviceKind {
        let class = match self.kind {
            Kind::Keyboard => CLASS_KEYBOARD,
            Kind::Pointer => CLASS_POINTER,
        };
        DeviceKind { id: DEVICE_ID, class }
    }

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> &[Arc<VirtQueue>] {
        &self.queues
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let [selected, sub] = *lock(&self.selected);
        let mut answer = self.kind.answer(selected, sub);
        answer.truncate(DATA_LEN);
        let mut config = vec![selected, sub, answer.len() as u8];
        config.resize(HEADER_LEN, 0);
        config.extend(answer);
        read_window(&config, offset, data);
    }

    fn write_config(&self, offset: u64, data: &[u8]) {
        let mut selected = lock(&self.selected);
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        selected.iter_mut().skip(skip).zip(data).for_each(|(to, byte)| *to = *byte);
    }

    fn activate(&self, _: Activation) -> io::Result<()> {
        self.events.open();
        // A driver switches on what is to shine: they begin dark.
        self.events.shine(Some(Lights::default()));
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let (queues, events) = (self.queues.clone(), self.events.clone());
            let named = thread::Builder::new().name("input".to_owned());
            *thread = Some(named.spawn(move || run(&queues, &events))?);
        }
        Ok(())
    }

    fn reset(&self) {
        self.events.close();
        self.events.shine(None);
        *lock(&self.selected) = [0; 2];
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.events.close();
        self.events.wake().shut_down();
        if lock(&self.thread).take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("an input worker ended with a panic");
        }
    }
}
