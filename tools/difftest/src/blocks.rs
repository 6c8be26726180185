//! Where the blocks of a program lie, and what that makes of their branches.

use crate::rng::Rng;

/// The block behind the last one: the end of the program.
pub const END: usize = usize::MAX;

/// What an instruction holds of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixup {
    /// B, BL.
    Near,
    /// B.cond, CBZ, CBNZ.
    Conditional,
    /// TBZ, TBNZ.
    Test,
    /// ADR.
    Address,
    /// MOVZ and MOVK at `at` and behind it: what to XOR to the target so that it becomes `becomes`.
    Difference {
        /// The other instruction.
        becomes: Word,
    },
}

/// An instruction, if need be with a target of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// As it is.
    Plain(u32),
    /// B to the begin of a block.
    Branch(usize),
}

/// A place in a program: a block, and an instruction in it.
pub type Place = (usize, usize);

/// A block under construction.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Its instructions.
    pub words: Vec<u32>,
    /// Their names.
    pub names: Vec<&'static str>,
    /// Instructions that refer to places: index, how, where.
    pub fixups: Vec<(usize, Fixup, Place)>,
    /// The block that follows unless it branches; `None` if it always does.
    pub next: Option<usize>,
}

/// A program that has got its places.
pub struct LaidOut {
    /// Its instructions, 0 in the gaps.
    pub words: Vec<u32>,
    /// Their names.
    pub names: Vec<&'static str>,
}

const B: u32 = 0x1400_0000;

/// Puts the blocks in random order, one of them across word `middle`, gaps here and there; the first word branches to
/// block 0. `None` if that needs more than `room` words.
pub fn lay_out(mut blocks: Vec<Block>, rng: &mut Rng, middle: usize, room: usize) -> Option<LaidOut> {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    if rng.one_in(2) {
        for i in (1..order.len()).rev() {
            order.swap(i, rng.below(i as u64 + 1) as usize);
        }
    }
    let across = rng.below(order.len() as u64) as usize;
    let mut starts = vec![0; blocks.len()];
    let mut cursor = 1;
    for (i, id) in order.iter().enumerate() {
        let length = blocks[*id].words.len();
        if i == across && length > 1 {
            cursor = cursor.max(middle.saturating_sub(1 + rng.below(length as u64 - 1) as usize));
        }
        starts[*id] = cursor;
        let follows = order.get(i + 1).copied().filter(|_| i + 1 != across);
        match blocks[*id].next {
            Some(next) if follows == Some(next) && !rng.one_in(4) => cursor += length,
            Some(next) => {
                let block = &mut blocks[*id];
                block.fixups.push((length, Fixup::Near, (next, 0)));
                block.words.push(B);
                block.names.push("jump");
                cursor += length + 1 + gap(rng);
            }
            None => cursor += length + gap(rng),
        }
    }
    (cursor <= room).then(|| resolve(&blocks, &starts, cursor))
}

fn gap(rng: &mut Rng) -> usize {
    if rng.one_in(3) { rng.below(20) as usize } else { 0 }
}

/// Fills in what depends on places.
fn resolve(blocks: &[Block], starts: &[usize], end: usize) -> LaidOut {
    let address = |(block, index): Place| if block == END { end } else { starts[block] + index };
    let mut out = LaidOut { words: vec![0; end], names: vec!["gap"; end] };
    out.words[0] = near(address((0, 0)) as i64);
    out.names[0] = "jump";
    for (block, start) in blocks.iter().zip(starts) {
        out.words[*start..start + block.words.len()].copy_from_slice(&block.words);
        out.names[*start..start + block.names.len()].copy_from_slice(&block.names);
        for (at, fixup, place) in &block.fixups {
            let delta = address(*place) as i64 - (start + at) as i64;
            let bits = delta as u32;
            out.words[start + at] |= match fixup {
                Fixup::Near => bits & 0x03FF_FFFF,
                Fixup::Conditional => (bits & 0x7_FFFF) << 5,
                Fixup::Test => (bits & 0x3FFF) << 5,
                Fixup::Address => (bits & 0x7_FFFF) << 5,
                Fixup::Difference { .. } => 0,
            };
        }
    }
    // Differences last: the instruction that is to change may have a target too.
    for (block, start) in blocks.iter().zip(starts) {
        for (at, fixup, place) in &block.fixups {
            if let Fixup::Difference { becomes } = fixup {
                let site = address(*place);
                let new = match becomes {
                    Word::Plain(word) => *word,
                    Word::Branch(to) => near(address((*to, 0)) as i64 - site as i64),
                };
                let difference = out.words[site] ^ new;
                out.words[start + at] |= (difference & 0xFFFF) << 5;
                out.words[start + at + 1] |= (difference >> 16) << 5;
            }
        }
    }
    out
}

fn near(delta: i64) -> u32 {
    B | delta as u32 & 0x03FF_FFFF
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(words: &[u32], next: Option<usize>) -> Block {
        Block { words: words.to_vec(), names: vec!["test"; words.len()], fixups: Vec::new(), next }
    }

    #[test]
    fn branches_reach_their_blocks() {
        for seed in 0..200 {
            let mut first = block(&[1, 2, 0x5400_0000], Some(1));
            first.fixups.push((2, Fixup::Conditional, (2, 1)));
            let blocks = vec![first, block(&[3], Some(2)), block(&[4, 5], Some(END))];
            let out = lay_out(blocks, &mut Rng::for_sequence(seed, 0), 30, 100).unwrap();
            let at = |word: u32| out.words.iter().position(|w| *w == word).unwrap();
            assert_eq!(out.words[0], near(at(1) as i64));
            let delta = (out.words[at(2) + 1] << 8) as i32 >> 13;
            assert_eq!(delta, at(5) as i32 - at(2) as i32 - 1);
            let follow = |from: usize| {
                let word = out.words[from];
                if word >> 26 == 5 {
                    from.wrapping_add_signed(((word << 6) as i32 >> 6) as isize)
                } else {
                    from
                }
            };
            assert_eq!(follow(at(3) + 1), at(4), "falls or jumps");
            assert_eq!(follow(at(5) + 1), out.words.len(), "the end");
        }
    }

    #[test]
    fn a_difference_turns_one_word_into_the_other() {
        let mut first = block(&[0xD280_0000, 0xF2A0_0000, 7], Some(END));
        let (site, becomes) = ((0, 2), Word::Branch(0));
        first.fixups.push((0, Fixup::Difference { becomes }, site));
        let out = resolve(&[first], &[1], 4);
        let half = |at: usize| out.words[at] >> 5 & 0xFFFF;
        assert_eq!(7 ^ (half(1) | half(2) << 16), near(-2));
    }

    #[test]
    fn too_much_is_refused() {
        let long = block(&[1; 50], Some(END));
        assert!(lay_out(vec![long], &mut Rng::for_sequence(1, 1), 30, 40).is_none());
    }
}
