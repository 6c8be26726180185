//! Floating point, Advanced SIMD and cryptography.

/// A decoded instruction of these groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SimdInsn {}

pub(crate) fn decode(_raw: u32) -> Option<SimdInsn> {
    None
}
