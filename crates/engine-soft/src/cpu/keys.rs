//! Code contexts: what links between translated pages are valid in.
//!
//! Generated code compares a *key* to know whether what it remembers of a virtual address still holds. There is one key
//! for EL1 and one for EL0 of every ASID. Whatever a context knows is dropped, in constant time, by giving it a new one.
//!
//! A page address exclusive-or a key says both: a key occupies bits that the address of a page, which is canonical,
//! leaves free. These are 9:2 and 62:48 (63 says in which half the address is); bit 10 is the exception level, bit 11
//! says whether FPCR is zero, and bit 0 is set, so that no page equals zero under a key.

use super::{phys::PAGE, tlb::Blocks};

const BITS: u32 = 23;
/// In a key: of EL1.
const EL1: u64 = 1 << 10;
/// Remembered translations of code pages.
const ENTRIES: usize = 4096;
/// Words of the set of code pages: a page is in it if all of its bits are, so that of 8000 pages which are not, one or two
/// seem to be. (A page that merely seems to be costs its process all links between pages, whenever it is unmapped.)
const SET_WORDS: usize = 4096;
/// Bits of a page.
const PAGE_BITS: u32 = 3;
/// So many bits may be set before the set is started over.
const MOST_BITS: u32 = 32768;

/// The key that is number `n`.
fn key(n: u32) -> u64 {
    u64::from(n >> 8) << 48 | u64::from(n & 0xff) << 2 | 1
}

/// Which return stack generated code uses, and how far it is filled. There is one for each exception level, so that calls
/// of the kernel leave those of a user's program alone; whatever one holds was pushed under the key that is current in it,
/// so that nobody returns into another context.
#[derive(Default)]
pub(crate) struct Returns {
    /// The stack pointer.
    pub now: u64,
    /// What it is when the stack is empty.
    pub top: u64,
    /// The exception level.
    el: usize,
    /// By exception level: what `top` is, what `now` was, and the key.
    tops: [u64; 2],
    kept: [u64; 2],
    keys: [u64; 2],
}

impl Returns {
    /// Both empty; `tops` are their stack pointers then.
    pub fn new(tops: [u64; 2]) -> Self {
        Self { now: tops[1], top: tops[1], el: 1, tops, kept: tops, keys: [0; 2] }
    }

    /// The current key is `key` now.
    #[inline]
    pub fn switch(&mut self, key: u64) {
        let el = usize::from(key & EL1 != 0);
        if el == self.el && key == self.keys[el] {
            return;
        }
        self.kept[self.el] = self.now;
        self.el = el;
        self.top = self.tops[el];
        self.now = if self.keys[el] == key { self.kept[el] } else { self.top };
        self.keys[el] = key;
    }
}

/// A code page that was translated: physical address, and where its memory is.
#[derive(Clone, Copy)]
pub(crate) struct CodePlace {
    pub pa: u64,
    pub host: *const u8,
}

#[derive(Clone, Copy)]
struct Entry {
    tag: u64,
    place: CodePlace,
}

/// All keys of a vCPU, and the code pages that are known under them.
pub(crate) struct CodeKeys {
    kernel: u32,
    /// By ASID; 0 for none.
    users: Vec<u32>,
    next: u32,
    /// What an EL0 context knows under an older key is dropped.
    oldest: u32,
    entries: Box<[Entry; ENTRIES]>,
    /// Hashed numbers of the pages that were entered since `renew_all`.
    pages: Box<[u64; SET_WORDS]>,
    bits: u32,
    /// Where those are that are pieces of larger blocks.
    blocks: Blocks,
    /// Whether EL1 has executed a page that belongs to one address space.
    kernel_is_private: bool,
    /// Whether keys were used up and begin anew: everything that was remembered under them is void.
    pub exhausted: bool,
}

