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

fn ecid(foreign: &Foreign) -> Option<u64> {
    match &foreign.guest {
        Guest::Mac { platform, .. } => Some(platform.identifier.ecid()),
        _ => None,
    }
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
        assert_eq!(ecid(&foreign), Some(78));
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

/// A folder as Tart leaves it; `more` is what its description says besides.
fn tart(more: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        r#"{{"version": 1, "cpuCountMin": 2, "cpuCount": 3, "memorySizeMin": 4294967296, "memorySize": 6442450944,
        "macAddress": "52:54:00:12:34:56", "display": {{"width": 1920, "height": 1200}}, {more}}}"#
    );
    fs::write(dir.path().join("config.json"), text).unwrap();
    fs::write(dir.path().join("disk.img"), [9; 8192]).unwrap();
    fs::write(dir.path().join("nvram.bin"), mac::storage(0x6c800, &[77])).unwrap();
    dir
}

fn tart_mac() -> tempfile::TempDir {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let encode = |data: &[u8]| BASE64_STANDARD.encode(data);
    let ecid = encode(MachineIdentifier::from_ecid(77).data());
    tart(&format!(r#""os": "darwin", "ecid": "{ecid}", "hardwareModel": "{}""#, encode(mac::model().data())))
}

#[test]
fn macs_of_tart_are_taken_over_and_described_again() {
    let (dir, home) = (tart_mac(), tempfile::tempdir().unwrap());
    let foreign = Foreign::inspect(dir.path()).unwrap();
    assert_eq!((foreign.program, ecid(&foreign)), ("Tart", Some(77)));
    let bundle = foreign.adopt(&Store::at(home.path()), "t", |_| {}).unwrap();
    let config = bundle.config().unwrap();
    assert_eq!((config.cpus, config.memory, config.display.mode.width), (3, ByteSize::gib(6), 1920));
    assert_eq!(config.network.mac.unwrap().to_string(), "52:54:00:12:34:56");
    assert!(
        fs::read(bundle.path().join(AUXILIARY_FILE)).unwrap()
            == fs::read(dir.path().join("nvram.bin")).unwrap()
    );
    let text = tart::describe(&config, Some(&bundle.platform().unwrap()), config.network.mac.unwrap());
    let again =
        Foreign::tart(&text, bundle.path().join(DISK_FILE), bundle.path().join(AUXILIARY_FILE)).unwrap();
    assert_eq!(again.config(), config);
    assert_eq!(ecid(&again), Some(77));
}

#[test]
fn linux_of_tart_boots_through_efi() {
    let (dir, home) =
        (tart(r#""os": "linux", "arch": "arm64", "diskFormat": "raw""#), tempfile::tempdir().unwrap());
    let foreign = Foreign::inspect(dir.path()).unwrap();
    let bundle = foreign.adopt(&Store::at(home.path()), "t", |_| {}).unwrap();
    let config = bundle.config().unwrap();
    assert_eq!(config.boot, BootConfig::efi(VARIABLES_FILE));
    assert!(foreign.notes.iter().any(|note| note.contains("variables")), "{:?}", foreign.notes);
    assert!(
        bundle.path().join(APPLE_VARIABLES_FILE).exists() && !bundle.path().join(VARIABLES_FILE).exists()
    );
}

#[test]
fn what_tart_has_and_we_cannot_is_refused() {
    for (more, hint) in [
        (r#""os": "linux", "arch": "amd64""#, "x86"),
        (r#""os": "linux", "diskFormat": "asif""#, "asif"),
        (r#""os": "solaris""#, "solaris"),
        (r#""os": "darwin""#, "hardwareModel"),
        (r#""os": "darwin", "hardwareModel": "!""#, "hardwareModel"),
    ] {
        let text = Foreign::inspect(tart(more).path()).unwrap_err().to_string();
        assert!(text.contains(hint) && text.contains("try"), "{text}");
    }
}
