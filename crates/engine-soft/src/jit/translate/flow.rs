//! Branches, and the ways out of a block.

use super::{Aside, Translator};
use crate::{
    decode::{BranchReg, Insn},
    jit::{
        asm::{Alu, Cc, Patch, RAX, RCX, RSP},
        cache::{CELL, Exit, NO_PAGE},
        returns,
        state::{slot, x},
        thunks::{Go, probe},
    },
};

/// Opcodes of the host, with displacements of 32 bits.
const JUMP: u8 = 0xe9;
const CALL: u8 = 0xe8;

/// Whether nothing behind `word` is reached by falling through, or the JIT ends its block there.
pub(super) fn ends_block(word: u32) -> bool {
    word & 0x7c00_0000 == 0x1400_0000 // B, BL
        || word & 0xfe00_0000 == 0xd600_0000 // BR, BLR, RET, ERET
        || word & 0xff00_0000 == 0xd400_0000 // SVC, HVC, SMC, BRK
}

fn sign_extend(value: u32, bits: u32) -> i32 {
    (value << (32 - bits)) as i32 >> (32 - bits)
}

/// Where the conditional branch `word` at offset `at` goes when it is taken.
pub(super) fn side_exit(word: u32, at: i32) -> Option<i32> {
    let distance = if word & 0xff00_0010 == 0x5400_0000 || word & 0x7e00_0000 == 0x3400_0000 {
        sign_extend(word >> 5 & 0x7_ffff, 19)
    } else if word & 0x7e00_0000 == 0x3600_0000 {
        sign_extend(word >> 5 & 0x3fff, 14)
    } else {
        return None;
    };
    Some(at.wrapping_add(distance * 4))
}

/// Where the B (without link) `word` at offset `at` goes.
pub(super) fn direct_jump(word: u32, at: i32) -> Option<i32> {
    (word & 0xfc00_0000 == 0x1400_0000).then(|| at.wrapping_add(sign_extend(word & 0x3ff_ffff, 26) * 4))
}

/// Whether `word` accesses memory.
pub(super) fn may_fault(word: u32) -> bool {
    word & 0x0a00_0000 == 0x0800_0000
}

