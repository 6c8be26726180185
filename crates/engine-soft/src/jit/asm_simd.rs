//! The assembler's vector instructions: VEX (AVX2, FMA, F16C, AES, PCLMULQDQ), EVEX where the host has AVX-512VL, and
//! SHA-NI, which has legacy encodings only. All of 128 bits.
//!
//! An instruction is a constant [`V`] that says how it is encoded; the methods say what operands it takes. Encodings:
//! Intel SDM volume 2.

use super::asm::{Asm, Gpr, Map, Mem, Pp, Rm};

/// A vector register by number: 0 to 15, with EVEX to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Xmm(pub u8);

/// A vector register or memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum XmmM {
    R(Xmm),
    M(Mem),
    /// At an address of the same mapping as the code.
    At(u64),
}

impl From<Xmm> for XmmM {
    fn from(x: Xmm) -> Self {
        Self::R(x)
    }
}

impl From<Mem> for XmmM {
    fn from(m: Mem) -> Self {
        Self::M(m)
    }
}

/// An instruction: prefix, map, opcode, W.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct V(pub Pp, pub Map, pub u8, pub bool);

/// A shift by an immediate: opcode and opcode extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShiftImm(pub u8, pub u8);

/// The instructions that the translator uses, by their mnemonics.
#[rustfmt::skip]
pub(crate) mod op {
    use super::{Map, Pp, ShiftImm, V};

    const fn p0f(opcode: u8) -> V { V(Pp::P66, Map::M0f, opcode, false) }
    const fn p38(opcode: u8) -> V { V(Pp::P66, Map::M0f38, opcode, false) }
    const fn p3a(opcode: u8) -> V { V(Pp::P66, Map::M0f3a, opcode, false) }

    pub const PUNPCKL: [V; 4] = [p0f(0x60), p0f(0x61), p0f(0x62), p0f(0x6c)];
    pub const PUNPCKH: [V; 4] = [p0f(0x68), p0f(0x69), p0f(0x6a), p0f(0x6d)];
    pub const PUNPCKLQDQ: V = PUNPCKL[3];
    pub const PUNPCKHQDQ: V = PUNPCKH[3];
    pub const PACKSS: [V; 2] = [p0f(0x63), p0f(0x6b)];
    pub const PACKUS: [V; 2] = [p0f(0x67), p38(0x2b)];
    pub const PCMPEQ: [V; 4] = [p0f(0x74), p0f(0x75), p0f(0x76), p38(0x29)];
    pub const PCMPGT: [V; 4] = [p0f(0x64), p0f(0x65), p0f(0x66), p38(0x37)];
    pub const PADD: [V; 4] = [p0f(0xfc), p0f(0xfd), p0f(0xfe), p0f(0xd4)];
    pub const PSUB: [V; 4] = [p0f(0xf8), p0f(0xf9), p0f(0xfa), p0f(0xfb)];
    pub const PADDS: [V; 2] = [p0f(0xec), p0f(0xed)];
    pub const PSUBS: [V; 2] = [p0f(0xe8), p0f(0xe9)];
    pub const PADDUS: [V; 2] = [p0f(0xdc), p0f(0xdd)];
    pub const PSUBUS: [V; 2] = [p0f(0xd8), p0f(0xd9)];
    pub const PMAXS: [V; 3] = [p38(0x3c), p0f(0xee), p38(0x3d)];
    pub const PMAXU: [V; 3] = [p0f(0xde), p38(0x3e), p38(0x3f)];
    pub const PMINS: [V; 3] = [p38(0x38), p0f(0xea), p38(0x39)];
    pub const PMINU: [V; 3] = [p0f(0xda), p38(0x3a), p38(0x3b)];
    pub const PABS: [V; 3] = [p38(0x1c), p38(0x1d), p38(0x1e)];
    pub const PAVG: [V; 2] = [p0f(0xe0), p0f(0xe3)];
    pub const PMULLW: V = p0f(0xd5);
    pub const PMULHW: V = p0f(0xe5);
    pub const PMULHUW: V = p0f(0xe4);
    pub const PMULHRSW: V = p38(0x0b);
    pub const PMULLD: V = p38(0x40);
    pub const PMULDQ: V = p38(0x28);
    pub const PMULUDQ: V = p0f(0xf4);
    pub const PMADDWD: V = p0f(0xf5);
    pub const PMADDUBSW: V = p38(0x04);
    pub const PSADBW: V = p0f(0xf6);
    pub const PHADDD: V = p38(0x02);
    pub const PAND: V = p0f(0xdb);
    pub const PANDN: V = p0f(0xdf);
    pub const POR: V = p0f(0xeb);
    pub const PXOR: V = p0f(0xef);
    pub const PTEST: V = p38(0x17);
    pub const PMOVMSKB: V = p0f(0xd7);
    pub const PSHUFB: V = p38(0x00);
    pub const PSHUFD: V = p0f(0x70);
    pub const PALIGNR: V = p3a(0x0f);
    pub const PBLENDW: V = p3a(0x0e);
    pub const PBLENDD: V = p3a(0x02);
    pub const PBLENDVB: V = p3a(0x4c);
    /// From elements of the size that is the index to those of twice the size.
    pub const PMOVSX: [V; 3] = [p38(0x20), p38(0x23), p38(0x25)];
    pub const PMOVZX: [V; 3] = [p38(0x30), p38(0x33), p38(0x35)];
    pub const PBROADCAST: [V; 4] = [p38(0x78), p38(0x79), p38(0x58), p38(0x59)];
    /// By the count in the low half of an operand.
    pub const PSLLV: [V; 2] = [p38(0x47), V(Pp::P66, Map::M0f38, 0x47, true)];
    pub const PSRLV: [V; 2] = [p38(0x45), V(Pp::P66, Map::M0f38, 0x45, true)];
    pub const PSRAVD: V = p38(0x46);
    pub const PCLMULQDQ: V = p3a(0x44);
    pub const AESIMC: V = p38(0xdb);
    pub const AESENC: V = p38(0xdc);
    pub const AESENCLAST: V = p38(0xdd);
    pub const AESDEC: V = p38(0xde);
    pub const AESDECLAST: V = p38(0xdf);
    pub const GF2P8AFFINEQB: V = V(Pp::P66, Map::M0f3a, 0xce, true);

