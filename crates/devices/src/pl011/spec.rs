//! Registers of the PrimeCell UART (PL011 r1p5, Arm DDI 0183, chapter 3). Each is in a word of its own.

/// Data.
pub const DR: u64 = 0x00;
/// Receive status; a write clears the errors.
pub const RSR: u64 = 0x04;
/// Flags.
pub const FR: u64 = 0x18;
/// IrDA low-power counter.
pub const ILPR: u64 = 0x20;
/// Baud rate, integer part.
pub const IBRD: u64 = 0x24;
/// Baud rate, fraction.
pub const FBRD: u64 = 0x28;
/// Line control.
pub const LCR_H: u64 = 0x2c;
/// Control.
pub const CR: u64 = 0x30;
/// Interrupt FIFO levels.
pub const IFLS: u64 = 0x34;
/// Interrupt mask: set bits let through.
pub const IMSC: u64 = 0x38;
/// Raw interrupts.
pub const RIS: u64 = 0x3c;
/// Masked interrupts.
pub const MIS: u64 = 0x40;
/// Interrupt clear.
pub const ICR: u64 = 0x44;
/// DMA control.
pub const DMACR: u64 = 0x48;

/// `DR`: break.
pub const DR_BE: u32 = 1 << 10;
/// `DR`: overrun.
pub const DR_OE: u32 = 1 << 11;
/// `RSR`: overrun.
pub const RSR_OE: u32 = 1 << 3;

/// `FR`: the modem inputs CTS, DSR and DCD.
pub const FR_MODEM: u32 = 0b111;
/// `FR`: nothing received.
pub const FR_RXFE: u32 = 1 << 4;
/// `FR`: receive FIFO full.
pub const FR_RXFF: u32 = 1 << 6;
/// `FR`: transmit FIFO empty.
pub const FR_TXFE: u32 = 1 << 7;

/// `LCR_H`: send a break.
pub const LCR_H_BRK: u32 = 1 << 0;
/// `LCR_H`: FIFOs enabled.
pub const LCR_H_FEN: u32 = 1 << 4;

/// `CR`: loop back.
pub const CR_LBE: u32 = 1 << 7;
/// `CR` after reset: transmitter and receiver enabled, the UART not.
pub const CR_RESET: u32 = 0x300;
/// `IFLS` after reset: both half full.
pub const IFLS_RESET: u32 = 0x12;

/// Interrupt: received.
pub const INT_RX: u32 = 1 << 4;
/// Interrupt: room to transmit.
pub const INT_TX: u32 = 1 << 5;
/// Interrupt: overrun.
pub const INT_OE: u32 = 1 << 10;
/// All interrupts.
pub const INT_ALL: u32 = 0x7ff;

/// Depth of the FIFOs, r1p5.
pub const FIFO_DEPTH: usize = 32;
/// `UARTPeriphID0..3`: part 0x011, Arm, revision r1p5.
pub const PERIPH_ID: [u8; 4] = [0x11, 0x10, 0x34, 0x00];
