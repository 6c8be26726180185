//! The machine as a whole: platform, boot loader, CPUs, memory.

use std::path::Path;

use tearless_config::{AppleConfig, BootConfig, ConsoleKind, InstallerConfig, VmConfig, apple_variables};

use crate::{Object, Stream, Value, devices, input};

/// The framework starts no VM with less (`minimumAllowedMemorySize` of an arm64 host).
const MEMORY_UNIT: u64 = 1 << 20;

/// The host that the VM is to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The version of macOS: 15, 1.
    pub macos: (u32, u32),
    /// How many CPUs it has; `None` when that is not known. The framework takes no more vCPUs.
    pub cpus: Option<u32>,
    /// Whether VMs of this program may be on the host's networks: the entitlement `com.apple.vm.networking`.
    pub bridges: bool,
}

impl Host {
    /// A host that has everything that is planned here.
    pub const NEWEST: Self = Self { macos: (27, 0), cpus: None, bridges: true };

    pub(crate) fn has(&self, major: u32) -> bool {
        self.macos.0 >= major
    }
}

/// What makes the VM a particular virtual Mac.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform<'a> {
    /// The file `HardwareModel`.
    pub model: &'a [u8],
    /// The file `MachineIdentifier`.
    pub identifier: &'a [u8],
}

/// The VM.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// What it is made of; validated.
    pub config: &'a VmConfig,
    /// The bundle's folder, where relative paths begin.
    pub folder: &'a Path,
    /// Which virtual Mac it is, of one that is.
    pub platform: Option<Platform<'a>>,
    /// What tells another VM from others, as the framework wrote it; without it the VM is a new one each time.
    pub identifier: Option<&'a [u8]>,
    /// The kernel command line as a whole.
    pub cmdline: &'a str,
}

/// What the framework would refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What cannot be had.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do.
    pub advice: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "engine vz cannot run a VM with {}\n  because: {}\n  try: {}",
            self.what, self.why, self.advice
        )
    }
}

impl std::error::Error for Refusal {}

pub(crate) fn refuse<T>(
    what: impl Into<String>,
    why: impl Into<String>,
    advice: impl Into<String>,
) -> Result<T, Refusal> {
    Err(Refusal { what: what.into(), why: why.into(), advice: advice.into() })
}

/// The `VZVirtualMachineConfiguration` of a VM.
///
/// # Errors
/// [`Refusal`] for the first thing that the framework cannot give on that host.
pub fn plan(machine: &Machine<'_>, host: &Host) -> Result<Object, Refusal> {
    let config = machine.config;
    check_size(config, host)?;
    let mut plan = Object::new("VZVirtualMachineConfiguration")
        .with("CPUCount", u64::from(config.cpus))
        .with("memorySize", config.memory.bytes())
        .with("platform", platform(machine, host)?)
        .with("bootLoader", boot_loader(machine, host)?)
        .with_list("storageDevices", devices::disks(machine, host)?)
        .with_list("networkDevices", devices::network(config, host)?)
        .with_list("directorySharingDevices", devices::shares(config, host)?)
        .with_list("graphicsDevices", input::graphics(config, host)?)
        .with_list("keyboards", input::keyboards(config, host))
        .with_list("pointingDevices", input::pointers(config, host))
        .with_list("audioDevices", input::sound(config)?)
        .with_list("entropyDevices", vec![Object::new("VZVirtioEntropyDeviceConfiguration")])
        .with_list(
            "memoryBalloonDevices",
            vec![Object::new("VZVirtioTraditionalMemoryBalloonDeviceConfiguration")],
        )
        .with_list("socketDevices", vec![Object::new("VZVirtioSocketDeviceConfiguration")]);
    if !config.boot.is_mac() {
        let streams = Object::new("VZFileHandleSerialPortAttachment")
            .with("fileHandleForReading", Stream::ConsoleInput)
            .with("fileHandleForWriting", Stream::ConsoleOutput);
        let console = Object::new("VZVirtioConsoleDeviceSerialPortConfiguration").with("attachment", streams);
        plan = plan.with_list("serialPorts", vec![console]);
        plan = plan.with_list("consoleDevices", input::clipboard(config, host)?);
    }
    Ok(plan)
}

/// The user that macOS makes when it first starts, instead of asking Setup Assistant's questions (macOS 27).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FirstUser<'a> {
    /// What the user is called.
    pub full_name: &'a str,
    /// The account's name.
    pub name: &'a str,
    /// The password.
    pub password: &'a str,
    /// Whether the user is logged in whenever macOS starts.
    pub logs_in: bool,
    /// Whether the user can log in by SSH.
    pub remote_login: bool,
}

/// Where a virtual Mac starts.
#[derive(Clone, Copy)]
pub enum MacStart<'a> {
    /// In macOS' Recovery.
    Recovery,
    /// For the first time, with a user.
    First(FirstUser<'a>),
}

/// The options with which a virtual Mac starts in another way than by default.
pub fn start_options(how: MacStart<'_>) -> Object {
    let options = Object::new("VZMacOSVirtualMachineStartOptions");
    match how {
        MacStart::Recovery => options.with("startUpFromMacOSRecovery", true),
        MacStart::First(user) => {
            let provisioning = Object::new("VZMacGuestProvisioningOptions")
                .with("fullName", user.full_name)
                .with("username", user.name)
                .with("password", user.password)
                .with("logsInAutomatically", user.logs_in)
                .with("enablesRemoteLogin", user.remote_login);
            options.with("guestProvisioningOptions", provisioning)
        }
    }
}

