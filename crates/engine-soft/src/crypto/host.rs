//! The host's cryptographic instructions; the functions return `false` and do nothing where it has none.

#[cfg(target_arch = "x86_64")]
pub(super) use x86::*;

#[cfg(not(target_arch = "x86_64"))]
pub(super) use none::*;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::is_x86_feature_detected;
    use std::arch::x86_64::{
        __m128i, _mm_aesdeclast_si128, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aesimc_si128,
        _mm_clmulepi64_si128, _mm_cvtsi64_si128, _mm_setzero_si128,
    };

    /// Defines functions that need a feature of the host and work on a register in place, which spares it the way
    /// through general registers.
    macro_rules! functions {
        ($($feature:tt: $name:ident($state:ident $(, $arg:ident: $ty:ty)*) $body:expr;)*) => { $(
            #[inline]
            pub(in crate::crypto) fn $name(state: &mut u128 $(, $arg: $ty)*) -> bool {
                #[target_feature(enable = $feature)]
                fn with_feature(state: &mut u128 $(, $arg: $ty)*) {
                    let $state: __m128i = zerocopy::transmute!(*state);
                    *state = zerocopy::transmute!($body);
                }
                if !is_x86_feature_detected!($feature) {
                    return false;
                }
                // SAFETY: the only requirement of a safe function with a target feature is that the host has it.
                unsafe { with_feature(state $(, $arg)*) };
                true
            }
        )* };
    }

    functions! {
        "aes": aes_encrypt(x) _mm_aesenclast_si128(x, _mm_setzero_si128());
        "aes": aes_decrypt(x) _mm_aesdeclast_si128(x, _mm_setzero_si128());
        // The first undoes what a full round does before it mixes columns.
        "aes": aes_mix_columns(x)
            _mm_aesenc_si128(_mm_aesdeclast_si128(x, _mm_setzero_si128()), _mm_setzero_si128());
        "aes": aes_inverse_mix_columns(x) _mm_aesimc_si128(x);
        "pclmulqdq": carryless_product(_x, a: u64, b: u64)
            _mm_clmulepi64_si128::<0>(_mm_cvtsi64_si128(a as i64), _mm_cvtsi64_si128(b as i64));
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod none {
    pub(in crate::crypto) fn aes_encrypt(_: &mut u128) -> bool {
        false
    }
    pub(in crate::crypto) fn aes_decrypt(_: &mut u128) -> bool {
        false
    }
    pub(in crate::crypto) fn aes_mix_columns(_: &mut u128) -> bool {
        false
    }
    pub(in crate::crypto) fn aes_inverse_mix_columns(_: &mut u128) -> bool {
        false
    }
    pub(in crate::crypto) fn carryless_product(_: &mut u128, _: u64, _: u64) -> bool {
        false
    }
}
