//! `tearless run`: what was typed becomes a configuration, hardware and a session.

use std::{
    io::{self, IsTerminal},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, bail};
use tearless_boot::{Source, quick::Mode};
use tearless_config::{
    BootConfig, ByteSize, ConsoleKind, DiskBus, DisplayConfig, EngineChoice, Qos, VmConfig,
};
use tearless_image::{Flavour, QuickOptions};
use tearless_vm::{
    Display, Gauge, Hardware, Hub, Keyboard, LinuxPayload, Network, Payload, Plan, SavedState, SharedFolder,
    Sound, debian, device_tree, efi::Identity, engines, host, network, open_shares, sound,
};

use crate::{
    args::{DebianArgs, HardwareArgs, RunArgs},
    disks, display, firmware,
    progress::Bars,
    qos, serve,
    session::{self, CommandSession, End, Events, InteractiveSession, Primary, Session, Status},
    share, store, whole,
};

/// What a VM is called that has no name.
const UNNAMED: &str = "tearless";
/// Where changes that are thrown away are kept meanwhile. A folder of its own: a confined VM may change all that is in it.
pub const EPHEMERAL: &str = "ephemeral";

/// The fresh Debian lives in memory and needs little.
const QUICK_MEMORY: ByteSize = ByteSize::mib(512);
/// What the fresh Debian drives a screen and what belongs to it with.
const SCREEN_MODULES: [&str; 2] = ["virtio_gpu", "evdev"];
/// And a sound card.
const SOUND_MODULE: &str = "virtio_snd";

