//! The soft TLB: direct-mapped banks of 4 KiB translations.
//!
//! A [`Bank`] belongs to one [`Context`]: an ASID and the privilege of the access. What a bank holds is permitted, so
//! a hit checks nothing but the tag. A context switch or a change of exception level selects another bank and flushes
//! nothing. Global pages are simply present in several banks.
//!
//! An entry's tags are whole page numbers, the top byte of the address (its tag) included. The *addend* makes a host address
//! of a virtual one.

use super::{keys::CodeKeys, phys::PAGE};
use crate::interp::op::Op;

/// Entries per bank for data: 32 MiB of pages.
const DATA_ENTRIES: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 13;
/// What generated code has of a bank is its address plus this: the low 16 bits of that are the control operand of BEXTR that
/// takes the index of an entry from an address, so that one register is both.
pub(crate) const SELECTOR: usize = (INDEX_BITS << 8 | PAGE.ilog2()) as usize;
/// Entries that are noted together as used, so that a flush need not touch the others.
const GROUP: usize = 64;
/// Entries per bank for instruction fetches.
pub(crate) const CODE_ENTRIES: usize = 1024;
/// Most banks of a vCPU, a quarter of a MiB each when full: two of the kernel, and those of 22 processes, of which the least
/// recently selected one is reused.
const MAX_BANKS: usize = 24;

/// More pages than this are not dropped one by one.
const MOST_PAGES: u64 = 512;

/// The address of no page.
const INVALID: u64 = 1;
/// The number of no page.
const NO_PAGE: u64 = u64::MAX;

/// What a walk that was cached looked like, in the low bits of `Entry::origin`.
const GLOBAL: u64 = 1;
const SIZE_SHIFT: u32 = 1;

/// A cached code page.
#[derive(Clone, Copy)]
#[repr(C)]
struct CodeEntry {
    /// Page address.
    tag: u64,
    /// Its op array.
    ops: *const Op,
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
struct Context {
    asid: u16,
    view: View,
}

/// Where pieces of blocks larger than a page are, so that a TLBI by address knows when it must search for all pieces of
/// a block: for either half of the address space a set of hashed 2 MiB units.
#[derive(Clone, Copy, Default)]
pub(super) struct Blocks([[u64; BLOCK_WORDS]; 2]);

/// Words of a set of hashed units.
const BLOCK_WORDS: usize = 16;
/// log2 of the size of a unit.
const UNIT: u32 = 21;

impl Blocks {
    /// Where the unit of `va` is: half, word, bit.
    fn place(va: u64) -> (usize, usize, u64) {
        const HASH_BITS: u32 = (64 * BLOCK_WORDS).ilog2();
        let hash = ((va & ADDRESS) >> UNIT).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - HASH_BITS);
        ((va >> 55 & 1) as usize, (hash / 64) as usize, 1 << (hash % 64))
    }

    pub fn may_contain(&self, va: u64) -> bool {
        let (half, word, bit) = Self::place(va);
        self.0[half][word] & bit != 0
    }

    /// Notes the block of 2^`log2_size` bytes around `va`, unless it is a mere page.
    pub fn note(&mut self, va: u64, log2_size: u32) {
        if log2_size <= PAGE.trailing_zeros() {
            return;
        }
        let base = va & !((1_u64 << log2_size) - 1);
        let units = 1_u64 << log2_size.saturating_sub(UNIT);
        if units >= 64 * BLOCK_WORDS as u64 {
            self.0[Self::place(va).0] = [u64::MAX; BLOCK_WORDS];
            return;
        }
        for i in 0..units {
            let (half, word, bit) = Self::place(base.wrapping_add(i << UNIT));
            self.0[half][word] |= bit;
        }
    }
}

/// The bits of an address that are not its tag.
const ADDRESS: u64 = (1 << 56) - 1;

/// Whether the entry of the page at `page` is a piece of the same block as `va`.
fn same_block(page: u64, origin: Origin, va: u64) -> bool {
    page != INVALID && (page ^ va) & ADDRESS & !(origin.size() - 1) == 0
}

