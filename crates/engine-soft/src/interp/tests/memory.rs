use tearless_memory::Gpa;

use super::{registers, with_registers};
use crate::cpu::{
    Exception, Stop,
    testing::{DATA, RAM, TestCpu},
};

/// The bytes 0x80, 0x81, ... 0xbf at [`DATA`], whose address is in X1.
fn with_bytes(code: &[u32], x: &[u64]) -> TestCpu {
    let test = with_registers(code, x);
    let bytes: Vec<u8> = (0x80..0xc0).collect();
    test.memory.write(Gpa(DATA), &bytes).unwrap();
    test
}

fn bytes<const N: usize>(test: &TestCpu, at: u64) -> [u8; N] {
    let mut data = [0; N];
    test.memory.read(Gpa(at), &mut data).unwrap();
    data
}

#[test]
fn loads_extend() {
    let cases = [
        (0x3940_0420, 0x81),                  // ldrb w0, [x1, #1]
        (0x39c0_0420, 0xffff_ff81),           // ldrsb w0, [x1, #1]
        (0x3980_0420, 0xffff_ffff_ffff_ff81), // ldrsb x0, [x1, #1]
        (0x7940_0420, 0x8382),                // ldrh w0, [x1, #2]
        (0x79c0_0420, 0xffff_8382),           // ldrsh w0, [x1, #2]
        (0x7980_0420, 0xffff_ffff_ffff_8382), // ldrsh x0, [x1, #2]
        (0xb940_0420, 0x8786_8584),           // ldr w0, [x1, #4]
        (0xb980_0420, 0xffff_ffff_8786_8584), // ldrsw x0, [x1, #4]
        (0xf940_0420, 0x8f8e_8d8c_8b8a_8988), // ldr x0, [x1, #8]
        (0xf840_3020, 0x8a89_8887_8685_8483), // ldur x0, [x1, #3]
        (0xf862_6820, 0x8f8e_8d8c_8b8a_8988), // ldr x0, [x1, x2]
        (0xb862_7820, 0xa3a2_a1a0),           // ldr w0, [x1, x2, lsl #2]
        (0x7863_d820, 0x8382),                // ldrh w0, [x1, w3, sxtw #1]
        (0x38df_ffe0, 0),                     // ldrsb w0, [sp, #-1]!
        (0xf85f_f020, 0x8685_8483_8281_8000), // ldur x0, [x1, #-1]
        (0xb8bf_c020, 0x8382_8180),           // ldapr w0, [x1]
        (0x1940_4020, 0x84),                  // ldapurb w0, [x1, #4]
        (0x5980_8020, 0xffff_ffff_ffff_8988), // ldapursh x0, [x1, #8]
        (0xc8df_fc20, 0x8786_8584_8382_8180), // ldar x0, [x1]
    ];
    for (word, expected) in cases {
        let mut test = with_bytes(&[word], &[0x1234_5678_9abc_def0, DATA, 8, 0xabcd_0000_0000_0001]);
        test.steps(1);
        assert_eq!(test.cpu.x[0], expected, "{word:#x}");
    }
}

#[test]
fn stores_write_no_more_than_their_size() {
    for (word, size) in [
        (0x3900_0020, 1), // strb w0, [x1]
        (0x7900_0020, 2), // strh w0, [x1]
        (0xb900_0020, 4), // str w0, [x1]
        (0xf900_0020, 8), // str x0, [x1]
        (0x089f_fc20, 1), // stlrb w0, [x1]
        (0x9900_0020, 4), // stlur w0, [x1]
        (0x7822_6820, 2), // strh w0, [x1, x2]
    ] {
        let mut test = with_bytes(&[word], &[0x0706_0504_0302_0100, DATA]);
        test.steps(1);
        let expected: [u8; 9] = std::array::from_fn(|i| if i < size { i as u8 } else { 0x80 + i as u8 });
        assert_eq!(bytes::<9>(&test, DATA), expected, "{word:#x}");
    }
}

