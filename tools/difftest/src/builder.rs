//! A sequence under construction, instruction by instruction.
//!
//! Registers that hold addresses are reserved: nothing but write-back changes them, so the builder knows their values
//! throughout and can keep each access inside the scratch window. In a line, a base gets its initial value when it is
//! first used, chosen so that the first access lands where wanted whatever the immediate is. In a program, whose
//! instructions run in an order that is not known here, the bases are given and the immediate is chosen; write-back
//! is only for bases that their block has made itself.

use crate::encodings::memory::{Access, Mode};
use crate::encodings::{Encoding, Reg, bits};
use crate::features::Features;
use crate::generate::{NOP, Sequence};
use crate::layout::{SCRATCH, SCRATCH_SIZE, WINDOW};
use crate::rng::Rng;
use crate::values;

/// A sequence under construction.
pub struct Builder {
    /// The stream of random numbers.
    pub rng: Rng,
    /// The instructions so far.
    pub words: Vec<u32>,
    /// Their names.
    pub names: Vec<&'static str>,
    fixed: [Option<u64>; 32],
    /// Bit per general register that must not be a destination; bit 31 is SP.
    pub reserved: u32,
    /// Base registers and their values at this point.
    pub bases: Vec<(u32, u64)>,
    /// Index registers and their values, which never change.
    pub indexes: Vec<(u32, u64)>,
    /// In a program: its parts that last.
    pub program: Option<Lasting>,
    window: u64,
    x_pool: Vec<u32>,
    v_pool: Vec<u32>,
    /// Instructions before this index may be skipped by a branch.
    conditional_until: usize,
    planned: usize,
    /// From here on the instructions may run again: nothing changed a register that holds an address.
    repeatable_from: usize,
    /// Bit per general register that is written in a way that no field shows.
    written_unseen: u32,
    /// Whether atomics may be misaligned: without FEAT_LSE2 they fault then, with it not always.
    misaligned: bool,
    /// Whether accesses are to reach over an end of scratch memory into a guard page.
    pub edge: bool,
    /// Whether accesses are to be where nothing is mapped.
    pub wild: bool,
}

/// What a program keeps from block to block.
#[derive(Clone, Copy, Debug)]
pub struct Lasting {
    /// Bit per base register that no write-back may change.
    pub constant: u32,
    /// A base around which nothing is mapped.
    pub wild: (u32, u64),
    /// A base at the end of scratch memory.
    pub edge: (u32, u64),
    /// What was reserved before the block began.
    pub reserved: u32,
}

impl Builder {
    /// An empty sequence that is to have `planned` instructions.
    pub fn new(mut rng: Rng, planned: usize, features: &Features) -> Self {
        let x_pool = (0..6 + rng.below(6)).map(|_| rng.below(31) as u32).collect();
        let v_pool = (0..4 + rng.below(6)).map(|_| rng.below(32) as u32).collect();
        Self {
            rng,
            words: Vec::new(),
            names: Vec::new(),
            fixed: [None; 32],
            reserved: 0,
            bases: Vec::new(),
            indexes: Vec::new(),
            program: None,
            window: 0,
            x_pool,
            v_pool,
            conditional_until: 0,
            planned,
            repeatable_from: 0,
            written_unseen: 0,
            misaligned: features.has("misaligned atomics"),
            edge: false,
            wild: false,
        }
    }

    /// The finished line.
    pub fn finish(mut self) -> Sequence {
        self.pad();
        Sequence { fixed: self.fixed, window: self.window, ..Sequence::line(self.words, self.names) }
    }

    /// Appends what a branch at the end so far may skip.
    pub fn pad(&mut self) {
        while self.words.len() < self.conditional_until {
            self.push("nop", NOP);
        }
    }

    /// The inputs that the sequence needs, as [`Sequence`] has them: registers and the window.
    pub fn needs(&self) -> ([Option<u64>; 32], u64) {
        (self.fixed, self.window)
    }

    /// Takes the finished block of a program, and begins another.
    pub fn take_block(&mut self) -> (Vec<u32>, Vec<&'static str>) {
        self.pad();
        self.conditional_until = 0;
        if let Some(program) = self.program {
            self.reserved = program.reserved;
            self.bases.retain(|(reg, _)| program.constant & 1 << reg != 0);
        }
        (std::mem::take(&mut self.words), std::mem::take(&mut self.names))
    }

