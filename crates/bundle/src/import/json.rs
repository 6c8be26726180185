//! Lume and macosvm: a description in JSON, of the same things under other names.

use std::path::{Path, PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use tearless_config::{ByteSize, DiskFormat, ScreenMode};

use super::{
    Foreign, ForeignDisk, Guest, description, identifier, refused,
    tart::{DISK, NVRAM},
};
use crate::{
    Result,
    bundle::CONFIG_FILE,
    mac::{HardwareModel, Platform},
};

/// What macosvm's description is called.
pub(super) const VM_FILE: &str = "vm.json";
/// The version of macosvm's format that is known here.
pub(super) const VM_VERSION: u32 = 1;
/// From here on a screen of macosvm's has fine pixels.
pub(super) const FINE_DPI: u32 = 200;

/// Lume's `config.json`, as far as it concerns us.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Lume {
    /// `macOS` or `linux`.
    pub(super) os: String,
    pub(super) cpu_count: u32,
    /// Bytes.
    pub(super) memory_size: u64,
    pub(super) disk_size: u64,
    #[serde(default)]
    pub(super) mac_address: Option<String>,
    #[serde(default)]
    pub(super) display: Option<String>,
    #[serde(default)]
    pub(super) hardware_model: Option<String>,
    #[serde(default)]
    pub(super) machine_identifier: Option<String>,
}

pub(super) fn is_lume(folder: &Path) -> bool {
    folder.join(DISK).is_file()
        && description(&folder.join(CONFIG_FILE))
            .is_ok_and(|text| serde_json::from_slice::<Lume>(&text).is_ok())
}

pub(super) fn read_lume(folder: &Path) -> Result<Foreign> {
    parse_lume(&description(&folder.join(CONFIG_FILE))?, folder)
}

pub(super) fn parse_lume(text: &[u8], folder: &Path) -> Result<Foreign> {
    let lume: Lume = serde_json::from_slice(text)
        .map_err(|e| refused(folder, format!("its {CONFIG_FILE} is not understood: {e}")))?;
    let mut notes = Vec::new();
    let nvram = folder.join(NVRAM);
    let guest = if lume.os.eq_ignore_ascii_case("macos") {
        let blobs = (lume.hardware_model.as_deref(), lume.machine_identifier.as_deref());
        mac_guest(folder, blobs, nvram, &mut notes)?
    } else {
        notes.push(super::NEW_VARIABLES.into());
        Guest::Efi { variables: Some(nvram).filter(|file| file.is_file()) }
    };
    let screen = lume.display.as_deref().and_then(|text| text.split_once('x'));
    let screen = screen.and_then(|(w, h)| Some((w.trim().parse().ok()?, h.trim().parse().ok()?)));
    Ok(Foreign {
        cpus: Some(lume.cpu_count),
        memory: Some(ByteSize::new(lume.memory_size)),
        mac: lume.mac_address.and_then(|mac| mac.parse().ok()),
        screen: screen.map(|(width, height)| ScreenMode { width, height, scale: 1 }),
        disks: vec![ForeignDisk::raw(folder.join(DISK))],
        notes,
        ..Foreign::new("Lume", guest)
    })
}

/// macosvm's description, as far as it concerns us.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MacOsVm {
    pub(super) version: u32,
    #[serde(default)]
    pub(super) os: Option<String>,
    pub(super) cpus: u32,
    /// Bytes.
    pub(super) ram: u64,
    pub(super) storage: Vec<Storage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hardware_model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) machine_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) boot_info: Option<BootInfo>,
    #[serde(default)]
    pub(super) displays: Vec<Display>,
    #[serde(default)]
    pub(super) networks: Vec<Network>,
    #[serde(default, skip_serializing)]
    pub(super) shares: Vec<serde::de::IgnoredAny>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Storage {
    /// `disk`, `aux`, `initrd` or `usb`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) file: PathBuf,
    #[serde(default)]
    pub(super) read_only: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct BootInfo {
    pub(super) kernel: PathBuf,
    #[serde(default)]
    pub(super) parameters: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Display {
    pub(super) width: u32,
    pub(super) height: u32,
    #[serde(default)]
    pub(super) dpi: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Network {
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) mac: Option<String>,
}

pub(super) fn read_macosvm(file: &Path) -> Result<Foreign> {
    parse_macosvm(&description(file)?, file)
}

pub(super) fn parse_macosvm(text: &[u8], file: &Path) -> Result<Foreign> {
    let fail = |why: String| refused(file, why);
    let vm: MacOsVm =
        serde_json::from_slice(text).map_err(|e| fail(format!("it is not understood as macosvm's: {e}")))?;
    if vm.version != VM_VERSION {
        return Err(fail(format!("it has version {} of macosvm's format, not {VM_VERSION}", vm.version)));
    }
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut notes = Vec::new();
    let (mut disks, mut auxiliary, mut initrd) = (Vec::new(), None, None);
    for Storage { kind, file, read_only } in vm.storage {
        let path = folder.join(file);
        match kind.as_str() {
            "disk" => disks.push(ForeignDisk { path, format: DiskFormat::Raw, read_only }),
            "usb" => disks.push(ForeignDisk { path, format: DiskFormat::Raw, read_only: true }),
            "aux" => auxiliary = Some(path),
            "initrd" => initrd = Some(path),
            other => notes.push(format!("{} was left out: it is a {other}", path.display())),
        }
    }
    let guest = match (vm.os.as_deref(), vm.boot_info) {
        (Some("linux"), Some(boot)) => {
            Guest::Kernel { kernel: folder.join(boot.kernel), initrd, cmdline: boot.parameters }
        }
        (Some("linux"), None) => return Err(fail("it says not which kernel it boots".into())),
        _ => {
            let auxiliary = auxiliary.ok_or_else(|| fail("it has no auxiliary storage".into()))?;
            let blobs = (vm.hardware_model.as_deref(), vm.machine_id.as_deref());
            mac_guest(file, blobs, auxiliary, &mut notes)?
        }
    };
    if !vm.shares.is_empty() {
        notes.push("the folders that it shares were left out; --share of run and set shares them".into());
    }
    let network = vm.networks.first();
    for network in vm.networks.iter().filter(|network| !matches!(network.kind.as_str(), "nat" | "")) {
        notes.push(format!("its network is NAT now, not {}; --net sets another", network.kind));
    }
    Ok(Foreign {
        cpus: Some(vm.cpus),
        memory: Some(ByteSize::new(vm.ram)),
        mac: network.and_then(|network| network.mac.as_ref()?.parse().ok()),
        screen: vm.displays.first().map(|d| ScreenMode {
            width: d.width,
            height: d.height,
            scale: if d.dpi >= FINE_DPI { 2 } else { 1 },
        }),
        disks,
        notes,
        ..Foreign::new("macosvm", guest)
    })
}

/// The virtual Mac with this model and identifier, in base64.
fn mac_guest(
    what: &Path,
    (model, given): (Option<&str>, Option<&str>),
    auxiliary: PathBuf,
    notes: &mut Vec<String>,
) -> Result<Guest> {
    let model = BASE64_STANDARD.decode(model.unwrap_or_default()).map_err(|e| e.to_string());
    let model = model.and_then(|data| HardwareModel::from_data(&data));
    let model = model.map_err(|why| refused(what, format!("its hardware model is damaged: {why}")))?;
    let given = given.and_then(|text| BASE64_STANDARD.decode(text).ok());
    let identifier = identifier(given.as_deref(), &auxiliary, notes)?;
    Ok(Guest::Mac { platform: Platform { identifier, model }, auxiliary })
}
