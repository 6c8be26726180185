//! An x86-64 assembler of raw bytes: general-purpose instructions. Vector instructions are in [`super::asm_simd`].
//!
//! Nothing is allocated per instruction and nothing is validated beyond what the types say; a method is named after the
//! mnemonic and takes its operands in Intel's order. A load of what a register is known to hold emits nothing, see
//! [`super::copies`]. Encodings: Intel SDM volume 2.

use super::copies::Copies;

/// A general-purpose register by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gpr(pub u8);

pub(crate) const RAX: Gpr = Gpr(0);
pub(crate) const RCX: Gpr = Gpr(1);
pub(crate) const RDX: Gpr = Gpr(2);
pub(crate) const RBX: Gpr = Gpr(3);
pub(crate) const RSP: Gpr = Gpr(4);
pub(crate) const RBP: Gpr = Gpr(5);
pub(crate) const RSI: Gpr = Gpr(6);
pub(crate) const RDI: Gpr = Gpr(7);
pub(crate) const R8: Gpr = Gpr(8);
pub(crate) const R9: Gpr = Gpr(9);
pub(crate) const R10: Gpr = Gpr(10);
pub(crate) const R11: Gpr = Gpr(11);
pub(crate) const R12: Gpr = Gpr(12);
pub(crate) const R13: Gpr = Gpr(13);
pub(crate) const R14: Gpr = Gpr(14);
pub(crate) const R15: Gpr = Gpr(15);

/// A memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mem {
    base: Gpr,
    /// Register and log2 of the scale.
    index: Option<(Gpr, u8)>,
    disp: i32,
}

impl Mem {
    /// `[base + disp]`.
    pub const fn at(base: Gpr, disp: i32) -> Self {
        Self { base, index: None, disp }
    }

    /// `[base + index << scale + disp]`; `index` is not RSP.
    pub const fn indexed(base: Gpr, index: Gpr, scale: u8, disp: i32) -> Self {
        // R13 as a base comes with a displacement, and hosts take a cycle longer for three parts than for two.
        if base.0 == R13.0 && scale == 0 && disp == 0 {
            return Self { base: index, index: Some((base, 0)), disp };
        }
        Self { base, index: Some((index, scale)), disp }
    }

    /// The same, `bytes` further on.
    pub const fn plus(self, bytes: i32) -> Self {
        Self { disp: self.disp + bytes, ..self }
    }

    /// Whether `base` is the base register.
    pub fn is_based_on(self, base: Gpr) -> bool {
        self.base == base
    }

    /// The distance from `base`, if nothing else is in the address.
    pub fn offset_from(self, base: Gpr) -> Option<i32> {
        (self.base == base && self.index.is_none()).then_some(self.disp)
    }
}

/// A register or memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rm {
    R(Gpr),
    M(Mem),
}

impl From<Gpr> for Rm {
    fn from(r: Gpr) -> Self {
        Self::R(r)
    }
}

impl From<Mem> for Rm {
    fn from(m: Mem) -> Self {
        Self::M(m)
    }
}

/// The eight classic operations, as encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alu {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Cmp,
}

/// Shifts and rotations, as encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rot {
    Ror = 1,
    Shl = 4,
    Shr = 5,
    Sar = 7,
}

/// Conditions, as encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cc {
    O,
    No,
    B,
    Ae,
    E,
    Ne,
    Be,
    A,
    S,
    Ns,
    P,
    Np,
    L,
    Ge,
    Le,
    G,
}

impl Cc {
    /// The opposite.
    pub fn not(self) -> Self {
        const ALL: [Cc; 16] = [
            Cc::O,
            Cc::No,
            Cc::B,
            Cc::Ae,
            Cc::E,
            Cc::Ne,
            Cc::Be,
            Cc::A,
            Cc::S,
            Cc::Ns,
            Cc::P,
            Cc::Np,
            Cc::L,
            Cc::Ge,
            Cc::Le,
            Cc::G,
        ];
        ALL[self as usize ^ 1]
    }
}

/// Opcode maps, numbered as VEX does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Map {
    One = 0,
    M0f = 1,
    M0f38 = 2,
    M0f3a = 3,
}

