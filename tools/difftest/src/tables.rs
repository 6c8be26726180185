//! The translation tables of our bare machine: 4 KiB pages, and three roots.
//!
//! The driver's own root maps RAM one to one, without the guard pages, and once more at [`ALIAS`]. The two roots for
//! sequences are the same but for two entries at level 2, the code's and scratch's, which the kernel changes as a
//! record's [`space`](crate::layout::space) wants it.

use crate::layout::{
    ALIAS, CODE_AREA, CODE_AREA_SIZE, CODE_COPY, DEVICE, DRIVER, DRIVER_SIZE, MAX_RECORDS, RAM_BASE,
    RAM_SIZE, RECORDS, SCRATCH, SCRATCH_SIZE, TABLES, rec,
};

const PAGE: u64 = 0x1000;
/// What one entry at level 2 maps.
const BLOCK: u64 = 0x20_0000;
const BLOCKS: u64 = RAM_SIZE / BLOCK;
const TABLE: u64 = 3;

/// `MAIR_EL1`: attribute 0 is normal memory, 1 is Device-nGnRnE.
pub const MAIR: u64 = 0x00FF;

/// The root of the driver, ASID 0.
pub const HOME: u64 = TABLES;
/// The root of sequences, ASID 1.
pub const FIRST: u64 = TABLES + 2 * PAGE;
/// The second root of sequences, ASID 2.
pub const SECOND: u64 = TABLES + 4 * PAGE;
/// The tables at level 3, one for each 2 MiB of RAM.
const PAGES: u64 = TABLES + 6 * PAGE;
const CODE_COPIED: u64 = PAGES + BLOCKS * PAGE;
const SCRATCH_HOSTILE: u64 = CODE_COPIED + PAGE;
/// End of all tables.
pub const END: u64 = SCRATCH_HOSTILE + PAGE;

/// Offsets from a root to the entries of `address` at level 2, below and at the alias.
const fn entries(address: u64) -> [u32; 2] {
    let block = (address - RAM_BASE) / BLOCK;
    [(PAGE + 8 * block) as u32, (PAGE + 8 * (block + ALIAS / BLOCK)) as u32]
}

const fn table_of(address: u64) -> u64 {
    PAGES + (address - RAM_BASE) / BLOCK * PAGE
}

/// Offsets from a root to the code's entries.
pub const CODE_ENTRIES: [u32; 2] = entries(CODE_AREA);
/// Offsets from a root to scratch's entries.
pub const SCRATCH_ENTRIES: [u32; 2] = entries(SCRATCH);
/// The code's entry: the usual one, and that of the copy.
pub const CODE_ENTRY: [u64; 2] = [table_of(CODE_AREA) | TABLE, CODE_COPIED | TABLE];
/// Scratch's entry: the usual one, and the hostile one.
pub const SCRATCH_ENTRY: [u64; 2] = [table_of(SCRATCH) | TABLE, SCRATCH_HOSTILE | TABLE];

/// Valid page, inner shareable, accessed, not global.
const DESCRIPTOR: u64 = 3 | 3 << 8 | 1 << 10 | 1 << 11;
const DEVICE_MEMORY: u64 = 1 << 2;
const EL0_ACCESS: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;

/// The bytes for [`TABLES`]; with `el1` the driver runs there and not at EL0.
pub fn tables(el1: bool) -> Vec<u8> {
    let mut words = vec![0u64; ((END - TABLES) / 8) as usize];
    let mut set = |address: u64, value: u64| words[((address - TABLES) / 8) as usize] = value;
    for root in [HOME, FIRST, SECOND] {
        // An entry at level 1 has 1 GiB; RAM starts at a multiple of that.
        set(root + (RAM_BASE >> 30) * 8, (root + PAGE) | TABLE);
        for block in 0..BLOCKS {
            for entry in entries(RAM_BASE + block * BLOCK) {
                set(root + u64::from(entry), (PAGES + block * PAGE) | TABLE);
            }
        }
    }
    let driver = if el1 { DESCRIPTOR } else { DESCRIPTOR | EL0_ACCESS | PXN };
    let records = (MAX_RECORDS as u64 * u64::from(rec::SIZE)).next_multiple_of(PAGE);
    let mut map = |from: u64, size: u64, attributes: u64| {
        for page in (from..from + size).step_by(PAGE as usize) {
            set(PAGES + (page - RAM_BASE) / PAGE * 8, page | attributes);
        }
    };
    map(RAM_BASE, CODE_AREA - RAM_BASE, DESCRIPTOR | UXN);
    map(CODE_AREA, CODE_AREA_SIZE, driver);
    map(CODE_COPY, CODE_AREA_SIZE, driver);
    map(DRIVER, DRIVER_SIZE, driver);
    map(RECORDS, records, driver);
    map(SCRATCH, SCRATCH_SIZE, driver);
    for page in (0..CODE_AREA_SIZE).step_by(PAGE as usize) {
        set(CODE_COPIED + page / PAGE * 8, (CODE_COPY + page) | driver);
    }
    let hostile =
        [SCRATCH, (SCRATCH + PAGE) | READ_ONLY, (SCRATCH + 2 * PAGE) | DEVICE_MEMORY, DEVICE | DEVICE_MEMORY];
    for (i, entry) in (0..).zip(hostile) {
        set(SCRATCH_HOSTILE + 8 * i, entry | driver);
    }
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: &[u8], root: u64, address: u64) -> u64 {
        let read = |at: u64| {
            let at = (at - TABLES) as usize;
            u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
        };
        let mut table = root;
        for shift in [30, 21] {
            table = read(table + (address >> shift & 511) * 8) & !0xFFF;
        }
        read(table + (address >> 12 & 511) * 8)
    }

    #[test]
    fn the_guard_pages_are_not_mapped() {
        let bytes = tables(false);
        for root in [HOME, FIRST, SECOND] {
            assert_eq!(entry(&bytes, root, SCRATCH - 1), 0);
            assert_eq!(entry(&bytes, root, SCRATCH + SCRATCH_SIZE), 0);
            assert_eq!(entry(&bytes, root, SCRATCH) & 0x41, 0x41);
            assert_eq!(entry(&bytes, root, crate::layout::KERNEL) & 0x41, 0x01);
            assert_eq!(entry(&bytes, root, SCRATCH + ALIAS), entry(&bytes, root, SCRATCH));
        }
        assert_eq!(entry(&tables(true), HOME, SCRATCH) & 0x41, 0x01);
    }

    #[test]
    fn the_tables_lie_below_the_code() {
        const { assert!(END <= CODE_AREA && CODE_AREA.is_multiple_of(BLOCK) && SCRATCH.is_multiple_of(BLOCK)) };
        const { assert!(SCRATCH_SIZE == 4 * PAGE && DRIVER >= CODE_AREA + BLOCK) };
    }
}
