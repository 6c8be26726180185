//! Two vCPUs.

use std::thread;

use super::{
    Outcome,
    guest::{DATA, Guest, RAM, Running, same},
    memory::{WINDOW, descriptor, page, tables, translate},
};
use crate::{VcpuState, Vm};

/// Runs vCPUs 0 and 1 at once to their ends; `prepare` sets the state of vCPU `index`. What they stored at their ends.
fn both<V: Vm>(guest: &Guest<V>, prepare: impl Fn(u64, &mut VcpuState) + Sync) -> Result<[u64; 2], String> {
    let run = |index: u32| -> Result<u64, String> {
        let mut vcpu: Running<V> = guest.vcpu(index)?;
        vcpu.change(|state| prepare(u64::from(index), state))?;
        vcpu.finish()
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| run(1));
        let first = run(0);
        let second = other.join().map_err(|_| "a vCPU thread panicked")?;
        Ok([first?, second?])
    })
}

/// How often the programs go round.
const ROUNDS: u64 = 20_000;
/// Where the second program of a case is.
const SECOND: u64 = RAM + 0x1000;

/// Adds 1 to three counters X0 times each: by exclusives, by LDADD, by CAS.
const COUNT: &[u32] = &[
    0x9101_0341, // add x1, x26, #64
    0x9102_0342, // add x2, x26, #128
    // again:
    0xc85f_7f43, // ldxr x3, [x26]
    0x9100_0463, // add x3, x3, #1
    0xc804_7f43, // stxr w4, x3, [x26]
    0x35ff_ffa4, // cbnz w4, again
    0xd280_0023, // mov x3, #1
    0xb823_0024, // ldadd w3, w4, [x1]
    0x7940_0045, // ldrh w5, [x2]
    // retry:
    0x2a05_03e6, // mov w6, w5
    0x1100_04a3, // add w3, w5, #1
    0x48a5_7c43, // cash w5, w3, [x2]
    0x6b06_00bf, // cmp w5, w6
    0x54ff_ff81, // b.ne retry
    0xd100_0400, // sub x0, x0, #1
    0xb5ff_fe60, // cbnz x0, again
    0xf900_0380, // str x0, [x28]
];

pub(super) fn counters<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, COUNT)?;
    both(&guest, |_, state| state.x[0] = ROUNDS)?;
    same("the exclusives' counter", guest.u64(DATA)?, 2 * ROUNDS)?;
    same("LDADD's counter", guest.u64(DATA + 64)?, 2 * ROUNDS)?;
    same("CASH's counter", guest.u64(DATA + 128)?, 2 * ROUNDS)
}

/// Adds 1 to the low and -1 to the high half of a pair X0 times: by exclusives, then by CASP.
const COUNT_PAIR: &[u32] = &[
    // again:
    0xc87f_8f42, // ldaxp x2, x3, [x26]
    0x9100_0442, // add x2, x2, #1
    0xd100_0463, // sub x3, x3, #1
    0xc824_8f42, // stlxp w4, x2, x3, [x26]
    0x35ff_ff84, // cbnz w4, again
    0xa940_0f42, // ldp x2, x3, [x26]
    // retry:
    0xaa02_03e8, // mov x8, x2
    0xaa03_03e9, // mov x9, x3
    0x9100_0444, // add x4, x2, #1
    0xd100_0465, // sub x5, x3, #1
    0x4862_ff44, // caspal x2, x3, x4, x5, [x26]
    0xeb08_005f, // cmp x2, x8
    0xfa49_0060, // ccmp x3, x9, #0, eq
    0x54ff_ff21, // b.ne retry
    0xd100_0400, // sub x0, x0, #1
    0xb5ff_fe20, // cbnz x0, again
    0xf900_0380, // str x0, [x28]
];

pub(super) fn pairs<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, COUNT_PAIR)?;
    both(&guest, |_, state| state.x[0] = ROUNDS)?;
    same("the low half", guest.u64(DATA)?, 4 * ROUNDS)?;
    same("the high half", guest.u64(DATA + 8)?, (4 * ROUNDS).wrapping_neg())
}

/// Sends the numbers 1 to X0: first the message, then with release the flag.
const SEND: &[u32] = &[
    0x9101_0341, // add x1, x26, #64
    0xd280_0002, // mov x2, #0
    // again:
    0x9100_0442, // add x2, x2, #1
    0xf900_0342, // str x2, [x26]
    0xc89f_fc22, // stlr x2, [x1]
    0xeb00_005f, // cmp x2, x0
    0x54ff_ff81, // b.ne again
    0xf900_0380, // str x0, [x28]
];