    /// Of 16-, 32- and 64-bit elements; there is none of bytes.
    pub const PSRL: [ShiftImm; 4] = [ShiftImm(0, 0), ShiftImm(0x71, 2), ShiftImm(0x72, 2), ShiftImm(0x73, 2)];
    pub const PSRA: [ShiftImm; 3] = [ShiftImm(0, 0), ShiftImm(0x71, 4), ShiftImm(0x72, 4)];
    pub const PSLL: [ShiftImm; 4] = [ShiftImm(0, 0), ShiftImm(0x71, 6), ShiftImm(0x72, 6), ShiftImm(0x73, 6)];
    /// Of the whole by bytes.
    pub const PSRLDQ: ShiftImm = ShiftImm(0x73, 3);
    pub const PSLLDQ: ShiftImm = ShiftImm(0x73, 7);

    pub const MOVDQA: V = p0f(0x6f);
    pub const MOVDQU: V = V(Pp::Pf3, Map::M0f, 0x6f, false);
    /// The low half of a register or memory; the rest becomes zero.
    pub const MOVQ: V = V(Pp::Pf3, Map::M0f, 0x7e, false);
    pub const MOVDDUP: V = V(Pp::Pf2, Map::M0f, 0x12, false);
    pub const INSERTPS: V = p3a(0x21);
    pub const SHUFPS: V = V(Pp::None, Map::M0f, 0xc6, false);
    pub const SHUFPD: V = p0f(0xc6);
    pub const MOVMSKPS: V = V(Pp::None, Map::M0f, 0x50, false);
    pub const MOVMSKPD: V = p0f(0x50);

    /// Floating-point arithmetic: the opcode. See [`super::Fp`].
    pub const SQRT: u8 = 0x51;
    pub const ADD: u8 = 0x58;
    pub const MUL: u8 = 0x59;
    pub const SUB: u8 = 0x5c;
    pub const MIN: u8 = 0x5d;
    pub const DIV: u8 = 0x5e;
    pub const MAX: u8 = 0x5f;
    /// A comparison; the predicate is the immediate.
    pub const CMP: u8 = 0xc2;

    pub const HADDPS: V = V(Pp::Pf2, Map::M0f, 0x7c, false);
    pub const HADDPD: V = p0f(0x7c);
    /// Of packed singles, packed doubles, a single, a double; the immediate is the mode.
    pub const ROUND: [V; 4] = [p3a(0x08), p3a(0x09), p3a(0x0a), p3a(0x0b)];
    pub const UCOMIS: [V; 2] = [V(Pp::None, Map::M0f, 0x2e, false), p0f(0x2e)];
    pub const COMIS: [V; 2] = [V(Pp::None, Map::M0f, 0x2f, false), p0f(0x2f)];
    pub const CVTSS2SD: V = V(Pp::Pf3, Map::M0f, 0x5a, false);
    pub const CVTSD2SS: V = V(Pp::Pf2, Map::M0f, 0x5a, false);
    pub const CVTPS2PD: V = V(Pp::None, Map::M0f, 0x5a, false);
    pub const CVTPD2PS: V = p0f(0x5a);
    pub const CVTPH2PS: V = p38(0x13);
    pub const CVTPS2PH: V = p3a(0x1d);
    pub const CVTDQ2PS: V = V(Pp::None, Map::M0f, 0x5b, false);
    pub const CVTTPS2DQ: V = V(Pp::Pf3, Map::M0f, 0x5b, false);

