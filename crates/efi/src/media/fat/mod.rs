//! FAT12, FAT16 and FAT32 (Microsoft's specification 1.03), as loaders need it: read, and write what systemd-boot and GRUB
//! write (random seeds, boot counters in names, new files).
//!
//! [`Fat`] is a mounted volume: [`Fat::find`] walks names, [`Fat::read`] and [`Fat::write`] move bytes. Writing goes
//! straight to the disk, in an order that at worst leaves clusters that nobody owns.

mod directory;
mod format;
mod table;

use std::io;

use super::{Volume, le};
pub use directory::{ARCHIVE, DIRECTORY, READ_ONLY};
use table::Table;

/// The largest directory: 65,536 entries.
const MAX_DIRECTORY: u64 = 2 << 20;

/// A mounted volume.
pub struct Fat {
    volume: Volume,
    table: Table,
    root: Root,
    /// Where cluster 2 is, in bytes.
    data: u64,
    /// Bytes of a cluster.
    cluster: u64,
    label: String,
}

#[derive(Clone, Copy)]
enum Root {
    /// Start and length in bytes.
    Fixed(u64, u64),
    Cluster(u32),
}

/// A file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name, empty for the root.
    pub name: String,
    /// Its FAT attributes.
    pub attributes: u8,
    /// Its length in bytes; 0 for directories.
    pub size: u32,
    /// When it was last written: FAT's date and time.
    pub modified: (u16, u16),
    /// Its first cluster; 0 when it has none, or is a FAT12 or FAT16 root.
    first: u32,
    /// The first cluster of its directory, and where in that its entries are: first and last. Not for the root.
    home: Option<(u32, u32, u32)>,
}

impl Node {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.attributes & DIRECTORY != 0
    }

    /// Whether both are the same file.
    pub fn is(&self, other: &Self) -> bool {
        self.home == other.home
    }

    /// Whether `self` is the directory that `other` is in.
    pub fn holds(&self, other: &Self) -> bool {
        other.home.is_some_and(|(directory, ..)| directory == self.first)
    }
}

