//! Partitions: GPT (UEFI 5.3), MBR (5.2.1) and El Torito (bootable CD-ROM specification 1.0).

use super::{Volume, le};

const SECTOR: u64 = 512;
/// Sectors of CDs, whatever the size of the disk's.
const CD_SECTOR: u64 = 2048;
/// Entries of a partition table that are looked at.
const MAX_ENTRIES: u64 = 256;
/// Entries of a boot catalogue that are looked at.
const MAX_CATALOGUE: usize = 64;

const PROTECTIVE: u8 = 0xee;
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

/// What names a partition in a device path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// A partition of a GPT has a GUID.
    Gpt([u8; 16]),
    /// An MBR has a number for the whole disk.
    Mbr(u32),
    /// The entry of a CD's boot catalogue.
    Cd(u32),
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1 on. A CD's images have those of their entries, from 0 on.
    pub number: u32,
    /// Where it starts, in bytes.
    pub start: u64,
    /// How many bytes it has.
    pub len: u64,
    /// Its name.
    pub signature: Signature,
    /// Whether the table says that it is an EFI system partition.
    pub is_system: bool,
}

/// The partitions of `disk`: those of its GPT, else those of its MBR, and a CD's boot images.
pub fn partitions(disk: &Volume) -> Vec<Partition> {
    let mut found = gpt(disk).unwrap_or_default();
    if found.is_empty() {
        found = mbr(disk).unwrap_or_default();
    }
    found.extend(el_torito(disk).unwrap_or_default());
    found.retain(|p| disk.part(p.start, p.len).is_some());
    found
}

fn block<const N: usize>(disk: &Volume, offset: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    disk.read(offset, &mut bytes).ok()?;
    Some(bytes)
}

/// The GPT, or the copy at the disk's end when the first is damaged.
fn gpt(disk: &Volume) -> Option<Vec<Partition>> {
    let last = (disk.len() / SECTOR).checked_sub(1)?;
    gpt_at(disk, 1).or_else(|| gpt_at(disk, last))
}

fn gpt_at(disk: &Volume, sector: u64) -> Option<Vec<Partition>> {
    const SYSTEM: [u8; 16] = crate::abi::guid::EFI_SYSTEM_PARTITION.0;
    let mut header: [u8; 512] = block(disk, sector * SECTOR)?;
    let len = le::<4>(&header, 12) as usize;
    let stored = le::<4>(&header, 16) as u32;
    header.get_mut(16..20)?.fill(0);
    let sound = header.starts_with(b"EFI PART")
        && (92..=512).contains(&len)
        && le::<8>(&header, 24) == sector
        && crc32fast::hash(header.get(..len)?) == stored;
    if !sound {
        return None;
    }
    let (table, count, size) = (le::<8>(&header, 72), le::<4>(&header, 80), le::<4>(&header, 84));
    if !(128..=4096).contains(&size) || !size.is_power_of_two() {
        return None;
    }
    let table = table.checked_mul(SECTOR)?;
    let mut found = Vec::new();
    for index in 0..count.min(MAX_ENTRIES) {
        let entry: [u8; 128] = block(disk, table.checked_add(index * size)?)?;
        let (kind, id) = (entry.first_chunk::<16>()?, entry.get(16..)?.first_chunk::<16>()?);
        let (first, last) = (le::<8>(&entry, 32), le::<8>(&entry, 40));
        if *kind == [0; 16] || last < first {
            continue;
        }
        let (Some(start), Some(len)) =
            (first.checked_mul(SECTOR), (last - first).checked_add(1).and_then(|n| n.checked_mul(SECTOR)))
        else {
            continue;
        };
        let number = index as u32 + 1;
        found.push(Partition {
            number,
            start,
            len,
            signature: Signature::Gpt(*id),
            is_system: *kind == SYSTEM,
        });
    }
    Some(found)
}

fn mbr(disk: &Volume) -> Option<Vec<Partition>> {
    let sector: [u8; 512] = block(disk, 0)?;
    if sector.get(510..) != Some(&[0x55, 0xaa]) {
        return None;
    }
    let disk_id = le::<4>(&sector, 440) as u32;
    let mut found = Vec::new();
    for index in 0..4u32 {
        let entry = sector.get(446 + 16 * index as usize..)?.get(..16)?;
        let kind = *entry.get(4)?;
        let (start, len) = (le::<4>(entry, 8) * SECTOR, le::<4>(entry, 12) * SECTOR);
        // A boot sector of FAT ends with the same two bytes; its code makes no partitions.
        let odd = !matches!(entry.first(), Some(0 | 0x80)) || disk.part(start, len).is_none();
        if kind == 0 || kind == PROTECTIVE || EXTENDED.contains(&kind) || odd {
            continue;
        }
        let signature = Signature::Mbr(disk_id);
        found.push(Partition { number: index + 1, start, len, signature, is_system: kind == 0xef });
    }
    Some(found)
}

