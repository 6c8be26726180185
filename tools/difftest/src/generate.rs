//! Random sequences and their inputs.

use crate::builder::Builder;
use crate::compose;
use crate::encodings::{self, Class, Encoding, table};
use crate::features::Features;
use crate::layout::{ALIAS, LINES, PROGRAMS, Record, Slots, space};
use crate::optional;
use crate::program;
use crate::rng::Rng;
use crate::values::{self, Pool};

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
    /// How many faults it survives.
    pub resume: u64,
    /// The kind of slot it needs.
    pub slots: Slots,
}

impl Sequence {
    /// A sequence without addresses.
    pub fn line(words: Vec<u32>, names: Vec<&'static str>) -> Self {
        Self { words, names, fixed: [None; 32], window: 0, faulting: false, resume: 0, slots: LINES }
    }

    /// The instruction at which `record` faulted, or NOP if it is none of the sequence's.
    pub fn at(&self, record: &Record) -> u32 {
        let offset = record.fault_pc.wrapping_sub(record.slot + 4);
        self.words.get((offset / 4) as usize).copied().unwrap_or(NOP)
    }

    /// Bit per vector register that an instruction may read.
    fn vectors(&self) -> u32 {
        let field = |word: u32, low: u32| word >> low & 31;
        self.words.iter().filter(|word| **word != NOP && **word != 0).fold(0, |named, word| {
            let fields = [field(*word, 0), field(*word, 5), field(*word, 10), field(*word, 16)];
            // Lists have up to four registers, tables too.
            fields.iter().fold(named, |named, first| named | 0xFu32.rotate_left(*first))
        })
    }

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
    spaces: Option<Spaces>,
    pool: Pool,
}

/// Where sequences run.
#[derive(Clone, Copy, Debug, Default)]
pub struct World {
    /// At EL1.
    pub el1: bool,
    /// In several address spaces.
    pub spaces: Option<Spaces>,
}

/// Which address spaces inputs may choose.
#[derive(Clone, Copy, Debug)]
pub struct Spaces {
    /// Whether that includes none: the MMU off.
    pub off: bool,
}

impl Generator {
    /// A generator of the given classes, as far as `features` and the `world` have them.
    pub fn new(seed: u64, classes: &[Class], features: &Features, world: World) -> Self {
        let World { el1, spaces } = world;
        let encodings = |class| {
            let mut all = table(class);
            if class == Class::System && el1 {
                all.extend(encodings::system::table_el1());
            }
            all.retain(|e| features.has(e.name));
            all
        };
        let tables = classes.iter().map(|class| (*class, encodings(*class))).collect();
        Self { seed, features: *features, tables, spaces, pool: Pool::new(seed) }
    }

    /// Sequence `index` of those in `slots`.
    pub fn sequence(&self, index: u64, slots: Slots) -> Sequence {
        let mut rng = Rng::for_sequence(self.seed, index);
        if slots == PROGRAMS {
            let aliases = self.spaces.is_some_and(|spaces| !spaces.off);
            return program::program(rng, &self.tables, &self.features, aliases);
        }
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

    /// Input `which` of sequence `index`, which lies in slot `slot`.
    pub fn input(&self, sequence: &Sequence, index: u64, which: u64, slot: usize) -> Record {
        let mut rng = Rng::for_sequence(!self.seed, index.wrapping_mul(64).wrapping_add(which));
        let mut record = Record::zero();
        if let Some(spaces) = self.spaces {
            record.space = address_space(&mut rng, spaces);
        }
        record.slot = sequence.slots.address_for(slot, record.space);
        if self.spaces.is_some() && record.space & space::OFF == 0 && rng.one_in(3) {
            record.slot += ALIAS;
        }
        record.resume = sequence.resume;
        let kind = values::kind(&mut rng);
        for (i, x) in record.x.iter_mut().enumerate() {
            let random =
                if rng.one_in(8) { self.pool.vector(&mut rng, kind)[0] } else { values::x(&mut rng) };
            *x = if sequence.faulting {
                faulting_address(random)
            } else {
                sequence.fixed[i].unwrap_or(random)
            };
        }
        let random = values::x(&mut rng);
        record.sp =
            if sequence.faulting { faulting_address(random) } else { sequence.fixed[31].unwrap_or(random) };
        // What no instruction names need not be special.
        let named = sequence.vectors();
        for (i, v) in record.v.iter_mut().enumerate() {
            *v = if named & 1 << i != 0 {
                self.pool.vector(&mut rng, kind)
            } else {
                [rng.next_u64(), rng.next_u64()]
            };
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

/// Some bits of [`mod@space`] that go together.
fn address_space(rng: &mut Rng, spaces: Spaces) -> u64 {
    if spaces.off && rng.one_in(10) {
        return space::OFF | rng.next_u64() & (space::SECOND | space::STRICT);
    }
    // Mostly each ASID has one copy of the code, so that nothing is invalidated between.
    let usual = if rng.one_in(2) { 0 } else { space::SECOND | space::COPY };
    let hostile = if rng.one_in(4) { space::HOSTILE } else { 0 };
    let moved = if rng.one_in(8) { space::COPY } else { 0 };
    let strict = if rng.one_in(6) { space::STRICT } else { 0 };
    usual ^ moved | hostile | strict | rng.next_u64() & space::ALL
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
            return Sequence { faulting: true, ..Sequence::line(vec![word], vec![name]) };
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
