//! The machine as a whole: platform, boot loader, CPUs, memory.

use std::path::Path;

use tearless_config::{BootConfig, ConsoleKind, VmConfig};

use crate::{Object, Value, devices};

/// The framework starts no VM with less (`minimumAllowedMemorySize` of an arm64 host).
const MEMORY_UNIT: u64 = 1 << 20;

/// The host that the VM is to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The version of macOS: 15, 1.
    pub macos: (u32, u32),
    /// How many CPUs it has; `None` when that is not known. The framework takes no more vCPUs.
    pub cpus: Option<u32>,
}

impl Host {
    /// A host that has everything that is planned here.
    pub const NEWEST: Self = Self { macos: (26, 0), cpus: None };

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
        .with("bootLoader", boot_loader(machine)?)
        .with_list("storageDevices", devices::disks(machine, host)?)
        .with_list("networkDevices", devices::network(config, host)?)
        .with_list("directorySharingDevices", devices::shares(config, host)?)
        .with_list("entropyDevices", vec![Object::new("VZVirtioEntropyDeviceConfiguration")])
        .with_list(
            "memoryBalloonDevices",
            vec![Object::new("VZVirtioTraditionalMemoryBalloonDeviceConfiguration")],
        )
        .with_list("socketDevices", vec![Object::new("VZVirtioSocketDeviceConfiguration")]);
    if config.boot.is_mac() {
        plan = devices::add_mac_devices(plan, host);
    } else {
        let streams = Object::new("VZFileHandleSerialPortAttachment");
        let console = Object::new("VZVirtioConsoleDeviceSerialPortConfiguration").with("attachment", streams);
        plan = plan.with_list("serialPorts", vec![console]);
    }
    Ok(plan)
}

/// How a virtual Mac starts: `None` for the framework's default.
pub fn start_options(recovery: bool) -> Option<Object> {
    recovery.then(|| Object::new("VZMacOSVirtualMachineStartOptions").with("startUpFromMacOSRecovery", true))
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

fn platform(machine: &Machine<'_>, host: &Host) -> Result<Object, Refusal> {
    let BootConfig::MacOs { auxiliary, .. } = &machine.config.boot else {
        let platform = Object::new("VZGenericPlatformConfiguration");
        // Before macOS 13 a generic machine has no identifier.
        let identifier = host.has(13).then(|| Object::new("VZGenericMachineIdentifier"));
        return Ok(identifier.into_iter().fold(platform, |p, id| p.with("machineIdentifier", id)));
    };
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

fn boot_loader(machine: &Machine<'_>) -> Result<Object, Refusal> {
    let (kernel, initrd) = match &machine.config.boot {
        BootConfig::MacOs { .. } => return Ok(Object::new("VZMacOSBootLoader")),
        BootConfig::Efi { .. } => {
            let why = "its EFI variables are in Tearless' own format, which the framework does not read";
            return refuse("EFI", why, "--engine soft");
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
