//! The devices.

use objc2::{AnyThread as _, rc::Retained};
use objc2_foundation::{NSDictionary, NSString, NSURL};
use objc2_virtualization::{
    VZAudioDeviceConfiguration, VZBridgedNetworkDeviceAttachment, VZBridgedNetworkInterface,
    VZConsoleDeviceConfiguration, VZDirectoryShare, VZDirectorySharingDeviceConfiguration,
    VZDiskBlockDeviceStorageDeviceAttachment, VZDiskImageCachingMode, VZDiskImageStorageDeviceAttachment,
    VZDiskImageSynchronizationMode, VZDiskSynchronizationMode, VZEntropyDeviceConfiguration,
    VZFileHandleNetworkDeviceAttachment, VZFileHandleSerialPortAttachment, VZGraphicsDeviceConfiguration,
    VZHostAudioInputStreamSource, VZHostAudioOutputStreamSink, VZKeyboardConfiguration,
    VZLinuxRosettaAbstractSocketCachingOptions, VZLinuxRosettaAvailability, VZLinuxRosettaCachingOptions,
    VZLinuxRosettaDirectoryShare, VZLinuxRosettaUnixSocketCachingOptions, VZMACAddress,
    VZMacGraphicsDeviceConfiguration, VZMacGraphicsDisplayConfiguration, VZMacKeyboardConfiguration,
    VZMacTrackpadConfiguration, VZMemoryBalloonDeviceConfiguration, VZMultipleDirectoryShare,
    VZNATNetworkDeviceAttachment, VZNVMExpressControllerDeviceConfiguration,
    VZNetworkBlockDeviceStorageDeviceAttachment, VZNetworkDeviceAttachment, VZNetworkDeviceConfiguration,
    VZPointingDeviceConfiguration, VZSerialPortConfiguration, VZSharedDirectory, VZSingleDirectoryShare,
    VZSocketDeviceConfiguration, VZSpiceAgentPortAttachment, VZStorageDeviceAttachment,
    VZStorageDeviceConfiguration, VZUSBKeyboardConfiguration, VZUSBMassStorageDeviceConfiguration,
    VZUSBScreenCoordinatePointingDeviceConfiguration, VZVirtioBlockDeviceConfiguration,
    VZVirtioConsoleDeviceConfiguration, VZVirtioConsoleDeviceSerialPortConfiguration,
    VZVirtioConsolePortConfiguration, VZVirtioEntropyDeviceConfiguration,
    VZVirtioFileSystemDeviceConfiguration, VZVirtioGraphicsDeviceConfiguration,
    VZVirtioGraphicsScanoutConfiguration, VZVirtioNetworkDeviceConfiguration,
    VZVirtioSocketDeviceConfiguration, VZVirtioSoundDeviceConfiguration,
    VZVirtioSoundDeviceInputStreamConfiguration, VZVirtioSoundDeviceOutputStreamConfiguration,
    VZVirtioSoundDeviceStreamConfiguration, VZVirtioTraditionalMemoryBalloonDeviceConfiguration,
};

use super::{
    Failure, Streams,
    build::{Built, child, handle, integer, list, need, string, unknown, url},
    install_rosetta, vmnet,
};
use crate::{Object, Value};

pub(super) fn storage(object: &Object) -> Built<VZStorageDeviceConfiguration> {
    let attachment = storage_attachment(child(object, "attachment")?)?;
    // SAFETY: here and below: the plan's classes are there, and are given what Apple's documentation says they take.
    Ok(unsafe {
        match object.class {
            "VZVirtioBlockDeviceConfiguration" => {
                let new = VZVirtioBlockDeviceConfiguration::alloc();
                VZVirtioBlockDeviceConfiguration::initWithAttachment(new, &attachment).into_super()
            }
            "VZNVMExpressControllerDeviceConfiguration" => {
                let new = VZNVMExpressControllerDeviceConfiguration::alloc();
                VZNVMExpressControllerDeviceConfiguration::initWithAttachment(new, &attachment).into_super()
            }
            "VZUSBMassStorageDeviceConfiguration" => {
                let new = VZUSBMassStorageDeviceConfiguration::alloc();
                VZUSBMassStorageDeviceConfiguration::initWithAttachment(new, &attachment).into_super()
            }
            _ => return Err(unknown(object)),
        }
    })
}

