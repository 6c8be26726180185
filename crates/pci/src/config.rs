//! The configuration space of a type 0 function (PCI Local Bus 3.0, section 6.1; PCIe base, section 7.5).
//!
//! Each byte has a mask of the bits that the guest may write. That alone gives BAR sizing: a BAR's address bits below
//! its size are read-only zeros, so a driver that writes all ones reads the size back.

use std::ops::Range;

use tearless_memory::Gpa;
use tearless_state::StateError;

/// Offsets of the standard header.
pub mod register {
    /// Command, 16 bits.
    pub const COMMAND: u16 = 0x04;
    /// Status, 16 bits.
    pub const STATUS: u16 = 0x06;
    /// The first of six 32-bit BARs.
    pub const BAR0: u16 = 0x10;
    /// Pointer to the first capability, 8 bits.
    pub const CAPABILITIES: u16 = 0x34;
    /// Scratch for the operating system, 8 bits.
    pub const INTERRUPT_LINE: u16 = 0x3c;
    /// 1 for INTA, 0 for none, 8 bits.
    pub const INTERRUPT_PIN: u16 = 0x3d;
}

/// Bits of the command register.
pub mod command {
    /// The function answers memory accesses within its BARs.
    pub const MEMORY: u16 = 1 << 1;
    /// The function may access memory.
    pub const BUS_MASTER: u16 = 1 << 2;
    /// The function must not assert its wired interrupt.
    pub const INTX_DISABLE: u16 = 1 << 10;
    /// Everything that can be written: the above, parity error response and SERR#.
    pub(super) const WRITABLE: u16 = MEMORY | BUS_MASTER | INTX_DISABLE | 1 << 6 | 1 << 8;
}

const SIZE: usize = 256;
const FIRST_CAPABILITY: usize = 0x40;
const STATUS_CAPABILITIES: u8 = 1 << 4;

/// What a function is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Revision ID.
    pub revision: u8,
    /// Class, subclass and programming interface: `0xCCSSPP`.
    pub class: u32,
    /// Subsystem vendor ID.
    pub subsystem_vendor: u16,
    /// Subsystem ID.
    pub subsystem: u16,
}

/// The width of a memory BAR. None is prefetchable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// One 32-bit register.
    Mem32,
    /// Two registers that hold a 64-bit address; takes the index and the next.
    Mem64,
}

/// A function was described in a way that the header cannot express.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The index is taken or beyond the last BAR, or the size is not a power of two of at least 16 bytes that fits.
    #[error("BAR {0} of {1:#x} bytes cannot be placed")]
    Bar(usize, u64),
    /// The capabilities do not fit in 256 bytes.
    #[error("no room for capability {0:#x}")]
    Capability(u8),
}

#[derive(Clone, Copy, Debug)]
struct Bar {
    size: u64,
    kind: BarKind,
}

/// The registers of one function.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: [u8; SIZE],
    writable: [u8; SIZE],
    bars: [Option<Bar>; 6],
    last_link: usize,
    end: usize,
}

impl ConfigSpace {
    /// A header with no BAR and no capability.
    pub fn new(identity: &Identity) -> Self {
        let mut space = Self {
            bytes: [0; SIZE],
            writable: [0; SIZE],
            bars: [None; 6],
            last_link: usize::from(register::CAPABILITIES),
            end: FIRST_CAPABILITY,
        };
        space.set(0x00, &identity.vendor.to_le_bytes());
        space.set(0x02, &identity.device.to_le_bytes());
        let class = identity.class << 8 | u32::from(identity.revision);
        space.set(0x08, &class.to_le_bytes());
        space.set(0x2c, &identity.subsystem_vendor.to_le_bytes());
        space.set(0x2e, &identity.subsystem.to_le_bytes());
        space.allow(usize::from(register::COMMAND), &command::WRITABLE.to_le_bytes());
        space.allow(0x0c, &[0xff]);
        space.allow(usize::from(register::INTERRUPT_LINE), &[0xff]);
        space
    }

