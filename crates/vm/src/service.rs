//! A running VM as its control socket shows it.
//!
//! ```text
//!   Starting ──► Running ◄──► Paused ──► Saving (from Running too), and back if that fails
//!                   │            │       a guest's reset does not leave Running
//!                   ▼            │
//!                Stopping ◄──────┘ ──► the process ends
//! ```

mod page;
mod snapshot;

use std::{
    fmt,
    io::{self, Write as _},
    net::IpAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    thread,
    time::{Duration, Instant, SystemTime},
};

use tearless_bus::CharSink;
use tearless_config::{ByteSize, ConsoleKind, MIN_MEMORY};
use tearless_control::{
    Answer, Balloon, Control, Forwarded, GuestMemory, Phase, Reply, Request, State, StopOutcome,
};
use tearless_guest::Agent;
use tearless_machine::{Error, Handle, Outcome};
use tearless_state::Progress;
use tearless_storage::OpenOptions;
use tearless_virtio::{
    balloon::{Gauge, GuestUse},
    vsock::Hub,
};

use crate::{
    Console, DiskSpec, Display, Frontend, Hardware, HostSide, Keeper, LogFile, Plug,
    display::screenshot,
    engines,
    forward::{Forwarder, Listening},
    guest,
    network::{Network, Seen},
};

/// What a guest may log of each console: enough for weeks of a quiet one.
const CONSOLE_LOG: u64 = 4 << 20;
/// How often a guest is asked to shut down: while it boots it may miss it.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How often it is looked whether somebody in the guest listens by now.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long the guest's agent may take to answer once the guest goes on, and how often it is tried.
const CLOCK_PATIENCE: Duration = Duration::from_secs(30);
const CLOCK_AGAIN: Duration = Duration::from_millis(200);
const CLOCK_ANSWER: Duration = Duration::from_secs(5);
/// How often whoever waits for a VM to be saved hears of it.
const TELL_AGAIN: Duration = Duration::from_millis(100);

/// How long a guest may take to answer a connection: on a busy software CPU its kernel may need seconds.
const DIAL: Duration = Duration::from_secs(10);

/// How long a guest may take to say how it uses its memory; what it said last will do.
const TELL: Duration = Duration::from_millis(250);

/// How often the guest is asked which ports it listens at, where they are forwarded.
const FOLLOW: Duration = Duration::from_secs(2);
/// More addresses than a guest has; it may say anything.
const MAX_ADDRESSES: usize = 16;

/// Asks the guest to shut down, for as long as it is told; returns whether somebody heard it.
pub type AskGuest = Arc<dyn Fn(Duration) -> bool + Send + Sync>;

/// Has a snapshot taken; returns what came of it, for people.
pub type TakeSnapshot = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

#[derive(Default)]
struct Now {
    handle: Option<Handle>,
    paused: bool,
    stopping: bool,
    saving: bool,
    keeper: Option<Keeper>,
    resets: u32,
    /// What the guest's agent said last.
    addresses: Vec<IpAddr>,
    network: Option<Seen>,
    /// `Some` with whether the guest ended it by itself.
    ended: Option<bool>,
    ask: Option<AskGuest>,
    take_snapshot: Option<TakeSnapshot>,
    sandbox: String,
    /// Where the screen can be seen.
    display_at: Option<String>,
    /// The images, in the order of the machine's disks.
    disks: Vec<Image>,
}

impl Now {
    fn phase(&self) -> Phase {
        match self {
            Self { stopping: true, .. } | Self { ended: Some(_), .. } => Phase::Stopping,
            Self { saving: true, .. } => Phase::Saving,
            Self { handle: None, .. } => Phase::Starting,
            Self { paused: true, .. } => Phase::Paused,
            _ => Phase::Running,
        }
    }
}

/// A disk's image.
#[derive(Clone)]
struct Image {
    path: PathBuf,
    options: OpenOptions,
    /// Whether what is written to it is kept.
    kept: bool,
}

/// A VM that is being saved, or that a snapshot is taken of.
struct Saving {
    handle: Handle,
    keeper: Keeper,
    was_paused: bool,
}

