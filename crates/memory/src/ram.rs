use std::{ops::Range, ptr::NonNull};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion};

use crate::{
    Gpa,
    host::{discard, prefer_huge_pages},
};

/// What can go wrong with guest memory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host refused the mapping.
    #[error("cannot reserve {0} MiB of guest memory: {1}")]
    Allocate(u64, String),
    /// The range is not (wholly) RAM.
    #[error("guest physical range {0}+{1:#x} is not RAM")]
    NotRam(Gpa, u64),
    /// The host keeps the memory.
    #[error("cannot give memory back to the host: {0}")]
    Discard(std::io::Error),
}

/// A piece of guest RAM in the host's address space.
#[derive(Clone, Copy, Debug)]
pub struct HostRange {
    /// Where it starts in this process.
    pub host: NonNull<u8>,
    /// Its length in bytes.
    pub len: usize,
}

/// The guest's RAM. Clones share the memory.
#[derive(Clone, Debug)]
pub struct GuestMemory {
    inner: GuestMemoryMmap<()>,
}

impl GuestMemory {
    /// Reserves zeroed memory for `ranges`, which must not overlap. The host commits pages as the guest touches them.
    ///
    /// # Errors
    /// [`Error::Allocate`] when the host has no room, or for a range that is empty or overlaps another.
    pub fn new(ranges: &[Range<Gpa>]) -> Result<Self, Error> {
        let list: Vec<_> = ranges
            .iter()
            .map(|r| {
                (
                    GuestAddress(r.start.0),
                    usize::try_from(r.end.0.saturating_sub(r.start.0)).unwrap_or(usize::MAX),
                )
            })
            .collect();
        let total: u64 = ranges.iter().map(|r| r.end.0.saturating_sub(r.start.0)).sum();
        let inner =
            GuestMemoryMmap::from_ranges(&list).map_err(|e| Error::Allocate(total >> 20, e.to_string()))?;
        Ok(Self { inner })
    }

    /// The RAM ranges, in ascending order.
    pub fn ranges(&self) -> Vec<Range<Gpa>> {
        self.inner.iter().map(|r| Gpa(r.start_addr().0)..Gpa(r.start_addr().0 + r.len())).collect()
    }

    /// Copies guest memory at `gpa` into `data`.
    ///
    /// # Errors
    /// [`Error::NotRam`] when part of the range is not RAM.
    pub fn read(&self, gpa: Gpa, data: &mut [u8]) -> Result<(), Error> {
        self.inner.read_slice(data, GuestAddress(gpa.0)).map_err(|_| Error::NotRam(gpa, data.len() as u64))
    }

    /// Copies `data` into guest memory at `gpa`.
    ///
    /// # Errors
    /// [`Error::NotRam`] when part of the range is not RAM.
    pub fn write(&self, gpa: Gpa, data: &[u8]) -> Result<(), Error> {
        self.inner.write_slice(data, GuestAddress(gpa.0)).map_err(|_| Error::NotRam(gpa, data.len() as u64))
    }

    /// The host mapping of `len` bytes at `gpa`; it stays valid while `self` or a clone lives.
    ///
    /// # Errors
    /// [`Error::NotRam`] when the range is not within one RAM region.
    pub fn host_range(&self, gpa: Gpa, len: u64) -> Result<HostRange, Error> {
        let not_ram = || Error::NotRam(gpa, len);
        let slice = self
            .inner
            .get_slice(GuestAddress(gpa.0), usize::try_from(len).map_err(|_| not_ram())?)
            .map_err(|_| not_ram())?;
        let host = NonNull::new(slice.ptr_guard_mut().as_ptr()).ok_or_else(not_ram)?;
        Ok(HostRange { host, len: slice.len() })
    }

    /// Gives the host back the pages of its own that lie wholly in the `len` bytes at `gpa`. They stay where they are for
    /// whoever has a pointer to them, and read as zeros. Returns how many bytes that were.
    ///
    /// # Errors
    /// [`Error::NotRam`] when the range is not within one RAM region, [`Error::Discard`] when the host refuses.
    pub fn discard(&self, gpa: Gpa, len: u64) -> Result<u64, Error> {
        let range = self.host_range(gpa, len)?;
        discard(&range).map(|bytes| bytes as u64).map_err(Error::Discard)
    }

