//! Atomic read-modify-write and exclusive accesses, on naturally aligned RAM. Everything else the interpreter does.
//!
//! A vCPU without siblings needs no locked instructions: exceptions are taken between instructions only, and the devices'
//! threads write nothing but buffers and rings, no part of which a driver updates atomically. What orders its accesses
//! for the devices, barriers, stays.

use super::{Translator, memory::Tag};
use crate::{
    cpu::offset,
    decode::{AtomicOp, Insn, Reg},
    jit::{
        asm::{Alu, Cc, Gpr, Mem, R14, RAX, RBX, RCX, RDX},
        state::{field, load_bank, pinned, x},
    },
};

impl Translator<'_> {
    /// Atomics with a translation; false for other instructions.
    pub(super) fn atomic(&mut self, insn: &Insn) -> bool {
        match *insn {
            Insn::Atomic { op, size, rs, rt, rn, .. } => {
                self.clobber_flags();
                self.atomic_update(op, size, [rs, rt, rn]);
            }
            Insn::CompareSwap { size, rs, rt, rn } => {
                self.clobber_flags();
                self.compare_swap(size, [rs, rt, rn]);
            }
            Insn::CompareSwapPair { size: 3, rs, rt, rn } => {
                self.clobber_flags();
                self.compare_swap_pair([rs, rt, rn]);
            }
            Insn::LoadExclusive { size, pair: false, rt, rn, .. } => {
                self.clobber_flags();
                let base = self.base(rn);
                let at = self.check_aligned(base, size, Tag::Read);
                self.asm.lea(true, RDX, at);
                self.asm.movzx_or_mov(size, RAX, Mem::at(RDX, 0));
                self.asm.store(3, field(offset::MONITOR_ADDRESS), RDX);
                self.asm.store_imm(true, field(offset::MONITOR_SIZE), 1 << size);
                self.asm.store(3, field(offset::MONITOR_VALUE), RAX);
                self.x_finish(rt, RAX);
            }
            Insn::StoreExclusive { size, pair: false, rs, rt, rn, .. } => {
                self.clobber_flags();
                self.store_exclusive(size, [rs, rt, rn]);
            }
            _ => return false,
        }
        true
    }

    /// The location that `rn` names, for an update of 1 << `size` bytes, at an address in RDX. Uses all temporaries.
    fn atomic_place(&mut self, rn: Reg, size: u8) -> Mem {
        let base = self.base(rn);
        // What can be written can be read: stage 1 has no write-only permission.
        let at = self.check_aligned(base, size, Tag::Write);
        self.asm.lea(true, RDX, at);
        Mem::at(RDX, 0)
    }

    /// `r` takes the old value, 1 << `size` bytes of `old`.
    fn finish_old(&mut self, size: u8, r: Reg, old: Gpr) {
        if size < 2 {
            self.asm.movzx(size, old, old);
        } else if size == 2 {
            self.asm.mov(false, old, old);
        }
        self.x_finish(r, old);
    }

    fn compare_swap(&mut self, size: u8, [rs, rt, rn]: [Reg; 3]) {
        let at = self.atomic_place(rn, size);
        let s = self.x_operand(rs);
        if !self.options.alone {
            self.asm.movzx_or_mov(size, RAX, s);
            let t = self.x_read(rt, RCX);
            self.asm.lock_cmpxchg(size, at, t);
            self.finish_old(size, rs, RAX);
            return;
        }
        self.asm.movzx_or_mov(size, RCX, s);
        self.asm.movzx_or_mov(size, RAX, at);
        self.asm.alu(Alu::Cmp, true, RAX, RCX);
        let differs = self.asm.jcc_short(Cc::Ne);
        let t = self.x_read(rt, RCX);
        self.asm.store(size, at, t);
        self.asm.bind_short(differs);
        self.x_finish(rs, RAX);
    }

    /// As [`Translator::atomic_update`], by a vCPU that is alone.
    fn update_alone(&mut self, op: AtomicOp, size: u8, at: Mem, [rs, rt]: [Reg; 2]) {
        let s = self.x_operand(rs);
        self.asm.movzx_or_mov(size, RAX, at);
        match op {
            AtomicOp::Swap => self.asm.mov(true, RCX, s),
            AtomicOp::Add => {
                self.asm.mov(true, RCX, s);
                self.asm.alu(Alu::Add, true, RCX, RAX);
            }
            _ => self.combine(op, size, s),
        }
        self.asm.store(size, at, RCX);
        self.finish_old(size, rt, RAX);
    }

    fn atomic_update(&mut self, op: AtomicOp, size: u8, [rs, rt, rn]: [Reg; 3]) {
        let at = self.atomic_place(rn, size);
        if self.options.alone {
            self.update_alone(op, size, at, [rs, rt]);
            return;
        }
        let s = self.x_operand(rs);
        match op {
            AtomicOp::Add | AtomicOp::Swap => {
                self.asm.mov(true, RAX, s);
                if op == AtomicOp::Add {
                    self.asm.lock_xadd(size, at, RAX);
                } else {
                    self.asm.xchg(size, at, RAX);
                }
                self.finish_old(size, rt, RAX);
            }
            _ => {
                self.asm.movzx_or_mov(size, RAX, at);
                let again = self.asm.label();
                self.combine(op, size, s);
                self.asm.lock_cmpxchg(size, at, RCX);
                self.asm.jcc(Cc::Ne, again);
                self.finish_old(size, rt, RAX);
            }
        }
    }

    /// RCX = RAX op `s`, of which 1 << `size` bytes matter.
    fn combine(&mut self, op: AtomicOp, size: u8, s: crate::jit::asm::Rm) {
        let w = size == 3;
        let select = match op {
            AtomicOp::SignedMax => Cc::L,
            AtomicOp::SignedMin => Cc::G,
            AtomicOp::UnsignedMax => Cc::B,
            AtomicOp::UnsignedMin => Cc::A,
            _ => {
                self.asm.mov(true, RCX, s);
                match op {
                    AtomicOp::Clear => {
                        self.asm.andn(true, RCX, RCX, RAX);
                    }
                    AtomicOp::Eor => self.asm.alu(Alu::Xor, true, RCX, RAX),
                    _ => self.asm.alu(Alu::Or, true, RCX, RAX),
                }
                return;
            }
        };
        let signed = matches!(op, AtomicOp::SignedMax | AtomicOp::SignedMin);
        if size < 2 && signed {
            // RAX is what CMPXCHG compares in full width of the access, so its sign may go into it.
            self.asm.movsx(size, true, RAX, RAX);
            self.asm.movsx(size, true, RCX, s);
        } else {
            self.asm.movzx_or_mov(size, RCX, s);
        }
        self.asm.alu(Alu::Cmp, w || size < 2, RAX, RCX);
        // Keeps the old value where it is the greater, or the smaller.
        self.asm.cmov(select.not(), true, RCX, RAX);
    }

    /// CASP of 16 bytes. CMPXCHG16B wants RBX, which holds X6 meanwhile in its place in memory, and R14 holds the address.
    fn compare_swap_pair(&mut self, [rs, rt, rn]: [Reg; 3]) {
        let base = self.base(rn);
        let at = self.check_aligned(base, 4, Tag::Write);
        self.asm.lea(true, R14, at);
        let operands = [(RAX, rs), (RDX, rs + 1), (RCX, rt + 1)];
        for (host, r) in operands {
            let operand = self.x_operand(r);
            self.asm.mov(true, host, operand);
        }
        const { assert!(matches!(pinned(6), Some(RBX))) };
        self.asm.store(3, x(6), RBX);
        let operand = self.x_operand(rt);
        self.asm.mov(true, RBX, operand);
        // lock cmpxchg16b [r14]
        let lock = &[0xf0][usize::from(self.options.alone)..];
        self.asm.raw(lock);
        self.asm.raw(&[0x49, 0x0f, 0xc7, 0x0e]);
        self.asm.mov(true, RBX, x(6));
        load_bank(self.asm);
        self.x_finish(rs, RAX);
        self.x_finish(rs + 1, RDX);
    }

    fn store_exclusive(&mut self, size: u8, [rs, rt, rn]: [Reg; 3]) {
        let at = self.atomic_place(rn, size);
        self.asm.mov_imm(RAX, 1);
        self.asm.alu(Alu::Cmp, true, RDX, field(offset::MONITOR_ADDRESS));
        let fails = self.asm.jcc_short(Cc::Ne);
        self.asm.alu_imm(Alu::Cmp, true, field(offset::MONITOR_SIZE), 1 << size);
        let fails_too = self.asm.jcc_short(Cc::Ne);
        if self.options.alone {
            self.asm.movzx_or_mov(size, RCX, at);
            self.asm.alu(Alu::Cmp, true, RCX, field(offset::MONITOR_VALUE));
            let differs = self.asm.jcc_short(Cc::Ne);
            let t = self.x_read(rt, RCX);
            self.asm.store(size, at, t);
            self.asm.mov_imm(RAX, 0);
            self.asm.bind_short(differs);
        } else {
            self.asm.mov(true, RAX, field(offset::MONITOR_VALUE));
            let t = self.x_read(rt, RCX);
            self.asm.lock_cmpxchg(size, at, t);
            self.asm.setcc(Cc::Ne, RAX);
            self.asm.movzx(0, RAX, RAX);
        }
        self.asm.bind_short(fails);
        self.asm.bind_short(fails_too);
        self.asm.store_imm(true, field(offset::MONITOR_ADDRESS), 0);
        self.x_finish(rs, RAX);
    }
}
