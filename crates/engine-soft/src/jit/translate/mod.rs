//! From instructions to code: one block at a time, one pass after a look ahead at where NZCV is needed.
//!
//! A block is a straight line of at most [`MOST`] instructions with side exits, within a page. What its instructions
//! need besides the main path (taken side exits, the interpreter's help when something is out of the ordinary) is put
//! behind it.

mod atomics;
mod bulk;
mod flags;
mod flow;
mod integer;
mod loops;
mod memory;
mod operands;
mod shifts;
pub(super) mod simd;
mod system;
mod unprivileged;
mod vregs;
mod windows;

use super::{
    asm::{Asm, Cc, Patch, RAX, RCX},
    cache::{Exit, GAP, HEAD},
    copies::Copies,
    page::WORDS,
    state::field,
    thunks::Thunks,
};
use crate::{
    cpu::{Unit, offset},
    decode::{Insn, decode},
};
use flags::Flags;
use vregs::{Ladder, Vectors};
use windows::Windows;

/// Most instructions of a block; a set of them is a word.
pub(super) const MOST: usize = 64;

/// How to translate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// NZCV is exact wherever an exception may be taken, not only where it is read before it is written again.
    pub exact_flags: bool,
    /// Each access is checked on its own, so that no block goes on in careful code.
    pub single_checks: bool,
    /// No other vCPU shares the memory.
    pub alone: bool,
}

/// In a mode: code that checks each access on its own.
pub(super) const CAREFUL: u8 = 4;

/// What to translate.
pub(super) struct Source {
    /// The memory of the page.
    pub host: *const u8,
    /// Index of the first instruction.
    pub word: usize,
    /// Index of the first one that does not belong to the block any more.
    pub end: usize,
    /// See [`Source::el`] and [`Source::is_fp_default`].
    pub mode: u8,
    /// Number of the page.
    pub page: u32,
    /// Address of the code buffer.
    pub code: u64,
    /// Address of the next cell.
    pub cells: u64,
}

impl Source {
    /// The exception level.
    fn el(&self) -> u8 {
        self.mode & 1
    }

    /// Whether each access is checked on its own.
    fn is_careful(&self) -> bool {
        self.mode & CAREFUL != 0
    }

    /// Whether FPCR is zero.
    fn is_fp_default(&self) -> bool {
        self.mode & 2 == 0
    }
}

/// Instruction `index` of the page at `host`.
#[allow(unsafe_code)]
pub(super) fn fetch(host: *const u8, index: usize) -> u32 {
    // SAFETY: `host` is valid for a page of guest memory while the memory map that it came from lives, and all pages of
    // the cache are dropped when the map changes.
    unsafe { u32::read(host.add(index % WORDS * 4)) }
}

/// A side path, emitted behind the block.
enum Aside {
    /// The interpreter executes the instruction at `index`; then the main path goes on at `back`.
    Interpret { from: Patch, index: usize, back: u64, before: Vectors, after: Vectors, copies: Copies },
    /// The block is left for `target`, in bytes from the start of the page.
    Leave { from: Patch, target: i32, vectors: Vectors },
    /// Exit number `exit`, the jump to which is here, is not linked yet, or not for the current context.
    Link { from: Patch, exit: u32 },
    /// As `Link`, of a call that has its landing at `landing`.
    LinkCall { from: Patch, exit: u32, landing: u64 },
    /// The jump cache does not know the target of a call, which has its landing at `landing`.
    CallMiss { from: Patch, landing: u64 },
    /// Careful code goes on with the instruction at `index`.
    Careful { from: Patch, index: usize, vectors: Vectors },
    /// The translation that `check` wants is looked for; careful code goes on with the instruction at `index` if there is none.
    Fill { from: Patch, index: usize, vectors: Vectors, check: windows::Check },
    /// Somebody wants attention before the first instruction.
    Attend { from: Patch },
}

/// Jumps to the interpreter of the current instruction.
struct Deopt {
    from: Patch,
    before: Vectors,
}

/// A block being translated.
struct Translator<'a> {
    /// The main path; while side paths are emitted, these.
    asm: &'a mut Asm,
    /// The other one of the two.
    other: &'a mut Asm,
    /// Whether side paths are emitted.
    is_aside: bool,
    thunks: &'a Thunks,
    exits: Vec<Exit>,
    source: &'a Source,
    options: Options,
    words: Vec<u32>,
    /// What they mean.
    insns: Vec<Insn>,
    /// Words beyond the block that the translation depends on: index in the page, and word.
    seen: Vec<(u16, u32)>,
    /// Bit n: NZCV is needed when instruction n begins.
    live: u128,
    known_live: flags::Known,
    /// The current instruction, an index in `words`.
    index: usize,
    flags: Flags,
    vectors: Vectors,
    deopts: Vec<Deopt>,
    asides: Vec<Aside>,
    windows: Windows,
    /// Whether SP is known to be a multiple of 16.
    sp_aligned: bool,
    /// Whether floating point is known to be accessible.
    fp_ready: bool,
    /// A register that is not written yet, and the value that it has.
    pending: Option<(u8, u64)>,
    /// How many cells there are, one for each exit to another page.
    cells: usize,
    /// Whether the main path was left for good.
    over: bool,
    /// The vector registers to carry from one iteration of this loop to the next.
    carried: Option<Vectors>,
    /// Where iterations begin, with these in place.
    loop_start: Option<loops::Start>,
    /// What side paths share.
    ladders: Vec<Ladder>,
}

