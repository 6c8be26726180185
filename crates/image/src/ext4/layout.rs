//! Sizes, places and on-disk records of the file system; little-endian throughout, except for the journal's.

use crate::error::{Error, Kind, Result};

/// Block size in bytes.
pub const BLOCK: u64 = 4096;
/// Blocks of a group: as many as one bitmap block has bits.
pub(super) const GROUP_BLOCKS: u64 = BLOCK * 8;
/// One inode for 16 KiB, as mke2fs does.
pub(super) const GROUP_INODES: u32 = 8192;
pub(super) const INODE_SIZE: u64 = 256;
pub(super) const TABLE_BLOCKS: u64 = GROUP_INODES as u64 * INODE_SIZE / BLOCK;
const DESCRIPTOR_SIZE: u64 = 64;

pub(super) const ROOT_INODE: u32 = 2;
pub(super) const JOURNAL_INODE: u32 = 8;
/// The first one that is not reserved; lost+found has it by tradition.
pub(super) const FIRST_INODE: u32 = 11;

/// `EXT4_EXTENTS_FL`
pub(super) const FLAG_EXTENTS: u32 = 0x8_0000;
/// has_journal, ext_attr, dir_index
const COMPATIBLE: u32 = 0x4 | 0x8 | 0x20;
/// filetype, extents, 64bit
const INCOMPATIBLE: u32 = 0x2 | 0x40 | 0x80;
/// sparse_super, large_file, huge_file, dir_nlink, extra_isize, metadata_csum
const READ_ONLY_COMPATIBLE: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400;
/// The inode bitmap and table of the group are unused.
const GROUP_INODES_UNUSED: u16 = 0x1;
/// The inode table is zero where it is unused; in a sparse file it is.
const GROUP_TABLE_ZEROED: u16 = 0x4;

/// Where everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) blocks: u64,
    pub(super) groups: u64,
    descriptor_blocks: u64,
    pub(super) journal_blocks: u64,
}

impl Geometry {
    pub(super) fn new(size: u64) -> Result<Self> {
        let refuse = |why: &str| {
            let what = format!("cannot make a disk of {size} bytes");
            Err(Error::new(Kind::Request, what, why, "choose a --disk between 64M and 16T"))
        };
        if size < 64 << 20 {
            return refuse("it is too small for a file system with a journal");
        }
        if size > 16 << 40 {
            return refuse("it is larger than this writer supports");
        }
        let mut blocks = size / BLOCK;
        let mut groups = blocks.div_ceil(GROUP_BLOCKS);
        let descriptor_blocks = |groups: u64| (groups * DESCRIPTOR_SIZE).div_ceil(BLOCK);
        // A last group that has hardly room for its own metadata is left out.
        let overhead = 1 + descriptor_blocks(groups) + 2 + TABLE_BLOCKS;
        if groups > 1 && blocks - (groups - 1) * GROUP_BLOCKS < overhead + 64 {
            groups -= 1;
            blocks = groups * GROUP_BLOCKS;
        }
        let journal_blocks = match size >> 20 {
            0..512 => 1024,
            512..2048 => 4096,
            _ => 16384,
        };
        Ok(Self { blocks, groups, descriptor_blocks: descriptor_blocks(groups), journal_blocks })
    }

    pub(super) fn inodes(&self) -> u64 {
        self.groups * u64::from(GROUP_INODES)
    }

    pub(super) fn group_start(group: u64) -> u64 {
        group * GROUP_BLOCKS
    }

    pub(super) fn group_len(&self, group: u64) -> u64 {
        (self.blocks - Self::group_start(group)).min(GROUP_BLOCKS)
    }

    /// Copies of the superblock are in groups 0, 1 and the powers of 3, 5 and 7 (sparse_super).
    pub(super) fn has_superblock(group: u64) -> bool {
        let power_of = |base: u64| {
            let mut n = base;
            while n < group {
                n *= base;
            }
            n == group
        };
        group <= 1 || power_of(3) || power_of(5) || power_of(7)
    }

