//! Writes instructions as GNU objdump does with `-M no-aliases`, but for three things: targets are relative to the
//! instruction, shifted immediates of ADD and SUB are expanded, system registers are not named.

use crate::decode::*;

const CONDITIONS: [&str; 16] =
    ["eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le", "al", "nv"];

fn zr(sf: bool, r: Reg) -> String {
    match (sf, r) {
        (true, 31) => "xzr".into(),
        (false, 31) => "wzr".into(),
        (true, _) => format!("x{r}"),
        (false, _) => format!("w{r}"),
    }
}

fn sp(sf: bool, r: Reg) -> String {
    match (sf, r) {
        (true, 31) => "sp".into(),
        (false, 31) => "wsp".into(),
        _ => zr(sf, r),
    }
}

fn flag(set: bool) -> &'static str {
    if set { "s" } else { "" }
}

fn lower<T: std::fmt::Debug>(value: T) -> String {
    format!("{value:?}").to_lowercase()
}

fn shift(shift: Shift, amount: u8) -> String {
    if shift == Shift::Lsl && amount == 0 { String::new() } else { format!(", {} #{amount}", lower(shift)) }
}

fn target(offset: i32) -> String {
    relative(offset.into())
}

fn relative(offset: i64) -> String {
    if offset < 0 { format!(".-{:#x}", -offset) } else { format!(".+{offset:#x}") }
}

fn transfer(access: Access, rt: Reg) -> String {
    if access.simd {
        return format!("{}{rt}", ["b", "h", "s", "d", "q"][usize::from(access.size)]);
    }
    match access.kind {
        AccessKind::LoadSigned64 => zr(true, rt),
        AccessKind::LoadSigned32 => zr(false, rt),
        _ => zr(access.size == 3, rt),
    }
}

fn suffix(access: Access) -> String {
    if access.simd {
        return String::new();
    }
    let sign = matches!(access.kind, AccessKind::LoadSigned32 | AccessKind::LoadSigned64);
    let size = match access.size {
        0 => "b",
        1 => "h",
        2 if sign => "w",
        _ => "",
    };
    format!("{}{size}", if sign { "s" } else { "" })
}

fn direction(access: Access) -> &'static str {
    if access.kind == AccessKind::Store { "st" } else { "ld" }
}

fn indexed(rn: Reg, index: Index, offset: i32) -> String {
    let base = sp(true, rn);
    match index {
        Index::Offset if offset == 0 => format!("[{base}]"),
        Index::Offset => format!("[{base}, #{offset}]"),
        Index::Pre if offset == 0 => format!("[{base}]!"),
        Index::Pre => format!("[{base}, #{offset}]!"),
        Index::Post => format!("[{base}], #{offset}"),
    }
}

fn size_suffix(size: u8) -> &'static str {
    ["b", "h", "", ""][usize::from(size)]
}

/// The text of `insn`, or `None` for what objdump has several spellings of.
pub(super) fn text(insn: &Insn) -> Option<String> {
    data(insn).or_else(|| memory(insn)).or_else(|| flow(insn))
}

