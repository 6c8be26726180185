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

fn write(dir: &Path, files: &[(&str, &[u8])]) {
    for (name, data) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }
}

fn base64(data: &[u8]) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(data)
}

fn blobs(ecid: u64) -> (String, String) {
    (base64(mac::model().data()), base64(MachineIdentifier::from_ecid(ecid).data()))
}

/// A UTM folder; `system` and `more` are property list fragments.
fn utm(backend: &str, system: &str, more: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "<plist version=\"1.0\"><dict><key>ConfigurationVersion</key><integer>4</integer><key>Backend</key><string>{backend}</string>\
        <key>System</key><dict><key>Architecture</key><string>aarch64</string><key>CPUCount</key><integer>6</integer>\
        <key>MemorySize</key><integer>3072</integer>{system}</dict><key>Network</key><array><dict><key>Mode</key>\
        <string>Bridged</string><key>MacAddress</key><string>52:54:00:12:34:56</string></dict></array>{more}</dict></plist>"
    );
    write(
        dir.path(),
        &[
            ("config.plist", text.as_bytes()),
            ("Data/a.img", &[3; 4096]),
            ("Data/aux", &mac::storage(100, &[9])),
        ],
    );
    dir
}

const UTM_DRIVE: &str = "<key>Drive</key><array><dict><key>Identifier</key><string>A</string><key>ImageName</key>\
    <string>a.img</string></dict><dict><key>Identifier</key><string>B</string></dict></array>";

#[test]
fn utm_is_taken_over_by_its_back_end() {
    let (model, id) = blobs(9);
    let system = format!(
        "<key>Boot</key><dict><key>OperatingSystem</key><string>macOS</string></dict><key>MacPlatform</key><dict>\
        <key>HardwareModel</key><data>{model}</data><key>MachineIdentifier</key><data>{id}</data>\
        <key>AuxiliaryStoragePath</key><string>aux</string></dict>"
    );
    let foreign = Foreign::inspect(utm("Apple", &system, UTM_DRIVE).path()).unwrap();
    assert_eq!((foreign.program, ecid(&foreign), foreign.cpus), ("UTM", Some(9), Some(6)));
    assert_eq!(foreign.memory, Some(ByteSize::gib(3)));
    let notes = foreign.notes.join("\n");
    assert!(notes.contains("without a medium") && notes.contains("Bridged"), "{notes}");
    let qemu = Foreign::inspect(utm("QEMU", "", UTM_DRIVE).path()).unwrap();
    assert!(matches!(qemu.guest, Guest::Efi { .. }));
    assert_eq!(qemu.disks.len(), 1);
    let x86 = utm("QEMU", "", UTM_DRIVE);
    let path = x86.path().join("config.plist");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("aarch64", "x86_64")).unwrap();
    assert!(Foreign::inspect(x86.path()).unwrap_err().to_string().contains("only ARM64 guests"));
    for (backend, more, hint) in [
        ("Bochs", "", "Bochs"),
        (
            "QEMU",
            "<key>Drive</key><array><dict><key>ImageName</key><string>../x</string></dict></array>",
            "not in its folder",
        ),
        (
            "QEMU",
            "<key>Drive</key><array><dict><key>ImageName</key><string>gone.img</string></dict></array>",
            "not there",
        ),
    ] {
        let text = Foreign::inspect(utm(backend, "", more).path()).unwrap_err().to_string();
        assert!(text.contains(hint) && text.contains("try"), "{hint}: {text}");
    }
}