    // EVEX, for hosts with AVX-512VL and what else it takes.
    pub const TERNLOG: V = p3a(0x25);
    pub const PSRAQ: ShiftImm = ShiftImm(0x72, 4);
    /// Rotations, by W of words or doublewords.
    pub const PROL: ShiftImm = ShiftImm(0x72, 1);
    pub const PROR: ShiftImm = ShiftImm(0x72, 0);
    pub const PSLLVW: V = V(Pp::P66, Map::M0f38, 0x12, true);
    pub const PSRLVW: V = V(Pp::P66, Map::M0f38, 0x10, true);
    pub const PSRAVW: V = V(Pp::P66, Map::M0f38, 0x11, true);
    pub const PSRAVQ: V = V(Pp::P66, Map::M0f38, 0x46, true);
    pub const PLZCNTD: V = p38(0x44);
    /// Between doubles and integers of 64 bits, signed and unsigned.
    pub const CVTTPD2QQ: V = V(Pp::P66, Map::M0f, 0x7a, true);
    pub const CVTTPD2UQQ: V = V(Pp::P66, Map::M0f, 0x78, true);
    pub const CVTQQ2PD: V = V(Pp::Pf3, Map::M0f, 0xe6, true);
    pub const CVTUQQ2PD: V = V(Pp::Pf3, Map::M0f, 0x7a, true);
    pub const PABSQ: V = V(Pp::P66, Map::M0f38, 0x1f, true);

    // SHA-NI.
    pub const SHA256RNDS2: u8 = 0xcb;
    pub const SHA256MSG1: u8 = 0xcc;
    pub const SHA256MSG2: u8 = 0xcd;
}

/// What floating-point arithmetic works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fp {
    pub double: bool,
    pub packed: bool,
}

impl Fp {
    /// The instruction of an opcode of [`op`].
    pub const fn op(self, opcode: u8) -> V {
        let pp = match (self.packed, self.double) {
            (true, false) => Pp::None,
            (true, true) => Pp::P66,
            (false, false) => Pp::Pf3,
            (false, true) => Pp::Pf2,
        };
        V(pp, Map::M0f, opcode, false)
    }

    /// A fused multiply-add: `opcode` is that of the packed form.
    pub const fn fused(self, opcode: u8) -> V {
        V(Pp::P66, Map::M0f38, opcode | !self.packed as u8, self.double)
    }

    /// The index of tables by packed single, packed double, scalar single, scalar double.
    pub const fn index(self) -> usize {
        (!self.packed as usize) << 1 | self.double as usize
    }
}

impl Asm {
    /// A VEX instruction with an immediate or none.
    fn vector(&mut self, V(pp, map, opcode, w): V, reg: u8, vvvv: u8, rm: XmmM, imm: Option<u8>) {
        match rm {
            XmmM::R(x) => self.vex((pp, map, opcode), (w, false), reg, vvvv, Rm::R(Gpr(x.0))),
            XmmM::M(m) => self.vex((pp, map, opcode), (w, false), reg, vvvv, Rm::M(m)),
            XmmM::At(address) => {
                let tail = (!vvvv & 15) << 3 | pp as u8;
                if map == Map::M0f && !w {
                    self.put(&[0xc5, (reg >> 3 ^ 1) << 7 | tail]);
                } else {
                    self.put(&[0xc4, (reg >> 3 ^ 1) << 7 | 0x60 | map as u8, u8::from(w) << 7 | tail]);
                }
                self.put(&[opcode, (reg & 7) << 3 | 5]);
                self.place(address, imm.is_some());
            }
        }
        if let Some(imm) = imm {
            self.put(&[imm]);
        }
    }

    /// The displacement from the end of an instruction, which it ends up to an immediate, to `address`.
    fn place(&mut self, address: u64, imm: bool) {
        let end = self.here().wrapping_add(4 + u64::from(imm));
        self.put(&(address.wrapping_sub(end) as i32).to_le_bytes());
    }

