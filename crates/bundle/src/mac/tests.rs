use std::{fs, path::PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use proptest::prelude::*;
use tearless_config::{ByteSize, DiskConfig, VmConfig};

use super::*;
use crate::{Store, tests::names};

/// What macOS hosts have written: an identifier each, below and from 2^63 on, and models of both forms.
const SMALL: &str = "YnBsaXN0MDDRAQJURUNJRBMcS7NwwIaUuwgLEAAAAAAAAAEBAAAAAAAAAAMAAAAAAAAAAAAAAAAAAAAZ";
const LARGE: &str =
    "YnBsaXN0MDDRAQJURUNJRBQAAAAAAAAAAJzeRwpdz1o1CAsQAAAAAAAAAQEAAAAAAAAAAwAAAAAAAAAAAAAAAAAAACE=";
const MODELS: [&str; 2] = [
    "YnBsaXN0MDDTAQIDBAUGXxAZRGF0YVJlcHJlc2VudGF0aW9uVmVyc2lvbl8QD1BsYXRmb3JtVmVyc2lvbl8QEk1pbmltdW1TdXBwb3J0\
     ZWRPUxQAAAAAAAAAAAAAAAAAAAABEAKjBwgIEA0QAAgPKz1SY2VpawAAAAAAAAEBAAAAAAAAAAkAAAAAAAAAAAAAAAAAAABt",
    "YnBsaXN0MDDTAQIDBAQFXxAZRGF0YVJlcHJlc2VudGF0aW9uVmVyc2lvbl8QD1BsYXRmb3JtVmVyc2lvbl8QEk1pbmltdW1TdXBwb3J0\
     ZWRPUxACowYHBxANEAAIDys9UlRYWgAAAAAAAAEBAAAAAAAAAAgAAAAAAAAAAAAAAAAAAABc",
];

fn decode(text: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text).unwrap()
}

pub(crate) fn model() -> HardwareModel {
    HardwareModel::from_data(&decode(MODELS[1])).unwrap()
}

/// What an auxiliary storage has of `ecid`, at `at`.
pub(crate) fn storage(at: usize, ecids: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0xa5; at];
    for ecid in ecids {
        bytes.extend(b"0\x10\x16\x04ECID\x02\x08");
        bytes.extend(ecid.to_be_bytes());
        bytes.extend([0; 100]);
    }
    bytes
}

/// A store with the virtual Mac `mac`.
fn store_with_mac(ecid: u64) -> (tempfile::TempDir, Store, Bundle) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().join("vms"));
    let new = store.create("mac").unwrap();
    fs::write(new.path().join("Disk.img"), vec![1; 4096]).unwrap();
    fs::write(new.path().join(AUXILIARY_FILE), storage(0x6c800, &[ecid])).unwrap();
    Platform { identifier: MachineIdentifier::from_ecid(ecid), model: model() }.write(new.path()).unwrap();
    let auxiliary = AUXILIARY_FILE.into();
    let mut config = VmConfig::new(BootConfig::MacOs { auxiliary, version: None, build: None });
    config.memory = ByteSize::gib(4);
    config.disks.push(DiskConfig::new("Disk.img"));
    let bundle = new.finish(&config).unwrap();
    (dir, store, bundle)
}

fn auxiliary_of(bundle: &Bundle) -> PathBuf {
    match bundle.config().unwrap().boot {
        BootConfig::MacOs { auxiliary, .. } => bundle.path().join(auxiliary),
        other => panic!("{other:?}"),
    }
}

#[test]
fn identifiers_are_those_that_the_framework_writes() {
    for (text, ecid, len) in [(SMALL, 0x1c4b_b370_c086_94bb, 60), (LARGE, 0x9cde_470a_5dcf_5a35, 68)] {
        let data = decode(text);
        let read = MachineIdentifier::from_data(&data).unwrap();
        assert_eq!((read.ecid(), data.len()), (ecid, len));
        assert_eq!(MachineIdentifier::from_ecid(ecid).data(), data);
    }
    let identifier = MachineIdentifier::from_ecid(0x1c4b_b370_c086_94bb);
    assert_eq!(identifier.udid(), "0000FE00-1C4BB370C08694BB");
    assert_ne!(MachineIdentifier::random().unwrap(), MachineIdentifier::random().unwrap());
}

#[test]
fn models_are_kept_as_they_came() {
    for text in MODELS {
        let data = decode(text);
        let model = HardwareModel::from_data(&data).unwrap();
        assert_eq!((model.data(), model.platform()), (&*data, 2));
        assert_eq!(model.minimum_host(), "13.0.0");
    }
    assert!(HardwareModel::from_data(&decode(SMALL)).unwrap_err().contains("PlatformVersion"));
    assert!(MachineIdentifier::from_data(&decode(MODELS[0])).unwrap_err().contains("ECID"));
}

proptest! {
    #[test]
    fn any_ecid_reads_back(ecid: u64) {
        let written = MachineIdentifier::from_ecid(ecid);
        prop_assert_eq!(written.data().len(), if ecid < 1 << 63 { 60 } else { 68 });
        prop_assert_eq!(&MachineIdentifier::from_data(written.data()).unwrap(), &written);
        prop_assert_eq!(written.udid().len(), 25);
    }

    #[test]
    fn damaged_property_lists_are_refused_or_read(cut in 0usize..68, at in 0usize..68, with: u8) {
        let mut data = decode(LARGE);
        data[at] = with;
        _ = MachineIdentifier::from_data(&data);
        _ = HardwareModel::from_data(&data);
        prop_assert!(MachineIdentifier::from_data(&decode(LARGE)[..cut]).is_err());
    }

    #[test]
    fn a_lost_ecid_is_found_wherever_it_is(at in 0usize..200_000, ecid: u64) {
        prop_assert_eq!(ecids(&*storage(at, &[ecid, ecid])).unwrap(), [ecid]);
    }
}

