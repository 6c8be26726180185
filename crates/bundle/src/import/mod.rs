//! VMs of other programs: what they are is read, their files are taken over as copies that share blocks where the file
//! system can do that. The originals stay as they are. The guest stays the machine that it was.

mod apple;
pub mod tart;

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use tearless_config::{
    BootConfig, ByteSize, ConsoleKind, DiskConfig, DiskFormat, DisplayChoice, MacAddr, ScreenMode,
    ShareConfig, VmConfig,
};

use crate::{
    Bundle, Error, Result, Store,
    bundle::DISK_FILE,
    files::failed,
    mac::{AUXILIARY_FILE, MachineIdentifier, Platform},
};

/// What a virtual Mac gets whose program did not say.
const MAC_CPUS: u32 = 4;
const MAC_MEMORY: ByteSize = ByteSize::gib(8);
/// EFI's variables, as this program keeps them.
const VARIABLES_FILE: &str = "NVRAM";
/// EFI's variables, as Apple's framework keeps them: for the way back.
pub const APPLE_VARIABLES_FILE: &str = "nvram.bin";
/// Descriptions have a few KiB.
const MAX_DESCRIPTION: u64 = 1 << 20;

/// A VM of another program.
#[derive(Debug)]
pub struct Foreign {
    /// Whose format it is in.
    pub program: &'static str,
    /// What it runs.
    pub guest: Guest,
    /// How many vCPUs it has, if that is said.
    pub cpus: Option<u32>,
    /// How much memory it has, if that is said.
    pub memory: Option<ByteSize>,
    /// The address of its network card, if that is said.
    pub mac: Option<MacAddr>,
    /// The size of its screen, if that is said.
    pub screen: Option<ScreenMode>,
    /// Its disks, the one that it boots from first.
    pub disks: Vec<ForeignDisk>,
    /// Folders of the host that it sees.
    pub shares: Vec<ShareConfig>,
    /// What the user is to know.
    pub notes: Vec<String>,
}

/// What a VM of another program runs.
#[derive(Debug)]
pub enum Guest {
    /// macOS.
    Mac {
        /// Which virtual Mac it is.
        platform: Platform,
        /// That Mac's auxiliary storage.
        auxiliary: PathBuf,
    },
    /// What EFI finds on the disks.
    Efi {
        /// EFI's variables in the format of Apple's framework.
        variables: Option<PathBuf>,
    },
    /// A Linux kernel.
    Kernel {
        /// The kernel.
        kernel: PathBuf,
        /// The RAM disk.
        initrd: Option<PathBuf>,
        /// The kernel's command line.
        cmdline: String,
    },
}

/// A disk of a VM of another program.
#[derive(Debug, PartialEq, Eq)]
pub struct ForeignDisk {
    /// The image.
    pub path: PathBuf,
    /// What it is.
    pub format: DiskFormat,
    /// An installation medium, say: it stays where it is.
    pub read_only: bool,
}

impl ForeignDisk {
    /// A disk that the guest writes.
    pub(crate) fn raw(path: PathBuf) -> Self {
        Self { path, format: DiskFormat::Raw, read_only: false }
    }
}

impl Foreign {
    /// Nothing but what must be.
    pub(crate) fn new(program: &'static str, guest: Guest) -> Self {
        let (cpus, memory, mac, screen) = (None, None, None, None);
        let (disks, shares, notes) = (Vec::new(), Vec::new(), Vec::new());
        Self { program, guest, cpus, memory, mac, screen, disks, shares, notes }
    }

    /// Looks at the VM in `folder`.
    ///
    /// # Errors
    /// [`Error::Foreigner`] when it is none that can be taken over; [`Error::Platform`] when it is damaged.
    pub fn inspect(folder: &Path) -> Result<Self> {
        if apple::is_one(folder) {
            return apple::read(folder);
        }
        if tart::is_one(folder) {
            return tart::read(folder);
        }
        let why = if folder.is_dir() {
            "it has not the files of a VM that is known here"
        } else {
            "there is no such folder"
        };
        Err(refused(folder, why.into()))
    }

