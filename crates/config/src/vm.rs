use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{AppleConfig, ByteSize, ConfigError, DisplayConfig, NetConfig, Qos, SoundConfig};

/// The version of the format that this release writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// A VM. It has no name: that is the bundle's, so that copying and renaming need no edit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmConfig {
    /// The format's version, [`VERSION`].
    pub version: u32,
    /// What runs its instructions.
    #[serde(default)]
    pub engine: EngineChoice,
    /// How many vCPUs.
    pub cpus: u32,
    /// Lifts the default limit on `cpus` up to what the board has room for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_overcommit: bool,
    /// How much memory.
    pub memory: ByteSize,
    /// How much of that the guest's balloon holds for the host.
    #[serde(default, skip_serializing_if = "ByteSize::is_zero")]
    pub balloon: ByteSize,
    /// Its disks, in the order in which the guest finds them.
    #[serde(default)]
    pub disks: Vec<DiskConfig>,
    /// Folders of the host that the guest sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<ShareConfig>,
    /// Its network.
    #[serde(default, skip_serializing_if = "NetConfig::is_default")]
    pub network: NetConfig,
    /// Its screen.
    #[serde(default, skip_serializing_if = "DisplayConfig::is_default")]
    pub display: DisplayConfig,
    /// Its sound.
    #[serde(default, skip_serializing_if = "SoundConfig::is_default")]
    pub sound: SoundConfig,
    /// What only Apple's framework gives it.
    #[serde(default, skip_serializing_if = "AppleConfig::is_default")]
    pub apple: AppleConfig,
    /// How it starts.
    pub boot: BootConfig,
    /// Firmware that boots it instead of Tearless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareConfig>,
    /// Which device is the console.
    #[serde(default)]
    pub console: ConsoleKind,
    /// What systemd in the guest is told to be its machine's identity: 32 hexadecimal digits. Without it the guest keeps
    /// what it has; a clone is given its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// The snapshot that the disks have started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// The snapshot whose memory the VM goes on with: it was put back to it, and the state is not in its place yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
    /// How much of the host it may take from others.
    #[serde(default, skip_serializing_if = "Qos::is_default")]
    pub qos: Qos,
    /// What its user notes about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// An engine, as the user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// The fastest that works on the host.
    #[default]
    Auto,
    /// Apple's Virtualization framework.
    Vz,
    /// Apple's Hypervisor framework.
    Hvf,
    /// Linux KVM.
    Kvm,
    /// The CPU in software; works everywhere.
    Soft,
}

impl EngineChoice {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Auto, Self::Vz, Self::Hvf, Self::Kvm, Self::Soft];

    /// The name on the command line and in `config.json`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Vz => "vz",
            Self::Hvf => "hvf",
            Self::Kvm => "kvm",
            Self::Soft => "soft",
        }
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text names no engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an engine; there are auto, vz, hvf, kvm and soft")]
pub struct UnknownEngine(String);

impl FromStr for EngineChoice {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        let known = Self::ALL.into_iter().find(|e| e.name() == text);
        known.ok_or_else(|| UnknownEngine(text.chars().take(40).collect()))
    }
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// The image. A relative path starts at the bundle's folder. Or the address of a server: `nbd://HOST:PORT/EXPORT`,
    /// `nbd+unix:///EXPORT?socket=PATH`.
    pub path: PathBuf,
    /// What the image is. Without it a bundle's own file is raw, and another goes by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<DiskFormat>,
    /// Refuses writes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// What a guest's flush means on the host.
    #[serde(default)]
    pub sync: SyncMode,
    /// Whether the host's page cache stands between the guest and the medium.
    #[serde(default, skip_serializing_if = "CacheMode::is_default")]
    pub cache: CacheMode,
    /// What it is attached to.
    #[serde(default, skip_serializing_if = "DiskBus::is_default")]
    pub bus: DiskBus,
}

impl DiskConfig {
    /// A writable disk with the defaults.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: None,
            read_only: false,
            sync: SyncMode::default(),
            cache: CacheMode::default(),
            bus: DiskBus::default(),
        }
    }
}

/// How an image stores a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// Byte `n` of the file is byte `n` of the disk.
    Raw,
    /// QEMU's.
    Qcow2,
    /// VMware's; read only.
    Vmdk,
}

/// What a disk is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskBus {
    /// Virtio.
    #[default]
    Virtio,
    /// An NVMe controller, for guests without a virtio driver.
    Nvme,
    /// USB, as installation media are.
    Usb,
}

impl DiskBus {
    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::Nvme => "nvme",
            Self::Usb => "usb",
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether the host caches a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheMode {
    /// In its page cache, as any file.
    #[default]
    Host,
    /// Not at all, where the host can do without (`O_DIRECT`; raw disks on Linux).
    None,
}

impl CacheMode {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a guest's flush means on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    /// The data is on the medium: survives a power failure everywhere (on macOS `F_FULLFSYNC`, which is slow).
    Full,
    /// `fsync`: survives a crash of the VM and, but for the drive's own cache on macOS, of the host.
    #[default]
    Fsync,
    /// Nothing: for VMs that can be lost.
    None,
}

/// A folder of the host that the guest sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareConfig {
    /// The folder, absolute.
    pub path: PathBuf,
    /// What the guest mounts it by. Our Debian guests mount it at `/mnt/TAG`.
    pub tag: String,
    /// Refuses changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// The guest's user, and group, that the host's user appears as.
    #[serde(default, skip_serializing_if = "is_root")]
    pub owner: u32,
}

