//! Loads and stores (Arm ARM C4.1.95), but for the structure loads and stores of Advanced SIMD.

use super::{Access, AccessKind, AtomicOp, Extend, Index, Insn, Order, Stage, bit, bits, reg, signed, simd};

pub(super) fn decode(raw: u32) -> Option<Insn> {
    let simd = bit(raw, 26);
    match (bits(raw, 29, 28), bit(raw, 24)) {
        (0b00, _) if simd => simd::decode(raw).map(Insn::Simd),
        (0b00, false) => exclusive_and_ordered(raw),
        (0b01, false) => literal(raw),
        (0b01, true) if !bit(raw, 21) && bits(raw, 11, 10) == 1 => memory_copy_set(raw),
        (0b01, true) if !simd && !bit(raw, 21) && bits(raw, 11, 10) == 0 => ordered_unscaled(raw),
        (0b10, _) => pair(raw),
        (0b11, true) => unsigned_offset(raw),
        (0b11, false) => match (bit(raw, 21), bits(raw, 11, 10)) {
            (false, 0b00) => unscaled(raw),
            (false, 0b10) => unprivileged(raw),
            (false, op) => indexed(raw, if op == 0b01 { Index::Post } else { Index::Pre }),
            (true, 0b00) => atomic(raw),
            (true, 0b10) => register_offset(raw),
            _ => None,
        },
        _ => None,
    }
}

/// What `size` (31:30), V (26) and `opc` (23:22) say about a load or store of one register.
enum Single {
    Access(Access),
    Prefetch,
}

fn single(raw: u32) -> Option<Single> {
    let (size, opc) = (bits(raw, 31, 30) as u8, bits(raw, 23, 22));
    if bit(raw, 26) {
        let size = match (opc >= 2, size) {
            (false, size) => size,
            (true, 0) => 4,
            _ => return None,
        };
        let kind = if opc & 1 != 0 { AccessKind::Load } else { AccessKind::Store };
        return Some(Single::Access(Access { kind, size, simd: true }));
    }
    let kind = match (opc, size) {
        (0, _) => AccessKind::Store,
        (1, _) => AccessKind::Load,
        (2, 3) => return Some(Single::Prefetch),
        (2, _) => AccessKind::LoadSigned64,
        (_, 0 | 1) => AccessKind::LoadSigned32,
        _ => return None,
    };
    Some(Single::Access(Access { kind, size, simd: false }))
}

/// As [`single`], where there is no prefetch.
fn single_access(raw: u32) -> Option<Access> {
    match single(raw)? {
        Single::Access(access) => Some(access),
        Single::Prefetch => None,
    }
}

fn unsigned_offset(raw: u32) -> Option<Insn> {
    let access = match single(raw)? {
        Single::Access(access) => access,
        Single::Prefetch => return Some(Insn::Prefetch),
    };
    let offset = (bits(raw, 21, 10) << access.size) as i32;
    Some(Insn::LoadStoreImm { access, rt: reg(raw, 0), rn: reg(raw, 5), index: Index::Offset, offset })
}

fn unscaled(raw: u32) -> Option<Insn> {
    match single(raw)? {
        Single::Access(_) => indexed(raw, Index::Offset),
        Single::Prefetch => Some(Insn::Prefetch),
    }
}

fn indexed(raw: u32, index: Index) -> Option<Insn> {
    let access = single_access(raw)?;
    Some(Insn::LoadStoreImm { access, rt: reg(raw, 0), rn: reg(raw, 5), index, offset: signed(raw, 20, 12) })
}

fn unprivileged(raw: u32) -> Option<Insn> {
    let access = single_access(raw).filter(|access| !access.simd)?;
    Some(Insn::LoadStoreUser { access, rt: reg(raw, 0), rn: reg(raw, 5), offset: signed(raw, 20, 12) })
}

fn register_offset(raw: u32) -> Option<Insn> {
    if !bit(raw, 14) {
        return None;
    }
    let access = match single(raw)? {
        Single::Access(access) => access,
        Single::Prefetch => return Some(Insn::Prefetch),
    };
    Some(Insn::LoadStoreReg {
        access,
        rt: reg(raw, 0),
        rn: reg(raw, 5),
        rm: reg(raw, 16),
        extend: Extend::from_bits(bits(raw, 15, 13)),
        shift: if bit(raw, 12) { access.size } else { 0 },
    })
}

fn literal(raw: u32) -> Option<Insn> {
    let opc = bits(raw, 31, 30) as u8;
    let access = match (bit(raw, 26), opc) {
        (true, 3) => return None,
        (true, _) => Access { kind: AccessKind::Load, size: opc + 2, simd: true },
        (false, 0 | 1) => Access { kind: AccessKind::Load, size: opc + 2, simd: false },
        (false, 2) => Access { kind: AccessKind::LoadSigned64, size: 2, simd: false },
        (false, _) => return Some(Insn::Prefetch),
    };
    Some(Insn::LoadLiteral { access, rt: reg(raw, 0), offset: signed(raw, 23, 5) * 4 })
}

