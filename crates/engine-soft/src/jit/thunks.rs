//! The few pieces of code that all blocks share: the way in, the ways out, and the calls of Rust functions.

use std::mem::offset_of;

use super::{
    asm::{Alu, Asm, Cc, Gpr, Mem, Patch, R12, R13, R14, R15, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP, Rot},
    bulk, runtime,
    state::{BIAS, PINNED, VOLATILE, field, load_bank, of_flags_image, slot, to_flags_image, x},
    translate::simd,
};
use crate::cpu::{PAGE, SP, offset};

/// Their addresses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Thunks {
    /// `fn(cpu, code)`: runs `code` until something leaves.
    pub enter: u64,
    /// Jump: back to the caller of `enter`.
    pub leave: u64,
    /// Jump: somebody wants attention at the instruction at offset ECX of the current page.
    pub attend: u64,
    /// Jump: goes on at the guest address that the jump cache does not know, with RAX and RCX as [`probe`] leaves them.
    pub branch_miss: u64,
    /// Jump: goes on at guest address RAX, where the return stack did not lead.
    pub return_miss: u64,
    /// Jump: goes on at the instruction at offset ECX of the current page.
    pub again: u64,
    /// Jump: as `again`, in careful code.
    pub again_carefully: u64,
    /// Jump: follows the exit at offset EAX, which is not linked.
    pub link: u64,
    /// Call: looks for the translation of page number RDX, if address RAX is there too, for reading or writing; EAX says
    /// whether the bank has it now.
    pub fill: [u64; 2],
    /// Call: has the interpreter execute instruction EAX at offset ECX of the current page.
    pub interpret: u64,
    /// Call: the same for an instruction that has nothing to do with floating point, which is less to save.
    pub interpret_integer: u64,
    /// Call: copies RCX bytes from guest address RDX to RAX if that is simple; EAX says whether it did. Destroys XMM
    /// registers.
    pub copy: u64,
    /// Call: sets RCX bytes at guest address RAX to DL, in the same way.
    pub set: u64,
    /// Not code: the vector constants.
    pub constants: u64,
    /// Not code: the flag, see [`crate::cpu::Flag`].
    pub flag: u64,
    /// Not code: the jump cache.
    pub jumps: u64,
}

/// Entries of the jump cache.
pub(crate) const JUMP_ENTRIES: usize = 1 << JUMP_BITS;
const JUMP_BITS: u32 = 17;
/// The bits of an address that find its entry: those of the place in its page, and some of the page.
pub(crate) const JUMP_MASK: u32 = (JUMP_ENTRIES as u32 - 1) << 2;

/// The code at a guest address. Most of its place in the page is in the entry's index; all else is in `tag`: its page, as
/// [`slot::HERE`] has it, and the two lowest bits.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
pub(crate) struct JumpEntry {
    pub tag: u64,
    pub code: u64,
}

/// Saved by the caller of `enter`, besides RBP.
const CALLEE_SAVED: [Gpr; 5] = [RBX, R12, R13, R14, R15];

/// Emits all thunks into `asm`, for a vCPU with its flag and its jump cache at these addresses.
pub(crate) fn emit(asm: &mut Asm, flag: u64, jumps: u64) -> Thunks {
    let mut t = Thunks { enter: asm.here(), flag, jumps, ..Thunks::default() };
    enter(asm);
    asm.align(16);
    t.leave = asm.here();
    leave(asm);
    asm.align(16);
    t.attend = asm.here();
    page(asm);
    asm.alu(Alu::Add, true, RAX, RCX);
    asm.store(3, field(offset::PC), RAX);
    asm.jmp(t.leave);
    asm.align(16);
    t.again = asm.here();
    page(asm);
    asm.alu(Alu::Add, true, RAX, RCX);
    call_and_go(asm, runtime::lookup as *const () as u64, |asm| asm.mov(true, RSI, RAX));
    asm.align(16);
    t.again_carefully = asm.here();
    page(asm);
    asm.alu(Alu::Add, true, RAX, RCX);
    call_and_go(asm, runtime::lookup_careful as *const () as u64, |asm| asm.mov(true, RSI, RAX));
    asm.align(16);
    t.branch_miss = asm.here();
    asm.alu(Alu::Xor, true, RAX, x(slot::KEY));
    asm.alu_imm(Alu::And, false, RCX, PAGE as i32 - 4);
    asm.alu(Alu::Or, true, RAX, RCX);
    call_and_go(asm, runtime::lookup as *const () as u64, |asm| asm.mov(true, RSI, RAX));
    asm.align(16);
    t.return_miss = asm.here();
    asm.mov(true, RSP, field(offset::RETURNS_TOP));
    let miss = probe(asm, t.jumps, Go::Jump);
    asm.bind_to(miss, t.branch_miss);
    asm.align(16);
    t.link = asm.here();
    call_and_go(asm, runtime::link as *const () as u64, |asm| asm.mov(false, RSI, RAX));
    asm.align(16);
    for writes in [0, 1] {
        t.fill[writes] = asm.here();
        fill(asm, writes as u64);
        asm.align(16);
    }
    t.interpret = asm.here();
    interpret(asm, true);
    asm.align(16);
    t.interpret_integer = asm.here();
    interpret(asm, false);
    asm.align(16);
    t.copy = asm.here();
    bulk::copy(asm);
    asm.align(16);
    t.set = asm.here();
    bulk::set(asm);
    asm.align(16);
    t.constants = asm.here();
    for constant in simd::consts::TABLE {
        asm.raw(&constant.to_le_bytes());
    }
    t
}

