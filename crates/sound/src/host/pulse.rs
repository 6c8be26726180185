//! Linux: PulseAudio's protocol, which PipeWire's server speaks too.
//!
//! The server tells how much it wants to have, and its thread here fetches that from a [`Ring`].

use std::{
    env, fs, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use futures::executor::block_on;
use pulseaudio::{
    Client, ClientError, PlaybackSource, PlaybackStream, RecordStream,
    protocol::{
        ChannelMap, PlaybackStreamParams, RecordStreamParams, SampleFormat, SampleSpec,
        stream::{BufferAttr, StreamFlags},
    },
};

use super::{
    no_sound,
    slots::{Slot, Slots},
};
use crate::{
    Backlog, Capture, Devices, Format, Microphone, Playback, Sample, SoundError, Speaker, ring::Ring,
};

/// A server that says nothing for so long is taken for dead.
const PATIENCE: Duration = Duration::from_secs(3);
/// What the server has of the sound before it is heard, and of what it has heard before it is given here.
const AHEAD: Duration = Duration::from_millis(100);
/// The server begins to play when it has so much.
const BEGIN: Duration = Duration::from_millis(60);
/// The most that waits for the server.
const MOST: Duration = Duration::from_millis(200);
/// The length of a cookie is 256; no other file is read as a whole.
const MAX_COOKIE: u64 = 4096;

/// A connection on which nothing has been said yet.
pub(super) struct Connection {
    socket: UnixStream,
    cookie: Option<Vec<u8>>,
}

impl Connection {
    pub(super) fn open() -> Result<Self, SoundError> {
        let advice = "start PipeWire or PulseAudio, name its socket in PULSE_SERVER";
        let place = place().map_err(|why| no_sound(why, advice))?;
        let failed = |e: io::Error| no_sound(format!("{}: {e}", place.display()), advice);
        let socket = UnixStream::connect(&place).map_err(failed)?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        socket.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Self { socket, cookie: cookie() })
    }

    pub(super) fn start(self) -> Result<Devices, SoundError> {
        let client = Client::new_unix(c"Tearless", self.socket, self.cookie);
        let advice = "start PipeWire or PulseAudio as the same user";
        let client = client.map_err(|error| no_sound(explain(&error), advice))?;
        let (slots, complained) = (Slots::default(), AtomicBool::new(false));
        let server = Arc::new(Server { client, slots, complained });
        let (speaker, microphone) = (Arc::new(Pulse(Arc::clone(&server))), Arc::new(Pulse(server)));
        Ok(Devices { speaker: Some(speaker), microphone: Some(microphone) })
    }
}

/// Where the server listens.
fn place() -> Result<PathBuf, String> {
    if let Ok(server) = env::var("PULSE_SERVER") {
        let path = server.strip_prefix("unix:").unwrap_or(&server);
        return if path.starts_with('/') {
            Ok(path.into())
        } else {
            Err(format!("PULSE_SERVER is {server}, and only sockets of this host are known here"))
        };
    }
    let folders = [("PULSE_RUNTIME_PATH", "native"), ("XDG_RUNTIME_DIR", "pulse/native")];
    let places =
        folders.iter().filter_map(|(variable, name)| Some(Path::new(&env::var_os(variable)?).join(name)));
    let mut places = places.peekable();
    if places.peek().is_none() {
        return Err(
            "neither PULSE_SERVER nor XDG_RUNTIME_DIR is set, so nobody knows where its server is".to_owned()
        );
    }
    places.find(|place| place.exists()).ok_or_else(|| "there is no sound server of this user".to_owned())
}

/// What some servers want to be shown; those of the same user do without.
fn cookie() -> Option<Vec<u8>> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let config =
        env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".config")));
    let places = [
        env::var_os("PULSE_COOKIE").map(PathBuf::from),
        config.map(|config| config.join("pulse/cookie")),
        home.map(|home| home.join(".pulse-cookie")),
    ];
    let small = |path: &PathBuf| fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= MAX_COOKIE);
    fs::read(places.into_iter().flatten().find(small)?).ok()
}

fn explain(error: &ClientError) -> String {
    match error {
        ClientError::Io(error) => format!("its server does not answer: {error}"),
        ClientError::Protocol(error) => format!("its server refuses: {error}"),
        other => format!("its server refuses: {other}"),
    }
}

struct Server {
    client: Client,
    slots: Slots,
    complained: AtomicBool,
}

impl Server {
    /// Once: without a server each further stream would fail, too.
    fn complain(&self, error: &ClientError) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!("the host's sound does not work any more: {error}; the VM goes on in silence");
        }
    }
}

/// Plays and records.
struct Pulse(Arc<Server>);

type Pending<T> = Pin<Box<dyn Future<Output = Result<T, ClientError>> + Send>>;

/// A stream that the server makes while we go on.
enum Stream<T> {
    Coming(Pending<T>, Slot),
    There(T, Slot),
    Gone,
}

