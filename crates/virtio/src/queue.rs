//! One virtqueue (split ring, section 2.7), shared by the transport and a worker.
//!
//! ```text
//!            start                 a chain or index makes no sense
//!   stopped -------> running -----------------------------------> broken
//!      ^                |  stop                                      |  stop
//!      +----------------+--------------------------------------------+
//! ```
//! Besides, a queue is paused while its function may not access memory; it keeps its place then.
//!
//! A VM that is saved holds its queues: first no new request is taken, then, when those in progress are over, none goes on
//! until the queue is let go. What is in progress even so is part of the state, and taken again from there.
//!
//! Each start begins a new *epoch*. A worker that gave up the lock in the middle of a request (because its host side
//! blocks) comes back with [`VirtQueue::with_epoch`], which refuses if the queue was stopped in between.

use std::sync::{
    Arc, Condvar, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering, fence},
};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tearless_memory::{
    Gpa, GuestMemory,
    vm::{Bytes, GuestAddress},
};
use tearless_state::StateError;
use virtio_queue::{Queue, QueueOwnedT, QueueT};

use crate::{Chain, Interrupt, Wake, lock};

/// The driver's flag that says it polls (section 2.7.6).
const NO_INTERRUPT: u16 = 1;

/// Why a ring cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// An index or address of the ring itself is wrong.
    #[error("the ring is broken: {0}")]
    Ring(#[from] virtio_queue::Error),
    /// A descriptor chain is malformed.
    #[error("a descriptor chain is broken: {0}")]
    Chain(&'static str),
    /// A buffer lies outside of RAM.
    #[error("a buffer is broken: {0}")]
    Memory(#[from] tearless_memory::Error),
    /// The driver placed the ring where it cannot be.
    #[error("the ring is not aligned or not in RAM")]
    Placement,
}

/// Where the driver put the ring, guest physical.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingAddresses {
    /// Entries, a power of two.
    pub size: u16,
    /// The descriptor table.
    pub descriptors: u64,
    /// The driver area (available ring).
    pub driver: u64,
    /// The device area (used ring).
    pub device: u64,
}

/// A running ring. All methods touch guest memory and fail when the guest made that impossible.
pub struct Ring {
    queue: Queue,
    memory: GuestMemory,
    interrupt: Arc<dyn Interrupt>,
    index: u16,
    epoch: u64,
    /// Requests that were taken and not given back, in the order of taking. As many as a device has in progress.
    taken: Vec<u16>,
    /// Requests that were given back since the last [`Ring::notify`], modulo 2^16.
    unannounced: u16,
}

/// How far a running ring of a saved VM was.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedRing {
    next_avail: u16,
    next_used: u16,
    /// Requests in progress, to be taken again.
    taken: Vec<u16>,
}

impl Ring {
    fn new(queue: Queue, start: Start<'_>, epoch: u64) -> Self {
        Self {
            queue,
            memory: start.memory.clone(),
            interrupt: start.interrupt,
            index: start.index,
            epoch,
            taken: Vec::new(),
            unannounced: 0,
        }
    }

    /// The guest's memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Which life of the queue this is, for [`VirtQueue::with_epoch`].
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Takes the next request into `chain`; `false` when there is none.
    ///
    /// # Errors
    /// When the available index or the chain makes no sense.
    pub fn pop(&mut self, chain: &mut Chain) -> Result<bool, RingError> {
        match self.queue.iter(self.memory.vm())?.next() {
            Some(descriptors) => {
                self.taken.push(descriptors.head_index());
                chain.fill(descriptors).map(|()| true)
            }
            None => Ok(false),
        }
    }

    /// As [`Ring::pop`]; when there is no request, the driver's next one comes with a kick.
    ///
    /// # Errors
    /// As [`Ring::pop`].
    pub fn pop_or_arm(&mut self, chain: &mut Chain) -> Result<bool, RingError> {
        Ok(self.pop(chain)? || self.enable_kicks()? && self.pop(chain)?)
    }

    /// Takes the next request and has the driver kick for the one after it, for queues that several workers serve.
    /// `None` when there is no request; else whether there are more already.
    ///
    /// # Errors
    /// As [`Ring::pop`].
    pub fn pop_shared(&mut self, chain: &mut Chain) -> Result<Option<bool>, RingError> {
        if self.pop_or_arm(chain)? { Ok(Some(self.enable_kicks()?)) } else { Ok(None) }
    }

    /// How many entries the driver chose: no more requests can wait.
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// How many requests the driver has made available, ever, modulo 2^16.
    ///
    /// # Errors
    /// When the ring is not readable.
    pub(crate) fn available(&self) -> Result<u16, RingError> {
        Ok(self.queue.avail_idx(self.memory.vm(), Ordering::Acquire)?.0)
    }

