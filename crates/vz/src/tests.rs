use std::{env, fs, path::Path};

use tearless_config::{ConsoleKind, DiskBus, DiskConfig, DiskFormat, ShareConfig, VmConfig};

use super::{examples::*, *};

/// With TEARLESS_BLESS=1 the files become what the plans are; look at what changed.
#[test]
fn plans_are_those_that_are_kept() {
    let bless = env::var_os("TEARLESS_BLESS").is_some();
    for (name, config, host) in golden() {
        let text = planned(&config, &host).unwrap().to_string();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans").join(name).with_extension("txt");
        if bless {
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), text, "{name}");
    }
    assert!(golden().len() >= 12);
}

#[test]
fn what_the_framework_refuses_is_explained() {
    let on = |bus| vec![DiskConfig { bus, ..DiskConfig::new("d.img") }];
    let disk = |path: &str, format| vec![DiskConfig { format, ..DiskConfig::new(path) }];
    let refused = |config: &VmConfig, host: Host| planned(config, &host).unwrap_err().to_string();
    for (config, host, hint) in [
        (with(linux(), |c| c.cpus = 9), macos(15), "--cpus 8"),
        (linux(), macos(11), "macOS 12"),
        (with(linux(), |c| c.console = ConsoleKind::Uart), macos(15), "console=hvc0"),
        (efi(), macos(12), "macOS 13 on"),
        (apple(linux(), "nested"), macos(14), "M3"),
        (apple(mac(), "nested"), macos(15), "Linux guests only"),
        (apple(mac(), "rosetta"), macos(15), "softwareupdate"),
        (apple(mac(), "clipboard"), macos(15), "clipboard=off"),
        (apple(linux(), "clipboard"), macos(12), "macOS 13"),
        (apple(linux(), "rosetta"), macos(12), "macOS 13"),
        (apple(linux(), "rosetta=unix:/r"), macos(13), "macOS 14"),
        (with(apple(linux(), "rosetta"), |c| c.shares.push(share("/a", "rosetta", true))), macos(15), "tag"),
        (apple(linux(), "vmnet=host"), macos(15), "macOS 26"),
        (
            with(apple(linux(), "vmnet=host"), |c| c.network.mode = "isolated".parse().unwrap()),
            macos(26),
            "isolated",
        ),
        (with(linux(), |c| c.display.apply("vnc".parse().unwrap())), macos(15), "--display window"),
        (with(linux(), |c| c.display.apply("window".parse().unwrap())), macos(12), "macOS 13"),
        (with(linux(), |c| c.disks = on(DiskBus::Nvme)), macos(13), "macOS 14"),
        (with(linux(), |c| c.disks = on(DiskBus::Usb)), macos(12), "macOS 13"),
        (with(mac(), |c| c.disks = on(DiskBus::Nvme)), macos(15), "Linux guests only"),
        (with(linux(), |c| c.disks = disk("/dev/disk4", None)), macos(13), "macOS 14"),
        (with(linux(), |c| c.disks = disk("a", Some(DiskFormat::Qcow2))), macos(15), "qemu-img convert"),
        (with(linux(), |c| c.disks = disk("/a.vmdk", None)), macos(15), "raw disks only"),
        (with(linux(), |c| c.disks = disk("nbd://s/e", None)), macos(13), "NBD needs macOS 14"),
        (with(linux(), |c| c.network.mode = "bridged:en0".parse().unwrap()), macos(15), "vmnet-helper"),
        (with(linux(), |c| c.network.mode = "tap:t0".parse().unwrap()), macos(15), "devices of Linux"),
        (with(mac(), |c| c.shares.push(share("/a", "a", true))), macos(12), "macOS 13"),
        (
            with(linux(), |c| c.shares.push(ShareConfig { owner: 5, ..share("/a", "a", true) })),
            macos(15),
            "uid=",
        ),
    ] {
        let text = refused(&config, host);
        assert!(text.contains(hint) && text.contains("because") && text.contains("try"), "{hint}: {text}");
    }
    // An overlay of the bundle's own is told by its format, not by its name.
    assert!(planned(&with(linux(), |c| c.disks = disk("disks/a.img", None)), &macos(15)).is_ok());
    let config = mac();
    let machine =
        Machine { config: &config, folder: Path::new("/"), platform: None, identifier: None, cmdline: "" };
    assert!(plan(&machine, &Host::NEWEST).unwrap_err().to_string().contains("MachineIdentifier"));
}

#[test]
fn recovery_is_asked_for_at_the_start() {
    let text = start_options(MacStart::Recovery).to_string();
    assert_eq!(text, "VZMacOSVirtualMachineStartOptions\n  startUpFromMacOSRecovery = YES\n");
}

#[test]
fn a_user_is_made_at_the_first_start() {
    let text = start_options(MacStart::First(FIRST_USER)).to_string();
    let expected = "VZMacOSVirtualMachineStartOptions\n  guestProvisioningOptions = VZMacGuestProvisioningOptions\n    \
                    fullName = \"Ada L.\"\n    username = \"ada\"\n    password = \"secret\"\n    logsInAutomatically = NO\n    \
                    enablesRemoteLogin = YES\n";
    assert_eq!(text, expected);
}
