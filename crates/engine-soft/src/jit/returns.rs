//! The return stack: where calls of the guest leave word of where to go on, for the host's return predictor.
//!
//! Generated code runs with this stack in RSP. A guest's call pushes the address that its link register gets and then, by
//! a CALL of the host, that of its *landing*, code behind it; a guest's RET is a RET of the host with the guest's address
//! in RAX. The landing goes on only if that is the address pushed; so whatever the guest did to its link register or its
//! stack, execution goes on where it said. Only speed depends on what is on this stack. (That the address means the same
//! code as when it was pushed is seen to by [`crate::cpu::Returns`].)
//!
//! ```text
//!   bit 16 clear            set
//!  ┌───────────────────┬──────────────────────┬────┐
//!  │ slack             │ entries of 16 bytes ◄│ E  │   E: the word at `top`, which leads to `return_miss`
//!  └───────────────────┴──────────────────────┴────┘
//! ```
//! It has no end: before a push, bit 16 of RSP is set, so that what would go on in the slack begins at the top again.
//! Entries lost that way, or dropped because one did not fit, only cost a look-up. Everything that is no entry leads to
//! `return_miss` too.

use std::{io, ptr::NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Bytes of entries, and of slack: the host's signal handlers and thunks push there too.
pub(super) const SIZE: usize = 1 << 16;

/// A return stack, of one vCPU.
pub(super) struct ReturnStack {
    mapping: NonNull<u8>,
}

// SAFETY: the mapping belongs to this object alone.
unsafe impl Send for ReturnStack {}

impl ReturnStack {
    /// A stack that holds nothing yet.
    ///
    /// # Errors
    /// When the host has no memory left.
    pub fn new() -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nobody.
        let at = unsafe { mmap_anonymous(std::ptr::null_mut(), 4 * SIZE, protection, MapFlags::PRIVATE) }?;
        NonNull::new(at.cast())
            .map(|mapping| Self { mapping })
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// The start of the slack, where the address has a multiple of twice [`SIZE`].
    fn base(&self) -> usize {
        (self.mapping.as_ptr() as usize).next_multiple_of(2 * SIZE)
    }

    /// What RSP is when the stack is empty.
    pub fn top(&self) -> u64 {
        (self.base() + 2 * SIZE - 16) as u64
    }

    /// Forgets all entries: every word is `miss`, code of no block.
    pub fn fill(&mut self, miss: u64) {
        let offset = self.base() - self.mapping.as_ptr() as usize;
        // SAFETY: the mapping has four times `SIZE`, so that twice as much is there behind the first multiple of that; no
        // reference to it exists. Rust functions that generated code called do not run on it.
        unsafe {
            let words = self.mapping.as_ptr().add(offset).cast::<u64>();
            (0..2 * SIZE / 8).for_each(|i| words.add(i).write(miss));
        }
    }
}

impl Drop for ReturnStack {
    fn drop(&mut self) {
        // SAFETY: it was mapped in `new`, and no generated code runs when its owner drops it.
        unsafe {
            let _ = munmap(self.mapping.as_ptr().cast(), 4 * SIZE);
        }
    }
}
