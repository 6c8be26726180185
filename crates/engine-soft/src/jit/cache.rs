//! What has been translated: pages of blocks by physical address, and the links between blocks.
//!
//! Translated code is found by the physical address of the guest's code and the mode (exception level, whether FPCR is
//! zero, whether it is careful), and is relative to the program counter: all address spaces share it. Within a page blocks
//! jump to each other directly. A jump to another page depends on the address space, and is guarded by a *cell* that holds the page and context it is valid
//! in; an indirect jump probes the *jump cache*. Both compare against keys that TLB maintenance replaces, which drops
//! all of a context's links at once (see [`crate::cpu::CodeKeys`]).
//!
//! A page keeps the words that were translated. When the guest says that code changed, they are compared with memory;
//! if there is a difference, the heads of all its blocks are overwritten by a jump to the lookup, and later to their
//! successors.

use std::collections::HashMap;

use super::{
    asm::Asm,
    buffer::{CodeBuffer, Part},
    lockstep,
    page::{self, Block, Page, WORDS},
    returns::ReturnStack,
    thunks::{self, JUMP_ENTRIES, JUMP_MASK, JumpEntry, Thunks},
    translate::{self, Source},
};
use crate::{
    cpu::{Flag, PAGE},
    interp::{
        cache::PageHash,
        op::{Handler, Op, Operands},
    },
};

/// Bytes of code before a block's main entry: where jumps that may close a loop arrive, which look for attention.
pub(crate) const HEAD: u32 = 13;
/// Bytes in front of that, so that the main entry is where a fetch of the host starts.
pub(super) const GAP: usize = 3;

/// Most exits of a block to other pages.
const MOST_CELLS: usize = 2 * translate::MOST;

/// Most bytes that one block takes, exits and all.
const MOST_BLOCK: usize = 96 << 10;

/// Most instructions of a careful block.
const MOST_CAREFUL: usize = 12;

/// How many modes there are.
const MODES: u8 = 8;

/// What a page is found by.
fn page_key(pa: u64, mode: u8) -> u64 {
    pa | u64::from(mode % MODES)
}

/// Most bytes of what is kept of translated pages, of all vCPUs together.
const MOST_PAGES: usize = 16 << 20;

/// Bytes of a cell.
pub(super) const CELL: usize = 8;

/// An exit of a block to a known place, as it is in memory next to its side path: whoever takes that needs it next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Exit {
    /// Offset of the displacement of its jump.
    pub jump: u32,
    /// Offset of its cell; 0 for a jump within the page.
    pub cell: u32,
    /// Number of its own page; of an exit to another page that of the target when it was linked last, or [`NO_PAGE`].
    pub page: u32,
    /// What [`Exit::to`] takes, the flags in the lowest two bits.
    pub packed: i32,
}

/// The number of no page.
pub(super) const NO_PAGE: u32 = u32::MAX;

impl Exit {
    /// To the instruction `target` bytes from the start of page `page`, which has to look for attention if it `polls`, and
    /// is `careful` code.
    pub fn to(page: u32, target: i32, polls: bool, careful: bool) -> Self {
        debug_assert_eq!(target % 4, 0, "half an instruction");
        Self { jump: 0, cell: 0, page, packed: target | i32::from(polls) | i32::from(careful) << 1 }
    }

    pub fn to_bytes(self) -> [u8; 16] {
        let fields = [self.jump, self.cell, self.page, self.packed as u32].map(u32::to_le_bytes);
        std::array::from_fn(|i| fields[i / 4][i % 4])
    }

    fn from_bytes(bytes: [u8; 16]) -> Self {
        let field = |i: usize| u32::from_le_bytes(std::array::from_fn(|k| bytes[4 * i + k]));
        Self { jump: field(0), cell: field(1), page: field(2), packed: field(3) as i32 }
    }

    /// Target in bytes from the start of the page.
    pub fn target(&self) -> i32 {
        self.packed & !3
    }

    /// Whether the target has to look for attention.
    pub fn polls(&self) -> bool {
        self.packed & 1 != 0
    }

    /// Whether the target is careful code.
    pub fn is_careful(&self) -> bool {
        self.packed & 2 != 0
    }
}

/// Something that the caller has to find out first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The cache was full and is empty now: no code that was known before may be run any more.
    Emptied,
}

/// A block by the physical address of its first instruction: what every new process asks for thousands of, in one place
/// instead of the four that lead from a page to a block.
#[derive(Clone, Copy, Debug, Default)]
struct KnownBlock {
    key: u64,
    /// Its main entry; 0 for none.
    entry: u32,
    /// [`Cache::epoch`] when it was known to be current.
    epoch: u32,
}