    /// Asks the host for huge pages where the guest touches memory for the first time from now on: fewer misses of the
    /// host's TLB, for memory that is committed in larger pieces. A host without them goes on as before.
    pub fn prefer_huge_pages(&self) {
        for range in self.ranges() {
            let host = self.host_range(range.start, range.end - range.start);
            if let Ok(Err(e)) = host.map(|host| prefer_huge_pages(&host)) {
                tracing::debug!("no huge pages for the guest's memory: {e}");
            }
        }
    }

    /// The `vm-memory` object, for virtqueue code.
    pub fn vm(&self) -> &GuestMemoryMmap<()> {
        &self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_regions() -> GuestMemory {
        GuestMemory::new(&[Gpa(0x1000)..Gpa(0x3000), Gpa(0x8000)..Gpa(0x9000)]).unwrap()
    }

    #[test]
    fn reads_back_what_was_written_and_starts_zeroed() {
        let mem = two_regions();
        let mut data = [1; 4];
        mem.read(Gpa(0x2ffc), &mut data).unwrap();
        assert_eq!(data, [0; 4]);
        mem.clone().write(Gpa(0x2ffc), &[1, 2, 3, 4]).unwrap();
        mem.read(Gpa(0x2ffc), &mut data).unwrap();
        assert_eq!(data, [1, 2, 3, 4]);
    }

    #[test]
    fn refuses_what_is_not_ram() {
        let mem = two_regions();
        assert!(mem.write(Gpa(0x2ffd), &[0; 4]).is_err());
        assert!(mem.read(Gpa(0x4000), &mut [0]).is_err());
        assert!(mem.read(Gpa(u64::MAX), &mut [0; 2]).is_err());
        assert!(mem.host_range(Gpa(0x2000), 0x1001).is_err());
        assert!(GuestMemory::new(&[Gpa(0)..Gpa(0)]).is_err());
    }

    #[test]
    fn discarded_pages_are_zero_and_their_neighbours_are_not() {
        let page = rustix::param::page_size() as u64;
        let base = Gpa(16 * page);
        let mem = GuestMemory::new(&[base..base + 8 * page]).unwrap();
        mem.write(base, &vec![0x5a; 8 * page as usize]).unwrap();
        let pointer = mem.host_range(base, 8 * page).unwrap().host;
        // Two whole pages, and a piece of one on either side.
        assert_eq!(mem.discard(base + (2 * page - 1), 2 * page + 2).unwrap(), 2 * page);
        let mut data = vec![0; 8 * page as usize];
        mem.read(base, &mut data).unwrap();
        let kept: Vec<_> = data.chunks(page as usize).map(|p| p.iter().all(|b| *b == 0x5a)).collect();
        assert_eq!(kept, [true, true, false, false, true, true, true, true]);
        assert!(data[2 * page as usize..4 * page as usize].iter().all(|b| *b == 0));
        mem.write(base + 2 * page, &[1]).unwrap();
        assert_eq!(mem.host_range(base, 8 * page).unwrap().host, pointer);
        assert_eq!(mem.discard(base + 1, page).unwrap(), 0);
        assert_eq!(mem.discard(base + 1, 0).unwrap(), 0);
        assert!(matches!(mem.discard(base + 7 * page, page + 1), Err(Error::NotRam(..))));
        assert!(mem.discard(Gpa(u64::MAX - 1), 4096).is_err());
    }

    #[test]
    fn huge_pages_change_no_content() {
        let base = Gpa(4 << 20);
        let mem = GuestMemory::new(&[base..base + (8 << 20)]).unwrap();
        mem.write(base + 0x1000, &[7; 64]).unwrap();
        mem.prefer_huge_pages();
        mem.write(base + (6 << 20), &[8; 64]).unwrap();
        let mut data = [0; 65];
        mem.read(base + 0x1000, &mut data).unwrap();
        assert_eq!(data[..], [&[7; 64][..], &[0]].concat());
        mem.read(base + (6 << 20), &mut data).unwrap();
        assert_eq!(data[..], [&[8; 64][..], &[0]].concat());
    }

    #[test]
    fn host_ranges_cover_a_region() {
        let mem = two_regions();
        assert_eq!(mem.ranges(), [Gpa(0x1000)..Gpa(0x3000), Gpa(0x8000)..Gpa(0x9000)]);
        let all = mem.host_range(Gpa(0x1000), 0x2000).unwrap();
        let tail = mem.host_range(Gpa(0x2000), 0x10).unwrap();
        assert_eq!(tail.host.as_ptr() as usize - all.host.as_ptr() as usize, 0x1000);
    }
}
