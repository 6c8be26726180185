//! `push` and `pull`: VMs in OCI registries, as Tart keeps them there.

use std::{
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use tearless_bundle::{
    APPLE_VARIABLES_FILE, Bundle, Foreign, NewBundle, Store, check_name,
    mac::{AUXILIARY_FILE, IDENTIFIER_FILE, MODEL_FILE},
    tart,
};
use tearless_config::{BootConfig, DiskConfig, DisplayKind, VmConfig};
use tearless_image::{
    Error, Progress,
    error::Kind,
    oci::{
        self, Access, Content, Manifest, OWN_CONFIG, OWN_DISK, OWN_FILE, Part, Reference, Registry,
        TART_CONFIG, TART_DISK, TART_NVRAM,
    },
};
use tearless_vm::{
    network,
    storage::{self, Disk, Format, is_remote},
};

use crate::{
    args::{PullArgs, PushArgs},
    disks,
    out::say,
    progress::Bars,
};

/// What a description in a registry may take.
const MAX_DESCRIPTION: u64 = 1 << 20;
/// The largest auxiliary storage, or store of EFI's variables, that is believed.
const MAX_NVRAM: u64 = 256 << 20;
/// Files that an image may have beside its disks.
const FILES: [&str; 5] = ["Kernel", "Initrd", "NVRAM", MODEL_FILE, IDENTIFIER_FILE];
/// Tart wants a store of EFI's variables. It can do nothing with ours.
const NO_VARIABLES: [u8; 4096] = [0; 4096];

/// The file of the disk at place `index`.
fn disk_file(index: usize) -> String {
    if index == 0 { "Disk.img".into() } else { format!("Disk-{}.img", index + 1) }
}

/// What of a VM makes sense on any host, with `disks` disks. Whatever reaches out of the VM is left behind: folders that
/// are shared, ports, networks, files elsewhere. So an image from a registry cannot open anything here, nor tell there.
fn portable(config: &VmConfig, disks: usize) -> VmConfig {
    let boot = match &config.boot {
        BootConfig::LinuxKernel { initrd, cmdline, .. } => BootConfig::LinuxKernel {
            kernel: "Kernel".into(),
            initrd: initrd.as_ref().map(|_| "Initrd".into()),
            cmdline: cmdline.clone(),
        },
        BootConfig::LinuxDebian { suite, cmdline, .. } => BootConfig::LinuxDebian {
            suite: suite.clone(),
            kernel: "Kernel".into(),
            initrd: "Initrd".into(),
            cmdline: cmdline.clone(),
        },
        BootConfig::Efi { .. } => BootConfig::efi("NVRAM"),
        BootConfig::MacOs { version, build, .. } => BootConfig::MacOs {
            auxiliary: AUXILIARY_FILE.into(),
            version: version.clone(),
            build: build.clone(),
        },
    };
    let mut new = VmConfig::new(boot);
    (new.cpus, new.memory, new.balloon) = (config.cpus, config.memory, config.balloon);
    new.disks = (0..disks).map(|index| DiskConfig::new(disk_file(index))).collect();
    new.network.mac = config.network.mac;
    new.display.mode = config.display.mode;
    if config.display.is_on() {
        new.display.kind = DisplayKind::Hidden;
    }
    new.console = config.console;
    new.machine_id.clone_from(&config.machine_id);
    new.description.clone_from(&config.description);
    new
}

pub fn push(args: &PushArgs) -> Result<ExitCode> {
    let reference: Reference = args.image.parse()?;
    let bundle = Store::open()?.find(&args.name)?;
    let _lock = bundle.lock()?;
    bundle.refuse_suspended("push")?;
    let config = bundle.config()?;
    if matches!(config.boot, BootConfig::Efi { installer: Some(_), .. }) {
        bail!(
            "cannot push {0}\n  because: its installation is not complete\n  try: complete it first: tearless run {0}",
            args.name
        );
    }
    let bars = Bars::new();
    let own = |disk: &&DiskConfig| disk.path.is_relative() && !is_remote(&disk.path) && !disk.read_only;
    for disk in config.disks.iter().filter(|disk| !own(disk)) {
        bars.warn(&format!("disk {} is not a part of the VM, and is not pushed", disk.path.display()));
    }
    if !config.shares.is_empty() {
        bars.warn("the folders that it shares are this host's, and are not pushed");
    }
    if config.firmware.is_some() {
        bars.warn("its firmware, and what that keeps, are not pushed; it boots with Tearless' own EFI there");
    }
    let disks: Vec<_> =
        config.disks.iter().filter(own).map(|disk| open_disk(&bundle, disk)).collect::<Result<_>>()?;
    if disks.is_empty() {
        bail!(
            "cannot push {0}\n  because: it has no disk of its own\n  try: a VM that has one; tearless info {0}",
            args.name
        );
    }
    let digest = push_parts(args, &reference, &bundle, &portable(&config, disks.len()), &disks, &bars)?;
    say!("pushed {} to {reference} (sha256:{digest})", bundle.name());
    Ok(ExitCode::SUCCESS)
}

fn push_parts(
    args: &PushArgs,
    reference: &Reference,
    bundle: &Bundle,
    config: &VmConfig,
    disks: &[Box<dyn Content>],
    bars: &Bars,
) -> Result<impl std::fmt::Display + use<>> {
    let platform = if config.boot.is_mac() { Some(bundle.platform()?) } else { None };
    let identity = bundle.path().as_os_str().as_encoded_bytes();
    let mac = config.network.mac.unwrap_or_else(|| network::derived_mac(identity));
    let tart = tart::describe(config, platform.as_ref(), mac);
    let own = config.to_json()?;
    let titles: Vec<_> = (0..disks.len()).map(disk_file).collect();
    let mut parts = vec![Part::Text(TART_CONFIG, &tart)];
    for (index, (disk, title)) in disks.iter().zip(&titles).enumerate() {
        let (media_type, title) =
            if index == 0 { (TART_DISK, None) } else { (OWN_DISK, Some(title.as_str())) };
        parts.push(Part::Disk(media_type, title, disk.as_ref()));
    }
    let (nvram, files) = files(bundle)?;
    match &nvram {
        Some(path) => parts.push(Part::File(TART_NVRAM, None, path)),
        None => parts.push(Part::Text(TART_NVRAM, &NO_VARIABLES)),
    }
    parts.push(Part::Text(OWN_CONFIG, own.as_bytes()));
    for (title, path) in &files {
        parts.push(Part::File(OWN_FILE, Some(title), path));
    }
    let os = if platform.is_some() { "darwin" } else { "linux" };
    let registry = Registry::new(reference, Access::Push, args.transfer.insecure);
    Ok(oci::push(&registry, os, &parts, args.transfer.jobs.into(), bars)?)
}

/// A file by the name that it has in an image.
type Named = (&'static str, PathBuf);

/// What Tart takes as its NVRAM, if there is such a thing, and the other files.
fn files(bundle: &Bundle) -> Result<(Option<PathBuf>, Vec<Named>)> {
    let inside = |path: &Path| bundle.path().join(path);
    let variables = Some(inside(Path::new(APPLE_VARIABLES_FILE))).filter(|path| path.is_file());
    let files = match bundle.config()?.boot {
        BootConfig::LinuxKernel { kernel, initrd, .. } => {
            let initrd = initrd.map(|initrd| ("Initrd", inside(&initrd)));
            return Ok((variables, [("Kernel", inside(&kernel))].into_iter().chain(initrd).collect()));
        }
        BootConfig::LinuxDebian { kernel, initrd, .. } => {
            vec![("Kernel", inside(&kernel)), ("Initrd", inside(&initrd))]
        }
        BootConfig::Efi { variables: own, .. } => {
            let own =
                Some(("NVRAM", inside(&own))).filter(|(_, path)| path.metadata().is_ok_and(|m| m.len() > 0));
            return Ok((variables, own.into_iter().collect()));
        }
        BootConfig::MacOs { auxiliary, .. } => {
            let own = [MODEL_FILE, IDENTIFIER_FILE].map(|name| (name, bundle.path().join(name)));
            return Ok((Some(inside(&auxiliary)), own.into()));
        }
    };
    Ok((variables, files))
}

/// A disk of the VM, whatever it is made of.
fn open_disk(bundle: &Bundle, disk: &DiskConfig) -> Result<Box<dyn Content>> {
    let spec = disks::spec(disk, Some(bundle.path()));
    if spec.options.format == Some(Format::Raw) {
        let file = File::open(&spec.path).with_context(|| format!("cannot read {}", spec.path.display()))?;
        return Ok(Box::new(file));
    }
    let options = storage::OpenOptions { read_only: true, ..spec.options };
    Ok(Box::new(Image(storage::open(&spec.path, options)?)))
}

/// A disk that is no plain file.
struct Image(Arc<dyn Disk>);

impl Content for Image {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(data, offset)
    }

    fn data_from(&self, offset: u64) -> Option<Range<u64>> {
        self.0.data_from(offset)
    }
}

pub fn pull(args: &PullArgs) -> Result<ExitCode> {
    let reference: Reference = args.image.parse()?;
    let name = args.name.as_deref().unwrap_or(reference.name());
    check_name(name)?;
    let store = Store::open()?;
    let registry = Registry::new(&reference, Access::Pull, args.transfer.insecure);
    let (manifest, digest) = registry.manifest()?;
    let new = store.resume(name, &digest.to_string()[..16])?;
    let bars = Bars::new();
    let config = match fetch(&registry, &manifest, &new, args.transfer.jobs.into(), &bars) {
        Ok(config) => config,
        Err(error) => {
            let kind = error.downcast_ref::<Error>().map(Error::kind);
            if kind.is_none_or(|kind| matches!(kind, Kind::Integrity | Kind::Format)) {
                new.discard();
            }
            return Err(error);
        }
    };
    let config = apart(&store, config, &bars)?;
    let bundle = new.finish(&config)?;
    say!("pulled {reference} as {0}; start it with: tearless run {0}", bundle.name());
    Ok(ExitCode::SUCCESS)
}

/// Brings what the image has into `new`.
fn fetch(
    registry: &Registry,
    manifest: &Manifest,
    new: &NewBundle,
    jobs: usize,
    bars: &Bars,
) -> Result<VmConfig> {
    let unusable =
        |why: &str| Error::new(Kind::Format, format!("cannot use {} as a VM", registry.reference()), why, "");
    let disks = manifest.disks().map_err(|why| unusable(&why))?;
    let own = manifest.of(OWN_CONFIG).next();
    let tart = manifest.of(TART_CONFIG).next();
    let paths: Vec<_> = (0..disks.len()).map(|index| new.path().join(disk_file(index))).collect();
    let nvram = manifest.of(TART_NVRAM).next();
    if nvram.is_some_and(|layer| layer.size() > MAX_NVRAM) {
        return Err(unusable("its NVRAM is larger than any").into());
    }
    // First what is small: what cannot be used is known soon.
    let (config, nvram_file) = match (own, tart) {
        (Some(own), _) => {
            let text = registry.small_blob(own, MAX_DESCRIPTION)?;
            let text = String::from_utf8(text).map_err(|_| unusable("its description is no text"))?;
            let config = VmConfig::from_json(&text).map_err(|e| unusable(&e.to_string()))?;
            for file in manifest.of(OWN_FILE) {
                let title = file.title().and_then(|title| FILES.iter().find(|known| **known == title));
                let title = title.ok_or_else(|| unusable("it has a file that VMs have not"))?;
                oci::pull_file(registry, file, &new.path().join(title))?;
            }
            let file = config.boot.is_mac().then_some(AUXILIARY_FILE);
            (portable(&config, disks.len()), file)
        }
        (None, Some(tart)) => {
            let text = registry.small_blob(tart, MAX_DESCRIPTION)?;
            let nvram = nvram.ok_or_else(|| unusable("it has no NVRAM"))?;
            let file = new.path().join(APPLE_VARIABLES_FILE);
            oci::pull_file(registry, nvram, &file)?;
            let [disk] = paths.as_slice() else { return Err(unusable("it has several disks").into()) };
            let foreign = Foreign::tart(&text, disk.clone(), file.clone())?;
            foreign.notes.iter().for_each(|note| bars.warn(note));
            foreign.write_identity(new.path())?;
            let config = foreign.config();
            if config.boot.is_mac() {
                std::fs::rename(&file, new.path().join(AUXILIARY_FILE)).context("cannot name the NVRAM")?;
            }
            (config, None)
        }
        (None, None) => return Err(unusable("it has no description of a VM").into()),
    };
    if let Some(file) = nvram_file {
        let nvram = nvram.ok_or_else(|| unusable("it has no auxiliary storage"))?;
        oci::pull_file(registry, nvram, &new.path().join(file))?;
    }
    if let Some(missing) = missing(&config, new.path()) {
        return Err(unusable(&format!("it has no {missing}")).into());
    }
    let disks: Vec<_> = disks.into_iter().zip(paths.iter().map(PathBuf::as_path)).collect();
    oci::pull_disks(registry, &disks, jobs, bars)?;
    Ok(config)
}

/// The file that the VM boots from and that is not there.
fn missing<'a>(config: &'a VmConfig, folder: &Path) -> Option<&'a str> {
    let wanted = match &config.boot {
        BootConfig::LinuxKernel { initrd: None, .. } => &["Kernel"][..],
        BootConfig::LinuxKernel { .. } | BootConfig::LinuxDebian { .. } => &["Kernel", "Initrd"],
        BootConfig::Efi { .. } => &[],
        BootConfig::MacOs { .. } => &[AUXILIARY_FILE, MODEL_FILE, IDENTIFIER_FILE],
    };
    wanted.iter().copied().find(|name| !folder.join(name).is_file())
}

