//! Loads and stores (Arm ARM C4.1.94).
//!
//! Predicates also refuse what is CONSTRAINED UNPREDICTABLE by the word alone (`LDP` with equal targets, odd `CASP`
//! pairs); write-back onto a transferred register cannot arise because the generator never transfers a base.

use super::{Encoding, any, bits};

/// How an address is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `[Xn]`.
    Base,
    /// `[Xn, #imm12 * size]`.
    Unsigned,
    /// `[Xn, #imm9]`, without write-back.
    Unscaled,
    /// `[Xn, #imm9]!`.
    Pre,
    /// `[Xn], #imm9`.
    Post,
    /// `[Xn, Xm, extend]`.
    Register,
    /// `[Xn, #imm7 * size]`, without write-back.
    Pair,
    /// `[Xn, #imm7 * size]!`.
    PairPre,
    /// `[Xn], #imm7 * size`.
    PairPost,
    /// `[Xn], #bytes` or `[Xn], Xm`: the SIMD structures.
    StructPost,
}

/// The address of a load or store.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// How the address is made.
    pub mode: Mode,
    /// log2 of the unit of the immediate.
    pub scale: fn(u32) -> u32,
    /// Bytes touched in all.
    pub bytes: fn(u32) -> u32,
    /// Alignment that avoids a fault, in bytes.
    pub align: fn(u32) -> u32,
}

impl Mode {
    /// Whether Rm is an index.
    pub fn has_index(self) -> bool {
        matches!(self, Mode::Register | Mode::StructPost)
    }

    /// Whether the base register changes.
    pub fn writes_back(self) -> bool {
        matches!(self, Mode::Pre | Mode::Post | Mode::PairPre | Mode::PairPost | Mode::StructPost)
    }
}

fn one(_: u32) -> u32 {
    1
}

/// log2 of the access size of the single-register forms.
fn scale_single(w: u32) -> u32 {
    let size = bits(w, 31, 30);
    if bits(w, 26, 26) == 1 && bits(w, 23, 23) == 1 { 4 } else { size }
}

fn bytes_single(w: u32) -> u32 {
    1 << scale_single(w)
}

fn scale_pair(w: u32) -> u32 {
    let opc = bits(w, 31, 30);
    if bits(w, 26, 26) == 1 { 2 + opc } else { 2 + (opc >> 1) }
}

fn bytes_pair(w: u32) -> u32 {
    2 << scale_pair(w)
}

fn size_bytes(w: u32) -> u32 {
    1 << bits(w, 31, 30)
}

/// LDXP, STXP: two of 4 or 8 bytes.
fn pair_exclusive(w: u32) -> u32 {
    8 << bits(w, 30, 30)
}

/// CASP: two of 4 or 8 bytes.
fn casp_bytes(w: u32) -> u32 {
    8 << bits(w, 30, 30)
}

/// LD1-LD4 (multiple structures): registers named by opcode.
fn struct_registers(w: u32) -> u32 {
    match bits(w, 15, 12) {
        0b0000 | 0b0010 => 4,
        0b0100 | 0b0110 => 3,
        0b1000 | 0b1010 => 2,
        _ => 1,
    }
}

/// Bytes of LD1-LD4 (multiple structures).
pub fn struct_bytes(w: u32) -> u32 {
    struct_registers(w) * (8 << bits(w, 30, 30))
}

/// Elements of the single-structure forms.
fn single_elements(w: u32) -> u32 {
    (bits(w, 13, 13) << 1 | bits(w, 21, 21)) + 1
}

fn single_struct_bytes(w: u32) -> u32 {
    let log2 = match bits(w, 15, 14) {
        0 => 0,
        1 => 1,
        2 => 2 + bits(w, 10, 10),
        _ => bits(w, 11, 10),
    };
    single_elements(w) << log2
}

/// size:opc of the general-register forms.
fn gpr(w: u32) -> bool {
    let (size, opc) = (bits(w, 31, 30), bits(w, 23, 22));
    match size {
        0 | 1 => true,
        2 => opc != 3,
        _ => opc < 2,
    }
}

/// size:opc of the SIMD&FP forms.
fn vector(w: u32) -> bool {
    bits(w, 23, 23) == 0 || bits(w, 31, 30) == 0
}

fn option(w: u32) -> bool {
    bits(w, 14, 14) == 1
}

fn gpr_register(w: u32) -> bool {
    gpr(w) && option(w)
}

fn vector_register(w: u32) -> bool {
    vector(w) && option(w)
}

fn distinct_load(w: u32) -> bool {
    bits(w, 22, 22) == 0 || bits(w, 4, 0) != bits(w, 14, 10)
}

/// Pairs of general registers: 32 or 64 bits, or LDPSW (a load).
fn gpr_pair(w: u32) -> bool {
    let (opc, load) = (bits(w, 31, 30), bits(w, 22, 22) == 1);
    (opc == 0 || opc == 2 || (opc == 1 && load)) && distinct_load(w)
}

