use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command, sync::Barrier, thread};

use proptest::prelude::*;
use tearless_config::{BootConfig, ByteSize, ConfigError, VmConfig};

use super::*;

fn config() -> VmConfig {
    VmConfig::new(BootConfig::LinuxKernel { kernel: "Kernel".into(), initrd: None, cmdline: String::new() })
}

/// A store with the VM "deb".
fn store_with_deb() -> (tempfile::TempDir, Store, Bundle) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().join("vms"));
    let new = store.create("deb").unwrap();
    fs::write(new.path().join("Disk.img"), b"disk").unwrap();
    let bundle = new.finish(&config()).unwrap();
    (dir, store, bundle)
}

pub(crate) fn names(store: &Store) -> Vec<String> {
    store.list().unwrap().iter().map(|l| l.bundle.name().to_owned()).collect()
}

/// What lies in `folder` beside finished VMs and the store's lock.
fn leftovers(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    entries.filter(|n| !n.ends_with(".vm") && n != ".lock").collect()
}

#[test]
fn a_vm_appears_complete_and_reads_back() {
    let (_dir, store, bundle) = store_with_deb();
    assert_eq!(bundle.config().unwrap(), config());
    assert_eq!(fs::read(bundle.disk()).unwrap(), b"disk");
    assert!(bundle.logs().is_dir());
    assert_eq!(names(&store), ["deb"]);
    assert_eq!(store.find("deb").unwrap(), bundle);
    assert_eq!(store.find(bundle.path().to_str().unwrap()).unwrap(), bundle);
    assert!(leftovers(store.path()).is_empty());
}

#[test]
fn an_unfinished_vm_leaves_nothing() {
    let (_dir, store, _) = store_with_deb();
    let new = store.create("other").unwrap();
    assert_eq!(names(&store), ["deb"], "not there before it is complete");
    fs::write(new.path().join("Disk.img"), b"half").unwrap();
    drop(new);
    assert!(leftovers(store.path()).is_empty());
    assert!(matches!(store.find("other"), Err(Error::NotFound { .. })));
}

#[test]
fn a_crashed_creation_is_cleared_away_and_a_running_one_is_not() {
    let (_dir, store, _) = store_with_deb();
    let running = store.create("running").unwrap();
    for crashed in [".new-crashed-1-0", ".deleted-old-1"] {
        fs::create_dir(store.path().join(crashed)).unwrap();
        fs::write(store.path().join(crashed).join("lock"), b"1\n").unwrap();
    }
    fs::create_dir(store.path().join(".new-early-1-0")).unwrap();
    drop(store.create("next").unwrap());
    assert_eq!(leftovers(store.path()), [running.path().file_name().unwrap().to_str().unwrap()]);
    running.finish(&config()).unwrap();
    assert_eq!(names(&store), ["deb", "running"]);
}

#[test]
fn a_name_is_given_once() {
    let (_dir, store, _) = store_with_deb();
    assert!(matches!(store.create("deb"), Err(Error::Exists { .. })));
    let (one, two) = (store.create("twin").unwrap(), store.create("twin").unwrap());
    one.finish(&config()).unwrap();
    assert!(matches!(two.finish(&config()), Err(Error::Exists { .. })));
    assert!(leftovers(store.path()).is_empty());
}