fn storage_attachment(object: &Object) -> Built<VZStorageDeviceAttachment> {
    let read_only = object.flag("readOnly").or(object.flag("forcedReadOnly"));
    let read_only = need(read_only, object, "readOnly")?;
    let synchronization = need(object.constant("synchronizationMode"), object, "synchronizationMode")?;
    match object.class {
        "VZDiskImageStorageDeviceAttachment" => {
            let new = VZDiskImageStorageDeviceAttachment::alloc();
            let caching = caching(need(object.constant("cachingMode"), object, "cachingMode")?);
            let synchronization = image_synchronization(synchronization);
            let image = url(object, "URL")?;
            let attached = unsafe {
                VZDiskImageStorageDeviceAttachment::initWithURL_readOnly_cachingMode_synchronizationMode_error(
                    new,
                    &image,
                    read_only,
                    caching,
                    synchronization,
                )
            };
            let what = || format!("attach disk {}", object.text("URL").unwrap_or_default());
            attached.map(Retained::into_super).map_err(|e| Failure::of(what(), &e))
        }
        "VZNetworkBlockDeviceStorageDeviceAttachment" => {
            let new = VZNetworkBlockDeviceStorageDeviceAttachment::alloc();
            let what = || format!("attach disk {}", object.text("URL").unwrap_or_default());
            let server = NSURL::URLWithString(&*string(object, "URL")?);
            let server = need(server, object, "URL")?;
            #[allow(clippy::cast_precision_loss, reason = "seconds")]
            let timeout = object.number("timeout").unwrap_or(0) as f64;
            let attached = unsafe {
                VZNetworkBlockDeviceStorageDeviceAttachment::initWithURL_timeout_forcedReadOnly_synchronizationMode_error(
                    new, &server, timeout, read_only, disk_synchronization(synchronization),
                )
            };
            attached.map(Retained::into_super).map_err(|e| Failure::of(what(), &e))
        }
        "VZDiskBlockDeviceStorageDeviceAttachment" => {
            let new = VZDiskBlockDeviceStorageDeviceAttachment::alloc();
            let what = || format!("attach {}", object.text("fileHandle").unwrap_or_default());
            let file = handle(object, "fileHandle", &mut Streams::default())?;
            let attached = unsafe {
                VZDiskBlockDeviceStorageDeviceAttachment::initWithFileHandle_readOnly_synchronizationMode_error(
                    new, &file, read_only, disk_synchronization(synchronization),
                )
            };
            attached.map(Retained::into_super).map_err(|e| Failure::of(what(), &e))
        }
        _ => Err(unknown(object)),
    }
}

fn caching(name: &str) -> VZDiskImageCachingMode {
    match name {
        "VZDiskImageCachingModeUncached" => VZDiskImageCachingMode::Uncached,
        "VZDiskImageCachingModeCached" => VZDiskImageCachingMode::Cached,
        _ => VZDiskImageCachingMode::Automatic,
    }
}

fn image_synchronization(name: &str) -> VZDiskImageSynchronizationMode {
    match name {
        "VZDiskImageSynchronizationModeFsync" => VZDiskImageSynchronizationMode::Fsync,
        "VZDiskImageSynchronizationModeNone" => VZDiskImageSynchronizationMode::None,
        _ => VZDiskImageSynchronizationMode::Full,
    }
}

fn disk_synchronization(name: &str) -> VZDiskSynchronizationMode {
    match name {
        "VZDiskSynchronizationModeNone" => VZDiskSynchronizationMode::None,
        _ => VZDiskSynchronizationMode::Full,
    }
}

