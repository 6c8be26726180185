//! The cryptographic instructions (Arm ARM C7.2, J1.3 "shared/functions/crypto") as functions of whole registers.
//!
//! Everything has a portable form; AES and the carry-less product use the host's instructions where it has them.

mod aes;
mod clmul;
mod host;
mod sha;
#[cfg(test)]
mod tests;

pub(crate) use aes::{decrypt, encrypt, inverse_mix_columns, mix_columns};
pub(crate) use clmul::carryless_product;
pub(crate) use sha::*;