#[test]
fn indexed_modes_write_the_base_back() {
    let cases = [
        (0xf840_8420, 0, 8),   // ldr x0, [x1], #8
        (0xf840_8c20, 8, 8),   // ldr x0, [x1, #8]!
        (0xf85f_8c20, -8, -8), // ldr x0, [x1, #-8]!
        (0xa8c1_0820, 0, 16),  // ldp x0, x2, [x1], #16
        (0xa9c1_0820, 16, 16), // ldp x0, x2, [x1, #16]!
        (0xa97f_0820, -16, 0), // ldp x0, x2, [x1, #-16]
        (0xa840_8820, 8, 0),   // ldnp x0, x2, [x1, #8]
    ];
    for (word, from, moved) in cases {
        let mut test = with_bytes(&[word], &[1, DATA + 16]);
        test.steps(1);
        let at = (DATA + 16).wrapping_add_signed(from);
        assert_eq!(test.cpu.x[0], u64::from_le_bytes(bytes(&test, at)), "{word:#x}");
        assert_eq!(test.cpu.x[1], (DATA + 16).wrapping_add_signed(moved), "{word:#x}");
        if word >> 29 == 5 {
            assert_eq!(test.cpu.x[2], u64::from_le_bytes(bytes(&test, at + 8)), "{word:#x}");
        }
    }
}

#[test]
fn pairs() {
    let code = [
        0xa9bf_0fe2, // stp x2, x3, [sp, #-16]!
        0x2940_13e0, // ldp w0, w4, [sp]
        0x6940_97e6, // ldpsw x6, x5, [sp, #4]
        0xa8c1_23e7, // ldp x7, x8, [sp], #16
        0xa900_7c3f, // stp xzr, xzr, [x1]
        0xa940_2420, // ldp x0, x9, [x1]
        0xad00_0420, // stp q0, q1, [x1]
        0x6d40_0c22, // ldp d2, d3, [x1]
        0x2d40_1424, // ldp s4, s5, [x1]
    ];
    let mut test = with_bytes(&code, &[9, DATA, 0x8000_0001_0000_0002, 0x7000_0003_ffff_fff4]);
    let sp = test.cpu.x[32];
    test.cpu.v[0] = 0x1111_2222_3333_4444_5555_6666_7777_8888;
    test.cpu.v[1] = !0;
    test.cpu.v[2] = !0;
    test.cpu.v[4] = !0;
    test.steps(4);
    assert_eq!(test.cpu.x[0], 2);
    assert_eq!(test.cpu.x[4], 0x8000_0001);
    assert_eq!(test.cpu.x[6], 0xffff_ffff_8000_0001);
    assert_eq!(test.cpu.x[5], 0xffff_ffff_ffff_fff4);
    assert_eq!([test.cpu.x[7], test.cpu.x[8]], [0x8000_0001_0000_0002, 0x7000_0003_ffff_fff4]);
    assert_eq!(test.cpu.x[32], sp);
    test.steps(2);
    assert_eq!([test.cpu.x[0], test.cpu.x[9]], [0, 0]);
    test.steps(3);
    assert_eq!(test.cpu.v[2], 0x5555_6666_7777_8888);
    assert_eq!(test.cpu.v[3], 0x1111_2222_3333_4444);
    assert_eq!([test.cpu.v[4], test.cpu.v[5]], [0x7777_8888, 0x5555_6666]);
}

#[test]
fn vector_registers_load_and_store_every_size() {
    let cases = [
        (0x3d40_0020, 0x80),                                      // ldr b0, [x1]
        (0x7d40_0020, 0x8180),                                    // ldr h0, [x1]
        (0xbd40_0020, 0x8382_8180),                               // ldr s0, [x1]
        (0xfd40_0020, 0x8786_8584_8382_8180),                     // ldr d0, [x1]
        (0x3dc0_0020, 0x8f8e_8d8c_8b8a_8988_8786_8584_8382_8180), // ldr q0, [x1]
        (0x3ce2_6820, 0x9796_9594_9392_9190_8f8e_8d8c_8b8a_8988), // ldr q0, [x1, x2]
        (0x3cc0_1420, 0x8f8e_8d8c_8b8a_8988_8786_8584_8382_8180), // ldr q0, [x1], #1
    ];
    for (word, expected) in cases {
        let mut test = with_bytes(&[word], &[0, DATA, 8]);
        test.cpu.v[0] = !0;
        test.steps(1);
        assert_eq!(test.cpu.v[0], expected, "{word:#x}");
    }
    // str q0, [x1, #16]; without access to the registers it traps.
    let mut test = with_bytes(&[0x3d80_0420, 0x3d80_0420], &[0, DATA]);
    test.cpu.v[0] = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100;
    test.steps(1);
    assert_eq!(bytes::<16>(&test, DATA + 16), std::array::from_fn(|i| i as u8));
    test.cpu.fp_enabled = false;
    assert_eq!(test.step(), Stop::Exception(Exception::FpAccess));
}

