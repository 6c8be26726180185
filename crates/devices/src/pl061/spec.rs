//! Registers of the PrimeCell GPIO (PL061, Arm DDI 0190, chapter 3). Each is in a word of its own, a bit for each pin.

/// First of 256 addresses of the data register: bits 9:2 of the offset select the pins that an access means.
pub const DATA: u64 = 0x000;
/// End (exclusive) of the data register.
pub const DATA_END: u64 = 0x400;
/// Direction: set for outputs.
pub const DIR: u64 = 0x400;
/// Interrupt sense: set for levels.
pub const IS: u64 = 0x404;
/// Interrupt on both edges.
pub const IBE: u64 = 0x408;
/// Interrupt event: set for rising edges and high levels.
pub const IEV: u64 = 0x40c;
/// Interrupt enable.
pub const IE: u64 = 0x410;
/// Raw interrupts.
pub const RIS: u64 = 0x414;
/// Masked interrupts.
pub const MIS: u64 = 0x418;
/// Interrupt clear, for edges.
pub const IC: u64 = 0x41c;
/// Alternate function.
pub const AFSEL: u64 = 0x420;

/// `GPIOPeriphID0..3`: part 0x061, Arm.
pub const PERIPH_ID: [u8; 4] = [0x61, 0x10, 0x04, 0x00];
