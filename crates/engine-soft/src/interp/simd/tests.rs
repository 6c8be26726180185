//! Floating point and Advanced SIMD through the decoder and the lowering.

use crate::cpu::testing::{DATA, RAM, TestCpu};
use crate::fp::fpsr;

/// One instruction per line with what a reference implementation makes of it: its word, NZCV, FPCR, V0 to V3 and X1
/// before; V0, X0, NZCV and FPSR after; its text. X0, V4 and FPSR are zero before.
const CASES: &str = include_str!("tests/reference.txt");

fn hex(text: &str) -> u128 {
    u128::from_str_radix(text, 16).unwrap()
}

#[test]
fn data_processing_agrees_with_the_reference() {
    let mut wrong = Vec::new();
    let mut test = TestCpu::new(&[]);
    for line in CASES.lines() {
        let (before, after) = line.split_once(" = ").unwrap();
        let fields: Vec<u128> = before.split(' ').map(hex).collect();
        let [word, nzcv, fpcr, ref v @ .., x1] = fields[..] else { panic!("{line}") };
        let expected: Vec<u128> = after.splitn(5, ' ').take(4).map(hex).collect();

        test.put_code(RAM, &[word as u32]);
        test.cpu.forget_code();
        test.cpu.pc = RAM;
        test.cpu.x[..2].copy_from_slice(&[0, x1 as u64]);
        test.cpu.v[..4].copy_from_slice(v);
        test.cpu.v[4] = 0;
        test.cpu.nzcv = (nzcv as u32) << 28;
        (test.cpu.fpcr, test.cpu.fpsr) = (fpcr as u32, 0);
        test.steps(1);
        let cpu = &test.cpu;
        let got = [cpu.v[0], cpu.x[0].into(), (cpu.nzcv >> 28).into(), cpu.fpsr.into()];
        if got[..] != expected {
            wrong.push(format!("{line}: got {got:x?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A CPU with these vectors that has run the code.
fn ran(code: &[u32], v: &[u128]) -> TestCpu {
    let mut test = TestCpu::new(code);
    test.cpu.v[..v.len()].copy_from_slice(v);
    test.cpu.x[1] = DATA;
    test.cpu.x[2] = 100;
    test.steps(code.len());
    test
}

const BYTES: u128 = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100;

#[test]
fn table_lookups_out_of_range_clear_or_keep() {
    let index = 0x40_3f_20_1f_10_0f_ff_00_u128;
    // tbl v0.8b, {v1.16b}, v3.8b; tbx v4.8b, {v1.16b, v2.16b}, v3.8b
    let test = ran(&[0x0e03_0020, 0x0e03_3024], &[u128::MAX, BYTES, BYTES + (BYTES & 1), index, u128::MAX]);
    assert_eq!(test.cpu.v[0], 0x0000_0000_000f_0000);
    assert_eq!(test.cpu.v[4], 0xffff_ff0f_000f_ff00);
}

#[test]
fn saturation_is_noted_and_stays_so() {
    let high = 0x7f7f_7f7f_7f7f_7f7f;
    // sqadd v0.8b, v1.8b, v1.8b; add v0.8b, v1.8b, v1.8b
    let test = ran(&[0x0e21_0c20, 0x0e21_8420], &[u128::MAX, high]);
    assert_eq!(test.cpu.v[0], 0xfefe_fefe_fefe_fefe);
    assert_eq!(test.cpu.fpsr, fpsr::QC);
    // Lanes beyond a half vector or a scalar do not saturate: sqadd v0.8b, v1.8b, v1.8b; sqadd b0, b1, b1
    let test = ran(&[0x0e21_0c20, 0x5e21_0c20], &[0, high << 64 | 1]);
    assert_eq!((test.cpu.v[0], test.cpu.fpsr), (2, 0));
}

#[test]
fn structures_interleave() {
    // st3 {v0.8b-v2.8b}, [x1], #24; ld3 {v4.8b-v6.8b}, [x1] after moving back; ld1 {v7.16b}, [x1], x2
    let v = [0x0706_0504_0302_0100, 0x1716_1514_1312_1110, 0x2726_2524_2322_2120];
    let test = ran(&[0x0c9f_4020, 0xd100_6021, 0x0c40_4024, 0x4cc2_7027], &v);
    assert_eq!(test.cpu.v[4..7], v);
    assert_eq!(test.cpu.v[7], 0x0524_1404_2313_0322_1202_2111_0120_1000);
    assert_eq!(test.cpu.x[1], DATA + 100);
}
