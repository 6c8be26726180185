//! V registers in the host's vector registers, within a block.
//!
//! XMM0 to XMM12 are a cache of V registers: loaded at first use, written back when the block is left or the
//! interpreter is called.

use super::Translator;
use crate::{
    decode::Reg,
    jit::{asm::Asm, asm_simd::Xmm, state},
};

/// Registers of the cache.
const CACHED: usize = 13;

/// Which V register each host register holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Vectors {
    held: [Option<Held>; CACHED],
    /// Where the next one goes when all are taken.
    next: u8,
    /// Those that the current instruction uses, which must stay.
    locked: u16,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    v: Reg,
    dirty: bool,
}

impl Vectors {
    fn find(&self, v: Reg) -> Option<usize> {
        self.held.iter().position(|h| h.is_some_and(|h| h.v == v))
    }

    /// Whether memory lacks something.
    pub fn is_dirty(&self) -> bool {
        self.held.iter().flatten().any(|h| h.dirty)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.iter().all(Option::is_none)
    }

    /// Whether each host register holds the same V register, and memory lacks no more than in `other`.
    pub fn holds_the_same(&self, other: &Self) -> bool {
        let mut both = self.held.iter().zip(&other.held);
        both.all(|(a, b)| match (a, b) {
            (Some(a), Some(b)) => a.v == b.v && a.dirty >= b.dirty,
            (a, b) => a.is_none() && b.is_none(),
        })
    }

    /// Writes what memory lacks.
    pub fn store_dirty(&self, asm: &mut Asm) {
        for (i, held) in self.held.iter().enumerate() {
            if let Some(Held { v, dirty: true }) = *held {
                asm.vmovups_store(state::v(v), Xmm(i as u8));
            }
        }
    }

    /// Loads all that are held.
    pub fn load_all(&self, asm: &mut Asm) {
        for (i, held) in self.held.iter().enumerate() {
            if let Some(held) = held {
                asm.vmovups_load(Xmm(i as u8), state::v(held.v));
            }
        }
    }
}

impl Translator<'_> {
    /// The current instruction uses none yet.
    pub(super) fn unlock_vectors(&mut self) {
        self.vectors.locked = 0;
    }

    /// Writes what memory lacks.
    pub(super) fn store_vectors(&mut self) {
        self.vectors.store_dirty(self.asm);
        for held in self.vectors.held.iter_mut().flatten() {
            held.dirty = false;
        }
    }

    /// The host register for `v`, and whether it holds its value.
    fn vector(&mut self, v: Reg) -> (usize, bool) {
        if let Some(i) = self.vectors.find(v) {
            self.vectors.locked |= 1 << i;
            return (i, true);
        }
        let free = self.vectors.held.iter().position(Option::is_none);
        let i = free.unwrap_or_else(|| {
            let mut i = usize::from(self.vectors.next);
            // An instruction uses at most seven.
            while self.vectors.locked >> i & 1 != 0 {
                i = (i + 1) % CACHED;
            }
            self.vectors.next = ((i + 1) % CACHED) as u8;
            i
        });
        if let Some(Held { v, dirty: true }) = self.vectors.held[i] {
            self.asm.vmovups_store(state::v(v), Xmm(i as u8));
        }
        self.vectors.held[i] = Some(Held { v, dirty: false });
        self.vectors.locked |= 1 << i;
        (i, false)
    }

    fn dirty(&mut self, i: usize) {
        if let Some(held) = &mut self.vectors.held[i] {
            held.dirty = true;
        }
    }

    /// A host register that holds `v`, for reading during this instruction.
    pub(super) fn v_read(&mut self, v: Reg) -> Xmm {
        let (i, loaded) = self.vector(v);
        if !loaded {
            self.asm.vmovups_load(Xmm(i as u8), state::v(v));
        }
        Xmm(i as u8)
    }

    /// A host register that will be overwritten with the new value of `v`, all 128 bits.
    pub(super) fn v_write(&mut self, v: Reg) -> Xmm {
        let (i, _) = self.vector(v);
        self.dirty(i);
        Xmm(i as u8)
    }

    /// A host register that holds `v`, for changing it.
    pub(super) fn v_modify(&mut self, v: Reg) -> Xmm {
        let xmm = self.v_read(v);
        self.dirty(usize::from(xmm.0));
        xmm
    }
}
