//! Alignment, changed code, and stage 1 translation.

use tearless_arm64::{esr, sysreg::name as reg};

use super::{
    Outcome,
    calls::exception,
    guest::{DATA, EXTRA, Guest, PAGE, RAM, Running, TABLES, fail, same},
};
use tearless_memory::Gpa;

use crate::{VcpuState, Vm};

/// The vector of synchronous exceptions from the current level with its own stack.
const SYNC: u64 = 0x200;
/// A gigabyte of virtual addresses that [`translate`] maps by pages.
pub(super) const WINDOW: u64 = 4 << 30;
/// Attributes of a Normal memory leaf: access flag, inner shareable, attribute index 0.
const NORMAL: u64 = 1 << 10 | 3 << 8;
/// Attributes of a Device memory leaf: attribute index 1.
const DEVICE_MEMORY: u64 = 1 << 10 | 1 << 2;

/// The descriptor of a page at `pa` of Normal memory.
pub(super) fn page(pa: u64) -> u64 {
    pa | NORMAL | 3
}

/// The address of the descriptor of page `index` of [`WINDOW`].
pub(super) fn descriptor(index: u64) -> u64 {
    TABLES + 0x2000 + 8 * index
}

/// Writes translation tables (4 KiB granule, 39-bit addresses): the first 4 GiB are the identity, Device below 1 GiB and
/// Normal above; of [`WINDOW`], page 0 is DATA, page 1 is DATA too but read-only, the rest is not mapped.
pub(super) fn tables<V: Vm>(guest: &Guest<V>) -> Outcome {
    guest.put_u64(TABLES, DEVICE_MEMORY | 1)?;
    for gigabyte in 1..4 {
        guest.put_u64(TABLES + 8 * gigabyte, gigabyte << 30 | NORMAL | 1)?;
    }
    guest.put_u64(TABLES + 8 * (WINDOW >> 30), (TABLES + 0x1000) | 3)?;
    guest.put_u64(TABLES + 0x1000, (TABLES + 0x2000) | 3)?;
    guest.put_u64(descriptor(0), page(DATA))?;
    guest.put_u64(descriptor(1), page(DATA) | 1 << 7)
}

/// Turns translation by [`tables`] on; X20, X21 and X22 are the first three pages of the window.
pub(super) fn translate(state: &mut VcpuState) {
    state.x[20..23].copy_from_slice(&[WINDOW, WINDOW + 0x1000, WINDOW + 0x2000]);
    state.sys.retain(|(register, _)| {
        ![reg::MAIR_EL1, reg::TCR_EL1, reg::TTBR0_EL1, reg::SCTLR_EL1].contains(register)
    });
    state.sys.extend([
        (reg::MAIR_EL1, 0x00ff),
        // T0SZ 25, write-back inner shareable walks; no walks by TTBR1; 40-bit physical addresses.
        (reg::TCR_EL1, 25 | 1 << 8 | 1 << 10 | 3 << 12 | 25 << 16 | 1 << 23 | 2 << 30 | 2 << 32),
        (reg::TTBR0_EL1, TABLES),
        // The RES1 bits, M, C and I.
        (reg::SCTLR_EL1, 0x30d0_0980 | 1 | 1 << 2 | 1 << 12),
    ]);
}

fn data_abort(iss: u64) -> u64 {
    u64::from(esr::ec::DABT_SAME) << esr::EC_SHIFT | esr::IL | iss
}

/// Write, not read.
const WNR: u64 = 1 << 6;
/// Translation fault at level 3.
const TRANSLATION_L3: u64 = esr::fsc::TRANSLATION_L0 as u64 + 3;
/// Permission fault at level 3.
const PERMISSION_L3: u64 = esr::fsc::PERMISSION_L0 as u64 + 3;

fn translated<V: Vm>(guest: &Guest<V>) -> Result<Running<V>, String> {
    tables(guest)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.change(translate)?;
    Ok(vcpu)
}

fn fault<V: Vm>(vcpu: &mut Running<V>, iss: u64, at: u64, far: u64) -> Outcome {
    exception(vcpu, SYNC, data_abort(iss), at)?;
    same("FAR_EL1", vcpu.sys(reg::FAR_EL1)?, far)
}

/// An unaligned load from Device memory, which RAM is when the MMU is off.
const MISALIGNED: &[u32] = &[
    0xf840_1340, // ldr x0, [x26, #1]
];

pub(super) fn alignment<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, MISALIGNED)?;
    let mut vcpu = guest.vcpu(0)?;
    fault(&mut vcpu, u64::from(esr::fsc::ALIGNMENT), RAM, DATA + 1)
}

/// Calls a function, changes its instruction as the architecture demands, and calls it again.
const MODIFY: &[u32] = &[
    0xaa1e_03f4, // mov x20, x30
    0x1000_01a1, // adr x1, func
    0x9400_000c, // bl func
    0xaa00_03e2, // mov x2, x0
    0x5280_0803, // mov w3, #0x0040
    0x72aa_5003, // movk w3, #0x5280, lsl #16
    0xb900_0023, // str w3, [x1]
    0xd50b_7b21, // dc cvau, x1
    0xd503_3b9f, // dsb ish
    0xd50b_7521, // ic ivau, x1
    0xd503_3b9f, // dsb ish
    0xd503_3fdf, // isb
    0x9400_0002, // bl func
    0xf900_0380, // str x0, [x28]
    // func:
    0x5280_0020, // mov w0, #1
    0xd65f_03c0, // ret
];

