//! The code that runs in the guest: the entries of all services, and what they share.
//!
//! ```text
//!   guest calls a service ─► its entry: X16 = number ─► common: registers into a frame on the stack
//!      ─► frame's address to the doorbell ─► the host does the work and leaves an action in the frame
//!           0 return X0        1 call a function of the guest, then ring again      2 the same, with fresh code
//!           3 ring again       4 go on with another frame                            5 HVC
//! ```
//! Nothing here needs the engine to show registers to the host: whatever runs a guest can run this. Runtime services have a
//! frame of their own beside the code, whose physical address the host knows wherever the OS maps it; what their
//! pointers point to is copied by the guest's own instructions, which see the OS's addresses.

/// Where things are in the region that is kept for the OS's calls; bytes from its start, which is 64 KiB aligned.
pub(crate) mod place {
    /// The doorbell's address, as the guest's instructions need it.
    pub const DOORBELL: u64 = 0x800;
    pub const STACK: u64 = 0x808;
    pub const TTBR: u64 = 0x810;
    pub const MAIR: u64 = 0x818;
    pub const TCR: u64 = 0x820;
    /// The entries, two instructions for each service.
    pub const ENTRIES: u64 = 0x1000;
    pub const VECTORS: u64 = 0x5000;
    pub const TABLES: u64 = 0x6000;
    pub const RUNTIME_FRAME: u64 = 0x8000;
    /// What runtime services read from the OS's memory.
    pub const INPUTS: u64 = 0x9000;
    /// The content of a variable, on its way in or out.
    pub const DATA: u64 = 0x1_0000;
    /// How long all of it is.
    pub const SIZE: u64 = 0x3_0000;
}

/// Registers of the doorbell: bytes from its start.
pub(crate) mod doorbell {
    /// A boot service was called; the value is the frame.
    pub const CALL: u64 = 0;
    /// A frame's action has been done.
    pub const AGAIN: u64 = 8;
    /// A runtime service was called.
    pub const RUNTIME: u64 = 0x10;
    /// The copies of a runtime service have been done.
    pub const COPIED: u64 = 0x18;
    /// An exception: its return address, the address at fault, its syndrome.
    pub const ELR: u64 = 0x20;
    pub const FAR: u64 = 0x28;
    pub const ESR: u64 = 0x30;
}

/// Where things are in a frame.
pub(crate) mod frame {
    /// X0 to X7. X0 is the result.
    pub const ARGS: u64 = 0;
    pub const NUMBER: u64 = 0x40;
    pub const ACTION: u64 = 0x48;
    /// The function to call, the frame to unwind to, the function of HVC, or how many copies.
    pub const TARGET: u64 = 0x50;
    /// Two arguments; the first is the result afterwards.
    pub const CALL_ARGS: u64 = 0x58;
    /// The caller's stack pointer.
    pub const SP: u64 = 0x80;
    /// In the runtime frame: copies of to, from, length, and whether it is text (of `length` characters at most).
    pub const COPIES: u64 = 0x100;
}

/// Actions of a frame.
pub(crate) mod action {
    pub const RETURN: u64 = 0;
    pub const CALL: u64 = 1;
    pub const CALL_FRESH: u64 = 2;
    pub const AGAIN: u64 = 3;
    pub const UNWIND: u64 = 4;
    pub const HVC: u64 = 5;
    /// In the runtime frame.
    pub const COPY: u64 = 1;
}

/// Bytes from the start of [`CODE`]: where boot services and runtime services go on from their entries, and
/// where exceptions go.
const COMMON: u64 = 0x60;
const RUNTIME: u64 = 0x154;
const FAULT: u64 = 0x1ec;

/// `MOVZ X16, #number`.
const fn movz_x16(number: u16) -> u32 {
    0xd280_0010 | (number as u32) << 5
}

/// `B`, from one offset to another.
const fn branch(from: u64, to: u64) -> u32 {
    0x1400_0000 | ((to.wrapping_sub(from) >> 2) as u32 & 0x03ff_ffff)
}

/// Where the entry of service `number` is.
pub(crate) const fn entry(number: u16) -> u64 {
    place::ENTRIES + 8 * number as u64
}

