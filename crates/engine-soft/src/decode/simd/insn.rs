//! What floating-point and Advanced SIMD instructions mean. Operation names are the mnemonics of the Arm ARM (C7.2),
//! where their semantics is defined.

use crate::decode::{Cond, Reg};
use crate::fp::Rounding;

/// Which part of a vector register an instruction works on, and in elements of what size. Whatever lies above is zero
/// afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The binary logarithm of the bytes of an element.
    pub size: u8,
    /// The binary logarithm of the bytes in all; `size` for a scalar.
    pub width: u8,
}

impl Shape {
    /// A full or half vector.
    pub(crate) const fn vector(size: u8, full: bool) -> Self {
        Self { size, width: 3 + full as u8 }
    }

    /// One element.
    pub(crate) const fn scalar(size: u8) -> Self {
        Self { size, width: size }
    }
}

/// A second operand: a whole register, or one element of it for all lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub reg: Reg,
    pub index: Option<u8>,
}

impl Source {
    /// The whole register.
    pub(crate) const fn whole(reg: Reg) -> Self {
        Self { reg, index: None }
    }
}

/// What a post-indexed structure access adds to its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Post {
    /// Nothing: no write-back.
    None,
    /// The bytes transferred.
    Bytes,
    /// A general register.
    Reg(Reg),
}

/// A structure load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Structure {
    pub load: bool,
    /// The binary logarithm of the bytes of an element.
    pub size: u8,
    /// Elements of a structure.
    pub elements: u8,
    pub rt: Reg,
    pub rn: Reg,
    pub post: Post,
}

/// Integer operations on one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Abs,
    Neg,
    Not,
    Rbit,
    Cnt,
    Cls,
    Clz,
    /// Reverses the elements within containers of so many bytes (binary logarithm).
    Rev(u8),
    Sqabs,
    Sqneg,
    Cmgt,
    Cmge,
    Cmeq,
    Cmle,
    Cmlt,
    /// These two accumulate onto the destination.
    Suqadd,
    Usqadd,
    Urecpe,
    Ursqrte,
}

/// Pairwise additions to elements of twice the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PairLong {
    pub signed: bool,
    /// Adds to the destination.
    pub accumulate: bool,
}

/// Integer operations on two vectors, some of which read the destination too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Shadd,
    Uhadd,
    Srhadd,
    Urhadd,
    Shsub,
    Uhsub,
    Sqadd,
    Uqadd,
    Sqsub,
    Uqsub,
    Cmgt,
    Cmhi,
    Cmge,
    Cmhs,
    Cmtst,
    Cmeq,
    Sshl,
    Ushl,
    Sqshl,
    Uqshl,
    Srshl,
    Urshl,
    Sqrshl,
    Uqrshl,
    Smax,
    Umax,
    Smin,
    Umin,
    Sabd,
    Uabd,
    Saba,
    Uaba,
    Add,
    Sub,
    Mla,
    Mls,
    Mul,
    Pmul,
    Smaxp,
    Umaxp,
    Sminp,
    Uminp,
    Addp,
    Sqdmulh,
    Sqrdmulh,
    Sqrdmlah,
    Sqrdmlsh,
}

/// Bitwise operations; the last three also read the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bitwise {
    And,
    Bic,
    Orr,
    Orn,
    Eor,
    Bsl,
    Bit,
    Bif,
}

/// Operations from elements to ones of twice the size, or (the names that end in `hn`) the other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Long {
    Saddl,
    Uaddl,
    Saddw,
    Uaddw,
    Ssubl,
    Usubl,
    Ssubw,
    Usubw,
    Addhn,
    Raddhn,
    Subhn,
    Rsubhn,
    Sabal,
    Uabal,
    Sabdl,
    Uabdl,
    Smlal,
    Umlal,
    Smlsl,
    Umlsl,
    Smull,
    Umull,
    Sqdmlal,
    Sqdmlsl,
    Sqdmull,
    Pmull,
}

/// Narrowing to half the element size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Narrow {
    Xtn,
    Sqxtn,
    Uqxtn,
    Sqxtun,
}

/// Reductions of integers to one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Across {
    Addv,
    Saddlv,
    Uaddlv,
    Smaxv,
    Umaxv,
    Sminv,
    Uminv,
}

/// Shifts by an immediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shift {
    Sshr,
    Ushr,
    Ssra,
    Usra,
    Srshr,
    Urshr,
    Srsra,
    Ursra,
    Sri,
    Shl,
    Sli,
    Sqshlu,
    Sqshl,
    Uqshl,
}

/// Right shifts by an immediate to half the element size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShiftNarrow {
    Shrn,
    Rshrn,
    Sqshrun,
    Sqrshrun,
    Sqshrn,
    Sqrshrn,
    Uqshrn,
    Uqrshrn,
}

