use tearless_arm64::SysReg;

use super::*;

mod text;

/// Words and what `objdump -M no-aliases` says of them, in the spelling of [`text`].
const GOLDEN: &str = include_str!("tests/golden.txt");

#[test]
fn agrees_with_objdump() {
    let mut wrong = Vec::new();
    for line in GOLDEN.lines() {
        let (raw, expected) = line.split_once(' ').unwrap();
        let insn = decode(u32::from_str_radix(raw, 16).unwrap());
        let text = match insn {
            Insn::Undefined => "undefined".to_owned(),
            _ => text::text(&insn).unwrap_or_else(|| format!("{insn:?}")),
        };
        if text != expected {
            wrong.push(format!("{raw}: {text}, expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(GOLDEN.lines().count() > 400);
}

#[test]
fn system_instructions() {
    let sys = |op1, crn, crm, op2| SysReg::new(1, op1, crn, crm, op2);
    let cases = [
        (0xd503_201f, Insn::Nop),
        // PACIASP, BTI c, CSDB, an unallocated hint.
        (0xd503_233f, Insn::Nop),
        (0xd503_245f, Insn::Nop),
        (0xd503_229f, Insn::Nop),
        (0xd503_2fff, Insn::Nop),
        (0xd503_203f, Insn::Yield),
        (0xd503_205f, Insn::Wfe),
        (0xd503_207f, Insn::Wfi),
        (0xd503_209f, Insn::Sev { local: false }),
        (0xd503_20bf, Insn::Sev { local: true }),
        (0xd503_3f5f, Insn::Clrex),
        (0xd503_3b9f, Insn::Barrier { kind: Barrier::Synchronisation, crm: 11 }),
        (0xd503_39bf, Insn::Barrier { kind: Barrier::Memory, crm: 9 }),
        (0xd503_3fdf, Insn::Isb),
        (0xd503_30ff, Insn::Sb),
        // SB with a CRm that is not zero; a barrier with a register; DSB nXS; WFET X0.
        (0xd503_31ff, Insn::Undefined),
        (0xd503_3b90, Insn::Undefined),
        (0xd503_323f, Insn::Undefined),
        (0xd503_1000, Insn::Undefined),
        (0xd500_401f, Insn::ConvertFlags(ConvertFlags::InvertCarry)),
        (0xd500_403f, Insn::ConvertFlags(ConvertFlags::ToArm)),
        (0xd500_405f, Insn::ConvertFlags(ConvertFlags::ToExternal)),
        (0xd503_42df, Insn::MsrImm { field: PstateField::DaifSet, imm: 2 }),
        (0xd503_4fff, Insn::MsrImm { field: PstateField::DaifClr, imm: 15 }),
        (0xd500_419f, Insn::MsrImm { field: PstateField::Pan, imm: 1 }),
        (0xd500_41bf, Insn::MsrImm { field: PstateField::SpSel, imm: 1 }),
        (0xd503_413f, Insn::MsrImm { field: PstateField::Ssbs, imm: 1 }),
        // UAO and TCO are not implemented.
        (0xd500_417f, Insn::Undefined),
        (0xd503_419f, Insn::Undefined),
        (0xd538_4243, Insn::Mrs { reg: SysReg::new(3, 0, 4, 2, 2), rt: 3 }),
        (0xd51b_d05f, Insn::Msr { reg: SysReg::new(3, 3, 13, 0, 2), rt: 31 }),
        (0xd531_1000, Insn::Mrs { reg: SysReg::new(2, 1, 1, 0, 0), rt: 0 }),
        (0xd50b_7421, Insn::Sys { reg: sys(3, 7, 4, 1), rt: 1 }),
        (0xd508_831f, Insn::Sys { reg: sys(0, 8, 3, 0), rt: 31 }),
        (0xd528_0005, Insn::Sysl { reg: sys(0, 0, 0, 0), rt: 5 }),
    ];
    for (raw, insn) in cases {
        assert_eq!(decode(raw), insn, "{raw:#010x}");
    }
}

#[test]
fn what_other_extensions_would_be_is_undefined() {
    let cases = [
        ("udf", 0x0000_0000),
        ("hlt", 0xd440_0000),
        ("dcps1", 0xd4a0_0001),
        ("drps", 0xd6bf_03e0),
        ("pacia x0, x1", 0xdac1_0020),
        ("retaa", 0xd65f_0bff),
        ("braa x0, x1", 0xd71f_0801),
        ("eretaa", 0xd69f_0bff),
        ("ldraa x0, [x1]", 0xf820_0420),
        ("stg x0, [x1]", 0xd920_0820),
        ("irg x0, x1", 0x9ac0_1020),
        ("addg x0, x1, #0, #0", 0x9180_0020),
        ("ctz x0, x1", 0xdac0_1820),
        ("smax x0, x1, x2", 0x9ac2_6020),
        ("ld64b x0, [x1]", 0xf83f_d020),
        ("bc.eq", 0x5400_0010),
        ("sve add", 0x0420_0000),
    ];
    for (name, raw) in cases {
        assert_eq!(decode(raw), Insn::Undefined, "{name}");
    }
}

#[test]
fn memory_copy_and_set() {
    let copy =
        |stage, ascending, options| Insn::MemoryCopy { stage, ascending, options, rd: 0, rs: 1, rn: 2 };
    let set = |stage, options| Insn::MemorySet { stage, options, rd: 0, rs: 1, rn: 2 };
    let cases = [
        (0x1901_1440, copy(Stage::Prologue, true, 1)), // cpyfpwt [x0]!, [x1]!, x2!
        (0x1941_2440, copy(Stage::Main, true, 2)),     // cpyfmrt [x0]!, [x1]!, x2!
        (0x1d81_c440, copy(Stage::Epilogue, false, 12)), // cpyen [x0]!, [x1]!, x2!
        (0x19c1_1440, set(Stage::Prologue, 1)),        // setpt [x0]!, x2!, x1
        (0x19c1_6440, set(Stage::Main, 2)),            // setmn [x0]!, x2!, x1
        (0x19c1_8440, set(Stage::Epilogue, 0)),        // sete [x0]!, x2!, x1
        (0x19c1_c440, Insn::Undefined),
        (0x1dc1_0440, Insn::Undefined), // setgp [x0]!, x2!, x1
        (0x1900_0440, Insn::Undefined), // source and destination are one
        (0x191f_0440, Insn::Undefined), // the source is XZR
        (0x5901_0440, Insn::Undefined),
        (0x19df_0440, Insn::MemorySet { stage: Stage::Prologue, options: 0, rd: 0, rs: 31, rn: 2 }),
    ];
    for (raw, insn) in cases {
        assert_eq!(decode(raw), insn, "{raw:#010x}");
    }
}

/// The decoder accepts anything, and what it accepts stays within its documented ranges.
#[test]
fn is_total() {
    let mut raw = 0x9e37_79b9_u32;
    for _ in 0..2_000_000 {
        raw = raw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // The low bits of such a generator are poor.
        match decode(raw.rotate_left(raw >> 28)) {
            Insn::LogicImm { pattern, .. } => assert!(bitmask(pattern).is_some()),
            Insn::Bitfield { sf, immr, imms, .. } => assert!(sf || immr < 32 && imms < 32),
            Insn::AddSubShift { sf, amount, .. } | Insn::LogicShift { sf, amount, .. } => {
                assert!(amount < if sf { 64 } else { 32 });
            }
            Insn::CompareSwapPair { rs, rt, .. } => assert!(rs % 2 == 0 && rt % 2 == 0),
            Insn::LoadStoreImm { access, .. } => assert!(access.size <= if access.simd { 4 } else { 3 }),
            _ => {}
        }
    }
}

#[test]
fn bitmasks() {
    assert_eq!(bitmask(0b1_000000_000000), Some(1));
    assert_eq!(bitmask(0b1_000000_111110), Some(u64::MAX >> 1));
    assert_eq!(bitmask(0b0_000001_111100), Some(0xaaaa_aaaa_aaaa_aaaa));
    assert_eq!(bitmask(0b0_000100_000111), Some(0xf000_000f_f000_000f));
    assert_eq!(bitmask(0b1_000000_111111), None);
    assert_eq!(bitmask(0b0_000000_111111), None);
    // For elements of 64, 32, .. 2 bits, every count of ones but all; unused bits of immr are ignored.
    let valid = (0..1 << 13).filter(|&pattern| bitmask(pattern).is_some()).count();
    assert_eq!(valid, 64 * (63 + 31 + 15 + 7 + 3 + 1));
}
