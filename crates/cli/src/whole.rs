//! VMs that Apple's framework builds and runs: what `run` and `start` do with them, and how macOS is installed.

use std::{
    fs, io,
    path::Path,
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, Error, Result, anyhow, bail};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use tearless_bundle::{
    Store,
    mac::{AUXILIARY_FILE, HardwareModel, IDENTIFIER_FILE, MachineIdentifier, Platform},
};
use tearless_config::{BootConfig, ByteSize, DiskConfig, DisplayKind, EngineChoice, VmConfig};
use tearless_control::{Server, Socket, place};
use tearless_image::Progress as _;
use tearless_vm::{
    Console, Keyboard, LinuxPayload, LogFile, MAIN_LOG, Payload,
    apple::{self, Built},
    engines, host, network, open_shares,
    whole::{Ended, Facts, Start, StatePlace, StreamInput, Wanted, WholeService, listen},
};

use crate::{
    args::{CreateArgs, Ecid, RunArgs},
    disks::make_disk,
    ephemeral::{self, Copies},
    first, ipsw, mac,
    out::say,
    progress::Bars,
    qos, run, serve, share,
    store::Opened,
    terminal::{self, EscapeFilter, RawMode},
};

/// What the kernel and RAM disk are unpacked to: the framework takes an uncompressed kernel only.
const KERNEL: &str = "vz-kernel";
const INITRD: &str = "vz-initrd";
/// What a guest may log of its console.
const CONSOLE_LOG: u64 = 4 << 20;
/// How long a guest may take to shut down after a signal.
const SIGNAL_PATIENCE: Duration = Duration::from_secs(30);
/// The size of a virtual Mac, unless told otherwise.
const MAC_DISK: ByteSize = ByteSize::gib(64);
const MAC_MEMORY: ByteSize = ByteSize::gib(8);
const MAC_CPUS: u32 = 4;
/// The steps of an installation's progress.
const STEPS: u64 = 1000;

/// Why the framework cannot do what `args` want.
fn impossible(args: &RunArgs, advice: &str) -> Option<Error> {
    let (_, what) = [
        (args.lockstep, "--lockstep: run it beside the interpreter"),
        (args.dump_dtb.is_some(), "--dump-dtb: write the device tree"),
    ]
    .into_iter()
    .find(|(wanted, _)| *wanted)?;
    Some(anyhow!(
        "cannot do what is asked by {what}\n  because: Apple's framework has no such thing\n  try: {advice}"
    ))
}

/// Whether `bundle` is to be run by Apple's framework.
pub fn suits(bundle: &Opened, config: &VmConfig, args: &RunArgs) -> Result<bool> {
    if config.boot.is_mac() {
        return match apple::missing() {
            None => impossible(args, "without it").map_or(Ok(true), Err),
            Some(_) => bail!(mac::refusal(&format!("run {}", bundle.bundle().name()))),
        };
    }
    let engine = engines::choose(config.engine).map_err(Error::msg)?;
    if engine != EngineChoice::Vz {
        return Ok(false);
    }
    let asked = config.engine == EngineChoice::Vz;
    if let Some(error) = impossible(args, "--engine soft, or without it") {
        return if asked { Err(error) } else { Ok(false) };
    }
    // What is suspended goes on where it was saved.
    if let Some(folder) = bundle.bundle().suspended() {
        return Ok(asked || StatePlace::file(folder.path()).exists());
    }
    let network = run::network_of(config, Some(bundle.path()));
    let wanted = Wanted {
        config,
        folder: bundle.path(),
        platform: None,
        identifier: None,
        cmdline: "",
        network: &network,
    };
    // Whoever did not ask for the framework gets an engine that can do it.
    Ok(asked || apple::refusal(&wanted).is_none())
}

/// The files and words that tell the framework what `bundle` is.
struct Described {
    config: VmConfig,
    platform: Option<Platform>,
    identifier: Option<Vec<u8>>,
    cmdline: String,
}

impl Described {
    fn new(bundle: &Opened, mut config: VmConfig, args: &RunArgs) -> Result<Self> {
        // What is saved goes on only with the card that it had.
        config
            .network
            .mac
            .get_or_insert_with(|| network::derived_mac(bundle.path().as_os_str().as_encoded_bytes()));
        let shares = open_shares(&config.shares)?;
        let mut described = Self { platform: None, identifier: None, cmdline: String::new(), config };
        if described.config.boot.is_mac() {
            described.platform = Some(bundle.bundle().platform()?);
            return Ok(described);
        }
        described.identifier = Some(identifier(bundle.path())?);
        if let Payload::Linux(linux) = run::bundle_payload(bundle, &described.config, &shares, args)? {
            described.cmdline.clone_from(&linux.cmdline);
            described.config.boot = unpack(&linux, &bundle.bundle().state())?;
        }
        Ok(described)
    }

