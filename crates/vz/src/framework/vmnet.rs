//! Networks of vmnet, which macOS 26 gives to VMs without privileges. Its functions are looked up while running, for older
//! systems have none of them.

use std::{
    ffi::{CStr, c_void},
    ptr::NonNull,
};

use objc2::{
    encode::{Encoding, RefEncode},
    msg_send,
    rc::{Allocated, Retained},
};
use objc2_virtualization::{VZNetworkDeviceAttachment, VZVmnetNetworkDeviceAttachment};

use objc2::AnyThread as _;

use super::Failure;

const LIBRARY: &CStr = c"/System/Library/Frameworks/vmnet.framework/vmnet";
/// `VMNET_SUCCESS`.
const SUCCESS: u32 = 1000;
/// `vmnet_mode_t`.
const MODES: [(&str, u32); 2] = [("VMNET_HOST_MODE", 1000), ("VMNET_SHARED_MODE", 1001)];

/// A `struct vmnet_network`.
#[repr(C)]
struct Network {
    _private: [u8; 0],
}

// SAFETY: as Apple's header declares it.
unsafe impl RefEncode for Network {
    const ENCODING_REF: Encoding = Encoding::Pointer(&Encoding::Struct("vmnet_network", &[]));
}

type Create<A> = unsafe extern "C" fn(A, *mut u32) -> *mut Network;

/// An attachment to a new network of the mode that `mode` names.
pub(super) fn attachment(mode: &str) -> Result<Retained<VZNetworkDeviceAttachment>, Failure> {
    let failed = |why: String| Failure::new("make a network of macOS' own", why, "--apple vmnet=off");
    let Some((_, number)) = MODES.into_iter().find(|(name, _)| *name == mode) else {
        return Err(failed(format!("there is no mode {mode}")));
    };
    let missing = || failed("this macOS has no vmnet_network_create; macOS 26 has".into());
    let configure = symbol(LIBRARY, c"vmnet_network_configuration_create").ok_or_else(missing)?;
    let create = symbol(LIBRARY, c"vmnet_network_create").ok_or_else(missing)?;
    let (mut status, mut network) = (SUCCESS, std::ptr::null_mut());
    // SAFETY: the functions are those of vmnet.h: a mode or a configuration, and where to write a status. What they return
    // is kept for ever: the network lives as long as the VM, and that as long as the process.
    unsafe {
        let configure: Create<u32> = std::mem::transmute::<NonNull<c_void>, Create<u32>>(configure);
        let create = std::mem::transmute::<NonNull<c_void>, Create<*mut Network>>(create);
        let configuration = configure(number, &raw mut status);
        if !configuration.is_null() {
            network = create(configuration, &raw mut status);
        }
    }
    if network.is_null() || status != SUCCESS {
        return Err(failed(format!("vmnet said {status}")));
    }
    let new: Allocated<VZVmnetNetworkDeviceAttachment> = VZVmnetNetworkDeviceAttachment::alloc();
    // SAFETY: `initWithNetwork:` takes a network and returns an attachment (macOS 26).
    let attachment: Retained<VZVmnetNetworkDeviceAttachment> =
        unsafe { msg_send![new, initWithNetwork: network] };
    Ok(attachment.into_super())
}

/// What `library` has by that name.
pub(super) fn symbol(library: &CStr, name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: both take strings that end in zero; the library stays loaded.
    unsafe {
        let library = libc::dlopen(library.as_ptr(), libc::RTLD_LAZY);
        if library.is_null() {
            return None;
        }
        NonNull::new(libc::dlsym(library, name.as_ptr()))
    }
}
