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
use tearless_vz::{
    Machine as Described, Object, Platform, Stream,
    framework::{self, Event, Failure, Machine, RestoreImage, Streams},
    plan, start_options,
    window::{self, Look, Wish},
};

use crate::{
    Network,
    datagrams::plug,
    whole::{Backend, Ended, Start, Wanted},
};

pub use tearless_vz::framework::RestoreImage as Ipsw;

/// A VM that has been built.
pub struct Built {
    machine: Machine,
    events: Receiver<Event>,
    console: Option<UnixStream>,
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
    Ok(Built { machine, events, console })
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
            Start::Recovery => machine.start(start_options(true).as_ref()),
            Start::From(file) => machine.restore(file).and_then(|()| machine.resume()),
        };
        started.map_err(|e| e.to_string())
    }

    /// What steers it.
    pub fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(Whole(self.machine.clone()))
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

struct Whole(Machine);

fn text(result: Result<(), Failure>) -> Result<(), String> {
    result.map_err(|failure| failure.to_string())
}

impl Backend for Whole {
    fn pause(&self) -> Result<(), String> {
        text(self.0.pause())
    }

    fn resume(&self) -> Result<(), String> {
        text(self.0.resume())
    }

    fn press_power(&self) -> Result<(), String> {
        text(self.0.request_stop())
    }

    fn kill(&self) -> Result<(), String> {
        text(self.0.stop())
    }

    fn save(&self, to: &Path) -> Result<(), String> {
        text(self.0.save(to))
    }

    fn connect(&self, port: u32) -> Result<std::os::fd::OwnedFd, String> {
        self.0.connect(port).map_err(|failure| failure.to_string())
    }

    fn set_memory(&self, bytes: u64) {
        self.0.set_memory(bytes);
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