#[test]
fn only_one_of_many_concurrent_creations_wins() {
    let (_dir, store, _) = store_with_deb();
    let barrier = Barrier::new(8);
    let won: usize = thread::scope(|s| {
        let make = || {
            barrier.wait();
            store.create("x").and_then(|new| new.finish(&config())).is_ok() as usize
        };
        let threads: Vec<_> = (0..8).map(|_| s.spawn(make)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(won, 1);
    assert!(leftovers(store.path()).is_empty());
}

#[test]
fn a_running_vm_is_left_alone() {
    let (_dir, store, bundle) = store_with_deb();
    let lock = bundle.lock().unwrap();
    let text = store.find("deb").unwrap().lock().unwrap_err().to_string();
    let expected = format!("VM deb is running (pid {})\n  try: tearless stop deb", std::process::id());
    assert!(text.starts_with(&expected), "{text}");
    assert_eq!(bundle.running(), Some(Some(std::process::id())));
    assert_eq!(store.list().unwrap()[0].running, Some(Some(std::process::id())));
    assert!(matches!(bundle.clone().delete(), Err(Error::Running { .. })));
    assert!(matches!(bundle.clone().rename("new"), Err(Error::Running { .. })));
    assert_eq!(bundle.config().unwrap(), config(), "reading needs no lock");
    drop(lock);
    assert_eq!(bundle.running(), None);
    bundle.lock().unwrap();
}

#[test]
fn looking_does_not_disturb_starting() {
    let (_dir, store, bundle) = store_with_deb();
    thread::scope(|s| {
        let looker = s.spawn(|| (0..200).for_each(|_| drop(store.list().unwrap())));
        while !looker.is_finished() {
            bundle.lock().unwrap();
        }
    });
}

#[test]
fn rename_and_delete() {
    let (_dir, store, bundle) = store_with_deb();
    store.create("other").unwrap().finish(&config()).unwrap();
    assert!(matches!(bundle.clone().rename("other"), Err(Error::Exists { .. })));
    assert!(matches!(bundle.clone().rename("../x"), Err(Error::Name { .. })));
    let renamed = bundle.clone().rename("new").unwrap();
    assert_eq!((renamed.name(), names(&store)), ("new", vec!["new".to_owned(), "other".to_owned()]));
    assert!(matches!(bundle.lock(), Err(Error::NotFound { .. })), "the old name is gone");
    renamed.delete().unwrap();
    assert_eq!(names(&store), ["other"]);
    assert!(leftovers(store.path()).is_empty());
}

#[test]
fn damaged_vms_are_listed_with_their_error() {
    let (_dir, store, bundle) = store_with_deb();
    for (name, content) in [
        ("cut", &b"{\"version\": 1,"[..]),
        ("bytes", b"\xff\xfe"),
        ("newer", b"{\"version\": 99}"),
        ("empty", b""),
    ] {
        let folder = store.path().join(format!("{name}.vm"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("config.json"), content).unwrap();
    }
    fs::create_dir(store.path().join("none.vm")).unwrap();
    fs::write(store.path().join("file.vm"), b"").unwrap();
    fs::create_dir(store.path().join("unrelated")).unwrap();
    let list = store.list().unwrap();
    let good: Vec<_> = list.iter().map(|l| (l.bundle.name(), l.config.is_ok())).collect();
    let expected = [
        ("bytes", false),
        ("cut", false),
        ("deb", true),
        ("empty", false),
        ("newer", false),
        ("none", false),
    ];
    assert_eq!(good, expected);
    let newer = store.find("newer").unwrap().config().unwrap_err();
    assert!(matches!(&newer, Error::Config { source: ConfigError::Newer { found: 99, known: 1 }, .. }));
    assert!(newer.to_string().starts_with("VM newer cannot be used\n"), "{newer}");
    // All of them can be deleted, even the one without a configuration.
    for name in ["bytes", "cut", "empty", "newer", "none"] {
        store.find(name).unwrap().delete().unwrap();
    }
    assert_eq!(names(&store), ["deb"]);
    assert_eq!(bundle.config().unwrap(), config());
}

#[test]
fn a_huge_configuration_is_refused() {
    let (_dir, _store, bundle) = store_with_deb();
    let file = fs::File::create(bundle.config_file()).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(matches!(bundle.config(), Err(Error::Config { .. })));
}

#[test]
fn saving_replaces_the_whole_description() {
    let (_dir, store, bundle) = store_with_deb();
    let bigger = VmConfig { memory: ByteSize::gib(16), ..config() };
    bundle.save_config(&bigger).unwrap();
    assert_eq!(store.find("deb").unwrap().config().unwrap(), bigger);
    assert_eq!(
        fs::read_dir(bundle.path()).unwrap().count(),
        4,
        "config, disk, lock, logs; nothing temporary"
    );
}

/// Run by the next test in a process that may not write a single byte to a file.
#[test]
#[ignore = "needs a process without room for files"]
fn child_without_room() {
    let bundle = Bundle::at(std::env::var_os("BUNDLE").unwrap()).unwrap();
    let error = bundle.save_config(&VmConfig { cpus: 7, ..config() }).unwrap_err().to_string();
    assert!(error.starts_with("cannot write ") && error.contains("free some room"), "{error}");
    assert!(Store::at(bundle.path().parent().unwrap()).create("full").is_err());
}

#[test]
fn a_full_disk_loses_nothing() {
    let (_dir, store, bundle) = store_with_deb();
    let output = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; ulimit -f 0; exec "$0" --exact tests::child_without_room --ignored"#])
        .arg(std::env::current_exe().unwrap())
        .env("BUNDLE", bundle.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(bundle.config().unwrap(), config());
    assert_eq!(fs::read_dir(bundle.path()).unwrap().count(), 4);
    assert!(leftovers(store.path()).is_empty());
}

#[test]
fn an_unwritable_store_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().join("file/vms"));
    fs::write(dir.path().join("file"), b"").unwrap();
    let text = store.create("deb").unwrap_err().to_string();
    assert!(text.contains("cannot create") && text.contains("file/vms"), "{text}");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    // Root may write everywhere.
    if fs::write(dir.path().join("probe"), b"").is_err() {
        let text = Store::at(dir.path().join("vms")).create("deb").unwrap_err().to_string();
        assert!(text.contains("TEARLESS_HOME"), "{text}");
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn an_empty_store_has_no_vms() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path().join("none"));
    assert!(store.list().unwrap().is_empty());
    let text = store.find("deb").unwrap_err().to_string();
    assert!(text.starts_with("there is no VM deb in ") && text.contains("tearless create"), "{text}");
    assert!(matches!(store.find("./none.vm"), Err(Error::NotFound { .. })));
}

#[test]
fn the_environment_decides_where_vms_are() {
    let store = |variables: &[(&str, &str)]| {
        Store::from_environment(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
            .map(|s| s.path().to_owned())
    };
    assert_eq!(store(&[("TEARLESS_HOME", "/t"), ("HOME", "/h")]).unwrap(), Path::new("/t"));
    assert!(matches!(store(&[("TEARLESS_HOME", "")]), Err(Error::NoHome)));
    #[cfg(not(target_os = "macos"))]
    {
        assert_eq!(store(&[("HOME", "/h")]).unwrap(), Path::new("/h/.local/share/tearless/vms"));
        assert_eq!(store(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d")]).unwrap(), Path::new("/d/tearless/vms"));
        let relative = store(&[("HOME", "/h"), ("XDG_DATA_HOME", "d")]).unwrap();
        assert_eq!(relative, Path::new("/h/.local/share/tearless/vms"));
    }
    #[cfg(target_os = "macos")]
    assert_eq!(store(&[("HOME", "/h")]).unwrap(), Path::new("/h/Library/Application Support/tearless/vms"));
}

#[test]
fn names_are_checked() {
    for name in ["deb", "Debian 13", "a.b-c_d", "größe", "1", &"x".repeat(100)] {
        check_name(name).unwrap();
    }
    for name in
        ["", ".", "..", ".hidden", "-x", "a/b", "a\\b", "a:b", "a\nb", "\u{7f}", " a", "a ", "x.vm", "x.VM"]
    {
        assert!(check_name(name).is_err(), "{name:?}");
    }
    assert!(check_name(&"x".repeat(101)).is_err());
    let text = check_name("\x1b[2J").unwrap_err().to_string();
    assert!(!text.contains('\x1b'), "control characters do not reach the terminal");
}

proptest! {
    #[test]
    fn an_accepted_name_is_one_visible_folder(name in "\\PC{0,12}|[a-z./: -]{1,8}") {
        if check_name(&name).is_ok() {
            let store = Store::at("/store");
            let path = store.folder_of(&name);
            prop_assert_eq!(path.parent(), Some(store.path()));
            prop_assert!(!path.file_name().unwrap().to_str().unwrap().starts_with('.'));
        }
    }
}

mod layered {
    use tearless_config::{DiskConfig, VmConfig};
    use tearless_storage::{Disk, Format, OpenOptions, Sync};

    use super::*;

    const SIZE: usize = 200 << 10;

    fn with_disk() -> VmConfig {
        VmConfig { disks: vec![DiskConfig::new("Disk.img")], ..config() }
    }

    /// A store with the VM "deb", whose disk is full of sevens.
    fn store() -> (tempfile::TempDir, Store, Bundle) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("vms"));
        let new = store.create("deb").unwrap();
        fs::write(new.path().join("Disk.img"), vec![7; SIZE]).unwrap();
        fs::write(new.path().join("Kernel"), b"kernel").unwrap();
        let bundle = new.finish(&with_disk()).unwrap();
        (dir, store, bundle)
    }

    fn disk(bundle: &Bundle) -> std::sync::Arc<dyn Disk> {
        let config = bundle.config().unwrap();
        let format = Some(if config.disks[0].format.is_some() { Format::Qcow2 } else { Format::Raw });
        let options = OpenOptions { format, sync: Sync::None, ..OpenOptions::default() };
        tearless_storage::open(&bundle.path().join(&config.disks[0].path), options).unwrap()
    }

    /// Writes `byte` at `at`, as a guest would.
    fn write(bundle: &Bundle, at: u64, byte: u8) {
        disk(bundle).write_at(&[byte; 512], at).unwrap();
    }

    /// The first bytes of the first three 64 KiB.
    fn read(bundle: &Bundle) -> [u8; 3] {
        let disk = disk(bundle);
        [0, 1, 2].map(|i| {
            let mut data = [0];
            disk.read_at(&mut data, i << 16).unwrap();
            data[0]
        })
    }

    fn layers(bundle: &Bundle) -> usize {
        let first = usize::from(bundle.path().join("Disk.img").exists());
        first + fs::read_dir(bundle.path().join("disks")).map_or(0, Iterator::count)
    }

    fn snapshots(bundle: &Bundle) -> Vec<(String, Option<String>)> {
        bundle.list_snapshots().unwrap().into_iter().map(|(name, s)| (name, s.parent)).collect()
    }

    #[test]
    fn snapshots_are_a_tree_to_move_in() {
        let (_dir, _store, bundle) = store();
        let lock = bundle.lock().unwrap();
        let tree = bundle.snapshots(&lock);
        tree.take("one", true).unwrap();
        write(&bundle, 0, 1);
        tree.take("two", true).unwrap();
        write(&bundle, 1 << 16, 2);
        assert_eq!(read(&bundle), [1, 2, 7]);
        tree.restore("one").unwrap();
        assert_eq!(read(&bundle), [7, 7, 7]);
        write(&bundle, 2 << 16, 3);
        tree.take("three", true).unwrap();
        assert_eq!(read(&bundle), [7, 7, 3]);
        tree.restore("two").unwrap();
        assert_eq!(read(&bundle), [1, 7, 7]);
        let some = |name: &str| Some(name.to_owned());
        let mut tree_of = snapshots(&bundle);
        tree_of.sort();
        assert_eq!(
            tree_of,
            [("one".to_owned(), None), ("three".to_owned(), some("one")), ("two".to_owned(), some("one"))]
        );
        tree.delete("one").unwrap();
        assert!(snapshots(&bundle).iter().all(|(_, parent)| parent.is_none()));
        assert_eq!(read(&bundle), [1, 7, 7]);
        tree.restore("three").unwrap();
        assert_eq!(read(&bundle), [7, 7, 3]);
        assert!(matches!(tree.restore("one"), Err(Error::NoSnapshot { .. })));
        assert!(matches!(tree.take("two", true), Err(Error::SnapshotExists { .. })));
    }

    #[test]
    fn room_comes_back_when_nothing_needs_it() {
        let (_dir, _store, bundle) = store();
        let lock = bundle.lock().unwrap();
        let tree = bundle.snapshots(&lock);
        tree.take("a", true).unwrap();
        let with_one = layers(&bundle);
        for _ in 0..5 {
            tree.restore("a").unwrap();
        }
        assert_eq!(layers(&bundle), with_one, "what was thrown away is gone");
        write(&bundle, 0, 1);
        tree.take("b", true).unwrap();
        tree.restore("a").unwrap();
        tree.delete("b").unwrap();
        assert_eq!(layers(&bundle), with_one);
        assert_eq!(read(&bundle), [7, 7, 7]);
    }

    #[test]
    fn what_killed_processes_were_writing_goes_and_what_living_ones_write_stays() {
        let (_dir, _store, bundle) = store();
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let lock = bundle.lock().unwrap();
        bundle.snapshots(&lock).take("a", false).unwrap();
        let at = |folder: &str, process: u32| bundle.path().join(folder).join(format!(".b.json.{process}"));
        for process in [child.id(), std::process::id()] {
            fs::write(at(".", process), "{").unwrap();
            fs::write(at("snapshots", process), "{").unwrap();
        }
        bundle.snapshots(&lock).restore("a").unwrap();
        for folder in [".", "snapshots"] {
            assert!(!at(folder, child.id()).exists());
            assert!(at(folder, std::process::id()).exists());
        }
        assert!(bundle.path().join("snapshots/.lock").exists());
    }

    #[test]
    fn an_interrupted_take_leaves_the_old_state() {
        let (_dir, _store, bundle) = store();
        let lock = bundle.lock().unwrap();
        let tree = bundle.snapshots(&lock);
        // A crash before the commit: a layer that nobody names.
        fs::create_dir(bundle.path().join("disks")).unwrap();
        fs::write(bundle.path().join("disks/0123.qcow2"), b"half").unwrap();
        assert_eq!(read(&bundle), [7, 7, 7]);
        tree.take("a", true).unwrap();
        assert!(!bundle.path().join("disks/0123.qcow2").exists());
        // A crash after it, before the snapshot is named: the state is the same, one layer up.
        write(&bundle, 0, 1);
        tree.take("b", true).unwrap();
        fs::remove_file(bundle.path().join("snapshots/b.json")).unwrap();
        assert_eq!(read(&bundle), [1, 7, 7]);
        tree.take("b", true).unwrap();
        assert_eq!(snapshots(&bundle).last().unwrap(), &("b".to_owned(), None));
        tree.restore("b").unwrap();
        assert_eq!(read(&bundle), [1, 7, 7]);
    }

    /// What a VM that runs says that it has open.
    fn open(bundle: &Bundle, config: &VmConfig) -> Vec<RunningDisk> {
        let path = bundle.path().join(&config.disks[0].path);
        vec![RunningDisk { path, size: 204_800, read_only: false }]
    }

    #[test]
    fn a_running_vm_goes_on_in_new_layers() {
        let (_dir, _store, bundle) = store();
        let before = bundle.config().unwrap();
        // Given up before the commit: nothing is left.
        drop(bundle.begin_snapshot("a", &open(&bundle, &before)).unwrap());
        assert_eq!((layers(&bundle), bundle.config().unwrap()), (1, before.clone()));
        // Given up afterwards: the VM goes on in its old file, and the layer above it stays out of the way.
        let mut live = bundle.begin_snapshot("a", &open(&bundle, &before)).unwrap();
        live.commit().unwrap();
        drop(live);
        fs::write(bundle.path().join("Disk.img"), vec![8; SIZE]).unwrap();
        assert_eq!((read(&bundle), snapshots(&bundle)), ([8; 3], Vec::new()));
        // And once more, as a whole; the VM has memory.
        let mut live = bundle.begin_snapshot("a", &open(&bundle, &before)).unwrap();
        let handed = live.layers().unwrap();
        assert!(
            matches!(&*handed, [(0, files)] if files.len() == 2 && files[1].0.ends_with("Disk.img"))
                || handed.is_empty()
        );
        live.commit().unwrap();
        fs::create_dir_all(bundle.taken()).unwrap();
        fs::write(bundle.taken().join("State.json"), "{}").unwrap();
        live.finish(true).unwrap();
        assert!(!bundle.taken().exists());
        write(&bundle, 0, 1);
        let running = bundle.config().unwrap();
        assert!(matches!(
            bundle.begin_snapshot("a", &open(&bundle, &running)).map(drop),
            Err(Error::SnapshotExists { .. })
        ));
        let elsewhere = RunningDisk { path: "/elsewhere".into(), size: 512, read_only: false };
        assert!(matches!(bundle.begin_snapshot("b", &[elsewhere]).map(drop), Err(Error::Foreign { .. })));
        let lock = bundle.lock().unwrap();
        let tree = bundle.snapshots(&lock);
        assert!(bundle.snapshot("a").unwrap().memory);
        assert!(matches!(tree.restore("a"), Err(Error::State(_))), "its memory is of no use");
        assert_eq!(read(&bundle), [1, 8, 8], "nothing is lost by that");
        tree.delete("a").unwrap();
        assert!(!bundle.path().join("snapshots/a.state").exists());
        assert_eq!(read(&bundle), [1, 8, 8]);
    }

    /// A whole state in the folder `at`.
    fn save_state(at: &Path, parts: u32) {
        use tearless_memory::{Gpa, GuestMemory};
        use tearless_state::{Encoded, Machine, Parts, Saved, Writing};
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        let writing = Writing::begin(&at.with_extension("new")).unwrap();
        let range = Gpa(0)..Gpa(4096);
        writing.memory(&GuestMemory::new(&[range]).unwrap(), (Gpa(0), 4096), &|_, _| ()).unwrap();
        let machine = Machine { engine: "soft".into(), vcpus: 1, memory: 4096, devices: Vec::new() };
        let mut saved = Parts::default();
        saved.put("clock", Encoded::new(1, &parts).unwrap());
        writing.finish(&Saved::new(machine, saved), at).unwrap();
    }

    fn suspended_with(bundle: &Bundle) -> Option<u32> {
        let mut saved = bundle.suspended()?.load().unwrap();
        Some(saved.parts.take("clock").unwrap().decode(1).unwrap())
    }

    #[test]
    fn memory_comes_back_with_its_disks_and_goes_when_it_does_not_fit_them() {
        let (_dir, _store, bundle) = store();
        let lock = bundle.lock().unwrap();
        let tree = bundle.snapshots(&lock);
        tree.take("off", true).unwrap();
        write(&bundle, 0, 1);
        save_state(&bundle.saved(), 5);
        tree.take("on", true).unwrap();
        tree.take("disks", false).unwrap();
        let memories: Vec<_> =
            bundle.list_snapshots().unwrap().into_iter().map(|(name, s)| (name, s.memory)).collect();
        assert!(memories.iter().all(|(name, memory)| *memory == (name == "on")), "{memories:?}");
        assert_eq!(suspended_with(&bundle), Some(5), "taking one changes nothing");
        save_state(&bundle.saved(), 6);
        tree.restore("off").unwrap();
        assert_eq!((suspended_with(&bundle), read(&bundle)), (None, [7, 7, 7]));
        tree.restore("on").unwrap();
        assert_eq!((suspended_with(&bundle), read(&bundle)), (Some(5), [1, 7, 7]));
        bundle.suspended().unwrap().remove().unwrap();
        // A crash after the commit: whoever comes next puts the state in its place.
        let config = VmConfig { resume: Some("on".into()), ..bundle.config().unwrap() };
        bundle.save_config(&config).unwrap();
        assert_eq!(suspended_with(&bundle), Some(5));
        fs::create_dir_all(bundle.taking()).unwrap();
        bundle.settle(&lock).unwrap();
        assert!(bundle.config().unwrap().resume.is_none() && !bundle.taking().exists());
        assert_eq!(suspended_with(&bundle), Some(5));
        tree.delete("on").unwrap();
        assert_eq!(suspended_with(&bundle), Some(5), "the VM has its own");
    }

    #[test]
    fn what_efi_keeps_goes_with_the_disks() {
        let (_dir, store, bundle) = store();
        let boot = BootConfig::Efi { variables: "NVRAM".into(), installer: None };
        let config = VmConfig { boot, ..bundle.config().unwrap() };
        bundle.save_config(&config).unwrap();
        let file = |bundle: &Bundle| match bundle.config().unwrap().boot {
            BootConfig::Efi { variables, .. } => bundle.path().join(variables),
            _ => unreachable!(),
        };
        fs::write(file(&bundle), "first").unwrap();
        let running = open(&bundle, &config);
        let mut live = bundle.begin_snapshot("live", &running).unwrap();
        live.commit().unwrap();
        live.finish(false).unwrap();
        fs::write(file(&bundle), "second").unwrap();
        let lock = bundle.lock().unwrap();
        let tree = bundle.snapshots(&lock);
        tree.take("two", true).unwrap();
        fs::write(file(&bundle), "third").unwrap();
        tree.restore("live").unwrap();
        assert_eq!(fs::read(file(&bundle)).unwrap(), b"first");
        tree.restore("two").unwrap();
        assert_eq!(fs::read(file(&bundle)).unwrap(), b"second");
        tree.delete("two").unwrap();
        tree.delete("live").unwrap();
        drop(lock);
        let clone = bundle.clone_to(&store, "twin", None, |_| ()).unwrap();
        fs::write(file(&clone), "clone").unwrap();
        assert_eq!(fs::read(file(&bundle)).unwrap(), b"second");
    }

    #[test]
    fn a_damaged_snapshot_loses_nothing() {
        let (_dir, _store, bundle) = store();
        let lock = bundle.lock().unwrap();
        let tree = bundle.snapshots(&lock);
        tree.take("a", true).unwrap();
        write(&bundle, 0, 1);
        tree.take("b", true).unwrap();
        let file = bundle.path().join("snapshots/a.json");
        let good = fs::read_to_string(&file).unwrap();
        fs::write(&file, good.replacen("\"version\": 1", "\"version\": 9", 1)).unwrap();
        let before = layers(&bundle);
        assert!(tree.restore("a").unwrap_err().to_string().contains("version 9"));
        assert!(tree.restore("b").is_err(), "nothing is swept while something cannot be read");
        assert!(layers(&bundle) >= before);
        assert!(bundle.list_snapshots().is_err());
        let (readable, unreadable) = bundle.readable_snapshots().unwrap();
        assert_eq!((readable.len(), readable[0].0.as_str(), unreadable.len()), (1, "b", 1));
        fs::write(&file, good.replacen("\"config\": {", "\"config\": {\"apple\":{\"sound\":\"none\"},", 1))
            .unwrap();
        tree.restore("a").unwrap();
        assert_eq!(read(&bundle), [7, 7, 7]);
        assert_eq!(
            bundle.config().unwrap().sound.speaker,
            Some(tearless_config::SoundEnd::None),
            "what an older release said"
        );
    }

    #[test]
    fn a_clone_and_its_original_go_their_own_ways() {
        let (_dir, store, bundle) = store();
        write(&bundle, 0, 1);
        let clone =
            bundle.clone_to(&store, "two", None, |config| config.machine_id = Some("0".repeat(32))).unwrap();
        write(&bundle, 1 << 16, 2);
        write(&clone, 2 << 16, 3);
        assert_eq!((read(&bundle), read(&clone)), ([1, 2, 7], [1, 7, 3]));
        assert_eq!(clone.config().unwrap().machine_id, Some("0".repeat(32)));
        let third = clone.clone_to(&store, "three", None, |_| {}).unwrap();
        write(&third, 0, 9);
        bundle.delete().unwrap();
        assert_eq!((read(&clone), read(&third)), ([1, 7, 3], [9, 7, 3]));
        clone.delete().unwrap();
        assert_eq!(read(&third), [9, 7, 3]);
        assert_eq!(fs::read(third.path().join("Kernel")).unwrap(), b"kernel");
    }

    #[test]
    fn a_clone_that_fails_leaves_nothing() {
        let (_dir, store, bundle) = store();
        let lock = bundle.lock().unwrap();
        assert!(matches!(bundle.clone_to(&store, "two", None, |_| {}), Err(Error::Running { .. })));
        drop(lock);
        assert!(matches!(bundle.clone_to(&store, "deb", None, |_| {}), Err(Error::Exists { .. })));
        let mut config = bundle.config().unwrap();
        config.disks.push(DiskConfig::new("/somewhere/else.img"));
        bundle.save_config(&config).unwrap();
        assert!(matches!(bundle.clone_to(&store, "two", None, |_| {}), Err(Error::Foreign { .. })));
        assert_eq!(names(&store), ["deb"]);
        assert!(leftovers(store.path()).is_empty());
        assert_eq!(read(&bundle), [7, 7, 7]);
    }

    #[test]
    fn disks_of_stopped_vms_grow() {
        let (_dir, _store, bundle) = store();
        bundle.grow_disk(0, 1 << 20).unwrap();
        assert_eq!(disk(&bundle).size(), 1 << 20);
        bundle.snapshots(&bundle.lock().unwrap()).take("a", true).unwrap();
        bundle.grow_disk(0, 2 << 20).unwrap();
        assert_eq!(disk(&bundle).size(), 2 << 20);
        assert!(matches!(bundle.grow_disk(0, 1 << 20), Err(Error::Shrink { .. })));
        assert!(matches!(bundle.grow_disk(1, 4 << 20), Err(Error::NoDisk { .. })));
        bundle.snapshots(&bundle.lock().unwrap()).restore("a").unwrap();
        assert_eq!(disk(&bundle).size(), 1 << 20);
    }
}
