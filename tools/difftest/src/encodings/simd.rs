//! Advanced SIMD, vector and scalar (Arm ARM C4.1.96, the parts `0xx0` and `01x1`).
//!
//! The rows of each group give U, the size field (a leading `0` or `1` where it is opcode), the opcode and which
//! sizes are allocated.

use super::{Encoding, any, bits};

fn size(w: u32) -> u32 {
    bits(w, 23, 22)
}

fn q(w: u32) -> bool {
    bits(w, 30, 30) == 1
}

/// Not 64-bit elements.
fn bhs(w: u32) -> bool {
    size(w) != 3
}

/// Everything but one 64-bit element.
fn no_1d(w: u32) -> bool {
    size(w) != 3 || q(w)
}

fn hs(w: u32) -> bool {
    matches!(size(w), 1 | 2)
}

fn b(w: u32) -> bool {
    size(w) == 0
}

fn bh(w: u32) -> bool {
    size(w) <= 1
}

fn d(w: u32) -> bool {
    size(w) == 3
}

/// Floating point with sz in bit 22: no 1D.
fn fp(w: u32) -> bool {
    bits(w, 22, 22) == 0 || q(w)
}

fn sz0(w: u32) -> bool {
    bits(w, 22, 22) == 0
}

fn sz1(w: u32) -> bool {
    bits(w, 22, 22) == 1
}

/// Across lanes: no 64-bit elements and no 2S.
fn across(w: u32) -> bool {
    bhs(w) && (size(w) != 2 || q(w))
}

fn across_fp32(w: u32) -> bool {
    q(w) && sz0(w)
}

type Row = (&'static str, &'static str, &'static str, &'static str, fn(u32) -> bool);

const THREE_SAME: &[Row] = &[
    ("shadd", "i", "ii", "00000", bhs),
    ("sqadd", "i", "ii", "00001", no_1d),
    ("srhadd", "i", "ii", "00010", bhs),
    ("logical v", "i", "ii", "00011", any),
    ("shsub", "i", "ii", "00100", bhs),
    ("sqsub", "i", "ii", "00101", no_1d),
    ("cmgt/cmhi", "i", "ii", "00110", no_1d),
    ("cmge/cmhs", "i", "ii", "00111", no_1d),
    ("sshl", "i", "ii", "01000", no_1d),
    ("sqshl", "i", "ii", "01001", no_1d),
    ("srshl", "i", "ii", "01010", no_1d),
    ("sqrshl", "i", "ii", "01011", no_1d),
    ("smax", "i", "ii", "01100", bhs),
    ("smin", "i", "ii", "01101", bhs),
    ("sabd", "i", "ii", "01110", bhs),
    ("saba", "i", "ii", "01111", bhs),
    ("add/sub v", "i", "ii", "10000", no_1d),
    ("cmtst/cmeq", "i", "ii", "10001", no_1d),
    ("mla/mls", "i", "ii", "10010", bhs),
    ("mul v", "0", "ii", "10011", bhs),
    ("pmul", "1", "ii", "10011", b),
    ("smaxp", "i", "ii", "10100", bhs),
    ("sminp", "i", "ii", "10101", bhs),
    ("sqdmulh", "i", "ii", "10110", hs),
    ("addp", "0", "ii", "10111", no_1d),
    ("fmaxnm v", "0", "0i", "11000", fp),
    ("fminnm v", "0", "1i", "11000", fp),
    ("fmaxnmp", "1", "0i", "11000", fp),
    ("fminnmp", "1", "1i", "11000", fp),
    ("fmla", "0", "0i", "11001", fp),
    ("fmls", "0", "1i", "11001", fp),
    ("fadd v", "0", "0i", "11010", fp),
    ("fsub v", "0", "1i", "11010", fp),
    ("faddp", "1", "0i", "11010", fp),
    ("fabd", "1", "1i", "11010", fp),
    ("fmulx", "0", "0i", "11011", fp),
    ("fmul v", "1", "0i", "11011", fp),
    ("fcmeq", "0", "0i", "11100", fp),
    ("fcmge", "1", "0i", "11100", fp),
    ("fcmgt", "1", "1i", "11100", fp),
    ("facge", "1", "0i", "11101", fp),
    ("facgt", "1", "1i", "11101", fp),
    ("fmax v", "0", "0i", "11110", fp),
    ("fmin v", "0", "1i", "11110", fp),
    ("fmaxp", "1", "0i", "11110", fp),
    ("fminp", "1", "1i", "11110", fp),
    ("frecps", "0", "0i", "11111", fp),
    ("frsqrts", "0", "1i", "11111", fp),
    ("fdiv v", "1", "0i", "11111", fp),
];