impl Translator<'_> {
    /// Branches; false for other instructions.
    pub(super) fn flow(&mut self, insn: &Insn) -> bool {
        match *insn {
            Insn::Branch { link, offset } => {
                self.settle();
                if link {
                    self.link();
                }
                self.over = true;
                let target = self.offset().wrapping_add(offset);
                if link && self.expects_return() {
                    self.call_for(target);
                } else {
                    self.leave_for(target);
                }
            }
            Insn::BranchCond { cond, offset } => {
                let target = self.offset().wrapping_add(offset);
                if cond >= 14 {
                    self.settle();
                    self.over = true;
                    self.leave_for(target);
                } else {
                    // Before the jump, since a way by a side path costs more than what the other way may not need.
                    if self.must_save() && self.live_at(target) {
                        self.save_flags_now();
                    }
                    let cc = self.condition(cond);
                    self.leave_if(cc, target);
                }
            }
            Insn::CompareBranch { sf, nonzero, rt, offset } => {
                self.branch_clobbers_flags();
                match self.x_operand(rt) {
                    crate::jit::asm::Rm::R(host) => self.asm.test(sf, host, host),
                    memory => self.asm.alu_imm(Alu::Cmp, sf, memory, 0),
                }
                let cc = if nonzero { Cc::Ne } else { Cc::E };
                self.leave_if(cc, self.offset().wrapping_add(offset));
            }
            Insn::TestBranch { nonzero, rt, bit, offset } => {
                self.branch_clobbers_flags();
                let operand = self.x_operand(rt);
                self.asm.bt_imm(bit >= 32, operand, bit);
                let cc = if nonzero { Cc::B } else { Cc::Ae };
                self.leave_if(cc, self.offset().wrapping_add(offset));
            }
            Insn::BranchReg { kind, rn } => self.branch_register(kind, rn),
            _ => return false,
        }
        true
    }

    /// X30 = RAX = the address of the next instruction.
    fn link(&mut self) {
        self.clobber_flags();
        self.page_plus(RAX, i64::from(self.offset()) + 4);
        self.x_finish(30, RAX);
    }

    fn branch_register(&mut self, kind: BranchReg, rn: u8) {
        self.save_flags();
        self.store_vectors();
        self.over = true;
        if kind == BranchReg::Call {
            self.call_register(rn);
            return;
        }
        let target = self.x_read(rn, RAX);
        if target != RAX {
            self.asm.mov(true, RAX, target);
        }
        if kind == BranchReg::Return {
            self.asm.ret();
            return;
        }
        self.jump_to_rax();
    }

    /// Goes to address RAX.
    fn jump_to_rax(&mut self) {
        let miss = probe(self.asm, self.thunks.jumps, Go::Jump);
        self.asm.bind_to(miss, self.thunks.branch_miss);
    }

    fn call_register(&mut self, rn: u8) {
        if rn == 30 {
            let target = self.x_read(rn, RCX);
            self.asm.mov(true, RCX, target);
        }
        self.page_plus(RAX, i64::from(self.offset()) + 4);
        self.x_finish(30, RAX);
        let returns = self.expects_return();
        let target = if rn == 30 { RCX } else { self.x_read(rn, RAX) };
        if target != RAX {
            self.asm.mov(true, RAX, target);
        }
        if !returns {
            self.jump_to_rax();
            return;
        }
        let from = probe(self.asm, self.thunks.jumps, Go::Call);
        let landing = self.asm.label();
        self.asides.push(Aside::CallMiss { from, landing });
        self.land();
    }

    /// Before a call, with the address behind it in RAX: notes that it is to return there, if that is in this page.
    fn expects_return(&mut self) -> bool {
        if self.is_far(self.offset() + 4) {
            return false;
        }
        self.asm.alu_imm(Alu::Or, true, RSP, returns::SIZE as i32);
        self.asm.push(RAX);
        true
    }

    /// Leaves the block for `target`, as [`Translator::leave_for`], and has it return behind the current instruction.
    fn call_for(&mut self, target: i32) {
        if self.is_far(target) {
            let (from, exit) = self.guarded_exit(target, CALL);
            let landing = self.asm.label();
            self.asides.push(Aside::LinkCall { from, exit, landing });
        } else {
            // Every call looks for attention, so that no return has to.
            let exit = Exit::to(self.source.page, target, true, false);
            let from = self.asm.call_forward();
            let exit = self.note_exit(exit);
            self.asides.push(Aside::Link { from, exit });
        }
        self.land();
    }

    /// Emits the landing of a call.
    fn land(&mut self) {
        let next = self.offset() + 4;
        self.asm.pop(RCX);
        self.asm.alu(Alu::Cmp, true, RCX, RAX);
        let miss = self.asm.jcc_forward(Cc::Ne);
        self.asm.bind_to(miss, self.thunks.return_miss);
        self.asm.alu_imm(Alu::And, true, RAX, -4096);
        self.asm.alu(Alu::Xor, true, RAX, x(slot::KEY));
        self.asm.store(3, x(slot::HERE), RAX);
        // A loop of returns has calls, too, which look for attention.
        let exit = Exit::to(self.source.page, next, false, false);
        let from = self.asm.jmp_forward();
        let exit = self.note_exit(exit);
        self.asides.push(Aside::Link { from, exit });
    }

    /// Leaves the block for `target`, in bytes from the start of the page, if `cc`. What it needs of NZCV is saved.
    fn leave_if(&mut self, cc: Cc, target: i32) {
        if self.loop_if(cc, target) {
            return;
        }
        if self.vectors.is_dirty() {
            let (from, vectors) = (self.asm.jcc_forward(cc), self.vectors.clone());
            self.asides.push(Aside::Leave { from, target, vectors });
        } else if self.is_far(target) {
            // Here, since a side path would be one more jump, and to what the host's caches seldom hold.
            let on = self.asm.jcc_short(cc.not());
            self.leave_for(target);
            self.asm.bind_short(on);
        } else {
            let from = self.asm.jcc_forward(cc);
            let exit = self.note_exit(self.near_exit(target));
            self.asides.push(Aside::Link { from, exit });
        }
    }

    fn is_far(&self, target: i32) -> bool {
        !(0..4096).contains(&target)
    }

    /// Whether a jump to `target` has to look for attention. What goes forward has not: it comes to an end, or to an exit
    /// that is linked for another page, or goes back at some time.
    fn polls(&self, target: i32) -> bool {
        target <= self.offset()
    }

    fn near_exit(&self, target: i32) -> Exit {
        Exit::to(self.source.page, target, self.polls(target), false)
    }

    /// Notes `exit`, the displacement of whose jump was emitted just now.
    fn note_exit(&mut self, exit: Exit) -> u32 {
        let jump = self.code_offset(self.asm.latest_displacement());
        self.exits.push(Exit { jump, ..exit });
        self.exits.len() as u32 - 1
    }

    /// Leaves the block for `target`, in bytes from the start of the page. Everything is settled.
    pub(super) fn leave_for(&mut self, target: i32) {
        let (from, exit) = if self.is_far(target) {
            self.guarded_exit(target, JUMP)
        } else {
            let from = self.asm.jmp_forward();
            (from, self.note_exit(self.near_exit(target)))
        };
        if self.is_aside {
            let at = self.put_exit(exit);
            self.asm.bind(from);
            self.asm.mov_imm(RAX, at);
            self.asm.jmp(self.thunks.link);
        } else {
            self.asides.push(Aside::Link { from, exit });
        }
    }

    /// Emits an exit to another page, with a cell, by a JMP or CALL of this `opcode`; returns the jump that is taken while
    /// it is not linked for the current context, and its number.
    fn guarded_exit(&mut self, target: i32, opcode: u8) -> (Patch, u32) {
        self.asm.mov(true, RAX, x(slot::HERE));
        let cell = self.source.cells + self.cells as u64 * CELL as u64;
        self.cells += 1;
        self.asm.cmp_at(RAX, cell);
        let miss = self.asm.jcc_forward(Cc::Ne);
        self.asm.alu_imm(Alu::Add, true, RAX, target & !0xfff);
        self.asm.store(3, x(slot::HERE), RAX);
        self.asm.raw(&[opcode, 0, 0, 0, 0]);
        // Every call looks for attention, so that no return has to.
        let polls = opcode == CALL || self.polls(target);
        let cell = self.code_offset(cell);
        (miss, self.note_exit(Exit { cell, ..Exit::to(NO_PAGE, target, polls, false) }))
    }

    /// Leaves a side path for the careful block at `target`, in bytes from the start of the page.
    pub(super) fn go_on_carefully(&mut self, target: i32) {
        let exit = Exit::to(self.source.page, target, false, true);
        let from = self.asm.jmp_forward();
        let exit = self.note_exit(exit);
        let at = self.put_exit(exit);
        self.asm.bind(from);
        self.asm.mov_imm(RAX, at);
        self.asm.jmp(self.thunks.link);
    }

    /// Puts exit number `exit` where code is that nobody arrives at; returns its offset.
    pub(super) fn put_exit(&mut self, exit: u32) -> u64 {
        let at = self.code_offset(self.asm.here());
        self.asm.raw(&self.exits[exit as usize].to_bytes());
        u64::from(at)
    }

    fn code_offset(&self, address: u64) -> u32 {
        address.wrapping_sub(self.source.code) as u32
    }
}
