//! What the host is told of its pages that hold guest memory.
#![allow(unsafe_code)]

use std::{ffi::c_void, io};

use crate::HostRange;

/// Gives back the host pages that lie wholly in `range`, a part of a [`GuestMemory`](crate::GuestMemory). Returns how many
/// bytes that were.
pub(crate) fn discard(range: &HostRange) -> io::Result<usize> {
    let page = rustix::param::page_size();
    let start = range.host.as_ptr() as usize;
    let skip = start.next_multiple_of(page) - start;
    let len = range.len.saturating_sub(skip) / page * page;
    if len == 0 {
        return Ok(0);
    }
    let first = range.host.as_ptr().wrapping_add(skip).cast::<c_void>();
    // SAFETY: the pages from `first` on are whole pages of one mapping of guest memory, which is private, anonymous and
    // alive as long as the `GuestMemory` that the caller borrows the range from. Nobody has a reference into guest memory:
    // all access is by raw pointers and volatile, since the guest may change any of it at any time. To those pointers
    // pages that turn into zeros are a guest that writes zeros.
    unsafe { drop_pages(first, len) }?;
    Ok(len)
}

/// Asks for huge pages in `range`, a part of a [`GuestMemory`](crate::GuestMemory).
#[cfg(target_os = "linux")]
pub(crate) fn prefer_huge_pages(range: &HostRange) -> io::Result<()> {
    use rustix::mm::{Advice, madvise};
    // SAFETY: the range is of one mapping of guest memory, alive as in `discard`; the advice changes how it is backed, not
    // what it holds.
    Ok(unsafe { madvise(range.host.as_ptr().cast(), range.len, Advice::LinuxHugepage) }?)
}

/// There is nothing to ask for.
#[cfg(not(target_os = "linux"))]
pub(crate) fn prefer_huge_pages(_: &HostRange) -> io::Result<()> {
    Ok(())
}

/// # Safety
/// The pages must belong to a private anonymous mapping to whose content nobody has a reference.
#[cfg(target_os = "linux")]
unsafe fn drop_pages(first: *mut c_void, len: usize) -> io::Result<()> {
    use rustix::mm::{Advice, madvise};
    // SAFETY: the caller's promise; the advice frees the pages, and the next access finds a new one of zeros.
    Ok(unsafe { madvise(first, len, Advice::LinuxDontNeed) }?)
}

/// # Safety
/// As on Linux.
#[cfg(not(target_os = "linux"))]
unsafe fn drop_pages(first: *mut c_void, len: usize) -> io::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: the caller's promise; fresh memory takes the place of the old in one step.
    unsafe { mmap_anonymous(first, len, ProtFlags::READ | ProtFlags::WRITE, flags) }?;
    Ok(())
}