const SCALAR_THREE_SAME: &[Row] = &[
    ("sqadd s", "i", "ii", "00001", any),
    ("sqsub s", "i", "ii", "00101", any),
    ("cmgt s", "i", "ii", "00110", d),
    ("cmge s", "i", "ii", "00111", d),
    ("sshl s", "i", "ii", "01000", d),
    ("sqshl s", "i", "ii", "01001", any),
    ("srshl s", "i", "ii", "01010", d),
    ("sqrshl s", "i", "ii", "01011", any),
    ("add/sub s", "i", "ii", "10000", d),
    ("cmtst s", "i", "ii", "10001", d),
    ("sqdmulh s", "i", "ii", "10110", hs),
    ("fmulx s", "0", "0i", "11011", any),
    ("fcmeq s", "0", "0i", "11100", any),
    ("fcmge s", "1", "0i", "11100", any),
    ("fcmgt s", "1", "1i", "11100", any),
    ("facge s", "1", "0i", "11101", any),
    ("facgt s", "1", "1i", "11101", any),
    ("frecps s", "0", "0i", "11111", any),
    ("frsqrts s", "0", "1i", "11111", any),
    ("fabd s", "1", "1i", "11010", any),
];

const TWO_REG: &[Row] = &[
    ("rev64 v", "0", "ii", "00000", bhs),
    ("rev32 v", "1", "ii", "00000", bh),
    ("rev16 v", "0", "ii", "00001", b),
    ("addlp", "i", "ii", "00010", bhs),
    ("suqadd", "i", "ii", "00011", no_1d),
    ("cls/clz v", "i", "ii", "00100", bhs),
    ("cnt", "0", "ii", "00101", b),
    ("not/rbit", "1", "ii", "00101", bh),
    ("adalp", "i", "ii", "00110", bhs),
    ("sqabs/sqneg", "i", "ii", "00111", no_1d),
    ("cmgt/cmge 0", "i", "ii", "01000", no_1d),
    ("cmeq/cmle 0", "i", "ii", "01001", no_1d),
    ("cmlt 0", "0", "ii", "01010", no_1d),
    ("abs/neg v", "i", "ii", "01011", no_1d),
    ("fcmgt/fcmge 0", "i", "1i", "01100", fp),
    ("fcmeq/fcmle 0", "i", "1i", "01101", fp),
    ("fcmlt 0", "0", "1i", "01110", fp),
    ("fabs/fneg v", "i", "1i", "01111", fp),
    ("xtn/sqxtun", "i", "ii", "10010", bhs),
    ("shll", "1", "ii", "10011", bhs),
    ("sqxtn/uqxtn", "i", "ii", "10100", bhs),
    ("fcvtn", "0", "0i", "10110", any),
    ("fcvtxn", "1", "0i", "10110", sz1),
    ("fcvtl", "0", "0i", "10111", any),
    ("frintn/frinta v", "i", "0i", "11000", fp),
    ("frintp v", "0", "1i", "11000", fp),
    ("frintm/frintx v", "i", "0i", "11001", fp),
    ("frintz/frinti v", "i", "1i", "11001", fp),
    ("fcvtn int v", "i", "0i", "11010", fp),
    ("fcvtp int v", "i", "1i", "11010", fp),
    ("fcvtm int v", "i", "0i", "11011", fp),
    ("fcvtz int v", "i", "1i", "11011", fp),
    ("fcvta int v", "i", "0i", "11100", fp),
    ("urecpe/ursqrte", "i", "1i", "11100", sz0),
    ("scvtf/ucvtf v", "i", "0i", "11101", fp),
    ("frecpe/frsqrte", "i", "1i", "11101", fp),
    ("frint32 v", "i", "0i", "11110", fp),
    ("frint64 v", "i", "0i", "11111", fp),
    ("fsqrt v", "1", "1i", "11111", fp),
];