/// Mandatory prefixes, numbered as VEX does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pp {
    None = 0,
    P66 = 1,
    Pf3 = 2,
    Pf2 = 3,
}

/// Where a 32-bit displacement is to be filled in.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Patch(usize);

/// Where an 8-bit displacement is to be filled in.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Patch8(usize);

/// Code under construction: bytes that will be executed at `base`.
pub(crate) struct Asm {
    bytes: Vec<u8>,
    base: u64,
    /// Where the latest vector instruction that only writes its first operand starts, and where it ends.
    pub(super) latest: (usize, usize),
    pub(super) copies: Copies,
}

/// A part of an instruction under construction: at most 8 bytes, the first one lowest.
#[derive(Clone, Copy, Default)]
struct Few {
    bytes: u64,
    len: usize,
}

impl Few {
    #[inline(always)]
    fn push(&mut self, byte: u8) {
        self.push_all(byte.into(), 1);
    }

    /// Appends the lowest `len` bytes of `bytes`, whose others are zero.
    #[inline(always)]
    fn push_all(&mut self, bytes: u64, len: usize) {
        self.bytes |= bytes << (self.len * 8 & 63);
        self.len += len;
    }

    /// ModRM, SIB and displacement. For `[rip + disp]` operands of data in the code there is [`Asm::rip`].
    #[inline(always)]
    fn operand(reg: u8, rm: Rm) -> Self {
        let mut b = Self::default();
        let reg = (reg & 7) << 3;
        match rm {
            Rm::R(r) => b.push(0xc0 | reg | r.0 & 7),
            Rm::M(m) => {
                let base = m.base.0 & 7;
                // RBP and R13 cannot do without a displacement.
                let mode = match m.disp {
                    0 if base != 5 => 0,
                    d if i8::try_from(d).is_ok() => 0x40,
                    _ => 0x80,
                };
                match m.index {
                    Some((index, scale)) => {
                        b.push(mode | reg | 4);
                        b.push(scale << 6 | (index.0 & 7) << 3 | base);
                    }
                    None if base == 4 => {
                        b.push(mode | reg | 4);
                        b.push(0x24);
                    }
                    None => b.push(mode | reg | base),
                }
                match mode {
                    0 => {}
                    0x40 => b.push(m.disp as u8),
                    _ => b.push_all(u64::from(m.disp as u32), 4),
                }
            }
        }
        b
    }
}

/// The high bits of index and base, as REX has them in X and B.
#[inline(always)]
fn high_bits(rm: Rm) -> (u8, u8) {
    match rm {
        Rm::R(r) => (0, r.0 >> 3),
        Rm::M(m) => (m.index.map_or(0, |(i, _)| i.0 >> 3), m.base.0 >> 3),
    }
}

impl Asm {
    /// An empty buffer for code that goes to address `base`.
    pub fn new() -> Self {
        Self { bytes: Vec::with_capacity(1 << 16), base: 0, latest: (0, 0), copies: Copies::default() }
    }

    /// Starts over, for code that goes to address `base`.
    pub fn restart(&mut self, base: u64) {
        self.rewind();
        self.base = base;
    }

    /// Bytes emitted, from `at` on.
    pub(super) fn bytes_from(&mut self, at: usize) -> &mut [u8] {
        &mut self.bytes[at..]
    }

    /// Starts over, for code that goes to the same address.
    pub fn rewind(&mut self) {
        self.bytes.clear();
        self.latest = (0, 0);
        self.forget_copies();
    }

    /// What was emitted.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes emitted.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The address of what is emitted next.
    pub fn here(&self) -> u64 {
        self.base.wrapping_add(self.bytes.len() as u64)
    }

    /// The address of what is emitted next, where code arrives from elsewhere.
    pub fn label(&mut self) -> u64 {
        self.forget_copies();
        self.here()
    }