pub(super) fn network(object: &Object, streams: &mut Streams) -> Built<VZNetworkDeviceConfiguration> {
    let card = unsafe { VZVirtioNetworkDeviceConfiguration::new() };
    let attachment = network_attachment(child(object, "attachment")?, streams)?;
    unsafe { card.setAttachment(Some(&attachment)) };
    if let Some(address) = object.object("MACAddress") {
        let text = string(address, "string")?;
        let address = unsafe { VZMACAddress::initWithString(VZMACAddress::alloc(), &text) };
        unsafe { card.setMACAddress(&*need(address, object, "MACAddress")?) };
    }
    Ok(card.into_super())
}

fn network_attachment(object: &Object, streams: &mut Streams) -> Built<VZNetworkDeviceAttachment> {
    match object.class {
        "VZNATNetworkDeviceAttachment" => Ok(unsafe { VZNATNetworkDeviceAttachment::new() }.into_super()),
        "VZFileHandleNetworkDeviceAttachment" => {
            let file = handle(object, "fileHandle", streams)?;
            let new = VZFileHandleNetworkDeviceAttachment::alloc();
            let attachment = unsafe { VZFileHandleNetworkDeviceAttachment::initWithFileHandle(new, &file) };
            let unit = integer(object, "maximumTransmissionUnit")?;
            unsafe { attachment.setMaximumTransmissionUnit(unit) };
            Ok(attachment.into_super())
        }
        "VZBridgedNetworkDeviceAttachment" => {
            let interface =
                bridged(need(child(object, "interface")?.text("identifier"), object, "interface")?)?;
            let new = VZBridgedNetworkDeviceAttachment::alloc();
            Ok(unsafe { VZBridgedNetworkDeviceAttachment::initWithInterface(new, &interface) }.into_super())
        }
        "VZVmnetNetworkDeviceAttachment" => {
            vmnet::attachment(need(object.constant("network"), object, "network")?)
        }
        _ => Err(unknown(object)),
    }
}

/// The host's interface that is called `name`.
fn bridged(name: &str) -> Built<VZBridgedNetworkInterface> {
    let all = unsafe { VZBridgedNetworkInterface::networkInterfaces() }.to_vec();
    let names: Vec<_> = all.iter().map(|known| unsafe { known.identifier() }.to_string()).collect();
    let found = all.into_iter().zip(&names).find(|(_, known)| *known == name);
    found.map(|(interface, _)| interface).ok_or_else(|| {
        let why = format!("this Mac has no interface {name} that VMs can be on; it has {}", names.join(", "));
        Failure::new(format!("build network bridged:{name}"), why, "--net bridged:en0, or --net nat")
    })
}

pub(super) fn share(object: &Object) -> Built<VZDirectorySharingDeviceConfiguration> {
    let share = directory_share(child(object, "share")?)?;
    let (new, tag) = (VZVirtioFileSystemDeviceConfiguration::alloc(), string(object, "tag")?);
    let device = unsafe { VZVirtioFileSystemDeviceConfiguration::initWithTag(new, &tag) };
    unsafe { device.setShare(Some(&share)) };
    Ok(device.into_super())
}

fn directory_share(object: &Object) -> Built<VZDirectoryShare> {
    match object.class {
        "VZSingleDirectoryShare" => {
            let folder = shared_directory(child(object, "directory")?)?;
            let new = VZSingleDirectoryShare::alloc();
            Ok(unsafe { VZSingleDirectoryShare::initWithDirectory(new, &folder) }.into_super())
        }
        "VZMultipleDirectoryShare" => {
            let named = need(object.named("directories"), object, "directories")?;
            let names: Vec<_> = named.iter().map(|(name, _)| NSString::from_str(name)).collect();
            let names: Vec<&NSString> = names.iter().map(|name| &**name).collect();
            let folders =
                named.iter().map(|(_, folder)| shared_directory(folder)).collect::<Result<Vec<_>, _>>()?;
            let folders = NSDictionary::from_retained_objects(&names, &folders);
            let new = VZMultipleDirectoryShare::alloc();
            Ok(unsafe { VZMultipleDirectoryShare::initWithDirectories(new, &folders) }.into_super())
        }
        "VZLinuxRosettaDirectoryShare" => rosetta(object),
        _ => Err(unknown(object)),
    }
}