#[test]
fn ecids_of_other_lengths_are_read_and_nonsense_is_not() {
    let with = |tail: &[u8]| ecids(&*[b"\x04ECID\x02", tail].concat()).unwrap();
    assert_eq!(with(&[2, 1, 2]), [0x102]);
    assert_eq!(with(&[9, 0, 0xff, 2, 3, 4, 5, 6, 7, 8]), [0xff02_0304_0506_0708]);
    for nonsense in [&[][..], &[0], &[8, 1], &[9, 1, 2, 3, 4, 5, 6, 7, 8, 9], &[200; 300]] {
        assert!(with(nonsense).is_empty(), "{nonsense:?}");
    }
}

#[test]
fn a_lost_identifier_is_recovered() {
    let ecid = u64::MAX - 5;
    let (_dir, _, bundle) = store_with_mac(ecid);
    let before = bundle.platform().unwrap();
    assert_eq!(before.identifier.ecid(), ecid);
    fs::remove_file(bundle.path().join(IDENTIFIER_FILE)).unwrap();
    assert!(bundle.platform().unwrap_err().to_string().contains("--ecid recover"));
    bundle.set_identifier(&bundle.recover_identifier().unwrap()).unwrap();
    assert_eq!(bundle.platform().unwrap(), before);

    fs::write(auxiliary_of(&bundle), storage(5, &[1, 2])).unwrap();
    assert!(bundle.recover_identifier().unwrap_err().to_string().contains("0x1, 0x2"));
    fs::write(auxiliary_of(&bundle), storage(5, &[])).unwrap();
    assert!(bundle.recover_identifier().unwrap_err().to_string().contains("no ECID"));
}

#[test]
fn a_damaged_platform_says_which_file() {
    let (_dir, _, bundle) = store_with_mac(7);
    for file in [IDENTIFIER_FILE, MODEL_FILE] {
        let path = bundle.path().join(file);
        let good = fs::read(&path).unwrap();
        fs::write(&path, "<plist>").unwrap();
        let text = bundle.platform().unwrap_err().to_string();
        assert!(text.contains(file) && text.contains("property list"), "{text}");
        fs::write(&path, good).unwrap();
    }
    assert!(bundle.platform().is_ok());
}

#[test]
fn clones_keep_or_change_the_identity_and_have_their_own_storage() {
    let (_dir, store, bundle) = store_with_mac(7);
    let keep = bundle.clone_to(&store, "keep", None, |_| {}).unwrap();
    let other = MachineIdentifier::from_ecid(8);
    let new = bundle.clone_to(&store, "new", Some(&other), |_| {}).unwrap();
    assert_eq!(names(&store), ["keep", "mac", "new"]);
    assert_eq!(keep.platform().unwrap(), bundle.platform().unwrap());
    assert_eq!(new.platform().unwrap().identifier, other);
    for clone in [&keep, &new] {
        assert_eq!(fs::read(auxiliary_of(clone)).unwrap(), fs::read(auxiliary_of(&bundle)).unwrap());
        let disk = &clone.config().unwrap().disks[0];
        // The framework reads no other format.
        assert_eq!(disk.format, None);
        assert_eq!(fs::read(clone.path().join(&disk.path)).unwrap(), vec![1; 4096]);
    }
    fs::write(auxiliary_of(&keep), "changed").unwrap();
    assert_eq!(bundle.recover_identifier().unwrap().ecid(), 7);
}

#[test]
fn snapshots_hold_disk_and_auxiliary_storage_together() {
    let (_dir, _, bundle) = store_with_mac(7);
    let disk_of = |bundle: &Bundle| bundle.path().join(&bundle.config().unwrap().disks[0].path);
    let take = |name: &str| bundle.snapshots(&bundle.lock().unwrap()).take(name, true).unwrap();
    take("before");
    fs::write(disk_of(&bundle), vec![2; 4096]).unwrap();
    fs::write(auxiliary_of(&bundle), storage(0, &[9])).unwrap();
    take("after");
    fs::write(disk_of(&bundle), vec![3; 4096]).unwrap();
    fs::write(auxiliary_of(&bundle), "gone").unwrap();
    for (name, disk, ecid) in [("before", 1, 7), ("after", 2, 9), ("before", 1, 7)] {
        bundle.snapshots(&bundle.lock().unwrap()).restore(name).unwrap();
        assert_eq!(fs::read(disk_of(&bundle)).unwrap(), vec![disk; 4096]);
        assert_eq!(bundle.recover_identifier().unwrap().ecid(), ecid);
    }
    for name in ["before", "after"] {
        bundle.snapshots(&bundle.lock().unwrap()).delete(name).unwrap();
    }
    assert_eq!(bundle.recover_identifier().unwrap().ecid(), 7);
    assert_eq!(fs::read(disk_of(&bundle)).unwrap(), vec![1; 4096]);
    let left = fs::read_dir(bundle.path().join("disks")).unwrap().count();
    assert_eq!(left, 2, "a disk and its auxiliary storage");
}