    /// `d = a op b`.
    pub fn v3(&mut self, op: V, d: Xmm, a: Xmm, b: impl Into<XmmM>) {
        let start = self.len();
        self.vector(op, d.0, a.0, b.into(), None);
        // A fused multiply-add reads its destination.
        if op.1 != Map::M0f38 || op.2 < 0x96 || op.2 > 0xbf {
            self.latest = (start, self.len());
        }
    }

    /// `d = a op b`, with an immediate.
    pub fn v3i(&mut self, op: V, d: Xmm, a: Xmm, b: impl Into<XmmM>, imm: u8) {
        let start = self.len();
        self.vector(op, d.0, a.0, b.into(), Some(imm));
        self.latest = (start, self.len());
    }

    /// `d = op a`.
    pub fn v2(&mut self, op: V, d: Xmm, a: impl Into<XmmM>) {
        self.vector(op, d.0, 0, a.into(), None);
    }

    /// `d = op a`, with an immediate.
    pub fn v2i(&mut self, op: V, d: Xmm, a: impl Into<XmmM>, imm: u8) {
        self.vector(op, d.0, 0, a.into(), Some(imm));
    }

    /// `d = b where the top bits of mask's elements are set, else a`.
    pub fn v_blend(&mut self, op: V, d: Xmm, a: Xmm, b: Xmm, mask: Xmm) {
        let start = self.len();
        self.vector(op, d.0, a.0, b.into(), Some(mask.0 << 4));
        self.latest = (start, self.len());
    }

    /// `d = a shifted by amount`.
    pub fn v_shift(&mut self, ShiftImm(opcode, extension): ShiftImm, d: Xmm, a: Xmm, amount: u8) {
        let op = V(Pp::P66, Map::M0f, opcode, false);
        self.vector(op, extension, d.0, a.into(), Some(amount));
    }

    /// `d = a`, unless they are the same.
    pub fn v_move(&mut self, d: Xmm, a: Xmm) {
        if d != a {
            self.v2(op::MOVDQA, d, a);
        }
    }

    /// As [`Asm::v_move`] of an `a` that is not needed any more: when the latest instruction has made it, that is
    /// changed to make `d`.
    pub fn v_take(&mut self, d: Xmm, a: Xmm) {
        let (start, end) = self.latest;
        if d == a || end != self.len() || start == end {
            return self.v_move(d, a);
        }
        let code = self.bytes_from(start);
        // The register is in ModRM behind the opcode and, inverted, in the top bit of the first byte behind C4 or C5.
        let modrm = if code[0] == 0xc5 { 3 } else { 4 };
        let made = (code[1] >> 7 ^ 1) << 3 | code[modrm] >> 3 & 7;
        if made != a.0 {
            return self.v_move(d, a);
        }
        code[1] = code[1] & 0x7f | (d.0 >> 3 ^ 1) << 7;
        code[modrm] = code[modrm] & 0xc7 | (d.0 & 7) << 3;
    }

    /// `d = 0`.
    pub fn v_zero(&mut self, d: Xmm) {
        self.v3(op::PXOR, d, d, d);
    }

    /// All bits of `d` set.
    pub fn v_ones(&mut self, d: Xmm) {
        self.v3(op::PCMPEQ[2], d, d, d);
    }

    /// The low 1 << `size` (2, 3) bytes of `d` = general register, the rest zero.
    pub fn v_from_gpr(&mut self, size: u8, d: Xmm, r: Gpr) {
        self.vex((Pp::P66, Map::M0f, 0x6e), (size == 3, false), d.0, 0, r.into());
    }

    /// General register = low 1 << `size` (2, 3) bytes of `a`, zero-extended.
    pub fn v_to_gpr(&mut self, size: u8, r: Gpr, a: Xmm) {
        self.writes(r);
        self.vex((Pp::P66, Map::M0f, 0x7e), (size == 3, false), a.0, 0, r.into());
    }

    /// General register = element `index` of 1 << `size` bytes of `a`, zero-extended.
    pub fn v_extract(&mut self, size: u8, r: Gpr, a: Xmm, index: u8) {
        self.writes(r);
        if index == 0 && size >= 2 {
            return self.v_to_gpr(size, r, a);
        }
        match size {
            0 => self.vex((Pp::P66, Map::M0f3a, 0x14), (false, false), a.0, 0, r.into()),
            1 => self.vex((Pp::P66, Map::M0f, 0xc5), (false, false), r.0, 0, Gpr(a.0).into()),
            _ => self.vex((Pp::P66, Map::M0f3a, 0x16), (size == 3, false), a.0, 0, r.into()),
        }
        self.put(&[index]);
    }

