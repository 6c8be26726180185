//! Guest memory through host pointers: the only loads, stores and compare-exchanges that touch guest RAM.
//!
//! Other vCPUs, device threads and the guest's own page table walks access the same bytes at the same time. Accesses
//! are therefore volatile or atomic, never plain Rust references, and a value that was read is never assumed to be
//! read equal again.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// An integer that one memory access transfers.
pub(crate) trait Unit: Copy + Eq + Send + 'static {
    /// Its size in bytes: 1, 2, 4, 8 or 16.
    const SIZE: u64;
    /// The low bits of `value`.
    fn truncate(value: u128) -> Self;
    /// Zero-extended.
    fn widen(self) -> u128;

    /// Reads little-endian, in one host access where the host can; any alignment.
    ///
    /// # Safety
    /// `at` is valid for reads of [`Unit::SIZE`] bytes of guest memory.
    unsafe fn read(at: *const u8) -> Self;

    /// Writes little-endian, in one host access where the host can; any alignment.
    ///
    /// # Safety
    /// `at` is valid for writes of [`Unit::SIZE`] bytes of guest memory.
    unsafe fn write(at: *mut u8, value: Self);

    /// Sequentially consistent compare-exchange; returns the value that was there.
    ///
    /// # Safety
    /// As [`Unit::write`], and `at` is a multiple of [`Unit::SIZE`].
    unsafe fn compare_exchange(at: *mut u8, expected: Self, new: Self) -> Self;
}

/// Gives a type alignment 1, so that a volatile access of it is one unaligned host access.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned<T>(T);

macro_rules! unit {
    ($($t:ty, $atomic:ty;)*) => { $(
        impl Unit for $t {
            const SIZE: u64 = size_of::<$t>() as u64;
            #[inline(always)]
            fn truncate(value: u128) -> Self {
                value as $t
            }
            #[inline(always)]
            fn widen(self) -> u128 {
                u128::from(self)
            }
            #[inline(always)]
            unsafe fn read(at: *const u8) -> Self {
                // SAFETY: valid for reads by the caller; the packed type has alignment 1.
                <$t>::from_le(unsafe { at.cast::<Unaligned<$t>>().read_volatile() }.0)
            }
            #[inline(always)]
            unsafe fn write(at: *mut u8, value: Self) {
                // SAFETY: valid for writes by the caller; the packed type has alignment 1.
                unsafe { at.cast::<Unaligned<$t>>().write_volatile(Unaligned(value.to_le())) }
            }
            #[inline(always)]
            unsafe fn compare_exchange(at: *mut u8, expected: Self, new: Self) -> Self {
                // SAFETY: valid and aligned by the caller, and guest memory lives as long as its mapping.
                let atomic = unsafe { <$atomic>::from_ptr(at.cast()) };
                match atomic.compare_exchange(
                    expected.to_le(),
                    new.to_le(),
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                ) {
                    Ok(old) | Err(old) => <$t>::from_le(old),
                }
            }
        }
    )* };
}

unit! {
    u8, AtomicU8;
    u16, AtomicU16;
    u32, AtomicU32;
    u64, AtomicU64;
}

#[cfg(target_arch = "x86_64")]
mod wide {
    //! 16 bytes on x86-64: SSE moves, which processors with AVX do as one access when aligned, and CMPXCHG16B.
    use super::Unaligned;
    use std::{
        arch::{asm, x86_64::__m128i},
        mem::transmute,
    };

    /// # Safety
    /// See [`super::Unit::read`].
    #[inline(always)]
    pub(super) unsafe fn read(at: *const u8) -> u128 {
        // SAFETY: valid for reads by the caller; the packed type has alignment 1.
        let value: __m128i = unsafe { at.cast::<Unaligned<__m128i>>().read_volatile() }.0;
        // SAFETY: both are 16 bytes of plain data.
        unsafe { transmute(value) }
    }

    /// # Safety
    /// See [`super::Unit::write`].
    #[inline(always)]
    pub(super) unsafe fn write(at: *mut u8, value: u128) {
        // SAFETY: both are 16 bytes of plain data.
        let value: __m128i = unsafe { transmute(value) };
        // SAFETY: valid for writes by the caller; the packed type has alignment 1.
        unsafe { at.cast::<Unaligned<__m128i>>().write_volatile(Unaligned(value)) }
    }

