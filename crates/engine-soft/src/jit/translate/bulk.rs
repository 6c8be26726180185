//! Memory copy and set. The three instructions of one, which come together, become one call; when anything is out of the
//! ordinary, the interpreter executes them one by one.

use super::{Translator, flags::Flags, vregs::Vectors, windows::Windows};
use crate::{
    cpu::offset,
    decode::{Insn, Reg, Stage},
    jit::{
        asm::{Alu, Cc, RAX, RCX, RDX, Rm, Rot},
        state::{field, flags_image, pinned, slot, x},
    },
};

/// The bits of options that ask for permissions of EL0.
const BY_USER: u8 = 3;
/// What distinguishes the instructions of a copy, and of a set.
const COPY_STAGE: u32 = 1 << 22;
const SET_STAGE: u32 = 1 << 14;
/// `SCTLR_EL1.MSCEn`, in its upper half's lowest byte.
const MSCEN: u8 = 1 << 1;

impl Translator<'_> {
    /// Whether `insn` is the first one of a copy or set that is all in this block, and has no special options.
    pub(super) fn bulk(&mut self, insn: &Insn) -> bool {
        match *insn {
            Insn::MemoryCopy { stage: Stage::Prologue, ascending, options, rd, rs, rn }
                if options & BY_USER == 0 && self.has_stages(COPY_STAGE) =>
            {
                self.whole(self.thunks.copy, [rd, rs, rn], |t| {
                    let stays = if ascending { None } else { Some(t.descends([rd, rs, rn])) };
                    let size = t.x_operand(rn);
                    t.asm.mov(true, RAX, size);
                    t.advance(rd);
                    t.advance(rs);
                    if let Some(stays) = stays {
                        t.asm.bind(stays);
                    }
                });
                true
            }
            Insn::MemorySet { stage: Stage::Prologue, options, rd, rs, rn }
                if options & BY_USER == 0 && self.has_stages(SET_STAGE) =>
            {
                self.whole(self.thunks.set, [rd, rs, rn], |t| {
                    let size = t.x_operand(rn);
                    t.asm.mov(true, RAX, size);
                    t.advance(rd);
                });
                true
            }
            _ => false,
        }
    }

    fn has_stages(&self, step: u32) -> bool {
        let word = self.words[self.index];
        let following = self.words.get(self.index + 1..self.index + 3);
        following == Some(&[word.wrapping_add(step), word.wrapping_add(2 * step)])
    }

    /// The three instructions: `thunk` does them, and `finish` brings the registers but that of the size up to date.
    fn whole(&mut self, thunk: u64, [rd, rs, rn]: [Reg; 3], finish: impl FnOnce(&mut Self)) {
        self.settle();
        self.flags = Flags::in_memory();
        self.vectors = Vectors::default();
        self.windows = Windows::default();
        self.sp_aligned = false;
        let forbidden = (self.source.el() == 0).then(|| {
            self.asm.test8_imm(field(offset::SCTLR + 4), MSCEN);
            self.asm.jcc_forward(Cc::E)
        });
        for (host, r) in [(RAX, rd), (RDX, rs), (RCX, rn)] {
            let operand = self.x_operand(r);
            self.asm.mov(true, host, operand);
        }
        self.asm.call(thunk);
        self.asm.test(false, RAX, RAX);
        let failed = self.asm.jcc_forward(Cc::E);
        finish(self);
        self.x_set(rn, 0);
        // NZCV = 0.
        self.asm.store_imm(false, x(slot::FLAGS), flags_image(0) as i32);
        let done = self.asm.jmp_forward();
        for patch in forbidden.into_iter().chain([failed]) {
            self.asm.bind(patch);
        }
        for index in self.index..self.index + 3 {
            self.asm.mov_imm(RAX, u64::from(self.words[index]));
            self.asm.mov_imm(RCX, u64::from(self.offset_of(index)));
            self.asm.call(self.thunks.interpret_integer);
        }
        self.asm.bind(done);
        self.index += 2;
    }

    /// Jumps when the copy descends, which leaves the address registers alone.
    fn descends(&mut self, [rd, rs, rn]: [Reg; 3]) -> crate::jit::asm::Patch {
        // The top byte of addresses does not count.
        for (host, r) in [(RCX, rd), (RAX, rs)] {
            let operand = self.x_operand(r);
            self.asm.mov(true, host, operand);
            self.asm.rot_imm(Rot::Shl, true, host, 8);
        }
        self.asm.alu(Alu::Sub, true, RCX, RAX);
        let ascends = self.asm.jcc_short(Cc::Be);
        self.asm.rot_imm(Rot::Shr, true, RCX, 8);
        let size = self.x_operand(rn);
        self.asm.alu(Alu::Cmp, true, RCX, size);
        let descends = self.asm.jcc_forward(Cc::B);
        self.asm.bind_short(ascends);
        descends
    }

    /// Adds RAX to `r`.
    fn advance(&mut self, r: Reg) {
        match pinned(r) {
            Some(host) => self.asm.alu(Alu::Add, true, host, Rm::R(RAX)),
            None => self.asm.alu_to(Alu::Add, true, x(r), RAX),
        }
    }
}