    pub(super) fn block_bitmap(&self, group: u64) -> u64 {
        let copies = if Self::has_superblock(group) { 1 + self.descriptor_blocks } else { 0 };
        Self::group_start(group) + copies
    }

    pub(super) fn inode_bitmap(&self, group: u64) -> u64 {
        self.block_bitmap(group) + 1
    }

    pub(super) fn inode_table(&self, group: u64) -> u64 {
        self.block_bitmap(group) + 2
    }

    /// The first block of a group that is free for contents.
    pub(super) fn first_data(&self, group: u64) -> u64 {
        self.inode_table(group) + TABLE_BLOCKS
    }

    /// Byte offset of an inode.
    pub(super) fn inode_offset(&self, inode: u32) -> u64 {
        let group = u64::from((inode - 1) / GROUP_INODES);
        let index = u64::from((inode - 1) % GROUP_INODES);
        self.inode_table(group) * BLOCK + index * INODE_SIZE
    }
}

/// CRC-32C as ext4 uses it: no final inversion, so that checksums chain.
pub(super) fn crc32c(mut crc: u32, bytes: &[u8]) -> u32 {
    for &byte in bytes {
        crc = CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
    }
    crc
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// Writes fields at byte offsets of a record.
pub(super) struct Record<'a>(pub(super) &'a mut [u8]);

impl Record<'_> {
    pub(super) fn put16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    pub(super) fn put32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A value whose two halves are apart.
    fn put_split32(&mut self, low: usize, high: usize, value: u64) {
        self.put32(low, value as u32);
        self.put32(high, (value >> 32) as u32);
    }

    fn put_split16(&mut self, low: usize, high: usize, value: u32) {
        self.put16(low, value as u16);
        self.put16(high, (value >> 16) as u16);
    }
}

/// What the superblock says beyond the geometry.
pub(super) struct Totals<'a> {
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u64,
    pub(super) uuid: &'a [u8; 16],
    pub(super) label: &'a str,
    pub(super) time: u64,
    /// `i_block` of the journal's inode, a copy for emergencies.
    pub(super) journal_map: &'a [u8; 60],
}

/// The superblock; `group` is where this copy goes.
pub(super) fn superblock(geometry: &Geometry, totals: &Totals, group: u64) -> [u8; 1024] {
    let mut bytes = [0; 1024];
    let mut r = Record(&mut bytes);
    r.put32(0x00, geometry.inodes() as u32);
    r.put_split32(0x04, 0x150, geometry.blocks);
    r.put_split32(0x08, 0x154, geometry.blocks / 100);
    r.put_split32(0x0c, 0x158, totals.free_blocks);
    r.put32(0x10, totals.free_inodes as u32);
    r.put32(0x18, 2); // log2 of the block size in KiB
    r.put32(0x1c, 2);
    r.put32(0x20, GROUP_BLOCKS as u32);
    r.put32(0x24, GROUP_BLOCKS as u32);
    r.put32(0x28, GROUP_INODES);
    r.put32(0x30, totals.time as u32);
    r.put16(0x36, u16::MAX); // no check after a number of mounts
    r.put16(0x38, 0xef53);
    r.put16(0x3a, 1); // clean
    r.put16(0x3c, 1); // go on after errors
    r.put32(0x40, totals.time as u32);
    r.put32(0x4c, 1); // dynamic inode sizes
    r.put32(0x54, FIRST_INODE);
    r.put16(0x58, INODE_SIZE as u16);
    r.put16(0x5a, group as u16);
    r.put32(0x5c, COMPATIBLE);
    r.put32(0x60, INCOMPATIBLE);
    r.put32(0x64, READ_ONLY_COMPATIBLE);
    r.put(0x68, totals.uuid);
    r.put(0x78, totals.label.as_bytes());
    r.put32(0xe0, JOURNAL_INODE);
    r.put(0xec, totals.uuid); // seed of directory hashes
    r.put(0xfc, &[1, 1]); // hash version half-MD4; the journal's map is saved below
    r.put16(0xfe, DESCRIPTOR_SIZE as u16);
    r.put32(0x100, 0x000c); // mount with user_xattr and acl
    r.put32(0x108, totals.time as u32);
    r.put(0x10c, totals.journal_map);
    let journal_bytes = geometry.journal_blocks * BLOCK;
    r.put32(0x148, (journal_bytes >> 32) as u32);
    r.put32(0x14c, journal_bytes as u32);
    r.put16(0x15c, 32);
    r.put16(0x15e, 32);
    r.put32(0x160, 1); // directory hashes take bytes as signed
    r.put(0x175, &[1]); // checksums are CRC-32C
    let checksum = crc32c(u32::MAX, &bytes[..0x3fc]);
    Record(&mut bytes).put32(0x3fc, checksum);
    bytes
}

