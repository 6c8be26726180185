//! macOS: Core Audio, through the default devices of the user.
//!
//! It calls us on its own thread, in a rate of its own; its devices are opened on threads of ours, because that can take
//! seconds.

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use cpal::{
    BufferSize, Error, StreamConfig, SupportedStreamConfig,
    traits::{DeviceTrait, HostTrait, StreamTrait},
};

use super::{
    no_sound,
    slots::{Slot, Slots},
};
use crate::{
    Backlog, Capture, Converter, Devices, Format, Microphone, Playback, Sample, SoundError, Speaker,
    ring::Ring,
};

/// The most that waits for the device, or for the guest.
const MOST: Duration = Duration::from_millis(200);
/// How long the end of a sound may take.
const ENDING: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(20);
/// What the device has of the sound before it is heard; what it says of that is said too late for the guest.
const AHEAD: Duration = Duration::from_millis(20);
/// Bytes that are fetched at a time.
const PIECE: usize = 1024;

/// There is a device to play on.
pub(super) struct Connection;

impl Connection {
    pub(super) fn open() -> Result<Self, SoundError> {
        match cpal::default_host().default_output_device() {
            Some(_) => Ok(Self),
            None => Err(no_sound("no device to play on is there", "choose one in the system's settings")),
        }
    }

    pub(super) fn start(self) -> Result<Devices, SoundError> {
        let slots = Slots::default();
        let (speaker, microphone) = (Arc::new(CoreAudio(slots.clone())), Arc::new(CoreAudio(slots)));
        Ok(Devices { speaker: Some(speaker), microphone: Some(microphone) })
    }
}

struct CoreAudio(Slots);

/// Samples as the device wants them, for its first two channels.
fn device_format(config: &SupportedStreamConfig) -> Format {
    let channels = config.channels().clamp(1, 2) as u8;
    Format { sample: Sample::F32, channels, rate: config.sample_rate() }
}

fn stream_config(config: &SupportedStreamConfig) -> StreamConfig {
    StreamConfig {
        channels: config.channels(),
        sample_rate: config.sample_rate(),
        buffer_size: BufferSize::Default,
    }
}

fn complain(error: Error) {
    tracing::warn!("the host's sound: {error}");
}

/// A stream that lives on a thread until it is told to end.
struct Stream(Option<mpsc::Sender<()>>);

impl Stream {
    /// Has `build` make it; `last` is done before it ends.
    fn begin<S: StreamTrait>(
        slots: &Slots,
        build: impl FnOnce() -> Result<S, Error> + Send + 'static,
        last: impl FnOnce() + Send + 'static,
    ) -> Self {
        let Some(slot) = slots.take() else { return Self(None) };
        let (end, ended) = mpsc::channel();
        let run = move || {
            let _slot: Slot = slot;
            match build().and_then(|stream| stream.play().map(|()| stream)) {
                Ok(_stream) => {
                    // Also when whoever would tell is gone.
                    _ = ended.recv();
                    last();
                }
                Err(error) => complain(error),
            }
        };
        match thread::Builder::new().name("sound".to_owned()).spawn(run) {
            Ok(_) => Self(Some(end)),
            Err(error) => {
                tracing::warn!(%error, "no thread for sound");
                Self(None)
            }
        }
    }
}

impl Speaker for CoreAudio {
    fn open(&self, format: Format) -> Box<dyn Playback> {
        let ring = Arc::new(Ring::new(format, format.bytes(MOST)));
        let (source, rest) = (Arc::clone(&ring), Arc::clone(&ring));
        let build = move || {
            let device = cpal::default_host().default_output_device();
            let device = device.ok_or(cpal::ErrorKind::DeviceNotAvailable)?;
            let config = device.default_output_config()?;
            let mut pull = Pull::new(source, format, device_format(&config));
            let channels = usize::from(config.channels().max(1));
            let fill = move |out: &mut [f32], _: &_| pull.fill(out, channels);
            device.build_output_stream(stream_config(&config), fill, complain, None)
        };
        let last = move || {
            rest.close();
            let steps = ENDING.as_millis() / STEP.as_millis();
            (0..steps).take_while(|_| !rest.is_empty()).for_each(|_| thread::sleep(STEP));
            thread::sleep(AHEAD);
        };
        let stream = Stream::begin(&self.0, build, last);
        Box::new(CorePlayback { ring, format, _stream: stream })
    }
}

