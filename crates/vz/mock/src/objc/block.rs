//! Blocks: functions with what they hold, on the stack until somebody keeps them.

use std::{
    alloc::{Layout, alloc, dealloc},
    ffi::c_void,
    mem::transmute,
    sync::atomic::{AtomicI32, Ordering},
};

use super::object::Object;
use crate::journal;

// As <https://clang.llvm.org/docs/Block-ABI-Apple.html> has them.
const NEEDS_FREE: i32 = 1 << 24;
const HAS_COPY_DISPOSE: i32 = 1 << 25;
const IS_GLOBAL: i32 = 1 << 28;
const COUNT: i32 = 0xffff;
/// One reference; the lowest bit says that the block is being destroyed.
const ONE: i32 = 2;

#[repr(C)]
pub(crate) struct Block {
    isa: *const c_void,
    flags: AtomicI32,
    reserved: i32,
    invoke: unsafe extern "C-unwind" fn(),
    descriptor: *const Descriptor,
}

#[repr(C)]
struct Descriptor {
    reserved: usize,
    size: usize,
    /// There if the flags say so.
    copy: unsafe extern "C-unwind" fn(*mut Block, *const Block),
    dispose: unsafe extern "C-unwind" fn(*mut Block),
}

#[unsafe(no_mangle)]
static _NSConcreteStackBlock: [usize; 32] = [0; 32];
#[unsafe(no_mangle)]
static _NSConcreteGlobalBlock: [usize; 32] = [0; 32];
static MALLOC_BLOCK: [usize; 32] = [0; 32];

/// A block that this crate keeps.
pub(crate) struct Kept(*mut Block);

// SAFETY: the framework calls blocks from its queues' threads; whoever gave it one allows that.
unsafe impl Send for Kept {}

impl Kept {
    pub(crate) fn copy(block: *const c_void) -> Self {
        // SAFETY: the program passed a block.
        Self(unsafe { _Block_copy(block.cast()) })
    }

    /// Calls it with up to two objects.
    pub(crate) fn call(self, a: *const Object, b: *const Object) {
        // SAFETY: each block of the framework takes one or two objects; one that it does not take does no harm in a register.
        unsafe {
            let invoke: unsafe extern "C-unwind" fn(*mut Block, *const Object, *const Object) =
                transmute((*self.0).invoke);
            invoke(self.0, a, b);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: it is a copy of our own.
        unsafe { _Block_release(self.0) };
    }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 16).unwrap_or(Layout::new::<Block>())
}

// SAFETY: block2 calls these as the ABI has them.

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn _Block_copy(block: *const Block) -> *mut Block {
    if block.is_null() {
        return block.cast_mut();
    }
    unsafe {
        let flags = (*block).flags.load(Ordering::SeqCst);
        if flags & NEEDS_FREE != 0 {
            if (*block).flags.fetch_add(ONE, Ordering::SeqCst) & COUNT == 0 {
                journal::wrong("a block that is gone was copied".into());
            }
            return block.cast_mut();
        }
        if flags & IS_GLOBAL != 0 {
            return block.cast_mut();
        }
        let size = (*(*block).descriptor).size;
        let copy = alloc(layout(size)).cast::<Block>();
        journal::born("block");
        block.cast::<u8>().copy_to_nonoverlapping(copy.cast(), size);
        (&raw mut (*copy).isa).write((&raw const MALLOC_BLOCK).cast());
        (*copy).flags.store((flags & !COUNT) | NEEDS_FREE | ONE, Ordering::SeqCst);
        if flags & HAS_COPY_DISPOSE != 0 {
            ((*(*block).descriptor).copy)(copy, block);
        }
        copy
    }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn _Block_release(block: *const Block) {
    if block.is_null() {
        return;
    }
    unsafe {
        let flags = (*block).flags.load(Ordering::SeqCst);
        if flags & NEEDS_FREE == 0 || flags & IS_GLOBAL != 0 {
            return;
        }
        if (*block).flags.fetch_sub(ONE, Ordering::SeqCst) & COUNT != ONE {
            return;
        }
        let size = (*(*block).descriptor).size;
        if flags & HAS_COPY_DISPOSE != 0 {
            ((*(*block).descriptor).dispose)(block.cast_mut());
        }
        dealloc(block.cast_mut().cast(), layout(size));
        journal::died("block");
    }
}
