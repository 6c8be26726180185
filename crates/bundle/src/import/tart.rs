//! Tart: a folder with `config.json`, `disk.img` and `nvram.bin`; the description is also a layer of its OCI images.

use std::path::{Path, PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use tearless_config::{ByteSize, MacAddr, ScreenMode, VmConfig};

use super::{Foreign, ForeignDisk, Guest, description, identifier, refused};
use crate::{
    Result,
    bundle::CONFIG_FILE,
    mac::{HardwareModel, Platform},
};

pub(super) const DISK: &str = "disk.img";
pub(super) const NVRAM: &str = "nvram.bin";
/// What the framework asks for at least: vCPUs and memory of a virtual Mac, and of another VM.
const MAC_MINIMUM: (u32, u64) = (2, 4 << 30);
const MINIMUM: (u32, u64) = (1, 512 << 20);

/// `config.json`, as far as it concerns us.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    version: u32,
    #[serde(default = "darwin")]
    os: String,
    #[serde(default = "arm64")]
    arch: String,
    cpu_count_min: u32,
    cpu_count: u32,
    memory_size_min: u64,
    memory_size: u64,
    mac_address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    display: Option<Display>,
    #[serde(default = "raw")]
    disk_format: String,
    /// The machine identifier, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ecid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hardware_model: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Display {
    width: u32,
    height: u32,
}

fn darwin() -> String {
    "darwin".into()
}

fn arm64() -> String {
    "arm64".into()
}

fn raw() -> String {
    "raw".into()
}

pub(super) fn is_one(folder: &Path) -> bool {
    let files = [CONFIG_FILE, DISK, NVRAM].iter().all(|name| folder.join(name).is_file());
    files
        && description(&folder.join(CONFIG_FILE))
            .is_ok_and(|text| serde_json::from_slice::<Config>(&text).is_ok())
}

pub(super) fn read(folder: &Path) -> Result<Foreign> {
    Foreign::tart(&description(&folder.join(CONFIG_FILE))?, folder.join(DISK), folder.join(NVRAM))
}

impl Foreign {
    /// The VM that `text` describes as Tart does, whose files are these.
    ///
    /// # Errors
    /// [`crate::Error::Foreigner`] when it cannot be taken over, [`crate::Error::Platform`] when its identity is lost.
    pub fn tart(text: &[u8], disk: PathBuf, nvram: PathBuf) -> Result<Self> {
        let fail = |why: String| refused(disk.parent().unwrap_or(&disk), why);
        let config: Config = serde_json::from_slice(text)
            .map_err(|e| fail(format!("its config.json is not understood: {e}")))?;
        if config.version != 1 {
            return Err(fail(format!("its config.json has version {}", config.version)));
        }
        if config.arch != "arm64" {
            return Err(fail(format!(
                "its guest is for x86 ({}), and only ARM64 guests run here",
                config.arch
            )));
        }
        if config.disk_format != "raw" {
            let format = config.disk_format;
            return Err(fail(format!("its disk is in the format {format}; make it raw with Tart first")));
        }
        let mut notes = Vec::new();
        let guest = match config.os.as_str() {
            "darwin" => {
                let blob =
                    |text: &Option<String>| BASE64_STANDARD.decode(text.as_deref().unwrap_or_default());
                let model = blob(&config.hardware_model).map_err(|e| e.to_string());
                let model = model.and_then(|data| HardwareModel::from_data(&data));
                let model = model.map_err(|why| fail(format!("its hardwareModel is damaged: {why}")))?;
                let given = blob(&config.ecid).ok().filter(|data| !data.is_empty());
                let identifier = identifier(given.as_deref(), &nvram, &mut notes)?;
                Guest::Mac { platform: Platform { identifier, model }, auxiliary: nvram }
            }
            "linux" => {
                notes.push(
                    "EFI's variables start anew: what is booted is found at its usual place on the disk"
                        .into(),
                );
                Guest::Efi { variables: Some(nvram) }
            }
            other => return Err(fail(format!("it runs {other}, which is not known here"))),
        };
        Ok(Self {
            cpus: Some(config.cpu_count),
            memory: Some(ByteSize::new(config.memory_size)),
            mac: config.mac_address.parse().ok(),
            screen: config.display.map(|d| ScreenMode { width: d.width, height: d.height, scale: 1 }),
            disks: vec![ForeignDisk::raw(disk)],
            notes,
            ..Self::new("Tart", guest)
        })
    }
}

/// The text of Tart's description of a VM; `mac` is the address of its network card, which Tart wants to know.
pub fn describe(config: &VmConfig, platform: Option<&Platform>, mac: MacAddr) -> Vec<u8> {
    let (cpus, memory) = if platform.is_some() { MAC_MINIMUM } else { MINIMUM };
    let encode = |data: &[u8]| BASE64_STANDARD.encode(data);
    let screen = Some(config.display.mode).filter(|_| config.display.is_on());
    let tart = Config {
        version: 1,
        os: if platform.is_some() { darwin() } else { "linux".into() },
        arch: arm64(),
        cpu_count_min: cpus.min(config.cpus),
        cpu_count: config.cpus,
        memory_size_min: memory.min(config.memory.bytes()),
        memory_size: config.memory.bytes(),
        mac_address: mac.to_string(),
        display: screen.map(|mode| Display { width: mode.width, height: mode.height }),
        disk_format: raw(),
        ecid: platform.map(|platform| encode(platform.identifier.data())),
        hardware_model: platform.map(|platform| encode(platform.model.data())),
    };
    // Strings and numbers always have a JSON form.
    serde_json::to_vec_pretty(&tart).unwrap_or_default()
}
