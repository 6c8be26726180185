//! Accesses to unmapped and to read-only memory.

use super::{
    Outcome,
    guest::{DEVICE, EXTRA, Event, Guest, PAGE, fail, same},
};
use crate::{Region, Vm};
use tearless_memory::Gpa;

/// Loads of every size and extension from the device, one into XZR.
const READS: &[u32] = &[
    0x3940_0360, // ldrb w0, [x27]
    0x39c0_0761, // ldrsb w1, [x27, #1]
    0x3980_0762, // ldrsb x2, [x27, #1]
    0x7940_0763, // ldrh w3, [x27, #2]
    0x79c0_0764, // ldrsh w4, [x27, #2]
    0x7980_0765, // ldrsh x5, [x27, #2]
    0xb940_0766, // ldr w6, [x27, #4]
    0xb980_0767, // ldrsw x7, [x27, #4]
    0xf940_0768, // ldr x8, [x27, #8]
    0xf940_077f, // ldr xzr, [x27, #8]
    0xf900_0380, // str x0, [x28]
];

pub(super) fn reads<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, READS)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.answer = 0x8182_8384_8586_8788;
    for (offset, size) in [(0, 1), (1, 1), (1, 1), (2, 2), (2, 2), (2, 2), (4, 4), (4, 4), (8, 8), (8, 8)] {
        vcpu.expect(Event::Read { gpa: DEVICE + offset, size })?;
    }
    same("w0 at the end", vcpu.finish()?, 0x88)?;
    let expected = [
        0x88,
        0xffff_ff88,
        0xffff_ffff_ffff_ff88,
        0x8788,
        0xffff_8788,
        0xffff_ffff_ffff_8788,
        0x8586_8788,
        0xffff_ffff_8586_8788,
        0x8182_8384_8586_8788,
    ];
    same("x0 to x8", &vcpu.state()?.x[..9], &expected[..])
}

/// Stores of every size to the device, two of XZR.
const WRITES: &[u32] = &[
    0x3900_0360, // strb w0, [x27]
    0x7900_0760, // strh w0, [x27, #2]
    0xb900_0760, // str w0, [x27, #4]
    0xf900_0760, // str x0, [x27, #8]
    0x3900_037f, // strb wzr, [x27]
    0xf900_077f, // str xzr, [x27, #8]
    0xf900_0380, // str x0, [x28]
];

pub(super) fn writes<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, WRITES)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.change(|state| state.x[0] = 0x8182_8384_8586_8788)?;
    for (offset, size, value) in [
        (0, 1, 0x88),
        (2, 2, 0x8788),
        (4, 4, 0x8586_8788),
        (8, 8, 0x8182_8384_8586_8788),
        (0, 1, 0),
        (8, 8, 0),
    ] {
        vcpu.expect(Event::Write { gpa: DEVICE + offset, size, value })?;
    }
    vcpu.finish().map(drop)
}

/// Accesses whose syndrome hardware does not describe: pairs, write-back, vectors.
const COMPLEX: &[u32] = &[
    0xa8c1_0760, // ldp x0, x1, [x27], #16
    0xb840_4f62, // ldr w2, [x27, #4]!
    0x29bf_8760, // stp w0, w1, [x27, #-4]!
    0xf81f_0761, // str x1, [x27], #-16
    0x3dc0_0360, // ldr q0, [x27]
    0x3d80_0360, // str q0, [x27]
    0xf900_0380, // str x0, [x28]
];

/// Not for engines whose hardware gives no syndrome for these accesses.
pub(super) fn complex<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, COMPLEX)?;
    let mut vcpu = guest.vcpu(0)?;
    let read = |offset, size| Event::Read { gpa: DEVICE + offset, size };
    let write = |offset, size, value| Event::Write { gpa: DEVICE + offset, size, value };
    vcpu.answer = 1;
    vcpu.expect(read(0, 8))?;
    vcpu.answer = 2;
    vcpu.expect(read(8, 8))?;
    vcpu.answer = 3;
    vcpu.expect(read(20, 4))?;
    vcpu.expect(write(16, 4, 1))?;
    vcpu.expect(write(20, 4, 2))?;
    vcpu.expect(write(16, 8, 2))?;
    vcpu.answer = 0x10;
    vcpu.expect(read(0, 8))?;
    vcpu.answer = 0x20;
    vcpu.expect(read(8, 8))?;
    vcpu.expect(write(0, 8, 0x10))?;
    vcpu.expect(write(8, 8, 0x20))?;
    vcpu.finish()?;
    let state = vcpu.state()?;
    same("x0 to x2", &state.x[..3], &[1, 2, 3])?;
    same("x27", state.x[27], DEVICE)
}

/// Writes to read-only memory, then reads it.
const READ_ONLY: &[u32] = &[
    0xb900_0720, // str w0, [x25, #4]
    0xf940_0321, // ldr x1, [x25]
    0xf900_0380, // str x0, [x28]
];

pub(super) fn read_only<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, READ_ONLY)?;
    guest.put_u64(0, 0x1122_3344_5566_7788)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.change(|state| state.x[0] = 0x99)?;
    vcpu.expect(Event::Write { gpa: 4, size: 4, value: 0x99 })?;
    vcpu.finish()?;
    same("what memory holds", vcpu.x(1)?, 0x1122_3344_5566_7788)
}

/// Reads memory three times.
const UNMAP: &[u32] = &[
    0xf940_0300, // ldr x0, [x24]
    0xf900_0380, // str x0, [x28]
    0xf940_0301, // ldr x1, [x24]
    0xf900_0381, // str x1, [x28]
    0xf940_0302, // ldr x2, [x24]
    0xf900_0382, // str x2, [x28]
];

pub(super) fn unmap<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, UNMAP)?;
    guest.put_u64(EXTRA, 7)?;
    let mut vcpu = guest.vcpu(0)?;
    vcpu.answer = 8;
    same("the first read", vcpu.finish()?, 7)?;
    let range = Gpa(EXTRA)..Gpa(EXTRA + PAGE);
    guest.vm.unmap(range.clone()).map_err(fail)?;
    vcpu.expect(Event::Read { gpa: EXTRA, size: 8 })?;
    same("the read of what was unmapped", vcpu.finish()?, 8)?;
    guest.vm.map(&Region { range, memory: guest.memory.clone(), writable: true }).map_err(fail)?;
    same("the read of what was mapped again", vcpu.finish()?, 7)
}