struct Inner {
    engine: String,
    cpus: u32,
    memory: u64,
    begun: Instant,
    console: Console,
    plug: Plug,
    sockets: Option<Arc<Hub>>,
    balloon: Arc<Gauge>,
    forwards: Listening,
    display: Option<Display>,
    now: Mutex<Now>,
    changed: Condvar,
    /// How often viewers had to be told of another phase.
    phases: AtomicU64,
}

/// Answers for one VM. Clones share.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

impl Service {
    /// The service of a VM of `hardware` that `plug` ends.
    pub fn new(hardware: &Hardware, console: Console, plug: Plug) -> Self {
        let engine = engines::choose_board(hardware.engine).unwrap_or(hardware.engine);
        let image =
            |d: &DiskSpec| Image { path: d.path.clone(), options: d.options, kept: d.changes.is_none() };
        let now = Now { disks: hardware.disks.iter().map(image).collect(), ..Now::default() };
        Self(Arc::new(Inner {
            engine: engine.to_string(),
            cpus: hardware.vcpus,
            memory: hardware.memory,
            begun: Instant::now(),
            console,
            plug,
            sockets: hardware.sockets.clone(),
            balloon: hardware.balloon.clone(),
            forwards: Listening::default(),
            display: hardware.display.clone(),
            now: Mutex::new(now),
            changed: Condvar::new(),
            phases: AtomicU64::new(0),
        }))
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the guest is asked to shut down, where there is a better way than the power button.
    pub fn ask_with(&self, ask: AskGuest) {
        self.now().ask = Some(ask);
    }

    /// Where the state is kept when the VM is suspended. Without it cannot be.
    pub fn keep_with(&self, keeper: Keeper) {
        self.now().keeper = Some(keeper);
    }

    /// How a viewer's button takes a snapshot. Without it cannot.
    pub fn snapshot_with(&self, take: TakeSnapshot) {
        self.now().take_snapshot = Some(take);
    }

    /// The network that the guest is on, which may know its address.
    pub fn set_network(&self, network: &Network) {
        self.now().network = Some(network.seen());
    }

    /// What confines this process, for people.
    pub fn set_sandbox(&self, text: impl fmt::Display) {
        self.now().sandbox = text.to_string();
    }

    /// Where the screen can be seen, for people and programs: a URL.
    pub fn set_display_at(&self, url: String) {
        self.now().display_at = Some(url);
    }

    /// How the VM is.
    pub fn state(&self) -> State {
        // A guest that stands still says nothing.
        let runs = matches!(&*self.now(), Now { handle: Some(_), paused: false, ended: None, .. });
        let balloon = self.balloon(if runs { TELL } else { Duration::ZERO });
        if runs {
            self.ask_addresses();
        }
        let now = self.now();
        State {
            phase: now.phase(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            engine: self.0.engine.clone(),
            cpus: self.0.cpus,
            memory: self.0.memory,
            balloon: Some(balloon),
            addresses: self.addresses(&now),
            forwards: self.forwards(),
            resets: now.resets,
            sandbox: now.sandbox.clone(),
            display: now.display_at.clone(),
        }
    }

    /// What the agent says, and without one what the network knows.
    fn addresses(&self, now: &Now) -> Vec<IpAddr> {
        if now.addresses.is_empty() && now.ended.is_none() {
            let seen = now.network.as_ref().and_then(Seen::guest);
            return seen.into_iter().map(IpAddr::V4).collect();
        }
        now.addresses.clone()
    }

    /// Asks the guest's agent, if there is one that answers soon.
    fn ask_addresses(&self) {
        let hub = self.0.sockets.as_ref().filter(|hub| hub.is_online());
        let Some(Ok(found)) = hub.map(|hub| guest::ask(hub, TELL, Agent::addresses)) else { return };
        let useful = found.into_iter().map(|a| a.address).filter(|address| match address {
            IpAddr::V4(v4) => !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        });
        self.now().addresses = useful.take(MAX_ADDRESSES).collect();
    }

    fn forwards(&self) -> Vec<Forwarded> {
        self.0.forwards.list().into_iter().map(|(host, guest)| Forwarded { host, guest }).collect()
    }

    /// From now on whatever the guest listens at is forwarded, but for the ports `except`.
    ///
    /// # Errors
    /// When the host has no thread left.
    pub fn forward_listening(&self, except: Vec<u16>) -> io::Result<()> {
        let Some(hub) = self.0.sockets.clone() else { return Ok(()) };
        let forwarder = Forwarder::new(Arc::new(guest::agent(hub.clone())));
        let service = self.clone();
        let watch = move || {
            while service.wait_end(FOLLOW).is_none() {
                // A guest that stands still listens as before; one that resets or has lost its agent does not.
                if service.now().paused {
                    continue;
                }
                let mut ports = guest::ask(&hub, DIAL, Agent::ports).unwrap_or_default();
                ports.retain(|port| !except.contains(port));
                service.0.forwards.update(&ports, |at, port| forwarder.listen(at, port));
            }
        };
        thread::Builder::new().name("listening".into()).spawn(watch).map(drop)
    }

    fn balloon(&self, patience: Duration) -> Balloon {
        let reading = self.0.balloon.read(patience);
        let guest = reading.guest.map(|GuestUse { total, free, available, caches }| GuestMemory {
            total,
            free,
            available,
            caches,
        });
        Balloon { target: reading.target, actual: reading.actual, guest }
    }

    /// Has the balloon hold `target` bytes.
    fn set_balloon(&self, target: u64) -> Answer {
        let most = self.0.memory.saturating_sub(MIN_MEMORY.bytes());
        if target > most {
            return Answer::error(format!(
                "cannot make the balloon {} large\n  because: the VM has {} of memory, and its guest needs at least \
                 {MIN_MEMORY}\n  try: {} or less",
                ByteSize::new(target),
                ByteSize::new(self.0.memory),
                ByteSize::new(most),
            ));
        }
        self.0.balloon.set_target(target);
        Answer::Reply(Reply::Done)
    }

    /// Makes the disk whose image is at `path` `size` bytes large.
    fn grow_disk(&self, path: &Path, size: u64) -> Answer {
        let failed = |why: &dyn fmt::Display, advice: &str| {
            Answer::error(format!(
                "cannot make disk {} larger\n  because: {why}\n  try: {advice}",
                path.display()
            ))
        };
        let found = self
            .now()
            .disks
            .iter()
            .enumerate()
            .find(|(_, image)| image.path == path)
            .map(|(i, d)| (i, d.kept));
        let Some((index, kept)) = found else {
            return failed(&"the VM was started without it", "again when the VM is stopped");
        };
        if !kept {
            return failed(&"the VM throws away what its guest writes", "again when the VM is stopped");
        }
        // A disk that grows holds up nobody who asks for the state.
        let handle = self.now().handle.clone();
        match handle.map(|handle| handle.grow_disk(index, size)) {
            None => failed(&"the VM is still starting", "in a moment"),
            Some(Err(Error::Host(_, e))) if e.kind() == io::ErrorKind::InvalidInput => {
                failed(&"it is larger already, and what lies at its end would be lost", "a larger size")
            }
            Some(Err(Error::Host(_, why))) => failed(&why, "a larger size, or room on the host's disk"),
            Some(Err(why)) => failed(&why, "again when the VM is stopped"),
            Some(Ok(())) => Answer::Reply(Reply::Done),
        }
    }

    /// Asks the guest to shut down, and pulls the plug when it has not within `limit`. Returns when the VM has ended.
    pub fn stop(&self, limit: Duration) -> StopOutcome {
        let deadline = Instant::now() + limit;
        let (mut heard, mut asked) = (false, None);
        self.now().stopping = true;
        self.tell_viewers();
        // A guest that stands still hears nothing.
        self.resume();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if asked.is_none_or(|at: Instant| at.elapsed() >= ASK_AGAIN) && self.ask(left.min(ASK_AGAIN)) {
                (heard, asked) = (true, Some(Instant::now()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(by_guest) = self.wait_end(left.min(LOOK_AGAIN)) {
                return if by_guest { StopOutcome::Guest } else { StopOutcome::Killed };
            }
            if left.is_zero() {
                break;
            }
        }
        tracing::warn!(heard, "the guest did not shut down in time: pulling the plug");
        self.kill();
        if heard { StopOutcome::Forced } else { StopOutcome::Unheard }
    }

    /// Pulls the plug. Returns when the VM has ended.
    pub fn kill(&self) -> StopOutcome {
        self.0.plug.pull();
        while self.wait_end(LOOK_AGAIN).is_none() {}
        StopOutcome::Killed
    }

    fn ask(&self, patience: Duration) -> bool {
        let (ask, handle) = {
            let now = self.now();
            (now.ask.clone(), now.handle.clone())
        };
        let button = || {
            let pressed = handle.filter(Handle::has_power_button).map(|handle| handle.press_power());
            pressed.is_some_and(|result| {
                result.inspect_err(|error| tracing::warn!(%error, "cannot ask the guest")).is_ok()
            })
        };
        ask.is_some_and(|ask| ask(patience)) || button()
    }

    fn wait_end(&self, limit: Duration) -> Option<bool> {
        let now = self.now();
        let woken = self.0.changed.wait_timeout_while(now, limit, |now| now.ended.is_none());
        woken.unwrap_or_else(PoisonError::into_inner).0.ended
    }

    /// Stops the vCPUs and the guest's clock.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn pause(&self) -> Result<(), &'static str> {
        let mut now = self.now();
        match &now.handle {
            _ if now.stopping || now.ended.is_some() => Err("it is being stopped"),
            _ if now.saving => Err("it is being saved"),
            None => Err("it is still starting"),
            Some(handle) if !handle.pause() => Err("its guest is resetting or has ended"),
            Some(_) => {
                now.paused = true;
                drop(now);
                self.tell_viewers();
                Ok(())
            }
        }
    }

    /// Lets them go on.
    pub fn resume(&self) {
        let mut now = self.now();
        // Whoever saves it lets it go on.
        if !now.saving
            && std::mem::take(&mut now.paused)
            && let Some(handle) = &now.handle
        {
            handle.resume();
            drop(now);
            self.tell_viewers();
            self.set_clock();
        }
    }

    /// Has the guest's agent, where there is one, set the guest's clock, which stood still.
    fn set_clock(&self) {
        let Some(hub) = self.0.sockets.clone() else { return };
        let set = move || {
            let deadline = Instant::now() + CLOCK_PATIENCE;
            while let Err(error) = guest::ask(&hub, CLOCK_ANSWER, |agent| agent.set_time(SystemTime::now())) {
                if Instant::now() > deadline {
                    tracing::debug!(%error, "nobody in the guest sets its clock");
                    return;
                }
                thread::sleep(CLOCK_AGAIN);
            }
        };
        if let Err(error) = thread::Builder::new().name("guest-clock".into()).spawn(set) {
            tracing::warn!(%error, "cannot have the guest's clock set");
        }
    }

    /// Saves the VM, and ends it when `saved` was told how many bytes that took.
    ///
    /// # Errors
    /// Why that cannot be, in three parts; the VM goes on as it was.
    pub fn suspend(&self, progress: Progress<'_>, saved: impl FnOnce(u64)) -> Result<(), String> {
        let refuse =
            |(why, advice): (&str, &str)| format!("cannot suspend the VM\n  because: {why}\n  try: {advice}");
        let Saving { handle, keeper, was_paused } = self.begin_saving().map_err(refuse)?;
        self.tell_viewers();
        let result = if handle.pause() {
            keeper.keep(&handle, &self.0.engine, progress).map_err(|e| e.to_string())
        } else {
            Err("its guest is resetting or has ended".to_owned())
        };
        match result {
            Ok((still, bytes)) => {
                saved(bytes);
                still.end();
                Ok(())
            }
            Err(why) => {
                let mut now = self.now();
                now.saving = false;
                if !was_paused {
                    handle.resume();
                }
                drop(now);
                self.tell_viewers();
                Err(refuse((&why, "again, once what is in the way is gone; the VM goes on as it was")))
            }
        }
    }

    /// Makes this the only one that saves the VM: until `saving` is unset. Else says why it cannot be, and what to do.
    fn begin_saving(&self) -> Result<Saving, (&'static str, &'static str)> {
        let mut now = self.now();
        let why = match &*now {
            Now { stopping: true, .. } | Now { ended: Some(_), .. } => "it is being stopped",
            Now { saving: true, .. } => "it is being saved already",
            Now { handle: Some(handle), keeper: Some(keeper), .. } => {
                let saving =
                    Saving { handle: handle.clone(), keeper: keeper.clone(), was_paused: now.paused };
                now.saving = true;
                return Ok(saving);
            }
            Now { keeper: None, .. } => {
                return Err((
                    "what its guest writes to its disks is thrown away when it ends",
                    "run it without --ephemeral",
                ));
            }
            Now { handle: None, .. } => "it is still starting",
        };
        Err((why, "in a moment"))
    }

    /// Serves a client that wants the VM suspended: tells how far that is, then how it went.
    fn suspend_for(&self, mut client: UnixStream) {
        let progress = telling(&client);
        let mut end = |reply: Reply| drop(tearless_control::tell(&mut client, &reply));
        let result = self.suspend(&progress, |bytes| end(Reply::Suspended { bytes }));
        if let Err(message) = result {
            drop(tearless_control::tell(&mut client, &Reply::Error { message }));
        }
    }

    /// The VM has ended with `outcome`, or failed. What is said first holds.
    pub fn ended(&self, outcome: Option<Outcome>) {
        let by_guest = matches!(outcome, Some(Outcome::PowerOff | Outcome::Reset));
        self.now().ended.get_or_insert(by_guest);
        self.0.changed.notify_all();
        self.tell_viewers();
        self.0.console.finish();
    }

    fn screenshot(&self) -> Answer {
        match screenshot(self.0.display.as_ref(), &self.0.console.last()) {
            Ok(file) => Answer::Stream(Box::new(move |mut stream| {
                if let Err(error) = stream.write_all(&file) {
                    tracing::debug!(%error, "nobody took the screenshot");
                }
            })),
            Err(error) => Answer::error(format!(
                "cannot take a screenshot\n  because: {error}\n  try: another screen size, with `tearless set --display`"
            )),
        }
    }

    fn connect(&self, port: u32) -> Answer {
        let Some(hub) = &self.0.sockets else {
            return Answer::error(
                "cannot connect to the guest\n  because: the VM has no virtual sockets\n  try: restart it",
            );
        };
        match hub.dial(port, DIAL) {
            Ok(dialed) => Answer::Stream(Box::new(move |stream| {
                if let Err(error) = dialed.attach(stream) {
                    tracing::debug!(port, %error, "lost a connection to the guest");
                }
            })),
            Err(error) => Answer::error(format!(
                "cannot connect to port {port} of the guest\n  because: {error}\n  try: once the guest has booted"
            )),
        }
    }
}

impl Control for Service {
    fn answer(&self, request: Request) -> Answer {
        let reply = match request {
            Request::State => Reply::State(self.state()),
            Request::Stop { timeout_ms } => {
                Reply::Stopped { how: self.stop(Duration::from_millis(timeout_ms)) }
            }
            Request::Kill => Reply::Stopped { how: self.kill() },
            Request::Pause => match self.pause() {
                Ok(()) => Reply::Done,
                Err(why) => {
                    return Answer::error(format!(
                        "cannot pause the VM\n  because: {why}\n  try: in a moment"
                    ));
                }
            },
            Request::Suspend => {
                let service = self.clone();
                return Answer::Stream(Box::new(move |stream| service.suspend_for(stream)));
            }
            Request::Snapshot { memory } => {
                let service = self.clone();
                return Answer::Stream(Box::new(move |stream| service.snapshot_for(stream, memory)));
            }
            Request::Resume => {
                self.resume();
                Reply::Done
            }
            Request::Resize { cols, rows } => {
                if let Some(handle) = &self.now().handle {
                    handle.resize(cols, rows);
                }
                Reply::Done
            }
            Request::Console => {
                let console = self.0.console.clone();
                return Answer::Stream(Box::new(move |stream| console.attach(stream)));
            }
            Request::Balloon { target } => return self.set_balloon(target),
            Request::GrowDisk { path, size } => return self.grow_disk(&path, size),
            Request::Screenshot => return self.screenshot(),
            Request::Screen => return self.screen(),
            Request::GuestConnect { port } => return self.connect(port),
        };
        Answer::Reply(reply)
    }
}

/// Tells `client` now and then how far the saving is.
fn telling(client: &UnixStream) -> impl Fn(u64, u64) + Sync + use<> {
    let told = Mutex::new((Instant::now(), client.try_clone()));
    move |done, all| {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if done == all || told.0.elapsed() >= TELL_AGAIN {
            told.0 = Instant::now();
            // A client that has gone changes nothing.
            let _ =
                told.1.as_mut().map(|client| tearless_control::tell(client, &Reply::Progress { done, all }));
        }
    }
}

/// A frontend whose VM is served too: what its consoles say is shown to viewers and logged.
pub struct Served<F> {
    inner: F,
    service: Service,
    primary: ConsoleKind,
    logs: PathBuf,
}

impl<F> Served<F> {
    /// `inner`, served by `service`. The console of kind `primary` is what viewers see; logs go to the folder `logs`.
    pub fn new(inner: F, service: Service, primary: ConsoleKind, logs: &Path) -> Self {
        Self { inner, service, primary, logs: logs.to_owned() }
    }

    /// The frontend itself.
    pub fn inner(&self) -> &F {
        &self.inner
    }

    fn log(&self, name: &str, next: Box<dyn CharSink>) -> Box<dyn CharSink> {
        let path = self.logs.join(name);
        match LogFile::open(&path, CONSOLE_LOG) {
            Ok(log) => both(log.into_sink(), next),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot log the guest's output");
                next
            }
        }
    }
}

fn both(mut first: Box<dyn CharSink>, mut second: Box<dyn CharSink>) -> Box<dyn CharSink> {
    Box::new(move |bytes: &[u8]| {
        first.put(bytes);
        second.put(bytes);
    })
}

impl<F: Frontend> Frontend for Served<F> {
    fn connect(&mut self) -> HostSide {
        let HostSide { uart, mut console, streams } = self.inner.connect();
        let viewers = &self.service.0.console;
        let (uart_log, console_log) = match self.primary {
            ConsoleKind::Virtio => (UART_LOG, MAIN_LOG),
            ConsoleKind::Uart => (MAIN_LOG, VIRTIO_LOG),
        };
        // A kernel that was meant for the UART may have a virtio console all the same: show it, as `run` does.
        console.sink = self.log(console_log, viewers.tee(console.sink));
        let uart = match self.primary {
            ConsoleKind::Virtio => self.log(uart_log, uart),
            ConsoleKind::Uart => self.log(uart_log, viewers.tee(uart)),
        };
        HostSide { uart, console, streams }
    }

    fn started(&mut self, handle: &Handle) {
        self.service.now().handle = Some(handle.clone());
        self.service.tell_viewers();
        self.inner.started(handle);
        if handle.is_restored() {
            self.service.set_clock();
        }
    }

    fn restart(&mut self) -> bool {
        let again = self.inner.restart();
        if again {
            let mut now = self.service.now();
            now.resets += 1;
            now.handle = None;
            now.addresses.clear();
            drop(now);
            self.service.tell_viewers();
        }
        again
    }
}

impl<F: Frontend + ?Sized> Frontend for Box<F> {
    fn connect(&mut self) -> HostSide {
        (**self).connect()
    }

    fn started(&mut self, handle: &Handle) {
        (**self).started(handle);
    }

    fn restart(&mut self) -> bool {
        (**self).restart()
    }
}

/// The log of the console that viewers see.
pub const MAIN_LOG: &str = "console.log";
/// The log of the UART where that is not the console.
pub const UART_LOG: &str = "uart.log";
/// The log of the virtio console where that is not the console.
pub const VIRTIO_LOG: &str = "virtio.log";
