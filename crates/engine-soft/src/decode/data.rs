//! Data processing, immediate (Arm ARM C4.1.86) and register (C4.1.94).

use super::{
    Bitfield, CondSelect, Extend, Insn, Logic, MoveWide, OneSource, RegOrImm, Shift, TwoSource, bit, bits,
    reg, signed,
};

pub(super) fn immediate(raw: u32) -> Option<Insn> {
    match bits(raw, 25, 23) {
        0b000 | 0b001 => Some(pc_relative(raw)),
        0b010 => Some(Insn::AddSubImm {
            sf: bit(raw, 31),
            sub: bit(raw, 30),
            set: bit(raw, 29),
            rd: reg(raw, 0),
            rn: reg(raw, 5),
            imm: bits(raw, 21, 10) << if bit(raw, 22) { 12 } else { 0 },
        }),
        0b100 => logic_immediate(raw),
        0b101 => move_wide(raw),
        0b110 => bitfield(raw),
        0b111 => extract(raw),
        _ => None,
    }
}

fn pc_relative(raw: u32) -> Insn {
    let imm = signed(raw, 23, 5) << 2 | bits(raw, 30, 29) as i32;
    let rd = reg(raw, 0);
    if bit(raw, 31) { Insn::Adrp { rd, pages: imm } } else { Insn::Adr { rd, offset: imm } }
}

fn logic_immediate(raw: u32) -> Option<Insn> {
    let sf = bit(raw, 31);
    let pattern = bits(raw, 22, 10) as u16;
    if !sf && bit(raw, 22) {
        return None;
    }
    bitmask(pattern)?;
    let (op, set) = logic_op(raw);
    Some(Insn::LogicImm { sf, op, set, rd: reg(raw, 0), rn: reg(raw, 5), pattern })
}

fn logic_op(raw: u32) -> (Logic, bool) {
    match bits(raw, 30, 29) {
        0 => (Logic::And, false),
        1 => (Logic::Orr, false),
        2 => (Logic::Eor, false),
        _ => (Logic::And, true),
    }
}

/// The bitmask that `pattern`, the 13 bits `N:immr:imms` of a logical immediate, stands for, if any (Arm ARM J1,
/// `DecodeBitMasks`). 32-bit instructions, which have N = 0, use its lower half.
pub(crate) fn bitmask(pattern: u16) -> Option<u64> {
    // No pattern stands for 0, so that can mark the reserved ones.
    static TABLE: [u64; 1 << 13] = bitmask_table();
    TABLE.get(usize::from(pattern)).copied().filter(|&mask| mask != 0)
}

const fn bitmask_table() -> [u64; 1 << 13] {
    let mut table = [0; 1 << 13];
    let mut pattern = 0;
    while pattern < table.len() {
        table[pattern] = expand_bitmask(pattern as u32);
        pattern += 1;
    }
    table
}

const fn expand_bitmask(pattern: u32) -> u64 {
    let (n, immr, imms) = (pattern >> 12 & 1, pattern >> 6 & 63, pattern & 63);
    let selector = n << 6 | (!imms & 63);
    if selector < 2 {
        return 0;
    }
    let len = selector.ilog2();
    let levels = (1 << len) - 1;
    let (ones, rotate) = ((imms & levels) + 1, immr & levels);
    if ones > levels {
        return 0;
    }
    let width = 1 << len;
    let element = (1u64 << ones) - 1;
    let keep = u64::MAX >> (64 - width);
    let mut mask =
        if rotate == 0 { element } else { (element >> rotate | element << (width - rotate)) & keep };
    let mut filled = width;
    while filled < 64 {
        mask |= mask << filled;
        filled *= 2;
    }
    mask
}

fn move_wide(raw: u32) -> Option<Insn> {
    let sf = bit(raw, 31);
    let op = match bits(raw, 30, 29) {
        0 => MoveWide::Not,
        2 => MoveWide::Zero,
        3 => MoveWide::Keep,
        _ => return None,
    };
    let shift = bits(raw, 22, 21) as u8 * 16;
    if !sf && shift >= 32 {
        return None;
    }
    Some(Insn::MoveWide { sf, op, rd: reg(raw, 0), imm: bits(raw, 20, 5) as u16, shift })
}