#[test]
fn literals() {
    let code = [
        0x5800_0060, // ldr x0, .+12
        0x9800_0042, // ldrsw x2, .+8
        0x1c00_0020, // ldr s0, .+4
        0xfedc_ba98,
        0x7654_3210,
    ];
    let mut test = with_registers(&code, &[]);
    test.steps(3);
    assert_eq!(test.cpu.x[0], 0x7654_3210_fedc_ba98);
    assert_eq!(test.cpu.x[2], 0xffff_ffff_fedc_ba98);
    assert_eq!(test.cpu.v[0], 0xfedc_ba98);
}

#[test]
fn a_fault_changes_no_register() {
    // ldp x0, x2, [x1], #16; str x0, [x1, #8]!; ldr x0, [x1], #8; stp x0, x2, [x1, #-16]!; casp; ldadd.
    for word in [0xa8c1_0820, 0xf800_8c20, 0xf840_8420, 0xa9bf_0820, 0x4820_7c22, 0xf820_0022] {
        let mut test = with_registers(&[word], &[1, 0x80_0000_0010, 3, 4]);
        let before = test.cpu.x;
        let Stop::Exception(Exception::DataAbort { .. }) = test.step() else {
            panic!("{word:#x} does not abort")
        };
        assert_eq!(test.cpu.x[..31], before[..31], "{word:#x}");
    }
}

#[test]
fn the_stack_pointer_is_checked_where_it_is_a_base() {
    // ldr x0, [sp]; stp x0, x1, [sp]; ldr x0, [sp, x1]; ldxr x0, [sp]; ldar x0, [sp]; ldadd x0, x1, [sp].
    for word in [0xf940_03e0, 0xa900_07e0, 0xf861_6be0, 0xc85f_7fe0, 0xc8df_ffe0, 0xf820_03e1] {
        let mut test = with_registers(&[word], &[]);
        test.cpu.x[32] = DATA + 8;
        test.cpu.sys.mmu.sctlr |= 1 << 3;
        test.cpu.update_derived();
        assert_eq!(test.step(), Stop::Exception(Exception::SpAlignment), "{word:#x}");
        let mut test = with_registers(&[word], &[]);
        test.cpu.x[32] = DATA + 8;
        test.cpu.sys.mmu.sctlr &= !(1 << 3);
        test.cpu.update_derived();
        test.steps(1);
    }
}

#[test]
fn exclusives() {
    let code = [
        0xc85f_7c20, // ldxr x0, [x1]
        0xc805_7c22, // stxr w5, x2, [x1]
        0xc806_7c23, // stxr w6, x3, [x1]
        0x085f_fc20, // ldaxrb w0, [x1]
        0xd503_3f5f, // clrex
        0x0807_fc22, // stlxrb w7, w2, [x1]
    ];
    let mut test = with_bytes(&code, &[0, DATA, 0x2222, 0x3333, 0, 9, 9, 9]);
    test.steps(6);
    assert_eq!(test.cpu.x[5..8], [0, 1, 1]);
    assert_eq!(bytes(&test, DATA), 0x2222_u64.to_le_bytes());
    assert_eq!(test.cpu.x[0], 0x22);
}

#[test]
fn exclusive_pairs() {
    let code = [
        0xc87f_0c22, // ldxp x2, x3, [x1]
        0xc825_1827, // stxp w5, x7, x6, [x1]
        0x887f_a428, // ldaxp w8, w9, [x1]
    ];
    let mut test = with_bytes(&code, &[0, DATA, 0, 0, 0, 9, 0x66, 0x7777_7777_7777]);
    test.steps(3);
    assert_eq!(test.cpu.x[2..4], [0x8786_8584_8382_8180, 0x8f8e_8d8c_8b8a_8988]);
    assert_eq!(test.cpu.x[5], 0);
    assert_eq!(bytes(&test, DATA), 0x7777_7777_7777_u64.to_le_bytes());
    assert_eq!(bytes(&test, DATA + 8), 0x66_u64.to_le_bytes());
    assert_eq!(test.cpu.x[8..10], [0x7777_7777, 0x7777]);
}

