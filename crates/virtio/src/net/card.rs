//! The queues as the endpoint sees them.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use tearless_net::{Card, Frame, Gso, GsoKind, MAX_FRAME, Mac, Offload, Offloads, PartialChecksum};

use super::{
    spec::{feature, header},
    steering::Steering,
};
use crate::{Chain, Ring, RingError, VirtQueue, lock};

/// The shortest frame: an Ethernet header.
const SHORTEST: usize = 14;
/// Frames that one transmit queue sends before the others have their turn.
const BURST: usize = 16;

pub(super) struct NetCard {
    mac: Mac,
    features: u64,
    pairs: Vec<Pair>,
    /// The endpoint's thread is here, and a vCPU that changes how many pairs are active.
    scratch: Mutex<Scratch>,
}

/// A receive queue and a transmit queue.
struct Pair {
    receive: Arc<VirtQueue>,
    transmit: Arc<VirtQueue>,
    received: AtomicBool,
    sent: AtomicBool,
}

impl Pair {
    fn new(receive: &Arc<VirtQueue>, transmit: &Arc<VirtQueue>) -> Self {
        let (received, sent) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { receive: receive.clone(), transmit: transmit.clone(), received, sent }
    }
}

/// Kept from frame to frame; the chains so that no frame allocates.
#[derive(Default)]
struct Scratch {
    transmit: Chain,
    receive: Vec<Chain>,
    steering: Steering,
    turn: Turn,
}

/// Which transmit queue is next.
#[derive(Default)]
struct Turn {
    pair: usize,
    taken: usize,
}

impl Turn {
    /// The queue whose turn it is, of `count`.
    fn next(&mut self, count: usize) -> usize {
        if self.taken >= BURST {
            self.pass(count);
        }
        self.pair
    }

    fn pass(&mut self, count: usize) {
        self.pair = if self.pair + 1 < count { self.pair + 1 } else { 0 };
        self.taken = 0;
    }
}

impl NetCard {
    /// A card of the pairs of `queues`: receive, transmit, receive, and so on. The first is active.
    pub(super) fn new(mac: Mac, features: u64, queues: &[Arc<VirtQueue>]) -> Self {
        let (pairs, _) = queues.as_chunks();
        let pairs = pairs.iter().map(|[receive, transmit]| Pair::new(receive, transmit)).collect();
        Self { mac, features, pairs, scratch: Mutex::default() }
    }

    /// How many pairs there can be.
    pub(super) fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// How many pairs are active.
    pub(super) fn active(&self) -> usize {
        lock(&self.scratch).steering.active()
    }

    /// Makes the first `count` pairs the active ones; `false` when there cannot be so many. When this returns, no frame
    /// is on its way into a receive queue of another.
    pub(super) fn set_active(&self, count: usize) -> bool {
        let fits = (1..=self.pairs()).contains(&count);
        if fits {
            lock(&self.scratch).steering.set_active(count);
        }
        fits
    }

    /// The guest sent `frame` by `pair`: what comes for its flow goes there as well, as soon as the guest has seen all that was
    /// given to it elsewhere, so that nothing overtakes.
    fn steer(&self, steering: &mut Steering, frame: &[u8], pair: usize) {
        if pair >= steering.active() {
            return;
        }
        let Some(flow) = steering.flow(frame).filter(|flow| flow.pair != pair) else { return };
        let Some(old) = self.pairs.get(flow.pair) else { return };
        if old.receive.with(|ring| ring.has_seen(flow.mark)) == Some(true) {
            flow.pair = pair;
        }
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Takes requests until one is a frame that this guest may send.
    fn next_frame(
        &self,
        ring: &mut Ring,
        sent: &AtomicBool,
        chain: &mut Chain,
        into: &mut Vec<u8>,
    ) -> Result<Option<Offload>, RingError> {
        ring.disable_kicks()?;
        while ring.pop_or_arm(chain)? {
            let offload = self.read(ring, chain, into)?;
            ring.push(chain.head(), 0)?;
            sent.store(true, Ordering::Relaxed);
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
        received: &AtomicBool,
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
        received.store(true, Ordering::Relaxed);
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
        let Scratch { transmit: chain, steering, turn, .. } = &mut *scratch;
        for _ in &self.pairs {
            let at = turn.next(self.pairs());
            let Pair { transmit, sent, .. } = self.pairs.get(at)?;
            if let Some(offload) = transmit.with(|ring| self.next_frame(ring, sent, chain, into)).flatten() {
                turn.taken += 1;
                self.steer(steering, into, at);
                return Some(offload);
            }
            turn.pass(self.pairs());
        }
        None
    }

    /// A stopped queue takes nothing and rings when it is started.
    fn give(&self, frame: &Frame<'_>) -> bool {
        let mut scratch = lock(&self.scratch);
        let Scratch { receive: chains, steering, .. } = &mut *scratch;
        // Headers are not spread over parts.
        let flow = steering.flow(frame.parts[0]);
        let at = flow.as_ref().map_or(0, |flow| flow.pair);
        let Some(Pair { receive, received, .. }) = self.pairs.get(at) else { return false };
        let work = |ring: &mut Ring| Ok((self.deliver(ring, received, chains, frame)?, ring.used()));
        let Some((given, used)) = receive.with(work) else { return false };
        if let Some(flow) = flow {
            flow.mark = used;
        }
        given
    }

    fn flush(&self) {
        for Pair { receive, transmit, received, sent } in &self.pairs {
            for (queue, pending) in [(receive, received), (transmit, sent)] {
                if pending.swap(false, Ordering::Relaxed) {
                    queue.with(Ring::notify);
                }
            }
        }
    }
}
