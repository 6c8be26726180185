//! Decoding of floating point and Advanced SIMD (Arm ARM C4.1, "Data Processing -- Scalar Floating-Point and Advanced
//! SIMD"), and of the Advanced SIMD structure loads and stores.
//!
//! Scalar and vector forms share their opcode tables; a table entry says which element sizes each of them has.

mod insn;
mod memory;
mod scalar;
#[cfg(test)]
mod tests;
mod vector;

use super::{bit, bits, reg};

pub(crate) use insn::*;

/// Decodes an instruction word of the group, `None` when it is unallocated or of an extension that is not advertised.
pub(crate) fn decode(raw: u32) -> Option<SimdInsn> {
    match (bit(raw, 31), bit(raw, 30), bits(raw, 28, 24)) {
        (false, _, 0b01100 | 0b01101) if !bit(raw, 29) => memory::decode(raw),
        (false, _, 0b01110 | 0b01111) | (false, true, 0b11110 | 0b11111) => vector::decode(raw),
        (true, true, 0b01110) if !bit(raw, 29) => vector::crypto_four_registers(raw),
        (_, false, 0b11110 | 0b11111) if !bit(raw, 29) => scalar::decode(raw),
        _ => None,
    }
}
