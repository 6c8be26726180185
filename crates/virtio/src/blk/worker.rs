//! The thread that serves one request queue.
//!
//! ```text
//!             pop               host is done
//!   ring ------------> flight ----------------> ring (status byte, used entry, interrupt)
//!                        ^  | no space, no server
//!            try again   |  v
//!                       stalled
//! ```
//! Requests that are in flight hold the queue's lock: a stop waits for them, so that none touches guest memory
//! afterwards. Stalled ones do not, and are forgotten with the life of the queue that they came in.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tearless_memory::Gpa;
use tearless_storage::{Completion, Disk, Operation, Pause, Queue, Request, Segment, queue};

use super::spec::{MAX_RANGE_SECTORS, MAX_RANGES, SECTOR, Status, request};
use crate::{Chain, Ring, RingError, VirtQueue, Wake, lock};

/// Requests of one queue that the host has at once.
const DEPTH: u16 = 128;
/// How long to leave a full host file system, or a server that is away, alone before trying again.
const PATIENCE: Duration = Duration::from_millis(500);

/// What all workers of a device share.
pub(super) struct Medium {
    /// It may be replaced while the queues stand still: see [`Worker::attend`].
    pub(super) disk: RwLock<Arc<dyn Disk>>,
    pub(super) serial: [u8; request::ID_LEN],
    /// The driver does not flush, so each write must be durable when it completes (section 5.2.5.2).
    pub(super) write_through: AtomicBool,
    /// Whether the host's user was told that this disk fails: once is enough, the guest can repeat a request for ever.
    pub(super) complained: AtomicBool,
    /// Whether the host's user was told that there is no space, and not yet that there is again.
    pub(super) full: AtomicBool,
}

