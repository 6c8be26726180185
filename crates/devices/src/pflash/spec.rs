//! Commands and tables of the NOR flash that QEMU's `virt` has: the Common Flash Interface (JEDEC JESD68.01) with Intel's
//! command set 1. Two chips of 16 bits side by side form words of 32 bits; each takes its half of every access.

/// Bytes of the flash: two chips of 32 MiB.
pub const SIZE: usize = 64 << 20;
/// Bytes that are erased at once: a block of 128 KiB in each chip.
pub const BLOCK: usize = 256 << 10;
/// Bytes of a word: 16 bits of each chip.
pub const WORD: usize = 4;
/// Words that a buffered program takes: 2 KiB in each chip.
pub const BUFFER_WORDS: usize = 1024;

/// Back to showing what is stored.
pub const READ_ARRAY: u8 = 0xff;
/// Programs one word, the next that is written.
pub const PROGRAM: u8 = 0x40;
/// The same, by its older number.
pub const PROGRAM_OLD: u8 = 0x10;
/// Erases a block, once confirmed.
pub const ERASE: u8 = 0x20;
/// Programs several words: their number less one, the words, confirmation.
pub const PROGRAM_BUFFER: u8 = 0xe8;
/// Locks or unlocks a block, once it is said which.
pub const LOCK: u8 = 0x60;
/// Sets the lock.
pub const LOCK_SET: u8 = 0x01;
/// Confirms.
pub const CONFIRM: u8 = 0xd0;
/// Forgets errors.
pub const CLEAR_STATUS: u8 = 0x50;
/// Shows the status.
pub const READ_STATUS: u8 = 0x70;
/// Shows who made it.
pub const READ_ID: u8 = 0x90;
/// Shows the table of [`query`].
pub const QUERY: u8 = 0x98;

/// Status: nothing is in progress.
pub const STATUS_READY: u8 = 1 << 7;
/// Status: an erasure failed. With [`STATUS_PROGRAM`]: the commands made no sense.
pub const STATUS_ERASE: u8 = 1 << 5;
/// Status: programming failed.
pub const STATUS_PROGRAM: u8 = 1 << 4;

/// Manufacturer (Intel) and device.
pub const ID: [u8; 2] = [0x89, 0x18];

/// The table that each chip shows from word 0x10 on: identification, voltages, times, geometry, Intel's extension.
pub const fn query(word: u64) -> u8 {
    // The chip's own figures: half of the flash.
    const BLOCKS: usize = SIZE / BLOCK - 1;
    const BLOCK_BYTES: usize = BLOCK / 2 / 256;
    const TABLE: [u8; 47] = [
        b'Q',
        b'R',
        b'Y',
        1,
        0,
        0x31,
        0,
        0,
        0,
        0,
        0, // Command set 1; its extension is at 0x31.
        0x45,
        0x55,
        0,
        0, // Voltages.
        7,
        7,
        10,
        0,
        4,
        4,
        4,
        0, // Times as powers of two, and how much longer they may take.
        25,
        2,
        0,
        11,
        0,
        1, // 32 MiB, 8 or 16 bits wide, a buffer of 2 KiB, one kind of block:
        BLOCKS as u8,
        (BLOCKS >> 8) as u8,
        BLOCK_BYTES as u8,
        (BLOCK_BYTES >> 8) as u8,
        b'P',
        b'R',
        b'I',
        b'1',
        b'0',
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    match word {
        0x10..0x3f => TABLE[(word - 0x10) as usize],
        // One protection register.
        0x3f => 1,
        _ => 0,
    }
}
