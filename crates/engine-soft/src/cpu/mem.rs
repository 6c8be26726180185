//! Loads and stores.
//!
//! The fast path is a tag compare in the current bank of the soft TLB. It covers accesses of any alignment that stay
//! within a page of RAM; whatever else there is (misses, page crossings, Device memory, MMIO, alignment checking,
//! watchpoints) keeps invalid tags and takes the slow path.

use std::sync::atomic::{Ordering, fence};

use super::{
    Cpu, Stop, Trap,
    host::Unit,
    mmu::{Intent, Place},
    phys::PAGE,
    tlb::{Bank, View, data_index},
};

/// `SCTLR_EL1.nAA`: ordered accesses need not stay within 16 bytes.
const SCTLR_NAA: u32 = 6;

/// What a tag must equal for an access of `size` bytes at `va`: the page of its last byte, at the index of its first one, so
/// that an access that crosses pages never hits.
#[inline(always)]
fn wanted(va: u64, size: u64) -> u64 {
    va.wrapping_add(size - 1) / PAGE
}

/// The host address of `size` readable bytes.
#[inline(always)]
pub(super) fn hit_read(bank: *const Bank, va: u64, size: u64) -> Option<*mut u8> {
    // SAFETY: the bank pointers of a Cpu are valid banks of its Tlb, see `Cpu::select_banks`.
    let (bank, index) = (unsafe { &*bank }, data_index(va));
    (bank.read[index] == wanted(va, size)).then(|| va.wrapping_add(bank.addend[index]) as *mut u8)
}

/// The host address of `size` writable bytes.
#[inline(always)]
pub(super) fn hit_write(bank: *const Bank, va: u64, size: u64) -> Option<*mut u8> {
    // SAFETY: as in `hit_read`.
    let (bank, index) = (unsafe { &*bank }, data_index(va));
    (bank.write[index] == wanted(va, size)).then(|| va.wrapping_add(bank.addend[index]) as *mut u8)
}

impl Cpu {
    /// Whether the page at `va` is in the current bank, for writing if `writes`, or can be had there without taking an
    /// exception.
    pub fn fill_bank(&mut self, va: u64, writes: bool) -> bool {
        let intent = if writes { Intent::WRITE } else { Intent::READ };
        if self.place(va, 1, intent).is_err() {
            self.stop = Stop::Continue;
            return false;
        }
        let at = if writes { hit_write(self.bank, va, 1) } else { hit_read(self.bank, va, 1) };
        at.is_some()
    }

    /// Loads a `T` from `va`, little-endian.
    ///
    /// # Errors
    /// When the access takes an exception or needs the machine.
    #[inline(always)]
    pub fn load<T: Unit>(&mut self, va: u64) -> Result<T, Trap> {
        match self.load_hit(va) {
            Some(value) => Ok(value),
            None => self.load_slow(va, Intent::READ),
        }
    }

    /// The fast half of [`Cpu::load`]: a load that needs nothing but a TLB entry which is there.
    #[inline(always)]
    pub fn load_hit<T: Unit>(&self, va: u64) -> Option<T> {
        // SAFETY: a read tag equal to the wanted page means that the page's host memory is mapped and readable.
        hit_read(self.bank, va, T::SIZE).map(|at| unsafe { T::read(at) })
    }

    /// Stores `value` to `va`, little-endian.
    ///
    /// # Errors
    /// As [`Cpu::load`]; no byte is written then.
    #[inline(always)]
    pub fn store<T: Unit>(&mut self, va: u64, value: T) -> Result<(), Trap> {
        if self.store_hit(va, value) { Ok(()) } else { self.store_slow(va, value, Intent::WRITE) }
    }

    /// The fast half of [`Cpu::store`]: whether it could be done by a TLB entry which is there, and was.
    #[inline(always)]
    pub fn store_hit<T: Unit>(&mut self, va: u64, value: T) -> bool {
        // SAFETY: a write tag equal to the wanted page means that the page's host memory may be written.
        hit_write(self.bank, va, T::SIZE).map(|at| unsafe { T::write(at, value) }).is_some()
    }

    /// Two adjacent loads, as LDP does them.
    ///
    /// # Errors
    /// As [`Cpu::load`].
    #[inline(always)]
    pub fn load_pair<T: Unit>(&mut self, va: u64) -> Result<(T, T), Trap> {
        match self.load_pair_hit(va) {
            Some(values) => Ok(values),
            None => Ok((self.load(va)?, self.load(va.wrapping_add(T::SIZE))?)),
        }
    }