    fn wanted<'a>(&'a self, folder: &'a Path, network: &'a network::Wanted) -> Wanted<'a> {
        Wanted {
            config: &self.config,
            folder,
            platform: self.platform.as_ref().map(|p| (p.model.data(), p.identifier.data())),
            identifier: self.identifier.as_deref(),
            cmdline: &self.cmdline,
            network,
        }
    }
}

/// Which VM the one in `folder` is, from its first run on.
fn identifier(folder: &Path) -> Result<Vec<u8>> {
    let path = folder.join(IDENTIFIER_FILE);
    match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let new = apple::new_identifier();
            fs::write(&path, &new).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(new)
        }
        read => read.with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes the kernel and RAM disk into `folder` as the framework takes them.
fn unpack(linux: &LinuxPayload, folder: &Path) -> Result<BootConfig> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        Ok::<_, Error>(path)
    };
    let kernel = linux.kernel.kernel_image()?;
    let Some(image) = kernel.image() else {
        bail!(
            "cannot boot this kernel with engine vz\n  because: the framework takes Linux Images only\n  try: --engine soft"
        );
    };
    let initrd = linux.initrd.read()?;
    Ok(BootConfig::LinuxKernel {
        kernel: write(KERNEL, image)?,
        initrd: (!initrd.is_empty()).then(|| write(INITRD, &initrd)).transpose()?,
        cmdline: String::new(),
    })
}