fn data(insn: &Insn) -> Option<String> {
    Some(match *insn {
        Insn::Adr { rd, offset } => format!("adr {}, {}", zr(true, rd), relative(offset.into())),
        Insn::Adrp { rd, pages } => {
            format!("adrp {}, {}", zr(true, rd), relative(i64::from(pages) << 12))
        }
        Insn::AddSubImm { sf, sub, set, rd, rn, imm } => {
            let op = if sub { "sub" } else { "add" };
            let rd = if set { zr(sf, rd) } else { sp(sf, rd) };
            format!("{op}{} {rd}, {}, #{imm:#x}", flag(set), sp(sf, rn))
        }
        Insn::LogicImm { sf, op, set, rd, rn, pattern } => {
            let mask = bitmask(pattern).unwrap();
            let mask = if sf { mask } else { mask & 0xffff_ffff };
            let rd = if set { zr(sf, rd) } else { sp(sf, rd) };
            format!("{}{} {rd}, {}, #{mask:#x}", lower(op), flag(set), zr(sf, rn))
        }
        Insn::MoveWide { sf, op, rd, imm, shift } => {
            let op = match op {
                MoveWide::Not => "movn",
                MoveWide::Zero => "movz",
                MoveWide::Keep => "movk",
            };
            let shift = if shift == 0 { String::new() } else { format!(", lsl #{shift}") };
            format!("{op} {}, #{imm:#x}{shift}", zr(sf, rd))
        }
        Insn::Bitfield { sf, op, rd, rn, immr, imms } => {
            let op = match op {
                Bitfield::Signed => "sbfm",
                Bitfield::Insert => "bfm",
                Bitfield::Unsigned => "ubfm",
            };
            format!("{op} {}, {}, #{immr}, #{imms}", zr(sf, rd), zr(sf, rn))
        }
        Insn::Extract { sf, rd, rn, rm, lsb } => {
            format!("extr {}, {}, {}, #{lsb}", zr(sf, rd), zr(sf, rn), zr(sf, rm))
        }
        Insn::AddSubShift { sf, sub, set, rd, rn, rm, shift: kind, amount } => {
            let op = if sub { "sub" } else { "add" };
            let regs = [rd, rn, rm].map(|r| zr(sf, r)).join(", ");
            format!("{op}{} {regs}{}", flag(set), shift(kind, amount))
        }
        Insn::AddSubExtend { sf, sub, set, rd, rn, rm, extend, amount } => {
            let op = if sub { "sub" } else { "add" };
            let stack = rn == 31 || rd == 31 && !set;
            let rd = if set { zr(sf, rd) } else { sp(sf, rd) };
            let wide = sf && matches!(extend, Extend::Uxtx | Extend::Sxtx);
            let natural = extend == if sf { Extend::Uxtx } else { Extend::Uxtw };
            let extend = match (stack && natural, amount) {
                (true, 0) => String::new(),
                (true, _) => format!(", lsl #{amount}"),
                (false, 0) => format!(", {}", lower(extend)),
                (false, _) => format!(", {} #{amount}", lower(extend)),
            };
            format!("{op}{} {rd}, {}, {}{extend}", flag(set), sp(sf, rn), zr(wide, rm))
        }
        Insn::AddSubCarry { sf, sub, set, rd, rn, rm } => {
            let regs = [rd, rn, rm].map(|r| zr(sf, r)).join(", ");
            format!("{}{} {regs}", if sub { "sbc" } else { "adc" }, flag(set))
        }
        Insn::LogicShift { sf, op, invert, set, rd, rn, rm, shift: kind, amount } => {
            let op = match (op, invert) {
                (Logic::And, false) => "and",
                (Logic::And, true) => "bic",
                (Logic::Orr, false) => "orr",
                (Logic::Orr, true) => "orn",
                (Logic::Eor, false) => "eor",
                (Logic::Eor, true) => "eon",
            };
            let regs = [rd, rn, rm].map(|r| zr(sf, r)).join(", ");
            format!("{op}{} {regs}{}", flag(set), shift(kind, amount))
        }
        Insn::CondCompare { sf, sub, rn, with, nzcv, cond } => {
            let with = match with {
                RegOrImm::Reg(rm) => zr(sf, rm),
                RegOrImm::Imm(imm) => format!("#{imm:#x}"),
            };
            let cond = CONDITIONS[usize::from(cond)];
            format!("{} {}, {with}, #{nzcv:#x}, {cond}", if sub { "ccmp" } else { "ccmn" }, zr(sf, rn))
        }
        Insn::CondSelect { sf, op, rd, rn, rm, cond } => {
            let op = match op {
                CondSelect::Plain => "csel",
                CondSelect::Increment => "csinc",
                CondSelect::Invert => "csinv",
                CondSelect::Negate => "csneg",
            };
            let regs = [rd, rn, rm].map(|r| zr(sf, r)).join(", ");
            format!("{op} {regs}, {}", CONDITIONS[usize::from(cond)])
        }
        _ => return arithmetic(insn),
    })
}

