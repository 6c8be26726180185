//! Memory for generated code: one file in memory, mapped twice.
//!
//! One mapping can be written, the other executed, and none both (W^X). In front of the latter is the page of the vCPU's
//! [`Flag`], so that code finds it by its own address. Code is appended to one of two parts, what is
//! executed often and what is not, so that the host's instruction cache holds the former only; a third part is data that
//! code compares with. All of it is dropped at once.

use std::{
    io,
    ptr::{NonNull, null_mut},
};

use rustix::{
    fd::OwnedFd,
    fs::{MemfdFlags, ftruncate, memfd_create},
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap},
};

use crate::cpu::{Flag, PAGE};

/// A part of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The main paths of blocks.
    Hot,
    /// Their side paths.
    Cold,
    /// What the main paths compare with: no code, and changed again and again, which no code nearby shall suffer from.
    Cells,
}

const PARTS: usize = 3;

/// Bytes for which the host is asked for memory at a time: one page fault per page of code is much of what it costs.
const STEP: usize = 256 << 10;

/// Bytes of the flag's page.
const FLAG: usize = PAGE as usize;

/// Maps the `size` bytes of `file` such that they can be executed, behind the page of `flag`; returns where they are.
fn map_to_run(size: usize, file: &OwnedFd, flag: &Flag) -> io::Result<NonNull<u8>> {
    let page = flag.page().ok_or(io::ErrorKind::Unsupported)?;
    // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nobody.
    let all = unsafe { mmap_anonymous(null_mut(), size + FLAG, ProtFlags::empty(), MapFlags::PRIVATE) }?;
    let fixed = MapFlags::SHARED | MapFlags::FIXED;
    // SAFETY: both replace what was mapped just now, which nobody knows of yet, and end where it does.
    let mapped = unsafe {
        let code = all.cast::<u8>().add(FLAG);
        mmap(all, FLAG, ProtFlags::READ, fixed, page, 0)
            .and_then(|_| mmap(code.cast(), size, ProtFlags::READ | ProtFlags::EXEC, fixed, file, 0))
    };
    match mapped {
        Ok(code) => NonNull::new(code.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into()),
        Err(e) => {
            // SAFETY: as above.
            let _ = unsafe { munmap(all, size + FLAG) };
            Err(e.into())
        }
    }
}

/// The two mappings.
pub(crate) struct CodeBuffer {
    write: NonNull<u8>,
    execute: NonNull<u8>,
    size: usize,
    /// Where the next code of each part goes.
    next: [usize; PARTS],
    /// Up to where memory was asked for.
    ready: [usize; PARTS],
}

// SAFETY: the mappings belong to this object alone.
unsafe impl Send for CodeBuffer {}

