//! The cache of pre-decoded code.
//!
//! A [`CodePage`] holds the ops of one 4 KiB page of guest physical memory. It is found by physical address, so that
//! every address space that maps the page shares it. Its ops start as [`decode_me`], which decodes the instruction in
//! place when it is first executed. Behind the last op is a sentinel that goes on in the next virtual page.
//!
//! The CPU presents `CTR_EL0.DIC` = 0: a guest that changes code says so with IC IVAU or IC IALLU. A page keeps the
//! words that its ops were decoded from; invalidation compares them with memory and resets the ops that differ, so that
//! a kernel which patches one instruction does not pay for the decoding of the whole page again.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use super::op::{Handler, Op, Operands};
use crate::{
    cpu::{CodePlace, Cpu, Exception, Kind, PAGE, Trap, Unit},
    decode::decode,
    interp::lower::lower,
};

/// Instructions per page.
pub(crate) const OPS: usize = super::op::PAGE_OPS;

/// Most pages of a vCPU: about 80 MiB. The kernel and a large program execute some thousand pages; when a guest has
/// more, everything is dropped and what is hot decoded again, which costs less than keeping an order of use.
const MAX_PAGES: usize = 4096;

/// The pre-decoded instructions of a page.
#[repr(C)]
pub(crate) struct CodePage {
    /// First, so that [`Cpu::page_ops`] is also the address of the page.
    ops: [Op; OPS + 1],
    /// The words that decoded ops stand for.
    source: [u32; OPS],
    /// One bit per op that is decoded.
    decoded: [u64; OPS / 64],
    /// The page's memory.
    host: *const u8,
}

const DECODE_ME: Op = Op { run: decode_me, o: Operands { d: 0, n: 0, m: 0, a: 0, imm: 0 } };

impl CodePage {
    fn new(host: *const u8) -> Box<Self> {
        let mut ops = [DECODE_ME; OPS + 1];
        ops[OPS].run = page_cross;
        Box::new(Self { ops, source: [0; OPS], decoded: [0; OPS / 64], host })
    }

    /// Decodes the op at `index` unless it is.
    fn decode(&mut self, index: usize) {
        if self.is_decoded(index) {
            return;
        }
        let word = self.word(index);
        self.source[index] = word;
        self.decoded[index / 64] |= 1 << (index % 64);
        self.ops[index] = lower(&decode(word), index);
    }

    fn is_decoded(&self, index: usize) -> bool {
        self.decoded[index / 64] >> (index % 64) & 1 != 0
    }

    /// The instruction in memory.
    fn word(&self, index: usize) -> u32 {
        // SAFETY: `host` is valid for a page of guest memory while the memory map that it came from lives, and all
        // code pages are dropped when the map changes; `index` is at most 1023.
        unsafe { u32::read(self.host.add(index % OPS * 4)) }
    }

    /// Resets the ops whose words are not those in memory any more.
    fn validate(&mut self) {
        for word in 0..self.decoded.len() {
            let mut bits = self.decoded[word];
            while bits != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if self.word(index) != self.source[index] {
                    self.decoded[word] &= !(1 << (index % 64));
                    self.ops[index] = DECODE_ME;
                }
            }
        }
    }
}

/// Decodes the op in place and has it run.
///
/// # Safety
/// See [`Handler`].
unsafe fn decode_me(cpu: &mut Cpu, op: *const Op) -> *const Op {
    decode_in_place(cpu, op);
    op
}

/// Makes sure that `op`, an element of the current page, is decoded.
#[cold]
pub(crate) fn decode_in_place(cpu: &mut Cpu, op: *const Op) {
    let index = (cpu.pc_of(op) - cpu.pc_page) as usize / 4;
    if index < OPS {
        // SAFETY: `page_ops` is the address of a live CodePage of this vCPU (they are dropped only where the run loop
        // looks `page_ops` up anew), and no other reference into it exists while a handler runs.
        unsafe { (*cpu.page_ops.cast::<CodePage>().cast_mut()).decode(index) };
    }
}

/// Stands in for the successor of an op that is run alone: hands itself back.
///
/// # Safety
/// See [`Handler`].
unsafe fn halt(_: &mut Cpu, op: *const Op) -> *const Op {
    op
}

/// The sentinel: goes on in the next page.
///
/// # Safety
/// See [`Handler`]; `op` is the sentinel here.
unsafe fn page_cross(cpu: &mut Cpu, _: *const Op) -> *const Op {
    cpu.go(cpu.pc_page.wrapping_add(PAGE))
}

/// A hash for page numbers.
#[derive(Default)]
pub(crate) struct PageHasher(u64);

/// Builds it.
pub(crate) type PageHash = BuildHasherDefault<PageHasher>;

impl Hasher for PageHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(u64::from(b));
        }
    }
    fn write_u64(&mut self, value: u64) {
        // Fibonacci hashing; the map takes its bucket from the low bits and its tag from the high ones.
        let product = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }
}

/// A page of the cache.
struct Known {
    page: *mut CodePage,
    /// [`CodeCache::epoch`] when the page was last known to be valid.
    epoch: u64,
}

/// All pre-decoded pages of a vCPU.
#[derive(Default)]
pub(crate) struct CodeCache {
    pages: HashMap<u64, Known, PageHash>,
    /// How often all pages were dropped.
    cleared: u64,
    /// Grows with every invalidation of everything; pages of older epochs are validated when they are next looked up.
    epoch: u64,
}

// SAFETY: the pages belong to this object alone, and guest memory may be accessed from any thread.
unsafe impl Send for CodeCache {}

impl Drop for CodeCache {
    fn drop(&mut self) {
        self.clear();
    }
}

