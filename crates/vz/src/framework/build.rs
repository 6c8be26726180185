//! The plan's objects, one to one.

use std::{
    fs::File,
    os::fd::{IntoRawFd as _, OwnedFd},
};

use objc2::{AnyThread as _, Message, rc::Retained, runtime::AnyClass};
use objc2_foundation::{NSArray, NSData, NSFileHandle, NSString, NSURL};
use objc2_virtualization::{
    VZBootLoader, VZEFIBootLoader, VZEFIVariableStore, VZEFIVariableStoreInitializationOptions,
    VZGenericMachineIdentifier, VZGenericPlatformConfiguration, VZLinuxBootLoader, VZMacAuxiliaryStorage,
    VZMacHardwareModel, VZMacMachineIdentifier, VZMacOSBootLoader, VZMacPlatformConfiguration,
    VZPlatformConfiguration, VZVirtualMachineConfiguration,
};

use super::{Failure, devices};
use crate::{Object, Stream, Value};

/// The host's ends of a VM: what the plan's streams are.
#[derive(Debug, Default)]
pub struct Streams {
    /// Where the console's input is read from.
    pub console_input: Option<OwnedFd>,
    /// Where the console's output is written.
    pub console_output: Option<OwnedFd>,
    /// One end of a pair of datagram sockets.
    pub network: Option<OwnedFd>,
}

impl Streams {
    fn take(&mut self, stream: Stream) -> Option<OwnedFd> {
        match stream {
            Stream::ConsoleInput => self.console_input.take(),
            Stream::ConsoleOutput => self.console_output.take(),
            Stream::Network => self.network.take(),
        }
    }
}

pub(super) type Built<T> = Result<Retained<T>, Failure>;

/// The configuration that `plan` describes, which the framework has found valid.
pub(super) fn configuration(plan: &Object, streams: &mut Streams) -> Built<VZVirtualMachineConfiguration> {
    check_classes(plan)?;
    // SAFETY: here and below: the class is there; each setter is given what its property holds, and copies it.
    let configuration = unsafe { VZVirtualMachineConfiguration::new() };
    unsafe {
        configuration.setCPUCount(size(plan.number("CPUCount"))?);
        configuration.setMemorySize(need(plan.number("memorySize"), plan, "memorySize")?);
        configuration.setPlatform(&*platform(child(plan, "platform")?)?);
        configuration.setBootLoader(Some(&*boot_loader(child(plan, "bootLoader")?)?));
        configuration.setStorageDevices(&*list(plan, "storageDevices", devices::storage)?);
        configuration.setNetworkDevices(&*list(plan, "networkDevices", |o| devices::network(o, streams))?);
        configuration.setDirectorySharingDevices(&*list(plan, "directorySharingDevices", devices::share)?);
        configuration.setGraphicsDevices(&*list(plan, "graphicsDevices", devices::graphics)?);
        configuration.setKeyboards(&*list(plan, "keyboards", devices::keyboard)?);
        configuration.setPointingDevices(&*list(plan, "pointingDevices", devices::pointer)?);
        configuration.setAudioDevices(&*list(plan, "audioDevices", devices::sound)?);
        configuration.setEntropyDevices(&*list(plan, "entropyDevices", devices::entropy)?);
        configuration.setMemoryBalloonDevices(&*list(plan, "memoryBalloonDevices", devices::balloon)?);
        configuration.setSocketDevices(&*list(plan, "socketDevices", devices::socket)?);
        configuration.setSerialPorts(&*list(plan, "serialPorts", |o| devices::serial(o, streams))?);
        // Older systems have no such property, and the plan nothing for it.
        if plan.list("consoleDevices").is_some() {
            configuration.setConsoleDevices(&*list(plan, "consoleDevices", devices::console)?);
        }
        configuration.validateWithError().map_err(|e| Failure::of("run a VM of these parts", &e))?;
    }
    Ok(configuration)
}

/// A class that this macOS does not have would be a panic later.
fn check_classes(object: &Object) -> Result<(), Failure> {
    let name = std::ffi::CString::new(object.class).ok();
    if name.is_none_or(|name| AnyClass::get(&name).is_none()) {
        let why = format!("the framework of this macOS has no {}", object.class);
        return Err(Failure::new("build the VM", why, "a newer macOS, or the VM without what needs that"));
    }
    object.children().try_for_each(check_classes)
}

