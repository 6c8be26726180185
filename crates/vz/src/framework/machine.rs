//! A VM.

use std::{
    cell::{Cell, RefCell},
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use block2::{DynBlock, RcBlock};
use objc2::{
    AnyThread as _, DefinedClass as _, define_class, msg_send,
    rc::Retained,
    runtime::{NSObject, NSObjectProtocol, ProtocolObject},
    sel,
};
use objc2_foundation::NSError;
use objc2_virtualization::{
    VZMacOSInstaller, VZNetworkDevice, VZVirtioSocketConnection, VZVirtioSocketDevice,
    VZVirtioTraditionalMemoryBalloonDevice, VZVirtualMachine, VZVirtualMachineConfiguration,
    VZVirtualMachineDelegate, VZVirtualMachineState,
};

use super::{
    Failure, Streams,
    build::{configuration, file_url},
    confined::Confined,
    start::Options,
};
use crate::Object;

/// How often it is looked how far an installation is.
const LOOK: Duration = Duration::from_millis(250);

/// What a VM does by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its guest shut it down.
    Stopped,
    /// It broke.
    Failed(Failure),
    /// Its card was unplugged; the VM goes on.
    NetworkLost(Failure),
}

/// A VM of the framework. Clones share. What takes its time is waited for; any thread may do so.
#[derive(Clone)]
pub struct Machine(Arc<Confined<Parts>>);

struct Parts {
    machine: Retained<VZVirtualMachine>,
    configuration: Retained<VZVirtualMachineConfiguration>,
    /// The machine refers to it weakly.
    _delegate: Retained<Delegate>,
    /// It must stay until it is done.
    installer: RefCell<Option<Retained<VZMacOSInstaller>>>,
}

impl Machine {
    /// Makes the VM that `plan` describes. It does not run yet.
    ///
    /// # Errors
    /// What the framework refuses.
    pub fn new(plan: &Object, mut streams: Streams) -> Result<(Self, Receiver<Event>), Failure> {
        let (events, receiver) = channel();
        let parts = Confined::new("tearless.machine", |queue| {
            let configuration = configuration(plan, &mut streams)?;
            let delegate = Delegate::new(events);
            // SAFETY: this is the queue, and the configuration is valid.
            let machine = unsafe {
                let new = VZVirtualMachine::alloc();
                let machine = VZVirtualMachine::initWithConfiguration_queue(new, &configuration, queue);
                machine.setDelegate(Some(ProtocolObject::from_ref(&*delegate)));
                machine
            };
            Ok(Parts { machine, configuration, _delegate: delegate, installer: RefCell::new(None) })
        })?;
        Ok((Self(Arc::new(parts)), receiver))
    }

    /// Starts it; a virtual Mac as `options` say.
    ///
    /// # Errors
    /// What the framework says.
    pub fn start(&self, options: Option<&Object>) -> Result<(), Failure> {
        let options = options.map(Options::new).transpose()?;
        self.complete("start the VM", move |parts, done| {
            let machine = &parts.machine;
            // SAFETY: here and below: this is the machine's queue, and the framework keeps a copy of the block.
            unsafe {
                match &options {
                    None => machine.startWithCompletionHandler(done),
                    Some(options) => machine.startWithOptions_completionHandler(options.get(), done),
                }
            }
        })
    }

    /// Has its vCPUs stand still.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<(), Failure> {
        self.complete("pause the VM", |parts, done| unsafe { parts.machine.pauseWithCompletionHandler(done) })
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// When it does not stand still.
    pub fn resume(&self) -> Result<(), Failure> {
        self.complete("let the VM go on", |parts, done| unsafe {
            parts.machine.resumeWithCompletionHandler(done);
        })
    }

