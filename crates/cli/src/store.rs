//! `create`, `list`, `info` and `delete`: the VMs that stay.

use std::{
    fs,
    io::{self, BufRead, IsTerminal, Write},
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    thread::{self, ScopedJoinHandle},
};

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use tearless_boot::Source;
use tearless_bundle::{Bundle, Lock, Store, mac::Claim};
use tearless_config::{
    BootConfig, ByteSize, ConfigError, ConsoleKind, DiskConfig, InstallerConfig, VmConfig,
};
use tearless_control::State;
use tearless_image::{
    Progress,
    debian::{Access, DebianOptions, Loader},
};
use tearless_vm::{
    LinuxPayload, Payload, debian,
    efi::{Identity, Variables},
    host, network, open_shares,
    storage::is_remote,
};

use crate::{
    args::{CreateArgs, DeleteArgs, InfoArgs, ListArgs},
    disks, display, firmware,
    install::{self, Unattended},
    life, login, mac,
    out::say,
    progress::Bars,
    run,
    seed::CloudInit,
    share, whole,
};

/// The names of a bundle's own files, as its configuration has them.
const DISK: &str = "Disk.img";
const KERNEL: &str = "Kernel";
const INITRD: &str = "Initrd";
const NVRAM: &str = "NVRAM";

/// The disk of a VM that has one, unless told otherwise. It takes room only as it fills.
const DEFAULT_DISK: ByteSize = ByteSize::gib(64);

/// A bundle that this process runs.
pub struct Opened {
    pub config: VmConfig,
    bundle: Bundle,
    _lock: Lock,
    /// The right to run macOS, of a guest that is one.
    _claim: Option<Claim>,
}

impl Opened {
    pub fn path(&self) -> &Path {
        self.bundle.path()
    }

    /// The bundle itself.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The folder for logs.
    pub fn logs(&self) -> PathBuf {
        self.bundle.logs()
    }

    /// What the VM boots.
    pub fn payload(&self) -> Result<Payload> {
        let (kernel, initrd, cmdline) = match &self.config.boot {
            BootConfig::Efi { variables, installer } => return self.efi(variables, installer.as_ref()),
            BootConfig::MacOs { .. } => bail!(mac::refusal(&format!("run {}", self.bundle.name()))),
            BootConfig::LinuxKernel { kernel, initrd, cmdline } => (kernel, initrd.as_ref(), cmdline.clone()),
            BootConfig::LinuxDebian { kernel, initrd, cmdline, .. } => {
                (kernel, Some(initrd), debian::cmdline(cmdline))
            }
        };
        let identity = self.config.machine_id.as_ref().map(|id| format!(" systemd.machine_id={id}"));
        let cmdline = cmdline + identity.as_deref().unwrap_or_default();
        let initrd = initrd.map(|initrd| self.path().join(initrd));
        let mut payload = LinuxPayload {
            kernel: Source::kernel(&self.path().join(kernel))?,
            initrd: initrd.as_deref().map_or_else(|| Ok(Source::nothing()), Source::initrd)?,
            cmdline,
        };
        if matches!(self.config.boot, BootConfig::LinuxDebian { .. }) {
            debian::add_agent(&mut payload)?;
        }
        Ok(payload.into())
    }

    fn efi(&self, variables: &Path, installer: Option<&InstallerConfig>) -> Result<Payload> {
        let variables = install::variables(self.path(), variables)?;
        let uuid = uuid(&self.config, self.path());
        let own = installer.and_then(|installer| installer.unattended.as_ref()).map(|own| {
            Ok::<_, anyhow::Error>(LinuxPayload {
                kernel: Source::kernel(&self.path().join(&own.kernel))?,
                initrd: Source::initrd(&self.path().join(&own.initrd))?,
                cmdline: own.cmdline.clone(),
            })
        });
        let identity = Identity { uuid, strings: Vec::new() };
        Ok(Payload::Efi { variables, identity, kernel: own.transpose()? })
    }
}

