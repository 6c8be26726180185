use std::process::Command;

use super::*;
use crate::progress::Silent;
use crate::tree::{Meta, NodeKind};

fn options(size: u64) -> Options {
    Options { start: 0, size, label: "test".into(), uuid: uuid_from([7; 16]), time: 1_700_000_000 }
}

fn tree() -> Tree {
    let mut tree = Tree::new(&std::env::temp_dir(), 1_700_000_000).unwrap();
    let meta = |mode| Meta { mode, uid: 70_000, gid: 5, mtime: 5_000_000_000 };
    tree.write("etc/hostname", b"deb\n", meta(0o644)).unwrap();
    tree.write("empty", b"", meta(0o4755)).unwrap();
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    tree.write("usr/large", &large, meta(0o600)).unwrap();
    for n in 0..600 {
        tree.write(&format!("many/a-rather-long-name-for-a-file-number-{n}"), b"x", meta(0o644)).unwrap();
        tree.directory(&format!("dirs/{n}"), meta(0o755)).unwrap();
    }
    tree.symlink("short", "etc/hostname", 0).unwrap();
    tree.symlink("long", &"x/".repeat(100), 0).unwrap();
    tree.symlink("sixty", &"y".repeat(60), 0).unwrap();
    for (path, kind) in [
        ("dev/null", crate::deb::EntryKind::CharDevice(1, 3)),
        ("dev/vda", crate::deb::EntryKind::BlockDevice(254, 1000)),
        ("run/fifo", crate::deb::EntryKind::Fifo),
        ("etc/again", crate::deb::EntryKind::HardLink("etc/hostname".into())),
    ] {
        let entry =
            crate::deb::Entry { path: path.into(), kind, mode: 0o600, uid: 0, gid: 0, mtime: 1, size: 0 };
        tree.add(&entry, &mut std::io::empty()).unwrap();
    }
    tree
}

/// The tools' folder is not on every user's search path.
fn tool(name: &str) -> Option<Command> {
    ["/usr/sbin", "/sbin", "/usr/bin", "/opt/homebrew/opt/e2fsprogs/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
        .map(Command::new)
}

fn debugfs(image: &Path, request: &str) -> Option<String> {
    let output = tool("debugfs")?.args(["-R", request]).arg(image).output().unwrap();
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn e2fsck_finds_nothing_to_complain_about() {
    let dir = tempfile::tempdir().unwrap();
    for size in [64 << 20, 300 << 20, (3 << 30) + 4096, 64 << 30] {
        let image = dir.path().join("disk");
        format(&image, &mut tree(), &options(size), &Silent).unwrap();
        let Some(mut check) = tool("e2fsck") else { return };
        let output = check.arg("-fn").arg(&image).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "size {size}:\n{text}");
        use std::os::unix::fs::MetadataExt;
        let taken = std::fs::metadata(&image).unwrap().blocks() * 512;
        assert!(taken < 40 << 20, "{taken} bytes are not sparse");
    }
}

#[test]
fn what_went_in_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk");
    let mut tree = tree();
    format(&image, &mut tree, &options(256 << 20), &Silent).unwrap();
    let Some(stat) = debugfs(&image, "stat /etc/hostname") else { return };
    for part in ["Mode:  0644", "User: 70000", "Group:     5", "Links: 2", "Size: 4", "2128"] {
        assert!(stat.contains(part), "{part} in {stat}");
    }
    let out = dir.path().join("out");
    debugfs(&image, &format!("dump /usr/large {}", out.display()));
    assert_eq!(Some(std::fs::read(&out).unwrap()), tree.read("usr/large").unwrap());
    debugfs(&image, &format!("dump /etc/again {}", out.display()));
    assert_eq!(std::fs::read(&out).unwrap(), b"deb\n");
    let stat_of = |path: &str| debugfs(&image, &format!("stat {path}")).unwrap();
    assert!(stat_of("/empty").contains("04755"));
    assert!(stat_of("/short").contains("Fast link dest: \"etc/hostname\""));
    assert!(stat_of("/long").contains("Size: 200"));
    assert!(stat_of("/dev/null").contains("01:03"));
    assert!(stat_of("/dev/vda").contains("254:1000"), "{}", stat_of("/dev/vda"));
    assert!(stat_of("/run/fifo").contains("FIFO"));
    assert!(stat_of("/dirs").contains("Links: 602"));
    assert_eq!(debugfs(&image, "ls /many").unwrap().matches("a-rather-long").count(), 600);
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let image = dir.path().join(name);
        format(&image, &mut tree(), &options(64 << 20), &Silent).unwrap();
        crate::digest::Digest::of_file(&image).unwrap()
    };
    assert_eq!(make("a"), make("b"));
}

#[test]
fn too_small_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk");
    let mut tree = tree();
    tree.write("huge", &vec![1; 80 << 20], Meta::root(0o644, 0)).unwrap();
    let error = format(&image, &mut tree, &options(64 << 20), &Silent).unwrap_err();
    assert!(error.what().contains("too small"), "{error}");
    assert_eq!(format(&image, &mut tree, &options(1), &Silent).unwrap_err().kind(), Kind::Request);
    assert!(matches!(tree.nodes()[0].kind, NodeKind::Directory(_)));
}
