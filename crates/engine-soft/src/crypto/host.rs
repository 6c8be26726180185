//! The host's cryptographic instructions; `None` where it has none.

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
        _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_setzero_si128, _mm_unpackhi_epi64,
    };

    #[target_feature(enable = "sse2")]
    fn load(value: u128) -> __m128i {
        _mm_set_epi64x((value >> 64) as i64, value as i64)
    }

    #[target_feature(enable = "sse2")]
    fn store(value: __m128i) -> u128 {
        let (low, high) = (_mm_cvtsi128_si64(value), _mm_cvtsi128_si64(_mm_unpackhi_epi64(value, value)));
        u128::from(high as u64) << 64 | u128::from(low as u64)
    }

    /// Defines functions of a register that need a feature of the host.
    macro_rules! functions {
        ($($feature:tt: $name:ident($($arg:ident: $ty:ty),*) $body:block)*) => { $(
            #[inline]
            pub(in crate::crypto) fn $name($($arg: $ty),*) -> Option<u128> {
                #[target_feature(enable = $feature)]
                fn with_feature($($arg: $ty),*) -> u128 {
                    store($body)
                }
                // SAFETY: the only requirement of a safe function with a target feature is that the host has it.
                is_x86_feature_detected!($feature).then(|| unsafe { with_feature($($arg),*) })
            }
        )* };
    }

    functions! {
        "aes": aes_encrypt(state: u128) { _mm_aesenclast_si128(load(state), _mm_setzero_si128()) }
        "aes": aes_decrypt(state: u128) { _mm_aesdeclast_si128(load(state), _mm_setzero_si128()) }
        "aes": aes_mix_columns(state: u128) {
            // The first undoes what a full round does before it mixes columns.
            _mm_aesenc_si128(_mm_aesdeclast_si128(load(state), _mm_setzero_si128()), _mm_setzero_si128())
        }
        "aes": aes_inverse_mix_columns(state: u128) { _mm_aesimc_si128(load(state)) }
        "pclmulqdq": carryless_product(a: u64, b: u64) { _mm_clmulepi64_si128::<0>(load(a.into()), load(b.into())) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod none {
    pub(in crate::crypto) fn aes_encrypt(_: u128) -> Option<u128> {
        None
    }
    pub(in crate::crypto) fn aes_decrypt(_: u128) -> Option<u128> {
        None
    }
    pub(in crate::crypto) fn aes_mix_columns(_: u128) -> Option<u128> {
        None
    }
    pub(in crate::crypto) fn aes_inverse_mix_columns(_: u128) -> Option<u128> {
        None
    }
    pub(in crate::crypto) fn carryless_product(_: u64, _: u64) -> Option<u128> {
        None
    }
}
