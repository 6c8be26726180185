//! The way back: a VM of ours as one of another program.

use std::{fmt::Write as _, fs, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use plist::Data;
use tearless_config::{BootConfig, MacAddr, NetMode, VmConfig};

use super::{
    APPLE_VARIABLES_FILE, json, lima,
    tart::{self, DISK, NVRAM},
    utm,
};
use crate::{
    Bundle, Error, Result,
    bundle::{CONFIG_FILE, DISK_FILE},
    files::{failed, write_atomically},
    layers,
    mac::{AUXILIARY_FILE, IDENTIFIER_FILE, MODEL_FILE, Platform},
};

/// What a VM of ours can become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// A folder of Tart.
    Tart,
    /// A folder as Apple's sample code and Viable have it.
    Apple,
    /// A folder of UTM, for Apple's framework.
    Utm,
    /// A folder of Lume.
    Lume,
    /// A folder with a command line of vfkit, `start.sh`.
    Vfkit,
    /// A folder of VirtualBuddy.
    VirtualBuddy,
    /// A folder with macosvm's description, `vm.json`.
    MacOsVm,
    /// The folder of an instance of Lima, for Apple's framework.
    Lima,
}

/// A VM on its way out.
struct Export<'a> {
    bundle: &'a Bundle,
    config: &'a VmConfig,
    platform: Option<Platform>,
    mac: MacAddr,
    to: &'a Path,
}

impl Bundle {
    /// Makes the folder `to` of it, in the format of another program; `mac` is the address of its network card if it has no
    /// other. The disks are raw then, and copies that share blocks where the file system can do that. Returns what could
    /// not be carried over.
    ///
    /// # Errors
    /// [`Error::Running`], [`Error::Export`] when the format has no such VMs, or what the host says; then there is no folder.
    pub fn export(&self, format: ExportFormat, to: &Path, mac: MacAddr) -> Result<Vec<String>> {
        let _lock = self.lock()?;
        self.refuse_suspended("export")?;
        let config = self.config()?;
        let platform = if config.boot.is_mac() { Some(self.platform()?) } else { None };
        let mac = config.network.mac.unwrap_or(mac);
        fs::create_dir(to).map_err(failed("create", to))?;
        let export = Export { bundle: self, config: &config, platform, mac, to };
        export.write(format).inspect_err(|_| {
            // It is of no use; what matters is the first error.
            let _ = fs::remove_dir_all(to);
        })
    }
}

