//! One stream: what the driver offers is played, or filled, when its time has come.

use std::{
    mem,
    time::{Duration, Instant},
};

use tearless_sound::{Backlog, Capture, Format, Playback};

use super::{
    clock::{Clock, steer},
    lifecycle::{Chosen, Parameters, State},
    spec::{Direction, STATUS_LEN, Status, XFER_LEN},
};
use crate::{Chain, Ring, RingError, VirtQueue};

/// Sound is played and recorded in slices of this length.
const SLICE: Duration = Duration::from_millis(10);
/// An underrun is told when it has lasted so long, or a period: at its end a stream runs dry, too, and its driver is given the
/// time to say so.
const XRUN: Duration = Duration::from_millis(50);
/// So many steps at once; then control requests have their turn.
const STEPS: usize = 64;

/// The host's side of a stream.
pub(super) enum End {
    Playback(Box<dyn Playback>),
    Capture(Box<dyn Capture>),
}

impl End {
    fn backlog(&self) -> Option<Backlog> {
        match self {
            Self::Playback(playback) => playback.backlog(),
            Self::Capture(capture) => capture.backlog(),
        }
    }

    fn listen(&mut self, on: bool) {
        if let Self::Capture(capture) = self {
            capture.listen(on);
        }
    }
}

/// A buffer of the driver that is being played or filled; the chain is beside.
#[derive(Clone, Copy)]
struct Transfer {
    /// The life of its queue.
    epoch: u64,
    /// How far it is.
    offset: u64,
    /// How long it is.
    len: u64,
}

/// The driver offers nothing although the stream runs.
struct Starved {
    since: Instant,
    told: bool,
}

/// What [`Stream::run`] found.
pub(super) struct Outcome {
    /// When to look again, besides when the driver kicks.
    pub(super) next: Option<Instant>,
    /// The driver wants to be told of this underrun or overrun.
    pub(super) xrun: bool,
}

/// One stream.
pub(super) struct Stream {
    pub(super) direction: Direction,
    id: u32,
    pub(super) state: State,
    pub(super) parameters: Option<Parameters>,
    /// What they mean.
    chosen: Option<Chosen>,
    end: Option<End>,
    clock: Clock,
    chain: Chain,
    transfer: Option<Transfer>,
    starved: Option<Starved>,
    slice: Vec<u8>,
}

/// What there was in a queue.
enum Taken {
    Message(Transfer),
    /// So much that was none of this stream that there may be more.
    Others,
    Nothing,
}

