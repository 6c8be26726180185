//! What is on the disks: partitions and file systems. All of it was written by somebody else.

pub mod fat;
pub mod partition;

use std::{io, sync::Arc};

use tearless_storage::Disk;

/// A run of bytes of a disk: a partition, or all of it.
#[derive(Clone)]
pub struct Volume {
    disk: Arc<dyn Disk>,
    start: u64,
    len: u64,
}

impl Volume {
    /// All of `disk`.
    pub fn whole(disk: Arc<dyn Disk>) -> Self {
        let len = disk.size();
        Self { disk, start: 0, len }
    }

    /// `len` bytes from `start` on, or `None` when they are not all there.
    pub fn part(&self, start: u64, len: u64) -> Option<Self> {
        let end = start.checked_add(len).filter(|end| len > 0 && *end <= self.len)?;
        Some(Self { disk: Arc::clone(&self.disk), start: self.start + start, len: end - start })
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it cannot be changed.
    pub fn read_only(&self) -> bool {
        self.disk.read_only()
    }

    fn place(&self, offset: u64, len: usize) -> io::Result<u64> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.len);
        end.map(|_| self.start + offset).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Fills `data` from `offset` on.
    ///
    /// # Errors
    /// When that is not all there, else what the host says.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let at = self.place(offset, data.len())?;
        self.disk.read_at(data, at)
    }

    /// Writes `data` from `offset` on.
    ///
    /// # Errors
    /// When that is not all there or must not be changed, else what the host says.
    pub fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = self.place(offset, data.len())?;
        if self.read_only() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.disk.write_at(data, at)
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// What the host says.
    pub fn flush(&self) -> io::Result<()> {
        if self.read_only() { Ok(()) } else { self.disk.flush() }
    }
}

/// The little-endian number of `N` bytes at `offset`; zero behind the end.
fn le<const N: usize>(bytes: &[u8], offset: usize) -> u64 {
    let mut wide = [0; 8];
    if let (Some(from), Some(to)) = (bytes.get(offset..offset + N), wide.get_mut(..N)) {
        to.copy_from_slice(from);
    }
    u64::from_le_bytes(wide)
}