    /// Which request [`Ring::pop`] takes next, for [`Ring::rewind`].
    pub fn position(&self) -> u16 {
        self.queue.next_avail()
    }

    /// Leaves the requests that were taken since `position` in the ring, as if they had not been. None of them may have
    /// been given back.
    pub fn rewind(&mut self, position: u16) {
        let undone = usize::from(self.queue.next_avail().wrapping_sub(position));
        self.taken.truncate(self.taken.len().saturating_sub(undone));
        self.queue.set_next_avail(position);
    }

    /// Gives the request `head` back, of whose writable part the first `written` bytes were filled.
    ///
    /// # Errors
    /// When the used ring is not writable.
    pub fn push(&mut self, head: u16, written: u32) -> Result<(), RingError> {
        self.push_all([(head, written)])
    }

    /// Gives requests back, each as [`Ring::push`] does, so that the driver sees all of them or none: what the buffers of
    /// one received packet need (section 5.1.6.4), for their driver may run on another CPU.
    ///
    /// # Errors
    /// As [`Ring::push`].
    pub fn push_all(&mut self, requests: impl IntoIterator<Item = (u16, u32)>) -> Result<(), RingError> {
        let mut next = self.queue.next_used();
        for (head, written) in requests {
            if let Some(at) = self.taken.iter().position(|taken| *taken == head) {
                self.taken.remove(at);
            }
            let element = u64::from(head) | u64::from(written) << 32;
            let entry = self.used_ring(4 + 8 * u64::from(next % self.queue.size()))?;
            self.memory.write(Gpa(entry.0), &element.to_le_bytes())?;
            next = next.wrapping_add(1);
        }
        self.unannounced = self.unannounced.wrapping_add(next.wrapping_sub(self.queue.next_used()));
        self.queue.set_next_used(next);
        let index = self.used_ring(2)?;
        Ok(self
            .memory
            .vm()
            .store(next.to_le(), index, Ordering::Release)
            .map_err(virtio_queue::Error::GuestMemory)?)
    }

    fn used_ring(&self, offset: u64) -> Result<GuestAddress, RingError> {
        Ok(GuestAddress(
            self.queue.used_ring().checked_add(offset).ok_or(virtio_queue::Error::AddressOverflow)?,
        ))
    }

    /// Interrupts the driver if it wants to hear of what was pushed (sections 2.7.7 and 2.7.10).
    ///
    /// # Errors
    /// When the ring is not readable.
    pub fn notify(&mut self) -> Result<(), RingError> {
        // The driver must see what was pushed before its wish is read: else it could fall asleep in between.
        fence(Ordering::SeqCst);
        let pushed = std::mem::take(&mut self.unannounced);
        if pushed == 0 {
            return Ok(());
        }
        let wanted = if self.queue.event_idx_enabled() {
            self.queue.next_used().wrapping_sub(self.used_event()?).wrapping_sub(1) < pushed
        } else {
            self.driver_area(0)? & NO_INTERRUPT == 0
        };
        if wanted {
            self.interrupt.queue(self.index);
        }
        Ok(())
    }

    /// How many requests were given back, ever, modulo 2^16.
    pub(crate) fn used(&self) -> u16 {
        self.queue.next_used()
    }

    /// Whether the driver has certainly seen the first `used` of the requests that were given back; with
    /// [`Ring::used`] of a moment, all that were given back until then. It says how far it is only when it begins to wait for an
    /// interrupt (section 2.7.10), and one without `EVENT_IDX` never does.
    ///
    /// # Errors
    /// When the ring is not readable.
    pub(crate) fn has_seen(&self, used: u16) -> Result<bool, RingError> {
        if !self.queue.event_idx_enabled() {
            return Ok(false);
        }
        let (now, seen) = (self.queue.next_used(), self.used_event()?);
        Ok(now.wrapping_sub(used) >= now.wrapping_sub(seen))
    }

    fn used_event(&self) -> Result<u16, RingError> {
        self.driver_area(4 + 2 * u64::from(self.queue.size()))
    }

    fn driver_area(&self, offset: u64) -> Result<u16, RingError> {
        let address =
            self.queue.avail_ring().checked_add(offset).ok_or(virtio_queue::Error::AddressOverflow)?;
        let word = self.memory.vm().load(GuestAddress(address), Ordering::Relaxed);
        Ok(u16::from_le(word.map_err(virtio_queue::Error::GuestMemory)?))
    }

    fn save(&self) -> SavedRing {
        SavedRing {
            next_avail: self.queue.next_avail(),
            next_used: self.queue.next_used(),
            taken: self.taken.clone(),
        }
    }