impl Stream {
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn new(direction: Direction, id: u32) -> Self {
        Self {
            direction,
            id,
            state: State::default(),
            parameters: None,
            chosen: None,
            end: None,
            clock: Clock::new(Instant::now()),
            chain: Chain::default(),
            transfer: None,
            starved: None,
            slice: Vec::new(),
        }
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.direction, self.id);
    }

    /// What the driver has chosen, to be what it was in a saved VM.
    pub(super) fn restore(&mut self, state: State, parameters: Option<Parameters>) -> Result<(), Status> {
        self.reset();
        self.chosen = parameters.map(Parameters::choose).transpose()?;
        if self.chosen.is_none() && state != State::Unset {
            return Err(Status::BadMessage);
        }
        (self.state, self.parameters) = (state, parameters);
        Ok(())
    }

    /// Takes the driver's choice over.
    pub(super) fn set(&mut self, parameters: Parameters) -> Result<(), Status> {
        let chosen = parameters.choose()?;
        (self.parameters, self.chosen, self.end) = (Some(parameters), Some(chosen), None);
        Ok(())
    }

    pub(super) fn start(&mut self) {
        self.clock = Clock::new(Instant::now());
        self.starved = None;
        if let Some(end) = &mut self.end {
            end.listen(true);
        }
    }

    pub(super) fn stop(&mut self) {
        if let Some(end) = &mut self.end {
            end.listen(false);
        }
    }

    /// Gets the host's side ready anew.
    pub(super) fn prepare(&mut self, open: impl Fn(Format) -> Option<End>) {
        self.end = self.chosen.and_then(|chosen| open(chosen.format));
    }

    /// Ends what is played or recorded.
    pub(super) fn release(&mut self) {
        self.end = None;
    }

    /// Gives what the driver has offered back, undone. Returns whether there may be more.
    pub(super) fn refuse(&mut self, queue: &VirtQueue, current: impl Fn() -> bool) -> bool {
        let begun = self.transfer.take();
        let chain = &mut self.chain;
        queue.with(|ring| {
            if !current() {
                return Ok(false);
            }
            if let Some(transfer) = begun.filter(|transfer| transfer.epoch == ring.epoch()) {
                answer(ring, chain, Status::IoError, 0, recorded(self.direction, transfer.offset))?;
            }
            refuse_all(ring, chain)
        }) == Some(true)
    }

    /// Plays or records what is due. `current` is whether the driver is still the one that brought the stream where it is.
    pub(super) fn run(
        &mut self,
        queue: &VirtQueue,
        now: Instant,
        open: impl Fn(Format) -> Option<End>,
        current: impl Fn() -> bool,
    ) -> Outcome {
        if self.end.is_none() {
            // It went on from a saved VM.
            self.prepare(open);
            self.start();
        }
        self.clock.catch_up(now);
        for _ in 0..STEPS {
            let Some(Chosen { format, .. }) = self.chosen else { break };
            let next = match (self.transfer, self.direction) {
                // What has been handed over is still to be heard.
                (_, Direction::Output) if now < self.clock.due() => Some(self.clock.due()),
                (None, _) => match self.take(queue, &current) {
                    // It stands still: whoever lets it go on wakes us.
                    None => return Outcome { next: None, xrun: false },
                    Some(Taken::Nothing) => return self.starve(now),
                    Some(Taken::Others) => None,
                    Some(Taken::Message(transfer)) => {
                        self.transfer = Some(transfer);
                        if self.starved.take().is_some() && self.clock.due() < now {
                            self.clock = Clock::new(now);
                        }
                        None
                    }
                },
                (Some(transfer), _) if transfer.offset >= transfer.len => {
                    if !self.finish(queue, transfer, format) {
                        return Outcome { next: None, xrun: false };
                    }
                    None
                }
                (Some(transfer), direction) => {
                    let len = slice_len(transfer, format);
                    let time = format.duration(len);
                    let backlog = self.end.as_ref().and_then(End::backlog);
                    let after = self.clock.after(time, steer(direction, format, backlog));
                    if direction == Direction::Input && now < after {
                        Some(after)
                    } else if self.transfer_slice(queue, transfer, len) {
                        self.clock = Clock::new(after);
                        None
                    } else {
                        return Outcome { next: None, xrun: false };
                    }
                }
            };
            if next.is_some() {
                return Outcome { next, xrun: false };
            }
        }
        Outcome { next: Some(now), xrun: false }
    }

    /// The driver offers nothing.
    fn starve(&mut self, now: Instant) -> Outcome {
        let starved = self.starved.get_or_insert(Starved { since: now, told: false });
        let Some(Chosen { format, period_bytes, .. }) = self.chosen.filter(|c| c.xruns && !starved.told)
        else {
            return Outcome { next: None, xrun: false };
        };
        let tell = starved.since + format.duration(period_bytes).clamp(XRUN, 4 * XRUN);
        starved.told = now >= tell;
        Outcome { next: (!starved.told).then_some(tell), xrun: starved.told }
    }

    /// Takes the driver's next buffer; `None` when the queue stands still.
    fn take(&mut self, queue: &VirtQueue, current: impl Fn() -> bool) -> Option<Taken> {
        let (chain, direction, id) = (&mut self.chain, self.direction, self.id);
        let taken = queue.with(|ring| {
            if !current() {
                return Ok(None);
            }
            for _ in 0..ring.size() {
                if !ring.pop_or_arm(chain)? {
                    return Ok(Some(Taken::Nothing));
                }
                if let Some(len) = message_len(ring, chain, direction, id)? {
                    return Ok(Some(Taken::Message(Transfer { epoch: ring.epoch(), offset: 0, len })));
                }
                answer(ring, chain, Status::IoError, 0, 0)?;
            }
            Ok(Some(Taken::Others))
        });
        taken.flatten()
    }

    /// Plays or records `len` bytes; `false` when the queue stands still.
    fn transfer_slice(&mut self, queue: &VirtQueue, transfer: Transfer, len: usize) -> bool {
        let mut slice = mem::take(&mut self.slice);
        slice.clear();
        slice.resize(len, 0);
        let chain = &self.chain;
        let done = match &mut self.end {
            Some(End::Capture(capture)) => {
                capture.record(&mut slice);
                queue.with(|ring| {
                    let same = ring.epoch() == transfer.epoch;
                    if same {
                        chain.write(ring.memory(), transfer.offset, &slice)?;
                    }
                    Ok(same)
                })
            }
            playback => {
                let done = queue.with(|ring| {
                    let same = ring.epoch() == transfer.epoch;
                    if same {
                        chain.read(ring.memory(), XFER_LEN + transfer.offset, &mut slice)?;
                    }
                    Ok(same)
                });
                if let (Some(End::Playback(playback)), Some(true)) = (playback, done) {
                    playback.play(&slice);
                }
                done
            }
        };
        self.slice = slice;
        match done {
            None => false,
            Some(same) => {
                // What is left is less than a frame and nobody's sound.
                let left = transfer.len - transfer.offset;
                let offset = if len == 0 { transfer.len } else { transfer.offset + left.min(len as u64) };
                self.transfer = same.then_some(Transfer { offset, ..transfer });
                true
            }
        }
    }

    /// Gives the buffer back; `false` when the queue stands still.
    fn finish(&mut self, queue: &VirtQueue, transfer: Transfer, format: Format) -> bool {
        let backlog = self.end.as_ref().and_then(End::backlog).unwrap_or_default();
        let latency = (backlog.here + backlog.beyond) / format.frame().max(1) * format.frame();
        let (chain, direction) = (&self.chain, self.direction);
        let given = queue.with(|ring| {
            if ring.epoch() != transfer.epoch {
                return Ok(());
            }
            let latency = latency.try_into().unwrap_or(u32::MAX);
            answer(ring, chain, Status::Ok, latency, recorded(direction, transfer.len))
        });
        if given.is_some() {
            self.transfer = None;
        }
        given.is_some()
    }
}

