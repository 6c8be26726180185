//! Lowering: from what an instruction means to the op that does it.
//!
//! Operand shapes that are frequent get handlers of their own, made by monomorphisation: the macros below turn run-time
//! facts about an instruction into const and type parameters.

use super::{
    crc32, flow, integer,
    op::{Handler, Op, Operands, branch, branch_near, simple},
    simd,
};
use crate::{
    cpu::{SP, XZR, XZR_SINK},
    decode::{
        Bitfield, BranchReg, CondSelect, ConvertFlags, Extend, Insn, Logic, MoveWide, OneSource, Reg,
        RegOrImm, Shift, TwoSource, bitmask,
    },
};

/// Evaluates `$body` with `$w` as the type `u64` when `$sf`, else `u32`.
macro_rules! by_width {
    ($sf:expr, $w:ident => $body:expr) => {
        if $sf {
            type $w = u64;
            $body
        } else {
            type $w = u32;
            $body
        }
    };
}

/// Evaluates `$body` with the constant `$name` equal to `$value`, a `bool`.
macro_rules! by_bool {
    ($value:expr, $name:ident => $body:expr) => {
        if $value {
            const $name: bool = true;
            $body
        } else {
            const $name: bool = false;
            $body
        }
    };
}

/// Evaluates `$body` with the `u8` constant `$name` equal to `$value`, one of the listed ones; the last stands for all
/// others.
macro_rules! by_value {
    ($value:expr, [$($case:expr),*; $last:expr], $name:ident => $body:expr) => {
        match $value {
            $(value if value == $case => {
                const $name: u8 = $case;
                $body
            })*
            _ => {
                const $name: u8 = $last;
                $body
            }
        }
    };
}

mod memory;
mod system;

/// Page-relative addresses and branch distances count from here.
#[derive(Clone, Copy)]
struct Position(usize);

impl Position {
    /// An offset in bytes from this instruction, as one from the start of the page.
    fn page_offset(self, offset: i32) -> u32 {
        (self.0 as i32 * 4).wrapping_add(offset) as u32
    }

    /// An offset in bytes from this instruction as a distance in ops, when the target is in the page.
    fn near(self, offset: i32) -> Option<u32> {
        let target = self.0 as i64 + i64::from(offset >> 2);
        (0..super::cache::OPS as i64).contains(&target).then_some((offset >> 2) as u32)
    }

    /// What BL leaves in the link register, as `n` and `m` of the operands have it.
    fn link(self) -> [u8; 2] {
        (self.0 as u16 + 1).to_le_bytes()
    }
}

/// A register as a source.
fn source(r: Reg) -> u8 {
    if r == 31 { XZR } else { r }
}

/// A register as a destination.
fn sink(r: Reg) -> u8 {
    if r == 31 { XZR_SINK } else { r }
}

/// A register of which 31 is the stack pointer.
fn or_sp(r: Reg) -> u8 {
    if r == 31 { SP } else { r }
}

/// An op of the three usual registers.
fn three(run: Handler, rd: Reg, rn: Reg, rm: Reg) -> Op {
    Op { run, o: Operands { d: sink(rd), n: source(rn), m: source(rm), a: 0, imm: 0 } }
}

fn nop() -> Op {
    Op { run: simple(|_, _| ()), o: Operands::default() }
}

