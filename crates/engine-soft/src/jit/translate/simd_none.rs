//! Vector and floating-point instructions: none translated.

use super::Translator;
use crate::decode::simd::SimdInsn;

impl Translator<'_> {
    pub(super) fn simd(&mut self, _: &SimdInsn) -> bool {
        false
    }
}