    /// Goes on where a saved VM's was. What was in progress then is put back into the available ring, just before what has
    /// not been taken yet: these entries are used up, and no driver reads the ring.
    fn go_on(&mut self, saved: &SavedRing) -> Result<(), StateError> {
        let damaged = |why: &str| StateError::malformed(format!("virtqueue {}: {why}", self.index));
        let addresses = (Gpa(self.queue.avail_ring()), self.queue.size());
        let mut index = [0; 2];
        let (ring, size) = addresses;
        let at = |offset| ring.checked_add(offset).ok_or_else(|| damaged("its ring is not in RAM"));
        self.memory.read(at(2)?, &mut index).map_err(|_| damaged("its ring is not in RAM"))?;
        let waiting = usize::from(u16::from_le_bytes(index).wrapping_sub(saved.next_avail));
        if waiting + saved.taken.len() > usize::from(size) {
            return Err(damaged("more requests than it has room for"));
        }
        // At most the ring's size, which is below 2^16.
        let mut position = saved.next_avail.wrapping_sub(saved.taken.len() as u16);
        self.queue.set_next_avail(position);
        self.queue.set_next_used(saved.next_used);
        for head in &saved.taken {
            let entry = at(4 + 2 * u64::from(position % size))?;
            self.memory.write(entry, &head.to_le_bytes()).map_err(|_| damaged("its ring is not in RAM"))?;
            position = position.wrapping_add(1);
        }
        Ok(())
    }

    /// Asks the driver for kicks again. `true` means that requests came in before it could know: look again.
    pub(crate) fn enable_kicks(&mut self) -> Result<bool, RingError> {
        Ok(self.queue.enable_notification(self.memory.vm())?)
    }

    /// Tells the driver that it need not kick.
    ///
    /// # Errors
    /// When the ring is not accessible.
    pub fn disable_kicks(&mut self) -> Result<(), RingError> {
        Ok(self.queue.disable_notification(self.memory.vm())?)
    }
}

/// How far a queue is held while its VM is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Free,
    /// No new requests; those in progress go on.
    NoNew,
    /// Nothing.
    Still,
}

struct State {
    ring: Option<Ring>,
    epoch: u64,
    paused: bool,
    hold: Hold,
}

impl State {
    fn in_progress(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| !ring.taken.is_empty())
    }
}

/// A queue of a device, running or not.
pub struct VirtQueue {
    max_size: u16,
    state: Mutex<State>,
    /// Keeps a busy worker from taking the lock again and again while a stop waits for it.
    stopping: AtomicBool,
    resumed: Condvar,
    /// The user was told that this guest breaks its rings: once, for a guest can do it for ever.
    complained: AtomicBool,
    wake: Arc<Wake>,
}