fn is_root(owner: &u32) -> bool {
    *owner == 0
}

/// How a VM starts. Further kinds come with the guests that need them; an older release refuses a kind that it does
/// not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum BootConfig {
    /// A kernel given by the user. Relative paths start at the bundle's folder.
    LinuxKernel {
        /// The kernel.
        kernel: PathBuf,
        /// The RAM disk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        initrd: Option<PathBuf>,
        /// The kernel command line.
        #[serde(default)]
        cmdline: String,
    },
    /// A Debian that Tearless installed on the first disk.
    LinuxDebian {
        /// The release, "trixie".
        suite: String,
        /// The kernel. Relative paths start at the bundle's folder.
        kernel: PathBuf,
        /// The RAM disk that mounts the first disk.
        initrd: PathBuf,
        /// What is added to Tearless' own kernel command line.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        cmdline: String,
    },
    /// What EFI finds on the disks: an installed system, or an installer.
    Efi {
        /// The file that keeps EFI's variables. A relative path starts at the bundle's folder.
        variables: PathBuf,
        /// The installation that is not complete yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        installer: Option<InstallerConfig>,
    },
    /// A macOS in a virtual Mac. Which Mac it is stands in the bundle's files `HardwareModel` and `MachineIdentifier`.
    #[serde(rename = "macos")]
    MacOs {
        /// The virtual Mac's non-volatile memory, which changes at every boot. It belongs to the first disk: one without the
        /// other does not boot. A relative path starts at the bundle's folder.
        auxiliary: PathBuf,
        /// The macOS that was installed, "15.1", as far as that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// Its build, "24B83".
        #[serde(default, skip_serializing_if = "Option::is_none")]
        build: Option<String>,
    },
}

/// An installation that is not complete yet. Once it is, what belongs to it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstallerConfig {
    /// The medium, which is one of the disks.
    pub medium: PathBuf,
    /// What is done without questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unattended: Option<UnattendedConfig>,
}

/// An installer's kernel, which EFI starts before it looks at the disks, until it says that it is done. Relative paths start at
/// the bundle's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnattendedConfig {
    /// The kernel.
    pub kernel: PathBuf,
    /// Its RAM disk.
    pub initrd: PathBuf,
    /// Its command line.
    pub cmdline: String,
    /// The disk with the answers, if the installer takes them from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<PathBuf>,
}

impl BootConfig {
    /// EFI that finds what is on the disks.
    pub fn efi(variables: impl Into<PathBuf>) -> Self {
        Self::Efi { variables: variables.into(), installer: None }
    }

    /// The kernel command line, or the user's part of it; none where a boot loader has its own.
    pub fn cmdline(&self) -> Option<&str> {
        match self {
            Self::LinuxKernel { cmdline, .. } | Self::LinuxDebian { cmdline, .. } => Some(cmdline),
            Self::Efi { .. } | Self::MacOs { .. } => None,
        }
    }

    /// Whether the guest is macOS.
    pub fn is_mac(&self) -> bool {
        matches!(self, Self::MacOs { .. })
    }
}

/// Firmware of another's making, such as EDK2. Relative paths start at the bundle's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareConfig {
    /// Its code.
    pub code: PathBuf,
    /// The image of the flash that keeps its variables; none: they are gone when the VM ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variables: Option<PathBuf>,
}

/// Which device the guest's console is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleKind {
    /// The virtio console: fast, follows the window's size.
    #[default]
    Virtio,
    /// The UART: for kernels without a virtio driver.
    Uart,
}

impl VmConfig {
    /// A VM with 2 vCPUs, 2 GiB and nothing else.
    pub fn new(boot: BootConfig) -> Self {
        Self {
            version: VERSION,
            engine: EngineChoice::Auto,
            cpus: 2,
            allow_overcommit: false,
            memory: ByteSize::gib(2),
            balloon: ByteSize::default(),
            disks: Vec::new(),
            shares: Vec::new(),
            network: NetConfig::default(),
            display: DisplayConfig::default(),
            sound: SoundConfig::default(),
            apple: AppleConfig::default(),
            boot,
            firmware: None,
            console: ConsoleKind::default(),
            machine_id: None,
            snapshot: None,
            resume: None,
            qos: Qos::default(),
            description: String::new(),
        }
    }