#[test]
fn lume_and_macosvm_are_taken_over() {
    let (model, id) = blobs(11);
    let dir = tempfile::tempdir().unwrap();
    let aux = mac::storage(100, &[11]);
    let lume = format!(
        r#"{{"os": "macOS", "cpuCount": 5, "memorySize": 8589934592, "diskSize": 4096, "macAddress": "52:54:00:12:34:57",
        "display": "1920x1080", "hardwareModel": "{model}", "machineIdentifier": "{id}"}}"#
    );
    write(dir.path(), &[("config.json", lume.as_bytes()), ("disk.img", &[1; 4096]), ("nvram.bin", &aux)]);
    let foreign = Foreign::inspect(dir.path()).unwrap();
    assert_eq!((foreign.program, ecid(&foreign), foreign.cpus), ("Lume", Some(11), Some(5)));
    assert_eq!(foreign.config().display.mode.height, 1080);

    let dir = tempfile::tempdir().unwrap();
    let vm = format!(
        r#"{{"version": 1, "os": "macos", "cpus": 2, "ram": 4294967296, "hardwareModel": "{model}", "machineId": "{id}",
        "storage": [{{"type": "disk", "file": "d.img"}}, {{"type": "aux", "file": "aux.img"}}, {{"type": "usb", "file": "u.img"}}],
        "displays": [{{"width": 2560, "height": 1600, "dpi": 200}}], "networks": [{{"type": "nat", "mac": "52:54:00:12:34:58"}}],
        "shares": [{{"path": "/x"}}]}}"#
    );
    write(
        dir.path(),
        &[("vm.json", vm.as_bytes()), ("d.img", &[1; 4096]), ("u.img", &[2; 4096]), ("aux.img", &aux)],
    );
    let foreign = Foreign::inspect(dir.path()).unwrap();
    assert_eq!((foreign.program, ecid(&foreign), foreign.disks.len()), ("macosvm", Some(11), 2));
    assert!(foreign.disks[1].read_only && foreign.notes.iter().any(|note| note.contains("--share")));
    assert_eq!(foreign.screen.unwrap().scale, 2);
    assert_eq!(ecid(&Foreign::inspect(&dir.path().join("vm.json")).unwrap()), Some(11));
}

#[test]
fn lima_is_taken_over_with_the_disk_below_its_disk() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = "# of Lima\nvmType: qemu\narch: aarch64\ncpus: 3\nmemory: 5GiB\nmounts:\n- location: /srv\n  writable: true\n- location: \"~\"\n";
    write(dir.path(), &[("lima.yaml", yaml.as_bytes())]);
    let base = fs::File::create(dir.path().join("basedisk")).unwrap();
    base.set_len(1 << 20).unwrap();
    fs::write(dir.path().join("raw"), b"base").unwrap();
    std::os::unix::fs::FileExt::write_all_at(&base, b"base", 65536).unwrap();
    let (layer, _) = tearless_storage::derive(
        &dir.path().join("basedisk"),
        Format::Raw,
        &dir.path().join("layer"),
        Path::new("basedisk"),
    )
    .unwrap();
    if layer.extension().is_none_or(|e| e != "qcow2") {
        // The file system shares blocks, so it made no layer.
        return;
    }
    fs::rename(layer, dir.path().join("diffdisk")).unwrap();
    let foreign = Foreign::inspect(dir.path()).unwrap();
    assert_eq!((foreign.program, foreign.cpus, foreign.memory), ("Lima", Some(3), Some(ByteSize::gib(5))));
    assert_eq!((foreign.shares.len(), foreign.shares[0].read_only), (1, false));
    let home = tempfile::tempdir().unwrap();
    let bundle = foreign.adopt(&Store::at(home.path()), "l", |_| {}).unwrap();
    let disk = fs::read(bundle.disk()).unwrap();
    assert_eq!((disk.len(), &disk[65536..65540]), (1 << 20, &b"base"[..]));
    fs::rename(dir.path().join("basedisk"), home.path().join("basedisk")).unwrap();
    assert!(Foreign::inspect(dir.path()).is_err(), "what it builds on is gone");
    for (yaml, hint) in [
        ("arch: x86_64", "x86_64"),
        ("os: Darwin", "Darwin"),
        ("vmType: wsl2", "wsl2"),
        ("cpus: [", "understood"),
        ("memory: lots", "lots"),
    ] {
        write(dir.path(), &[("lima.yaml", yaml.as_bytes())]);
        let text = Foreign::inspect(dir.path()).unwrap_err().to_string();
        assert!(text.contains(hint), "{text}");
    }
}

