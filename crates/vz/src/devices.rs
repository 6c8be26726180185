//! The devices.

use tearless_config::{CacheMode, DiskConfig, DiskFormat, NetMode, ShareConfig, SyncMode, VmConfig};

use crate::{Host, Machine, Object, Refusal, Value, plan::refuse};

/// What macOS guests mount by themselves, at `/Volumes/My Shared Files`.
const AUTOMOUNT: &str = "com.apple.virtio-fs.automount";

/// What a display of a virtual Mac is like.
const DISPLAY: [(&str, u64); 3] = [("widthInPixels", 1920), ("heightInPixels", 1200), ("pixelsPerInch", 80)];

pub(crate) fn disks(machine: &Machine<'_>, host: &Host) -> Result<Vec<Object>, Refusal> {
    machine.config.disks.iter().map(|disk| storage(disk, machine, host)).collect()
}

fn storage(disk: &DiskConfig, machine: &Machine<'_>, host: &Host) -> Result<Object, Refusal> {
    let device =
        |attachment: Object| Object::new("VZVirtioBlockDeviceConfiguration").with("attachment", attachment);
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
        return Ok(device(attachment));
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
    let attachment = Object::new("VZDiskImageStorageDeviceAttachment")
        .with("URL", machine.folder.join(&disk.path).as_path())
        .with("readOnly", disk.read_only)
        .with("cachingMode", Value::Constant(caching))
        .with("synchronizationMode", Value::Constant(synchronization(disk.sync).1));
    Ok(device(attachment))
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
    let ours = Object::new("VZFileHandleNetworkDeviceAttachment").with("maximumTransmissionUnit", 1500_u64);
    let attachment = match &network.mode {
        NetMode::None => return Ok(Vec::new()),
        NetMode::Nat if network.forwards.is_empty() && network.allow.is_empty() => {
            Object::new("VZNATNetworkDeviceAttachment")
        }
        NetMode::Nat | NetMode::Isolated | NetMode::Named(_) | NetMode::Socket(_) => ours,
        NetMode::Bridged(interface) if host.has(26) => {
            // The older class needs an entitlement that Apple gives to few.
            Object::new("VZVmnetNetworkDeviceAttachment").with("interface", &**interface)
        }
        NetMode::Bridged(interface) => {
            let why = "before macOS 26 that needs an entitlement that Apple gives to few";
            let advice = "--net socket:PATH with vmnet-helper or socket_vmnet, or update macOS";
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
        return Ok(config.shares.iter().map(|share| device(&share.tag, single(share))).collect());
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

/// What every virtual Mac has: a display, keyboard, pointer, sound.
pub(crate) fn add_mac_devices(plan: Object, host: &Host) -> Object {
    let display = DISPLAY
        .into_iter()
        .fold(Object::new("VZMacGraphicsDisplayConfiguration"), |display, (name, n)| display.with(name, n));
    let graphics = Object::new("VZMacGraphicsDeviceConfiguration").with_list("displays", vec![display]);
    let keyboard = if host.has(14) { "VZMacKeyboardConfiguration" } else { "VZUSBKeyboardConfiguration" };
    // A guest that does not know the trackpad takes the other one.
    let trackpad = host.has(13).then(|| Object::new("VZMacTrackpadConfiguration"));
    let pointers = [trackpad, Some(Object::new("VZUSBScreenCoordinatePointingDeviceConfiguration"))];
    let sink = Object::new("VZHostAudioOutputStreamSink");
    let output = Object::new("VZVirtioSoundDeviceOutputStreamConfiguration").with("sink", sink);
    let sound = Object::new("VZVirtioSoundDeviceConfiguration").with_list("streams", vec![output]);
    plan.with_list("graphicsDevices", vec![graphics])
        .with_list("keyboards", vec![Object::new(keyboard)])
        .with_list("pointingDevices", pointers.into_iter().flatten().collect())
        .with_list("audioDevices", vec![sound])
}