/// The code pages of one address space at EL0, or of EL1.
pub(crate) struct CodeMap {
    entries: [CodeEntry; CODE_ENTRIES],
    blocks: Blocks,
    /// Whether an entry may not be global.
    has_private: bool,
    /// Whether there are entries at all.
    used: bool,
}

impl CodeMap {
    fn new() -> Box<Self> {
        let none = CodeEntry { tag: INVALID, ops: std::ptr::null(), origin: Origin::NONE };
        Box::new(Self {
            entries: [none; CODE_ENTRIES],
            blocks: Blocks::default(),
            has_private: false,
            used: false,
        })
    }

    /// The ops of the page of `va`, if they are known, and the page's address. A misaligned address is never known.
    #[inline(always)]
    pub fn get(&self, va: u64) -> Option<(u64, *const Op)> {
        let e = &self.entries[(va / PAGE) as usize % CODE_ENTRIES];
        (e.tag == va & !(PAGE - 4)).then_some((e.tag, e.ops))
    }

    fn put(&mut self, page: u64, ops: *const Op, (global, log2_size): (bool, u32)) {
        self.blocks.note(page, log2_size);
        self.has_private |= !global;
        self.used = true;
        self.entries[(page / PAGE) as usize % CODE_ENTRIES] =
            CodeEntry { tag: page, ops, origin: Origin::new(global, log2_size) };
    }

    fn flush(&mut self) {
        if !std::mem::take(&mut self.used) {
            return;
        }
        for e in &mut self.entries {
            e.tag = INVALID;
        }
        self.blocks = Blocks::default();
        self.has_private = false;
    }

    /// Drops the page at `va`, and the block that it is in; unless `all`, only when they are global.
    fn drop_page(&mut self, va: u64, all: bool) {
        if !self.used {
            return;
        }
        let e = &mut self.entries[(va / PAGE) as usize % CODE_ENTRIES];
        if all || e.origin.is_global() {
            e.tag = INVALID;
        }
        if self.blocks.may_contain(va) {
            for e in &mut self.entries {
                if same_block(e.tag, e.origin, va) && (all || e.origin.is_global()) {
                    e.tag = INVALID;
                }
            }
        }
    }

    /// Drops what belongs to one address space only.
    fn drop_private(&mut self) {
        if std::mem::take(&mut self.has_private) {
            for e in &mut self.entries {
                if !e.origin.is_global() {
                    e.tag = INVALID;
                }
            }
        }
    }
}

/// The translations of one context. What belongs to one page has the same index in each array; they are apart so that
/// neighbours share the host's cache lines.
#[repr(C, align(65536))]
pub(crate) struct Bank {
    head: Head,
    /// The first array begins right behind where a register points that is also the [`SELECTOR`].
    _gap: [u8; (SELECTOR + 1).next_multiple_of(32) - size_of::<Head>()],
    /// Numbers of pages that may be read.
    pub read: [u64; DATA_ENTRIES],
    /// Host address minus virtual address.
    pub addend: [u64; DATA_ENTRIES],
    /// Numbers of pages that may be written.
    pub write: [u64; DATA_ENTRIES],
    /// Of which mapping the page is a piece.
    origin: [Origin; DATA_ENTRIES],
}

/// The kind of the entry of the page at `va`: a bit for either half of the address space, and whether it is `global`.
const fn kind(va: u64, global: bool) -> u8 {
    1 << ((va >> 55 & 1) * 2 + global as u64)
}

/// What a bank is.
struct Head {
    /// One bit per group of entries that may be valid.
    used: [u64; DATA_ENTRIES / GROUP / 64],
    /// One bit per [`kind`] of entries that may be valid.
    kinds: u8,
    /// For EL0 only: EL1 has one map for all address spaces.
    code: Option<Box<CodeMap>>,
    context: Context,
    /// [`Tlb::generation`] when it was last flushed as a whole.
    generation: u64,
    last_used: u64,
    blocks: Blocks,
}

