//! The mock notices what must not happen: else the tests beside this would show nothing.

use std::time::Duration;

use dispatch2::DispatchQueue;
use objc2::{
    AnyThread as _, msg_send,
    rc::{Retained, autoreleasepool},
};
use objc2_foundation::{NSString, NSURL};
use objc2_virtualization::{
    VZGenericPlatformConfiguration, VZLinuxBootLoader, VZMacOSInstaller, VZVirtualMachine,
    VZVirtualMachineConfiguration,
};

use crate::journal::Session;

fn machine(queue: &DispatchQueue, valid: bool) -> Retained<VZVirtualMachine> {
    // SAFETY: of the mock, whatever the order.
    unsafe {
        let configuration = VZVirtualMachineConfiguration::new();
        let kernel = NSURL::fileURLWithPath(&NSString::from_str("/kernel"));
        configuration
            .setBootLoader(Some(&VZLinuxBootLoader::initWithKernelURL(VZLinuxBootLoader::alloc(), &kernel)));
        configuration.setPlatform(&VZGenericPlatformConfiguration::new());
        if valid {
            configuration.validateWithError().unwrap();
        }
        VZVirtualMachine::initWithConfiguration_queue(VZVirtualMachine::alloc(), &configuration, queue)
    }
}

/// Runs that; returns what was noticed.
fn noticed(what: impl FnOnce()) -> String {
    let session = Session::begin();
    autoreleasepool(|_| what());
    session.end_within(Duration::from_millis(300)).join("; ")
}

#[test]
fn another_thread() {
    let noticed = noticed(|| {
        let queue = DispatchQueue::new("q", None);
        // SAFETY: of the mock.
        unsafe { machine(&queue, true).state() };
    });
    assert!(noticed.contains("state was sent to a VZVirtualMachine from another thread"), "{noticed}");
    assert!(noticed.contains("dealloc was sent"), "the last reference goes on the queue: {noticed}");
}

#[test]
fn a_configuration_that_was_not_checked() {
    let noticed = noticed(|| drop(machine(&DispatchQueue::new("q", None), false)));
    assert!(noticed.contains("not found valid"), "{noticed}");
}

#[test]
fn waiting_for_oneself() {
    let noticed = noticed(|| {
        let queue = DispatchQueue::new("q", None);
        queue.exec_sync(|| queue.exec_sync(|| {}));
    });
    assert_eq!(noticed, "the queue q waits for itself for ever");
}

#[test]
fn references_too_few_and_too_many() {
    let over = noticed(|| {
        let string = Retained::into_raw(NSString::from_str("a"));
        // SAFETY: it is not; what is gone stays in the mock's memory.
        unsafe {
            drop(Retained::from_raw(string));
            drop(Retained::from_raw(string));
        }
    });
    assert!(over.contains("a NSString was released too often"), "{over}");
    let under = noticed(|| std::mem::forget(NSString::from_str("a")));
    assert_eq!(under, "1 NSString left over");
    let block = noticed(|| std::mem::forget(block2::RcBlock::new(|| {})));
    assert_eq!(block, "1 block left over");
}

#[test]
fn what_is_gone() {
    let noticed = noticed(|| {
        let string = NSString::from_str("a");
        let raw: *const NSString = &raw const *string;
        drop(string);
        // SAFETY: it is not; what is gone stays in the mock's memory.
        assert_eq!(unsafe { &*raw }.len(), 0);
    });
    assert!(noticed.contains("lengthOfBytesUsingEncoding: was sent to a NSString that is gone"), "{noticed}");
}

#[test]
fn what_nobody_answers() {
    let noticed = noticed(|| {
        // SAFETY: it takes and returns nothing.
        unsafe {
            let () = msg_send![&*NSString::from_str("a"), flyToTheMoon];
        }
    });
    assert_eq!(noticed, "nobody answers -[NSString flyToTheMoon]");
}

#[test]
fn no_pool() {
    let session = Session::begin();
    std::thread::spawn(|| {
        // SAFETY: a URL's; nobody takes the answer over.
        let _: *const NSURL =
            unsafe { msg_send![objc2::class!(NSURL), fileURLWithPath: &*NSString::from_str("/a")] };
        drop(NSString::from_str("b"));
    })
    .join()
    .unwrap();
    let noticed = session.end().join("; ");
    assert!(noticed.contains("no autorelease pool"), "{noticed}");
}

#[test]
fn an_installer_that_nobody_keeps() {
    let noticed = noticed(|| {
        let queue = DispatchQueue::new("q", None);
        queue.exec_sync(|| {
            autoreleasepool(|_| {
                let machine = machine(&queue, true);
                let image = NSURL::fileURLWithPath(&NSString::from_str("/a.ipsw"));
                // SAFETY: of the mock.
                unsafe {
                    let new = VZMacOSInstaller::alloc();
                    let installer =
                        VZMacOSInstaller::initWithVirtualMachine_restoreImageURL(new, &machine, &image);
                    let block = block2::RcBlock::new(|_| {});
                    installer.installWithCompletionHandler(&block);
                    drop(installer);
                }
            });
        });
        crate::virtualization::fraction();
        crate::virtualization::fraction();
    });
    assert!(noticed.contains("the installer was released before its end"), "{noticed}");
}
