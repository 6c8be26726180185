//! VMs of Apple's Virtualization framework.

use std::{
    io,
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender},
    },
};

use tearless_config::{DisplayKind, ScreenMode, VmConfig};
use tearless_display::Size;
use tearless_vz::{
    self as vz, MacStart, Machine as Described, Object, Platform, Stream,
    framework::{self, Event, Failure, Machine, RestoreImage, Streams},
    plan,
    screen::{self, Picture},
    start_options,
    window::{self, Look, Wish},
};

use crate::{
    Network,
    datagrams::plug,
    whole::{Backend, Ended, FirstUser, Start, Wanted},
};

pub use tearless_vz::framework::RestoreImage as Ipsw;

/// The first macOS whose users are made before it asks, as a host and as a guest.
const FIRST_USER: u32 = 27;

/// A VM that has been built.
pub struct Built {
    machine: Machine,
    events: Receiver<Event>,
    console: Option<UnixStream>,
    is_mac: bool,
}

/// Why the framework cannot be used here; `None` when it can.
pub fn missing() -> Option<String> {
    if !cfg!(target_arch = "aarch64") {
        return Some("ARM64 guests need a Mac with Apple silicon; this one has an Intel processor".into());
    }
    framework::missing()
}

fn planned(wanted: &Wanted<'_>) -> Result<Object, String> {
    let described = Described {
        config: wanted.config,
        folder: wanted.folder,
        platform: wanted.platform.map(|(model, identifier)| Platform { model, identifier }),
        identifier: wanted.identifier.filter(|data| !data.is_empty()),
        cmdline: wanted.cmdline,
    };
    plan(&described, &framework::host()).map_err(|refusal| refusal.to_string())
}

/// Why the framework cannot run that VM; `None` when it can as far as can be told beforehand.
pub fn refusal(wanted: &Wanted<'_>) -> Option<String> {
    planned(wanted).err()
}

/// What the framework is told of the VM, for people.
///
/// # Errors
/// What it would refuse.
pub fn describe(wanted: &Wanted<'_>) -> Result<String, String> {
    planned(wanted).map(|plan| plan.to_string())
}

/// Builds the VM.
///
/// # Errors
/// What the framework refuses, in three parts.
pub fn build(wanted: &Wanted<'_>) -> Result<Built, String> {
    let plan = planned(wanted)?;
    let host = |e: io::Error| format!("cannot build the VM\n  because: {e}\n  try: close other programs");
    let mut streams = Streams::default();
    let mut console = None;
    if plan.uses(Stream::ConsoleInput) {
        let (ours, theirs) = UnixStream::pair().map_err(host)?;
        streams.console_input = Some(theirs.try_clone().map_err(host)?.into());
        streams.console_output = Some(theirs.into());
        console = Some(ours);
    }
    if plan.uses(Stream::Network) {
        let network = Network::open(wanted.network).map_err(|e| e.to_string())?;
        let socket =
            network.map(|network| plug(network.endpoint(), network.mac())).transpose().map_err(host)?;
        streams.network = socket.map(Into::into);
    }
    let (machine, events) = Machine::new(&plan, streams).map_err(|e| e.to_string())?;
    Ok(Built { machine, events, console, is_mac: wanted.platform.is_some() })
}

impl Built {
    /// Starts it.
    ///
    /// # Errors
    /// What the framework says.
    pub fn start(&self, how: Start<'_>) -> Result<(), String> {
        let machine = &self.machine;
        let started = match how {
            Start::On => machine.start(None),
            Start::Recovery => machine.start(Some(&start_options(MacStart::Recovery))),
            Start::First(FirstUser { name, password, logs_in }) => {
                let (full_name, logs_in, remote_login) = (name, *logs_in, true);
                let user = vz::FirstUser { full_name, name, password, logs_in, remote_login };
                machine.start(Some(&start_options(MacStart::First(user))))
            }
            Start::From(file) => machine.restore(file).and_then(|()| machine.resume()),
        };
        started.map_err(|e| e.to_string())
    }

    /// What steers it.
    pub fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(Whole { machine: self.machine.clone(), is_mac: self.is_mac })
    }

    /// The host's end of its console, once.
    pub fn take_console(&mut self) -> Option<UnixStream> {
        self.console.take()
    }

    /// Waits until it ends by itself; of what else happens, `warn` hears.
    pub fn wait(self, warn: impl Fn(&str)) -> Ended {
        loop {
            match self.events.recv() {
                Ok(Event::Stopped) => return Ended::Guest,
                Ok(Event::Failed(failure)) => return Ended::Failed(failure.to_string()),
                Ok(Event::NetworkLost(failure)) => warn(&failure.to_string()),
                Err(_) => return Ended::Killed,
            }
        }
    }

    /// What shows it in a window.
    pub fn view(&self) -> View {
        View(self.machine.clone())
    }

    /// Installs macOS from the IPSW at `from`; `progress` hears how much is done, from 0 to 1.
    ///
    /// # Errors
    /// What the installer says.
    pub fn install(&self, from: &Path, progress: impl FnMut(f64)) -> Result<(), String> {
        self.machine.install(from, progress).map_err(|e| e.to_string())
    }
}