impl Bank {
    fn new(context: Context) -> Box<Self> {
        let head = Head {
            used: [0; DATA_ENTRIES / GROUP / 64],
            kinds: 0,
            code: (context.view == View::User).then(CodeMap::new),
            context,
            generation: 0,
            last_used: 0,
            blocks: Blocks::default(),
        };
        let mut bank = Box::<Self>::new_zeroed();
        // SAFETY: `head` is written before anybody reads it or drops the bank, and all else are numbers, for which zero
        // will do.
        let mut bank = unsafe {
            (&raw mut (*bank.as_mut_ptr()).head).write(head);
            bank.assume_init()
        };
        bank.read.fill(NO_PAGE);
        bank.write.fill(NO_PAGE);
        bank
    }

    /// Drops the entry at `index`.
    fn drop_entry(&mut self, index: usize) {
        (self.read[index], self.write[index]) = (NO_PAGE, NO_PAGE);
    }

    /// Has `f` look at all entries that may be valid, by index.
    fn each_used(&mut self, mut f: impl FnMut(&mut Self, usize)) {
        for word in 0..self.head.used.len() {
            let mut bits = self.head.used[word];
            while bits != 0 {
                let group = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                (group * GROUP..(group + 1) * GROUP).for_each(|index| f(self, index));
            }
        }
    }

    fn flush(&mut self) {
        self.each_used(Self::drop_entry);
        self.head.used = [0; DATA_ENTRIES / GROUP / 64];
        self.head.kinds = 0;
        self.head.blocks = Blocks::default();
        self.flush_code();
    }

    fn flush_code(&mut self) {
        if let Some(code) = &mut self.head.code {
            code.flush();
        }
    }

    /// Drops the page at `va`, and the block that it is in; unless `all`, only when they are global.
    fn drop_page(&mut self, va: u64, all: bool) {
        if let Some(code) = &mut self.head.code {
            code.drop_page(va, all);
        }
        // Most maintenance is about pages that most banks can tell at a glance that they do not have.
        let concerned = kind(va, true) | if all { kind(va, false) } else { 0 };
        if self.head.kinds & concerned == 0 {
            return;
        }
        let index = data_index(va);
        if all || self.origin[index].is_global() {
            self.drop_entry(index);
        }
        if self.head.blocks.may_contain(va) {
            self.drop_block(va, all);
        }
    }

    /// Drops what belongs to one address space only.
    fn drop_private(&mut self) {
        const PRIVATE: u8 = kind(0, false) | kind(u64::MAX, false);
        if self.head.kinds & PRIVATE == 0 {
            return;
        }
        self.head.kinds &= !PRIVATE;
        self.each_used(|bank, index| {
            if !bank.origin[index].is_global() {
                bank.drop_entry(index);
            }
        });
    }

    /// Drops every piece of the blocks that contain `va`.
    #[cold]
    fn drop_block(&mut self, va: u64, all: bool) {
        self.each_used(|bank, index| {
            let origin = bank.origin[index];
            let is_piece = |page: u64| page != NO_PAGE && same_block(page * PAGE, origin, va);
            let same = is_piece(bank.read[index]) || is_piece(bank.write[index]);
            if same && (all || origin.is_global()) {
                bank.drop_entry(index);
            }
        });
    }
}

/// The index of the page of `va` in the arrays of a [`Bank`].
#[inline(always)]
pub(crate) fn data_index(va: u64) -> usize {
    (va / PAGE) as usize % DATA_ENTRIES
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
    /// Contexts of generated code.
    pub keys: CodeKeys,
    /// The code pages of EL1: the kernel's are global, and what is not is dropped when the address space changes.
    kernel_code: *mut CodeMap,
    banks: Vec<*mut Bank>,
    /// Banks of the current ASID by [`View`], null until first used.
    current: [*mut Bank; 3],
    /// The ASID that [`Tlb::select`] was called with last.
    asid: u16,
    /// Whether the kernel was seen to map its own half for single address spaces (as page table isolation does). Most do not,
    /// and all ASIDs share EL1's banks; what is of one only is dropped from these when the ASID changes.
    private_kernel: bool,
    generation: u64,
    clock: u64,
    /// A bank that nothing is entered into; null until first used.
    blank: *mut Bank,
}

