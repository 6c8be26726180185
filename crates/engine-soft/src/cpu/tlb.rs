//! The soft TLB: direct-mapped banks of 4 KiB translations.
//!
//! A [`Bank`] belongs to one [`Context`]: an ASID and the privilege of the access. What a bank holds is permitted, so
//! a hit checks nothing but the tag. A context switch or a change of exception level selects another bank and flushes
//! nothing. Global pages are simply present in several banks.
//!
//! An entry's tags are whole page addresses, top byte (tag) included; an invalid tag has low bits set and so equals no
//! page address. The *addend* makes a host address of a virtual one.

use super::phys::PAGE;
use crate::interp::op::Op;

/// Entries per bank for data.
pub(crate) const DATA_ENTRIES: usize = 1024;
/// Entries per bank for instruction fetches.
pub(crate) const CODE_ENTRIES: usize = 512;
/// Most banks of a vCPU, 48 KiB each; the least recently selected one is reused. 24 banks are eight processes with
/// their user, kernel, and kernel-without-PAN views.
const MAX_BANKS: usize = 24;

/// A tag that matches no address.
pub(crate) const INVALID: u64 = 1;

/// What a walk that was cached looked like, in the low bits of `Entry::origin`.
const GLOBAL: u64 = 1;
const SIZE_SHIFT: u32 = 1;

/// A cached data translation.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Entry {
    /// Page address that may be read.
    pub read: u64,
    /// Page address that may be written.
    pub write: u64,
    /// Host address minus virtual address.
    pub addend: u64,
    /// Of which mapping this is a piece.
    origin: Origin,
}

/// A cached code page.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct CodeEntry {
    /// Page address.
    pub tag: u64,
    /// Its op array.
    pub ops: *const Op,
    origin: Origin,
}

/// Whether a mapping is global, and the size of its block as a power of two.
#[derive(Clone, Copy)]
struct Origin(u64);

impl Origin {
    const NONE: Self = Self(0);

    fn new(global: bool, log2_size: u32) -> Self {
        Self(u64::from(global) * GLOBAL | u64::from(log2_size) << SIZE_SHIFT)
    }

    fn is_global(self) -> bool {
        self.0 & GLOBAL != 0
    }

    fn size(self) -> u64 {
        1 << (self.0 >> SIZE_SHIFT)
    }
}

/// Who accesses memory: an index into [`Tlb::current`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// EL0, and LDTR/STTR.
    User,
    /// EL1 with PSTATE.PAN = 0.
    Kernel,
    /// EL1 with PSTATE.PAN = 1.
    KernelPan,
}

/// What a bank's translations depend on beyond the address, as far as it changes without a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    pub asid: u16,
    pub view: View,
}

/// The translations of one context.
#[repr(C, align(64))]
pub(crate) struct Bank {
    pub data: [Entry; DATA_ENTRIES],
    pub code: [CodeEntry; CODE_ENTRIES],
    context: Context,
    /// [`Tlb::generation`] when it was last flushed as a whole.
    generation: u64,
    last_used: u64,
    /// Where pieces of blocks larger than a page are: bit `(va >> 21) & 255` of 256, so that a TLBI by address knows
    /// when it must search for all pieces of a block.
    blocks: [u64; 4],
}

impl Bank {
    fn new(context: Context) -> Box<Self> {
        let data = Entry { read: INVALID, write: INVALID, addend: 0, origin: Origin::NONE };
        let code = CodeEntry { tag: INVALID, ops: std::ptr::null(), origin: Origin::NONE };
        Box::new(Self {
            data: [data; DATA_ENTRIES],
            code: [code; CODE_ENTRIES],
            context,
            generation: 0,
            last_used: 0,
            blocks: [0; 4],
        })
    }

    fn flush(&mut self) {
        for e in &mut self.data {
            (e.read, e.write) = (INVALID, INVALID);
        }
        self.flush_code();
        self.blocks = [0; 4];
    }

