//! Memory-mapped I/O.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use tearless_memory::Gpa;

/// Why a device did not take an access. The bus decides what the guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No register at this offset.
    #[error("no such register")]
    NoRegister,
    /// The register does not take accesses of this width or alignment.
    #[error("wrong access width")]
    Width,
}

/// A device with memory-mapped registers.
///
/// Accesses come from several vCPU threads at once: a device locks what it must. `data` is 1, 2, 4 or 8 bytes long and
/// holds the value in little-endian order; `offset` is relative to the start of the range that the machine mapped and
/// `offset..offset + data.len()` lies within it, but it need not be aligned.
pub trait MmioDevice: Send + Sync {
    /// Reads a register.
    ///
    /// # Errors
    /// [`AccessError`] when there is nothing to read that way.
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError>;

    /// Writes a register.
    ///
    /// # Errors
    /// [`AccessError`] when there is nothing to write that way.
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError>;
}

/// Two devices were given the same address.
#[derive(Debug, thiserror::Error)]
#[error("device {new} at {start}..{end} overlaps {old}")]
pub struct Overlap {
    new: String,
    old: String,
    start: Gpa,
    end: Gpa,
}

struct Mapping {
    end: Gpa,
    name: String,
    device: Arc<dyn MmioDevice>,
}

/// Which device answers at which guest physical address. Fixed once the machine is built.
#[derive(Default)]
pub struct MmioBus {
    map: BTreeMap<Gpa, Mapping>,
}

impl MmioBus {
    /// Maps `device` at `range`.
    ///
    /// # Errors
    /// [`Overlap`] when part of the range is taken.
    pub fn insert(
        &mut self,
        name: &str,
        range: Range<Gpa>,
        device: Arc<dyn MmioDevice>,
    ) -> Result<(), Overlap> {
        let below = self.map.range(..range.end).next_back();
        if let Some((_, old)) = below.filter(|(_, old)| old.end > range.start) {
            return Err(Overlap {
                new: name.to_owned(),
                old: old.name.clone(),
                start: range.start,
                end: range.end,
            });
        }
        self.map.insert(range.start, Mapping { end: range.end, name: name.to_owned(), device });
        Ok(())
    }

    fn find(&self, gpa: Gpa, len: usize) -> Option<(&Mapping, u64)> {
        let (start, mapping) = self.map.range(..=gpa).next_back()?;
        (gpa.checked_add(len as u64)? <= mapping.end).then(|| (mapping, gpa - *start))
    }

    /// Reads `data.len()` (1, 2, 4 or 8) bytes at `gpa`. Where nothing answers the guest reads zeros.
    pub fn read(&self, gpa: Gpa, data: &mut [u8]) {
        let outcome = match self.find(gpa, data.len()) {
            Some((mapping, offset)) => {
                mapping.device.read(offset, data).map_err(|e| (Some(&mapping.name), e))
            }
            None => Err((None, AccessError::NoRegister)),
        };
        if let Err((device, error)) = outcome {
            data.fill(0);
            tracing::debug!(%gpa, len = data.len(), ?device, %error, "guest read of nothing");
        }
    }

    /// Writes `data` (1, 2, 4 or 8 bytes) at `gpa`. Where nothing answers the write is dropped.
    pub fn write(&self, gpa: Gpa, data: &[u8]) {
        let outcome = match self.find(gpa, data.len()) {
            Some((mapping, offset)) => {
                mapping.device.write(offset, data).map_err(|e| (Some(&mapping.name), e))
            }
            None => Err((None, AccessError::NoRegister)),
        };
        if let Err((device, error)) = outcome {
            tracing::debug!(%gpa, len = data.len(), ?device, %error, "guest write to nothing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl MmioDevice for Echo {
        fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
            if offset >= 0x10 {
                return Err(AccessError::NoRegister);
            }
            data.fill(offset as u8);
            Ok(())
        }
        fn write(&self, _: u64, _: &[u8]) -> Result<(), AccessError> {
            Err(AccessError::Width)
        }
    }

    fn bus() -> MmioBus {
        let mut bus = MmioBus::default();
        bus.insert("a", Gpa(0x1000)..Gpa(0x2000), Arc::new(Echo)).unwrap();
        bus.insert("b", Gpa(0x3000)..Gpa(0x4000), Arc::new(Echo)).unwrap();
        bus
    }

    #[test]
    fn routes_by_offset_and_reads_nothing_as_zero() {
        let bus = bus();
        let mut data = [0xee; 2];
        bus.read(Gpa(0x3004), &mut data);
        assert_eq!(data, [4, 4]);
        for hole in [0xfff, 0x1010, 0x1fff, 0x2000, u64::MAX] {
            data = [0xee; 2];
            bus.read(Gpa(hole), &mut data);
            assert_eq!(data, [0, 0], "at {hole:#x}");
        }
        bus.write(Gpa(u64::MAX), &data);
    }

    #[test]
    fn refuses_overlaps_and_names_both() {
        for range in [0x1fff..0x2001, 0x0fff..0x1001, 0x1800..0x1801, 0x0..0x5000] {
            let mut bus = bus();
            let error = bus.insert("c", Gpa(range.start)..Gpa(range.end), Arc::new(Echo)).unwrap_err();
            assert!(error.to_string().contains("device c"), "{error}");
        }
        bus().insert("c", Gpa(0x2000)..Gpa(0x3000), Arc::new(Echo)).unwrap();
    }
}