/// Runs `bundle`, whose lock is held until it has ended.
pub fn run(bundle: Opened, config: VmConfig, args: &RunArgs) -> Result<ExitCode> {
    qos::check_framework(&config.qos)?;
    let mut described = Described::new(&bundle, config, args)?;
    let network = run::network_of(&described.config, Some(bundle.path()));
    if args.print_plan {
        let wanted = described.wanted(bundle.path(), &network);
        crate::out::print(format_args!("{}", apple::describe(&wanted).map_err(Error::msg)?));
        return Ok(ExitCode::SUCCESS);
    }
    let saved = bundle.bundle().suspended();
    let saved = match saved {
        Some(folder) if args.state.discard_state => {
            folder.remove()?;
            None
        }
        saved => saved.map(|folder| StatePlace::file(folder.path())),
    };
    if args.ephemeral && saved.is_some() {
        bail!(
            "cannot throw away what the guest of {0} writes\n  because: it is suspended, and its disks have to become what they are when it goes \
             on\n  try: tearless resume {0}; or --discard-state, which boots it",
            bundle.bundle().name()
        );
    }
    ephemeral::clear(bundle.path())?;
    let copies = match args.ephemeral {
        false => None,
        true => {
            // Of the disks as they are: the copies' names do not tell.
            if let Some(why) = apple::refusal(&described.wanted(bundle.path(), &network)) {
                bail!(why);
            }
            Some(Copies::make(bundle.path(), &mut described.config)?)
        }
    };
    place::remove_stale(bundle.path());
    let socket = Socket::bind(&place::for_new(bundle.path())?)?;
    let wanted = described.wanted(bundle.path(), &network);
    let built = apple::build(&wanted).map_err(Error::msg)?;
    let user = first::find(bundle.bundle())?;
    let start = match (&saved, &user) {
        (Some(file), _) => Start::From(file),
        (None, _) if args.recovery => Start::Recovery,
        (None, Some(user)) => Start::First(user),
        (None, None) => Start::On,
    };
    built.start(start).map_err(Error::msg)?;
    // A VM that runs does not end for that: macOS looks at a user once only.
    if let (Start::First(_), None) = (start, &copies)
        && let Err(error) = first::forget(bundle.bundle())
    {
        tracing::warn!("{error:#}");
    }
    if saved.is_some() {
        // From here on the disks are others than those of the state.
        let folder = bundle.bundle().saved();
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Running::new((bundle, copies), &described.config, built, socket)?.finish()
}

/// A VM that runs, with all that watches it.
struct Running {
    bundle: Opened,
    copies: Option<Copies>,
    config: VmConfig,
    built: Built,
    service: WholeService,
    server: Server,
    signals: mpsc::Receiver<i32>,
}

impl Running {
    fn new(
        (bundle, copies): (Opened, Option<Copies>),
        config: &VmConfig,
        mut built: Built,
        socket: Socket,
    ) -> Result<Self> {
        let keyboard = Keyboard::default();
        let console = Console::new(keyboard.clone());
        let state = StatePlace { saving: bundle.bundle().saving(), saved: bundle.bundle().saved() };
        let facts = Facts {
            engine: EngineChoice::Vz.to_string(),
            cpus: config.cpus,
            memory: config.memory.bytes(),
            has_agent: !config.boot.is_mac(),
            state: copies.is_none().then_some(state),
        };
        let service = WholeService::new(built.backend(), facts, console.clone());
        if apple::has_window(config) {
            service.set_display_at("a window".into());
        }
        if let Some(stream) = built.take_console() {
            watch_console(&bundle, stream, &console, &keyboard)?;
            read_terminal(&keyboard, &service)?;
        }
        let signals = watch_signals(&service, !config.boot.is_mac() && !serve::is_detached())?;
        let server = Server::start(socket, Arc::new(service.clone()))?;
        if serve::is_detached() {
            serve::leave_parent(&bundle.logs()).context("cannot switch to the log file")?;
        }
        Ok(Self { bundle, copies, config: config.clone(), built, service, server, signals })
    }

    /// Runs it to its end. A window belongs to the main thread, which this is.
    fn finish(self) -> Result<ExitCode> {
        if !apple::has_window(&self.config) {
            return self.wait().map(ExitCode::from);
        }
        let (view, service) = (self.built.view(), self.service.clone());
        let (title, mode) = (self.bundle.bundle().name().to_owned(), self.config.display.mode);
        let (closed, closings) = mpsc::channel();
        thread::spawn(move || {
            while closings.recv().is_ok() {
                let service = service.clone();
                thread::spawn(move || service.stop(SIGNAL_PATIENCE));
            }
        });
        thread::spawn(move || {
            let status = self.wait().unwrap_or_else(|error| {
                eprintln!("tearless: {}", crate::explain(&error));
                1
            });
            terminal::restore();
            // AppKit has the main thread and does not give it back.
            std::process::exit(status.into());
        });
        view.show(&title, mode, closed).map_err(Error::msg)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Waits for the end. Returns the exit status.
    fn wait(self) -> Result<u8> {
        let Self { bundle, copies, built, service, server, signals, .. } = self;
        let heard = service.clone();
        thread::spawn(move || heard.ended(built.wait(|warning| tracing::warn!("{warning}"))));
        let ended = service.wait();
        server.drain(serve::FAREWELL);
        terminal::restore();
        // Before the lock: whoever gets that may make others.
        drop(copies);
        drop(bundle);
        match (ended, signals.try_recv()) {
            (Ended::Failed(why), _) => Err(anyhow!(why)),
            (Ended::Suspended, _) => {
                eprintln!("\ntearless: suspended; it goes on with: tearless resume, run or start");
                Ok(0)
            }
            (Ended::Killed, Ok(signal)) => Ok(128_u8.saturating_add(signal.try_into().unwrap_or(0))),
            (Ended::Killed | Ended::Guest, _) => Ok(0),
        }
    }
}

fn watch_console(
    bundle: &Opened,
    stream: std::os::unix::net::UnixStream,
    console: &Console,
    keyboard: &Keyboard,
) -> Result<()> {
    let logs = bundle.logs();
    fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let mut log =
        LogFile::open(&logs.join(MAIN_LOG), CONSOLE_LOG).context("cannot log the console")?.into_sink();
    keyboard.plug(Arc::new(StreamInput::new(stream.try_clone().context("cannot type into the console")?)));
    let shown = !serve::is_detached();
    let sink = console.tee(Box::new(move |bytes: &[u8]| {
        log.put(bytes);
        if shown {
            let mut stdout = io::stdout();
            // Whoever read it may have gone; the VM goes on.
            let _ = io::Write::write_all(&mut stdout, bytes).and_then(|()| io::Write::flush(&mut stdout));
        }
    }));
    thread::Builder::new()
        .name("console".into())
        .spawn(move || listen(stream, sink))
        .context("cannot start a thread")?;
    Ok(())
}

/// Passes on what is typed, in the foreground.
fn read_terminal(keyboard: &Keyboard, service: &WholeService) -> Result<()> {
    if serve::is_detached() {
        return Ok(());
    }
    let raw = RawMode::enter().context("cannot switch the terminal to raw mode")?;
    // It stays so until the process ends, which restores it.
    std::mem::forget(raw);
    let (keyboard, service) = (keyboard.clone(), service.clone());
    // Detached: it sits in a read that only the process' end interrupts.
    thread::spawn(move || {
        let (mut filter, mut buffer, mut keys) = (EscapeFilter::default(), [0; 4096], Vec::new());
        while let Ok(read @ 1..) = terminal::read_stdin(&mut buffer) {
            keys.clear();
            if filter.feed(buffer.get(..read).unwrap_or_default(), &mut keys) {
                eprintln!("\ntearless: left; the VM is off");
                service.kill();
                return;
            }
            keyboard.type_all(&keys);
        }
    });
    Ok(())
}

/// Has signals end the VM: at once, or by asking its guest first.
fn watch_signals(service: &WholeService, at_once: bool) -> Result<mpsc::Receiver<i32>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for signals")?;
    let (sender, receiver) = mpsc::channel();
    let service = service.clone();
    thread::spawn(move || {
        let mut seen = false;
        for signal in signals.forever() {
            // The terminal that a VM in the background was started from has gone.
            if signal == SIGHUP && serve::is_detached() {
                continue;
            }
            if at_once || std::mem::replace(&mut seen, true) {
                let _ = sender.send(signal);
                service.kill();
                continue;
            }
            let service = service.clone();
            thread::spawn(move || service.stop(SIGNAL_PATIENCE));
        }
    });
    Ok(receiver)
}

/// `create --ipsw`.
pub fn create(args: &CreateArgs, source: &str) -> Result<ExitCode> {
    if apple::missing().is_some() {
        bail!(mac::refusal("install macOS"));
    }
    let store = Store::open()?;
    mac::show_licence(&store)?;
    let user = first::read(args)?;
    let bars = Bars::new();
    let path = ipsw::local(source, &bars)?;
    let image = apple::load_ipsw(&path).map_err(Error::msg)?;
    if let (Some(_), Some(why)) = (&user, apple::first_user_missing(&image.version)) {
        bail!(
            "cannot have macOS make its user\n  because: {why}\n  try: without --unattended; Setup Assistant asks for one"
        );
    }
    let (version, build) = (Some(image.version.clone()), Some(image.build.clone()));
    let mut config = VmConfig::new(BootConfig::MacOs { auxiliary: AUXILIARY_FILE.into(), version, build });
    config.cpus = apple::performance_cores().unwrap_or(MAC_CPUS).clamp(2, MAC_CPUS).max(image.cpus);
    config.memory = MAC_MEMORY.max(ByteSize::new(image.memory));
    config.display.kind = DisplayKind::Window;
    config.disks.push(DiskConfig::new("Disk.img"));
    run::apply(&mut config, &args.hardware);
    config.network.mac.get_or_insert_with(network::random_mac);
    config.shares = share::parse(&args.shares)?;
    config.validate(&host::limits()?)?;
    open_shares(&config.shares)?;
    advise_cpus(&config);
    let identifier = match args.ecid {
        Some(Ecid::Number(number)) => MachineIdentifier::from_ecid(number),
        _ => MachineIdentifier::random()?,
    };
    let model = HardwareModel::from_data(&image.model)
        .map_err(|why| anyhow!("cannot keep the hardware model\n  because: {why}\n  try: another IPSW"))?;

    let _claim = store.claim_mac(&args.name, identifier.ecid())?;
    let new = store.create(&args.name)?;
    let platform = Platform { identifier, model };
    platform.write(new.path())?;
    apple::create_auxiliary_storage(&new.path().join(AUXILIARY_FILE), platform.model.data())
        .map_err(Error::msg)?;
    make_disk(new.path(), args.disk.unwrap_or(MAC_DISK))?;
    let described = Described { config, platform: Some(platform), identifier: None, cmdline: String::new() };
    install(&described, new.path(), (&path, &image.version), &bars)?;
    if let Some(user) = &user {
        first::keep(user, new.path())?;
    }
    let bundle = new.finish(&described.config)?;
    say!("installed macOS {}; start it with: tearless run {}", image.version, bundle.name());
    Ok(ExitCode::SUCCESS)
}

/// Has the installer put macOS onto the new virtual Mac in `folder`.
fn install(described: &Described, folder: &Path, (ipsw, version): (&Path, &str), bars: &Bars) -> Result<()> {
    let network = run::network_of(&described.config, Some(folder));
    let built = apple::build(&described.wanted(folder, &network)).map_err(Error::msg)?;
    bars.begin(&format!("Installing macOS {version}"), Some(STEPS));
    let mut done = 0;
    let installed = built.install(ipsw, |part| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1")]
        let now = (part.clamp(0.0, 1.0) * STEPS as f64) as u64;
        bars.advance(now.saturating_sub(done));
        done = done.max(now);
    });
    bars.end();
    installed.map_err(Error::msg)
}

/// Says what more vCPUs than performance cores mean.
pub fn advise_cpus(config: &VmConfig) {
    if let Some(fast) = apple::performance_cores().filter(|fast| *fast < config.cpus) {
        say!(
            "note: this Mac has {fast} performance cores. macOS gives them to vCPUs first; with {} vCPUs some run on efficiency \
             cores, several times slower",
            config.cpus
        );
    }
}
