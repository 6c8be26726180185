//! Random sequences and their inputs.
//!
//! A sequence is built instruction by instruction. Registers that hold addresses are reserved: nothing but write-back
//! changes them, so the builder knows their values throughout and can keep each access inside the scratch window. A
//! base gets its initial value when it is first used, chosen so that the first access lands where wanted whatever
//! the immediate is.

use crate::compose;
use crate::encodings::memory::{Access, Mode};
use crate::encodings::{Class, Encoding, Reg, bits, table};
use crate::features::Features;
use crate::layout::{Record, SCRATCH, SCRATCH_SIZE, WINDOW};
use crate::optional;
use crate::rng::Rng;
use crate::values;

/// Longest random sequence, without what a composed group adds.
const MAX_LENGTH: u64 = 12;
/// NOP.
pub const NOP: u32 = 0xD503_201F;

/// A sequence, and what its inputs must respect.
#[derive(Clone)]
pub struct Sequence {
    /// The instructions.
    pub words: Vec<u32>,
    /// The name of each instruction's encoding.
    pub names: Vec<&'static str>,
    /// Registers with a value that the sequence needs (addresses); index 31 is SP.
    pub fixed: [Option<u64>; 32],
    /// The scratch window, 0 for none.
    pub window: u64,
    /// Whether all general registers must hold addresses that fault.
    pub faulting: bool,
}

impl Sequence {
    /// The instruction at which `record` faulted, or NOP if it is none of the sequence's.
    pub fn at(&self, record: &Record) -> u32 {
        let offset = record.fault_pc.wrapping_sub(record.slot + 4);
        self.words.get((offset / 4) as usize).copied().unwrap_or(NOP)
    }
}

impl Sequence {
    /// The name of the instruction at which `record` faulted.
    pub fn name_at(&self, record: &Record) -> &'static str {
        let offset = record.fault_pc.wrapping_sub(record.slot + 4);
        self.names.get((offset / 4) as usize).copied().unwrap_or("an address outside the sequence")
    }
}

/// Makes sequences from a seed.
pub struct Generator {
    seed: u64,
    features: Features,
    tables: Vec<(Class, Vec<Encoding>)>,
}

impl Generator {
    /// A generator of the given classes, as far as `features` has them.
    pub fn new(seed: u64, classes: &[Class], features: &Features) -> Self {
        let tables = classes
            .iter()
            .map(|class| (*class, table(*class).into_iter().filter(|e| features.has(e.name)).collect()))
            .collect();
        Self { seed, features: *features, tables }
    }

    /// Sequence `index`.
    pub fn sequence(&self, index: u64) -> Sequence {
        let mut rng = Rng::for_sequence(self.seed, index);
        let first = &self.tables[rng.below(self.tables.len() as u64) as usize];
        if first.0 == Class::Decode {
            return decode_sequence(&mut rng);
        }
        let length = if rng.one_in(3) { 1 + rng.below(2) } else { 1 + rng.below(MAX_LENGTH) } as usize;
        let mut builder = Builder::new(rng, length, &self.features);
        while builder.words.len() < length {
            let at = builder.rng.below(self.tables.len() as u64) as usize;
            // Most instructions are of the sequence's own class, the others give it company.
            let (class, encodings) = if builder.rng.one_in(3) { &self.tables[at] } else { first };
            let done = compose::special(&mut builder, *class, &self.features)
                || (!encodings.is_empty() && {
                    let encoding = builder.rng.pick(encodings).clone();
                    builder.emit(&encoding)
                });
            if !done {
                builder.push("nop", NOP);
            }
        }
        if builder.rng.one_in(6) {
            compose::repeat(&mut builder);
        }
        if first.0 == Class::Memory && builder.rng.one_in(24) && builder.unconditional() {
            builder.edge = true;
            let encoding = builder.rng.pick(&first.1).clone();
            builder.emit(&encoding);
        }
        builder.finish()
    }

