//! One check for several accesses by the same base register.
//!
//! Code accesses the fields of a structure, or a stack frame, one after the other. When a look ahead finds several
//! accesses by a base register and immediate offsets, their whole range is checked at once. A slot keeps the host
//! address of the base, or for a pinned base the addend that makes one of it. A range that is not all in one page of the
//! TLB bank makes the block go on in *careful* code: blocks of their own that check each access, see
//! [`super::Source::is_careful`].
//!
//! A translation that was checked may be used until the block ends: TLB maintenance of other vCPUs is carried out
//! between blocks only, and they wait for that.

use super::{Aside, Translator, memory::Tag, operands::or_sp, vregs::Vectors};
use crate::{
    cpu::{PAGE, offset},
    decode::{Access, AccessKind, Index, Insn, Reg},
    jit::{
        asm::{Alu, Cc, Gpr, Mem, R15, RAX, RCX, RDX, Rot},
        copies::Copies,
        state::{in_bank, page_index, pinned, slot, x},
    },
};

/// How many there can be at a time.
const SLOTS: usize = 4;

/// Most bytes of a range: the longer, the more often it crosses a page boundary.
const LONGEST: i32 = 256;

/// Accesses that are known to be fine.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Index of the base register in `Cpu::x`.
    base: u8,
    /// What was added to it since the check.
    moved: i32,
    /// Range of bytes, from what the base was at the check.
    from: i32,
    to: i32,
    writable: bool,
}

/// A check that failed.
#[derive(Clone, Copy)]
pub(super) struct Check {
    /// Where the base is.
    base: Gpr,
    /// Distance of the first byte from it.
    from: i32,
    writes: bool,
    /// Address of the check, and what is known there.
    retry: u64,
    copies: Copies,
}

/// The current ones, by slot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Windows {
    held: [Option<Window>; SLOTS],
    next: usize,
}

impl Windows {
    /// The slot for a new window: the first free one, since the first ones are the nearest, or the oldest.
    fn take(&mut self, window: Window) -> usize {
        self.forget(window.base);
        let slot = self.held.iter().position(Option::is_none).unwrap_or(self.next);
        self.next = (slot + 1) % SLOTS;
        self.held[slot] = Some(window);
        slot
    }

    /// Register `index` changed.
    pub fn forget(&mut self, index: u8) {
        for held in &mut self.held {
            if held.is_some_and(|w| w.base == index) {
                *held = None;
            }
        }
    }

    /// Register `index` was changed by `bytes`, from what `self` is for.
    pub fn moved(mut self, index: u8, bytes: i32) -> Self {
        for w in self.held.iter_mut().flatten() {
            if w.base == index {
                w.moved = w.moved.wrapping_add(bytes);
            }
        }
        self
    }
}

/// An access by a base register and an immediate offset.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub rn: Reg,
    pub index: Index,
    pub offset: i32,
    pub size: i32,
    pub writes: bool,
}

impl Place {
    /// Of an instruction that is none.
    pub const NONE: Self = Self { rn: 0, index: Index::Offset, offset: 0, size: 1, writes: false };

    pub fn of(insn: &Insn) -> Option<Self> {
        let (access, count, rn, index, offset) = match *insn {
            Insn::LoadStoreImm { access, rn, index, offset, .. } => (access, 0, rn, index, offset),
            Insn::LoadStorePair { access, rn, index, offset, .. } => (access, 1, rn, index, offset),
            _ => return None,
        };
        let Access { kind, size, .. } = access;
        Some(Self { rn, index, offset, size: 1 << (size + count), writes: kind == AccessKind::Store })
    }

    /// Distance of the access from the base as it is before.
    pub fn distance(&self) -> i32 {
        if self.index == Index::Post { 0 } else { self.offset }
    }

    /// What the base changes by.
    fn moves(&self) -> i32 {
        if self.index == Index::Offset { 0 } else { self.offset }
    }
}