    /// Reads what [`Self::to_json`] wrote, or a person after it.
    ///
    /// # Errors
    /// [`ConfigError::Newer`] for a later format, [`ConfigError::Malformed`] for anything else that does not fit,
    /// unknown fields included: silently dropping a setting would run another VM than the one described.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let malformed = |e: serde_json::Error| ConfigError::Malformed(e.to_string());
        let Versioned { version } = serde_json::from_str(text).map_err(malformed)?;
        if version > u64::from(VERSION) {
            return Err(ConfigError::Newer { found: version, known: VERSION });
        }
        if version == 0 {
            return Err(ConfigError::Malformed("there is no version 0 of the format".into()));
        }
        Ok(serde_json::from_str::<Self>(text).map_err(malformed)?.updated())
    }

    /// This description, with what older releases said elsewhere in its place.
    #[must_use]
    pub fn updated(mut self) -> Self {
        self.apple.hand_over(&mut self.sound);
        self
    }

    /// The text of `config.json`.
    ///
    /// # Errors
    /// [`ConfigError::Malformed`] when a path is not UTF-8, which JSON cannot hold.
    pub fn to_json(&self) -> Result<String, ConfigError> {
        let mut text =
            serde_json::to_string_pretty(self).map_err(|e| ConfigError::Malformed(e.to_string()))?;
        text.push('\n');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian() -> VmConfig {
        VmConfig {
            disks: vec![DiskConfig::new("Disk.img")],
            ..VmConfig::new(BootConfig::LinuxDebian {
                suite: "trixie".into(),
                kernel: "Kernel".into(),
                initrd: "Initrd".into(),
                cmdline: String::new(),
            })
        }
    }

    #[test]
    fn the_format_is_stable() {
        let text = r#"{
  "version": 1,
  "engine": "auto",
  "cpus": 2,
  "memory": "2G",
  "disks": [
    {
      "path": "Disk.img",
      "sync": "fsync"
    }
  ],
  "boot": {
    "kind": "linux-debian",
    "suite": "trixie",
    "kernel": "Kernel",
    "initrd": "Initrd"
  },
  "console": "virtio"
}
"#;
        assert_eq!(debian().to_json().unwrap(), text);
        assert_eq!(VmConfig::from_json(text).unwrap(), debian());
    }

    #[test]
    fn a_short_description_takes_defaults() {
        let text = r#"{"version":1,"cpus":1,"memory":67108864,"boot":{"kind":"linux-kernel","kernel":"k"}}"#;
        let config = VmConfig::from_json(text).unwrap();
        assert_eq!(config.memory, ByteSize::mib(64));
        assert_eq!(config.engine, EngineChoice::Auto);
        let kernel = BootConfig::LinuxKernel { kernel: "k".into(), initrd: None, cmdline: String::new() };
        assert_eq!(config.boot, kernel);
        assert_eq!(VmConfig::from_json(&config.to_json().unwrap()).unwrap(), config);
    }

    #[test]
    fn a_virtual_mac_reads_back() {
        let text = r#"{"version":1,"cpus":4,"memory":"8G","boot":{"kind":"macos","auxiliary":"AuxiliaryStorage","build":"24B83"}}"#;
        let config = VmConfig::from_json(text).unwrap();
        let (auxiliary, build) = ("AuxiliaryStorage".into(), Some("24B83".into()));
        assert_eq!(config.boot, BootConfig::MacOs { auxiliary, version: None, build });
        assert!(config.boot.is_mac() && config.boot.cmdline().is_none());
        assert_eq!(VmConfig::from_json(&config.to_json().unwrap()).unwrap(), config);
    }

    #[test]
    fn a_newer_format_is_refused_with_both_versions() {
        let e = VmConfig::from_json(r#"{"version":7,"cpus":"many"}"#).unwrap_err();
        assert_eq!(e, ConfigError::Newer { found: 7, known: 1 });
        assert!(e.to_string().contains("version 7") && e.to_string().contains("up to 1"));
    }

    #[test]
    fn damaged_descriptions_are_refused() {
        let good = debian().to_json().unwrap();
        for (from, to) in [
            ("\"cpus\"", "\"cpu\""),
            ("\"cpus\": 2", "\"cpus\": -2"),
            ("\"cpus\": 2", "\"cpus\": 4294967296"),
            ("\"2G\"", "\"2X\""),
            ("linux-debian", "linux-plan9"),
            ("\"suite\"", "\"suit\""),
            ("\"sync\": \"fsync\"", "\"sync\": \"fsync\", \"cache\": 1"),
            ("\"auto\"", "\"fast\""),
            ("\"version\": 1", "\"version\": 0"),
            ("\"version\": 1,", ""),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            assert!(matches!(VmConfig::from_json(&bad), Err(ConfigError::Malformed(_))), "{to}: {bad}");
        }
        for len in 0..good.len() - 2 {
            assert!(VmConfig::from_json(&good[..len]).is_err(), "cut to {len}");
        }
        let text = VmConfig::from_json(&good.replacen("cpus", "cpuz", 1)).unwrap_err().to_string();
        assert!(text.contains("cpuz"), "{text}");
    }

    #[test]
    fn engines_are_named() {
        for engine in EngineChoice::ALL {
            assert_eq!(engine.to_string().parse(), Ok(engine));
        }
        assert!("qemu".parse::<EngineChoice>().unwrap_err().to_string().contains("`qemu`"));
    }
}