/// Memory for what is collected while a block is translated; kept, since there are many blocks.
#[derive(Default)]
pub(super) struct Room {
    /// What the translation depends on: index in the page, and word there.
    pub seen: Vec<(u16, u32)>,
    pub exits: Vec<Exit>,
    words: Vec<u32>,
    insns: Vec<Insn>,
    known_live: flags::Known,
    deopts: Vec<Deopt>,
    asides: Vec<Aside>,
    ladders: Vec<Ladder>,
}

/// An empty vector in the memory of `kept`.
fn emptied<T>(kept: &mut Vec<T>) -> Vec<T> {
    let mut vec = std::mem::take(kept);
    vec.clear();
    vec
}

/// What was made of a block.
pub(super) struct Made {
    /// How many instructions it has.
    pub length: usize,
    /// How many cells it uses, from [`Source::cells`] on.
    pub cells: usize,
}

/// Translates the block at `source` into two buffers, of its main path and its side paths, with its exits.
pub(super) fn translate(
    (asm, other, room): (&mut Asm, &mut Asm, &mut Room),
    source: &Source,
    thunks: &Thunks,
    options: Options,
) -> Made {
    let (mut words, mut insns) = (emptied(&mut room.words), emptied(&mut room.insns));
    for index in source.word..(source.word + MOST).min(source.end).min(WORDS) {
        let word = fetch(source.host, index);
        words.push(word);
        insns.push(decode(word));
        if flow::ends_block(word) {
            break;
        }
    }
    let mut t = Translator {
        asm,
        other,
        is_aside: false,
        thunks,
        exits: emptied(&mut room.exits),
        source,
        options,
        insns,
        words,
        seen: emptied(&mut room.seen),
        live: 0,
        known_live: emptied(&mut room.known_live),
        index: 0,
        flags: Flags::in_memory(),
        vectors: Vectors::default(),
        deopts: emptied(&mut room.deopts),
        asides: emptied(&mut room.asides),
        windows: Windows::default(),
        sp_aligned: false,
        fp_ready: false,
        pending: None,
        cells: 0,
        over: false,
        carried: None,
        loop_start: None,
        ladders: emptied(&mut room.ladders),
    };
    t.find_live_flags();
    t.head();
    t.body();
    if let Some(vectors) = t.carried.take() {
        t.body_as_loop(vectors);
    }
    t.asides();
    let length = t.words.len();
    t.seen.extend(t.words.iter().enumerate().map(|(i, &word)| ((source.word + i) as u16, word)));
    let Translator { words, insns, seen, exits, known_live, deopts, asides, cells, ladders, .. } = t;
    *room = Room { seen, exits, words, insns, known_live, deopts, asides, ladders };
    Made { length, cells }
}

