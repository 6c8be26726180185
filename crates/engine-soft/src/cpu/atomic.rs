//! Atomic read-modify-write and exclusive accesses (Arm ARM B2.9, C6.2 LDADD, CAS, LDXR, STXR).
//!
//! Atomics are compare-exchange loops on guest memory. The exclusive monitor remembers the host address and the value
//! that LDXR saw; STXR is a compare-exchange against that value. It succeeds in some cases where a real monitor would
//! have been cleared (the value was changed and changed back), which no correct lock or counter notices, since the
//! architecture promises failure only for a changed location and LL/SC sequences that would care need not make progress.

use super::{
    Cpu, Trap,
    host::Unit,
    mem::within_16_bytes,
    mmu::{Intent, Place},
    phys::PAGE,
    tlb::data_index,
};
use tearless_arm64::esr::fsc;

/// The local exclusive monitor.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Monitor {
    /// Host address, 0 when the state is open access.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// What was there.
    pub value: u128,
}

/// What an atomic instruction does to its location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Update {
    /// LDADD, CAS and their kin.
    ReadWrite,
    /// A store-exclusive.
    Write,
}

impl Update {
    /// What a fault that is not one of permission reports.
    fn intent(self) -> Intent {
        match self {
            Self::ReadWrite => Intent::READ,
            Self::Write => Intent::WRITE,
        }
    }
}

impl Cpu {
    /// Replaces the `T` at `va` by `f` of it, atomically and sequentially consistently; returns the old one.
    ///
    /// # Errors
    /// When the access takes an exception.
    #[inline(always)]
    pub fn rmw<T: Unit>(&mut self, va: u64, f: impl Fn(T) -> T) -> Result<T, Trap> {
        if !va.is_multiple_of(T::SIZE) {
            return self.rmw_unaligned(va, f);
        }
        let at = self.atomic_place(va, T::SIZE, Update::ReadWrite)?;
        // SAFETY: `atomic_place` returns aligned, writable guest memory.
        let mut seen = unsafe { T::read(at) };
        loop {
            // SAFETY: as above.
            let old = unsafe { T::compare_exchange(at, seen, f(seen)) };
            if old == seen {
                return Ok(old);
            }
            seen = old;
        }
    }

    /// Stores `new` at `va` if `expected` is there; returns what was there.
    ///
    /// # Errors
    /// As [`Cpu::rmw`].
    #[inline(always)]
    pub fn cas<T: Unit>(&mut self, va: u64, expected: T, new: T) -> Result<T, Trap> {
        if !va.is_multiple_of(T::SIZE) {
            return self.rmw_unaligned(va, |old: T| if old == expected { new } else { old });
        }
        let at = self.atomic_place(va, T::SIZE, Update::ReadWrite)?;
        // SAFETY: as in `rmw`.
        Ok(unsafe { T::compare_exchange(at, expected, new) })
    }

    /// [`Cpu::rmw`] of a location that is not aligned: within 16 bytes, FEAT_LSE2 makes it work on Normal memory.
    #[cold]
    #[inline(never)]
    fn rmw_unaligned<T: Unit>(&mut self, va: u64, f: impl Fn(T) -> T) -> Result<T, Trap> {
        if !within_16_bytes(va, T::SIZE) {
            return Err(self.alignment_fault(va, Intent::READ));
        }
        let at = self.atomic_place_slow(va, T::SIZE, Update::ReadWrite)?;
        // SAFETY: `at` is writable guest memory, and it does not leave 16 aligned bytes.
        Ok(unsafe { replace_within_16(at, f) })
    }

    /// Load-exclusive: LDXR, LDAXR; LDXP as one access of twice the size.
    ///
    /// # Errors
    /// As [`Cpu::load`](Cpu::load); and when the access is not aligned as FEAT_LSE2 requires.
    #[inline(always)]
    pub fn load_exclusive<T: Unit>(&mut self, va: u64) -> Result<T, Trap> {
        if !va.is_multiple_of(T::SIZE) && !within_16_bytes(va, T::SIZE) {
            return Err(self.alignment_fault(va, Intent::READ));
        }
        let at = match self.place_of_read(va, T::SIZE)? {
            Place::Ram(at) => at,
            Place::Mmio(_) => return Err(self.unsupported_exclusive(va, Intent::READ)),
        };
        // SAFETY: the place is readable guest memory.
        let value = unsafe { T::read(at) };
        std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
        self.monitor = Monitor { address: at as u64, size: T::SIZE, value: value.widen() };
        Ok(value)
    }

