//! Integer arithmetic, logic, multiplication and selection.

use super::{Translator, flags::Polarity, operands::or_sp};
use crate::{
    decode::{
        CondSelect, Extend, Insn, Logic, MoveWide, OneSource, Reg, RegOrImm, Shift, TwoSource, bitmask,
    },
    jit::asm::{Alu, Cc, Gpr, Mem, RAX, RCX, RDX, Rm, Rot},
};

impl Translator<'_> {
    /// Integer instructions; false for what is none or has no translation.
    pub(super) fn integer(&mut self, insn: &Insn) -> bool {
        match *insn {
            Insn::Adr { rd, offset } => self.address(rd, i64::from(self.offset()) + i64::from(offset)),
            Insn::Adrp { rd, pages } => self.address(rd, i64::from(pages) << 12),
            Insn::AddSubImm { sf, sub, set, rd, rn, imm } => {
                let imm = imm as i32;
                if set {
                    self.compare_imm(sf, sub, [rd, rn], imm)
                } else {
                    self.add_imm(sf, sub, [rd, rn], imm)
                }
            }
            Insn::LogicImm { sf, op, set, rd, rn, pattern } => self.logic_imm(sf, op, set, [rd, rn], pattern),
            Insn::MoveWide { sf, op, rd, imm, shift } => self.move_wide(sf, op, rd, imm, shift),
            Insn::AddSubShift { sf, sub, set, rd, rn, rm, shift, amount } => {
                if !set && !sub && shift == Shift::Lsl && amount <= 3 {
                    let (n, m) = (self.x_read(rn, RAX), self.x_read(rm, RCX));
                    let d = self.x_dest(rd, RAX);
                    self.asm.lea(sf, d, Mem::indexed(n, m, amount, 0));
                    self.x_finish(rd, d);
                } else {
                    self.begin(set);
                    let m = self.shifted(sf, rm, shift, amount);
                    self.add_sub(sf, sub, set, [rd, rn], m);
                }
            }
            Insn::AddSubExtend { sf, sub: false, set: false, rd, rn, rm, extend, amount } if amount <= 3 => {
                self.extended(rm, extend, 0);
                let n = self.xsp_read(rn, RAX);
                let d = self.xsp_dest(rd, RAX);
                self.asm.lea(sf, d, Mem::indexed(n, RCX, amount, 0));
                self.xsp_finish(rd, d);
            }
            Insn::AddSubExtend { sf, sub, set, rd, rn, rm, extend, amount } => {
                self.begin(set);
                self.extended(rm, extend, amount);
                self.add_sub_extended(sf, sub, set, [rd, rn]);
            }
            Insn::AddSubCarry { sf, sub, set, rd, rn, rm } => self.carry(sf, sub, set, [rd, rn, rm]),
            Insn::LogicShift { sf, op, invert, set, rd, rn, rm, shift, amount } => {
                if (op, invert, set, rn, amount) == (Logic::Orr, false, false, 31, 0) {
                    self.copy(sf, rd, rm);
                } else {
                    self.begin(set);
                    let m = self.shifted(sf, rm, shift, amount);
                    self.logic(sf, (op, invert, set), [rd, rn], m);
                }
            }
            Insn::CondCompare { sf, sub, rn, with, nzcv, cond } => {
                self.cond_compare(sf, sub, rn, with, (nzcv, cond));
            }
            Insn::CondSelect { sf, op, rd, rn, rm, cond } => self.cond_select(sf, op, [rd, rn, rm], cond),
            Insn::OneSource { sf, op, rd, rn } => self.one_source(sf, op, rd, rn),
            Insn::TwoSource { sf, op, rd, rn, rm } => self.two_source(sf, op, [rd, rn, rm]),
            Insn::Crc32 { castagnoli: true, size, rd, rn, rm } => {
                self.clobber_flags();
                let m = self.x_read(rm, RCX);
                let n = self.x_operand(rn);
                self.asm.mov(false, RAX, n);
                self.asm.crc32(size, RAX, m);
                self.x_finish(rd, RAX);
            }
            Insn::MultiplyAdd { sf, sub, rd, rn, rm, ra } => self.multiply_add(sf, sub, [rd, rn, rm, ra]),
            Insn::MultiplyAddLong { signed, sub, rd, rn, rm, ra } => {
                self.clobber_flags();
                let (n, m) = (self.x_operand(rn), self.x_operand(rm));
                for (tmp, operand) in [(RAX, n), (RCX, m)] {
                    if signed {
                        self.asm.movsx(2, true, tmp, operand)
                    } else {
                        self.asm.mov(false, tmp, operand)
                    }
                }
                self.asm.imul(true, RAX, RCX);
                self.plus_or_minus(true, sub, rd, ra);
            }
            Insn::MultiplyHigh { signed: false, rd, rn, rm } => {
                self.load_factor(rn);
                let d = self.x_dest(rd, RAX);
                let m = self.x_operand(rm);
                self.asm.mulx(d, d, m);
                self.x_finish(rd, d);
            }
            Insn::MultiplyHigh { signed, rd, rn, rm } => {
                self.clobber_flags();
                let n = self.x_operand(rn);
                self.asm.mov(true, RAX, n);
                let m = self.x_operand(rm);
                self.asm.mul_wide(signed, true, m);
                self.x_finish(rd, RDX);
            }
            Insn::Bitfield { .. } | Insn::Extract { .. } => return self.bits(insn),
            _ => return false,
        }
        true
    }

    /// Before an instruction that destroys the host's flags; one that `set`s them has no use for the old ones.
    pub(super) fn begin(&mut self, set: bool) {
        if set { self.flags = super::flags::Flags::dead() } else { self.clobber_flags() }
    }

    fn address(&mut self, rd: Reg, offset: i64) {
        self.clobber_flags();
        let d = self.x_dest(rd, RAX);
        self.page_plus(d, offset);
        self.x_finish(rd, d);
    }

    fn copy(&mut self, sf: bool, rd: Reg, rm: Reg) {
        if rm == 31 {
            self.x_set(rd, 0);
            return;
        }
        let m = self.x_operand(rm);
        let d = self.x_dest(rd, RAX);
        if !sf || m != Rm::R(d) {
            self.asm.mov(sf, d, m);
        }
        self.x_finish(rd, d);
    }

    fn add_imm(&mut self, sf: bool, sub: bool, [rd, rn]: [Reg; 2], imm: i32) {
        let n = self.xsp_read(rn, RAX);
        let d = self.xsp_dest(rd, RAX);
        let aligned = self.sp_aligned && rn == 31 && imm % 16 == 0 && sf;
        let moved = if sub { -imm } else { imm };
        let windows = (rd == rn && sf).then(|| self.windows.moved(or_sp(rn), moved));
        self.asm.lea(sf, d, Mem::at(n, moved));
        self.xsp_finish(rd, d);
        if let Some(windows) = windows {
            self.windows = windows;
        }
        if rd == 31 {
            self.sp_aligned = aligned;
        }
    }

    fn compare_imm(&mut self, sf: bool, sub: bool, [rd, rn]: [Reg; 2], imm: i32) {
        self.begin(true);
        let n = crate::jit::state::register(or_sp(rn));
        if sub && rd == 31 {
            self.asm.alu_imm(Alu::Cmp, sf, n, imm);
        } else {
            let d = self.x_dest(rd, RAX);
            if n != Rm::R(d) {
                self.asm.mov(sf, d, n);
            }
            self.asm.alu_imm(if sub { Alu::Sub } else { Alu::Add }, sf, d, imm);
            self.x_finish(rd, d);
        }
        self.set_flags(polarity(sub));
    }

    /// Register `rm` shifted: an operand, RCX if there is something to do. Changes the host's flags.
    fn shifted(&mut self, sf: bool, rm: Reg, shift: Shift, amount: u8) -> Rm {
        let m = self.x_operand(rm);
        if amount == 0 {
            return m;
        }
        let op = match shift {
            Shift::Lsl => Rot::Shl,
            Shift::Lsr => Rot::Shr,
            Shift::Asr => Rot::Sar,
            Shift::Ror => Rot::Ror,
        };
        self.asm.mov(sf, RCX, m);
        self.asm.rot_imm(op, sf, RCX, amount);
        Rm::R(RCX)
    }

    /// RCX = register `rm`, extended and shifted left. Changes the host's flags.
    pub(super) fn extended(&mut self, rm: Reg, extend: Extend, amount: u8) {
        let m = self.x_operand(rm);
        match extend {
            Extend::Uxtb => self.asm.movzx(0, RCX, m),
            Extend::Uxth => self.asm.movzx(1, RCX, m),
            Extend::Uxtw => self.asm.mov(false, RCX, m),
            Extend::Uxtx | Extend::Sxtx => self.asm.mov(true, RCX, m),
            Extend::Sxtb => self.asm.movsx(0, true, RCX, m),
            Extend::Sxth => self.asm.movsx(1, true, RCX, m),
            Extend::Sxtw => self.asm.movsx(2, true, RCX, m),
        }
        if amount != 0 {
            self.asm.rot_imm(Rot::Shl, true, RCX, amount);
        }
    }

    /// `rd = rn op m`, for registers of which 31 is XZR.
    fn alu_binary(&mut self, op: Alu, sf: bool, [rd, rn]: [Reg; 2], m: Rm) {
        let (mut n, mut m) = (self.x_operand(rn), m);
        let mut d = self.x_dest(rd, RAX);
        if m == Rm::R(d) && n != m {
            if matches!(op, Alu::Sub | Alu::Sbb) {
                d = RAX;
            } else {
                std::mem::swap(&mut n, &mut m);
            }
        }
        if n != Rm::R(d) {
            self.asm.mov(sf, d, n);
        }
        self.asm.alu(op, sf, d, m);
        self.x_finish(rd, d);
    }

    fn add_sub(&mut self, sf: bool, sub: bool, set: bool, [rd, rn]: [Reg; 2], m: Rm) {
        if sub && set && rd == 31 {
            let n = self.x_read(rn, RAX);
            self.asm.alu(Alu::Cmp, sf, n, m);
        } else if sub && rn == 31 {
            let d = self.x_dest(rd, RAX);
            if m != Rm::R(d) {
                self.asm.mov(sf, d, m);
            }
            self.asm.neg(sf, d);
            self.x_finish(rd, d);
        } else {
            self.alu_binary(if sub { Alu::Sub } else { Alu::Add }, sf, [rd, rn], m);
        }
        if set {
            self.set_flags(polarity(sub));
        }
    }

    /// As [`Translator::add_sub`] with RCX, but `rn`, and `rd` unless the flags are set, may be SP.
    fn add_sub_extended(&mut self, sf: bool, sub: bool, set: bool, [rd, rn]: [Reg; 2]) {
        let n = self.xsp_read(rn, RAX);
        if n != RAX {
            self.asm.mov(sf, RAX, n);
        }
        self.asm.alu(if sub { Alu::Sub } else { Alu::Add }, sf, RAX, RCX);
        if set {
            self.x_finish(rd, RAX);
            self.set_flags(polarity(sub));
        } else {
            self.xsp_finish(rd, RAX);
        }
    }

    fn carry(&mut self, sf: bool, sub: bool, set: bool, [rd, rn, rm]: [Reg; 3]) {
        if !set && self.flags_live_after() {
            self.save_flags_now();
        }
        self.restore_carry(polarity(sub));
        let m = self.x_operand(rm);
        self.alu_binary(if sub { Alu::Sbb } else { Alu::Adc }, sf, [rd, rn], m);
        if set {
            self.set_flags(polarity(sub));
        } else {
            self.forget_host_flags();
        }
    }

    fn logic_imm(&mut self, sf: bool, op: Logic, set: bool, [rd, rn]: [Reg; 2], pattern: u16) {
        self.begin(set);
        let full = bitmask(pattern).unwrap_or(0);
        let value = if sf { full } else { full & u64::from(u32::MAX) };
        let alu = alu_of(op);
        let short = if sf { i32::try_from(value as i64).ok() } else { Some(value as u32 as i32) };
        if rn == 31 && op == Logic::Orr {
            let d = self.xsp_dest(rd, RAX);
            self.asm.mov_imm(d, value);
            self.xsp_finish(rd, d);
            return;
        }
        if set && rd == 31 {
            let n = self.x_operand(rn);
            match short {
                Some(imm) => self.asm.test_imm(sf, n, imm),
                None => {
                    self.asm.mov_imm(RAX, value);
                    self.asm.test(true, n, RAX);
                }
            }
        } else {
            // A destination that is SP may not be checked for alignment here any more: `xsp_finish` sees to that.
            let d = if set { self.x_dest(rd, RAX) } else { self.xsp_dest(rd, RAX) };
            let n = self.x_operand(rn);
            let far = short.is_none();
            if far {
                self.asm.mov_imm(RCX, value);
            }
            if n != Rm::R(d) {
                self.asm.mov(sf, d, n);
            }
            match short {
                Some(imm) => self.asm.alu_imm(alu, sf, d, imm),
                None => self.asm.alu(alu, true, d, RCX),
            }
            if set { self.x_finish(rd, d) } else { self.xsp_finish(rd, d) }
        }
        if set {
            self.set_flags(Polarity::Direct);
        }
    }

    fn logic(&mut self, sf: bool, (op, invert, set): (Logic, bool, bool), [rd, rn]: [Reg; 2], m: Rm) {
        match (op, invert) {
            (Logic::And, false) if set && rd == 31 => {
                let n = self.x_read(rn, RAX);
                self.asm.test(sf, m, n);
            }
            (Logic::And, true) => {
                let inverted = self.in_register(sf, m);
                let n = self.x_operand(rn);
                let d = self.x_dest(rd, RAX);
                self.asm.andn(sf, d, inverted, n);
                self.x_finish(rd, d);
            }
            (Logic::Orr, true) if rn == 31 => {
                let d = self.x_dest(rd, RAX);
                self.asm.mov(sf, d, m);
                self.asm.not(sf, d);
                self.x_finish(rd, d);
            }
            (_, true) => {
                if m != Rm::R(RCX) {
                    self.asm.mov(sf, RCX, m);
                }
                self.asm.not(sf, RCX);
                self.alu_binary(alu_of(op), sf, [rd, rn], Rm::R(RCX));
            }
            _ => self.alu_binary(alu_of(op), sf, [rd, rn], m),
        }
        if set {
            self.set_flags(Polarity::Direct);
        }
    }

    /// `m` in a register: its own, or RCX.
    fn in_register(&mut self, sf: bool, m: Rm) -> Gpr {
        match m {
            Rm::R(r) => r,
            Rm::M(_) => {
                self.asm.mov(sf, RCX, m);
                RCX
            }
        }
    }

    fn move_wide(&mut self, sf: bool, op: MoveWide, rd: Reg, imm: u16, shift: u8) {
        let piece = u64::from(imm) << shift;
        let before = self.pending.filter(|p| p.0 == rd);
        if before.is_none() {
            self.write_pending();
        }
        let mask = if sf { u64::MAX } else { u64::from(u32::MAX) };
        let hole = 0xffff_u64 << shift;
        let value = match (op, before) {
            (MoveWide::Zero, _) => piece,
            (MoveWide::Not, _) => !piece & mask,
            (MoveWide::Keep, Some((_, old))) => (old & !hole | piece) & mask,
            (MoveWide::Keep, None) => {
                self.insert_constant(sf, rd, hole, piece);
                return;
            }
        };
        self.pending = Some((rd, value));
    }

    fn insert_constant(&mut self, sf: bool, rd: Reg, hole: u64, piece: u64) {
        self.clobber_flags();
        let n = self.x_operand(rd);
        self.asm.mov_imm(RAX, !hole);
        self.asm.alu(Alu::And, sf, RAX, n);
        self.asm.mov_imm(RCX, piece);
        self.asm.alu(Alu::Or, sf, RAX, RCX);
        self.x_finish(rd, RAX);
    }

    fn cond_compare(&mut self, sf: bool, sub: bool, rn: Reg, with: RegOrImm, (nzcv, cond): (u8, u8)) {
        let wanted = polarity(sub);
        let otherwise = (cond < 14).then(|| {
            let cc = self.condition(cond);
            self.asm.jcc_short(cc.not())
        });
        let n = self.x_read(rn, RAX);
        match with {
            RegOrImm::Imm(imm) if sub => self.asm.alu_imm(Alu::Cmp, sf, n, i32::from(imm)),
            RegOrImm::Reg(rm) if sub => {
                let m = self.x_operand(rm);
                self.asm.alu(Alu::Cmp, sf, n, m);
            }
            _ => {
                if n != RAX {
                    self.asm.mov(true, RAX, n);
                }
                match with {
                    RegOrImm::Imm(imm) => self.asm.alu_imm(Alu::Add, sf, RAX, i32::from(imm)),
                    RegOrImm::Reg(rm) => {
                        let m = self.x_operand(rm);
                        self.asm.alu(Alu::Add, sf, RAX, m);
                    }
                }
            }
        }
        if let Some(otherwise) = otherwise {
            let done = self.asm.jmp_short();
            self.asm.bind_short(otherwise);
            self.load_constant_flags(nzcv, wanted);
            self.asm.bind_short(done);
        }
        self.set_flags(wanted);
    }

    fn cond_select(&mut self, sf: bool, op: CondSelect, [rd, rn, rm]: [Reg; 3], cond: u8) {
        if cond >= 14 {
            self.copy(sf, rd, rn);
            return;
        }
        let cc = self.condition(cond);
        if (op, rn, rm) == (CondSelect::Increment, 31, 31) {
            self.asm.setcc(cc.not(), RCX);
            let d = self.x_dest(rd, RAX);
            self.asm.movzx(0, d, RCX);
            self.x_finish(rd, d);
            return;
        }
        let (n, m) = (self.x_operand(rn), self.x_operand(rm));
        let d = match self.x_dest(rd, RCX) {
            d if n == Rm::R(d) => RCX,
            d => d,
        };
        if m != Rm::R(d) {
            self.asm.mov(true, d, m);
        }
        match op {
            CondSelect::Plain => {}
            CondSelect::Increment => self.asm.lea(sf, d, Mem::at(d, 1)),
            CondSelect::Invert => self.asm.not(sf, d),
            CondSelect::Negate => {
                self.asm.not(sf, d);
                self.asm.lea(sf, d, Mem::at(d, 1));
            }
        }
        self.asm.cmov(cc, sf, d, n);
        self.x_finish(rd, d);
    }

    fn one_source(&mut self, sf: bool, op: OneSource, rd: Reg, rn: Reg) {
        self.clobber_flags();
        let n = self.x_operand(rn);
        let d = match op {
            OneSource::Clz => {
                let d = self.x_dest(rd, RAX);
                self.asm.lzcnt(sf, d, n);
                d
            }
            OneSource::Rev | OneSource::Rev32 => {
                let d = self.x_dest(rd, RAX);
                if n != Rm::R(d) {
                    self.asm.mov(sf, d, n);
                }
                self.asm.bswap(sf, d);
                if op == OneSource::Rev32 {
                    self.asm.rorx(true, d, d, 32);
                }
                d
            }
            OneSource::Rev16 => {
                self.asm.mov(sf, RAX, n);
                self.swap_groups(sf, 0x00ff_00ff_00ff_00ff, 8);
                RAX
            }
            OneSource::Cls => {
                self.asm.mov(sf, RAX, n);
                self.asm.mov(sf, RCX, RAX);
                self.asm.rot_imm(Rot::Sar, sf, RCX, if sf { 63 } else { 31 });
                self.asm.alu(Alu::Xor, sf, RAX, RCX);
                self.asm.alu(Alu::Add, sf, RAX, RAX);
                self.asm.alu_imm(Alu::Or, sf, RAX, 1);
                self.asm.lzcnt(sf, RAX, RAX);
                RAX
            }
            OneSource::Rbit => {
                self.asm.mov(sf, RAX, n);
                self.asm.bswap(sf, RAX);
                self.swap_groups(sf, 0x0f0f_0f0f_0f0f_0f0f, 4);
                self.swap_groups(sf, 0x3333_3333_3333_3333, 2);
                self.swap_groups(sf, 0x5555_5555_5555_5555, 1);
                RAX
            }
        };
        self.x_finish(rd, d);
    }

    /// Swaps, in RAX, the groups of bits in `mask` with their neighbours `distance` above. Uses RCX and RDX.
    fn swap_groups(&mut self, sf: bool, mask: u64, distance: u8) {
        let mask = if sf { mask } else { mask & u64::from(u32::MAX) };
        self.asm.mov_imm(RDX, mask);
        self.asm.mov(sf, RCX, RAX);
        self.asm.rot_imm(Rot::Shr, sf, RCX, distance);
        self.asm.alu(Alu::And, sf, RAX, RDX);
        self.asm.alu(Alu::And, sf, RCX, RDX);
        self.asm.rot_imm(Rot::Shl, sf, RAX, distance);
        self.asm.alu(Alu::Or, sf, RAX, RCX);
    }

    fn two_source(&mut self, sf: bool, op: TwoSource, [rd, rn, rm]: [Reg; 3]) {
        let shift = match op {
            TwoSource::Lslv => Rot::Shl,
            TwoSource::Lsrv => Rot::Shr,
            TwoSource::Asrv => Rot::Sar,
            TwoSource::Rorv => {
                self.clobber_flags();
                let (n, m) = (self.x_operand(rn), self.x_operand(rm));
                self.asm.mov(sf, RAX, n);
                self.asm.mov(false, RCX, m);
                self.asm.rot_cl(Rot::Ror, sf, RAX);
                self.x_finish(rd, RAX);
                return;
            }
            TwoSource::Udiv | TwoSource::Sdiv => {
                self.divide(sf, op == TwoSource::Sdiv, [rd, rn, rm]);
                return;
            }
        };
        let m = self.x_read(rm, RCX);
        let n = self.x_operand(rn);
        let d = self.x_dest(rd, RAX);
        self.asm.shift_x(shift, sf, d, n, m);
        self.x_finish(rd, d);
    }

    /// Quotients as the architecture has them: 0 for division by 0, and the most negative number divided by -1 is itself.
    fn divide(&mut self, sf: bool, signed: bool, [rd, rn, rm]: [Reg; 3]) {
        self.clobber_flags();
        let (n, m) = (self.x_operand(rn), self.x_operand(rm));
        self.asm.mov(sf, RCX, m);
        self.asm.mov(sf, RAX, n);
        self.asm.test(sf, RCX, RCX);
        let nonzero = self.asm.jcc_short(Cc::Ne);
        self.asm.mov_imm(RAX, 0);
        let done = self.asm.jmp_short();
        self.asm.bind_short(nonzero);
        let negated = if signed {
            self.asm.alu_imm(Alu::Cmp, sf, RCX, -1);
            let ordinary = self.asm.jcc_short(Cc::Ne);
            self.asm.neg(sf, RAX);
            let negated = self.asm.jmp_short();
            self.asm.bind_short(ordinary);
            self.asm.sign_rax(sf);
            Some(negated)
        } else {
            self.asm.mov_imm(RDX, 0);
            None
        };
        self.asm.div_wide(signed, sf, RCX);
        self.asm.bind_short(done);
        if let Some(negated) = negated {
            self.asm.bind_short(negated);
        }
        self.x_finish(rd, RAX);
    }

    /// RDX = `rn`, where MULX wants it.
    fn load_factor(&mut self, rn: Reg) {
        let n = self.x_operand(rn);
        self.asm.mov(true, RDX, n);
    }

    fn multiply_add(&mut self, sf: bool, sub: bool, [rd, rn, rm, ra]: [Reg; 4]) {
        if sf && !sub && ra == 31 && self.must_save() && self.flags_live_after() {
            // Long multiplications have one between two additions with carry: it leaves the host's flags alone.
            self.load_factor(rn);
            let d = self.x_dest(rd, RCX);
            let m = self.x_operand(rm);
            self.asm.mulx(RAX, d, m);
            self.x_finish(rd, d);
            return;
        }
        self.clobber_flags();
        let (n, m) = (self.x_operand(rn), self.x_operand(rm));
        self.asm.mov(sf, RAX, n);
        self.asm.imul(sf, RAX, m);
        self.plus_or_minus(sf, sub, rd, ra);
    }

    /// `rd = ra +- RAX`.
    fn plus_or_minus(&mut self, sf: bool, sub: bool, rd: Reg, ra: Reg) {
        let a = self.x_operand(ra);
        match (sub, ra) {
            (false, 31) => {}
            (true, 31) => self.asm.neg(sf, RAX),
            (false, _) => self.asm.alu(Alu::Add, sf, RAX, a),
            (true, _) => {
                self.asm.mov(sf, RCX, a);
                self.asm.alu(Alu::Sub, sf, RCX, RAX);
                self.x_finish(rd, RCX);
                return;
            }
        }
        self.x_finish(rd, RAX);
    }
}

fn polarity(sub: bool) -> Polarity {
    if sub { Polarity::Inverted } else { Polarity::Direct }
}

fn alu_of(op: Logic) -> Alu {
    match op {
        Logic::And => Alu::And,
        Logic::Orr => Alu::Or,
        Logic::Eor => Alu::Xor,
    }
}
