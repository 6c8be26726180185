//! The card: control requests, streams, events. All on one thread.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use serde::{Deserialize, Serialize};
use tearless_sound::{Devices, Format};
use tearless_state::StateError;

use super::{
    lifecycle::{Parameters, State},
    spec::{
        self, Direction, EVENT_XRUN, MAX_CHANNELS, MAX_REQUEST, Status, queue,
        request::{
            CHMAP_INFO, JACK_INFO, JACK_REMAP, PCM_INFO, PCM_PREPARE, PCM_RELEASE, PCM_SET_PARAMS, PCM_START,
            PCM_STOP,
        },
    },
    stream::{End, Stream, refuse_all},
};
use crate::{Chain, Ring, RingError, VirtQueue};

/// Events that wait for a driver without buffers for them. A second of the same kind says nothing new.
const MAX_EVENTS: usize = 8;
/// The longest item that a driver may ask for. They are padded with zeros: a later specification may have longer ones.
const MAX_ITEM: u32 = 256;

/// The card as its worker has it.
pub(super) struct Card {
    queues: [Arc<VirtQueue>; 4],
    devices: Devices,
    /// By their numbers.
    streams: Vec<Stream>,
    /// Streams whose driver is to be told of an underrun or overrun.
    events: VecDeque<u32>,
    chain: Chain,
    /// How often drivers have reset the device, and how often that had been when this was last brought up to date.
    resets: Arc<AtomicU64>,
    seen: u64,
}

/// A saved card.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedCard {
    streams: Vec<SavedStream>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedStream {
    state: State,
    parameters: Option<Parameters>,
}

/// What the device has.
pub(super) fn directions(devices: &Devices) -> Vec<Direction> {
    let output = devices.speaker.as_ref().map(|_| Direction::Output);
    output.into_iter().chain(devices.microphone.as_ref().map(|_| Direction::Input)).collect()
}

/// The items that the driver can ask about, of the kind that `code` asks about.
pub(super) fn items(code: u32, directions: &[Direction]) -> Option<Vec<Vec<u8>>> {
    let directions = directions.iter().copied();
    match code {
        JACK_INFO => Some(directions.map(spec::jack).collect()),
        PCM_INFO => Some(directions.map(spec::stream).collect()),
        CHMAP_INFO => {
            let maps = directions.flat_map(|d| (1..=MAX_CHANNELS).map(move |n| spec::channel_map(d, n)));
            Some(maps.collect())
        }
        _ => None,
    }
}

impl Card {
    pub(super) fn new(queues: [Arc<VirtQueue>; 4], devices: Devices, resets: Arc<AtomicU64>) -> Self {
        let streams =
            directions(&devices).into_iter().zip(0..).map(|(direction, id)| Stream::new(direction, id));
        let streams = streams.collect();
        Self { queues, devices, streams, events: VecDeque::new(), chain: Chain::default(), resets, seen: 0 }
    }

    /// Forgets what the driver has said, if it has reset the device since.
    fn refresh(&mut self) {
        let resets = self.resets.load(Ordering::Acquire);
        if std::mem::replace(&mut self.seen, resets) != resets {
            self.streams.iter_mut().for_each(Stream::reset);
            self.events.clear();
        }
    }

    pub(super) fn save(&mut self) -> SavedCard {
        self.refresh();
        let streams = self.streams.iter();
        let streams = streams.map(|s| SavedStream { state: s.state, parameters: s.parameters }).collect();
        SavedCard { streams }
    }

    /// Takes a state over. Streams that ran go on once their queues do, with the buffer that was being played.
    pub(super) fn restore(&mut self, saved: SavedCard) -> Result<(), StateError> {
        self.refresh();
        if saved.streams.len() != self.streams.len() {
            return Err(StateError::malformed("it has other streams"));
        }
        for (stream, SavedStream { state, parameters }) in self.streams.iter_mut().zip(saved.streams) {
            let restored = stream.restore(state, parameters);
            restored.map_err(|_| StateError::malformed("a stream is where none can be"))?;
        }
        Ok(())
    }

    /// Does what is to do at `now`. Returns when there is something to do again, besides when the driver kicks.
    pub(super) fn step(&mut self, now: Instant) -> Option<Instant> {
        self.refresh();
        let mut next = self.control().then_some(now);
        let Self { queues, devices, streams, events, resets, seen, .. } = self;
        let current = || resets.load(Ordering::Acquire) == *seen;
        let [_, _, tx, rx] = queues;
        for (queue, direction) in [(tx, Direction::Output), (rx, Direction::Input)] {
            let again = match streams.iter_mut().find(|stream| stream.direction == direction) {
                // Nobody takes what is offered there.
                None => (queue.with(|ring| refuse_all(ring, &mut self.chain)) == Some(true)).then_some(now),
                Some(stream) if stream.state == State::Running => {
                    let outcome = stream.run(queue, now, |format| open(devices, direction, format), current);
                    if outcome.xrun && events.len() < MAX_EVENTS {
                        events.push_back(stream.id());
                    }
                    outcome.next
                }
                Some(stream) if stream.state.takes_messages() => None,
                Some(stream) => stream.refuse(queue, current).then_some(now),
            };
            next = next.into_iter().chain(again).min();
        }
        self.tell();
        next
    }

