//! Random programs: blocks with branches, loops, calls, faults, and changes of their own code.
//!
//! The main part is a row of blocks that branch forwards, and backwards only by counters that nothing resets: the
//! number of backward branches is thus bounded whatever the flow is. Functions are rows of blocks behind it, which
//! are called from anything that comes before them. All general registers are used: a few hold addresses and
//! counters, the rest what instructions leave in them.

use crate::blocks::{self, Block, END, Fixup, Place, Word};
use crate::builder::{Builder, Lasting};
use crate::compose;
use crate::driver::{NO_SYSCALL, call};
use crate::encodings::{Class, Encoding};
use crate::features::Features;
use crate::generate::{NOP, Sequence};
use crate::layout::{ALIAS, LOGGED, PROGRAMS, SCRATCH, SCRATCH_SIZE, WINDOW};
use crate::rng::Rng;

/// Words of a slot but for its first and last instruction.
const ROOM: usize = PROGRAMS.size as usize / 4 - 2;
/// The word of a program at which every other slot has a page boundary.
const MIDDLE: usize = PROGRAMS.size as usize / 8 - 1;
/// Registers that count for backward branches.
const COUNTERS: usize = 4;
/// Words of data among the code.
const DATA_WORDS: usize = 8;
const LINK: u32 = 30;
const SP: u32 = 31;

/// Names of instructions that a sequence cannot do without: it would run away, or do what is not defined.
const STRUCTURE: [&str; 8] = ["jump", "count", "link", "target", "return", "base", "constant", "ldxr"];

/// Whether an instruction of this name must stay, also in a line.
pub fn is_structure(name: &str) -> bool {
    STRUCTURE.contains(&name)
}

type Tables = [(Class, Vec<Encoding>)];

/// A program from the stream `rng`, of the classes of `tables`.
/// With `aliases`, all code is mapped at [`ALIAS`] too.
pub fn program(mut rng: Rng, tables: &Tables, features: &Features, aliases: bool) -> Sequence {
    loop {
        let mut maker = Maker::new(Rng::for_sequence(rng.next_u64(), 0), tables, features);
        let sizes = maker.sizes();
        (maker.aliases, maker.data) = (aliases, sizes.iter().sum());
        let mut first = 0;
        for (row, size) in sizes.iter().enumerate() {
            let functions: Vec<usize> = (row + 1..sizes.len()).map(|r| sizes[..r].iter().sum()).collect();
            maker.row(first, *size, row, &functions);
            first += size;
        }
        maker.blocks.push(data_block());
        let resume = maker.resume;
        let (fixed, window) = maker.b.needs();
        if let Some(out) = blocks::lay_out(maker.blocks, &mut rng, MIDDLE, ROOM) {
            return Sequence {
                fixed,
                window,
                resume,
                slots: PROGRAMS,
                ..Sequence::line(out.words, out.names)
            };
        }
    }
}

/// Words that are never executed, on a page with instructions. Not zero, which is what gaps are.
fn data_block() -> Block {
    Block { words: vec![NOP; DATA_WORDS], names: vec!["data"; DATA_WORDS], fixups: Vec::new(), next: None }
}

/// What a program may fault with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Faults {
    None,
    /// Those after which it can go on: nothing has changed.
    Clean,
    /// Also accesses over the end of memory.
    All,
}

struct Maker<'a> {
    b: Builder,
    tables: &'a Tables,
    features: &'a Features,
    blocks: Vec<Block>,
    counters: Vec<u32>,
    /// Keeps X30 in functions that call.
    link: u32,
    faults: Faults,
    resume: u64,
    /// An instruction that others change, and what it becomes and comes back from: in this block.
    site_block: Option<usize>,
    site: Option<(Place, Word)>,
    /// References from the block under construction.
    fixups: Vec<(usize, Fixup, Place)>,
    /// Differences that wait for the site to be known: block, index.
    patches: Vec<(usize, usize)>,
    /// Whether code is mapped at [`ALIAS`] too.
    aliases: bool,
    /// The block that holds data.
    data: usize,
}