    /// `d = a` but element `index` of 1 << `size` bytes from a general register.
    pub fn v_insert(&mut self, size: u8, d: Xmm, a: Xmm, rm: impl Into<Rm>, index: u8) {
        let (map, opcode) = match size {
            0 => (Map::M0f3a, 0x20),
            1 => (Map::M0f, 0xc4),
            _ => (Map::M0f3a, 0x22),
        };
        self.vex((Pp::P66, map, opcode), (size == 3, false), d.0, a.0, rm.into());
        self.put(&[index]);
    }

    /// General register = bits of `a`: PMOVMSKB, MOVMSKPS, MOVMSKPD.
    pub fn v_mask(&mut self, op: V, r: Gpr, a: Xmm) {
        self.writes(r);
        self.v2(op, Xmm(r.0), a);
    }

    /// `d` = signed integer of 32 bits, or 64 with `w`; what lies above is that of `a`.
    pub fn v_from_int(&mut self, double: bool, w: bool, d: Xmm, a: Xmm, rm: impl Into<Rm>) {
        let pp = if double { Pp::Pf2 } else { Pp::Pf3 };
        self.vex((pp, Map::M0f, 0x2a), (w, false), d.0, a.0, rm.into());
    }

    /// General register = `a` rounded towards zero.
    pub fn v_truncate(&mut self, double: bool, w: bool, r: Gpr, a: Xmm) {
        self.writes(r);
        let pp = if double { Pp::Pf2 } else { Pp::Pf3 };
        self.vex((pp, Map::M0f, 0x2c), (w, false), r.0, 0, Gpr(a.0).into());
    }

    /// `d = memory` of 1 << `size` (2 to 4) bytes, the rest zero.
    pub fn v_load(&mut self, size: u8, d: Xmm, m: Mem) {
        match size {
            2 => self.vex((Pp::P66, Map::M0f, 0x6e), (false, false), d.0, 0, m.into()),
            3 => self.v2(op::MOVQ, d, m),
            _ => self.v2(op::MOVDQU, d, m),
        }
    }

    /// `memory = low 1 << size (0 to 4) bytes of a`.
    pub fn v_store(&mut self, size: u8, m: Mem, a: Xmm) {
        self.writes_memory(m, 16);
        let op = match size {
            // PEXTRB and PEXTRW.
            0 | 1 => return self.v2i(V(Pp::P66, Map::M0f3a, 0x14 | size, false), a, m, 0),
            2 => V(Pp::P66, Map::M0f, 0x7e, false),
            3 => V(Pp::P66, Map::M0f, 0xd6, false),
            _ => V(Pp::Pf3, Map::M0f, 0x7f, false),
        };
        self.v2(op, a, m);
    }

    /// `d = memory`, all of it.
    pub fn vmovups_load(&mut self, d: Xmm, m: Mem) {
        self.v2(V(Pp::None, Map::M0f, 0x10, false), d, m);
    }

    /// `memory = a`, all of it.
    pub fn vmovups_store(&mut self, m: Mem, a: Xmm) {
        self.writes_memory(m, 16);
        self.v2(V(Pp::None, Map::M0f, 0x11, false), a, m);
    }

    /// `d` becomes the half-precision form of the singles in `a`, rounded as MXCSR says.
    pub fn v_to_half(&mut self, d: Xmm, a: Xmm) {
        self.v2i(op::CVTPS2PH, a, d, 4);
    }

    /// An EVEX instruction: `d = a op b`.
    pub fn e3(&mut self, op: V, d: Xmm, a: Xmm, b: Xmm) {
        self.evex(op, d.0, a.0, b);
    }

    /// An EVEX instruction: `d = a op b`, with an immediate.
    pub fn e3i(&mut self, op: V, d: Xmm, a: Xmm, b: Xmm, imm: u8) {
        self.evex(op, d.0, a.0, b);
        self.put(&[imm]);
    }

    /// An EVEX shift of 32-bit elements, or 64-bit ones with `w`, by an immediate.
    pub fn e_shift(&mut self, ShiftImm(opcode, extension): ShiftImm, w: bool, d: Xmm, a: Xmm, amount: u8) {
        self.evex(V(Pp::P66, Map::M0f, opcode, w), extension, d.0, a);
        self.put(&[amount]);
    }

    fn evex(&mut self, V(pp, map, opcode, w): V, reg: u8, vvvv: u8, rm: Xmm) {
        let high = |register: u8, bit: u8| register >> bit & 1 ^ 1;
        self.put(&[
            0x62,
            high(reg, 3) << 7 | high(rm.0, 4) << 6 | high(rm.0, 3) << 5 | high(reg, 4) << 4 | map as u8,
            u8::from(w) << 7 | (!vvvv & 15) << 3 | 4 | pp as u8,
            high(vvvv, 4) << 3,
            opcode,
            0xc0 | (reg & 7) << 3 | rm.0 & 7,
        ]);
    }