impl CodeBuffer {
    /// A buffer of `size` bytes, a multiple of the host's page size, for code that looks at `flag`; host memory is used as
    /// far as code is written.
    ///
    /// # Errors
    /// Those of the host, which may forbid executable memory.
    pub fn new(size: usize, flag: &Flag) -> io::Result<Self> {
        let file = memfd_create("tearless-code", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, size as u64)?;
        let writes = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nobody.
        let write = unsafe { mmap(null_mut(), size, writes, MapFlags::SHARED, &file, 0) }?;
        let write = NonNull::new(write.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        match map_to_run(size, &file, flag) {
            Ok(execute) => {
                let mut buffer = Self { write, execute, size, next: [0; PARTS], ready: [0; PARTS] };
                buffer.clear(0);
                buffer.ready = buffer.next;
                Ok(buffer)
            }
            Err(e) => {
                // SAFETY: the mapping was made above, and nothing points into it yet.
                let _ = unsafe { munmap(write.as_ptr().cast(), size) };
                Err(e)
            }
        }
    }

    /// The address of the flag.
    pub fn flag(&self) -> u64 {
        self.address(0) - FLAG as u64
    }

    /// The address at which what is appended next to `part` will run.
    pub fn next_address(&self, part: Part) -> u64 {
        self.address(self.next[part as usize] as u32)
    }

    /// The address at which the byte at offset `at` runs.
    pub fn address(&self, at: u32) -> u64 {
        self.execute.as_ptr() as u64 + u64::from(at)
    }

    /// The offset of the code that runs at `address`.
    pub fn offset(&self, address: u64) -> u32 {
        address.wrapping_sub(self.execute.as_ptr() as u64) as u32
    }

    /// Where `part` begins.
    fn start(&self, part: Part) -> usize {
        let sixteenths = match part {
            Part::Hot => 0,
            Part::Cold => 9,
            Part::Cells => 15,
        };
        self.size / 16 * sixteenths & !63
    }

    /// Bytes of the hot part in use.
    pub fn hot_bytes(&self) -> usize {
        self.next[Part::Hot as usize]
    }

    /// Bytes that still fit into each part.
    pub fn room(&self) -> usize {
        let [hot, cold, cells] = self.next;
        let left = (self.start(Part::Cold) - hot).min(self.start(Part::Cells) - cold);
        left.min(self.size - cells)
    }

    /// Appends `code` to `part`, which the caller knows to have [`CodeBuffer::room`] for it.
    pub fn append(&mut self, part: Part, code: &[u8]) {
        assert!(code.len() + 16 <= self.room(), "more code than there is room for");
        while self.next[part as usize] + code.len() > self.ready[part as usize] {
            self.get_ready(part);
        }
        let next = &mut self.next[part as usize];
        // SAFETY: the range is within the mapping, by the check above, and the source is not.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), self.write.as_ptr().add(*next), code.len()) };
        // A fetch of the host starts at a multiple of 16; side paths are rare.
        let align = if part == Part::Hot { 16 } else { 8 };
        *next = (*next + code.len()).next_multiple_of(align);
    }

    /// Asks for memory for more code of `part`.
    fn get_ready(&mut self, part: Part) {
        let at = self.ready[part as usize] / STEP * STEP;
        let end = (at + STEP).min(self.size);
        self.ready[part as usize] = end;
        for (mapping, advice) in
            [(self.write, Advice::LinuxPopulateWrite), (self.execute, Advice::LinuxPopulateRead)]
        {
            // SAFETY: the range is within the mapping, and nothing in it changes. A host that does not know the advice gives
            // memory when it is touched.
            let _ = unsafe { madvise(mapping.as_ptr().add(at).cast(), end - at, advice) };
        }
    }

    /// Overwrites `bytes.len()` bytes at offset `at`.
    pub fn patch(&mut self, at: u32, bytes: &[u8]) {
        let at = at as usize;
        assert!(at + bytes.len() <= self.size, "a patch outside of the code");
        // SAFETY: the range is within the mapping, by the check above, and the source is not.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.write.as_ptr().add(at), bytes.len()) };
    }

    /// Has the 32-bit displacement at offset `at` name `target`. If it does already, nothing is written: the host throws away
    /// what it knows of code that is written to.
    pub fn patch_displacement(&mut self, at: u32, target: u64) {
        let d = (target.wrapping_sub(self.address(at) + 4) as i32).to_le_bytes();
        assert!(at as usize + d.len() <= self.size, "a displacement outside of the code");
        // SAFETY: within the mapping, by the check above, and any four bytes will do.
        let now = unsafe { self.write.as_ptr().add(at as usize).cast::<[u8; 4]>().read() };
        if now != d {
            self.patch(at, &d);
        }
    }

    /// Drops everything but the first `keep` bytes of the hot part.
    pub fn clear(&mut self, keep: usize) {
        self.next = [keep, self.start(Part::Cold), self.start(Part::Cells)];
    }
}

impl Drop for CodeBuffer {
    fn drop(&mut self) {
        // SAFETY: both were mapped in `new`, and no code of a buffer runs when its owner drops it.
        unsafe {
            let _ = munmap(self.write.as_ptr().cast(), self.size);
            let _ = munmap(self.execute.as_ptr().sub(FLAG).cast(), self.size + FLAG);
        }
    }
}