    /// Declares that the function drives the wired interrupt INTA.
    #[must_use]
    pub fn with_intx(mut self) -> Self {
        self.set(usize::from(register::INTERRUPT_PIN), &[1]);
        self
    }

    /// Adds BAR `index` with `size` bytes, a power of two.
    ///
    /// # Errors
    /// [`LayoutError::Bar`] when it cannot be expressed.
    pub fn add_bar(&mut self, index: usize, size: u64, kind: BarKind) -> Result<(), LayoutError> {
        let refuse = || LayoutError::Bar(index, size);
        let slots = if kind == BarKind::Mem64 { 2 } else { 1 };
        let too_large = kind == BarKind::Mem32 && size > 1 << 31;
        if !size.is_power_of_two() || size < 16 || too_large || index + slots > self.bars.len() {
            return Err(refuse());
        }
        let offset = usize::from(register::BAR0) + 4 * index;
        let taken = self.writable.iter().skip(offset).take(4 * slots).any(|mask| *mask != 0);
        if taken || self.bars.get(index).copied().flatten().is_some() {
            return Err(refuse());
        }
        let mask = !(size - 1);
        match kind {
            BarKind::Mem32 => self.allow(offset, &(mask as u32).to_le_bytes()),
            BarKind::Mem64 => {
                self.set(offset, &[0b100]);
                self.allow(offset, &mask.to_le_bytes());
            }
        }
        if let Some(slot) = self.bars.get_mut(index) {
            *slot = Some(Bar { size, kind });
        }
        Ok(())
    }

