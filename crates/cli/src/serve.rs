//! The process of a VM that stays: it serves the control socket, in the foreground and in the background.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use tearless_bundle::Bundle;
use tearless_config::{ConsoleKind, PortProtocol};
use tearless_control::{Server, Socket, place};
use tearless_guest::Power;
use tearless_vm::{
    Console, Hardware, Keeper, Keyboard, LogFile, Place, Plug, Served, Service, guest, network, sandbox,
    sound, web,
};

use crate::{
    attendant::Attendant,
    display::{self, Viewing},
    run::Late,
    session::{self, Events, HeadlessSession, Session},
    store::Opened,
};

/// Where a VM in the background puts its own messages, in the bundle's folder for logs.
pub const VMM_LOG: &str = "vmm.log";
const VMM_LOG_LIMIT: u64 = 1 << 20;

/// What a VM in the background says on its standard output when its guest begins to run.
pub const UP: &str = "up";

/// How long whoever waits for the VM's end may take to be told.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// Drops what a VM of `hardware` does not need: it keeps its disks, and `own` to change. Returns what holds, for people, and
/// what to drop when the VM has ended. To be called before there are threads.
pub fn confine(hardware: &mut Hardware, own: &[&Path], late: &Late) -> Result<(String, Option<Place>)> {
    let mut prepared = network::Prepared::new(&late.network)?;
    let sound = sound::Prepared::new(&late.sound)?;
    let report = if late.confined {
        let mut rules = hardware.needs()?;
        rules.write.extend(own.iter().copied().chain(prepared.folder()).map(Path::to_path_buf));
        // What other networks need is open.
        let network = &late.network.config;
        rules.network |= network.auto_forward || network.mode.is_nat();
        sandbox::enter(&rules).to_string()
    } else {
        tracing::warn!("the VM is not confined, as you wish: what breaks out of it is you");
        "none, by --no-sandbox".to_owned()
    };
    let place = prepared.take_place();
    hardware.network = prepared.start()?;
    hardware.sound = sound.start()?;
    Ok((report, place))
}

/// Runs the VM `bundle`, whose lock is held until it has ended, with what its viewers type on.
pub fn run(
    (bundle, keyboard): (Opened, Keyboard),
    mut hardware: Hardware,
    events: &Events,
    session: Box<dyn Session>,
    late: &Late,
) -> Result<ExitCode> {
    let plug = Plug::default();
    let service = Service::new(&hardware, Console::new(keyboard), plug.clone());
    if let Some(hub) = &hardware.sockets {
        let hub = hub.clone();
        // The power button serves those that have no agent.
        service.ask_with(Arc::new(move |patience| {
            guest::ask(&hub, patience, |agent| agent.power(Power::Off)).is_ok()
        }));
    }
    // The lock is ours, so whatever socket there is belongs to a process that crashed.
    place::remove_stale(bundle.path());
    let path = place::for_new(bundle.path())?;
    let socket = Socket::bind(&path)?;
    let logs = bundle.logs();
    fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let state = bundle.bundle().state();
    fs::create_dir_all(&state).with_context(|| format!("cannot make {}", state.display()))?;
    if !late.ephemeral {
        let bundle = bundle.bundle();
        let (saving, saved, taking, taken) =
            (bundle.saving(), bundle.saved(), bundle.taking(), bundle.taken());
        service.keep_with(Keeper::new([&saving, &saved], [&taking, &taken]));
    }
    // Of its own folder it changes disks, logs and its state only: who can change `config.json` can have any file next time.
    let own = [logs.as_path(), state.as_path(), path.parent().unwrap_or(&path)];
    let viewing = prepare_viewing(bundle.bundle(), late, &service)?;
    let (sandbox, _place) = confine(&mut hardware, &own, late)?;
    service.set_sandbox(sandbox);
    if let Some(network) = &hardware.network {
        service.set_network(network);
    }
    let network = &late.network.config;
    if network.auto_forward {
        let forwarded = network.forwards.iter().filter(|f| f.protocol == PortProtocol::Tcp).map(|f| f.guest);
        service.forward_listening(forwarded.collect()).context("cannot start a thread")?;
    }
    if let Some(url) =
        viewing.start(hardware.display.as_ref(), bundle.bundle().name(), Some(Arc::new(service.clone())))?
    {
        display::say_where(&url);
        service.set_display_at(url);
    }
    let server = Server::start(socket, Arc::new(service.clone()))?;
    if LOG.get().is_some() {
        events.stop_gracefully(service.clone());
    }
    let session = Served::new(session, service.clone(), bundle.config.console, &logs);
    let ended = |outcome| service.ended(outcome);
    let result = session::run_with(hardware, events, Box::new(session), plug, ended);
    // It may have failed before it began to run.
    service.ended(None);
    server.drain(FAREWELL);
    result
}

