use std::{env, fs, path::Path};

use tearless_config::{
    AppleConfig, BootConfig, ByteSize, CacheMode, ConsoleKind, DiskBus, DiskConfig, DiskFormat, ShareConfig,
    SyncMode, VmConfig,
};

use super::*;

fn linux() -> VmConfig {
    VmConfig::new(BootConfig::LinuxKernel { kernel: "Kernel".into(), initrd: None, cmdline: String::new() })
}

fn debian() -> VmConfig {
    let (kernel, initrd) = ("Kernel".into(), "Initrd".into());
    let boot = BootConfig::LinuxDebian { suite: "trixie".into(), kernel, initrd, cmdline: String::new() };
    VmConfig { disks: vec![DiskConfig::new("Disk.img")], ..VmConfig::new(boot) }
}

fn mac() -> VmConfig {
    let boot = BootConfig::MacOs { auxiliary: "AuxiliaryStorage".into(), version: None, build: None };
    let disks = vec![DiskConfig::new("Disk.img")];
    VmConfig { cpus: 4, memory: ByteSize::gib(8), disks, ..VmConfig::new(boot) }
}

fn efi() -> VmConfig {
    VmConfig::new(BootConfig::efi("NVRAM"))
}

fn apple(mut config: VmConfig, choice: &str) -> VmConfig {
    AppleConfig::apply(&mut config.apple, &choice.parse().unwrap());
    config
}

fn share(path: &str, tag: &str, read_only: bool) -> ShareConfig {
    ShareConfig { path: path.into(), tag: tag.into(), read_only, owner: 0 }
}

fn planned(config: &VmConfig, host: &Host) -> Result<Object, Refusal> {
    let platform = Some(Platform { model: &[1; 132], identifier: &[2; 60] }).filter(|_| config.boot.is_mac());
    let machine = Machine {
        config,
        folder: Path::new("/vms/a.vm"),
        platform,
        identifier: None,
        cmdline: "console=hvc0",
    };
    plan(&machine, host)
}

fn with(mut config: VmConfig, change: impl FnOnce(&mut VmConfig)) -> VmConfig {
    change(&mut config);
    config
}

fn macos(major: u32) -> Host {
    Host { macos: (major, 0), cpus: Some(8) }
}

/// The configurations whose plans are kept in `plans/`, and the hosts that they are for.
fn golden() -> Vec<(&'static str, VmConfig, Host)> {
    let newest = Host::NEWEST;
    let disk = |path: &str, sync, cache| DiskConfig { sync, cache, ..DiskConfig::new(path) };
    vec![
        ("linux-kernel", linux(), newest),
        ("linux-kernel-macos-12", linux(), macos(12)),
        ("debian", debian(), newest),
        ("linux-no-network", with(linux(), |c| c.network.mode = "none".parse().unwrap()), newest),
        ("linux-isolated", with(linux(), |c| c.network.mode = "isolated".parse().unwrap()), newest),
        ("linux-forwards", with(linux(), |c| c.network.forwards.push("8080:80".parse().unwrap())), newest),
        (
            "linux-vmnet-host",
            with(apple(linux(), "vmnet=host"), |c| {
                c.network.mac = Some("52:54:00:12:34:56".parse().unwrap());
            }),
            newest,
        ),
        (
            "linux-disks",
            with(linux(), |c| {
                c.disks = vec![
                    disk("full.img", SyncMode::Full, CacheMode::Host),
                    disk("/d/none.img", SyncMode::None, CacheMode::None),
                    DiskConfig { read_only: true, ..DiskConfig::new("nbd://server/export") },
                ];
            }),
            newest,
        ),
        (
            "linux-shares",
            with(linux(), |c| c.shares = vec![share("/a", "a", false), share("/b", "b", true)]),
            newest,
        ),
        ("linux-rosetta", apple(linux(), "rosetta"), newest),
        ("linux-rosetta-cache", apple(linux(), "rosetta=unix:/run/rosettad/rosetta.sock"), newest),
        (
            "linux-nested-clipboard-sound",
            apple(apple(apple(linux(), "nested"), "clipboard"), "sound=both"),
            newest,
        ),
        (
            "efi-window",
            with(efi(), |c| {
                c.display.apply("window".parse().unwrap());
                c.disks = vec![
                    DiskConfig { bus: DiskBus::Nvme, ..DiskConfig::new("Disk.img") },
                    DiskConfig { read_only: true, ..DiskConfig::new("/cd.iso") },
                    DiskConfig::new("/dev/disk4"),
                ];
            }),
            newest,
        ),
        (
            "mac-hidpi-microphone",
            with(apple(mac(), "sound=both"), |c| c.display.apply("2560x1600@2x".parse().unwrap())),
            newest,
        ),
        ("mac", mac(), newest),
        ("mac-macos-13", mac(), macos(13)),
        ("mac-macos-12", mac(), macos(12)),
        (
            "mac-shares",
            with(mac(), |c| c.shares = vec![share("/a", "a", false), share("/b", "b", true)]),
            newest,
        ),
    ]
}

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
    assert_eq!(start_options(false), None);
    let text = start_options(true).unwrap().to_string();
    assert_eq!(text, "VZMacOSVirtualMachineStartOptions\n  startUpFromMacOSRecovery = YES\n");
}