/// What firmware calls the machine of the VM in `folder`.
pub fn uuid(config: &VmConfig, folder: &Path) -> [u8; 16] {
    match &config.machine_id {
        Some(id) => u128::from_str_radix(id, 16).unwrap_or_default().to_be_bytes(),
        None => network::derived_uuid(folder.as_os_str().as_encoded_bytes()),
    }
}

/// Takes the VM `name` for this process.
pub fn open_for_run(name: &str) -> Result<Opened> {
    let store = Store::open()?;
    let bundle = store.find(name)?;
    let lock = bundle.lock()?;
    bundle.settle(&lock)?;
    let mut config = bundle.config()?;
    if let BootConfig::Efi { variables, installer: Some(_) } = &config.boot {
        let variables = install::variables(bundle.path(), variables)?;
        install::settle(&bundle, &mut config, &variables)?;
    }
    let claim = match config.boot.is_mac() {
        true => Some(store.claim_mac(bundle.name(), bundle.platform()?.identifier.ecid())?),
        false => None,
    };
    Ok(Opened { config, bundle, _lock: lock, _claim: claim })
}

pub fn create(args: CreateArgs) -> Result<ExitCode> {
    if let Some(source) = &args.ipsw {
        return whole::create(&args, &source.to_string_lossy());
    }
    let boot = match (&args.linux, &args.kernel) {
        (Some(distribution), _) if distribution == "debian" && args.efi => BootConfig::efi(NVRAM),
        (Some(distribution), _) if distribution == "debian" => BootConfig::LinuxDebian {
            suite: args.debian.suite().to_owned(),
            kernel: KERNEL.into(),
            initrd: INITRD.into(),
            cmdline: args.cmdline.clone().unwrap_or_default(),
        },
        (Some(other), _) => bail!(
            "cannot install {other}\n  because: Tearless knows how to install debian only\n  try: \
             --kernel and --initrd, for the kernel and RAM disk of another Linux"
        ),
        (None, None) => BootConfig::efi(NVRAM),
        (None, Some(_)) => BootConfig::LinuxKernel {
            kernel: KERNEL.into(),
            initrd: args.initrd.is_some().then(|| INITRD.into()),
            cmdline: args.cmdline.clone().unwrap_or_default(),
        },
    };
    let mut config = VmConfig::new(boot);
    if let BootConfig::LinuxKernel { cmdline, .. } = &config.boot {
        config.console = run::console_of(cmdline);
    }
    if let BootConfig::Efi { .. } = config.boot {
        // That is where boot loaders and installers are seen.
        config.console = ConsoleKind::Uart;
    }
    run::apply(&mut config, &args.hardware);
    if args.hardware.display.vnc_password.is_some() {
        display::password(&config.display)?;
    }
    config.firmware = firmware::describe(&args.firmware)?;
    config.network.mac.get_or_insert_with(network::random_mac);
    let disk_size = args.disk.or(args.kernel.is_none().then_some(DEFAULT_DISK));
    config.disks.extend(disk_size.map(|_| DiskConfig::new(DISK)));
    let unattended = Unattended::read(&args, disk_size.unwrap_or(DEFAULT_DISK))?;
    let instance = config.network.mac.map_or_else(|| args.name.clone(), |mac| format!("tearless-{mac}"));
    let cloud_init = CloudInit::read(&args, &instance)?;
    config.disks.extend(cloud_init.is_some().then(CloudInit::disk));
    if let Some(iso) = &args.iso {
        install::note(&mut config, disks::iso(iso)?, unattended.as_ref());
    }
    config.shares = share::parse(&args.shares)?;
    config.validate(&host::limits()?)?;
    // Better now than at the first run.
    open_shares(&config.shares)?;

    let new = Store::open()?.create(&args.name)?;
    firmware::copy(new.path(), &args.firmware)?;
    match (&args.kernel, &args.linux) {
        (Some(path), _) => copy_kernel(new.path(), path, args.initrd.as_deref(), disk_size)?,
        (None, Some(_)) => install_debian(new.path(), &args, &config, disk_size.unwrap_or(DEFAULT_DISK))?,
        (None, None) => prepare_efi(new.path(), &args)?,
    }
    if let Some(unattended) = unattended {
        unattended.write(new.path())?;
    }
    if let Some(cloud_init) = cloud_init {
        cloud_init.write(new.path())?;
    }
    let bundle = new.finish(&config)?;
    say!(
        "created {0}; start it here with: tearless run {0}; or in the background: tearless start {0}",
        bundle.name()
    );
    Ok(ExitCode::SUCCESS)
}