    /// Store-exclusive: whether `value` was stored.
    ///
    /// # Errors
    /// As [`Cpu::store`](Cpu::store); and when the access is not aligned as FEAT_LSE2 requires.
    #[inline(always)]
    pub fn store_exclusive<T: Unit>(&mut self, va: u64, value: T) -> Result<bool, Trap> {
        if !va.is_multiple_of(T::SIZE) && !within_16_bytes(va, T::SIZE) {
            return Err(self.alignment_fault(va, Intent::WRITE));
        }
        let monitor = self.monitor;
        if monitor.address == 0 {
            return Ok(false);
        }
        let at = self.atomic_place(va, T::SIZE, Update::Write)?;
        self.clear_exclusive();
        if (monitor.address, monitor.size) != (at as u64, T::SIZE) {
            return Ok(false);
        }
        let expected = T::truncate(monitor.value);
        if !va.is_multiple_of(T::SIZE) {
            // SAFETY: as in `rmw_unaligned`.
            let old = unsafe { replace_within_16(at, |old| if old == expected { value } else { old }) };
            return Ok(old == expected);
        }
        // SAFETY: as in `rmw`.
        Ok(unsafe { T::compare_exchange(at, expected, value) } == expected)
    }

    /// The state of the exclusive monitor: host address, or 0; bytes; what was there.
    pub fn exclusive(&self) -> (u64, u64, u128) {
        let Monitor { address, size, value } = self.monitor;
        (address, size, value)
    }

    /// Makes it what [`Cpu::exclusive`] returned.
    pub fn set_exclusive(&mut self, (address, size, value): (u64, u64, u128)) {
        self.monitor = Monitor { address, size, value };
    }

    /// CLREX, and what exception returns do.
    #[inline(always)]
    pub fn clear_exclusive(&mut self) {
        self.monitor.address = 0;
    }

    /// Where a readable location is in host memory.
    #[inline(always)]
    fn place_of_read(&mut self, va: u64, size: u64) -> Result<Place, Trap> {
        // SAFETY: the bank pointers of a Cpu are valid banks of its Tlb.
        let (bank, index) = (unsafe { &*self.bank }, data_index(va));
        if bank.read[index] == va / PAGE {
            return Ok(Place::Ram(va.wrapping_add(bank.addend[index]) as *mut u8));
        }
        self.place(va, size, Intent::READ)
    }

    /// The host address of `size` bytes at `va`, which do not leave 16 aligned bytes, for an atomic update: writable and
    /// readable. Only naturally aligned ones take the fast path.
    #[inline(always)]
    fn atomic_place(&mut self, va: u64, size: u64, update: Update) -> Result<*mut u8, Trap> {
        // SAFETY: as in `place_of_read`.
        let (bank, index) = (unsafe { &*self.bank }, data_index(va));
        let is_writable = bank.write[index] == va / PAGE && bank.read[index] == va / PAGE;
        if is_writable && va.is_multiple_of(size) {
            return Ok(va.wrapping_add(bank.addend[index]) as *mut u8);
        }
        self.atomic_place_slow(va, size, update)
    }

    #[cold]
    #[inline(never)]
    fn atomic_place_slow(&mut self, va: u64, size: u64, update: Update) -> Result<*mut u8, Trap> {
        if update == Update::ReadWrite {
            // A fault that a read would take as well is reported as one of a read (ESR_ELx.ISS.WnR).
            self.place(va, size, Intent::READ)?;
        }
        match self.place(va, size, Intent::WRITE)? {
            Place::Ram(at) => Ok(at),
            Place::Mmio(_) => Err(self.unsupported_exclusive(va, update.intent())),
        }
    }

    #[cold]
    fn unsupported_exclusive(&mut self, va: u64, intent: Intent) -> Trap {
        self.data_abort(va, fsc::UNSUPPORTED_EXCLUSIVE, intent)
    }
}

/// Replaces the `T` at `at`, of any alignment, by `f` of it, through the aligned 16 bytes around it; returns the old one.
///
/// # Safety
/// `at` is writable guest memory, and the `T` there does not leave 16 aligned bytes (which are then in its page).
#[cold]
#[inline(never)]
unsafe fn replace_within_16<T: Unit>(at: *mut u8, f: impl Fn(T) -> T) -> T {
    let offset = at as usize & 15;
    let window = at.wrapping_sub(offset);
    let shift = 8 * offset;
    let mask = (u128::MAX >> (128 - 8 * T::SIZE)) << shift;
    // SAFETY: pages are whole, so the window is guest memory as its part is; it is aligned.
    let mut seen = unsafe { u128::read(window) };
    loop {
        let old = T::truncate(seen >> shift);
        let new = seen & !mask | f(old).widen() << shift;
        // SAFETY: as above.
        let found = unsafe { u128::compare_exchange(window, seen, new) };
        if found == seen {
            return old;
        }
        seen = found;
    }
}
