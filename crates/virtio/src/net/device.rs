//! The network device as the transport sees it.

use std::{
    io,
    sync::{Arc, Mutex, Weak},
};

use serde::{Deserialize, Serialize};
use tearless_net::{Endpoint, Mac};
use tearless_state::{Encoded, StateError};

use super::{
    card::NetCard,
    control::Control,
    spec::{CLASS, DEVICE_ID, STATUS_LINK_UP, feature},
};
use crate::{Activation, DeviceKind, VirtQueue, VirtioDevice, Wake, lock, read_window};

/// Most pairs of queues: one thread of the host serves them all.
const MAX_PAIRS: u16 = 8;

/// A large frame takes a score of small buffers; the ring holds several of them.
const RECEIVE_SIZE: u16 = 1024;
const TRANSMIT_SIZE: u16 = 256;

const CONTROL_SIZE: u16 = 64;

/// The version of the format.
const STATE_VERSION: u32 = 1;

/// A network device.
pub struct Net {
    mac: Mac,
    endpoint: Arc<dyn Endpoint>,
    /// The pairs, and the control queue where there is more than one.
    queues: Vec<Arc<VirtQueue>>,
    pairs: u16,
    up: Mutex<Up>,
}

/// What is there while the driver is up.
#[derive(Default)]
struct Up {
    card: Option<Arc<NetCard>>,
    control: Option<Control>,
}

/// What a card of several pairs says in a saved VM. Which flow goes where is learnt anew.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedNet {
    /// How many pairs are active.
    active: usize,
}

impl Net {
    /// The device type.
    pub const ID: u16 = DEVICE_ID;

    /// A card with the address `mac`, plugged into `endpoint`, with as many pairs of queues as there are vCPUs, but at most
    /// [`MAX_PAIRS`].
    pub fn new(mac: Mac, endpoint: Arc<dyn Endpoint>, vcpus: u32) -> Arc<Self> {
        let pairs = u16::try_from(vcpus).unwrap_or(MAX_PAIRS).clamp(1, MAX_PAIRS);
        Arc::new_cyclic(|device: &Weak<Self>| {
            let kicked = endpoint.clone();
            let wake = Arc::new(Wake::ringing(move || kicked.kick()));
            let queue = |index, size| {
                // What is the control queue depends on what is negotiated.
                let may_control = pairs > 1 && (index == 2 || index == 2 * pairs);
                let wake = if may_control { controlling(device.clone(), index) } else { wake.clone() };
                VirtQueue::new(size, wake)
            };
            let mut queues: Vec<_> = (0..2 * pairs)
                .map(|index| queue(index, if index % 2 == 0 { RECEIVE_SIZE } else { TRANSMIT_SIZE }))
                .collect();
            if pairs > 1 {
                queues.push(queue(2 * pairs, CONTROL_SIZE));
            }
            Self { mac, endpoint, queues, pairs, up: Mutex::default() }
        })
    }

    fn kicked(&self, index: u16) {
        let index = usize::from(index);
        let control = lock(&self.up).control.clone().filter(|control| control.index == index);
        if let (Some(control), Some(queue)) = (control, self.queues.get(index)) {
            control.serve(queue);
        }
        // Also after a command: a frame that waits for a pair which is not active any more has room elsewhere.
        self.endpoint.kick();
    }

    fn has_several(&self) -> bool {
        self.pairs > 1
    }
}

/// For a queue that may be the control queue. The guest waits for what that says, so the vCPU that kicks says it.
fn controlling(device: Weak<Net>, index: u16) -> Arc<Wake> {
    Arc::new(Wake::ringing(move || {
        if let Some(device) = device.upgrade() {
            device.kicked(index);
        }
    }))
}

impl VirtioDevice for Net {
    fn kind(&self) -> DeviceKind {
        DeviceKind { id: DEVICE_ID, class: CLASS }
    }

    fn features(&self) -> u64 {
        let accepts = self.endpoint.accepts();
        let offers = [
            (self.endpoint.mtu().is_some(), feature::MTU),
            (accepts.checksum, feature::CSUM),
            (accepts.checksum && accepts.tcp4, feature::HOST_TSO4),
            (accepts.checksum && accepts.tcp6, feature::HOST_TSO6),
            (self.has_several(), feature::CTRL_VQ | feature::MQ),
        ];
        let guest = feature::GUEST_CSUM | feature::GUEST_TSO4 | feature::GUEST_TSO6;
        let always = feature::MAC | feature::STATUS | feature::MRG_RXBUF | guest;
        offers.into_iter().filter(|(yes, _)| *yes).fold(always, |all, (_, bit)| all | bit)
    }

    fn queues(&self) -> &[Arc<VirtQueue>] {
        &self.queues
    }

    /// `struct virtio_net_config` (section 5.1.4).
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut bytes = self.mac.to_vec();
        bytes.extend(STATUS_LINK_UP.to_le_bytes());
        bytes.extend(if self.has_several() { self.pairs } else { 0 }.to_le_bytes());
        bytes.extend(self.endpoint.mtu().unwrap_or_default().to_le_bytes());
        read_window(&bytes, offset, data);
    }

    fn activate(&self, activation: Activation) -> io::Result<()> {
        let features = activation.features;
        let known = if features & feature::MQ == 0 { 1 } else { self.pairs };
        let queues = self.queues.get(..2 * usize::from(known)).unwrap_or_default();
        let card = Arc::new(NetCard::new(self.mac, features, queues));
        let control = Control::new(features, self.queues.len(), card.clone());
        *lock(&self.up) = Up { card: Some(card.clone()), control };
        self.endpoint.attach(card);
        Ok(())
    }

    /// The guest knows its address, and how many queues there are.
    fn outline(&self) -> String {
        let [a, b, c, d, e, f] = self.mac;
        let card = format!("a network card {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        if self.has_several() { format!("{card} of {} queue pairs", self.pairs) } else { card }
    }

    fn save(&self) -> Result<Option<Encoded>, StateError> {
        if !self.has_several() {
            return Ok(None);
        }
        let active = lock(&self.up).card.as_ref().map_or(1, |card| card.active());
        Encoded::new(STATE_VERSION, &SavedNet { active }).map(Some)
    }

    fn restore(&self, state: Option<&Encoded>) -> Result<(), StateError> {
        let saved = match (state, self.has_several()) {
            (None, false) => return Ok(()),
            (Some(state), true) => state.decode::<SavedNet>(STATE_VERSION)?,
            _ => return Err(StateError::malformed("it is of a network card with another number of queues")),
        };
        let fits = match &lock(&self.up).card {
            Some(card) => card.set_active(saved.active),
            None => saved.active == 1,
        };
        if fits {
            Ok(())
        } else {
            Err(StateError::malformed(format!("{} active queue pairs cannot be", saved.active)))
        }
    }

    fn reset(&self) {
        *lock(&self.up) = Up::default();
        self.endpoint.detach();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.queues.iter().for_each(|queue| queue.stop());
        self.endpoint.detach();
    }
}
