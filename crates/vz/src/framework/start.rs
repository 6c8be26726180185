//! How a virtual Mac starts.

use objc2::{
    msg_send,
    rc::{Retained, autoreleasepool},
    runtime::{AnyClass, AnyObject},
};
use objc2_foundation::{NSError, NSString};
use objc2_virtualization::VZMacOSVirtualMachineStartOptions;

use super::{
    Failure,
    build::{Built, string},
};
use crate::Object;

/// Options on their way to the VM's queue.
pub(super) struct Options(Retained<VZMacOSVirtualMachineStartOptions>);

// SAFETY: the reference is counted atomically, and nobody changes what it refers to after it was made.
unsafe impl Send for Options {}

impl Options {
    /// Those that `planned` describes.
    pub(super) fn new(planned: &Object) -> Result<Self, Failure> {
        // Whoever starts a VM may be no thread of the framework's.
        autoreleasepool(|_| Self::in_pool(planned))
    }

    fn in_pool(planned: &Object) -> Result<Self, Failure> {
        let options = unsafe { VZMacOSVirtualMachineStartOptions::new() };
        if planned.flag("startUpFromMacOSRecovery") == Some(true) {
            unsafe { options.setStartUpFromMacOSRecovery(true) };
        }
        if let Some(planned) = planned.object("guestProvisioningOptions") {
            let user = provisioning(planned)?;
            // SAFETY: a method of macOS 27, which the class that is there came with: options, and where to put an error.
            let set: Result<(), Retained<NSError>> =
                unsafe { msg_send![&options, setGuestProvisioningOptions: &*user, error: _] };
            set.map_err(|e| Failure::of("have macOS make its user", &e))?;
        }
        Ok(Self(options))
    }

    pub(super) fn get(&self) -> &VZMacOSVirtualMachineStartOptions {
        &self.0
    }
}

/// A `VZMacGuestProvisioningOptions`, which the bindings do not know.
fn provisioning(planned: &Object) -> Built<AnyObject> {
    let Some(class) = AnyClass::get(c"VZMacGuestProvisioningOptions") else {
        let why = "that needs macOS 27, on this Mac and as the guest";
        return Err(Failure::new("have macOS make its user", why, "answer Setup Assistant's questions"));
    };
    // SAFETY: its methods take what Apple's header says: strings, which it copies, and yes or no.
    unsafe {
        let options: Retained<AnyObject> = msg_send![class, new];
        let text = |name| -> Built<NSString> { string(planned, name) };
        let _: () = msg_send![&options, setFullName: &*text("fullName")?];
        let _: () = msg_send![&options, setUsername: &*text("username")?];
        let _: () = msg_send![&options, setPassword: &*text("password")?];
        let on = |name| planned.flag(name) == Some(true);
        let _: () = msg_send![&options, setLogsInAutomatically: on("logsInAutomatically")];
        let _: () = msg_send![&options, setEnablesRemoteLogin: on("enablesRemoteLogin")];
        Ok(options)
    }
}