    /// Whether X30 must stay as it is.
    pub fn keeps_link(&self) -> bool {
        self.reserved & 1 << 30 != 0
    }

    /// Appends an instruction.
    pub fn push(&mut self, name: &'static str, word: u32) {
        self.words.push(word);
        self.names.push(name);
    }

    /// Whether the next instruction always runs.
    pub fn unconditional(&self) -> bool {
        self.words.len() >= self.conditional_until
    }

    /// Declares that a branch at the end so far goes `distance` instructions ahead.
    pub fn branch_over(&mut self, distance: usize) {
        self.conditional_until = self.conditional_until.max(self.words.len() - 1 + distance);
    }

    /// A forward distance in instructions, 1 to 3.
    pub fn distance(&mut self) -> usize {
        1 + self.rng.below(3) as usize
    }

    /// The instructions at the end that may run several times.
    pub fn repeatable(&self) -> usize {
        self.words.len().saturating_sub(self.repeatable_from)
    }

    /// Says that what has been emitted so far must not run again.
    pub fn not_repeatable(&mut self) {
        self.repeatable_from = self.words.len();
    }

    /// Instructions that were planned and are not there yet.
    pub fn left(&self) -> usize {
        self.planned.saturating_sub(self.words.len())
    }

    /// A general register that may be overwritten, or the zero register.
    pub fn dest(&mut self) -> u32 {
        if self.rng.one_in(16) {
            return 31;
        }
        self.dest_no_zr()
    }

    /// A general register that may be overwritten.
    pub fn dest_no_zr(&mut self) -> u32 {
        loop {
            let reg = *self.rng.pick(&self.x_pool);
            let reg = if self.rng.one_in(4) { self.rng.below(31) as u32 } else { reg };
            if self.reserved & (1 << reg) == 0 {
                return reg;
            }
        }
    }

    fn source(&mut self) -> u32 {
        match self.rng.below(16) {
            0 => 31,
            1 => self.rng.below(31) as u32,
            _ => *self.rng.pick(&self.x_pool),
        }
    }

    fn vector(&mut self) -> u32 {
        if self.rng.one_in(8) { self.rng.below(32) as u32 } else { *self.rng.pick(&self.v_pool) }
    }

    /// Notes that code writes `reg` although no field of an instruction says so.
    pub fn note_written(&mut self, reg: u32) {
        self.written_unseen |= 1 << reg;
    }

    /// Reserves an unused general register with an initial value (not X30, which BL writes). In a program, where none
    /// is unused, loads the value and reserves the register up to the end of the block.
    pub fn reserve(&mut self, value: u64) -> Option<u32> {
        if self.program.is_some() {
            return self.load_constant(value);
        }
        let reg = self.free_register()?;
        self.fix(reg, value);
        Some(reg)
    }

    fn load_constant(&mut self, value: u64) -> Option<u32> {
        const MOST_RESERVED: u32 = 18;
        if !self.unconditional() || self.reserved.count_ones() > MOST_RESERVED {
            return None;
        }
        let reg = self.dest_no_zr();
        let part = |hw: u32| (value >> (16 * hw)) as u32 & 0xFFFF;
        self.push("constant", 0xD280_0000 | part(0) << 5 | reg);
        for hw in (1..4).filter(|hw| part(*hw) != 0) {
            self.push("constant", 0xF280_0000 | hw << 21 | part(hw) << 5 | reg);
        }
        self.reserved |= 1 << reg;
        Some(reg)
    }

    /// Gives a register a value for good.
    pub fn fix(&mut self, reg: u32, value: u64) {
        self.reserved |= 1 << reg;
        self.fixed[reg as usize] = Some(value);
    }

    /// A general register that no instruction so far may have written, and that is not reserved.
    fn free_register(&mut self) -> Option<u32> {
        let written = self.maybe_written() | self.written_unseen;
        let free: Vec<u32> = (0..30).filter(|r| (self.reserved | written) & (1 << r) == 0).collect();
        if free.len() < 8 { None } else { Some(*self.rng.pick(&free)) }
    }

    /// Registers that appear in any register field so far: a superset of those written.
    fn maybe_written(&self) -> u32 {
        self.words.iter().fold(0, |acc, w| {
            acc | [bits(*w, 4, 0), bits(*w, 20, 16), bits(*w, 14, 10)]
                .iter()
                .fold(0, |acc, r| acc | 1 << r | 1 << ((r + 1) & 31))
        })
    }