/// Two VMs with one network address are told apart; that they are one virtual Mac is said.
fn apart(store: &Store, mut config: VmConfig, bars: &Bars) -> Result<VmConfig> {
    let others = store.list()?;
    let same = |other: &VmConfig| config.network.mac.is_some() && other.network.mac == config.network.mac;
    let twin = others.iter().find(|listed| listed.config.as_ref().is_ok_and(same));
    if let Some(twin) = twin {
        bars.warn(&format!(
            "{} has the image's network address already, so this VM gets another; they are one machine otherwise",
            twin.bundle.name()
        ));
        config.network.mac = Some(network::random_mac());
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_out_of_a_vm_is_left_behind() {
        let text = r#"{"version": 1, "cpus": 3, "memory": "1G", "description": "mine",
            "disks": [{"path": "/etc/shadow"}, {"path": "disks/x.qcow2", "format": "qcow2"}],
            "shares": [{"path": "/", "tag": "root"}], "display": {"kind": "vnc", "password_file": "/etc/shadow"},
            "network": {"mode": "tap:x", "mac": "52:54:00:00:00:01", "allow": ["host"]}, "qos": {"nice": -5},
            "boot": {"kind": "linux-kernel", "kernel": "/boot/vmlinuz", "initrd": "../x", "cmdline": "quiet"}}"#;
        let config = portable(&VmConfig::from_json(text).unwrap(), 2);
        let left = config.to_json().unwrap();
        for secret in ["/etc", "/boot", "..", "tap", "host", "qos", "shares", "vnc"] {
            assert!(!left.contains(secret), "{secret} in {left}");
        }
        for kept in ["\"mine\"", "52:54:00:00:00:01", "quiet", "Disk.img", "Disk-2.img", "hidden"] {
            assert!(left.contains(kept), "no {kept} in {left}");
        }
        assert_eq!(config.cpus, 3);
    }
}