// SAFETY: the banks belong to this object alone, and what they point to (guest memory, op arrays) moves with the vCPU.
unsafe impl Send for Tlb {}

impl Drop for Tlb {
    fn drop(&mut self) {
        let blank = (!self.blank.is_null()).then_some(self.blank);
        for bank in self.banks.drain(..).chain(blank) {
            // SAFETY: each came from Box::into_raw in `select` or `blank` and is dropped once.
            drop(unsafe { Box::from_raw(bank) });
        }
        // SAFETY: it came from Box::into_raw in `new` and is dropped once.
        drop(unsafe { Box::from_raw(self.kernel_code) });
    }
}

impl Tlb {
    pub fn new() -> Self {
        Self {
            keys: CodeKeys::new(),
            kernel_code: Box::into_raw(CodeMap::new()),
            banks: Vec::new(),
            current: [std::ptr::null_mut(); 3],
            asid: 0,
            private_kernel: false,
            generation: 0,
            clock: 0,
            blank: std::ptr::null_mut(),
        }
    }

    /// The code pages of EL1.
    fn kernel_code(&mut self) -> &mut CodeMap {
        // SAFETY: it lives until Tlb drops, and nobody holds a reference into it across calls.
        unsafe { &mut *self.kernel_code }
    }

    /// The code pages that go with `bank`, one that [`Tlb::select`] returned; good for as long as it.
    pub fn code_map(&mut self, bank: *mut Bank) -> *mut CodeMap {
        // SAFETY: as in `each`.
        match unsafe { &mut (*bank).head.code } {
            Some(code) => &raw mut **code,
            None => self.kernel_code,
        }
    }

    /// A bank without translations, which are not to be entered into it.
    pub fn blank(&mut self) -> *mut Bank {
        if self.blank.is_null() {
            self.blank = Box::into_raw(Bank::new(Context { asid: 0, view: View::KernelPan }));
        }
        self.blank
    }

    fn each(&mut self, mut f: impl FnMut(&mut Bank)) {
        for &bank in &self.banks {
            // SAFETY: banks live until Tlb drops, and nobody holds a reference into one across calls.
            f(unsafe { &mut *bank });
        }
    }

    /// The bank of `asid` for `view`; the pointer is good until the next call for another ASID.
    #[inline(always)]
    pub fn select(&mut self, asid: u16, view: View) -> *mut Bank {
        let cached = self.current[view as usize];
        if cached.is_null() { self.select_slow(asid, view) } else { cached }
    }

    #[cold]
    #[inline(never)]
    fn select_slow(&mut self, asid: u16, view: View) -> *mut Bank {
        self.asid = asid;
        let shared = view != View::User && !self.private_kernel;
        let context = Context { asid: if shared { 0 } else { asid }, view };
        let bank = self.find(context);
        self.current[view as usize] = bank;
        self.clock += 1;
        // SAFETY: as in `each`.
        let b = unsafe { &mut *bank };
        b.head.last_used = self.clock;
        if b.head.generation != self.generation {
            b.flush();
            b.head.generation = self.generation;
        }
        bank
    }

    fn find(&mut self, context: Context) -> *mut Bank {
        // SAFETY: as in `each`.
        let known = self.banks.iter().find(|b| unsafe { (***b).head.context } == context);
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
            .min_by_key(|b| unsafe { (**b).head.last_used });
        // More banks exist than can be current, so there is one to reuse.
        let bank = oldest.unwrap_or(self.banks[0]);
        // SAFETY: as in `each`.
        let b = unsafe { &mut *bank };
        b.flush();
        b.head.context = context;
        bank
    }