/// LDNP and STNP have no LDPSW.
fn gpr_pair_nt(w: u32) -> bool {
    bits(w, 30, 30) == 0 && distinct_load(w)
}

fn vector_pair(w: u32) -> bool {
    bits(w, 31, 30) != 3 && distinct_load(w)
}

fn structures(w: u32) -> bool {
    match bits(w, 15, 12) {
        0b0010 | 0b0110 | 0b0111 | 0b1010 => true,
        0b0000 | 0b0100 | 0b1000 => bits(w, 11, 10) != 3 || bits(w, 30, 30) == 1,
        _ => false,
    }
}

fn single_structure(w: u32) -> bool {
    let (size, s, load) = (bits(w, 11, 10), bits(w, 12, 12), bits(w, 22, 22));
    match bits(w, 15, 14) {
        0 => true,
        1 => size & 1 == 0,
        2 => size == 0 || (size == 1 && s == 0),
        _ => load == 1 && s == 0,
    }
}

fn casp(w: u32) -> bool {
    bits(w, 16, 16) == 0 && bits(w, 0, 0) == 0
}

fn ldxp(w: u32) -> bool {
    bits(w, 4, 0) != bits(w, 14, 10)
}

/// LDAPUR and STLUR: as the general-register forms.
fn rcpc(w: u32) -> bool {
    gpr(w)
}

fn struct_rows(all: &mut Vec<Encoding>) {
    let multiple = |mode| Access { mode, scale: |_| 0, bytes: struct_bytes, align: one };
    let single = |mode| Access { mode, scale: |_| 0, bytes: single_struct_bytes, align: one };
    type Row = (&'static str, &'static str, fn(u32) -> bool, Access);
    let rows: [Row; 4] = [
        ("ld/st multiple", "0i 0011000 i 000000 iiii ii NNNNN VVVVV", structures, multiple(Mode::Base)),
        (
            "ld/st multiple post",
            "0i 0011001 i 0 mmmmm iiii ii NNNNN VVVVV",
            structures,
            multiple(Mode::StructPost),
        ),
        ("ld/st single", "0i 0011010 i i 00000 iii i ii NNNNN VVVVV", single_structure, single(Mode::Base)),
        (
            "ld/st single post",
            "0i 0011011 i i mmmmm iii i ii NNNNN VVVVV",
            single_structure,
            single(Mode::StructPost),
        ),
    ];
    for (name, pattern, ok, access) in rows {
        all.push(Encoding { access: Some(access), ..Encoding::new(name, pattern, ok) });
    }
}

