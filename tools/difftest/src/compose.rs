//! Groups of instructions that only make sense together: branches with their targets, exclusive pairs, memory
//! copies, literal loads, and control registers with legal values.

use crate::builder::Builder;
use crate::encodings::Class;
use crate::features::Features;
use crate::generate::NOP;
use crate::layout::WINDOW;
use crate::values;

/// Appends a composed group of `class` now and then; true if it did.
pub fn special(b: &mut Builder, class: Class, features: &Features) -> bool {
    match class {
        Class::Integer if b.rng.one_in(200) => misaligned_branch(b),
        Class::Integer if b.rng.one_in(8) => branch(b),
        Class::Memory if b.rng.one_in(8) => match b.rng.below(6) {
            0 | 1 => exclusive(b),
            2 => literal(b),
            3 => zero_block(b, features),
            _ if !features.has("memory copy") => false,
            4 => copy(b),
            _ => set(b),
        },
        Class::System if b.rng.one_in(4) => control(b),
        Class::System if b.rng.one_in(16) => patch(b),
        _ => false,
    }
}

fn branch(b: &mut Builder) -> bool {
    let distance = b.distance();
    let ahead = distance as u32;
    let rt = b.dest();
    let choice = b.rng.below(7);
    let random = b.rng.next_u64() as u32;
    let (name, word) = match choice {
        0 => ("b", 0x1400_0000 | ahead),
        1 if !b.keeps_link() => ("bl", 0x9400_0000 | ahead),
        2 | 3 => ("b.cond", 0x5400_0000 | ahead << 5 | random & 15),
        4 => ("cbz/cbnz", 0x3400_0000 | random & 0x8100_0000 | ahead << 5 | rt),
        5 => ("tbz/tbnz", 0x3600_0000 | random & 0x81F8_0000 | ahead << 5 | rt),
        _ => return indirect_branch(b),
    };
    b.push(name, word);
    b.branch_over(distance);
    true
}

/// ADR and BR, BLR or RET to the place that it names.
fn indirect_branch(b: &mut Builder) -> bool {
    if !b.unconditional() {
        return false;
    }
    let distance = b.distance();
    let reg = b.dest_no_zr();
    // The top byte of a branch target is ignored at EL0, as that of an address is.
    let tagged = b.rng.one_in(4);
    let ahead = distance as u32 + 1 + u32::from(tagged);
    b.push("adr", 0x1000_0000 | ahead << 5 | reg);
    if tagged {
        b.push("orr", 0xB248_1C00 | reg << 5 | reg); // orr reg, reg, #0xff00000000000000
    }
    let all = [0xD61F_0000, 0xD65F_0000, 0xD63F_0000];
    let word = *b.rng.pick(if b.keeps_link() { &all[..2] } else { &all });
    b.push("br/blr/ret", word | reg << 5);
    b.not_repeatable();
    b.branch_over(distance);
    true
}

/// BR, BLR or RET to an address that is mapped and no multiple of 4: what follows never runs.
fn misaligned_branch(b: &mut Builder) -> bool {
    // It ends a program.
    if b.program.is_some() && !b.rng.one_in(20) {
        return false;
    }
    let target = b.window() + 1 + b.rng.below(3);
    let Some(reg) = b.reserve(target) else { return false };
    let word = *b.rng.pick(&[0xD61F_0000, 0xD63F_0000, 0xD65F_0000]);
    b.push("br/blr/ret", word | reg << 5);
    true
}

/// A load-exclusive and a store-exclusive to the same place, which succeeds; sometimes CLREX between, so it fails.
fn exclusive(b: &mut Builder) -> bool {
    if !b.unconditional() {
        return false;
    }
    let random = b.rng.next_u64() as u32;
    let pair = random & 1 == 1;
    let size = if pair { 2 + (random >> 1 & 1) } else { random >> 1 & 3 };
    let bytes = if pair { 2u64 << size } else { 1 << size };
    // Now and then misaligned: that works within 16 aligned bytes (FEAT_LSE2) and faults beyond.
    let mut address = b.target(bytes, bytes);
    // A program may survive the fault, but its store-exclusive then has no monitor.
    if b.program.is_some() {
        address &= !(bytes - 1);
    }
    let Some(base) = b.reserve(address) else { return false };
    let (rt, rt2) = (b.dest(), b.dest());
    let (store, store2, status) = (b.dest(), b.dest(), b.dest_no_zr());
    if (pair && rt == rt2) || status == store || (pair && status == store2) {
        return false;
    }
    let top = 0x0800_0000 | size << 30 | (u32::from(pair) << 21) | base << 5;
    let second = |reg: u32| if pair { reg << 10 } else { 31 << 10 };
    b.push("ldxr", top | 1 << 22 | 31 << 16 | (random >> 3 & 1) << 15 | second(rt2) | rt);
    if random >> 4 & 7 == 0 {
        b.push("clrex", 0xD503_3F5F);
    }
    b.push("stxr", top | status << 16 | (random >> 7 & 1) << 15 | second(store2) | store);
    true
}

