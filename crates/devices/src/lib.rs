//! Platform devices: the interrupt controller (GICv3 with ITS), serial port (PL011), clock (PL031) and GPIO (PL061);
//! and what firmware wants besides: a flash for its variables and what it is told (`fw_cfg`).
//!
//! Every device here is a core of plain state that knows registers and nothing else, and a thin shell that locks it,
//! takes MMIO accesses and drives its outputs. Offsets and bit fields are in the device's `spec` module, for the GIC in
//! [`tearless_arm64::gic`], because the engines need part of them.
#![forbid(unsafe_code)]

pub mod fw_cfg;
pub mod gic;
pub mod pflash;
pub mod pl011;
pub mod pl031;
pub mod pl061;

mod access;
#[cfg(test)]
mod noise;
