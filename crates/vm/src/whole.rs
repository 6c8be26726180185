//! VMs that somebody else builds and runs as a whole, as Apple's framework does: what is left to do is to describe, steer
//! and watch them.

use std::{
    io::{self, Read as _},
    net::IpAddr,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tearless_bus::{CharInput, CharSink};
use tearless_config::{ByteSize, MIN_MEMORY, VmConfig};
use tearless_control::{Answer, Control, Phase, Reply, Request, State, StopOutcome};
use tearless_guest::{AGENT_PORT, Agent, Power};

use crate::{Console, display::screenshot, network};

/// How often a guest is asked to shut down: while it boots it may miss it.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How often it is looked whether the VM has ended meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// What is read from a console at a time.
const CHUNK: usize = 16 << 10;

/// What a VM can be told. Whatever takes its time is waited for. Errors have three parts: what failed, why, what to do.
pub trait Backend: Send + Sync {
    /// Has the vCPUs stand still.
    ///
    /// # Errors
    /// Why they do not.
    fn pause(&self) -> Result<(), String>;

    /// Lets them go on.
    ///
    /// # Errors
    /// Why they do not.
    fn resume(&self) -> Result<(), String>;

    /// Presses the power button.
    ///
    /// # Errors
    /// When there is none, or the VM does not run.
    fn press_power(&self) -> Result<(), String>;

    /// Ends the VM at once.
    ///
    /// # Errors
    /// When it does not run.
    fn kill(&self) -> Result<(), String>;

    /// Writes the state of the VM, which stands still, to the file `to`.
    ///
    /// # Errors
    /// Why that cannot be; the VM is as before.
    fn save(&self, to: &Path) -> Result<(), String>;

    /// Connects to a port that somebody in the guest listens at.
    ///
    /// # Errors
    /// When nobody does.
    fn connect(&self, port: u32) -> Result<OwnedFd, String>;

    /// Has the guest make do with `bytes` of memory.
    fn set_memory(&self, bytes: u64);

    /// A PNG file of the screen, or why there is none; nothing for a VM whose console is what is to be seen.
    fn picture(&self) -> Option<Result<Vec<u8>, String>>;
}

/// What a VM is, for the framework.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// What it is made of. Its kernel and RAM disk are as the framework takes them.
    pub config: &'a VmConfig,
    /// The bundle's folder.
    pub folder: &'a Path,
    /// Which virtual Mac it is: the files `HardwareModel` and `MachineIdentifier`.
    pub platform: Option<(&'a [u8], &'a [u8])>,
    /// Which other VM it is: the file `MachineIdentifier`.
    pub identifier: Option<&'a [u8]>,
    /// The kernel command line.
    pub cmdline: &'a str,
    /// Its network, where Tearless makes that.
    pub network: &'a network::Wanted,
}

/// The user that macOS makes when it first starts, instead of asking (macOS 27).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstUser {
    /// The account's name, and what the user is called.
    pub name: String,
    /// The password.
    pub password: String,
    /// Whether the user is logged in whenever macOS starts.
    pub logs_in: bool,
}

/// How a VM starts.
#[derive(Clone, Copy)]
pub enum Start<'a> {
    /// As it is switched on.
    On,
    /// Into macOS' Recovery.
    Recovery,
    /// As macOS starts for the first time after its installation, with a user.
    First(&'a FirstUser),
    /// From what was saved to this file.
    From(&'a Path),
}

/// Where a VM that is suspended is kept, with the name of the state's own file.
#[derive(Clone, Debug)]
pub struct StatePlace {
    /// The folder while it is written.
    pub saving: PathBuf,
    /// The folder then.
    pub saved: PathBuf,
}

impl StatePlace {
    /// The file in the folder of a saved state.
    pub fn file(folder: &Path) -> PathBuf {
        folder.join("Machine.vzvmsave")
    }
}

/// What is known of a VM that does not change.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What runs it.
    pub engine: String,
    /// How many vCPUs.
    pub cpus: u32,
    /// How much memory, in bytes.
    pub memory: u64,
    /// Whether somebody in the guest may listen to [`Agent`]s.
    pub has_agent: bool,
    /// Where its state is kept; `None` when it cannot be.
    pub state: Option<StatePlace>,
}

