//! vfkit: a VM is a command line, here in a file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tearless_config::{ByteSize, DiskFormat, ScreenMode, ShareConfig};

use super::{Foreign, ForeignDisk, Guest, refused};
use crate::{
    Result,
    mac::{HardwareModel, MachineIdentifier, Platform},
};

/// What a command line of vfkit has that others have not.
pub(super) fn is_one(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| {
        text.contains("vfkit") && (text.contains("--bootloader") || text.contains("--kernel"))
    })
}

/// An option's parts: `name,key=value,flag`.
struct Parts<'a> {
    name: &'a str,
    parts: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        // A kernel's command line may have commas, and is in quotes then.
        let mut quoted = false;
        let mut all = text.split(move |c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        let name = all.next().unwrap_or_default();
        let pair =
            |part: &'a str| part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
        Self { name, parts: all.map(pair).collect() }
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        // A kernel's command line comes in quotes that belong to vfkit.
        let value = self.parts.iter().find(|(name, _)| *name == key)?.1?;
        Some(value.trim_matches('"'))
    }

    fn has(&self, flag: &str) -> bool {
        self.parts.iter().any(|(name, _)| *name == flag)
    }
}

pub(super) fn parse(text: &[u8], file: &Path) -> Result<Foreign> {
    let fail = |why: String| refused(file, why);
    let text = std::str::from_utf8(text).map_err(|_| fail("it is no text".into()))?;
    let words = shlex::split(text).ok_or_else(|| fail("a quotation mark in it is not closed".into()))?;
    let mut words =
        words.iter().skip_while(|word| Path::new(word.as_str()).file_name().is_none_or(|n| n != "vfkit"));
    words.next().ok_or_else(|| fail("it is no command line of vfkit".into()))?;
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut vm = Foreign::new("vfkit", Guest::Efi { variables: None });
    let mut boots = false;
    while let Some(word) = words.next() {
        let (name, value) =
            word.split_once('=').filter(|(name, _)| !name.contains(',')).unwrap_or((word, ""));
        let mut value = || if value.is_empty() { words.next().map_or("", String::as_str) } else { value };
        match name {
            "--cpus" | "-c" => vm.cpus = value().parse().ok(),
            "--memory" | "-m" => {
                vm.memory = value().parse().ok().filter(|mib| *mib < 1 << 40).map(ByteSize::mib);
            }
            "--bootloader" | "-b" => {
                vm.guest = boot_loader(&Parts::of(value()), folder, &fail, &mut vm.notes)?;
                boots = true;
            }
            "--device" | "-d" => device(&mut vm, &Parts::of(value()), folder),
            other if other.starts_with('-') => vm.notes.push(format!("{other} was left out")),
            _ => {}
        }
    }
    if !boots {
        return Err(fail("it has no --bootloader".into()));
    }
    Ok(vm)
}

fn boot_loader(
    parts: &Parts<'_>,
    folder: &Path,
    fail: &impl Fn(String) -> crate::Error,
    notes: &mut Vec<String>,
) -> Result<Guest> {
    let path = |key: &str| parts.get(key).map(|path| folder.join(path));
    let need = |key: &str| path(key).ok_or_else(|| fail(format!("its boot loader has no {key}")));
    match parts.name {
        "linux" => Ok(Guest::Kernel {
            kernel: need("kernel")?,
            initrd: path("initrd"),
            cmdline: parts.get("cmdline").unwrap_or_default().to_owned(),
        }),
        "efi" => {
            notes.push(super::NEW_VARIABLES.into());
            Ok(Guest::Efi { variables: path("variable-store").filter(|file| file.is_file()) })
        }
        "macos" => {
            let auxiliary = need("auxImagePath")?;
            let read = |key: &str| {
                let path = need(key)?;
                fs::metadata(&path)
                    .and_then(|data| if data.len() > 4096 { Ok(Vec::new()) } else { fs::read(&path) })
                    .map_err(crate::files::failed("read", &path))
            };
            let model = HardwareModel::from_data(&read("hardwareModelPath")?);
            let model = model.map_err(|why| fail(format!("its hardware model is damaged: {why}")))?;
            let identifier = MachineIdentifier::from_data(&read("machineIdentifierPath")?);
            let identifier = identifier.map_err(|why| fail(format!("its identifier is damaged: {why}")))?;
            Ok(Guest::Mac { platform: Platform { identifier, model }, auxiliary })
        }
        other => Err(fail(format!("its boot loader is {other}, which is not known here"))),
    }
}

fn device(vm: &mut Foreign, parts: &Parts<'_>, folder: &Path) {
    let path = |key: &str| parts.get(key).map(|path| folder.join(path));
    match parts.name {
        "virtio-blk" | "nvme" | "usb-mass-storage" => {
            let Some(path) = path("path") else { return };
            let read_only = parts.has("readonly") || parts.name == "usb-mass-storage";
            // vfkit takes raw images only.
            vm.disks.push(ForeignDisk { path, format: DiskFormat::Raw, read_only });
        }
        "nbd" => {
            let Some(uri) = parts.get("uri") else { return };
            vm.notes.push(format!("disk {uri} was left out; `tearless set --add-disk {uri}` attaches it"));
        }
        "virtio-net" if vm.mac.is_none() => {
            vm.mac = parts.get("mac").and_then(|mac| mac.parse().ok());
            if !parts.has("nat") {
                vm.notes.push("its network is NAT now; --net sets another".into());
            }
        }
        "virtio-fs" => {
            let (Some(folder), Some(tag)) = (parts.get("sharedDir"), parts.get("mountTag")) else { return };
            let path = PathBuf::from(folder);
            if path.is_absolute() {
                vm.shares.push(ShareConfig { path, tag: tag.into(), read_only: false, owner: 0 });
            } else {
                vm.notes.push(format!("{folder} is not shared: name it with --share"));
            }
        }
        "virtio-gpu" => {
            let number = |key| parts.get(key).and_then(|text| text.parse().ok());
            let (width, height) = (number("width").unwrap_or(800), number("height").unwrap_or(600));
            vm.screen = Some(ScreenMode { width, height, scale: 1 });
        }
        // Every VM has them here.
        "virtio-rng" | "virtio-balloon" | "virtio-input" | "virtio-serial" => {}
        other => vm.notes.push(format!("device {other} was left out")),
    }
}
