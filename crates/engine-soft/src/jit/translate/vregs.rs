//! V registers in the host's vector registers, within a block.
//!
//! XMM0 to XMM12 are a cache of V registers: loaded at first use, written back when the block is left or the
//! interpreter is called.

use super::Translator;
use crate::{
    decode::Reg,
    jit::{
        asm::Asm,
        asm_simd::{Xmm, XmmM},
        state,
    },
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
    /// log2 of the bytes beyond which all are known to be zero.
    width: u8,
}

/// log2 of the bytes of a register.
const FULL: u8 = 4;

/// Code that writes, and code that loads, the V registers that the first so many host registers hold.
pub(super) struct Ladder {
    vectors: Vectors,
    store: [u64; CACHED + 1],
    load: [u64; CACHED + 1],
}

impl Vectors {
    fn find(&self, v: Reg) -> Option<usize> {
        self.held.iter().position(|h| h.is_some_and(|h| h.v == v))
    }

    /// Whether memory lacks something.
    pub fn is_dirty(&self) -> bool {
        self.held.iter().flatten().any(|h| h.dirty)
    }

    /// How many are held, which are the first ones, if `other` holds the same and perhaps more.
    fn as_first_of(&self, other: &Self) -> Option<usize> {
        let count = self.held.iter().flatten().count();
        let mut both = self.held[..count].iter().zip(&other.held);
        both.all(|(a, b)| a.is_some_and(|a| b.is_some_and(|b| a.v == b.v))).then_some(count)
    }

    /// Forgets what is known to be zero.
    pub fn widen(&mut self) {
        for held in self.held.iter_mut().flatten() {
            held.width = FULL;
        }
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
            if let Some(Held { v, dirty: true, .. }) = *held {
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
        if let Some(Held { v, dirty: true, .. }) = self.vectors.held[i] {
            self.asm.vmovups_store(state::v(v), Xmm(i as u8));
        }
        self.vectors.held[i] = Some(Held { v, dirty: false, width: FULL });
        self.vectors.locked |= 1 << i;
        (i, false)
    }

    fn dirty(&mut self, i: usize) {
        if let Some(held) = &mut self.vectors.held[i] {
            held.dirty = true;
            held.width = FULL;
        }
    }

    /// In `v`, which is held, all beyond 1 << `width` bytes is zero.
    pub(super) fn v_is_narrow(&mut self, v: Reg, width: u8) {
        if let Some(held) = self.vectors.held.iter_mut().flatten().find(|held| held.v == v) {
            held.width = width;
        }
    }

    /// Whether in `v` all beyond 1 << `width` bytes is known to be zero.
    pub(super) fn v_has_width(&self, v: Reg, width: u8) -> bool {
        self.vectors.held.iter().flatten().any(|held| held.v == v && held.width <= width)
    }

    /// Calls code that writes all V registers that are held in `before`, and with them those of the instruction that
    /// is going to be executed again.
    pub(super) fn call_store(&mut self, before: &Vectors) {
        if let Some((ladder, count)) = self.ladder(before) {
            self.asm.call(self.ladders[ladder].store[count]);
        }
    }

    /// Calls code that loads all V registers that are held in `after`.
    pub(super) fn call_load(&mut self, after: &Vectors) {
        if let Some((ladder, count)) = self.ladder(after) {
            self.asm.call(self.ladders[ladder].load[count]);
        }
    }

    fn ladder(&self, vectors: &Vectors) -> Option<(usize, usize)> {
        if vectors.is_empty() {
            return None;
        }
        let mut ladders = self.ladders.iter().enumerate();
        ladders.find_map(|(i, ladder)| vectors.as_first_of(&ladder.vectors).map(|count| (i, count)))
    }

    /// Emits code for [`Translator::call_store`] and [`Translator::call_load`] with `vectors`, unless there is some.
    pub(super) fn make_ladder(&mut self, vectors: &Vectors) {
        if vectors.is_empty() || self.ladder(vectors).is_some() {
            return;
        }
        let mut ladder = Ladder { vectors: vectors.clone(), store: [0; CACHED + 1], load: [0; CACHED + 1] };
        for (i, held) in vectors.held.iter().enumerate().rev() {
            if let Some(held) = held {
                ladder.store[i + 1] = self.asm.here();
                self.asm.vmovups_store(state::v(held.v), Xmm(i as u8));
            }
        }
        self.asm.ret();
        for (i, held) in vectors.held.iter().enumerate().rev() {
            if let Some(held) = held {
                ladder.load[i + 1] = self.asm.here();
                self.asm.vmovups_load(Xmm(i as u8), state::v(held.v));
            }
        }
        self.asm.ret();
        self.ladders.push(ladder);
    }

    /// A host register that holds `v`, for reading during this instruction.
    pub(super) fn v_read(&mut self, v: Reg) -> Xmm {
        let (i, loaded) = self.vector(v);
        if !loaded {
            self.asm.vmovups_load(Xmm(i as u8), state::v(v));
        }
        Xmm(i as u8)
    }

    /// `v` as an operand for reading during this instruction: where it is in memory, if another one would have to make
    /// room for it.
    pub(super) fn v_operand(&mut self, v: Reg) -> XmmM {
        let is_full = self.vectors.held.iter().all(Option::is_some);
        if is_full && self.vectors.find(v).is_none() {
            return XmmM::M(state::v(v));
        }
        XmmM::R(self.v_read(v))
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