/// What a group descriptor counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GroupUse {
    pub(super) free_blocks: u32,
    pub(super) used_inodes: u32,
    pub(super) directories: u32,
    pub(super) block_bitmap_checksum: u32,
    pub(super) inode_bitmap_checksum: u32,
}

/// A group descriptor; `seed` is the checksum of the UUID.
pub(super) fn descriptor(geometry: &Geometry, group: u64, usage: &GroupUse, seed: u32) -> [u8; 64] {
    let mut bytes = [0; 64];
    let mut r = Record(&mut bytes);
    r.put_split32(0x00, 0x20, geometry.block_bitmap(group));
    r.put_split32(0x04, 0x24, geometry.inode_bitmap(group));
    r.put_split32(0x08, 0x28, geometry.inode_table(group));
    r.put_split16(0x0c, 0x2c, usage.free_blocks);
    r.put_split16(0x0e, 0x2e, GROUP_INODES - usage.used_inodes);
    r.put_split16(0x10, 0x30, usage.directories);
    let unused = if usage.used_inodes == 0 { GROUP_INODES_UNUSED } else { 0 };
    r.put16(0x12, GROUP_TABLE_ZEROED | unused);
    r.put_split16(0x18, 0x38, usage.block_bitmap_checksum);
    r.put_split16(0x1a, 0x3a, usage.inode_bitmap_checksum);
    r.put_split16(0x1c, 0x32, GROUP_INODES - usage.used_inodes);
    let checksum = crc32c(crc32c(seed, &(group as u32).to_le_bytes()), &bytes);
    Record(&mut bytes).put16(0x1e, checksum as u16);
    bytes
}

/// The first block of an empty journal (jbd2, big-endian).
pub(super) fn journal_superblock(geometry: &Geometry, uuid: &[u8; 16]) -> [u8; 1024] {
    let mut bytes = [0; 1024];
    let mut r = Record(&mut bytes);
    let fields: [(usize, u32); 6] = [
        (0x00, 0xc03b_3998),
        (0x04, 4), // superblock, version 2
        (0x0c, BLOCK as u32),
        (0x10, geometry.journal_blocks as u32),
        (0x14, 1), // the log starts at block 1
        (0x18, 1), // first transaction
    ];
    for (at, value) in fields {
        r.put(at, &value.to_be_bytes());
    }
    r.put(0x30, uuid);
    r.put(0x40, &1u32.to_be_bytes()); // one file system uses it
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_the_standard_test_string() {
        assert_eq!(!crc32c(u32::MAX, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn copies_of_the_superblock() {
        let with: Vec<u64> = (0..130).filter(|&g| Geometry::has_superblock(g)).collect();
        assert_eq!(with, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    #[test]
    fn a_tiny_last_group_is_left_out() {
        let group = GROUP_BLOCKS * BLOCK;
        assert_eq!(Geometry::new(2 * group + BLOCK * 10).unwrap().blocks, 2 * GROUP_BLOCKS);
        assert_eq!(Geometry::new(2 * group + BLOCK * 1000).unwrap().groups, 3);
        assert!(Geometry::new(1 << 20).is_err());
        assert!(Geometry::new(u64::MAX).is_err());
    }
}