fn bitfield(raw: u32) -> Option<Insn> {
    let sf = bit(raw, 31);
    let op = match bits(raw, 30, 29) {
        0 => Bitfield::Signed,
        1 => Bitfield::Insert,
        2 => Bitfield::Unsigned,
        _ => return None,
    };
    let (immr, imms) = (bits(raw, 21, 16) as u8, bits(raw, 15, 10) as u8);
    if sf != bit(raw, 22) || !sf && (immr | imms) >= 32 {
        return None;
    }
    Some(Insn::Bitfield { sf, op, rd: reg(raw, 0), rn: reg(raw, 5), immr, imms })
}

fn extract(raw: u32) -> Option<Insn> {
    let sf = bit(raw, 31);
    let lsb = bits(raw, 15, 10) as u8;
    if bits(raw, 30, 29) != 0 || bit(raw, 21) || sf != bit(raw, 22) || !sf && lsb >= 32 {
        return None;
    }
    Some(Insn::Extract { sf, rd: reg(raw, 0), rn: reg(raw, 5), rm: reg(raw, 16), lsb })
}

pub(super) fn register(raw: u32) -> Option<Insn> {
    match (bit(raw, 28), bits(raw, 24, 21)) {
        (false, 0..8) => logic_shift(raw),
        (false, op) if op & 1 == 0 => add_sub_shift(raw),
        (false, _) => add_sub_extend(raw),
        (true, 0b0000) => carry_and_flags(raw),
        (true, 0b0010) => cond_compare(raw),
        (true, 0b0100) => cond_select(raw),
        (true, 0b0110) if bit(raw, 30) => one_source(raw),
        (true, 0b0110) => two_source(raw),
        (true, 8..) => three_source(raw),
        _ => None,
    }
}

/// The amount of a shifted register, when it is in range.
fn shift_amount(raw: u32) -> Option<u8> {
    let amount = bits(raw, 15, 10) as u8;
    (bit(raw, 31) || amount < 32).then_some(amount)
}

fn logic_shift(raw: u32) -> Option<Insn> {
    let (op, set) = logic_op(raw);
    Some(Insn::LogicShift {
        sf: bit(raw, 31),
        op,
        invert: bit(raw, 21),
        set,
        rd: reg(raw, 0),
        rn: reg(raw, 5),
        rm: reg(raw, 16),
        shift: Shift::from_bits(bits(raw, 23, 22)),
        amount: shift_amount(raw)?,
    })
}

fn add_sub_shift(raw: u32) -> Option<Insn> {
    let shift = Shift::from_bits(bits(raw, 23, 22));
    if shift == Shift::Ror {
        return None;
    }
    Some(Insn::AddSubShift {
        sf: bit(raw, 31),
        sub: bit(raw, 30),
        set: bit(raw, 29),
        rd: reg(raw, 0),
        rn: reg(raw, 5),
        rm: reg(raw, 16),
        shift,
        amount: shift_amount(raw)?,
    })
}

fn add_sub_extend(raw: u32) -> Option<Insn> {
    let amount = bits(raw, 12, 10) as u8;
    if bits(raw, 23, 22) != 0 || amount > 4 {
        return None;
    }
    Some(Insn::AddSubExtend {
        sf: bit(raw, 31),
        sub: bit(raw, 30),
        set: bit(raw, 29),
        rd: reg(raw, 0),
        rn: reg(raw, 5),
        rm: reg(raw, 16),
        extend: Extend::from_bits(bits(raw, 15, 13)),
        amount,
    })
}

/// ADC and SBC, RMIF, SETF8 and SETF16.
fn carry_and_flags(raw: u32) -> Option<Insn> {
    let top = bits(raw, 31, 29);
    let rn = reg(raw, 5);
    if bits(raw, 15, 10) == 0 {
        let (sf, sub, set) = (bit(raw, 31), bit(raw, 30), bit(raw, 29));
        return Some(Insn::AddSubCarry { sf, sub, set, rd: reg(raw, 0), rn, rm: reg(raw, 16) });
    }
    if top == 0b101 && bits(raw, 14, 10) == 1 && !bit(raw, 4) {
        return Some(Insn::Rmif { rn, rotate: bits(raw, 20, 15) as u8, mask: bits(raw, 3, 0) as u8 });
    }
    if top == 0b001 && bits(raw, 20, 15) == 0 && bits(raw, 13, 10) == 0b0010 && bits(raw, 4, 0) == 0b01101 {
        return Some(Insn::SetFlags { half: bit(raw, 14), rn });
    }
    None
}