/// How a VM ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its guest shut down.
    Guest,
    /// Somebody pulled the plug.
    Killed,
    /// It was saved.
    Suspended,
    /// It broke.
    Failed(String),
}

#[derive(Default)]
struct Now {
    paused: bool,
    stopping: bool,
    saving: bool,
    ended: Option<Ended>,
    addresses: Vec<IpAddr>,
    display_at: Option<String>,
}

struct Inner {
    backend: Arc<dyn Backend>,
    facts: Facts,
    console: Console,
    begun: Instant,
    now: Mutex<Now>,
    changed: Condvar,
}

/// Answers for one VM. Clones share.
#[derive(Clone)]
pub struct WholeService(Arc<Inner>);

impl WholeService {
    /// The service of the VM of `backend`, which runs.
    pub fn new(backend: Arc<dyn Backend>, facts: Facts, console: Console) -> Self {
        let (begun, now) = (Instant::now(), Mutex::default());
        Self(Arc::new(Inner { backend, facts, console, begun, now, changed: Condvar::new() }))
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the screen can be seen, for people.
    pub fn set_display_at(&self, place: String) {
        self.now().display_at = Some(place);
    }

    /// The VM has ended; what is said first holds.
    pub fn ended(&self, how: Ended) {
        self.now().ended.get_or_insert(how);
        self.0.changed.notify_all();
        self.0.console.finish();
    }

    /// Waits for its end.
    pub fn wait(&self) -> Ended {
        loop {
            if let Some(ended) = self.wait_for(LOOK_AGAIN) {
                return ended;
            }
        }
    }

    fn wait_for(&self, limit: Duration) -> Option<Ended> {
        let woken = self.0.changed.wait_timeout_while(self.now(), limit, |now| now.ended.is_none());
        woken.unwrap_or_else(PoisonError::into_inner).0.ended.clone()
    }

    /// How the VM is.
    pub fn state(&self) -> State {
        let now = self.now();
        let phase = match &*now {
            Now { ended: Some(_), .. } | Now { stopping: true, .. } => Phase::Stopping,
            Now { saving: true, .. } => Phase::Saving,
            Now { paused: true, .. } => Phase::Paused,
            _ => Phase::Running,
        };
        State {
            phase,
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            engine: self.0.facts.engine.clone(),
            cpus: self.0.facts.cpus,
            memory: self.0.facts.memory,
            balloon: None,
            addresses: now.addresses.clone(),
            forwards: Vec::new(),
            resets: 0,
            sandbox: "that of the framework: it runs the guest in a process of its own".into(),
            display: now.display_at.clone(),
        }
    }

    fn agent(&self) -> Agent {
        let backend = Arc::clone(&self.0.backend);
        Agent::new(move || backend.connect(AGENT_PORT).map(UnixStream::from).map_err(io::Error::other))
    }

    /// Asks the guest to shut down; returns whether somebody heard it.
    fn ask(&self) -> bool {
        let asked = self.0.facts.has_agent && self.agent().power(Power::Off).is_ok();
        asked || self.0.backend.press_power().inspect_err(|why| tracing::debug!(why)).is_ok()
    }

    /// Asks the guest to shut down, and pulls the plug when it has not within `limit`. Returns when the VM has ended.
    pub fn stop(&self, limit: Duration) -> StopOutcome {
        let deadline = Instant::now() + limit;
        self.now().stopping = true;
        // A guest that stands still hears nothing.
        drop(self.resume());
        let (mut heard, mut asked) = (false, None::<Instant>);
        while Instant::now() < deadline {
            if asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN) {
                // An agent may take as long as it likes: nobody waits for it here.
                let (service, told) = (self.clone(), Arc::new(Mutex::new(false)));
                let tell = Arc::clone(&told);
                let asking = thread::spawn(move || {
                    *tell.lock().unwrap_or_else(PoisonError::into_inner) = service.ask();
                });
                asked = Some(Instant::now());
                let patience = deadline.min(Instant::now() + ASK_AGAIN);
                while !asking.is_finished()
                    && Instant::now() < patience
                    && self.wait_for(LOOK_AGAIN).is_none()
                {}
                heard |= *told.lock().unwrap_or_else(PoisonError::into_inner);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.wait_for(left.min(LOOK_AGAIN)) {
                Some(Ended::Guest) => return StopOutcome::Guest,
                Some(_) => return StopOutcome::Killed,
                None => {}
            }
        }
        self.kill();
        if heard { StopOutcome::Forced } else { StopOutcome::Unheard }
    }

    /// Pulls the plug.
    pub fn kill(&self) -> StopOutcome {
        self.now().stopping = true;
        if let Err(why) = self.0.backend.kill() {
            tracing::warn!(why, "the VM does not end by itself: its process does");
        }
        self.ended(Ended::Killed);
        StopOutcome::Killed
    }

    fn pause(&self) -> Result<(), String> {
        let mut now = self.now();
        if now.stopping || now.saving || now.ended.is_some() {
            return Err(
                "cannot pause the VM\n  because: it is being stopped or saved\n  try: in a moment".into()
            );
        }
        if !now.paused {
            self.0.backend.pause()?;
            now.paused = true;
        }
        Ok(())
    }

    fn resume(&self) -> Result<(), String> {
        let mut now = self.now();
        if now.paused && !now.saving {
            self.0.backend.resume()?;
            now.paused = false;
        }
        Ok(())
    }

    /// Saves the VM and ends it. Returns how large its state is.
    ///
    /// # Errors
    /// Why that cannot be, in three parts; the VM goes on as it was.
    pub fn suspend(&self) -> Result<u64, String> {
        let refuse =
            |why: &str, advice: &str| format!("cannot suspend the VM\n  because: {why}\n  try: {advice}");
        let place = self.0.facts.state.as_ref().ok_or_else(|| {
            refuse(
                "what its guest writes to its disks is thrown away when it ends",
                "run it without --ephemeral",
            )
        })?;
        let was_paused = {
            let mut now = self.now();
            if now.stopping || now.saving || now.ended.is_some() {
                return Err(refuse("it is being stopped or saved", "in a moment"));
            }
            now.saving = true;
            now.paused
        };
        let saved = self.save(place, was_paused);
        match saved {
            Ok(bytes) => {
                self.now().stopping = true;
                self.now().ended.get_or_insert(Ended::Suspended);
                drop(self.0.backend.kill());
                self.ended(Ended::Suspended);
                Ok(bytes)
            }
            Err(why) => {
                self.now().saving = false;
                if !was_paused {
                    drop(self.0.backend.resume());
                }
                Err(why)
            }
        }
    }

    fn save(&self, place: &StatePlace, was_paused: bool) -> Result<u64, String> {
        let failed = |e: io::Error| {
            format!(
                "cannot suspend the VM\n  because: {e}\n  try: make room on the disk that holds it; the VM goes on"
            )
        };
        if !was_paused {
            self.0.backend.pause()?;
        }
        let _ = std::fs::remove_dir_all(&place.saving);
        std::fs::create_dir_all(&place.saving).map_err(failed)?;
        let file = StatePlace::file(&place.saving);
        self.0.backend.save(&file)?;
        let bytes = std::fs::metadata(&file).map_err(failed)?.len();
        tearless_state::mark_foreign(&place.saving, &self.0.facts.engine).map_err(failed)?;
        let _ = std::fs::remove_dir_all(&place.saved);
        std::fs::rename(&place.saving, &place.saved).map_err(failed)?;
        Ok(bytes)
    }

    fn set_balloon(&self, target: u64) -> Answer {
        let left = self.0.facts.memory.saturating_sub(target);
        if left < MIN_MEMORY.bytes() {
            return Answer::error(format!(
                "cannot make the balloon {} large\n  because: its guest needs at least {MIN_MEMORY}\n  try: less",
                ByteSize::new(target)
            ));
        }
        self.0.backend.set_memory(left);
        Answer::Reply(Reply::Done)
    }

    fn connect(&self, port: u32) -> Answer {
        match self.0.backend.connect(port).map(UnixStream::from) {
            Ok(guest) => Answer::Stream(Box::new(move |client| {
                if let Err(error) = splice(client, guest) {
                    tracing::debug!(port, %error, "lost a connection to the guest");
                }
            })),
            Err(why) => Answer::error(why),
        }
    }

    fn screenshot(&self) -> Answer {
        let console = || {
            screenshot(None, &self.0.console.last()).map_err(|error| {
                format!("cannot take a screenshot\n  because: {error}\n  try: tearless console")
            })
        };
        match self.0.backend.picture().unwrap_or_else(console) {
            Ok(file) => Answer::Stream(Box::new(move |mut stream| {
                // Whoever asked may have gone.
                let _ = io::Write::write_all(&mut stream, &file);
            })),
            Err(why) => Answer::error(why),
        }
    }
}

impl Control for WholeService {
    fn answer(&self, request: Request) -> Answer {
        let done =
            |result: Result<(), String>| result.map_or_else(Answer::error, |()| Answer::Reply(Reply::Done));
        match request {
            Request::State => Answer::Reply(Reply::State(self.state())),
            Request::Stop { timeout_ms } => {
                Answer::Reply(Reply::Stopped { how: self.stop(Duration::from_millis(timeout_ms)) })
            }
            Request::Kill => Answer::Reply(Reply::Stopped { how: self.kill() }),
            Request::Pause => done(self.pause()),
            Request::Resume => done(self.resume()),
            Request::Suspend => {
                let service = self.clone();
                Answer::Stream(Box::new(move |mut client| {
                    let reply = match service.suspend() {
                        Ok(bytes) => Reply::Suspended { bytes },
                        Err(message) => Reply::Error { message },
                    };
                    // Whoever asked may have gone.
                    drop(tearless_control::tell(&mut client, &reply));
                }))
            }
            Request::Snapshot { .. } => Answer::error(
                "cannot take a snapshot of the VM while it runs\n  because: the framework holds its disks\n  try: stop it first, or \
                 suspend it to keep its memory",
            ),
            // The framework's console has no size that could be told.
            Request::Resize { .. } => Answer::Reply(Reply::Done),
            Request::Console => {
                let console = self.0.console.clone();
                Answer::Stream(Box::new(move |stream| console.attach(stream)))
            }
            Request::Balloon { target } => self.set_balloon(target),
            Request::GrowDisk { path, .. } => Answer::error(format!(
                "cannot make disk {} larger\n  because: the framework has no call for disks that are in use\n  try: again \
                 when the VM is stopped",
                path.display()
            )),
            Request::Screenshot => self.screenshot(),
            Request::Screen => Answer::error(
                "cannot show the screen here\n  because: Apple's framework shows it in a window of its own only\n  try: `tearless set \
                 NAME --display window`, and restart it",
            ),
            Request::GuestConnect { port } => self.connect(port),
        }
    }
}

/// Passes on what either side sends until both have ended.
fn splice(client: UnixStream, guest: UnixStream) -> io::Result<()> {
    let (from_client, mut to_guest) = (client.try_clone()?, guest.try_clone()?);
    let up = thread::Builder::new().name("to-guest".into()).spawn(move || {
        let result = io::copy(&mut &from_client, &mut to_guest);
        let _ = to_guest.shutdown(std::net::Shutdown::Write);
        result
    })?;
    let down = io::copy(&mut &guest, &mut &client);
    let _ = client.shutdown(std::net::Shutdown::Write);
    // Its error is the other side's end.
    drop(up.join());
    down.map(drop)
}

/// Types into the host's end of a console.
pub struct StreamInput(UnixStream);

impl StreamInput {
    /// Types into `stream`.
    pub fn new(stream: UnixStream) -> Self {
        Self(stream)
    }
}

impl CharInput for StreamInput {
    fn push(&self, bytes: &[u8]) -> usize {
        // When the VM has ended nobody reads any more, and what is typed is lost with it.
        let _ = io::Write::write_all(&mut &self.0, bytes);
        bytes.len()
    }

    fn on_space(&self, _: Box<dyn Fn() + Send + Sync>) {
        // It takes all that it is given, and waits for the guest meanwhile.
    }
}

/// Gives `sink` what a console says, until it ends.
pub fn listen(mut stream: UnixStream, mut sink: Box<dyn CharSink>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => sink.put(buffer.get(..read).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return tracing::debug!(%error, "lost the console"),
        }
    }
}

#[cfg(test)]
mod tests;
