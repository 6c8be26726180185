//! The state of 32 interrupts, in bit masks: a vCPU's private interrupts (SGIs and PPIs), or 32 SPIs.

use serde::{Deserialize, Serialize};
use tearless_arm64::gic::irq;
use tearless_bus::AccessError;

use super::{Candidate, PRIORITY_MASK, group_mask};
use crate::access::{fill, value};

/// 32 interrupts; bit (or index) n of each field belongs to the n-th.
#[derive(Clone, Debug)]
pub struct Bank {
    /// Which of the interrupts exist.
    implemented: u32,
    /// Which are edge-triggered whatever software writes: the SGIs.
    always_edge: u32,
    enabled: u32,
    /// Pending since an edge, a message or a software write, until acknowledged.
    latch: u32,
    /// The level of the inputs.
    level: u32,
    edge: u32,
    active: u32,
    group: u32,
    priority: [u8; 32],
}

/// A bank as a saved VM has it: what software and the inputs decide.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedBank {
    enabled: u32,
    latch: u32,
    level: u32,
    edge: u32,
    active: u32,
    group: u32,
    priority: [u8; 32],
}

/// Where in the banks an offset leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// INTID / 32.
    pub bank: usize,
    register: Register,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    /// A bit each; the first register of the group.
    Bits(u64),
    /// A byte each, from this interrupt of the bank on.
    Priority(usize),
    /// Two bits each, for the lower or upper 16 of the bank.
    Config { upper: bool },
    /// Reserved with affinity routing and one security state: reads as zero, ignores writes.
    Zero,
}

impl Place {
    /// Decodes an access of `len` bytes at `offset` of the distributor or of a redistributor's SGI frame.
    ///
    /// # Errors
    /// [`AccessError`] for what is no register of an interrupt, or not accessible with this width.
    pub fn decode(offset: u64, len: usize) -> Result<Self, AccessError> {
        let (bank, register, byte_accessible) = match offset {
            irq::IGROUPR..irq::IPRIORITYR => ((offset & 0x7f) / 4, Register::Bits(offset & !0x7f), false),
            irq::IPRIORITYR..irq::ITARGETSR => {
                let intid = offset - irq::IPRIORITYR;
                (intid / 32, Register::Priority((intid % 32) as usize), true)
            }
            irq::ITARGETSR..irq::ICFGR => ((offset - irq::ITARGETSR) / 32, Register::Zero, true),
            irq::ICFGR..irq::IGRPMODR => {
                let word = (offset - irq::ICFGR) / 4;
                (word / 2, Register::Config { upper: word % 2 == 1 }, false)
            }
            irq::IGRPMODR..0xd80 => ((offset - irq::IGRPMODR) / 4, Register::Zero, false),
            irq::NSACR..0xf00 => ((offset - irq::NSACR) / 8, Register::Zero, false),
            _ => return Err(AccessError::NoRegister),
        };
        let width = len == 4 || (byte_accessible && len < 4);
        if !width || !offset.is_multiple_of(len as u64) {
            return Err(AccessError::Width);
        }
        Ok(Self { bank: bank as usize, register })
    }
}

impl Bank {
    /// A vCPU's private interrupts.
    pub fn private() -> Self {
        Self::new(u32::MAX, 0xffff)
    }

    /// The first `count` of 32 SPIs.
    pub fn shared(count: u32) -> Self {
        Self::new(if count >= 32 { u32::MAX } else { (1 << count) - 1 }, 0)
    }

    fn new(implemented: u32, always_edge: u32) -> Self {
        Self {
            implemented,
            always_edge,
            enabled: 0,
            latch: 0,
            level: 0,
            edge: always_edge,
            active: 0,
            group: 0,
            priority: [0; 32],
        }
    }

    /// For a saved VM.
    pub fn save(&self) -> SavedBank {
        let &Self { enabled, latch, level, edge, active, group, priority, .. } = self;
        SavedBank { enabled, latch, level, edge, active, group, priority }
    }

