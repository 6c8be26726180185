use pgp::composed::{ArmorOptions, KeyType, SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey};
use pgp::types::Password;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;

const TEXT: &str = "Origin: Debian\nSuite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\n\
    Valid-Until: Thu, 01 Jan 1970 00:00:10 UTC\nAcquire-By-Hash: yes\nMD5Sum:\n d41d8cd98f00b204e9800998ecf8427e 0 x\nSHA256:\n \
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-arm64/Packages\n\
    Description: ends in a dash\n -\n";

fn key(seed: u64) -> SignedSecretKey {
    SecretKeyParamsBuilder::default()
        .key_type(KeyType::Ed25519Legacy)
        .can_certify(true)
        .can_sign(true)
        .primary_user_id("Test <test@example.org>".into())
        .build()
        .unwrap()
        .generate(ChaCha8Rng::seed_from_u64(seed))
        .unwrap()
}

fn keyring(key: &SignedSecretKey) -> Keyring {
    let public = SignedPublicKey::from(key.clone()).to_armored_string(ArmorOptions::default()).unwrap();
    Keyring::parse(&[&public]).unwrap()
}

fn sign(text: &str, key: &SignedSecretKey) -> String {
    CleartextSignedMessage::sign(ChaCha8Rng::seed_from_u64(7), text, &key.primary_key, &Password::empty())
        .unwrap()
        .to_armored_string(ArmorOptions::default())
        .unwrap()
}

#[test]
fn debian_keys_are_usable() {
    assert_eq!(Keyring::debian().unwrap().keys.len(), DEBIAN_KEYS.len());
}

#[test]
fn a_good_signature_yields_the_content() {
    let key = key(1);
    let signed = sign(TEXT, &key);
    for suite in ["stable", "trixie"] {
        let release = Release::verify(signed.as_bytes(), &keyring(&key), suite).unwrap();
        assert_eq!((release.codename.as_str(), release.by_hash), ("trixie", true));
        assert_eq!(release.file("main/binary-arm64/Packages"), Some((Digest::of(b""), 0)));
        assert_eq!(release.file("x"), None, "MD5 digests do not count");
        assert!(release.expired_for().unwrap().as_secs() > 1_000_000_000);
    }
}

#[test]
fn anything_wrong_is_refused() {
    let (good, other) = (key(1), key(2));
    let signed = sign(TEXT, &good);
    let refused = |document: &str, keyring: &Keyring, suite: &str| {
        let error = Release::verify(document.as_bytes(), keyring, suite).unwrap_err();
        assert_eq!(error.kind(), Kind::Integrity);
        assert!(error.what().contains("InRelease"), "{error}");
        error
    };
    refused(&signed, &keyring(&other), "trixie");
    refused(&signed.replace("main/", "evil/"), &keyring(&good), "trixie");
    refused(&format!("Codename: trixie\n{signed}"), &keyring(&good), "trixie");
    refused(TEXT, &keyring(&good), "trixie");
    refused("", &keyring(&good), "trixie");
    assert!(refused(&signed, &keyring(&good), "forky").why().contains("that of trixie"));
}

#[test]
fn unsigned_text_around_the_signed_part_does_not_count() {
    let key = key(1);
    let signed = sign(TEXT, &key);
    let sneaked = signed.replacen("Origin: Debian", "Origin: Debian\nCodename: forky", 1);
    assert!(Release::verify(sneaked.as_bytes(), &keyring(&key), "forky").is_err());
    let trailing = format!("{signed}\nCodename: forky\n");
    assert!(Release::verify(trailing.as_bytes(), &keyring(&key), "forky").is_err());
}

#[test]
fn dates() {
    let at = |s| parse_date(s).map(|t| t.duration_since(UNIX_EPOCH).unwrap().as_secs());
    assert_eq!(at("Thu, 01 Jan 1970 00:00:10 UTC"), Some(10));
    assert_eq!(at("Sat, 12 Sep 2026 07:55:41 UTC"), Some(1_789_199_741));
    assert_eq!(at("Tue, 29 Feb 2028 00:00:00 UTC"), Some(1_835_395_200));
    for bad in [
        "",
        "Sat, 12 Sep 2026 07:55:41 CEST",
        "Sat, 12 Foo 2026 07:55:41 UTC",
        "Sat, 12 Sep 99999 07:55:41 UTC",
    ] {
        assert_eq!(at(bad), None, "{bad}");
    }
}