impl<'a> Maker<'a> {
    fn new(rng: Rng, tables: &'a Tables, features: &'a Features) -> Self {
        let mut b = Builder::new(rng, usize::MAX, features);
        let window = b.window();
        let mut free: Vec<u32> = (0..LINK).collect();
        let mut take = |b: &mut Builder| free.swap_remove(b.rng.below(free.len() as u64) as usize);
        let mut constant = 0;
        let count = 2 + b.rng.below(3);
        for i in 0..count {
            let reg = take(&mut b);
            let spread = b.rng.below(WINDOW as u64 / count);
            let mut value = window + i * (WINDOW as u64 / count) + spread;
            if !b.rng.one_in(4) {
                value &= !15;
            }
            if b.rng.one_in(8) {
                value |= b.rng.below(256) << 56;
            }
            b.fix(reg, value);
            b.bases.push((reg, value));
            constant |= 1 << reg;
        }
        for negative in [false, true] {
            let (reg, value) = (take(&mut b), b.rng.below(100));
            let value = if negative { u64::from((value as u32).wrapping_neg()) } else { value };
            b.fix(reg, value);
            b.indexes.push((reg, value));
        }
        let wild = (take(&mut b), SCRATCH + SCRATCH_SIZE + 0x1_0000);
        let edge = (take(&mut b), SCRATCH + SCRATCH_SIZE - 16 * b.rng.below(4));
        b.fix(wild.0, wild.1);
        b.fix(edge.0, edge.1);
        let counters: Vec<u32> = (0..COUNTERS).map(|_| take(&mut b)).collect();
        let link = take(&mut b);
        let misaligned = if b.rng.one_in(12) { 8 } else { 0 };
        let sp = (window + b.rng.below(WINDOW as u64)) & !15 | misaligned;
        b.fix(SP, sp);
        b.reserved |= 1 << link;
        let (faults, resume) = match b.rng.below(10) {
            0..5 => (Faults::None, 0),
            5 => (Faults::All, 0),
            6 => (Faults::Clean, 0),
            _ => (Faults::Clean, 1 + b.rng.below(LOGGED as u64)),
        };
        for counter in &counters {
            let most = if b.rng.one_in(6) { 60 } else { 6 };
            let times = b.rng.below(most);
            b.fix(*counter, times);
        }
        b.program = Some(Lasting { constant, wild, edge, reserved: b.reserved });
        Self {
            b,
            tables,
            features,
            blocks: Vec::new(),
            counters,
            link,
            faults,
            resume,
            site_block: None,
            site: None,
            fixups: Vec::new(),
            patches: Vec::new(),
            aliases: false,
            data: 0,
        }
    }

    /// Blocks of the main part and of each function.
    fn sizes(&mut self) -> Vec<usize> {
        let mut sizes = vec![2 + self.b.rng.below(6) as usize];
        for _ in 0..self.b.rng.below(3) {
            sizes.push(1 + self.b.rng.below(2) as usize);
        }
        if self.b.rng.one_in(3) {
            let all: usize = sizes.iter().sum();
            self.site_block = Some(self.b.rng.below(all as u64) as usize);
        }
        sizes
    }

    /// The main part (0), or a function.
    fn row(&mut self, first: usize, size: usize, row: usize, functions: &[usize]) {
        let function = row > 0;
        let calls = if function && self.b.rng.one_in(2) { &[] } else { functions };
        let leaf = function && calls.is_empty();
        for at in first..first + size {
            if leaf {
                self.b.reserved |= 1 << LINK;
            } else if function && at == first {
                self.b.push("link", 0xAA1E_03E0 | self.link);
            }
            self.open_block(at, first + size, function);
            let length = if self.b.rng.one_in(4) { self.b.rng.below(25) } else { self.b.rng.below(9) };
            for _ in 0..length {
                self.instruction();
            }
            let mut next = Some(if at + 1 < first + size { at + 1 } else { END });
            // A branch must not be skipped by one of the block's own.
            self.b.pad();
            if !calls.is_empty() && self.b.rng.one_in(3) {
                let to = calls[self.b.rng.below(calls.len() as u64) as usize];
                self.call(to);
            } else if next == Some(END) && function {
                self.give_back(leaf);
                next = None;
            } else {
                next = self.leave(at, first, first + size, function);
            }
            if next == Some(END) && function {
                self.give_back(leaf);
                next = None;
            }
            self.close_block(next);
        }
    }

