use std::process::Command;

use super::*;
use crate::initramfs::tests::parse;

/// An ELF header with one program header of type `kind`, and a table of applets.
fn busybox(kind: u32, applets: &str) -> Vec<u8> {
    let mut b = vec![0; 120];
    b[..6].copy_from_slice(b"\x7fELF\x02\x01");
    b[18] = 183;
    b[32] = 64;
    b[54] = 56;
    b[56] = 1;
    b[64..68].copy_from_slice(&kind.to_le_bytes());
    b.extend(b"before");
    b.extend(applets.replace(' ', "\0").bytes());
    b.extend(b"\0\0after\0");
    b
}

const APPLETS: &str = "[ [[ ash busybox cp init insmod mount poweroff sh";

fn spec(busybox: &[u8], mode: Mode) -> QuickSpec<'_> {
    QuickSpec {
        busybox,
        modules: &[],
        hostname: "tearless",
        term: Some("xterm-256color"),
        network: Network::Untouched,
        mode,
    }
}

/// The content of `path`, or the target of a link.
fn content(archive: &[u8], path: &str) -> Option<String> {
    let entry = parse(archive).into_iter().find(|(p, ..)| p == path);
    entry.map(|(_, _, _, data)| String::from_utf8(data).unwrap())
}

#[test]
fn applets_become_links() {
    let busybox = busybox(1, APPLETS);
    let archive = build(&spec(&busybox, Mode::Shell)).unwrap();
    assert_eq!(content(&archive, "bin/[[").as_deref(), Some("busybox"));
    assert_eq!(content(&archive, "bin/sh").as_deref(), Some("busybox"));
    assert_eq!(content(&archive, "bin/after"), None);
    assert_eq!(content(&archive, "sbin").as_deref(), Some("bin"));
    assert!(content(&archive, "init").unwrap().starts_with("#!/bin/sh\n"));
    assert!(content(&archive, "tearless/settings").unwrap().contains("TERM=xterm-256color\n"));
    assert_eq!(archive, build(&spec(&busybox, Mode::Shell)).unwrap(), "the same input gives the same bytes");
}

#[test]
fn modules_load_in_the_order_given() {
    let busybox = busybox(1, APPLETS);
    let modules = [Module { name: "zz", bytes: b"1" }, Module { name: "aa", bytes: b"2" }];
    let archive = build(&QuickSpec { modules: &modules, ..spec(&busybox, Mode::Shell) }).unwrap();
    let names: Vec<_> = parse(&archive)
        .into_iter()
        .filter_map(|(p, ..)| p.strip_prefix("tearless/modules/").map(str::to_owned))
        .collect();
    assert_eq!(names, ["000-zz.ko", "001-aa.ko"]);
}

#[test]
fn module_signatures_are_left_out() {
    let mark = b"~Module signature appended~\n";
    let signed =
        |length: u8| [b"module", &b"sign"[..], &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, length], mark].concat();
    assert_eq!(without_signature(&signed(4)), b"module");
    assert_eq!(without_signature(&signed(10)), b"");
    assert_eq!(without_signature(&signed(11)), signed(11), "a length beyond the file is left alone");
    assert_eq!(without_signature(mark), mark);
    assert_eq!(without_signature(b"module"), b"module");
}

#[test]
fn refuses_what_is_no_usable_busybox() {
    for (bytes, hint) in [
        (vec![], "no arm64 program"),
        (busybox(1, APPLETS)[..40].to_vec(), "ends inside"),
        (busybox(3, APPLETS), "dynamically linked"),
        (busybox(1, "sh mount"), "without a list"),
        (busybox(1, "[ [[ sh"), "without the applet mount"),
        (busybox(1, "[ [[ zz sh"), "without the applet sh"),
    ] {
        let text = build(&spec(&bytes, Mode::Shell)).unwrap_err().to_string();
        assert!(text.contains(hint) && text.contains("busybox"), "{hint}: {text}");
    }
}

