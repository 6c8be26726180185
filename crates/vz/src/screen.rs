//! What the window's view shows, as pixels: the surface of the layer that the framework draws the guest's screen on. No permission to
//! record screens is needed for what is this process' own.
#![allow(unsafe_code, reason = "Objective-C: each call's contract is that of Apple's documentation")]

use std::{
    cell::RefCell,
    ptr,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    time::Duration,
};

use dispatch2::DispatchQueue;
use objc2::{rc::Retained, runtime::AnyObject};
use objc2_app_kit::NSView;
use objc2_core_foundation::CFType;
use objc2_io_surface::{IOSurfaceLockOptions, IOSurfaceRef};
use objc2_quartz_core::CALayer;
use objc2_virtualization::VZVirtualMachineView;

use crate::framework::Failure;

/// How long the main thread may take to look.
const PATIENCE: Duration = Duration::from_secs(5);
/// More layers within layers than a view has.
const MAX_DEPTH: u32 = 16;
/// The largest side of a screen that is believed.
const MAX_SIDE: usize = 16384;
/// Pixel formats of four bytes, blue first (`kCVPixelFormatType_32BGRA`, and the same laid out for the GPU).
const BGRA: [&[u8; 4]; 2] = [b"BGRA", b"&BGA"];

thread_local! {
    /// The main thread's: the view of the VM.
    static VIEW: RefCell<Option<Retained<VZVirtualMachineView>>> = const { RefCell::new(None) };
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `0x00RRGGBB`, row by row.
    pub pixels: Vec<u32>,
}

static SHOWN: AtomicBool = AtomicBool::new(false);

/// Whether there is a window.
pub fn is_shown() -> bool {
    SHOWN.load(Ordering::Acquire)
}

/// From now on [`picture`] is of what `view` shows. To be called on the main thread.
pub(crate) fn watch(view: &Retained<VZVirtualMachineView>) {
    VIEW.set(Some(view.clone()));
    SHOWN.store(true, Ordering::Release);
}

/// What the guest shows now, in its own pixels. To be called on another thread than the main one, which has to be at work.
///
/// # Errors
/// When there is no window, or nothing has been drawn yet.
pub fn picture() -> Result<Picture, Failure> {
    let (sender, receiver) = channel();
    DispatchQueue::main().exec_async(move || {
        // Whoever asked may have given up.
        let _ = sender.send(VIEW.with_borrow(|view| view.as_deref().map(of_view)));
    });
    let advice = "tearless set NAME --display window, and start it anew; or macOS' own: Command-Shift-4";
    let failed = |why: &str| Failure::new("take a screenshot", why, advice);
    match receiver.recv_timeout(PATIENCE) {
        Ok(Some(picture)) => picture.map_err(failed),
        Ok(None) => Err(failed("the VM has no window, and what others show is not to be had")),
        Err(_) => Err(failed("the window does not answer")),
    }
}

fn of_view(view: &VZVirtualMachineView) -> Result<Picture, &'static str> {
    let mut found = Vec::new();
    collect_view(view, &mut found, MAX_DEPTH);
    let largest = found.into_iter().max_by_key(|surface| surface.width().saturating_mul(surface.height()));
    largest.ok_or("the guest has drawn nothing yet")?.read()
}

/// The surfaces of a view's layers and of the views in it.
fn collect_view(view: &NSView, found: &mut Vec<Surface>, depth: u32) {
    if let Some(layer) = view.layer() {
        collect_layer(&layer, found, depth);
    }
    if let Some(depth) = depth.checked_sub(1) {
        view.subviews().iter().for_each(|view| collect_view(&view, found, depth));
    }
}

fn collect_layer(layer: &CALayer, found: &mut Vec<Surface>, depth: u32) {
    // SAFETY: this is the main thread, which draws; both are kept while they are looked at.
    let (contents, inner) = unsafe { (layer.contents(), layer.sublayers()) };
    found.extend(contents.and_then(Surface::new));
    if let (Some(inner), Some(depth)) = (inner, depth.checked_sub(1)) {
        inner.iter().for_each(|layer| collect_layer(&layer, found, depth));
    }
}

/// The contents of a layer that are a surface.
struct Surface(Retained<AnyObject>);

impl Surface {
    fn new(contents: Retained<AnyObject>) -> Option<Self> {
        let surface = Self(contents);
        surface.get().is_some().then_some(surface)
    }

    fn get(&self) -> Option<&IOSurfaceRef> {
        // SAFETY: what is a layer's contents is an object of Core Foundation, too, and asked what it is before it is used as that.
        unsafe { &*ptr::from_ref(&*self.0).cast::<CFType>() }.downcast_ref::<IOSurfaceRef>()
    }

    fn width(&self) -> usize {
        self.get().map_or(0, IOSurfaceRef::width)
    }

    fn height(&self) -> usize {
        self.get().map_or(0, IOSurfaceRef::height)
    }

    fn read(&self) -> Result<Picture, &'static str> {
        let surface = self.get().ok_or("it is no surface")?;
        let (width, height, stride) = (surface.width(), surface.height(), surface.bytes_per_row());
        if !BGRA.iter().any(|format| u32::from_be_bytes(**format) == surface.pixel_format()) {
            return Err("the screen's pixels are of a kind that is not known");
        }
        let fits = (1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height);
        let rows = stride.checked_mul(height).filter(|bytes| *bytes <= surface.alloc_size());
        let (true, Some(bytes), true) = (fits, rows, stride >= width * 4) else {
            return Err("the screen's surface is of no possible size");
        };
        // SAFETY: no seed is asked for; each lock has its unlock below.
        if unsafe { surface.lock(IOSurfaceLockOptions::ReadOnly, ptr::null_mut()) } != 0 {
            return Err("the screen's surface cannot be read");
        }
        // SAFETY: while it is locked, it is at that address, with as many bytes as were found to be in it.
        let all = unsafe { std::slice::from_raw_parts(surface.base_address().as_ptr().cast::<u8>(), bytes) };
        let rows = all.chunks_exact(stride).map(|row| row.as_chunks::<4>().0.iter().take(width));
        let pixels = rows.flatten().map(|pixel| u32::from_le_bytes(*pixel) & 0xff_ffff).collect();
        // SAFETY: as above.
        unsafe { surface.unlock(IOSurfaceLockOptions::ReadOnly, ptr::null_mut()) };
        // From 1 to MAX_SIDE.
        Ok(Picture { width: width as u32, height: height as u32, pixels })
    }
}