    /// Makes the VM `name` in `store` of it. `adapt` has the last word on its configuration.
    ///
    /// # Errors
    /// [`Error::Exists`], or what the host says; then there is no VM.
    pub fn adopt(&self, store: &Store, name: &str, adapt: impl FnOnce(&mut VmConfig)) -> Result<Bundle> {
        let new = store.create(name)?;
        let mut config = self.config();
        for (disk, own) in self.disks.iter().zip(&config.disks).filter(|(disk, _)| !disk.read_only) {
            tearless_storage::copy(&disk.path, &new.path().join(&own.path))?;
        }
        match &self.guest {
            Guest::Mac { auxiliary, .. } => {
                tearless_storage::copy(auxiliary, &new.path().join(AUXILIARY_FILE))?;
            }
            Guest::Efi { variables } => {
                if let Some(variables) = variables {
                    tearless_storage::copy(variables, &new.path().join(APPLE_VARIABLES_FILE))?;
                }
            }
            Guest::Kernel { kernel, initrd, .. } => {
                tearless_storage::copy(kernel, &new.path().join("Kernel"))?;
                if let Some(initrd) = initrd {
                    tearless_storage::copy(initrd, &new.path().join("Initrd"))?;
                }
            }
        }
        self.write_identity(new.path())?;
        adapt(&mut config);
        new.finish(&config)
    }

    /// Writes what says which machine it is into `folder`.
    ///
    /// # Errors
    /// What the host says.
    pub fn write_identity(&self, folder: &Path) -> Result<()> {
        match &self.guest {
            Guest::Mac { platform, .. } => platform.write(folder),
            Guest::Efi { .. } | Guest::Kernel { .. } => Ok(()),
        }
    }

    /// It as a VM of ours, with the names that its files get.
    pub fn config(&self) -> VmConfig {
        let boot = match &self.guest {
            Guest::Mac { .. } => {
                BootConfig::MacOs { auxiliary: AUXILIARY_FILE.into(), version: None, build: None }
            }
            Guest::Efi { .. } => BootConfig::efi(VARIABLES_FILE),
            Guest::Kernel { initrd, cmdline, .. } => BootConfig::LinuxKernel {
                kernel: "Kernel".into(),
                initrd: initrd.as_ref().map(|_| "Initrd".into()),
                cmdline: cmdline.clone(),
            },
        };
        let mut config = VmConfig::new(boot);
        if config.boot.is_mac() {
            (config.cpus, config.memory) = (MAC_CPUS, MAC_MEMORY);
        }
        if matches!(config.boot, BootConfig::Efi { .. }) {
            // That is where boot loaders are seen.
            config.console = ConsoleKind::Uart;
        }
        config.cpus = self.cpus.unwrap_or(config.cpus);
        config.memory = self.memory.unwrap_or(config.memory);
        config.network.mac = self.mac;
        if let Some(screen) = self.screen.filter(ScreenMode::is_possible) {
            config.display.apply(DisplayChoice::Mode(screen));
        }
        config.shares.clone_from(&self.shares);
        config.disks = self.disks.iter().enumerate().map(|(index, disk)| disk.config(index)).collect();
        config
    }
}

impl ForeignDisk {
    /// It as a disk of ours, at place `index`.
    fn config(&self, index: usize) -> DiskConfig {
        let format = Some(self.format).filter(|format| *format != DiskFormat::Raw);
        if self.read_only {
            let format = Some(self.format);
            return DiskConfig { read_only: true, format, ..DiskConfig::new(&self.path) };
        }
        let ending = if format.is_some() { "qcow2" } else { "img" };
        let name = match index {
            0 if format.is_none() => DISK_FILE.into(),
            0 => format!("Disk.{ending}"),
            _ => format!("Disk-{}.{ending}", index + 1),
        };
        DiskConfig { format, ..DiskConfig::new(name) }
    }
}

/// The identifier that is given, or that the auxiliary storage has.
fn identifier(given: Option<&[u8]>, auxiliary: &Path, notes: &mut Vec<String>) -> Result<MachineIdentifier> {
    match given.map(MachineIdentifier::from_data) {
        Some(Ok(identifier)) => Ok(identifier),
        lost => {
            let why = match lost {
                Some(Err(why)) => format!("was damaged ({why})"),
                _ => "was lost".into(),
            };
            let identifier = crate::mac::recover(auxiliary)?;
            notes.push(format!("its identifier {why}; it was recovered from the auxiliary storage"));
            Ok(identifier)
        }
    }
}

/// Reads a description.
fn description(path: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = fs::File::open(path).map_err(failed("read", path))?;
    file.take(MAX_DESCRIPTION + 1).read_to_end(&mut text).map_err(failed("read", path))?;
    match text.len() as u64 {
        ..=MAX_DESCRIPTION => Ok(text),
        _ => Err(refused(path, "it is larger than 1 MiB".into())),
    }
}

fn refused(path: &Path, why: String) -> Error {
    Error::Foreigner { path: path.into(), why }
}

#[cfg(test)]
mod tests;
