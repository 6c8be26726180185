//! Registers of the PrimeCell real time clock (PL031, Arm DDI 0224, chapter 3). Each is in a word of its own.

/// The time in seconds, read-only.
pub const DR: u64 = 0x00;
/// The time of the alarm.
pub const MR: u64 = 0x04;
/// Sets the time.
pub const LR: u64 = 0x08;
/// Control.
pub const CR: u64 = 0x0c;
/// Interrupt mask: a set bit lets through.
pub const IMSC: u64 = 0x10;
/// Raw interrupt.
pub const RIS: u64 = 0x14;
/// Masked interrupt.
pub const MIS: u64 = 0x18;
/// Interrupt clear.
pub const ICR: u64 = 0x1c;

/// `CR`: the clock runs. It cannot be stopped.
pub const CR_START: u32 = 1;
/// The one interrupt: the alarm.
pub const INT_ALARM: u32 = 1;

/// `RTCPeriphID0..3`: part 0x031, Arm, revision 1.
pub const PERIPH_ID: [u8; 4] = [0x31, 0x10, 0x14, 0x00];
