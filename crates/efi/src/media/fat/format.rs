//! New file systems.

use std::io;

use super::{Fat, Volume};

const SECTOR: u64 = 512;
/// Entries of the root directory of a FAT16.
const ROOT_ENTRIES: u64 = 512;
/// A file system with fewer clusters would be a FAT12, one with more a FAT32.
const FEWEST: u64 = 4085 + 16;
const MOST: u64 = 65_524 - 16;
/// The heads and sectors of a disk that has none.
const GEOMETRY: [u8; 4] = [63, 0, 255, 0];

impl Fat {
    /// Makes an empty FAT16 of all of `volume`, whose bytes are zero so far; `label` is at most 11 capital letters and digits.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for another label, or a volume below 3 MiB or above 2 GiB; else what the host says.
    pub fn format(volume: Volume, label: &str) -> io::Result<Self> {
        let valid = label.len() <= 11 && label.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        let sectors = volume.len() / SECTOR;
        let per_cluster = (0..7).map(|shift| 1u64 << shift).find(|per| sectors / per <= MOST);
        let Some(per_cluster) = per_cluster.filter(|per| valid && sectors / per >= FEWEST) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let fat_sectors = ((sectors / per_cluster + 2) * 2).div_ceil(SECTOR);
        let mut boot = [0; SECTOR as usize];
        let mut put = |at: usize, bytes: &[u8]| {
            boot.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
        };
        put(0, &[0xeb, 0x3c, 0x90]);
        put(3, b"TEARLESS");
        put(11, &(SECTOR as u16).to_le_bytes());
        // Sectors per cluster, one reserved sector, two tables.
        put(13, &[per_cluster as u8, 1, 0, 2]);
        put(17, &(ROOT_ENTRIES as u16).to_le_bytes());
        put(21, &[0xf8]);
        put(22, &(fat_sectors as u16).to_le_bytes());
        put(24, &GEOMETRY);
        if let Ok(few) = u16::try_from(sectors) {
            put(19, &few.to_le_bytes());
        } else {
            put(32, &(sectors as u32).to_le_bytes());
        }
        let mut serial = [0; 4];
        getrandom::fill(&mut serial).map_err(io::Error::other)?;
        put(36, &[0x80, 0, 0x29]);
        put(39, &serial);
        put(43, format!("{label:<11}").as_bytes());
        put(54, b"FAT16   ");
        put(510, &[0x55, 0xaa]);
        volume.write(0, &boot)?;
        for table in 0..2 {
            volume.write((1 + table * fat_sectors) * SECTOR, &[0xf8, 0xff, 0xff, 0xff])?;
        }
        // As an entry of the root directory, too: that is where most look for it.
        let mut entry = [0; 32];
        let name = format!("{label:<11}");
        entry.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        if let (false, Some(attributes)) = (label.is_empty(), entry.get_mut(11)) {
            *attributes = 8;
            volume.write((1 + 2 * fat_sectors) * SECTOR, &entry)?;
        }
        Self::open(volume)
    }

    /// Puts a file at `path`, with slashes, and makes the folders that it is in.
    ///
    /// # Errors
    /// As [`Self::create`] and [`Self::write`].
    pub fn put(&mut self, path: &str, content: &[u8], modified: (u16, u16)) -> io::Result<()> {
        let mut folder = self.root();
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        for parent in parents.split('/').filter(|parent| !parent.is_empty()) {
            folder = match self.find(&folder, parent) {
                Ok(node) => node,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.create(&folder, parent, true, modified)?
                }
                Err(error) => return Err(error),
            };
        }
        let mut file = self.create(&folder, name, false, modified)?;
        self.write(&mut file, 0, content)
    }
}
