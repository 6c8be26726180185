//! The signed head of an archive: `dists/SUITE/InRelease`, its OpenPGP signature, and the digests it vouches for.
//!
//! Trust: the file must carry at least one good signature by one of Debian's archive keys in `keys/` (or by a key the
//! caller adds). Everything else is then verified by digest, so mirrors and transports need not be trusted.
//! `Valid-Until` only warns: a frozen mirror or a wrong host clock must not stop a first boot, and the guest's own apt,
//! which has the network time, checks it again. Key expiry is not enforced for the same reason.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;

use crate::deb822;
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};

/// Debian's archive keys: every release, its security archive and its stable releases sign with one of them.
const DEBIAN_KEYS: [&str; 6] = [
    include_str!("../keys/bookworm-automatic.asc"),
    include_str!("../keys/bookworm-security-automatic.asc"),
    include_str!("../keys/bookworm-stable.asc"),
    include_str!("../keys/trixie-automatic.asc"),
    include_str!("../keys/trixie-security-automatic.asc"),
    include_str!("../keys/trixie-stable.asc"),
];

/// The keys that may sign a release.
#[derive(Debug)]
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
}

impl Keyring {
    /// Debian's archive keys.
    ///
    /// # Errors
    /// A key does not parse; a test excludes that for the built-in ones.
    pub fn debian() -> Result<Self> {
        Self::parse(&DEBIAN_KEYS)
    }

    /// Keys from ASCII-armoured text.
    ///
    /// # Errors
    /// Not an armoured OpenPGP public key, or its own signatures are wrong.
    pub fn parse(armoured: &[&str]) -> Result<Self> {
        let keys = armoured.iter().map(|text| {
            let (key, _) = SignedPublicKey::from_string(text)?;
            key.verify_bindings()?;
            Ok(key)
        });
        let keys = keys.collect::<Result<_, pgp::errors::Error>>();
        keys.map(|keys| Self { keys }).map_err(|e| {
            Error::new(
                Kind::Integrity,
                "an archive key cannot be used",
                e,
                "give an ASCII-armoured OpenPGP public key",
            )
        })
    }

    /// The signed text of a clear-signed document.
    fn verify(&self, document: &str) -> Result<String, String> {
        let (message, _) = CleartextSignedMessage::from_string(document)
            .map_err(|e| format!("it is no signed document: {e}"))?;
        let text = message.signed_text();
        let strong =
            |hash| matches!(hash, HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512);
        for signature in message.signatures().iter().filter(|s| s.hash_alg().is_some_and(strong)) {
            for key in &self.keys {
                let good = signature.verify(key, text.as_bytes()).is_ok()
                    || key.public_subkeys.iter().any(|sub| signature.verify(sub, text.as_bytes()).is_ok());
                if good {
                    return Ok(text);
                }
            }
        }
        Err("no signature in it is a good one by a known Debian archive key".to_owned())
    }
}

/// A verified release file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// `stable`, `testing`, ...
    pub suite: String,
    /// `trixie`, `forky`, ...
    pub codename: String,
    /// When it was made.
    pub date: Option<SystemTime>,
    /// Until when the archive vouches for it.
    pub valid_until: Option<SystemTime>,
    /// Whether index files can be had by digest, which is safe while the mirror is being updated.
    pub by_hash: bool,
    files: HashMap<String, (Digest, u64)>,
}

impl Release {
    /// Verifies and reads an `InRelease` file that should be that of `suite` (a suite or a code name).
    ///
    /// # Errors
    /// [`Kind::Integrity`] when the signature is wrong or it is the release file of another suite.
    pub fn verify(document: &[u8], keyring: &Keyring, suite: &str) -> Result<Self> {
        let refuse = |why: String| {
            Error::new(
                Kind::Integrity,
                format!("refused the release file dists/{suite}/InRelease"),
                why,
                "something between the archive and you changes files, or the mirror is not Debian's; \
                 choose another one with --mirror URL",
            )
        };
        let document = str::from_utf8(document).map_err(|e| refuse(format!("it is no text: {e}")))?;
        let release = Self::parse(&keyring.verify(document).map_err(refuse)?);
        if release.suite != suite && release.codename != suite {
            return Err(refuse(format!("it is that of {} ({})", release.codename, release.suite)));
        }
        Ok(release)
    }

    /// What a release file says when nobody vouches for it. For the fuzz target of the parser, and for nothing else.
    #[doc(hidden)]
    pub fn read_unverified(text: &str) -> Self {
        Self::parse(text)
    }

    fn parse(text: &str) -> Self {
        let head = deb822::paragraphs(text).next().unwrap_or_default();
        let text = |name| head.get(name).unwrap_or_default().to_owned();
        let files = head.lines("SHA256").filter_map(|line| {
            let mut words = line.split_whitespace();
            let (digest, size, path) = (words.next()?, words.next()?, words.next()?);
            Some((path.to_owned(), (Digest::parse(digest)?, size.parse().ok()?)))
        });
        Self {
            suite: text("Suite"),
            codename: text("Codename"),
            date: head.get("Date").and_then(parse_date),
            valid_until: head.get("Valid-Until").and_then(parse_date),
            by_hash: head.get("Acquire-By-Hash") == Some("yes"),
            files: files.collect(),
        }
    }

    /// Digest and size of an index file, for example `main/binary-arm64/Packages.xz`.
    pub fn file(&self, path: &str) -> Option<(Digest, u64)> {
        self.files.get(path).copied()
    }

    /// How long ago the archive stopped vouching for this file, if it did.
    pub fn expired_for(&self) -> Option<Duration> {
        SystemTime::now().duration_since(self.valid_until?).ok()
    }
}

/// Parses the date of a release file, always like `Sat, 12 Sep 2026 07:55:41 UTC`.
fn parse_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "UTC" | "GMT" | "+0000"] = words[..] else { return None };
    let month = MONTHS.iter().position(|m| *m == month)? as u64 + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let clock: Vec<u64> = time.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [hours, minutes, seconds] = clock[..] else { return None };
    if !(1970..=9999).contains(&year)
        || !(1..=31).contains(&day)
        || hours > 23
        || minutes > 59
        || seconds > 60
    {
        return None;
    }
    let days = days_since_epoch(year, month, day);
    UNIX_EPOCH.checked_add(Duration::from_secs(((days * 24 + hours) * 60 + minutes) * 60 + seconds))
}

/// Days from 1970-01-01 in the Gregorian calendar; years start in March so that leap days come last.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    days - 719_468
}

#[cfg(test)]
mod tests;
