//! VMs whose plans are kept in `plans/`, for the tests here and for those of `mock`.

use std::path::Path;

use tearless_config::{
    AppleConfig, BootConfig, ByteSize, CacheMode, DiskBus, DiskConfig, ShareConfig, SoundConfig, SoundEnd,
    SyncMode, VmConfig,
};

use crate::{FirstUser, Host, Machine, Object, Platform, Refusal, plan};

pub(crate) fn linux() -> VmConfig {
    VmConfig::new(BootConfig::LinuxKernel { kernel: "Kernel".into(), initrd: None, cmdline: String::new() })
}

pub(crate) fn debian() -> VmConfig {
    let (kernel, initrd) = ("Kernel".into(), "Initrd".into());
    let boot = BootConfig::LinuxDebian { suite: "trixie".into(), kernel, initrd, cmdline: String::new() };
    VmConfig { disks: vec![DiskConfig::new("Disk.img")], ..VmConfig::new(boot) }
}

pub(crate) fn mac() -> VmConfig {
    let boot = BootConfig::MacOs { auxiliary: "AuxiliaryStorage".into(), version: None, build: None };
    let disks = vec![DiskConfig::new("Disk.img")];
    VmConfig { cpus: 4, memory: ByteSize::gib(8), disks, ..VmConfig::new(boot) }
}

pub(crate) fn efi() -> VmConfig {
    VmConfig::new(BootConfig::efi("NVRAM"))
}

pub(crate) fn apple(mut config: VmConfig, choice: &str) -> VmConfig {
    AppleConfig::apply(&mut config.apple, &choice.parse().unwrap());
    config
}

pub(crate) fn share(path: &str, tag: &str, read_only: bool) -> ShareConfig {
    ShareConfig { path: path.into(), tag: tag.into(), read_only, owner: 0 }
}

pub(crate) fn planned(config: &VmConfig, host: &Host) -> Result<Object, Refusal> {
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

/// The user of a virtual Mac that starts for the first time.
pub(crate) const FIRST_USER: FirstUser<'_> =
    FirstUser { full_name: "Ada L.", name: "ada", password: "secret", logs_in: false, remote_login: true };

pub(crate) fn with(mut config: VmConfig, change: impl FnOnce(&mut VmConfig)) -> VmConfig {
    change(&mut config);
    config
}

pub(crate) fn macos(major: u32) -> Host {
    Host { macos: (major, 0), cpus: Some(8), bridges: false }
}

/// With the host's sound in both directions.
fn hears(config: &mut VmConfig) {
    config.sound = SoundConfig { speaker: Some(SoundEnd::Host), microphone: SoundEnd::Host };
}

/// The configurations whose plans are kept in `plans/`, and the hosts that they are for.
pub(crate) fn golden() -> Vec<(&'static str, VmConfig, Host)> {
    let newest = Host::NEWEST;
    let disk = |path: &str, sync, cache| DiskConfig { sync, cache, ..DiskConfig::new(path) };
    vec![
        ("linux-kernel", linux(), newest),
        ("linux-kernel-macos-12", linux(), macos(12)),
        ("debian", debian(), newest),
        ("linux-no-network", with(linux(), |c| c.network.mode = "none".parse().unwrap()), newest),
        ("linux-isolated", with(linux(), |c| c.network.mode = "isolated".parse().unwrap()), newest),
        ("linux-bridged", with(linux(), |c| c.network.mode = "bridged:en1".parse().unwrap()), newest),
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
        ("linux-nested-clipboard-sound", with(apple(apple(linux(), "nested"), "clipboard"), hears), newest),
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
            with(with(mac(), hears), |c| c.display.apply("2560x1600@2x".parse().unwrap())),
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