    /// Makes the bases of the block, and the instruction that is to change, if it is here.
    fn open_block(&mut self, at: usize, end: usize, function: bool) {
        let b = &mut self.b;
        if b.rng.one_in(3) {
            let (base, value) = *b.rng.pick(&b.bases.clone());
            let step = b.rng.below(64) as u32;
            let reg = if value % 16 == 0 && b.rng.one_in(2) { SP } else { b.dest_no_zr() };
            // The alignment of SP is checked in some address spaces only.
            let misaligned = if b.rng.one_in(12) { 8 } else { 0 };
            let step = if reg == SP { step & !15 | misaligned } else { step };
            b.push("base", 0x9100_0000 | step << 10 | base << 5 | reg);
            b.reserved |= 1 << reg;
            b.bases.push((reg, value.wrapping_add(u64::from(step))));
        }
        if self.site_block == Some(at) {
            let rd = b.dest_no_zr();
            let old = if b.rng.one_in(2) { NOP } else { 0x9100_0400 | rd << 5 | rd };
            let new = match b.rng.below(4) {
                0 if at + 1 < end || !function => Word::Branch(if at + 1 < end { at + 1 } else { END }),
                1 => Word::Plain(0xD280_0000 | (b.rng.below(0x1_0000) as u32) << 5 | rd),
                2 => Word::Plain(0xCA00_0000 | (b.rng.below(31) as u32) << 16 | rd << 5 | rd),
                _ => Word::Plain(0x3100_1C00 | rd << 5 | rd),
            };
            self.site = Some(((at, b.words.len()), new));
            b.push("changing", old);
        }
    }

    fn close_block(&mut self, next: Option<usize>) {
        let (words, names) = self.b.take_block();
        let fixups = std::mem::take(&mut self.fixups);
        self.blocks.push(Block { words, names, fixups, next });
        if let Some((site, becomes)) = self.site {
            for (block, at) in std::mem::take(&mut self.patches) {
                let fixups = &mut self.blocks[block].fixups;
                fixups.push((at - 1, Fixup::Address, site));
                fixups.push((at, Fixup::Difference { becomes }, site));
            }
        }
    }

    fn instruction(&mut self) {
        let choice = self.b.rng.below(100);
        let done = match choice {
            0..4 if self.faults != Faults::None => self.fault(),
            4 => self.system_call(),
            5 => self.data_access(),
            6..9 if self.site_block.is_some() => self.patch(),
            _ => self.random(),
        };
        if !done {
            self.b.push("nop", NOP);
        }
    }

    /// An instruction of any class, or a composed group.
    fn random(&mut self) -> bool {
        let class = match self.b.rng.below(20) {
            0..9 => Class::Integer,
            9..14 => Class::Memory,
            14 | 15 => Class::Fp,
            16 | 17 => Class::Simd,
            18 => Class::System,
            _ => Class::Crypto,
        };
        let table = self.tables.iter().find(|(c, encodings)| *c == class && !encodings.is_empty());
        let Some((_, encodings)) = table.or_else(|| self.tables.iter().find(|t| !t.1.is_empty())) else {
            return false;
        };
        if compose::special(&mut self.b, class, self.features) {
            return true;
        }
        let encoding = self.b.rng.pick(encodings).clone();
        self.b.emit(&encoding)
    }

    fn fault(&mut self) -> bool {
        let memory = self.tables.iter().find(|(class, _)| *class == Class::Memory);
        let immediate = 1 + self.b.rng.below(0xFFFF) as u32;
        match self.b.rng.below(6) {
            0 => self.b.push("udf", immediate),
            1 => self.b.push("brk", 0xD420_0000 | immediate << 5),
            kind => {
                let Some((_, encodings)) = memory else { return false };
                let encoding = self.b.rng.pick(encodings).clone();
                let edge = kind == 2 && self.faults == Faults::All;
                (self.b.edge, self.b.wild) = (edge, !edge);
                let done = self.b.emit(&encoding);
                (self.b.edge, self.b.wild) = (false, false);
                return done;
            }
        }
        true
    }

    /// A system call that does not exist: X0 becomes -ENOSYS. Our own kernel turns floating point off, and on again
    /// when it is used, as kernels do.
    fn system_call(&mut self) -> bool {
        const NUMBER: u32 = 8;
        if !self.b.unconditional() || self.b.reserved & (1 << NUMBER | 1) != 0 {
            return false;
        }
        self.b.push("constant", 0xD280_0000 | NO_SYSCALL << 5 | NUMBER);
        self.b.push("svc", 0xD400_0001 | call::SEQUENCE << 5);
        true
    }