impl Export<'_> {
    fn write(&self, format: ExportFormat) -> Result<Vec<String>> {
        let mut notes = self.notes();
        match format {
            ExportFormat::Tart => {
                self.needs_no_kernel("Tart")?;
                self.only_disk(DISK)?;
                self.nvram(NVRAM, &mut notes)?;
                let text = tart::describe(self.config, self.platform.as_ref(), self.mac);
                self.file(CONFIG_FILE, &text)?;
            }
            ExportFormat::Apple => {
                self.sample(&mut notes)?;
                notes.push("vCPUs, memory, network address and screen have no place there".into());
            }
            ExportFormat::Utm => self.utm(&mut notes)?,
            ExportFormat::Lume => {
                self.needs_no_kernel("Lume")?;
                let size = self.only_disk(DISK)?;
                self.nvram(NVRAM, &mut notes)?;
                self.lume(size)?;
            }
            ExportFormat::Vfkit => self.vfkit(&mut notes)?,
            ExportFormat::VirtualBuddy => {
                self.sample(&mut notes)?;
                notes.push("VirtualBuddy's own settings (vCPUs, memory, displays) start anew".into());
                if self.to.extension().is_none_or(|extension| extension != "vbvm") {
                    notes.push("VirtualBuddy sees the folder when its name ends in .vbvm".into());
                }
            }
            ExportFormat::MacOsVm => self.macosvm(&mut notes)?,
            ExportFormat::Lima => self.lima(&mut notes)?,
        }
        Ok(notes)
    }

    fn refused(&self, why: &str) -> Error {
        Error::Export { name: self.bundle.name().into(), why: why.into() }
    }

    fn needs_no_kernel(&self, program: &str) -> Result<()> {
        match &self.config.boot {
            BootConfig::Efi { .. } | BootConfig::MacOs { .. } => Ok(()),
            BootConfig::LinuxKernel { .. } | BootConfig::LinuxDebian { .. } => {
                Err(self.refused(&format!("it boots a kernel directly, and {program} boots from disks only")))
            }
        }
    }

    /// What no format has a place for.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let config = self.config;
        let outside = config.disks.iter().filter(|disk| !layers::is_own(disk));
        notes.extend(
            outside.map(|disk| format!("disk {} was left out: it is not the VM's own", disk.path.display())),
        );
        let left_out = [
            (!config.shares.is_empty(), "the folders that it shares"),
            (!config.network.forwards.is_empty(), "the ports that lead to it"),
            (config.network.mode != NetMode::Nat, "its network, which is NAT there,"),
            (!config.balloon.is_zero(), "its balloon"),
            (config.snapshot.is_some(), "its snapshots"),
            (config.firmware.is_some(), "its firmware, with what that keeps,"),
        ];
        notes.extend(
            left_out
                .iter()
                .filter(|(is, _)| *is)
                .map(|(_, what)| format!("{what} could not be carried over")),
        );
        notes
    }

    fn file(&self, name: &str, data: &[u8]) -> Result<()> {
        write_atomically(&self.to.join(name), data)
    }

    /// Writes the VM's own disk `index` to the file `name`; returns its size.
    fn disk(&self, index: usize, name: &str) -> Result<u64> {
        let disk = self.config.disks.iter().filter(|disk| layers::is_own(disk)).nth(index);
        let disk = disk.ok_or_else(|| self.refused("it has no disk of its own"))?;
        let to = self.to.join(name);
        let format = layers::format_of(disk);
        tearless_storage::flatten(&self.bundle.path().join(&disk.path), Some(format), &to)?;
        Ok(fs::metadata(&to).map_err(failed("read", &to))?.len())
    }

    fn disks(&self) -> usize {
        self.config.disks.iter().filter(|disk| layers::is_own(disk)).count()
    }

    fn only_disk(&self, name: &str) -> Result<u64> {
        if self.disks() > 1 {
            return Err(self.refused("it has several disks, and that format one"));
        }
        self.disk(0, name)
    }

    /// Writes the auxiliary storage, or EFI's variables as Apple's framework has them; whether there are any.
    fn nvram(&self, name: &str, notes: &mut Vec<String>) -> Result<bool> {
        let from = match &self.config.boot {
            BootConfig::MacOs { auxiliary, .. } => self.bundle.path().join(auxiliary),
            _ => self.bundle.path().join(APPLE_VARIABLES_FILE),
        };
        if !from.is_file() {
            notes.push(format!(
                "EFI's variables are missing: {name} is to be taken from a new Linux VM of that program"
            ));
            return Ok(false);
        }
        tearless_storage::copy(&from, &self.to.join(name))?;
        Ok(true)
    }

    fn boot_file(&self, path: &Path, name: &str) -> Result<()> {
        let from = self.bundle.path().join(path);
        fs::copy(&from, self.to.join(name)).map(drop).map_err(failed("copy", &from))
    }

    /// The four files of Apple's sample.
    fn sample(&self, notes: &mut Vec<String>) -> Result<()> {
        let platform = self.platform.as_ref();
        let platform = platform.ok_or_else(|| self.refused("that format is for virtual Macs"))?;
        self.only_disk(DISK_FILE)?;
        self.nvram(AUXILIARY_FILE, notes)?;
        self.file(MODEL_FILE, platform.model.data())?;
        self.file(IDENTIFIER_FILE, platform.identifier.data())
    }

    fn macosvm(&self, notes: &mut Vec<String>) -> Result<()> {
        let mut storage = Vec::new();
        let mut add = |kind: &str, file: &str| {
            storage.push(json::Storage { kind: kind.into(), file: file.into(), read_only: false });
        };
        let mut boot_info = None;
        match &self.config.boot {
            BootConfig::MacOs { .. } => {
                self.nvram(AUXILIARY_FILE, notes)?;
                add("aux", AUXILIARY_FILE);
            }
            BootConfig::LinuxKernel { kernel, initrd, cmdline } => {
                self.boot_file(kernel, "Kernel")?;
                boot_info = Some(json::BootInfo { kernel: "Kernel".into(), parameters: cmdline.clone() });
                if let Some(initrd) = initrd {
                    self.boot_file(initrd, "Initrd")?;
                    add("initrd", "Initrd");
                }
            }
            BootConfig::LinuxDebian { .. } => return Err(self.refused(OWN_BOOT)),
            BootConfig::Efi { .. } => {
                return Err(self.refused("it boots through EFI, and macosvm starts macOS and kernels only"));
            }
        }
        for index in 0..self.disks() {
            let name = numbered(index);
            self.disk(index, &name)?;
            add("disk", &name);
        }
        let (model, identifier) = self.blobs();
        let mode = self.config.display.mode;
        let display = self.config.display.is_on().then_some(json::Display {
            width: mode.width,
            height: mode.height,
            dpi: if mode.scale > 1 { json::FINE_DPI } else { 80 },
        });
        let vm = json::MacOsVm {
            version: json::VM_VERSION,
            os: Some(if self.platform.is_some() { "macos" } else { "linux" }.into()),
            cpus: self.config.cpus,
            ram: self.config.memory.bytes(),
            storage,
            hardware_model: model,
            machine_id: identifier,
            boot_info,
            displays: display.into_iter().collect(),
            networks: vec![json::Network { kind: "nat".into(), mac: Some(self.mac.to_string()) }],
            shares: Vec::new(),
        };
        notes.push("macosvm looks for the files where it is started: go to the folder first".into());
        // Strings and numbers always have a JSON form.
        self.file(json::VM_FILE, &serde_json::to_vec_pretty(&vm).unwrap_or_default())
    }

    fn lima(&self, notes: &mut Vec<String>) -> Result<()> {
        match &self.config.boot {
            BootConfig::Efi { .. } => {}
            BootConfig::MacOs { .. } => {
                return Err(self.refused("it is a virtual Mac, and only Linux is written for Lima"));
            }
            BootConfig::LinuxDebian { .. } => return Err(self.refused(OWN_BOOT)),
            BootConfig::LinuxKernel { .. } => {
                return Err(self.refused(
                    "it boots a kernel directly, and only what boots from its disk is written for Lima",
                ));
            }
        }
        let size = self.only_disk(lima::DISK)?;
        // Lima makes new ones if there are none.
        self.nvram(lima::VZ_VARIABLES, &mut Vec::new())?;
        notes.push("Lima gives it another network address, and a screen of a size of its own".into());
        notes.push("limactl shell needs a guest that cloud-init lets Lima's user and key into".into());
        let name = self.to.file_name().unwrap_or_default().to_string_lossy();
        self.file(lima::CONFIG, lima::describe(self.config, size, &name).as_bytes())
    }

    /// The hardware model and the identifier in base64.
    fn blobs(&self) -> (Option<String>, Option<String>) {
        let platform = self.platform.as_ref();
        platform
            .map(|p| (BASE64_STANDARD.encode(p.model.data()), BASE64_STANDARD.encode(p.identifier.data())))
            .unzip()
    }

    fn lume(&self, disk_size: u64) -> Result<()> {
        let (hardware_model, machine_identifier) = self.blobs();
        let mode = self.config.display.mode;
        let lume = json::Lume {
            os: if self.platform.is_some() { "macOS" } else { "linux" }.into(),
            cpu_count: self.config.cpus,
            memory_size: self.config.memory.bytes(),
            disk_size,
            mac_address: Some(self.mac.to_string()),
            display: Some(format!("{}x{}", mode.width, mode.height)),
            hardware_model,
            machine_identifier,
        };
        // Strings and numbers always have a JSON form.
        self.file(CONFIG_FILE, &serde_json::to_vec_pretty(&lume).unwrap_or_default())
    }

    fn utm(&self, notes: &mut Vec<String>) -> Result<()> {
        let data = Path::new(utm::DATA);
        fs::create_dir(self.to.join(data)).map_err(failed("create", self.to))?;
        let inside = |name: &str| format!("{}/{name}", utm::DATA);
        let mut boot = utm::Boot { operating_system: "Linux".into(), ..utm::Boot::default() };
        let mut mac_platform = None;
        match (&self.config.boot, &self.platform) {
            (BootConfig::MacOs { .. }, Some(platform)) => {
                boot.operating_system = "macOS".into();
                self.nvram(&inside(AUXILIARY_FILE), notes)?;
                mac_platform = Some(utm::MacPlatform {
                    hardware_model: Data::new(platform.model.data().to_vec()),
                    machine_identifier: Data::new(platform.identifier.data().to_vec()),
                    auxiliary_storage_path: AUXILIARY_FILE.into(),
                });
            }
            (BootConfig::LinuxKernel { kernel, initrd, cmdline }, _) => {
                self.boot_file(kernel, &inside("Kernel"))?;
                boot.linux_kernel_path = Some("Kernel".into());
                boot.linux_command_line = Some(cmdline.clone());
                if let Some(initrd) = initrd {
                    self.boot_file(initrd, &inside("Initrd"))?;
                    boot.linux_initial_ramdisk_path = Some("Initrd".into());
                }
            }
            (BootConfig::LinuxDebian { .. }, _) => return Err(self.refused(OWN_BOOT)),
            _ => {
                boot.uefi_boot = true;
                let there = self.nvram(&inside("efi_vars.fd"), notes)?;
                boot.efi_variable_storage_path = there.then(|| "efi_vars.fd".into());
            }
        }
        let mut drive = Vec::new();
        for index in 0..self.disks() {
            let identifier = format!("00000000-0000-4000-8000-{index:012X}");
            let name = format!("{identifier}.img");
            self.disk(index, &inside(&name))?;
            let (image_name, image_type) = (Some(name), None);
            drive.push(utm::Drive { identifier, image_name, image_type, read_only: false, nvme: false });
        }
        let mode = self.config.display.mode;
        let display = self.config.display.is_on().then(|| utm::Display {
            width_pixels: mode.width,
            height_pixels: mode.height,
            pixels_per_inch: 80 * mode.scale.max(1) + if mode.scale > 1 { 66 } else { 0 },
            dynamic_resolution: true,
        });
        let uuid = uuid(self.mac);
        let config = utm::Config {
            configuration_version: utm::VERSION,
            backend: "Apple".into(),
            information: utm::Information { name: self.bundle.name().into(), uuid, icon_custom: false },
            system: utm::System {
                architecture: "aarch64".into(),
                cpu_count: self.config.cpus,
                memory_size: self.config.memory.bytes() >> 20,
                boot: Some(boot),
                mac_platform,
            },
            drive,
            network: vec![utm::Network { mode: "Shared".into(), mac_address: self.mac.to_string() }],
            display: display.into_iter().collect(),
        };
        let mut text = Vec::new();
        plist::to_writer_xml(&mut text, &config).map_err(|e| self.refused(&e.to_string()))?;
        self.file(utm::CONFIG, &text)
    }

    fn vfkit(&self, notes: &mut Vec<String>) -> Result<()> {
        let boot = match &self.config.boot {
            BootConfig::MacOs { .. } => {
                let platform = self.bundle.platform()?;
                self.nvram(AUXILIARY_FILE, notes)?;
                self.file(MODEL_FILE, platform.model.data())?;
                self.file(IDENTIFIER_FILE, platform.identifier.data())?;
                format!(
                    "macos,machineIdentifierPath={IDENTIFIER_FILE},hardwareModelPath={MODEL_FILE},auxImagePath={AUXILIARY_FILE}"
                )
            }
            BootConfig::LinuxKernel { cmdline, .. } if cmdline.contains(['"', '\'']) => {
                return Err(
                    self.refused("its kernel's command line has quotation marks, which vfkit cannot take")
                );
            }
            BootConfig::LinuxKernel { kernel, initrd, cmdline } => {
                self.boot_file(kernel, "Kernel")?;
                let mut boot = "linux,kernel=Kernel".to_owned();
                if let Some(initrd) = initrd {
                    self.boot_file(initrd, "Initrd")?;
                    boot.push_str(",initrd=Initrd");
                }
                boot + &format!(",cmdline=\"{cmdline}\"")
            }
            BootConfig::LinuxDebian { .. } => return Err(self.refused(OWN_BOOT)),
            BootConfig::Efi { .. } if self.nvram(NVRAM, &mut Vec::new())? => {
                format!("efi,variable-store={NVRAM}")
            }
            BootConfig::Efi { .. } => format!("efi,variable-store={NVRAM},create"),
        };
        let mut text = "#!/bin/sh\ncd \"$(dirname \"$0\")\" || exit\n".to_owned();
        let memory = self.config.memory.bytes() >> 20;
        let mut line =
            format!("exec vfkit --cpus {} --memory {memory} --bootloader '{boot}'", self.config.cpus);
        for index in 0..self.disks() {
            let name = numbered(index);
            self.disk(index, &name)?;
            let _ = write!(line, " --device virtio-blk,path={name}");
        }
        let _ = write!(line, " --device virtio-net,nat,mac={} --device virtio-rng", self.mac);
        if self.config.display.is_on() {
            let mode = self.config.display.mode;
            let _ = write!(line, " --device virtio-gpu,width={},height={}", mode.width, mode.height);
            line.push_str(" --device virtio-input,keyboard --device virtio-input,pointing --gui");
        } else {
            line.push_str(" --device virtio-serial,stdio");
        }
        text.push_str(&line);
        text.push('\n');
        self.file("start.sh", text.as_bytes())
    }
}

const OWN_BOOT: &str = "its RAM disk mounts its disk with Tearless's help, which others do not give";

/// What the disk `index` is called where there may be several.
fn numbered(index: usize) -> String {
    if index == 0 { DISK.into() } else { format!("disk-{}.img", index + 1) }
}

/// One that is the same each time.
fn uuid(mac: MacAddr) -> String {
    let [a, b, c, d, e, f] = mac.0;
    format!("00000000-0000-4000-8000-{a:02X}{b:02X}{c:02X}{d:02X}{e:02X}{f:02X}")
}
