use tearless_arm64::pstate;
use tearless_memory::Gpa;

use super::with_registers;
use crate::cpu::{
    Exception, Stop,
    testing::{DATA, RAM, TestCpu},
};

/// CPYP, CPYM, CPYE [x0]!, [x1]!, x2!
const COPY: [u32; 3] = [0x1d01_0440, 0x1d41_0440, 0x1d81_0440];
/// CPYFP, CPYFM, CPYFE [x0]!, [x1]!, x2!
const COPY_ASCENDING: [u32; 3] = [0x1901_0440, 0x1941_0440, 0x1981_0440];
/// SETP, SETM, SETE [x0]!, x2!, x1
const SET: [u32; 3] = [0x19c1_0440, 0x19c1_4440, 0x19c1_8440];

/// Runs `code` to its end, with X0 to X2; no instruction may stop.
fn run(code: &[u32], x: [u64; 3], prepare: impl FnOnce(&TestCpu)) -> TestCpu {
    let mut test = with_registers(code, &x);
    prepare(&test);
    while test.cpu.pc < RAM + 4 * code.len() as u64 {
        test.steps(1);
    }
    test
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 256) as u8).collect()
}

fn read(test: &TestCpu, at: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    test.memory.read(Gpa(at), &mut data).unwrap();
    data
}

#[test]
fn copies_any_length_at_any_offset() {
    for code in [COPY, COPY_ASCENDING] {
        for (to, from, len) in [(0, 0, 0), (1, 0, 1), (0xff0, 0xfff, 100), (0x123, 0xe01, 0x3005)] {
            let (to, from) = (DATA + to, DATA + 0x1_0000 + from);
            let data = pattern(len);
            let test = run(&code, [to, from, len as u64], |test| {
                test.memory.write(Gpa(from), &data).unwrap();
            });
            assert_eq!(read(&test, to, len), data);
            assert_eq!(read(&test, to - 1, 1), [0]);
            assert_eq!(read(&test, to + len as u64, 1), [0]);
            let end = len as u64;
            assert_eq!(test.cpu.x[..3], [to + end, from + end, 0]);
            assert_eq!(test.cpu.nzcv, 0);
        }
    }
}

#[test]
fn overlapping_copies_take_the_direction_that_works() {
    for shift in [-0x1801_i64, -1, 1, 17, 0x1801] {
        let from = DATA + 0x1_0000;
        let to = from.wrapping_add_signed(shift);
        let data = pattern(0x5000);
        let test = run(&COPY, [to, from, 0x5000], |test| test.memory.write(Gpa(from), &data).unwrap());
        assert!(read(&test, to, 0x5000) == data, "shifted by {shift}");
        assert_eq!(test.cpu.x[2], 0);
    }
}

#[test]
fn sets_memory() {
    let test = run(&SET, [DATA + 0xffe, 0xabcd, 0x1004], |_| ());
    assert_eq!(read(&test, DATA + 0xffd, 1), [0]);
    assert_eq!(read(&test, DATA + 0xffe, 0x1004), [0xcd; 0x1004]);
    assert_eq!(read(&test, DATA + 0x2002, 1), [0]);
    assert_eq!(test.cpu.x[..3], [DATA + 0x2002, 0xabcd, 0]);
}

#[test]
fn goes_on_page_by_page() {
    let mut test = with_registers(&COPY_ASCENDING, &[DATA + 0x800, DATA + 0x1_0000, 0x1900]);
    test.steps(1);
    assert_eq!(test.cpu.x[..3], [DATA + 0x2100, DATA + 0x1_1900, 0x1900_u64.wrapping_neg()]);
    for left in [0x1100, 0x900, 0x100_u64] {
        test.steps(1);
        assert_eq!((test.cpu.pc, test.cpu.x[2]), (RAM + 4, left.wrapping_neg()));
    }
    test.steps(1);
    assert_eq!((test.cpu.pc, test.cpu.x[2]), (RAM + 8, 0));
}

#[test]
fn a_fault_reports_the_address_and_keeps_what_is_left() {
    let mut test = with_registers(&SET, &[DATA, 0x55, 8]);
    test.steps(1);
    // Eight bytes to go at an address that is not mapped.
    test.cpu.x[0] = (1 << 39) + 8;
    assert_eq!(test.step(), Stop::Exception(Exception::DataAbort { iss: 0x44, far: 1 << 39 }));
    assert_eq!(test.cpu.x[..3], [(1 << 39) + 8, 0x55, 8_u64.wrapping_neg()]);
    // The handler maps the page, here by moving the target, and returns to the main part.
    test.cpu.x[0] = DATA + 8;
    test.cpu.pc = RAM + 4;
    test.steps(2);
    assert_eq!(read(&test, DATA, 9), [0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0]);
}

#[test]
fn registers_of_another_form_are_refused() {
    // CPYFM with C set, as option B has it; CPYFE with a positive size; SETM with a positive size; CPYM may have one.
    let mismatch = |word, c, size| {
        let mut test = with_registers(&[word], &[DATA, DATA + 0x100, size]);
        test.cpu.nzcv = if c { pstate::C } else { 0 };
        test.step()
    };
    let minus_one = u64::MAX;
    let expect = |iss| Stop::Exception(Exception::MemoryCopySet(iss));
    assert_eq!(mismatch(COPY_ASCENDING[1], true, minus_one), expect(1 << 17 | 1 << 16 | 1 << 5 | 2));
    assert_eq!(mismatch(COPY_ASCENDING[2], false, 1), expect(1 << 18 | 1 << 16 | 1 << 5 | 2));
    assert_eq!(mismatch(SET[1], false, 1), expect(1 << 24 | 1 << 16 | 1 << 5 | 2));
    assert_eq!(mismatch(COPY[1], false, 1), Stop::Continue);
    assert_eq!(mismatch(COPY[1], true, 0), Stop::Continue);
}

#[test]
fn sizes_saturate() {
    let mut test = with_registers(&[COPY[0], COPY_ASCENDING[0]], &[DATA, DATA + 0x100, u64::MAX]);
    test.steps(1);
    assert_eq!(test.cpu.x[2], 0x007f_ffff_ffff_ffff_u64.wrapping_neg());
    test.cpu.x[2] = u64::MAX;
    test.steps(1);
    assert_eq!(test.cpu.x[2], 0x7fff_ffff_ffff_ffff_u64.wrapping_neg());
}
