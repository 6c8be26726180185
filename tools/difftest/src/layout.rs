//! The one address map of both sides, and the record through which inputs go in and results come back.
//!
//! QEMU loads an ELF at these addresses; on our side they are guest physical RAM under an identity map. Code and
//! scratch thus have the same addresses on both sides, and ADR, BL and base registers compare equal.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Start of guest RAM on our side; holds the EL1 kernel and its page tables.
pub const RAM_BASE: u64 = 0x4000_0000;
/// Bytes of RAM on our side.
pub const RAM_SIZE: u64 = 0x0200_0000;
/// The EL1 kernel (our side only): exception vectors and start-up code.
pub const KERNEL: u64 = RAM_BASE + 0x1_0000;
/// Translation tables (our side only).
pub const TABLES: u64 = RAM_BASE + 0x2_0000;
/// The EL0 driver program.
pub const DRIVER: u64 = RAM_BASE + 0x40_0000;
/// The driver's variables, see [`vars`].
pub const VARS: u64 = DRIVER + 0x8000;
/// The alternate signal stack (QEMU only).
pub const ALT_STACK: u64 = DRIVER + 0x10000;
/// Bytes of the alternate signal stack.
pub const ALT_STACK_SIZE: u64 = 0x1_0000;
/// Bytes of the driver's segment.
pub const DRIVER_SIZE: u64 = 0x3_0000;
/// The pages that hold the code slots: 2 MiB of their own, so that one table entry moves them all.
pub const CODE_AREA: u64 = RAM_BASE + 0x20_0000;
/// Bytes of these pages.
pub const CODE_AREA_SIZE: u64 = 0x4_1000;
/// Where the second copy of the code lies in physical memory (our side, with address spaces).
pub const CODE_COPY: u64 = RAM_BASE + 0x30_0000;
/// All of RAM is mapped here once more (our side only). Branches are relative: code that starts here stays here.
pub const ALIAS: u64 = 0x400_0000;
/// Slots of short sequences.
pub const LINES: Slots = Slots { size: 128, count: 512 };
/// Slots of programs of several blocks: every other one has a page boundary in its middle.
pub const PROGRAMS: Slots = Slots { size: 2048, count: 128 };
/// Records of a batch.
pub const RECORDS: u64 = RAM_BASE + 0x60_0000;
/// Most records in a batch.
pub const MAX_RECORDS: usize = 2048;
/// The scratch pages that memory operands point into; unmapped guard pages lie before and after.
pub const SCRATCH: u64 = RAM_BASE + 0x100_0000;
/// Bytes of scratch.
pub const SCRATCH_SIZE: u64 = 0x4000;
/// Guest physical addresses from here on are devices (our side, with address spaces).
pub const DEVICE: u64 = 0x1000_0000;
/// Bytes of scratch that a record carries in and out.
pub const WINDOW: usize = 1024;

/// Offsets of the driver's variables from [`VARS`].
pub mod vars {
    /// Address of the record being run.
    pub const CURRENT: u32 = 0;
    /// Records left.
    pub const LEFT: u32 = 8;
    /// The header of a batch as received: the number of records, the bytes of code.
    pub const HEADER: u32 = 16;
    /// A `struct stack_t`, then a `struct kernel_sigaction` (QEMU only).
    pub const STACK_T: u32 = 64;
    /// A `struct kernel_sigaction` (QEMU only).
    pub const SIGACTION: u32 = 128;
}

/// Offsets in a record.
pub mod rec {
    pub const X: u32 = 0;
    pub const X30: u32 = 240;
    pub const SP: u32 = 248;
    pub const V: u32 = 256;
    pub const NZCV: u32 = 768;
    pub const FPCR: u32 = 776;
    pub const FPSR: u32 = 784;
    pub const SLOT: u32 = 792;
    pub const WINDOW_ADDRESS: u32 = 800;
    pub const STATUS: u32 = 808;
    pub const FAULT_PC: u32 = 816;
    pub const FAULT_ADDRESS: u32 = 824;
    pub const SPACE: u32 = 832;
    pub const RESUME: u32 = 840;
    pub const SURVIVED: u32 = 848;
    pub const LOG: u32 = 856;
    pub const MEM: u32 = 960;
    pub const SIZE: u32 = MEM + super::WINDOW as u32;
}