    /// Tells of events, as far as the driver offers buffers.
    fn tell(&mut self) {
        let Self { queues, events, chain, .. } = self;
        if events.is_empty() {
            return;
        }
        queues[queue::EVENT].with(|ring| {
            while let Some(id) = events.front() {
                if !ring.pop_or_arm(chain)? {
                    break;
                }
                let event = [EVENT_XRUN, *id].map(u32::to_le_bytes).concat();
                let written = chain.write(ring.memory(), 0, &event)?;
                events.pop_front();
                ring.push(chain.head(), written as u32)?;
            }
            ring.notify()
        });
    }

    /// Answers control requests. Returns whether there may be more.
    fn control(&mut self) -> bool {
        let queue = Arc::clone(&self.queues[queue::CONTROL]);
        let mut chain = std::mem::take(&mut self.chain);
        let more = queue.with(|ring| {
            if self.resets.load(Ordering::Acquire) != self.seen {
                return Ok(true);
            }
            for _ in 0..ring.size() {
                if !ring.pop_or_arm(&mut chain)? {
                    return Ok(false);
                }
                let written = self.request(ring, &chain)?;
                ring.push(chain.head(), written as u32)?;
                ring.notify()?;
            }
            Ok(true)
        });
        self.chain = chain;
        more == Some(true)
    }

    /// Answers one request. Returns how much was written.
    fn request(&mut self, ring: &Ring, chain: &Chain) -> Result<usize, RingError> {
        let mut bytes = [0; MAX_REQUEST];
        let len = chain.read(ring.memory(), 0, &mut bytes)?;
        let bytes = bytes.get(..len).unwrap_or_default();
        let (words, _) = bytes.as_chunks::<4>();
        let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
        let status = match (words.next(), words.next()) {
            (Some(code @ (JACK_INFO | PCM_INFO | CHMAP_INFO)), Some(start)) => {
                let (count, size) = (words.next(), words.next());
                match count.zip(size).map(|(count, size)| self.list(code, start, count, size)) {
                    Some(Ok(answer)) => return chain.write(ring.memory(), 0, &answer),
                    Some(Err(status)) => status,
                    None => Status::BadMessage,
                }
            }
            (Some(code @ PCM_SET_PARAMS..=PCM_STOP), Some(id)) => {
                let rest = bytes.get(8..).unwrap_or_default();
                self.command(code, id, rest).err().unwrap_or(Status::Ok)
            }
            (Some(JACK_REMAP), Some(_)) => Status::NotSupported,
            (Some(code), _) if !(JACK_INFO..=CHMAP_INFO).contains(&code) => Status::NotSupported,
            _ => Status::BadMessage,
        };
        chain.write(ring.memory(), 0, &status.bytes())
    }

    /// What there is of a kind.
    fn list(&self, code: u32, start: u32, count: u32, size: u32) -> Result<Vec<u8>, Status> {
        let directions: Vec<_> = self.streams.iter().map(|stream| stream.direction).collect();
        let items = items(code, &directions).ok_or(Status::NotSupported)?;
        let range = start as usize..start as usize + count as usize;
        let wanted = items.get(range).filter(|_| size <= MAX_ITEM).ok_or(Status::BadMessage)?;
        let mut answer = Status::Ok.bytes().to_vec();
        for item in wanted {
            let padded = item.iter().copied().chain(std::iter::repeat(0));
            answer.extend(padded.take(size as usize));
        }
        Ok(answer)
    }

    /// Has stream `id` do what `code` says.
    fn command(&mut self, code: u32, id: u32, rest: &[u8]) -> Result<(), Status> {
        let Self { queues, devices, streams, resets, seen, .. } = self;
        let stream = usize::try_from(id).ok().and_then(|id| streams.get_mut(id)).ok_or(Status::BadMessage)?;
        let state = stream.state.after(code).ok_or(Status::BadMessage)?;
        let direction = stream.direction;
        match code {
            PCM_SET_PARAMS => stream.set(Parameters::parse(rest).ok_or(Status::BadMessage)?)?,
            PCM_PREPARE => stream.prepare(|format| open(devices, direction, format)),
            PCM_START => stream.start(),
            PCM_STOP => stream.stop(),
            PCM_RELEASE => {
                stream.release();
                let queue = match direction {
                    Direction::Output => &queues[queue::TX],
                    Direction::Input => &queues[queue::RX],
                };
                // The answer comes after what it gives back (section 5.14.6.6.5.1). Once around the ring: a driver that goes
                // on offering has that refused in its turn.
                stream.refuse(queue, || resets.load(Ordering::Acquire) == *seen);
            }
            _ => return Err(Status::NotSupported),
        }
        stream.state = state;
        Ok(())
    }
}

/// The host's side of a stream.
fn open(devices: &Devices, direction: Direction, format: Format) -> Option<End> {
    match direction {
        Direction::Output => devices.speaker.as_ref().map(|speaker| End::Playback(speaker.open(format))),
        Direction::Input => {
            devices.microphone.as_ref().map(|microphone| End::Capture(microphone.open(format)))
        }
    }
}