const SCALAR_TWO_REG: &[Row] = &[
    ("suqadd s", "i", "ii", "00011", any),
    ("sqabs/sqneg s", "i", "ii", "00111", any),
    ("cmgt/cmge 0 s", "i", "ii", "01000", d),
    ("cmeq/cmle 0 s", "i", "ii", "01001", d),
    ("cmlt 0 s", "0", "ii", "01010", d),
    ("abs/neg s", "i", "ii", "01011", d),
    ("fcmgt/fcmge 0 s", "i", "1i", "01100", any),
    ("fcmeq/fcmle 0 s", "i", "1i", "01101", any),
    ("fcmlt 0 s", "0", "1i", "01110", any),
    ("sqxtun s", "1", "ii", "10010", bhs),
    ("sqxtn s", "i", "ii", "10100", bhs),
    ("fcvtxn s", "1", "0i", "10110", sz1),
    ("fcvtn int s", "i", "0i", "11010", any),
    ("fcvtp int s", "i", "1i", "11010", any),
    ("fcvtm int s", "i", "0i", "11011", any),
    ("fcvtz int s", "i", "1i", "11011", any),
    ("fcvta int s", "i", "0i", "11100", any),
    ("scvtf s", "i", "0i", "11101", any),
    ("frecpe/frsqrte s", "i", "1i", "11101", any),
    ("frecpx s", "0", "1i", "11111", any),
];

const ACROSS: &[Row] = &[
    ("addlv", "i", "ii", "00011", across),
    ("maxv", "i", "ii", "01010", across),
    ("minv", "i", "ii", "11010", across),
    ("addv", "0", "ii", "11011", across),
    ("fmaxnmv", "1", "0i", "01100", across_fp32),
    ("fminnmv", "1", "1i", "01100", across_fp32),
    ("fmaxv", "1", "0i", "01111", across_fp32),
    ("fminv", "1", "1i", "01111", across_fp32),
    ("fmaxnmv h", "0", "00", "01100", any),
    ("fminnmv h", "0", "10", "01100", any),
    ("fmaxv h", "0", "00", "01111", any),
    ("fminv h", "0", "10", "01111", any),
];

const PAIRWISE: &[Row] = &[
    ("addp s", "0", "11", "11011", any),
    ("fmaxnmp s", "1", "0i", "01100", any),
    ("faddp s", "1", "0i", "01101", any),
    ("fmaxp s", "1", "0i", "01111", any),
    ("fminnmp s", "1", "1i", "01100", any),
    ("fminp s", "1", "1i", "01111", any),
    ("fmaxnmp h", "0", "00", "01100", any),
    ("faddp h", "0", "00", "01101", any),
    ("fmaxp h", "0", "00", "01111", any),
    ("fminnmp h", "0", "10", "01100", any),
    ("fminp h", "0", "10", "01111", any),
];

const THREE_DIFFERENT: &[Row] = &[
    ("addl", "i", "ii", "0000", bhs),
    ("addw", "i", "ii", "0001", bhs),
    ("subl", "i", "ii", "0010", bhs),
    ("subw", "i", "ii", "0011", bhs),
    ("addhn", "i", "ii", "0100", bhs),
    ("abal", "i", "ii", "0101", bhs),
    ("subhn", "i", "ii", "0110", bhs),
    ("abdl", "i", "ii", "0111", bhs),
    ("mlal", "i", "ii", "1000", bhs),
    ("mlsl", "i", "ii", "1010", bhs),
    ("mull", "i", "ii", "1100", bhs),
    ("sqdmlal", "0", "ii", "1001", hs),
    ("sqdmlsl", "0", "ii", "1011", hs),
    ("sqdmull", "0", "ii", "1101", hs),
    ("pmull 8", "0", "ii", "1110", b),
];

const SCALAR_THREE_DIFFERENT: &[Row] = &[
    ("sqdmlal s", "0", "ii", "1001", hs),
    ("sqdmlsl s", "0", "ii", "1011", hs),
    ("sqdmull s", "0", "ii", "1101", hs),
];

/// By element, floating point: half with any index, single, and double with L = 0 (and Q = 1 as a vector).
fn element_fp(w: u32) -> bool {
    match size(w) {
        0 | 2 => true,
        3 => q(w) && bits(w, 21, 21) == 0,
        _ => false,
    }
}

/// FCMLA by element: half (an index inside the register) or single.
fn element_complex(w: u32) -> bool {
    match size(w) {
        1 => q(w) || bits(w, 11, 11) == 0,
        2 => q(w) && bits(w, 21, 21) == 0,
        _ => false,
    }
}

fn s(w: u32) -> bool {
    size(w) == 2
}