/// Faults that a record can log.
pub const LOGGED: usize = 4;

/// The bits of [`Record::space`].
pub mod space {
    /// The second ASID, with tables of its own.
    pub const SECOND: u64 = 1;
    /// The second copy of the code, in which slots 2n and 2n + 1 have changed places.
    pub const COPY: u64 = 2;
    /// Scratch pages that are, in turn, normal, read-only, Device memory, and a device.
    pub const HOSTILE: u64 = 4;
    /// A change of the tables is followed by TLBI VMALLE1 instead of ASIDE1.
    pub const ALL: u64 = 8;
    /// The MMU is off (EL1 only).
    pub const OFF: u64 = 16;
    /// Unaligned accesses fault, and accesses by way of an SP that is not aligned.
    pub const STRICT: u64 = 32;
}

/// Equal slots for code, one after the other. The first lies half a slot into its page, so that some cross pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Bytes of a slot.
    pub size: u64,
    /// How many there are.
    pub count: usize,
}

impl Slots {
    /// Offset of slot `index` in the code area.
    const fn offset(self, index: usize) -> u64 {
        self.size / 2 + index as u64 * self.size
    }

    /// Address of slot `index`.
    pub const fn address(self, index: usize) -> u64 {
        CODE_AREA + self.offset(index)
    }

    /// The slot of the sequence that `record` runs.
    pub fn index(self, record: &Record) -> usize {
        let offset = record.slot.wrapping_sub(CODE_AREA) & (ALIAS - 1);
        (offset / self.size) as usize ^ usize::from(record.space & space::COPY != 0)
    }

    /// Where `record` finds slot `index`, given its address space.
    pub fn address_for(self, index: usize, space: u64) -> u64 {
        self.address(index ^ usize::from(space & space::COPY != 0))
    }
}

/// A fault that a sequence went on after.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Fault {
    /// As [`Record::status`].
    pub status: u64,
    /// Address of the instruction.
    pub pc: u64,
    /// As [`Record::fault_address`].
    pub address: u64,
}

/// One run of one sequence: registers and memory before it, and after it. This is also how the driver sees it, at the
/// offsets in [`rec`].
#[repr(C)]
#[derive(Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Record {
    /// X0-X30.
    pub x: [u64; 31],
    /// SP.
    pub sp: u64,
    /// V0-V31.
    pub v: [[u64; 2]; 32],
    /// NZCV as the system register has it (bits 31:28).
    pub nzcv: u64,
    /// FPCR.
    pub fpcr: u64,
    /// FPSR.
    pub fpsr: u64,
    /// Address of the code slot.
    pub slot: u64,
    /// Address of the window in scratch memory, 0 for a sequence without memory operands.
    pub window: u64,
    /// 0, or what ended the sequence: a signal (Linux numbers), on our side ESR_EL1.
    pub status: u64,
    /// Address of the instruction that took the signal.
    pub fault_pc: u64,
    /// Faulting address of a memory signal.
    pub fault_address: u64,
    /// The address space, see [`mod@space`]; 0 but on our side.
    pub space: u64,
    /// How many faults the sequence survives: each skips its instruction.
    pub resume: u64,
    /// Faults survived.
    pub survived: u64,
    /// The faults survived.
    pub log: [Fault; LOGGED],
    /// Nothing.
    pub unused: u64,
    /// Contents of the window.
    pub mem: [u8; WINDOW],
}

impl Record {
    /// A record of zeros.
    pub fn zero() -> Self {
        Self {
            x: [0; 31],
            sp: 0,
            v: [[0; 2]; 32],
            nzcv: 0,
            fpcr: 0,
            fpsr: 0,
            slot: LINES.address(0),
            window: 0,
            status: 0,
            fault_pc: 0,
            fault_address: 0,
            space: 0,
            resume: 0,
            survived: 0,
            log: [Fault::default(); LOGGED],
            unused: 0,
            mem: [0; WINDOW],
        }
    }