/// The op for `insn`, the instruction at index `at` (0 to 1023) of its page.
pub(crate) fn lower(insn: &Insn, at: usize) -> Op {
    let at = Position(at);
    match *insn {
        Insn::Simd(ref insn) => simd::lower::lower(insn),
        Insn::Nop | Insn::Sb | Insn::Prefetch => nop(),
        Insn::Adr { rd, offset } => {
            let o = Operands { d: sink(rd), imm: at.page_offset(offset), ..Operands::default() };
            Op { run: simple(integer::adr), o }
        }
        Insn::Adrp { rd, pages } => {
            let o = Operands { d: sink(rd), imm: pages as u32, ..Operands::default() };
            Op { run: simple(integer::adrp), o }
        }
        Insn::AddSubImm { .. } | Insn::LogicImm { .. } | Insn::MoveWide { .. } => immediate(insn),
        Insn::Bitfield { sf, op, rd, rn, immr, imms } => bitfield(sf, op, [rd, rn], [immr, imms]),
        Insn::Extract { sf, rd, rn, rm, lsb } => {
            let mut op = three(by_width!(sf, W => simple(integer::extract::<W>)), rd, rn, rm);
            op.o.imm = u32::from(lsb);
            op
        }
        Insn::AddSubShift { .. } | Insn::AddSubExtend { .. } | Insn::AddSubCarry { .. } => add_sub(insn),
        Insn::LogicShift { .. } => logic_shift(insn),
        Insn::CondCompare { .. } | Insn::CondSelect { .. } => conditional(insn),
        Insn::OneSource { sf, op, rd, rn } => one_source(sf, op, rd, rn),
        Insn::TwoSource { sf, op, rd, rn, rm } => two_source(sf, op, [rd, rn, rm]),
        Insn::Crc32 { castagnoli, size, rd, rn, rm } => {
            let run = by_bool!(castagnoli, C => match size {
                0 => simple(crc32::crc32::<C, 1>),
                1 => simple(crc32::crc32::<C, 2>),
                2 => simple(crc32::crc32::<C, 4>),
                _ => simple(crc32::crc32::<C, 8>),
            });
            three(run, rd, rn, rm)
        }
        Insn::MultiplyAdd { .. } | Insn::MultiplyAddLong { .. } | Insn::MultiplyHigh { .. } => multiply(insn),
        Insn::Rmif { .. } | Insn::SetFlags { .. } | Insn::ConvertFlags(_) => flags(insn),
        Insn::Branch { .. }
        | Insn::BranchCond { .. }
        | Insn::CompareBranch { .. }
        | Insn::TestBranch { .. }
        | Insn::BranchReg { .. } => flow(insn, at),
        Insn::LoadLiteral { access, rt, offset } => memory::literal(access, rt, at.page_offset(offset)),
        Insn::LoadStoreImm { .. }
        | Insn::LoadStoreReg { .. }
        | Insn::LoadStoreUser { .. }
        | Insn::LoadStorePair { .. }
        | Insn::Ordered { .. } => memory::lower(insn),
        Insn::LoadExclusive { .. }
        | Insn::StoreExclusive { .. }
        | Insn::CompareSwap { .. }
        | Insn::CompareSwapPair { .. }
        | Insn::Atomic { .. } => memory::atomic(insn),
        Insn::MemoryCopy { .. } | Insn::MemorySet { .. } => memory::copy_set(insn),
        _ => system::lower(insn),
    }
}

/// ADD, SUB, AND, ORR, EOR of an immediate, MOVZ, MOVN, MOVK.
fn immediate(insn: &Insn) -> Op {
    match *insn {
        Insn::AddSubImm { sf, sub, set, rd, rn, imm } => {
            let d = if set { sink(rd) } else { or_sp(rd) };
            let run = match set {
                true => by_width!(sf, W => by_bool!(sub, SUB => simple(integer::add_imm_flags::<W, SUB>))),
                false => by_width!(sf, W => simple(integer::add_imm::<W>)),
            };
            let imm = if sub && !set { imm.wrapping_neg() } else { imm };
            Op { run, o: Operands { d, n: or_sp(rn), m: 0, a: 0, imm } }
        }
        Insn::LogicImm { sf, op, set, rd, rn, pattern } => {
            let mask = bitmask(pattern).unwrap_or(0);
            let code = logic_code(op, set);
            let (imm, fits) = match sf {
                true => (mask as u32, i64::from(mask as i32) as u64 == mask),
                false => (mask as u32, true),
            };
            let d = if set { sink(rd) } else { or_sp(rd) };
            let (run, imm) = by_value!(code, [integer::AND, integer::ORR, integer::EOR; integer::ANDS], OP => {
                if fits {
                    (by_width!(sf, W => simple(integer::logic_imm::<W, OP>)), imm)
                } else {
                    (simple(integer::logic_pattern::<OP>), u32::from(pattern))
                }
            });
            Op { run, o: Operands { d, n: source(rn), m: 0, a: 0, imm } }
        }
        Insn::MoveWide { sf, op: MoveWide::Keep, rd, imm, shift } => {
            let run = by_width!(sf, W => simple(integer::move_keep::<W>));
            Op { run, o: Operands { d: sink(rd), n: 0, m: 0, a: shift, imm: u32::from(imm) } }
        }
        Insn::MoveWide { sf, op, rd, imm, shift } => {
            move_wide(sf, op == MoveWide::Not, rd, [imm, shift.into()])
        }
        _ => nop(),
    }
}

