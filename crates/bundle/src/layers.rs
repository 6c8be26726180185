//! The disks of a bundle as layers: files that build on each other inside of the bundle's folder.
//!
//! ```text
//!   Disk.img                   raw, the oldest layer
//!   disks/ID.qcow2             builds on ../Disk.img, or on another file of disks/
//!   disks/ID.img               a copy that shares its blocks, where the file system can
//!   disks/ID.aux               a copy of a virtual Mac's auxiliary storage
//!   disks/ID.nvram             a copy of EFI's variables
//! ```
//! A layer that something builds on is never written again; its permissions say so. The files that nothing needs any more
//! are found by following what the configuration and the snapshots name.
//!
//! A virtual Mac's disks are always copies: Apple's framework reads no overlays. What firmware keeps goes with the disks.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Component, Path, PathBuf},
};

use tearless_config::{BootConfig, DiskConfig, DiskFormat, VmConfig};
use tearless_storage::{Format, base_of, derive, is_remote};

use crate::{
    Error, Result,
    bundle::{DISK_FILE, VARIABLES_FILE},
    files::{failed, sync_folder},
    mac::AUXILIARY_FILE,
};

/// The folder of the layers.
pub(crate) const FOLDER: &str = "disks";

/// The format of a bundle's own disk.
pub(crate) fn format_of(disk: &DiskConfig) -> Format {
    match disk.format {
        Some(DiskFormat::Qcow2) => Format::Qcow2,
        Some(DiskFormat::Vmdk) => Format::Vmdk,
        Some(DiskFormat::Raw) | None => Format::Raw,
    }
}

/// Whether the disk is a file of the bundle that its guest writes.
pub(crate) fn is_own(disk: &DiskConfig) -> bool {
    is_inside(disk) && !disk.read_only
}

/// Whether the disk is a file of the bundle, and not a file elsewhere or what a server holds.
pub(crate) fn is_inside(disk: &DiskConfig) -> bool {
    disk.path.is_relative() && !is_remote(&disk.path)
}

/// The configuration with a new layer on each disk that the guest writes. The layers below are frozen by whoever commits
/// that configuration, with [`freeze`]; until then nothing has changed but for files that nobody names.
pub(crate) fn derive_all(bundle: &Path, config: &VmConfig) -> Result<VmConfig> {
    let folder = bundle.join(FOLDER);
    fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
    let mut new = config.clone();
    for disk in new.disks.iter_mut().filter(|disk| !disk.read_only) {
        if !is_inside(disk) {
            return Err(Error::Foreign { path: disk.path.clone() });
        }
        let base = bundle.join(&disk.path);
        let reference = reference(&disk.path).ok_or_else(|| Error::Foreign { path: disk.path.clone() })?;
        let stem = folder.join(new_id()?);
        let format = format_of(disk);
        let (layer, format) = if config.boot.is_mac() {
            let layer = stem.with_extension(if format == Format::Raw { "img" } else { format.name() });
            tearless_storage::copy(&base, &layer)?;
            (layer, format)
        } else {
            derive(&base, format, &stem, &reference)?
        };
        disk.path = Path::new(FOLDER).join(layer.file_name().unwrap_or_default());
        disk.format = match format {
            Format::Raw => None,
            Format::Qcow2 => Some(DiskFormat::Qcow2),
            Format::Vmdk => Some(DiskFormat::Vmdk),
        };
    }
    copy_firmware(bundle, &mut new)?;
    sync_folder(&folder)?;
    sync_folder(bundle)?;
    Ok(new)
}

/// Copies what firmware keeps into the folder of the layers, for `config` to name it.
pub(crate) fn copy_firmware(bundle: &Path, config: &mut VmConfig) -> Result<()> {
    let own = match &mut config.boot {
        BootConfig::MacOs { auxiliary, .. } => Some((auxiliary, "aux")),
        BootConfig::Efi { variables, .. } => Some((variables, "nvram")),
        BootConfig::LinuxKernel { .. } | BootConfig::LinuxDebian { .. } => None,
    };
    let others = config.firmware.iter_mut().filter_map(|firmware| firmware.variables.as_mut());
    for (file, extension) in own.into_iter().chain(others.map(|file| (file, "fd"))) {
        if reference(file).is_none() {
            return Err(Error::Foreign { path: file.clone() });
        }
        let copy = Path::new(FOLDER).join(new_id()?).with_extension(extension);
        tearless_storage::copy(&bundle.join(&file), &bundle.join(&copy))?;
        *file = copy;
    }
    Ok(())
}

