//! The card with a driver in memory, and a host that remembers what it hears.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use tearless_memory::Gpa;
use tearless_sound::{Backlog, Capture, Devices, Format, Microphone, Playback, Sample, Speaker};

use super::{
    Sound,
    spec::{Status, queue, request::*},
};
use crate::{
    lock,
    testing::{Driver, Queue, eventually, readable, writable},
};

/// Hears everything, and says 1, 2, 3, ...
#[derive(Default)]
struct Ear {
    heard: Mutex<Vec<u8>>,
    formats: Mutex<Vec<Format>>,
    listening: Mutex<Vec<bool>>,
    said: Mutex<u8>,
}

struct Line(Arc<Ear>);

impl Speaker for Line {
    fn open(&self, format: Format) -> Box<dyn Playback> {
        lock(&self.0.formats).push(format);
        Box::new(Line(self.0.clone()))
    }
}

impl Playback for Line {
    fn play(&mut self, sound: &[u8]) {
        lock(&self.0.heard).extend(sound);
    }

    fn backlog(&self) -> Option<Backlog> {
        Some(Backlog { here: 1920 * 2, beyond: 100 })
    }
}

impl Microphone for Line {
    fn open(&self, format: Format) -> Box<dyn Capture> {
        lock(&self.0.formats).push(format);
        Box::new(Line(self.0.clone()))
    }
}

impl Capture for Line {
    fn listen(&mut self, on: bool) {
        lock(&self.0.listening).push(on);
    }

    fn record(&mut self, sound: &mut [u8]) {
        let mut said = lock(&self.0.said);
        sound.iter_mut().for_each(|byte| {
            *said = said.wrapping_add(1);
            *byte = *said;
        });
    }
}

const STEREO: Format = Format { sample: Sample::S16, channels: 2, rate: 48000 };
/// 20 ms of that.
const PERIOD: usize = 3840;

struct Bench {
    driver: Driver,
    queues: Vec<Queue>,
    ear: Arc<Ear>,
}

fn card(ear: &Arc<Ear>) -> Arc<Sound> {
    Sound::new(Devices {
        speaker: Some(Arc::new(Line(ear.clone()))),
        microphone: Some(Arc::new(Line(ear.clone()))),
    })
}

impl Bench {
    fn new() -> Self {
        let ear = Arc::<Ear>::default();
        let mut driver = Driver::probe(card(&ear));
        let queues = driver.start(0, 4);
        Self { driver, queues, ear }
    }

    /// The answer to a request: its status and what follows, as far as there is room for `room`.
    fn ask(&mut self, words: &[u32], room: usize) -> (u32, Vec<u8>) {
        let Self { driver, queues, .. } = self;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let (request, answer) = (driver.alloc_with(&bytes), driver.alloc(4 + room as u64));
        let control = &mut queues[queue::CONTROL];
        control.offer(driver, &[readable(request, bytes.len()), writable(answer, 4 + room)]);
        let (_, len) = control.wait(driver);
        let mut answer = driver.bytes(answer, len as usize);
        let rest = answer.split_off(4);
        (u32::from_le_bytes(answer.try_into().unwrap()), rest)
    }

    fn tell(&mut self, words: &[u32]) -> u32 {
        self.ask(words, 0).0
    }

    /// Sets the parameters of stream `id`: 16-bit stereo at 48 kHz, in periods of [`PERIOD`].
    fn set(&mut self, id: u32, features: u32) -> u32 {
        let last = u32::from_le_bytes([2, 5, 7, 0]);
        self.tell(&[PCM_SET_PARAMS, id, 4 * PERIOD as u32, PERIOD as u32, features, last])
    }

    /// Has stream `id` do what the requests of `codes` say.
    fn command(&mut self, id: u32, codes: &[u32]) {
        for code in codes {
            assert_eq!(self.tell(&[*code, id]), OK, "{code:#x}");
        }
    }

    /// Offers sound to be played. Returns where it is and where its status will be.
    fn offer(&mut self, id: u32, sound: &[u8]) -> (Gpa, Gpa) {
        let Self { driver, queues, .. } = self;
        let header = driver.alloc_with(&id.to_le_bytes());
        let (sound_at, status) = (driver.alloc_with(sound), driver.alloc_with(&[0xee; 8]));
        let buffers = [readable(header, 4), readable(sound_at, sound.len()), writable(status, 8)];
        queues[queue::TX].offer(driver, &buffers);
        (sound_at, status)
    }