    /// The fault that ended the sequence.
    pub fn fault(&self) -> Fault {
        Fault { status: self.status, pc: self.fault_pc, address: self.fault_address }
    }
}

/// Code and inputs for one round on all sides.
#[derive(Clone)]
pub struct Batch {
    /// How the code lies.
    pub slots: Slots,
    /// The sequences, one for each slot from the first on.
    pub code: Vec<Vec<u32>>,
    /// The inputs; each names its slot.
    pub records: Vec<Record>,
}

impl Batch {
    /// The bytes of the code area: each slot loads X29 and X30 (the entry has used them as pointers), runs its
    /// sequence and branches to `exit`. In a `copy`, slots 2n and 2n + 1 have changed places.
    pub fn code_bytes(&self, exit: u64, copy: bool) -> Vec<u8> {
        let slots = self.code.len().next_multiple_of(2);
        let mut words = vec![0u32; self.slots.offset(slots).next_multiple_of(64) as usize / 4];
        for (i, sequence) in self.code.iter().enumerate().filter(|(_, s)| !s.is_empty()) {
            let at = self.slots.offset(i ^ usize::from(copy)) as usize / 4;
            words[at] = 0xA940_0000 | ((rec::X + 29 * 8) / 8) << 15 | 30 << 10 | 30 << 5 | 29;
            words[at + 1..=at + sequence.len()].copy_from_slice(sequence);
            let branch = at + 1 + sequence.len();
            let from = CODE_AREA + 4 * branch as u64;
            words[branch] = 0x1400_0000 | ((exit.wrapping_sub(from) >> 2) as u32 & 0x03FF_FFFF);
        }
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_knows_the_fields() {
        use std::mem::offset_of;
        let fields = [
            (offset_of!(Record, x) + 240, rec::X30),
            (offset_of!(Record, sp), rec::SP),
            (offset_of!(Record, v), rec::V),
            (offset_of!(Record, nzcv), rec::NZCV),
            (offset_of!(Record, fpcr), rec::FPCR),
            (offset_of!(Record, fpsr), rec::FPSR),
            (offset_of!(Record, slot), rec::SLOT),
            (offset_of!(Record, window), rec::WINDOW_ADDRESS),
            (offset_of!(Record, status), rec::STATUS),
            (offset_of!(Record, fault_pc), rec::FAULT_PC),
            (offset_of!(Record, fault_address), rec::FAULT_ADDRESS),
            (offset_of!(Record, space), rec::SPACE),
            (offset_of!(Record, resume), rec::RESUME),
            (offset_of!(Record, survived), rec::SURVIVED),
            (offset_of!(Record, log), rec::LOG),
            (offset_of!(Record, mem), rec::MEM),
            (size_of::<Record>(), rec::SIZE),
        ];
        for (ours, drivers) in fields {
            assert_eq!(ours, drivers as usize);
        }
    }

    #[test]
    fn slots_fit_their_area() {
        for slots in [LINES, PROGRAMS] {
            assert!(slots.address(slots.count) <= CODE_AREA + CODE_AREA_SIZE);
            for (space, index) in [(0, 5), (space::COPY, 5), (space::COPY, 4)] {
                let slot = slots.address_for(index, space) + ALIAS;
                assert_eq!(slots.index(&Record { slot, space, ..Record::zero() }), index);
            }
        }
        const { assert!(CODE_AREA + CODE_AREA_SIZE <= CODE_COPY && CODE_COPY + CODE_AREA_SIZE <= DRIVER) };
        const { assert!(RECORDS + (MAX_RECORDS as u64) * rec::SIZE as u64 <= SCRATCH - 0x1000) };
        const { assert!(rec::SIZE.is_multiple_of(64)) };
        const { assert!(PROGRAMS.count <= LINES.count) };
    }
}
