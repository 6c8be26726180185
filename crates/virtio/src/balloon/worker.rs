//! The thread that serves the balloon's queues.

use std::sync::{Arc, Mutex};

use tearless_memory::{Gpa, GuestMemory};

use super::{
    Gauge, GuestUse,
    spec::{PAGE, feature, stat},
};
use crate::{Chain, Ring, RingError, VirtQueue, Wake, lock};

/// Most page numbers of one request that are looked at: Linux sends 256, FreeBSD a page full. What is beyond is in the
/// balloon too, but the host keeps it: the specification lets it, and a request for 4 GiB of numbers would take minutes.
const MAX_PAGES: usize = 16 << 10;
/// Most statistics that are looked at; there are 16 kinds.
const MAX_STATS: usize = 64;

/// What a queue is for. Queues of features that were not negotiated do not exist, and those behind them move up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The driver puts pages into the balloon.
    Inflate,
    /// It takes them out again.
    Deflate,
    /// It tells how the guest uses its memory, when it is asked.
    Stats,
    /// It tells which pages nobody uses, and waits for the answer before anybody does.
    Report,
}

impl Role {
    pub(super) const ALL: [Self; 4] = [Self::Inflate, Self::Deflate, Self::Stats, Self::Report];

    /// The roles of the queues, in their order, with `features`.
    pub(super) fn of(features: u64) -> Vec<Self> {
        let exists = |role: &Self| match role {
            Self::Inflate | Self::Deflate => true,
            Self::Stats => features & feature::STATS_VQ != 0,
            Self::Report => features & feature::PAGE_REPORTING != 0,
        };
        Self::ALL.into_iter().filter(exists).collect()
    }
}

/// The state of the thread.
pub(super) struct Worker {
    gauge: Arc<Gauge>,
    queues: Vec<Arc<VirtQueue>>,
    roles: Arc<Mutex<Vec<Role>>>,
    chain: Chain,
    /// The statistics' buffer, which the device gives back when it wants new ones: its queue's life and its head.
    held: Option<(u64, u16)>,
    /// Page numbers of a request.
    pages: Vec<u64>,
    /// The user was told that the host keeps what the guest gives.
    complained: bool,
}

impl Worker {
    pub(super) fn new(gauge: Arc<Gauge>, queues: Vec<Arc<VirtQueue>>, roles: Arc<Mutex<Vec<Role>>>) -> Self {
        let (chain, held, pages, complained) = (Chain::default(), None, Vec::new(), false);
        Self { gauge, queues, roles, chain, held, pages, complained }
    }

    pub(super) fn run(mut self, wake: &Wake) {
        while wake.wait() {
            let roles = lock(&self.roles).clone();
            let queues = self.queues.clone();
            for (queue, role) in queues.iter().zip(roles) {
                while queue.with(|ring| self.serve(ring, queue, role)) == Some(true) && !wake.is_shut_down() {
                }
            }
        }
    }

    /// Serves one request; returns whether there may be more.
    fn serve(&mut self, ring: &mut Ring, queue: &VirtQueue, role: Role) -> Result<bool, RingError> {
        if role == Role::Stats && self.gauge.is_asked() {
            self.ask(ring)?;
        }
        if !ring.pop_or_arm(&mut self.chain)? {
            return Ok(false);
        }
        match role {
            Role::Inflate => self.inflate(ring.memory(), queue)?,
            Role::Deflate => {}
            Role::Stats => {
                let mut bytes = [0; MAX_STATS * stat::SIZE];
                let len = self.chain.read(ring.memory(), 0, &mut bytes)?;
                self.gauge.tell(GuestUse::parse(bytes.get(..len).unwrap_or_default()));
                // A second buffer means that the driver has had enough of the first.
                let before = self.held.replace((ring.epoch(), self.chain.head()));
                return give_back(ring, before).map(|()| true);
            }
            Role::Report => self.report(ring.memory(), queue)?,
        }
        ring.push(self.chain.head(), 0)?;
        ring.notify()?;
        Ok(true)
    }

    /// Has the driver tell anew.
    fn ask(&mut self, ring: &mut Ring) -> Result<(), RingError> {
        let held = self.held.take();
        give_back(ring, held)
    }

    /// The request names pages by number.
    fn inflate(&mut self, memory: &GuestMemory, queue: &VirtQueue) -> Result<(), RingError> {
        let len = usize::try_from(self.chain.readable_len()).unwrap_or(usize::MAX).min(4 * MAX_PAGES);
        let mut bytes = vec![0; len];
        let len = self.chain.read(memory, 0, &mut bytes)?;
        let numbers = bytes.get(..len).unwrap_or_default().chunks_exact(4);
        let mut pages = std::mem::take(&mut self.pages);
        pages.clear();
        pages.extend(numbers.map(|n| n.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))));
        // Neighbours go together: less work, and host pages may be larger than the balloon's.
        pages.sort_unstable();
        pages.dedup();
        for run in pages.chunk_by(|a, b| a + 1 == *b) {
            let Some(first) = run.first() else { continue };
            self.discard(memory, Gpa(first * PAGE), run.len() as u64 * PAGE)?;
            if queue.is_stopping() {
                break;
            }
        }
        self.pages = pages;
        Ok(())
    }

    /// The request's buffers are the pages.
    fn report(&mut self, memory: &GuestMemory, queue: &VirtQueue) -> Result<(), RingError> {
        // They would be zeros when the guest next looks, and it would think that somebody wrote to them.
        if self.gauge.is_poisoned() {
            return Ok(());
        }
        let chain = std::mem::take(&mut self.chain);
        for piece in chain.writable_pieces(memory, 0, u64::MAX) {
            let (start, len) = piece?;
            self.discard(memory, start, len)?;
            if queue.is_stopping() {
                break;
            }
        }
        self.chain = chain;
        Ok(())
    }

    fn discard(&mut self, memory: &GuestMemory, start: Gpa, len: u64) -> Result<(), RingError> {
        match memory.discard(start, len) {
            Ok(_) => Ok(()),
            Err(error @ tearless_memory::Error::NotRam(..)) => Err(error.into()),
            Err(error) => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(%error, "the host keeps memory that its guest does not use");
                }
                Ok(())
            }
        }
    }
}

/// Gives the statistics' buffer back, unless its queue has been reset since.
fn give_back(ring: &mut Ring, held: Option<(u64, u16)>) -> Result<(), RingError> {
    if let Some((_, head)) = held.filter(|(epoch, _)| *epoch == ring.epoch()) {
        ring.push(head, 0)?;
        ring.notify()?;
    }
    Ok(())
}
