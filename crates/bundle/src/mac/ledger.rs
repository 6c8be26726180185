//! Who runs macOS here: at most two guests at a time, and never the same virtual Mac twice.
//!
//! The folder `.macos` of the store has a file per slot and per identity; who runs a guest holds locks on one of each, and
//! they go with its process. The files say whose they are, for the message to others.

use std::{
    fs::{self, File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
};

use crate::{
    Error, Result, Store,
    files::{failed, open_lock_file},
};

/// Apple's licence, and the kernel of macOS, allow so many.
const SLOTS: u32 = 2;
const FOLDER: &str = ".macos";
const LICENCE_FILE: &str = "licence-shown";

/// The right to run one macOS guest, until this is dropped.
#[derive(Debug)]
pub struct Claim {
    _identity: File,
    _slot: File,
}

impl Store {
    /// Takes a slot for the macOS guest `name` with this ECID.
    ///
    /// # Errors
    /// [`Error::SameMac`] when that virtual Mac runs already, [`Error::MacLimit`] when two others do; both name them.
    pub fn claim_mac(&self, name: &str, ecid: u64) -> Result<Claim> {
        let folder = self.path().join(FOLDER);
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        let take = |file: &str| {
            let path = folder.join(file);
            take(open_lock_file(&path)?, name).map_err(failed("lock", &path))
        };
        let identity = match take(&format!("ecid-{ecid:016x}"))? {
            Ok(file) => file,
            Err(other) => return Err(Error::SameMac { name: name.into(), other }),
        };
        let mut holders = Vec::new();
        for slot in 1..=SLOTS {
            match take(&format!("slot-{slot}"))? {
                Ok(slot) => return Ok(Claim { _identity: identity, _slot: slot }),
                Err(holder) => holders.push(holder),
            }
        }
        Err(Error::MacLimit { name: name.into(), holders: holders.join(" and ") })
    }

    /// Whether the terms of macOS have to be shown still; from now on they have been.
    ///
    /// # Errors
    /// What the host says.
    pub fn show_licence(&self) -> Result<bool> {
        let folder = self.path().join(FOLDER);
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        let path = folder.join(LICENCE_FILE);
        match File::create_new(&path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(failed("write", &path)(e)),
        }
    }
}

/// Locks `file` and writes into it for whom; or says who holds it.
fn take(mut file: File, name: &str) -> std::io::Result<Result<File, String>> {
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            write!(file, "{name} (pid {})", std::process::id())?;
            Ok(Ok(file))
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.rewind()?;
            // Between the lock and the name there is a moment.
            let known = file.take(400).read_to_string(&mut holder).is_ok_and(|read| read > 0);
            Ok(Err(if known { holder } else { "a VM that just starts".into() }))
        }
        Err(TryLockError::Error(e)) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_run_and_the_third_is_told_which() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path());
        let one = store.claim_mac("one", 1).unwrap();
        let _two = store.claim_mac("two", 2).unwrap();
        let text = store.claim_mac("three", 3).unwrap_err().to_string();
        assert!(text.contains("three") && text.contains("one (pid ") && text.contains("two (pid "), "{text}");
        drop(one);
        let _three = store.claim_mac("three", 3).unwrap();
        assert!(store.claim_mac("four", 4).unwrap_err().to_string().contains("three (pid "));
    }

    #[test]
    fn one_identity_runs_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path());
        let claim = store.claim_mac("original", 7).unwrap();
        let text = store.claim_mac("clone", 7).unwrap_err().to_string();
        assert!(text.contains("same virtual Mac as original (pid "), "{text}");
        drop(claim);
        let _again = store.claim_mac("clone", 7).unwrap();
        assert!(store.claim_mac("other", 8).is_ok(), "what was refused holds no slot");
    }

    #[test]
    fn terms_are_shown_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("new"));
        assert!(store.show_licence().unwrap());
        assert!(!store.show_licence().unwrap());
        assert!(store.list().unwrap().is_empty(), "the ledger is no VM");
    }
}
