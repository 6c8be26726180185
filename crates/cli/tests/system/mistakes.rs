//! What users get wrong, and what they are told.

use crate::tool::Tool;

/// Asserts that the command fails with an error that contains each of `hints`, and with no panic.
fn refused(tool: &Tool, args: &[&str], hints: &[&str]) {
    let outcome = tool.run(args);
    assert_eq!(outcome.status, Some(1), "{args:?}: {}", outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    for hint in hints {
        assert!(outcome.stderr.contains(hint), "{args:?} does not say {hint:?}:\n{}", outcome.stderr);
    }
}

#[test]
fn impossible_hardware() {
    let tool = Tool::new();
    refused(&tool, &["run", "--cpus", "0"], &["0 vCPUs", "at least one"]);
    refused(&tool, &["run", "--cpus", "1000"], &["1000 vCPUs", "use 1 to"]);
    refused(&tool, &["run", "--memory", "1024T"], &["memory", "the host has"]);
    refused(&tool, &["run", "--memory", "1M"], &["memory", "at least"]);
    refused(&tool, &["run", "--engine", "vz"], &["vz", "Apple silicon"]);
}

#[test]
fn bad_kernels() {
    let tool = Tool::new();
    refused(&tool, &["run", "--kernel", "/no/such/kernel"], &["/no/such/kernel"]);
    let empty = tool.file("empty", b"");
    refused(&tool, &["run", "--kernel", empty.to_str().unwrap()], &["empty"]);
    let mut bz_image = vec![0; 0x4000];
    bz_image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    bz_image[0x202..0x206].copy_from_slice(b"HdrS");
    let x86 = tool.file("bzImage", &bz_image);
    refused(&tool, &["run", "--kernel", x86.to_str().unwrap()], &["bzImage", "x86"]);
    let mut image = vec![0; 64];
    image[16..24].copy_from_slice(&(64u64 << 20).to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    let big = tool.file("big", &image);
    refused(&tool, &["run", "--memory", "64M", "--kernel", big.to_str().unwrap()], &["--memory"]);
}

#[test]
fn bad_disks() {
    let tool = Tool::new();
    refused(&tool, &["run", "--disk", "/no/such/disk"], &["/no/such/disk"]);
    let qcow2 = tool.file("d.qcow2", b"QFI\xfb\0\0\0\x03 and more that is not looked at......");
    refused(&tool, &["run", "--disk", qcow2.to_str().unwrap()], &["qcow2", "because", "try"]);
}

#[test]
fn vms_that_do_not_exist_or_are_damaged() {
    let tool = Tool::new();
    refused(&tool, &["run", "nobody"], &["nobody"]);
    refused(&tool, &["info", "nobody"], &["nobody"]);
    refused(&tool, &["delete", "--force", "nobody"], &["nobody"]);
    refused(&tool, &["create", "a/b", "--kernel", "/dev/null"], &["a/b"]);
    let bundle = tool.home().join("hurt.vm");
    std::fs::create_dir(&bundle).unwrap();
    std::fs::write(bundle.join("config.json"), "{").unwrap();
    refused(&tool, &["run", "hurt"], &["hurt", "config.json"]);
    let list = tool.run(&["list"]);
    assert_eq!(list.status, Some(0));
    assert!(list.stdout.contains("hurt"), "{}", list.stdout);
}

/// An option that says how a system comes into the VM is never ignored beside another way.
#[test]
fn one_way_to_a_system_at_a_time() {
    let tool = Tool::new();
    let ways =
        [("--linux", "debian"), ("--kernel", "k"), ("--iso", "i"), ("--disk-image", "d"), ("--ipsw", "p")];
    let options: [(&str, &[&str]); 5] = [
        ("--linux", &["--efi"]),
        ("--kernel", &["--initrd", "r"]),
        ("--iso", &["--unattended"]),
        ("--disk-image", &["--cloud-init"]),
        ("--ipsw", &["--ecid", "5"]),
    ];
    for (way, value) in ways {
        for (own, option) in options.iter().filter(|(own, _)| *own != way) {
            // Of both.
            if (way, *option) == ("--ipsw", &["--unattended"]) {
                continue;
            }
            let outcome = tool.run(&[&["create", "a", way, value], *option].concat());
            assert_eq!(
                outcome.status,
                Some(2),
                "{way} with {option:?}, which is for {own}: {}",
                outcome.stderr
            );
        }
    }
}

/// Nor is one that says which Debian, or adds to a kernel's command line, where there is neither.
#[test]
fn what_nobody_would_heed() {
    let tool = Tool::new();
    let ways: [&[&str]; 7] = [
        &["run", "--kernel", "k"],
        &["run", "--efi"],
        &["run", "--iso", "i"],
        &["run", "a"],
        &["create", "a", "--kernel", "k"],
        &["create", "a", "--disk-image", "d"],
        &["create", "a", "--ipsw", "p"],
    ];
    let options: [&[&str]; 4] =
        [&["--suite", "forky"], &["--mirror", "http://m"], &["--flavour", "16k"], &["--refresh"]];
    for option in options {
        for way in ways {
            let outcome = tool.run(&[way, option].concat());
            assert_eq!(outcome.status, Some(2), "{way:?} with {option:?}: {}", outcome.stderr);
        }
        refused(&tool, &[&["create", "a", "--iso", "i"], option].concat(), &[option[0], "because", "try"]);
    }
    refused(&tool, &["create", "a", "--iso", "i", "--cmdline", "quiet"], &["--cmdline", "because", "try"]);
    refused(&tool, &["run", "--efi", "--cmdline", "quiet"], &["command line", "because", "try"]);
}

#[test]
fn output_that_cannot_be_written() {
    let tool = Tool::new();
    // Nobody reads: as quiet as any other program.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let outcome = tool.command(["list"]).stdout(writer).output().unwrap();
    assert_eq!((outcome.status.code(), outcome.stderr.as_slice()), (Some(141), &b""[..]));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let outcome = tool.command(["list", "--json"]).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert_eq!(outcome.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to standard output"), "{said}");
}

#[test]
fn bad_networks() {
    let tool = Tool::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let forward = format!("{}:80", taken.local_addr().unwrap().port());
    refused(&tool, &["run", "-p", &forward], &["cannot forward TCP port", "in use", "try:"]);
    refused(&tool, &["run", "-p", "99:80", "-p", "99:81"], &["twice"]);
    refused(&tool, &["run", "--net", "none", "-p", "9999:80"], &["--net nat"]);
    refused(&tool, &["run", "--net", "socket:/no/such/socket"], &["/no/such/socket", "passt"]);
    refused(&tool, &["run", "--net", "bridged:no-such-bridge"], &["no interface no-such-bridge", "try:"]);
    refused(&tool, &["run", "--net", "tap:no-such-tap"], &["no interface no-such-tap", "ip tuntap add"]);
    refused(&tool, &["run", "--net", "fd:99"], &["no such file", "try:"]);
}
