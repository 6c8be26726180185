//! Memory for generated code: one file in memory, mapped twice.
//!
//! One mapping can be written, the other executed, and none both (W^X). Code is appended to one of two parts, what is
//! executed often and what is not, so that the host's instruction cache holds the former only; a third part is data that
//! code compares with. All of it is dropped at once.
//!
//! In front of the mapping that is executed are the page of the vCPU's [`Flag`] and the jump cache, so that code finds them
//! by its own address.

use std::{
    io,
    ptr::{NonNull, null_mut},
};

use rustix::{
    fd::OwnedFd,
    fs::{MemfdFlags, ftruncate, memfd_create},
    mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap},
};

use super::thunks::{JUMP_ENTRIES, JumpEntry};
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

/// Bytes of the flag's page, and of the jump cache, which begins at a multiple of its size.
const FLAG: usize = PAGE as usize;
const JUMPS: usize = JUMP_ENTRIES * size_of::<JumpEntry>();

const WRITABLE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// What generated code finds by its own address: the jump cache, the flag, and the code, one behind the other.
struct Region {
    at: NonNull<u8>,
    size: usize,
    jumps: NonNull<JumpEntry>,
    execute: NonNull<u8>,
}

impl Region {
    /// One with the `size` bytes of code in `file`.
    fn new(size: usize, file: &OwnedFd, flag: &Flag) -> io::Result<Self> {
        let page = flag.page().ok_or(io::ErrorKind::Unsupported)?;
        let all = 2 * JUMPS + FLAG + size;
        // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nobody.
        let at = unsafe { mmap_anonymous(null_mut(), all, ProtFlags::empty(), MapFlags::PRIVATE) }?;
        let at = NonNull::new(at.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the first multiple of the table's size is within the first of its two sizes.
        let (jumps, execute) = unsafe {
            let jumps = at.add(at.align_offset(JUMPS));
            (jumps, jumps.add(JUMPS + FLAG))
        };
        let region = Self { at, size: all, jumps: jumps.cast(), execute };
        let fixed = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: all three replace parts of what was mapped just now, which nobody knows of yet.
        unsafe {
            let flag = execute.sub(FLAG).as_ptr().cast();
            mprotect(jumps.as_ptr().cast(), JUMPS, MprotectFlags::READ | MprotectFlags::WRITE)?;
            // A host without huge pages has small ones.
            let _ = madvise(jumps.as_ptr().cast(), JUMPS, Advice::LinuxHugepage);
            mmap(flag, FLAG, ProtFlags::READ, fixed, page, 0)?;
            mmap(execute.as_ptr().cast(), size, ProtFlags::READ | ProtFlags::EXEC, fixed, file, 0)?;
        }
        Ok(region)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: it was mapped in `new`, and no code of it runs when its owner drops it.
        let _ = unsafe { munmap(self.at.as_ptr().cast(), self.size) };
    }
}

/// The two mappings.
pub(crate) struct CodeBuffer {
    write: NonNull<u8>,
    region: Region,
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
        // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nobody.
        let write = unsafe { mmap(null_mut(), size, WRITABLE, MapFlags::SHARED, &file, 0) }?;
        let write = NonNull::new(write.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        match Region::new(size, &file, flag) {
            Ok(region) => {
                let mut buffer = Self { write, region, size, next: [0; PARTS], ready: [0; PARTS] };
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

    /// The address of the jump cache.
    pub fn jumps(&self) -> u64 {
        self.region.jumps.as_ptr() as u64
    }

    /// Where entry `index` of the jump cache is for writing.
    fn jump(&self, index: usize) -> *mut JumpEntry {
        assert!(index < JUMP_ENTRIES, "an entry outside of the jump cache");
        // SAFETY: within the table, by the check above.
        unsafe { self.region.jumps.as_ptr().add(index) }
    }

    /// Entry `index` of the jump cache.
    pub fn read_jump(&self, index: usize) -> JumpEntry {
        // SAFETY: valid and aligned; all bytes are numbers, which only this object writes.
        unsafe { self.jump(index).read() }
    }

    /// Enters `entry` into the jump cache.
    pub fn write_jump(&mut self, index: usize, entry: JumpEntry) {
        // SAFETY: as in `read_jump`.
        unsafe { self.jump(index).write(entry) };
    }

    /// Empties the jump cache.
    pub fn clear_jumps(&mut self) {
        (0..JUMP_ENTRIES).for_each(|index| self.write_jump(index, JumpEntry::default()));
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
        self.region.execute.as_ptr() as u64 + u64::from(at)
    }

    /// The offset of the code that runs at `address`.
    pub fn offset(&self, address: u64) -> u32 {
        address.wrapping_sub(self.region.execute.as_ptr() as u64) as u32
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
            [(self.write, Advice::LinuxPopulateWrite), (self.region.execute, Advice::LinuxPopulateRead)]
        {
            // SAFETY: the range is within the mapping, and nothing in it changes. A host that does not know the advice gives
            // memory when it is touched.
            let _ = unsafe { madvise(mapping.as_ptr().add(at).cast(), end - at, advice) };
        }
    }

    /// The `N` bytes at offset `at`.
    pub fn read<const N: usize>(&self, at: u32) -> [u8; N] {
        assert!(at as usize + N <= self.size, "a look outside of the code");
        // SAFETY: within the mapping, by the check above, and any bytes will do.
        unsafe { self.write.as_ptr().add(at as usize).cast::<[u8; N]>().read() }
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
        if self.read(at) != d {
            self.patch(at, &d);
        }
    }

    /// What the 32-bit displacement at offset `at` names.
    pub fn target(&self, at: u32) -> u64 {
        let d = i32::from_le_bytes(self.read(at));
        (self.address(at) + 4).wrapping_add(i64::from(d) as u64)
    }

    /// Drops everything but the first `keep` bytes of the hot part.
    pub fn clear(&mut self, keep: usize) {
        self.next = [keep, self.start(Part::Cold), self.start(Part::Cells)];
    }
}

impl Drop for CodeBuffer {
    fn drop(&mut self) {
        // SAFETY: it was mapped in `new`, and nobody else knows of it.
        let _ = unsafe { munmap(self.write.as_ptr().cast(), self.size) };
    }
}
