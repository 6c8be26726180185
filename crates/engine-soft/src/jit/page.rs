//! A page of guest memory with translated code: its blocks, and the words they were made from.

use super::translate;
use crate::cpu::PAGE;

/// Instructions per page.
pub(super) const WORDS: usize = PAGE as usize / 4;

/// Instructions per chunk: what is kept of a page comes in pieces, since most pages are executed in parts.
const CHUNK: usize = 64;

/// Bytes of a chunk, with what the allocator adds.
pub(super) const CHUNK_SIZE: usize = size_of::<Chunk>() + 32;

/// Bytes that a block takes here, with room to grow.
pub(super) const BLOCK_SIZE: usize = 2 * (size_of::<Block>() + 4);

/// A translated block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// Index of its first instruction.
    pub first: u16,
    /// Offset of its main entry.
    pub entry: u32,
    pub stale: bool,
}

#[derive(Default)]
struct Chunk {
    /// The words that translations depend on: those whose bit is set.
    noted: u64,
    /// What those words were, see [`mixed`].
    sum: u64,
    /// Where blocks begin.
    entered: u64,
    /// The main entries of those blocks, in order.
    entries: Vec<u32>,
}

/// `word` at `index` as a summand of what tells whether words changed: one word that changes always changes the sum, and two
/// hide each other's change by chance only. A guest can make two texts with one sum, to the effect that it executes code it
/// has replaced without the translator's notice, which is nobody's loss but its own.
fn mixed(index: usize, word: u32) -> u64 {
    u64::from(word).wrapping_mul(FACTORS[index % CHUNK])
}

/// Odd numbers with nothing in common.
const FACTORS: [u64; CHUNK] = {
    let (mut factors, mut i) = ([0; CHUNK], 0);
    while i < CHUNK {
        let mut x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        factors[i] = (x ^ x >> 31) | 1;
        i += 1;
    }
    factors
};

impl Chunk {
    /// How many blocks begin before instruction `word`.
    fn rank(&self, word: usize) -> usize {
        (self.entered & ((1 << (word % CHUNK)) - 1)).count_ones() as usize
    }

    /// Whether the words that were noted are still what they were: what `seen`, of this page's `(index, word)`, says of
    /// those of this chunk, the `number`th, and what memory at `host` says of the others.
    fn is_current(&self, (number, host): (usize, *const u8), seen: &[(u16, u32)]) -> bool {
        let (mut left, mut sum) = (self.noted, 0_u64);
        for &(index, word) in seen.iter().filter(|(index, _)| usize::from(*index) / CHUNK == number) {
            let at = usize::from(index) % CHUNK;
            if left >> at & 1 != 0 {
                left &= !(1 << at);
                sum = sum.wrapping_add(mixed(at, word));
            }
        }
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            left &= left - 1;
            sum = sum.wrapping_add(mixed(at, translate::fetch(host, number * CHUNK + at)));
        }
        sum == self.sum
    }
}

/// A page in one mode (see [`translate::Source`]).
pub(super) struct Page {
    pub pa: u64,
    pub host: *const u8,
    pub mode: u8,
    /// Of a page of careful code: the number of the ordinary one.
    pub ordinary: Option<u32>,
    chunks: [Option<Box<Chunk>>; WORDS / CHUNK],
    pub blocks: Vec<Block>,
    /// How many of them are stale.
    pub stale: usize,
    /// The cache's epoch when the words were last known to be those in memory.
    pub epoch: u64,
}

impl Page {
    pub fn new((pa, host): (u64, *const u8), mode: u8, epoch: u64) -> Self {
        Self {
            pa,
            host,
            mode,
            ordinary: None,
            chunks: Default::default(),
            blocks: Vec::new(),
            stale: 0,
            epoch,
        }
    }

    /// The main entry of the block at instruction `word`; 0 for none.
    pub fn entry(&self, word: usize) -> u32 {
        match &self.chunks[word / CHUNK % (WORDS / CHUNK)] {
            Some(chunk) if chunk.entered >> (word % CHUNK) & 1 != 0 => {
                chunk.entries.get(chunk.rank(word)).copied().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// The first of the `most` instructions behind `word` at which a block begins.
    pub fn next_block(&self, word: usize, most: usize) -> Option<usize> {
        let end = (word + most).min(WORDS);
        let mut at = word + 1;
        while at < end {
            let chunk = self.chunks[at / CHUNK].as_ref();
            let entered = chunk.map_or(0, |chunk| chunk.entered) >> (at % CHUNK);
            if entered != 0 {
                return Some(at + entered.trailing_zeros() as usize).filter(|&found| found < end);
            }
            at = (at / CHUNK + 1) * CHUNK;
        }
        None
    }

    /// The chunk of `word`, and whether it is new.
    fn chunk(&mut self, word: usize) -> (&mut Chunk, bool) {
        let place = &mut self.chunks[word / CHUNK % (WORDS / CHUNK)];
        let is_new = place.is_none();
        (place.get_or_insert_default(), is_new)
    }

    /// Enters a block; returns how many chunks that took.
    pub fn enter(&mut self, block: Block) -> usize {
        let word = usize::from(block.first);
        self.blocks.push(block);
        let (chunk, is_new) = self.chunk(word);
        let rank = chunk.rank(word);
        if chunk.entered >> (word % CHUNK) & 1 == 0 {
            chunk.entered |= 1 << (word % CHUNK);
            chunk.entries.insert(rank, block.entry);
        } else if let Some(entry) = chunk.entries.get_mut(rank) {
            *entry = block.entry;
        }
        usize::from(is_new)
    }

    /// Notes that a translation depends on instruction `index` being `word`; returns how many chunks that took.
    pub fn note(&mut self, index: usize, word: u32) -> usize {
        let (chunk, is_new) = self.chunk(index);
        if chunk.noted >> (index % CHUNK) & 1 == 0 {
            chunk.noted |= 1 << (index % CHUNK);
            chunk.sum = chunk.sum.wrapping_add(mixed(index, word));
        }
        usize::from(is_new)
    }

    /// Whether translations depend on other words than these, which are `(index, word)`.
    pub fn contradicts(&self, seen: &[(u16, u32)]) -> bool {
        let overlaps = seen.iter().fold(0_u32, |set, &(index, _)| {
            let (i, bit) = (usize::from(index) / CHUNK % (WORDS / CHUNK), usize::from(index) % CHUNK);
            let noted = self.chunks[i].as_ref().map_or(0, |chunk| chunk.noted);
            set | u32::from(noted >> bit & 1 != 0) << i
        });
        let mut chunks = self.chunks.iter().enumerate().filter(|(i, _)| overlaps >> i & 1 != 0);
        !chunks.all(|(i, chunk)| chunk.as_ref().is_none_or(|chunk| chunk.is_current((i, self.host), seen)))
    }

    /// Whether memory is what translations depend on.
    pub fn is_current(&self) -> bool {
        let mut chunks = self.chunks.iter().enumerate();
        chunks.all(|(i, chunk)| chunk.as_ref().is_none_or(|chunk| chunk.is_current((i, self.host), &[])))
    }

    /// Forgets what was noted, and where blocks begin.
    pub fn forget(&mut self) {
        for chunk in self.chunks.iter_mut().flatten() {
            **chunk = Chunk::default();
        }
    }
}
