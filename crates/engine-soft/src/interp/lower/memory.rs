//! Lowering of loads, stores and atomics.

use super::{or_sp, sink, source};
use crate::{
    decode::{Access, AccessKind, AtomicOp, Extend, Index, Insn, Reg, Stage},
    interp::{
        atomics,
        loadstore::{
            self, Address, General, Literal, Offset, PostIndex, PreIndex, Register, Sign32, Sign64, Vector,
            Zero,
        },
        mops,
        op::{Handler, Op, Operands, fallible, quick, repeating},
    },
};

/// Picks, by an [`Access`], among `$load::<L>` and `$store::<S>` with the right type for each kind and size. What does
/// not occur (sign extension to a narrower register) maps to a neighbour that the decoder does not produce either.
macro_rules! by_access {
    ($access:expr, $l:ident => $load:expr, $s:ident => $store:expr) => {
        match ($access.simd, $access.kind, $access.size) {
            (true, AccessKind::Store, 0) => { type $s = Vector<u8>; $store }
            (true, AccessKind::Store, 1) => { type $s = Vector<u16>; $store }
            (true, AccessKind::Store, 2) => { type $s = Vector<u32>; $store }
            (true, AccessKind::Store, 3) => { type $s = Vector<u64>; $store }
            (true, AccessKind::Store, _) => { type $s = Vector<u128>; $store }
            (true, _, 0) => { type $l = Vector<u8>; $load }
            (true, _, 1) => { type $l = Vector<u16>; $load }
            (true, _, 2) => { type $l = Vector<u32>; $load }
            (true, _, 3) => { type $l = Vector<u64>; $load }
            (true, _, _) => { type $l = Vector<u128>; $load }
            (false, ..) => by_general_access!($access, $l => $load, $s => $store),
        }
    };
}

/// As `by_access`, for general registers only.
macro_rules! by_general_access {
    ($access:expr, $l:ident => $load:expr, $s:ident => $store:expr) => {
        match ($access.kind, $access.size) {
            (AccessKind::Store, 0) => {
                type $s = General<u8>;
                $store
            }
            (AccessKind::Store, 1) => {
                type $s = General<u16>;
                $store
            }
            (AccessKind::Store, 2) => {
                type $s = General<u32>;
                $store
            }
            (AccessKind::Store, _) => {
                type $s = General<u64>;
                $store
            }
            (AccessKind::LoadSigned32, 0) => {
                type $l = Sign32<u8>;
                $load
            }
            (AccessKind::LoadSigned32, _) => {
                type $l = Sign32<u16>;
                $load
            }
            (AccessKind::LoadSigned64, 0) => {
                type $l = Sign64<u8>;
                $load
            }
            (AccessKind::LoadSigned64, 1) => {
                type $l = Sign64<u16>;
                $load
            }
            (AccessKind::LoadSigned64, _) => {
                type $l = Sign64<u32>;
                $load
            }
            (AccessKind::Load, 0) => {
                type $l = Zero<u8>;
                $load
            }
            (AccessKind::Load, 1) => {
                type $l = Zero<u16>;
                $load
            }
            (AccessKind::Load, 2) => {
                type $l = Zero<u32>;
                $load
            }
            (AccessKind::Load, _) => {
                type $l = Zero<u64>;
                $load
            }
        }
    };
}

/// Picks among the element types of an atomic by its size.
macro_rules! by_size {
    ($size:expr, $t:ident => $body:expr) => {
        match $size {
            0 => {
                type $t = u8;
                $body
            }
            1 => {
                type $t = u16;
                $body
            }
            2 => {
                type $t = u32;
                $body
            }
            _ => {
                type $t = u64;
                $body
            }
        }
    };
}

/// The register operand `rt` of an access, by its direction and file.
fn transfer(access: Access, rt: Reg) -> u8 {
    match access {
        Access { simd: true, .. } => rt,
        Access { kind: AccessKind::Store, .. } => source(rt),
        _ => sink(rt),
    }
}