pub fn run(args: RunArgs) -> Result<ExitCode> {
    let bundle = args.name.as_deref().map(store::open_for_run).transpose()?;
    if let Some(bundle) = &bundle {
        refuse_recovery(bundle, &args)?;
    }
    let mut prepared = match (bundle, &args.kernel) {
        (Some(bundle), _) => {
            let config = bundle_config(&bundle, &args)?;
            if whole::suits(&bundle, &config, &args)? {
                return whole::run(bundle, config, &args);
            }
            prepare_bundle(bundle, config, &args)?
        }
        (None, _) if args.efi || args.iso.is_some() => prepare_efi(&args)?,
        (None, Some(path)) => prepare_kernel(path.clone(), &args)?,
        (None, None) if args.firmware.firmware.is_some() => prepare_efi(&args)?,
        (None, None) => prepare_quick(&args)?,
    };
    if args.print_plan {
        crate::out::print(format_args!("{}", prepared.plan()?));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(path) = &args.dump_dtb {
        let plan = prepared.plan()?;
        let blob = {
            let Payload::Linux(LinuxPayload { kernel, initrd, cmdline }) = &prepared.hardware.payload else {
                bail!(
                    "cannot write the device tree\n  because: EFI gives it to whatever it boots\n  try: \
                     --kernel, or a VM with a kernel of its own"
                );
            };
            device_tree(&plan, &kernel.kernel_image()?, initrd.read()?.len() as u64, cmdline)?
        };
        std::fs::write(path, blob).with_context(|| format!("cannot write {}", path.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    prepared.hardware.lockstep = args.lockstep;
    if let Some((bundle, _)) = &prepared.bundle {
        prepared.hardware.saved = saved_state(bundle, &args)?;
    }
    if args.ephemeral {
        let folder = match &prepared.bundle {
            Some((bundle, _)) => bundle.path().join(EPHEMERAL),
            None => std::env::temp_dir().join(format!("tearless-{EPHEMERAL}-{}", std::process::id())),
        };
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        prepared.hardware.forget_changes(&folder);
    }
    let Prepared { mut hardware, session, events, bundle, qos, network, display, sound } = prepared;
    qos::apply(&qos)?;
    let confined = !args.confinement.no_sandbox;
    let late = Late { network, display, sound, confined, ephemeral: args.ephemeral };
    match bundle {
        None => {
            let viewing = display::Viewing::prepare(&late.display, UNNAMED, None)?;
            let (_, _place) = serve::confine(&mut hardware, &[], &late)?;
            let host = Arc::new(events.clone());
            if let Some(url) = viewing.start(hardware.display.as_ref(), UNNAMED, Some(host))? {
                display::say_where(&url);
            }
            session::run(hardware, &events, session)
        }
        Some(bundle) => serve::run(bundle, hardware, &events, session, &late),
    }
}

/// What `bundle` goes on from, if it is suspended.
fn saved_state(bundle: &store::Opened, args: &RunArgs) -> Result<Option<SavedState>> {
    let Some(folder) = bundle.bundle().suspended() else { return Ok(None) };
    if args.state.discard_state {
        folder.remove()?;
        return Ok(None);
    }
    if args.cmdline.is_some() || args.lockstep {
        bail!(
            "cannot boot VM {} with another command line or in lockstep\n  because: it is suspended, and goes on where it \
             was\n  try: without, or throw its state away: --discard-state",
            bundle.bundle().name()
        );
    }
    Ok(Some(SavedState { folder, keep: args.ephemeral }))
}

/// All that a VM needs to start.
struct Prepared {
    hardware: Hardware,
    session: Box<dyn Session>,
    events: Events,
    /// The VM that it is, with what its viewers type on.
    bundle: Option<(store::Opened, Keyboard)>,
    qos: Qos,
    network: network::Wanted,
    display: DisplayConfig,
    sound: sound::Wanted,
}

/// What waits until the process is confined, because it starts threads.
pub struct Late {
    /// The network.
    pub network: network::Wanted,
    /// How the screen is seen.
    pub display: DisplayConfig,
    /// What is played and heard.
    pub sound: sound::Wanted,
    /// Whether to confine the process at all.
    pub confined: bool,
    /// What the guest writes is thrown away, so its state cannot be kept.
    pub ephemeral: bool,
}

impl Prepared {
    /// A VM that is no bundle.
    fn unnamed(
        config: VmConfig,
        payload: Payload,
        shares: Vec<SharedFolder>,
        session: Box<dyn Session>,
        events: Events,
    ) -> Result<Self> {
        Ok(Self {
            hardware: hardware(&config, payload, shares, None)?,
            session,
            events,
            bundle: None,
            network: network_of(&config, None),
            sound: sound::Wanted::from(&config),
            display: config.display,
            qos: config.qos,
        })
    }

    /// The plan of the machine.
    fn plan(&mut self) -> Result<Plan> {
        self.hardware.network = Network::open(&self.network)?;
        self.hardware.sound = Sound::muted(&self.sound);
        let streams = !self.session.connect().streams.is_empty();
        Ok(Plan::new(&self.hardware.shape(streams))?)
    }
}

fn prepare_quick(args: &RunArgs) -> Result<Prepared> {
    let mut config = VmConfig::new(BootConfig::LinuxKernel {
        kernel: PathBuf::new(),
        initrd: None,
        cmdline: String::new(),
    });
    config.memory = QUICK_MEMORY;
    apply_run(&mut config, args)?;
    config.disks = disks::parse(&args.disks)?;
    config.shares = share::parse(&args.shares)?;
    check(&config)?;
    let shares = open_shares(&config.shares)?;

    let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal();
    let events = Events::default();
    let (mode, session): (_, Box<dyn Session>) = if args.command.is_empty() {
        let end = End::PowerOff { restarts: true };
        (Mode::Shell, Box::new(InteractiveSession::new(Primary::Virtio, end, events.clone())))
    } else {
        let argv = args.command.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        let mode = Mode::Command { argv, tty: on_terminal };
        let session: Box<dyn Session> = if on_terminal {
            let end = End::Command(Status::default());
            Box::new(InteractiveSession::new(Primary::Virtio, end, events.clone()))
        } else {
            Box::new(CommandSession::new(events.clone()))
        };
        (mode, session)
    };
    let extra = args.cmdline.as_deref().unwrap_or_default();
    let mut payload = debian::quick(
        &quick_options(&args.debian, config.display.is_on(), has_sound(&config)),
        mode,
        &config.network.mode,
        extra,
        &Bars::new(),
    )?;
    payload.mount(&shares)?;
    Prepared::unnamed(config, payload.into(), shares, session, events)
}

fn prepare_kernel(path: PathBuf, args: &RunArgs) -> Result<Prepared> {
    let cmdline = args.cmdline.clone().unwrap_or_default();
    let mut config = VmConfig::new(BootConfig::LinuxKernel {
        kernel: path.clone(),
        initrd: args.initrd.clone(),
        cmdline: cmdline.clone(),
    });
    config.console = console_of(&cmdline);
    apply_run(&mut config, args)?;
    config.disks = disks::parse(&args.disks)?;
    config.shares = share::parse(&args.shares)?;
    check(&config)?;
    let shares = open_shares(&config.shares)?;
    let payload = linux_payload(&path, args)?;
    let events = Events::default();
    let session = interactive(config.console, &events, &Keyboard::default());
    Prepared::unnamed(config, payload.into(), shares, session, events)
}

/// The user's own kernel with what belongs to it.
fn linux_payload(kernel: &Path, args: &RunArgs) -> Result<LinuxPayload> {
    Ok(LinuxPayload {
        kernel: Source::kernel(kernel)?,
        initrd: args.initrd.as_deref().map_or_else(|| Ok(Source::nothing()), Source::initrd)?,
        cmdline: args.cmdline.clone().unwrap_or_default(),
    })
}

/// A kernel as an EFI program, or what EFI finds on the disks and the installation medium. Its variables are gone afterwards.
fn prepare_efi(args: &RunArgs) -> Result<Prepared> {
    if args.kernel.is_none() && args.cmdline.is_some() {
        return Err(has_own_command_line("what EFI finds"));
    }
    let mut config = VmConfig::new(BootConfig::efi(PathBuf::new()));
    config.console = ConsoleKind::Uart;
    apply_run(&mut config, args)?;
    config.disks = disks::parse(&args.disks)?;
    config.disks.extend(args.iso.as_deref().map(disks::iso).transpose()?);
    config.shares = share::parse(&args.shares)?;
    check(&config)?;
    let shares = open_shares(&config.shares)?;
    let kernel = args.kernel.as_deref().map(|kernel| linux_payload(kernel, args)).transpose()?;
    let payload = Payload::Efi { variables: Arc::default(), identity: Identity::default(), kernel };
    let events = Events::default();
    let session = interactive(config.console, &events, &Keyboard::default());
    Prepared::unnamed(config, payload, shares, session, events)
}

/// What `what` boots is none of ours to change.
fn has_own_command_line(what: &str) -> anyhow::Error {
    anyhow!(
        "cannot add to the kernel command line of {what}\n  because: its boot loader has it\n  try: in the boot loader's menu, \
         or in the guest's /etc/default/grub"
    )
}

fn refuse_recovery(bundle: &store::Opened, args: &RunArgs) -> Result<()> {
    if args.recovery && !bundle.config.boot.is_mac() {
        bail!(
            "cannot start {} in Recovery\n  because: that is a part of macOS, and its guest is another\n  try: without --recovery",
            bundle.bundle().name()
        );
    }
    Ok(())
}

/// What `bundle` is made of in this run.
fn bundle_config(bundle: &store::Opened, args: &RunArgs) -> Result<VmConfig> {
    let mut config = bundle.config.clone();
    apply_run(&mut config, args)?;
    config.disks.extend(disks::parse(&args.disks)?);
    config.disks.extend(args.iso.as_deref().map(disks::iso).transpose()?);
    config.shares.extend(share::parse(&args.shares)?);
    check(&config)?;
    Ok(config)
}

/// What `bundle` boots, with what the command line adds.
pub fn bundle_payload(
    bundle: &store::Opened,
    config: &VmConfig,
    shares: &[SharedFolder],
    args: &RunArgs,
) -> Result<Payload> {
    let mut payload = bundle.payload()?;
    match (&mut payload, &args.cmdline) {
        (Payload::Linux(linux), extra) => {
            if let BootConfig::LinuxDebian { .. } = config.boot {
                linux.mount(shares)?;
            }
            if let Some(extra) = extra {
                linux.cmdline = format!("{} {extra}", linux.cmdline);
            }
        }
        (Payload::Efi { .. }, Some(_)) => return Err(has_own_command_line(bundle.bundle().name())),
        (Payload::Efi { .. }, None) => {}
    }
    Ok(payload)
}

fn prepare_bundle(bundle: store::Opened, config: VmConfig, args: &RunArgs) -> Result<Prepared> {
    let shares = open_shares(&config.shares)?;
    let payload = bundle_payload(&bundle, &config, &shares, args)?;
    let (events, keyboard) = (Events::default(), Keyboard::default());
    let session = if args.detached {
        serve::headless(&bundle, config.console, &events, &keyboard)
    } else {
        interactive(config.console, &events, &keyboard)
    };
    let hardware = hardware(&config, payload, shares, Some(bundle.path()))?;
    let network = network_of(&config, Some(bundle.path()));
    let sound = sound::Wanted::from(&config);
    let VmConfig { display, qos, .. } = config;
    Ok(Prepared { hardware, session, events, bundle: Some((bundle, keyboard)), network, display, sound, qos })
}

fn interactive(console: ConsoleKind, events: &Events, keyboard: &Keyboard) -> Box<dyn Session> {
    let end = End::PowerOff { restarts: true };
    Box::new(InteractiveSession::with_keyboard(console.into(), end, events.clone(), keyboard.clone()))
}

/// The device of the last `console=`, which is the one that Linux makes `/dev/console`; the UART for any other kernel.
pub fn console_of(cmdline: &str) -> ConsoleKind {
    let last = cmdline.split_whitespace().filter_map(|word| word.strip_prefix("console=")).next_back();
    match last {
        Some(device) if device.starts_with("hvc") => ConsoleKind::Virtio,
        _ => ConsoleKind::Uart,
    }
}

/// What the command line says about the hardware goes over what the configuration says.
pub fn apply(config: &mut VmConfig, args: &HardwareArgs) {
    config.engine = args.engine.unwrap_or(config.engine);
    config.cpus = args.cpus.unwrap_or(config.cpus);
    config.memory = args.memory.unwrap_or(config.memory);
    config.balloon = args.balloon.unwrap_or(config.balloon);
    config.allow_overcommit |= args.overcommit;
    config.qos.nice = args.nice.unwrap_or(config.qos.nice);
    if let Some(cpus) = &args.cpu_affinity {
        config.qos.cpus.clone_from(cpus);
    }
    config.qos.class = args.qos.unwrap_or(config.qos.class);
    let screen = &args.display;
    screen.choices.iter().for_each(|choice| config.display.apply(*choice));
    if let Some(path) = &screen.vnc_password {
        // It is read wherever the VM is started from.
        config.display.password_file = Some(std::path::absolute(path).unwrap_or_else(|_| path.clone()));
    }
    if let Some(speaker) = &args.sound.sound {
        config.sound.speaker = Some(speaker.clone().absolute());
    }
    if let Some(microphone) = &args.sound.microphone {
        config.sound.microphone = microphone.clone().absolute();
    }
    args.apple.iter().for_each(|choice| config.apple.apply(choice));
    let (network, args) = (&mut config.network, &args.network);
    network.mode = args.net.clone().unwrap_or_else(|| network.mode.clone());
    network.forwards.extend(&args.forwards);
    network.allow.extend(&args.allow);
    network.auto_forward = args.auto_forward.unwrap_or(network.auto_forward);
    network.mac = args.mac.or(network.mac);
}

/// Whether a VM of `config` can be run here.
fn check(config: &VmConfig) -> Result<()> {
    config.validate(&host::limits()?)?;
    let engine = engines::choose(config.engine).map_err(anyhow::Error::msg)?;
    let has_own =
        config.apple.first().is_some() || config.disks.iter().any(|disk| disk.bus != DiskBus::Virtio);
    if !has_own {
        return Ok(());
    }
    if engine == EngineChoice::Vz || config.boot.is_mac() {
        return Ok(());
    }
    let disk = config.disks.iter().map(|disk| disk.bus).find(|bus| *bus != DiskBus::Virtio);
    let bus = disk.map(|bus| format!(":bus={} of a disk", bus.name()));
    if let Some(what) = config.apple.first().map(|choice| format!("--apple {choice}")).or(bus) {
        bail!(
            "cannot give the VM {what}\n  because: engine {engine} has nothing of the kind; Apple's framework on a Mac has\n  \
             try: --engine vz on a Mac, or run it without"
        );
    }
    Ok(())
}

/// As [`apply`], for one run.
fn apply_run(config: &mut VmConfig, args: &RunArgs) -> Result<()> {
    apply(config, &args.hardware);
    firmware::apply(config, &args.firmware)?;
    if args.lockstep {
        config.cpus = args.hardware.cpus.unwrap_or(1);
        if config.cpus > 1 {
            bail!(
                "cannot run {} vCPUs in lockstep\n  because: others would change memory while one is compared\n  try: \
                 --cpus 1",
                config.cpus
            );
        }
        if !matches!(config.engine, EngineChoice::Auto | EngineChoice::Soft) {
            bail!(
                "cannot run engine {} in lockstep\n  because: only the software CPU has two ways to run an \
                 instruction\n  try: --engine soft",
                config.engine
            );
        }
        config.engine = EngineChoice::Soft;
    }
    Ok(())
}

/// Whether the guest has a sound card.
pub fn has_sound(config: &VmConfig) -> bool {
    Sound::muted(&sound::Wanted::from(config)).is_some()
}

/// Where Debian comes from. The small kernel knows no screens and no sound.
pub fn quick_options(args: &DebianArgs, screen: bool, sound: bool) -> QuickOptions {
    let screen_modules = SCREEN_MODULES.iter().filter(|_| screen);
    let modules = screen_modules.copied().chain(sound.then_some(SOUND_MODULE));
    QuickOptions {
        suite: args.suite().to_owned(),
        flavour: args.flavour.unwrap_or(if screen || sound { Flavour::Generic } else { Flavour::Cloud }),
        extra_modules: modules.map(str::to_owned).collect(),
        mirror: args.mirror.clone(),
        refresh: args.refresh,
    }
}

fn hardware(
    config: &VmConfig,
    payload: Payload,
    shares: Vec<SharedFolder>,
    bundle: Option<&Path>,
) -> Result<Hardware> {
    Ok(Hardware {
        firmware: config.firmware.as_ref().map(|f| firmware::open(f, config, bundle)).transpose()?,
        engine: config.engine,
        vcpus: config.cpus,
        memory: config.memory.bytes(),
        balloon: Gauge::new(config.balloon.bytes()),
        disks: config.disks.iter().map(|disk| disks::spec(disk, bundle)).collect(),
        sockets: bundle.map(|_| Hub::new()),
        shares,
        network: None,
        display: Display::open(&config.display),
        sound: None,
        lockstep: false,
        payload,
        saved: None,
    })
}

/// The network of `config`, with what a VM has that the configuration says nothing of.
pub fn network_of(config: &VmConfig, bundle: Option<&Path>) -> network::Wanted {
    let mac =
        bundle.map_or_else(network::random_mac, |path| network::derived_mac(path.as_os_str().as_bytes()));
    let name = bundle.and_then(|path| path.file_stem()).map(|name| name.to_string_lossy().into_owned());
    network::Wanted { config: config.network.clone(), mac, name: name.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_console_wins() {
        assert_eq!(console_of(""), ConsoleKind::Uart);
        assert_eq!(console_of("console=hvc0 console=ttyAMA0,115200"), ConsoleKind::Uart);
        assert_eq!(console_of("console=ttyAMA0 quiet console=hvc0 x"), ConsoleKind::Virtio);
    }
}
