use std::{io, ops::Range};

use crate::RawDisk;

/// Why a request may succeed later, as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The host, or the server, has no space left.
    Full,
    /// The server cannot be reached; the disk itself has told the user.
    Away,
}

impl Pause {
    /// What a disk's error says about trying again; `None` if that is of no use.
    pub fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(Self::Full),
            io::ErrorKind::NotConnected => Some(Self::Away),
            _ => None,
        }
    }
}

/// A medium that is read and written at any offset.
///
/// Calls come from several threads at once. Offsets and lengths are in bytes; ranges lie within
/// `0..size()`, which the caller has checked. Concurrent writes to the same bytes leave either content.
pub trait Disk: Send + Sync {
    /// A name for messages to the user: the file.
    fn name(&self) -> &str;

    /// Size in bytes, a multiple of 512. It only grows.
    fn size(&self) -> u64;

    /// Whether everything that changes the medium fails.
    fn read_only(&self) -> bool;

    /// Fills `data` from `offset` on.
    ///
    /// # Errors
    /// What the host says; `data` may be partly filled then.
    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes `data` from `offset` on. It is durable after the next [`Disk::flush`].
    ///
    /// # Errors
    /// What the host says, for example that its file system is full; part of `data` may be written then.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything durable that was written before.
    ///
    /// # Errors
    /// What the host says; what was written may be lost then.
    fn flush(&self) -> io::Result<()>;

    /// Says that these bytes are not needed: their content is then undefined. A host that cannot give the space back
    /// keeps it.
    ///
    /// # Errors
    /// What the host says.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Makes these bytes zero, and gives their space back if `may_unmap` and the host can.
    ///
    /// # Errors
    /// What the host says.
    fn write_zeroes(&self, offset: u64, len: u64, may_unmap: bool) -> io::Result<()>;

    /// Makes the disk `size` bytes long, rounded up to 512; what is new reads as zeros. Reads and writes go on meanwhile.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for less than it has, [`io::ErrorKind::Unsupported`] for media of fixed size,
    /// else what the host says.
    fn grow(&self, size: u64) -> io::Result<()> {
        let _ = size;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The next bytes from `offset` on that may be other than zero, as far as that is known without reading them; `None` when
    /// there are none.
    fn data_from(&self, offset: u64) -> Option<Range<u64>> {
        (offset < self.size()).then(|| offset..self.size())
    }

    /// How many calls at once make it faster.
    fn parallel(&self) -> usize {
        4
    }

    /// The file whose bytes are the disk's, if there is one: requests can then go to the host without a detour.
    fn raw(&self) -> Option<&RawDisk> {
        None
    }
}