#[test]
fn refuses_words_that_a_shell_would_take_apart() {
    let busybox = busybox(1, APPLETS);
    for hostname in ["", "a b", "$(x)", "a;b", "-n", &"x".repeat(65)] {
        assert!(build(&QuickSpec { hostname, ..spec(&busybox, Mode::Shell) }).is_err(), "{hostname}");
    }
    assert!(build(&QuickSpec { term: Some("x'y"), ..spec(&busybox, Mode::Shell) }).is_err());
    let root =
        |device: &str| Mode::Root { device: device.into(), fstype: "ext4".into(), options: "rw".into() };
    assert!(build(&spec(&busybox, root("/dev/vda; x"))).is_err());
    let archive = build(&spec(&busybox, root("/dev/vda"))).unwrap();
    assert_eq!(
        content(&archive, "tearless/root-settings").unwrap(),
        "device=/dev/vda\nfstype=ext4\noptions=rw\n"
    );
}

#[test]
fn a_shell_reads_arguments_back_byte_for_byte() {
    let every_byte: Vec<u8> = (1..=255).collect();
    let argv: Vec<Vec<u8>> = vec![
        b"printf".into(),
        every_byte,
        b"".into(),
        b"-n".into(),
        b"'".into(),
        b"a  b\n\n".into(),
        b"$(exit 3) `x` \\".into(),
    ];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("argv");
    std::fs::write(&file, argv_script(&argv).unwrap()).unwrap();
    let output =
        Command::new("sh").arg("-c").arg(r#". "$0"; printf '%s\0' "$@""#).arg(&file).output().unwrap();
    let mut expected = Vec::new();
    argv.iter().for_each(|a| expected.extend([a.as_slice(), b"\0"].concat()));
    assert_eq!(output.stdout, expected);
}

#[test]
fn refuses_commands_that_no_kernel_would_start() {
    for argv in [
        vec![],
        vec![vec![]],
        vec![b"a\0b".to_vec()],
        vec![b"true".to_vec(), vec![b'x'; MAX_ARGUMENT + 1]],
        vec![vec![b'x'; 1000]; 1100],
    ] {
        assert!(argv_script(&argv).is_err());
    }
    assert!(argv_script(&[b"true".to_vec(), vec![b'x'; MAX_ARGUMENT]]).is_ok());
}

#[test]
fn each_mode_has_its_session() {
    let busybox = busybox(1, APPLETS);
    let session = |mode| {
        let archive = build(&spec(&busybox, mode)).unwrap();
        let inittab = content(&archive, "etc/inittab").unwrap();
        let script = inittab.lines().next().unwrap().rsplit_once(":/").unwrap().1.to_owned();
        assert!(content(&archive, &script).is_some(), "{script} is there");
        (script, content(&archive, "tearless/settings").unwrap().contains("on_console=yes"))
    };
    let command = |tty| Mode::Command { argv: vec![b"true".to_vec()], tty };
    assert_eq!(session(Mode::Shell), ("tearless/shell".into(), true));
    assert_eq!(session(command(true)), ("tearless/terminal".into(), true));
    assert_eq!(session(command(false)), ("tearless/command".into(), false));
}

#[test]
fn shares_are_mounted_by_either_system() {
    let list =
        [Mount { tag: "my-files".into(), read_only: false }, Mount { tag: "b".into(), read_only: true }];
    let archive = mounts(&list).unwrap();
    assert_eq!(content(&archive, "tearless/mounts").unwrap(), "my-files rw\nb ro\n");
    let units = "tearless/run/systemd/system";
    let unit = content(&archive, &format!("{units}/mnt-my\\x2dfiles.mount")).unwrap();
    assert!(unit.contains("What=my-files\nWhere=/mnt/my-files\nType=virtiofs\nOptions=rw\n"), "{unit}");
    let link = content(&archive, &format!("{units}/local-fs.target.wants/mnt-b.mount"));
    assert_eq!(link.unwrap(), "../mnt-b.mount");
    for tag in ["", "a b", "$(x)", "a\nb", &"x".repeat(37)] {
        assert!(mounts(&[Mount { tag: tag.into(), read_only: false }]).is_err(), "{tag}");
    }
}

/// Syntax errors in the guest's scripts would show only in a booted guest.
#[test]
fn scripts_parse() {
    for (name, script) in [
        ("init", INIT),
        ("library", LIBRARY),
        ("shell", SHELL),
        ("command", COMMAND),
        ("terminal", TERMINAL),
        ("root", ROOT),
        ("off", OFF),
        ("profile", PROFILE),
        ("shrc", SHRC),
    ] {
        let status = Command::new("sh").args(["-n", "-c", script]).status().unwrap();
        assert!(status.success(), "{name}");
    }
}