const KNOWN_BLOCKS: usize = 1 << 16;

/// What the block at `offset` of the page at `pa` is known by.
fn block_key(pa: u64, mode: u8, offset: u32) -> u64 {
    pa | u64::from(offset) | u64::from(mode) << 56
}

/// Where in [`Cache::known_blocks`] it is.
fn known_index(key: u64) -> usize {
    let page = (key >> 12).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    (page ^ key >> 2) as usize % KNOWN_BLOCKS
}

/// A small cache of interpreter ops for instructions without a translation.
struct OpSlot {
    key: u64,
    ops: [Op; 2],
}

const OP_SLOTS: usize = 2048;

/// All translated code of a vCPU.
pub(crate) struct Cache {
    code: CodeBuffer,
    asm: Asm,
    cold: Asm,
    room: translate::Room,
    pub thunks: Thunks,
    /// Bytes of `code` that the thunks take.
    base: usize,
    pages: Vec<Page>,
    by_address: HashMap<u64, u32, PageHash>,
    known_blocks: Box<[KnownBlock]>,
    /// How many vCPUs share the bounds.
    vcpus: usize,
    /// How many chunks the pages have.
    chunks: usize,
    /// How many blocks were made.
    blocks: usize,
    /// By exception level.
    returns: [ReturnStack; 2],
    ops: Box<[OpSlot]>,
    epoch: u64,
    options: translate::Options,
    /// For lockstep: how many instructions the block with this main entry has. Blocks are not found by others then.
    lengths: Option<HashMap<u32, usize, PageHash>>,
    statistics: Statistics,
}

/// What was translated, since the vCPU began.
#[derive(Clone, Copy, Debug, Default)]
struct Statistics {
    blocks: u64,
    instructions: u64,
    hot_bytes: u64,
    cold_bytes: u64,
    emptied: u64,
}

impl Statistics {
    fn add(&mut self, instructions: usize, hot: usize, cold: usize) {
        self.blocks += 1;
        self.instructions += instructions as u64;
        self.hot_bytes += hot as u64;
        self.cold_bytes += cold as u64;
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        tracing::debug!("translated by the end: {:?}", self.statistics);
    }
}

// SAFETY: the pointers are to guest memory and to code, which move with the vCPU.
unsafe impl Send for Cache {}

/// Where in the jump cache `va` is.
fn jump_index(va: u64) -> usize {
    (va & u64::from(JUMP_MASK)) as usize / 4 % JUMP_ENTRIES
}

/// What the entry of `va` holds in the context with `key`.
fn jump_tag(va: u64, key: u64) -> u64 {
    va & !(PAGE - 4) ^ key
}

/// Stands behind an op that is run alone: hands itself back.
///
/// # Safety
/// See [`Handler`].
unsafe fn halt(_: &mut crate::cpu::Cpu, op: *const Op) -> *const Op {
    op
}

/// Bytes of code of all vCPUs together, and least bytes of one.
const CODE_SIZE: usize = 88 << 20;
const LEAST_CODE_SIZE: usize = 6 << 20;