    /// Another ASID becomes current: the next [`Tlb::select`] calls look banks up anew.
    pub fn switch(&mut self) {
        self.keys.switch();
        self.kernel_code().drop_private();
        self.drop_private();
        self.current[View::User as usize] = std::ptr::null_mut();
        if self.private_kernel {
            self.current = [std::ptr::null_mut(); 3];
        }
    }

    /// Drops what banks that are shared know of one address space.
    fn drop_private(&mut self) {
        if self.private_kernel {
            return;
        }
        self.each(|b| {
            if b.head.context.view != View::User {
                b.drop_private();
            }
        });
    }

    /// Drops everything, now for the current banks and at selection for the others.
    pub fn flush_all(&mut self) {
        self.keys.renew_all();
        self.kernel_code().flush();
        self.generation += 1;
        let generation = self.generation;
        for bank in self.current {
            if !bank.is_null() {
                // SAFETY: as in `each`.
                let b = unsafe { &mut *bank };
                b.flush();
                b.head.generation = generation;
            }
        }
    }

    /// Drops all links to code pages.
    pub fn flush_code(&mut self) {
        self.keys.renew_all();
        self.kernel_code().flush();
        self.each(Bank::flush_code);
    }

    /// Drops what has `asid`.
    pub fn flush_asid(&mut self, asid: u16) {
        self.keys.renew_asid(asid);
        self.kernel_code().drop_private();
        self.drop_private();
        self.each(|b| {
            if b.head.context.asid == asid {
                b.flush();
            }
        });
    }

    /// Drops `pages` pages from `va` on: of `asid` and global ones, or of all ASIDs.
    pub fn flush_pages(&mut self, va: u64, pages: u64, asid: Option<u16>) {
        if pages > MOST_PAGES {
            self.flush_all();
            return;
        }
        for i in 0..pages {
            self.keys.renew_page(va.wrapping_add(i * PAGE), asid);
            self.kernel_code().drop_page(va.wrapping_add(i * PAGE), true);
        }
        self.each(|b| {
            let Context { asid: own, view } = b.head.context;
            // Banks that are shared have nothing private but of the current ASID.
            let all = view != View::User || asid.is_none_or(|a| a == own);
            for i in 0..pages {
                b.drop_page(va.wrapping_add(i * PAGE), all);
            }
        });
    }

    /// Enters a data translation into `bank`, one that [`Tlb::select`] returned.
    pub fn fill(&mut self, bank: *mut Bank, fill: &Fill) {
        let (page, index) = (fill.va / PAGE, data_index(fill.va));
        // SAFETY: as in `each`.
        let b = unsafe { &mut *bank };
        b.head.blocks.note(page * PAGE, fill.log2_size);
        let group = index / GROUP;
        b.head.used[group / 64] |= 1 << (group % 64);
        b.head.kinds |= kind(fill.va, fill.global);
        if b.head.context.view != View::User && kind(fill.va, fill.global) == kind(u64::MAX, false) {
            self.make_kernel_private();
        }
        b.read[index] = if fill.readable { page } else { NO_PAGE };
        b.write[index] = if fill.writable { page } else { NO_PAGE };
        b.addend[index] = (fill.host as u64).wrapping_sub(page * PAGE);
        b.origin[index] = Origin::new(fill.global, fill.log2_size);
    }

    /// EL1 has banks of its own for each ASID from here on. Those that were shared hold nothing private but of the current one.
    fn make_kernel_private(&mut self) {
        if std::mem::replace(&mut self.private_kernel, true) {
            return;
        }
        let asid = self.asid;
        self.each(|b| {
            if b.head.context.view != View::User {
                b.head.context.asid = asid;
            }
        });
    }

    /// Enters a code page into `map`, one that [`Tlb::code_map`] returned.
    pub fn fill_code(&mut self, map: *mut CodeMap, page: u64, ops: *const Op, origin: (bool, u32)) {
        // SAFETY: maps live until Tlb drops, and nobody holds a reference into one across calls.
        unsafe { (*map).put(page, ops, origin) };
    }
}