    /// Takes over what was saved, as far as there are such interrupts.
    pub fn restore(&mut self, saved: &SavedBank) {
        let there = self.implemented;
        self.enabled = saved.enabled & there;
        self.latch = saved.latch & there;
        self.level = saved.level;
        self.edge = saved.edge & there | self.always_edge;
        self.active = saved.active & there;
        self.group = saved.group & there;
        for (n, (to, from)) in self.priority.iter_mut().zip(saved.priority).enumerate() {
            *to = if there >> n & 1 == 1 { from & PRIORITY_MASK } else { 0 };
        }
    }

    fn pending(&self) -> u32 {
        self.latch | (self.level & !self.edge)
    }

    /// The interrupts that can be signalled, of the groups in the mask `groups`.
    pub fn deliverable(&self, groups: u8) -> u32 {
        self.pending() & self.enabled & !self.active & group_mask(self.group, groups)
    }

    /// Interrupt `n` as a candidate for delivery; `base` is the bank's first INTID.
    pub fn candidate(&self, n: u32, base: u32) -> Candidate {
        Candidate {
            priority: self.priority.get(n as usize).copied().unwrap_or(PRIORITY_MASK),
            intid: base + n,
            group: self.group(n),
        }
    }

    /// The group (0 or 1) of interrupt `n`.
    pub fn group(&self, n: u32) -> u8 {
        (self.group >> (n & 31) & 1) as u8
    }

    /// Drives input `n`; whether that changed anything.
    pub fn set_level(&mut self, n: u32, level: bool) -> bool {
        let bit = 1 << (n & 31);
        let was = self.level & bit != 0;
        if level {
            self.level |= bit;
            self.latch |= bit & self.edge & if was { 0 } else { bit };
        } else {
            self.level &= !bit;
        }
        was != level
    }

    /// A message (or SGI) that raises or withdraws interrupt `n`. For a level-sensitive interrupt messages are its
    /// level (IHI 0069, 4.7).
    pub fn message(&mut self, n: u32, raise: bool) {
        let bit = 1 << (n & 31) & self.implemented;
        let state = if self.edge & bit != 0 { &mut self.latch } else { &mut self.level };
        if raise {
            *state |= bit;
        } else {
            *state &= !bit;
        }
    }

    /// Takes interrupt `n` from pending to active.
    pub fn activate(&mut self, n: u32) {
        self.latch &= !(1 << (n & 31));
        self.active |= 1 << (n & 31);
    }

    /// Ends the active state of interrupt `n`; whether it was active.
    pub fn deactivate(&mut self, n: u32) -> bool {
        let bit = 1 << (n & 31);
        let was = self.active & bit != 0;
        self.active &= !bit;
        was
    }

    /// Reads the register at `place`, whose bank this is.
    pub fn read(&self, place: Place, data: &mut [u8]) {
        let word = match place.register {
            Register::Bits(irq::IGROUPR) => self.group,
            Register::Bits(irq::ISENABLER | irq::ICENABLER) => self.enabled,
            Register::Bits(irq::ISPENDR | irq::ICPENDR) => self.pending(),
            Register::Bits(irq::ISACTIVER | irq::ICACTIVER) => self.active,
            Register::Priority(first) => {
                let bytes = self.priority.iter().skip(first).chain(&[0; 4]);
                data.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                return;
            }
            Register::Config { upper } => spread(if upper { self.edge >> 16 } else { self.edge & 0xffff }),
            Register::Bits(_) | Register::Zero => 0,
        };
        fill(data, word.into());
    }

    /// Writes the register at `place`, whose bank this is; returns the mask of the interrupts that this may have
    /// changed.
    pub fn write(&mut self, place: Place, data: &[u8]) -> u32 {
        let word = value(data) as u32;
        let bits = word & self.implemented;
        match place.register {
            Register::Bits(irq::IGROUPR) => {
                let changed = self.group ^ bits;
                self.group = bits;
                return changed;
            }
            Register::Bits(irq::ISENABLER) => self.enabled |= bits,
            Register::Bits(irq::ICENABLER) => self.enabled &= !bits,
            Register::Bits(irq::ISPENDR) => self.latch |= bits,
            Register::Bits(irq::ICPENDR) => self.latch &= !bits,
            Register::Bits(irq::ISACTIVER) => self.active |= bits,
            Register::Bits(irq::ICACTIVER) => self.active &= !bits,
            Register::Priority(first) => return self.write_priorities(first, data),
            Register::Config { upper } => {
                let (shift, mask) = if upper { (16, 0xffff_0000) } else { (0, 0xffff) };
                let edge = gather(word) << shift & self.implemented;
                self.edge = self.edge & !mask | edge | self.always_edge;
                return mask;
            }
            Register::Bits(_) | Register::Zero => return 0,
        }
        bits
    }