/// The handler of a load or store of one register.
fn single<A: Address>(access: Access) -> Handler {
    by_access!(
        access,
        L => quick(loadstore::quick_load::<L, A>, loadstore::load::<L, A>),
        S => quick(loadstore::quick_store::<S, A>, loadstore::store::<S, A>)
    )
}

/// The handler of a load or store of two registers.
fn pair<A: Address>(access: Access) -> Handler {
    by_access!(
        access,
        L => quick(loadstore::quick_load_pair::<L, A>, loadstore::load_pair::<L, A>),
        S => quick(loadstore::quick_store_pair::<S, A>, loadstore::store_pair::<S, A>)
    )
}

/// LDR (literal); `imm` is the literal's offset in the page.
pub(super) fn literal(access: Access, rt: Reg, imm: u32) -> Op {
    let o = Operands { d: transfer(access, rt), imm, ..Operands::default() };
    Op { run: single::<Literal>(access), o }
}

/// Loads and stores.
pub(super) fn lower(insn: &Insn) -> Op {
    let (run, o) = match *insn {
        Insn::LoadStoreImm { access, rt, rn, index, offset } => {
            let run = by_bool!(rn == 31, SP => match index {
                Index::Offset => single::<Offset<SP>>(access),
                Index::Pre => single::<PreIndex<SP>>(access),
                Index::Post => single::<PostIndex<SP>>(access),
            });
            (run, base_and_offset(access, rt, rn, offset))
        }
        Insn::LoadStorePair { access, rt, rt2, rn, index, offset } => {
            let run = by_bool!(rn == 31, SP => match index {
                Index::Offset => pair::<Offset<SP>>(access),
                Index::Pre => pair::<PreIndex<SP>>(access),
                Index::Post => pair::<PostIndex<SP>>(access),
            });
            let o = base_and_offset(access, rt, rn, offset);
            (run, Operands { m: transfer(access, rt2), ..o })
        }
        Insn::LoadStoreReg { access, rt, rn, rm, extend, shift } => {
            let code = match extend {
                Extend::Uxtw => loadstore::UXTW,
                Extend::Sxtw => loadstore::SXTW,
                _ => loadstore::UXTX,
            };
            let run = by_bool!(rn == 31, SP => by_value!(
                code,
                [loadstore::UXTW, loadstore::SXTW; loadstore::UXTX],
                EXTEND => single::<Register<SP, EXTEND>>(access)
            ));
            (run, Operands { m: source(rm), a: shift, ..base_and_offset(access, rt, rn, 0) })
        }
        Insn::LoadStoreUser { access, rt, rn, offset } => {
            let run = by_general_access!(access,
                L => fallible(loadstore::load_user::<L>), S => fallible(loadstore::store_user::<S>));
            (run, base_and_offset(access, rt, rn, offset))
        }
        Insn::Ordered { access, rt, rn, offset, .. } => {
            let run = by_general_access!(access,
                L => fallible(loadstore::load_acquire::<L>), S => fallible(loadstore::store_release::<S>));
            (run, base_and_offset(access, rt, rn, offset))
        }
        _ => return super::nop(),
    };
    Op { run, o }
}

fn base_and_offset(access: Access, rt: Reg, rn: Reg, offset: i32) -> Operands {
    Operands { d: transfer(access, rt), n: or_sp(rn), m: 0, a: 0, imm: offset as u32 }
}

