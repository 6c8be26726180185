//! Loads and stores with the permissions of EL0: LDTR, STTR and siblings, with which kernels access the memory of user
//! space. They go through the TLB bank of EL0, which at EL0 is the current one.

use super::Translator;
use crate::{
    cpu::{PAGE, offset},
    decode::{AccessKind, Insn},
    jit::{
        asm::{Alu, Cc, Mem, RAX, RCX, RDX, Rot},
        state::{field, page_index},
    },
};

impl Translator<'_> {
    /// Whether `insn` is such an access.
    pub(super) fn unprivileged(&mut self, insn: &Insn) -> bool {
        let Insn::LoadStoreUser { access, rt, rn, offset } = *insn else { return false };
        self.clobber_flags();
        let is_store = access.kind == AccessKind::Store;
        let mut va = self.base(rn);
        if offset != 0 {
            self.asm.lea(true, RAX, Mem::at(va, offset));
            va = RAX;
        }
        self.asm.lea(true, RDX, Mem::at(va, (1 << access.size) - 1));
        self.asm.rot_imm(Rot::Shr, true, RDX, PAGE.ilog2() as u8);
        page_index(self.asm, RCX, va);
        self.asm.rot_imm(Rot::Shl, true, RCX, 3);
        self.asm.alu(Alu::Add, true, RCX, field(offset::USER_BANK));
        let tags = if is_store { offset::WRITE } else { offset::READ };
        self.asm.alu(Alu::Cmp, true, RDX, Mem::at(RCX, tags as i32));
        self.interpret_if(Cc::Ne);
        self.asm.mov(true, RCX, Mem::at(RCX, offset::ADDEND as i32));
        let at = Mem::indexed(va, RCX, 0, 0);
        if is_store {
            let t = self.x_read(rt, RDX);
            self.asm.store(access.size, at, t);
        } else {
            let d = self.x_dest(rt, RAX);
            self.load(access, d, at);
            self.x_finish(rt, d);
        }
        true
    }
}
