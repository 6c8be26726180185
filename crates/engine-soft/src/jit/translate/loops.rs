//! Vector registers across the iterations of a loop.
//!
//! A block that ends up at its own start again is a loop. When vector registers are in use there, it is translated a
//! second time, with these loaded before the loop: the way back then goes to the first instruction with all of them
//! where they are, instead of by way of memory.

use super::{Aside, Translator, flags::Flags, vregs::Vectors, windows::Windows};
use crate::jit::asm::Cc;

/// The start of a loop.
pub(super) struct Start {
    at: u64,
    vectors: Vectors,
}

impl Translator<'_> {
    /// Where the block starts, in bytes from the start of the page.
    fn first_offset(&self) -> i32 {
        self.offset_of(0) as i32
    }

    /// At a way out to `target` if `cc`, where no flags are to be saved: goes back to the start of the loop, if that is
    /// the target, and says so. In the first translation, notes what there is to carry.
    pub(super) fn loop_if(&mut self, cc: Cc, target: i32) -> bool {
        if target != self.first_offset() || self.vectors.is_empty() {
            return false;
        }
        let Some(start) = &self.loop_start else {
            self.carried = Some(self.vectors.clone());
            return false;
        };
        if !start.vectors.holds_the_same(&self.vectors) {
            return false;
        }
        let at = start.at;
        let on = self.asm.jcc_short(cc.not());
        self.asm.cmp32_imm8_at(self.thunks.flag, 0);
        let from = self.asm.jcc_forward(Cc::Ne);
        // By way of the block's head, which looks at what wants attention.
        let vectors = self.vectors.clone();
        self.asides.push(Aside::Leave { from, target, vectors });
        self.asm.jmp(at);
        self.asm.bind_short(on);
        true
    }

    /// Translates the block again, with `vectors` loaded before the loop.
    pub(super) fn body_as_loop(&mut self, mut vectors: Vectors) {
        vectors.widen();
        self.asm.rewind();
        self.exits.clear();
        self.asides.clear();
        self.deopts.clear();
        self.cells = 0;
        self.index = 0;
        self.flags = Flags::in_memory();
        (self.sp_aligned, self.fp_ready, self.over) = (false, false, false);
        self.pending = None;
        self.windows = Windows::default();
        self.head();
        vectors.load_all(self.asm);
        self.loop_start = Some(Start { at: self.asm.label(), vectors: vectors.clone() });
        self.vectors = vectors;
        self.body();
    }
}