    /// A load or store of data on a page with instructions.
    fn data_access(&mut self) -> bool {
        if !self.b.unconditional() {
            return false;
        }
        let address = self.b.dest_no_zr();
        let rt = self.b.dest();
        self.fixups.push((self.b.words.len(), Fixup::Address, (self.data, 0)));
        self.b.push("target", 0x1000_0000 | address);
        let stp = 0xA900_0000 | rt << 10;
        let ldr_q = 0x3DC0_0000;
        let offset = self.b.rng.below(3) as u32;
        let (name, word) = *self.b.rng.pick(&[
            ("str data", 0xF900_0000 | offset << 10),
            ("stp data", stp | offset << 15),
            ("ldr data", 0xF940_0000 | offset << 10),
            ("ldr q data", ldr_q),
            ("strb data", 0x3900_0000 | offset << 10),
        ]);
        self.b.push(name, word | address << 5 | rt);
        true
    }

    /// Turns the changing instruction into the other that it can be, and makes that visible.
    fn patch(&mut self) -> bool {
        if !self.b.unconditional() {
            return false;
        }
        let mut regs: Vec<u32> = Vec::new();
        while regs.len() < 3 {
            let reg = self.b.dest_no_zr();
            if !regs.contains(&reg) {
                regs.push(reg);
            }
        }
        let (address, difference, word) = (regs[0], regs[1], regs[2]);
        self.patches.push((self.blocks.len(), self.b.words.len() + 1));
        self.b.push("target", 0x1000_0000 | address);
        self.b.push("constant", 0xD280_0000 | difference);
        self.b.push("constant", 0xF2A0_0000 | difference);
        if self.aliases && self.b.rng.one_in(3) {
            const { assert!(ALIAS == 1 << 26) };
            self.b.push("constant", 0xD266_0000 | address << 5 | address); // eor address, address, #ALIAS
        }
        self.b.push("ldr code", 0xB940_0000 | address << 5 | word);
        self.b.push("constant", 0x4A00_0000 | difference << 16 | word << 5 | word);
        self.b.push("str code", 0xB900_0000 | address << 5 | word);
        self.b.push("constant", 0xD50B_7B20 | address);
        self.b.push("constant", 0xD503_3B9F);
        self.b.push("constant", 0xD50B_7520 | address);
        self.b.push("constant", 0xD503_3B9F);
        self.b.push("constant", 0xD503_3FDF);
        true
    }

    /// The end of block `at` of a row: what may branch, and the block that follows if it does not.
    fn leave(&mut self, at: usize, first: usize, end: usize, function: bool) -> Option<usize> {
        let next = if at + 1 < end { at + 1 } else { END };
        if self.b.rng.one_in(3) && !self.counters.is_empty() {
            let to = first + self.b.rng.below((at - first) as u64 + 1) as usize;
            // The first block of a function that calls saves X30.
            if !(function && to == first) {
                self.back(to);
            }
            return Some(next);
        }
        let targets = (end - at) as u64;
        let ahead = at + 1 + self.b.rng.below(targets) as usize;
        let ahead = if ahead < end { ahead } else { END };
        if function && ahead == END {
            return Some(next);
        }
        match self.b.rng.below(8) {
            0 => Some(ahead),
            1 => {
                self.switch(ahead, next);
                None
            }
            _ => {
                self.forward(ahead);
                Some(next)
            }
        }
    }

    fn refer(&mut self, fixup: Fixup, to: usize) {
        self.fixups.push((self.b.words.len(), fixup, (to, 0)));
    }