fn el_torito(disk: &Volume) -> Option<Vec<Partition>> {
    const PLATFORM_EFI: u8 = 0xef;
    let record: [u8; 2048] = block(disk, 17 * CD_SECTOR)?;
    if !record.starts_with(b"\0CD001\x01EL TORITO SPECIFICATION") {
        return None;
    }
    let catalogue: [u8; 2048] = block(disk, le::<4>(&record, 0x47).checked_mul(CD_SECTOR)?)?;
    let sum =
        catalogue.chunks_exact(2).take(16).fold(0u16, |sum, pair| sum.wrapping_add(le::<2>(pair, 0) as u16));
    if catalogue.first() != Some(&1) || le::<2>(&catalogue, 30) != 0xaa55 || sum != 0 {
        return None;
    }
    let mut platform = *catalogue.get(1)?;
    let mut found = Vec::new();
    for (index, entry) in catalogue.chunks_exact(32).enumerate().skip(1).take(MAX_CATALOGUE) {
        match entry.first()? {
            // A section's header says for which platform its entries are.
            0x90 | 0x91 => platform = *entry.get(1)?,
            0x88 if platform == PLATFORM_EFI => {
                let start = le::<4>(entry, 8) * CD_SECTOR;
                let told = le::<2>(entry, 6) * SECTOR;
                // Images above 32 MiB cannot say how long they are: makers write 0 or 1, and mean all that follows, or
                // the file system's own word.
                let len = if told <= SECTOR { image_len(disk, start)? } else { told };
                let number = index as u32 - 1;
                found.push(Partition {
                    number,
                    start,
                    len,
                    signature: Signature::Cd(number),
                    is_system: true,
                });
            }
            _ => {}
        }
    }
    Some(found)
}

/// How long the FAT file system at `start` says that it is, else all that follows.
fn image_len(disk: &Volume, start: u64) -> Option<u64> {
    let rest = disk.len().checked_sub(start)?;
    let sector: [u8; 512] = block(disk, start)?;
    let small = le::<2>(&sector, 19);
    let sectors = if small != 0 { small } else { le::<4>(&sector, 32) };
    let said = sectors * le::<2>(&sector, 11);
    Some(if said == 0 { rest } else { said.min(rest) })
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, sync::Arc};

    use tearless_storage::{OpenOptions, RawDisk};

    use super::*;

    fn disk(content: &[u8]) -> Volume {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        Volume::whole(Arc::new(RawDisk::open(file.path(), OpenOptions::default()).unwrap()))
    }

    fn put(disk: &mut [u8], at: u64, bytes: &[u8]) {
        disk[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    /// A header at `sector` whose table is at `table`.
    fn put_gpt(disk: &mut [u8], sector: u64, table: u64) {
        let mut header = [0; 92];
        put(&mut header, 0, b"EFI PART\0\0\x01\0");
        for (at, value) in [(12, 92u64), (24, sector), (72, table), (80, 4 | 128 << 32)] {
            put(&mut header, at, &value.to_le_bytes());
        }
        header[16..20].fill(0);
        let crc = crc32fast::hash(&header);
        put(&mut header, 16, &crc.to_le_bytes());
        put(disk, sector * SECTOR, &header);
        let mut entry = [0; 128];
        put(&mut entry, 0, &crate::abi::guid::EFI_SYSTEM_PARTITION.0);
        put(&mut entry, 16, &[7; 16]);
        put(&mut entry, 32, &64u64.to_le_bytes());
        put(&mut entry, 40, &127u64.to_le_bytes());
        put(disk, table * SECTOR + 128, &entry);
    }

    #[test]
    fn a_gpt_is_found_and_its_copy_stands_in() {
        let mut content = vec![0; 256 * 512];
        put_gpt(&mut content, 1, 2);
        put_gpt(&mut content, 255, 250);
        let expected = Partition {
            number: 2,
            start: 64 * 512,
            len: 64 * 512,
            signature: Signature::Gpt([7; 16]),
            is_system: true,
        };
        assert_eq!(partitions(&disk(&content)), std::slice::from_ref(&expected));
        content[520] ^= 1;
        assert_eq!(partitions(&disk(&content)), [expected]);
        content[255 * 512] ^= 1;
        assert_eq!(partitions(&disk(&content)), []);
    }

    #[test]
    fn an_mbr_is_found_and_nonsense_in_it_is_not() {
        let mut content = vec![0; 256 * 512];
        put(&mut content, 440, &0x1234_5678u32.to_le_bytes());
        for (index, (kind, start, len)) in
            [(0xefu8, 64u32, 64u32), (0x05, 64, 64), (0x83, 200, 57), (0x83, 0, 0)].into_iter().enumerate()
        {
            let at = 446 + 16 * index as u64;
            put(&mut content, at + 4, &[kind]);
            put(&mut content, at + 8, &start.to_le_bytes());
            put(&mut content, at + 12, &len.to_le_bytes());
        }
        put(&mut content, 510, &[0x55, 0xaa]);
        let found = partitions(&disk(&content));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].signature, found[0].is_system), (Signature::Mbr(0x1234_5678), true));
    }

    #[test]
    fn a_cds_boot_image_is_found() {
        let mut content = vec![0; 64 * 2048];
        put(&mut content, 17 * 2048, b"\0CD001\x01EL TORITO SPECIFICATION");
        put(&mut content, 17 * 2048 + 0x47, &20u32.to_le_bytes());
        let mut validation = [0; 32];
        put(&mut validation, 0, &[1, 0xef]);
        put(&mut validation, 30, &[0x55, 0xaa]);
        let sum = validation.chunks(2).fold(0u16, |s, p| s.wrapping_add(le::<2>(p, 0) as u16));
        put(&mut validation, 28, &sum.wrapping_neg().to_le_bytes());
        put(&mut content, 20 * 2048, &validation);
        put(&mut content, 20 * 2048 + 32, &[0x88, 0, 0, 0, 0, 0, 8, 0, 32, 0, 0, 0]);
        let found = partitions(&disk(&content));
        assert_eq!((found[0].start, found[0].len, found[0].signature), (32 * 2048, 4096, Signature::Cd(0)));
        content[20 * 2048 + 28] ^= 1;
        assert_eq!(partitions(&disk(&content)), []);
    }
}
