//! Branches, exception generation and system instructions (Arm ARM C4.1.93).

use tearless_arm64::SysReg;

use super::{Barrier, BranchReg, Call, ConvertFlags, Insn, PstateField, bit, bits, reg, signed};

pub(super) fn decode(raw: u32) -> Option<Insn> {
    match bits(raw, 31, 29) {
        0b000 | 0b100 => Some(Insn::Branch { link: bit(raw, 31), offset: signed(raw, 25, 0) * 4 }),
        0b001 | 0b101 if bit(raw, 25) => Some(Insn::TestBranch {
            nonzero: bit(raw, 24),
            rt: reg(raw, 0),
            bit: (bits(raw, 31, 31) << 5 | bits(raw, 23, 19)) as u8,
            offset: signed(raw, 18, 5) * 4,
        }),
        0b001 | 0b101 => Some(Insn::CompareBranch {
            sf: bit(raw, 31),
            nonzero: bit(raw, 24),
            rt: reg(raw, 0),
            offset: signed(raw, 23, 5) * 4,
        }),
        0b010 if bits(raw, 25, 24) == 0 && !bit(raw, 4) => {
            Some(Insn::BranchCond { cond: bits(raw, 3, 0) as u8, offset: signed(raw, 23, 5) * 4 })
        }
        0b110 if bits(raw, 25, 24) == 0 => exception(raw),
        0b110 if bits(raw, 25, 22) == 0b0100 => system(raw),
        0b110 if bit(raw, 25) => branch_register(raw),
        _ => None,
    }
}

/// SVC, HVC, SMC, BRK. HLT and DCPS are undefined outside Debug state, which this CPU never enters.
fn exception(raw: u32) -> Option<Insn> {
    let kind = match (bits(raw, 23, 21), bits(raw, 4, 0)) {
        (0, 1) => Call::Svc,
        (0, 2) => Call::Hvc,
        (0, 3) => Call::Smc,
        (1, 0) => Call::Brk,
        _ => return None,
    };
    Some(Insn::Call { kind, imm: bits(raw, 20, 5) as u16 })
}

fn branch_register(raw: u32) -> Option<Insn> {
    let rn = reg(raw, 5);
    // The pointer-authenticating forms differ in op3 (15:10) and op4 (4:0).
    if bits(raw, 20, 10) != 0b1_1111_00_0000 || bits(raw, 4, 0) != 0 {
        return None;
    }
    match bits(raw, 24, 21) {
        0 => Some(Insn::BranchReg { kind: BranchReg::Jump, rn }),
        1 => Some(Insn::BranchReg { kind: BranchReg::Call, rn }),
        2 => Some(Insn::BranchReg { kind: BranchReg::Return, rn }),
        4 if rn == 31 => Some(Insn::Eret),
        _ => None,
    }
}

fn system(raw: u32) -> Option<Insn> {
    let sysreg = SysReg(bits(raw, 20, 5) as u16);
    let rt = reg(raw, 0);
    let read = bit(raw, 21);
    match (sysreg.op0(), read) {
        (2 | 3, false) => Some(Insn::Msr { reg: sysreg, rt }),
        (2 | 3, true) => Some(Insn::Mrs { reg: sysreg, rt }),
        (1, false) => Some(Insn::Sys { reg: sysreg, rt }),
        (1, true) => Some(Insn::Sysl { reg: sysreg, rt }),
        (_, false) if rt == 31 => match (sysreg.op1(), sysreg.crn()) {
            (3, 2) => Some(hint(bits(raw, 11, 5))),
            (3, 3) => barrier(sysreg),
            (_, 4) => pstate(sysreg),
            _ => None,
        },
        _ => None,
    }
}

/// Hints, by CRm:op2. Those of pointer authentication and branch target identification are NOPs without the extension,
/// and so is every unallocated one.
fn hint(number: u32) -> Insn {
    match number {
        1 => Insn::Yield,
        2 => Insn::Wfe,
        3 => Insn::Wfi,
        4 => Insn::Sev { local: false },
        5 => Insn::Sev { local: true },
        _ => Insn::Nop,
    }
}

fn barrier(sysreg: SysReg) -> Option<Insn> {
    let crm = sysreg.crm() as u8;
    match sysreg.op2() {
        2 => Some(Insn::Clrex),
        4 => Some(Insn::Barrier { kind: Barrier::Synchronisation, crm }),
        5 => Some(Insn::Barrier { kind: Barrier::Memory, crm }),
        6 => Some(Insn::Isb),
        7 if crm == 0 => Some(Insn::Sb),
        _ => None,
    }
}

/// MSR (immediate) and the flag conversions that share its space.
fn pstate(sysreg: SysReg) -> Option<Insn> {
    let imm = sysreg.crm() as u8;
    let field = match (sysreg.op1(), sysreg.op2()) {
        (0, 0) if imm == 0 => return Some(Insn::ConvertFlags(ConvertFlags::InvertCarry)),
        (0, 1) if imm == 0 => return Some(Insn::ConvertFlags(ConvertFlags::ToArm)),
        (0, 2) if imm == 0 => return Some(Insn::ConvertFlags(ConvertFlags::ToExternal)),
        (0, 4) => PstateField::Pan,
        (0, 5) => PstateField::SpSel,
        (3, 1) => PstateField::Ssbs,
        (3, 2) => PstateField::Dit,
        (3, 6) => PstateField::DaifSet,
        (3, 7) => PstateField::DaifClr,
        _ => return None,
    };
    Some(Insn::MsrImm { field, imm })
}
