//! The framework: objects that remember what they were told, and those that do something.

use std::{
    fs::File,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use crate::{
    foundation,
    journal::{self, DOMAIN, Fault},
    objc::{
        block::Kept,
        class::{Class, Kind, Sel, lock},
        message::{self, Answer, Message},
        object::{Data, Object, Property, Ref},
        queue::Handle,
        table,
    },
};

// `VZVirtualMachineState`.
const STOPPED: usize = 0;
const RUNNING: usize = 1;
const PAUSED: usize = 2;
const BROKEN: usize = 3;
const STARTING: usize = 4;
const PAUSING: usize = 5;
const RESUMING: usize = 6;
const STOPPING: usize = 7;
const SAVING: usize = 8;
const RESTORING: usize = 9;

/// The port in the guest at which somebody listens.
pub(crate) const LISTENED: usize = 1024;
/// `VZLinuxRosettaAvailability`: there, but not installed.
const ROSETTA_NOT_INSTALLED: usize = 1;
/// What the mock takes for a damaged identifier or model.
pub(crate) const DAMAGED: &[u8] = b"damaged";

/// What an object has that does something.
pub(crate) enum Live {
    Machine { queue: Handle, state: usize, delegate: Weak, devices: Vec<(&'static str, Ref)> },
    Device { queue: Handle },
    Installer { machine: Ref, done: bool },
}

/// A reference that does not count.
pub(crate) struct Weak(*const Object);

// SAFETY: objects stay in memory.
unsafe impl Send for Weak {}

/// How much is installed, in hundredths: it goes on each time that somebody looks, so that a test sees it half done.
static INSTALLED: AtomicU32 = AtomicU32::new(0);
/// What waits for the installation's end, with its installer.
static INSTALLING: Mutex<Option<(Handle, Weak, Kept)>> = Mutex::new(None);
/// The guest's ends of connections.
static GUEST: Mutex<Vec<UnixStream>> = Mutex::new(Vec::new());

/// What the last VM was made of.
static BUILT: Mutex<Option<crate::Object>> = Mutex::new(None);

/// What the last VM was made of.
pub(crate) fn last_built() -> Option<crate::Object> {
    lock(&BUILT).take()
}

/// The guest's end of the last connection.
pub(crate) fn guest_end() -> Option<UnixStream> {
    lock(&GUEST).pop()
}

/// How much is installed; the end comes when that was asked twice.
pub(crate) fn fraction() -> f64 {
    let hundredths = INSTALLED.fetch_add(50, Ordering::SeqCst);
    if hundredths >= 50
        && let Some((queue, installer, block)) = lock(&INSTALLING).take()
    {
        queue.later(move || end_installation(&installer, block));
    }
    f64::from(hundredths) / 100.0
}

fn end_installation(installer: &Weak, block: Kept) {
    let kept = Object::at(installer.0).filter(|installer| !installer.is_gone());
    match kept {
        None => journal::wrong("the installer was released before its end".into()),
        Some(installer) => {
            if let Data::Live(Live::Installer { done, .. }) = &mut installer.body().data {
                *done = true;
            }
        }
    }
    finish(block, journal::fault("installWithCompletionHandler:"));
}

/// Calls a block that takes an error or none.
fn finish(block: Kept, fault: Option<Fault>) {
    let error = fault.map(foundation::error);
    block.call(error.as_ref().map_or(std::ptr::null(), Ref::pointer), std::ptr::null());
}

/// What those of the framework's objects answer that do something.
pub(crate) fn answer(message: &Message) -> Option<Answer> {
    if message.to_class() {
        return of_class(message);
    }
    message.class.chain().find_map(|class| match class.name() {
        "VZVirtualMachine" => machine(message),
        "VZVirtualMachineConfiguration" => configuration(message),
        "VZMacOSInstaller" => installer(message),
        "VZVirtioSocketDevice" => socket(message),
        "VZVirtioSocketConnection" => connection(message),
        "VZVirtioTraditionalMemoryBalloonDevice" => balloon(message),
        "VZMacHardwareModel" | "VZMacMachineIdentifier" | "VZGenericMachineIdentifier" => identity(message),
        "VZMacAuxiliaryStorage" | "VZEFIVariableStore" => storage(message),
        "VZVirtioConsoleDeviceConfiguration" if message.selector == "ports" => ports(message),
        "VZVirtioConsolePortConfigurationArray" => port(message),
        "VZMacOSRestoreImage" if message.selector == "operatingSystemVersion" => {
            Some(Answer::Version([26, 1, 0]))
        }
        _ => None,
    })
}

fn of_class(message: &Message) -> Option<Answer> {
    match (message.class.name(), message.selector) {
        ("VZVirtualMachine", "isSupported") => Some(Answer::flag(journal::fault("isSupported").is_none())),
        ("VZVirtualMachineConfiguration", "maximumAllowedCPUCount") => Some(Answer::Word(16)),
        ("VZGenericPlatformConfiguration", "isNestedVirtualizationSupported") => {
            Some(Answer::flag(journal::fault("isNestedVirtualizationSupported").is_none()))
        }
        ("VZSpiceAgentPortAttachment", "spiceAgentPortName") => {
            Some(Answer::Object(Some(foundation::string("com.redhat.spice.0"))))
        }
        ("VZBridgedNetworkInterface", "networkInterfaces") => {
            let interface = |name: &str| {
                let new = new("VZBridgedNetworkInterface");
                new.set("identifier", object(foundation::string(name)));
                new
            };
            Some(Answer::Object(Some(foundation::array(vec![interface("en0"), interface("en1")]))))
        }
        ("VZLinuxRosettaDirectoryShare", "availability") => Some(Answer::Word(ROSETTA_NOT_INSTALLED)),
        ("VZLinuxRosettaDirectoryShare", "installRosettaWithCompletionHandler:") => {
            journal::say("installRosetta");
            let block = Kept::copy(message.pointer(0));
            thread::spawn(move || finish(block, journal::fault("installRosettaWithCompletionHandler:")));
            Some(Answer::nothing())
        }
        ("VZMacOSRestoreImage", "loadFileURL:completionHandler:") => {
            load_image(message.text(0), Kept::copy(message.pointer(1)));
            Some(Answer::nothing())
        }
        _ => None,
    }
}

/// Looks at an IPSW, on a thread of its own.
fn load_image(path: String, block: Kept) {
    thread::spawn(move || {
        let none = std::ptr::null();
        if !Path::new(&path).exists() {
            let error = foundation::error((DOMAIN, 10005, "The restore image is not there."));
            return block.call(none, error.pointer());
        }
        let image = new("VZMacOSRestoreImage");
        image.set("buildVersion", object(foundation::string("25B78")));
        if journal::fault("mostFeaturefulSupportedConfiguration").is_none() {
            let needs = new("VZMacOSConfigurationRequirements");
            let model = new("VZMacHardwareModel");
            model.set("dataRepresentation", object(foundation::data(b"model of the image")));
            needs.set("hardwareModel", object(model));
            needs.set("minimumSupportedCPUCount", Property::Number(2));
            needs.set("minimumSupportedMemorySize", Property::Number(4 << 30));
            image.set("mostFeaturefulSupportedConfiguration", object(needs));
        }
        block.call(image.pointer(), none);
    });
}

fn new(class: &str) -> Ref {
    Ref::new(class_named(class), Data::None)
}

fn class_named(name: &str) -> &'static Class {
    let known = table::CLASSES.iter().find(|class| class.name() == name);
    match known {
        Some(class) => class,
        None => unreachable!("{name} is a class of the framework"),
    }
}

fn object(of: Ref) -> Property {
    Property::Object(Some(of))
}

// Calls of a VM and of its devices are for its queue.

fn check_queue(queue: &Handle, message: &Message) {
    if !queue.is_current() {
        journal::wrong(format!(
            "{} was sent to a {} from another thread than its queue's",
            message.selector,
            message.class.name()
        ));
    }
}

fn machine(message: &Message) -> Option<Answer> {
    let this = message.this()?;
    if message.selector == "initWithConfiguration:queue:" {
        let queue = message::queue_argument(message, 1)?;
        let configuration = message.object(0)?;
        if !matches!(configuration.property("validated"), Some(Property::Flag(true))) {
            journal::wrong("a VM was made of a configuration that was not found valid".into());
        }
        let device = |class| Ref::new(class_named(class), Data::Live(Live::Device { queue: queue.clone() }));
        let devices = vec![
            ("socketDevices", device("VZVirtioSocketDevice")),
            ("memoryBalloonDevices", device("VZVirtioTraditionalMemoryBalloonDevice")),
        ];
        let delegate = Weak(std::ptr::null());
        journal::say(format!("VM made on {}", queue.label()));
        *lock(&BUILT) = Some(crate::tests::shape(&configuration));
        this.body().data = Data::Live(Live::Machine { queue, state: STOPPED, delegate, devices });
        return Some(Answer::Owned(message.receiver));
    }
    let queue = match &this.body().data {
        Data::Live(Live::Machine { queue, .. }) => queue.clone(),
        // It was not made; there is nothing to touch.
        _ => return None,
    };
    if !matches!(message.selector, "respondsToSelector:" | "isKindOfClass:" | "class") {
        check_queue(&queue, message);
    }
    if message.selector == "dealloc" {
        journal::say("VM gone");
        return None;
    }
    machine_message(message, &this, &queue)
}

fn machine_message(message: &Message, this: &Ref, queue: &Handle) -> Option<Answer> {
    let file = || message.text(0);
    let change = |from: &'static [usize], during, to, block| {
        transition(this, queue, message.selector, (from, during, to), block, || None);
        Some(Answer::nothing())
    };
    match message.selector {
        "setDelegate:" => {
            if let Data::Live(Live::Machine { delegate, .. }) = &mut this.body().data {
                *delegate = Weak(message.pointer(0));
            }
            Some(Answer::nothing())
        }
        "state" => Some(Answer::Word(state(this))),
        "socketDevices" | "memoryBalloonDevices" => {
            let device = match &this.body().data {
                Data::Live(Live::Machine { devices, .. }) => devices
                    .iter()
                    .find(|(name, _)| *name == message.selector)
                    .map(|(_, device)| device.clone()),
                _ => None,
            };
            Some(Answer::Object(Some(foundation::array(device.into_iter().collect()))))
        }
        "startWithCompletionHandler:" => change(&[STOPPED, BROKEN], STARTING, RUNNING, message.pointer(0)),
        "startWithOptions:completionHandler:" => {
            if let Some(options) = message.object(0) {
                journal::say(crate::tests::shape(&options).to_string().trim_end().replace("\n  ", " "));
            }
            change(&[STOPPED, BROKEN], STARTING, RUNNING, message.pointer(1))
        }
        "pauseWithCompletionHandler:" => change(&[RUNNING], PAUSING, PAUSED, message.pointer(0)),
        "resumeWithCompletionHandler:" => change(&[PAUSED], RESUMING, RUNNING, message.pointer(0)),
        "stopWithCompletionHandler:" => change(&[RUNNING, PAUSED], STOPPING, STOPPED, message.pointer(0)),
        "saveMachineStateToURL:completionHandler:" => {
            let file = file();
            let write =
                move || File::create(&file).err().map(|_| (DOMAIN, 11, "The file cannot be written."));
            transition(this, queue, message.selector, (&[PAUSED], SAVING, PAUSED), message.pointer(1), write);
            Some(Answer::nothing())
        }
        "restoreMachineStateFromURL:completionHandler:" => {
            let there = Path::new(&file()).exists();
            let read = move || (!there).then_some((DOMAIN, 12, "The state is not there."));
            transition(
                this,
                queue,
                message.selector,
                (&[STOPPED], RESTORING, PAUSED),
                message.pointer(1),
                read,
            );
            Some(Answer::nothing())
        }
        "requestStopWithError:" => {
            journal::say(message.selector);
            if state(this) != RUNNING {
                foundation::write_error(message.pointer(0), (DOMAIN, 3, "The VM does not run."));
                return Some(Answer::flag(false));
            }
            let machine = this.clone();
            queue.later(move || guest_ends(&machine, journal::fault("guest")));
            Some(Answer::flag(true))
        }
        _ => None,
    }
}

fn state(machine: &Ref) -> usize {
    match &machine.body().data {
        Data::Live(Live::Machine { state, .. }) => *state,
        _ => STOPPED,
    }
}

fn set_state(machine: &Ref, to: usize) {
    if let Data::Live(Live::Machine { state, .. }) = &mut machine.body().data {
        *state = to;
    }
}

/// Goes from one state to another, on the queue, with what is to be done on the way; the block hears how that ended.
fn transition(
    machine: &Ref,
    queue: &Handle,
    selector: &'static str,
    (from, during, to): (&[usize], usize, usize),
    block: *const std::ffi::c_void,
    work: impl FnOnce() -> Option<Fault> + Send + 'static,
) {
    journal::say(selector);
    let (block, before) = (Kept::copy(block), state(machine));
    if !from.contains(&before) {
        let fault = (DOMAIN, 4, "The VM is in another state.");
        return queue.later(move || finish(block, Some(fault)));
    }
    set_state(machine, during);
    let machine = machine.clone();
    queue.later(move || {
        let fault = journal::fault(selector).or_else(work);
        set_state(&machine, if fault.is_some() { before } else { to });
        finish(block, fault);
    });
}

/// The guest shuts down, or breaks.
fn guest_ends(machine: &Ref, fault: Option<Fault>) {
    set_state(machine, if fault.is_some() { BROKEN } else { STOPPED });
    let delegate = match &machine.body().data {
        Data::Live(Live::Machine { delegate, .. }) => delegate.0,
        _ => return,
    };
    let Some(delegate) = Object::at(delegate).filter(|d| !d.is_gone()).and_then(|d| Ref::to(d)) else {
        return journal::wrong("the delegate is gone before its VM".into());
    };
    let error = fault.map(foundation::error);
    let told = match &error {
        Some(error) => message::tell(
            &delegate,
            Sel::new(c"virtualMachine:didStopWithError:"),
            &[machine.pointer(), error.pointer()],
        ),
        None => message::tell(&delegate, Sel::new(c"guestDidStopVirtualMachine:"), &[machine.pointer()]),
    };
    if !told {
        journal::wrong("the delegate does not hear of the guest's end".into());
    }
}

fn configuration(message: &Message) -> Option<Answer> {
    let this = message.this()?;
    let fault = match message.selector {
        "validateWithError:" => {
            let has = |name| matches!(this.property(name), Some(Property::Object(Some(_))));
            let complete = has("bootLoader") && has("platform");
            journal::fault(message.selector).or((!complete).then_some((DOMAIN, 2, "Something is missing.")))
        }
        "validateSaveRestoreSupportWithError:" => journal::fault(message.selector),
        _ => return None,
    };
    if message.selector == "validateWithError:" {
        this.set("validated", Property::Flag(fault.is_none()));
    }
    if let Some(fault) = fault {
        foundation::write_error(message.pointer(0), fault);
    }
    Some(Answer::flag(fault.is_none()))
}

fn installer(message: &Message) -> Option<Answer> {
    let this = message.this()?;
    if message.selector == "initWithVirtualMachine:restoreImageURL:" {
        let machine = message.object(0)?;
        if state(&machine) != STOPPED {
            journal::wrong("an installer was made for a VM that runs".into());
        }
        this.body().data = Data::Live(Live::Installer { machine, done: false });
    }
    let (machine, done) = match &this.body().data {
        Data::Live(Live::Installer { machine, done }) => (machine.clone(), *done),
        _ => return None,
    };
    let queue = match &machine.body().data {
        Data::Live(Live::Machine { queue, .. }) => queue.clone(),
        _ => return None,
    };
    check_queue(&queue, message);
    match message.selector {
        "initWithVirtualMachine:restoreImageURL:" => Some(Answer::Owned(message.receiver)),
        "installWithCompletionHandler:" => {
            journal::say(message.selector);
            INSTALLED.store(0, Ordering::SeqCst);
            *lock(&INSTALLING) = Some((queue, Weak(message.receiver), Kept::copy(message.pointer(0))));
            Some(Answer::nothing())
        }
        "progress" => Some(Answer::Object(Some(Ref::new(&table::CLASS_NSProgress, Data::None)))),
        "dealloc" => {
            journal::say(if done { "installer gone after its end" } else { "installer gone before its end" });
            None
        }
        _ => None,
    }
}

fn device_queue(message: &Message) -> Option<Handle> {
    match &message.this()?.body().data {
        Data::Live(Live::Device { queue }) => Some(queue.clone()),
        _ => None,
    }
}

fn socket(message: &Message) -> Option<Answer> {
    if message.selector != "connectToPort:completionHandler:" {
        return None;
    }
    let queue = device_queue(message)?;
    check_queue(&queue, message);
    let (port, block) = (message.word(0) & 0xffff_ffff, Kept::copy(message.pointer(1)));
    queue.later(move || {
        let none = std::ptr::null();
        let pair = UnixStream::pair().ok().filter(|_| port == LISTENED);
        let Some((ours, theirs)) = pair else {
            let error = foundation::error(("NSPOSIXErrorDomain", 54, "Connection reset by peer"));
            return block.call(none, error.pointer());
        };
        lock(&GUEST).push(theirs);
        let connection = Ref::new(class_named("VZVirtioSocketConnection"), Data::File(OwnedFd::from(ours)));
        block.call(connection.pointer(), none);
    });
    Some(Answer::nothing())
}

fn connection(message: &Message) -> Option<Answer> {
    match (&message.this()?.body().data, message.selector) {
        (Data::File(file), "fileDescriptor") => Some(Answer::Word(file.as_raw_fd().cast_unsigned() as usize)),
        _ => None,
    }
}

fn balloon(message: &Message) -> Option<Answer> {
    if message.selector != "setTargetVirtualMachineMemorySize:" {
        return None;
    }
    check_queue(&device_queue(message)?, message);
    journal::say(format!("memory {}", message.word(0)));
    Some(Answer::nothing())
}

fn identity(message: &Message) -> Option<Answer> {
    let this = message.this()?;
    match message.selector {
        "initWithDataRepresentation:" => {
            let data = message.object(0)?;
            if matches!(&data.body().data, Data::Bytes(bytes) if bytes == DAMAGED) {
                // What is not made takes the place with it that was made for it.
                crate::objc::object::release(message.receiver);
                return Some(Answer::nothing());
            }
            this.set("dataRepresentation", object(data));
            Some(Answer::Owned(message.receiver))
        }
        "isSupported" => Some(Answer::flag(journal::fault("isSupported").is_none())),
        "dataRepresentation" if this.property("dataRepresentation").is_none() => {
            Some(Answer::Object(Some(foundation::data(&[7; 60]))))
        }
        _ => None,
    }
}

/// Auxiliary storage and EFI's variables: files that are made.
fn storage(message: &Message) -> Option<Answer> {
    let name = "initCreating";
    if !message.selector.starts_with(name) {
        return None;
    }
    let (this, url) = (message.this()?, message.object(0)?);
    let path = url.text().unwrap_or_default();
    // Plans are made of folders that are not there.
    let folder = Path::new(&path).parent().is_some_and(Path::exists);
    let fault = journal::fault(message.selector).or_else(|| {
        (folder && File::create_new(&path).is_err()).then_some((DOMAIN, 1, "The file is there."))
    });
    if let Some(fault) = fault {
        let error = if message.selector.contains("hardwareModel:") { 3 } else { 2 };
        foundation::write_error(message.pointer(error), fault);
        crate::objc::object::release(message.receiver);
        return Some(Answer::nothing());
    }
    this.set("URL", object(url));
    this.set("createsMissing", Property::Flag(true));
    Some(Answer::Owned(message.receiver))
}

fn ports(message: &Message) -> Option<Answer> {
    let this = message.this()?;
    if this.property("ports").is_none() {
        let ports = Ref::new(class_named("VZVirtioConsolePortConfigurationArray"), Data::List(Vec::new()));
        this.set("ports", object(ports));
    }
    match this.property("ports") {
        Some(Property::Object(ports)) => Some(Answer::Object(ports)),
        _ => None,
    }
}

fn port(message: &Message) -> Option<Answer> {
    if message.selector != "setObject:atIndexedSubscript:" {
        return None;
    }
    let (this, port) = (message.this()?, message.object(0)?);
    match &mut this.body().data {
        Data::List(list) if list.len() == message.word(1) => list.push(port),
        _ => journal::wrong("the ports of a console are not set in their order".into()),
    }
    Some(Answer::nothing())
}

/// What all others do: they remember what they are told, and tell it.
pub(crate) fn record(message: &Message) -> Option<Answer> {
    let declared = message.class.declared(message.selector)?;
    if message.to_class() {
        // What is no other class method by now makes an object.
        return (message.selector == "new").then(|| {
            // SAFETY: the receiver of a message to a class is a class.
            Answer::Owned(crate::objc::object::allocate(unsafe { &*message.receiver.cast::<Class>() }))
        });
    }
    let this = message.this()?;
    let part_names: Vec<&str> = message.selector.split_terminator(':').collect();
    if let Some(first) = part_names.first().and_then(|name| name.strip_prefix("initWith")) {
        if let (Kind::Fallible, Some(fault)) = (declared.answer, journal::fault(message.selector)) {
            let words = declared.arguments.iter().filter(|kind| **kind != Kind::Float).count();
            foundation::write_error(message.pointer(words), fault);
            crate::objc::object::release(message.receiver);
            return Some(Answer::nothing());
        }
        let mut words = 0;
        for (at, kind) in declared.arguments.iter().enumerate() {
            let name = if at == 0 { property_name(first) } else { part_names.get(at)?.to_string() };
            this.set(&name, property(message, words, *kind)?);
            words += usize::from(*kind != Kind::Float);
        }
        return Some(Answer::Owned(message.receiver));
    }
    if message.selector == "init" || message.selector == "initWithError:" {
        return Some(Answer::Owned(message.receiver));
    }
    if let (Some(name), [kind]) = (message.selector.strip_prefix("set"), declared.arguments) {
        if let (Kind::Verdict, Some(fault)) = (declared.answer, journal::fault(message.selector)) {
            foundation::write_error(message.pointer(1), fault);
            return Some(Answer::flag(false));
        }
        let name = name.trim_end_matches("error:").trim_end_matches(':');
        this.set(&property_name(name), property(message, 0, *kind)?);
        return Some(Answer::flag(true));
    }
    declared.arguments.is_empty().then(|| get(&this, message.selector)).flatten()
}

fn get(this: &Ref, name: &str) -> Option<Answer> {
    let bare = name.strip_prefix("is").map(property_name);
    let value = this.property(name).or_else(|| this.property(&bare?));
    Some(match value {
        Some(Property::Flag(flag)) => Answer::flag(flag),
        Some(Property::Number(number)) => Answer::Word(usize::try_from(number).ok()?),
        Some(Property::Object(object)) => Answer::Object(object),
        Some(Property::Constant(_)) => return None,
        None => Answer::nothing(),
    })
}

/// "KernelURL" is the property `kernelURL`, but "URL" and "CPUCount" stay as they are.
fn property_name(name: &str) -> String {
    let mut characters = name.chars();
    match (characters.next(), characters.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(name.chars().skip(1)).collect()
        }
        _ => name.into(),
    }
}

fn property(message: &Message, at: usize, kind: Kind) -> Option<Property> {
    Some(match kind {
        Kind::Flag => Property::Flag(message.word(at) & 0xff != 0),
        Kind::Short => Property::Number((message.word(at) & 0xffff_ffff) as u64),
        Kind::Word => Property::Number(message.word(at) as u64),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds")]
        Kind::Float => Property::Number(message.float() as u64),
        Kind::Constant(of) => {
            let number = message.word(at).cast_signed() as i64;
            let known = table::CONSTANTS.iter().find(|(class, _, value)| *class == of && *value == number);
            Property::Constant(known.map_or_else(
                || {
                    journal::wrong(format!("{of} has no {number}"));
                    "unknown"
                },
                |(_, name, _)| name,
            ))
        }
        Kind::Object => Property::Object(message.object(at)),
        _ => return None,
    })
}
