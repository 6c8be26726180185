//! The decoder: 32 bits to [`Insn`], for every execution tier.
//!
//! [`decode`] is pure and total. It follows the top-level encoding tables of Arm ARM C4; whatever they leave unallocated
//! and whatever belongs to an extension that the CPU does not advertise is [`Insn::Undefined`]. It knows neither the
//! exception level nor any control register: traps and enables are checked at execution. An `Insn` says what an
//! instruction means, not how it is written: aliases are not told apart, offsets are in bytes, immediates are expanded.

mod branch;
mod data;
mod insn;
mod loadstore;
pub(crate) mod simd;
#[cfg(test)]
mod tests;

pub(crate) use data::bitmask;
pub(crate) use insn::*;

/// Decodes one instruction word (Arm ARM C4.1).
pub(crate) fn decode(raw: u32) -> Insn {
    let insn = match bits(raw, 28, 25) {
        0b1000 | 0b1001 => data::immediate(raw),
        0b1010 | 0b1011 => branch::decode(raw),
        0b0100 | 0b0110 | 0b1100 | 0b1110 => loadstore::decode(raw),
        0b0101 | 0b1101 => data::register(raw),
        0b0111 | 0b1111 => simd::decode(raw).map(Insn::Simd),
        _ => None,
    };
    insn.unwrap_or(Insn::Undefined)
}

/// Bits `high` down to `low` of `raw`.
const fn bits(raw: u32, high: u32, low: u32) -> u32 {
    raw << (31 - high) >> (31 - high + low)
}

/// Whether bit `at` of `raw` is set.
const fn bit(raw: u32, at: u32) -> bool {
    raw >> at & 1 != 0
}

/// Bits `high` down to `low` of `raw` as a signed number.
const fn signed(raw: u32, high: u32, low: u32) -> i32 {
    (raw << (31 - high)) as i32 >> (31 - high + low)
}

/// The register number whose lowest bit is `low`.
const fn reg(raw: u32, low: u32) -> Reg {
    (raw >> low & 31) as Reg
}
