//! Loads and stores.
//!
//! The fast path is inline: a tag of the current bank is compared, and the access made through its addend. Whatever
//! else there is (a miss, a page crossing, MMIO, a fault) the interpreter does from the start of the instruction.

use super::{Translator, operands::or_sp, windows::Place};
use crate::{
    cpu::{PAGE, offset},
    decode::{Access, AccessKind, Extend, Index, Insn, Order, Reg},
    jit::{
        asm::{Alu, Cc, Gpr, Mem, R15, RAX, RCX, RDX, Rot},
        state::{field, in_bank, page_index, page_number, pinned, x},
    },
};

/// What the tag of a TLB entry is compared for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Read,
    Write,
}

impl Tag {
    fn of(kind: AccessKind) -> Self {
        if kind == AccessKind::Store { Self::Write } else { Self::Read }
    }

    /// The tags of the pages in RCX' place.
    pub(super) fn of_page(self) -> Mem {
        in_bank(RCX, if self == Self::Read { offset::READ } else { offset::WRITE })
    }
}

impl Translator<'_> {
    /// Loads and stores of registers; false for other instructions.
    pub(super) fn memory(&mut self, insn: &Insn) -> bool {
        match *insn {
            Insn::LoadStoreImm { access, rt, rn, index, offset } => {
                let (at, _) = self.based(insn, access);
                self.with_writeback(rn, index, offset, |t| t.transfer(access, rt, at));
            }
            Insn::LoadStoreReg { access, rt, rn, rm, extend, shift } => {
                self.start_access(access);
                let base = self.base(rn);
                self.indexed_address(base, rm, extend, shift);
                let at = self.check(RAX, 1 << access.size, Tag::of(access.kind));
                self.transfer(access, rt, at);
            }
            Insn::LoadLiteral { access, rt, offset } => {
                self.start_access(access);
                self.page_plus(RAX, i64::from(self.offset()) + i64::from(offset));
                let at = self.check(RAX, 1 << access.size, Tag::Read);
                self.transfer(access, rt, at);
            }
            Insn::LoadStorePair { access, rt, rt2, rn, index, offset } => {
                let (at, va) = self.based(insn, access);
                self.with_writeback(rn, index, offset, |t| {
                    t.transfer_pair(access, [rt, rt2], at, va);
                });
            }
            Insn::Ordered { access, rt, rn, offset, order } => {
                self.clobber_flags();
                let base = self.base(rn);
                let va = self.address_of(base, Index::Offset, offset);
                let at = self.check_aligned(va, access.size, Tag::of(access.kind));
                self.transfer(access, rt, at);
                // Loads are ordered on this host as they are; a store that later ordered loads may not overtake is not.
                if access.kind == AccessKind::Store && order == Order::Sequential {
                    self.asm.full_barrier();
                }
            }
            _ => return false,
        }
        true
    }

    /// The operand of an access by a base register and an immediate offset, and the register that its address is in.
    fn based(&mut self, insn: &Insn, access: Access) -> (Mem, Gpr) {
        if access.simd {
            self.fp_guard();
        }
        let place = Place::of(insn).unwrap_or(Place::NONE);
        if let Some(at) = self.window(place) {
            return (at, pinned(or_sp(place.rn)).unwrap_or(RCX));
        }
        self.clobber_flags();
        let base = self.base(place.rn);
        let (va, tag) = (self.address_of(base, place.index, place.offset), Tag::of(access.kind));
        // What is aligned stays within its page, and SP is.
        let in_page = place.rn == 31 && place.distance() % place.size == 0 && place.size <= 16;
        let size = if in_page { 1 } else { place.size };
        if va == RAX { (self.check(va, size, tag), va) } else { (self.check_early(va, size, tag), va) }
    }

    /// Before an access.
    fn start_access(&mut self, access: Access) {
        self.clobber_flags();
        if access.simd {
            self.fp_guard();
        }
    }

    /// The host register of base `rn` (31 is SP, which is checked for alignment): its own, or RAX.
    pub(super) fn base(&mut self, rn: Reg) -> Gpr {
        if rn == 31 && !self.sp_aligned {
            self.asm.test8_low(R15, 15);
            self.interpret_if(Cc::Ne);
            self.sp_aligned = true;
        }
        self.xsp_read(rn, RAX)
    }

    /// The host register that holds the address of an access: `base`, or RAX.
    fn address_of(&mut self, base: Gpr, index: Index, offset: i32) -> Gpr {
        if index == Index::Post || offset == 0 {
            return base;
        }
        self.asm.lea(true, RAX, Mem::at(base, offset));
        RAX
    }

    /// RAX = `base` + the extended and shifted register `rm`.
    fn indexed_address(&mut self, base: Gpr, rm: Reg, extend: Extend, shift: u8) {
        let whole = matches!(extend, Extend::Uxtx | Extend::Sxtx);
        let m = match pinned(rm) {
            Some(m) if whole && rm != 31 => m,
            _ => {
                self.extended(rm, extend, 0);
                RCX
            }
        };
        if shift <= 3 {
            self.asm.lea(true, RAX, Mem::indexed(base, m, shift, 0));
            return;
        }
        if m != RCX {
            self.asm.mov(true, RCX, m);
        }
        self.asm.rot_imm(Rot::Shl, true, RCX, shift);
        self.asm.lea(true, RAX, Mem::indexed(base, RCX, 0, 0));
    }

    /// The operand for `size` bytes at guest address `va`, which stays as it is. Uses RCX and RDX, and RDX is free
    /// afterwards.
    pub(super) fn check(&mut self, va: Gpr, size: i32, tag: Tag) -> Mem {
        self.last_page(va, size);
        self.compare_tag(tag);
        self.asm.mov(true, RCX, in_bank(RCX, offset::ADDEND));
        Mem::indexed(va, RCX, 0, 0)
    }

    /// As [`Translator::check`], for an address that is not in RAX, which becomes the addend. That is loaded before the
    /// tags are compared, for one that follows pointers waits for it.
    fn check_early(&mut self, va: Gpr, size: i32, tag: Tag) -> Mem {
        self.last_page(va, size);
        self.asm.mov(true, RAX, in_bank(RCX, offset::ADDEND));
        self.compare_tag(tag);
        Mem::indexed(va, RAX, 0, 0)
    }

    /// As [`Translator::check`], for 1 << `size` bytes that must be naturally aligned.
    pub(super) fn check_aligned(&mut self, va: Gpr, size: u8, tag: Tag) -> Mem {
        if size != 0 {
            self.asm.test8_low(va, (1 << size) - 1);
            self.interpret_if(Cc::Ne);
        }
        self.check(va, 1, tag)
    }

    /// RCX = the index of the page of `va` in the bank, RDX = the number of the page of the last of the `size` bytes there.
    fn last_page(&mut self, va: Gpr, size: i32) {
        if size == 1 {
            page_number(self.asm, RDX, va);
        } else {
            self.asm.lea(true, RDX, Mem::at(va, size - 1));
            self.asm.rot_imm(Rot::Shr, true, RDX, PAGE.ilog2() as u8);
        }
        page_index(self.asm, RCX, va);
    }

    /// Leaves the access to the interpreter unless page RDX has its `tag` at index RCX.
    fn compare_tag(&mut self, tag: Tag) {
        self.asm.alu(Alu::Cmp, true, RDX, tag.of_page());
        self.interpret_if(Cc::Ne);
    }

    /// Emits the `access`, which must not change RAX before it is made, and the write-back of the base around it.
    fn with_writeback(&mut self, rn: Reg, index: Index, offset: i32, access: impl FnOnce(&mut Self)) {
        if index == Index::Offset {
            access(self);
            return;
        }
        let base = or_sp(rn);
        // SP stays aligned if it moves by whole units.
        let aligned = self.sp_aligned && (rn != 31 || offset % 16 == 0);
        if let Some(own) = pinned(base) {
            // The address may be the base, so this comes first.
            access(self);
            self.asm.lea(true, own, Mem::at(own, offset));
        } else {
            self.asm.mov(true, RDX, x(base));
            self.asm.lea(true, RDX, Mem::at(RDX, offset));
            self.asm.store(3, x(base), RDX);
            access(self);
        }
        self.sp_aligned = aligned;
        self.windows = self.windows.moved(base, offset);
    }

    /// Moves `rt` to or from `at`.
    fn transfer(&mut self, access: Access, rt: Reg, at: Mem) {
        if access.simd {
            self.transfer_vector(access, rt, at);
        } else if access.kind == AccessKind::Store {
            self.store(access.size, rt, at);
        } else {
            let d = self.x_dest(rt, RAX);
            self.load(access, d, at);
            self.x_finish(rt, d);
        }
    }

    fn store(&mut self, size: u8, rt: Reg, at: Mem) {
        if rt == 31 && size >= 2 {
            self.asm.store_imm(size == 3, at, 0);
        } else {
            let t = self.x_read(rt, RDX);
            self.asm.store(size, at, t);
        }
    }

    pub(super) fn load(&mut self, access: Access, d: Gpr, at: Mem) {
        match access.kind {
            AccessKind::LoadSigned32 => self.asm.movsx(access.size, false, d, at),
            AccessKind::LoadSigned64 => self.asm.movsx(access.size, true, d, at),
            _ if access.size == 3 => self.asm.mov(true, d, at),
            _ => self.asm.movzx(access.size, d, at),
        }
    }

    fn transfer_vector(&mut self, access: Access, rt: Reg, at: Mem) {
        if access.kind == AccessKind::Store {
            let v = self.v_read(rt);
            self.asm.v_store(access.size, at, v);
            return;
        }
        let v = self.v_write(rt);
        if access.size >= 2 {
            self.asm.v_load(access.size, v, at);
        } else {
            self.asm.movzx(access.size, RDX, at);
            self.asm.v_from_gpr(2, v, RDX);
        }
        self.v_is_narrow(rt, access.size);
    }

    fn transfer_pair(&mut self, access: Access, [rt, rt2]: [Reg; 2], at: Mem, va: Gpr) {
        let second = at.plus(1 << access.size);
        if access.simd || access.kind == AccessKind::Store {
            self.transfer(access, rt, at);
            self.transfer(access, rt2, second);
            return;
        }
        // A register that the address needs is loaded last; memory ones go through RDX.
        let (d, d2) = (self.x_dest(rt, RDX), self.x_dest(rt2, RDX));
        let mut loads = [(rt, d, at), (rt2, d2, second)];
        if d == va {
            loads.swap(0, 1);
        }
        for (r, d, at) in loads {
            self.load(access, d, at);
            self.x_finish(r, d);
        }
    }

    /// Whether the guest's PSTATE.SP is 0, which some translations exclude: emits the check.
    pub(super) fn interpret_unless_own_stack(&mut self) {
        self.asm.test8_imm(field(offset::PSTATE), 1);
        self.interpret_if(Cc::E);
    }
}