#[test]
fn a_command_line_of_vfkit_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let script = "#!/bin/sh\nexec /opt/vfkit --cpus 3 \\\n --memory=2048 --bootloader \
        'linux,kernel=k,initrd=i,cmdline=\"console=hvc0,9600 quiet\"' --device virtio-blk,path=d.img --device virtio-net,nat,mac=52:54:00:12:34:59 \
        --device virtio-fs,sharedDir=/srv,mountTag=srv --device rosetta,mountTag=r --device virtio-rng --restful-uri none://\n";
    write(
        dir.path(),
        &[("start.sh", script.as_bytes()), ("k", b"kernel"), ("i", b"initrd"), ("d.img", &[1; 4096])],
    );
    let foreign = Foreign::inspect(&dir.path().join("start.sh")).unwrap();
    let config = foreign.config();
    assert_eq!(
        (config.cpus, config.memory, config.boot.cmdline()),
        (3, ByteSize::gib(2), Some("console=hvc0,9600 quiet"))
    );
    assert_eq!((config.shares[0].tag.as_str(), config.disks.len()), ("srv", 1));
    let notes = foreign.notes.join("\n");
    assert!(notes.contains("rosetta") && notes.contains("--restful-uri"), "{notes}");
    let home = tempfile::tempdir().unwrap();
    let bundle = foreign.adopt(&Store::at(home.path()), "v", |_| {}).unwrap();
    assert_eq!(fs::read(bundle.kernel()).unwrap(), b"kernel");
    for bad in ["vfkit --bootloader 'x", "vfkit --bootloader bios", "echo vfkit; --kernel"] {
        write(dir.path(), &[("start.sh", bad.as_bytes())]);
        assert!(Foreign::inspect(&dir.path().join("start.sh")).is_err(), "{bad}");
    }
}

