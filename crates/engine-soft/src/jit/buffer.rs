//! Memory for generated code: one file in memory, mapped twice.
//!
//! One mapping can be written, the other executed, and none both (W^X). Code is appended; all of it is dropped at once.

use std::{io, ptr::NonNull};

use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

/// The two mappings.
pub(crate) struct CodeBuffer {
    write: NonNull<u8>,
    execute: NonNull<u8>,
    size: usize,
    used: usize,
}

// SAFETY: the mappings belong to this object alone.
unsafe impl Send for CodeBuffer {}

impl CodeBuffer {
    /// A buffer of `size` bytes, a multiple of the host's page size; host memory is used as far as code is written.
    ///
    /// # Errors
    /// Those of the host, which may forbid executable memory.
    pub fn new(size: usize) -> io::Result<Self> {
        let file = memfd_create("tearless-code", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, size as u64)?;
        let map = |protection| -> io::Result<NonNull<u8>> {
            // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nobody.
            let at = unsafe { mmap(std::ptr::null_mut(), size, protection, MapFlags::SHARED, &file, 0) }?;
            NonNull::new(at.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
        };
        let write = map(ProtFlags::READ | ProtFlags::WRITE)?;
        let execute = match map(ProtFlags::READ | ProtFlags::EXEC) {
            Ok(at) => at,
            Err(e) => {
                // SAFETY: the mapping was made above, and nothing points into it yet.
                let _ = unsafe { munmap(write.as_ptr().cast(), size) };
                return Err(e);
            }
        };
        Ok(Self { write, execute, size, used: 0 })
    }

    /// The address at which what is appended next will run.
    pub fn next_address(&self) -> u64 {
        self.address(self.used as u32)
    }

    /// The address at which the byte at offset `at` runs.
    pub fn address(&self, at: u32) -> u64 {
        self.execute.as_ptr() as u64 + u64::from(at)
    }

    /// The offset of the code that runs at `address`.
    pub fn offset(&self, address: u64) -> u32 {
        address.wrapping_sub(self.execute.as_ptr() as u64) as u32
    }

    /// Bytes appended so far.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.size - self.used
    }

    /// Appends `code`; false, and nothing, when it does not fit. The next append is 16-byte aligned.
    pub fn append(&mut self, code: &[u8]) -> bool {
        if code.len() + 16 > self.room() {
            return false;
        }
        // SAFETY: the range is within the mapping, by the check above, and the source is not.
        unsafe {
            std::ptr::copy_nonoverlapping(code.as_ptr(), self.write.as_ptr().add(self.used), code.len())
        };
        self.used = (self.used + code.len()).next_multiple_of(16);
        true
    }

    /// Overwrites `bytes.len()` bytes at offset `at`.
    pub fn patch(&mut self, at: u32, bytes: &[u8]) {
        let at = at as usize;
        assert!(at + bytes.len() <= self.used, "a patch outside of the code");
        // SAFETY: the range is within the mapping, by the check above, and the source is not.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.write.as_ptr().add(at), bytes.len()) };
    }

    /// Has the 32-bit displacement at offset `at` name `target`.
    pub fn patch_displacement(&mut self, at: u32, target: u64) {
        let d = target.wrapping_sub(self.address(at) + 4) as i32;
        self.patch(at, &d.to_le_bytes());
    }

    /// Drops everything behind the first `used` bytes.
    pub fn truncate(&mut self, used: usize) {
        self.used = used;
    }
}

impl Drop for CodeBuffer {
    fn drop(&mut self) {
        // SAFETY: both were mapped in `new`, and no code of a buffer runs when its owner drops it.
        unsafe {
            let _ = munmap(self.write.as_ptr().cast(), self.size);
            let _ = munmap(self.execute.as_ptr().cast(), self.size);
        }
    }
}