    /// Input `which` of sequence `index`.
    pub fn input(&self, sequence: &Sequence, index: u64, which: u64, slot: u64) -> Record {
        let mut rng = Rng::for_sequence(!self.seed, index.wrapping_mul(64).wrapping_add(which));
        let mut record = Record::zero();
        record.slot = slot;
        let kind = values::kind(&mut rng);
        for (i, x) in record.x.iter_mut().enumerate() {
            let random = values::x(&mut rng);
            *x = if sequence.faulting {
                faulting_address(random)
            } else {
                sequence.fixed[i].unwrap_or(random)
            };
        }
        let random = values::x(&mut rng);
        record.sp =
            if sequence.faulting { faulting_address(random) } else { sequence.fixed[31].unwrap_or(random) };
        for v in &mut record.v {
            *v = values::vector(&mut rng, Some(kind));
        }
        record.nzcv = rng.below(16) << 28;
        record.fpcr = values::fpcr(&mut rng);
        record.fpsr = values::fpsr(&mut rng);
        record.window = sequence.window;
        if sequence.window != 0 {
            for chunk in record.mem.chunks_exact_mut(8) {
                chunk.copy_from_slice(&rng.next_u64().to_le_bytes());
            }
        }
        record
    }
}

/// An address that neither side maps: in the lower half, or not canonical.
fn faulting_address(random: u64) -> u64 {
    let top = if random >> 62 == 0 { 0x00A5_0000_0000_0000 } else { 0x0000_0012_0000_0000 };
    // A few are misaligned, which matters to atomics. (For a branch the PC alignment fault would come first, but
    // QEMU's user mode looks at the page first.)
    let low = if random >> 59 & 7 == 0 { random & 0xC } else { 0 };
    top | random & 0xFFFF_F000 | low
}

/// One random word, as far as it stays inside the sandbox.
fn decode_sequence(rng: &mut Rng) -> Sequence {
    loop {
        let random = rng.next_u64() as u32;
        let (name, word) = match rng.below(8) {
            0 => ("random exception", 0xD400_0000 | random & 0x00FF_FFFF),
            1 | 2 => ("random system", 0xD500_0000 | random & 0x003F_FFFF),
            3 => ("random branch register", branch_register(random)),
            _ => ("random", random),
        };
        if optional::contained(word) && !optional::unpredictable(word) {
            return Sequence {
                words: vec![word],
                names: vec![name],
                fixed: [None; 32],
                window: 0,
                faulting: true,
            };
        }
    }
}

/// A branch to a register: any word of the group, or one that is allocated, whose target does not exist.
fn branch_register(random: u32) -> u32 {
    if random >> 31 == 0 {
        return 0xD600_0000 | random & 0x01FF_FFFF;
    }
    let opc = [0, 1, 2, 4, 5][(random >> 25) as usize % 5];
    0xD61F_0000 | opc << 21 | random & 0x3E0
}

/// A sequence under construction.
pub struct Builder {
    /// The stream of random numbers.
    pub rng: Rng,
    /// The instructions so far.
    pub words: Vec<u32>,
    names: Vec<&'static str>,
    fixed: [Option<u64>; 32],
    /// Bit per general register that must not be a destination; bit 31 is SP.
    reserved: u32,
    /// Base registers and their values at this point.
    bases: Vec<(u32, u64)>,
    /// Index registers and their values, which never change.
    indexes: Vec<(u32, u64)>,
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
    edge: bool,
}

impl Builder {
    fn new(mut rng: Rng, planned: usize, features: &Features) -> Self {
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
            window: 0,
            x_pool,
            v_pool,
            conditional_until: 0,
            planned,
            repeatable_from: 0,
            written_unseen: 0,
            misaligned: features.has("misaligned atomics"),
            edge: false,
        }
    }

    fn finish(mut self) -> Sequence {
        while self.words.len() < self.conditional_until {
            self.push("nop", NOP);
        }
        Sequence {
            words: self.words,
            names: self.names,
            fixed: self.fixed,
            window: self.window,
            faulting: false,
        }
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

    /// Reserves an unused general register with an initial value (not X30, which BL writes).
    pub fn reserve(&mut self, value: u64) -> Option<u32> {
        let reg = self.free_register()?;
        self.fix(reg, value);
        Some(reg)
    }

    fn fix(&mut self, reg: u32, value: u64) {
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
        if !self.indexes.is_empty() && !self.rng.one_in(3) {
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