    /// The fast half of [`Cpu::load_pair`], as [`Cpu::load_hit`].
    #[inline(always)]
    pub fn load_pair_hit<T: Unit>(&self, va: u64) -> Option<(T, T)> {
        // SAFETY: as in `load_hit`, for both halves.
        hit_read(self.bank, va, 2 * T::SIZE)
            .map(|at| unsafe { (T::read(at), T::read(at.add(T::SIZE as usize))) })
    }

    /// Two adjacent stores, as STP does them.
    ///
    /// # Errors
    /// As [`Cpu::load`]; no byte of RAM is written then.
    #[inline(always)]
    pub fn store_pair<T: Unit>(&mut self, va: u64, values: (T, T)) -> Result<(), Trap> {
        if self.store_pair_hit(va, values) {
            return Ok(());
        }
        self.check_write(va, 2 * T::SIZE)?;
        self.store(va, values.0)?;
        self.store(va.wrapping_add(T::SIZE), values.1)
    }

    /// The fast half of [`Cpu::store_pair`], as [`Cpu::store_hit`].
    #[inline(always)]
    pub fn store_pair_hit<T: Unit>(&mut self, va: u64, values: (T, T)) -> bool {
        let Some(at) = hit_write(self.bank, va, 2 * T::SIZE) else { return false };
        // SAFETY: as in `store_hit`, for both halves.
        unsafe {
            T::write(at, values.0);
            T::write(at.add(T::SIZE as usize), values.1);
        }
        true
    }

    /// Loads with the permissions of EL0: LDTR.
    ///
    /// # Errors
    /// As [`Cpu::load`].
    #[inline(always)]
    pub fn load_user<T: Unit>(&mut self, va: u64) -> Result<T, Trap> {
        match hit_read(self.user_bank, va, T::SIZE) {
            // SAFETY: as in `load`.
            Some(at) => Ok(unsafe { T::read(at) }),
            None => self.load_slow(va, Intent::READ.by(View::User)),
        }
    }

    /// Stores with the permissions of EL0: STTR.
    ///
    /// # Errors
    /// As [`Cpu::store`].
    #[inline(always)]
    pub fn store_user<T: Unit>(&mut self, va: u64, value: T) -> Result<(), Trap> {
        match hit_write(self.user_bank, va, T::SIZE) {
            Some(at) => {
                // SAFETY: as in `store`.
                unsafe { T::write(at, value) };
                Ok(())
            }
            None => self.store_slow(va, value, Intent::WRITE.by(View::User)),
        }
    }

    /// Load-acquire, and load-acquire PC: LDAR, LDAPR.
    ///
    /// # Errors
    /// As [`Cpu::load`]; and when the access is not aligned as FEAT_LSE2 requires.
    #[inline(always)]
    pub fn load_acquire<T: Unit>(&mut self, va: u64) -> Result<T, Trap> {
        if !within_16_bytes(va, T::SIZE) && !self.sctlr_bit(SCTLR_NAA) {
            return Err(self.alignment_fault(va, Intent::READ));
        }
        let value = self.load(va)?;
        fence(Ordering::Acquire);
        Ok(value)
    }

