//! What this Mac can do.

use objc2::{rc::autoreleasepool, runtime::AnyClass};
use objc2_foundation::NSProcessInfo;
use objc2_virtualization::{VZGenericMachineIdentifier, VZVirtualMachine, VZVirtualMachineConfiguration};

use super::entitlement;
use crate::Host;

/// What the framework asks of programs whose VMs are to be on a network of the host's.
const BRIDGES: &str = "com.apple.vm.networking";

/// This host, as plans are made for it.
pub fn host() -> Host {
    let version = autoreleasepool(|_| NSProcessInfo::processInfo().operatingSystemVersion());
    let number = |n: isize| u32::try_from(n).unwrap_or(0);
    // SAFETY: a class method without arguments, as old as the framework.
    let cpus = unsafe { VZVirtualMachineConfiguration::maximumAllowedCPUCount() };
    Host {
        macos: (number(version.majorVersion), number(version.minorVersion)),
        cpus: u32::try_from(cpus).ok().filter(|cpus| *cpus > 0),
        bridges: entitlement::has(BRIDGES),
    }
}

/// Why this Mac cannot run VMs; `None` when it can.
pub fn missing() -> Option<String> {
    if AnyClass::get(c"VZVirtualMachine").is_none() {
        return Some("this macOS has no Virtualization framework; it came with macOS 11".into());
    }
    // SAFETY: a class method without arguments.
    let supported = unsafe { VZVirtualMachine::isSupported() };
    (!supported).then(|| {
        "this Mac has no virtualization: it is a virtual machine itself, or the host gives it no nested virtualization".into()
    })
}

/// A new identity for a VM that is no virtual Mac; empty before macOS 13.
pub fn new_identifier() -> Vec<u8> {
    if AnyClass::get(c"VZGenericMachineIdentifier").is_none() {
        return Vec::new();
    }
    // SAFETY: the class is there.
    autoreleasepool(|_| unsafe { VZGenericMachineIdentifier::new().dataRepresentation() }.to_vec())
}
