//! Content.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    time::{Duration, SystemTime},
};

use super::*;

#[test]
fn what_one_side_writes_the_other_reads() {
    let mut guest = Guest::new();
    let (node, handle) = guest.create(1, "a", 0o644);
    assert_eq!(guest.write(handle, 0, 1, b"from the guest").ok().u32(0), 14);
    assert_eq!(fs::read(guest.path("a")).unwrap(), b"from the guest");
    guest.host_file("a", "from the host!");
    assert_eq!(guest.read(handle, 5, 100).ok().body, b"the host!");
    assert_eq!(guest.attr(node).ok().u64(SIZE), 14);
    guest.release(handle);
    guest.read(handle, 0, 1).failed(Errno::BADF);
}

#[test]
fn an_unlinked_file_lives_until_it_is_closed() {
    let mut guest = Guest::new();
    let (node, handle) = guest.create(1, "a", 0o644);
    guest.write(handle, 0, 1, b"x").ok();
    guest.name(opcode::UNLINK, 1, &[], "a").ok();
    assert!(!guest.path("a").exists());
    assert_eq!(guest.read(handle, 0, 9).ok().body, b"x");
    assert_eq!(guest.attr(node).ok().u64(SIZE), 1);
    let answer = guest.name(opcode::TMPFILE, 1, &[2, 0o100_600, 0, 0], "/").ok();
    assert_eq!(guest.write(answer.u64(128), 0, 2, b"nameless").ok().u32(0), 8);
    let link = [&answer.u64(0).to_le_bytes()[..], b"named\0"].concat();
    guest.ask(opcode::LINK, 1, &[&link]).ok();
    assert_eq!(fs::read(guest.path("named")).unwrap(), b"nameless");
}

#[test]
fn appending_is_at_the_end_whoever_wrote_it() {
    const APPEND: u32 = 1 | 0o2000;
    let mut guest = Guest::new();
    let (_, handle) = guest.create(1, "log", 0o644);
    guest.write(handle, 0, APPEND, b"one ").ok();
    guest.host_file("log", "host wrote this ");
    guest.write(handle, 4, APPEND, b"two").ok();
    assert_eq!(fs::read(guest.path("log")).unwrap(), b"host wrote this two");
    // A page of the guest's cache (FUSE_WRITE_CACHE) goes where it belongs.
    let rest = [1u32, 1, 0, 0, APPEND, 0].map(u32::to_le_bytes).concat();
    guest.ask(opcode::WRITE, 1, &[&handle.to_le_bytes(), &[0; 8], &rest, b"H"]).ok();
    assert_eq!(fs::read(guest.path("log")).unwrap(), b"Host wrote this two");
}

#[test]
fn holes_copies_and_sizes() {
    let mut guest = Guest::new();
    let (node, handle) = guest.create(1, "a", 0o644);
    let (_, other) = guest.create(1, "b", 0o644);
    guest.set(node, fattr::SIZE, (0, 0, 0), 1 << 20).ok();
    guest.write(handle, 512 << 10, 2, &[7; 4096]).ok();
    let seek = |guest: &mut Guest, whence: u64| {
        guest.ask(opcode::LSEEK, 1, &[&handle.to_le_bytes(), &[0; 8], &whence.to_le_bytes()])
    };
    assert_eq!(seek(&mut guest, 3).ok().u64(0), 512 << 10);
    assert_eq!(seek(&mut guest, 4).ok().u64(0), 0);
    seek(&mut guest, 0).failed(Errno::INVAL);
    let copy = [handle, 512 << 10, 0, other, 3, 4096, 0].map(u64::to_le_bytes).concat();
    assert_eq!(guest.ask(opcode::COPY_FILE_RANGE, 1, &[&copy]).ok().u32(0), 4096);
    assert_eq!(fs::read(guest.path("b")).unwrap()[3..], [7; 4096]);
    // FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE.
    let punch = [handle, 512 << 10, 4096, 3].map(u64::to_le_bytes).concat();
    guest.ask(opcode::FALLOCATE, 1, &[&punch]).ok();
    assert_eq!(guest.read(handle, 512 << 10, 4096).ok().body, [0; 4096]);
    let nonsense = [handle, 0, 4096, 0x8000].map(u64::to_le_bytes).concat();
    guest.ask(opcode::FALLOCATE, 1, &[&nonsense]).failed(Errno::OPNOTSUPP);
}

#[test]
fn the_cache_is_kept_while_nothing_changed() {
    let mut guest = Guest::new();
    guest.host_file("a", "one");
    let node = guest.node("a");
    let keeps = |guest: &mut Guest| guest.open(node, 0).ok().u32(8) & flag::FOPEN_KEEP_CACHE != 0;
    assert!(!keeps(&mut guest));
    assert!(keeps(&mut guest));
    guest.host_file("a", "two!");
    assert!(!keeps(&mut guest));
    assert!(keeps(&mut guest));
}