const BY_ELEMENT: &[Row] = &[
    ("mla elt", "1", "ii", "0000", hs),
    ("mls elt", "1", "ii", "0100", hs),
    ("mul elt", "0", "ii", "1000", hs),
    ("mlal elt", "i", "ii", "0010", hs),
    ("mlsl elt", "i", "ii", "0110", hs),
    ("mull elt", "i", "ii", "1010", hs),
    ("sqdmlal elt", "0", "ii", "0011", hs),
    ("sqdmlsl elt", "0", "ii", "0111", hs),
    ("sqdmull elt", "0", "ii", "1011", hs),
    ("sqdmulh elt", "0", "ii", "1100", hs),
    ("sqrdmulh elt", "0", "ii", "1101", hs),
    ("sqrdmlah elt", "1", "ii", "1101", hs),
    ("sqrdmlsh elt", "1", "ii", "1111", hs),
    ("dot elt", "i", "ii", "1110", s),
    ("fmlal elt", "0", "10", "0i00", any),
    ("fmlal2 elt", "1", "10", "1i00", any),
    ("fmla elt", "0", "ii", "0001", element_fp),
    ("fmls elt", "0", "ii", "0101", element_fp),
    ("fmul elt", "i", "ii", "1001", element_fp),
    ("fcmla elt", "1", "ii", "0ii1", element_complex),
];

/// The scalar forms have bit 30 set, so a double element passes [`element_fp`] as it should.
const SCALAR_BY_ELEMENT: &[Row] = &[
    ("sqdmlal s elt", "0", "ii", "0011", hs),
    ("sqdmlsl s elt", "0", "ii", "0111", hs),
    ("sqdmull s elt", "0", "ii", "1011", hs),
    ("sqdmulh s elt", "0", "ii", "1100", hs),
    ("sqrdmulh s elt", "0", "ii", "1101", hs),
    ("sqrdmlah s elt", "1", "ii", "1101", hs),
    ("sqrdmlsh s elt", "1", "ii", "1111", hs),
    ("fmla s elt", "0", "ii", "0001", element_fp),
    ("fmls s elt", "0", "ii", "0101", element_fp),
    ("fmul s elt", "i", "ii", "1001", element_fp),
];

fn immh(w: u32) -> u32 {
    bits(w, 22, 19)
}

fn shift(w: u32) -> bool {
    immh(w) != 0 && (immh(w) < 8 || q(w))
}

fn shift_narrow(w: u32) -> bool {
    matches!(immh(w), 1..=7)
}

fn shift_fp(w: u32) -> bool {
    immh(w) >= 2 && (immh(w) < 8 || q(w))
}

fn shift_d(w: u32) -> bool {
    immh(w) >= 8
}

fn shift_any(w: u32) -> bool {
    immh(w) != 0
}

fn shift_fp_scalar(w: u32) -> bool {
    immh(w) >= 2
}