fn pair(raw: u32) -> Option<Insn> {
    let (opc, load, no_allocate) = (bits(raw, 31, 30) as u8, bit(raw, 22), bits(raw, 24, 23) == 0);
    let plain = if load { AccessKind::Load } else { AccessKind::Store };
    let access = match (bit(raw, 26), opc) {
        (true, 0..3) => Access { kind: plain, size: opc + 2, simd: true },
        (false, 0) => Access { kind: plain, size: 2, simd: false },
        (false, 1) if load && !no_allocate => Access { kind: AccessKind::LoadSigned64, size: 2, simd: false },
        (false, 2) => Access { kind: plain, size: 3, simd: false },
        _ => return None,
    };
    let index = match bits(raw, 24, 23) {
        1 => Index::Post,
        3 => Index::Pre,
        _ => Index::Offset,
    };
    let offset = signed(raw, 21, 15) << access.size;
    Some(Insn::LoadStorePair { access, rt: reg(raw, 0), rt2: reg(raw, 10), rn: reg(raw, 5), index, offset })
}

/// Exclusives, LDAR and STLR, compare and swap: bits 29:24 are 001000. The limited-ordering-region forms (bit 15 clear)
/// are as strong as the others, since this CPU has no such regions.
fn exclusive_and_ordered(raw: u32) -> Option<Insn> {
    let size = bits(raw, 31, 30) as u8;
    let load = bit(raw, 22);
    let (rs, rt, rt2, rn) = (reg(raw, 16), reg(raw, 0), reg(raw, 10), reg(raw, 5));
    match (bit(raw, 23), bit(raw, 21)) {
        (false, false) => Some(exclusive(raw, false)),
        (false, true) if size >= 2 => Some(exclusive(raw, true)),
        (false, true) if rt2 == 31 && (rs | rt) & 1 == 0 => {
            Some(Insn::CompareSwapPair { size: size + 2, rs, rt, rn })
        }
        (true, false) => Some(Insn::Ordered {
            access: Access {
                kind: if load { AccessKind::Load } else { AccessKind::Store },
                size,
                simd: false,
            },
            rt,
            rn,
            offset: 0,
            order: Order::Sequential,
        }),
        (true, true) if rt2 == 31 => Some(Insn::CompareSwap { size, rs, rt, rn }),
        _ => None,
    }
}

fn exclusive(raw: u32, pair: bool) -> Insn {
    let size = bits(raw, 31, 30) as u8;
    let (load, ordered) = (bit(raw, 22), bit(raw, 15));
    let (rs, rt, rt2, rn) = (reg(raw, 16), reg(raw, 0), reg(raw, 10), reg(raw, 5));
    if load {
        Insn::LoadExclusive { size, pair, acquire: ordered, rt, rt2, rn }
    } else {
        Insn::StoreExclusive { size, pair, release: ordered, rs, rt, rt2, rn }
    }
}

/// LDAPUR, STLUR and siblings (FEAT_LRCPC2).
fn ordered_unscaled(raw: u32) -> Option<Insn> {
    let access = single_access(raw)?;
    Some(Insn::Ordered {
        access,
        rt: reg(raw, 0),
        rn: reg(raw, 5),
        offset: signed(raw, 20, 12),
        order: Order::ProcessorConsistent,
    })
}

/// Atomic operations on memory (FEAT_LSE), and LDAPR (FEAT_LRCPC), which shares their space.
fn atomic(raw: u32) -> Option<Insn> {
    let size = bits(raw, 31, 30) as u8;
    let (acquire, release) = (bit(raw, 23), bit(raw, 22));
    let (rs, rt, rn) = (reg(raw, 16), reg(raw, 0), reg(raw, 5));
    if bit(raw, 26) {
        return None;
    }
    let op = match bits(raw, 15, 12) {
        0 => AtomicOp::Add,
        1 => AtomicOp::Clear,
        2 => AtomicOp::Eor,
        3 => AtomicOp::Set,
        4 => AtomicOp::SignedMax,
        5 => AtomicOp::SignedMin,
        6 => AtomicOp::UnsignedMax,
        7 => AtomicOp::UnsignedMin,
        8 => AtomicOp::Swap,
        // Rs is (1)(1)(1)(1)(1); other values are unallocated in practice.
        0b1100 if acquire && !release && rs == 31 => {
            return Some(Insn::Ordered {
                access: Access { kind: AccessKind::Load, size, simd: false },
                rt,
                rn,
                offset: 0,
                order: Order::ProcessorConsistent,
            });
        }
        _ => return None,
    };
    Some(Insn::Atomic { op, size, acquire, release, rs, rt, rn })
}

/// Memory copy and set (FEAT_MOPS). Registers that overlap are CONSTRAINED UNPREDICTABLE, and undefined here.
fn memory_copy_set(raw: u32) -> Option<Insn> {
    let (op1, op2) = (bits(raw, 23, 22), bits(raw, 15, 12) as u8);
    let (rd, rs, rn) = (reg(raw, 0), reg(raw, 16), reg(raw, 5));
    if bits(raw, 31, 30) != 0 || rd == 31 || rn == 31 || rd == rs || rd == rn || rs == rn {
        return None;
    }
    let stage = |number| match number {
        0 => Some(Stage::Prologue),
        1 => Some(Stage::Main),
        2 => Some(Stage::Epilogue),
        _ => None,
    };
    match (op1, bit(raw, 26)) {
        (3, false) => {
            Some(Insn::MemorySet { stage: stage(u32::from(op2) >> 2)?, options: op2 & 3, rd, rs, rn })
        }
        // SETG, of FEAT_MTE.
        (3, true) => None,
        _ if rs == 31 => None,
        (_, either_way) => {
            Some(Insn::MemoryCopy { stage: stage(op1)?, ascending: !either_way, options: op2, rd, rs, rn })
        }
    }
}
