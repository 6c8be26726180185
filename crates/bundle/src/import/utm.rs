//! UTM: a folder `NAME.utm` with `config.plist` and the files in `Data`, for QEMU or for Apple's framework.

use std::path::Path;

use plist::Data;
use serde::{Deserialize, Serialize};
use tearless_config::{ByteSize, DiskFormat, ScreenMode};

use super::{Foreign, ForeignDisk, Guest, description, identifier, inside, refused};
use crate::{
    Result,
    mac::{HardwareModel, Platform},
};

pub(super) const CONFIG: &str = "config.plist";
pub(super) const DATA: &str = "Data";
pub(super) const VERSION: u32 = 4;

/// `config.plist`, as far as it concerns us.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Config {
    pub(super) configuration_version: u32,
    pub(super) backend: String,
    #[serde(default)]
    pub(super) information: Information,
    pub(super) system: System,
    #[serde(default)]
    pub(super) drive: Vec<Drive>,
    #[serde(default)]
    pub(super) network: Vec<Network>,
    #[serde(default)]
    pub(super) display: Vec<Display>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Information {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default, rename = "UUID")]
    pub(super) uuid: String,
    #[serde(default)]
    pub(super) icon_custom: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct System {
    #[serde(default)]
    pub(super) architecture: String,
    /// As many as the host finds right, if 0.
    #[serde(default, rename = "CPUCount")]
    pub(super) cpu_count: u32,
    /// In MiB.
    #[serde(default)]
    pub(super) memory_size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) boot: Option<Boot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mac_platform: Option<MacPlatform>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Boot {
    pub(super) operating_system: String,
    #[serde(rename = "UEFIBoot")]
    pub(super) uefi_boot: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) linux_kernel_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) linux_command_line: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) linux_initial_ramdisk_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) efi_variable_storage_path: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MacPlatform {
    pub(super) hardware_model: Data,
    pub(super) machine_identifier: Data,
    pub(super) auxiliary_storage_path: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Drive {
    #[serde(default)]
    pub(super) identifier: String,
    /// A file of `Data`; none of a drive without a medium.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image_name: Option<String>,
    /// Of QEMU's drives: `Disk`, `CD`, `LinuxKernel`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image_type: Option<String>,
    #[serde(default)]
    pub(super) read_only: bool,
    #[serde(default)]
    pub(super) nvme: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Network {
    #[serde(default)]
    pub(super) mode: String,
    #[serde(default)]
    pub(super) mac_address: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Display {
    #[serde(default)]
    pub(super) width_pixels: u32,
    #[serde(default)]
    pub(super) height_pixels: u32,
    #[serde(default)]
    pub(super) pixels_per_inch: u32,
    #[serde(default)]
    pub(super) dynamic_resolution: bool,
}

pub(super) fn is_one(folder: &Path) -> bool {
    folder.join(CONFIG).is_file() && folder.join(DATA).is_dir()
}

pub(super) fn read(folder: &Path) -> Result<Foreign> {
    parse(&description(&folder.join(CONFIG))?, folder)
}

pub(super) fn parse(text: &[u8], folder: &Path) -> Result<Foreign> {
    let fail = |why: String| refused(folder, why);
    let config: Config =
        plist::from_bytes(text).map_err(|e| fail(format!("its {CONFIG} is not understood: {e}")))?;
    if config.configuration_version != VERSION {
        let version = config.configuration_version;
        return Err(fail(format!(
            "its {CONFIG} has version {version}, not {VERSION}; open it with UTM 4 once"
        )));
    }
    let architecture = config.system.architecture.as_str();
    if !matches!(architecture, "aarch64" | "arm64" | "") {
        return Err(fail(format!("its guest is for {architecture}, and only ARM64 guests run here")));
    }
    let data = folder.join(DATA);
    let mut notes = Vec::new();
    let guest = match config.backend.as_str() {
        "Apple" => apple_guest(&config, folder, &mut notes)?,
        "QEMU" => qemu_guest(&config, folder, &mut notes)?,
        other => return Err(fail(format!("its back end is {other}, which is not known here"))),
    };
    let mut disks = Vec::new();
    for drive in &config.drive {
        let kind = drive.image_type.as_deref().unwrap_or("Disk");
        match (&drive.image_name, kind) {
            (None, _) => notes.push("a drive without a medium was left out".into()),
            (Some(name), "Disk" | "CD") => disks.push(ForeignDisk {
                path: inside(&data, name)?,
                format: if name.ends_with(".qcow2") { DiskFormat::Qcow2 } else { DiskFormat::Raw },
                read_only: drive.read_only || kind == "CD",
            }),
            (Some(_), "LinuxKernel" | "LinuxInitrd") => {}
            (Some(name), kind) => notes.push(format!("drive {name} was left out: it is a {kind}")),
        }
    }
    let mut networks = config.network.iter();
    let network = networks.next();
    for network in network.iter().filter(|network| !matches!(network.mode.as_str(), "Shared" | "Emulated")) {
        notes.push(format!("its network is NAT now, not {}; --net sets another", network.mode));
    }
    notes.extend(networks.map(|_| "a further network card was left out".to_owned()));
    let screen = config.display.first().filter(|display| display.width_pixels > 0);
    Ok(Foreign {
        cpus: Some(config.system.cpu_count).filter(|count| *count > 0),
        memory: Some(config.system.memory_size).filter(|mib| (1..1 << 40).contains(mib)).map(ByteSize::mib),
        mac: network.and_then(|network| network.mac_address.parse().ok()),
        screen: screen.map(|d| ScreenMode {
            width: d.width_pixels,
            height: d.height_pixels,
            scale: if d.pixels_per_inch >= 200 { 2 } else { 1 },
        }),
        disks,
        notes,
        ..Foreign::new("UTM", guest)
    })
}

fn apple_guest(config: &Config, folder: &Path, notes: &mut Vec<String>) -> Result<Guest> {
    let fail = |why: &str| refused(folder, why.into());
    let data = folder.join(DATA);
    let none = Boot::default();
    let boot = config.system.boot.as_ref().unwrap_or(&none);
    if boot.operating_system == "macOS" || config.system.mac_platform.is_some() {
        let mac =
            config.system.mac_platform.as_ref().ok_or_else(|| fail("it says not which virtual Mac it is"))?;
        let auxiliary = inside(&data, &mac.auxiliary_storage_path)?;
        let model = HardwareModel::from_data(mac.hardware_model.as_ref())
            .map_err(|why| fail(&format!("its HardwareModel is damaged: {why}")))?;
        let identifier = identifier(Some(mac.machine_identifier.as_ref()), &auxiliary, notes)?;
        return Ok(Guest::Mac { platform: Platform { identifier, model }, auxiliary });
    }
    if let Some(kernel) = &boot.linux_kernel_path {
        return Ok(Guest::Kernel {
            kernel: inside(&data, kernel)?,
            initrd: boot.linux_initial_ramdisk_path.as_ref().map(|name| inside(&data, name)).transpose()?,
            cmdline: boot.linux_command_line.clone().unwrap_or_default(),
        });
    }
    let variables = boot.efi_variable_storage_path.as_ref().map(|name| inside(&data, name)).transpose()?;
    notes.push(super::NEW_VARIABLES.into());
    Ok(Guest::Efi { variables })
}

fn qemu_guest(config: &Config, folder: &Path, notes: &mut Vec<String>) -> Result<Guest> {
    let file = |kind: &str| {
        let drive = config.drive.iter().find(|drive| drive.image_type.as_deref() == Some(kind));
        let name = drive.and_then(|drive| drive.image_name.as_ref());
        name.map(|name| inside(&folder.join(DATA), name)).transpose()
    };
    notes.push(
        "QEMU's own arguments, ports and devices besides disk, network and screen were left out".into(),
    );
    if let Some(kernel) = file("LinuxKernel")? {
        notes.push("its kernel's command line is empty now; `tearless run --cmdline` adds to it".into());
        return Ok(Guest::Kernel { kernel, initrd: file("LinuxInitrd")?, cmdline: String::new() });
    }
    notes.push(super::NEW_VARIABLES.into());
    // QEMU's variables are in a format of their own.
    Ok(Guest::Efi { variables: None })
}
