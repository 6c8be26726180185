//! PMULL of doublewords.

use super::host;

/// The product of two polynomials over {0, 1}.
pub(crate) fn carryless_product(a: u64, b: u64) -> u128 {
    host::carryless_product(a, b).unwrap_or_else(|| soft_product(a, b))
}

pub(super) fn soft_product(a: u64, b: u64) -> u128 {
    (0..64).fold(0, |product, bit| product ^ if b >> bit & 1 != 0 { u128::from(a) << bit } else { 0 })
}