/// A VM that can be shown.
pub struct View(Machine);

impl View {
    /// Shows it until the process ends. To be called on the main thread. `closed` is told each time its user wants it closed.
    ///
    /// # Errors
    /// When that is another thread.
    pub fn show(&self, title: &str, mode: ScreenMode, closed: Sender<()>) -> Result<(), String> {
        let (wishes, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            while let Ok(Wish::Close) = heard.recv() {
                if closed.send(()).is_err() {
                    return;
                }
            }
        });
        let points = |pixels: u32| f64::from(pixels) / f64::from(mode.scale.max(1));
        let size = (points(mode.width), points(mode.height));
        let look = Look { title: title.into(), size, system_keys: true };
        window::show(&self.0, &look, wishes).map_err(|e| e.to_string())
    }
}

/// Whether the VM is to have a window.
pub fn has_window(config: &VmConfig) -> bool {
    config.display.kind == DisplayKind::Window
}

struct Whole {
    machine: Machine,
    is_mac: bool,
}

fn text(result: Result<(), Failure>) -> Result<(), String> {
    result.map_err(|failure| failure.to_string())
}

impl Backend for Whole {
    fn pause(&self) -> Result<(), String> {
        text(self.machine.pause())
    }

    fn resume(&self) -> Result<(), String> {
        text(self.machine.resume())
    }

    fn press_power(&self) -> Result<(), String> {
        text(self.machine.request_stop())
    }

    fn kill(&self) -> Result<(), String> {
        text(self.machine.stop())
    }

    fn save(&self, to: &Path) -> Result<(), String> {
        text(self.machine.save(to))
    }

    fn connect(&self, port: u32) -> Result<std::os::fd::OwnedFd, String> {
        self.machine.connect(port).map_err(|failure| failure.to_string())
    }

    fn picture(&self) -> Option<Result<Vec<u8>, String>> {
        // Others say something on their console.
        let wanted = self.is_mac || screen::is_shown();
        let picture = wanted.then(screen::picture)?.map_err(|failure| failure.to_string());
        Some(picture.and_then(|Picture { width, height, pixels }| {
            tearless_display::png(Size::new(width, height), &pixels).map_err(|e| e.to_string())
        }))
    }

    fn set_memory(&self, bytes: u64) {
        self.machine.set_memory(bytes);
    }
}

/// Has the framework look at an IPSW.
///
/// # Errors
/// When it is none, or this host cannot run what it installs.
pub fn load_ipsw(path: &Path) -> Result<Ipsw, String> {
    RestoreImage::load(path).map_err(|e| e.to_string())
}

/// Makes the auxiliary storage of a new virtual Mac.
///
/// # Errors
/// When the framework does not know the model, or the host refuses the file.
pub fn create_auxiliary_storage(path: &Path, model: &[u8]) -> Result<(), String> {
    text(framework::create_auxiliary_storage(path, model))
}

/// A new identity for a VM that is no virtual Mac.
pub fn new_identifier() -> Vec<u8> {
    framework::new_identifier()
}

/// Why this host cannot have macOS of version `guest` make a user at its first start; `None` when it can.
pub fn first_user_missing(guest: &str) -> Option<String> {
    let (major, minor) = framework::host().macos;
    if major < FIRST_USER {
        return Some(format!("the host needs macOS {FIRST_USER} for that; this is {major}.{minor}"));
    }
    let version = guest.split('.').next().and_then(|major| major.parse::<u32>().ok());
    let known = version.is_some_and(|major| major >= FIRST_USER);
    (!known).then(|| format!("macOS {FIRST_USER} is the first that does that as a guest; this is {guest}"))
}

/// How many of the host's CPUs are performance cores, where it tells.
pub fn performance_cores() -> Option<u32> {
    static COUNT: Mutex<Option<Option<u32>>> = Mutex::new(None);
    let mut count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
    *count.get_or_insert_with(|| {
        let output =
            Command::new("/usr/sbin/sysctl").args(["-n", "hw.perflevel0.logicalcpu"]).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    })
}