fn move_wide(sf: bool, not: bool, rd: Reg, [imm, shift]: [u16; 2]) -> Op {
    let shifted = u64::from(imm) << shift;
    let value = match (sf, not) {
        (_, false) => shifted,
        (true, true) => !shifted,
        (false, true) => u64::from(!shifted as u32),
    };
    let o = Operands { d: sink(rd), imm: value as u32, ..Operands::default() };
    if u64::from(value as u32) == value {
        Op { run: simple(integer::constant), o }
    } else if integer::signed(value as u32) == value {
        Op { run: simple(integer::constant_signed), o }
    } else {
        let run = by_bool!(not, NOT => simple(integer::constant_shifted::<NOT>));
        Op { run, o: Operands { a: shift as u8, imm: u32::from(imm), ..o } }
    }
}

/// SBFM, BFM, UBFM. A bitfield of `imms + 1` bits moves to bit 0 from `immr` when `imms >= immr`, else from bit 0 to bit
/// `width - immr`.
fn bitfield(sf: bool, op: Bitfield, [rd, rn]: [Reg; 2], [immr, imms]: [u8; 2]) -> Op {
    let width = if sf { 64 } else { 32 };
    let mut o = Operands { d: sink(rd), n: source(rn), ..Operands::default() };
    if op == Bitfield::Insert {
        let (bits, low) = if imms >= immr { (imms - immr + 1, 0) } else { (imms + 1, width - immr) };
        o.m = immr;
        o.a = low;
        o.imm = u32::from(bits);
        return Op { run: by_width!(sf, W => simple(integer::bitfield_insert::<W>)), o };
    }
    o.a = width - 1 - imms;
    o.imm = u32::from(if imms >= immr { o.a + immr } else { immr - imms - 1 });
    let signed = op == Bitfield::Signed;
    let run = by_width!(sf, W => match (o.a, o.imm) {
        (_, 0) => simple(integer::shift_left::<W>),
        (0, _) => by_bool!(signed, SIGNED => simple(integer::shift_right::<W, SIGNED>)),
        _ => by_bool!(signed, SIGNED => simple(integer::bitfield::<W, SIGNED>)),
    });
    Op { run, o }
}

/// The kind of shift for the handlers, which know the frequent case of none.
fn shift_code(shift: Shift, amount: u8) -> u8 {
    match shift {
        _ if amount == 0 => integer::NO_SHIFT,
        Shift::Lsl => integer::LSL,
        Shift::Lsr => integer::LSR,
        Shift::Asr => integer::ASR,
        Shift::Ror => integer::ROR,
    }
}

fn logic_code(op: Logic, set: bool) -> u8 {
    match op {
        Logic::And if set => integer::ANDS,
        Logic::And => integer::AND,
        Logic::Orr => integer::ORR,
        Logic::Eor => integer::EOR,
    }
}

/// ADD and SUB of registers.
fn add_sub(insn: &Insn) -> Op {
    match *insn {
        Insn::AddSubShift { sf, sub, set, rd, rn, rm, shift, amount } => {
            let code = shift_code(shift, amount);
            let run = by_width!(sf, W => by_bool!(sub, SUB => by_bool!(set, SET => by_value!(
                code,
                [integer::NO_SHIFT, integer::LSL, integer::LSR; integer::ASR],
                SHIFT => simple(integer::add_shift::<W, SUB, SET, SHIFT>)
            ))));
            let mut op = three(run, rd, rn, rm);
            op.o.imm = u32::from(amount);
            op
        }
        Insn::AddSubExtend { sf, sub, set, rd, rn, rm, extend, amount } => {
            let code = extend_code(extend);
            let run = by_width!(sf, W => by_bool!(sub, SUB => by_bool!(set, SET => by_value!(
                code,
                [0, 1, 2, 4, 5, 6; 3],
                EXTEND => simple(integer::add_extend::<W, SUB, SET, EXTEND>)
            ))));
            let d = if set { sink(rd) } else { or_sp(rd) };
            Op { run, o: Operands { d, n: or_sp(rn), m: source(rm), a: amount, imm: 0 } }
        }
        Insn::AddSubCarry { sf, sub, set, rd, rn, rm } => {
            let run = by_width!(sf, W => by_bool!(sub, SUB => by_bool!(set, SET =>
                simple(integer::add_carry::<W, SUB, SET>)
            )));
            three(run, rd, rn, rm)
        }
        _ => nop(),
    }
}