/// How the screen of `bundle` is to be seen. A page is that of the last run, if it still stands, and has somebody who attends to
/// it, unless nothing of this run is kept.
fn prepare_viewing(bundle: &Bundle, late: &Late, service: &Service) -> Result<Viewing> {
    let is_there = |page: &web::Place| {
        page.listener.local_addr().is_ok_and(|at| display::is_page_place(&late.display, at))
    };
    let (attendant, page) = Attendant::find(bundle).unzip();
    let page = page.filter(is_there);
    let (kept, dismissed) = match attendant {
        Some(attendant) if page.is_some() && !late.ephemeral => (Some(attendant), None),
        other => (None, other),
    };
    dismissed.into_iter().for_each(Attendant::dismiss);
    let viewing = Viewing::prepare(&late.display, bundle.name(), page)?;
    if let Viewing::Web(page) = &viewing
        && !late.ephemeral
    {
        let attendant = kept.map_or_else(|| Attendant::start(bundle, page), Ok)?;
        service.snapshot_with(attendant.into_snapshots());
    }
    Ok(viewing)
}

/// The session of `bundle` in the background.
pub fn headless(
    bundle: &Opened,
    console: ConsoleKind,
    events: &Events,
    keyboard: &Keyboard,
) -> Box<dyn Session> {
    let logs = bundle.logs();
    Box::new(HeadlessSession::new(console.into(), keyboard.clone(), events.clone(), move || {
        if let Err(error) = leave_parent(&logs) {
            tracing::warn!(%error, "cannot switch to the log file");
        }
    }))
}

/// Begins the life of a process in the background: no terminal, no controlling process.
pub fn detach() -> Result<()> {
    LOG.get_or_init(Mutex::default);
    rustix::process::setsid().context("cannot start a session of its own")?;
    Ok(())
}

/// Tells who started this process that the VM is up, and lets go of the streams that lead there.
pub fn leave_parent(logs: &Path) -> io::Result<()> {
    fs::create_dir_all(logs)?;
    let path = logs.join(VMM_LOG);
    let log = LogFile::open(&path, VMM_LOG_LIMIT)?;
    if let Some(slot) = LOG.get() {
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(log);
    }
    let mut stdout = io::stdout();
    // Whoever started us may have gone: then nobody waits.
    let _ = writeln!(stdout, "{UP}").and_then(|()| stdout.flush());
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    // For what does not go through the log: the last words of a panic, the final error.
    rustix::stdio::dup2_stderr(OpenOptions::new().append(true).open(&path)?)?;
    Ok(())
}

/// Whether this process is a VM in the background.
pub fn is_detached() -> bool {
    LOG.get().is_some()
}

/// Set in the background; holds the log file once the VM is up.
static LOG: std::sync::OnceLock<Mutex<Option<LogFile>>> = std::sync::OnceLock::new();

/// Where messages go: standard error, or the log file of a VM in the background.
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(log) = LOG.get()
            && let Some(log) = &mut *log.lock().unwrap_or_else(PoisonError::into_inner)
        {
            return log.write(bytes);
        }
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log `name` in the folder `logs` and what was rotated away of it, the older one first.
pub fn log_files(logs: &Path, name: &str) -> [PathBuf; 2] {
    [logs.join(format!("{name}.1")), logs.join(name)]
}