    /// Pulls the plug.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&self) -> Result<(), Failure> {
        self.complete("end the VM", |parts, done| unsafe { parts.machine.stopWithCompletionHandler(done) })
    }

    /// Asks the guest to shut down: presses the power button.
    ///
    /// # Errors
    /// When it does not run.
    pub fn request_stop(&self) -> Result<(), Failure> {
        self.0.with(|parts| {
            let asked = unsafe { parts.machine.requestStopWithError() };
            asked.map_err(|e| Failure::of("ask the guest to shut down", &e))
        })
    }

    /// Saves it, which stands still, to the file `to`.
    ///
    /// # Errors
    /// When the framework cannot save VMs of such parts, or the host has no room.
    pub fn save(&self, to: &Path) -> Result<(), Failure> {
        self.check_save()?;
        let to = path_text(to)?;
        self.complete("save the VM", |parts, done| unsafe {
            parts.machine.saveMachineStateToURL_completionHandler(&file_url(to), done);
        })
    }

    /// Has it be what was saved to the file `from`; it stands still then.
    ///
    /// # Errors
    /// When it is another VM, Mac or macOS than it was.
    pub fn restore(&self, from: &Path) -> Result<(), Failure> {
        self.check_save()?;
        let from = path_text(from)?;
        self.complete("go on from the saved state", |parts, done| unsafe {
            parts.machine.restoreMachineStateFromURL_completionHandler(&file_url(from), done);
        })
    }

    fn check_save(&self) -> Result<(), Failure> {
        self.0.with(|parts| {
            let what = "save the VM's state";
            let known = parts.machine.respondsToSelector(sel!(saveMachineStateToURL:completionHandler:));
            if !known {
                return Err(Failure::new(
                    what,
                    "that needs macOS 14",
                    "update macOS, or stop the VM instead",
                ));
            }
            let valid = unsafe { parts.configuration.validateSaveRestoreSupportWithError() };
            valid.map_err(|e| Failure::of(what, &e))
        })
    }

    /// Whether it runs or stands still.
    pub fn is_alive(&self) -> bool {
        let state = self.0.with(|parts| unsafe { parts.machine.state() });
        !matches!(state, VZVirtualMachineState::Stopped | VZVirtualMachineState::Error)
    }

    /// Has its balloon leave `bytes` to the guest.
    pub fn set_memory(&self, bytes: u64) {
        self.0.with(|parts| unsafe {
            for device in parts.machine.memoryBalloonDevices().to_vec() {
                if let Ok(balloon) = device.downcast::<VZVirtioTraditionalMemoryBalloonDevice>() {
                    balloon.setTargetVirtualMachineMemorySize(bytes);
                }
            }
        });
    }

    /// Connects to a port that somebody in the guest listens at.
    ///
    /// # Errors
    /// When nobody does.
    pub fn connect(&self, port: u32) -> Result<OwnedFd, Failure> {
        let what = move || format!("connect to port {port} of the guest");
        let ended = Failure::new(what(), "the VM ended", "tearless start NAME");
        let connected = self.0.wait(move |parts, sender: Sender<Result<OwnedFd, Failure>>| {
            let none = move || Failure::new(what(), "the VM has no virtual sockets", "start it anew");
            let device = unsafe { parts.machine.socketDevices() }.firstObject();
            let Some(device) = device.and_then(|d| d.downcast::<VZVirtioSocketDevice>().ok()) else {
                let _ = sender.send(Err(none()));
                return;
            };
            let done = RcBlock::new(move |connection: *mut VZVirtioSocketConnection, error: *mut NSError| {
                // SAFETY: one of them is there, and stays during the call.
                let result = unsafe {
                    match (connection.as_ref(), error.as_ref()) {
                        (Some(connection), _) => duplicate(connection.fileDescriptor()).map_err(|e| {
                            Failure::new(what(), e.to_string(), "close some files, and try again")
                        }),
                        (None, Some(error)) => Err(Failure::of(what(), error)),
                        (None, None) => Err(none()),
                    }
                };
                // Whoever waited may have gone.
                let _ = sender.send(result);
            });
            unsafe { device.connectToPort_completionHandler(port, &done) };
        });
        connected.unwrap_or(Err(ended))
    }

    /// Installs macOS from the IPSW at `from`. `progress` hears how much is done, from 0 to 1.
    ///
    /// # Errors
    /// What the installer says.
    pub fn install(&self, from: &Path, mut progress: impl FnMut(f64)) -> Result<(), Failure> {
        let from = path_text(from)?;
        let (sender, receiver) = channel();
        self.0.with(|parts| {
            let done = completion("install macOS", sender);
            // SAFETY: this is the machine's queue, and the machine does not run.
            let installer = unsafe {
                let (new, url) = (VZMacOSInstaller::alloc(), file_url(from));
                let installer =
                    VZMacOSInstaller::initWithVirtualMachine_restoreImageURL(new, &parts.machine, &url);
                installer.installWithCompletionHandler(&done);
                installer
            };
            *parts.installer.borrow_mut() = Some(installer);
        });
        let result = loop {
            match receiver.recv_timeout(LOOK) {
                Ok(result) => break result,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => progress(self.installed()),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    break Err(Failure::new("install macOS", "the installer went away", "again"));
                }
            }
        };
        self.0.with(|parts| drop(parts.installer.take()));
        progress(1.0);
        result
    }

    fn installed(&self) -> f64 {
        self.0.with(|parts| {
            let installer = parts.installer.borrow();
            installer.as_ref().map_or(0.0, |i| unsafe { i.progress() }.fractionCompleted())
        })
    }

    /// What [`super::window`] shows.
    pub(crate) fn for_view(&self) -> ForView {
        self.0.with(|parts| ForView(parts.machine.clone()))
    }

    /// Begins something that calls its block when it has ended, and waits for that.
    fn complete(
        &self,
        what: &'static str,
        begin: impl FnOnce(&Parts, &DynBlock<dyn Fn(*mut NSError)>) + Send,
    ) -> Result<(), Failure> {
        let done = self.0.wait(|parts, sender| begin(parts, &completion(what, sender)));
        done.unwrap_or_else(|| Err(Failure::new(what, "the framework gave no answer", "again")))
    }
}