pub(super) fn self_modifying<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, MODIFY)?;
    let mut vcpu = guest.vcpu(0)?;
    same("what the new function returns", vcpu.finish()?, 2)?;
    same("what the old function returned", vcpu.x(2)?, 1)
}

/// Calls a function in a page that the host drops then, reads the page, and calls what somebody put there since.
const DROPPED: &[u32] = &[
    0xd63f_0300, // blr x24
    0xf900_0380, // str x0, [x28]
    0xf940_0300, // ldr x0, [x24]
    0xf900_0380, // str x0, [x28]
    0xd50b_7538, // ic ivau, x24
    0xd503_3b9f, // dsb ish
    0xd503_3fdf, // isb
    0xd63f_0300, // blr x24
    0xf900_0380, // str x0, [x28]
];

/// A function that returns `n`.
const fn returns(n: u32) -> [u32; 2] {
    [0x5280_0000 | n << 5, 0xd65f_03c0]
}

pub(super) fn discard<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, DROPPED)?;
    guest.put_code(EXTRA, &returns(1))?;
    let mut vcpu = guest.vcpu(0)?;
    same("what the old function returns", vcpu.finish()?, 1)?;
    // All of the region: on hosts with pages larger than it nothing can be dropped.
    let dropped = guest.memory.discard(Gpa(EXTRA), PAGE).map_err(fail)?;
    if dropped == 0 {
        guest.put_u64(EXTRA, 0)?;
    }
    same("what is left of its code", vcpu.finish()?, 0)?;
    guest.put_code(EXTRA, &returns(2))?;
    same("what the new function returns", vcpu.finish()?, 2)
}

/// Reads through a translated page, writes to it, and reads an unmapped one.
const TRANSLATED: &[u32] = &[
    0xf940_0280, // ldr x0, [x20]
    0xf900_0680, // str x0, [x20, #8]
    0xf900_02a0, // str x0, [x21]
];

pub(super) fn translation<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, TRANSLATED)?;
    guest.put_u64(DATA, 0x1234)?;
    let mut vcpu = translated(&guest)?;
    fault(&mut vcpu, WNR | PERMISSION_L3, RAM + 8, WINDOW + 0x1000)?;
    same("x0", vcpu.x(0)?, 0x1234)?;
    same("what was written through the page", guest.u64(DATA + 8)?, 0x1234)?;
    // The same store to a page that may be written.
    guest.put_u64(descriptor(3), page(DATA))?;
    vcpu.change(|state| {
        state.pc = RAM + 8;
        state.x[0] = 0x5678;
        state.x[21] = WINDOW + 0x3000;
    })?;
    guest.put_code(RAM + 12, &[END])?;
    same("the end", vcpu.finish()?, 0x5678)?;
    same("what was written at last", guest.u64(DATA)?, 0x5678)
}

/// `str x0, [x28]`, the end of a program.
const END: u32 = 0xf900_0380;

/// Reads an unmapped page.
const UNMAPPED: &[u32] = &[
    0xf940_02c0, // ldr x0, [x22]
];

pub(super) fn translation_fault<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, UNMAPPED)?;
    guest.put_code(RAM + 4, &[END])?;
    let mut vcpu = translated(&guest)?;
    fault(&mut vcpu, TRANSLATION_L3, RAM, WINDOW + 0x2000)?;
    // The default vector returns to the instruction, which finds the page that appeared meanwhile.
    guest.put_u64(descriptor(2), page(DATA))?;
    guest.put_u64(DATA, 0x4321)?;
    same("what the retried load gets", vcpu.finish()?, 0x4321)
}

/// Loads and stores pairs across the end of a page before one that is not mapped; the default vector skips nothing.
const PAIR_FAULT: &[u32] = &[
    0xa97f_86c0, // ldp x0, x1, [x22, #-8]
];

/// The same as a store with write-back.
const PAIR_FAULT_STORE: &[u32] = &[
    0xa9bf_86c0, // stp x0, x1, [x22, #-8]!
];

/// A pair that faults in its second half changes neither registers nor memory.
pub(super) fn pair_fault<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, PAIR_FAULT)?;
    let far = WINDOW + 0x2000;
    guest.put_code(RAM + 0x100, PAIR_FAULT_STORE)?;
    let mut vcpu = translated(&guest)?;
    guest.put_u64(descriptor(1), page(DATA))?;
    guest.put_u64(DATA + 0xff8, 0xaaaa)?;
    vcpu.change(|state| (state.x[0], state.x[1]) = (1, 2))?;
    fault(&mut vcpu, TRANSLATION_L3, RAM, far)?;
    same("x0 and x1", &vcpu.state()?.x[..2], &[1, 2])?;
    vcpu.change(|state| state.pc = RAM + 0x100)?;
    fault(&mut vcpu, WNR | TRANSLATION_L3, RAM + 0x100, far)?;
    same("the base register", vcpu.x(22)?, far)?;
    same("the first half", guest.u64(DATA + 0xff8)?, 0xaaaa)
}
