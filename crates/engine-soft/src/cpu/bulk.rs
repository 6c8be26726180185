//! Block accesses: copies and fills of up to a page at once, for the memory copy and set instructions (FEAT_MOPS).

use super::{
    Cpu, Trap,
    mem::{hit_read, hit_write},
    mmu::{Intent, Place},
    phys::PAGE,
    tlb::{Bank, View},
};

/// One side of a block access: where it is, and whether it has the permissions of EL0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side {
    pub va: u64,
    pub user: bool,
}

impl Side {
    /// How many bytes from here are in the same page.
    pub fn after(self) -> u64 {
        PAGE - self.va % PAGE
    }

    /// How many bytes before this address are in one page.
    pub fn before(self) -> u64 {
        (self.va.wrapping_sub(1) & (PAGE - 1)) + 1
    }

    fn plus(self, bytes: u64) -> Self {
        Self { va: self.va.wrapping_add(bytes), ..self }
    }
}

/// Most bytes that are copied or set without a look at what wants attention.
const MOST_QUICK: u64 = 16 * PAGE;

impl Cpu {
    /// Copies `len` bytes, at least one and on either side within a page, as memmove does. Returns how many it copied:
    /// all, or one where a side is not RAM: the first, or the last if `backward`.
    ///
    /// # Errors
    /// As [`Cpu::load`]; nothing was copied then.
    pub fn copy_block(&mut self, to: Side, from: Side, len: u64, backward: bool) -> Result<u64, Trap> {
        let source = self.readable(from, len)?;
        let target = self.writable(to, len)?;
        if let (Place::Ram(source), Place::Ram(target)) = (source, target) {
            // SAFETY: both are host addresses of guest memory, valid to the end of the page in which the block lies.
            // Guest CPUs and devices may access the bytes at the same time; what each of them sees is as undefined as
            // the architecture leaves it, and no Rust object lives there.
            unsafe { std::ptr::copy(source.cast_const(), target, len as usize) };
            return Ok(len);
        }
        let last = if backward { len - 1 } else { 0 };
        let (to, from) = (to.plus(last), from.plus(last));
        let byte: u8 = if from.user { self.load_user(from.va)? } else { self.load(from.va)? };
        self.store_byte(to, byte)?;
        Ok(1)
    }

    /// Sets `len` bytes, at least one and within a page. Returns how many it set: all, or one where there is no RAM.
    ///
    /// # Errors
    /// As [`Cpu::store`]; nothing was set then.
    pub fn set_block(&mut self, to: Side, value: u8, len: u64) -> Result<u64, Trap> {
        if let Place::Ram(target) = self.writable(to, len)? {
            // SAFETY: as in `copy_block`.
            unsafe { std::ptr::write_bytes(target, value, len as usize) };
            return Ok(len);
        }
        self.store_byte(to, value)?;
        Ok(1)
    }

    /// Copies `len` bytes, at most [`MOST_QUICK`], if all pages are known to be RAM that may be accessed so; else nothing is
    /// done. A copy that has to descend is done if it stays within a page on either side.
    pub fn copy_known(&mut self, to: u64, from: u64, len: u64) -> bool {
        let side = |va| Side { va, user: false };
        let within = |va| side(va).after() >= len;
        let single = within(to) && within(from);
        // The top byte of addresses does not count.
        let (low_to, low_from) = (to << 8, from << 8);
        let descends = low_from < low_to && (low_to - low_from) >> 8 < len;
        if len > MOST_QUICK || !self.is_known(from, len, hit_read) || !self.is_known(to, len, hit_write) {
            return false;
        }
        if descends && !single {
            return false;
        }
        let mut done = 0;
        while done < len {
            let (to, from) = (side(to.wrapping_add(done)), side(from.wrapping_add(done)));
            let part = (len - done).min(to.after()).min(from.after());
            let places = (hit_write(self.bank, to.va, part), hit_read(self.bank, from.va, part));
            // They are known, so there are places.
            if let (Some(target), Some(source)) = places {
                // SAFETY: as in `copy_block`.
                unsafe { std::ptr::copy(source.cast_const(), target, part as usize) };
            }
            done += part;
        }
        true
    }

    /// Sets `len` bytes as [`Cpu::copy_known`] copies.
    pub fn set_known(&mut self, to: u64, value: u8, len: u64) -> bool {
        if len > MOST_QUICK || !self.is_known(to, len, hit_write) {
            return false;
        }
        let mut done = 0;
        while done < len {
            let to = Side { va: to.wrapping_add(done), user: false };
            let part = (len - done).min(to.after());
            if let Some(target) = hit_write(self.bank, to.va, part) {
                // SAFETY: as in `copy_block`.
                unsafe { std::ptr::write_bytes(target, value, part as usize) };
            }
            done += part;
        }
        true
    }

    /// Whether the TLB has the pages of `len` bytes at `va`, as `hit` says.
    fn is_known(&self, va: u64, len: u64, hit: impl Fn(*const Bank, u64, u64) -> Option<*mut u8>) -> bool {
        let first = va & !(PAGE - 1);
        let pages = (va - first + len).div_ceil(PAGE);
        (0..pages).all(|i| hit(self.bank, first.wrapping_add(i * PAGE), 1).is_some())
    }

    fn store_byte(&mut self, to: Side, byte: u8) -> Result<(), Trap> {
        if to.user { self.store_user(to.va, byte) } else { self.store(to.va, byte) }
    }

    /// Where `len` bytes to read are.
    fn readable(&mut self, side: Side, len: u64) -> Result<Place, Trap> {
        let bank = if side.user { self.user_bank } else { self.bank };
        match hit_read(bank, side.va, len) {
            Some(at) => Ok(Place::Ram(at)),
            None => self.place(side.va, 1, by(side, Intent::READ)),
        }
    }

    /// Where `len` bytes to write are.
    fn writable(&mut self, side: Side, len: u64) -> Result<Place, Trap> {
        let bank = if side.user { self.user_bank } else { self.bank };
        match hit_write(bank, side.va, len) {
            Some(at) => Ok(Place::Ram(at)),
            None => self.place(side.va, 1, by(side, Intent::WRITE)),
        }
    }
}

fn by(side: Side, intent: Intent) -> Intent {
    if side.user { intent.by(View::User) } else { intent }
}
