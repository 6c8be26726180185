//! What the vCPUs of a VM share, and how one vCPU makes the others forget something.
//!
//! TLB and instruction cache maintenance is broadcast: the issuing vCPU posts a [`Request`] to the [`Mailbox`] of every
//! other and raises its attention flag. Its DSB then waits until each has *drained* what was posted. A vCPU that is
//! outside of `run` (in a device, in WFI, not started) uses no translations, counts as quiescent, and drains when it
//! enters `run`. The two sides decide this race as in Dekker's algorithm:
//!
//! ```text
//!   poster:  post request;  fence SeqCst;  read `running`       -> false: need not wait
//!   runner:  set `running`; fence SeqCst;  read `posted`, drain -> then translate
//! ```
//!
//! One of them sees the other's write: either the poster finds it running and waits, or the runner finds the request
//! before its first translation. While it waits, a vCPU drains its own mailbox, so two that wait for each other both
//! go on. With fewer host cores than vCPUs the awaited one may not be scheduled: after a short spin the waiter yields.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    },
    time::Instant,
};

use super::{flag::Flag, phys::PhysMap, timer::TimerThread};

/// Most vCPUs of a VM.
pub(crate) const MAX_VCPUS: usize = 256;

/// Requests that a mailbox keeps apart; more than that become one of each kind, so that a vCPU which sleeps while others
/// unmap does not accumulate memory.
const MAX_REQUESTS: usize = 128;
/// How many kinds there are.
const KINDS: usize = 3;

/// Bits of [`Mailbox::attention`].
pub(crate) mod attention {
    /// `run` shall return `Kicked`.
    pub const KICK: u32 = 1;
    /// The mailbox has requests.
    pub const INBOX: u32 = 2;
    /// A timer deadline passed.
    pub const TIMER: u32 = 4;
    /// Set by the vCPU itself: leave the inner loop after every branch (an interrupt may be deliverable, or
    /// instructions are stepped one by one).
    pub const SELF: u32 = 8;
}

/// Something to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Translations.
    Tlb(TlbScope),
    /// Decoded code of the physical page at this address.
    Code(u64),
    /// All decoded code.
    AllCode,
    /// The physical memory map, and all of the above.
    Memory,
}

impl Request {
    /// The request of the same kind that covers all others of that kind.
    fn widest(self) -> Self {
        match self {
            Self::Tlb(_) => Self::Tlb(TlbScope::All),
            Self::Code(_) | Self::AllCode => Self::AllCode,
            Self::Memory => Self::Memory,
        }
    }
}

/// Which translations a TLBI drops (Arm ARM D8.17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlbScope {
    /// All of them.
    All,
    /// Those of an ASID; global ones may stay.
    Asid(u16),
    /// Those of `pages` 4 KiB pages from `va` on, of an ASID and global ones, or of any ASID.
    Pages { va: u64, pages: u64, asid: Option<u16> },
}