impl CodeKeys {
    pub fn new() -> Self {
        let none = Entry { tag: 0, place: CodePlace { pa: 0, host: std::ptr::null() } };
        Self {
            kernel: 1,
            users: vec![0; 1 << 16],
            next: 2,
            oldest: 1,
            entries: Box::new([none; ENTRIES]),
            pages: Box::new([0; SET_WORDS]),
            bits: 0,
            blocks: Blocks::default(),
            kernel_is_private: false,
            exhausted: false,
        }
    }

    fn fresh(&mut self) -> u32 {
        if self.next >= 1 << BITS {
            self.users.fill(0);
            self.entries.iter_mut().for_each(|e| e.tag = 0);
            self.exhausted = true;
            (self.kernel, self.next, self.oldest) = (1, 2, 1);
        }
        self.next += 1;
        self.next - 1
    }

    /// The key of the code at exception level `el` with `asid`.
    pub fn current(&mut self, el: u32, asid: u16) -> u64 {
        if el != 0 {
            return EL1 | key(self.kernel);
        }
        if self.users[usize::from(asid)] < self.oldest {
            let fresh = self.fresh();
            self.users[usize::from(asid)] = fresh;
        }
        key(self.users[usize::from(asid)])
    }

    /// The code page at `va` under `key`, if it is remembered.
    #[inline]
    pub fn place(&self, va: u64, key: u64) -> Option<CodePlace> {
        let e = &self.entries[(va / PAGE) as usize % ENTRIES];
        (e.tag == (va & !(PAGE - 1)) ^ key).then_some(e.place)
    }

    /// Remembers the code page at `va`, which is a piece of a mapping `(global, log2_size)`.
    pub fn note(&mut self, va: u64, key: u64, el: u32, (global, log2_size): (bool, u32), place: CodePlace) {
        self.kernel_is_private |= el != 0 && !global;
        self.blocks.note(va & !(PAGE - 1), log2_size);
        for (word, bit) in Self::places(va) {
            self.bits += u32::from(self.pages[word] & bit == 0);
            self.pages[word] |= bit;
        }
        self.entries[(va / PAGE) as usize % ENTRIES] = Entry { tag: (va & !(PAGE - 1)) ^ key, place };
    }

    /// Where in the set the bits of the page at `va` are: word and bit.
    fn places(va: u64) -> impl Iterator<Item = (usize, u64)> {
        const WIDTH: u32 = (64 * SET_WORDS).ilog2();
        let hash = (va << 8 >> 20).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..PAGE_BITS).map(move |i| {
            let place = hash >> (64 - WIDTH * (i + 1));
            (place as usize / 64 % SET_WORDS, 1 << (place % 64))
        })
    }

    /// Another address space becomes current.
    pub fn switch(&mut self) {
        if std::mem::take(&mut self.kernel_is_private) {
            self.kernel = self.fresh();
        }
    }

    /// Drops what every context knows.
    pub fn renew_all(&mut self) {
        self.oldest = self.next;
        self.kernel = self.fresh();
        self.kernel_is_private = false;
        self.pages.fill(0);
        self.bits = 0;
        self.blocks = Blocks::default();
    }

    /// Drops what contexts of `asid` know.
    pub fn renew_asid(&mut self, asid: u16) {
        self.users[usize::from(asid)] = 0;
        self.switch();
    }

    /// Drops what is known of the page at `va` and the block that it is in, in contexts of `asid` or all.
    pub fn renew_page(&mut self, va: u64, asid: Option<u16>) {
        let block = self.blocks.may_contain(va);
        if !block && Self::places(va).any(|(word, bit)| self.pages[word] & bit == 0) {
            return;
        }
        match asid {
            // What is global may be known under all ASIDs.
            Some(asid) if !block && va >> 55 & 1 == 0 && self.bits < MOST_BITS => {
                self.users[usize::from(asid)] = 0;
                self.kernel = self.fresh_if_private();
            }
            _ => self.renew_all(),
        }
    }

    fn fresh_if_private(&mut self) -> u32 {
        if std::mem::take(&mut self.kernel_is_private) { self.fresh() } else { self.kernel }
    }
}
