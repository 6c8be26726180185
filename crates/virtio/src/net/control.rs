//! The control queue (section 5.1.6.5): how many pairs are active.

use std::sync::Arc;

use super::{
    card::NetCard,
    spec::{control, feature},
};
use crate::{Chain, Ring, RingError, VirtQueue};

/// The control queue of a driver that is up.
#[derive(Clone)]
pub(super) struct Control {
    /// Which queue it is.
    pub(super) index: usize,
    /// Whether the driver may choose between pairs.
    pairs: bool,
    card: Arc<NetCard>,
}

impl Control {
    /// The control queue of a driver that negotiated `features`, of a device of `queues` queues; `None` when it has none.
    pub(super) fn new(features: u64, queues: usize, card: Arc<NetCard>) -> Option<Self> {
        let pairs = features & feature::MQ != 0;
        // It follows the pairs that the driver knows of (5.1.2).
        let index = if pairs { queues.checked_sub(1)? } else { 2 };
        (features & feature::CTRL_VQ != 0).then_some(Self { index, pairs, card })
    }

    /// Does what the driver asks for. At most as many commands as the queue has room for, since this runs on a vCPU, and
    /// others could go on asking; a driver waits for each of its commands.
    pub(super) fn serve(&self, queue: &VirtQueue) {
        queue.with(|ring| {
            let mut chain = Chain::default();
            for _ in 0..ring.size() {
                if !ring.pop_or_arm(&mut chain)? {
                    break;
                }
                self.answer(ring, &chain)?;
            }
            ring.notify()
        });
    }

    fn answer(&self, ring: &mut Ring, chain: &Chain) -> Result<(), RingError> {
        if chain.writable_len() == 0 {
            return Err(RingError::Chain("a command without room for its answer"));
        }
        let mut command = [0; control::HEADER + 2];
        let len = chain.read(ring.memory(), 0, &mut command)?;
        let done = len == command.len() && self.execute(command);
        chain.write(ring.memory(), 0, &[if done { control::OK } else { control::ERR }])?;
        ring.push(chain.head(), 1)
    }

    /// Whether the command makes sense here.
    fn execute(&self, command: [u8; control::HEADER + 2]) -> bool {
        let [control::CLASS_MQ, control::VQ_PAIRS_SET, low, high] = command else { return false };
        self.pairs && self.card.set_active(u16::from_le_bytes([low, high]).into())
    }
}