fn atomic_rows(all: &mut Vec<Encoding>) {
    let atomic = Access { mode: Mode::Base, scale: scale_single, bytes: size_bytes, align: size_bytes };
    let rows: [(&'static str, &str); 8] = [
        ("ldadd..ldset", "ii 111000 ii 1 mmmmm 00ii 00 NNNNN ddddd"),
        ("ldsmax..ldumin", "ii 111000 ii 1 mmmmm 01ii 00 NNNNN ddddd"),
        ("swp", "ii 111000 ii 1 mmmmm 1000 00 NNNNN ddddd"),
        ("ldapr", "ii 111000 10 1 11111 1100 00 NNNNN ddddd"),
        ("cas", "ii 001000 1i 1 mmmmm i 11111 NNNNN ddddd"),
        ("ldar", "ii 001000 11 0 11111 1 11111 NNNNN ddddd"),
        ("stlr", "ii 001000 10 0 11111 1 11111 NNNNN ddddd"),
        ("ldxr/ldaxr", "ii 001000 01 0 11111 i 11111 NNNNN ddddd"),
    ];
    for (name, pattern) in rows {
        all.push(Encoding { access: Some(atomic), ..Encoding::new(name, pattern, any) });
    }
    let pair = Access { mode: Mode::Base, scale: |_| 0, bytes: casp_bytes, align: casp_bytes };
    let e = Encoding::new("casp", "0i 001000 0i 1 mmmmm i 11111 NNNNN ddddd", casp);
    all.push(Encoding { access: Some(pair), ..e });
    let pair = Access { mode: Mode::Base, scale: |_| 0, bytes: pair_exclusive, align: pair_exclusive };
    let e = Encoding::new("ldxp/ldaxp", "1i 001000 01 1 11111 i aaaaa NNNNN ddddd", ldxp);
    all.push(Encoding { access: Some(pair), ..e });
    let unscaled = Access { mode: Mode::Unscaled, ..atomic };
    let e = Encoding::new("ldapur/stlur", "ii 011001 ii 0 iiiiiiiii 00 NNNNN ddddd", rcpc);
    all.push(Encoding { access: Some(unscaled), ..e });
}

fn single_rows(all: &mut Vec<Encoding>) {
    let access = |mode| Access { mode, scale: scale_single, bytes: bytes_single, align: one };
    type Row = (&'static str, &'static str, fn(u32) -> bool, Mode);
    let rows: [Row; 14] = [
        ("ldst unsigned", "ii 111 0 01 ii iiiiiiiiiiii NNNNN ddddd", gpr, Mode::Unsigned),
        ("ldst unscaled", "ii 111 0 00 ii 0 iiiiiiiii 00 NNNNN ddddd", gpr, Mode::Unscaled),
        ("ldst post", "ii 111 0 00 ii 0 iiiiiiiii 01 NNNNN ddddd", gpr, Mode::Post),
        ("ldst unprivileged", "ii 111 0 00 ii 0 iiiiiiiii 10 NNNNN ddddd", gpr, Mode::Unscaled),
        ("ldst pre", "ii 111 0 00 ii 0 iiiiiiiii 11 NNNNN ddddd", gpr, Mode::Pre),
        ("ldst register", "ii 111 0 00 ii 1 mmmmm i1i i 10 NNNNN ddddd", gpr_register, Mode::Register),
        ("ldst v unsigned", "ii 111 1 01 ii iiiiiiiiiiii NNNNN VVVVV", vector, Mode::Unsigned),
        ("ldst v unscaled", "ii 111 1 00 ii 0 iiiiiiiii 00 NNNNN VVVVV", vector, Mode::Unscaled),
        ("ldst v post", "ii 111 1 00 ii 0 iiiiiiiii 01 NNNNN VVVVV", vector, Mode::Post),
        ("ldst v pre", "ii 111 1 00 ii 0 iiiiiiiii 11 NNNNN VVVVV", vector, Mode::Pre),
        ("ldst v register", "ii 111 1 00 ii 1 mmmmm i1i i 10 NNNNN VVVVV", vector_register, Mode::Register),
        ("prfm", "11 111 0 01 10 iiiiiiiiiiii NNNNN iiiii", any, Mode::Unsigned),
        ("prfum", "11 111 0 00 10 0 iiiiiiiii 00 NNNNN iiiii", any, Mode::Unscaled),
        // Rt = 11xxx is RPRFM, a hint as well.
        ("prfm register", "11 111 0 00 10 1 mmmmm i1i i 10 NNNNN iiiii", any, Mode::Register),
    ];
    for (name, pattern, ok, mode) in rows {
        all.push(Encoding { access: Some(access(mode)), ..Encoding::new(name, pattern, ok) });
    }
}

fn pair_rows(all: &mut Vec<Encoding>) {
    let access = |mode| Access { mode, scale: scale_pair, bytes: bytes_pair, align: one };
    type Row = (&'static str, &'static str, fn(u32) -> bool, Mode);
    let rows: [Row; 8] = [
        ("ldnp/stnp", "ii 101 0 000 i iiiiiii aaaaa NNNNN ddddd", gpr_pair_nt, Mode::Pair),
        ("ldp/stp post", "ii 101 0 001 i iiiiiii aaaaa NNNNN ddddd", gpr_pair, Mode::PairPost),
        ("ldp/stp", "ii 101 0 010 i iiiiiii aaaaa NNNNN ddddd", gpr_pair, Mode::Pair),
        ("ldp/stp pre", "ii 101 0 011 i iiiiiii aaaaa NNNNN ddddd", gpr_pair, Mode::PairPre),
        ("ldnp/stnp v", "ii 101 1 000 i iiiiiii CCCCC NNNNN VVVVV", vector_pair, Mode::Pair),
        ("ldp/stp v post", "ii 101 1 001 i iiiiiii CCCCC NNNNN VVVVV", vector_pair, Mode::PairPost),
        ("ldp/stp v", "ii 101 1 010 i iiiiiii CCCCC NNNNN VVVVV", vector_pair, Mode::Pair),
        ("ldp/stp v pre", "ii 101 1 011 i iiiiiii CCCCC NNNNN VVVVV", vector_pair, Mode::PairPre),
    ];
    for (name, pattern, ok, mode) in rows {
        all.push(Encoding { access: Some(access(mode)), ..Encoding::new(name, pattern, ok) });
    }
}

/// The encodings of this class. Literal loads, store-exclusives and memory copies need company and are composed by
/// the generator.
pub fn table() -> Vec<Encoding> {
    let mut all = Vec::new();
    single_rows(&mut all);
    pair_rows(&mut all);
    atomic_rows(&mut all);
    struct_rows(&mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structure_sizes() {
        assert_eq!(struct_bytes(0x4C40_0000), 64); // LD4 {16B x 4}
        assert_eq!(struct_bytes(0x0C40_7000), 8); // LD1 {8B}
        assert_eq!(single_struct_bytes(0x0D40_0000), 1); // LD1 {B}[0]
        assert_eq!(single_struct_bytes(0x4D60_E400), 8); // LD4R {8H}
        assert_eq!(single_struct_bytes(0x0D60_A400), 32); // LD4 {D}[0]
    }

    #[test]
    fn pairs_know_their_unit() {
        assert_eq!(bytes_pair(0xA940_0000), 16);
        assert_eq!(bytes_pair(0x6940_0000), 8); // LDPSW
        assert_eq!(bytes_pair(0xAD40_0000), 32);
        assert!(!gpr_pair(0xA940_0000)); // LDP X0, X0
    }
}