/// A machine on its way to a view, which touches it as the framework wants it.
pub(crate) struct ForView(pub(crate) Retained<VZVirtualMachine>);

// SAFETY: the reference is counted atomically, and only given to a view.
unsafe impl Send for ForView {}

/// A block that sends whether `what` failed.
pub(super) fn completion(
    what: &'static str,
    sender: Sender<Result<(), Failure>>,
) -> RcBlock<dyn Fn(*mut NSError)> {
    // The framework calls it once; a second call would find nobody.
    let sender = Cell::new(Some(sender));
    RcBlock::new(move |error: *mut NSError| {
        // SAFETY: it is nil or an error that stays during the call.
        let error = unsafe { error.as_ref() };
        let result = error.map_or(Ok(()), |error| Err(Failure::of(what, error)));
        if let Some(sender) = sender.take() {
            // Whoever waited may have gone.
            let _ = sender.send(result);
        }
    })
}

/// The framework closes its own when the connection is released.
fn duplicate(file: i32) -> std::io::Result<OwnedFd> {
    // SAFETY: the connection has it open during the call that gave it to us.
    unsafe { BorrowedFd::borrow_raw(file) }.try_clone_to_owned()
}

/// The framework takes paths of UTF-8 only.
pub(super) fn path_text(path: &Path) -> Result<&str, Failure> {
    let what = || format!("use the path {}", path.display());
    path.to_str().ok_or_else(|| Failure::new(what(), "it is not UTF-8", "another path"))
}

define_class!(
    // SAFETY: NSObject asks nothing of its subclasses, and this one has no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "TearlessMachineDelegate"]
    #[ivars = Sender<Event>]
    struct Delegate;

    // SAFETY: as NSObject has it.
    unsafe impl NSObjectProtocol for Delegate {}

    // SAFETY: the methods have the types that the protocol gives them.
    unsafe impl VZVirtualMachineDelegate for Delegate {
        #[unsafe(method(guestDidStopVirtualMachine:))]
        fn guest_did_stop(&self, _: &VZVirtualMachine) {
            self.send(Event::Stopped);
        }

        #[unsafe(method(virtualMachine:didStopWithError:))]
        fn did_stop(&self, _: &VZVirtualMachine, error: &NSError) {
            self.send(Event::Failed(Failure::of("keep the VM running", error)));
        }

        #[unsafe(method(virtualMachine:networkDevice:attachmentWasDisconnectedWithError:))]
        fn network_lost(&self, _: &VZVirtualMachine, _: &VZNetworkDevice, error: &NSError) {
            self.send(Event::NetworkLost(Failure::of("keep the network connected", error)));
        }
    }
);

impl Delegate {
    fn new(events: Sender<Event>) -> Retained<Self> {
        let new = Self::alloc().set_ivars(events);
        // SAFETY: NSObject's `init` takes nothing.
        unsafe { msg_send![super(new), init] }
    }

    fn send(&self, event: Event) {
        // Whoever listened may have gone.
        let _ = self.ivars().send(event);
    }
}