/// The extension for the handlers, where UXTX stands for SXTX too.
fn extend_code(extend: Extend) -> u8 {
    if extend == Extend::Sxtx { Extend::Uxtx as u8 } else { extend as u8 }
}

fn logic_shift(insn: &Insn) -> Op {
    let Insn::LogicShift { sf, op, invert, set, rd, rn, rm, shift, amount } = *insn else {
        return nop();
    };
    let code = logic_code(op, set);
    let kind = shift_code(shift, amount);
    if code == integer::ORR && rn == 31 && kind == integer::NO_SHIFT && !invert {
        return three(by_width!(sf, W => simple(integer::copy::<W>)), rd, rn, rm);
    }
    let run = by_width!(sf, W => by_bool!(invert, INVERT => by_value!(
        code,
        [integer::AND, integer::ORR, integer::EOR; integer::ANDS],
        OP => by_value!(
            kind,
            [integer::NO_SHIFT, integer::LSL, integer::LSR, integer::ASR; integer::ROR],
            SHIFT => simple(integer::logic_shift::<W, OP, INVERT, SHIFT>)
        )
    )));
    let mut op = three(run, rd, rn, rm);
    op.o.imm = u32::from(amount);
    op
}

/// CCMP, CCMN, CSEL and siblings.
fn conditional(insn: &Insn) -> Op {
    match *insn {
        Insn::CondCompare { sf, sub, rn, with, nzcv, cond } => {
            let (m, immediate) = match with {
                RegOrImm::Reg(rm) => (source(rm), false),
                RegOrImm::Imm(imm) => (imm, true),
            };
            let run = by_width!(sf, W => by_bool!(sub, SUB => by_bool!(immediate, IMM =>
                simple(integer::cond_compare::<W, SUB, IMM>)
            )));
            let imm = u32::from(nzcv) << 28 | u32::from(integer::condition_mask(cond));
            Op { run, o: Operands { d: 0, n: source(rn), m, a: 0, imm } }
        }
        Insn::CondSelect { sf, op, rd, rn, rm, cond } => {
            let run = by_width!(sf, W => match op {
                CondSelect::Plain => simple(integer::cond_select::<W, false, false>),
                CondSelect::Increment => simple(integer::cond_select::<W, false, true>),
                CondSelect::Invert => simple(integer::cond_select::<W, true, false>),
                CondSelect::Negate => simple(integer::cond_select::<W, true, true>),
            });
            let mut op = three(run, rd, rn, rm);
            op.o.imm = u32::from(integer::condition_mask(cond));
            op
        }
        _ => nop(),
    }
}

fn one_source(sf: bool, op: OneSource, rd: Reg, rn: Reg) -> Op {
    let run = by_width!(sf, W => match op {
        OneSource::Rbit => simple(integer::reverse_bits::<W>),
        OneSource::Rev16 => simple(integer::reverse_halves::<W>),
        OneSource::Rev32 => simple(integer::reverse_words),
        OneSource::Rev => simple(integer::reverse::<W>),
        OneSource::Clz => simple(integer::count_zeros::<W>),
        OneSource::Cls => simple(integer::count_signs::<W>),
    });
    three(run, rd, rn, 31)
}

fn two_source(sf: bool, op: TwoSource, [rd, rn, rm]: [Reg; 3]) -> Op {
    let run = by_width!(sf, W => match op {
        TwoSource::Udiv => simple(integer::divide::<W, false>),
        TwoSource::Sdiv => simple(integer::divide::<W, true>),
        TwoSource::Lslv => simple(integer::shift_variable::<W, { integer::LSL }>),
        TwoSource::Lsrv => simple(integer::shift_variable::<W, { integer::LSR }>),
        TwoSource::Asrv => simple(integer::shift_variable::<W, { integer::ASR }>),
        TwoSource::Rorv => simple(integer::shift_variable::<W, { integer::ROR }>),
    });
    three(run, rd, rn, rm)
}

