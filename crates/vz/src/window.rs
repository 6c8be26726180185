//! A window that shows a VM's screen.
#![allow(unsafe_code, reason = "Objective-C: each call's contract is that of Apple's documentation")]

use std::sync::mpsc::Sender;

use objc2::{
    DefinedClass as _, MainThreadMarker, MainThreadOnly, available, define_class, msg_send,
    rc::Retained,
    runtime::{NSObject, NSObjectProtocol, ProtocolObject},
};
use objc2_app_kit::{
    NSApplication, NSApplicationActivationPolicy, NSApplicationDelegate, NSBackingStoreType, NSWindow,
    NSWindowDelegate, NSWindowStyleMask,
};
use objc2_core_foundation::{CGPoint, CGRect, CGSize};
use objc2_foundation::NSString;
use objc2_virtualization::VZVirtualMachineView;

use crate::{
    framework::{Failure, Machine},
    screen,
};

/// What its user did to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Closed it, or quit the program.
    Close,
}

/// How a window looks at first.
#[derive(Clone, Debug)]
pub struct Look {
    /// Its title.
    pub title: String,
    /// Its size in points: half the guest's pixels on a screen that is twice as fine.
    pub size: (f64, f64),
    /// Send the keys to the guest that macOS would take for itself, such as Command-Tab.
    pub system_keys: bool,
}

/// Shows `machine` until the process ends. To be called on the main thread, which AppKit wants; it stays there. `wishes` hears
/// what the user wants of the VM: the window does not close by itself.
///
/// # Errors
/// When this is not the main thread.
pub fn show(machine: &Machine, look: &Look, wishes: Sender<Wish>) -> Result<(), Failure> {
    let Some(main) = MainThreadMarker::new() else {
        let why = "AppKit works on the main thread only; this is a bug in Tearless";
        return Err(Failure {
            what: "show a window".into(),
            why: why.into(),
            advice: "--display none".into(),
        });
    };
    let app = NSApplication::sharedApplication(main);
    app.setActivationPolicy(NSApplicationActivationPolicy::Regular);
    let delegate = Delegate::new(main, wishes);
    app.setDelegate(Some(ProtocolObject::from_ref(&*delegate)));
    let frame = CGRect {
        origin: CGPoint { x: 0.0, y: 0.0 },
        size: CGSize { width: look.size.0, height: look.size.1 },
    };
    let style = NSWindowStyleMask::Titled
        | NSWindowStyleMask::Closable
        | NSWindowStyleMask::Miniaturizable
        | NSWindowStyleMask::Resizable;
    // SAFETY: this is the main thread; views and windows are made and stay there. The machine's reference is only given away.
    let window = unsafe {
        let view = VZVirtualMachineView::initWithFrame(VZVirtualMachineView::alloc(main), frame);
        view.setVirtualMachine(Some(&machine.for_view().0));
        view.setCapturesSystemKeys(look.system_keys);
        screen::watch(&view);
        if available!(macos = 14.0) {
            // The guest's screen follows the window, in the pixels of the display that the window is on.
            view.setAutomaticallyReconfiguresDisplay(true);
        }
        let window = NSWindow::initWithContentRect_styleMask_backing_defer(
            NSWindow::alloc(main),
            frame,
            style,
            NSBackingStoreType::Buffered,
            false,
        );
        window.setReleasedWhenClosed(false);
        window.setContentView(Some(&view));
        window.makeFirstResponder(Some(&view));
        window
    };
    window.setTitle(&NSString::from_str(&look.title));
    window.setDelegate(Some(ProtocolObject::from_ref(&*delegate)));
    window.center();
    window.makeKeyAndOrderFront(None);
    #[allow(deprecated, reason = "its successor is of macOS 14")]
    app.activateIgnoringOtherApps(true);
    app.run();
    Ok(())
}

define_class!(
    // SAFETY: NSObject asks nothing of its subclasses, and this one has no `Drop`.
    #[unsafe(super(NSObject))]
    #[thread_kind = MainThreadOnly]
    #[name = "TearlessWindowDelegate"]
    #[ivars = Sender<Wish>]
    struct Delegate;

    // SAFETY: as NSObject has it.
    unsafe impl NSObjectProtocol for Delegate {}

    // SAFETY: the method has the type that the protocol gives it.
    unsafe impl NSWindowDelegate for Delegate {
        #[unsafe(method(windowShouldClose:))]
        fn should_close(&self, _: &NSWindow) -> bool {
            // Whoever runs the VM may have gone; the process is about to end then.
            let _ = self.ivars().send(Wish::Close);
            false
        }
    }

    // SAFETY: the method has the type that the protocol gives it.
    unsafe impl NSApplicationDelegate for Delegate {
        #[unsafe(method(applicationShouldTerminate:))]
        fn should_terminate(&self, _: &NSApplication) -> usize {
            const CANCEL: usize = 0;
            // As above.
            let _ = self.ivars().send(Wish::Close);
            CANCEL
        }
    }
);

impl Delegate {
    fn new(main: MainThreadMarker, wishes: Sender<Wish>) -> Retained<Self> {
        let new = Self::alloc(main).set_ivars(wishes);
        // SAFETY: NSObject's `init` takes nothing.
        unsafe { msg_send![super(new), init] }
    }
}