    /// Random free bits and registers for `encoding`, leaving a base register alone.
    fn fill(&mut self, encoding: &Encoding) -> u32 {
        let mut word = self.rng.next_u64() as u32 & !encoding.mask | encoding.value;
        let fields = encoding.fields;
        for (kind, low, dest) in
            [(fields.d, 0, true), (fields.n, 5, false), (fields.a, 10, false), (fields.m, 16, false)]
        {
            // Loads write Ra's place (Rt2) and atomics Rm's (Rs): there all are treated as destinations.
            let dest = dest || encoding.access.is_some();
            let reg = match kind {
                Reg::None => continue,
                Reg::X if dest => self.dest(),
                Reg::XSp if dest && self.reserved >> 31 == 1 => self.dest_no_zr(),
                Reg::XSp if dest => self.dest(),
                Reg::X | Reg::XSp => self.source(),
                Reg::V => self.vector(),
            };
            word = word & !(0x1F << low) | reg << low;
        }
        word
    }

    /// Appends an instruction of `encoding`; false if no word was found in reasonable time.
    pub fn emit(&mut self, encoding: &Encoding) -> bool {
        for _ in 0..200 {
            let word = self.fill(encoding);
            if !(encoding.ok)(word) || self.pair_hits_reserved(encoding, word) {
                continue;
            }
            match encoding.access {
                None => {
                    self.push(encoding.name, word);
                    return true;
                }
                Some(access) => {
                    if let Some(word) = self.address(word, &access)
                        && self.forget_overwritten(encoding, word, access.mode)
                    {
                        self.push(encoding.name, word);
                        return true;
                    }
                }
            }
        }
        false
    }

    /// A new base or index register may coincide with a target (`LDR X0, [X0]`): legal without write-back, but its
    /// value is unknown from then on.
    fn forget_overwritten(&mut self, encoding: &Encoding, word: u32, mode: Mode) -> bool {
        let fields = encoding.fields;
        let mut targets: Vec<u32> = [(fields.d, 0), (fields.a, 10), (fields.m, 16)]
            .iter()
            .filter(|(kind, low)| *kind == Reg::X && !(*low == 16 && mode.has_index()))
            .map(|(_, low)| bits(word, low + 4, *low))
            .collect();
        if encoding.name == "casp" {
            targets.push(bits(word, 20, 16) + 1);
        }
        targets.retain(|reg| *reg < 31);
        let base = bits(word, 9, 5);
        if mode.writes_back() && targets.contains(&base) {
            self.bases.retain(|(reg, _)| *reg != base);
            return false;
        }
        let known = self.bases.len() + self.indexes.len();
        self.bases.retain(|(reg, _)| !targets.contains(reg));
        self.indexes.retain(|(reg, _)| !targets.contains(reg));
        if self.bases.len() + self.indexes.len() != known {
            self.repeatable_from = self.words.len() + 1;
        }
        true
    }

    /// CASP writes Rs + 1, which no field names.
    fn pair_hits_reserved(&self, encoding: &Encoding, word: u32) -> bool {
        encoding.name == "casp" && self.reserved & !(1 << 31) & (1 << ((bits(word, 20, 16) + 1) & 31)) != 0
    }

    /// The scratch window of this sequence, chosen at first use; often across a page boundary or at the end.
    pub fn window(&mut self) -> u64 {
        if self.window == 0 {
            let last = SCRATCH_SIZE - WINDOW as u64;
            let offset = match self.rng.below(4) {
                0 => last,
                1 => self.rng.below(last / 16) * 16,
                _ => 0x1000 * (1 + self.rng.below(3)) - 16 * (1 + self.rng.below(WINDOW as u64 / 16 - 1)),
            };
            self.window = SCRATCH + offset.min(last);
        }
        self.window
    }

    /// An address in the window for `bytes` bytes.
    pub fn target(&mut self, bytes: u64, align: u64) -> u64 {
        let window = self.window();
        if self.edge {
            let over = 1 + self.rng.below(bytes);
            let target =
                if self.rng.one_in(3) { SCRATCH - over } else { SCRATCH + SCRATCH_SIZE - bytes + over };
            return target & !(align - 1);
        }
        let room = WINDOW as u64 - bytes;
        let boundary = (window + WINDOW as u64 - 1) & !0xFFF;
        let mut target = window + self.rng.below(room + 1);
        if boundary > window + bytes && self.rng.one_in(3) {
            target = boundary - 1 - self.rng.below(bytes);
        }
        if target + bytes > window + WINDOW as u64 {
            target = window + room;
        }
        if !self.misaligned || !self.rng.one_in(10) {
            target = (target & !(align - 1)).max(window.next_multiple_of(align));
        }
        target
    }

