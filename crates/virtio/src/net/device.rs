//! The network device as the transport sees it.

use std::{io, sync::Arc};

use tearless_net::{Endpoint, Mac};

use super::{
    card::NetCard,
    spec::{CLASS, DEVICE_ID, STATUS_LINK_UP, feature},
};
use crate::{Activation, DeviceKind, VirtQueue, VirtioDevice, Wake, read_window};

/// A large frame takes a score of small buffers; the ring holds several of them.
const RECEIVE_SIZE: u16 = 1024;
const TRANSMIT_SIZE: u16 = 256;

/// A network device.
pub struct Net {
    mac: Mac,
    endpoint: Arc<dyn Endpoint>,
    queues: [Arc<VirtQueue>; 2],
}

impl Net {
    /// The device type.
    pub const ID: u16 = DEVICE_ID;

    /// A card with the address `mac`, plugged into `endpoint`.
    pub fn new(mac: Mac, endpoint: Arc<dyn Endpoint>) -> Arc<Self> {
        let kicked = endpoint.clone();
        let wake = Arc::new(Wake::ringing(move || kicked.kick()));
        let queues = [RECEIVE_SIZE, TRANSMIT_SIZE].map(|size| VirtQueue::new(size, wake.clone()));
        Arc::new(Self { mac, endpoint, queues })
    }
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
        bytes.extend([0; 2]);
        bytes.extend(self.endpoint.mtu().unwrap_or_default().to_le_bytes());
        read_window(&bytes, offset, data);
    }

    fn activate(&self, activation: Activation) -> io::Result<()> {
        let [receive, transmit] = &self.queues;
        let card = NetCard::new(self.mac, activation.features, receive.clone(), transmit.clone());
        self.endpoint.attach(Arc::new(card));
        Ok(())
    }

    /// The guest knows its address.
    fn outline(&self) -> String {
        let [a, b, c, d, e, f] = self.mac;
        format!("a network card {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }

    fn reset(&self) {
        self.endpoint.detach();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.queues.iter().for_each(|queue| queue.stop());
        self.endpoint.detach();
    }
}