#[test]
fn compare_and_swap() {
    // casb w2, w3, [x1]: only the low byte counts.
    let mut test = with_bytes(&[0x08a2_7c23], &[0, DATA, 0xffff_ff80, 0x12345]);
    test.steps(1);
    assert_eq!(test.cpu.x[2], 0x80);
    assert_eq!(bytes::<2>(&test, DATA), [0x45, 0x81]);
    // casal x2, x3, [x1], which fails.
    let mut test = with_bytes(&[0xc8e2_fc23], &[0, DATA, 0, 1]);
    test.steps(1);
    assert_eq!(test.cpu.x[2], 0x8786_8584_8382_8180);
    assert_eq!(bytes::<1>(&test, DATA), [0x80]);
    // casp x2, x3, x4, x5, [x1], which succeeds; casp w2, w3, w4, w5, [x1], which fails in the upper half.
    let old = [0x8786_8584_8382_8180, 0x8f8e_8d8c_8b8a_8988];
    let mut test = with_bytes(&[0x4822_7c24], &[0, DATA, old[0], old[1], 0x44, 0x55]);
    test.steps(1);
    assert_eq!(test.cpu.x[2..4], old);
    assert_eq!(bytes(&test, DATA + 8), 0x55_u64.to_le_bytes());
    let mut test = with_bytes(&[0x0822_7c24], &[0, DATA, 0x8382_8180, 0, 0x44, 0x55]);
    test.steps(1);
    assert_eq!(test.cpu.x[2..4], [0x8382_8180, 0x8786_8584]);
    assert_eq!(bytes::<1>(&test, DATA), [0x80]);
}

#[test]
fn atomics_of_every_operation_and_size() {
    let apply = |op: u32, bits: u32, old: u64, operand: u64| {
        let sign = |value: u64| (value << (64 - bits)) as i64 >> (64 - bits);
        let mask = u64::MAX >> (64 - bits);
        let new = match op {
            0 => old.wrapping_add(operand),
            1 => old & !operand,
            2 => old ^ operand,
            3 => old | operand,
            4 => sign(old).max(sign(operand)) as u64,
            5 => sign(old).min(sign(operand)) as u64,
            6 => (old & mask).max(operand & mask),
            7 => (old & mask).min(operand & mask),
            _ => operand,
        };
        new & mask
    };
    for size in 0..4 {
        for op in 0..9 {
            for operand in [0x7f7f_7f7f_7f7f_7f7f, 0x9080_9080_9080_9080_u64, u64::MAX, 1] {
                for ordering in 0..4 {
                    // ldOP x2, x3, [x1]
                    let word = 0x3820_0000 | size << 30 | ordering << 22 | 2 << 16 | op << 12 | 1 << 5 | 3;
                    let mut test = with_bytes(&[word], &[0, DATA, operand, 0]);
                    let bits = 8 << size;
                    let old = u64::from_le_bytes(bytes(&test, DATA));
                    let mask = u64::MAX >> (64 - bits);
                    test.steps(1);
                    assert_eq!(test.cpu.x[3], old & mask, "{word:#x}");
                    let new = apply(op, bits, old, operand) | old & !mask;
                    assert_eq!(u64::from_le_bytes(bytes(&test, DATA)), new, "{word:#x} {operand:#x}");
                }
            }
        }
    }
}

#[test]
fn register_offsets_extend() {
    // ldr x0, [x1, w2, uxtw]; ldr x0, [x1, w2, sxtw #3]; ldr x0, [x1, x2, sxtx #3].
    for (word, x2, offset) in [
        (0xf862_4820, 0xffff_ffff_0000_0010, 16),
        (0xf862_d820, 0x1234_5678_ffff_ffff, -8),
        (0xf862_f820, u64::MAX - 1, -16),
    ] {
        let mut test = with_bytes(&[word], &[0, DATA + 16, x2]);
        test.steps(1);
        let at = (DATA + 16).wrapping_add_signed(offset);
        assert_eq!(registers::<1>(&test)[0], u64::from_le_bytes(bytes(&test, at)), "{word:#x}");
    }
}

#[test]
fn user_accesses_have_the_permissions_of_el0() {
    /// Virtual addresses at which EL0 may access RAM, by an entry of the level 1 table at RAM + 1 MiB.
    const USER: u64 = 0x8000_0000;
    let code = [
        0xb840_1820, // ldtr w0, [x1, #1]
        0x7800_2822, // sttrh w2, [x1, #2]
        0xb840_1860, // ldtr w0, [x3, #1]
    ];
    let mut test = with_bytes(&code, &[0, USER + (DATA - RAM), 0x1234, DATA]);
    let block: u64 = RAM | 1 << 10 | 3 << 8 | 1 << 6 | 1;
    test.memory.write(Gpa(RAM + (1 << 20) + 8 * (USER >> 30)), &block.to_le_bytes()).unwrap();
    test.steps(2);
    assert_eq!(test.cpu.x[0], 0x8483_8281);
    assert_eq!(bytes::<5>(&test, DATA), [0x80, 0x81, 0x34, 0x12, 0x84]);
    // A permission fault at level 1, of a read.
    let expected = Exception::DataAbort { iss: 0x0d, far: DATA + 1 };
    assert_eq!(test.step(), Stop::Exception(expected));
}
