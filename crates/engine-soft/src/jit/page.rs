//! A page of guest memory with translated code: its blocks, and the words they were made from.

use super::translate;
use crate::cpu::PAGE;

/// Instructions per page.
pub(super) const WORDS: usize = PAGE as usize / 4;

/// Instructions per chunk: what is kept of a page comes in pieces, since most pages are executed in parts.
const CHUNK: usize = 64;

/// Bytes of a chunk.
pub(super) const CHUNK_SIZE: usize = size_of::<Chunk>();

/// A translated block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// Index of its first instruction.
    pub first: u16,
    /// Offset of its main entry.
    pub entry: u32,
    pub stale: bool,
}

struct Chunk {
    /// The words that translations depend on, which are those whose bit in `noted` is set.
    source: [u32; CHUNK],
    noted: u64,
    /// Main entries of blocks; 0 for none.
    entries: [u32; CHUNK],
    /// Where there are any.
    entered: u64,
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
            Some(chunk) => chunk.entries[word % CHUNK],
            None => 0,
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
        let none = || Box::new(Chunk { source: [0; CHUNK], noted: 0, entries: [0; CHUNK], entered: 0 });
        (place.get_or_insert_with(none), is_new)
    }

    /// Enters a block; returns how many chunks that took.
    pub fn enter(&mut self, block: Block) -> usize {
        let word = usize::from(block.first);
        self.blocks.push(block);
        let (chunk, is_new) = self.chunk(word);
        chunk.entries[word % CHUNK] = block.entry;
        chunk.entered |= 1 << (word % CHUNK);
        usize::from(is_new)
    }

    /// Notes that a translation depends on instruction `index` being `word`; returns how many chunks that took.
    pub fn note(&mut self, index: usize, word: u32) -> usize {
        let (chunk, is_new) = self.chunk(index);
        chunk.source[index % CHUNK] = word;
        chunk.noted |= 1 << (index % CHUNK);
        usize::from(is_new)
    }

    /// Whether a translation depends on instruction `index` being another one than `word`.
    pub fn contradicts(&self, index: usize, word: u32) -> bool {
        self.chunks[index / CHUNK % (WORDS / CHUNK)]
            .as_ref()
            .is_some_and(|c| c.noted >> (index % CHUNK) & 1 != 0 && c.source[index % CHUNK] != word)
    }

    /// Whether memory is what translations depend on.
    pub fn is_current(&self) -> bool {
        let chunks = self.chunks.iter().enumerate().filter_map(|(i, chunk)| Some((i, chunk.as_ref()?)));
        for (i, chunk) in chunks {
            let mut noted = chunk.noted;
            while noted != 0 {
                let at = noted.trailing_zeros() as usize;
                noted &= noted - 1;
                if translate::fetch(self.host, i * CHUNK + at) != chunk.source[at] {
                    return false;
                }
            }
        }
        true
    }

    /// Forgets what was noted, and where blocks begin.
    pub fn forget(&mut self) {
        for chunk in self.chunks.iter_mut().flatten() {
            (chunk.noted, chunk.entries, chunk.entered) = (0, [0; CHUNK], 0);
        }
    }
}
