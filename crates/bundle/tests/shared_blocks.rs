//! Snapshots and clones where the file system shares blocks between files: on real file systems, which root must mount.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::Command,
    sync::Arc,
};

use tearless_bundle::{Bundle, Store};
use tearless_config::{BootConfig, DiskConfig, VmConfig};
use tearless_storage::{Disk, Format, OpenOptions};

/// A disk; the file system has room for five of them.
const SIZE: usize = 64 << 20;
const VOLUME: u64 = 400 << 20;

/// A file system in a file, mounted while this lives.
struct Volume(tempfile::TempDir);

impl Volume {
    /// `None` where that cannot be: without root, the tools or the kernel's help.
    fn new(program: &str, args: &[&str]) -> Option<Self> {
        let skipped = |why: &str| {
            let _ = writeln!(io::stderr(), "skipped: {program}: {why}");
            None
        };
        if !rustix::process::geteuid().is_root() {
            return skipped("only root mounts file systems");
        }
        let folder = tempfile::tempdir().unwrap();
        let (image, point) = (folder.path().join("image"), folder.path().join("at"));
        fs::File::create(&image).unwrap().set_len(VOLUME).unwrap();
        fs::create_dir(&point).unwrap();
        match Command::new(program).args(args).arg(&image).output() {
            Err(error) => return skipped(&error.to_string()),
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        }
        match Command::new("mount").args(["-o", "loop"]).args([&image, &point]).output() {
            Ok(output) if output.status.success() => Some(Self(folder)),
            Ok(output) => skipped(&String::from_utf8_lossy(&output.stderr)),
            Err(error) => skipped(&error.to_string()),
        }
    }

    fn free(&self) -> u64 {
        let folder = fs::File::open(self.0.path().join("at")).unwrap();
        rustix::fs::syncfs(&folder).unwrap();
        let space = rustix::fs::fstatvfs(&folder).unwrap();
        space.f_bavail * space.f_frsize
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path().join("at")).status();
    }
}

fn disk_of(bundle: &Bundle) -> Arc<dyn Disk> {
    let disk = &bundle.config().unwrap().disks[0];
    assert_eq!(disk.format, None, "an overlay");
    let options = OpenOptions { format: Some(Format::Raw), ..OpenOptions::default() };
    tearless_storage::open(&bundle.path().join(&disk.path), options).unwrap()
}

fn write(bundle: &Bundle, at: u64, byte: u8) {
    let disk = disk_of(bundle);
    disk.write_at(&[byte; 4096], at).unwrap();
    disk.flush().unwrap();
}

/// Bytes from the start, from where clones write, and from the end.
fn read(bundle: &Bundle) -> [u8; 3] {
    let disk = disk_of(bundle);
    [0, 1 << 20, SIZE as u64 - 512].map(|at| {
        let mut data = [0; 512];
        disk.read_at(&mut data, at).unwrap();
        data[0]
    })
}

/// The VM "vm" in `store`, whose disk holds `content`.
fn make(store: &Store, content: &[u8]) -> Bundle {
    let new = store.create("vm").unwrap();
    fs::write(new.path().join("Disk.img"), content).unwrap();
    fs::write(new.path().join("Kernel"), b"kernel").unwrap();
    let boot = BootConfig::LinuxKernel { kernel: "Kernel".into(), initrd: None, cmdline: String::new() };
    new.finish(&VmConfig { disks: vec![DiskConfig::new("Disk.img")], ..VmConfig::new(boot) }).unwrap()
}

fn a_life(folder: &Path, volume: &Volume) {
    let store = Store::at(folder.to_owned());
    // What no file system can store in less.
    let content: Vec<u8> =
        (0..SIZE as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 37) as u8).collect();
    let bundle = make(&store, &content);
    let [first, second, last] = read(&bundle);
    let before = volume.free();

    let lock = bundle.lock().unwrap();
    let tree = bundle.snapshots(&lock);
    for round in 0..5 {
        tree.take(&format!("s{round}"), true).unwrap();
        write(&bundle, 0, first.wrapping_add(round + 1));
    }
    drop(lock);
    let clones = [1, 2, 3, 4, 5].map(|n: u8| {
        let clone = bundle.clone_to(&store, &format!("clone{n}"), None, |_| {}).unwrap();
        write(&clone, 1 << 20, second.wrapping_add(n));
        clone
    });
    // Copies would not even have had the room.
    let taken = before.saturating_sub(volume.free());
    assert!(taken < SIZE as u64 / 4, "{taken} bytes for ten states of {SIZE}");
    assert_eq!(read(&bundle), [first.wrapping_add(5), second, last]);
    for (clone, n) in clones.iter().zip(1..) {
        assert_eq!(read(clone), [first.wrapping_add(5), second.wrapping_add(n), last]);
    }

    let lock = bundle.lock().unwrap();
    let tree = bundle.snapshots(&lock);
    tree.restore("s2").unwrap();
    assert_eq!(read(&bundle), [first.wrapping_add(2), second, last]);
    tree.restore("s0").unwrap();
    let mut all = vec![0; SIZE];
    disk_of(&bundle).read_at(&mut all, 0).unwrap();
    assert!(all == content);
}

#[test]
fn xfs_shares() {
    if let Some(volume) = Volume::new("mkfs.xfs", &["-q", "-m", "reflink=1"]) {
        a_life(&volume.0.path().join("at/vms"), &volume);
    }
}

#[test]
fn btrfs_shares() {
    if let Some(volume) = Volume::new("mkfs.btrfs", &["-q"]) {
        a_life(&volume.0.path().join("at/vms"), &volume);
    }
}