#[test]
fn links_devices_and_pipes_are_not_opened() {
    let mut guest = Guest::new();
    symlink("/etc/passwd", guest.path("out")).unwrap();
    let link = guest.node("out");
    assert_eq!(guest.attr(link).ok().u32(MODE) & 0o170_000, 0o120_000);
    assert_eq!(guest.ask(opcode::READLINK, link, &[]).ok().body, b"/etc/passwd");
    guest.open(link, 0).failed(Errno::LOOP);
    guest.set(link, fattr::SIZE, (0, 0, 0), 0).failed(Errno::LOOP);
    guest.lookup(link, "x").failed(Errno::NOTDIR);
    symlink("/etc", guest.path("etc")).unwrap();
    let link = guest.node("etc");
    guest.lookup(link, "passwd").failed(Errno::NOTDIR);
    guest.ask(opcode::OPENDIR, link, &[&[0; 8]]).failed(Errno::NOTDIR);
    guest.name(opcode::CREATE, 1, &[2, 0o644, 0, 0], "out").failed(Errno::LOOP);
    let fifo = rustix::fs::FileType::Fifo;
    let folder = fs::File::open(guest.folder.path()).unwrap();
    rustix::fs::mknodat(folder, "fifo", fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let fifo = guest.node("fifo");
    assert_eq!(guest.attr(fifo).ok().u32(MODE) & 0o170_000, 0o010_000);
    guest.open(fifo, 0).failed(Errno::ACCES);
}

#[test]
fn a_read_only_share_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "kept").unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    let options = ShareOptions { read_only: true, guest_owner: 0 };
    let mut guest = Guest::on(folder, options, Limits::default());
    // Read before it was written, so that the host would note the next time.
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for path in [guest.path("a"), guest.path("d")] {
        fs::File::open(path).unwrap().set_times(fs::FileTimes::new().set_accessed(long_ago)).unwrap();
    }
    let before = fs::metadata(guest.path("a")).unwrap();
    let node = guest.node("a");
    let handle = guest.open(node, 0).ok().u64(0);
    assert_eq!(guest.read(handle, 0, 9).ok().body, b"kept");
    let listed = guest.node("d");
    let open = guest.ask(opcode::OPENDIR, listed, &[&[0; 8]]).ok().u64(0);
    let list = [open, 0, 4096, 0, 0].map(u64::to_le_bytes).concat();
    guest.ask(opcode::READDIR, listed, &[&list]).ok();
    for flags in [1, 2, 0o1000] {
        guest.open(node, flags).failed(Errno::ROFS);
    }
    guest.chmod(node, 0o777).failed(Errno::ROFS);
    guest.set(node, fattr::SIZE, (0, 0, 0), 0).failed(Errno::ROFS);
    guest.name(opcode::CREATE, 1, &[2, 0o644, 0, 0], "n").failed(Errno::ROFS);
    guest.name(opcode::TMPFILE, 1, &[2, 0o644, 0, 0], "n").failed(Errno::ROFS);
    guest.name(opcode::MKNOD, 1, &[0o100_644, 0, 0, 0], "n").failed(Errno::ROFS);
    guest.name(opcode::MKDIR, 1, &[0o755, 0], "n").failed(Errno::ROFS);
    guest.ask(opcode::SYMLINK, 1, &[b"n\0t\0"]).failed(Errno::ROFS);
    guest.ask(opcode::LINK, 1, &[&node.to_le_bytes(), b"n\0"]).failed(Errno::ROFS);
    guest.name(opcode::UNLINK, 1, &[], "a").failed(Errno::ROFS);
    guest.name(opcode::RMDIR, 1, &[], "d").failed(Errno::ROFS);
    guest.rename((1, "a"), (1, "b"), 0).failed(Errno::ROFS);
    guest.ask(opcode::ACCESS, node, &[&[2, 0, 0, 0, 0, 0, 0, 0]]).failed(Errno::ROFS);
    guest.write(handle, 0, 0, b"x").failed(Errno::BADF);
    let set = [&[1u8, 0, 0, 0, 0, 0, 0, 0][..], b"user.x\0y"].concat();
    guest.ask(opcode::SETXATTR, node, &[&set]).failed(Errno::ROFS);
    guest.ask(opcode::REMOVEXATTR, node, &[b"user.x\0"]).failed(Errno::ROFS);
    let allocate = [handle, 0, 4096, 0].map(u64::to_le_bytes).concat();
    guest.ask(opcode::FALLOCATE, 1, &[&allocate]).failed(Errno::ROFS);
    let after = fs::metadata(guest.path("a")).unwrap();
    assert_eq!((after.ctime_nsec(), after.len()), (before.ctime_nsec(), 4));
    assert_eq!(after.permissions().mode(), before.permissions().mode());
    for path in [guest.path("a"), guest.path("d")] {
        assert_eq!(fs::metadata(path).unwrap().accessed().unwrap(), long_ago);
    }
    assert_eq!(fs::read_dir(guest.folder.path()).unwrap().count(), 2);
}

