//! Guest physical memory as vCPUs see it: an immutable list of mapped ranges with their host pointers. A change makes a
//! new list; vCPUs switch over at their next look at the mailbox, see [`super::shared`].

use std::sync::Arc;

use tearless_engine::{Error, Region, Result};
use tearless_memory::{Gpa, GuestMemory};

/// Bytes of a TLB page: the granularity of mappings, whatever granule the guest's tables use.
pub(crate) const PAGE: u64 = 4096;

/// A mapped range.
#[derive(Clone)]
struct Slot {
    start: u64,
    end: u64,
    host: *mut u8,
    writable: bool,
    /// Keeps the host mapping alive.
    _memory: GuestMemory,
}

// SAFETY: the pointer is to guest memory, which any thread may access (volatile or atomically), and which `_memory`
// keeps mapped.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

/// The host's view of one page of mapped guest memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostPage {
    /// First byte of the page, valid for [`PAGE`] bytes while the map lives.
    pub host: *mut u8,
    /// Whether the guest may write.
    pub writable: bool,
}

/// All mapped ranges, ascending.
#[derive(Clone, Default)]
pub(crate) struct PhysMap {
    slots: Vec<Slot>,
}

impl PhysMap {
    /// The page that contains `pa`, or `None` for MMIO.
    pub fn page(&self, pa: u64) -> Option<HostPage> {
        let slot = self.slots.iter().find(|s| s.start <= pa && pa < s.end)?;
        let offset = (pa & !(PAGE - 1)) - slot.start;
        // SAFETY: the offset is within the slot, whose host range has its length; the page as a whole is, since both
        // ends of a slot are page aligned.
        let host = unsafe { slot.host.add(offset as usize) };
        Some(HostPage { host, writable: slot.writable })
    }

    /// This map and `region`.
    ///
    /// # Errors
    /// As [`tearless_engine::Vm::map`].
    pub fn with(&self, region: &Region) -> Result<Arc<Self>> {
        let (start, end) = (region.range.start.0, region.range.end.0);
        if start >= end || (start | end) % PAGE != 0 {
            return Err(Error::Misuse(format!("region {:?} is empty or not 4 KiB aligned", region.range)));
        }
        if self.slots.iter().any(|s| s.start < end && start < s.end) {
            return Err(Error::Misuse(format!("region {:?} overlaps a mapped one", region.range)));
        }
        let backing = region
            .memory
            .host_range(Gpa(start), end - start)
            .map_err(|e| Error::Misuse(format!("region {:?} is not backed: {e}", region.range)))?;
        let mut slots = self.slots.clone();
        slots.push(Slot {
            start,
            end,
            host: backing.host.as_ptr(),
            writable: region.writable,
            _memory: region.memory.clone(),
        });
        slots.sort_by_key(|s| s.start);
        Ok(Arc::new(Self { slots }))
    }

    /// This map without `range`, which must be one that was mapped.
    ///
    /// # Errors
    /// As [`tearless_engine::Vm::unmap`].
    pub fn without(&self, range: &std::ops::Range<Gpa>) -> Result<Arc<Self>> {
        let mut slots = self.slots.clone();
        slots.retain(|s| (s.start, s.end) != (range.start.0, range.end.0));
        if slots.len() == self.slots.len() {
            return Err(Error::Misuse(format!("region {range:?} is not mapped")));
        }
        Ok(Arc::new(Self { slots }))
    }
}