    fn status(&self, at: Gpa) -> (u32, u32) {
        let bytes = self.driver.bytes(at, 8);
        let word = |i: usize| u32::from_le_bytes(bytes[i..i + 4].try_into().unwrap());
        (word(0), word(4))
    }
}

const OK: u32 = Status::Ok as u32;
const BAD: u32 = Status::BadMessage as u32;
const NOT_SUPPORTED: u32 = Status::NotSupported as u32;
const IO_ERROR: u32 = Status::IoError as u32;

fn sound(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 3) as u8 ^ seed).collect()
}

#[test]
fn it_says_what_it_has() {
    let mut bench = Bench::new();
    let config: Vec<_> = (0..4).map(|i| bench.driver.device_config(4 * i, 4)).collect();
    assert_eq!(config, [2, 2, 4, 0]);
    let (status, info) = bench.ask(&[PCM_INFO, 0, 2, 32], 64);
    assert_eq!((status, info.len()), (OK, 64));
    let formats = u64::from_le_bytes(info[8..16].try_into().unwrap());
    let rates = u64::from_le_bytes(info[16..24].try_into().unwrap());
    assert_eq!((formats, rates), (1 << 5 | 1 << 17 | 1 << 19, 0x7fe));
    assert_eq!((&info[24..27], &info[32 + 24..32 + 27]), (&[0, 1, 2][..], &[1, 1, 2][..]));
    let (status, maps) = bench.ask(&[CHMAP_INFO, 1, 2, 24], 48);
    assert_eq!((status, &maps[4..9]), (OK, &[0, 2, 3, 4, 0][..]), "stereo, out");
    assert_eq!(&maps[28..33], &[1, 1, 2, 0, 0], "mono, in");
    let (status, jack) = bench.ask(&[JACK_INFO, 1, 1, 40], 40);
    assert_eq!(
        (status, jack.len(), jack[16], &jack[24..]),
        (OK, 40, 1, &[0; 16][..]),
        "longer than we know: padded"
    );
    for (words, status) in [
        (&[PCM_INFO, 0, 3, 32][..], BAD),
        (&[PCM_INFO, 3, 0, 32], BAD),
        (&[PCM_INFO, u32::MAX, u32::MAX, 32], BAD),
        (&[PCM_INFO, 0, 2, u32::MAX], BAD),
        (&[PCM_INFO, 0, 2], BAD),
        (&[PCM_INFO], BAD),
        (&[], BAD),
        (&[JACK_REMAP, 0, 0, 0], NOT_SUPPORTED),
        (&[0x300, 0, 0, 0], NOT_SUPPORTED),
        (&[PCM_PREPARE, 2], BAD),
        (&[PCM_START, 0], BAD),
        (&[PCM_SET_PARAMS, 0, 4096, 1024], BAD),
    ] {
        assert_eq!(bench.ask(words, 64).0, status, "{words:x?}");
    }
    assert!(!bench.driver.broken());
}

#[test]
fn sound_is_played_in_its_time() {
    let mut bench = Bench::new();
    assert_eq!(bench.set(0, 0), OK);
    bench.command(0, &[PCM_PREPARE]);
    let offered: Vec<_> = (0..4).map(|i| bench.offer(0, &sound(i, PERIOD))).collect();
    thread::sleep(Duration::from_millis(5));
    assert!(bench.queues[queue::TX].used(&bench.driver).is_none(), "it has not begun");
    // As older Linux drivers do: first offered, then written.
    bench.driver.memory.write(offered[3].0, &sound(9, PERIOD)).unwrap();
    let begin = Instant::now();
    bench.command(0, &[PCM_START]);
    for (i, (_, status)) in offered.iter().enumerate() {
        let (_, len) = bench.queues[queue::TX].wait(&bench.driver);
        let played = Duration::from_millis(20) * (i as u32 + 1);
        // What the ear says is usual, so time is not steered.
        assert!(begin.elapsed() >= played, "{i}: {:?}", begin.elapsed());
        assert_eq!((len, bench.status(*status)), (8, (OK, 3840 + 100)));
    }
    let expected = [sound(0, PERIOD), sound(1, PERIOD), sound(2, PERIOD), sound(9, PERIOD)].concat();
    assert_eq!((&*lock(&bench.ear.heard), &*lock(&bench.ear.formats)), (&expected, &vec![STEREO]));
    bench.command(0, &[PCM_STOP, PCM_RELEASE]);
}

