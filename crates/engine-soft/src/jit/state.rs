//! Where generated code keeps what: registers of the host, and places in [`Cpu`].
//!
//! RBP points into `Cpu` such that the general registers that have no host register of their own, and five slots of the
//! JIT behind them, are in reach of one-byte displacements. R14 points into the current TLB bank, where it is what BEXTR
//! wants as well (see [`SELECTOR`]). RAX, RCX and RDX are free within an instruction.

use super::asm::{
    Alu, Asm, Gpr, Mem, R8, R9, R10, R11, R12, R13, R14, R15, RBP, RBX, RDI, RDX, RSI, Rm, Rot,
};
use crate::cpu::{Cpu, SELECTOR, SP, offset};

/// Distance of RBP from the start of `Cpu`.
pub(crate) const BIAS: i32 = 184;

/// Guest registers that live in host registers while generated code runs: index in [`Cpu::x`], host register.
pub(crate) const PINNED: [(u8, Gpr); 10] =
    [(0, RSI), (1, RDI), (2, R8), (3, R9), (4, R10), (5, R11), (6, RBX), (19, R12), (20, R13), (SP, R15)];

/// The pinned ones that a call to Rust code destroys (System V ABI).
pub(crate) const VOLATILE: usize = 6;

/// Indices of the slots in [`Cpu::x`].
pub(crate) mod slot {
    /// Address of the current code page, exclusive-or [`KEY`].
    pub const HERE: u8 = 34;
    /// Of the current code context, see [`crate::cpu::CodeKeys`].
    pub const KEY: u8 = 35;
    /// NZCV as the host has flags after a subtraction, since most are from those: LAHF in bits 15:8, SETO in bits 7:0; C is
    /// inverted.
    pub const FLAGS: u8 = 36;
    /// The first of four: host addresses of bases whose accesses were checked, or what makes some of these.
    pub const WINDOWS: u8 = 37;
    /// Scratch for MXCSR.
    pub const MXCSR: u8 = 41;
}

/// The bits of a flags image that are N, Z, C and V, in this order from the top.
const FLAGS_MASK: u32 = 0xc101;
/// Of them, C.
const FLAGS_CARRY: u32 = 0x100;

/// NZCV (4 bits) as a flags image.
pub(crate) const fn flags_image(nzcv: u8) -> u32 {
    let [n, z, c, v] = [nzcv >> 3 & 1, nzcv >> 2 & 1, nzcv >> 1 & 1, nzcv & 1];
    ((n as u32) << 15 | (z as u32) << 14 | (c as u32) << 8 | v as u32) ^ FLAGS_CARRY
}

/// `reg` = the flags image of NZCV, which it has in bits 31:28. Uses RDX.
pub(crate) fn to_flags_image(asm: &mut Asm, reg: Gpr) {
    asm.rot_imm(Rot::Shr, false, reg, 28);
    asm.mov_imm(RDX, u64::from(FLAGS_MASK));
    asm.pdep(false, reg, reg, RDX);
    asm.alu_imm(Alu::Xor, false, reg, FLAGS_CARRY as i32);
}

/// `reg` = NZCV in bits 31:28, zeros elsewhere, of the slot's flags image. Uses RDX.
pub(crate) fn of_flags_image(asm: &mut Asm, reg: Gpr) {
    asm.mov(false, reg, x(slot::FLAGS));
    asm.mov_imm(RDX, u64::from(FLAGS_MASK));
    asm.pext(false, reg, reg, RDX);
    asm.rot_imm(Rot::Shl, false, reg, 28);
    asm.alu_imm(Alu::Xor, false, reg, 1 << 29);
}

/// The host register of guest register `index` (as in [`Cpu::x`]), if it has one.
pub(crate) const fn pinned(index: u8) -> Option<Gpr> {
    let mut i = 0;
    while i < PINNED.len() {
        if PINNED[i].0 == index {
            return Some(PINNED[i].1);
        }
        i += 1;
    }
    None
}

/// The place of guest register or slot `index`.
pub(crate) const fn x(index: u8) -> Mem {
    Mem::at(RBP, index as i32 * 8 - BIAS)
}

/// The field of `Cpu` at `offset`.
pub(crate) const fn field(offset: usize) -> Mem {
    Mem::at(RBP, offset as i32 - BIAS)
}

/// The place of V register `index`.
pub(crate) const fn v(index: u8) -> Mem {
    field(offset::V + index as usize * 16)
}

/// R14 = the current bank. Leaves the host's flags alone.
pub(crate) fn load_bank(asm: &mut Asm) {
    asm.mov(true, R14, field(offset::BANK));
    asm.lea(true, R14, Mem::at(R14, SELECTOR as i32));
}

/// `to` = the index of the page of `va` in the current bank. Changes the host's flags.
pub(crate) fn page_index(asm: &mut Asm, to: Gpr, va: Gpr) {
    asm.bextr(true, to, va, R14);
}

/// `to` = the number of the page of `va`: a shift takes the low bits of what bank's register holds as its count.
pub(crate) fn page_number(asm: &mut Asm, to: Gpr, va: Gpr) {
    asm.shrx(to, va, R14);
}

/// Element `index` of the array at `array` in the current bank.
pub(crate) const fn in_bank(index: Gpr, array: usize) -> Mem {
    Mem::indexed(R14, index, 3, array as i32 - SELECTOR as i32)
}

/// Guest register `index` wherever it is.
pub(crate) fn register(index: u8) -> Rm {
    pinned(index).map_or(Rm::M(x(index)), Rm::R)
}

const _: () = assert!(std::mem::offset_of!(Cpu, x) == 0);
