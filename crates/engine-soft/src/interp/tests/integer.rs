use tearless_engine::Conduit;

use super::{registers, with_registers};
use crate::{
    cpu::{Stop, testing::RAM},
    interp::run::Leave,
};

/// One instruction per line with what real implementations make of it: its word, NZCV and X0 to X3 before, X0 and NZCV
/// after, its text.
const CASES: &str = include_str!("integer.txt");

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap()
}

#[test]
fn data_processing_agrees_with_the_architecture() {
    let mut wrong = Vec::new();
    let mut test = with_registers(&[], &[]);
    for line in CASES.lines() {
        let (before, after) = line.split_once(" = ").unwrap();
        let fields: Vec<u64> = before.split(' ').map(hex).collect();
        let [word, nzcv, ref x @ ..] = fields[..] else { panic!("{line}") };
        let mut after = after.splitn(3, ' ');
        let expected = (hex(after.next().unwrap()), hex(after.next().unwrap()));

        test.put_code(RAM, &[word as u32]);
        test.cpu.forget_code();
        test.cpu.pc = RAM;
        test.cpu.x[..4].copy_from_slice(x);
        test.cpu.nzcv = (nzcv as u32) << 28;
        test.steps(1);
        let got = (test.cpu.x[0], u64::from(test.cpu.nzcv >> 28));
        if got != expected {
            wrong.push(format!("{line}: got {:x} {:x}", got.0, got.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn register_31_is_zero_or_the_stack_pointer() {
    let code = [
        0x9100_43e0, // add x0, sp, #16
        0x8b20_63e1, // add x1, sp, x0
        0xcb00_03e2, // neg x2, x0
        0x9100_001f, // mov sp, x0
        0x8b00_001f, // add xzr, x0, x0
        0x8b1f_03e3, // add x3, xzr, xzr
        0xf100_041f, // cmp x0, #1
        0x9240_1c1f, // and sp, x0, #0xff
    ];
    let mut test = with_registers(&code, &[]);
    let sp = test.cpu.x[32];
    test.steps(7);
    assert_eq!(registers(&test), [sp + 16, 2 * sp + 16, (sp + 16).wrapping_neg(), 0]);
    assert_eq!(test.cpu.x[31], 0);
    assert_eq!(test.cpu.x[32], sp + 16);
    test.steps(1);
    assert_eq!(test.cpu.x[32], (sp + 16) & 0xff);
}

#[test]
fn page_relative_addresses() {
    let code = [
        0xd503_201f, // nop
        0x1000_0080, // adr x0, .+16
        0x70ff_ffe1, // adr x1, .-1
        0xb000_0002, // adrp x2, .+4096
        0xf0ff_ffe3, // adrp x3, .-4096
    ];
    let mut test = with_registers(&code, &[]);
    test.steps(5);
    assert_eq!(registers(&test), [RAM + 4 + 16, RAM + 8 - 1, RAM + 0x1000, RAM - 0x1000]);
}

#[test]
fn every_condition_branches_as_the_flags_say() {
    for cond in 0..16_u32 {
        for nzcv in 0..16_u32 {
            let (n, z, c, v) = (nzcv & 8 != 0, nzcv & 4 != 0, nzcv & 2 != 0, nzcv & 1 != 0);
            let taken = match cond {
                0 => z,
                1 => !z,
                2 => c,
                3 => !c,
                4 => n,
                5 => !n,
                6 => v,
                7 => !v,
                8 => c && !z,
                9 => !c || z,
                10 => n == v,
                11 => n != v,
                12 => !z && n == v,
                13 => z || n != v,
                _ => true,
            };
            // b.cond .+8 and b.cond .+4096: within the page and out of it.
            for offset in [8, 4096] {
                let mut test = with_registers(&[0x5400_0000 | offset << 3 | cond], &[]);
                test.cpu.nzcv = nzcv << 28;
                test.steps(1);
                let expected = RAM + if taken { u64::from(offset) } else { 4 };
                assert_eq!(test.cpu.pc, expected, "condition {cond} nzcv {nzcv:04b}");
            }
        }
    }
}

/// Where one instruction at RAM + 8 goes, with X0 and X5 set.
fn target(word: u32, x0: u64, x5: u64) -> u64 {
    let mut test = with_registers(&[0, 0, word], &[x0, 0, 0, 0, 0, x5]);
    test.cpu.pc = RAM + 8;
    test.steps(1);
    test.cpu.pc - RAM
}

#[test]
fn compare_and_test_branches() {
    // cbz w0, .+16; cbnz x0, .-8; cbz x0, .+4096.
    assert_eq!(target(0x3400_0080, 1 << 32, 0), 8 + 16);
    assert_eq!(target(0x3400_0080, 1, 0), 12);
    assert_eq!(target(0xb5ff_ffc0, 1 << 32, 0), 0);
    assert_eq!(target(0xb5ff_ffc0, 0, 0), 12);
    assert_eq!(target(0xb400_8000, 0, 0), 8 + 4096);
    // tbz x0, #33, .+8; tbnz w0, #5, .+8; tbnz w0, #5, .+4096.
    assert_eq!(target(0xb608_0040, 1 << 33, 0), 12);
    assert_eq!(target(0xb608_0040, !(1 << 33), 0), 16);
    assert_eq!(target(0x3728_0040, 32, 0), 16);
    assert_eq!(target(0x3728_0040, !32, 0), 12);
    assert_eq!(target(0x3728_8000, 32, 0), 8 + 4096);
    // br x5; ret x5; b .-8; b .+8192.
    assert_eq!(target(0xd61f_00a0, 0, RAM + 0x2340), 0x2340);
    assert_eq!(target(0xd65f_00a0, 0, RAM + 0x2340), 0x2340);
    assert_eq!(target(0x17ff_fffe, 0, 0), 0);
    assert_eq!(target(0x1400_0800, 0, 0), 8 + 8192);
}

#[test]
fn calls_set_the_link_register() {
    // bl .+8; bl .+8192; blr x5; blr x30.
    for (word, goes_to) in
        [(0x9400_0002, 16), (0x9400_0800, 8 + 8192), (0xd63f_00a0, 0x80), (0xd63f_03c0, 0x90)]
    {
        let mut test = with_registers(&[0, 0, word], &[0, 0, 0, 0, 0, RAM + 0x80]);
        test.cpu.x[30] = RAM + 0x90;
        test.cpu.pc = RAM + 8;
        test.steps(1);
        assert_eq!((test.cpu.pc, test.cpu.x[30]), (RAM + goes_to, RAM + 12), "{word:#x}");
    }
}

#[test]
fn a_loop_runs_until_its_counter_is_zero() {
    let code = [
        0x8b01_0000, // add x0, x0, x1
        0xf100_0421, // subs x1, x1, #1
        0x54ff_ffc1, // b.ne .-8
        0xd400_0022, // hvc #1
    ];
    let mut test = with_registers(&code, &[0, 1000]);
    test.steps(3000);
    assert_eq!(registers(&test), [500_500, 0]);
    assert!(matches!(test.step(), Stop::Exception(_)));
}

#[test]
fn straight_line_code_needs_little_stack() {
    let page = || {
        // A page of LDR X0, [X1]; FMAX D0, D1, D2; ADDS X3, X3, #1, whose handlers have frames or not, then HVC #0.
        let mut code = [0xf940_0020, 0x1e62_4820, 0xb100_0463].repeat(341);
        code.push(0xd400_0002);
        let mut test = with_registers(&code, &[0, RAM]);
        assert_eq!(test.cpu.run(), Leave::Stop(Stop::Smccc(Conduit::Hvc)));
        assert_eq!(test.cpu.x[3], 341);
    };
    // Half of the least that hosts give a thread.
    std::thread::Builder::new().stack_size(1 << 20).spawn(page).unwrap().join().unwrap();
}

#[test]
fn a_single_step_runs_one_instruction_of_a_chain() {
    // ADD X0, X0, #1 four times; then as a whole.
    let mut test = with_registers(&[0x9100_0400, 0x9100_0400, 0x9100_0400, 0x9100_0400, 0xd400_0002], &[0]);
    test.steps(1);
    assert_eq!((test.cpu.x[0], test.cpu.pc), (1, RAM + 4));
    assert_eq!(test.cpu.run(), Leave::Stop(Stop::Smccc(Conduit::Hvc)));
    assert_eq!(test.cpu.x[0], 4);
    // The last instruction of a page is followed by the first of the next.
    test.put_code(RAM + 0xffc, &[0x9100_0400, 0x9100_0400]);
    test.cpu.pc = RAM + 0xffc;
    test.steps(1);
    assert_eq!((test.cpu.x[0], test.cpu.pc), (5, RAM + 0x1000));
    test.steps(1);
    assert_eq!((test.cpu.x[0], test.cpu.pc), (6, RAM + 0x1004));
}

#[test]
fn unallocated_words_are_undefined() {
    let mut test = with_registers(&[0], &[]);
    assert_eq!(test.step(), Stop::Exception(crate::cpu::Exception::Undefined));
}