fn arithmetic(insn: &Insn) -> Option<String> {
    Some(match *insn {
        Insn::OneSource { sf, op, rd, rn } => format!("{} {}, {}", lower(op), zr(sf, rd), zr(sf, rn)),
        Insn::TwoSource { sf, op, rd, rn, rm } => {
            format!("{} {}", lower(op), [rd, rn, rm].map(|r| zr(sf, r)).join(", "))
        }
        Insn::Crc32 { castagnoli, size, rd, rn, rm } => {
            let op = format!(
                "crc32{}{}",
                if castagnoli { "c" } else { "" },
                ["b", "h", "w", "x"][usize::from(size)]
            );
            format!("{op} {}, {}, {}", zr(false, rd), zr(false, rn), zr(size == 3, rm))
        }
        Insn::MultiplyAdd { sf, sub, rd, rn, rm, ra } => {
            let regs = [rd, rn, rm, ra].map(|r| zr(sf, r)).join(", ");
            format!("{} {regs}", if sub { "msub" } else { "madd" })
        }
        Insn::MultiplyAddLong { signed, sub, rd, rn, rm, ra } => {
            let op = format!("{}m{}l", if signed { "s" } else { "u" }, if sub { "sub" } else { "add" });
            format!("{op} {}, {}, {}, {}", zr(true, rd), zr(false, rn), zr(false, rm), zr(true, ra))
        }
        Insn::MultiplyHigh { signed, rd, rn, rm } => {
            let regs = [rd, rn, rm].map(|r| zr(true, r)).join(", ");
            format!("{} {regs}", if signed { "smulh" } else { "umulh" })
        }
        Insn::Rmif { rn, rotate, mask } => format!("rmif {}, #{rotate}, #{mask}", zr(true, rn)),
        Insn::SetFlags { half, rn } => format!("{} {}", if half { "setf16" } else { "setf8" }, zr(false, rn)),
        Insn::ConvertFlags(op) => match op {
            ConvertFlags::InvertCarry => "cfinv",
            ConvertFlags::ToArm => "xaflag",
            ConvertFlags::ToExternal => "axflag",
        }
        .into(),
        _ => return None,
    })
}

fn flow(insn: &Insn) -> Option<String> {
    Some(match *insn {
        Insn::Branch { link, offset } => format!("{} {}", if link { "bl" } else { "b" }, target(offset)),
        Insn::BranchCond { cond, offset } => {
            format!("b.{} {}", CONDITIONS[usize::from(cond)], target(offset))
        }
        Insn::CompareBranch { sf, nonzero, rt, offset } => {
            format!("{} {}, {}", if nonzero { "cbnz" } else { "cbz" }, zr(sf, rt), target(offset))
        }
        Insn::TestBranch { nonzero, rt, bit, offset } => {
            let op = if nonzero { "tbnz" } else { "tbz" };
            format!("{op} {}, #{bit}, {}", zr(bit >= 32, rt), target(offset))
        }
        Insn::BranchReg { kind, rn } => match kind {
            BranchReg::Jump => format!("br {}", zr(true, rn)),
            BranchReg::Call => format!("blr {}", zr(true, rn)),
            BranchReg::Return if rn == 30 => "ret".into(),
            BranchReg::Return => format!("ret {}", zr(true, rn)),
        },
        Insn::Eret => "eret".into(),
        Insn::Call { kind, imm } => format!("{} #{imm:#x}", lower(kind)),
        Insn::Yield => "yield".into(),
        Insn::Wfi => "wfi".into(),
        Insn::Wfe => "wfe".into(),
        Insn::Sev { local } => if local { "sevl" } else { "sev" }.into(),
        Insn::Isb => "isb".into(),
        Insn::Sb => "sb".into(),
        _ => return None,
    })
}