/// RAX = address of the current page.
pub(super) fn page(asm: &mut Asm) {
    asm.mov(true, RAX, x(slot::HERE));
    asm.alu(Alu::Xor, true, RAX, x(slot::KEY));
}

fn save(asm: &mut Asm, count: usize) {
    for (index, host) in &PINNED[..count] {
        asm.store(3, x(*index), *host);
    }
}

fn load(asm: &mut Asm, count: usize) {
    for (index, host) in &PINNED[..count] {
        asm.mov(true, *host, x(*index));
    }
}

/// `FLAGS` from [`Cpu::nzcv`](crate::cpu::Cpu::nzcv). Uses RCX and RDX.
fn flags_from_guest(asm: &mut Asm) {
    asm.mov(false, RCX, field(offset::NZCV));
    to_flags_image(asm, RCX);
    asm.store(3, x(slot::FLAGS), RCX);
}

/// The other way. Uses RDX and `tmp`.
fn flags_to_guest(asm: &mut Asm, tmp: Gpr) {
    of_flags_image(asm, tmp);
    asm.store(2, field(offset::NZCV), tmp);
}

/// MXCSR as the host has it by default: rounds to nearest, masks all exceptions, none noted.
const MXCSR: i32 = 0x1f80;
/// Its flags that FPSR has too, all but that of denormal operands.
const NOTED: u8 = 0x3d;

/// Adds the exceptions that MXCSR has noted to FPSR. Uses RAX and RDX.
fn exceptions_to_guest(asm: &mut Asm) {
    asm.stmxcsr(x(slot::MXCSR));
    asm.test8_imm(x(slot::MXCSR), NOTED);
    let none = asm.jcc_short(Cc::E);
    asm.mov(false, RAX, x(slot::MXCSR));
    asm.mov(false, RDX, RAX);
    // Invalid operation has the same place, the others are one further down without that of denormals.
    asm.alu_imm(Alu::And, false, RAX, 1);
    asm.rot_imm(Rot::Shr, false, RDX, 1);
    asm.alu_imm(Alu::And, false, RDX, 0x1e);
    asm.alu(Alu::Or, false, RAX, RDX);
    asm.alu_to(Alu::Or, false, field(offset::FPSR), RAX);
    asm.bind_short(none);
}

/// Forgets what MXCSR has noted.
fn forget_exceptions(asm: &mut Asm) {
    asm.store_imm(false, x(slot::MXCSR), MXCSR);
    asm.ldmxcsr(x(slot::MXCSR));
}

fn enter(asm: &mut Asm) {
    asm.push(RBP);
    for reg in CALLEE_SAVED {
        asm.push(reg);
    }
    // With the return address that makes 7 words: an eighth aligns the stack to 16 bytes.
    asm.alu_imm(Alu::Sub, true, RSP, 8);
    asm.lea(true, RBP, Mem::at(RDI, BIAS));
    asm.store(3, field(offset::HOST_STACK), RSP);
    asm.mov(true, RSP, field(offset::RETURNS));
    asm.mov(true, RAX, RSI);
    flags_from_guest(asm);
    forget_exceptions(asm);
    load(asm, PINNED.len());
    load_bank(asm);
    asm.jmp_to(RAX);
}

fn leave(asm: &mut Asm) {
    save(asm, PINNED.len());
    flags_to_guest(asm, RAX);
    exceptions_to_guest(asm);
    asm.store(3, field(offset::RETURNS), RSP);
    asm.mov(true, RSP, field(offset::HOST_STACK));
    asm.alu_imm(Alu::Add, true, RSP, 8);
    for reg in CALLEE_SAVED.into_iter().rev() {
        asm.pop(reg);
    }
    asm.pop(RBP);
    asm.ret();
}