fn cond_compare(raw: u32) -> Option<Insn> {
    if !bit(raw, 29) || bit(raw, 10) || bit(raw, 4) {
        return None;
    }
    let operand = reg(raw, 16);
    Some(Insn::CondCompare {
        sf: bit(raw, 31),
        sub: bit(raw, 30),
        rn: reg(raw, 5),
        with: if bit(raw, 11) { RegOrImm::Imm(operand) } else { RegOrImm::Reg(operand) },
        nzcv: bits(raw, 3, 0) as u8,
        cond: bits(raw, 15, 12) as u8,
    })
}

fn cond_select(raw: u32) -> Option<Insn> {
    let op = match (bit(raw, 30), bits(raw, 11, 10)) {
        (false, 0) => CondSelect::Plain,
        (false, 1) => CondSelect::Increment,
        (true, 0) => CondSelect::Invert,
        (true, 1) => CondSelect::Negate,
        _ => return None,
    };
    if bit(raw, 29) {
        return None;
    }
    let cond = bits(raw, 15, 12) as u8;
    Some(Insn::CondSelect { sf: bit(raw, 31), op, rd: reg(raw, 0), rn: reg(raw, 5), rm: reg(raw, 16), cond })
}

fn one_source(raw: u32) -> Option<Insn> {
    let sf = bit(raw, 31);
    if bit(raw, 29) || bits(raw, 20, 16) != 0 {
        return None;
    }
    let op = match (bits(raw, 15, 10), sf) {
        (0, _) => OneSource::Rbit,
        (1, _) => OneSource::Rev16,
        (2, true) => OneSource::Rev32,
        (2, false) | (3, true) => OneSource::Rev,
        (4, _) => OneSource::Clz,
        (5, _) => OneSource::Cls,
        _ => return None,
    };
    Some(Insn::OneSource { sf, op, rd: reg(raw, 0), rn: reg(raw, 5) })
}

fn two_source(raw: u32) -> Option<Insn> {
    let sf = bit(raw, 31);
    let (rd, rn, rm) = (reg(raw, 0), reg(raw, 5), reg(raw, 16));
    if bit(raw, 29) {
        return None;
    }
    let op = match bits(raw, 15, 10) {
        2 => TwoSource::Udiv,
        3 => TwoSource::Sdiv,
        8 => TwoSource::Lslv,
        9 => TwoSource::Lsrv,
        10 => TwoSource::Asrv,
        11 => TwoSource::Rorv,
        0b01_0000..=0b01_0111 => {
            let size = bits(raw, 11, 10) as u8;
            let insn = Insn::Crc32 { castagnoli: bit(raw, 12), size, rd, rn, rm };
            return (sf == (size == 3)).then_some(insn);
        }
        _ => return None,
    };
    Some(Insn::TwoSource { sf, op, rd, rn, rm })
}

fn three_source(raw: u32) -> Option<Insn> {
    let sf = bit(raw, 31);
    let sub = bit(raw, 15);
    let (rd, rn, rm, ra) = (reg(raw, 0), reg(raw, 5), reg(raw, 16), reg(raw, 10));
    if bits(raw, 30, 29) != 0 {
        return None;
    }
    match (bits(raw, 23, 21), sf, sub) {
        (0b000, _, _) => Some(Insn::MultiplyAdd { sf, sub, rd, rn, rm, ra }),
        (op @ (0b001 | 0b101), true, _) => {
            Some(Insn::MultiplyAddLong { signed: op == 0b001, sub, rd, rn, rm, ra })
        }
        (op @ (0b010 | 0b110), true, false) => Some(Insn::MultiplyHigh { signed: op == 0b010, rd, rn, rm }),
        _ => None,
    }
}
