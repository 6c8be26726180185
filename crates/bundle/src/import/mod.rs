//! VMs of other programs: what they are is read, their files are taken over as copies that share blocks where the file
//! system can do that. The originals stay as they are. The guest stays the machine that it was.

mod apple;
mod export;
mod json;
mod lima;
pub mod tart;
mod utm;
mod vfkit;

use std::{
    fs,
    io::Read as _,
    path::{Component, Path, PathBuf},
};

use tearless_config::{
    BootConfig, ByteSize, ConsoleKind, DiskConfig, DiskFormat, DisplayChoice, MacAddr, ScreenMode,
    ShareConfig, VmConfig,
};

use tearless_storage::Format;

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
/// What is said where EFI's variables cannot be taken over.
const NEW_VARIABLES: &str =
    "EFI's variables start anew: what is booted is found at its usual place on the disk";
/// Descriptions have a few KiB.
const MAX_DESCRIPTION: u64 = 1 << 20;

/// Whether a folder is a VM of a program, and how it is read.
type Kind = (fn(&Path) -> bool, fn(&Path) -> Result<Foreign>);

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

    /// Looks at the VM in `path`: a folder, or the file that describes it.
    ///
    /// # Errors
    /// [`Error::Foreigner`] when it is none that can be taken over; [`Error::Platform`] when it is damaged.
    pub fn inspect(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let kinds: [Kind; 5] = [
                (apple::is_one, apple::read),
                (tart::is_one, tart::read),
                (utm::is_one, utm::read),
                (json::is_lume, json::read_lume),
                (lima::is_one, lima::read),
            ];
            if let Some((_, read)) = kinds.iter().find(|(is_one, _)| is_one(path)) {
                return read(path)?.checked(path);
            }
            let vm = path.join(json::VM_FILE);
            if vm.is_file() {
                return json::read_macosvm(&vm)?.checked(path);
            }
            return Err(refused(path, "it has not the files of a VM that is known here".into()));
        }
        if !path.is_file() {
            return Err(refused(path, "there is no such folder".into()));
        }
        let text = description(path)?;
        let read = if vfkit::is_one(&text) { vfkit::parse } else { json::parse_macosvm };
        read(&text, path)?.checked(path)
    }

    /// What `text` of a description of any kind says, of a VM in `folder`. For those who test the readers.
    #[doc(hidden)]
    pub fn parse_all(text: &[u8], folder: &Path) -> Vec<Self> {
        let file = |name: &str| folder.join(name);
        let all = [
            Self::tart(text, file(tart::DISK), file(tart::NVRAM)),
            utm::parse(text, folder),
            json::parse_lume(text, folder),
            json::parse_macosvm(text, &file(json::VM_FILE)),
            lima::parse(text, folder),
            vfkit::parse(text, &file("start.sh")),
        ];
        all.into_iter().flatten().collect()
    }

    /// It, if its disks are there and its images build on nothing outside of its folder.
    fn checked(self, what: &Path) -> Result<Self> {
        for disk in &self.disks {
            if !disk.path.is_file() {
                return Err(refused(what, format!("its disk {} is not there", disk.path.display())));
            }
            if disk.format == DiskFormat::Raw {
                continue;
            }
            let own = disk.path.parent().and_then(|folder| folder.canonicalize().ok());
            let options = tearless_storage::OpenOptions {
                read_only: true,
                format: Some(Format::Qcow2),
                ..tearless_storage::OpenOptions::default()
            };
            for file in tearless_storage::backing_files(&disk.path, options)? {
                let folder = file.canonicalize().ok().and_then(|file| Some(file.parent()?.to_owned()));
                if folder != own {
                    let file = file.display();
                    return Err(refused(what, format!("its disk builds on {file}, outside of its folder")));
                }
            }
        }
        Ok(self)
    }

    /// Makes the VM `name` in `store` of it. `adapt` has the last word on its configuration.
    ///
    /// # Errors
    /// [`Error::Exists`], or what the host says; then there is no VM.
    pub fn adopt(&self, store: &Store, name: &str, adapt: impl FnOnce(&mut VmConfig)) -> Result<Bundle> {
        let new = store.create(name)?;
        let mut config = self.config();
        for (disk, own) in self.disks.iter().zip(&config.disks).filter(|(disk, _)| !disk.read_only) {
            let to = new.path().join(&own.path);
            match disk.format {
                DiskFormat::Raw => tearless_storage::copy(&disk.path, &to)?,
                // It may build on another image, which is not the VM's.
                DiskFormat::Qcow2 | DiskFormat::Vmdk => {
                    tearless_storage::flatten(&disk.path, Some(Format::Qcow2), &to)?;
                }
            }
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
        if self.read_only {
            let format = Some(self.format);
            return DiskConfig { read_only: true, format, ..DiskConfig::new(&self.path) };
        }
        DiskConfig::new(if index == 0 { DISK_FILE.into() } else { format!("Disk-{}.img", index + 1) })
    }
}

/// The file `name` of `folder`; a description names no other.
fn inside(folder: &Path, name: &str) -> Result<PathBuf> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) => Ok(folder.join(name)),
        _ => Err(refused(
            folder,
            format!("its description names the file `{name}`, which is not in its folder"),
        )),
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

pub use export::ExportFormat;

fn refused(path: &Path, why: String) -> Error {
    Error::Foreigner { path: path.into(), why }
}

#[cfg(test)]
mod tests;