type ShiftRow = (&'static str, &'static str, &'static str, fn(u32) -> bool);

const SHIFT: &[ShiftRow] = &[
    ("shr", "i", "00000", shift),
    ("sra", "i", "00010", shift),
    ("rshr", "i", "00100", shift),
    ("rsra", "i", "00110", shift),
    ("sri", "1", "01000", shift),
    ("shl/sli", "i", "01010", shift),
    ("sqshlu", "1", "01100", shift),
    ("qshl imm", "i", "01110", shift),
    ("shrn/sqshrun", "i", "10000", shift_narrow),
    ("rshrn/sqrshrun", "i", "10001", shift_narrow),
    ("qshrn", "i", "10010", shift_narrow),
    ("qrshrn", "i", "10011", shift_narrow),
    ("shll imm", "i", "10100", shift_narrow),
    ("cvtf fixed v", "i", "11100", shift_fp),
    ("fcvtz fixed v", "i", "11111", shift_fp),
];

const SCALAR_SHIFT: &[ShiftRow] = &[
    ("shr s", "i", "00000", shift_d),
    ("sra s", "i", "00010", shift_d),
    ("rshr s", "i", "00100", shift_d),
    ("rsra s", "i", "00110", shift_d),
    ("sri s", "1", "01000", shift_d),
    ("shl/sli s", "i", "01010", shift_d),
    ("sqshlu s", "1", "01100", shift_any),
    ("qshl imm s", "i", "01110", shift_any),
    ("sqshrun s", "1", "10000", shift_narrow),
    ("sqrshrun s", "1", "10001", shift_narrow),
    ("qshrn s", "i", "10010", shift_narrow),
    ("qrshrn s", "i", "10011", shift_narrow),
    ("cvtf fixed s", "i", "11100", shift_fp_scalar),
    ("fcvtz fixed s", "i", "11111", shift_fp_scalar),
];

/// Lowest set bit of imm5: the element size of the copy instructions.
fn element(w: u32) -> u32 {
    bits(w, 20, 16).trailing_zeros()
}

fn copy(w: u32) -> bool {
    element(w) < 3 || (element(w) == 3 && q(w))
}

fn copy_any(w: u32) -> bool {
    element(w) <= 3
}

fn smov(w: u32) -> bool {
    element(w) < 2 || (element(w) == 2 && q(w))
}

fn umov(w: u32) -> bool {
    if q(w) { element(w) == 3 } else { element(w) < 3 }
}

/// MOVI, MVNI, ORR, BIC, FMOV: op = 1 with cmode = 1111 is the 2D form only.
fn modified_immediate(w: u32) -> bool {
    !(bits(w, 29, 29) == 1 && bits(w, 15, 12) == 15 && !q(w))
}

fn ext(w: u32) -> bool {
    q(w) || bits(w, 14, 14) == 0
}

fn complex(w: u32) -> bool {
    size(w) != 0 && no_1d(w)
}

fn special(all: &mut Vec<Encoding>) {
    let e = Encoding::new;
    all.extend([
        e("fmlal/fmlsl", "0i0 01110 i0 1 BBBBB 11101 1 AAAAA VVVVV", any),
        e("fmlal2/fmlsl2", "0i1 01110 i0 1 BBBBB 11001 1 AAAAA VVVVV", any),
        e("sqrdmlah/sqrdmlsh", "0i1 01110 ii 0 BBBBB 1 000i 1 AAAAA VVVVV", hs),
        e("sqrdmlah s", "011 11110 ii 0 BBBBB 1 000i 1 AAAAA VVVVV", hs),
        e("sdot/udot", "0ii 01110 ii 0 BBBBB 1 0010 1 AAAAA VVVVV", s),
        e("fcmla", "0i1 01110 ii 0 BBBBB 1 10ii 1 AAAAA VVVVV", complex),
        e("fcadd", "0i1 01110 ii 0 BBBBB 1 11i0 1 AAAAA VVVVV", complex),
        e("dup elt", "0i0 01110000 iiiii 0 0000 1 AAAAA VVVVV", copy),
        e("dup gen", "0i0 01110000 iiiii 0 0001 1 nnnnn VVVVV", copy),
        e("smov", "0i0 01110000 iiiii 0 0101 1 AAAAA ddddd", smov),
        e("umov", "0i0 01110000 iiiii 0 0111 1 AAAAA ddddd", umov),
        e("ins gen", "010 01110000 iiiii 0 0011 1 nnnnn VVVVV", copy_any),
        e("ins elt", "011 01110000 iiiii 0 iiii 1 AAAAA VVVVV", copy_any),
        e("dup s", "010 11110000 iiiii 0 0000 1 AAAAA VVVVV", copy_any),
        e("modified imm", "0ii 0111100000 iii iiii 01 iiiii VVVVV", modified_immediate),
        e("fmov imm h", "0i0 0111100000 iii 1111 11 iiiii VVVVV", any),
        e("uzp1", "0i0 01110 ii 0 BBBBB 0 001 10 AAAAA VVVVV", no_1d),
        e("trn1", "0i0 01110 ii 0 BBBBB 0 010 10 AAAAA VVVVV", no_1d),
        e("zip1", "0i0 01110 ii 0 BBBBB 0 011 10 AAAAA VVVVV", no_1d),
        e("uzp2", "0i0 01110 ii 0 BBBBB 0 101 10 AAAAA VVVVV", no_1d),
        e("trn2", "0i0 01110 ii 0 BBBBB 0 110 10 AAAAA VVVVV", no_1d),
        e("zip2", "0i0 01110 ii 0 BBBBB 0 111 10 AAAAA VVVVV", no_1d),
        e("ext", "0i1 01110 00 0 BBBBB 0 iiii 0 AAAAA VVVVV", ext),
        e("tbl", "0i0 01110 00 0 BBBBB 0 ii 0 00 AAAAA VVVVV", any),
        e("tbx", "0i0 01110 00 0 BBBBB 0 ii 1 00 AAAAA VVVVV", any),
    ]);
}

/// Half-precision forms of the three-same rows: opcode<2:0> and the leading size bit are kept.
fn half_three_same(all: &mut Vec<Encoding>, rows: &[Row], top: &str) {
    for (name, u, size, opcode, _) in rows.iter().filter(|r| r.3.starts_with("11") && r.2.ends_with('i')) {
        if size.len() == 2 && !size.starts_with('i') {
            let (a, low) = (&size[..1], &opcode[2..]);
            let pattern = format!("{top}{u} {}1110 {a}10 BBBBB 00 {low} 1 AAAAA VVVVV", scalar_bit(top));
            all.push(Encoding::new(name, &pattern, any));
        }
    }
}

/// Half-precision forms of the two-register rows, which are the floating-point ones less a few.
fn half_two_reg(all: &mut Vec<Encoding>, rows: &[Row], top: &str) {
    const NOT_HALF: &[&str] =
        &["fcvtn", "fcvtxn", "fcvtl", "fcvtxn s", "urecpe/ursqrte", "frint32 v", "frint64 v"];
    for (name, u, size, opcode, _) in
        rows.iter().filter(|r| !r.2.starts_with('i') && !NOT_HALF.contains(&r.0))
    {
        let a = &size[..1];
        let pattern = format!("{top}{u} {}1110 {a}111100 {opcode} 10 AAAAA VVVVV", scalar_bit(top));
        all.push(Encoding::new(name, &pattern, any));
    }
}

/// Bit 28: the scalar forms have it set.
fn scalar_bit(top: &str) -> &'static str {
    if top == "01" { "1" } else { "0" }
}