    fn in_window(&self, address: u64, bytes: u64) -> bool {
        let address = address & 0x00FF_FFFF_FFFF_FFFF;
        self.window != 0 && address >= self.window && address + bytes <= self.window + WINDOW as u64
    }

    /// Whether an access goes where it should: into the window, or over an edge into a guard page.
    fn reachable(&self, address: u64, bytes: u64) -> bool {
        if self.edge {
            let address = address & 0x00FF_FFFF_FFFF_FFFF;
            return address < SCRATCH || address + bytes > SCRATCH + SCRATCH_SIZE;
        }
        self.in_window(address, bytes)
    }

    /// Fills in the base register, and the index register where there is one.
    fn address(&mut self, word: u32, access: &Access) -> Option<u32> {
        if access.mode.writes_back() && !self.unconditional() {
            return None;
        }
        if let Some(program) = self.program {
            return self.aim(word, access, &program);
        }
        let (bytes, align) = (u64::from((access.bytes)(word)), u64::from((access.align)(word)));
        let (mut word, offset) = self.offset(word, access)?;
        let post = matches!(access.mode, Mode::Post | Mode::PairPost | Mode::StructPost);
        let applied = if post { 0 } else { offset };
        let chosen = if self.bases.is_empty() || self.edge || self.rng.one_in(3) {
            self.new_base(applied, bytes, align)?
        } else {
            self.rng.below(self.bases.len() as u64) as usize
        };
        let (reg, value) = self.bases[chosen];
        let address = value.wrapping_add(applied);
        let aligned = address.is_multiple_of(align) || (self.misaligned && self.rng.one_in(10));
        if !self.reachable(address, bytes) || (reg == 31 && value % 16 != 0) || !aligned {
            return None;
        }
        if access.mode.writes_back() {
            self.bases[chosen].1 = value.wrapping_add(offset);
            self.repeatable_from = self.words.len() + 1;
        }
        word = word & !(0x1F << 5) | reg << 5;
        Some(word)
    }

    /// Chooses a base of a program, and the immediate that goes where wanted.
    fn aim(&mut self, word: u32, access: &Access, program: &Lasting) -> Option<u32> {
        const ADDRESS: u64 = u64::MAX >> 8;
        let (bytes, align) = (u64::from((access.bytes)(word)), u64::from((access.align)(word)));
        let writes_back = access.mode.writes_back();
        if self.wild {
            let index = access.mode.has_index();
            return (!index).then_some(word & !(0x1F << 5) | program.wild.0 << 5);
        }
        let known = if self.edge { None } else { Some(self.rng.below(self.bases.len() as u64) as usize) };
        let (reg, value) = known.map_or(program.edge, |i| self.bases[i]);
        if writes_back && program.constant & 1 << reg != 0 && !self.edge {
            return None;
        }
        let post = matches!(access.mode, Mode::Post | Mode::PairPost | Mode::StructPost);
        let (word, offset) = if post || access.mode.has_index() {
            self.offset(word, access)?
        } else {
            let wanted = self.target(bytes, align).wrapping_sub(value & ADDRESS);
            encode_offset(word, access, wanted as i64)?
        };
        let address = value.wrapping_add(if post { 0 } else { offset });
        let aligned = address.is_multiple_of(align) || (self.misaligned && self.rng.one_in(10));
        if !self.reachable(address, bytes) || !aligned {
            return None;
        }
        if let Some(at) = known.filter(|_| writes_back) {
            self.bases[at].1 = value.wrapping_add(offset);
        }
        Some(word & !(0x1F << 5) | reg << 5)
    }