    fn write_priorities(&mut self, first: usize, data: &[u8]) -> u32 {
        let mut changed = 0;
        for ((n, to), from) in self.priority.iter_mut().enumerate().skip(first).zip(data) {
            if self.implemented >> n & 1 == 1 {
                *to = from & PRIORITY_MASK;
                changed |= 1 << n;
            }
        }
        changed
    }
}

/// The low 16 bits, each moved to the upper bit of its two-bit field.
fn spread(bits: u32) -> u32 {
    (0..16).filter(|n| bits >> n & 1 == 1).fold(0, |word, n| word | 2 << (2 * n))
}

/// The inverse of [`spread`].
fn gather(word: u32) -> u32 {
    (0..16).filter(|n| word >> (2 * n) & 2 != 0).fold(0, |bits, n| bits | 1 << n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(bank: &mut Bank, offset: u64, word: u32) -> u32 {
        bank.write(Place::decode(offset, 4).unwrap(), &word.to_le_bytes())
    }

    #[test]
    fn an_edge_latches_and_a_level_does_not() {
        let mut bank = Bank::shared(32);
        write(&mut bank, irq::ICFGR, 0b10);
        for n in [0, 1] {
            bank.set_level(n, true);
            bank.set_level(n, false);
        }
        assert_eq!(bank.pending(), 0b01);
        bank.set_level(0, true);
        bank.activate(0);
        bank.deactivate(0);
        assert_eq!(bank.pending(), 0, "a held input is one edge");
        bank.set_level(1, true);
        bank.activate(1);
        assert_eq!(bank.deliverable(0b01), 0);
        assert_eq!(bank.pending(), 0b10, "a held level pends again");
    }

    #[test]
    fn messages_to_a_level_interrupt_are_its_level() {
        let mut bank = Bank::shared(32);
        bank.message(3, true);
        bank.activate(3);
        bank.deactivate(3);
        assert_eq!(bank.pending(), 0b1000);
        bank.message(3, false);
        assert_eq!(bank.pending(), 0);
    }

    #[test]
    fn what_is_not_there_stays_zero() {
        let mut bank = Bank::shared(28);
        for offset in [irq::IGROUPR, irq::ISENABLER, irq::ISPENDR, irq::ISACTIVER, irq::ICFGR + 4] {
            write(&mut bank, offset, u32::MAX);
        }
        write(&mut bank, irq::IPRIORITYR + 28, u32::MAX);
        assert_eq!((bank.group, bank.enabled, bank.pending()), (0xfff_ffff, 0xfff_ffff, 0xfff_ffff));
        assert_eq!((bank.active, bank.edge), (0xfff_ffff, 0xfff_0000));
        assert_eq!(bank.priority, [0; 32]);
    }

    #[test]
    fn sgis_are_edge_triggered_for_good() {
        let mut bank = Bank::private();
        write(&mut bank, irq::ICFGR, 0);
        let mut data = [0; 4];
        bank.read(Place::decode(irq::ICFGR, 4).unwrap(), &mut data);
        assert_eq!(u32::from_le_bytes(data), 0xaaaa_aaaa);
    }

    #[test]
    fn decodes_widths() {
        assert_eq!(Place::decode(irq::ISENABLER + 4, 4).unwrap().bank, 1);
        assert_eq!(Place::decode(irq::IPRIORITYR + 33, 1).unwrap().bank, 1);
        assert_eq!(Place::decode(irq::ISENABLER, 1), Err(AccessError::Width));
        assert_eq!(Place::decode(irq::IPRIORITYR, 8), Err(AccessError::Width));
        assert_eq!(Place::decode(irq::IPRIORITYR + 2, 4), Err(AccessError::Width));
        assert_eq!(Place::decode(0xf00, 4), Err(AccessError::NoRegister));
    }
}