impl Medium {
    pub(super) fn disk(&self) -> Arc<dyn Disk> {
        self.disk.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a kick rings while the worker waits for the host rather than for kicks.
#[derive(Default)]
pub(super) struct Doorbell {
    ring: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
    serving: AtomicBool,
}

impl Doorbell {
    pub(super) fn press(&self) {
        if self.serving.load(Ordering::Acquire)
            && let Some(ring) = &*lock(&self.ring)
        {
            ring();
        }
    }
}

/// A request on its way.
struct Flight {
    head: u16,
    /// The life of the queue that it came in.
    epoch: u64,
    /// Where its status byte goes.
    status: Gpa,
    /// What is reported as written if it succeeds.
    written: u32,
    /// What is still to do after the current operation: operation and offset.
    rest: VecDeque<(Operation, u64)>,
}

/// A request as it is taken apart.
struct Plan {
    steps: VecDeque<(Operation, u64)>,
    segments: Vec<Segment>,
    written: u64,
}

/// Why a request does not get to the disk.
enum Failure {
    /// The request's fault: the driver gets a status byte.
    Status(Status),
    /// The chain is not a request at all: the queue stops.
    Ring(RingError),
}

impl From<RingError> for Failure {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

const IO_ERROR: Failure = Failure::Status(Status::IoError);

pub(super) struct Worker {
    medium: Arc<Medium>,
    /// The disk that is served.
    disk: Arc<dyn Disk>,
    doorbell: Arc<Doorbell>,
    flights: Vec<Option<Flight>>,
    free: Vec<usize>,
    stalled: Vec<Request>,
    retry_at: Option<Instant>,
    chain: Chain,
    done: Vec<Completion>,
    /// Lists of segments for reuse.
    spare: Vec<Vec<Segment>>,
}

impl Worker {
    pub(super) fn new(medium: Arc<Medium>, doorbell: Arc<Doorbell>) -> Self {
        Self {
            disk: medium.disk(),
            medium,
            doorbell,
            flights: (0..DEPTH).map(|_| None).collect(),
            free: (0..usize::from(DEPTH)).collect(),
            stalled: Vec::new(),
            retry_at: None,
            chain: Chain::default(),
            done: Vec::new(),
            spare: Vec::new(),
        }
    }

    pub(super) fn run(&mut self, virt: &VirtQueue, wake: &Wake) {
        // Made when the queue first runs, for it needs the guest's memory.
        let mut host = None;
        while wake.wait_until(self.retry_at) {
            let ran = virt.with(|ring| {
                let host = self.attend(&mut host, ring);
                self.doorbell.serving.store(true, Ordering::Release);
                let outcome = self.serve(&mut **host, ring, virt, wake);
                let outcome = outcome.and(self.land_all(&mut **host, ring));
                self.doorbell.serving.store(false, Ordering::Release);
                outcome
            });
            if ran.is_none() {
                // Stopped, broken or paused. What stalled waits for the queue to go on, or finds it in another life.
                self.retry_at = None;
            }
        }
    }

    /// The queue to the disk as it is now. Nothing is in flight here, and a disk is replaced only then.
    fn attend<'a>(&mut self, host: &'a mut Option<Box<dyn Queue>>, ring: &Ring) -> &'a mut Box<dyn Queue> {
        let disk = self.medium.disk();
        if !Arc::ptr_eq(&disk, &self.disk) {
            *host = None;
            self.disk = disk;
        }
        host.get_or_insert_with(|| {
            let host = queue(&self.disk, ring.memory(), DEPTH);
            *lock(&self.doorbell.ring) = Some(host.bell());
            host
        })
    }

    /// Serves requests until there are none, or until the queue is to stop.
    fn serve(
        &mut self,
        host: &mut dyn Queue,
        ring: &mut Ring,
        virt: &VirtQueue,
        wake: &Wake,
    ) -> Result<(), RingError> {
        loop {
            ring.disable_kicks()?;
            self.retry(host, ring);
            // Consumed before the ring is looked at: what comes later rings the doorbell.
            wake.take();
            let stop = virt.is_stopping() || wake.is_shut_down();
            let starved = !stop && self.take(host, ring)?;
            ring.notify()?;
            if host.in_progress() == 0 {
                if stop || starved || self.free.is_empty() {
                    return Ok(());
                }
                continue;
            }
            self.land_some(host, ring)?;
        }
    }

    /// Takes requests from the ring, a bounded number. Returns whether it has no more and will kick for the next.
    fn take(&mut self, host: &mut dyn Queue, ring: &mut Ring) -> Result<bool, RingError> {
        for _ in 0..DEPTH {
            let Some(token) = self.free.pop() else { return Ok(false) };
            let mut chain = mem::take(&mut self.chain);
            let taken = match ring.pop_or_arm(&mut chain) {
                Ok(true) => self.start(host, ring, &chain, token).map(Some),
                other => other.map(|_| None),
            };
            self.chain = chain;
            if !matches!(taken, Ok(Some(true))) {
                self.free.push(token);
            }
            if taken?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Starts the request in `chain`. Returns whether it is on its way under `token`; else it has been answered.
    fn start(
        &mut self,
        host: &mut dyn Queue,
        ring: &mut Ring,
        chain: &Chain,
        token: usize,
    ) -> Result<bool, RingError> {
        let status_at = chain
            .writable_len()
            .checked_sub(1)
            .ok_or(RingError::Chain("a disk request without a status byte"))?;
        let (status, _) = chain
            .writable_pieces(ring.memory(), status_at, 1)
            .next()
            .ok_or(RingError::Chain("a disk request without a status byte"))??;
        let mut flight =
            Flight { head: chain.head(), epoch: ring.epoch(), status, written: 0, rest: VecDeque::new() };
        match self.plan(ring, chain, status_at) {
            Ok(Plan { mut steps, segments, written }) => {
                // The bytes before the status byte only count when they were filled (section 2.7.8.2).
                let whole = u32::try_from(status_at + 1).unwrap_or(u32::MAX);
                flight.written = if written == status_at { whole } else { 0 };
                let Some((operation, offset)) = steps.pop_front() else {
                    finish(ring, &flight, Status::Ok)?;
                    return Ok(false);
                };
                flight.rest = steps;
                if let Some(place) = self.flights.get_mut(token) {
                    *place = Some(flight);
                }
                host.submit(Request { token, operation, offset, segments });
                Ok(true)
            }
            Err(Failure::Status(status)) => {
                flight.written = 0;
                finish(ring, &flight, status)?;
                Ok(false)
            }
            Err(Failure::Ring(error)) => Err(error),
        }
    }

    fn plan(&mut self, ring: &Ring, chain: &Chain, status_at: u64) -> Result<Plan, Failure> {
        let mut header = [0; request::HEADER];
        if chain.read(ring.memory(), 0, &mut header)? < header.len() {
            return Err(RingError::Chain("a disk request without a header").into());
        }
        let [a, b, c, d, _, _, _, _, sector @ ..] = header;
        let (kind, sector) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(sector));
        let len = chain.readable_len() - request::HEADER as u64;
        let mut plan =
            Plan { steps: VecDeque::new(), segments: self.spare.pop().unwrap_or_default(), written: 0 };
        plan.segments.clear();
        match kind {
            request::IN => {
                plan.steps.push_back((Operation::Read, self.locate(sector, status_at)?));
                gather(&mut plan.segments, chain.writable_pieces(ring.memory(), 0, status_at))?;
                plan.written = status_at;
            }
            request::OUT => {
                self.check_writable()?;
                plan.steps.push_back((Operation::Write, self.locate(sector, len)?));
                gather(&mut plan.segments, chain.readable_pieces(ring.memory(), request::HEADER as u64))?;
                self.settle(&mut plan);
            }
            request::FLUSH => plan.steps.push_back((Operation::Flush, 0)),
            request::GET_ID => plan.written = self.identify(ring, chain, status_at)?,
            request::DISCARD | request::WRITE_ZEROES => {
                self.ranges(ring, chain, kind, &mut plan)?;
                self.settle(&mut plan);
            }
            _ => return Err(Failure::Status(Status::Unsupported)),
        }
        Ok(plan)
    }

    /// After a change: makes it durable for a driver that does not flush.
    fn settle(&self, plan: &mut Plan) {
        if self.medium.write_through.load(Ordering::Acquire) {
            plan.steps.push_back((Operation::Flush, 0));
        }
    }

    fn identify(&self, ring: &Ring, chain: &Chain, room: u64) -> Result<u64, Failure> {
        const ROOM: usize = 512;
        let mut answer = [0; ROOM];
        answer.iter_mut().zip(self.medium.serial).for_each(|(to, from)| *to = from);
        if room < request::ID_LEN as u64 {
            return Err(IO_ERROR);
        }
        // A longer buffer is filled up, so that all that is reported as written was.
        let (answer, _) = answer.split_at(room.min(ROOM as u64) as usize);
        Ok(chain.write(ring.memory(), 0, answer)? as u64)
    }

    fn ranges(&self, ring: &Ring, chain: &Chain, kind: u32, plan: &mut Plan) -> Result<(), Failure> {
        let len = chain.readable_len() - request::HEADER as u64;
        let whole = len > 0 && len.is_multiple_of(request::RANGE as u64);
        if !whole || len > u64::from(MAX_RANGES) * request::RANGE as u64 {
            return Err(IO_ERROR);
        }
        self.check_writable()?;
        let mut done = 0;
        while done < len {
            let mut range = [0; request::RANGE];
            chain.read(ring.memory(), request::HEADER as u64 + done, &mut range)?;
            plan.steps.push_back(self.range(kind, range)?);
            done += request::RANGE as u64;
        }
        Ok(())
    }

    fn range(&self, kind: u32, range: [u8; request::RANGE]) -> Result<(Operation, u64), Failure> {
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, f0, f1, f2, f3] = range;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let count = u32::from_le_bytes([n0, n1, n2, n3]);
        let flags = u32::from_le_bytes([f0, f1, f2, f3]);
        let known = if kind == request::WRITE_ZEROES { request::FLAG_UNMAP } else { 0 };
        if flags & !known != 0 {
            return Err(Failure::Status(Status::Unsupported));
        }
        if count > MAX_RANGE_SECTORS {
            return Err(IO_ERROR);
        }
        let len = u64::from(count) * SECTOR;
        let operation = if kind == request::DISCARD {
            Operation::Discard { len }
        } else {
            Operation::WriteZeroes { len, may_unmap: flags & request::FLAG_UNMAP != 0 }
        };
        Ok((operation, self.locate(sector, len)?))
    }

    /// The byte where `len` bytes at `sector` start, if these are whole sectors of the disk.
    fn locate(&self, sector: u64, len: u64) -> Result<u64, Failure> {
        let start = sector.checked_mul(SECTOR);
        let end = start.and_then(|start| start.checked_add(len));
        let inside = end.is_some_and(|end| end <= self.disk.size()) && len.is_multiple_of(SECTOR);
        start.filter(|_| inside).ok_or(IO_ERROR)
    }

    fn check_writable(&self) -> Result<(), Failure> {
        if self.disk.read_only() { Err(IO_ERROR) } else { Ok(()) }
    }

    /// A request comes back from the host.
    fn land(
        &mut self,
        host: &mut dyn Queue,
        ring: &mut Ring,
        completion: Completion,
    ) -> Result<(), RingError> {
        let Completion { mut request, result } = completion;
        if let Err(error) = &result
            && let Some(pause) = Pause::of(error)
        {
            self.stall(request, pause);
            return Ok(());
        }
        let token = request.token;
        let place = self.flights.get_mut(token).and_then(Option::as_mut);
        if let (Ok(()), Some((operation, offset))) = (&result, place.and_then(|f| f.rest.pop_front())) {
            (request.operation, request.offset) = (operation, offset);
            host.submit(request);
            return Ok(());
        }
        self.spare.push(request.segments);
        let Some(mut flight) = self.forget(token) else { return Ok(()) };
        let status = match result {
            Ok(()) => {
                if request.operation != Operation::Read {
                    self.went_through();
                }
                Status::Ok
            }
            Err(error) => {
                flight.written = 0;
                self.complain(&error);
                Status::IoError
            }
        };
        finish(ring, &flight, status)
    }

    /// Waits for requests and takes back those that are over.
    ///
    /// # Errors
    /// The first error of the ring; all of them are taken back nevertheless.
    fn land_some(&mut self, host: &mut dyn Queue, ring: &mut Ring) -> Result<(), RingError> {
        let mut done = mem::take(&mut self.done);
        host.wait(&mut done);
        let mut outcome = Ok(());
        for completion in done.drain(..) {
            outcome = outcome.and(self.land(host, ring, completion));
        }
        self.done = done;
        outcome
    }

    /// Waits for all that the host still has; only after an error or a stop is there any.
    fn land_all(&mut self, host: &mut dyn Queue, ring: &mut Ring) -> Result<(), RingError> {
        let mut outcome = Ok(());
        while host.in_progress() > 0 {
            outcome = outcome.and(self.land_some(host, ring));
        }
        outcome
    }

    fn forget(&mut self, token: usize) -> Option<Flight> {
        let flight = self.flights.get_mut(token)?.take()?;
        self.free.push(token);
        Some(flight)
    }

    /// The host has no space, or a server is away: the guest sees a slow disk rather than an error that its file system would not survive.
    fn stall(&mut self, request: Request, pause: Pause) {
        if pause == Pause::Full && !self.medium.full.swap(true, Ordering::AcqRel) {
            tracing::error!(
                "cannot write to disk {}\n  because: the host's file system is full; the guest waits\n  try: free some \
                 space there, and it goes on by itself",
                self.disk.name()
            );
        }
        self.stalled.push(request);
        self.retry_at.get_or_insert_with(|| Instant::now() + PATIENCE);
    }

    /// Tries what stalled once more, when it is time.
    fn retry(&mut self, host: &mut dyn Queue, ring: &Ring) {
        if self.stalled.is_empty() || self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.retry_at = None;
        for request in mem::take(&mut self.stalled) {
            let token = request.token;
            let epoch = self.flights.get(token).and_then(Option::as_ref).map(|flight| flight.epoch);
            if epoch == Some(ring.epoch()) {
                host.submit(request);
            } else {
                self.forget(token);
            }
        }
    }

    fn went_through(&self) {
        let full = &self.medium.full;
        if self.stalled.is_empty() && full.load(Ordering::Acquire) && full.swap(false, Ordering::AcqRel) {
            tracing::warn!(disk = self.disk.name(), "there is space again; the guest goes on");
        }
    }

    /// The specification has one status for all that goes wrong on the host; the reason goes to the host's log.
    fn complain(&self, error: &io::Error) {
        if !self.medium.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(disk = self.disk.name(), %error, "disk request failed; the guest sees an I/O error");
        }
    }
}

fn gather(
    segments: &mut Vec<Segment>,
    pieces: impl Iterator<Item = Result<(Gpa, u64), RingError>>,
) -> Result<(), RingError> {
    for piece in pieces {
        let (start, len) = piece?;
        segments.push(Segment { start, len });
    }
    Ok(())
}

/// Gives a request back to the driver.
fn finish(ring: &mut Ring, flight: &Flight, status: Status) -> Result<(), RingError> {
    ring.memory().write(flight.status, &[status as u8])?;
    ring.push(flight.head, flight.written)
}