fn damaged(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Fat {
    /// Mounts `volume`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when that is no FAT file system, else what the host says.
    pub fn open(volume: Volume) -> io::Result<Self> {
        let mut boot = [0; 512];
        volume.read(0, &mut boot)?;
        let (sector, per_cluster) = (le::<2>(&boot, 11), le::<1>(&boot, 13));
        let (reserved, fats, root_entries) = (le::<2>(&boot, 14), le::<1>(&boot, 16), le::<2>(&boot, 17));
        let total = if le::<2>(&boot, 19) != 0 { le::<2>(&boot, 19) } else { le::<4>(&boot, 32) };
        let fat_sectors = if le::<2>(&boot, 22) != 0 { le::<2>(&boot, 22) } else { le::<4>(&boot, 36) };
        let sizes = matches!(sector, 512 | 1024 | 2048 | 4096) && per_cluster.is_power_of_two();
        if !sizes || boot.get(510..) != Some(&[0x55, 0xaa]) || reserved == 0 || !(1..=2).contains(&fats) {
            return Err(damaged("there is no FAT file system"));
        }
        let root_sectors = (root_entries * 32).div_ceil(sector);
        let first_data = reserved + fats * fat_sectors + root_sectors;
        let clusters =
            total.checked_sub(first_data).ok_or_else(|| damaged("its FAT is longer than itself"))?;
        let clusters = clusters / per_cluster;
        if clusters == 0 || total * sector > volume.len() || fat_sectors == 0 {
            return Err(damaged("it is longer than its partition"));
        }
        let table = Table::new(clusters, reserved * sector, fat_sectors * sector, fats)?;
        let root = if table.is_32() {
            Root::Cluster(le::<4>(&boot, 44) as u32)
        } else {
            Root::Fixed((reserved + fats * fat_sectors) * sector, root_sectors * sector)
        };
        let (data, cluster) = (first_data * sector, per_cluster * sector);
        let mut fat = Self { volume, table, root, data, cluster, label: String::new() };
        fat.label = fat.find_label();
        Ok(fat)
    }

    /// The volume's label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether it cannot be changed.
    pub fn read_only(&self) -> bool {
        self.volume.read_only()
    }

    /// Its length in bytes, that of a cluster, and the bytes that are free.
    ///
    /// # Errors
    /// What the host says.
    pub fn space(&mut self) -> io::Result<(u64, u64, u64)> {
        let free = self.table.free(&self.volume)?;
        Ok((self.volume.len(), self.cluster, free * self.cluster))
    }

    /// The root directory.
    pub fn root(&self) -> Node {
        let first = match self.root {
            Root::Cluster(first) => first,
            Root::Fixed(..) => 0,
        };
        Node { name: String::new(), attributes: DIRECTORY, size: 0, modified: (0, 0), first, home: None }
    }

    /// Reads from byte `offset` of a file; returns how much there was.
    ///
    /// # Errors
    /// What the host says, or that the file system is damaged.
    pub fn read(&mut self, node: &Node, offset: u64, data: &mut [u8]) -> io::Result<usize> {
        let rest = u64::from(node.size).saturating_sub(offset);
        let len = (data.len() as u64).min(rest) as usize;
        let data = data.get_mut(..len).unwrap_or_default();
        self.each_run(node.first, offset, len as u64, |volume, at, done, run| {
            let part = data.get_mut(done as usize..(done + run) as usize).unwrap_or_default();
            volume.read(at, part)
        })?;
        Ok(len)
    }

    /// Writes to a file, which grows as needed.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`], what the host says, or that the file system is damaged.
    pub fn write(&mut self, node: &mut Node, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= u64::from(u32::MAX));
        let end = end.ok_or(io::ErrorKind::FileTooLarge)?;
        if end > u64::from(node.size) {
            self.resize(node, end as u32)?;
        }
        self.write_chain(node.first, offset, data)?;
        self.update(node)
    }

    /// Makes a file `size` bytes long; what is new is zero.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn resize(&mut self, node: &mut Node, size: u32) -> io::Result<()> {
        let clusters = |bytes: u32| u64::from(bytes).div_ceil(self.cluster) as u32;
        let (have, want) = (clusters(node.size), clusters(size));
        let old = node.size;
        if want > have {
            let more = self.table.allocate(&self.volume, want - have)?;
            match have.checked_sub(1) {
                None => node.first = more,
                Some(last) => {
                    let last = self.table.nth(&self.volume, node.first, last)?;
                    self.table.link(&self.volume, last, more)?;
                }
            }
        }
        node.size = size;
        if size > old {
            self.zero(node.first, u64::from(old), u64::from(size))?;
        }
        let first = node.first;
        if want == 0 {
            node.first = 0;
        }
        self.update(node)?;
        if want < have {
            // The directory is right already: a crash in between only loses clusters.
            self.table.cut(&self.volume, first, want)?;
        }
        Ok(())
    }

    fn zero(&mut self, first: u32, from: u64, to: u64) -> io::Result<()> {
        let zeros = vec![0; 64 << 10];
        let mut at = from;
        while at < to {
            let take = (to - at).min(zeros.len() as u64);
            self.write_chain(first, at, zeros.get(..take as usize).unwrap_or_default())?;
            at += take;
        }
        Ok(())
    }

    fn write_chain(&mut self, first: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        self.each_run(first, offset, data.len() as u64, |volume, at, done, run| {
            volume.write(at, data.get(done as usize..(done + run) as usize).unwrap_or_default())
        })
    }

    /// Calls `with` for each run of bytes that lie together on the volume: where, how many came before, how many.
    fn each_run(
        &mut self,
        first: u32,
        offset: u64,
        len: u64,
        mut with: impl FnMut(&Volume, u64, u64, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < len {
            let at = offset + done;
            let (index, within) = ((at / self.cluster) as u32, at % self.cluster);
            let cluster = self.table.nth(&self.volume, first, index)?;
            let mut run = self.cluster - within;
            let mut last = cluster;
            while run < len - done && self.table.next(&self.volume, last)? == Some(last + 1) {
                last += 1;
                run += self.cluster;
            }
            let run = run.min(len - done);
            let place = self.data + u64::from(cluster - table::FIRST) * self.cluster + within;
            with(&self.volume, place, done, run)?;
            done += run;
        }
        Ok(())
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// What the host says.
    pub fn flush(&self) -> io::Result<()> {
        self.volume.flush()
    }
}

#[cfg(test)]
mod tests;