    fn flush_code(&mut self) {
        for e in &mut self.code {
            e.tag = INVALID;
        }
    }

    /// Drops the page at `va`; unless `all`, only when it is global.
    fn drop_page(&mut self, va: u64, all: bool) {
        let same = |tag: u64| tag & ADDRESS & !(PAGE - 1) == va & ADDRESS & !(PAGE - 1);
        let e = &mut self.data[data_index(va)];
        if all || (e.origin.is_global() && (same(e.read) || same(e.write))) {
            (e.read, e.write) = (INVALID, INVALID);
        }
        let c = &mut self.code[code_index(va)];
        if all || (c.origin.is_global() && same(c.tag)) {
            c.tag = INVALID;
        }
        let (word, bit) = block_bit(va);
        if self.blocks[word] & bit != 0 {
            self.drop_block(va, all);
        }
    }

    /// Drops every piece of the blocks that contain `va`.
    #[cold]
    fn drop_block(&mut self, va: u64, all: bool) {
        let same = |tag: u64, o: Origin| tag != INVALID && (tag ^ va) & ADDRESS & !(o.size() - 1) == 0;
        for e in &mut self.data {
            if (same(e.read, e.origin) || same(e.write, e.origin)) && (all || e.origin.is_global()) {
                (e.read, e.write) = (INVALID, INVALID);
            }
        }
        for c in &mut self.code {
            if same(c.tag, c.origin) && (all || c.origin.is_global()) {
                c.tag = INVALID;
            }
        }
    }

    fn note_block(&mut self, va: u64, log2_size: u32) {
        if log2_size <= PAGE.trailing_zeros() {
            return;
        }
        // A block may span several bits. It is enough to set those where TLBI may be asked: any address of the block.
        let base = va & !((1_u64 << log2_size) - 1);
        let steps = 1_u64 << log2_size.saturating_sub(21).min(8);
        for i in 0..steps {
            let (word, bit) = block_bit(base.wrapping_add(i << 21));
            self.blocks[word] |= bit;
        }
    }
}

/// The bits of an address that are not its tag.
const ADDRESS: u64 = (1 << 56) - 1;

fn block_bit(va: u64) -> (usize, u64) {
    let bit = (va >> 21) & 255;
    ((bit / 64) as usize, 1 << (bit % 64))
}

/// Where in [`Bank::data`] the page of `va` is.
#[inline(always)]
pub(crate) fn data_index(va: u64) -> usize {
    (va / PAGE) as usize % DATA_ENTRIES
}

/// Where in [`Bank::code`] the page of `va` is.
#[inline(always)]
pub(crate) fn code_index(va: u64) -> usize {
    (va / PAGE) as usize % CODE_ENTRIES
}

/// A translation to enter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    pub va: u64,
    pub host: *mut u8,
    pub readable: bool,
    pub writable: bool,
    pub global: bool,
    pub log2_size: u32,
}

/// All banks of a vCPU.
pub(crate) struct Tlb {
    banks: Vec<*mut Bank>,
    /// Banks of the current ASID by [`View`], null until first used.
    current: [*mut Bank; 3],
    generation: u64,
    clock: u64,
}

// SAFETY: the banks belong to this object alone, and what they point to (guest memory, op arrays) moves with the vCPU.
unsafe impl Send for Tlb {}

impl Drop for Tlb {
    fn drop(&mut self) {
        for bank in self.banks.drain(..) {
            // SAFETY: each came from Box::into_raw in `select` and is dropped once.
            drop(unsafe { Box::from_raw(bank) });
        }
    }
}

impl Tlb {
    pub fn new() -> Self {
        Self { banks: Vec::new(), current: [std::ptr::null_mut(); 3], generation: 0, clock: 0 }
    }

    fn each(&mut self, mut f: impl FnMut(&mut Bank)) {
        for &bank in &self.banks {
            // SAFETY: banks live until Tlb drops, and nobody holds a reference into one across calls.
            f(unsafe { &mut *bank });
        }
    }