/// Receives until the flag is X0; X5 counts messages older than their flag.
const RECEIVE: &[u32] = &[
    0x9101_0341, // add x1, x26, #64
    0xd280_0005, // mov x5, #0
    // again:
    0xc8df_fc22, // ldar x2, [x1]
    0xf940_0343, // ldr x3, [x26]
    0xeb02_007f, // cmp x3, x2
    0x9a85_24a5, // cinc x5, x5, lo
    0xeb00_005f, // cmp x2, x0
    0x54ff_ff61, // b.ne again
    0xf900_0385, // str x5, [x28]
];

/// Who sees a flag sees the message that was sent before it.
pub(super) fn messages<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, SEND)?;
    guest.put_code(SECOND, RECEIVE)?;
    let [_, stale] = both(&guest, |index, state| {
        state.x[0] = ROUNDS;
        state.pc += index * (SECOND - RAM);
    })?;
    same("messages older than their flag", stale, 0)
}

/// X0 rounds of: meet the other CPU, store the round to X1, read X3, both ordered. Meeting counts up at X7. X5 becomes
/// the number of rounds in which the other's store was not seen, and goes to X8 in one bit per round.
const STORE_BUFFER: &[u32] = &[
    0xd280_0002, // mov x2, #0
    // again:
    0x9100_0442, // add x2, x2, #1
    0xd280_0029, // mov x9, #1
    0xf8e9_00ea, // ldaddal x9, x10, [x7]
    0xd37f_f849, // lsl x9, x2, #1
    // meet:
    0xc8df_fcea, // ldar x10, [x7]
    0xeb09_015f, // cmp x10, x9
    0x54ff_ffc3, // b.lo meet
    0xc89f_fc22, // stlr x2, [x1]
    0xc8df_fc64, // ldar x4, [x3]
    0xeb02_009f, // cmp x4, x2
    0x9a9f_27e4, // cset x4, lo
    0x3800_1504, // strb w4, [x8], #1
    0xeb00_005f, // cmp x2, x0
    0x54ff_fe61, // b.ne again
    0xf900_0382, // str x2, [x28]
];

/// A store-release is seen before a later load-acquire is done: not both CPUs can miss the other's store.
pub(super) fn store_buffer<V: Vm>(vm: V) -> Outcome {
    /// Few, because on a busy host each may cost a turn of the scheduler.
    const MEETINGS: u64 = 1000;
    const SLOTS: u64 = DATA + 0x100;
    const MEETING: u64 = DATA + 0x300;
    let missed = |index: u64| DATA + 0x1_0000 + index * 0x1_0000;
    let guest = Guest::new(vm, STORE_BUFFER)?;
    both(&guest, |index, state| {
        state.x[0] = MEETINGS;
        state.x[1] = SLOTS + 64 * index;
        state.x[3] = SLOTS + 64 * (1 - index);
        state.x[7] = MEETING;
        state.x[8] = missed(index);
    })?;
    for at in (0..MEETINGS).step_by(8) {
        let both_missed = guest.u64(missed(0) + at)? & guest.u64(missed(1) + at)?;
        same("rounds in which both missed the other's store", both_missed, 0)?;
    }
    Ok(())
}

/// Points a page at another frame: X3 is the new descriptor, X4 its place, X5 the page's number.
const EXCHANGE: &[u32] = &[
    0xf900_0083, // str x3, [x4]
    0xd503_3a9f, // dsb ishst
    0xd508_8325, // tlbi vae1is, x5
    0xd503_3b9f, // dsb ish
    0xd503_3fdf, // isb
    0xf900_0380, // str x0, [x28]
];

/// Reads a page until it is another frame.
const AWAIT: &[u32] = &[
    0xaa14_03e0, // mov x0, x20
    // again:
    0xf940_0281, // ldr x1, [x20]
    0xeb02_003f, // cmp x1, x2
    0x54ff_ffc1, // b.ne again
    0xf900_0381, // str x1, [x28]
];

/// After TLBI and DSB no vCPU uses the old translation.
pub(super) fn tlb_broadcast<V: Vm>(vm: V) -> Outcome {
    let guest = Guest::new(vm, EXCHANGE)?;
    guest.put_code(SECOND, AWAIT)?;
    tables(&guest)?;
    guest.put_u64(DATA, 1)?;
    guest.put_u64(DATA + 0x1000, 2)?;
    let ends = both(&guest, |index, state| {
        translate(state);
        state.x[2] = 2;
        state.x[3] = page(DATA + 0x1000);
        state.x[4] = descriptor(0);
        state.x[5] = WINDOW >> 12;
        state.pc += index * (SECOND - RAM);
    })?;
    same("what the new page holds", ends[1], 2)
}