impl VirtQueue {
    /// A stopped and paused queue of at most `max_size` entries, a power of two; `wake` is the worker that serves it.
    pub fn new(max_size: u16, wake: Arc<Wake>) -> Arc<Self> {
        let state = Mutex::new(State { ring: None, epoch: 0, paused: true, hold: Hold::Free });
        let (stopping, complained) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { max_size, state, stopping, resumed: Condvar::new(), complained, wake })
    }

    /// Most entries that the driver may choose.
    pub fn max_size(&self) -> u16 {
        self.max_size
    }

    /// Runs `work` on the ring if it runs, and breaks the ring if that fails. `None` when the queue is stopped or
    /// broken, before or by this call.
    pub fn with<R>(&self, work: impl FnOnce(&mut Ring) -> Result<R, RingError>) -> Option<R> {
        if self.stopping.load(Ordering::Acquire) {
            return None;
        }
        self.run(None, work)
    }

    /// As [`VirtQueue::with`], but only in the life `epoch` of the queue; waits while the queue is paused.
    pub fn with_epoch<R>(
        &self,
        epoch: u64,
        work: impl FnOnce(&mut Ring) -> Result<R, RingError>,
    ) -> Option<R> {
        self.run(Some(epoch), work)
    }

    fn run<R>(&self, epoch: Option<u64>, work: impl FnOnce(&mut Ring) -> Result<R, RingError>) -> Option<R> {
        let state = lock(&self.state);
        let mut state = match epoch {
            // A request in progress must not get lost: it goes on after the pause.
            Some(_) => {
                let paused =
                    |state: &mut State| (state.paused || state.hold == Hold::Still) && state.ring.is_some();
                self.resumed.wait_while(state, paused).unwrap_or_else(PoisonError::into_inner)
            }
            None => state,
        };
        let closed =
            state.paused || state.hold == Hold::NoNew && epoch.is_none() || state.hold == Hold::Still;
        let ring = state.ring.as_mut().filter(|_| !closed)?;
        if epoch.is_some_and(|epoch| epoch != ring.epoch) {
            return None;
        }
        match work(ring) {
            Ok(result) => {
                if state.hold == Hold::NoNew {
                    // Somebody waits for the last of the requests in progress.
                    self.resumed.notify_all();
                }
                Some(result)
            }
            Err(error) => {
                self.complain(ring.index, &error);
                ring.interrupt.needs_reset();
                state.ring = None;
                None
            }
        }
    }

    fn complain(&self, index: u16, error: &RingError) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(queue = index, %error, "the guest's driver broke a virtqueue; its device waits for a reset");
        }
    }

    /// Whether somebody waits for the queue to stop or pause: a worker inside of [`VirtQueue::with`] takes no new requests
    /// then and comes out as soon as it can.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Wakes the worker: the driver made requests available.
    pub fn kick(&self) {
        self.wake.signal();
    }

    /// Starts the ring. One that is not wholly in RAM or not aligned breaks the device at once.
    pub(crate) fn start(&self, start: Start<'_>) {
        match self.place(&start) {
            Ok(queue) => {
                let mut state = lock(&self.state);
                state.epoch += 1;
                state.ring = Some(Ring::new(queue, start, state.epoch));
            }
            Err(error) => {
                self.complain(start.index, &error);
                start.interrupt.needs_reset();
            }
        }
        self.wake.signal();
    }

    fn place(&self, start: &Start<'_>) -> Result<Queue, RingError> {
        let mut queue = Queue::new(self.max_size)?;
        queue.try_set_size(start.addresses.size)?;
        queue.try_set_desc_table_address(GuestAddress(start.addresses.descriptors))?;
        queue.try_set_avail_ring_address(GuestAddress(start.addresses.driver))?;
        queue.try_set_used_ring_address(GuestAddress(start.addresses.device))?;
        queue.set_event_idx(start.event_idx);
        queue.set_ready(true);
        if queue.is_valid(start.memory.vm()) { Ok(queue) } else { Err(RingError::Placement) }
    }

    /// Pauses the queue or lets it go on. When this returns from pausing no worker touches guest memory for it.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.stopping.store(paused, Ordering::Release);
        self.wake.signal();
        lock(&self.state).paused = paused;
        self.stopping.store(false, Ordering::Release);
        self.resumed.notify_all();
        self.announce();
        self.wake.signal();
    }

    /// Takes no new requests from now on.
    pub(crate) fn hold(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake.signal();
        lock(&self.state).hold = Hold::NoNew;
        self.stopping.store(false, Ordering::Release);
    }

    /// Waits until no request is in progress, at most until `deadline`; then the queue stands still. Returns whether none
    /// is in progress.
    pub(crate) fn drain(&self, deadline: Instant) -> bool {
        let mut state = lock(&self.state);
        // Paused ones cannot go on.
        while state.in_progress() && !state.paused {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.resumed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.hold = Hold::Still;
        !state.in_progress()
    }

    /// Lets the queue go on.
    pub(crate) fn release(&self) {
        lock(&self.state).hold = Hold::Free;
        self.resumed.notify_all();
        self.announce();
        self.wake.signal();
    }

    /// Announces what was pushed by a worker that could not announce it any more, for then the queue stood still.
    fn announce(&self) {
        self.with(Ring::notify);
    }

    /// How far the ring is; `None` when it does not run.
    pub(crate) fn save(&self) -> Option<SavedRing> {
        lock(&self.state).ring.as_ref().map(Ring::save)
    }

    /// Starts the ring where a saved VM's was, standing still until [`VirtQueue::release`].
    ///
    /// # Errors
    /// [`StateError::Malformed`] when it cannot have been there.
    pub(crate) fn start_at(&self, start: Start<'_>, saved: &SavedRing) -> Result<(), StateError> {
        let index = start.index;
        let queue = self
            .place(&start)
            .map_err(|error| StateError::malformed(format!("virtqueue {index}: {error}")))?;
        let mut state = lock(&self.state);
        state.hold = Hold::Still;
        state.epoch += 1;
        let mut ring = Ring::new(queue, start, state.epoch);
        ring.go_on(saved)?;
        state.ring = Some(ring);
        Ok(())
    }

    /// Stops the ring. When this returns no worker touches guest memory for this queue.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake.signal();
        lock(&self.state).ring = None;
        self.stopping.store(false, Ordering::Release);
        self.resumed.notify_all();
    }
}

/// What [`VirtQueue::start`] needs.
pub(crate) struct Start<'a> {
    pub(crate) addresses: RingAddresses,
    pub(crate) index: u16,
    pub(crate) event_idx: bool,
    pub(crate) memory: &'a GuestMemory,
    pub(crate) interrupt: Arc<dyn Interrupt>,
}
