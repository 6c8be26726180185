//! VMs from their making to their end.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    sync::mpsc::Receiver,
};

use super::{examples, streams};
use crate::{
    Host, MacStart,
    framework::{self, Event, Machine, RestoreImage},
    journal::Session,
    start_options,
    virtualization::{self, LISTENED},
};

fn built(config: &tearless_config::VmConfig) -> (Machine, Receiver<Event>) {
    let plan = examples::planned(config, &Host::NEWEST).unwrap();
    Machine::new(&plan, streams().0).unwrap()
}

#[test]
fn macos_is_installed_from_an_ipsw() {
    let folder = tempfile::tempdir().unwrap();
    let (ipsw, storage) = (folder.path().join("a.ipsw"), folder.path().join("AuxiliaryStorage"));
    let session = Session::begin();
    let failure = RestoreImage::load(&ipsw).unwrap_err().to_string();
    assert!(failure.contains("tearless ipsw fetch"), "{failure}");
    fs::write(&ipsw, "an IPSW").unwrap();
    session.fail("mostFeaturefulSupportedConfiguration", 1, "");
    let failure = RestoreImage::load(&ipsw).unwrap_err().to_string();
    assert!(failure.contains("no virtual Mac"), "{failure}");
    session.mend("mostFeaturefulSupportedConfiguration");
    let image = RestoreImage::load(&ipsw).unwrap();
    assert_eq!((image.version.as_str(), image.build.as_str()), ("26.1", "25B78"));
    assert_eq!((image.cpus, image.memory), (2, 4 << 30));
    framework::create_auxiliary_storage(&storage, &image.model).unwrap();
    assert!(storage.exists());
    let failure = framework::create_auxiliary_storage(&storage, &image.model).unwrap_err().to_string();
    assert!(failure.contains("The file is there"), "{failure}");

    let (machine, events) = built(&examples::mac());
    let mut seen = Vec::new();
    machine.install(&ipsw, |fraction| seen.push(fraction)).unwrap();
    assert_eq!(seen.last(), Some(&1.0));
    assert!(seen.contains(&0.5) && seen.is_sorted(), "{seen:?}");
    session.fail("installWithCompletionHandler:", 10007, "No signatures.");
    let failure = machine.install(&ipsw, |_| {}).unwrap_err().to_string();
    assert!(failure.contains("64G"), "{failure}");
    drop((machine, events));
    let end = session.end_said();
    let install = ["installWithCompletionHandler:", "installer gone after its end"];
    let expected = [&["VM made on tearless.machine"][..], &install, &install, &["VM gone"]].concat();
    assert_eq!(end, (Vec::new(), expected.iter().map(|s| (*s).to_owned()).collect()));
}

#[test]
fn a_vm_starts_pauses_is_saved_and_ends_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let session = Session::begin();
    let (machine, events) = built(&examples::linux());
    assert!(!machine.is_alive());
    machine.start(None).unwrap();
    assert!(machine.is_alive());
    let failure = machine.save(&state).unwrap_err().to_string();
    assert!(failure.contains("in a moment"), "a VM that runs is not saved: {failure}");
    machine.pause().unwrap();
    machine.save(&state).unwrap();
    machine.resume().unwrap();
    machine.request_stop().unwrap();
    assert_eq!(events.recv(), Ok(Event::Stopped));
    assert!(!machine.is_alive());
    let failure = machine.request_stop().unwrap_err().to_string();
    assert!(failure.contains("does not run"), "{failure}");
    drop((machine, events));

    // Another process would go on from there.
    let (machine, events) = built(&examples::linux());
    machine.restore(&state).unwrap();
    machine.resume().unwrap();
    let again = machine.clone();
    drop(machine);
    again.stop().unwrap();
    assert!(again.stop().is_err());
    drop((again, events));
    assert_eq!(session.end(), [""; 0]);
    assert!(state.exists());
}

