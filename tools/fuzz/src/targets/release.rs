//! Release files.

use std::sync::OnceLock;

use tearless_image::{
    deb822,
    digest::Digest,
    release::{Keyring, Release},
};

/// Verifies a release file, which must fail for all that Debian did not sign, and reads its fields.
pub fn release(data: &[u8]) {
    static KEYS: OnceLock<Option<Keyring>> = OnceLock::new();
    if let Some(keys) = KEYS.get_or_init(|| Keyring::debian().ok()) {
        assert!(Release::verify(data, keys, "trixie").is_err(), "nobody but Debian has its key");
    }
    let Ok(text) = str::from_utf8(data) else { return };
    _ = Release::read_unverified(text).expired_for();
    _ = Keyring::parse(&[text]);
    for paragraph in deb822::paragraphs(text) {
        for (name, value) in paragraph.fields() {
            assert!(paragraph.get(name).is_some());
            _ = paragraph.lines(name).count();
            _ = Digest::parse(value.trim());
        }
    }
}