/// Permutations of two vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permute {
    Uzp1,
    Trn1,
    Zip1,
    Uzp2,
    Trn2,
    Zip2,
}

/// What an immediate does to a vector; MVNI and the FMOVs are moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImmediateOp {
    Move,
    Orr,
    Bic,
}

/// Floating-point operations on one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FpUnary {
    Fmov,
    Fabs,
    Fneg,
    Fsqrt,
    /// To an integral value; the rounding mode of FPCR when there is none. Only the exact form reports inexactness.
    Frint {
        mode: Option<Rounding>,
        exact: bool,
    },
    /// To an integral value of so many bits.
    FrintSize {
        mode: Option<Rounding>,
        bits: u8,
    },
    Frecpe,
    Frsqrte,
    Frecpx,
    /// Comparisons with zero.
    Fcmgt,
    Fcmge,
    Fcmeq,
    Fcmle,
    Fcmlt,
}

/// Floating-point operations on two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FpBinary {
    Fadd,
    Fsub,
    Fmul,
    Fnmul,
    Fmulx,
    Fdiv,
    Fmax,
    Fmin,
    Fmaxnm,
    Fminnm,
    Fabd,
    Fcmeq,
    Fcmge,
    Fcmgt,
    Facge,
    Facgt,
    Frecps,
    Frsqrts,
}

/// A conversion between integers or fixed point and floating point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FixedPoint {
    pub signed: bool,
    /// Fraction bits.
    pub fbits: u8,
}

/// The AES instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aes {
    Aese,
    Aesd,
    Aesmc,
    Aesimc,
}

/// The SHA-1, SHA-256, SHA-512 and SHA-3 instructions that only name registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "these are the mnemonics")]
pub(crate) enum Sha {
    Sha1c,
    Sha1p,
    Sha1m,
    Sha1su0,
    Sha256h,
    Sha256h2,
    Sha256su1,
    Sha1h,
    Sha1su1,
    Sha256su0,
    Sha512h,
    Sha512h2,
    Sha512su1,
    Sha512su0,
    Rax1,
}