    /// The offset that the word adds to its base, after choosing the index register if it has one.
    fn offset(&mut self, word: u32, access: &Access) -> Option<(u32, u64)> {
        let scale = (access.scale)(word);
        let signed = |value: u32, width: u32| ((i64::from(value) << (64 - width)) >> (64 - width)) as u64;
        Some(match access.mode {
            Mode::Base => (word, 0),
            Mode::Unsigned => (word, u64::from(bits(word, 21, 10)) << scale),
            Mode::Unscaled | Mode::Pre | Mode::Post => (word, signed(bits(word, 20, 12), 9)),
            Mode::Pair | Mode::PairPre | Mode::PairPost => (word, signed(bits(word, 21, 15), 7) << scale),
            Mode::Register => {
                let (reg, value) = self.index_register()?;
                let word = word & !(0x1F << 16) | reg << 16;
                let extended = match bits(word, 15, 13) {
                    0b010 => u64::from(value as u32),
                    0b110 => value as i32 as i64 as u64,
                    _ => value,
                };
                (word, if bits(word, 12, 12) == 1 { extended << scale } else { extended })
            }
            Mode::StructPost if self.rng.one_in(2) => (word | 0x1F << 16, u64::from((access.bytes)(word))),
            Mode::StructPost => {
                let (reg, value) = self.index_register()?;
                if reg == 31 {
                    return None;
                }
                (word & !(0x1F << 16) | reg << 16, value)
            }
        })
    }

    /// A register with a known value for an index.
    fn index_register(&mut self) -> Option<(u32, u64)> {
        if self.rng.one_in(12) {
            return Some((31, 0));
        }
        if !self.indexes.is_empty() && (self.program.is_some() || !self.rng.one_in(3)) {
            return Some(*self.rng.pick(&self.indexes));
        }
        let value = match self.rng.below(3) {
            0 => self.rng.below(100),
            1 => self.rng.below(100).wrapping_neg(),
            _ => values::x(&mut self.rng),
        };
        let reg = self.reserve(value)?;
        self.indexes.push((reg, value));
        Some((reg, value))
    }

    /// A new base register whose value makes an access at `offset` land in the window; its index in `bases`.
    fn new_base(&mut self, offset: u64, bytes: u64, align: u64) -> Option<usize> {
        if self.bases.len() >= 5 {
            return None;
        }
        let target = self.target(bytes, align);
        let mut value = target.wrapping_sub(offset);
        let reg = if self.reserved >> 31 == 0 && self.sp_untouched() && self.rng.one_in(6) {
            value &= !15;
            31
        } else {
            // The top byte of an address is ignored at EL0 (TBI).
            if self.rng.one_in(8) {
                value ^= self.rng.below(256) << 56;
            }
            self.free_register()?
        };
        self.fix(reg, value);
        self.bases.push((reg, value));
        Some(self.bases.len() - 1)
    }

    /// Whether no instruction so far may have written SP.
    fn sp_untouched(&self) -> bool {
        self.words.iter().all(|w| bits(*w, 4, 0) != 31)
    }
}

/// Puts the offset, or one close to it, into a word whose immediate reaches so far.
fn encode_offset(word: u32, access: &Access, offset: i64) -> Option<(u32, u64)> {
    let scale = (access.scale)(word);
    let (low, width, signed, scale) = match access.mode {
        Mode::Base => return Some((word, 0)),
        Mode::Unsigned => (10, 12, false, scale),
        Mode::Unscaled | Mode::Pre => (12, 9, true, 0),
        Mode::Pair | Mode::PairPre => (15, 7, true, scale),
        _ => return None,
    };
    let units = offset >> scale;
    let range = if signed { -(1 << (width - 1))..1 << (width - 1) } else { 0..1i64 << width };
    let mask = (1u32 << width) - 1;
    range
        .contains(&units)
        .then(|| (word & !(mask << low) | (units as u32 & mask) << low, (units << scale) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encodings::{Class, table};

    #[test]
    fn immediates_hold_the_offset() {
        let all = table(Class::Memory);
        let access = |name| all.iter().find(|e| e.name == name).and_then(|e| e.access).unwrap();
        let ldr = 0xF940_0000; // LDR X0, [X0]
        assert_eq!(encode_offset(ldr, &access("ldst unsigned"), 40), Some((0xF940_1400, 40)));
        assert_eq!(encode_offset(ldr, &access("ldst unsigned"), -8), None);
        let ldur = 0xF840_0000; // LDUR X0, [X0]
        assert_eq!(encode_offset(ldur, &access("ldst unscaled"), -1), Some((0xF85F_F000, u64::MAX)));
        let ldp = 0xA940_0400; // LDP X0, X1, [X0]
        assert_eq!(encode_offset(ldp, &access("ldp/stp"), -8), Some((0xA97F_8400, -8i64 as u64)));
        assert_eq!(encode_offset(ldp, &access("ldp/stp"), 512), None);
    }
}