fn multiply(insn: &Insn) -> Op {
    let (run, [rd, rn, rm, ra]) = match *insn {
        Insn::MultiplyAdd { sf, sub, rd, rn, rm, ra } => {
            let run = by_width!(sf, W => by_bool!(sub, SUB => simple(integer::multiply_add::<W, SUB>)));
            (run, [rd, rn, rm, ra])
        }
        Insn::MultiplyAddLong { signed, sub, rd, rn, rm, ra } => {
            let run = by_bool!(signed, SIGNED => by_bool!(sub, SUB =>
                simple(integer::multiply_add_long::<SIGNED, SUB>)
            ));
            (run, [rd, rn, rm, ra])
        }
        Insn::MultiplyHigh { signed, rd, rn, rm } => {
            (by_bool!(signed, SIGNED => simple(integer::multiply_high::<SIGNED>)), [rd, rn, rm, 31])
        }
        _ => return nop(),
    };
    let mut op = three(run, rd, rn, rm);
    op.o.a = source(ra);
    op
}

/// RMIF, SETF and the flag conversions.
fn flags(insn: &Insn) -> Op {
    let mut o = Operands::default();
    let run = match *insn {
        Insn::Rmif { rn, rotate, mask } => {
            o = Operands { n: source(rn), a: mask, imm: u32::from(rotate), ..o };
            simple(integer::rmif)
        }
        Insn::SetFlags { half, rn } => {
            o.n = source(rn);
            by_bool!(half, HALF => simple(integer::set_flags::<HALF>))
        }
        Insn::ConvertFlags(ConvertFlags::InvertCarry) => simple(integer::invert_carry),
        Insn::ConvertFlags(ConvertFlags::ToArm) => simple(integer::flags_to_arm),
        _ => simple(integer::flags_to_external),
    };
    Op { run, o }
}

/// Branches.
fn flow(insn: &Insn, at: Position) -> Op {
    match *insn {
        Insn::Branch { link: false, offset } => {
            direct(at, offset, Operands::default(), branch_near(flow::always), branch(flow::jump))
        }
        Insn::Branch { link: true, offset } => {
            let [n, m] = at.link();
            let o = Operands { n, m, ..Operands::default() };
            direct(at, offset, o, branch_near(flow::call_near), branch(flow::call_far))
        }
        Insn::BranchCond { cond, offset } => {
            let (near, far) = by_value!(
                cond,
                [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13; 14],
                COND => (branch_near(flow::cond_near::<COND>), branch(flow::cond_far::<COND>))
            );
            direct(at, offset, Operands::default(), near, far)
        }
        Insn::CompareBranch { sf, nonzero, rt, offset } => {
            let o = Operands { d: source(rt), ..Operands::default() };
            let (near, far) = by_width!(sf, W => by_bool!(nonzero, NONZERO => (
                branch_near(flow::compare_near::<W, NONZERO>),
                branch(flow::compare_far::<W, NONZERO>),
            )));
            direct(at, offset, o, near, far)
        }
        Insn::TestBranch { nonzero, rt, bit, offset } => {
            let o = Operands { d: source(rt), a: bit, ..Operands::default() };
            let (near, far) = by_bool!(nonzero, NONZERO => (
                branch_near(flow::test_near::<NONZERO>),
                branch(flow::test_far::<NONZERO>),
            ));
            direct(at, offset, o, near, far)
        }
        Insn::BranchReg { kind, rn } => {
            let o = Operands { d: source(rn), imm: at.page_offset(4), ..Operands::default() };
            let run = match kind {
                BranchReg::Jump | BranchReg::Return => branch(flow::jump_register),
                BranchReg::Call => branch(flow::call_register),
            };
            Op { run, o }
        }
        _ => nop(),
    }
}

/// A branch to `offset` by the handler for targets in the page or by that for all others.
fn direct(at: Position, offset: i32, o: Operands, near: Handler, far: Handler) -> Op {
    match at.near(offset) {
        Some(imm) => Op { run: near, o: Operands { imm, ..o } },
        None => Op { run: far, o: Operands { imm: at.page_offset(offset), ..o } },
    }
}