    /// The bank of `asid` for `view`; the pointer is good until the next call for another ASID.
    pub fn select(&mut self, asid: u16, view: View) -> *mut Bank {
        let cached = self.current[view as usize];
        if !cached.is_null() {
            return cached;
        }
        let context = Context { asid, view };
        let bank = self.find(context);
        self.current[view as usize] = bank;
        self.clock += 1;
        // SAFETY: as in `each`.
        let b = unsafe { &mut *bank };
        b.last_used = self.clock;
        if b.generation != self.generation {
            b.flush();
            b.generation = self.generation;
        }
        bank
    }

    fn find(&mut self, context: Context) -> *mut Bank {
        // SAFETY: as in `each`.
        let known = self.banks.iter().find(|b| unsafe { (***b).context } == context);
        if let Some(&bank) = known {
            return bank;
        }
        if self.banks.len() < MAX_BANKS {
            let bank = Box::into_raw(Bank::new(context));
            self.banks.push(bank);
            return bank;
        }
        let current = self.current;
        let oldest = self
            .banks
            .iter()
            .copied()
            .filter(|b| !current.contains(b))
            // SAFETY: as in `each`.
            .min_by_key(|b| unsafe { (**b).last_used });
        // More banks exist than can be current, so there is one to reuse.
        let bank = oldest.unwrap_or(self.banks[0]);
        // SAFETY: as in `each`.
        let b = unsafe { &mut *bank };
        b.flush();
        b.context = context;
        bank
    }

    /// Another ASID becomes current: the next [`Tlb::select`] calls look banks up anew.
    pub fn switch(&mut self) {
        self.current = [std::ptr::null_mut(); 3];
    }

    /// Drops everything, now for the current banks and at selection for the others.
    pub fn flush_all(&mut self) {
        self.generation += 1;
        let generation = self.generation;
        for bank in self.current {
            if !bank.is_null() {
                // SAFETY: as in `each`.
                let b = unsafe { &mut *bank };
                b.flush();
                b.generation = generation;
            }
        }
    }

    /// Drops all links to code pages.
    pub fn flush_code(&mut self) {
        self.each(Bank::flush_code);
    }

    /// Drops what has `asid`.
    pub fn flush_asid(&mut self, asid: u16) {
        self.each(|b| {
            if b.context.asid == asid {
                b.flush();
            }
        });
    }

    /// Drops `pages` pages from `va` on: of `asid` and global ones, or of all ASIDs.
    pub fn flush_pages(&mut self, va: u64, pages: u64, asid: Option<u16>) {
        if pages > DATA_ENTRIES as u64 / 2 {
            self.flush_all();
            return;
        }
        self.each(|b| {
            let all = asid.is_none_or(|a| a == b.context.asid);
            for i in 0..pages {
                b.drop_page(va.wrapping_add(i * PAGE), all);
            }
        });
    }

    /// Enters a data translation into `bank`, one that [`Tlb::select`] returned.
    pub fn fill(&mut self, bank: *mut Bank, fill: &Fill) {
        let page = fill.va & !(PAGE - 1);
        // SAFETY: as in `each`.
        let b = unsafe { &mut *bank };
        b.note_block(page, fill.log2_size);
        b.data[data_index(page)] = Entry {
            read: if fill.readable { page } else { INVALID },
            write: if fill.writable { page } else { INVALID },
            addend: (fill.host as u64).wrapping_sub(page),
            origin: Origin::new(fill.global, fill.log2_size),
        };
    }

    /// Enters a code page into `bank`, one that [`Tlb::select`] returned.
    pub fn fill_code(&mut self, bank: *mut Bank, page: u64, ops: *const Op, origin: (bool, u32)) {
        // SAFETY: as in `each`.
        let b = unsafe { &mut *bank };
        b.note_block(page, origin.1);
        b.code[code_index(page)] = CodeEntry { tag: page, ops, origin: Origin::new(origin.0, origin.1) };
    }
}