    /// `MXCSR = m`.
    pub fn ldmxcsr(&mut self, m: Mem) {
        self.vex((Pp::None, Map::M0f, 0xae), (false, false), 2, 0, m.into());
    }

    /// `m = MXCSR`.
    pub fn stmxcsr(&mut self, m: Mem) {
        self.writes_memory(m, 4);
        self.vex((Pp::None, Map::M0f, 0xae), (false, false), 3, 0, m.into());
    }

    /// An instruction of SHA-NI; SHA256RNDS2 reads XMM0 too.
    pub fn sha(&mut self, opcode: u8, d: Xmm, a: Xmm) {
        self.legacy((Pp::None, Map::M0f38, opcode), false, d.0, Gpr(a.0).into(), false);
    }

    /// SHA1RNDS4.
    pub fn sha1rnds4(&mut self, d: Xmm, a: Xmm, function: u8) {
        self.legacy((Pp::None, Map::M0f3a, 0xcc), false, d.0, Gpr(a.0).into(), false);
        self.put(&[function]);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::asm::*, op::*, *};

    const D: Fp = Fp { double: true, packed: false };
    const S4: Fp = Fp { double: false, packed: true };

    fn assembled(f: impl FnOnce(&mut Asm)) -> Vec<u8> {
        let mut asm = Asm::new();
        asm.restart(0x1000);
        f(&mut asm);
        asm.bytes().to_vec()
    }

    #[test]
    fn results_are_taken_where_they_are_made() {
        let taken = assembled(|a| {
            a.v3(PADD[0], Xmm(13), Xmm(2), Xmm(3));
            a.v_take(Xmm(1), Xmm(13));
            a.v3i(PALIGNR, Xmm(13), Xmm(12), Xmm(13), 5);
            a.v_take(Xmm(9), Xmm(13));
            a.v3(PADD[0], Xmm(14), Xmm(2), Xmm(3));
            a.v_take(Xmm(1), Xmm(13));
            a.v3(D.fused(0xb8), Xmm(13), Xmm(2), Xmm(3));
            a.v_take(Xmm(1), Xmm(13));
        });
        let made = assembled(|a| {
            a.v3(PADD[0], Xmm(1), Xmm(2), Xmm(3));
            a.v3i(PALIGNR, Xmm(9), Xmm(12), Xmm(13), 5);
            a.v3(PADD[0], Xmm(14), Xmm(2), Xmm(3));
            a.v_move(Xmm(1), Xmm(13));
            a.v3(D.fused(0xb8), Xmm(13), Xmm(2), Xmm(3));
            a.v_move(Xmm(1), Xmm(13));
        });
        assert_eq!(taken, made);
    }