    /// Appends a capability: `body` follows its ID and next pointer, and `writable` masks the bits of `body` that the
    /// guest may change (shorter means that the rest is read-only). Returns where it starts.
    ///
    /// # Errors
    /// [`LayoutError::Capability`] when the space is full.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> Result<u16, LayoutError> {
        let start = self.end;
        let end = (start + 2 + body.len()).next_multiple_of(4);
        if end > SIZE || writable.len() > body.len() {
            return Err(LayoutError::Capability(id));
        }
        self.set(start, &[id, 0]);
        self.set(start + 2, body);
        self.allow(start + 2, writable);
        self.set(self.last_link, &[start as u8]);
        self.set(usize::from(register::STATUS), &[STATUS_CAPABILITIES]);
        self.last_link = start + 1;
        self.end = end;
        Ok(start as u16)
    }

    /// Reads; beyond the first 256 bytes there is nothing, which reads as zeros: no extended capability.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        let from = self.bytes.iter().copied().skip(usize::from(offset)).chain(std::iter::repeat(0));
        data.iter_mut().zip(from).for_each(|(to, byte)| *to = byte);
    }

    /// Writes what can be written.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        let to = self.bytes.iter_mut().zip(&self.writable).skip(usize::from(offset));
        for ((byte, mask), new) in to.zip(data) {
            *byte = *byte & !mask | new & mask;
        }
    }

    /// The 16 bits at `offset`.
    pub fn read_u16(&self, offset: u16) -> u16 {
        let mut data = [0; 2];
        self.read(offset, &mut data);
        u16::from_le_bytes(data)
    }

    /// The 32 bits at `offset`.
    pub fn read_u32(&self, offset: u16) -> u32 {
        let mut data = [0; 4];
        self.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// The command register; its bits are in [`command`].
    pub fn command(&self) -> u16 {
        self.read_u16(register::COMMAND)
    }

    /// What BAR `index` decodes right now. An address of zero counts as not assigned.
    pub fn bar(&self, index: usize) -> Option<Range<Gpa>> {
        let bar = self.bars.get(index).copied().flatten()?;
        if self.command() & command::MEMORY == 0 {
            return None;
        }
        let offset = register::BAR0 + 4 * index as u16;
        let low = u64::from(self.read_u32(offset)) & !0xf;
        let start = match bar.kind {
            BarKind::Mem32 => low,
            BarKind::Mem64 => u64::from(self.read_u32(offset + 4)) << 32 | low,
        };
        let start = Gpa(start);
        (start.0 != 0).then_some(())?;
        Some(start..start.checked_add(bar.size)?)
    }

    /// All bytes, for a saved VM.
    pub fn save(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes over what the guest can write of `bytes`.
    ///
    /// # Errors
    /// [`StateError::Malformed`] for another number of bytes.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        if bytes.len() != self.bytes.len() {
            return Err(StateError::malformed("a configuration space of another size"));
        }
        self.write(0, bytes);
        Ok(())
    }

    fn set(&mut self, offset: usize, data: &[u8]) {
        self.bytes.iter_mut().skip(offset).zip(data).for_each(|(to, from)| *to = *from);
    }

    fn allow(&mut self, offset: usize, mask: &[u8]) {
        self.writable.iter_mut().skip(offset).zip(mask).for_each(|(to, from)| *to = *from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> ConfigSpace {
        ConfigSpace::new(&Identity {
            vendor: 0x1af4,
            device: 0x1042,
            revision: 1,
            class: 0x01_00_00,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
        })
    }

    #[test]
    fn header_holds_the_identity_and_is_read_only() {
        let mut space = space();
        space.write(0, &[0xff; 4]);
        assert_eq!(space.read_u32(0), 0x1042_1af4);
        assert_eq!(space.read_u32(8), 0x0100_0001);
        assert_eq!(space.read_u32(0x2c), 0x1100_1af4);
    }

    #[test]
    fn bars_size_and_move() {
        let mut space = space();
        space.add_bar(0, 0x8000, BarKind::Mem64).unwrap();
        space.add_bar(2, 0x1000, BarKind::Mem32).unwrap();
        for offset in [0x10, 0x14, 0x18] {
            space.write(offset, &[0xff; 4]);
        }
        assert_eq!(space.read_u32(0x10), 0xffff_8004);
        assert_eq!(space.read_u32(0x14), 0xffff_ffff);
        assert_eq!(space.read_u32(0x18), 0xffff_f000);
        space.write(0x04, &command::MEMORY.to_le_bytes());
        assert_eq!(space.bar(0), None, "a range that wraps decodes nothing");
        space.write(0x10, &0x1234_5678u32.to_le_bytes());
        space.write(0x14, &0x80u32.to_le_bytes());
        assert_eq!(space.bar(0), Some(Gpa(0x80_1234_0000)..Gpa(0x80_1234_8000)));
        assert_eq!(space.bar(1), None);
        space.write(0x04, &[0, 0]);
        assert_eq!(space.bar(0), None);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let mut space = space();
        assert!(space.add_bar(0, 0x1800, BarKind::Mem32).is_err());
        assert!(space.add_bar(5, 0x1000, BarKind::Mem64).is_err());
        assert!(space.add_bar(6, 0x1000, BarKind::Mem32).is_err());
        assert!(space.add_bar(0, 1 << 32, BarKind::Mem32).is_err());
        space.add_bar(0, 0x1000, BarKind::Mem64).unwrap();
        assert!(space.add_bar(1, 0x1000, BarKind::Mem32).is_err());
        assert!(space.add_capability(9, &[0; 255], &[]).is_err());
    }

    #[test]
    fn capabilities_form_a_list() {
        let mut space = space();
        assert_eq!(space.read_u16(register::STATUS) & 0x10, 0);
        let first = space.add_capability(0x09, &[1, 2, 3], &[]).unwrap();
        let second = space.add_capability(0x11, &[0; 10], &[0, 0xc0]).unwrap();
        assert_eq!(space.read_u16(register::STATUS) & 0x10, 0x10);
        assert_eq!(space.read_u16(register::CAPABILITIES), first);
        assert_eq!(space.read_u16(first), second << 8 | 0x09);
        assert_eq!(space.read_u16(second), 0x11);
        space.write(second + 2, &[0xff, 0xff]);
        assert_eq!(space.read_u16(second + 2), 0xc000);
        let mut data = [1; 4];
        space.read(254, &mut data);
        assert_eq!(data, [0; 4]);
    }
}