/// How other threads reach a vCPU.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Mailbox {
    /// Bits of [`attention`]; polled by running code.
    pub attention: Flag,
    running: AtomicBool,
    posted: AtomicU64,
    drained: AtomicU64,
    requests: Mutex<Vec<Request>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mailbox {
    /// Asks the vCPU to look around.
    pub fn raise(&self, bits: u32) {
        self.attention.fetch_or(bits, Ordering::SeqCst);
    }

    /// Posts `request` and returns the ticket to wait for.
    fn post(&self, request: Request) -> u64 {
        let mut requests = lock(&self.requests);
        if requests.len() >= MAX_REQUESTS {
            let all = std::mem::take(&mut *requests);
            for wide in all.into_iter().map(Request::widest) {
                if !requests.contains(&wide) {
                    requests.push(wide);
                }
            }
        }
        // The widest ones are the first.
        let known =
            requests.iter().take(KINDS).any(|&r| r == request.widest()) || requests.last() == Some(&request);
        if !known {
            requests.push(request);
        }
        let ticket = self.posted.load(Ordering::Relaxed) + 1;
        self.posted.store(ticket, Ordering::Release);
        drop(requests);
        self.raise(attention::INBOX);
        ticket
    }

    /// Whether the vCPU may still use what `ticket` asked it to forget.
    fn is_behind(&self, ticket: u64) -> bool {
        fence(Ordering::SeqCst);
        self.running.load(Ordering::SeqCst) && self.drained.load(Ordering::Acquire) < ticket
    }

    /// The owner starts to run guest code; it must look at its requests next.
    pub fn enter(&self) {
        self.running.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The owner stops running guest code and uses no translation from here on.
    pub fn leave(&self) {
        self.running.store(false, Ordering::Release);
    }

    /// Takes the requests, and the ticket to acknowledge with [`Mailbox::acknowledge`] once they are carried out.
    pub fn take(&self) -> (Vec<Request>, u64) {
        let mut requests = lock(&self.requests);
        (std::mem::take(&mut *requests), self.posted.load(Ordering::Relaxed))
    }

    /// Whether there is anything to take.
    pub fn has_requests(&self) -> bool {
        self.posted.load(Ordering::Acquire) != self.drained.load(Ordering::Relaxed)
    }

    /// Everything up to `ticket` is forgotten.
    pub fn acknowledge(&self, ticket: u64) {
        self.drained.store(ticket, Ordering::Release);
    }
}

/// What vCPUs of one VM share.
pub(crate) struct Shared {
    memory: Mutex<Arc<PhysMap>>,
    mailboxes: Box<[OnceLock<Arc<Mailbox>>]>,
    /// One more than the highest vCPU index in use.
    used: AtomicUsize,
    /// Where the system counter is zero.
    pub counter_base: Instant,
    /// Wakes running vCPUs at their timers' deadlines.
    pub timers: TimerThread,
}

impl Shared {
    /// A VM without memory and vCPUs.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            memory: Mutex::default(),
            mailboxes: (0..MAX_VCPUS).map(|_| OnceLock::new()).collect(),
            used: AtomicUsize::new(0),
            counter_base: Instant::now(),
            timers: TimerThread::default(),
        })
    }

    /// Registers vCPU `index`; `None` when it is in use or out of range.
    pub fn add_vcpu(&self, index: u32) -> Option<Arc<Mailbox>> {
        let slot = self.mailboxes.get(index as usize)?;
        let mailbox = Arc::new(Mailbox::default());
        slot.set(mailbox.clone()).ok()?;
        self.used.fetch_max(index as usize + 1, Ordering::SeqCst);
        Some(mailbox)
    }

    /// How many vCPUs there are.
    pub fn vcpus(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    fn others(&self, but: Option<u32>) -> impl Iterator<Item = (usize, &Mailbox)> {
        let used = self.used.load(Ordering::SeqCst);
        self.mailboxes[..used]
            .iter()
            .enumerate()
            .filter(move |(i, _)| but.is_none_or(|b| *i != b as usize))
            .filter_map(|(i, slot)| Some((i, slot.get()?.as_ref())))
    }

    /// Posts `request` to every vCPU but `but`, and notes in `tickets` what to wait for.
    pub fn broadcast(&self, request: Request, but: Option<u32>, tickets: &mut Tickets) {
        for (i, mailbox) in self.others(but) {
            let ticket = mailbox.post(request);
            tickets.note(i, ticket);
        }
    }

    /// Waits until nobody can use what the tickets stand for; calls `meanwhile` over and over.
    pub fn wait(&self, tickets: &mut Tickets, mut meanwhile: impl FnMut()) {
        let mut spins = 0_u32;
        while let Some(&(i, ticket)) = tickets.0.last() {
            let behind = self.mailboxes[i].get().is_some_and(|m| m.is_behind(ticket));
            if !behind {
                tickets.0.pop();
                continue;
            }
            meanwhile();
            spins += 1;
            if spins < 200 {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// The current memory map.
    pub fn memory(&self) -> Arc<PhysMap> {
        lock(&self.memory).clone()
    }

    /// Replaces the memory map by what `change` makes of it, and returns when no vCPU uses the old one.
    ///
    /// # Errors
    /// Those of `change`, upon which nothing changes.
    pub fn change_memory<E>(
        &self,
        change: impl FnOnce(&PhysMap) -> Result<Arc<PhysMap>, E>,
    ) -> Result<(), E> {
        {
            let mut memory = lock(&self.memory);
            *memory = change(&memory)?;
        }
        self.renew_memory();
        Ok(())
    }

    /// Has all vCPUs drop what they made of the memory, and returns when they have.
    pub fn renew_memory(&self) {
        let mut tickets = Tickets::default();
        self.broadcast(Request::Memory, None, &mut tickets);
        self.wait(&mut tickets, || {});
    }
}

/// Broadcasts whose completion is still to be awaited: at most one entry, the latest, per vCPU.
#[derive(Debug, Default)]
pub(crate) struct Tickets(Vec<(usize, u64)>);

impl Tickets {
    fn note(&mut self, vcpu: usize, ticket: u64) {
        match self.0.iter_mut().find(|(v, _)| *v == vcpu) {
            Some(entry) => entry.1 = ticket,
            None => self.0.push((vcpu, ticket)),
        }
    }

    /// Whether there is nothing to wait for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_that_nobody_empties_stays_small() {
        let mailbox = Mailbox::default();
        for pa in 0..10_000 {
            mailbox.post(Request::Code(pa * 4096));
            mailbox.post(Request::Tlb(TlbScope::Asid(pa as u16)));
        }
        let (requests, ticket) = mailbox.take();
        assert_eq!(requests, [Request::AllCode, Request::Tlb(TlbScope::All)]);
        assert!(mailbox.has_requests());
        mailbox.acknowledge(ticket);
        assert!(!mailbox.has_requests());
    }

    #[test]
    fn requests_stay_in_order_and_repetitions_collapse() {
        let mailbox = Mailbox::default();
        let page = Request::Code(0x1000);
        for request in [page, page, Request::Memory, Request::Code(0x2000), Request::AllCode, page] {
            mailbox.post(request);
        }
        let kept = [page, Request::Memory, Request::Code(0x2000), Request::AllCode, page];
        assert_eq!(mailbox.take().0, kept);
    }

    #[test]
    fn only_a_running_vcpu_is_behind() {
        let mailbox = Mailbox::default();
        let ticket = mailbox.post(Request::AllCode);
        assert!(!mailbox.is_behind(ticket));
        mailbox.enter();
        assert!(mailbox.is_behind(ticket));
        mailbox.acknowledge(mailbox.take().1);
        assert!(!mailbox.is_behind(ticket));
        let next = mailbox.post(Request::Memory);
        assert!(mailbox.is_behind(next));
        mailbox.leave();
        assert!(!mailbox.is_behind(next));
    }
}