/// How a file that nobody may open is opened in a share: whether that works, and whether the file was changed for it.
fn open_closed(read_only: bool) -> (bool, bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("closed");
    fs::write(&path, "kept").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if rustix::process::geteuid().is_root() {
        // Root is kept out by nothing; the owner of a folder is.
        chown(folder.path(), Some(65534), Some(65534)).unwrap();
        chown(&path, Some(65534), Some(65534)).unwrap();
    }
    let before = fs::metadata(&path).unwrap().ctime_nsec();
    let mut guest = Guest::on(folder, ShareOptions { read_only, guest_owner: 0 }, Limits::default());
    // The rights of the owner are taken by a thread for good.
    let thread = std::thread::spawn(move || {
        guest.server.files().enter().unwrap();
        let node = guest.node("closed");
        (guest.open(node, 0).error == 0, guest)
    });
    let (opened, guest) = thread.join().unwrap();
    let after = fs::metadata(guest.path("closed")).unwrap();
    assert_eq!(after.permissions().mode() & 0o7777, 0);
    (opened, after.ctime_nsec() != before)
}

#[test]
fn a_read_only_share_does_not_even_open_up_a_file_for_a_moment() {
    assert_eq!(open_closed(false), (true, true));
    assert_eq!(open_closed(true), (false, false));
}

#[test]
fn attributes_of_users_are_passed_on_and_no_others() {
    let mut guest = Guest::new();
    guest.host_file("a", "");
    let node = guest.node("a");
    let set = |guest: &mut Guest, name: &str, value: &str, flags: u32| {
        let head = [value.len() as u32, flags].map(u32::to_le_bytes).concat();
        guest.ask(opcode::SETXATTR, node, &[&head, name.as_bytes(), b"\0", value.as_bytes()])
    };
    let get = |guest: &mut Guest, name: &str, size: u64| {
        guest.ask(opcode::GETXATTR, node, &[&size.to_le_bytes(), name.as_bytes(), b"\0"])
    };
    set(&mut guest, "user.colour", "blue", 0).ok();
    set(&mut guest, "user.colour", "red", 1).failed(Errno::EXIST);
    set(&mut guest, "user.shape", "", 2).failed(Errno::NODATA);
    assert_eq!(get(&mut guest, "user.colour", 0).ok().u32(0), 4);
    assert_eq!(get(&mut guest, "user.colour", 4).ok().body, b"blue");
    get(&mut guest, "user.colour", 3).failed(Errno::RANGE);
    get(&mut guest, "user.shape", 9).failed(Errno::NODATA);
    guest.chmod(node, 0o4711).ok();
    for name in
        ["user.tearless.stat", "security.capability", "trusted.overlay.opaque", "system.posix_acl_access"]
    {
        set(&mut guest, name, "4777 755 0 0", 0).failed(Errno::OPNOTSUPP);
        get(&mut guest, name, 99).failed(Errno::OPNOTSUPP);
    }
    assert_eq!(guest.ask(opcode::LISTXATTR, node, &[&99u64.to_le_bytes()]).ok().body, b"user.colour\0");
    guest.ask(opcode::REMOVEXATTR, node, &[b"user.colour\0"]).ok();
    assert_eq!(guest.ask(opcode::LISTXATTR, node, &[&[0; 8]]).ok().u32(0), 0);
}

#[test]
fn what_there_is_not_is_said_so() {
    let mut guest = Guest::new();
    for code in [opcode::GETLK, opcode::SETLK, opcode::SETLKW, opcode::BMAP, opcode::POLL, opcode::FLUSH, 999]
    {
        guest.ask(code, 1, &[&[0; 64]]).failed(Errno::NOSYS);
    }
    guest.ask(opcode::IOCTL, 1, &[&[0; 64]]).failed(Errno::NOTTY);
    assert!(guest.ask(opcode::INTERRUPT, 0, &[&[0; 8]]).body.is_empty());
    let space = guest.ask(opcode::STATFS, 1, &[]).ok();
    assert!(space.body.len() == 80 && space.u64(0) > 0 && space.u32(44) >= 255);
    guest.ask(opcode::SYNCFS, 1, &[&[0; 8]]).ok();
}