#[test]
fn what_was_not_played_comes_back_before_the_answer() {
    let mut bench = Bench::new();
    assert_eq!(bench.set(0, 0), OK);
    bench.command(0, &[PCM_PREPARE]);
    // A second, that is.
    let offered: Vec<_> = (0..3).map(|i| bench.offer(0, &sound(i, 192_000))).collect();
    bench.command(0, &[PCM_START]);
    let ear = bench.ear.clone();
    eventually("sound", || !lock(&ear.heard).is_empty());
    bench.command(0, &[PCM_STOP]);
    let heard = lock(&ear.heard).len();
    assert!(bench.queues[queue::TX].used(&bench.driver).is_none(), "a stopped stream keeps its buffers");
    // It goes on where it was.
    bench.command(0, &[PCM_START]);
    eventually("more sound", || lock(&ear.heard).len() > heard);
    bench.command(0, &[PCM_STOP, PCM_RELEASE]);
    let heard = lock(&ear.heard).clone();
    assert_eq!(heard, sound(0, 192_000)[..heard.len()]);
    for (_, status) in offered {
        let used = bench.queues[queue::TX].used(&bench.driver).unwrap();
        assert_eq!((used.1, bench.status(status)), (8, (IO_ERROR, 0)));
    }
    // Nobody plays what is offered now, or to nobody.
    for id in [0, 1, 7] {
        let (_, status) = bench.offer(id, &sound(0, PERIOD));
        bench.queues[queue::TX].wait(&bench.driver);
        assert_eq!(bench.status(status), (IO_ERROR, 0));
    }
    assert_eq!(lock(&ear.heard).len(), heard.len());
}

#[test]
fn sound_is_recorded_in_its_time() {
    let mut bench = Bench::new();
    assert_eq!(bench.set(1, 0), OK);
    bench.command(1, &[PCM_PREPARE]);
    let offer = |bench: &mut Bench| {
        let Bench { driver, queues, .. } = bench;
        let (header, at) = (driver.alloc_with(&1u32.to_le_bytes()), driver.alloc(PERIOD as u64 + 8));
        // The status need not have a buffer of its own.
        queues[queue::RX].offer(driver, &[readable(header, 4), writable(at, PERIOD + 8)]);
        at
    };
    let offered = [offer(&mut bench), offer(&mut bench)];
    assert!(lock(&bench.ear.listening).is_empty(), "not before it begins");
    let begin = Instant::now();
    bench.command(1, &[PCM_START]);
    let mut heard = Vec::new();
    for (i, at) in offered.into_iter().enumerate() {
        let (_, len) = bench.queues[queue::RX].wait(&bench.driver);
        assert!(begin.elapsed() >= Duration::from_millis(20) * (i as u32 + 1), "{:?}", begin.elapsed());
        assert_eq!((len, bench.status(at + PERIOD as u64)), (PERIOD as u32 + 8, (OK, 0)));
        heard.extend(bench.driver.bytes(at, PERIOD));
    }
    let expected: Vec<u8> = (1..=2 * PERIOD).map(|i| i as u8).collect();
    assert!(heard == expected, "something is missing");
    // What is begun comes back as far as it is.
    let at = offer(&mut bench);
    bench.command(1, &[PCM_STOP, PCM_RELEASE]);
    let (_, len) = bench.queues[queue::RX].wait(&bench.driver);
    assert!(len >= 8 && len < PERIOD as u32 + 8, "{len}");
    assert_eq!(bench.status(at + PERIOD as u64), (IO_ERROR, 0));
    assert_eq!(*lock(&bench.ear.listening), [true, false]);
}

#[test]
fn a_driver_hears_of_an_underrun_if_it_wants_to() {
    const XRUNS: u32 = 1 << 4;
    let mut bench = Bench::new();
    let event = bench.driver.alloc(8);
    bench.queues[queue::EVENT].offer(&bench.driver, &[writable(event, 8)]);
    for features in [0, XRUNS] {
        assert_eq!(bench.set(0, features), OK);
        bench.command(0, &[PCM_PREPARE]);
        bench.offer(0, &sound(0, PERIOD));
        bench.command(0, &[PCM_START]);
        bench.queues[queue::TX].wait(&bench.driver);
        if features == XRUNS {
            assert_eq!(bench.queues[queue::EVENT].wait(&bench.driver).1, 8);
            assert_eq!(bench.status(event), (0x1101, 0));
        }
        // It goes on.
        bench.offer(0, &sound(1, PERIOD));
        bench.queues[queue::TX].wait(&bench.driver);
        assert!(bench.queues[queue::EVENT].used(&bench.driver).is_none());
        bench.command(0, &[PCM_STOP, PCM_RELEASE]);
    }
}