/// The encodings of this class.
pub fn table() -> Vec<Encoding> {
    let mut all = Vec::new();
    for (rows, scalar) in [(THREE_SAME, false), (SCALAR_THREE_SAME, true)] {
        let top = if scalar { "01" } else { "0i" };
        for (name, u, size, opcode, ok) in rows {
            let pattern = format!("{top}{u} {}1110 {size} 1 BBBBB {opcode} 1 AAAAA VVVVV", scalar_bit(top));
            all.push(Encoding::new(name, &pattern, *ok));
        }
        half_three_same(&mut all, rows, top);
    }
    for (rows, scalar) in [(TWO_REG, false), (SCALAR_TWO_REG, true)] {
        let top = if scalar { "01" } else { "0i" };
        for (name, u, size, opcode, ok) in rows {
            let pattern = format!("{top}{u} {}1110 {size} 10000 {opcode} 10 AAAAA VVVVV", scalar_bit(top));
            all.push(Encoding::new(name, &pattern, *ok));
        }
        half_two_reg(&mut all, rows, top);
    }
    for (rows, top) in [(ACROSS, "0i"), (PAIRWISE, "01")] {
        for (name, u, size, opcode, ok) in rows {
            let pattern = format!("{top}{u} {}1110 {size} 11000 {opcode} 10 AAAAA VVVVV", scalar_bit(top));
            all.push(Encoding::new(name, &pattern, *ok));
        }
    }
    for (rows, top) in [(THREE_DIFFERENT, "0i"), (SCALAR_THREE_DIFFERENT, "01")] {
        for (name, u, size, opcode, ok) in rows {
            let pattern = format!("{top}{u} {}1110 {size} 1 BBBBB {opcode} 00 AAAAA VVVVV", scalar_bit(top));
            all.push(Encoding::new(name, &pattern, *ok));
        }
    }
    for (rows, top) in [(BY_ELEMENT, "0i"), (SCALAR_BY_ELEMENT, "01")] {
        for (name, u, size, opcode, ok) in rows {
            let pattern = format!("{top}{u} {}1111 {size} iiBBBB {opcode} i 0 AAAAA VVVVV", scalar_bit(top));
            all.push(Encoding::new(name, &pattern, *ok));
        }
    }
    for (rows, top) in [(SHIFT, "0i"), (SCALAR_SHIFT, "01")] {
        for (name, u, opcode, ok) in rows {
            let pattern = format!("{top}{u} {}11110 iiii iii {opcode} 1 AAAAA VVVVV", scalar_bit(top));
            all.push(Encoding::new(name, &pattern, *ok));
        }
    }
    special(&mut all);
    all
}