/// Everything that is exported and can say so is what was imported.
#[test]
fn what_is_exported_is_imported_again() {
    let (dir, home, out) = (tart_mac(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::at(home.path());
    let spare: MacAddr = "52:54:00:00:00:01".parse().unwrap();
    let mac = Foreign::inspect(dir.path()).unwrap().adopt(&store, "mac", |_| {}).unwrap();
    let linux = tart(r#""os": "linux", "arch": "arm64""#);
    let linux = Foreign::inspect(linux.path()).unwrap().adopt(&store, "linux", |_| {}).unwrap();
    let all = [
        ExportFormat::Tart,
        ExportFormat::Apple,
        ExportFormat::Utm,
        ExportFormat::Lume,
        ExportFormat::Vfkit,
        ExportFormat::VirtualBuddy,
        ExportFormat::MacOsVm,
        ExportFormat::Lima,
    ];
    for (bundle, format) in [&mac, &linux].into_iter().flat_map(|bundle| all.map(|format| (bundle, format))) {
        let to = out.path().join(format!("{}-{format:?}", bundle.name()));
        let exported = bundle.export(format, &to, spare);
        let why = match (bundle == &linux, format) {
            (true, ExportFormat::Apple | ExportFormat::VirtualBuddy) => Some("for virtual Macs"),
            (true, ExportFormat::MacOsVm) => Some("boots through EFI"),
            (false, ExportFormat::Lima) => Some("only Linux"),
            _ => None,
        };
        if let Some(why) = why {
            let text = exported.unwrap_err().to_string();
            assert!(text.contains(why) && text.contains("because") && text.contains("try"), "{text}");
            assert!(!to.exists(), "nothing half-made stays");
            continue;
        }
        exported.unwrap();
        assert!(bundle.export(format, &to, spare).is_err(), "what is there stays");
        let from = if format == ExportFormat::Vfkit { to.join("start.sh") } else { to.clone() };
        let again = Foreign::inspect(&from).unwrap();
        let name = format!("again-{format:?}-{}", bundle.name());
        let copy = again.adopt(&store, &name, |_| {}).unwrap();
        assert_eq!(fs::read(copy.disk()).unwrap(), fs::read(bundle.disk()).unwrap());
        let (was, is) = (bundle.config().unwrap(), copy.config().unwrap());
        assert_eq!(was.boot, is.boot);
        let (apple, lima) = (
            matches!(format, ExportFormat::Apple | ExportFormat::VirtualBuddy),
            format == ExportFormat::Lima,
        );
        if !apple {
            assert_eq!((was.cpus, was.memory), (is.cpus, is.memory), "{name}");
        }
        if !apple && !lima {
            assert_eq!((was.network.mac, was.display), (is.network.mac, is.display), "{name}");
        }
        if was.boot.is_mac() {
            assert_eq!(bundle.platform().unwrap(), copy.platform().unwrap());
            assert_eq!(
                fs::read(bundle.path().join(AUXILIARY_FILE)).unwrap(),
                fs::read(copy.path().join(AUXILIARY_FILE)).unwrap()
            );
        }
    }
}

/// A kernel with what it boots with, and a second disk.
#[test]
fn kernels_go_to_macosvm_and_back() {
    let (dir, home, out) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let vm = r#"{"version": 1, "os": "linux", "cpus": 2, "ram": 1073741824, "bootInfo": {"kernel": "k", "parameters": "quiet \"x\""},
        "storage": [{"type": "initrd", "file": "i"}, {"type": "disk", "file": "a"}, {"type": "disk", "file": "b"}],
        "networks": [{"type": "nat", "mac": "52:54:00:12:34:58"}]}"#;
    write(
        dir.path(),
        &[
            ("vm.json", vm.as_bytes()),
            ("k", b"kernel"),
            ("i", b"initrd"),
            ("a", &[1; 4096]),
            ("b", &[2; 4096]),
        ],
    );
    let store = Store::at(home.path());
    let bundle = Foreign::inspect(dir.path()).unwrap().adopt(&store, "k", |_| {}).unwrap();
    let to = out.path().join("vm");
    let spare: MacAddr = "52:54:00:00:00:01".parse().unwrap();
    bundle.export(ExportFormat::MacOsVm, &to, spare).unwrap();
    let copy = Foreign::inspect(&to).unwrap().adopt(&store, "again", |_| {}).unwrap();
    assert_eq!(bundle.config().unwrap(), copy.config().unwrap());
    for name in ["Kernel", "Initrd", DISK_FILE, "Disk-2.img"] {
        let [was, is] = [&bundle, &copy].map(|bundle| fs::read(bundle.path().join(name)).unwrap());
        assert_eq!(was, is, "{name}");
    }
    let text = bundle.export(ExportFormat::Lima, &out.path().join("lima"), spare).unwrap_err().to_string();
    assert!(text.contains("boots a kernel directly"), "{text}");
}

/// What Lima checks before it starts an instance.
#[test]
fn an_instance_of_lima_says_what_lima_asks_for() {
    let (home, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let linux = tart(r#""os": "linux", "arch": "arm64""#);
    let bundle = Foreign::inspect(linux.path()).unwrap().adopt(&Store::at(home.path()), "l", |_| {}).unwrap();
    let to = out.path().join("a \"b\" #c");
    bundle.export(ExportFormat::Lima, &to, "52:54:00:00:00:01".parse().unwrap()).unwrap();
    let text = fs::read_to_string(to.join("lima.yaml")).unwrap();
    let yaml: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(yaml["images"][0]["location"], "~/.lima/a \"b\" #c/diffdisk", "any name is quoted: {text}");
    assert_eq!((&yaml["disk"], &yaml["vmType"]), (&"8192".into(), &"vz".into()), "{text}");
    let [was, is] =
        [bundle.path().join(APPLE_VARIABLES_FILE), to.join("vz-efi")].map(|f| fs::read(f).unwrap());
    assert_eq!(was, is);
}