impl Translator<'_> {
    /// The first [`HEAD`] bytes, which jumps that may close a loop go through.
    fn head(&mut self) {
        self.asm.raw(&[0xcc; GAP]);
        self.asm.cmp32_imm8_at(self.thunks.flag, 0);
        let from = self.asm.jcc_forward(Cc::Ne);
        self.asides.push(Aside::Attend { from });
        debug_assert_eq!(self.asm.len(), GAP + HEAD as usize);
    }

    fn body(&mut self) {
        while self.index < self.words.len() && !self.over {
            let insn = self.insns[self.index];
            self.unlock_vectors();
            self.instruction(&insn);
            self.finish_deopts();
            self.index += 1;
        }
        if !self.over {
            self.settle();
            let target = self.offset_of(self.index) as i32;
            self.leave_for(target);
        }
        self.words.truncate(self.index);
    }

    fn instruction(&mut self, insn: &Insn) {
        if self.pending.is_some() && !matches!(insn, Insn::MoveWide { .. }) {
            self.write_pending();
        }
        let done = match insn {
            Insn::Simd(simd) => {
                self.fp_guard();
                self.simd(simd)
            }
            Insn::Nop | Insn::Prefetch | Insn::Sb => true,
            _ => {
                self.integer(insn)
                    || self.memory(insn)
                    || self.unprivileged(insn)
                    || self.bulk(insn)
                    || self.atomic(insn)
                    || self.flow(insn)
                    || self.system(insn)
            }
        };
        if !done {
            self.interpret_here(insn);
        }
    }

    /// Offset in the page of instruction `index` of the block.
    fn offset_of(&self, index: usize) -> u32 {
        ((self.source.word + index) * 4) as u32
    }

    /// Offset in the page of the current instruction.
    fn offset(&self) -> i32 {
        self.offset_of(self.index) as i32
    }

    /// Puts what only the host's registers hold where the next block expects it.
    fn settle(&mut self) {
        self.write_pending();
        self.save_flags();
        self.store_vectors();
    }

    /// Has the interpreter execute the current instruction.
    fn interpret_here(&mut self, insn: &Insn) {
        self.settle();
        self.flags = Flags::in_memory();
        self.vectors = Vectors::default();
        self.windows = Windows::default();
        self.sp_aligned = false;
        self.asm.mov_imm(RAX, u64::from(self.words[self.index]));
        self.asm.mov_imm(RCX, self.offset() as u64);
        self.asm.call(self.interpreter_of(insn));
        if system::never_falls_through(insn) {
            self.over = true;
        }
    }

    /// The thunk that has the interpreter execute `insn`.
    fn interpreter_of(&self, insn: &Insn) -> u64 {
        let is_float = system::is_float(insn);
        if is_float { self.thunks.interpret } else { self.thunks.interpret_integer }
    }

    /// Has the interpreter execute the current instruction if `cc`, and then go on behind it. Nothing that the
    /// instruction changes may have changed yet.
    fn interpret_if(&mut self, cc: Cc) {
        let from = self.asm.jcc_forward(cc);
        self.deopts.push(Deopt { from, before: self.vectors.clone() });
    }

    /// The current instruction ends here: its side paths come back to this place.
    fn finish_deopts(&mut self) {
        let (index, back, copies) = (self.index, self.asm.here(), self.asm.copies());
        for Deopt { from, before } in self.deopts.drain(..) {
            let after = self.vectors.clone();
            self.asides.push(Aside::Interpret { from, index, back, before, after, copies });
        }
    }

    fn asides(&mut self) {
        let mut asides = std::mem::take(&mut self.asides);
        std::mem::swap(self.asm, self.other);
        self.is_aside = true;
        // The last ones hold the most vector registers.
        for aside in asides.drain(..).rev() {
            match aside {
                Aside::Interpret { from, index, back, before, after, copies } => {
                    self.make_ladder(&after);
                    self.make_ladder(&before);
                    self.bind_aside(from);
                    self.call_store(&before);
                    self.asm.mov_imm(RAX, u64::from(self.words[index]));
                    let offset = self.offset_of(index);
                    self.asm.mov_imm(RCX, u64::from(offset));
                    let insn = self.insns[index];
                    self.asm.call(self.interpreter_of(&insn));
                    self.call_load(&after);
                    self.asm.load_copies(copies);
                    self.asm.jmp(back);
                }
                Aside::Leave { from, target, vectors } => {
                    self.vectors = vectors;
                    self.bind_aside(from);
                    self.store_vectors();
                    self.leave_for(target);
                }
                Aside::Careful { from, index, vectors } => {
                    self.bind_aside(from);
                    self.vectors = vectors;
                    self.store_vectors();
                    let target = self.offset_of(index) as i32;
                    self.go_on_carefully(target);
                }
                Aside::Fill { from, index, vectors, check } => {
                    self.make_ladder(&vectors);
                    self.bind_aside(from);
                    self.fill(index, vectors, check);
                }
                Aside::Link { from, exit } => {
                    let at = self.put_exit(exit);
                    self.bind_aside(from);
                    self.asm.mov_imm(RAX, at);
                    self.asm.jmp(self.thunks.link);
                }
                Aside::LinkCall { from, exit, landing } => {
                    let at = self.put_exit(exit);
                    self.bind_aside(from);
                    self.asm.mov_imm(RAX, at);
                    self.asm.call(self.thunks.link);
                    self.asm.jmp(landing);
                }
                Aside::CallMiss { from, landing } => {
                    self.bind_aside(from);
                    self.asm.call(self.thunks.branch_miss);
                    self.asm.jmp(landing);
                }
                Aside::Attend { from } => {
                    self.bind_aside(from);
                    self.asm.mov_imm(RCX, (self.source.word * 4) as u64);
                    self.asm.jmp(self.thunks.attend);
                }
            }
        }
        self.asides = asides;
        std::mem::swap(self.asm, self.other);
    }

    /// Has a jump of the main path arrive here, in a side path.
    fn bind_aside(&mut self, from: Patch) {
        let here = self.asm.label();
        self.other.bind_to(from, here);
    }

    /// Before an instruction with vector registers: emits, once per block, the check that they are accessible. If not,
    /// the interpreter takes the exception.
    fn fp_guard(&mut self) {
        if !self.fp_ready {
            // The instruction may read them.
            self.branch_clobbers_flags();
            self.asm.cmp8_imm(field(offset::FP_ENABLED), 0);
            self.interpret_if(Cc::E);
            self.fp_ready = true;
        }
    }
}
