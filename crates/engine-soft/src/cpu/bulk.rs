//! Block accesses: copies and fills of up to a page at once, for the memory copy and set instructions (FEAT_MOPS).

use super::{
    Cpu, Trap,
    mem::{hit_read, hit_write},
    mmu::{Intent, Place},
    phys::PAGE,
    tlb::View,
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