fn check_size(config: &VmConfig, host: &Host) -> Result<(), Refusal> {
    if !host.has(12) {
        let (why, advice) =
            ("macOS 12 is the oldest that it is planned for", "update macOS, or --engine soft");
        return refuse(format!("a host with macOS {}.{}", host.macos.0, host.macos.1), why, advice);
    }
    match host.cpus {
        Some(most) if config.cpus > most => {
            let why = format!("the framework gives no more than the host's {most}, overcommitted or not");
            return refuse(format!("{} vCPUs", config.cpus), why, format!("--cpus {most}, or --engine soft"));
        }
        _ => {}
    }
    if !config.memory.bytes().is_multiple_of(MEMORY_UNIT) {
        return refuse(format!("{} of memory", config.memory), "it is no whole MiB", "--memory 4G");
    }
    Ok(())
}

fn generic_platform(machine: &Machine<'_>, host: &Host) -> Result<Object, Refusal> {
    let mut platform = Object::new("VZGenericPlatformConfiguration");
    // Before macOS 13 a generic machine has no identifier.
    if host.has(13) {
        let identifier = Object::new("VZGenericMachineIdentifier");
        platform = platform.with(
            "machineIdentifier",
            match machine.identifier {
                Some(data) => identifier.with("dataRepresentation", Value::Data(data.into())),
                None => identifier,
            },
        );
    }
    if !machine.config.apple.nested {
        return Ok(platform);
    }
    if !host.has(15) {
        let why = "VMs in a VM need macOS 15, and an M3 or newer";
        return refuse("nested", why, "update macOS, or --apple nested=off");
    }
    Ok(platform.with("nestedVirtualizationEnabled", true))
}

/// What a virtual Mac cannot have.
fn check_mac(apple: &AppleConfig) -> Result<(), Refusal> {
    let linux_only = [
        (apple.nested, "nested", "the framework lets Linux guests only run VMs"),
        (
            apple.rosetta.is_some(),
            "rosetta",
            "macOS guests have a Rosetta of their own: softwareupdate --install-rosetta",
        ),
        (
            apple.clipboard,
            "clipboard",
            "macOS guests have no SPICE agent; macOS 15 shares the clipboard of hosts and guests by itself",
        ),
    ];
    match linux_only.into_iter().find(|(on, ..)| *on) {
        Some((_, what, why)) => refuse(what, why, format!("--apple {what}=off")),
        None => Ok(()),
    }
}

fn platform(machine: &Machine<'_>, host: &Host) -> Result<Object, Refusal> {
    let BootConfig::MacOs { auxiliary, .. } = &machine.config.boot else {
        return generic_platform(machine, host);
    };
    check_mac(&machine.config.apple)?;
    let Some(Platform { model, identifier }) = machine.platform else {
        let advice = "restore the files HardwareModel and MachineIdentifier of the bundle";
        return refuse("no platform", "it is not said which virtual Mac it is", advice);
    };
    let data = |class, bytes: &[u8]| Object::new(class).with("dataRepresentation", Value::Data(bytes.into()));
    let path = machine.folder.join(auxiliary);
    Ok(Object::new("VZMacPlatformConfiguration")
        .with("hardwareModel", data("VZMacHardwareModel", model))
        .with("machineIdentifier", data("VZMacMachineIdentifier", identifier))
        .with("auxiliaryStorage", Object::new("VZMacAuxiliaryStorage").with("URL", path.as_path())))
}

fn boot_loader(machine: &Machine<'_>, host: &Host) -> Result<Object, Refusal> {
    if machine.config.firmware.is_some() {
        return refuse(
            "firmware",
            "the framework boots with its own",
            "leave --firmware out, or --engine soft",
        );
    }
    let (kernel, initrd) = match &machine.config.boot {
        BootConfig::MacOs { .. } => return Ok(Object::new("VZMacOSBootLoader")),
        BootConfig::Efi { .. } if !host.has(13) => {
            return refuse("EFI", "the framework has it from macOS 13 on", "update macOS, or --engine soft");
        }
        BootConfig::Efi { installer: Some(InstallerConfig { unattended: Some(_), .. }), .. } => {
            let why = "the framework's EFI takes no kernel of the host's";
            return refuse("an installation without questions", why, "--engine soft until it is installed");
        }
        BootConfig::Efi { variables, .. } => {
            // The framework's own EFI keeps its variables in a format of its own.
            let store = Object::new("VZEFIVariableStore")
                .with("URL", machine.folder.join(apple_variables(variables)).as_path())
                .with("createsMissing", true);
            return Ok(Object::new("VZEFIBootLoader").with("variableStore", store));
        }
        BootConfig::LinuxKernel { kernel, initrd, .. } => (kernel, initrd.as_ref()),
        BootConfig::LinuxDebian { kernel, initrd, .. } => (kernel, Some(initrd)),
    };
    if machine.config.console == ConsoleKind::Uart {
        let why = "the framework's machine has no UART, only a virtio console";
        let advice = "give the kernel console=hvc0, or run it with --engine soft";
        return refuse("a console at the UART", why, advice);
    }
    let mut loader =
        Object::new("VZLinuxBootLoader").with("kernelURL", machine.folder.join(kernel).as_path());
    if let Some(initrd) = initrd {
        loader = loader.with("initialRamdiskURL", machine.folder.join(initrd).as_path());
    }
    Ok(loader.with("commandLine", machine.cmdline))
}
