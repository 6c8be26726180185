//! Virtual Macs on a host that cannot run them: they are kept, cloned and told apart.

use std::fs;

use crate::tool::Tool;

fn works(tool: &Tool, args: &[&str]) -> String {
    let outcome = tool.run(args);
    assert_eq!(outcome.status, Some(0), "{args:?}: {}", outcome.stderr);
    outcome.stdout
}

/// A model as macOS hosts write it: platform 2, for hosts with macOS 13.
const MODEL: &[u8] = b"bplist00\xd3\x01\x02\x03\x04\x04\x05_\x10\x19DataRepresentationVersion_\x10\x0fPlatformVersion\
_\x10\x12MinimumSupportedOS\x10\x02\xa3\x06\x07\x07\x10\x0d\x10\x00\x08\x0f+=RTXZ\0\0\0\0\0\0\x01\x01\0\0\0\0\0\0\0\x08\
\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x5c";

/// The virtual Mac "mac" with ECID 0x11.
pub fn with_mac() -> Tool {
    let tool = Tool::new();
    let folder = tool.home().join("Sample");
    fs::create_dir(&folder).unwrap();
    let auxiliary = [&[7; 9000][..], b"\x04ECID\x02\x08", &0x11_u64.to_be_bytes(), &[0; 100]].concat();
    for (name, data) in
        [("Disk.img", &[1; 4096][..]), ("AuxiliaryStorage", &auxiliary), ("HardwareModel", MODEL)]
    {
        fs::write(folder.join(name), data).unwrap();
    }
    let said = works(&tool, &["import", folder.to_str().unwrap(), "mac", "--cpus", "2", "--memory", "4G"]);
    assert!(said.contains("recovered") && said.contains("Viable"), "{said}");
    tool
}

/// An IPSW with the parts of a manifest that matter.
pub fn ipsw() -> Vec<u8> {
    let manifest = br#"<?xml version="1.0" encoding="UTF-8"?><plist version="1.0"><dict>
<key>ProductVersion</key><string>15.1</string><key>ProductBuildVersion</key><string>24B83</string>
<key>SupportedProductTypes</key><array><string>VirtualMac2,1</string></array>
<key>BuildIdentities</key><array><dict><key>Info</key><dict><key>DeviceClass</key><string>vma2macosap</string>
<key>VirtualMachineMinCPUCount</key><integer>2</integer><key>VirtualMachineMinMemorySizeMB</key><integer>4096</integer>
</dict></dict></array></dict></plist>"#;
    let name = b"BuildManifest.plist";
    let mut crc = flate2::Crc::new();
    crc.update(manifest);
    let len = (manifest.len() as u32).to_le_bytes();
    // Stored, not compressed: version 2.0, no flags, no method, no time.
    let common = [
        &[20, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &crc.sum().to_le_bytes()[..],
        &len,
        &len,
        &[name.len() as u8, 0, 0, 0],
    ]
    .concat();
    let member = [b"PK\x03\x04", &common[..], name, manifest].concat();
    let entry = [b"PK\x01\x02\x14\0", &common[..], &[0; 14], name].concat();
    let (at, size) = ((member.len() as u32).to_le_bytes(), (entry.len() as u32).to_le_bytes());
    [&member[..], &entry, b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &size, &at, &[0; 2]].concat()
}

#[test]
fn virtual_macs_are_imported_cloned_and_told_apart() {
    let tool = with_mac();
    let info = works(&tool, &["info", "mac"]);
    for hint in ["0x11", "0000FE00-0000000000000011", "VirtualMac2,1", "13.0.0"] {
        assert!(info.contains(hint), "no {hint}: {info}");
    }
    // It has not started yet, and is to make a user then.
    let user = r#"{"name":"ada","password":"secret","logs_in":false}"#;
    fs::write(tool.home().join("mac.vm/FirstUser.json"), user).unwrap();
    let kept = works(&tool, &["clone", "mac", "kept"]);
    assert!(kept.contains("only one of the two"), "{kept}");
    assert!(fs::read_to_string(tool.home().join("kept.vm/FirstUser.json")).unwrap().contains("ada"));
    assert!(works(&tool, &["info", "kept", "--json"]).contains("\"0x11\""));
    let new = works(&tool, &["clone", "mac", "new", "--identity", "new"]);
    assert!(new.contains("does not start"), "{new}");
    assert!(!works(&tool, &["info", "new", "--json"]).contains("\"0x11\""));
    works(&tool, &["set", "new", "--ecid", "0xfedcba9876543210"]);
    assert!(works(&tool, &["info", "new"]).contains("0000FE00-FEDCBA9876543210"));
    works(&tool, &["set", "new", "--ecid", "recover"]);
    assert!(works(&tool, &["info", "new"]).contains("0x11"));
    works(&tool, &["snapshot", "take", "mac", "s"]);
    works(&tool, &["snapshot", "restore", "mac", "s"]);
    assert!(works(&tool, &["list"]).contains("macOS"));
}

#[cfg(not(target_os = "macos"))]
#[test]
fn what_needs_a_mac_says_so_in_one_line() {
    let tool = with_mac();
    for args in [&["run", "mac"][..], &["create", "other", "--ipsw", "latest", "--ecid", "random"]] {
        let outcome = tool.run(args);
        assert_eq!(outcome.status, Some(1));
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        let why = "macOS guests need an Apple silicon Mac";
        assert!(outcome.stderr.contains(why) && outcome.stderr.contains("Virtualization.framework"));
    }
    let started = tool.run(&["start", "mac"]);
    assert!(started.stderr.contains("Apple silicon Mac"), "{}", started.stderr);
}

#[test]
fn what_is_no_ipsw_says_so() {
    let tool = Tool::new();
    let file = tool.file("x.ipsw", b"no zip archive");
    for (args, hint) in [
        (["ipsw", "info", file.to_str().unwrap()], "no zip archive"),
        (["ipsw", "info", "/no/such.ipsw"], "/no/such.ipsw"),
        (["ipsw", "fetch", file.to_str().unwrap()], "no address"),
        (["ipsw", "fetch", "http://127.0.0.1:9/x.zip"], ".ipsw"),
    ] {
        let outcome = tool.run(&args);
        assert_eq!(outcome.status, Some(1));
        assert!(outcome.stderr.contains(hint) && outcome.stderr.contains("try"), "{}", outcome.stderr);
    }
}

#[test]
fn virtual_macs_go_to_other_programs_and_come_back() {
    let tool = with_mac();
    for (format, program) in [("tart", "Tart"), ("utm", "UTM"), ("lume", "Lume"), ("apple", "Viable")] {
        let to = tool.home().join(format!("out-{format}"));
        works(&tool, &["export", "mac", "--format", format, to.to_str().unwrap()]);
        let said = works(&tool, &["import", to.to_str().unwrap()]);
        assert!(said.contains(program), "{said}");
        assert!(works(&tool, &["info", &format!("out-{format}"), "--json"]).contains("\"0x11\""));
    }
}
