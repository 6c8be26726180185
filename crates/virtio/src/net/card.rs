//! The queues as the endpoint sees them.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use tearless_net::{Card, Frame, Gso, GsoKind, MAX_FRAME, Mac, Offload, Offloads, PartialChecksum};

use super::spec::{feature, header};
use crate::{Chain, Ring, RingError, VirtQueue, lock};

/// The shortest frame: an Ethernet header.
const SHORTEST: usize = 14;

pub(super) struct NetCard {
    mac: Mac,
    features: u64,
    receive: Arc<VirtQueue>,
    transmit: Arc<VirtQueue>,
    /// Kept from frame to frame, so that none allocates. Only the endpoint's thread is here.
    scratch: Mutex<Scratch>,
    received: AtomicBool,
    sent: AtomicBool,
}

#[derive(Default)]
struct Scratch {
    transmit: Chain,
    receive: Vec<Chain>,
}

impl NetCard {
    pub(super) fn new(mac: Mac, features: u64, receive: Arc<VirtQueue>, transmit: Arc<VirtQueue>) -> Self {
        Self {
            mac,
            features,
            receive,
            transmit,
            scratch: Mutex::default(),
            received: AtomicBool::new(false),
            sent: AtomicBool::new(false),
        }
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Takes requests until one is a frame that this guest may send.
    fn next_frame(
        &self,
        ring: &mut Ring,
        chain: &mut Chain,
        into: &mut Vec<u8>,
    ) -> Result<Option<Offload>, RingError> {
        ring.disable_kicks()?;
        while ring.pop_or_arm(chain)? {
            let offload = self.read(ring, chain, into)?;
            ring.push(chain.head(), 0)?;
            self.sent.store(true, Ordering::Relaxed);
            if offload.is_some() {
                return Ok(offload);
            }
        }
        Ok(None)
    }

    /// Reads a request; `None` when it is no frame, or one that says it is somebody else's.
    fn read(&self, ring: &Ring, chain: &Chain, into: &mut Vec<u8>) -> Result<Option<Offload>, RingError> {
        let mut head = [0; header::LEN];
        if chain.read(ring.memory(), 0, &mut head)? < head.len() {
            return Err(RingError::Chain("a network packet without a header"));
        }
        let len = (chain.readable_len() - head.len() as u64) as usize;
        if !(SHORTEST..=MAX_FRAME).contains(&len) {
            return Ok(None);
        }
        into.resize(len, 0);
        chain.read(ring.memory(), header::LEN as u64, into)?;
        let is_own = into.get(6..12) == Some(&self.mac);
        Ok(if is_own { self.offload(head, len) } else { None })
    }

    /// What the header says is left to do; `None` when that makes no sense.
    fn offload(&self, head: [u8; header::LEN], len: usize) -> Option<Offload> {
        let [flags, kind, h0, h1, g0, g1, s0, s1, o0, o1, ..] = head;
        let [headers, size, start, offset] = [[h0, h1], [g0, g1], [s0, s1], [o0, o1]].map(u16::from_le_bytes);
        let mut result = Offload::default();
        if flags & header::NEEDS_CSUM != 0 {
            let fits = usize::from(start) + usize::from(offset) + 2 <= len;
            if !self.has(feature::CSUM) || !fits {
                return None;
            }
            result.checksum = Some(PartialChecksum { start, offset });
        }
        let (kind, needs) = match kind & !header::GSO_ECN {
            header::GSO_NONE => return Some(result),
            header::GSO_TCPV4 => (GsoKind::Tcp4, feature::HOST_TSO4),
            header::GSO_TCPV6 => (GsoKind::Tcp6, feature::HOST_TSO6),
            _ => return None,
        };
        if !self.has(needs) || size == 0 || usize::from(headers) > len || result.checksum.is_none() {
            return None;
        }
        result.gso = Some(Gso { kind, size, headers });
        Some(result)
    }

    /// Puts a frame into the guest's buffers. `false` when there are too few of them now.
    fn deliver(
        &self,
        ring: &mut Ring,
        chains: &mut Vec<Chain>,
        frame: &Frame<'_>,
    ) -> Result<bool, RingError> {
        let total = (header::LEN + frame.len()) as u64;
        let position = ring.position();
        let (mut room, mut count) = (0, 0);
        while room < total {
            if chains.len() == count {
                chains.push(Chain::default());
            }
            let Some(chain) = chains.get_mut(count) else { break };
            let single = count == 1 && !self.has(feature::MRG_RXBUF);
            if single || count == usize::from(ring.size()) {
                // It cannot fit, whatever the guest offers later.
                ring.rewind(position);
                return Ok(true);
            }
            if !ring.pop_or_arm(chain)? {
                ring.rewind(position);
                return Ok(false);
            }
            room += chain.writable_len();
            count += 1;
        }
        let chains = chains.get(..count).unwrap_or_default();
        write(ring, chains, &encode(frame, count as u16), frame)?;
        self.received.store(true, Ordering::Relaxed);
        Ok(true)
    }
}

/// The header of a frame in `count` buffers.
fn encode(frame: &Frame<'_>, count: u16) -> [u8; header::LEN] {
    let checksum = frame.offload.checksum;
    let flags = if checksum.is_some() { header::NEEDS_CSUM } else { 0 };
    let (start, offset) = checksum.map_or((0, 0), |c| (c.start, c.offset));
    let (kind, headers, size) = match frame.offload.gso {
        None => (header::GSO_NONE, 0, 0),
        Some(Gso { kind: GsoKind::Tcp4, size, headers }) => (header::GSO_TCPV4, headers, size),
        Some(Gso { kind: GsoKind::Tcp6, size, headers }) => (header::GSO_TCPV6, headers, size),
    };
    let mut out = [0; header::LEN];
    let words = [headers, size, start, offset, count];
    let bytes = [flags, kind].into_iter().chain(words.into_iter().flat_map(u16::to_le_bytes));
    out.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
    out
}

/// Spreads header and frame over the buffers, and gives these back together.
fn write(
    ring: &mut Ring,
    chains: &[Chain],
    head: &[u8; header::LEN],
    frame: &Frame<'_>,
) -> Result<(), RingError> {
    let [first, second, third] = frame.parts;
    let mut parts = [head.as_slice(), first, second, third].into_iter();
    let mut part = parts.next().unwrap_or_default();
    for chain in chains {
        let room = chain.writable_len();
        let mut at = 0;
        while at < room {
            while part.is_empty() {
                match parts.next() {
                    Some(next) => part = next,
                    None => break,
                }
            }
            if part.is_empty() {
                break;
            }
            let done = chain.write(ring.memory(), at, part)?;
            part = part.get(done..).unwrap_or_default();
            at += done as u64;
        }
    }
    let mut left = (header::LEN + frame.len()) as u64;
    ring.push_all(chains.iter().map(|chain| {
        let filled = left.min(chain.writable_len());
        left -= filled;
        (chain.head(), filled as u32)
    }))
}

impl Card for NetCard {
    fn mac(&self) -> Mac {
        self.mac
    }

    fn offloads(&self) -> Offloads {
        Offloads {
            checksum: self.has(feature::GUEST_CSUM),
            tcp4: self.has(feature::GUEST_TSO4),
            tcp6: self.has(feature::GUEST_TSO6),
        }
    }

    fn take(&self, into: &mut Vec<u8>) -> Option<Offload> {
        let mut scratch = lock(&self.scratch);
        self.transmit.with(|ring| self.next_frame(ring, &mut scratch.transmit, into)).flatten()
    }

    /// A stopped queue takes nothing and rings when it is started.
    fn give(&self, frame: &Frame<'_>) -> bool {
        let mut scratch = lock(&self.scratch);
        self.receive.with(|ring| self.deliver(ring, &mut scratch.receive, frame)).unwrap_or(false)
    }

    fn flush(&self) {
        for (queue, pending) in [(&self.receive, &self.received), (&self.transmit, &self.sent)] {
            if pending.swap(false, Ordering::Relaxed) {
                queue.with(Ring::notify);
            }
        }
    }
}