/// The disk and the variables of a VM that boots through EFI.
fn prepare_efi(folder: &Path, args: &CreateArgs) -> Result<()> {
    if let Some(iso) = &args.iso {
        // Better now than at the first run.
        fs::File::open(iso).with_context(|| format!("cannot read installation medium {}", iso.display()))?;
    }
    match &args.disk_image {
        Some(image) => {
            let bars = Bars::new();
            bars.begin("Copying the disk image", None);
            disks::import(image, &folder.join(DISK), args.disk.map_or(0, ByteSize::bytes))?;
            bars.end();
        }
        None => disks::make_disk(folder, args.disk.unwrap_or(DEFAULT_DISK))?,
    }
    make_variables(folder)
}

/// The file of EFI's variables, empty.
fn make_variables(folder: &Path) -> Result<()> {
    let path = folder.join(NVRAM);
    Variables::open(&path).map(drop).with_context(|| format!("cannot make {}", path.display()))
}

fn copy_kernel(folder: &Path, path: &Path, initrd: Option<&Path>, disk: Option<ByteSize>) -> Result<()> {
    // Reading it checks it: better now than at the first run.
    Source::kernel(path)?;
    copy(path, &folder.join(KERNEL))?;
    if let Some(initrd) = initrd {
        Source::initrd(initrd)?;
        copy(initrd, &folder.join(INITRD))?;
    }
    if let Some(size) = disk {
        disks::make_disk(folder, size)?;
    }
    Ok(())
}

/// What finds the drivers of a screen, a keyboard, a pointer and a sound card in an installed Debian.
const DRIVERS_PACKAGE: &str = "udev";

fn install_debian(folder: &Path, args: &CreateArgs, config: &VmConfig, size: ByteSize) -> Result<()> {
    let (screen, sound) = (config.display.is_on(), run::has_sound(config));
    let quick = run::quick_options(&args.debian, screen, sound);
    let ssh_keys = args.ssh_key.as_deref().map(ssh_keys).transpose()?.unwrap_or_default();
    let options = DebianOptions {
        packages: args
            .packages
            .iter()
            .cloned()
            .chain((screen || sound).then(|| DRIVERS_PACKAGE.to_owned()))
            .collect(),
        access: Access { ssh_keys, ..Access::default() },
        suite: quick.suite.clone(),
        flavour: quick.flavour,
        mirror: quick.mirror.clone(),
        refresh: quick.refresh,
        loader: args
            .efi
            .then(|| Loader { cmdline: args.cmdline.clone().unwrap_or_default(), agent: debian::agent() }),
        ..DebianOptions::new(size.bytes(), hostname(&args.name))
    };
    let bars = Bars::new();
    let disk = tearless_image::debian::build_debian(&folder.join(DISK), &options, &bars)?;
    let busybox = tearless_image::quick_boot(&quick, &bars)?.busybox;
    bars.begin("Making the RAM disk", None);
    if args.efi {
        debian::write_esp(&folder.join(DISK), &disk, &busybox)?;
        make_variables(folder)?;
        bars.end();
        return Ok(());
    }
    let payload = debian::root_payload(&disk.kernel, &busybox)?;
    copy(&disk.kernel.image, &folder.join(KERNEL))?;
    let initrd = folder.join(INITRD);
    fs::write(&initrd, payload.initrd.read()?)
        .with_context(|| format!("cannot write {}", initrd.display()))?;
    bars.end();
    Ok(())
}