/// Exclusives and atomics.
pub(super) fn atomic(insn: &Insn) -> Op {
    let (run, o) = match *insn {
        Insn::LoadExclusive { size, pair, rt, rt2, rn, .. } => {
            let run = match (pair, size) {
                (false, _) => by_size!(size, T => fallible(atomics::load_exclusive::<T>)),
                (true, 2) => fallible(atomics::load_exclusive_pair::<u32>),
                (true, _) => fallible(atomics::load_exclusive_pair::<u64>),
            };
            (run, Operands { d: sink(rt), n: or_sp(rn), m: sink(rt2), a: 0, imm: 0 })
        }
        Insn::StoreExclusive { size, pair, rs, rt, rt2, rn, .. } => {
            let run = match (pair, size) {
                (false, _) => by_size!(size, T => fallible(atomics::store_exclusive::<T>)),
                (true, 2) => fallible(atomics::store_exclusive_pair::<u32>),
                (true, _) => fallible(atomics::store_exclusive_pair::<u64>),
            };
            (run, Operands { d: source(rt), n: or_sp(rn), m: source(rt2), a: sink(rs), imm: 0 })
        }
        Insn::CompareSwap { size, rs, rt, rn } => {
            let run = by_size!(size, T => fallible(atomics::compare_swap::<T>));
            (run, Operands { d: source(rt), n: or_sp(rn), m: source(rs), a: sink(rs), imm: 0 })
        }
        Insn::CompareSwapPair { size, rs, rt, rn } => {
            let run = match size {
                2 => fallible(atomics::compare_swap_pair::<u32>),
                _ => fallible(atomics::compare_swap_pair::<u64>),
            };
            let imm = u32::from_le_bytes([source(rs + 1), sink(rs + 1), source(rt + 1), 0]);
            (run, Operands { d: source(rt), n: or_sp(rn), m: source(rs), a: sink(rs), imm })
        }
        Insn::Atomic { op, size, rs, rt, rn, .. } => {
            let run = by_size!(size, T => atomic_handler::<T>(op));
            (run, Operands { d: sink(rt), n: or_sp(rn), m: source(rs), a: 0, imm: 0 })
        }
        _ => return super::nop(),
    };
    Op { run, o }
}

fn atomic_handler<T: atomics::Element>(op: AtomicOp) -> Handler {
    match op {
        AtomicOp::Add => fallible(atomics::add::<T>),
        AtomicOp::Clear => fallible(atomics::clear::<T>),
        AtomicOp::Eor => fallible(atomics::eor::<T>),
        AtomicOp::Set => fallible(atomics::set::<T>),
        AtomicOp::SignedMax => fallible(atomics::signed_max::<T>),
        AtomicOp::SignedMin => fallible(atomics::signed_min::<T>),
        AtomicOp::UnsignedMax => fallible(atomics::unsigned_max::<T>),
        AtomicOp::UnsignedMin => fallible(atomics::unsigned_min::<T>),
        AtomicOp::Swap => fallible(atomics::swap::<T>),
    }
}

/// Memory copy and set.
pub(super) fn copy_set(insn: &Insn) -> Op {
    let (run, stage, options, [rd, rs, rn], class) = match *insn {
        Insn::MemoryCopy { stage, ascending, options, rd, rs, rn } => {
            let run = by_bool!(ascending, ASCENDING => match stage {
                Stage::Prologue => fallible(mops::copy_prologue::<ASCENDING>),
                _ => repeating(mops::copy::<ASCENDING>),
            });
            (run, stage, options, [rd, rs, rn], 0)
        }
        Insn::MemorySet { stage, options, rd, rs, rn } => {
            let run = match stage {
                Stage::Prologue => fallible(mops::set_prologue),
                _ => repeating(mops::set),
            };
            (run, stage, options, [rd, rs, rn], mops::iss::SET)
        }
        _ => return super::nop(),
    };
    let registers = u32::from(rd) << 10 | u32::from(rs) << 5 | u32::from(rn);
    let epilogue = if stage == Stage::Epilogue { mops::iss::EPILOGUE } else { 0 };
    let options_field = u32::from(options) << mops::iss::OPTIONS;
    let imm = class | options_field | epilogue | mops::iss::OPTION_A | registers;
    Op { run, o: Operands { d: sink(rd), n: source(rn), m: source(rs), a: options, imm } }
}