/// The region's first bytes: code, entries of services `0..count` of which those for which `is_runtime` holds may be
/// called by the OS, and vectors.
pub(crate) fn image(count: u16, is_runtime: impl Fn(u16) -> bool) -> Vec<u8> {
    let mut words = vec![0u32; (place::TABLES / 4) as usize];
    let mut put = |offset: u64, word: u32| {
        if let Some(slot) = words.get_mut((offset / 4) as usize) {
            *slot = word;
        }
    };
    CODE.iter().zip(0..).for_each(|(word, i)| put(4 * i, *word));
    for number in 0..count {
        let at = entry(number);
        put(at, movz_x16(number));
        put(at + 4, branch(at + 4, if is_runtime(number) { RUNTIME } else { COMMON }));
    }
    for vector in 0..16 {
        let at = place::VECTORS + 0x80 * vector;
        put(at, branch(at, FAULT));
    }
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[rustfmt::skip]
const CODE: [u32; 134] = [
    // <base>:
    0x5800_40c1, // ldr x1, MAIR_AT
    0xd518_a201, // msr mair_el1, x1
    0x5800_40c1, // ldr x1, TCR_AT
    0xd518_2041, // msr tcr_el1, x1
    0x5800_4001, // ldr x1, TTBR_AT
    0xd518_2001, // msr ttbr0_el1, x1
    0xd503_3b9f, // dsb ish
    0xd508_871f, // tlbi vmalle1
    0xd503_3b9f, // dsb ish
    0xd503_3fdf, // isb
    0xd2a0_0601, // mov x1, #0x300000
    0xd518_1041, // msr cpacr_el1, x1
    0x1002_7e81, // adr x1, VECTORS
    0xd518_c001, // msr vbar_el1, x1
    0xd538_1001, // mrs x1, sctlr_el1
    0xd282_00a2, // mov x2, #0x1005
    0xaa02_0021, // orr x1, x1, x2
    0xd518_1001, // msr sctlr_el1, x1
    0xd503_3fdf, // isb
    0x5800_3de1, // ldr x1, STACK_AT
    0x9100_003f, // mov sp, x1
    0xd280_001d, // mov x29, #0x0
    0xd280_001e, // mov x30, #0x0
    0xd280_0010, // mov x16, #0x0
    // <common>:
    0xd104_c3ff, // sub sp, sp, #0x130
    0xa900_07e0, // stp x0, x1, [sp]
    0xa901_0fe2, // stp x2, x3, [sp, #16]
    0xa902_17e4, // stp x4, x5, [sp, #32]
    0xa903_1fe6, // stp x6, x7, [sp, #48]
    0xf900_23f0, // str x16, [sp, #64]
    0xf900_27ff, // str xzr, [sp, #72]
    0x9104_c3f1, // add x17, sp, #0x130
    0xf900_43f1, // str x17, [sp, #128]
    0xa909_7bfd, // stp x29, x30, [sp, #144]
    0xa90a_53f3, // stp x19, x20, [sp, #160]
    0xa90b_5bf5, // stp x21, x22, [sp, #176]
    0xa90c_63f7, // stp x23, x24, [sp, #192]
    0xa90d_6bf9, // stp x25, x26, [sp, #208]
    0xa90e_73fb, // stp x27, x28, [sp, #224]
    0x6d0f_27e8, // stp d8, d9, [sp, #240]
    0x6d10_2fea, // stp d10, d11, [sp, #256]
    0x6d11_37ec, // stp d12, d13, [sp, #272]
    0x6d12_3fee, // stp d14, d15, [sp, #288]
    0x5800_3ab1, // ldr x17, DOORBELL_AT
    0x9100_03f0, // mov x16, sp
    0xf900_0230, // str x16, [x17]
    // <dispatch>:
    0xf940_27f0, // ldr x16, [sp, #72]
    0xb400_0330, // cbz x16, leave
    0xf100_0a1f, // cmp x16, #0x2
    0x5400_0183, // b.cc call  // b.lo, b.ul, b.last
    0x5400_00e0, // b.eq fresh  // b.none
    0xf100_121f, // cmp x16, #0x4
    0x5400_01a3, // b.cc again  // b.lo, b.ul, b.last
    0x5400_0200, // b.eq unwind  // b.none
    0xf940_2be0, // ldr x0, [sp, #80]
    0xd400_0002, // hvc #0x0
    0x17ff_fff6, // b dispatch
    // <fresh>:
    0xd503_3b9f, // dsb ish
    0xd508_751f, // ic iallu
    0xd503_3b9f, // dsb ish
    0xd503_3fdf, // isb
    // <call>:
    0xf940_2bf0, // ldr x16, [sp, #80]
    0xa945_87e0, // ldp x0, x1, [sp, #88]
    0xd63f_0200, // blr x16
    0xf900_2fe0, // str x0, [sp, #88]
    // <again>:
    0x5800_37f1, // ldr x17, DOORBELL_AT
    0x9100_03f0, // mov x16, sp
    0xf900_0630, // str x16, [x17, #8]
    0x17ff_ffea, // b dispatch
    // <unwind>:
    0xf940_2bf0, // ldr x16, [sp, #80]
    0x9100_021f, // mov sp, x16
    0x17ff_ffe7, // b dispatch
    // <leave>:
    0xf940_03e0, // ldr x0, [sp]
    0xa949_7bfd, // ldp x29, x30, [sp, #144]
    0xa94a_53f3, // ldp x19, x20, [sp, #160]
    0xa94b_5bf5, // ldp x21, x22, [sp, #176]
    0xa94c_63f7, // ldp x23, x24, [sp, #192]
    0xa94d_6bf9, // ldp x25, x26, [sp, #208]
    0xa94e_73fb, // ldp x27, x28, [sp, #224]
    0x6d4f_27e8, // ldp d8, d9, [sp, #240]
    0x6d50_2fea, // ldp d10, d11, [sp, #256]
    0x6d51_37ec, // ldp d12, d13, [sp, #272]
    0x6d52_3fee, // ldp d14, d15, [sp, #288]
    0x9104_c3ff, // add sp, sp, #0x130
    0xd65f_03c0, // ret
    // <runtime>:
    0x1003_f571, // adr x17, RT_FRAME
    0xa900_0620, // stp x0, x1, [x17]
    0xa901_0e22, // stp x2, x3, [x17, #16]
    0xa902_1624, // stp x4, x5, [x17, #32]
    0xf900_2230, // str x16, [x17, #64]
    0xf900_263f, // str xzr, [x17, #72]
    0x5800_34b0, // ldr x16, DOORBELL_AT
    0xf900_0a1f, // str xzr, [x16, #16]
    // <rt_dispatch>:
    0xf940_2620, // ldr x0, [x17, #72]
    0xb400_0360, // cbz x0, rt_leave
    0xf100_141f, // cmp x0, #0x5
    0x5400_02c0, // b.eq rt_call  // b.none
    0xf940_2a29, // ldr x9, [x17, #80]
    0x9104_022a, // add x10, x17, #0x100
    // <rt_next>:
    0xb400_0209, // cbz x9, rt_again
    0xd100_0529, // sub x9, x9, #0x1
    0xa8c1_314b, // ldp x11, x12, [x10], #16
    0xa8c1_394d, // ldp x13, x14, [x10], #16
    0xb500_00ce, // cbnz x14, rt_text
    // <rt_byte>:
    0xb4ff_ff6d, // cbz x13, rt_next
    0xd100_05ad, // sub x13, x13, #0x1
    0x3840_158f, // ldrb w15, [x12], #1
    0x3800_156f, // strb w15, [x11], #1
    0x17ff_fffc, // b rt_byte
    // <rt_text>:
    0xb4ff_fecd, // cbz x13, rt_next
    0xd100_05ad, // sub x13, x13, #0x1
    0x7840_258f, // ldrh w15, [x12], #2
    0x7800_256f, // strh w15, [x11], #2
    0x35ff_ff8f, // cbnz w15, rt_text
    0x17ff_fff1, // b rt_next
    // <rt_again>:
    0x5800_31b0, // ldr x16, DOORBELL_AT
    0xf900_0e1f, // str xzr, [x16, #24]
    0x17ff_ffe8, // b rt_dispatch
    // <rt_call>:
    0xf940_2a20, // ldr x0, [x17, #80]
    0xd400_0002, // hvc #0x0
    0x17ff_fffe, // b rt_call
    // <rt_leave>:
    0xf940_0220, // ldr x0, [x17]
    0xd65f_03c0, // ret
    // <fault>:
    0x5800_30b1, // ldr x17, DOORBELL_AT
    0xd538_4020, // mrs x0, elr_el1
    0xf900_1220, // str x0, [x17, #32]
    0xd538_6000, // mrs x0, far_el1
    0xf900_1620, // str x0, [x17, #40]
    0xd538_5200, // mrs x0, esr_el1
    0xf900_1a20, // str x0, [x17, #48]
    0xd2b0_8000, // mov x0, #0x84000000
    0xf280_0100, // movk x0, #0x8
    0xd400_0002, // hvc #0x0
    0x1400_0000, // b fault+0x28
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_branch_to_the_code() {
        let image = image(3, |number| number == 2);
        let word = |at: u64| u32::from_le_bytes(image[at as usize..at as usize + 4].try_into().unwrap());
        for (number, target) in [(0, COMMON), (1, COMMON), (2, RUNTIME)] {
            let at = entry(number);
            assert_eq!(word(at), 0xd280_0010 | u32::from(number) << 5);
            let back = ((word(at + 4) << 6) as i32 >> 4) as i64;
            assert_eq!(at as i64 + 4 + back, target as i64);
        }
        // SUB SP, SP, #0x130; ADR X17, the runtime frame; LDR X17, the doorbell's address.
        assert_eq!((word(COMMON), word(FAULT)), (0xd104_c3ff, 0x5800_30b1));
        assert_eq!(place::VECTORS % 0x800, 0, "VBAR_EL1 wants that");
    }
}