/// The keys in the file at `path`.
pub fn ssh_keys(path: &Path) -> Result<Vec<String>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read SSH keys {}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// The VM's name as far as it can be a host name (RFC 1123).
pub fn hostname(name: &str) -> String {
    let mapped: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let trimmed: String = mapped.trim_matches('-').chars().take(63).collect();
    if trimmed.is_empty() { "tearless".into() } else { trimmed }
}

/// `list --json` prints an array of these, `info --json` one (docs/json.md).
#[derive(Serialize)]
struct Entry {
    name: String,
    path: String,
    /// `stopped`, `starting`, `running`, `paused`, `stopping`, `saving`, `suspended`; `busy` when a process holds it that is no running VM, for
    /// example one that copies it; `damaged` when its description cannot be read.
    state: &'static str,
    running: bool,
    pid: Option<u32>,
    /// Whether it starts when its user logs in.
    at_login: bool,
    /// What the VM's process says, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<State>,
    /// How much of the host's memory its process takes now, where the host tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    resident_bytes: Option<u64>,
    /// Room that the VM's folder takes on the host.
    used_bytes: u64,
    config: Option<VmConfig>,
    /// Which virtual Mac it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<mac::PlatformInfo>,
    error: Option<String>,
}

impl Entry {
    fn of(
        bundle: &Bundle,
        config: Result<VmConfig, tearless_bundle::Error>,
        running: Option<Option<u32>>,
    ) -> Self {
        let (config, error) = match config {
            Ok(config) => (Some(config), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let live = running.and_then(|_| life::client(bundle).state().ok());
        if running.is_none() {
            life::clear_up(bundle);
        }
        let state = match (&live, running) {
            (Some(live), _) => live.phase.name(),
            (None, Some(_)) => "busy",
            (None, None) if error.is_some() => "damaged",
            (None, None) if bundle.suspended().is_some() => "suspended",
            (None, None) => "stopped",
        };
        Self {
            name: bundle.name().to_owned(),
            path: bundle.path().display().to_string(),
            state,
            live,
            running: running.is_some(),
            at_login: login::is_enabled(bundle),
            pid: running.flatten(),
            resident_bytes: running.flatten().and_then(resident),
            used_bytes: bundle.used_bytes(),
            platform: config.as_ref().filter(|c| c.boot.is_mac()).map(|_| mac::PlatformInfo::of(bundle)),
            config,
            error,
        }
    }

    /// For how long it has been running, shortly.
    fn uptime(&self) -> String {
        let Some(live) = &self.live else { return "-".into() };
        match live.uptime_ms / 1000 {
            s @ ..60 => format!("{s}s"),
            s @ ..3600 => format!("{}m{:02}s", s / 60, s % 60),
            s @ ..86400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
            s => format!("{}d{:02}h", s / 86400, s / 3600 % 24),
        }
    }
}

pub fn list(args: &ListArgs) -> Result<ExitCode> {
    let listed = Store::open()?.list()?;
    // At once, for each guest that runs is asked and may take its time.
    let entries: Vec<_> = thread::scope(|scope| {
        let asked: Vec<_> = listed
            .into_iter()
            .map(|l| scope.spawn(move || Entry::of(&l.bundle, l.config, l.running)))
            .collect();
        asked.into_iter().map(ScopedJoinHandle::join).collect::<Result<_, _>>()
    })
    .map_err(|_| anyhow!("listing a VM failed by a bug in Tearless"))?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&entries)?);
        return Ok(ExitCode::SUCCESS);
    }
    if entries.is_empty() {
        say!("no VMs yet; `tearless create NAME --linux debian` makes one");
        return Ok(ExitCode::SUCCESS);
    }
    let width = entries.iter().map(|e| e.name.len()).max().unwrap_or(0).max(4);
    say!(
        "{:<width$}  {:<9} {:>8} {:>7} {:>5} {:>8} {:>8} {:>9}  {:<15}  SYSTEM",
        "NAME",
        "STATE",
        "UPTIME",
        "PID",
        "VCPUS",
        "MEMORY",
        "RESIDENT",
        "ON DISK",
        "ADDRESS"
    );
    for entry in entries {
        let (cpus, memory, system) = match (&entry.config, &entry.error) {
            (Some(config), _) => (config.cpus.to_string(), config.memory.to_string(), system(config)),
            (None, error) => ("-".into(), "-".into(), error.clone().unwrap_or_default()),
        };
        let used = format!("{}M", entry.used_bytes >> 20);
        let resident = entry.resident_bytes.map_or_else(|| "-".into(), |bytes| format!("{}M", bytes >> 20));
        let live = entry.live.as_ref();
        let address =
            live.and_then(|live| live.addresses.first()).map_or_else(|| "-".into(), IpAddr::to_string);
        let pid = entry.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
        say!(
            "{:<width$}  {:<9} {:>8} {pid:>7} {cpus:>5} {memory:>8} {resident:>8} {used:>9}  {address:<15}  {system}",
            entry.name,
            entry.state,
            entry.uptime()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn system(config: &VmConfig) -> String {
    match &config.boot {
        BootConfig::LinuxKernel { .. } => "a kernel of your own".into(),
        BootConfig::LinuxDebian { suite, .. } => format!("Debian {suite}"),
        BootConfig::Efi { installer: Some(_), .. } => "EFI, installing".into(),
        BootConfig::Efi { .. } => "EFI".into(),
        BootConfig::MacOs { version, build, .. } => {
            let build = build.as_ref().map(|build| format!(" ({build})"));
            format!("macOS {}{}", version.as_deref().unwrap_or_default(), build.unwrap_or_default())
                .trim_end()
                .into()
        }
    }
}

pub fn info(args: &InfoArgs) -> Result<ExitCode> {
    let bundle = Store::open()?.find(&args.name)?;
    let entry = Entry::of(&bundle, bundle.config(), bundle.running());
    if args.json {
        say!("{}", serde_json::to_string_pretty(&entry)?);
        return Ok(ExitCode::SUCCESS);
    }
    say!(
        "Name     {}\nFolder   {}\nState    {}\nOn disk  {} MiB",
        entry.name,
        entry.path,
        match entry.pid {
            Some(pid) => format!("{}, process {pid}", entry.state),
            None => entry.state.to_owned(),
        },
        entry.used_bytes >> 20
    );
    if let Some(live) = &entry.live {
        say!("Up       {}\nSandbox  {}", entry.uptime(), live.sandbox);
    }
    if entry.at_login {
        say!("Starts   when you log in");
    }
    let Some(config) = &entry.config else { bail!(entry.error.unwrap_or_default()) };
    say!(
        "System   {}\nEngine   {}\nvCPUs    {}\nMemory   {}",
        system(config),
        config.engine,
        config.cpus,
        config.memory
    );
    print_memory(&entry);
    entry.platform.iter().for_each(mac::PlatformInfo::print);
    for disk in &config.disks {
        let (path, size) = if is_remote(&disk.path) {
            (disk.path.clone(), "held by a server".to_owned())
        } else {
            let path = bundle.path().join(&disk.path);
            let size = fs::metadata(&path);
            let size = size.map_or_else(|e| e.to_string(), |m| format!("{}", ByteSize::new(m.len())));
            (path, size)
        };
        say!("Disk     {} ({size}{})", path.display(), if disk.read_only { ", read-only" } else { "" });
    }
    for share in &config.shares {
        let read_only = if share.read_only { ", read-only" } else { "" };
        say!("Share    {} (tag {}{read_only})", share.path.display(), share.tag);
    }
    if let Some(live) = entry.live.as_ref().filter(|live| !live.addresses.is_empty()) {
        let addresses: Vec<_> = live.addresses.iter().map(ToString::to_string).collect();
        say!("Address  {}", addresses.join(", "));
    }
    let mac = config.network.mac.map(|mac| format!(" ({mac})")).unwrap_or_default();
    say!("Network  {}{mac}", config.network.mode);
    config.network.forwards.iter().for_each(|forward| say!("Port     {forward}"));
    for forward in entry.live.iter().flat_map(|live| &live.forwards) {
        say!("Listens  {} leads to port {}", forward.host, forward.guest);
    }
    config.network.allow.iter().for_each(|allow| say!("Allow    {allow}"));
    if config.display.is_on() {
        let at = entry.live.as_ref().and_then(|live| live.display.as_ref());
        say!("Screen   {}{}", config.display.mode, at.map(|at| format!(", {at}")).unwrap_or_default());
    }
    if run::has_sound(config) {
        let microphone = Some(config.microphone()).filter(|end| !end.is_none());
        say!(
            "Sound    {}{}",
            config.speaker(),
            microphone.map(|end| format!(", hears {end}")).unwrap_or_default()
        );
    }
    if !config.description.is_empty() {
        say!("Note     {}", config.description);
    }
    if let Some(cmdline) = config.boot.cmdline().filter(|cmdline| !cmdline.is_empty()) {
        say!("Cmdline  {cmdline}");
    }
    if let Err(ConfigError::Invalid { what, why, advice }) = config.validate(&host::limits()?) {
        say!("Note     it cannot run as it is: {what}: {why}; {advice}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What the memory is used for, of a VM that runs.
fn print_memory(entry: &Entry) {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    if let Some(bytes) = entry.resident_bytes {
        say!("Resident {} of this host", mib(bytes));
    }
    let Some(balloon) = entry.live.as_ref().and_then(|live| live.balloon) else { return };
    if let Some(guest) = balloon.guest {
        // It counts what the balloon holds as its own, for it can have that back.
        let used = guest.total.saturating_sub(guest.available).saturating_sub(balloon.actual);
        say!("In guest {} of {} used, {} free", mib(used), mib(guest.total), mib(guest.free));
    }
    if balloon.target != 0 || balloon.actual != 0 {
        say!("Balloon  {} of {}", mib(balloon.actual), mib(balloon.target));
    }
}

/// The memory of a process that is in the host's RAM.
#[cfg(target_os = "linux")]
fn resident(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

/// This host tells nobody without asking in its own way.
#[cfg(not(target_os = "linux"))]
fn resident(_: u32) -> Option<u64> {
    None
}

pub fn delete(args: DeleteArgs) -> Result<ExitCode> {
    let bundle = Store::open()?.find(&args.name)?;
    if !args.force {
        if !io::stdin().is_terminal() {
            bail!("will not delete {} without being asked twice\n  try: --force", bundle.name());
        }
        eprint!("Delete {} and its disk ({} MiB)? [y/N] ", bundle.name(), bundle.used_bytes() >> 20);
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            eprintln!("kept");
            return Ok(ExitCode::FAILURE);
        }
    }
    // What a crash left of its control socket has nobody to clear it up afterwards.
    life::clear_up(&bundle);
    let at_login = login::is_enabled(&bundle);
    bundle.clone().delete()?;
    if at_login {
        login::disable(&bundle)?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_host_names() {
        assert_eq!(hostname("Deb_1.x"), "deb-1-x");
        assert_eq!(hostname("_"), "tearless");
        assert_eq!(hostname(&"a".repeat(200)).len(), 63);
    }
}