    /// Emits data or ready-made code, which may do anything.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.forget_copies();
        self.put(bytes);
    }

    /// Emits bytes that write no register, or one that is said to be written.
    #[inline(always)]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Emits `few`: all eight bytes, which the host writes at once, and then those that are none of it are taken back.
    #[inline(always)]
    fn put_few(&mut self, few: Few) {
        let end = self.bytes.len() + few.len;
        self.bytes.extend_from_slice(&few.bytes.to_le_bytes());
        self.bytes.truncate(end);
    }

    /// A legacy-encoded instruction that changes nothing but vector registers, or what is said to change; `byte` says that
    /// `reg` or a register `rm` is an 8-bit one.
    #[inline(always)]
    pub fn legacy(&mut self, (pp, map, opcode): (Pp, Map, u8), w: bool, reg: u8, rm: Rm, byte: bool) {
        let mut b = Few::default();
        match pp {
            Pp::None => {}
            Pp::P66 => b.push(0x66),
            Pp::Pf3 => b.push(0xf3),
            Pp::Pf2 => b.push(0xf2),
        }
        let (x, base) = high_bits(rm);
        let rex = u8::from(w) << 3 | (reg >> 3) << 2 | x << 1 | base;
        // SPL, BPL, SIL and DIL exist with a REX prefix only.
        let needs = byte && (reg >= 4 || matches!(rm, Rm::R(r) if r.0 >= 4));
        if rex != 0 || needs {
            b.push(0x40 | rex);
        }
        match map {
            Map::One => {}
            Map::M0f => b.push(0x0f),
            Map::M0f38 => b.push_all(0x380f, 2),
            Map::M0f3a => b.push_all(0x3a0f, 2),
        }
        b.push(opcode);
        self.put_few(b);
        self.put_few(Few::operand(reg, rm));
    }

    /// A VEX-encoded instruction of 128-bit length unless `l256`, as [`Asm::legacy`].
    #[inline(always)]
    pub fn vex(
        &mut self,
        (pp, map, opcode): (Pp, Map, u8),
        (w, l256): (bool, bool),
        reg: u8,
        vvvv: u8,
        rm: Rm,
    ) {
        let mut b = Few::default();
        let (x, base) = high_bits(rm);
        let tail = (!vvvv & 15) << 3 | u8::from(l256) << 2 | pp as u8;
        if map == Map::M0f && !w && x == 0 && base == 0 {
            b.push(0xc5);
            b.push((reg >> 3 ^ 1) << 7 | tail);
        } else {
            b.push(0xc4);
            b.push((reg >> 3 ^ 1) << 7 | (x ^ 1) << 6 | (base ^ 1) << 5 | map as u8);
            b.push(u8::from(w) << 7 | tail);
        }
        b.push(opcode);
        self.put_few(b);
        self.put_few(Few::operand(reg, rm));
    }

    /// `reg op= rm`.
    pub fn alu(&mut self, op: Alu, w: bool, reg: Gpr, rm: impl Into<Rm>) {
        let rm = self.source(rm.into());
        if op != Alu::Cmp {
            self.writes(reg);
        }
        self.legacy((Pp::None, Map::One, (op as u8) << 3 | 3), w, reg.0, rm, false);
    }

    /// `mem op= reg`.
    pub fn alu_to(&mut self, op: Alu, w: bool, mem: Mem, reg: Gpr) {
        self.writes_memory(mem, 8);
        self.legacy((Pp::None, Map::One, (op as u8) << 3 | 1), w, reg.0, mem.into(), false);
    }

    /// `rm op= imm`, sign-extended.
    pub fn alu_imm(&mut self, op: Alu, w: bool, rm: impl Into<Rm>, imm: i32) {
        let short = i8::try_from(imm).is_ok();
        let opcode = if short { 0x83 } else { 0x81 };
        let mut rm = rm.into();
        if op == Alu::Cmp {
            rm = self.source(rm);
        } else {
            self.changes(rm, 8);
        }
        self.legacy((Pp::None, Map::One, opcode), w, op as u8, rm, false);
        if short {
            self.put(&[imm as u8]);
        } else {
            self.put(&imm.to_le_bytes());
        }
    }

    /// `reg = rm`.
    pub fn mov(&mut self, w: bool, reg: Gpr, rm: impl Into<Rm>) {
        let rm = rm.into();
        if w && self.has_copy(reg, rm) {
            return;
        }
        let source = self.source(rm);
        self.legacy((Pp::None, Map::One, 0x8b), w, reg.0, source, false);
        self.writes(reg);
        if w {
            self.is_copy(reg, rm);
        }
    }

    /// `mem = reg`, 1 << `size` bytes.
    pub fn store(&mut self, size: u8, mem: Mem, reg: Gpr) {
        let pp = if size == 1 { Pp::P66 } else { Pp::None };
        let opcode = if size == 0 { 0x88 } else { 0x89 };
        self.legacy((pp, Map::One, opcode), size == 3, reg.0, mem.into(), size == 0);
        self.writes_memory(mem, 1 << size);
        if size == 3 {
            self.is_copy(reg, mem.into());
        }
    }

    /// `mem = imm`, 32 bits, or 64 sign-extended.
    pub fn store_imm(&mut self, w: bool, mem: Mem, imm: i32) {
        self.writes_memory(mem, 8);
        self.legacy((Pp::None, Map::One, 0xc7), w, 0, mem.into(), false);
        self.put(&imm.to_le_bytes());
    }

    /// `reg = rm` of 1 << `size` (0 to 2) bytes, zero-extended to 64 bits.
    pub fn movzx(&mut self, size: u8, reg: Gpr, rm: impl Into<Rm>) {
        let rm = rm.into();
        if size < 2 {
            let source = self.source(rm);
            self.legacy((Pp::None, Map::M0f, 0xb6 | size), false, reg.0, source, size == 0);
            self.writes(reg);
        } else {
            self.mov(false, reg, rm);
        }
    }

    /// `reg = rm` of 1 << `size` (0 to 3) bytes, zero-extended.
    pub fn movzx_or_mov(&mut self, size: u8, reg: Gpr, rm: impl Into<Rm>) {
        if size == 3 { self.mov(true, reg, rm) } else { self.movzx(size, reg, rm) }
    }

    /// `reg = rm` of 1 << `size` (0 to 2) bytes, sign-extended to 64 bits with `w`, else to 32.
    pub fn movsx(&mut self, size: u8, w: bool, reg: Gpr, rm: impl Into<Rm>) {
        let rm = self.source(rm.into());
        match size {
            0 => self.legacy((Pp::None, Map::M0f, 0xbe), w, reg.0, rm, true),
            1 => self.legacy((Pp::None, Map::M0f, 0xbf), w, reg.0, rm, false),
            _ if w => self.legacy((Pp::None, Map::One, 0x63), true, reg.0, rm, false),
            _ => return self.mov(false, reg, rm),
        }
        self.writes(reg);
    }

    /// `reg = value`; leaves the flags alone.
    pub fn mov_imm(&mut self, reg: Gpr, value: u64) {
        self.writes(reg);
        if let Ok(low) = u32::try_from(value) {
            if reg.0 >= 8 {
                self.put(&[0x41]);
            }
            self.put(&[0xb8 | reg.0 & 7]);
            self.put(&low.to_le_bytes());
        } else if let Ok(low) = i32::try_from(value as i64) {
            self.legacy((Pp::None, Map::One, 0xc7), true, 0, reg.into(), false);
            self.put(&low.to_le_bytes());
        } else {
            self.put(&[0x48 | reg.0 >> 3, 0xb8 | reg.0 & 7]);
            self.put(&value.to_le_bytes());
        }
    }

    /// `reg = address of mem`.
    pub fn lea(&mut self, w: bool, reg: Gpr, mem: Mem) {
        self.writes(reg);
        self.legacy((Pp::None, Map::One, 0x8d), w, reg.0, mem.into(), false);
    }

    /// `rm op= amount`.
    pub fn rot_imm(&mut self, op: Rot, w: bool, rm: impl Into<Rm>, amount: u8) {
        let rm = rm.into();
        self.changes(rm, 8);
        self.legacy((Pp::None, Map::One, 0xc1), w, op as u8, rm, false);
        self.put(&[amount]);
    }

    /// `reg = rm shifted by count`, flags untouched: SHLX, SHRX, SARX.
    pub fn shift_x(&mut self, op: Rot, w: bool, reg: Gpr, rm: impl Into<Rm>, count: Gpr) {
        let pp = match op {
            Rot::Shl => Pp::P66,
            Rot::Sar => Pp::Pf3,
            _ => Pp::Pf2,
        };
        let rm = self.source(rm.into());
        self.writes(reg);
        self.vex((pp, Map::M0f38, 0xf7), (w, false), reg.0, count.0, rm);
    }

    /// `reg = rm rotated right`, flags untouched.
    pub fn rorx(&mut self, w: bool, reg: Gpr, rm: impl Into<Rm>, amount: u8) {
        let rm = self.source(rm.into());
        self.writes(reg);
        self.vex((Pp::Pf2, Map::M0f3a, 0xf0), (w, false), reg.0, 0, rm);
        self.put(&[amount]);
    }

    /// `rm op= CL`.
    pub fn rot_cl(&mut self, op: Rot, w: bool, rm: impl Into<Rm>) {
        let rm = rm.into();
        self.changes(rm, 8);
        self.legacy((Pp::None, Map::One, 0xd3), w, op as u8, rm, false);
    }

    /// `high:low` shifted right by `amount`, low half: SHRD.
    pub fn shrd(&mut self, w: bool, low: Gpr, high: Gpr, amount: u8) {
        self.writes(low);
        self.legacy((Pp::None, Map::M0f, 0xac), w, high.0, low.into(), false);
        self.put(&[amount]);
    }

    /// `reg = !n & rm`.
    pub fn andn(&mut self, w: bool, reg: Gpr, n: Gpr, rm: impl Into<Rm>) {
        let rm = self.source(rm.into());
        self.writes(reg);
        self.vex((Pp::None, Map::M0f38, 0xf2), (w, false), reg.0, n.0, rm);
    }

    /// `reg = a field of rm`: `control` has the number of its lowest bit in bits 7:0 and that of its bits in bits 15:8.
    pub fn bextr(&mut self, w: bool, reg: Gpr, rm: impl Into<Rm>, control: Gpr) {
        let rm = self.source(rm.into());
        self.writes(reg);
        self.vex((Pp::None, Map::M0f38, 0xf7), (w, false), reg.0, control.0, rm);
    }

    /// `reg = rm >> count`, of whose bits the low 6 count; flags untouched.
    pub fn shrx(&mut self, reg: Gpr, rm: impl Into<Rm>, count: Gpr) {
        let rm = self.source(rm.into());
        self.writes(reg);
        self.vex((Pp::Pf2, Map::M0f38, 0xf7), (true, false), reg.0, count.0, rm);
    }

    /// `reg = the bits of source that mask selects, packed`; flags untouched.
    pub fn pext(&mut self, w: bool, reg: Gpr, source: Gpr, mask: impl Into<Rm>) {
        let rm = self.source(mask.into());
        self.writes(reg);
        self.vex((Pp::Pf3, Map::M0f38, 0xf5), (w, false), reg.0, source.0, rm);
    }

    /// `reg = the low bits of source, spread to mask`; flags untouched.
    pub fn pdep(&mut self, w: bool, reg: Gpr, source: Gpr, mask: impl Into<Rm>) {
        let rm = self.source(mask.into());
        self.writes(reg);
        self.vex((Pp::Pf2, Map::M0f38, 0xf5), (w, false), reg.0, source.0, rm);
    }

    /// Flags of `rm & reg`.
    pub fn test(&mut self, w: bool, rm: impl Into<Rm>, reg: Gpr) {
        let rm = self.source(rm.into());
        self.legacy((Pp::None, Map::One, 0x85), w, reg.0, rm, false);
    }

    /// Flags of `rm & imm`.
    pub fn test_imm(&mut self, w: bool, rm: impl Into<Rm>, imm: i32) {
        let rm = self.source(rm.into());
        self.legacy((Pp::None, Map::One, 0xf7), w, 0, rm, false);
        self.put(&imm.to_le_bytes());
    }

    /// Flags of the lowest byte of `reg`, & imm.
    pub fn test8_low(&mut self, reg: Gpr, imm: u8) {
        self.legacy((Pp::None, Map::One, 0xf6), false, 0, reg.into(), true);
        self.put(&[imm]);
    }

    /// Flags of the byte `mem & imm`.
    pub fn test8_imm(&mut self, mem: Mem, imm: u8) {
        self.legacy((Pp::None, Map::One, 0xf6), false, 0, mem.into(), false);
        self.put(&[imm]);
    }

    /// Flags of the byte `mem - imm`.
    pub fn cmp8_imm(&mut self, mem: Mem, imm: u8) {
        self.legacy((Pp::None, Map::One, 0x80), false, 7, mem.into(), false);
        self.put(&[imm]);
    }

    /// `CF = bit of rm`.
    pub fn bt_imm(&mut self, w: bool, rm: impl Into<Rm>, bit: u8) {
        let rm = self.source(rm.into());
        self.legacy((Pp::None, Map::M0f, 0xba), w, 4, rm, false);
        self.put(&[bit]);
    }

    /// `rm = !rm`, flags untouched.
    pub fn not(&mut self, w: bool, rm: impl Into<Rm>) {
        let rm = rm.into();
        self.changes(rm, 8);
        self.legacy((Pp::None, Map::One, 0xf7), w, 2, rm, false);
    }

    /// `rm = -rm`.
    pub fn neg(&mut self, w: bool, rm: impl Into<Rm>) {
        let rm = rm.into();
        self.changes(rm, 8);
        self.legacy((Pp::None, Map::One, 0xf7), w, 3, rm, false);
    }

    /// `RDX:RAX = RAX * rm`; IMUL if signed.
    pub fn mul_wide(&mut self, signed: bool, w: bool, rm: impl Into<Rm>) {
        let rm = self.source(rm.into());
        self.writes(RAX);
        self.writes(RDX);
        self.legacy((Pp::None, Map::One, 0xf7), w, 4 + u8::from(signed), rm, false);
    }

    /// `high:low = RDX * rm`, 64 bits each and unsigned, with the flags left as they are. Of two that are the same, `high` wins.
    pub fn mulx(&mut self, high: Gpr, low: Gpr, rm: impl Into<Rm>) {
        let rm = self.source(rm.into());
        self.writes(high);
        self.writes(low);
        self.vex((Pp::Pf2, Map::M0f38, 0xf6), (true, false), high.0, low.0, rm);
    }

    /// `RAX, RDX = RDX:RAX / rm, remainder`; IDIV if signed.
    pub fn div_wide(&mut self, signed: bool, w: bool, rm: impl Into<Rm>) {
        let rm = self.source(rm.into());
        self.writes(RAX);
        self.writes(RDX);
        self.legacy((Pp::None, Map::One, 0xf7), w, 6 + u8::from(signed), rm, false);
    }

    /// Sign of RAX to RDX.
    pub fn sign_rax(&mut self, w: bool) {
        self.writes(RDX);
        if w { self.put(&[0x48, 0x99]) } else { self.put(&[0x99]) }
    }

    /// `reg *= rm`.
    pub fn imul(&mut self, w: bool, reg: Gpr, rm: impl Into<Rm>) {
        let rm = self.source(rm.into());
        self.writes(reg);
        self.legacy((Pp::None, Map::M0f, 0xaf), w, reg.0, rm, false);
    }

    /// `reg = rm if cc`.
    pub fn cmov(&mut self, cc: Cc, w: bool, reg: Gpr, rm: impl Into<Rm>) {
        let rm = self.source(rm.into());
        self.writes(reg);
        self.legacy((Pp::None, Map::M0f, 0x40 | cc as u8), w, reg.0, rm, false);
    }

    /// The low byte of `reg` = whether cc.
    pub fn setcc(&mut self, cc: Cc, reg: Gpr) {
        self.writes(reg);
        self.legacy((Pp::None, Map::M0f, 0x90 | cc as u8), false, 0, reg.into(), true);
    }

    /// Reverses the bytes of `reg`.
    pub fn bswap(&mut self, w: bool, reg: Gpr) {
        self.writes(reg);
        let rex = 0x40 | u8::from(w) << 3 | reg.0 >> 3;
        self.put(&[rex, 0x0f, 0xc8 | reg.0 & 7]);
    }

    /// `reg = leading zeros of rm`.
    pub fn lzcnt(&mut self, w: bool, reg: Gpr, rm: impl Into<Rm>) {
        let rm = self.source(rm.into());
        self.writes(reg);
        self.legacy((Pp::Pf3, Map::M0f, 0xbd), w, reg.0, rm, false);
    }

    /// `reg = CRC-32C of 1 << size bytes of rm, continued from reg`.
    pub fn crc32(&mut self, size: u8, reg: Gpr, rm: impl Into<Rm>) {
        let opcode = if size == 0 { 0xf0 } else { 0xf1 };
        if size == 1 {
            self.put(&[0x66]);
        }
        self.writes(reg);
        self.legacy((Pp::Pf2, Map::M0f38, opcode), size == 3, reg.0, rm.into(), size == 0);
    }

    /// `old = mem; mem += reg; reg = old`, atomically; 1 << `size` bytes.
    pub fn lock_xadd(&mut self, size: u8, mem: Mem, reg: Gpr) {
        self.writes(reg);
        self.locked((Map::M0f, 0xc0), size, mem, reg);
    }

    /// If `mem == RAX`, `mem = reg`, else `RAX = mem`, atomically; ZF says which; 1 << `size` bytes.
    pub fn lock_cmpxchg(&mut self, size: u8, mem: Mem, reg: Gpr) {
        self.writes(RAX);
        self.locked((Map::M0f, 0xb0), size, mem, reg);
    }

    /// Swaps `mem` and `reg`, atomically; 1 << `size` bytes.
    pub fn xchg(&mut self, size: u8, mem: Mem, reg: Gpr) {
        self.writes(reg);
        let pp = if size == 1 { Pp::P66 } else { Pp::None };
        self.legacy((pp, Map::One, 0x86 | u8::from(size != 0)), size == 3, reg.0, mem.into(), size == 0);
    }

    fn locked(&mut self, (map, opcode): (Map, u8), size: u8, mem: Mem, reg: Gpr) {
        self.put(&[0xf0]);
        let pp = if size == 1 { Pp::P66 } else { Pp::None };
        self.legacy((pp, map, opcode | u8::from(size != 0)), size == 3, reg.0, mem.into(), size == 0);
    }

    /// A full memory barrier: a locked operation on the stack, cheaper than MFENCE.
    pub fn full_barrier(&mut self) {
        // lock or dword [rsp], 0
        self.put(&[0xf0, 0x83, 0x0c, 0x24, 0x00]);
    }

    pub fn cmc(&mut self) {
        self.put(&[0xf5]);
    }

    pub fn lahf(&mut self) {
        self.writes(RAX);
        self.put(&[0x9f]);
    }

    pub fn sahf(&mut self) {
        self.put(&[0x9e]);
    }

    pub fn push(&mut self, reg: Gpr) {
        self.put(&[0x40 | reg.0 >> 3, 0x50 | reg.0 & 7]);
    }

    pub fn pop(&mut self, reg: Gpr) {
        self.writes(reg);
        self.put(&[0x40 | reg.0 >> 3, 0x58 | reg.0 & 7]);
    }

    pub fn push_mem(&mut self, mem: Mem) {
        self.legacy((Pp::None, Map::One, 0xff), false, 6, mem.into(), false);
    }

    pub fn pop_mem(&mut self, mem: Mem) {
        self.writes_memory(mem, 8);
        self.legacy((Pp::None, Map::One, 0x8f), false, 0, mem.into(), false);
    }

    pub fn ret(&mut self) {
        self.put(&[0xc3]);
    }

    /// Jumps to the address in `rm`.
    pub fn jmp_to(&mut self, rm: impl Into<Rm>) {
        self.legacy((Pp::None, Map::One, 0xff), false, 4, rm.into(), false);
    }

    /// Calls the address in `rm`.
    pub fn call_to(&mut self, rm: impl Into<Rm>) {
        self.legacy((Pp::None, Map::One, 0xff), false, 2, rm.into(), false);
        self.forget_copies();
    }

    fn displacement(&self, target: u64) -> i32 {
        // All code lies in one mapping of less than 2 GiB.
        target.wrapping_sub(self.here().wrapping_add(4)) as i32
    }

    /// Jumps to address `target`.
    pub fn jmp(&mut self, target: u64) {
        self.put(&[0xe9]);
        let d = self.displacement(target);
        self.put(&d.to_le_bytes());
    }

    /// Calls address `target`, which lies in the same mapping.
    pub fn call(&mut self, target: u64) {
        self.put(&[0xe8]);
        let d = self.displacement(target);
        self.put(&d.to_le_bytes());
        self.forget_copies();
    }

    /// Jumps to address `target` if `cc`.
    pub fn jcc(&mut self, cc: Cc, target: u64) {
        self.put(&[0x0f, 0x80 | cc as u8]);
        let d = self.displacement(target);
        self.put(&d.to_le_bytes());
    }

    /// Jumps forward to where [`Asm::bind`] will be called.
    pub fn jmp_forward(&mut self) -> Patch {
        self.put(&[0xe9, 0, 0, 0, 0]);
        Patch(self.len() - 4)
    }

    /// As [`Asm::jmp_forward`], leaving the address behind it on the stack.
    pub fn call_forward(&mut self) -> Patch {
        self.put(&[0xe8, 0, 0, 0, 0]);
        self.forget_copies();
        Patch(self.len() - 4)
    }

    /// Jumps forward if `cc`.
    pub fn jcc_forward(&mut self, cc: Cc) -> Patch {
        self.put(&[0x0f, 0x80 | cc as u8, 0, 0, 0, 0]);
        Patch(self.len() - 4)
    }

    /// Jumps forward by at most 127 bytes.
    pub fn jmp_short(&mut self) -> Patch8 {
        self.put(&[0xeb, 0]);
        Patch8(self.len() - 1)
    }

    /// Jumps forward by at most 127 bytes if `cc`.
    pub fn jcc_short(&mut self, cc: Cc) -> Patch8 {
        self.put(&[0x70 | cc as u8, 0]);
        Patch8(self.len() - 1)
    }

    /// Has a jump of this buffer arrive here.
    pub fn bind(&mut self, Patch(at): Patch) {
        self.forget_copies();
        let d = (self.len() - at - 4) as u32;
        self.bytes[at..at + 4].copy_from_slice(&d.to_le_bytes());
    }

    /// Has a jump of this buffer arrive at address `target`.
    pub fn bind_to(&mut self, Patch(at): Patch, target: u64) {
        let from = self.base.wrapping_add(at as u64 + 4);
        let d = target.wrapping_sub(from) as u32;
        self.bytes[at..at + 4].copy_from_slice(&d.to_le_bytes());
    }

    /// Has a short jump of this buffer arrive here.
    pub fn bind_short(&mut self, Patch8(at): Patch8) {
        self.forget_copies();
        let d = self.len() - at - 1;
        debug_assert!(d < 128, "a short jump is too long: {d}");
        self.bytes[at] = d as u8;
    }

    /// The address of the displacement of the latest JMP or Jcc.
    pub fn latest_displacement(&self) -> u64 {
        self.here().wrapping_sub(4)
    }

    /// Flags of the 32 bits at address `at`, in the same mapping or near it, - imm.
    pub fn cmp32_imm8_at(&mut self, at: u64, imm: u8) {
        self.put(&[0x83, 0x3d]);
        // The address is relative to that behind the immediate operand.
        let d = self.displacement(at) - 1;
        self.put(&d.to_le_bytes());
        self.put(&[imm]);
    }

    /// `reg = at`, an address in the same mapping.
    pub fn lea_at(&mut self, reg: Gpr, at: u64) {
        self.writes(reg);
        self.put(&[0x48 | reg.0 >> 3 << 2, 0x8d, 0x05 | (reg.0 & 7) << 3]);
        let d = self.displacement(at);
        self.put(&d.to_le_bytes());
    }

    /// Compares `reg` with the 64 bits at address `at`, in the same mapping.
    pub fn cmp_at(&mut self, reg: Gpr, at: u64) {
        self.put(&[0x48 | reg.0 >> 3 << 2, 0x3b, 0x05 | (reg.0 & 7) << 3]);
        let d = self.displacement(at);
        self.put(&d.to_le_bytes());
    }

    /// Pads with NOPs to a multiple of `align`, a power of two of at most 32.
    pub fn align(&mut self, align: usize) {
        const NOPS: [u8; 32] = [0xcc; 32];
        self.forget_copies();
        let n = (self.here() as usize).wrapping_neg() & (align - 1);
        self.put(&NOPS[..n & 31]);
    }
}