fn shared_directory(object: &Object) -> Built<VZSharedDirectory> {
    let read_only = need(object.flag("readOnly"), object, "readOnly")?;
    let (new, folder) = (VZSharedDirectory::alloc(), url(object, "URL")?);
    Ok(unsafe { VZSharedDirectory::initWithURL_readOnly(new, &folder, read_only) })
}

fn rosetta(object: &Object) -> Built<VZDirectoryShare> {
    let what = "share Rosetta with the guest";
    match unsafe { VZLinuxRosettaDirectoryShare::availability() } {
        VZLinuxRosettaAvailability::NotSupported => {
            let why = "this Mac has none: Rosetta is for Apple silicon";
            return Err(Failure::new(what, why, "--apple rosetta=off"));
        }
        VZLinuxRosettaAvailability::NotInstalled => install_rosetta()?,
        _ => {}
    }
    let share = unsafe { VZLinuxRosettaDirectoryShare::initWithError(VZLinuxRosettaDirectoryShare::alloc()) };
    let share = share.map_err(|e| Failure::of(what, &e))?;
    if let Some(options) = object.object("options") {
        let options = rosetta_options(options)?;
        unsafe { share.setOptions(Some(&options)) };
    }
    Ok(share.into_super())
}

fn rosetta_options(object: &Object) -> Built<VZLinuxRosettaCachingOptions> {
    let failed = |e: Retained<_>| Failure::of("have Rosetta's translations kept", &e);
    if object.class == "VZLinuxRosettaUnixSocketCachingOptions" {
        let (new, path) = (VZLinuxRosettaUnixSocketCachingOptions::alloc(), string(object, "path")?);
        let options = unsafe { VZLinuxRosettaUnixSocketCachingOptions::initWithPath_error(new, &path) };
        return options.map(Retained::into_super).map_err(failed);
    }
    let (new, name) = (VZLinuxRosettaAbstractSocketCachingOptions::alloc(), string(object, "name")?);
    let options = unsafe { VZLinuxRosettaAbstractSocketCachingOptions::initWithName_error(new, &name) };
    options.map(Retained::into_super).map_err(failed)
}

pub(super) fn graphics(object: &Object) -> Built<VZGraphicsDeviceConfiguration> {
    if object.class == "VZMacGraphicsDeviceConfiguration" {
        let device = unsafe { VZMacGraphicsDeviceConfiguration::new() };
        let displays = list(object, "displays", |display| {
            let [width, height, density] = ["widthInPixels", "heightInPixels", "pixelsPerInch"];
            let new = VZMacGraphicsDisplayConfiguration::alloc();
            let [width, height] = [integer(display, width)?, integer(display, height)?];
            let density = integer(display, density)?;
            Ok(unsafe {
                VZMacGraphicsDisplayConfiguration::initWithWidthInPixels_heightInPixels_pixelsPerInch(
                    new, width, height, density,
                )
            })
        })?;
        unsafe { device.setDisplays(&displays) };
        return Ok(device.into_super());
    }
    let device = unsafe { VZVirtioGraphicsDeviceConfiguration::new() };
    let scanouts = list(object, "scanouts", |scanout| {
        let new = VZVirtioGraphicsScanoutConfiguration::alloc();
        let [width, height] = [integer(scanout, "widthInPixels")?, integer(scanout, "heightInPixels")?];
        Ok(unsafe {
            VZVirtioGraphicsScanoutConfiguration::initWithWidthInPixels_heightInPixels(new, width, height)
        })
    })?;
    unsafe { device.setScanouts(&scanouts) };
    Ok(device.into_super())
}

