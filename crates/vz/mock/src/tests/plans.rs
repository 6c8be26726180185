//! Each plan that is kept becomes the objects that it describes.

use std::fs;

use super::{examples, sorted, streams, with_device};
use crate::{framework, journal::Session, virtualization};

#[test]
fn what_is_built_is_what_was_planned() {
    let folder = tempfile::tempdir().unwrap();
    let device = folder.path().canonicalize().unwrap().join("disk4");
    fs::write(&device, []).unwrap();
    for (name, config, host) in examples::golden() {
        let plan = with_device(examples::planned(&config, &host).unwrap(), "/dev/disk4", &device);
        let session = Session::begin();
        let (streams, _ours) = streams();
        let made = framework::Machine::new(&plan, streams);
        if config.apple.vmnet.is_some() {
            // Its library is looked up while running, and this host has none.
            let failure = made.map(drop).unwrap_err().to_string();
            assert!(failure.contains("macOS 26"), "{failure}");
        } else {
            drop(made.unwrap());
            let built = virtualization::last_built().unwrap();
            assert_eq!(built.to_string(), sorted(plan).to_string(), "{name}");
        }
        assert_eq!(session.end(), [""; 0], "{name}");
    }
}

#[test]
fn this_macos_may_lack_a_class() {
    let session = Session::begin();
    session.hide("VZVirtioSocketDeviceConfiguration");
    let plan = examples::planned(&examples::linux(), &crate::Host::NEWEST).unwrap();
    let (streams, _ours) = streams();
    let failure = framework::Machine::new(&plan, streams).map(drop).unwrap_err();
    assert!(failure.to_string().contains("newer macOS"), "{failure}");
    session.hide("VZVirtualMachine");
    assert!(framework::missing().unwrap().contains("macOS 11"));
    assert_eq!(session.end(), [""; 0]);
}

#[test]
fn what_cannot_be_built_leaves_nothing_over() {
    let mac = examples::planned(&examples::mac(), &crate::Host::NEWEST).unwrap();
    let disks = examples::golden().into_iter().find(|(name, ..)| *name == "linux-disks").unwrap();
    let disks = examples::planned(&disks.1, &disks.2).unwrap();
    let rosetta = examples::apple(examples::linux(), "rosetta");
    let rosetta = examples::planned(&rosetta, &crate::Host::NEWEST).unwrap();
    let image = "initWithURL:readOnly:cachingMode:synchronizationMode:error:";
    let server = "initWithURL:timeout:forcedReadOnly:synchronizationMode:error:";
    for (plan, selector, hint) in [
        (&mac, "isSupported", "update macOS"),
        (&mac, "validateWithError:", "tearless info"),
        (&disks, image, "tearless info"),
        (&disks, server, "tearless info"),
        (&rosetta, "installRosettaWithCompletionHandler:", "tearless info"),
    ] {
        let session = Session::begin();
        session.fail(selector, 2, "It cannot be.");
        let (streams, _ours) = streams();
        let failure = framework::Machine::new(plan, streams).map(drop).unwrap_err().to_string();
        assert!(failure.contains(hint) && failure.contains("because"), "{failure}");
        session.mend(selector);
        assert_eq!(session.end(), [""; 0], "{selector}");
    }
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let session = Session::begin();
    let mut config = examples::linux();
    config.network.mode = "bridged:en7".parse().unwrap();
    let plan = examples::planned(&config, &crate::Host::NEWEST).unwrap();
    let (streams, _ours) = streams();
    let failure = framework::Machine::new(&plan, streams).map(drop).unwrap_err().to_string();
    assert!(failure.contains("en7") && failure.contains("it has en0, en1"), "{failure}");
    assert_eq!(session.end(), [""; 0]);
}

#[test]
fn a_damaged_identity_is_explained() {
    let session = Session::begin();
    let config = examples::mac();
    for (damaged, hint) in [("HardwareModel", "backup"), ("MachineIdentifier", "--ecid recover")] {
        let take = |name, whole: &'static [u8]| if name == damaged { virtualization::DAMAGED } else { whole };
        let platform = crate::Platform {
            model: take("HardwareModel", &[1; 132]),
            identifier: take("MachineIdentifier", &[2; 60]),
        };
        let machine = crate::Machine {
            config: &config,
            folder: std::path::Path::new("/vms/a.vm"),
            platform: Some(platform),
            identifier: None,
            cmdline: "",
        };
        let plan = crate::plan(&machine, &crate::Host::NEWEST).unwrap();
        let (streams, _ours) = streams();
        let failure = framework::Machine::new(&plan, streams).map(drop).unwrap_err().to_string();
        assert!(failure.contains(hint), "{failure}");
    }
    assert_eq!(session.end(), [""; 0]);
}

#[test]
fn the_host_is_asked() {
    let session = Session::begin();
    let host = framework::host();
    // There is no library that tells of entitlements.
    assert_eq!((host.macos, host.cpus, host.bridges), ((26, 1), Some(16), false));
    assert_eq!(framework::missing(), None);
    assert_eq!(framework::new_identifier(), [7; 60]);
    session.fail("isSupported", 1, "");
    assert!(framework::missing().unwrap().contains("nested"));
    assert_eq!(session.end(), [""; 0]);
}
