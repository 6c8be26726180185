//! The cryptography behind https: rustls over graviola, which needs no C compiler, with the system's root certificates.

use std::sync::Arc;

use ureq::tls::{RootCerts, TlsConfig};

use crate::error::{Error, Kind, Result};

/// The TLS set-up of the HTTP client.
pub(crate) fn config() -> TlsConfig {
    TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls_graviola::default_provider()))
        .root_certs(RootCerts::PlatformVerifier)
        .build()
}

/// Whether this CPU can do https at all.
pub(crate) fn is_supported() -> bool {
    cpu::is_supported()
}

/// Refuses https on CPUs that graviola does not support (it would panic).
pub(crate) fn check(url: &str) -> Result<()> {
    if !url.starts_with("https://") || is_supported() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Request,
        format!("cannot fetch {url}"),
        "this CPU lacks instructions that the built-in TLS needs",
        "use the http:// address of the mirror; all files are verified by Debian's signature all the same",
    ))
}

#[cfg(target_arch = "x86_64")]
mod cpu {
    pub(super) fn is_supported() -> bool {
        is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("adx")
            && is_x86_feature_detected!("avx2")
    }
}

#[cfg(target_arch = "aarch64")]
mod cpu {
    use std::arch::is_aarch64_feature_detected;

    pub(super) fn is_supported() -> bool {
        is_aarch64_feature_detected!("aes")
            && is_aarch64_feature_detected!("sha2")
            && is_aarch64_feature_detected!("pmull")
            && is_aarch64_feature_detected!("neon")
    }
}