impl Translator<'_> {
    /// The operand for the access `place`, if it is or can be part of a window: relative to RCX, and to the base's register if
    /// it has one. Changes the host's flags only when it makes a window.
    pub(super) fn window(&mut self, place: Place) -> Option<Mem> {
        if self.source.is_careful() || self.options.single_checks {
            return None;
        }
        if (place.rn != 31 || self.sp_aligned)
            && let Some(at) = self.find_window(place)
        {
            return Some(at);
        }
        let window = self.look_ahead(place)?;
        self.open_window(place.rn, window);
        Some(within(window.base, place.distance(), 0))
    }

    fn find_window(&mut self, place: Place) -> Option<Mem> {
        let base = or_sp(place.rn);
        let covers = |w: &Window| {
            let from = place.distance() + w.moved;
            w.base == base && w.from <= from && from + place.size <= w.to && (w.writable || !place.writes)
        };
        let slot = self.windows.held.iter().position(|w| w.as_ref().is_some_and(covers))?;
        let moved = self.windows.held[slot]?.moved;
        self.asm.mov(true, RCX, slot_place(slot));
        Some(within(base, place.distance(), moved))
    }

    /// The range of this access and of those behind it by the same base, if there are any.
    fn look_ahead(&self, first: Place) -> Option<Window> {
        let base = or_sp(first.rn);
        if may_write(self.insns.get(self.index)?, base) {
            return None;
        }
        let from = first.distance();
        let mut w = Window { base, moved: 0, from, to: from + first.size, writable: first.writes };
        let (mut moved, mut count, mut behind_exit) = (first.moves(), 1, false);
        for insn in self.insns.get(self.index + 1..)? {
            if let Some(place) = Place::of(insn).filter(|p| or_sp(p.rn) == base) {
                let from = place.distance() + moved;
                let (low, high) = (w.from.min(from), w.to.max(from + place.size));
                // What may not be executed shall not decide whether the page must be writable.
                let fits = high - low <= LONGEST && (w.writable || !place.writes || !behind_exit);
                if fits {
                    (w.from, w.to, w.writable) = (low, high, w.writable || place.writes);
                    count += 1;
                }
                moved += place.moves();
            }
            match *insn {
                Insn::AddSubImm { set: false, sub, rd, rn, imm, .. } if or_sp(rd) == base && rd == rn => {
                    moved += if sub { -(imm as i32) } else { imm as i32 };
                }
                Insn::BranchCond { .. } | Insn::CompareBranch { .. } | Insn::TestBranch { .. } => {
                    behind_exit = true;
                }
                _ if may_write(insn, base) => break,
                _ => {}
            }
            if moved.abs() > LONGEST {
                break;
            }
        }
        (count > 1).then_some(w)
    }

    /// Checks the range of `w`; RCX = the host address of base `rn`, or its distance from the base if that has a register.
    fn open_window(&mut self, rn: Reg, w: Window) {
        self.clobber_flags();
        if rn == 31 && !self.sp_aligned {
            self.asm.test8_low(R15, 15);
            self.careful_if(Cc::Ne);
            self.sp_aligned = true;
        }
        let (retry, copies) = (self.asm.here(), self.asm.copies());
        let b = self.base(rn);
        if w.from == 0 {
            page_index(self.asm, RCX, b);
        } else {
            self.asm.lea(true, RDX, Mem::at(b, w.from));
            page_index(self.asm, RCX, RDX);
        }
        self.asm.lea(true, RDX, Mem::at(b, w.to - 1));
        self.asm.rot_imm(Rot::Shr, true, RDX, PAGE.ilog2() as u8);
        let tag = if w.writable { Tag::Write } else { Tag::Read };
        self.asm.alu(Alu::Cmp, true, RDX, tag.of_page());
        let from = self.asm.jcc_forward(Cc::Ne);
        let check = Check { base: b, from: w.from, writes: w.writable, retry, copies };
        self.asides.push(Aside::Fill { from, index: self.index, vectors: self.vectors.clone(), check });
        self.asm.mov(true, RCX, in_bank(RCX, offset::ADDEND));
        if pinned(w.base).is_none() {
            self.asm.lea(true, RCX, Mem::indexed(RCX, b, 0, 0));
        }
        let slot = self.windows.take(w);
        self.asm.store(3, slot_place(slot), RCX);
    }
}

impl Translator<'_> {
    /// The side path of a check of a window; the number of the page of its last byte is in RDX.
    pub(super) fn fill(&mut self, index: usize, vectors: Vectors, check: Check) {
        self.call_store(&vectors);
        self.asm.lea(true, RAX, Mem::at(check.base, check.from));
        self.asm.call(self.thunks.fill[usize::from(check.writes)]);
        self.call_load(&vectors);
        self.asm.test(false, RAX, RAX);
        self.asm.load_copies(check.copies);
        self.asm.jcc(Cc::Ne, check.retry);
        // What is in memory was stored before the call.
        let target = self.offset_of(index) as i32;
        self.go_on_carefully(target);
    }

    /// Has careful code go on with the current instruction if `cc`. An instruction that opens a window cannot be left to
    /// the interpreter alone, which would not open it.
    fn careful_if(&mut self, cc: Cc) {
        let from = self.asm.jcc_forward(cc);
        self.asides.push(Aside::Careful { from, index: self.index, vectors: self.vectors.clone() });
    }
}

/// What is `distance` bytes from `base`, which has `moved` since the window's check, with the window's slot in RCX.
fn within(base: u8, distance: i32, moved: i32) -> Mem {
    match pinned(base) {
        Some(own) => Mem::indexed(own, RCX, 0, distance),
        None => Mem::at(RCX, distance + moved),
    }
}

fn slot_place(index: usize) -> Mem {
    x(slot::WINDOWS + index as u8)
}

/// Whether `insn` may write register `base` (an index in `Cpu::x`). A guess: a window is dropped where its base is in fact
/// written.
fn may_write(insn: &Insn, base: u8) -> bool {
    let is = |r: Reg| or_sp(r) == base;
    match *insn {
        Insn::LoadStoreImm { access, rt, .. } => access.kind != AccessKind::Store && !access.simd && is(rt),
        Insn::LoadStorePair { access, rt, rt2, .. } => {
            access.kind != AccessKind::Store && !access.simd && (is(rt) || is(rt2))
        }
        Insn::Adr { rd, .. }
        | Insn::Adrp { rd, .. }
        | Insn::AddSubImm { rd, .. }
        | Insn::LogicImm { rd, .. }
        | Insn::MoveWide { rd, .. }
        | Insn::Bitfield { rd, .. }
        | Insn::Extract { rd, .. }
        | Insn::AddSubShift { rd, .. }
        | Insn::AddSubExtend { rd, .. }
        | Insn::AddSubCarry { rd, .. }
        | Insn::LogicShift { rd, .. }
        | Insn::CondSelect { rd, .. }
        | Insn::OneSource { rd, .. }
        | Insn::TwoSource { rd, .. }
        | Insn::MultiplyAdd { rd, .. }
        | Insn::MultiplyAddLong { rd, .. }
        | Insn::MultiplyHigh { rd, .. } => is(rd),
        Insn::LoadStoreReg { access, rt, .. } | Insn::LoadLiteral { access, rt, .. } => {
            access.kind != AccessKind::Store && !access.simd && is(rt)
        }
        Insn::CondCompare { .. }
        | Insn::BranchCond { .. }
        | Insn::CompareBranch { .. }
        | Insn::TestBranch { .. }
        | Insn::Nop
        | Insn::Prefetch
        | Insn::Simd(_) => false,
        _ => true,
    }
}
