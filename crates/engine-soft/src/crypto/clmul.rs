//! PMULL of doublewords.

use super::host;

/// The product of two polynomials over {0, 1}.
#[inline]
pub(crate) fn carryless_product(product: &mut u128, a: u64, b: u64) {
    if !host::carryless_product(product, a, b) {
        *product = soft_product(a, b);
    }
}

pub(super) fn soft_product(a: u64, b: u64) -> u128 {
    (0..64).fold(0, |product, bit| product ^ if b >> bit & 1 != 0 { u128::from(a) << bit } else { 0 })
}