    /// Store-release: STLR, STLUR.
    ///
    /// # Errors
    /// As [`Cpu::load_acquire`].
    #[inline(always)]
    pub fn store_release<T: Unit>(&mut self, va: u64, value: T) -> Result<(), Trap> {
        if !within_16_bytes(va, T::SIZE) && !self.sctlr_bit(SCTLR_NAA) {
            return Err(self.alignment_fault(va, Intent::WRITE));
        }
        fence(Ordering::Release);
        self.store(va, value)?;
        // A later load-acquire must not be satisfied before this store is seen (Arm ARM B2.3.11).
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Checks that `len` (at most 4096) bytes at `va` may be written, without writing: for instructions that store in
    /// several parts and must not fault in the middle.
    ///
    /// # Errors
    /// As [`Cpu::store`].
    #[inline(always)]
    pub fn check_write(&mut self, va: u64, len: u64) -> Result<(), Trap> {
        if hit_write(self.bank, va, len).is_some() {
            return Ok(());
        }
        self.check_slow(va, len, Intent::WRITE)
    }

    #[cold]
    #[inline(never)]
    fn check_slow(&mut self, va: u64, len: u64, intent: Intent) -> Result<(), Trap> {
        self.place_part(va, 1, intent)?;
        if crosses(va, len) {
            self.place_part(next_page(va), 1, intent)?;
        }
        Ok(())
    }

    /// As [`Cpu::place`], for what may well be in a bank: stacks and structures cross page boundaries again and again.
    fn place_part(&mut self, va: u64, size: u64, intent: Intent) -> Result<Place, Trap> {
        let bank = match intent.view {
            None => self.bank,
            Some(View::User) => self.user_bank,
            Some(_) => return self.place(va, size, intent),
        };
        let hit = if intent.write { hit_write(bank, va, size) } else { hit_read(bank, va, size) };
        hit.map_or_else(|| self.place(va, size, intent), |at| Ok(Place::Ram(at)))
    }

    #[cold]
    #[inline(never)]
    fn load_slow<T: Unit>(&mut self, va: u64, intent: Intent) -> Result<T, Trap> {
        if crosses(va, T::SIZE) {
            return self.load_crossing(va, intent);
        }
        match self.place(va, T::SIZE, intent)? {
            // SAFETY: `place` returns host addresses that are valid for the access that it was asked for.
            Place::Ram(at) => Ok(unsafe { T::read(at) }),
            Place::Mmio(gpa) => self.mmio_load(gpa),
        }
    }

    #[cold]
    #[inline(never)]
    fn store_slow<T: Unit>(&mut self, va: u64, value: T, intent: Intent) -> Result<(), Trap> {
        if crosses(va, T::SIZE) {
            return self.store_crossing(va, value, intent);
        }
        match self.place(va, T::SIZE, intent)? {
            // SAFETY: as in `load_slow`.
            Place::Ram(at) => unsafe { T::write(at, value) },
            Place::Mmio(gpa) => self.mmio_store(gpa, value)?,
        }
        Ok(())
    }

    /// An access to two pages: byte by byte, after the checks of both.
    fn load_crossing<T: Unit>(&mut self, va: u64, intent: Intent) -> Result<T, Trap> {
        let places = self.both_places(va, T::SIZE, intent)?;
        let mut value = 0;
        for i in 0..T::SIZE {
            let byte: u8 = match places.of(va, i) {
                // SAFETY: as in `load_slow`; the byte lies in the page that was asked for.
                Place::Ram(at) => unsafe { u8::read(at) },
                Place::Mmio(gpa) => self.mmio_load(gpa)?,
            };
            value |= u128::from(byte) << (8 * i);
        }
        Ok(T::truncate(value))
    }

    fn store_crossing<T: Unit>(&mut self, va: u64, value: T, intent: Intent) -> Result<(), Trap> {
        let places = self.both_places(va, T::SIZE, intent)?;
        for i in 0..T::SIZE {
            let byte = (value.widen() >> (8 * i)) as u8;
            match places.of(va, i) {
                // SAFETY: as in `load_crossing`.
                Place::Ram(at) => unsafe { u8::write(at, byte) },
                Place::Mmio(gpa) => self.mmio_store(gpa, byte)?,
            }
        }
        Ok(())
    }

    fn both_places(&mut self, va: u64, size: u64, intent: Intent) -> Result<Places, Trap> {
        let intent = Intent { partial: true, ..intent };
        let boundary = next_page(va);
        let left = boundary.wrapping_sub(va);
        let first = self.place_part(va, left, intent)?;
        let second = self.place_part(boundary, size - left, intent)?;
        Ok(Places { first, second, boundary })
    }
}

/// Whether an access stays within an aligned window of 16 bytes, in which FEAT_LSE2 makes it single-copy atomic.
#[inline(always)]
pub(super) fn within_16_bytes(va: u64, size: u64) -> bool {
    (va & 15) + size <= 16
}

#[inline(always)]
fn crosses(va: u64, size: u64) -> bool {
    (va & (PAGE - 1)) + size > PAGE
}

fn next_page(va: u64) -> u64 {
    (va & !(PAGE - 1)).wrapping_add(PAGE)
}

/// Where the two parts of an access that crosses a page boundary are.
struct Places {
    first: Place,
    second: Place,
    boundary: u64,
}

impl Places {
    fn of(&self, va: u64, i: u64) -> Place {
        let in_first = self.boundary.wrapping_sub(va);
        let (place, offset) = if i < in_first { (self.first, i) } else { (self.second, i - in_first) };
        place.plus(offset)
    }
}
