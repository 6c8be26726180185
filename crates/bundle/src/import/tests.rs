use std::fs;

use super::*;
use crate::mac::{IDENTIFIER_FILE, MODEL_FILE, tests as mac};

/// A folder as Apple's sample leaves it.
fn sample(ecid: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, data: &[u8]| fs::write(dir.path().join(name), data).unwrap();
    write(DISK_FILE, &[5; 8192]);
    write(AUXILIARY_FILE, &mac::storage(0x6c800, &[ecid]));
    write(MODEL_FILE, mac::model().data());
    write(IDENTIFIER_FILE, MachineIdentifier::from_ecid(ecid).data());
    dir
}

#[test]
fn the_sample_of_apple_is_taken_over_with_its_identity() {
    let (dir, home) = (sample(77), tempfile::tempdir().unwrap());
    let store = Store::at(home.path());
    let foreign = Foreign::inspect(dir.path()).unwrap();
    assert!(foreign.program.contains("Viable") && foreign.notes.is_empty());
    let bundle = foreign.adopt(&store, "mac", |c| c.cpus = 3).unwrap();
    for name in [DISK_FILE, AUXILIARY_FILE, MODEL_FILE, IDENTIFIER_FILE] {
        let [from, to] = [dir.path(), bundle.path()].map(|folder| fs::read(folder.join(name)).unwrap());
        assert_eq!(from, to, "{name}");
    }
    let config = bundle.config().unwrap();
    assert_eq!((config.cpus, config.memory), (3, MAC_MEMORY));
    assert!(config.boot.is_mac());
    assert!(matches!(foreign.adopt(&store, "mac", |_| {}), Err(Error::Exists { .. })));
}

#[test]
fn a_lost_identifier_is_found_again() {
    let dir = sample(78);
    for damage in [None, Some("rubbish")] {
        let path = dir.path().join(IDENTIFIER_FILE);
        match damage {
            None => fs::remove_file(path).unwrap(),
            Some(text) => fs::write(path, text).unwrap(),
        }
        let foreign = Foreign::inspect(dir.path()).unwrap();
        assert_eq!(foreign.platform.identifier.ecid(), 78);
        assert!(foreign.notes[0].contains("recovered"), "{:?}", foreign.notes);
    }
    fs::write(dir.path().join(AUXILIARY_FILE), [0; 100]).unwrap();
    assert!(matches!(Foreign::inspect(dir.path()), Err(Error::Platform { .. })));
}

#[test]
fn what_is_no_vm_is_refused() {
    let dir = sample(1);
    fs::remove_file(dir.path().join(MODEL_FILE)).unwrap();
    for path in [dir.path(), &dir.path().join("none")] {
        let text = Foreign::inspect(path).unwrap_err().to_string();
        assert!(text.contains("because") && text.contains("try"), "{text}");
    }
}