    /// A conditional branch, often on flags that were just set.
    fn forward(&mut self, to: usize) {
        let random = self.b.rng.next_u64();
        let (rn, rm) = (self.b.rng.below(31) as u32, self.b.rng.below(31) as u32);
        let wide = (random as u32 & 1) << 31;
        match random >> 1 & 7 {
            0 => self.b.push("cmp", 0x6B00_001F | wide | rm << 16 | rn << 5),
            1 => self.b.push("cmp imm", 0x7100_001F | wide | (random >> 8 & 0xFF) as u32 * 1024 | rn << 5),
            2 => self.b.push("cmn", 0x2B00_001F | wide | rm << 16 | rn << 5),
            3 => self.b.push("tst", 0x6A00_001F | wide | rm << 16 | rn << 5),
            4 => self.b.push("fcmp", 0x1E60_2000 | rm << 16 | rn << 5),
            5 => self
                .b
                .push("ccmp", 0x7A40_0000 | wide | rm << 16 | (random >> 8 & 15) as u32 * 4096 | rn << 5),
            _ => {}
        }
        match random >> 16 & 7 {
            0 | 1 => {
                self.refer(Fixup::Conditional, to);
                self.b.push("cbz/cbnz", 0x3400_0000 | wide | (random >> 20 & 1) as u32 * 0x0100_0000 | rn);
            }
            2 => {
                self.refer(Fixup::Test, to);
                let bit = (random >> 21) as u32 & 31;
                let which = wide | (random >> 20 & 1) as u32 * 0x0100_0000 | bit << 19;
                self.b.push("tbz/tbnz", 0x3600_0000 | which | rn);
            }
            _ => {
                self.refer(Fixup::Conditional, to);
                self.b.push("b.cond", 0x5400_0000 | (random >> 20 & 15) as u32);
            }
        }
    }

    /// A backward branch, as often as its counter allows.
    fn back(&mut self, to: usize) {
        let Some(counter) = self.counters.pop() else { return };
        let wide = (self.b.rng.below(2) as u32) << 31;
        let sub = |s: u32| wide | s << 29 | 0x5100_0400 | counter << 5 | counter;
        match self.b.rng.below(3) {
            0 => {
                self.b.push("count", sub(0));
                self.refer(Fixup::Test, to);
                let sign = if wide != 0 { 0x80F8_0000 } else { 0x00F8_0000 };
                self.b.push("tbz back", 0x3600_0000 | sign | counter);
            }
            1 => {
                self.b.push("count", sub(1));
                self.refer(Fixup::Conditional, to);
                self.b.push("b.pl back", 0x5400_0005);
            }
            _ => {
                self.b.push("count", 0x3400_0060 | wide | counter);
                self.b.push("count", sub(0));
                self.refer(Fixup::Near, to);
                self.b.push("b back", 0x1400_0000);
            }
        }
    }

    /// BR to one of two blocks.
    fn switch(&mut self, one: usize, other: usize) {
        let a = self.b.dest_no_zr();
        let mut c = self.b.dest_no_zr();
        while c == a {
            c = self.b.dest_no_zr();
        }
        self.refer(Fixup::Address, one);
        self.b.push("target", 0x1000_0000 | a);
        self.refer(Fixup::Address, other);
        self.b.push("target", 0x1000_0000 | c);
        let condition = self.b.rng.below(16) as u32;
        self.b.push("target", 0x9A80_0000 | c << 16 | condition << 12 | a << 5 | a);
        self.b.push("jump", 0xD61F_0000 | a << 5);
    }

    /// BL or BLR.
    fn call(&mut self, to: usize) {
        if self.b.rng.one_in(3) {
            let reg = self.b.dest_no_zr();
            self.refer(Fixup::Address, to);
            self.b.push("target", 0x1000_0000 | reg);
            self.b.push("blr", 0xD63F_0000 | reg << 5);
        } else {
            self.refer(Fixup::Near, to);
            self.b.push("bl", 0x9400_0000);
        }
    }

    /// The end of a function.
    fn give_back(&mut self, leaf: bool) {
        if leaf {
            self.b.push("return", 0xD65F_03C0);
        } else if self.b.rng.one_in(2) {
            self.b.push("return", 0xD65F_0000 | self.link << 5);
        } else {
            self.b.push("return", 0xAA00_03FE | self.link << 16);
            self.b.push("return", 0xD65F_03C0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Generator, World};

    #[test]
    fn programs_fit_and_repeat() {
        let classes = [Class::Integer, Class::Memory, Class::Simd, Class::System];
        let generator = Generator::new(5, &classes, &Features::everything(), World::default());
        let mut seen: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
        for index in 0..300 {
            let one = generator.sequence(index, PROGRAMS);
            assert!(one.words.len() <= ROOM && one.words == generator.sequence(index, PROGRAMS).words);
            assert_eq!(one.words.len(), one.names.len());
            seen.extend(&one.names);
        }
        for name in [
            "changing",
            "str code",
            "str data",
            "bl",
            "blr",
            "return",
            "b.pl back",
            "svc",
            "udf",
            "stxr",
            "ldp/stp pre",
        ] {
            assert!(seen.contains(name), "{name}");
        }
    }
}