fn platform(object: &Object) -> Built<VZPlatformConfiguration> {
    if object.class != "VZMacPlatformConfiguration" {
        let platform = unsafe { VZGenericPlatformConfiguration::new() };
        if let Some(identifier) = object.object("machineIdentifier") {
            unsafe { platform.setMachineIdentifier(&*generic_identifier(identifier)?) };
        }
        if object.flag("nestedVirtualizationEnabled") == Some(true) {
            // SAFETY: the plan has it for systems that know both.
            if !unsafe { VZGenericPlatformConfiguration::isNestedVirtualizationSupported() } {
                let why = "this Mac's processor cannot; M3 and newer can";
                return Err(Failure::new("let the guest run VMs", why, "--apple nested=off"));
            }
            unsafe { platform.setNestedVirtualizationEnabled(true) };
        }
        return Ok(platform.into_super());
    }
    let platform = unsafe { VZMacPlatformConfiguration::new() };
    let model = hardware_model(bytes(child(object, "hardwareModel")?)?)?;
    let identifier = bytes(child(object, "machineIdentifier")?)?;
    let data = NSData::with_bytes(identifier);
    let identifier =
        unsafe { VZMacMachineIdentifier::initWithDataRepresentation(VZMacMachineIdentifier::alloc(), &data) };
    let damaged = || {
        let why = "the framework does not understand the file MachineIdentifier";
        Failure::new("tell which virtual Mac it is", why, "tearless set NAME --ecid recover")
    };
    let url = url(child(object, "auxiliaryStorage")?, "URL")?;
    unsafe {
        platform.setHardwareModel(&model);
        platform.setMachineIdentifier(&*identifier.ok_or_else(damaged)?);
        let storage = VZMacAuxiliaryStorage::initWithURL(VZMacAuxiliaryStorage::alloc(), &url);
        platform.setAuxiliaryStorage(Some(&storage));
    }
    Ok(platform.into_super())
}

/// The model of a virtual Mac that this host can be.
pub(super) fn hardware_model(data: &[u8]) -> Built<VZMacHardwareModel> {
    let what = "be that kind of virtual Mac";
    let data = NSData::with_bytes(data);
    let model = unsafe { VZMacHardwareModel::initWithDataRepresentation(VZMacHardwareModel::alloc(), &data) };
    let Some(model) = model else {
        let why = "the framework does not understand the file HardwareModel";
        return Err(Failure::new(what, why, "take it from a backup, or install macOS anew"));
    };
    if !unsafe { model.isSupported() } {
        let why = "its hardware model needs a newer macOS on this Mac";
        return Err(Failure::new(what, why, "update macOS; tearless info NAME says to which version"));
    }
    Ok(model)
}

fn generic_identifier(object: &Object) -> Built<VZGenericMachineIdentifier> {
    let Some(data) = object.data("dataRepresentation") else {
        return Ok(unsafe { VZGenericMachineIdentifier::new() });
    };
    let (new, data) = (VZGenericMachineIdentifier::alloc(), NSData::with_bytes(data));
    unsafe { VZGenericMachineIdentifier::initWithDataRepresentation(new, &data) }.ok_or_else(|| {
        let why = "the framework does not understand the file MachineIdentifier";
        Failure::new("tell which VM it is", why, "remove that file, and the VM gets another identity")
    })
}

fn boot_loader(object: &Object) -> Built<VZBootLoader> {
    match object.class {
        "VZMacOSBootLoader" => Ok(unsafe { VZMacOSBootLoader::new() }.into_super()),
        "VZEFIBootLoader" => {
            let loader = unsafe { VZEFIBootLoader::new() };
            let store = variable_store(child(object, "variableStore")?)?;
            unsafe { loader.setVariableStore(Some(&store)) };
            Ok(loader.into_super())
        }
        "VZLinuxBootLoader" => {
            let kernel = url(object, "kernelURL")?;
            let loader = unsafe { VZLinuxBootLoader::initWithKernelURL(VZLinuxBootLoader::alloc(), &kernel) };
            if object.text("initialRamdiskURL").is_some() {
                unsafe { loader.setInitialRamdiskURL(Some(&*url(object, "initialRamdiskURL")?)) };
            }
            unsafe { loader.setCommandLine(&*string(object, "commandLine")?) };
            Ok(loader.into_super())
        }
        _ => Err(unknown(object)),
    }
}

