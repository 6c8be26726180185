//! The word in which others say that they want a vCPU's attention.
//!
//! Generated code looks at it at every call and in every loop, in one instruction, since the word is at a known distance
//! from the code: it has a page of its own, which is mapped a second time beside the code.

use std::{ops::Deref, ptr::NonNull, sync::atomic::AtomicU32};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// The word.
#[derive(Debug)]
pub(crate) struct Flag {
    word: NonNull<AtomicU32>,
    /// The page that it is in, if it can be mapped again.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    page: Option<OwnedFd>,
}

// SAFETY: the word is atomic, and belongs to this object.
unsafe impl Send for Flag {}
// SAFETY: as for `Send`.
unsafe impl Sync for Flag {}

impl Deref for Flag {
    type Target = AtomicU32;

    fn deref(&self) -> &AtomicU32 {
        // SAFETY: valid until `drop`, and accessed atomically by everybody.
        unsafe { self.word.as_ref() }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod imp {
    use super::*;
    use rustix::{
        fs::{MemfdFlags, ftruncate, memfd_create},
        mm::{MapFlags, ProtFlags, mmap, munmap},
    };

    /// Bytes of the page.
    const SIZE: usize = crate::cpu::PAGE as usize;

    impl Default for Flag {
        /// No attention wanted.
        fn default() -> Self {
            map().unwrap_or_else(|_| Self { word: NonNull::from(Box::leak(Box::default())), page: None })
        }
    }

    fn map() -> std::io::Result<Flag> {
        let page = memfd_create("tearless-flag", MemfdFlags::CLOEXEC)?;
        ftruncate(&page, SIZE as u64)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nobody.
        let at = unsafe { mmap(std::ptr::null_mut(), SIZE, protection, MapFlags::SHARED, &page, 0) }?;
        let word = NonNull::new(at.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Flag { word, page: Some(page) })
    }

    impl Flag {
        /// The page that the word is at the start of; none if the host had none to give.
        pub fn page(&self) -> Option<BorrowedFd<'_>> {
            self.page.as_ref().map(AsFd::as_fd)
        }
    }

    impl Drop for Flag {
        fn drop(&mut self) {
            // SAFETY: it came from `map` or from a box, and nobody refers to it any more.
            unsafe {
                match self.page {
                    Some(_) => drop(munmap(self.word.as_ptr().cast(), SIZE)),
                    None => drop(Box::from_raw(self.word.as_ptr())),
                }
            }
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod imp {
    use super::*;

    impl Default for Flag {
        /// No attention wanted.
        fn default() -> Self {
            Self { word: NonNull::from(Box::leak(Box::default())) }
        }
    }

    impl Drop for Flag {
        fn drop(&mut self) {
            // SAFETY: it came from a box, and nobody refers to it any more.
            drop(unsafe { Box::from_raw(self.word.as_ptr()) });
        }
    }
}