/// See [`text`]; the choices among equivalent instructions that [`Insn`] does not record fall to one of them.
fn memory(insn: &Insn) -> Option<String> {
    Some(match *insn {
        Insn::Prefetch => "prefetch".into(),
        Insn::LoadStoreReg { access, rt, rn, rm, extend, shift } => {
            let wide = matches!(extend, Extend::Uxtx | Extend::Sxtx);
            let extend = match (extend, shift) {
                (Extend::Uxtx, 0) => String::new(),
                (Extend::Uxtx, _) => format!(", lsl #{shift}"),
                (_, 0) => format!(", {}", lower(extend)),
                (_, _) => format!(", {} #{shift}", lower(extend)),
            };
            let (op, suffix, rt) = (direction(access), suffix(access), transfer(access, rt));
            format!("{op}r{suffix} {rt}, [{}, {}{extend}]", sp(true, rn), zr(wide, rm))
        }
        Insn::LoadStoreImm { access, rt, rn, index, offset } => {
            let op = direction(access);
            format!("{op}r{} {}, {}", suffix(access), transfer(access, rt), indexed(rn, index, offset))
        }
        Insn::LoadStoreUser { access, rt, rn, offset } => {
            let op = direction(access);
            format!(
                "{op}tr{} {}, {}",
                suffix(access),
                transfer(access, rt),
                indexed(rn, Index::Offset, offset)
            )
        }
        Insn::LoadLiteral { access, rt, offset } => {
            format!("ldr{} {}, {}", suffix(access), transfer(access, rt), target(offset))
        }
        Insn::LoadStorePair { access, rt, rt2, rn, index, offset } => {
            let op = if access.kind == AccessKind::LoadSigned64 { "ldpsw" } else { direction(access) };
            let op = if op.len() == 2 { format!("{op}p") } else { op.into() };
            format!(
                "{op} {}, {}, {}",
                transfer(access, rt),
                transfer(access, rt2),
                indexed(rn, index, offset)
            )
        }
        _ => return atomic(insn),
    })
}

fn atomic(insn: &Insn) -> Option<String> {
    Some(match *insn {
        Insn::LoadExclusive { size, pair, acquire, rt, rt2, rn } => {
            let a = if acquire { "a" } else { "" };
            let (rt, rt2, rn) = (zr(size == 3, rt), zr(size == 3, rt2), sp(true, rn));
            match pair {
                true => format!("ld{a}xp {rt}, {rt2}, [{rn}]"),
                false => format!("ld{a}xr{} {rt}, [{rn}]", size_suffix(size)),
            }
        }
        Insn::StoreExclusive { size, pair, release, rs, rt, rt2, rn } => {
            let l = if release { "l" } else { "" };
            let (rs, rt, rt2, rn) = (zr(false, rs), zr(size == 3, rt), zr(size == 3, rt2), sp(true, rn));
            match pair {
                true => format!("st{l}xp {rs}, {rt}, {rt2}, [{rn}]"),
                false => format!("st{l}xr{} {rs}, {rt}, [{rn}]", size_suffix(size)),
            }
        }
        Insn::Ordered { access, rt, rn, offset, order } => {
            let op = match (order, access.kind) {
                (Order::Sequential, AccessKind::Store) => "stlr",
                (Order::Sequential, _) => "ldar",
                (_, AccessKind::Store) => "stlur",
                _ => "ldapur",
            };
            format!("{op}{} {}, {}", suffix(access), transfer(access, rt), indexed(rn, Index::Offset, offset))
        }
        Insn::CompareSwap { size, rs, rt, rn } => {
            let (rs, rt, rn) = (zr(size == 3, rs), zr(size == 3, rt), sp(true, rn));
            format!("cas{} {rs}, {rt}, [{rn}]", size_suffix(size))
        }
        Insn::CompareSwapPair { size, rs, rt, rn } => {
            let regs = [rs, rs + 1, rt, rt + 1].map(|r| zr(size == 3, r)).join(", ");
            format!("casp {regs}, [{}]", sp(true, rn))
        }
        Insn::Atomic { op, size, acquire, release, rs, rt, rn } => {
            let op = match op {
                AtomicOp::Add => "ldadd",
                AtomicOp::Clear => "ldclr",
                AtomicOp::Eor => "ldeor",
                AtomicOp::Set => "ldset",
                AtomicOp::SignedMax => "ldsmax",
                AtomicOp::SignedMin => "ldsmin",
                AtomicOp::UnsignedMax => "ldumax",
                AtomicOp::UnsignedMin => "ldumin",
                AtomicOp::Swap => "swp",
            };
            let (a, l) = (if acquire { "a" } else { "" }, if release { "l" } else { "" });
            let (rs, rt, rn) = (zr(size == 3, rs), zr(size == 3, rt), sp(true, rn));
            format!("{op}{a}{l}{} {rs}, {rt}, [{rn}]", size_suffix(size))
        }
        _ => return None,
    })
}