impl CodeCache {
    /// Whether the next new page needs [`CodeCache::clear`] first. Beside the translator there is little to decode.
    pub fn is_full(&self, beside_jit: bool) -> bool {
        self.pages.len() >= if beside_jit { MAX_PAGES / 16 } else { MAX_PAGES }
    }

    /// Drops all pages. No op of them may be run or compared any more.
    pub fn clear(&mut self) {
        self.cleared += 1;
        for (_, known) in self.pages.drain() {
            // SAFETY: each came from Box::into_raw in `page` and is dropped once.
            drop(unsafe { Box::from_raw(known.page) });
        }
    }

    /// The ops of the page at physical address `pa`, whose memory is at `host`.
    pub fn page(&mut self, pa: u64, host: *const u8) -> *const Op {
        let epoch = self.epoch;
        let new = || Known { page: Box::into_raw(CodePage::new(host)), epoch };
        let known = self.pages.entry(pa).or_insert_with(new);
        if known.epoch != epoch {
            // SAFETY: pages live until `clear`, and nobody holds a reference to one across calls.
            unsafe { (*known.page).validate() };
            known.epoch = epoch;
        }
        known.page.cast_const().cast()
    }

    /// Makes the ops of the page at `pa` what memory holds now.
    pub fn invalidate(&mut self, pa: u64) {
        if let Some(known) = self.pages.get(&pa) {
            // SAFETY: as in `page`.
            unsafe { (*known.page).validate() };
        }
    }

    /// Makes all ops what memory holds now, at the latest when their page is looked up; the links to pages in the TLB
    /// must be dropped as well.
    pub fn invalidate_all(&mut self) {
        self.epoch += 1;
    }
}

impl Cpu {
    /// Runs `op`, an element of the current page, without the ops that follow it: what comes next, or null as from any
    /// handler.
    pub fn run_op_alone(&mut self, op: *const Op) -> *const Op {
        decode_in_place(self, op);
        let cleared = self.code.cleared;
        let page = self.page_ops.cast::<CodePage>().cast_mut();
        let successor = (self.pc_of(op) - self.pc_page) as usize / 4 + 1;
        // SAFETY: as in `decode_in_place`; an op that is not the sentinel has a successor.
        let (run, was_decoded) = unsafe {
            let was_decoded = successor < OPS && (*page).is_decoded(successor);
            (std::mem::replace(&mut (*page).ops[successor].run, halt), was_decoded)
        };
        // SAFETY: `op` is an element of the current page and not its sentinel.
        let next = unsafe { ((*op).run)(self, op) };
        if self.code.cleared == cleared {
            // SAFETY: no page was dropped meanwhile, so this one still exists.
            unsafe {
                // An invalidation may have reset the successor, and then it stays as that left it.
                if !was_decoded || (*page).is_decoded(successor) {
                    (*page).ops[successor].run = run;
                }
            }
        }
        next
    }

    /// Goes on at `target`: the op to run next, or null when the run loop has to look around.
    #[inline(always)]
    pub fn go(&mut self, target: u64) -> *const Op {
        if self.attention() {
            self.pc = target;
            return std::ptr::null();
        }
        self.find_op(target)
    }

    /// The op of the instruction at `target`, or null with [`Cpu::stop`] and [`Cpu::pc`] set.
    #[inline(always)]
    pub fn find_op(&mut self, target: u64) -> *const Op {
        let Some((page, ops)) = self.cached_code(target) else { return self.find_op_slow(target) };
        self.pc_page = page;
        self.page_ops = ops;
        // SAFETY: the array has an op for each of the 1024 words of the page.
        unsafe { ops.add((target / 4) as usize % OPS) }
    }

    #[cold]
    #[inline(never)]
    fn find_op_slow(&mut self, target: u64) -> *const Op {
        self.pc = target;
        if self.in_jit {
            return std::ptr::null();
        }
        let Ok((place, origin)) = self.fetch() else { return std::ptr::null() };
        let target = self.pc;
        if self.code.is_full(self.jit.is_some()) {
            self.forget_code();
        }
        let ops = self.code.page(place.pa, place.host);
        let page = target & !(PAGE - 1);
        // With the JIT, single instructions are all that comes here, and there is one less thing to keep valid.
        if self.jit.is_none() {
            self.enter_code(page, ops, origin);
        }
        self.pc_page = page;
        self.page_ops = ops;
        // SAFETY: as in `find_op`.
        unsafe { ops.add((target / 4) as usize % OPS) }
    }

    /// Where the instruction at [`Cpu::pc`] is, which loses its address tag; and of what mapping its page is a piece:
    /// whether it is global, and log2 of its size.
    ///
    /// # Errors
    /// When the fetch takes an exception.
    pub fn fetch(&mut self) -> Result<(CodePlace, (bool, u32)), Trap> {
        let target = self.regime.branch_address(self.pc);
        self.pc = target;
        if !target.is_multiple_of(4) {
            return Err(self.raise(Exception::PcAlignment { far: target }));
        }
        let leaf = match self.translate(target, self.view(), Kind::Execute) {
            Ok(leaf) => leaf,
            Err(fault) => return Err(self.raise(Exception::InstructionAbort { iss: fault.0, far: target })),
        };
        let Some(memory) = self.memory.page(leaf.pa) else {
            let iss = tearless_arm64::esr::fsc::EXTERNAL;
            return Err(self.raise(Exception::InstructionAbort { iss, far: target }));
        };
        let place = CodePlace { pa: leaf.pa & !(PAGE - 1), host: memory.host };
        Ok((place, (leaf.global, self.tlb_size(target, leaf.log2_size))))
    }
}

const _: () = assert!(std::mem::offset_of!(CodePage, ops) == 0);
const _: Handler = decode_me;