impl Cache {
    /// A translator for one of `vcpus` vCPUs, with this `flag`, if `options` want one and this host can run what it makes.
    pub fn for_vcpu(options: crate::Options, vcpus: usize, flag: &Flag) -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt");
        if options.tier != crate::Tier::Jit || !has_all {
            return None;
        }
        let lengths = options.lockstep.then(HashMap::default);
        let options = translate::Options {
            exact_flags: options.exact_flags,
            single_checks: options.lockstep,
            alone: vcpus == 1 && !options.locked,
        };
        match Self::new(vcpus.max(1), options, flag) {
            Ok(mut cache) => {
                cache.lengths = lengths;
                Some(cache)
            }
            Err(e) => {
                tracing::warn!("no translation, since this host gives no executable memory: {e}");
                None
            }
        }
    }

    /// An empty cache with the share of one of `vcpus` vCPUs.
    ///
    /// # Errors
    /// When the host forbids executable memory.
    fn new(vcpus: usize, options: translate::Options, flag: &Flag) -> std::io::Result<Self> {
        let size = (CODE_SIZE / vcpus).max(LEAST_CODE_SIZE).next_multiple_of(1 << 20);
        let mut code = CodeBuffer::new(size, flag)?;
        let mut asm = Asm::new();
        asm.restart(code.next_address(Part::Hot));
        let thunks = thunks::emit(&mut asm, code.flag(), code.jumps());
        code.append(Part::Hot, asm.bytes());
        let mut returns = [ReturnStack::new()?, ReturnStack::new()?];
        returns.iter_mut().for_each(|stack| stack.fill(thunks.return_miss));
        let none = OpSlot { key: u64::MAX, ops: [Op { run: halt as Handler, o: Operands::default() }; 2] };
        Ok(Self {
            base: code.hot_bytes(),
            code,
            asm,
            cold: Asm::new(),
            room: translate::Room::default(),
            thunks,
            pages: Vec::new(),
            by_address: HashMap::default(),
            known_blocks: vec![KnownBlock::default(); KNOWN_BLOCKS].into_boxed_slice(),
            vcpus,
            chunks: 0,
            blocks: 0,
            returns,
            ops: (0..OP_SLOTS).map(|_| OpSlot { ..none }).collect(),
            epoch: 0,
            options,
            lengths: None,
            statistics: Statistics::default(),
        })
    }

    /// What the return stacks, by exception level, are when they are empty.
    pub fn returns(&self) -> [u64; 2] {
        self.returns.each_ref().map(ReturnStack::top)
    }

    /// Whether every block is run alone.
    pub fn is_lockstep(&self) -> bool {
        self.lengths.is_some()
    }

    /// In lockstep, the number of instructions of the block with main entry `entry`.
    pub fn length_of(&self, entry: u32) -> Option<usize> {
        self.lengths.as_ref()?.get(&entry).copied()
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.statistics.emptied += 1;
        tracing::debug!("translated code is dropped: {:?}", self.statistics);
        self.code.clear(self.base);
        self.pages.clear();
        (self.chunks, self.blocks) = (0, 0);
        self.by_address.clear();
        self.known_blocks.fill(KnownBlock::default());
        self.code.clear_jumps();
        self.returns.iter_mut().for_each(|stack| stack.fill(self.thunks.return_miss));
        if let Some(lengths) = &mut self.lengths {
            lengths.clear();
        }
    }

    /// Whether other vCPUs share the memory with what is translated from here on.
    pub fn has_siblings(&mut self, any: bool) {
        self.options.alone &= !any;
    }

    /// Enters that the block at `code` is at address `va` of the context with `key`.
    pub fn note_jump(&mut self, va: u64, key: u64, code: u64) {
        if self.is_lockstep() {
            return;
        }
        self.code.write_jump(jump_index(va), JumpEntry { tag: jump_tag(va, key), code });
    }

    /// What was entered for address `va` of the context with `key`, if it still is.
    pub fn known_jump(&self, va: u64, key: u64) -> Option<u64> {
        let e = self.code.read_jump(jump_index(va));
        (e.tag == jump_tag(va, key)).then_some(e.code)
    }

    /// The main entry of the block at `offset` of the page at `pa`, if it is known to be current.
    pub fn known_block(&self, pa: u64, mode: u8, offset: u32) -> Option<u32> {
        let key = block_key(pa, mode, offset);
        let known = &self.known_blocks[known_index(key)];
        (known.key == key && known.entry != 0 && known.epoch == self.epoch as u32).then_some(known.entry)
    }

    /// Enters the main entry of the block at `offset` of the page at `pa`.
    pub fn note_block(&mut self, pa: u64, mode: u8, offset: u32, entry: u32) {
        if self.is_lockstep() {
            return;
        }
        let key = block_key(pa, mode, offset);
        self.known_blocks[known_index(key)] = KnownBlock { key, entry, epoch: self.epoch as u32 };
    }

    /// The number of the page at physical address `pa`, whose memory is at `host`, in `mode`.
    ///
    /// # Errors
    /// When the cache had to be emptied.
    pub fn page(&mut self, pa: u64, host: *const u8, mode: u8) -> Result<u32, Missing> {
        let key = page_key(pa, mode);
        if let Some(&index) = self.by_address.get(&key) {
            if self.pages[index as usize].epoch != self.epoch {
                self.validate(index);
            }
            return Ok(index);
        }
        let bytes = self.pages.len() * size_of::<Page>()
            + self.chunks * page::CHUNK_SIZE
            + self.blocks * page::BLOCK_SIZE;
        if bytes > MOST_PAGES / self.vcpus {
            self.clear();
            return Err(Missing::Emptied);
        }
        let index = self.pages.len() as u32;
        self.pages.push(Page::new((pa, host), mode, self.epoch));
        self.by_address.insert(key, index);
        Ok(index)
    }

    /// The number of the page of careful code that belongs to `page`.
    ///
    /// # Errors
    /// When the cache had to be emptied.
    pub fn careful(&mut self, page: u32) -> Result<u32, Missing> {
        let p = &self.pages[page as usize];
        let careful = self.page(p.pa, p.host, p.mode | translate::CAREFUL)?;
        self.pages[careful as usize].ordinary = Some(page);
        Ok(careful)
    }

    /// The main entry of the block at `offset` of page `page`: an offset in the code.
    ///
    /// # Errors
    /// When the cache had to be emptied.
    pub fn block(&mut self, page: u32, offset: u32) -> Result<u32, Missing> {
        let word = offset as usize / 4 % WORDS;
        match self.pages[page as usize].entry(word) {
            0 => self.translate(page, word),
            entry => Ok(entry),
        }
    }

    fn translate(&mut self, page: u32, word: usize) -> Result<u32, Missing> {
        if self.code.room() < MOST_BLOCK {
            self.clear();
            return Err(Missing::Emptied);
        }
        let p = &self.pages[page as usize];
        let start = self.code.next_address(Part::Hot);
        self.asm.restart(start);
        let start = start + GAP as u64;
        self.cold.restart(self.code.next_address(Part::Cold));
        // Careful code is rare, and left again soon.
        let most = if p.mode & translate::CAREFUL != 0 { MOST_CAREFUL } else { translate::MOST };
        // Where a block begins already, this one ends: what is behind would be there twice.
        let mut end = p.next_block(word, most).unwrap_or(word + most);
        if self.is_lockstep() {
            end = lockstep::plain_end(p.host, word, end.min(WORDS));
        }
        // From careful code it goes on in ordinary one.
        let exits_to = p.ordinary.unwrap_or(page);
        let source = Source {
            host: p.host,
            word,
            end,
            mode: p.mode,
            page: exits_to,
            code: self.code.address(0),
            cells: self.code.next_address(Part::Cells),
        };
        let buffers = (&mut self.asm, &mut self.cold, &mut self.room);
        let made = translate::translate(buffers, &source, &self.thunks, self.options);
        let length = made.length;
        self.code.append(Part::Hot, self.asm.bytes());
        self.code.append(Part::Cold, self.cold.bytes());
        // No page equals zero under a key.
        self.code.append(Part::Cells, &[0; CELL * MOST_CELLS][..CELL * made.cells]);
        self.statistics.add(length, self.asm.len(), self.cold.len());
        // What changed since it was noted, for other blocks, must not be noted anew before they are stale: when the guest
        // says that code changed, there would be no difference any more.
        if p.contradicts(&self.room.seen) {
            self.make_stale(page);
        }
        let entry = self.code.offset(start) + HEAD;
        if let Some(lengths) = &mut self.lengths {
            lengths.insert(entry, length);
        }
        let p = &mut self.pages[page as usize];
        for &(index, word) in &self.room.seen {
            self.chunks += p.note(usize::from(index), word);
        }
        // Whoever still jumps to what was here before is sent on.
        if p.stale != 0 {
            let code = &mut self.code;
            p.blocks.retain(|b| {
                let succeeded = b.stale && usize::from(b.first) == word;
                if succeeded {
                    code.patch(b.entry - HEAD, &[0xe9]);
                    code.patch_displacement(b.entry - HEAD + 1, start);
                    p.stale -= 1;
                }
                !succeeded
            });
        }
        self.chunks += p.enter(Block { first: word as u16, entry, stale: false });
        self.blocks += 1;
        self.link_known(exits_to);
        Ok(entry)
    }

    /// Has the exits of the block that was made just now jump to what blocks of their own page `page` there are.
    fn link_known(&mut self, page: u32) {
        if self.is_lockstep() {
            return;
        }
        let exits = std::mem::take(&mut self.room.exits);
        for exit in exits.iter().filter(|e| e.cell == 0 && !e.is_careful()) {
            let entry = self.pages[page as usize].entry(exit.target() as usize / 4 % WORDS);
            if entry != 0 {
                self.link(exit, entry);
            }
        }
        self.room.exits = exits;
    }

    /// The address of the code at offset `at`.
    pub fn address(&self, at: u32) -> u64 {
        self.code.address(at)
    }

    /// The offset of the code at `address`.
    pub fn offset_of(&self, address: u64) -> u32 {
        self.code.offset(address)
    }

    /// How often everything was dropped: what was known before then means nothing.
    pub fn times_emptied(&self) -> u64 {
        self.statistics.emptied
    }

    /// The exit at offset `at`.
    pub fn exit(&self, at: u32) -> Exit {
        Exit::from_bytes(self.code.read(at))
    }

    /// Has `exit` jump to the block with main entry `entry`.
    pub fn link(&mut self, exit: &Exit, entry: u32) -> u64 {
        let target = self.code.address(if exit.polls() { entry - HEAD } else { entry });
        self.code.patch_displacement(exit.jump, target);
        target
    }

    /// Has the exit at offset `at`, which leads to another page, jump to the block with main entry `entry`, of the page at
    /// `pa` in `mode`.
    pub fn link_far(&mut self, at: u32, entry: u32, pa: u64, mode: u8) {
        let page = self.by_address.get(&page_key(pa, mode)).copied().unwrap_or(NO_PAGE);
        let exit = Exit { page, ..self.exit(at) };
        self.code.patch(at, &exit.to_bytes());
        self.link(&exit, entry);
    }

    /// Where `exit` jumps to, if it was linked and that is in the page at `pa` in `mode`.
    pub fn linked(&self, exit: &Exit, pa: u64, mode: u8) -> Option<u64> {
        let page = self.pages.get(exit.page as usize)?;
        let right = page.pa == pa && page.mode == mode && page.epoch == self.epoch;
        right.then(|| self.code.target(exit.jump))
    }

    /// Lets the exit to another page be taken where page and context are `here`.
    pub fn allow(&mut self, exit: &Exit, here: u64) {
        self.code.patch(exit.cell, &here.to_le_bytes());
    }

    /// Makes sure that no code of the page at `pa` is run that is not in memory any more.
    pub fn invalidate(&mut self, pa: u64) {
        for mode in 0..MODES {
            if let Some(&index) = self.by_address.get(&page_key(pa, mode)) {
                self.validate(index);
            }
        }
    }

    /// The same for all pages, at the latest when they are next looked up; links between pages must be dropped as well.
    pub fn invalidate_all(&mut self) {
        self.epoch += 1;
        if self.epoch as u32 == 0 {
            self.known_blocks.fill(KnownBlock::default());
        }
    }

    fn validate(&mut self, index: u32) {
        let p = &mut self.pages[index as usize];
        p.epoch = self.epoch;
        if !p.is_current() {
            self.make_stale(index);
        }
    }

    /// Has all blocks of a page (since a block depends on words beyond it too) looked up anew.
    fn make_stale(&mut self, index: u32) {
        let p = &mut self.pages[index as usize];
        p.forget();
        for b in p.blocks.iter_mut().filter(|b| !b.stale) {
            b.stale = true;
            p.stale += 1;
            let key = block_key(p.pa, p.mode, u32::from(b.first) * 4);
            let known = &mut self.known_blocks[known_index(key)];
            if known.key == key {
                *known = KnownBlock::default();
            }
            // mov ecx, offset; jmp again -- and at the main entry a short jump back to it.
            let mut head = [0xb9, 0, 0, 0, 0, 0xe9];
            head[1..5].copy_from_slice(&(u32::from(b.first) * 4).to_le_bytes());
            self.code.patch(b.entry - HEAD, &head);
            let careful = p.mode & translate::CAREFUL != 0;
            let again = if careful { self.thunks.again_carefully } else { self.thunks.again };
            self.code.patch_displacement(b.entry - HEAD + 6, again);
            self.code.patch(b.entry, &[0xeb, (HEAD as u8 + 2).wrapping_neg()]);
        }
    }

    /// The interpreter's op for instruction `word` at `offset` of its page, followed by one that hands itself back.
    pub fn op(&mut self, word: u32, offset: u32) -> *const Op {
        let key = u64::from(offset) << 32 | u64::from(word);
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let slot = &mut self.ops[hash as usize % OP_SLOTS];
        if slot.key != key {
            slot.key = key;
            slot.ops[0] = crate::interp::lower::lower(&crate::decode::decode(word), offset as usize / 4);
        }
        slot.ops.as_ptr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{shared::Request, testing::TestCpu};

    /// Else its atomic instructions are none to the other.
    #[test]
    fn a_vcpu_that_began_alone_learns_of_another() {
        let cpu = &mut TestCpu::new(&[]).cpu;
        let options = crate::Options { tier: crate::Tier::Jit, ..Default::default() };
        let Some(jit) = Cache::for_vcpu(options, 1, &cpu.mailbox.attention) else {
            eprintln!("skipped: this host runs no translated code");
            return;
        };
        cpu.use_jit(jit);
        let alone = |cpu: &crate::cpu::Cpu| cpu.jit.as_ref().is_some_and(|jit| jit.options.alone);
        cpu.forget(Request::Memory);
        assert!(alone(cpu));
        assert!(cpu.shared.add_vcpu(1).is_some());
        cpu.forget(Request::Memory);
        assert!(!alone(cpu));
    }
}