/// A literal load of words that come before it in its slot.
fn literal(b: &mut Builder) -> bool {
    let words = b.words.len() as u64 + 1;
    let random = b.rng.next_u64() as u32;
    let (vector, opc) = (random & 1, random >> 1 & 3);
    let size = match (vector, opc) {
        (0, 0 | 2) | (1, 0) => 1,
        (0, 1) | (1, 1) => 2,
        (1, 2) => 4,
        _ => return false,
    };
    if words < size {
        return false;
    }
    let back = size + b.rng.below(words - size + 1);
    let rt = if vector == 1 { b.rng.below(32) as u32 } else { b.dest() };
    let imm = (back as u32).wrapping_neg() & 0x7FFFF;
    b.push("ldr literal", 0x1800_0000 | opc << 30 | vector << 26 | imm << 5 | rt);
    true
}

/// DC ZVA, at any address in a block that lies in the window.
fn zero_block(b: &mut Builder, features: &Features) -> bool {
    let Some(block) = features.zero_block().filter(|block| 2 * block <= WINDOW as u64) else { return false };
    let window = b.window();
    let first = window.next_multiple_of(block);
    let blocks = (window + WINDOW as u64 - first) / block;
    let address = first + b.rng.below(blocks * block);
    let Some(reg) = b.reserve(address) else { return false };
    b.push("dc zva", 0xD50B_7420 | reg);
    true
}

/// CPYF* or CPY*: prologue, main and epilogue.
fn copy(b: &mut Builder) -> bool {
    if !b.unconditional() || b.left() < 3 {
        return false;
    }
    let random = b.rng.next_u64() as u32;
    let forward_only = random & 1 == 0;
    let most = if b.rng.one_in(3) { 300 } else { 40 };
    let length = b.rng.below(most);
    let window = b.window();
    let (to, from) = if forward_only {
        // Overlap has no defined result: the halves of the window hold source and destination.
        let half = WINDOW as u64 / 2;
        let (first, second) =
            (window + b.rng.below(half - length), window + half + b.rng.below(half - length));
        if random & 2 == 0 { (first, second) } else { (second, first) }
    } else {
        let room = WINDOW as u64 - length;
        (window + b.rng.below(room), window + b.rng.below(room))
    };
    let Some(rd) = b.reserve(to) else { return false };
    let Some(rs) = b.reserve(from) else { return false };
    let Some(rn) = b.reserve(length) else { return false };
    let top = if forward_only { 0x1900_0400 } else { 0x1D00_0400 };
    let options = (random >> 4 & 15) << 12;
    for (stage, name) in [(0, "cpyp"), (1, "cpym"), (2, "cpye")] {
        b.push(name, top | stage << 22 | rs << 16 | options | rn << 5 | rd);
    }
    b.not_repeatable();
    true
}

/// SETP, SETM, SETE.
fn set(b: &mut Builder) -> bool {
    if !b.unconditional() || b.left() < 3 {
        return false;
    }
    let most = if b.rng.one_in(3) { 700 } else { 70 };
    let length = b.rng.below(most);
    let window = b.window();
    let to = window + b.rng.below(WINDOW as u64 - length);
    let Some(rd) = b.reserve(to) else { return false };
    let Some(rn) = b.reserve(length) else { return false };
    let mut rs = b.dest();
    while rs == rd || rs == rn {
        rs = b.dest();
    }
    let options = (b.rng.below(4) as u32) << 12;
    for (stage, name) in [(0, "setp"), (1, "setm"), (2, "sete")] {
        b.push(name, 0x19C0_0400 | stage << 14 | rs << 16 | options | rn << 5 | rd);
    }
    b.not_repeatable();
    true
}

/// MSR FPCR or FPSR from a register that holds a legal value.
fn control(b: &mut Builder) -> bool {
    let fpcr = b.rng.one_in(2);
    let value = if fpcr { values::fpcr(&mut b.rng) } else { values::fpsr(&mut b.rng) };
    let Some(reg) = b.reserve(value) else { return false };
    if fpcr {
        b.push("msr fpcr", 0xD51B_4400 | reg);
    } else {
        b.push("msr fpsr", 0xD51B_4420 | reg);
    }
    true
}

/// Code that changes an instruction ahead of itself and makes the change visible as Arm ARM B2.7.4.3 has it.
fn patch(b: &mut Builder) -> bool {
    if !b.unconditional() || b.left() < 3 {
        return false;
    }
    let rd = b.dest_no_zr();
    let movz = 0xD280_0000 | (b.rng.below(0x1_0000) as u32) << 5 | rd;
    let Some(value) = b.reserve(u64::from(movz)) else { return false };
    b.note_written(rd);
    let address = b.dest_no_zr();
    b.push("adr", 0x1000_0000 | 7 << 5 | address);
    b.push("str code", 0xB900_0000 | address << 5 | value);
    b.push("dc cvau", 0xD50B_7B20 | address);
    b.push("dsb", 0xD503_3B9F);
    b.push("ic ivau", 0xD50B_7520 | address);
    b.push("dsb", 0xD503_3B9F);
    b.push("isb", 0xD503_3FDF);
    b.push("patched nop", NOP);
    b.not_repeatable();
    true
}

/// Turns the last instructions into a loop that runs a few times.
pub fn repeat(b: &mut Builder) {
    let most = b.repeatable() as u64;
    if most == 0 || !b.unconditional() {
        return;
    }
    let body = 1 + b.rng.below(most) as u32;
    let times = 1 + b.rng.below(4);
    let Some(counter) = b.reserve(times) else { return };
    b.push("sub", 0xD100_0400 | counter << 5 | counter);
    b.push("cbnz", 0xB500_0000 | ((body + 1).wrapping_neg() & 0x7_FFFF) << 5 | counter);
    b.not_repeatable();
}
