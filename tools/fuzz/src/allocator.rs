//! A heap with a bound per execution: a target that takes more ends its process.
#![allow(unsafe_code)] // A global allocator is an unsafe trait; nothing else here is.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    backtrace::Backtrace,
    process,
    sync::atomic::{AtomicUsize, Ordering},
};

#[global_allocator]
static HEAP: Bounded = Bounded;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The exit status of a process that wants more.
pub const EXHAUSTED: i32 = 103;

/// Lets the process take `mib` more MiB than it has now. When it wants more, it says where and ends.
pub fn allow(mib: usize) {
    LIMIT.store(IN_USE.load(Ordering::Relaxed).saturating_add(mib << 20), Ordering::Relaxed);
}

struct Bounded;

impl Bounded {
    /// Books `size` bytes; when that is too much this is the end.
    fn take(size: usize) {
        let total = IN_USE.fetch_add(size, Ordering::Relaxed).saturating_add(size);
        if total > LIMIT.load(Ordering::Relaxed) {
            // What follows needs memory, too.
            LIMIT.store(usize::MAX, Ordering::Relaxed);
            eprintln!("with {size} bytes more, {total} bytes are in use\n{}", Backtrace::force_capture());
            process::exit(EXHAUSTED);
        }
    }
}

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::take(layout.size());
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::take(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above; each block came from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // As if old and new existed at once, which they do when the block moves.
        Self::take(new_size);
        // SAFETY: as above.
        let moved = unsafe { System.realloc(block, layout, new_size) };
        IN_USE.fetch_sub(if moved.is_null() { new_size } else { layout.size() }, Ordering::Relaxed);
        moved
    }
}
