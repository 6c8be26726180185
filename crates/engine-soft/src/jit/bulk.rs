//! Thunks for memory copies and sets: the small ones that the TLB knows are done here, the others by Rust functions.

use super::{
    asm::{Alu, Asm, Cc, Gpr, Mem, Patch, RAX, RCX, RDI, RDX, RSI, Rot},
    asm_simd::Xmm,
    runtime,
    state::{in_bank, page_index},
    thunks::call_and_return,
};
use crate::cpu::{PAGE, offset};

/// Most bytes that are moved here.
const SMALL: i32 = 64;

/// `va`, where RCX bytes are, becomes a host address if its page is among the `tags`. Uses RSI and RDI.
fn translate(asm: &mut Asm, va: Gpr, tags: usize) -> Patch {
    asm.lea(true, RSI, Mem::indexed(va, RCX, 0, -1));
    asm.rot_imm(Rot::Shr, true, RSI, PAGE.ilog2() as u8);
    page_index(asm, RDI, va);
    asm.alu(Alu::Cmp, true, RSI, in_bank(RDI, tags));
    let miss = asm.jcc_forward(Cc::Ne);
    asm.alu(Alu::Add, true, va, in_bank(RDI, offset::ADDEND));
    miss
}

/// The last bytes of RCX at `base`.
fn last(base: Gpr, bytes: i32) -> Mem {
    Mem::indexed(base, RCX, 0, -bytes)
}

/// Emits what depends on the size in RCX, from 1 to [`SMALL`]: `step(asm, n)` moves that many bytes at the start and at
/// the end, which may overlap.
fn by_size(asm: &mut Asm, step: impl Fn(&mut Asm, i32)) {
    let mut ends = Vec::new();
    for least in [33, 16, 8, 4, 2] {
        asm.alu_imm(Alu::Cmp, false, RCX, least);
        let smaller = asm.jcc_forward(Cc::B);
        step(asm, if least == 33 { 32 } else { least });
        ends.push(asm.jmp_forward());
        asm.bind(smaller);
    }
    step(asm, 1);
    for end in ends {
        asm.bind(end);
    }
}

/// Emits a thunk: `guard` is the way to `function` for sizes that are not small, `body` moves a small number of bytes and
/// returns its ways out when it cannot.
fn thunk(asm: &mut Asm, function: u64, body: impl FnOnce(&mut Asm) -> Vec<Patch>) {
    asm.alu_imm(Alu::Cmp, true, RCX, SMALL);
    let large = asm.jcc_forward(Cc::A);
    asm.test(true, RCX, RCX);
    let nothing = asm.jcc_forward(Cc::E);
    asm.push(RSI);
    asm.push(RDI);
    let misses = body(asm);
    asm.pop(RDI);
    asm.pop(RSI);
    asm.bind(nothing);
    asm.mov_imm(RAX, 1);
    asm.ret();
    for miss in misses {
        asm.bind(miss);
    }
    asm.pop(RDI);
    asm.pop(RSI);
    asm.mov_imm(RAX, 0);
    asm.ret();
    asm.bind(large);
    call_and_return(asm, function);
}

/// See [`super::thunks::Thunks::copy`].
pub(super) fn copy(asm: &mut Asm) {
    thunk(asm, runtime::copy as *const () as u64, |asm| {
        let misses = vec![translate(asm, RDX, offset::READ), translate(asm, RAX, offset::WRITE)];
        // All is loaded before anything is stored, so that overlaps do not matter.
        by_size(asm, |asm, n| match n {
            32 => {
                asm.vmovups_load(Xmm(13), Mem::at(RDX, 0));
                asm.vmovups_load(Xmm(14), Mem::at(RDX, 16));
                asm.vmovups_load(Xmm(15), last(RDX, 32));
                asm.vmovups_load(Xmm(12), last(RDX, 16));
                asm.vmovups_store(Mem::at(RAX, 0), Xmm(13));
                asm.vmovups_store(Mem::at(RAX, 16), Xmm(14));
                asm.vmovups_store(last(RAX, 32), Xmm(15));
                asm.vmovups_store(last(RAX, 16), Xmm(12));
            }
            16 => {
                asm.vmovups_load(Xmm(13), Mem::at(RDX, 0));
                asm.vmovups_load(Xmm(14), last(RDX, 16));
                asm.vmovups_store(Mem::at(RAX, 0), Xmm(13));
                asm.vmovups_store(last(RAX, 16), Xmm(14));
            }
            _ => {
                let size = n.ilog2() as u8;
                asm.movzx_or_mov(size, RSI, Mem::at(RDX, 0));
                asm.movzx_or_mov(size, RDI, last(RDX, n));
                asm.store(size, Mem::at(RAX, 0), RSI);
                asm.store(size, last(RAX, n), RDI);
            }
        });
        misses
    });
}

/// See [`super::thunks::Thunks::set`].
pub(super) fn set(asm: &mut Asm) {
    thunk(asm, runtime::set as *const () as u64, |asm| {
        let misses = vec![translate(asm, RAX, offset::WRITE)];
        asm.movzx(0, RDX, RDX);
        asm.mov_imm(RSI, 0x0101_0101_0101_0101);
        asm.imul(true, RDX, RSI);
        let all = Xmm(13);
        asm.v_from_gpr(3, all, RDX);
        // vpunpcklqdq xmm13, xmm13, xmm13
        asm.raw(&[0xc4, 0x41, 0x11, 0x6c, 0xed]);
        by_size(asm, |asm, n| {
            if n < 16 {
                let size = n.ilog2() as u8;
                asm.store(size, Mem::at(RAX, 0), RDX);
                asm.store(size, last(RAX, n), RDX);
                return;
            }
            for at in (0..n).step_by(16) {
                asm.vmovups_store(Mem::at(RAX, at), all);
                asm.vmovups_store(last(RAX, at + 16), all);
            }
        });
        misses
    });
}
