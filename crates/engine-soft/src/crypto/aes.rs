//! AES: the halves of a round that AESE, AESD, AESMC and AESIMC do.

use super::host;

/// A product by x in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1.
const fn double(a: u8) -> u8 {
    a << 1 ^ if a & 0x80 != 0 { 0x1b } else { 0 }
}

/// A product in that field.
const fn multiply(a: u8, b: u8) -> u8 {
    let (mut product, mut power, mut bit) = (0, a, 0);
    while bit < 8 {
        if b >> bit & 1 != 0 {
            product ^= power;
        }
        power = double(power);
        bit += 1;
    }
    product
}

/// The S-box: the inverse in the field, then an affine map (FIPS 197, 5.1.1).
const SBOX: [u8; 256] = {
    let mut table = [0; 256];
    // 3 generates the multiplicative group, and 0xf6 is its inverse.
    let (mut a, mut inverse, mut count) = (1u8, 1u8, 0);
    while count < 255 {
        let b = inverse;
        table[a as usize] =
            b ^ b.rotate_left(1) ^ b.rotate_left(2) ^ b.rotate_left(3) ^ b.rotate_left(4) ^ 0x63;
        a = multiply(a, 3);
        inverse = multiply(inverse, 0xf6);
        count += 1;
    }
    table[0] = 0x63;
    table
};

const INVERSE_SBOX: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[SBOX[i] as usize] = i as u8;
        i += 1;
    }
    table
};

/// AESE without the key addition: `ShiftRows`, `SubBytes`.
#[inline]
pub(crate) fn encrypt(state: &mut u128) {
    if !host::aes_encrypt(state) {
        *state = soft_encrypt(*state);
    }
}

/// AESD without the key addition: `InvShiftRows`, `InvSubBytes`.
#[inline]
pub(crate) fn decrypt(state: &mut u128) {
    if !host::aes_decrypt(state) {
        *state = soft_decrypt(*state);
    }
}

/// AESMC.
#[inline]
pub(crate) fn mix_columns(state: &mut u128) {
    if !host::aes_mix_columns(state) {
        *state = soft_mix(*state, [2, 3, 1, 1]);
    }
}

/// AESIMC.
#[inline]
pub(crate) fn inverse_mix_columns(state: &mut u128) {
    if !host::aes_inverse_mix_columns(state) {
        *state = soft_mix(*state, [14, 11, 13, 9]);
    }
}

pub(super) fn soft_encrypt(state: u128) -> u128 {
    let from = state.to_le_bytes();
    u128::from_le_bytes(std::array::from_fn(|i| SBOX[usize::from(from[(i + 4 * (i % 4)) % 16])]))
}

pub(super) fn soft_decrypt(state: u128) -> u128 {
    let from = state.to_le_bytes();
    u128::from_le_bytes(std::array::from_fn(|i| INVERSE_SBOX[usize::from(from[(i + 12 * (i % 4)) % 16])]))
}

/// Multiplies each column by the circulant matrix with this first row.
pub(super) fn soft_mix(state: u128, row: [u8; 4]) -> u128 {
    let from = state.to_le_bytes();
    u128::from_le_bytes(std::array::from_fn(|i| {
        let column = &from[i & !3..][..4];
        (0..4).fold(0, |sum, j| sum ^ multiply(column[(i + j) % 4], row[j]))
    }))
}