    /// # Safety
    /// See [`super::Unit::compare_exchange`]; the processor has CMPXCHG16B, which `SoftVm::new` checks.
    #[inline]
    pub(super) unsafe fn compare_exchange(at: *mut u8, expected: u128, new: u128) -> u128 {
        let (mut low, mut high) = (expected as u64, (expected >> 64) as u64);
        // The standard library's intrinsic becomes a call of a library that is not there when it is inlined into a
        // function without the target feature, hence assembly. The compiler keeps RBX to itself, hence the exchange.
        // SAFETY: valid and aligned by the caller; RBX is restored.
        unsafe {
            asm!(
                "xchg rbx, rsi",
                "lock cmpxchg16b [rdi]",
                "mov rbx, rsi",
                in("rdi") at,
                inout("rsi") new as u64 => _,
                inout("rax") low,
                inout("rdx") high,
                in("rcx") (new >> 64) as u64,
                options(nostack),
            );
        }
        u128::from(low) | u128::from(high) << 64
    }
}

#[cfg(target_arch = "aarch64")]
mod wide {
    //! 16 bytes on AArch64: register pairs, and an exclusive pair loop.
    use super::Unit;
    use std::arch::asm;

    /// # Safety
    /// See [`super::Unit::read`].
    #[inline(always)]
    pub(super) unsafe fn read(at: *const u8) -> u128 {
        let (low, high): (u64, u64);
        // SAFETY: valid for reads by the caller; LDP takes any alignment of Normal memory.
        unsafe {
            asm!("ldp {}, {}, [{}]", out(reg) low, out(reg) high, in(reg) at, options(nostack, readonly))
        };
        u128::from(low) | u128::from(high) << 64
    }

    /// # Safety
    /// See [`super::Unit::write`].
    #[inline(always)]
    pub(super) unsafe fn write(at: *mut u8, value: u128) {
        let (low, high) = (value as u64, (value >> 64) as u64);
        // SAFETY: valid for writes by the caller; STP takes any alignment of Normal memory.
        unsafe { asm!("stp {}, {}, [{}]", in(reg) low, in(reg) high, in(reg) at, options(nostack)) };
    }

    /// # Safety
    /// See [`super::Unit::compare_exchange`].
    pub(super) unsafe fn compare_exchange(at: *mut u8, expected: u128, new: u128) -> u128 {
        let (want_low, want_high) = (expected as u64, (expected >> 64) as u64);
        let (new_low, new_high) = (new as u64, (new >> 64) as u64);
        let (low, high): (u64, u64);
        // SAFETY: valid and aligned by the caller; only the named registers and the 16 bytes change.
        unsafe {
            asm!(
                "2: ldaxp {low}, {high}, [{at}]",
                "cmp {low}, {want_low}",
                "ccmp {high}, {want_high}, #0, eq",
                "b.ne 3f",
                "stlxp {status:w}, {new_low}, {new_high}, [{at}]",
                "cbnz {status:w}, 2b",
                "3:",
                at = in(reg) at, want_low = in(reg) want_low, want_high = in(reg) want_high,
                new_low = in(reg) new_low, new_high = in(reg) new_high,
                low = out(reg) low, high = out(reg) high, status = out(reg) _,
                options(nostack),
            );
        }
        u128::truncate(u128::from(low) | u128::from(high) << 64)
    }
}

impl Unit for u128 {
    const SIZE: u64 = 16;
    #[inline(always)]
    fn truncate(value: u128) -> Self {
        value
    }
    #[inline(always)]
    fn widen(self) -> u128 {
        self
    }
    #[inline(always)]
    unsafe fn read(at: *const u8) -> Self {
        // SAFETY: the same contract.
        unsafe { wide::read(at) }
    }
    #[inline(always)]
    unsafe fn write(at: *mut u8, value: Self) {
        // SAFETY: the same contract.
        unsafe { wide::write(at, value) }
    }
    #[inline]
    unsafe fn compare_exchange(at: *mut u8, expected: Self, new: Self) -> Self {
        // SAFETY: the same contract; on x86-64 the instruction exists, see `supported`.
        unsafe { wide::compare_exchange(at, expected, new) }
    }
}

/// Whether this host's processor has what the accesses above need.
///
/// # Errors
/// Says what is missing.
pub(crate) fn supported() -> Result<(), String> {
    #[cfg(target_arch = "x86_64")]
    if !std::arch::is_x86_feature_detected!("cmpxchg16b") {
        return Err("the processor lacks CMPXCHG16B, which atomic pairs of the guest need".into());
    }
    Ok(())
}
