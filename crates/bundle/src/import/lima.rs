//! Lima: an instance's folder with `lima.yaml`, and a disk, which with QEMU builds on another.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tearless_config::{ByteSize, DiskFormat, ShareConfig, VmConfig};

use super::{Foreign, ForeignDisk, Guest, description, refused};
use crate::Result;

pub(super) const CONFIG: &str = "lima.yaml";
/// The disk of old releases; newer ones take it over.
pub(super) const DISK: &str = "diffdisk";
/// The disk: of old releases, and of those from 2 on.
const DISKS: [&str; 2] = [DISK, "disk"];
/// Apple's framework was at work there.
const VZ_IDENTIFIER: &str = "vz-identifier";
pub(super) const VZ_VARIABLES: &str = "vz-efi";
const SEED: &str = "cidata.iso";

/// `lima.yaml`, as far as it concerns us.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    arch: Option<String>,
    #[serde(default)]
    vm_type: Option<String>,
    #[serde(default)]
    cpus: Option<u32>,
    #[serde(default)]
    memory: Option<String>,
    #[serde(default)]
    mounts: Option<Vec<Mount>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    location: String,
    #[serde(default)]
    mount_point: Option<String>,
    #[serde(default)]
    writable: Option<bool>,
}

/// `lima.yaml` of the instance `name` with the VM of `config`, whose disk has `disk_size` bytes.
pub(super) fn describe(config: &VmConfig, disk_size: u64, name: &str) -> String {
    // Lima wants an image; with a disk that is there, it is not looked at. A string of JSON is one of YAML.
    let image = serde_json::Value::from(format!("~/.lima/{name}/{DISK}"));
    let memory = config.memory.bytes();
    let screen = if config.display.is_on() { "vz" } else { "none" };
    // Plain: Lima puts nothing of its own into the guest. The sizes are in bytes: another size of the disk than it has
    // would have Lima make it larger, or refuse.
    format!(
        "os: Linux\narch: aarch64\nvmType: vz\nplain: true\ncpus: {}\nmemory: \"{memory}\"\ndisk: \"{disk_size}\"\n\
        images:\n- location: {image}\n  arch: aarch64\nvideo:\n  display: {screen}\n",
        config.cpus
    )
}

pub(super) fn is_one(folder: &Path) -> bool {
    folder.join(CONFIG).is_file()
}

pub(super) fn read(folder: &Path) -> Result<Foreign> {
    parse(&description(&folder.join(CONFIG))?, folder)
}

pub(super) fn parse(text: &[u8], folder: &Path) -> Result<Foreign> {
    let fail = |why: String| refused(folder, why);
    let text = std::str::from_utf8(text).map_err(|_| fail(format!("its {CONFIG} is no text")))?;
    let config: Config =
        serde_saphyr::from_str(text).map_err(|e| fail(format!("its {CONFIG} is not understood: {e}")))?;
    if let Some(os) = config.os.as_deref().filter(|os| !matches!(*os, "Linux" | "default")) {
        return Err(fail(format!("its guest is {os}, and of Lima's only Linux is known here")));
    }
    if let Some(arch) = config.arch.as_deref().filter(|arch| !matches!(*arch, "aarch64" | "default")) {
        return Err(fail(format!("its guest is for {arch}, and only ARM64 guests run here")));
    }
    let disk = DISKS.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    let path = disk.ok_or_else(|| fail("it has no disk yet; start it with Lima once".into()))?;
    // Not asked of the disk: a guest may have written anything into it.
    let is_vz = match config.vm_type.as_deref() {
        Some("vz") => true,
        Some("qemu") => false,
        None => folder.join(VZ_IDENTIFIER).is_file(),
        Some(other) => return Err(fail(format!("it is a VM of {other}, which is not known here"))),
    };
    let format = if is_vz { DiskFormat::Raw } else { DiskFormat::Qcow2 };
    let mut notes = vec![super::NEW_VARIABLES.to_owned()];
    let mut disks = vec![ForeignDisk { path, format, read_only: false }];
    let seed = folder.join(SEED);
    if seed.is_file() {
        notes.push(format!("Lima's settings for the guest stay in {}", seed.display()));
        disks.push(ForeignDisk { path: seed, format: DiskFormat::Raw, read_only: true });
    }
    let mut shares = Vec::new();
    for (index, mount) in config.mounts.unwrap_or_default().into_iter().enumerate() {
        let path = PathBuf::from(&mount.location);
        if !path.is_absolute() {
            notes.push(format!("{} is not shared: name it with --share", mount.location));
            continue;
        }
        let tag = format!("mount{index}");
        let at = mount.mount_point.unwrap_or_else(|| mount.location.clone());
        notes.push(format!("{at} is mounted in the guest by hand: mount -t virtiofs {tag} {at}"));
        shares.push(ShareConfig { path, tag, read_only: !mount.writable.unwrap_or(false), owner: 0 });
    }
    let memory = config.memory.as_deref().map(str::parse::<ByteSize>).transpose();
    let variables = Some(folder.join(VZ_VARIABLES)).filter(|file| file.is_file());
    Ok(Foreign {
        cpus: config.cpus,
        memory: memory.map_err(|e| fail(e.to_string()))?,
        disks,
        shares,
        notes,
        ..Foreign::new("Lima", Guest::Efi { variables })
    })
}