fn variable_store(object: &Object) -> Built<VZEFIVariableStore> {
    let path = need(object.text("URL"), object, "URL")?;
    let (new, url) = (VZEFIVariableStore::alloc(), url(object, "URL")?);
    if object.flag("createsMissing") == Some(true) && !std::path::Path::new(path).exists() {
        let options = VZEFIVariableStoreInitializationOptions::empty();
        return unsafe {
            VZEFIVariableStore::initCreatingVariableStoreAtURL_options_error(new, &url, options)
        }
        .map_err(|e| Failure::of(format!("make EFI's variables in {path}"), &e));
    }
    Ok(unsafe { VZEFIVariableStore::initWithURL(new, &url) })
}

// What follows reads the plan. That has what it must; if not, that is a mistake of ours, and said to be so.

/// `value`, which is the property `name` of `object`.
pub(super) fn need<T>(value: Option<T>, object: &Object, name: &str) -> Result<T, Failure> {
    value.ok_or_else(|| {
        let why = format!("the plan of {} has no {name}; this is a bug in Tearless", object.class);
        Failure::new("build the VM", why, "please report it")
    })
}

pub(super) fn unknown(object: &Object) -> Failure {
    let why = format!("the plan has a {} that nobody can build; this is a bug in Tearless", object.class);
    Failure::new("build the VM", why, "please report it")
}

pub(super) fn child<'a>(object: &'a Object, name: &str) -> Result<&'a Object, Failure> {
    need(object.object(name), object, name)
}

fn bytes(object: &Object) -> Result<&[u8], Failure> {
    need(object.data("dataRepresentation"), object, "dataRepresentation")
}

fn size(number: Option<u64>) -> Result<usize, Failure> {
    let number = number.and_then(|n| usize::try_from(n).ok());
    number.ok_or_else(|| Failure::new("build the VM", "a number is missing", "please report it"))
}

/// A property that is a number with a sign.
pub(super) fn integer(object: &Object, name: &str) -> Result<isize, Failure> {
    need(object.number(name).and_then(|n| isize::try_from(n).ok()), object, name)
}

pub(super) fn string(object: &Object, name: &str) -> Built<NSString> {
    Ok(NSString::from_str(need(object.text(name), object, name)?))
}

/// The URL of a file.
pub(super) fn url(object: &Object, name: &str) -> Built<NSURL> {
    Ok(file_url(need(object.text(name), object, name)?))
}

/// The URL of the file at `path`.
pub(super) fn file_url(path: &str) -> Retained<NSURL> {
    NSURL::fileURLWithPath(&NSString::from_str(path))
}

/// The file handle that a property names.
pub(super) fn handle(object: &Object, name: &str, streams: &mut Streams) -> Built<NSFileHandle> {
    let file = match need(object.get(name), object, name)? {
        Value::Stream(stream) => need(streams.take(*stream), object, name)?,
        Value::Text(path) => {
            let write = object.flag("readOnly") == Some(false);
            File::options().read(true).write(write).open(path).map(OwnedFd::from).map_err(|e| {
                let advice = "sudo, or chown the device to yourself; diskutil unmountDisk first";
                Failure::new(format!("open {path}"), e.to_string(), advice)
            })?
        }
        _ => return Err(unknown(object)),
    };
    let new = NSFileHandle::alloc();
    Ok(NSFileHandle::initWithFileDescriptor_closeOnDealloc(new, file.into_raw_fd(), true))
}

/// The list that a property is, each object built by `build`.
pub(super) fn list<T: Message>(
    object: &Object,
    name: &str,
    mut build: impl FnMut(&Object) -> Built<T>,
) -> Built<NSArray<T>> {
    let built =
        object.list(name).unwrap_or_default().iter().map(&mut build).collect::<Result<Vec<_>, _>>()?;
    Ok(NSArray::from_retained_slice(&built))
}