/// Makes the disks of `config` read-only files: something builds on them.
pub(crate) fn freeze(bundle: &Path, config: &VmConfig) -> Result<()> {
    let disks = config.disks.iter().filter(|disk| is_own(disk)).map(|disk| disk.path.as_path());
    for file in disks.chain(firmware(config)) {
        let path = bundle.join(file);
        let mut permissions = fs::metadata(&path).map_err(failed("read", &path))?.permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).map_err(failed("change", &path))?;
    }
    Ok(())
}

/// What firmware keeps, which belongs to the disks: the auxiliary storage of a virtual Mac, EFI's variables, those of firmware of
/// another's making.
pub(crate) fn firmware(config: &VmConfig) -> impl Iterator<Item = &Path> {
    let own = match &config.boot {
        BootConfig::MacOs { auxiliary: file, .. } | BootConfig::Efi { variables: file, .. } => Some(file),
        BootConfig::LinuxKernel { .. } | BootConfig::LinuxDebian { .. } => None,
    };
    let others = config.firmware.iter().filter_map(|firmware| firmware.variables.as_ref());
    own.into_iter().chain(others).map(PathBuf::as_path).filter(|path| path.is_relative())
}

/// What the bundle's file `path` is called in a layer above it.
pub(crate) fn reference(path: &Path) -> Option<PathBuf> {
    let mut parts = path.components();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Component::Normal(file)), None, None) => Some(Path::new("..").join(file)),
        (Some(Component::Normal(folder)), Some(Component::Normal(file)), None)
            if folder == OsStr::new(FOLDER) =>
        {
            Some(file.into())
        }
        _ => None,
    }
}

/// The bundle's file that a layer calls `reference`; the inverse of [`reference`].
fn resolve(reference: &Path) -> Option<PathBuf> {
    let mut parts = reference.components();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Component::ParentDir), Some(Component::Normal(file)), None) => Some(file.into()),
        (Some(Component::Normal(file)), None, None) => Some(Path::new(FOLDER).join(file)),
        _ => None,
    }
}

/// The files that the disk `path` consists of, from the top down, relative to the bundle.
pub(crate) fn chain(bundle: &Path, path: &Path, format: Format) -> Result<Vec<PathBuf>> {
    let mut files = vec![path.to_owned()];
    let mut next = base_of(&bundle.join(path), format)?;
    while let Some(reference) = next {
        let file = resolve(&reference).ok_or_else(|| Error::Foreign { path: reference.clone() })?;
        if files.contains(&file) {
            return Err(Error::Foreign { path: file });
        }
        let format = Format::of_name(&file).unwrap_or(Format::Raw);
        next = base_of(&bundle.join(&file), format)?;
        files.push(file);
    }
    Ok(files)
}

/// The files that the disks of `configs` consist of.
pub(crate) fn reachable<'a>(
    bundle: &Path,
    configs: impl Iterator<Item = &'a VmConfig>,
) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for config in configs {
        for disk in config.disks.iter().filter(|disk| is_inside(disk)) {
            files.extend(chain(bundle, &disk.path, format_of(disk))?);
        }
        files.extend(firmware(config).map(Path::to_owned));
    }
    Ok(files)
}

/// Removes the layers that are not in `needed`.
pub(crate) fn sweep(bundle: &Path, needed: &BTreeSet<PathBuf>) -> Result<()> {
    let remove = |path: PathBuf| fs::remove_file(&path).map_err(failed("delete", &path));
    let folder = bundle.join(FOLDER);
    for entry in fs::read_dir(&folder).into_iter().flatten() {
        let entry = entry.map_err(failed("read", &folder))?;
        if !needed.contains(&Path::new(FOLDER).join(entry.file_name())) {
            remove(entry.path())?;
        }
    }
    for name in [DISK_FILE, AUXILIARY_FILE, VARIABLES_FILE] {
        let first = bundle.join(name);
        // Only one that became a layer: whatever else lies there is the user's.
        let frozen = fs::metadata(&first).is_ok_and(|m| m.permissions().readonly());
        if frozen && !needed.contains(Path::new(name)) {
            remove(first)?;
        }
    }
    Ok(())
}

pub(crate) fn new_id() -> Result<String> {
    let number = getrandom::u64().map_err(|e| Error::Io {
        doing: "draw a random number from",
        path: "the host".into(),
        source: std::io::Error::other(e.to_string()),
    })?;
    Ok(format!("{number:016x}"))
}