#[test]
fn a_mac_starts_in_recovery() {
    let session = Session::begin();
    let (machine, _events) = built(&examples::mac());
    machine.start(Some(&start_options(MacStart::Recovery))).unwrap();
    machine.stop().unwrap();
    drop(machine);
    let (wrong, said) = session.end_said();
    assert_eq!(wrong, [""; 0]);
    assert_eq!(said[1], "VZMacOSVirtualMachineStartOptions startUpFromMacOSRecovery = YES");
    assert_eq!(said[2], "startWithOptions:completionHandler:");
}

#[test]
fn a_mac_makes_its_user_at_its_first_start() {
    let first = start_options(MacStart::First(examples::FIRST_USER));
    let session = Session::begin();
    let (machine, _events) = built(&examples::mac());
    session.hide("VZMacGuestProvisioningOptions");
    let failure = machine.start(Some(&first)).unwrap_err().to_string();
    assert!(failure.contains("macOS 27"), "{failure}");
    session.mend("VZMacGuestProvisioningOptions");
    session.fail("setGuestProvisioningOptions:error:", 2, "No such name.");
    let failure = machine.start(Some(&first)).unwrap_err().to_string();
    assert!(failure.contains("No such name"), "{failure}");
    session.mend("setGuestProvisioningOptions:error:");
    machine.start(Some(&first)).unwrap();
    drop(machine);
    let (wrong, said) = session.end_said();
    assert_eq!(wrong, [""; 0]);
    for part in [
        "username = \"ada\"",
        "password = \"secret\"",
        "logsInAutomatically = NO",
        "enablesRemoteLogin = YES",
    ] {
        assert!(
            said.iter().any(|line| line.contains("VZMacGuestProvisioningOptions") && line.contains(part)),
            "{said:?}"
        );
    }
}

#[test]
fn what_fails_is_said_with_what_to_do() {
    let session = Session::begin();
    let (machine, events) = built(&examples::mac());
    session.fail("startWithCompletionHandler:", 6, "Too many VMs.");
    let failure = machine.start(None).unwrap_err();
    assert_eq!(failure.why, "Too many VMs. (the cause) [VZErrorDomain 6]");
    assert!(failure.advice.contains("stop another macOS guest"), "{failure}");
    session.mend("startWithCompletionHandler:");
    machine.start(None).unwrap();
    session.fail("pauseWithCompletionHandler:", 3, "Not now.");
    assert!(machine.pause().unwrap_err().advice.contains("in a moment"));
    session.fail("guest", 1, "The guest broke.");
    machine.request_stop().unwrap();
    match events.recv() {
        Ok(Event::Failed(failure)) => assert!(failure.why.contains("The guest broke"), "{failure}"),
        other => panic!("{other:?}"),
    }
    assert!(!machine.is_alive());
    let failure = machine.restore(Path::new("/nowhere/state")).unwrap_err();
    assert!(
        failure.advice.contains("in a moment") || failure.advice.contains("--discard-state"),
        "{failure}"
    );
    session.fail("validateSaveRestoreSupportWithError:", 11, "A device cannot be saved.");
    assert!(machine.save(Path::new("/nowhere/state")).unwrap_err().why.contains("A device"));
    session.hide("saveMachineStateToURL:completionHandler:");
    assert!(machine.save(Path::new("/nowhere/state")).unwrap_err().why.contains("macOS 14"));
    drop((machine, events));
    assert_eq!(session.end(), [""; 0]);
}

#[test]
fn the_guest_is_spoken_to_after_its_connection_object_is_gone() {
    let session = Session::begin();
    let (machine, _events) = built(&examples::linux());
    machine.start(None).unwrap();
    let port = u32::try_from(LISTENED).unwrap();
    let mut ours = std::os::unix::net::UnixStream::from(machine.connect(port).unwrap());
    let mut guest = virtualization::guest_end().unwrap();
    ours.write_all(b"hello").unwrap();
    drop(ours);
    let mut heard = String::new();
    guest.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hello");
    let failure = machine.connect(1).unwrap_err().to_string();
    assert!(failure.contains("reset by peer"), "{failure}");
    machine.set_memory(1 << 30);
    drop(machine);
    let (wrong, said) = session.end_said();
    assert_eq!(wrong, [""; 0]);
    assert!(said.contains(&format!("memory {}", 1 << 30)), "{said:?}");
}
