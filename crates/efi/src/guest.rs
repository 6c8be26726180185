//! The guest's memory as services see it: addresses that a loader gives, so none is to be trusted.

use tearless_memory::{Gpa, GuestMemory};

use crate::abi::{Guid, INVALID_PARAMETER, Status};

/// How much is copied at a time.
const CHUNK: u64 = 256 << 10;

/// Guest memory. Boot services run on an identity map, so addresses are physical.
#[derive(Clone)]
pub(crate) struct Guest(GuestMemory);

impl Guest {
    pub fn new(memory: GuestMemory) -> Self {
        Self(memory)
    }

    pub fn read(&self, at: u64, data: &mut [u8]) -> Result<(), Status> {
        self.0.read(Gpa(at), data).map_err(|_| INVALID_PARAMETER)
    }

    pub fn write(&self, at: u64, data: &[u8]) -> Result<(), Status> {
        self.0.write(Gpa(at), data).map_err(|_| INVALID_PARAMETER)
    }

    fn array<const N: usize>(&self, at: u64) -> Result<[u8; N], Status> {
        let mut bytes = [0; N];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    pub fn u16(&self, at: u64) -> Result<u16, Status> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub fn u32(&self, at: u64) -> Result<u32, Status> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub fn u64(&self, at: u64) -> Result<u64, Status> {
        self.array(at).map(u64::from_le_bytes)
    }

    pub fn guid(&self, at: u64) -> Result<Guid, Status> {
        self.array(at).map(Guid)
    }

    pub fn put_u32(&self, at: u64, value: u32) -> Result<(), Status> {
        self.write(at, &value.to_le_bytes())
    }

    pub fn put_u64(&self, at: u64, value: u64) -> Result<(), Status> {
        self.write(at, &value.to_le_bytes())
    }

    /// Fails unless all of the range is RAM.
    pub fn check(&self, at: u64, len: u64) -> Result<(), Status> {
        if len == 0 {
            return Ok(());
        }
        self.0.host_range(Gpa(at), len).map(drop).map_err(|_| INVALID_PARAMETER)
    }

    /// `len` bytes; the caller has bounded `len` or accepts as much as RAM has.
    pub fn bytes(&self, at: u64, len: u64) -> Result<Vec<u8>, Status> {
        self.check(at, len)?;
        let mut data = vec![0; usize::try_from(len).map_err(|_| INVALID_PARAMETER)?];
        self.read(at, &mut data)?;
        Ok(data)
    }

    /// A string that ends with a null character, of at most `max` characters without it.
    pub fn text(&self, at: u64, max: u64) -> Result<Vec<u16>, Status> {
        let mut text = Vec::new();
        for i in 0..=max {
            match self.u16(at.checked_add(2 * i).ok_or(INVALID_PARAMETER)?)? {
                0 => return Ok(text),
                unit => text.push(unit),
            }
        }
        Err(INVALID_PARAMETER)
    }

    /// As `memmove`.
    pub fn copy(&self, to: u64, from: u64, len: u64) -> Result<(), Status> {
        self.check(to, len)?;
        self.check(from, len)?;
        let mut buffer = vec![0; len.min(CHUNK) as usize];
        let mut done = 0;
        while done < len {
            let take = (len - done).min(CHUNK);
            let at = if to <= from { done } else { len - done - take };
            let part = buffer.get_mut(..take as usize).ok_or(INVALID_PARAMETER)?;
            self.read(from + at, part)?;
            self.write(to + at, part)?;
            done += take;
        }
        Ok(())
    }

    pub fn fill(&self, at: u64, len: u64, byte: u8) -> Result<(), Status> {
        self.check(at, len)?;
        self.in_pieces(at, len, |_, part| {
            part.fill(byte);
            Ok(())
        })
    }

    /// Has `produce` make `len` bytes for the memory at `at`, piece by piece; it is told how far it is.
    pub fn in_pieces(
        &self,
        at: u64,
        len: u64,
        mut produce: impl FnMut(u64, &mut [u8]) -> Result<(), Status>,
    ) -> Result<(), Status> {
        self.check(at, len)?;
        let mut buffer = vec![0; len.min(CHUNK) as usize];
        let mut done = 0;
        while done < len {
            let part = buffer.get_mut(..(len - done).min(CHUNK) as usize).ok_or(INVALID_PARAMETER)?;
            produce(done, part)?;
            self.write(at + done, part)?;
            done += part.len() as u64;
        }
        Ok(())
    }

    /// Has `consume` take the `len` bytes at `at`, piece by piece; it is told how far it is.
    pub fn for_pieces(
        &self,
        at: u64,
        len: u64,
        mut consume: impl FnMut(u64, &[u8]) -> Result<(), Status>,
    ) -> Result<(), Status> {
        self.check(at, len)?;
        let mut buffer = vec![0; len.min(CHUNK) as usize];
        let mut done = 0;
        while done < len {
            let part = buffer.get_mut(..(len - done).min(CHUNK) as usize).ok_or(INVALID_PARAMETER)?;
            self.read(at + done, part)?;
            consume(done, part)?;
            done += part.len() as u64;
        }
        Ok(())
    }
}

/// A string of the guest as ours; what is no Unicode is replaced.
pub(crate) fn string(text: &[u16]) -> String {
    String::from_utf16_lossy(text)
}

/// A string as the guest has it, with its null character.
pub(crate) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest() -> Guest {
        Guest::new(GuestMemory::new(&[Gpa(0x1000)..Gpa(0x10_0000)]).unwrap())
    }

    #[test]
    fn overlapping_copies_keep_the_source() {
        let guest = guest();
        let data: Vec<u8> = (0..0x9_0000u32).map(|i| (i % 251) as u8).collect();
        for (to, from) in [(0x2000, 0x2005), (0x2005, 0x2000)] {
            guest.write(from, &data).unwrap();
            guest.copy(to, from, data.len() as u64).unwrap();
            assert_eq!(guest.bytes(to, data.len() as u64).unwrap(), data);
        }
    }

    #[test]
    fn nothing_outside_ram_is_touched() {
        let guest = guest();
        assert!(guest.copy(0x1000, 0xf_f000, 0x1001).is_err());
        assert!(guest.fill(0xf_f000, u64::MAX, 1).is_err());
        assert!(guest.bytes(u64::MAX, 2).is_err());
        guest.fill(0xf_f000, 0x1000, 1).unwrap();
        assert!(guest.text(0xf_f000, 1 << 40).is_err(), "no end in RAM");
        assert!(guest.text(0xf_f000, 4).is_err(), "too long");
        assert!(guest.text(0x3000, 0).unwrap().is_empty());
    }
}