/// Whole frames, as long as a slice at most.
fn slice_len(transfer: Transfer, format: Format) -> usize {
    let most = format.bytes(SLICE);
    let left = usize::try_from(transfer.len - transfer.offset).unwrap_or(most).min(most);
    left - left % format.frame().max(1)
}

/// How long the sound is that `chain` has or has room for, if it is a message to stream `id`.
fn message_len(ring: &Ring, chain: &Chain, direction: Direction, id: u32) -> Result<Option<u64>, RingError> {
    let mut header = [0; XFER_LEN as usize];
    let len = chain.read(ring.memory(), 0, &mut header)?;
    if len < header.len() || u32::from_le_bytes(header) != id || chain.writable_len() < STATUS_LEN {
        return Ok(None);
    }
    Ok(Some(match direction {
        Direction::Output => chain.readable_len() - XFER_LEN,
        Direction::Input => chain.writable_len() - STATUS_LEN,
    }))
}

/// Bytes that the device has written before the status.
fn recorded(direction: Direction, offset: u64) -> u64 {
    if direction == Direction::Input { offset } else { 0 }
}

/// Gives what is offered back, undone. Returns whether there may be more.
pub(super) fn refuse_all(ring: &mut Ring, chain: &mut Chain) -> Result<bool, RingError> {
    for _ in 0..ring.size() {
        if !ring.pop_or_arm(chain)? {
            return Ok(false);
        }
        answer(ring, chain, Status::IoError, 0, 0)?;
    }
    Ok(true)
}

/// Gives a message back. Its status comes last.
fn answer(
    ring: &mut Ring,
    chain: &Chain,
    status: Status,
    latency: u32,
    recorded: u64,
) -> Result<(), RingError> {
    let status = [status.bytes(), latency.to_le_bytes()].concat();
    let at = chain.writable_len().saturating_sub(STATUS_LEN);
    let written = recorded + chain.write(ring.memory(), at, &status)? as u64;
    ring.push(chain.head(), written.try_into().unwrap_or(u32::MAX))?;
    ring.notify()
}
