//! The devices.

use tearless_config::{
    BootConfig, CacheMode, DiskBus, DiskConfig, DiskFormat, NetMode, RosettaCache, ShareConfig, SyncMode,
    VmConfig, Vmnet,
};

use crate::{Host, Machine, Object, Refusal, Stream, Value, plan::refuse};

/// What macOS guests mount by themselves, at `/Volumes/My Shared Files`.
const AUTOMOUNT: &str = "com.apple.virtio-fs.automount";

/// What Linux guests find Rosetta by.
const ROSETTA: &str = "rosetta";

pub(crate) fn disks(machine: &Machine<'_>, host: &Host) -> Result<Vec<Object>, Refusal> {
    machine.config.disks.iter().map(|disk| storage(disk, machine, host)).collect()
}

fn storage(disk: &DiskConfig, machine: &Machine<'_>, host: &Host) -> Result<Object, Refusal> {
    let class = device_class(disk, machine, host)?;
    Ok(Object::new(class).with("attachment", attachment(disk, machine, host)?))
}

/// What the disk is attached to.
fn device_class(disk: &DiskConfig, machine: &Machine<'_>, host: &Host) -> Result<&'static str, Refusal> {
    let boot = &machine.config.boot;
    let is_iso = disk.read_only && disk.path.extension().is_some_and(|e| e.eq_ignore_ascii_case("iso"));
    let bus = match disk.bus {
        // There the framework's EFI looks for media to boot from.
        DiskBus::Virtio if is_iso && matches!(boot, BootConfig::Efi { .. }) => DiskBus::Usb,
        bus => bus,
    };
    let what = || format!("disk {} at {}", disk.path.display(), bus.name());
    match bus {
        DiskBus::Virtio => Ok("VZVirtioBlockDeviceConfiguration"),
        DiskBus::Nvme if boot.is_mac() => {
            refuse(what(), "the framework gives NVMe to Linux guests only", "leave :bus=nvme out")
        }
        DiskBus::Nvme if !host.has(14) => {
            refuse(what(), "NVMe needs macOS 14", "update macOS, or leave :bus=nvme out")
        }
        DiskBus::Nvme => Ok("VZNVMExpressControllerDeviceConfiguration"),
        DiskBus::Usb if !host.has(13) => {
            refuse(what(), "USB storage needs macOS 13", "update macOS, or leave :bus=usb out")
        }
        DiskBus::Usb => Ok("VZUSBMassStorageDeviceConfiguration"),
    }
}

fn attachment(disk: &DiskConfig, machine: &Machine<'_>, host: &Host) -> Result<Object, Refusal> {
    let name = disk.path.to_string_lossy();
    if name.starts_with("nbd://") || name.starts_with("nbd+unix://") {
        if !host.has(14) {
            return refuse(format!("disk {name}"), "NBD needs macOS 14", "update macOS, or --engine soft");
        }
        let attachment = Object::new("VZNetworkBlockDeviceStorageDeviceAttachment")
            .with("URL", &*name)
            .with("timeout", 0_u64)
            .with("forcedReadOnly", disk.read_only)
            .with("synchronizationMode", Value::Constant(synchronization(disk.sync).0));
        return Ok(attachment);
    }
    if disk.path.starts_with("/dev") {
        return block_device(disk, host);
    }
    let by_name =
        [("qcow2", DiskFormat::Qcow2), ("vmdk", DiskFormat::Vmdk)].into_iter().find(|(extension, _)| {
            disk.path.is_absolute() && disk.path.extension().is_some_and(|e| e == *extension)
        });
    if let Some(format @ (DiskFormat::Qcow2 | DiskFormat::Vmdk)) = disk.format.or(by_name.map(|(_, f)| f)) {
        let why = format!("it is {format:?}, and the framework reads raw disks only").to_lowercase();
        return refuse(format!("disk {name}"), why, "convert it: qemu-img convert -O raw, or --engine soft");
    }
    // `automatic` lost data of Linux guests; macOS guests are what it is made for.
    let caching = match (disk.cache, machine.config.boot.is_mac()) {
        (CacheMode::None, _) => "VZDiskImageCachingModeUncached",
        (CacheMode::Host, false) => "VZDiskImageCachingModeCached",
        (CacheMode::Host, true) => "VZDiskImageCachingModeAutomatic",
    };
    Ok(Object::new("VZDiskImageStorageDeviceAttachment")
        .with("URL", machine.folder.join(&disk.path).as_path())
        .with("readOnly", disk.read_only)
        .with("cachingMode", Value::Constant(caching))
        .with("synchronizationMode", Value::Constant(synchronization(disk.sync).1)))
}

/// A disk of the host, which is opened by who has the right to.
fn block_device(disk: &DiskConfig, host: &Host) -> Result<Object, Refusal> {
    if !host.has(14) {
        let what = format!("disk {}", disk.path.display());
        return refuse(what, "disks of the host need macOS 14", "update macOS, or a disk image");
    }
    Ok(Object::new("VZDiskBlockDeviceStorageDeviceAttachment")
        .with("fileHandle", disk.path.as_path())
        .with("readOnly", disk.read_only)
        .with("synchronizationMode", Value::Constant(synchronization(disk.sync).0)))
}

/// The modes for a disk that a server holds, and for a file.
fn synchronization(mode: SyncMode) -> (&'static str, &'static str) {
    let full = "VZDiskSynchronizationModeFull";
    match mode {
        SyncMode::Full => (full, "VZDiskImageSynchronizationModeFull"),
        // What a server's flush is, it decides itself.
        SyncMode::Fsync => (full, "VZDiskImageSynchronizationModeFsync"),
        SyncMode::None => ("VZDiskSynchronizationModeNone", "VZDiskImageSynchronizationModeNone"),
    }
}

pub(crate) fn network(config: &VmConfig, host: &Host) -> Result<Vec<Object>, Refusal> {
    let network = &config.network;
    // Frames go to a network of our own where the framework has not what is asked for.
    let ours = Object::new("VZFileHandleNetworkDeviceAttachment")
        .with("fileHandle", Stream::Network)
        .with("maximumTransmissionUnit", 1500_u64);
    let attachment = match &network.mode {
        NetMode::None => return Ok(Vec::new()),
        mode if config.apple.vmnet.is_some() => vmnet(config, mode, host)?,
        NetMode::Nat if network.forwards.is_empty() && network.allow.is_empty() => {
            Object::new("VZNATNetworkDeviceAttachment")
        }
        NetMode::Nat | NetMode::Isolated | NetMode::Named(_) | NetMode::Socket(_) => ours,
        NetMode::Bridged(interface) if host.bridges => Object::new("VZBridgedNetworkDeviceAttachment").with(
            "interface",
            Object::new("VZBridgedNetworkInterface").with("identifier", interface.as_str()),
        ),
        NetMode::Bridged(interface) => {
            let why = "the framework's bridge is for programs with the entitlement com.apple.vm.networking, which Apple gives to few";
            let advice = "--net socket:PATH with vmnet-helper or socket_vmnet in bridged mode; or sign tearless with that entitlement";
            return refuse(format!("network bridged:{interface}"), why, advice);
        }
        mode @ (NetMode::Tap(_) | NetMode::Fd(_)) => {
            return refuse(
                format!("network {mode}"),
                "taps are devices of Linux",
                "--net nat or --net socket:PATH",
            );
        }
    };
    let mut card = Object::new("VZVirtioNetworkDeviceConfiguration").with("attachment", attachment);
    if let Some(mac) = network.mac {
        card = card.with("MACAddress", Object::new("VZMACAddress").with("string", &*mac.to_string()));
    }
    Ok(vec![card])
}

/// A network that macOS has for this VM.
fn vmnet(config: &VmConfig, mode: &NetMode, host: &Host) -> Result<Object, Refusal> {
    let what = "a network of macOS' own";
    if *mode != NetMode::Nat || !config.network.forwards.is_empty() || !config.network.allow.is_empty() {
        let why = format!(
            "it takes the place of --net nat, and neither forwards ports nor filters; this is {mode}"
        );
        return refuse(what, why, "--net nat without -p and --allow, or --apple vmnet=off");
    }
    if !host.has(26) {
        return refuse(
            what,
            "before macOS 26 that needs an entitlement that Apple gives to few",
            "update macOS, or --apple vmnet=off",
        );
    }
    let mode = match config.apple.vmnet {
        Some(Vmnet::Host) => "VMNET_HOST_MODE",
        _ => "VMNET_SHARED_MODE",
    };
    Ok(Object::new("VZVmnetNetworkDeviceAttachment").with("network", Value::Constant(mode)))
}

/// The translator for x86-64, as a shared folder.
fn rosetta(cache: &RosettaCache, config: &VmConfig, host: &Host) -> Result<Object, Refusal> {
    let what = "rosetta";
    if config.shares.iter().any(|share| share.tag == ROSETTA) {
        return refuse(
            what,
            format!("a shared folder has the tag {ROSETTA:?}"),
            "give that another: --share DIR:TAG",
        );
    }
    if !host.has(13) {
        return refuse(what, "Linux guests have it from macOS 13 on", "update macOS, or --apple rosetta=off");
    }
    let share = Object::new("VZLinuxRosettaDirectoryShare");
    let options = match cache {
        RosettaCache::None => return Ok(share),
        _ if !host.has(14) => {
            return refuse("a cache of rosetta", "it needs macOS 14", "update macOS, or --apple rosetta");
        }
        RosettaCache::Unix(path) => {
            Object::new("VZLinuxRosettaUnixSocketCachingOptions").with("path", &**path)
        }
        RosettaCache::Abstract(name) => {
            Object::new("VZLinuxRosettaAbstractSocketCachingOptions").with("name", &**name)
        }
    };
    Ok(share.with("options", options))
}

pub(crate) fn shares(config: &VmConfig, host: &Host) -> Result<Vec<Object>, Refusal> {
    if let Some(share) = config.shares.iter().find(|share| share.owner != 0) {
        let why = "the framework shows all files as the guest's own user's";
        return refuse(format!("uid={} for {}", share.owner, share.path.display()), why, "leave uid= out");
    }
    let folder = |share: &ShareConfig| {
        Object::new("VZSharedDirectory").with("URL", share.path.as_path()).with("readOnly", share.read_only)
    };
    let device = |tag: &str, share: Object| {
        Object::new("VZVirtioFileSystemDeviceConfiguration").with("tag", tag).with("share", share)
    };
    if !config.boot.is_mac() {
        let single = |share| Object::new("VZSingleDirectoryShare").with("directory", folder(share));
        let folders = config.shares.iter().map(|share| Ok(device(&share.tag, single(share))));
        let rosetta =
            config.apple.rosetta.iter().map(|cache| Ok(device(ROSETTA, rosetta(cache, config, host)?)));
        return folders.chain(rosetta).collect();
    }
    if config.shares.is_empty() {
        return Ok(Vec::new());
    }
    if !host.has(13) {
        let why = "macOS guests see them from macOS 13 on, on both sides";
        return refuse("shared folders", why, "update macOS, or leave --share out");
    }
    let folders = config.shares.iter().map(|share| (share.tag.clone(), folder(share))).collect();
    let all = Object::new("VZMultipleDirectoryShare").with("directories", Value::Named(folders));
    Ok(vec![device(AUTOMOUNT, all)])
}