/// Calls `function` with this vCPU's [`Cpu`](crate::cpu::Cpu) as its first argument, on the host's stack.
fn call_rust(asm: &mut Asm, function: u64) {
    asm.lea(true, RDI, Mem::at(RBP, -BIAS));
    asm.store(3, field(offset::RETURNS), RSP);
    asm.mov(true, RSP, field(offset::HOST_STACK));
    asm.mov_imm(RAX, function);
    asm.call_to(RAX);
    asm.mov(true, RSP, field(offset::RETURNS));
}

/// Calls `function(cpu, ..)`, which returns code, and goes there. The function neither reads nor writes registers of the
/// guest; `arguments` sets those behind the first.
fn call_and_go(asm: &mut Asm, function: u64, arguments: impl FnOnce(&mut Asm)) {
    save(asm, VOLATILE);
    arguments(asm);
    call_rust(asm, function);
    load(asm, VOLATILE);
    asm.jmp_to(RAX);
}

/// Calls `function(cpu, RAX, RDX, RCX)` and returns what it does, from a thunk that was called. The function neither reads
/// nor writes registers of the guest.
pub(super) fn call_and_return(asm: &mut Asm, function: u64) {
    save(asm, VOLATILE);
    asm.mov(true, RSI, RAX);
    call_rust(asm, function);
    load(asm, VOLATILE);
    asm.ret();
}

/// How a probe ends that finds what it looks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Go {
    Jump,
    Call,
}

/// Probes the jump cache at `jumps` for address RAX and goes there; returns the jump of a miss, to `branch_miss`.
pub(super) fn probe(asm: &mut Asm, jumps: u64, go: Go) -> Patch {
    asm.mov(false, RCX, RAX);
    asm.alu_imm(Alu::And, true, RAX, -(PAGE as i32) | 3);
    asm.alu_imm(Alu::And, false, RCX, JUMP_MASK as i32);
    asm.lea_at(RDX, jumps);
    asm.alu(Alu::Xor, true, RAX, x(slot::KEY));
    // The index times four is what the mask leaves.
    const SCALE: u8 = size_of::<JumpEntry>().ilog2() as u8 - 2;
    let entry = |offset| Mem::indexed(RDX, RCX, SCALE, offset as i32);
    asm.alu(Alu::Cmp, true, RAX, entry(offset_of!(JumpEntry, tag)));
    let miss = asm.jcc_forward(Cc::Ne);
    asm.store(3, x(slot::HERE), RAX);
    match go {
        Go::Jump => asm.jmp_to(entry(offset_of!(JumpEntry, code))),
        Go::Call => asm.call_to(entry(offset_of!(JumpEntry, code))),
    }
    miss
}

/// Registers of the guest are neither read nor written.
fn fill(asm: &mut Asm, writes: u64) {
    asm.rot_imm(Rot::Shr, true, RAX, PAGE.ilog2() as u8);
    asm.alu(Alu::Cmp, true, RAX, RDX);
    let same = asm.jcc_short(Cc::E);
    asm.mov_imm(RAX, 0);
    asm.ret();
    asm.bind_short(same);
    save(asm, VOLATILE);
    asm.mov(true, RSI, RDX);
    asm.rot_imm(Rot::Shl, true, RSI, PAGE.ilog2() as u8);
    asm.mov_imm(RDX, writes);
    call_rust(asm, runtime::fill as *const () as u64);
    load(asm, VOLATILE);
    asm.ret();
}

/// EAX: instruction; ECX: offset. Returns when execution falls through, else goes where the runtime says. With `float` the
/// instruction may read FPSR or compute with the host's floating point.
fn interpret(asm: &mut Asm, float: bool) {
    // The runtime may change to another return stack: this one shall be as blocks have it.
    asm.pop_mem(field(offset::BACK));
    save(asm, PINNED.len());
    asm.mov(false, RSI, RAX);
    flags_to_guest(asm, RAX);
    if float {
        exceptions_to_guest(asm);
    }
    asm.mov(false, RDX, RCX);
    call_rust(asm, runtime::interpret as *const () as u64);
    flags_from_guest(asm);
    if float {
        forget_exceptions(asm);
    }
    load(asm, PINNED.len());
    load_bank(asm);
    asm.test(true, RAX, RAX);
    let elsewhere = asm.jcc_short(Cc::Ne);
    asm.push_mem(field(offset::BACK));
    asm.ret();
    asm.bind_short(elsewhere);
    asm.jmp_to(RAX);
}

const _: () = assert!(PINNED[9].0 == SP && JUMP_MASK as u64 >= PAGE - 4);