impl<T: Send + 'static> Stream<T> {
    /// Has the server make it.
    fn ask(server: &Server, coming: impl Future<Output = Result<T, ClientError>> + Send + 'static) -> Self {
        let Some(slot) = server.slots.take() else { return Self::Gone };
        let mut stream = Self::Coming(Box::pin(coming), slot);
        // The question is put when one looks for the answer.
        stream.advance(server);
        stream
    }

    /// Looks whether it has come.
    fn advance(&mut self, server: &Server) {
        let Self::Coming(coming, _) = self else { return };
        let answer = coming.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(answer) = answer else { return };
        let Self::Coming(_, slot) = std::mem::replace(self, Self::Gone) else { return };
        match answer {
            Ok(stream) => *self = Self::There(stream, slot),
            Err(error) => server.complain(&error),
        }
    }

    /// Ends it once `last` has been done with it. Nobody waits for that: it takes the server a while, and what has not come
    /// yet cannot be ended, else it would go on for ever.
    fn end<F: Future<Output = Result<(), ClientError>>>(
        &mut self,
        last: impl FnOnce(T) -> F + Send + 'static,
    ) {
        let stream = std::mem::replace(self, Self::Gone);
        if matches!(stream, Self::Gone) {
            return;
        }
        let finish = move || {
            let (stream, _slot) = match stream {
                Self::Coming(coming, slot) => (block_on(coming), slot),
                Self::There(stream, slot) => (Ok(stream), slot),
                Self::Gone => return,
            };
            if let Err(error) = stream.and_then(|stream| block_on(last(stream))) {
                tracing::debug!(%error, "the end of a sound was not heard");
            }
        };
        if let Err(error) = thread::Builder::new().name("sound-end".to_owned()).spawn(finish) {
            tracing::warn!(%error, "no thread to end a sound");
        }
    }
}

fn sample_spec(format: Format) -> SampleSpec {
    SampleSpec {
        format: match format.sample {
            Sample::S16 => SampleFormat::S16Le,
            Sample::S32 => SampleFormat::S32Le,
            Sample::F32 => SampleFormat::Float32Le,
        },
        channels: format.channels,
        sample_rate: format.rate,
    }
}

fn channel_map(format: Format) -> ChannelMap {
    if format.channels == 1 { ChannelMap::mono() } else { ChannelMap::stereo() }
}

fn length(format: Format, time: Duration) -> u32 {
    format.bytes(time).try_into().unwrap_or(u32::MAX)
}

impl Speaker for Pulse {
    fn open(&self, format: Format) -> Box<dyn Playback> {
        let params = PlaybackStreamParams {
            sample_spec: sample_spec(format),
            channel_map: channel_map(format),
            buffer_attr: BufferAttr {
                target_length: length(format, AHEAD),
                pre_buffering: length(format, BEGIN),
                ..BufferAttr::default()
            },
            flags: StreamFlags { adjust_latency: true, ..StreamFlags::default() },
            ..PlaybackStreamParams::default()
        };
        let ring = Arc::new(Ring::new(format, format.bytes(MOST)));
        let (client, source) = (self.0.client.clone(), Source(Arc::clone(&ring)));
        let coming = async move { client.create_playback_stream(params, source).await };
        let stream = Stream::ask(&self.0, coming);
        Box::new(PulsePlayback { server: Arc::clone(&self.0), ring, stream, beyond: format.bytes(AHEAD) })
    }
}

/// What the server's thread fetches from. It is dropped when the server goes.
struct Source(Arc<Ring>);

impl PlaybackSource for Source {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<usize> {
        self.0.poll(buffer, context.waker())
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct PulsePlayback {
    server: Arc<Server>,
    ring: Arc<Ring>,
    stream: Stream<PlaybackStream>,
    beyond: usize,
}

impl Playback for PulsePlayback {
    fn play(&mut self, sound: &[u8]) {
        self.stream.advance(&self.server);
        self.ring.push(sound);
        if self.ring.len().is_none() {
            self.server.complain(&ClientError::Disconnected);
        }
    }

    fn backlog(&self) -> Option<Backlog> {
        Some(Backlog { here: self.ring.len()?, beyond: self.beyond })
    }
}

impl Drop for PulsePlayback {
    /// Its last tenth of a second is still with the server.
    fn drop(&mut self) {
        self.ring.close();
        self.stream.end(|stream| async move { stream.play_all().await });
    }
}

impl Microphone for Pulse {
    fn open(&self, format: Format) -> Box<dyn Capture> {
        let ring = Arc::new(Ring::new(format, format.bytes(MOST)));
        Box::new(PulseCapture { server: Arc::clone(&self.0), format, ring, stream: Stream::Gone })
    }
}

/// The server records only while the guest listens: desktops show who does.
struct PulseCapture {
    server: Arc<Server>,
    format: Format,
    ring: Arc<Ring>,
    stream: Stream<RecordStream>,
}

impl Capture for PulseCapture {
    fn listen(&mut self, on: bool) {
        self.stream.end(|_| async { Ok(()) });
        // What still comes from the stream that ends is not for the next one.
        self.ring = Arc::new(Ring::new(self.format, self.format.bytes(MOST)));
        if !on {
            return;
        }
        let params = RecordStreamParams {
            sample_spec: sample_spec(self.format),
            channel_map: channel_map(self.format),
            buffer_attr: BufferAttr {
                fragment_size: length(self.format, AHEAD / 8),
                ..BufferAttr::default()
            },
            flags: StreamFlags { adjust_latency: true, ..StreamFlags::default() },
            ..RecordStreamParams::default()
        };
        let (client, ring) = (self.server.client.clone(), Arc::clone(&self.ring));
        let sink = move |sound: &[u8]| ring.push(sound);
        let coming = async move { client.create_record_stream(params, sink).await };
        self.stream = Stream::ask(&self.server, coming);
    }

    fn record(&mut self, sound: &mut [u8]) {
        self.stream.advance(&self.server);
        let len = self.ring.pop(sound);
        sound.get_mut(len..).unwrap_or_default().fill(0);
    }

    fn backlog(&self) -> Option<Backlog> {
        let Stream::There(..) = self.stream else { return None };
        Some(Backlog { here: self.ring.len()?, beyond: self.format.bytes(AHEAD / 8) })
    }
}

impl Drop for PulseCapture {
    fn drop(&mut self) {
        self.listen(false);
    }
}