    /// Checked against the GNU assembler.
    #[test]
    fn encodings() {
        macro_rules! check {
            ($($bytes:expr, $asm:ident => $code:expr;)*) => { $(
                assert_eq!(assembled(|$asm| $code), $bytes, stringify!($code));
            )* };
        }
        check! {
            [0xc5, 0xf8, 0xae, 0x55, 0x08], a => a.ldmxcsr(Mem::at(RBP, 8)); // vldmxcsr [rbp+8]
            [0xc5, 0xf8, 0xae, 0x5d, 0x08], a => a.stmxcsr(Mem::at(RBP, 8)); // vstmxcsr [rbp+8]
            [0xc5, 0xe9, 0xfc, 0xcb], a => a.v3(PADD[0], Xmm(1), Xmm(2), Xmm(3)); // vpaddb xmm1, xmm2, xmm3
            [0xc4, 0x41, 0x69, 0xd4, 0xcd], a => a.v3(PADD[3], Xmm(9), Xmm(2), Xmm(13)); // vpaddq xmm9, xmm2, xmm13
            [0xc4, 0xe2, 0x19, 0x00, 0x0d, 0xf7, 0x0f, 0x00, 0x00], a => a.v3(PSHUFB, Xmm(1), Xmm(12), XmmM::At(0x2000)); // vpshufb xmm1, xmm12, [rip + ..]
            [0xc5, 0x19, 0xdb, 0x35, 0xf8, 0x0f, 0x00, 0x00], a => a.v3(PAND, Xmm(14), Xmm(12), XmmM::At(0x2000)); // vpand xmm14, xmm12, [rip + ..]
            [0xc4, 0xe3, 0x19, 0x0f, 0x0d, 0xf6, 0x0f, 0x00, 0x00, 0x05], a => a.v3i(PALIGNR, Xmm(1), Xmm(12), XmmM::At(0x2000), 5); // vpalignr xmm1, xmm12, [rip + ..], 5
            [0xc5, 0x81, 0xef, 0x4d, 0x08], a => a.v3(PXOR, Xmm(1), Xmm(15), Mem::at(RBP, 8)); // vpxor xmm1, xmm15, [rbp+8]
            [0xc5, 0x79, 0x70, 0xc1, 0xee], a => a.v2i(PSHUFD, Xmm(8), Xmm(1), 0xee); // vpshufd xmm8, xmm1, 0xee
            [0xc4, 0xc1, 0x39, 0x71, 0xd3, 0x04], a => a.v_shift(PSRL[1], Xmm(8), Xmm(11), 4); // vpsrlw xmm8, xmm11, 4
            [0xc5, 0xb9, 0x73, 0xf9, 0x04], a => a.v_shift(PSLLDQ, Xmm(8), Xmm(1), 4); // vpslldq xmm8, xmm1, 4
            [0xc4, 0xe3, 0x69, 0x4c, 0xcb, 0xe0], a => a.v_blend(PBLENDVB, Xmm(1), Xmm(2), Xmm(3), Xmm(14)); // vpblendvb xmm1, xmm2, xmm3, xmm14
            [0xc5, 0xfa, 0x7e, 0xd9], a => a.v2(MOVQ, Xmm(3), Xmm(1)); // vmovq xmm3, xmm1
            [0xc4, 0x61, 0xf9, 0x7e, 0xc8], a => a.v_to_gpr(3, RAX, Xmm(9)); // vmovq rax, xmm9
            [0xc5, 0x79, 0x6e, 0xca], a => a.v_from_gpr(2, Xmm(9), RDX); // vmovd xmm9, edx
            [0xc4, 0x63, 0x79, 0x14, 0xc8, 0x03], a => a.v_extract(0, RAX, Xmm(9), 3); // vpextrb eax, xmm9, 3
            [0xc4, 0xc1, 0x79, 0xc5, 0xc9, 0x03], a => a.v_extract(1, RCX, Xmm(9), 3); // vpextrw ecx, xmm9, 3
            [0xc4, 0x43, 0xf9, 0x16, 0xc8, 0x01], a => a.v_extract(3, R8, Xmm(9), 1); // vpextrq r8, xmm9, 1
            [0xc4, 0xe3, 0x69, 0x20, 0xc8, 0x07], a => a.v_insert(0, Xmm(1), Xmm(2), RAX, 7); // vpinsrb xmm1, xmm2, eax, 7
            [0xc5, 0xe9, 0xc4, 0xc8, 0x07], a => a.v_insert(1, Xmm(1), Xmm(2), RAX, 7); // vpinsrw xmm1, xmm2, eax, 7
            [0xc4, 0xc3, 0xe9, 0x22, 0xc9, 0x01], a => a.v_insert(3, Xmm(1), Xmm(2), R9, 1); // vpinsrq xmm1, xmm2, r9, 1
            [0xc4, 0xc1, 0x79, 0xd7, 0xc1], a => a.v_mask(PMOVMSKB, RAX, Xmm(9)); // vpmovmskb eax, xmm9
            [0xc5, 0xf8, 0x50, 0xc9], a => a.v_mask(MOVMSKPS, RCX, Xmm(1)); // vmovmskps ecx, xmm1
            [0xc4, 0xc1, 0x6b, 0x58, 0xcd], a => a.v3(D.op(ADD), Xmm(1), Xmm(2), Xmm(13)); // vaddsd xmm1, xmm2, xmm13
            [0xc5, 0xe8, 0x5e, 0xcb], a => a.v3(S4.op(DIV), Xmm(1), Xmm(2), Xmm(3)); // vdivps xmm1, xmm2, xmm3
            [0xc5, 0xe8, 0xc2, 0xcb, 0x0e], a => a.v3i(S4.op(CMP), Xmm(1), Xmm(2), Xmm(3), 14); // vcmpps xmm1, xmm2, xmm3, 14
            [0xc4, 0xc2, 0xe9, 0xb9, 0xcd], a => a.v3(D.fused(0xb8), Xmm(1), Xmm(2), Xmm(13)); // vfmadd231sd xmm1, xmm2, xmm13
            [0xc4, 0xc2, 0x69, 0xbc, 0xcd], a => a.v3(S4.fused(0xbc), Xmm(1), Xmm(2), Xmm(13)); // vfnmadd231ps xmm1, xmm2, xmm13
            [0xc4, 0xc3, 0x69, 0x0b, 0xcd, 0x09], a => a.v3i(ROUND[D.index()], Xmm(1), Xmm(2), Xmm(13), 9); // vroundsd xmm1, xmm2, xmm13, 9
            [0xc4, 0xc1, 0x79, 0x2e, 0xcd], a => a.v2(UCOMIS[1], Xmm(1), Xmm(13)); // vucomisd xmm1, xmm13
            [0xc4, 0xc1, 0xeb, 0x2a, 0xc9], a => a.v_from_int(true, true, Xmm(1), Xmm(2), R9); // vcvtsi2sd xmm1, xmm2, r9
            [0xc4, 0xc1, 0x7a, 0x2c, 0xc4], a => a.v_truncate(false, false, RAX, Xmm(12)); // vcvttss2si eax, xmm12
            [0xc4, 0xe1, 0xfb, 0x2c, 0xd1], a => a.v_truncate(true, true, RDX, Xmm(1)); // vcvttsd2si rdx, xmm1
            [0xc5, 0xf9, 0x6e, 0x4d, 0x08], a => a.v_load(2, Xmm(1), Mem::at(RBP, 8)); // vmovd xmm1, dword ptr [rbp+8]
            [0xc5, 0x7a, 0x7f, 0x65, 0x08], a => a.v_store(4, Mem::at(RBP, 8), Xmm(12)); // vmovdqu [rbp+8], xmm12
            [0xc5, 0x79, 0xd6, 0x65, 0x08], a => a.v_store(3, Mem::at(RBP, 8), Xmm(12)); // vmovq [rbp+8], xmm12
            [0xc4, 0xc3, 0x79, 0x1d, 0xcc, 0x04], a => a.v_to_half(Xmm(12), Xmm(1)); // vcvtps2ph xmm12, xmm1, 4
            [0xc4, 0xe3, 0x69, 0x44, 0xcb, 0x11], a => a.v3i(PCLMULQDQ, Xmm(1), Xmm(2), Xmm(3), 0x11); // vpclmulqdq xmm1, xmm2, xmm3, 0x11
            [0xc4, 0xe3, 0xe9, 0xce, 0x0d, 0xf6, 0x0f, 0x00, 0x00, 0x00], a => a.v3i(GF2P8AFFINEQB, Xmm(1), Xmm(2), XmmM::At(0x2000), 0); // vgf2p8affineqb xmm1, xmm2, [rip + ..], 0
            [0x62, 0xd3, 0x6d, 0x08, 0x25, 0xcd, 0x96], a => a.e3i(TERNLOG, Xmm(1), Xmm(2), Xmm(13), 0x96); // vpternlogd xmm1, xmm2, xmm13, 0x96
            [0x62, 0x83, 0x2d, 0x00, 0x25, 0xcf, 0x96], a => a.e3i(TERNLOG, Xmm(17), Xmm(26), Xmm(31), 0x96); // vpternlogd xmm17, xmm26, xmm31, 0x96
            [0x62, 0xd1, 0xf5, 0x08, 0x72, 0xe5, 0x07], a => a.e_shift(PSRAQ, true, Xmm(1), Xmm(13), 7); // vpsraq xmm1, xmm13, 7
            [0x62, 0xd2, 0x7d, 0x08, 0x44, 0xcd], a => a.e3(PLZCNTD, Xmm(1), Xmm(0), Xmm(13)); // vplzcntd xmm1, xmm13
            [0x62, 0xd2, 0xed, 0x08, 0x46, 0xcd], a => a.e3(PSRAVQ, Xmm(1), Xmm(2), Xmm(13)); // vpsravq xmm1, xmm2, xmm13
            [0x41, 0x0f, 0x38, 0xcb, 0xcd], a => a.sha(SHA256RNDS2, Xmm(1), Xmm(13)); // sha256rnds2 xmm1, xmm13
            [0x41, 0x0f, 0x3a, 0xcc, 0xcd, 0x02], a => a.sha1rnds4(Xmm(1), Xmm(13), 2); // sha1rnds4 xmm1, xmm13, 2
            [0xc4, 0xe3, 0x69, 0x21, 0xcb, 0x0e], a => a.v3i(INSERTPS, Xmm(1), Xmm(2), Xmm(3), 0x0e); // vinsertps xmm1, xmm2, xmm3, 0x0e
            [0xc5, 0xeb, 0x7c, 0xcb], a => a.v3(HADDPS, Xmm(1), Xmm(2), Xmm(3)); // vhaddps xmm1, xmm2, xmm3
        }
    }
}