#[test]
fn a_saved_card_plays_on() {
    let mut bench = Bench::new();
    assert_eq!((bench.set(0, 0), bench.set(1, 0)), (OK, OK));
    bench.command(0, &[PCM_PREPARE]);
    let offered: Vec<_> = (0..3).map(|i| bench.offer(0, &sound(i, 10 * PERIOD))).collect();
    bench.command(0, &[PCM_START]);
    let ear = bench.ear.clone();
    eventually("sound", || !lock(&ear.heard).is_empty());
    let parts = bench.driver.save();
    let ear = Arc::<Ear>::default();
    bench.driver = bench.driver.go_on(card(&ear), parts).unwrap();
    for (_, status) in &offered {
        bench.queues[queue::TX].wait(&bench.driver);
        assert_eq!(bench.status(*status), (OK, 3840 + 100));
    }
    // What was being played is begun anew.
    let expected: Vec<_> = (0..3).flat_map(|i| sound(i, 10 * PERIOD)).collect();
    assert!(*lock(&ear.heard) == expected, "{} bytes", lock(&ear.heard).len());
    bench.command(1, &[PCM_PREPARE]);
    // One that stands still, and goes on itself.
    bench.offer(0, &sound(0, PERIOD));
    bench.driver.save();
    bench.driver.proceed();
    bench.queues[queue::TX].wait(&bench.driver);
    bench.command(0, &[PCM_STOP, PCM_RELEASE]);
}

#[test]
fn another_card_does_not_play_on() {
    let bench = Bench::new();
    let parts = bench.driver.save();
    let speaker: Arc<dyn Speaker> = Arc::new(Line(bench.ear.clone()));
    let other = Sound::new(Devices { speaker: Some(speaker), microphone: None });
    assert!(bench.driver.go_on(other, parts).is_err());
}

#[test]
fn a_reset_forgets() {
    let mut bench = Bench::new();
    assert_eq!(bench.set(0, 0), OK);
    bench.command(0, &[PCM_PREPARE]);
    bench.offer(0, &sound(0, 192_000));
    bench.command(0, &[PCM_START]);
    let ear = bench.ear.clone();
    eventually("sound", || !lock(&ear.heard).is_empty());
    bench.driver.rewind();
    bench.queues = bench.driver.start(0, 4);
    assert_eq!(bench.tell(&[PCM_START, 0]), BAD);
    let heard = lock(&ear.heard).len();
    thread::sleep(Duration::from_millis(30));
    assert_eq!(lock(&ear.heard).len(), heard, "it is quiet");
    assert_eq!(bench.set(0, 0), OK);
}

#[test]
fn endless_buffers_end() {
    let mut bench = Bench::new();
    assert_eq!(bench.set(0, 0), OK);
    bench.command(0, &[PCM_PREPARE, PCM_START]);
    let Bench { driver, queues, .. } = &mut bench;
    let header = driver.alloc_with(&0u32.to_le_bytes());
    let (room, status) = (driver.alloc(1 << 20), driver.alloc(8));
    // Long sound, in the same memory again and again.
    let mut buffers = vec![readable(header, 4)];
    buffers.extend((0..4).map(|_| readable(room, 1 << 20)));
    buffers.push(writable(status, 8));
    queues[queue::TX].offer(driver, &buffers);
    // And none at all, a part of a frame, no room for a status.
    for buffers in [
        &[readable(header, 4), writable(status, 8)][..],
        &[readable(header, 4), readable(room, 3), writable(status, 8)],
        &[readable(header, 4), writable(status, 7)],
        &[readable(header, 3), writable(status, 8)],
    ] {
        queues[queue::TX].offer(driver, buffers);
    }
    let ear = bench.ear.clone();
    eventually("sound", || lock(&ear.heard).len() > PERIOD);
    bench.command(0, &[PCM_STOP, PCM_RELEASE]);
    (0..5).for_each(|_| _ = bench.queues[queue::TX].used(&bench.driver).unwrap());
    bench.command(0, &[PCM_PREPARE, PCM_START]);
    let (_, status) = bench.offer(0, &sound(0, 3));
    bench.queues[queue::TX].wait(&bench.driver);
    assert_eq!(bench.status(status).0, OK);
    assert!(!bench.driver.broken());
}