/// Fetches what the device wants to have.
struct Pull {
    ring: Arc<Ring>,
    converter: Converter,
    channels: usize,
    /// What came with what the device wanted before.
    ready: VecDeque<f32>,
    piece: Vec<u8>,
    converted: Vec<u8>,
}

impl Pull {
    fn new(ring: Arc<Ring>, from: Format, to: Format) -> Self {
        Self {
            ring,
            converter: Converter::new(from, to),
            channels: to.channels.into(),
            ready: VecDeque::new(),
            piece: vec![0; PIECE.next_multiple_of(from.frame())],
            converted: Vec::new(),
        }
    }

    /// Fills frames of `channels`; the first two are ours.
    fn fill(&mut self, out: &mut [f32], channels: usize) {
        out.fill(0.0);
        for frame in out.chunks_exact_mut(channels) {
            while self.ready.len() < self.channels {
                let len = self.ring.pop(&mut self.piece);
                if len == 0 {
                    return;
                }
                self.converted.clear();
                self.converter.convert(self.piece.get(..len).unwrap_or_default(), &mut self.converted);
                self.ready
                    .extend(self.converted.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
            frame.iter_mut().zip(self.ready.drain(..self.channels)).for_each(|(to, value)| *to = value);
        }
    }
}

struct CorePlayback {
    ring: Arc<Ring>,
    format: Format,
    /// Dropped last of all: its thread then plays what is left.
    _stream: Stream,
}

impl Playback for CorePlayback {
    fn play(&mut self, sound: &[u8]) {
        self.ring.push(sound);
    }

    fn backlog(&self) -> Option<Backlog> {
        Some(Backlog { here: self.ring.len()?, beyond: self.format.bytes(AHEAD) })
    }
}

impl Microphone for CoreAudio {
    fn open(&self, format: Format) -> Box<dyn Capture> {
        let ring = Arc::new(Ring::new(format, format.bytes(MOST)));
        Box::new(CoreCapture { slots: self.0.clone(), format, ring, stream: Stream(None) })
    }
}

/// The device listens only while the guest does: macOS shows who does.
struct CoreCapture {
    slots: Slots,
    format: Format,
    ring: Arc<Ring>,
    stream: Stream,
}

impl Capture for CoreCapture {
    fn listen(&mut self, on: bool) {
        self.stream = Stream(None);
        // What still comes from the stream that ends is not for the next one.
        self.ring = Arc::new(Ring::new(self.format, self.format.bytes(MOST)));
        if !on {
            return;
        }
        let (ring, format) = (Arc::clone(&self.ring), self.format);
        let build = move || {
            let device = cpal::default_host().default_input_device();
            let device = device.ok_or(cpal::ErrorKind::DeviceNotAvailable)?;
            let config = device.default_input_config()?;
            let (from, channels) = (device_format(&config), usize::from(config.channels().max(1)));
            let mut converter = Converter::new(from, format);
            let (mut bytes, mut converted) = (Vec::new(), Vec::new());
            let hear = move |sound: &[f32], _: &_| {
                bytes.clear();
                converted.clear();
                let ours =
                    sound.chunks_exact(channels).flat_map(|frame| frame.iter().take(from.channels.into()));
                bytes.extend(ours.flat_map(|value| value.to_le_bytes()));
                converter.convert(&bytes, &mut converted);
                ring.push(&converted);
            };
            device.build_input_stream(stream_config(&config), hear, complain, None)
        };
        self.stream = Stream::begin(&self.slots, build, || {});
    }

    fn record(&mut self, sound: &mut [u8]) {
        let len = self.ring.pop(sound);
        sound.get_mut(len..).unwrap_or_default().fill(0);
    }

    fn backlog(&self) -> Option<Backlog> {
        self.stream.0.as_ref()?;
        Some(Backlog { here: self.ring.len()?, beyond: 0 })
    }
}
