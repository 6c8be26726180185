//! GUID partition tables (UEFI 5.3), written.

use std::{fs::File, io, os::unix::fs::FileExt};

use flate2::Crc;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Partitions begin at multiples of this, as all tools of today have it.
pub const ALIGN: u64 = 1 << 20;
/// Sectors at the end of the disk that are the table's copy.
const TAIL: u64 = 33;

const ENTRIES: usize = 128;
const ENTRY: usize = 128;
const FIRST_USABLE: u64 = 34;
const REVISION: u32 = 0x1_0000;
const HEADER: usize = 92;

/// What a partition is for, as GUIDs lie on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What EFI boots from.
    EfiSystem,
    /// The root file system of a Linux on ARM64.
    LinuxRootArm64,
}

impl Kind {
    const fn guid(self) -> [u8; 16] {
        match self {
            Self::EfiSystem => [
                0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9,
                0x3b,
            ],
            Self::LinuxRootArm64 => [
                0x45, 0xb0, 0x21, 0xb9, 0xf0, 0x1d, 0xc3, 0x41, 0xaf, 0x44, 0x4c, 0x6f, 0x28, 0x0d, 0x3f,
                0xae,
            ],
        }
    }
}

/// A partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub kind: Kind,
    /// Its own GUID, as it lies on the disk.
    pub id: [u8; 16],
    /// Its first byte, a multiple of [`ALIGN`].
    pub start: u64,
    /// Its length in bytes, a multiple of [`SECTOR`].
    pub len: u64,
}

/// The end of what partitions may have of a disk of `size` bytes.
pub fn end(size: u64) -> u64 {
    (size / SECTOR).saturating_sub(TAIL) * SECTOR
}

/// Writes a table with `partitions` to a disk of `size` bytes, whose GUID is `id`.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] when a partition is not on the disk; else what the host says.
pub fn write(disk: &File, size: u64, id: [u8; 16], partitions: &[Partition]) -> io::Result<()> {
    let fits = |p: &Partition| {
        p.start >= FIRST_USABLE * SECTOR && p.len > 0 && p.start.saturating_add(p.len) <= end(size)
    };
    if partitions.len() > ENTRIES || !partitions.iter().all(fits) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sectors = size / SECTOR;
    let mut entries: Vec<u8> = partitions.iter().flat_map(entry).collect();
    entries.resize(ENTRIES * ENTRY, 0);
    let copy = sectors - TAIL;
    disk.write_all_at(&protective(sectors), 0)?;
    disk.write_all_at(&header((1, sectors - 1, 2), sectors, id, &entries), SECTOR)?;
    disk.write_all_at(&entries, 2 * SECTOR)?;
    disk.write_all_at(&entries, copy * SECTOR)?;
    disk.write_all_at(&header((sectors - 1, 1, copy), sectors, id, &entries), (sectors - 1) * SECTOR)
}

fn entry(partition: &Partition) -> [u8; ENTRY] {
    let first = partition.start / SECTOR;
    let last = first + partition.len / SECTOR - 1;
    let fields =
        [&partition.kind.guid()[..], &partition.id, &first.to_le_bytes(), &last.to_le_bytes()].concat();
    let mut entry = [0; ENTRY];
    entry.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    entry
}

/// The header in sector `own`, whose copy is in `other`, and whose entries are in `at`.
fn header((own, other, at): (u64, u64, u64), sectors: u64, id: [u8; 16], entries: &[u8]) -> Vec<u8> {
    let with = |crc: u32| {
        [
            &b"EFI PART"[..],
            &REVISION.to_le_bytes(),
            &(HEADER as u32).to_le_bytes(),
            &crc.to_le_bytes(),
            &[0; 4],
            &own.to_le_bytes(),
            &other.to_le_bytes(),
            &FIRST_USABLE.to_le_bytes(),
            &(sectors - TAIL - 1).to_le_bytes(),
            &id,
            &at.to_le_bytes(),
            &(ENTRIES as u32).to_le_bytes(),
            &(ENTRY as u32).to_le_bytes(),
            &crc32(entries).to_le_bytes(),
        ]
        .concat()
    };
    let crc = crc32(&with(0));
    let mut header = with(crc);
    header.resize(SECTOR as usize, 0);
    header
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// An MBR that says to old tools that all of the disk is taken (5.2.3).
fn protective(sectors: u64) -> Vec<u8> {
    let mut mbr = vec![0; 446];
    mbr.extend([0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    mbr.extend(u32::try_from(sectors - 1).unwrap_or(u32::MAX).to_le_bytes());
    mbr.resize(510, 0);
    mbr.extend([0x55, 0xaa]);
    mbr
}
