//! Contracts between the machine and its devices.
//!
//! A device implements [`MmioDevice`], owns [`IrqLine`]s or an [`MsiSink`], and moves characters through [`CharSink`]
//! and [`CharInput`]. It learns neither its address nor its interrupt number: the machine wires both. This crate holds
//! no device.

mod chr;
mod irq;
mod mmio;

pub use chr::{CharInput, CharSink};
pub use irq::{CpuWake, IrqLine, IrqSink, Msi, MsiSink};
pub use mmio::{AccessError, MmioBus, MmioDevice, Overlap};
