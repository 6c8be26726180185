//! What this program was signed to be allowed. The functions are looked up while running, for nothing else needs their library.

use std::{
    ffi::{CStr, c_void},
    ptr::{self, NonNull},
};

use objc2::{
    msg_send,
    rc::{Retained, autoreleasepool},
    runtime::AnyObject,
    sel,
};
use objc2_foundation::NSString;

use super::vmnet::symbol;

const LIBRARY: &CStr = c"/System/Library/Frameworks/Security.framework/Security";

type FromSelf = unsafe extern "C" fn(*const c_void) -> *mut AnyObject;
type Copy = unsafe extern "C" fn(&AnyObject, &NSString, *mut *mut c_void) -> *mut AnyObject;

/// Whether this process has the entitlement `name`.
pub(super) fn has(name: &str) -> bool {
    let (Some(from_self), Some(copy)) =
        (symbol(LIBRARY, c"SecTaskCreateFromSelf"), symbol(LIBRARY, c"SecTaskCopyValueForEntitlement"))
    else {
        return false;
    };
    // SAFETY: the functions are those of SecTask.h. Both return an object of Core Foundation, which are Objective-C's too, for us to
    // release, or nothing; the first takes an allocator, of which nothing is the default one, the second a task, a string, and
    // where to put an error, if anywhere. What has a truth value says so.
    autoreleasepool(|_| unsafe {
        let from_self = std::mem::transmute::<NonNull<c_void>, FromSelf>(from_self);
        let copy = std::mem::transmute::<NonNull<c_void>, Copy>(copy);
        let Some(task) = Retained::from_raw(from_self(ptr::null())) else { return false };
        let value = Retained::from_raw(copy(&task, &NSString::from_str(name), ptr::null_mut()));
        value.is_some_and(|value| {
            let is_truth: bool = msg_send![&value, respondsToSelector: sel!(boolValue)];
            is_truth && msg_send![&value, boolValue]
        })
    })
}