pub(super) fn keyboard(object: &Object) -> Built<VZKeyboardConfiguration> {
    Ok(match object.class {
        "VZMacKeyboardConfiguration" => unsafe { VZMacKeyboardConfiguration::new() }.into_super(),
        _ => unsafe { VZUSBKeyboardConfiguration::new() }.into_super(),
    })
}

pub(super) fn pointer(object: &Object) -> Built<VZPointingDeviceConfiguration> {
    Ok(match object.class {
        "VZMacTrackpadConfiguration" => unsafe { VZMacTrackpadConfiguration::new() }.into_super(),
        _ => unsafe { VZUSBScreenCoordinatePointingDeviceConfiguration::new() }.into_super(),
    })
}

pub(super) fn sound(object: &Object) -> Built<VZAudioDeviceConfiguration> {
    let device = unsafe { VZVirtioSoundDeviceConfiguration::new() };
    let streams = list(object, "streams", sound_stream)?;
    unsafe { device.setStreams(&streams) };
    Ok(device.into_super())
}

fn sound_stream(object: &Object) -> Built<VZVirtioSoundDeviceStreamConfiguration> {
    unsafe {
        if object.class == "VZVirtioSoundDeviceInputStreamConfiguration" {
            let stream = VZVirtioSoundDeviceInputStreamConfiguration::new();
            if object.object("source").is_some() {
                stream.setSource(Some(&VZHostAudioInputStreamSource::new().into_super()));
            }
            return Ok(stream.into_super());
        }
        let stream = VZVirtioSoundDeviceOutputStreamConfiguration::new();
        if object.object("sink").is_some() {
            stream.setSink(Some(&VZHostAudioOutputStreamSink::new().into_super()));
        }
        Ok(stream.into_super())
    }
}

pub(super) fn entropy(_: &Object) -> Built<VZEntropyDeviceConfiguration> {
    Ok(unsafe { VZVirtioEntropyDeviceConfiguration::new() }.into_super())
}

pub(super) fn balloon(_: &Object) -> Built<VZMemoryBalloonDeviceConfiguration> {
    Ok(unsafe { VZVirtioTraditionalMemoryBalloonDeviceConfiguration::new() }.into_super())
}

pub(super) fn socket(_: &Object) -> Built<VZSocketDeviceConfiguration> {
    Ok(unsafe { VZVirtioSocketDeviceConfiguration::new() }.into_super())
}

pub(super) fn serial(object: &Object, streams: &mut Streams) -> Built<VZSerialPortConfiguration> {
    let attachment = child(object, "attachment")?;
    let input = handle(attachment, "fileHandleForReading", streams)?;
    let output = handle(attachment, "fileHandleForWriting", streams)?;
    let new = VZFileHandleSerialPortAttachment::alloc();
    unsafe {
        let attachment = VZFileHandleSerialPortAttachment::initWithFileHandleForReading_fileHandleForWriting(
            new,
            Some(&input),
            Some(&output),
        );
        let port = VZVirtioConsoleDeviceSerialPortConfiguration::new();
        port.setAttachment(Some(&attachment));
        Ok(port.into_super())
    }
}

/// The clipboard's port.
pub(super) fn console(object: &Object) -> Built<VZConsoleDeviceConfiguration> {
    let device = unsafe { VZVirtioConsoleDeviceConfiguration::new() };
    for (index, planned) in object.list("ports").unwrap_or_default().iter().enumerate() {
        let attachment = child(planned, "attachment")?;
        if !matches!(
            planned.get("name"),
            Some(Value::Constant("VZSpiceAgentPortAttachment.spiceAgentPortName"))
        ) {
            return Err(unknown(planned));
        }
        unsafe {
            let agent = VZSpiceAgentPortAttachment::new();
            agent.setSharesClipboard(attachment.flag("sharesClipboard") == Some(true));
            let port = VZVirtioConsolePortConfiguration::new();
            port.setName(Some(&VZSpiceAgentPortAttachment::spiceAgentPortName()));
            port.setAttachment(Some(&agent));
            device.ports().setObject_atIndexedSubscript(Some(&port), index);
        }
    }
    Ok(device.into_super())
}