/// A floating-point or Advanced SIMD instruction, and the structure loads and stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SimdInsn {
    Unary {
        op: Unary,
        shape: Shape,
        rd: Reg,
        rn: Reg,
    },
    Binary {
        op: Binary,
        shape: Shape,
        rd: Reg,
        rn: Reg,
        rm: Source,
    },
    Bitwise {
        op: Bitwise,
        full: bool,
        rd: Reg,
        rn: Reg,
        rm: Reg,
    },
    /// `shape` is that of the narrow operand.
    PairLong {
        op: PairLong,
        shape: Shape,
        rd: Reg,
        rn: Reg,
    },
    /// `size` is that of the narrow elements, `high` says that they are in the upper half.
    Long {
        op: Long,
        size: u8,
        high: bool,
        scalar: bool,
        rd: Reg,
        rn: Reg,
        rm: Source,
    },
    /// `size` is that of the narrow elements.
    Narrow {
        op: Narrow,
        size: u8,
        high: bool,
        scalar: bool,
        rd: Reg,
        rn: Reg,
    },
    Shift {
        op: Shift,
        shape: Shape,
        amount: u8,
        rd: Reg,
        rn: Reg,
    },
    ShiftNarrow {
        op: ShiftNarrow,
        size: u8,
        high: bool,
        scalar: bool,
        amount: u8,
        rd: Reg,
        rn: Reg,
    },
    ShiftLong {
        signed: bool,
        size: u8,
        high: bool,
        amount: u8,
        rd: Reg,
        rn: Reg,
    },
    Across {
        op: Across,
        shape: Shape,
        rd: Reg,
        rn: Reg,
    },
    FpAcross {
        op: FpBinary,
        shape: Shape,
        rd: Reg,
        rn: Reg,
    },
    DupElement {
        shape: Shape,
        index: u8,
        rd: Reg,
        rn: Reg,
    },
    DupGeneral {
        shape: Shape,
        rd: Reg,
        rn: Reg,
    },
    InsertElement {
        size: u8,
        to: u8,
        from: u8,
        rd: Reg,
        rn: Reg,
    },
    InsertGeneral {
        size: u8,
        to: u8,
        rd: Reg,
        rn: Reg,
    },
    /// UMOV and SMOV.
    ToGeneral {
        size: u8,
        signed: bool,
        sf: bool,
        index: u8,
        rd: Reg,
        rn: Reg,
    },
    Table {
        full: bool,
        count: u8,
        keep: bool,
        rd: Reg,
        rn: Reg,
        rm: Reg,
    },
    Permute {
        op: Permute,
        shape: Shape,
        rd: Reg,
        rn: Reg,
        rm: Reg,
    },
    Extract {
        full: bool,
        at: u8,
        rd: Reg,
        rn: Reg,
        rm: Reg,
    },
    /// `value` is for either half.
    Immediate {
        op: ImmediateOp,
        full: bool,
        value: u64,
        rd: Reg,
    },
    Dot {
        signed: bool,
        full: bool,
        rd: Reg,
        rn: Reg,
        rm: Source,
    },
    FpUnary {
        op: FpUnary,
        shape: Shape,
        rd: Reg,
        rn: Reg,
    },
    FpBinary {
        op: FpBinary,
        shape: Shape,
        rd: Reg,
        rn: Reg,
        rm: Source,
    },
    FpPair {
        op: FpBinary,
        shape: Shape,
        rd: Reg,
        rn: Reg,
        rm: Reg,
    },
    /// FMLA and FMLS: onto the destination.
    FpMulAdd {
        subtract: bool,
        shape: Shape,
        rd: Reg,
        rn: Reg,
        rm: Source,
    },
    /// FMLAL and FMLSL, from half to single precision.
    FpMulAddLong {
        subtract: bool,
        high: bool,
        full: bool,
        rd: Reg,
        rn: Reg,
        rm: Source,
    },
    /// Rotation in quarter turns.
    ComplexAdd {
        shape: Shape,
        rotation: u8,
        rd: Reg,
        rn: Reg,
        rm: Reg,
    },
    ComplexMulAdd {
        shape: Shape,
        rotation: u8,
        rd: Reg,
        rn: Reg,
        rm: Source,
    },
    /// Within the vector registers; elements keep their size.
    FpToFixed {
        to: FixedPoint,
        mode: Rounding,
        shape: Shape,
        rd: Reg,
        rn: Reg,
    },
    FixedToFp {
        from: FixedPoint,
        shape: Shape,
        rd: Reg,
        rn: Reg,
    },
    /// FCVTL: `size` is that of the narrow elements.
    FpLengthen {
        size: u8,
        high: bool,
        rd: Reg,
        rn: Reg,
    },
    /// FCVTN and FCVTXN (`odd`).
    FpShorten {
        size: u8,
        high: bool,
        odd: bool,
        scalar: bool,
        rd: Reg,
        rn: Reg,
    },
    /// FCVT between formats.
    FpConvert {
        from: u8,
        to: u8,
        rd: Reg,
        rn: Reg,
    },
    /// FMADD, FMSUB, FNMADD, FNMSUB.
    FpFused {
        size: u8,
        negate_product: bool,
        negate_addend: bool,
        rd: Reg,
        rn: Reg,
        rm: Reg,
        ra: Reg,
    },
    /// A missing `rm` compares with zero.
    FpCompare {
        size: u8,
        signal: bool,
        rn: Reg,
        rm: Option<Reg>,
    },
    FpCondCompare {
        size: u8,
        signal: bool,
        rn: Reg,
        rm: Reg,
        cond: Cond,
        nzcv: u8,
    },
    FpCondSelect {
        size: u8,
        rd: Reg,
        rn: Reg,
        rm: Reg,
        cond: Cond,
    },
    /// To a general register.
    FpToGeneral {
        to: FixedPoint,
        mode: Rounding,
        size: u8,
        sf: bool,
        rd: Reg,
        rn: Reg,
    },
    GeneralToFp {
        from: FixedPoint,
        size: u8,
        sf: bool,
        rd: Reg,
        rn: Reg,
    },
    JavaScript {
        rd: Reg,
        rn: Reg,
    },
    /// FMOV of the bits of element `index` to a general register.
    MoveToGeneral {
        size: u8,
        index: u8,
        rd: Reg,
        rn: Reg,
    },
    /// FMOV of the upper half from a general register.
    MoveTop {
        rd: Reg,
        rn: Reg,
    },
    /// FMOV of the bits of a general register to a scalar.
    MoveFromGeneral {
        size: u8,
        rd: Reg,
        rn: Reg,
    },
    Aes {
        op: Aes,
        rd: Reg,
        rn: Reg,
    },
    Sha {
        op: Sha,
        rd: Reg,
        rn: Reg,
        rm: Reg,
    },
    Eor3 {
        rd: Reg,
        rn: Reg,
        rm: Reg,
        ra: Reg,
    },
    Bcax {
        rd: Reg,
        rn: Reg,
        rm: Reg,
        ra: Reg,
    },
    Xar {
        rotate: u8,
        rd: Reg,
        rn: Reg,
        rm: Reg,
    },
    /// LD1 to LD4 and ST1 to ST4 of `registers` registers.
    Multiple {
        how: Structure,
        full: bool,
        registers: u8,
    },
    /// One element of each register.
    Single {
        how: Structure,
        index: u8,
    },
    /// LD1R to LD4R.
    Replicate {
        how: Structure,
        full: bool,
    },
}
